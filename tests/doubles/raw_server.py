"""A server that sends bytes as they are, so that it can break every rule of HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from jobs.s3.rest_store import RestStore
from jobs.s3.sessions import open_store
from tests.doubles.loopback import listening

Answer = Callable[[str, str], Iterable[bytes]]
"""From a request's method and path to the pieces of its answer."""


@dataclass
class RawServer:
    """Where it listens, and the path of each request."""

    endpoint: str = ""
    paths: list[str] = field(default_factory=list)


@contextlib.contextmanager
def raw_server(answer: Answer) -> Iterator[RawServer]:
    """Answer each request with the bytes of `answer`."""
    server = RawServer()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, path = head.split(" ", 2)[:2]
            server.paths.append(path)
            for piece in answer(method, path):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.002)

    with listening(serve) as endpoint:
        server.endpoint = endpoint
        yield server


def use(server: RawServer, requests: Callable[[RestStore], Awaitable[Any]]) -> Any:
    """Run requests on a store of their own, on one connection after the other."""

    async def run() -> Any:
        store = open_store(server.endpoint, None, None, max_in_flight=1, is_paced=True)
        try:
            return await requests(store)
        finally:
            await store.close()

    return asyncio.run(asyncio.wait_for(run(), 30))


def head(status: str = "200 OK", /, **headers: object) -> bytes:
    """A status line and headers; `_` in a name is `-`."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode("latin-1")
