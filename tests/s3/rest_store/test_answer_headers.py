"""What the headers of an answer say: blanks around a value, one name twice, and a length that is missing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jobs import errors
from jobs.core.model import ObjectRef
from jobs.s3.rest_store import RestStore
from tests.doubles.raw_server import raw_server, use

REF = ObjectRef("bucket", "k")
PAGE = b"<ListBucketResult><Contents><Key>k</Key><Size>1</Size><ETag>e</ETag></Contents></ListBucketResult>"
HEAD: Callable[[RestStore], Awaitable[Any]] = lambda store: store.head(REF)  # noqa: E731
GET: Callable[[RestStore], Awaitable[Any]] = lambda store: store.get(REF)  # noqa: E731


def ask(lines: bytes, request: Callable[[RestStore], Awaitable[Any]], body: bytes = b"x") -> Any:
    """What a request gets from a server that sends these headers besides ETag and Content-Length."""

    def answer(method: str, path: str) -> list[bytes]:
        head = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: %d\r\n%b\r\n' % (len(body), lines)
        return [head if method == "HEAD" else head + body]

    with raw_server(answer) as server:
        return use(server, request)


@pytest.mark.parametrize("request_", [HEAD, GET])
def test_an_object_s_lists_that_come_twice_are_joined(request_: Callable[[RestStore], Awaitable[Any]]) -> None:
    lines = (
        b"Cache-Control: no-cache\r\ncache-control: no-store\r\nCache-Control: no-cache\r\n"
        b"Content-Language: de\r\nContent-Language: en\r\nContent-Encoding: aws\r\nContent-Encoding: gzip\r\n"
    )
    answer = ask(lines, request_)
    info = answer.info if request_ is GET else answer
    assert info.attributes.headers == {
        "cache-control": "no-cache, no-store",
        "content-language": "de, en",
        "content-encoding": "aws, gzip",
    }


@pytest.mark.parametrize("request_", [HEAD, GET])
@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Type: text/plain\r\nContent-Type: text/html\r\n",
        b"Content-Type: text/html\r\nContent-Type: text/plain\r\nContent-Type: text/html\r\n",
        b"Content-Disposition: inline\r\nContent-Disposition: attachment\r\n",
        b"Expires: 0\r\nExpires: 1\r\n",
    ],
)
def test_an_object_with_two_values_where_one_may_be_is_refused(
    lines: bytes, request_: Callable[[RestStore], Awaitable[Any]]
) -> None:
    name = lines.partition(b":")[0].decode().lower()
    with pytest.raises(errors.Unavailable, match=f"two different headers {name}") as caught:
        ask(lines, request_)
    assert caught.value.code == "MalformedAnswer"


@pytest.mark.parametrize(
    "name",
    ["ETag", "Last-Modified", "Content-Range", "x-amz-version-id", "x-amz-checksum-sha256", "x-amz-delete-marker",
     "x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id", "x-amz-meta-a",
     "x-amz-storage-class", "x-amz-bucket-region"],
)  # fmt: skip
def test_what_tells_which_object_it_is_comes_once(name: str) -> None:
    with pytest.raises(errors.Unavailable, match=f"two different headers {name.lower()}"):
        ask(f"{name}: 1\r\n{name}: 2\r\n".encode(), lambda store: store.list_objects("bucket", ""), PAGE)


@pytest.mark.parametrize("lines", [b"", b"Transfer-Encoding: chunked\r\n"])
def test_a_head_without_a_length_is_refused_by_name(lines: bytes) -> None:
    whole = b'HTTP/1.1 200 OK\r\nETag: "e"\r\n' + lines + b"\r\n"
    with (
        raw_server(lambda *_: [whole]) as server,
        pytest.raises(errors.Unavailable, match=r"no Content-Length.*size is unknown") as caught,
    ):
        use(server, HEAD)
    assert caught.value.code == "MalformedAnswer"
