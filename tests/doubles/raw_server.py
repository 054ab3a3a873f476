"""A server that sends bytes as they are, so that it can break every rule of HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from jobs.s3.rest_store import RestStore
from jobs.s3.sessions import open_store
from tests.doubles.loopback import listening

_used: ContextVar[RawServer] = ContextVar("used")

Answer = Callable[[str, str], Iterable[bytes]]
"""From a request's method and path to the pieces of its answer; an empty piece closes the connection."""


@dataclass
class RawServer:
    """Where it listens, and each request's path by connection."""

    endpoint: str = ""
    connections: list[list[str]] = field(default_factory=list)
    ended: int = 0
    """Requests whose answer, and all that follows it, has been sent."""

    @property
    def paths(self) -> list[str]:
        return [path for connection in self.connections for path in connection]


@contextlib.contextmanager
def raw_server(answer: Answer) -> Iterator[RawServer]:
    """Answer each request with the bytes of `answer`."""
    server = RawServer()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        paths: list[str] = []
        server.connections.append(paths)
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, path = head.split(" ", 2)[:2]
            paths.append(path)
            try:
                for piece in answer(method, path):
                    if not piece:
                        return
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0.002)
            finally:
                server.ended += 1

    with listening(serve) as endpoint:
        server.endpoint = endpoint
        yield server


def use(server: RawServer, requests: Callable[[RestStore], Awaitable[Any]], *, max_in_flight: int = 1) -> Any:
    """Run requests on a store of their own, by default on one connection after the other."""

    async def run() -> Any:
        _used.set(server)
        store = open_store(server.endpoint, None, None, max_in_flight=max_in_flight, is_paced=True)
        try:
            return await requests(store)
        finally:
            await store.close()

    return asyncio.run(asyncio.wait_for(run(), 30))


async def quiet() -> None:
    """Wait until the server in use has sent all that it sends for the requests so far, and the client could see it."""
    server = _used.get()
    while server.ended < len(server.paths):
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)


def head(status: str = "200 OK", /, **headers: object) -> bytes:
    """A status line and headers; `_` in a name is `-`."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode("latin-1")
