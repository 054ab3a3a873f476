"""TLS: what a connection holds, and what goes wrong on it: in the handshake, in an answer, at the end."""

from __future__ import annotations

import asyncio
import datetime
import gc
import os
import socket
import ssl
import struct
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from jobs.errors import ConfigError
from jobs.s3.http.answers import NoAnswer, Response
from jobs.s3.http.connection_pool import Pool
from jobs.s3.http.tls import tls_context
from tests.doubles.loopback import listening
from tests.s3.http import pools
from tests.s3.http.pools import OK, REQUEST

LARGE = os.urandom(1 << 20) * 3 + b"end"
AUTHORITY = trustme.CA()


def server_context(name: str = "127.0.0.1", **issued: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(name, **issued).configure_cert(context)
    return context


def client_context(authority: trustme.CA = AUTHORITY) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def talk(
    url: str, use: Callable[[Pool, str], Awaitable[Any]], *, limit: int = 4, trusted: trustme.CA = AUTHORITY
) -> Any:
    """What `use(pool, host)` returns."""
    return pools.talk(url, use, limit=limit, tls=client_context(trusted))


async def ask(pool: Pool, host: str) -> Response:
    return await pool.exchange(host, REQUEST, None)


async def put(pool: Pool, host: str, body: bytes) -> Response:
    return await pool.exchange(host, b"PUT / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body), body)


def reset(writer: asyncio.StreamWriter) -> None:
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


# --- what it holds ---------------------------------------------------------------------------------------------------


def test_connections_have_one_buffer_in_common() -> None:
    """asyncio's own layer holds 256 KiB for each: 512 connections are 128 MiB."""
    count = 32
    arrived: list[int] = []
    is_full = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.append(1)
        if len(arrived) == count:
            is_full.set()
        await is_full.wait()  # so that each request needs a connection of its own
        writer.write(OK)
        await reader.read()

    async def measure(pool: Pool, host: str) -> int:
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        await asyncio.gather(*(ask(pool, host) for _ in range(count)))
        gc.collect()
        held = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        return held // count

    with listening(serve, tls=server_context()) as url:
        # The server is in this process, and its side has asyncio's buffer.
        held_bytes = talk(url, measure, limit=count)
    servers_bytes = 256 * 1024
    assert held_bytes < servers_bytes + 64 * 1024


def test_a_session_is_resumed_by_the_same_authorities_and_for_the_same_name_alone() -> None:
    """The handshake that resumes checks no certificate, so it has been checked before, for this name.

    After one that failed the next begins anew: a server may refuse each session.
    """
    resumed: list[bool] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Close at once."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        resumed.append(writer.get_extra_info("ssl_object").session_reused)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await reader.read()

    server, ours, others = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), client_context(), client_context()
    AUTHORITY.issue_cert("127.0.0.1", "localhost").configure_cert(server)
    with listening(serve, tls=server) as url:
        by_name = url.replace("127.0.0.1", "localhost")
        for context, address in (
            (ours, url),
            (ours, url),
            (others, url),
            (ours, by_name),
            (ours, by_name),
            (ours, url),
        ):
            pools.talk(address, ask, tls=context)
        with listening(refuse) as refusing, pytest.raises(NoAnswer):
            pools.talk(refusing, ask, tls=ours)
        pools.talk(url, ask, tls=ours)
    assert resumed == [False, True, False, False, True, True, False]


async def answer_unread(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer a request as soon as its head is there, and read no more of its body than has come."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(OK)
    await asyncio.Event().wait()


def test_an_upload_is_encrypted_as_the_server_takes_it() -> None:
    """asyncio's own layer encrypts all of it at once, and holds that."""
    body = bytes(16 << 20)

    async def measure(pool: Pool, host: str) -> int:
        tracemalloc.start()
        try:
            await put(pool, host, body)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    with listening(answer_unread, tls=server_context()) as url:
        assert talk(url, measure) < 4 << 20


# --- bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("piece", [1 << 20, 16_384, 4_001])
def test_a_large_body_arrives_whole_in_pieces_of_any_size(piece: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(LARGE) + LARGE
            for start in range(0, len(answer), piece):
                writer.write(answer[start : start + piece])
                await writer.drain()

    async def twice(pool: Pool, host: str) -> list[bytes]:
        return [(await ask(pool, host)).body for _ in range(2)]

    with listening(serve, tls=server_context()) as url:
        assert talk(url, twice) == [LARGE, LARGE]


def test_a_large_upload_waits_for_the_socket_and_arrives() -> None:
    received: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        received.append(await reader.readexactly(len(LARGE)))
        writer.write(OK)
        await reader.read()

    with listening(serve, tls=server_context()) as url:
        assert talk(url, lambda pool, host: put(pool, host, LARGE)).body == b"ok"
    assert received == [LARGE]


@pytest.mark.parametrize("is_tls", [True, False])
def test_a_connection_whose_server_answers_before_it_has_the_body_is_not_used_again(is_tls: bool) -> None:
    """What of the body is still to come would be read as the next request, and answered."""

    async def put_early(pool: Pool, host: str) -> int:
        await put(pool, host, bytes(16 << 20))
        return len(pool._idle[host])

    with listening(answer_unread, tls=server_context() if is_tls else None) as url:
        assert pools.talk(url, put_early, tls=client_context() if is_tls else None) == 0


# --- trouble ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["close", "reset", "half-close"])
@pytest.mark.parametrize(
    ("sent", "code"),
    [(b"", "ConnectionLost"), (b"HTTP/1.1 200 OK\r\nConte", "ConnectionLost"), (OK[:-1], "IncompleteBody")],
)
def test_a_connection_that_ends_within_an_answer_is_told(ending: str, sent: bytes, code: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent)
        await writer.drain()
        if ending == "reset":
            reset(writer)
        if ending == "half-close":  # of the connection below TLS, which says nothing of it
            connection: Any = writer.get_extra_info("socket")
            socket.socket.shutdown(connection._sock, socket.SHUT_WR)
            await reader.read()

    with listening(serve, tls=server_context()) as url, pytest.raises(NoAnswer) as caught:
        talk(url, ask)
    assert caught.value.code == code or (ending == "reset" and caught.value.code == "ConnectionLost")
    assert not caught.value.is_stale


@pytest.mark.parametrize("flight", [b"", b"\x16\x03\x03\x00\x7a\x02\x00"], ids=["at once", "within its greeting"])
@pytest.mark.parametrize("ending", ["close", "reset"])
def test_a_connection_that_ends_in_the_handshake_is_told(flight: bytes, ending: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(flight)
        await writer.drain()
        if ending == "reset":
            reset(writer)

    with listening(serve) as url, pytest.raises(NoAnswer) as caught:
        talk(url, ask)
    assert caught.value.code == "ConnectFailed"


def test_a_server_that_speaks_no_tls_is_told() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()

    with listening(serve) as url, pytest.raises(NoAnswer, match="does not speak TLS") as caught:
        talk(url, ask)
    assert caught.value.code == "TlsFailed"


PAST = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("issued", "trusted", "message"),
    [
        ({"not_before": PAST, "not_after": PAST + datetime.timedelta(days=1)}, AUTHORITY,
         r"the certificate of 127\.0\.0\.1 is refused, certificate has expired.*renew it on the server"),
        ({"name": "elsewhere.example"}, AUTHORITY, "the certificate of"),
        ({}, trustme.CA(), r"unable to get local issuer certificate: name the file of its authority in AWS_CA_BUNDLE"),
    ],
)  # fmt: skip
def test_a_certificate_that_is_refused_says_why_and_what_to_do(
    issued: dict[str, Any], trusted: trustme.CA, message: str
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    with listening(serve, tls=server_context(**issued)) as url, pytest.raises(NoAnswer, match=message) as caught:
        talk(url, ask, trusted=trusted)
    assert caught.value.code == "TlsFailed"


def test_authorities_are_a_file_or_a_folder_and_must_be_there(tmp_path: Path) -> None:
    assert tls_context(str(tmp_path)).check_hostname
    with pytest.raises(ConfigError, match="AWS_CA_BUNDLE"):
        tls_context(str(tmp_path / "none.pem"))
