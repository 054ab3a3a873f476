"""Both clients make the same of the same answers, but for differences that have a name and a reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.core.model import Attributes, ObjectInfo, ObjectRef
from jobs.errors import StoreError
from jobs.s3.store import UNGUARDED, Body, CopySettings, PartDone, Written
from tests.doubles.examples import examples
from tests.s3.second_opinion.calls import METHODS, REPLIES
from tests.s3.second_opinion.clients import BUCKET, Call, Pair, pair_of_clients
from tests.s3.second_opinion.differences import EXPECTED_IN_ANSWERS
from tests.s3.second_opinion.replies import replies

REF = ObjectRef(BUCKET, "k", "v1")
PLAIN = ObjectRef(BUCKET, "k")
CALLS: dict[str, list[Call]] = {
    "abort_multipart": [lambda s: s.abort_multipart(BUCKET, "k", "u")],
    "complete_multipart": [
        lambda s: s.complete_multipart(BUCKET, "k", "u", [PartDone(1, "e")], guard=UNGUARDED),
    ],
    "copy": [lambda s: s.copy(REF, "e1", BUCKET, "b", CopySettings(), guard=UNGUARDED)],
    "copy_part": [lambda s: s.copy_part(REF, "e1", 0, 5, BUCKET, "b", "u", 1)],
    "create_multipart": [lambda s: s.create_multipart(BUCKET, "k", Attributes())],
    "delete": [lambda s: s.delete(BUCKET, "k"), lambda s: s.delete(BUCKET, "k", version_id="v1")],
    "delete_versions": [lambda s: s.delete_versions(BUCKET, [("k", "v1"), ("k", "v2")])],
    "get": [
        lambda s: s.get(REF, start=2, end=4, if_match="e1"),
        lambda s: s.get(PLAIN),
        lambda s: s.get(PLAIN, start=2),
    ],
    "get_annotation": [lambda s: s.get_annotation(REF, "a")],
    "get_tags": [lambda s: s.get_tags(REF)],
    "head": [lambda s: s.head(REF), lambda s: s.head(PLAIN)],
    "is_versioned": [lambda s: s.is_versioned(BUCKET)],
    "list_annotations": [lambda s: s.list_annotations(REF)],
    "list_objects": [lambda s: s.list_objects(BUCKET, "")],
    "list_parts": [lambda s: s.list_parts(BUCKET, "k", "u"), lambda s: s.list_parts(BUCKET, "k", "u", after=2)],
    "list_versions": [lambda s: s.list_versions(BUCKET, "")],
    "put": [lambda s: s.put(BUCKET, "k", b"x", Attributes(), guard=UNGUARDED)],
    "put_annotation": [lambda s: s.put_annotation(REF, "a", b"x", object_etag="e1")],
    "put_part": [lambda s: s.put_part(BUCKET, "k", "u", 1, b"x")],
    "request_restore": [lambda s: s.request_restore(REF, days=3, tier="Bulk")],
}
EXAMPLES = 60


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with pair_of_clients() as clients:
        yield clients


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=examples(EXAMPLES))
@given(data=st.data())
def test_both_clients_make_the_same_of_the_same_answer(pair: Pair, method: str, data: st.DataObject) -> None:
    call = data.draw(st.sampled_from(CALLS[method]))
    reply = data.draw(replies(method))
    ours, theirs = (comparable(each.result) for each in pair.play(call, reply))
    if ours != theirs:
        names = [each.name for each in EXPECTED_IN_ANSWERS if each.covers(method, reply, ours, theirs)]
        assert names, f"{ours} is not {theirs}"


@pytest.mark.parametrize("sent", ["other", "null"])
@pytest.mark.parametrize(
    ("method", "header"),
    [
        ("get_annotation", "x-amz-object-version-id"),
        ("list_annotations", "x-amz-object-version-id"),
        ("put_annotation", "x-amz-object-version-id"),
        ("get_tags", "x-amz-version-id"),
    ],
)
def test_what_belongs_to_another_version_is_refused(pair: Pair, method: str, header: str, sent: str) -> None:
    [call], reply = CALLS[method], REPLIES[method]
    for course in pair.play(call, replace(reply, headers={header: sent})):
        assert course.result == ("Unavailable", "MalformedAnswer")
    ours, theirs = pair.play(call, replace(reply, headers={header: "v1"}))
    assert ours.result == theirs.result == pair.play(call, reply)[0].result != ("Unavailable", "MalformedAnswer")


@pytest.mark.parametrize("difference", EXPECTED_IN_ANSWERS, ids=lambda each: each.name)
def test_each_difference_that_has_a_name_is_one(pair: Pair, difference: Any) -> None:
    """A line that is no longer true fails, so that the table stays short."""
    for method, reply in difference.examples:
        ours, theirs = (comparable(each.result) for each in pair.play(CALLS[method][0], reply))
        assert ours != theirs, difference.name
        assert difference.covers(method, reply, ours, theirs)


def comparable(result: Any) -> Any:
    """A result without what cannot differ in meaning: the order of checksums, the words of errors."""
    if isinstance(result, Written):
        return result._replace(checksums=tuple(sorted(result.checksums)))
    if isinstance(result, PartDone):
        return replace(result, checksums=tuple(sorted(result.checksums)))
    if isinstance(result, ObjectInfo):
        return replace(result, checksums=tuple(sorted(result.checksums)))
    if isinstance(result, Body):
        return result._replace(info=comparable(result.info))
    if isinstance(result, list):
        return [(type(each).__name__, each.code) if isinstance(each, StoreError) else each for each in result]
    return result
