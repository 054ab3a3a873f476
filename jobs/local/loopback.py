"""A TCP server that only this machine reaches, and that can be closed at any time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

GONE = (OSError, asyncio.CancelledError)
"""A client has gone, or `close()` was called: the connection just ends."""


class LoopbackServer:
    """Listens on 127.0.0.1. `serve` talks to one client, and may raise the errors in `gone`.

    `limit_bytes`: how much is read ahead of `serve` from one client.
    """

    def __init__(
        self,
        serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
        limit_bytes: int,
        gone: tuple[type[BaseException], ...] = GONE,
    ):
        self._serve, self._limit_bytes, self._gone = serve, limit_bytes, gone
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0) -> int:
        """Begin to listen. Returns the port. Raises OSError or OverflowError if it cannot have it."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port, limit=self._limit_bytes)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except self._gone:
            pass
        finally:
            self._tasks.discard(task)
            writer.close()
