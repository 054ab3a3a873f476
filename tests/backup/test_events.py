"""S3's events as values: every shape, and what is refused."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.backup.events import EventKind, ObjectEvent, parse_message
from jobs.errors import UsageError
from tests.doubles.examples import examples

KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50)


def parse_document(document: Any) -> list[ObjectEvent]:
    return parse_message(json.dumps(document))


def record(key: str, name: str = "ObjectCreated:Put", version: str = "2.1", **thing: object) -> dict[str, object]:
    return {
        "eventVersion": version,
        "eventName": name,
        "s3": {"bucket": {"name": "b"}, "object": {"key": key, **thing}},
    }


def bridge(key: str, kind: str = "Object Created", **detail: object) -> dict[str, object]:
    return {
        "source": "aws.s3",
        "detail-type": kind,
        "time": "2026-11-25T00:00:01Z",
        "detail": {"version": "0", "bucket": {"name": "b"}, "object": {"key": key}, **detail},
    }


@given(KEYS)
def test_keys_of_notifications_are_decoded_once_and_those_of_eventbridge_never(key: str) -> None:
    for encoded in (quote_plus(key), quote_plus(key, safe="/"), quote(key, safe="")):
        (event,) = parse_document({"Records": [record(encoded)]})
        assert event.key == key
    (event,) = parse_document(bridge(key))
    assert event.key == key


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ObjectCreated:Put", EventKind.CREATED),
        ("s3:ObjectCreated:CompleteMultipartUpload", EventKind.CREATED),
        ("ObjectRemoved:Delete", EventKind.REMOVED),
        ("ObjectRemoved:DeleteMarkerCreated", EventKind.REMOVED),
        ("LifecycleExpiration:Delete", EventKind.REMOVED),
        ("LifecycleExpiration:DeleteMarkerCreated", EventKind.REMOVED),
        ("ObjectRestore:Completed", EventKind.RESTORE_COMPLETED),
        ("ObjectRestore:Post", EventKind.OTHER),
        ("ObjectTagging:Put", EventKind.OTHER),
        ("SomethingNew:Entirely", EventKind.OTHER),
    ],
)
def test_names_of_notifications(name: str, kind: EventKind) -> None:
    (event,) = parse_document({"Records": [record("k", name)]})
    assert (event.kind, event.name) == (kind, name.removeprefix("s3:"))


@pytest.mark.parametrize(
    ("kind", "detail", "expected", "name"),
    [
        ("Object Created", {}, EventKind.CREATED, "Object Created"),
        ("Object Deleted", {"deletion-type": "Permanently Deleted"}, EventKind.REMOVED, "Object Deleted"),
        (
            "Object Deleted",
            {"deletion-type": "Delete Marker Created", "reason": "Lifecycle Expiration"},
            EventKind.REMOVED,
            "Object Deleted: Delete Marker",
        ),
        ("Object Restore Completed", {}, EventKind.RESTORE_COMPLETED, "Object Restore Completed"),
        ("Object Tags Added", {}, EventKind.OTHER, "Object Tags Added"),
    ],
)
def test_kinds_of_eventbridge(kind: str, detail: dict[str, object], expected: EventKind, name: str) -> None:
    (event,) = parse_document(bridge("k", kind, **detail))
    assert (event.kind, event.name) == (expected, name)


def test_everything_that_is_told_arrives_and_everything_else_is_none() -> None:
    whole = record("k", versionId="v", size=5, eTag='"e"', sequencer="0055AED6DCD90281E5")
    whole["eventTime"] = "1970-01-01T00:00:01.500Z"
    (event,) = parse_document({"Records": [whole]})
    assert event == ObjectEvent(
        EventKind.CREATED, "ObjectCreated:Put", "b", "k", "v", 5, "e", "0055AED6DCD90281E5", 1.5
    )
    (event,) = parse_document({"Records": [record("k", versionId="null", eTag="", size=None)]})
    assert event == ObjectEvent(EventKind.CREATED, "ObjectCreated:Put", "b", "k")


def test_a_test_message_and_wrapped_ones() -> None:
    (event,) = parse_message(json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"}))
    assert (event.kind, event.bucket) == (EventKind.TEST, "b")
    inner = {"Records": [record("a+b"), record("c")]}
    wrapped = {"Type": "Notification", "Message": json.dumps(inner)}
    assert [each.key for each in parse_message(json.dumps(wrapped))] == ["a b", "c"]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "nul",
        "[" * 100_000,
        "3",
        '"text"',
        "{}",
        '{"Records": {}}',
        '{"Records": []}',
        '{"Records": [3]}',
        json.dumps({"Records": [record("")]}),
        json.dumps({"Records": [record("k", size="many")]}),
        json.dumps({"Records": [record("k", versionId=3)]}),
        json.dumps({"Records": [record("k", version="3.0")]}),
        json.dumps({"Records": [record("k", version="20.1")]}),
        json.dumps({"Type": "Notification", "Message": "hello"}),
        json.dumps(bridge("k") | {"source": "aws.ec2"}),
        json.dumps(bridge("k", version="1")),
        json.dumps(bridge("k") | {"time": "yesterday"}),
    ],
)
def test_what_is_no_event_is_refused(body: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_message(body)
    assert len(str(caught.value)) < 500


NAMES = ["Records", "detail", "detail-type", "s3", "object", "key", "Type", "Message", "eventVersion", "source"]


@settings(max_examples=examples(25))
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(NAMES), inner),
    )
)
def test_whatever_json_it_is_it_is_an_event_or_refused(document: object) -> None:
    try:
        events = parse_document(document)
    except UsageError:
        return
    assert events
