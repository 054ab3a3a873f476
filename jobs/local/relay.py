"""The relay in front of an S3 server: passes bytes on, reports each exchange.

The signature of a request covers the `Host` header, which passes unchanged too, so the server
accepts it. No body is held back: llhttp reads what an exchange needs on the way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import httptools

from jobs.errors import ConfigError
from jobs.local.loopback import LoopbackServer
from jobs.local.notifications import Exchange

CHUNK_BYTES = 256 * 1024
BODY_BYTES_MAX = 8 * 1024 * 1024
"""A longer body is not S3's XML: that has 1,000 keys of 1,024 bytes, escaped."""


class Relay:
    """Listens on 127.0.0.1 and passes on to port `upstream`. `on_exchange` gets each finished
    exchange.
    """

    def __init__(self, upstream: int, on_exchange: Callable[[Exchange], None]):
        self.upstream, self.on_exchange = upstream, on_exchange
        self._server = LoopbackServer(self._connect, CHUNK_BYTES)

    async def start(self, port: int = 0) -> int:
        """Begin to listen. Returns the port. Raises ConfigError if another program has it."""
        try:
            return await self._server.start(port)
        except (OSError, OverflowError) as error:
            raise ConfigError(f"port {port} of 127.0.0.1: {error}; name another one, or none") from error

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        await self._server.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        above, below = await asyncio.open_connection("127.0.0.1", self.upstream, limit=CHUNK_BYTES)
        listener = _Listener(self.on_exchange)
        try:
            asked = asyncio.create_task(_pass_on(reader, below, before=listener.read_request))
            answered = asyncio.create_task(_pass_on(above, writer, after=listener.read_answer))
            try:
                await asyncio.wait((asked, answered), return_when=asyncio.FIRST_COMPLETED)
                if asked.done() and not answered.done() and below.can_write_eof():
                    below.write_eof()  # the answer may still be on its way
                    await answered
            finally:
                for each in (asked, answered):
                    each.cancel()
                await asyncio.gather(asked, answered, return_exceptions=True)
        finally:
            below.close()


async def _pass_on(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    *,
    before: Callable[[bytes], None] | None = None,
    after: Callable[[bytes], None] | None = None,
) -> None:
    """Pass on until the reader ends. `before` gets bytes before they go on, `after` after that."""
    while data := await reader.read(CHUNK_BYTES):
        if before is not None:
            before(data)
        writer.write(data)
        if after is not None:
            after(data)
        await writer.drain()


class _Listener:
    """Follows one connection's requests and answers, which come in the same order."""

    def __init__(self, on_exchange: Callable[[Exchange], None]):
        self._on_exchange = on_exchange
        self._open: deque[Exchange] = deque()
        self._is_unreadable = False
        self._requests = _Requests(self._open)
        self._answers = _Answers(self._open, on_exchange)

    def read_request(self, data: bytes) -> None:
        self._read(self._requests.parser, data)

    def read_answer(self, data: bytes) -> None:
        self._read(self._answers.parser, data)
        if self._answers.is_cut:
            self._answers = _Answers(self._open, self._on_exchange)

    def _read(self, parser: httptools.HttpRequestParser | httptools.HttpResponseParser, data: bytes) -> None:
        """Read bytes. If they are not HTTP, they are only passed on from then on."""
        if not self._is_unreadable:
            try:
                parser.feed_data(data)
            except (httptools.HttpParserError, httptools.HttpParserUpgrade):
                self._is_unreadable = True


class _Requests:
    """llhttp's callbacks for requests."""

    def __init__(self, opened: deque[Exchange]):
        self.parser = httptools.HttpRequestParser(self)
        self._opened = opened
        self.on_message_begin()

    def on_message_begin(self) -> None:
        self._target, self._headers, self._body = b"", dict[str, str](), _Collected()

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("utf-8", "replace")

    def on_headers_complete(self) -> None:
        exchange = Exchange(self.parser.get_method().decode(), self._target.decode("latin-1"), self._headers)
        self._body.is_wanted = exchange.needs_body
        self._opened.append(exchange)

    def on_body(self, body: bytes) -> None:
        self._body.add(body)

    def on_message_complete(self) -> None:
        if self._body.is_wanted:
            self._opened[-1].body = self._body.data()


class _Answers:
    """llhttp's callbacks for answers. `is_cut`: it read the answer to HEAD and would wait for a
    body.
    """

    def __init__(self, opened: deque[Exchange], on_exchange: Callable[[Exchange], None]):
        self.parser = httptools.HttpResponseParser(self)
        self.is_cut = False
        self._opened, self._on_exchange = opened, on_exchange
        self.on_message_begin()

    def on_message_begin(self) -> None:
        self._headers, self._body = dict[str, str](), _Collected()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("utf-8", "replace")

    def on_headers_complete(self) -> None:
        if self._opened and self._opened[0].method == "HEAD":
            self.is_cut = True
            self._opened.popleft()
        elif self._opened:
            self._body.is_wanted = self._opened[0].needs_body

    def on_body(self, body: bytes) -> None:
        self._body.add(body)

    def on_message_complete(self) -> None:
        status = self.parser.get_status_code()
        if status < 200 or self.is_cut or not self._opened:  # 100 Continue is not an answer yet
            return
        exchange = self._opened.popleft()
        exchange.status, exchange.answer_headers, exchange.answer_body = status, self._headers, self._body.data()
        self._on_exchange(exchange)


class _Collected:
    """A body, kept if it is wanted."""

    def __init__(self) -> None:
        self.is_wanted = False
        self._pieces: list[bytes] = []
        self._size_bytes = 0

    def add(self, piece: bytes) -> None:
        if self.is_wanted and self._size_bytes < BODY_BYTES_MAX:
            self._pieces.append(piece)
            self._size_bytes += len(piece)

    def data(self) -> bytes:
        return b"".join(self._pieces)
