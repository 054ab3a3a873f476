"""An HTTP proxy on loopback, as companies have them: CONNECT for TLS, whole URLs for the rest, a password if wanted.

with http_proxy(server.endpoint) as proxy:
    ...  # HTTP_PROXY=proxy.url; whatever host is asked for, the upstream answers; proxy.asked says for what
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.doubles.loopback import listening


@dataclass
class HttpProxy:
    """Where it listens; `asked`: "METHOD host:port" of each request, in order; `refused`: how many had no password."""

    url: str
    authorization: str | None = None
    asked: list[str] = field(default_factory=list)
    refused: int = 0

    def lets_in(self, head: str) -> bool:
        """Whether it knows who asks."""
        wanted = self.authorization
        return wanted is None or f"\r\nproxy-authorization: {wanted}\r\n".lower() in head.lower()


@contextlib.contextmanager
def http_proxy(upstream: str, authorization: str | None = None) -> Iterator[HttpProxy]:
    """A proxy in a thread of its own, for as long as the block lasts. It leads to `upstream`, a URL, alone."""
    address = urlsplit(upstream)
    proxy = HttpProxy("", authorization)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        above, below = await asyncio.open_connection(address.hostname, address.port)
        back = asyncio.ensure_future(_pour(above, writer))
        try:
            while await _pass_on(reader, writer, below, proxy):
                pass
        finally:
            back.cancel()
            below.close()

    with listening(serve) as url:
        proxy.url = url
        yield proxy


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, below: asyncio.StreamWriter, proxy: HttpProxy
) -> bool:
    """One request; whether the connection goes on. Answers come back by themselves."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    method, target, _ = head.split("\r\n", 1)[0].split(" ", 2)
    if not proxy.lets_in(head):
        proxy.refused += 1
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        return False
    if method == "CONNECT":
        proxy.asked.append(f"CONNECT {target}")
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await _pour(reader, below)
        return False
    url = urlsplit(target)
    assert url.scheme == "http", f"a proxy is asked for whole URLs, not {target}"
    proxy.asked.append(f"{method} {url.netloc}")
    kept = [line for line in head.split("\r\n")[1:] if not line.lower().startswith("proxy-")]
    lengths = [line.partition(":")[2] for line in kept if line.lower().startswith("content-length:")]
    path = target.removeprefix(f"http://{url.netloc}")
    below.write("\r\n".join([f"{method} {path} HTTP/1.1", *kept]).encode("latin-1"))
    below.write(await reader.readexactly(int(lengths[0]) if lengths else 0))
    await below.drain()
    return True


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while some := await reader.read(1 << 16):
        writer.write(some)
        await writer.drain()
