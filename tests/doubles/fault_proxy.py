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
    drip        the answer comes in hundreds of pieces
    half        the proxy says that it sends no more after half of the answer, and goes on reading
    alter       one byte of an object's content is another one, on its way out or in; only below `altered` paths
    lost        404 for the content of an object, which HEAD and listings still show; only below `altered` paths
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import ssl
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tests.doubles.loopback import Relayed, relaying

STALL_SECONDS = 0.5
DRIPS = 200
_AGENT = re.compile(rb"\r\nuser-agent: *([^ /]*)", re.IGNORECASE)


def _error(status: bytes, code: bytes, message: bytes) -> bytes:
    body = b"<Error><Code>%s</Code><Message>%s</Message></Error>" % (code, message)
    return b"HTTP/1.1 %s\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body


_REFUSED = {
    "slow_down": _error(b"503 Slow Down", b"SlowDown", b"Please reduce your request rate."),
    "deny": _error(b"403 Forbidden", b"AccessDenied", b"Access Denied"),
    "lost": _error(b"404 Not Found", b"NoSuchKey", b"The specified key does not exist."),
}
"""What the server never sees."""


@dataclass
class Faults:
    """Which share of the requests fails how; the same seed and order of requests, the same faults."""

    shares: Mapping[str, float]
    seed: int
    altered: tuple[str, ...] = ()
    done: Counter[str] = field(default_factory=Counter)
    agents: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)

    def draw(self, method: str, path: str) -> str | None:
        """What happens to this request."""
        at = self._dice.random()
        for kind, share in self.shares.items():
            at -= share
            if at < 0:
                is_content = method in ("GET", "PUT") and path.startswith(self.altered) and "tagging" not in path
                if kind == "alter" and not is_content:
                    return None
                if kind == "lost" and not (is_content and method == "GET"):
                    return None
                return kind
        return None

    def alter(self, body: bytes) -> bytes:
        """The body with one bit flipped."""
        place = self._dice.randrange(len(body))
        return body[:place] + bytes([body[place] ^ 0x10]) + body[place + 1 :]


@dataclass
class Proxy:
    """Where it listens, and what it has done so far. The faults know which clients asked."""

    endpoint: str
    faults: Faults

    @property
    def done(self) -> Counter[str]:
        return self.faults.done


@contextlib.contextmanager
def fault_proxy(upstream: str, faults: Faults, tls: ssl.SSLContext | None = None) -> Iterator[Proxy]:
    """A proxy in a thread of its own, for as long as the block lasts. `tls`: with its certificate."""
    with relaying(upstream, lambda request: _exchange(request, faults), tls) as url:
        yield Proxy(url, faults)


async def _exchange(request: Relayed, faults: Faults) -> bytes | None:
    """The answer to a request, as far as it comes. None: the connection ends."""
    method, head, writer = request.method, request.head, request.writer
    faults.agents |= {agent.decode() for agent in _AGENT.findall(head)}
    fault = faults.draw(method, request.target)
    if fault == "deny" and (b"\r\nx-amz-copy-source:" not in head.lower() or b"/.sealift/trial-" in head):
        fault = None
    if fault == "alter" and method == "PUT" and request.body:
        request.body = faults.alter(request.body)
        faults.done["alter"] += 1
    elif fault not in (None, "alter"):
        faults.done[str(fault)] += 1
    if fault in _REFUSED:
        return _REFUSED[fault].partition(b"<")[0] if method == "HEAD" else _REFUSED[fault]
    if fault == "refuse":
        _reset(writer)
        return None
    head, answer = await request.ask()
    if fault == "lose":
        _reset(writer)
        return None
    if fault == "stall":
        await asyncio.sleep(STALL_SECONDS)
    if fault == "alter" and method == "GET" and answer and b" 20" in head[:13]:
        answer = faults.alter(answer)
        faults.done["alter"] += 1
    whole = head + answer
    if fault in ("cut", "half") and answer:
        writer.write(head + answer[: len(answer) // 2])
        await writer.drain()
        if fault == "half":
            connection: socket.socket = writer.get_extra_info("socket")
            socket.socket.shutdown(connection._sock, socket.SHUT_WR)  # type: ignore[attr-defined]  # TLS hides the half-close
            await request.reader.read()
        elif faults.done["cut"] % 2:
            _reset(writer)
        return None
    if fault == "drip":
        step = len(whole) // DRIPS + 1
        for start in range(0, len(whole), step):
            writer.write(whole[start : start + step])
            await writer.drain()
            await asyncio.sleep(0)
        return b""
    return whole


def _reset(writer: asyncio.StreamWriter) -> None:
    """End the connection with RST, as a machine that goes away does."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
