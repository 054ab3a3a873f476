"""HTTP/1.1 over a pool of connections on asyncio; answers are parsed by llhttp (`httptools`).

Small on purpose: a request's bytes go out, a status, headers and a body come back, at a quarter of the
processor time that the AWS Common Runtime takes for it through its Python binding (DESIGN.md, section 7).
A large body is received into its own buffer, without copies.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple, cast

import httptools

from jobs.s3.dialing import Dialer, NoAnswer

SILENCE_SECONDS = 300.0
"""CopyObject of 5 GB may think for minutes; S3 sends spaces meanwhile."""
SWEEP_SECONDS = 10.0
BUFFER_BYTES = 256 * 1024
MAX_BODY_BYTES = 1 << 30


class Response(NamedTuple):
    """An answer: header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Pool:
    """At most `limit` requests at a time, on connections that are kept and used again.

    One event loop at a time uses it.
    """

    def __init__(self, limit: int, dialer: Dialer):
        self._limit, self._dialer = limit, dialer
        self._loop: asyncio.AbstractEventLoop | None = None
        self._gate = asyncio.Semaphore(limit)
        self._idle: dict[str, list[_Connection]] = {}
        self._busy: set[_Connection] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self.buffer = memoryview(bytearray(BUFFER_BYTES))  # for what all connections receive but large bodies

    async def exchange(self, host: str, head: bytes, body: bytes | None, *, is_bodiless: bool = False) -> Response:
        """Send a request to `host` (`name` or `name:port`) and wait for the whole answer. Raises NoAnswer.

        `is_bodiless`: the answer has headers only (HEAD).
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._adopt(loop)
        async with self._gate:
            idle = self._idle.setdefault(host, [])
            while idle:
                connection = idle.pop()
                if not connection.is_closed:
                    try:
                        return await self._use(connection, idle, head, body, is_bodiless)
                    except NoAnswer as error:
                        if not error.is_stale:
                            raise
            connection = await self._dialer.connect(host, lambda: _Connection(self.buffer, loop))
            return await self._use(connection, idle, head, body, is_bodiless)

    def close(self) -> None:
        """Close what is open."""
        for connection in [*self._busy, *(each for idle in self._idle.values() for each in idle)]:
            connection.abort()
        self._idle.clear()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def _adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        """Connections belong to the loop that made them."""
        self._idle.clear()
        self._busy.clear()
        self._loop, self._gate, self._sweep = loop, asyncio.Semaphore(self._limit), None

    async def _use(
        self, connection: _Connection, idle: list[_Connection], head: bytes, body: bytes | None, is_bodiless: bool
    ) -> Response:
        self._busy.add(connection)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._close_silent)
        try:
            response = await connection.send(head, body, is_bodiless)
        except BaseException:  # also a cancelled caller: what is still to come belongs to nobody
            connection.abort()
            raise
        finally:
            self._busy.discard(connection)
        if connection.is_kept:
            idle.append(connection)
        else:
            connection.abort()
        return response

    def _close_silent(self) -> None:
        """Give up on servers that have said nothing for long; they would be waited for forever."""
        loop = asyncio.get_running_loop()
        for connection in [each for each in self._busy if loop.time() - each.heard_at > SILENCE_SECONDS]:
            connection.fail(NoAnswer("ReadTimeout", f"no byte for {SILENCE_SECONDS:.0f} s"))
        self._sweep = loop.call_later(SWEEP_SECONDS, self._close_silent) if self._busy else None


class _Connection(asyncio.BufferedProtocol):
    """One connection and the exchange that is under way on it."""

    def __init__(self, buffer: memoryview, loop: asyncio.AbstractEventLoop):
        self._buffer, self._loop = buffer, loop
        self._transport: Any = None
        self._waiter: asyncio.Future[Response] | None = None
        self._is_used = self._is_bodiless = False
        self.is_closed = self.is_kept = False
        self.heard_at = 0.0
        self._status = self._filled = 0
        self._headers: dict[str, str] = {}
        self._chunks: list[bytes] = []
        self._pending: memoryview | None = None
        self._large: memoryview | None = None
        self._begin()

    async def send(self, head: bytes, body: bytes | None, is_bodiless: bool) -> Response:
        self._begin()
        self._is_bodiless = is_bodiless
        self.heard_at = self._loop.time()
        self._waiter = self._loop.create_future()
        if body is None or len(body) < BUFFER_BYTES:
            self._transport.write(head + body if body else head)
        else:
            self._transport.writelines((head, body))
        return await self._waiter

    def fail(self, error: Exception) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
        self.abort()

    def abort(self) -> None:
        self.is_closed = True
        if self._transport is not None and not self._loop.is_closed():
            self._transport.abort()

    # --- asyncio's side -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer if self._large is None else self._large[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self.heard_at = self._loop.time()
        if self._large is not None:
            self._filled += nbytes
            if self._filled == len(self._large):
                self._finish(self._large.obj)
            return
        if self._waiter is None or self._waiter.done():  # nobody asked
            self.abort()
            return
        try:
            self._parser.feed_data(self._buffer[:nbytes])
        except httptools.HttpParserError as error:
            self.fail(NoAnswer("MalformedAnswer", f"no HTTP: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        if self._waiter is None or self._waiter.done():
            return
        if self._has_headers and not {"content-length", "transfer-encoding"} & self._headers.keys():
            self._finish(b"".join(self._chunks))  # the end of the connection is the end of the body
            return
        why = f": {exc}" if exc else ""
        if self._status:
            self.fail(NoAnswer("IncompleteBody", f"the connection broke off{why}"))
        else:
            self.fail(NoAnswer("ConnectionLost", f"the server closed the connection{why}", is_stale=self._is_used))

    # --- llhttp's side ------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        self._status = self._status or 1  # something came: the request has been heard
        self._headers[name.decode("latin-1").lower()] = value.decode("utf-8", "surrogateescape")

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()
        self._has_headers = self._status >= 200
        if self._is_bodiless:
            self._finish(b"")
            return
        length = self._headers.get("content-length", "")
        size_bytes = int(length) if length.isdecimal() else 0
        if size_bytes > MAX_BODY_BYTES:
            self.fail(NoAnswer("BodyTooLarge", f"the answer has {size_bytes} bytes"))
        elif size_bytes > BUFFER_BYTES:
            self._pending = memoryview(bytearray(size_bytes))

    def on_body(self, data: bytes) -> None:
        if self._pending is None:
            self._chunks.append(data)
        else:
            self._pending[self._filled : self._filled + len(data)] = data
            self._filled += len(data)
            self._large = self._pending  # the rest needs no parser

    def on_message_complete(self) -> None:
        if self._status < 200:  # 100 Continue: the answer is still to come
            self._headers, self._status = {}, 0
        else:
            self._finish(self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks))

    # ------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._headers, self._chunks = {}, []
        self._pending = self._large = None
        self._filled = self._status = 0
        self._has_headers = False

    def _finish(self, body: object) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        self._is_used = True
        self.is_kept = self._parser.should_keep_alive() and not self.is_closed
        # A bytearray that nobody writes to any more: making it `bytes` would copy it.
        waiter.set_result(Response(self._status, self._headers, cast("bytes", body)))
        self._large = self._pending = None
