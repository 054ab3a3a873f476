"""An HTTP proxy on loopback between a client and an S3 server that does what networks and busy servers do.

    with fault_proxy(server.endpoint, Faults({"slow_down": 0.3, "cut": 0.02}, seed=1)) as proxy:
        ...  # AWS_ENDPOINT_URL_S3=proxy.endpoint; proxy.done counts by kind

Faults, each with its share of the requests:

    slow_down   503 SlowDown; the server never sees the request
    refuse      the connection is reset before the request goes on
    lose        the server does it, and the connection is reset instead of the answer
    cut         the answer ends within its body: a reset after half of it, or a plain end
    deny        403 AccessDenied for a copy, not for one of a trial; the server never sees the request
    stall       the answer comes `STALL_SECONDS` late
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tests.doubles.loopback import Relayed, relaying

STALL_SECONDS = 0.5


def _error(status: bytes, code: bytes, message: bytes) -> bytes:
    body = b"<Error><Code>%s</Code><Message>%s</Message></Error>" % (code, message)
    return b"HTTP/1.1 %s\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body


_REFUSED = {
    "slow_down": _error(b"503 Slow Down", b"SlowDown", b"Please reduce your request rate."),
    "deny": _error(b"403 Forbidden", b"AccessDenied", b"Access Denied"),
}
"""What the server never sees."""


@dataclass
class Faults:
    """Which share of the requests fails how; the same seed and order of requests, the same faults."""

    shares: Mapping[str, float]
    seed: int
    done: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)

    def draw(self) -> str | None:
        """What happens to this request."""
        at = self._dice.random()
        for kind, share in self.shares.items():
            at -= share
            if at < 0:
                return kind
        return None


@dataclass
class Proxy:
    """Where it listens, and what it has done so far."""

    endpoint: str
    faults: Faults

    @property
    def done(self) -> Counter[str]:
        return self.faults.done


@contextlib.contextmanager
def fault_proxy(upstream: str, faults: Faults) -> Iterator[Proxy]:
    """A proxy in a thread of its own, for as long as the block lasts."""
    with relaying(upstream, lambda request: _exchange(request, faults)) as url:
        yield Proxy(url, faults)


async def _exchange(request: Relayed, faults: Faults) -> bytes | None:
    """The answer to a request, as far as it comes. None: the connection ends."""
    head, writer, fault = request.head, request.writer, faults.draw()
    if fault == "deny" and (b"\r\nx-amz-copy-source:" not in head.lower() or b"/.sealift/trial-" in head):
        fault = None
    if fault is not None:
        faults.done[fault] += 1
    if fault in _REFUSED:
        return _REFUSED[fault].partition(b"<")[0] if request.method == "HEAD" else _REFUSED[fault]
    if fault != "refuse":
        head, answer = await request.ask()
    if fault in ("refuse", "lose"):
        _reset(writer)
        return None
    if fault == "stall":
        await asyncio.sleep(STALL_SECONDS)
    if fault == "cut" and answer:
        writer.write(head + answer[: len(answer) // 2])
        await writer.drain()
        if faults.done["cut"] % 2:
            _reset(writer)
        return None
    return head + answer


def _reset(writer: asyncio.StreamWriter) -> None:
    """End the connection with RST, as a machine that goes away does."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
