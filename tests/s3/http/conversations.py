"""Conversations on kept connections, as steps of a server say: the client must never give an answer away.

Each request has an id, and a server answers it with bytes that name no other. Whatever else it sends, and whenever, a
request's answer may then not hold another one's id. Bytes that come after the next request was sent, and are not for
it, no client could tell: there are none.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from enum import Enum
from functools import cache
from typing import Any, NamedTuple

from jobs.s3.http.answers import BUFFER_BYTES, FRAMING_BYTES, NoAnswer
from jobs.s3.http.connection_pool import Bounds, Pool

REQUESTS_MAX = 8
BODY_BYTES = 1 << 20
ETAG = b'ETag: "<%d>"\r\n'
FRAGMENTS = (
    b"HTTP/1.1 200 OK\r\n" + ETAG + b"Content-Length: 3\r\n\r\n<%d>",
    b"HTTP/1.1 200 OK\r\n" + ETAG + b"Content-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + ETAG + b"Content-Length: 9\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + ETAG + b"Transfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 404 Not Found\r\n" + ETAG + b"\r\n",
    b"HTTP/1.1 204 No Content\r\n" + ETAG + b"\r\n",
    b"HTTP/1.1 304 Not Modified\r\n" + ETAG + b"Content-Length: 3\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n" + ETAG + b"\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: <%d>\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + ETAG + b"Content-Length: 3\r\n\r\n<%d>",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + ETAG + b"Content-Length: 3\r\n\r\n<%d>",
    b"HTTP/1.1 200 OK\r\n" + ETAG + b"Content-Length: 300000\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n",
    ETAG,
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"\r\n",
    b"<%d>",
    b"3\r\n<%d>\r\n",
    b"0\r\n\r\n",
    b"0\r\n" + ETAG + b"\r\n",
    b"<%d>" * 100_000,
    b"x" * 70_000,
)
When = Enum("When", "NOW LATE WAITING END")
"""LATE: once the request has its answer. WAITING: so that it waits in the socket. END: the connection ends with it."""


class Step(NamedTuple):
    """What a server sends for a request. `%d` in it becomes the request's id."""

    when: When
    data: bytes = b""


Request = tuple[bool, Sequence[Step]]
"""Whether it is a HEAD, and what comes for it."""


def play(requests: Sequence[Request]) -> list[str]:
    """Have the conversation; what became of each request. Raises AssertionError if one got another one's answer."""
    return own_loop().run_until_complete(_converse(requests))


@cache
def own_loop() -> asyncio.AbstractEventLoop:
    """One for all conversations: a loop for each would take longer than the conversation."""
    return asyncio.new_event_loop()


class _Wire:
    """The server's end of a connection, and the transport of the client's."""

    def __init__(self, make: Callable[[], Any]):
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.loop, self.protocol, self.is_closed = asyncio.get_running_loop(), make(), False
        self.protocol.connection_made(self)

    def get_extra_info(self, name: str) -> socket.socket:
        return self.ours

    def get_write_buffer_size(self) -> int:
        return 0

    def writelines(self, lines: Any) -> None:
        pass

    def abort(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self.loop.call_soon(self.protocol.connection_lost, None)

    def deliver(self, data: bytes) -> None:
        """The event loop reads these bytes and hands them to the protocol."""
        rest = memoryview(data)
        while rest and not self.is_closed:
            buffer = self.protocol.get_buffer(-1)
            count = min(len(buffer), len(rest))
            buffer[:count] = rest[:count]
            rest = rest[count:]
            self.protocol.buffer_updated(count)

    def read(self) -> None:
        """The event loop finds the bytes that wait in the socket."""
        with contextlib.suppress(BlockingIOError):
            self.deliver(self.ours.recv(1 << 20))

    def close(self) -> None:
        self.abort()
        self.ours.close()
        self.theirs.close()


class _Dialer:
    def __init__(self) -> None:
        self.wires: list[_Wire] = []

    async def connect(self, host: str, make: Callable[[], Any]) -> Any:
        self.wires.append(_Wire(make))
        return self.wires[-1].protocol


async def _converse(requests: Sequence[Request]) -> list[str]:
    dialer, seen = _Dialer(), []
    pool = Pool(1, dialer)  # type: ignore[arg-type]  # it dials a program of bytes
    try:
        for number, (is_head, steps) in enumerate(requests):
            exchange = pool.exchange("host", b"request", None, Bounds(0 if is_head else BODY_BYTES, 1.0, is_head))
            seen.append(await _answer(number, asyncio.ensure_future(exchange), steps, dialer))
    finally:
        pool.close()
        for wire in dialer.wires:
            wire.close()
        await asyncio.sleep(0)
    return seen


async def _answer(number: int, exchange: asyncio.Future[Any], steps: Sequence[Step], dialer: _Dialer) -> str:
    await asyncio.sleep(0)
    dialer.wires[-1].read()
    for when, each in steps:
        wire, data = dialer.wires[-1], each.replace(b"%d", b"%d" % number)
        if when is When.WAITING and not wire.is_closed:
            if exchange.done() and data:
                wire.theirs.send(data[:60_000])
        elif when is When.LATE:
            await asyncio.sleep(0)  # the request has its answer, the connection is idle
            if exchange.done():
                wire.deliver(data)
        else:
            wire.deliver(data)
            if when is When.END:
                wire.abort()
        await asyncio.sleep(0)
    while not exchange.done():
        dialer.wires[-1].abort()
        await asyncio.sleep(0)
    try:
        response = await exchange
    except NoAnswer as error:
        return error.code
    _check(number, response)
    return "answered"


def _check(number: int, response: Any) -> None:
    text = repr((response.headers, bytes(response.body)))
    for other in range(REQUESTS_MAX):
        assert other == number or f"<{other}>" not in text, f"request {number} got the answer of request {other}"
    size_bytes = sum(len(name) + len(value) for name, value in response.headers.items())
    assert size_bytes <= FRAMING_BYTES + BUFFER_BYTES, "headers without bound"
    assert len(response.body) <= BODY_BYTES, "a body without bound"
