"""A server of our own on loopback, in a thread: what stands between a client and an S3 server is one of these."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator

_EXPECT = re.compile(rb"\r\nexpect:[^\r]*", re.IGNORECASE)
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.contextmanager
def listening(serve: Serve, limit: int = 1 << 16, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve each connection with `serve`, then close it, for as long as the block lasts; the server's URL.

    `limit`: bytes of a head. A connection that breaks off, or ends within a request, ends `serve`.
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
        return await asyncio.start_server(handle, "127.0.0.1", 0, limit=limit, ssl=tls)

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


async def read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[bytes, bytes]:
    """A request's head and body. Answers a client that asks first whether it may send the body."""
    head = await reader.readuntil(b"\r\n\r\n")
    head, waits = _EXPECT.subn(b"", head)
    if waits:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
    return head, await reader.readexactly(content_length(head))


def content_length(head: bytes) -> int:
    """How long the body behind a head is."""
    lines = head.lower().split(b"\r\n")
    found = [line.partition(b":")[2] for line in lines if line.startswith(b"content-length:")]
    assert found or not any(line.startswith(b"transfer-encoding:") for line in lines), "chunked bodies are not relayed"
    return int(found[0]) if found else 0
