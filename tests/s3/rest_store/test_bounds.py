"""No server makes the client hold more than was asked for, or wait for ever."""

from __future__ import annotations

import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jobs import errors
from jobs.core.model import ObjectRef
from jobs.s3 import transport
from jobs.s3.http import connection_pool
from jobs.s3.operations import Patience
from jobs.s3.rest_store import RestStore
from jobs.s3.store import UNGUARDED, CopySettings
from tests.doubles.raw_server import head, raw_server, use

REF = ObjectRef("bucket", "k")
HEAD_BYTES_MAX = 8 << 20
"""What the client may hold of what is no body, with all that belongs to a connection."""
CHUNKED = head(Transfer_Encoding="chunked", ETag='"e"')

Request = Callable[[RestStore], Awaitable[Any]]


REQUESTS: dict[str, Request] = {
    "GetObject": lambda store: store.get(REF, start=5, end=1_005),
    "ListObjectsV2": lambda store: store.list_objects("bucket", ""),
    "GetObjectAnnotation": lambda store: store.get_annotation(REF, "a"),
    "CopyObject": lambda store: store.copy(REF, None, ObjectRef("bucket", "b"), CopySettings(), guard=UNGUARDED),
    "DeleteObject": lambda store: store.delete(ObjectRef("bucket", "b")),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_length_beyond_what_was_asked_for_is_refused_before_a_byte_of_it(name: str) -> None:
    tracemalloc.start()
    try:
        with (
            raw_server(lambda *_: [head(Content_Length=1 << 30, ETag='"e"')]) as server,
            pytest.raises(errors.Unavailable, match="AnswerTooLarge"),
        ):
            use(server, REQUESTS[name])
        assert tracemalloc.get_traced_memory()[1] < HEAD_BYTES_MAX
    finally:
        tracemalloc.stop()


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_pool, "SWEEP_SECONDS", 0.05)
    monkeypatch.setattr(transport, "HEADERS_ONLY", transport.HEADERS_ONLY._replace(seconds=0.3))
    monkeypatch.setitem(transport.BOUNDS, Patience.LATE, transport.BOUNDS[Patience.LATE]._replace(seconds=20.0))


DRIPS = {
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X: a\r\n"),
    "letters": (b"HTTP/1.1 200 OK\r\nX: ", b"a"),
    "interim answers": (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
}


@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize("name", DRIPS)
def test_a_server_that_drips_is_given_up(name: str) -> None:
    first, drop = DRIPS[name]
    with raw_server(lambda *_: [first or drop, *[drop] * 2_000]) as server, pytest.raises(errors.Unavailable) as caught:
        use(server, lambda store: store.head(REF))
    assert caught.value.code == "ReadTimeout"


@pytest.mark.usefixtures("short_waits")
def test_a_copy_that_was_waited_for_as_long_as_one_may_take_is_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that hung in the middle of copies was asked twice, for five minutes each, by each of three workers."""
    monkeypatch.setattr(transport, "UNHEARD_SECONDS", 0.2)
    late = transport.BOUNDS[Patience.LATE]._replace(silence_seconds=0.3)
    monkeypatch.setitem(transport.BOUNDS, Patience.LATE, late)
    with raw_server(lambda *_: []) as server, pytest.raises(errors.Unavailable) as caught:
        use(server, REQUESTS["CopyObject"])
    assert (caught.value.code, len(server.paths)) == ("ReadTimeout", 1)


@pytest.mark.usefixtures("short_waits")
def test_a_copy_that_takes_long_and_sends_spaces_meanwhile_is_waited_for() -> None:
    """S3 sends the head of a 200 early, and spaces before the XML, so that nobody takes it for dead."""
    result = b'<?xml version="1.0"?><CopyObjectResult><ETag>"e"</ETag></CopyObjectResult>'
    pieces = [CHUNKED, *[b"1\r\n \r\n"] * 300, b"%x\r\n%b\r\n0\r\n\r\n" % (len(result), result)]
    with raw_server(lambda *_: pieces) as server:
        assert use(server, REQUESTS["CopyObject"]).etag == "e"
