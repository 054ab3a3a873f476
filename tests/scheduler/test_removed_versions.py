"""Which removal explains that an event's object is gone."""

from __future__ import annotations

import pytest

from jobs.backup.events import EventKind, ObjectEvent
from scheduler.removed_versions import is_removal_of


def event(kind: EventKind, version_id: str | None, sequencer: str | None, key: str = "k") -> ObjectEvent:
    name = "ObjectRemoved:Delete" if kind is EventKind.DELETED else "ObjectCreated:Put"
    return ObjectEvent(kind, name, "b", key, version_id, sequencer=sequencer)


@pytest.mark.parametrize(
    ("version_id", "sequencer", "removed_id", "removed_at", "is_removal", "why"),
    [
        ("v1", "05", "v1", "07", True, "a version is removed once"),
        ("v1", "05", "v1", "03", True, "a version is removed once, whatever the sequencers say"),
        ("v1", "05", "v2", "07", False, "another version"),
        ("v1", "05", None, "07", False, "the object without a version id is another one"),
        (None, "05", "v1", "07", False, "an object without a version id is no version"),
        (None, "05", None, "07", True, "removed after it was written"),
        (None, "05", None, "03", False, "removed before it was written: the one before it"),
        (None, "05", None, "05", False, "not after it"),
        (None, "05", None, "0500", False, "the same place: padded with zeros"),
        (None, "05", None, "0501", True, "padded with zeros, it is later"),
        (None, "0a", None, "0B", True, "hexadecimal, in any case"),
    ],
)
def test_an_object_without_a_version_id_may_come_and_go(
    version_id: str | None, sequencer: str, removed_id: str | None, removed_at: str, is_removal: bool, why: str
) -> None:
    made = event(EventKind.CREATED, version_id, sequencer)
    assert is_removal_of(event(EventKind.DELETED, removed_id, removed_at), made) is is_removal, why
    assert not is_removal_of(event(EventKind.DELETED, removed_id, removed_at, "other"), made)
    assert not is_removal_of(event(EventKind.CREATED, removed_id, removed_at), made)
