"""Connection pool for HTTP/1.1 on asyncio. `answers` parses what comes back.

Small on purpose: a request's bytes go out, a status, headers and a body come back, at a quarter of
the processor time that the AWS Common Runtime takes for it through its Python binding (DESIGN.md,
section 7).

An answer never belongs to another request. A connection has one request at a time. It serves the
next one only if nothing came after the last answer: neither with it, nor later, nor into the
socket, where it waits to be read. What a server sends after the next request was sent, and not for
it, no client can tell from its answer.
"""

from __future__ import annotations

import asyncio
import fcntl
import math
import select
import sys
import termios
from typing import Any, NamedTuple

from jobs.core.elapsed import TOO_LATE, elapsed_seconds
from jobs.s3.http.answers import BUFFER_BYTES, MAX_BODY_BYTES, Answer, NoAnswer, Response
from jobs.s3.http.connect import Dialer

SILENCE_SECONDS = 30.0
"""S3 answers at once, unless `Bounds` says otherwise."""
IDLE_SECONDS = 15.0
"""S3 closes what is idle for some 20 s. An older connection may be closed at any moment."""
ANSWER_SECONDS = 300.0
PACE_BYTES = 16 * 1024
"""A second, request and answer together, is the least that a server gets `ANSWER_SECONDS` prolonged
for."""
SWEEP_SECONDS = 10.0


class Bounds(NamedTuple):
    """What an answer may come to: bytes of its body, and seconds without counting those that its
    bytes take.

    `is_bodiless`: the answer has headers only (HEAD). `silence_seconds`: how long the server may
    think, at least. `send_by`: by `elapsed_seconds`, the last moment at which the request may be sent.
    """

    body_bytes: int = MAX_BODY_BYTES
    seconds: float = ANSWER_SECONDS
    is_bodiless: bool = False
    silence_seconds: float = 0.0
    send_by: float = math.inf


ANY = Bounds()


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

    async def exchange(self, host: str, head: bytes, body: bytes | None, bounds: Bounds = ANY) -> Response:
        """Send a request to `host` (`name` or `name:port`) and wait for the whole answer.

        Raises NoAnswer.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._adopt(loop)
        gate = self._gate
        await gate.acquire()  # `async with` takes three times as long
        try:
            idle = self._idle.setdefault(host, [])
            lost: NoAnswer | None = None
            while True:
                while idle and not idle[-1].is_quiet():
                    idle.pop()
                if lost or not idle:  # where one was lost, the others may be closed as well: a fresh one is not
                    connection = await self._dialer.connect(host, lambda: _Connection(self.buffer, loop))
                else:
                    connection = idle.pop()
                if elapsed_seconds() > bounds.send_by:
                    connection.abort()
                    raise lost or NoAnswer(TOO_LATE, "nothing was sent: no connection was free in time")
                if self._sweep is None:
                    self._sweep = loop.call_later(SWEEP_SECONDS, self._close_silent)
                self._busy.add(connection)
                try:
                    response = await connection.send(head, body, bounds)
                    return response._replace(is_repeated=True) if lost else response
                except NoAnswer as error:
                    if not error.is_stale:
                        raise
                    lost = error
                finally:
                    self._busy.discard(connection)
                    if connection.is_kept:
                        idle.append(connection)
                    else:  # also of a cancelled caller: what is still to come has no owner
                        connection.abort()
        finally:
            gate.release()

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

    def _close_silent(self) -> None:
        """Give up on servers that are silent or slow for long. They would be waited for forever."""
        loop = asyncio.get_running_loop()
        try:
            for connection in list(self._busy):
                connection.check_time(loop.time())
        finally:
            self._sweep = loop.call_later(SWEEP_SECONDS, self._close_silent) if self._busy else None


class _Connection(asyncio.BufferedProtocol):
    """One connection and the exchange that is under way on it."""

    def __init__(self, buffer: memoryview, loop: asyncio.AbstractEventLoop):
        self._buffer, self._loop = buffer, loop
        self._transport: Any = None
        self._waiter: asyncio.Future[Response] | None = None
        self._answer: Answer | None = None
        self._bounds, self._sent_at, self._sent_bytes, self._heard_at = ANY, 0.0, 0, 0.0
        self._unsent = 0
        self._socket_events = select.poll()
        self._is_used = False
        self.is_closed = self.is_kept = False

    def is_quiet(self) -> bool:
        """Whether an idle connection is open, not for long, and no bytes or end of it wait in the
        socket.

        Else it is closed.
        """
        if not self.is_closed and (self._loop.time() - self._heard_at > IDLE_SECONDS or self._socket_events.poll(0)):
            self.abort()
        return not self.is_closed

    def send(self, head: bytes, body: bytes | None, bounds: Bounds) -> asyncio.Future[Response]:
        self._answer = Answer(bounds.body_bytes, bounds.is_bodiless)
        self._bounds, self._sent_bytes = bounds, len(body) if body else 0
        self._sent_at = self._heard_at = self._loop.time()
        self.is_kept = False
        self._waiter = self._loop.create_future()
        self._transport.writelines((head, body) if body else (head,))
        return self._waiter

    def check_time(self, now: float) -> None:
        """Give up on a server that is silent for long, or moves too little for the time."""
        if self._sent_bytes and (unsent := self._unsent_bytes()) != self._unsent:  # the body goes out, if slowly
            self._unsent, self._heard_at = unsent, now
        exchanged = self._sent_bytes + (self._answer.received_bytes if self._answer else 0)
        silence_seconds = max(SILENCE_SECONDS, self._bounds.silence_seconds)
        if now - self._heard_at > silence_seconds:
            self.fail(NoAnswer("ReadTimeout", f"no byte came or went for {silence_seconds:.0f} s"))
        elif now - self._sent_at > self._bounds.seconds + exchanged / PACE_BYTES:
            message = f"no whole answer after {now - self._sent_at:.0f} s, {exchanged} bytes were exchanged"
            self.fail(NoAnswer("ReadTimeout", message))

    def _unsent_bytes(self) -> int:
        """What waits here and in the kernel, which may hold megabytes."""
        endpoint = self._transport.get_extra_info("socket")
        if endpoint is None:  # a TLS connection that was lost in this turn of the loop
            return 0
        queued = fcntl.ioctl(endpoint.fileno(), termios.TIOCOUTQ, bytes(4))
        return int.from_bytes(queued, sys.byteorder) + int(self._transport.get_write_buffer_size())

    def fail(self, error: Exception) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
        self._answer = None
        self.abort()

    def abort(self) -> None:
        self.is_closed = True
        if self._transport is not None and not self._loop.is_closed():
            self._transport.abort()

    # --- asyncio's side -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._socket_events.register(transport.get_extra_info("socket"), select.POLLIN)

    def get_buffer(self, sizehint: int) -> memoryview:
        answer = self._answer
        return self._buffer if answer is None or answer.large is None else answer.rest

    def buffer_updated(self, nbytes: int) -> None:
        answer = self._answer
        if answer is None:  # no request is open
            self.abort()
            return
        self._heard_at = self._loop.time()
        try:
            response = answer.feed(self._buffer[:nbytes]) if answer.large is None else answer.fill(nbytes)
        except NoAnswer as error:
            self.fail(error)
            return
        if response is not None:
            # The server may answer while a body is still on its way: who knows what it does with
            # the rest?
            is_sent = not self._sent_bytes or not self._transport.get_write_buffer_size()
            self._finish(response, answer.is_kept and is_sent)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        answer = self._answer
        if answer is None:
            return
        try:
            self._finish(answer.end(f": {exc}" if exc else ""), False)
        except NoAnswer as error:
            error.is_stale = self._is_used and not answer.is_started
            self.fail(error)

    def _finish(self, response: Response, is_kept: bool) -> None:
        self._answer, self._is_used, self.is_kept = None, True, is_kept and not self.is_closed
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(response)
