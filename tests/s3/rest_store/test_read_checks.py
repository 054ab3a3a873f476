"""A read that brings other bytes, another version or another state than was asked for is no success."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jobs import errors
from jobs.core.elapsed import elapsed_seconds
from jobs.core.model import ObjectRef
from jobs.s3.rest_store import RestStore
from jobs.s3.store import ABSENT, CopySettings, Upload
from tests.doubles.scripted_server import Reply, Script, ask

REF, PINNED = ObjectRef("bucket", "k"), ObjectRef("bucket", "k", "v1")


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"Content-Range": "bytes 2-5/10"}, b"2345"),
        ({"content-range": " bytes 2-5/10 "}, b"2345"),
        ({"Content-Range": "bytes 2-4/5"}, b"234"),  # the object ends within the range
    ],
)
def test_the_range_that_was_asked_for_is_taken(script: Script, headers: dict[str, str], body: bytes) -> None:
    script.reply = Reply(206, headers, body)
    found = ask(script, lambda store: store.get(REF, start=2, end=6))
    assert (found.data, found.info.size_bytes) == (body, int(headers.popitem()[1].strip().rpartition("/")[2]))


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b"2345"),
        ({"Content-Range": "bytes 0-3/10"}, b"0123"),
        ({"Content-Range": "bytes 2-4/10"}, b"234"),
        ({"Content-Range": "bytes 2-5/10"}, b"234"),
        ({"Content-Range": "bytes 2-5/10"}, b"23456"),
        ({"Content-Range": "bytes 2-6/10"}, b"23456"),
        ({"Content-Range": "bytes 2-5/*"}, b"2345"),
        ({"Content-Range": "bytes 2-5/4"}, b"2345"),
        ({"Content-Range": "bytes -5/10"}, b"2345"),
        ({"Content-Range": "bytes 2-5/1" + "0" * 30}, b"2345"),
        ({"Content-Range": "items 2-5/10"}, b"2345"),
        ({"Content-Range": "bytes 2-5/10, bytes 7-8/10"}, b"2345"),
        ({"Content-Type": "multipart/byteranges; boundary=x"}, b"--x\r\n\r\n2345\r\n--x--"),
    ],
)
def test_another_range_than_was_asked_for_is_refused(script: Script, headers: dict[str, str], body: bytes) -> None:
    script.reply = Reply(206, headers, body)
    with pytest.raises(errors.Unavailable, match="MalformedAnswer"):
        ask(script, lambda store: store.get(REF, start=2, end=6))


@pytest.mark.parametrize("content_range", ["bytes 2-8/10", "bytes 2-9/*", "bytes 0-9/10"])
def test_a_range_to_the_end_has_to_reach_it(script: Script, content_range: str) -> None:
    script.reply = Reply(206, {"Content-Range": content_range}, b"x" * 8)
    with pytest.raises(errors.Unavailable, match="MalformedAnswer"):
        ask(script, lambda store: store.get(REF, start=2))


def test_a_part_is_no_answer_to_a_question_for_the_whole(script: Script) -> None:
    script.reply = Reply(206, {"Content-Range": "bytes 0-3/10"}, b"0123")
    with pytest.raises(errors.Unavailable, match="206"):
        ask(script, lambda store: store.get(REF))


def test_a_whole_object_that_ends_before_the_range_is_refused(script: Script) -> None:
    script.reply = Reply(200, {}, b"0123")
    with pytest.raises(errors.Unavailable, match="no byte 4"):
        ask(script, lambda store: store.get(REF, start=4, end=6))


@pytest.mark.parametrize("etag", ['"e2"', "", 'W/"e1"', '"e1-2"'])
def test_a_server_that_ignores_if_match_is_found_out(script: Script, etag: str) -> None:
    script.reply = Reply(200, {"ETag": etag} if etag else {}, b"other")
    with pytest.raises(errors.PreconditionFailed, match="ignores If-Match"):
        ask(script, lambda store: store.get(REF, if_match="e1"))


@pytest.mark.parametrize("version", ["v2", "null", ""])
def test_another_version_than_was_asked_for_is_refused(script: Script, version: str) -> None:
    script.reply = Reply(200, {"ETag": '"e"', "x-amz-version-id": version}, b"other")
    with pytest.raises(errors.Unavailable, match="version v1"):
        ask(script, lambda store: store.get(PINNED))
    with pytest.raises(errors.Unavailable, match="version v1"):
        ask(script, lambda store: store.head(PINNED))


OF_COPY, OF_TAGS, OF_ANNOTATIONS = "x-amz-copy-source-version-id", "x-amz-version-id", "x-amz-object-version-id"


@pytest.mark.parametrize(
    ("request_", "header", "body"),
    [
        (
            lambda s: s.copy(PINNED, "e1", ObjectRef("b", "k"), CopySettings(), guard=ABSENT),
            OF_COPY,
            b"<CopyObjectResult>%b",
        ),
        (lambda s: s.copy_part(PINNED, "e1", 0, 5, Upload("b", "k", "u"), 1), OF_COPY, b"<CopyPartResult>%b"),
        (lambda s: s.get_tags(PINNED), OF_TAGS, b""),
        (lambda s: s.list_annotations(PINNED), OF_ANNOTATIONS, b"<ListObjectAnnotationsOutput>%b"),
        (lambda s: s.get_annotation(PINNED, "n"), OF_ANNOTATIONS, b"text"),
        (lambda s: s.put_annotation(PINNED, "n", b"text", object_etag="e"), OF_ANNOTATIONS, b""),
    ],
)
def test_an_answer_about_another_version_than_was_asked_for_is_refused(
    script: Script, request_: Callable[[RestStore], Awaitable[Any]], header: str, body: bytes
) -> None:
    """Of a copy: which version was copied. Some servers name none."""
    if b"%b" in body:
        body = body % b"<ETag>e</ETag>" + b"</" + body[1:].removesuffix(b"%b")
    for headers in ({header: "v1"}, {OF_TAGS: ""}):
        script.reply = Reply(200, headers, body)
        ask(script, request_)
    script.reply = Reply(200, {header: "v2"}, body)
    with pytest.raises(errors.Unavailable, match="asked for version v1 of k, the server named version v2") as caught:
        ask(script, request_)
    assert caught.value.code == "MalformedAnswer"


@pytest.mark.parametrize("version", ["null", ""])
def test_a_null_version_may_go_unnamed(script: Script, version: str) -> None:
    script.reply = Reply(200, {"ETag": '"e"', "x-amz-version-id": version}, b"x")
    assert ask(script, lambda store: store.get(ObjectRef("bucket", "k", "null"))).data == b"x"
    assert ask(script, lambda store: store.head(ObjectRef("bucket", "k", "null"))).etag == "e"


def test_a_head_names_size_and_etag(script: Script) -> None:
    script.reply = Reply(200, {"x-amz-version-id": "v1"})
    with pytest.raises(errors.Unavailable, match="no ETag"):
        ask(script, lambda store: store.head(PINNED))
    script.reply = Reply(200, {"ETag": '"e"', "Transfer-Encoding": "chunked", "Content-Length": ""})
    with pytest.raises(errors.Unavailable):
        ask(script, lambda store: store.head(REF))


@pytest.mark.parametrize(
    ("date", "answered_at"), [("Wed, 25 Nov 2026 00:33:40 GMT", 1795566820.0), ("yesterday", None)]
)
def test_date_of_the_answer_is_known_only_if_it_is_valid(script: Script, date: str, answered_at: float | None) -> None:
    script.reply = Reply(200, {"Date": date}, b"x")

    async def look(store: RestStore) -> tuple[float | None, float | None]:
        return (await store.get(REF)).answered_at, store.server_clock

    found, clock = ask(script, look)
    assert found == answered_at
    assert clock == (answered_at and pytest.approx(answered_at - elapsed_seconds(), abs=20))
