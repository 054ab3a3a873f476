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
from urllib.parse import urlsplit

from tests.doubles.loopback import listening, read_answer, read_request

STALL_SECONDS = 0.5
DRIPS = 200
HEAD_BYTES_MAX = 1 << 16
_AGENT = re.compile(rb"\r\nuser-agent: *([^ /]*)", re.IGNORECASE)
_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_ERROR_503 = b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n" % len(_SLOW_DOWN)


_DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
_LOST = b"<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>"
_ERROR_404 = b"HTTP/1.1 404 Not Found\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n" % len(_LOST)
_ERROR_403 = b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n" % len(_DENIED)


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
    address = urlsplit(upstream)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        above, below = await asyncio.open_connection(address.hostname, address.port, limit=HEAD_BYTES_MAX)
        try:
            while await _exchange(reader, writer, above, below, faults):
                pass
        finally:
            below.close()

    with listening(serve, HEAD_BYTES_MAX, tls) as url:
        yield Proxy(url, faults)


async def _exchange(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    above: asyncio.StreamReader,
    below: asyncio.StreamWriter,
    faults: Faults,
) -> bool:
    """One request and its answer; whether the connection goes on."""
    head, body = await read_request(reader, writer)
    method, path, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
    faults.agents |= {agent.decode() for agent in _AGENT.findall(head)}
    fault = faults.draw(method, path)
    if fault == "deny" and (b"\r\nx-amz-copy-source:" not in head.lower() or b"/.sealift/trial-" in head):
        fault = None
    if fault == "alter" and method == "PUT" and body:
        body = faults.alter(body)
        faults.done["alter"] += 1
    elif fault not in (None, "alter"):
        faults.done[str(fault)] += 1
    if fault == "slow_down":
        writer.write(_ERROR_503 + (b"" if method == "HEAD" else _SLOW_DOWN))
        await writer.drain()
        return True
    if fault == "deny":
        writer.write(_ERROR_403 + _DENIED)
        await writer.drain()
        return True
    if fault == "lost":
        writer.write(_ERROR_404 + _LOST)
        await writer.drain()
        return True
    if fault == "refuse":
        return _reset(writer)
    below.write(head + body)
    await below.drain()
    head, answer = await read_answer(above, method)
    if fault == "lose":
        return _reset(writer)
    if fault == "stall":
        await asyncio.sleep(STALL_SECONDS)
    if fault == "alter" and method == "GET" and answer and b" 20" in head[:13]:
        answer = faults.alter(answer)
        faults.done["alter"] += 1
    if fault == "cut" and answer:
        writer.write(head + answer[: len(answer) // 2])
        await writer.drain()
        return _reset(writer) if faults.done["cut"] % 2 else False
    if fault == "half" and answer:
        writer.write(head + answer[: len(answer) // 2])
        await writer.drain()
        connection: socket.socket = writer.get_extra_info("socket")
        socket.socket.shutdown(connection._sock, socket.SHUT_WR)  # type: ignore[attr-defined]  # TLS hides the half-close
        await reader.read()
        return False
    if fault == "drip":
        whole = head + answer
        step = len(whole) // DRIPS + 1
        for start in range(0, len(whole), step):
            writer.write(whole[start : start + step])
            await writer.drain()
            await asyncio.sleep(0)
        return True
    writer.write(head + answer)
    await writer.drain()
    return True


def _reset(writer: asyncio.StreamWriter) -> bool:
    """End the connection with RST, as a machine that goes away does."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    return False
