"""Answers as bytes: heads that are refused, and answers that leave a connection for the next request."""

from __future__ import annotations

import tracemalloc

import pytest

from jobs.s3.http.answers import Answer, NoAnswer

ODD_HEADS = {
    "both lengths": b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
    "both lengths, the other way round": b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
    "two lengths": b"Content-Length: 1\r\nContent-Length: 2\r\n",
    "the same length twice": b"Content-Length: 1\r\nContent-Length: 1\r\n",
    "a plus": b"Content-Length: +1\r\n",
    "a minus": b"Content-Length: -1\r\n",
    "a list": b"Content-Length: 1, 1\r\n",
    "no digits": b"Content-Length: one\r\n",
    "other digits": "Content-Length: ١\r\n".encode(),
    "an empty length": b"Content-Length:\r\n",
    "more than 64 bits": b"Content-Length: 18446744073709551617\r\n",
    "a folded line": b"X: a\r\n b\r\nContent-Length: 1\r\n",
    "a NUL": b"X: a\0b\r\nContent-Length: 1\r\n",
    "a lone carriage return": b"X: a\rETag: z\r\nContent-Length: 1\r\n",
    "a lone line feed": b"X: a\nContent-Length: 1\r\n",
    "a space before the colon": b"Content-Length : 1\r\n",
    "a name that is no token": b"(x): 1\r\nContent-Length: 1\r\n",
    "an unknown transfer": b"Transfer-Encoding: gzip\r\n",
    "an unknown transfer before chunks": b"Transfer-Encoding: gzip, chunked\r\n",
    "an unknown transfer after chunks": b"Transfer-Encoding: chunked, gzip\r\n",
}
HEADS = [b"HTTP/1.1 200 OK\r\n%b\r\n" % lines for lines in ODD_HEADS.values()]
LINES = [
    b"SSH-2.0-OpenSSH", b"HTTP/1.1 99 x", b"HTTP/1.1 099 x", b"HTTP/1.1 000 x", b"HTTP/1.1 999 x", b"HTTP/2.0 200 OK",
    b"HTTP/0.9 200 OK", b"ICY 200 OK", b"<html>", b"\0\0\0",
]  # fmt: skip
HEADS += [line + b"\r\nContent-Length: 1\r\n\r\n" for line in LINES]


@pytest.mark.parametrize("is_bodiless", [True, False])
@pytest.mark.parametrize("head", HEADS, ids=[*ODD_HEADS, *map(ascii, LINES)])
def test_an_odd_head_is_refused_and_its_connection_not_used_again(head: bytes, is_bodiless: bool) -> None:
    body = b"" if is_bodiless else b"1\r\nx\r\n0\r\n\r\n" if b"chunked" in head else b"x"
    answer = Answer(is_bodiless=is_bodiless)
    with pytest.raises(NoAnswer):
        answer.feed(memoryview(head + body))
    assert not answer.is_kept


@pytest.mark.parametrize(
    ("version", "lines", "is_kept"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.1", b"Connection: foo, Close\r\n", False),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: keep-alive\r\n", True),
    ],
)
@pytest.mark.parametrize("is_bodiless", [True, False])
def test_a_connection_is_kept_as_http_says(version: bytes, lines: bytes, is_kept: bool, is_bodiless: bool) -> None:
    answer, body = Answer(is_bodiless=is_bodiless), b"" if is_bodiless else b"x"
    answer.feed(memoryview(b"HTTP/%b 200 OK\r\n%bContent-Length: 1\r\n\r\n%b" % (version, lines, body)))
    assert answer.is_kept is is_kept


def headers_of(lines: bytes) -> dict[str, str]:
    """Those of an answer with these lines."""
    response = Answer().feed(memoryview(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n%b\r\n" % lines))
    assert response is not None
    return response.headers


def test_lists_that_come_twice_are_joined_and_other_headers_may_say_the_same_twice() -> None:
    lines = (
        b"Cache-Control: no-cache\r\ncache-control: no-store\r\nCache-Control: no-cache\r\nContent-Language: de\r\n"
        b"Content-Language: en\r\nContent-Encoding: aws\r\nContent-Encoding: gzip\r\nETag: a\r\netag: \t a \r\n"
    )
    assert headers_of(lines) == {
        "content-length": "0",
        "cache-control": "no-cache, no-store",
        "content-language": "de, en",
        "content-encoding": "aws, gzip",
        "etag": "a",
    }


@pytest.mark.parametrize(
    "name",
    ["Content-Type", "Content-Disposition", "Expires", "ETag", "Last-Modified", "Content-Range", "x-amz-version-id",
     "x-amz-checksum-sha256", "x-amz-delete-marker", "x-amz-server-side-encryption", "x-amz-meta-a",
     "x-amz-server-side-encryption-aws-kms-key-id", "x-amz-storage-class", "x-amz-bucket-region"],
)  # fmt: skip
def test_what_tells_which_object_it_is_has_one_value(name: str) -> None:
    for values in ("12", "121"):
        with pytest.raises(NoAnswer, match=f"two different headers {name.lower()}") as caught:
            headers_of("".join(f"{name}: {value}\r\n" for value in values).encode())
        assert caught.value.code == "MalformedAnswer"


PIECE, FLOOD, LIMIT, HELD_MAX = 60_000, 40 << 20, 8 << 20, 12 << 20
CHUNKED = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: "e"\r\n\r\n'
FLOODS = {
    "headers": (b"HTTP/1.1 200 OK\r\n", b"x-amz-meta-a: b\r\n" * (PIECE // 17)),
    "header names": (b"HTTP/1.1 200 OK\r\n", b"x" * PIECE),
    "one header": (b"HTTP/1.1 200 OK\r\nX: ", b"x" * PIECE),
    "a reason": (b"HTTP/1.1 200 ", b"x" * PIECE),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * (PIECE // 25)),
    "interim answers with headers": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * (PIECE // 37)),
    "line breaks": (b"", b"\r\n" * (PIECE // 2)),
    "chunk extensions": (CHUNKED + b"1;", b"x" * PIECE),
    "a trailer": (CHUNKED + b"0\r\nX: ", b"x" * PIECE),
    "trailers": (CHUNKED + b"0\r\n", b"a: b\r\n" * (PIECE // 6)),
    "zeros of a chunk's size": (CHUNKED, b"0" * PIECE),
    "a body": (CHUNKED, b"%x\r\n%b\r\n" % (PIECE, b"x" * PIECE)),
    "tiny chunks": (CHUNKED, b"1\r\nx\r\n" * (PIECE // 6)),
}


def feed(first: bytes, piece: bytes) -> None:
    """Have an answer of at most LIMIT take a flood."""
    answer = Answer(LIMIT)
    for data in filter(None, [first, *[piece] * (FLOOD // len(piece))]):
        answer.feed(memoryview(data))


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_ends_before_much_of_it_is_held(name: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(NoAnswer) as caught:
            feed(*FLOODS[name])
        assert caught.value.code in ("AnswerTooLarge", "MalformedAnswer")
        assert tracemalloc.get_traced_memory()[1] < HELD_MAX
    finally:
        tracemalloc.stop()
