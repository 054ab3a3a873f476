"""Connections against servers that answer in every way HTTP/1.1 allows, and in some that it does not."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Any
from unittest import mock

import pytest

from jobs.s3.http import connect, connection_pool
from jobs.s3.http.answers import NoAnswer, Response
from jobs.s3.http.connect import Dialer
from jobs.s3.http.connection_pool import Bounds, Pool
from jobs.s3.operations import Operation
from jobs.s3.transport import bounds_of
from tests.doubles.loopback import listening
from tests.s3.http import pools
from tests.s3.http.pools import DIRECT, OK, REQUEST, Serve


def talk(serve: Serve, use: Callable[[Pool, str], Awaitable[object]], *, limit: int = 4) -> object:
    """What `use(pool, host)` returns, with a server that handles each connection with `serve`."""
    with listening(serve) as url:
        return pools.talk(url, use, limit=limit)


def answering(*pieces: bytes, then_close: bool = False) -> Serve:
    """Each request gets these pieces, with a pause between them that lets the other side run."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            if then_close:
                return

    return serve


def once(serve: Serve) -> Response:
    async def use(pool: Pool, host: str) -> Response:
        return await pool.exchange(host, REQUEST, None)

    answer = talk(serve, use)
    assert isinstance(answer, Response)
    return answer


LARGE = os.urandom(3 << 20)


@pytest.mark.parametrize(
    ("pieces", "body"),
    [
        ([OK], b"ok"),
        ([bytes([each]) for each in OK], b"ok"),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", b"3\r\nabc\r\n0\r\n\r\n"], b"okabc"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", OK], b"ok"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n" + OK], b"ok"),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], b""),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(LARGE), LARGE[:7], LARGE[7:]], LARGE),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(LARGE) + LARGE], LARGE),
    ],
)
def test_every_form_of_an_answer_is_read(pieces: list[bytes], body: bytes) -> None:
    async def use(pool: Pool, host: str) -> None:
        for _ in range(2):  # the second on the same connection: nothing of the first is left
            assert (await pool.exchange(host, REQUEST, None)).body == body

    talk(answering(*pieces), use)


def test_the_end_of_the_connection_is_the_end_of_an_error_without_length() -> None:
    assert once(answering(b"HTTP/1.0 503 Busy\r\n\r\nall", b" of it", then_close=True)).body == b"all of it"


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_body_whose_end_is_the_connection_s_end_may_be_cut_off_and_is_refused(version: bytes) -> None:
    with pytest.raises(NoAnswer, match="no length") as caught:
        once(answering(b"HTTP/%b 200 OK\r\nETag: e\r\n\r\nhalf of" % version, then_close=True))
    assert caught.value.code == "IncompleteBody"


@pytest.mark.parametrize(
    ("pieces", "code"),
    [
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"], "IncompleteBody"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n", LARGE], "IncompleteBody"),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal"], "IncompleteBody"),
        ([b"HTTP/1.1 200 OK\r\nConte"], "ConnectionLost"),
        ([], "ConnectionLost"),
        ([b"SSH-2.0-OpenSSH_9.2\r\n"], "MalformedAnswer"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n"], "AnswerTooLarge"),
    ],
)
def test_what_is_no_whole_answer_is_none(pieces: list[bytes], code: str) -> None:
    with pytest.raises(NoAnswer) as caught:
        once(answering(*pieces, then_close=True))
    assert caught.value.code == code


def test_a_connection_is_used_again_and_one_that_was_closed_is_replaced_unseen() -> None:
    connections_seen = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections_seen
        connections_seen += 1
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(OK)
        await reader.readuntil(b"\r\n\r\n")  # the third is heard and dropped without an answer

    async def use(pool: Pool, host: str) -> None:
        for _ in range(5):
            assert (await pool.exchange(host, REQUEST, None)).body == b"ok"

    talk(serve, use)
    assert connections_seen == 3


def test_a_request_is_not_sent_again_after_its_last_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kept connection ends without an answer, a minute after the request was sent on it."""
    seconds, heard = [0.0], [0]
    monkeypatch.setattr(connection_pool, "elapsed_seconds", lambda: seconds[0])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in (OK, b""):
            await reader.readuntil(b"\r\n\r\n")
            heard[0] += 1
            writer.write(answer)
        seconds[0] = 60.0

    async def use(pool: Pool, host: str) -> None:
        await pool.exchange(host, REQUEST, None)
        with pytest.raises(NoAnswer) as late:
            await pool.exchange(host, REQUEST, None, Bounds(send_by=5.0))
        assert (late.value.is_stale, heard) == (True, [2])  # the first may be done
        with pytest.raises(NoAnswer) as late:
            await pool.exchange(host, REQUEST, None, Bounds(send_by=5.0))
        assert (late.value.code, heard) == ("TooLate", [2])  # nothing was sent

    talk(serve, use)


def test_a_connection_that_was_idle_for_long_serves_no_request() -> None:
    connections_seen = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections_seen
        connections_seen += 1
        await answering(OK)(reader, writer)

    async def use(pool: Pool, host: str) -> None:
        await pool.exchange(host, REQUEST, None)
        await pool.exchange(host, REQUEST, None)
        assert connections_seen == 1
        (connection,) = pool._idle[host]
        connection._heard_at -= connection_pool.IDLE_SECONDS + 1
        await pool.exchange(host, REQUEST, None)

    talk(serve, use)
    assert connections_seen == 2


@pytest.mark.parametrize("is_used", [False, True])
def test_a_cancelled_exchange_does_not_answer_the_next(is_used: bool) -> None:
    """Not on a fresh connection, and not on one that has served a request."""
    asked, go_on = threading.Event(), threading.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await reader.readuntil(b"\r\n\r\n")
            if b"/slow" in request:
                asked.set()
                await asyncio.to_thread(go_on.wait, 20)
                writer.write(OK.replace(b"ok", b"no"))
            writer.write(OK)

    async def use(pool: Pool, host: str) -> None:
        if is_used:
            await pool.exchange(host, REQUEST, None)
        slow = asyncio.create_task(pool.exchange(host, REQUEST.replace(b"/ ", b"/slow "), None))
        await asyncio.to_thread(asked.wait, 20)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        following = asyncio.create_task(pool.exchange(host, REQUEST, None))
        await asyncio.sleep(0)
        go_on.set()
        assert (await following).body == b"ok"

    talk(serve, use, limit=1)


def test_a_server_that_falls_silent_is_given_up() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        await reader.read()

    with (
        mock.patch.object(connection_pool, "SILENCE_SECONDS", 0.05),
        mock.patch.object(connection_pool, "SWEEP_SECONDS", 0.02),
        pytest.raises(NoAnswer) as caught,
    ):
        once(serve)
    assert caught.value.code == "ReadTimeout"


# --- the watch over silent servers, and what is above -------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "seconds"),
    [
        (Operation.HEAD, 30),
        (Operation.GET, 30),
        (Operation.LIST_OBJECTS, 60),
        (Operation.PUT_PART, 60),
        (Operation.COPY, 300),
    ],
)
async def test_a_silent_server_is_given_up_as_soon_as_the_operation_allows(operation: Operation, seconds: int) -> None:
    loop = asyncio.get_running_loop()
    connection = connection_pool._Connection(memoryview(bytearray(1)), loop)
    connection._bounds = bounds_of(operation, 1 << 20)
    connection._sent_at = connection._heard_at = 0.0
    connection.check_time(seconds - 1.0)
    assert not connection.is_closed
    connection.check_time(seconds + 1.0)
    assert connection.is_closed


def sending(loop: asyncio.AbstractEventLoop, endpoint: Any = None) -> Any:
    """A connection that sends a body, of which seven bytes wait in the process."""
    connection: Any = connection_pool._Connection(memoryview(bytearray(1)), loop)
    connection._transport, connection._sent_bytes = mock.Mock(), 1 << 40
    connection._transport.get_extra_info.return_value = endpoint
    connection._transport.get_write_buffer_size.return_value = 7
    return connection


@pytest.mark.parametrize(("unsent", "is_closed"), [((9, 8, 7), False), ((9, 9, 9), True)])
async def test_a_body_that_goes_out_slowly_is_no_silence(unsent: tuple[int, ...], is_closed: bool) -> None:
    connection = sending(asyncio.get_running_loop())
    connection._unsent_bytes = mock.Mock(side_effect=unsent)
    for turn in range(len(unsent)):
        connection.check_time(20.0 * (turn + 1))
    assert connection.is_closed is is_closed


async def test_what_the_kernel_holds_of_a_body_is_not_sent() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = sending(asyncio.get_running_loop(), ours)
        ours.send(bytes(1000))
        assert connection._unsent_bytes() >= 1007
        theirs.recv(1000)
        assert connection._unsent_bytes() == 7


async def test_a_connection_that_was_lost_in_this_turn_does_not_end_the_watch_over_the_others() -> None:
    """TLS forgets its socket one turn before the connection hears of its end."""
    pool = Pool(1, Dialer(None, DIRECT))
    pool._busy.add(sending(asyncio.get_running_loop()))
    pool._close_silent()
    assert pool._sweep is not None
    pool._sweep.cancel()


async def both(host: str, port: int, **_: Any) -> Any:
    """The addresses of `localhost`: ::1 first."""
    six = socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)
    return [six, (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


async def test_another_family_is_tried_where_the_first_one_does_not_answer() -> None:
    """`localhost` is ::1 first, and the server listens on 127.0.0.1 alone. The family that answered is first then."""
    loop = asyncio.get_running_loop()
    tried, connected = list[Any](), connect._connected

    async def watched(resolved: Any) -> socket.socket:
        tried.append(resolved[0])
        return await connected(resolved)

    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    dialer = Dialer(None, DIRECT)
    with mock.patch.object(loop, "getaddrinfo", both), mock.patch.object(connect, "_connected", watched):
        for _ in range(2):
            await dialer.connect(f"localhost:{port}", asyncio.BufferedProtocol)
    server.close()
    await server.wait_closed()
    assert tried == [socket.AF_INET6, socket.AF_INET, socket.AF_INET]


async def test_connections_that_all_addresses_refuse_at_once_all_fail_alike() -> None:
    """The second one is refused by its first address after the first one has forgotten all addresses."""
    loop = asyncio.get_running_loop()
    tried, is_over = list[Any](), asyncio.Event()

    async def refused(resolved: Any) -> socket.socket:
        tried.append(resolved)
        await (is_over.wait() if len(tried) == 2 else asyncio.sleep(0))
        raise ConnectionRefusedError(111, "Connection refused")

    dialer = Dialer(None, DIRECT)
    with mock.patch.object(loop, "getaddrinfo", both), mock.patch.object(connect, "_connected", refused):
        first, second = (
            asyncio.ensure_future(dialer.connect("localhost:9000", asyncio.BufferedProtocol)) for _ in range(2)
        )
        first.add_done_callback(lambda _: is_over.set())
        failed = await asyncio.wait_for(asyncio.gather(first, second, return_exceptions=True), 20)
    assert [isinstance(each, NoAnswer) and each.code for each in failed] == ["ConnectFailed"] * 2


@pytest.mark.parametrize("is_known", [True, False])
async def test_a_name_is_looked_up_once_for_all_who_need_it(is_known: bool) -> None:
    loop = asyncio.get_running_loop()
    asked, resolve = list[str](), loop.getaddrinfo

    async def watched(host: str, *rest: Any, **more: Any) -> Any:
        asked.append(host)
        await asyncio.sleep(0)
        if not is_known:
            raise socket.gaierror(socket.EAI_NONAME, "nobody knows it")
        return await resolve(host, *rest, **more)

    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    dialer = Dialer(None, DIRECT)
    with mock.patch.object(loop, "getaddrinfo", watched):
        called_off = asyncio.ensure_future(dialer.connect(host, asyncio.BufferedProtocol))
        others = [dialer.connect(host, asyncio.BufferedProtocol) for _ in range(4)]
        loop.call_soon(called_off.cancel)
        answers = await asyncio.gather(called_off, *others, return_exceptions=True)
    server.close()
    await server.wait_closed()
    assert asked == ["127.0.0.1"]
    assert [isinstance(each, NoAnswer) for each in answers[1:]] == [not is_known] * 4


async def test_what_is_no_name_of_a_host_is_unknown() -> None:
    with pytest.raises(NoAnswer) as failed:
        await Dialer(None, DIRECT).connect("minio..local:9000", asyncio.BufferedProtocol)
    assert failed.value.code == "UnknownHost"
