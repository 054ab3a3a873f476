"""An answer never belongs to another request, whatever a server sends before, within and after it."""

from __future__ import annotations

import contextlib

import pytest

from jobs import errors
from jobs.core.model import Attributes, ObjectRef
from jobs.s3.rest_store import RestStore
from jobs.s3.store import UNGUARDED, CopySettings
from tests.doubles.raw_server import head, quiet, raw_server, use

KEYS = ("a", "b", "c", "d")


def honest(path: str, size_bytes: int = 1) -> bytes:
    """The head of the answer about the object of this path; its ETag is its key."""
    return head(Content_Length=size_bytes, ETag=f'"{path[-1]}"')


FORGED = head(Content_Length=6, ETag='"forged"') + b"forged"


async def etags(store: RestStore) -> list[str]:
    """The ETag of each key, a pause after each request: late bytes arrive in it. Empty: the answer was refused."""
    seen = []
    for key in KEYS:
        try:
            seen.append((await store.head(ObjectRef("bucket", key))).etag)
        except errors.Unavailable:
            seen.append("")
        await quiet()
    return seen


async def etags_without_pause(store: RestStore) -> list[str]:
    """As `etags`, but the event loop has no time to see what comes after an answer."""
    seen = []
    for key in KEYS:
        try:
            seen.append((await store.get(ObjectRef("bucket", key))).info.etag)
        except errors.Unavailable:
            seen.append("")
    return seen


def never_anothers(seen: list[str]) -> None:
    assert all(etag in ("", key) for key, etag in zip(KEYS, seen, strict=True)), seen


@pytest.mark.parametrize("status", ["100 Continue", "102 Processing", "103 Early Hints", "199 Whatever"])
@pytest.mark.parametrize("is_one_piece", [True, False])
def test_an_interim_answer_to_a_head_is_not_the_answer(status: str, is_one_piece: bool) -> None:
    def answer(method: str, path: str) -> list[bytes]:
        pieces = [head(status, ETag='"interim"', X_Amz_Meta_Of="interim"), honest(path)]
        return [b"".join(pieces)] if is_one_piece else pieces

    with raw_server(answer) as server:
        assert use(server, etags) == list(KEYS)
        found = use(server, lambda store: store.head(ObjectRef("bucket", "a")))
    assert not found.attributes.metadata
    assert len(server.connections) == 2  # nothing odd: the connection is used again


@pytest.mark.parametrize(
    "after",
    [
        [b"x"],
        [FORGED],
        [b"", FORGED],
        [FORGED[:20]],
        [FORGED[:20], FORGED[20:]],
        [b"HTTP/1.1 200 OK\r\nETag: "],
        [b"\r\n\r\n" + FORGED],
        [b"5\r\nhello\r\n0\r\n\r\n"],
    ],
)
@pytest.mark.parametrize("transfer", [{"Content_Length": 1}, {"X_Length": 1}])
def test_what_follows_the_answer_to_a_head_is_no_answer(after: list[bytes], transfer: dict[str, int]) -> None:
    def answer(method: str, path: str) -> list[bytes]:
        whole = head(ETag=f'"{path[-1]}"', **transfer)
        return [whole + after[0], *after[1:]] if after[0] else [whole, *after[1:]]

    with raw_server(answer) as server:
        never_anothers(use(server, etags))
        assert all(len(paths) == 1 for paths in server.connections if paths)


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_a_body_where_none_may_be_is_no_answer(status: str) -> None:
    """A hostile body is itself an answer."""

    async def delete_then_read(store: RestStore) -> str:
        with contextlib.suppress(errors.StoreError):
            await store.delete(ObjectRef("bucket", "a"))
        return (await store.get(ObjectRef("bucket", "b"))).info.etag

    def answer(method: str, path: str) -> list[bytes]:
        return [head(status, Content_Length=len(FORGED)) + FORGED] if method == "DELETE" else [honest(path) + b"b"]

    with raw_server(answer) as server:
        assert use(server, delete_then_read) == "b"
        assert len(server.connections) == 2


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
    "no length": b"",
}


@pytest.mark.parametrize("lines", ODD_HEADS.values(), ids=ODD_HEADS)
@pytest.mark.parametrize("is_head", [True, False])
def test_an_odd_head_is_refused_and_its_connection_not_used_again(lines: bytes, is_head: bool) -> None:
    async def requests(store: RestStore) -> None:
        ref = ObjectRef("bucket", "a")
        for _ in range(2):
            with pytest.raises(errors.Unavailable):
                await (store.head(ref) if is_head else store.get(ref))

    def answer(method: str, path: str) -> list[bytes]:
        body = b"" if method == "HEAD" else b"1\r\nx\r\n0\r\n\r\n" if b"chunked" in lines else b"x"
        return [b'HTTP/1.1 200 OK\r\nETag: "a"\r\n' + lines + b"\r\n" + body, b""]

    with raw_server(answer) as server:
        use(server, requests)
        assert all(len(paths) == 1 for paths in server.connections)


@pytest.mark.parametrize(
    "line", [b"SSH-2.0-OpenSSH", b"HTTP/1.1 99 x", b"HTTP/1.1 099 x", b"HTTP/1.1 000 x", b"HTTP/1.1 999 x",
             b"HTTP/2.0 200 OK", b"HTTP/0.9 200 OK", b"ICY 200 OK", b"<html>", b"\0\0\0"]
)  # fmt: skip
def test_a_garbage_status_line_is_refused(line: bytes) -> None:
    with raw_server(lambda *_: [line + b'\r\nETag: "a"\r\nContent-Length: 0\r\n\r\n']) as server:
        with pytest.raises(errors.Unavailable):
            use(server, lambda store: store.head(ObjectRef("bucket", "a")))
        assert all(len(paths) == 1 for paths in server.connections)


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
def test_a_connection_is_kept_as_http_says(version: bytes, lines: bytes, is_kept: bool) -> None:
    def answer(method: str, path: str) -> list[bytes]:
        end = b'Content-Length: 1\r\nETag: "%b"\r\n\r\n' % path[-1].encode()
        return [b"HTTP/%b 200 OK\r\n%b%b" % (version, lines, end) + (b"" if method == "HEAD" else b"x")]

    with raw_server(answer) as server:
        assert use(server, etags) == list(KEYS)
        assert use(server, etags_without_pause) == list(KEYS)
        assert len(server.connections) == (2 if is_kept else 2 * len(KEYS))


def test_an_answer_that_comes_while_the_request_is_still_sent_ends_the_connection() -> None:
    large = bytes(8 << 20)

    async def requests(store: RestStore) -> str:
        with pytest.raises(errors.StoreError):
            await store.put(ObjectRef("bucket", "a"), large, Attributes(), guard=UNGUARDED)
        return (await store.get(ObjectRef("bucket", "b"))).info.etag

    def answer(method: str, path: str) -> list[bytes]:
        if method == "PUT":
            return [head("403 Forbidden", Content_Length=0)]
        return [honest(path) + b"x"]

    with raw_server(answer) as server:
        assert use(server, requests) == "b"
        assert len(server.connections) == 2


def test_a_copy_of_another_version_than_was_asked_for_is_no_success() -> None:
    body = b'<CopyObjectResult><ETag>"e"</ETag></CopyObjectResult>'

    async def copy(store: RestStore) -> object:
        source = ObjectRef("bucket", "a", "v1")
        return await store.copy(source, None, ObjectRef("bucket", "b"), CopySettings(), guard=UNGUARDED)

    whole = head(Content_Length=len(body), x_amz_copy_source_version_id="v2") + body
    with raw_server(lambda *_: [whole]) as server, pytest.raises(errors.Unavailable, match=r"v1.*v2"):
        use(server, copy)
