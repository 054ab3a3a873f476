"""A server of our own on loopback, in a thread: what stands between a client and an S3 server is one of these."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

_EXPECT = re.compile(rb"\r\nexpect:[^\r]*", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_NO_BODY = re.compile(rb"HTTP/1\.1 [23]04")
HEAD_BYTES_MAX = 1 << 16
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.contextmanager
def listening(serve: Serve, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve each connection with `serve`, then close it, for as long as the block lasts; the server's URL.

    A connection that breaks off, or ends within a request, ends `serve`.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            try:
                await serve(reader, writer)
            finally:
                writer.close()

    async def start() -> asyncio.Server:
        return await asyncio.start_server(handle, "127.0.0.1", 0, limit=HEAD_BYTES_MAX, ssl=tls)

    async def stop() -> None:
        server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@dataclass
class Relayed:
    """A request on its way: from a client (`reader`, `writer`) to a server (`above`, `below`)."""

    head: bytes
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    above: asyncio.StreamReader
    below: asyncio.StreamWriter

    @property
    def method(self) -> str:
        return self.head.split(b" ", 1)[0].decode()

    @property
    def target(self) -> str:
        return self.head.split(b" ", 2)[1].decode("latin-1")

    async def ask(self) -> tuple[bytes, bytes]:
        """Head and body of what the server answers."""
        self.below.write(self.head + self.body)
        await self.below.drain()
        return await read_answer(self.above, self.method)


@contextlib.contextmanager
def relaying(upstream: str, exchange: Callable[[Relayed], Awaitable[bytes | None]]) -> Iterator[str]:
    """A server in front of another one, whose URL is `upstream`, for as long as the block lasts; its own URL.

    `exchange` returns the answer to a request. None: the connection ends.
    """
    address = urlsplit(upstream)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        above, below = await asyncio.open_connection(address.hostname, address.port, limit=HEAD_BYTES_MAX)
        try:
            while True:
                request = Relayed(*await read_request(reader, writer), reader, writer, above, below)
                if (answer := await exchange(request)) is None:
                    return
                writer.write(answer)
                await writer.drain()
        finally:
            below.close()

    with listening(serve) as url:
        yield url


async def read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[bytes, bytes]:
    """A request's head and body. Answers a client that asks first whether it may send the body."""
    head = await reader.readuntil(b"\r\n\r\n")
    head, waits = _EXPECT.subn(b"", head)
    if waits:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
    return head, await reader.readexactly(content_length(head))


async def read_answer(reader: asyncio.StreamReader, method: str) -> tuple[bytes, bytes]:
    """An answer's head and body. A body in chunks becomes one of known length."""
    head = await reader.readuntil(b"\r\n\r\n")
    if method == "HEAD" or _NO_BODY.match(head):
        return head, b""
    bare, chunked = _CHUNKED.subn(b"", head)
    if not chunked:
        return head, await reader.readexactly(content_length(head))
    body = b""
    while size_bytes := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        body += (await reader.readexactly(size_bytes + 2))[:-2]
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass  # trailers, which no client of ours asks for
    return bare[:-2] + b"Content-Length: %d\r\n\r\n" % len(body), body


def content_length(head: bytes) -> int:
    """How long the body behind a head is."""
    lines = head.lower().split(b"\r\n")
    found = [line.partition(b":")[2] for line in lines if line.startswith(b"content-length:")]
    assert found or not _CHUNKED.search(head), "requests in chunks are not relayed"
    return int(found[0]) if found else 0
