"""A damaged index: which answers its archive leaves open, and which not."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import pytest

from jobs.archives.index import DamagedIndex
from jobs.archives.model import ArchiveRecord
from jobs.core.model import Location, ObjectVersion
from jobs.core.run import Side
from jobs.restore import left_out
from jobs.restore.as_of import LEFT_OPEN, current_at, pick_asked
from jobs.restore.as_of_journal import Event
from jobs.restore.left_out import LeftOut, SureChoice, look_at_left_out
from tests.archives.samples import TAR, member, packed

ARCHIVE = Location("cold", "packed/broken.tar")
WRITTEN = 1_000_000.0
BOUNDED = LeftOut(ARCHIVE, "rubbish", ("k", "m"), WRITTEN)
LATER = WRITTEN + 301.0
"""After the archive by more than clocks differ."""


def archived(last_modified: float, version_id: str = "v1", key: str = "k") -> ObjectVersion:
    return ObjectVersion(0, key, version_id, True, False, 1, "e", last_modified, archive="s3://cold/packed/whole.tar")


def asked(
    rows: list[ObjectVersion], found: list[ObjectVersion], left: LeftOut = BOUNDED
) -> list[tuple[str | None, str | None]]:
    choice = SureChoice(pick_asked, [left], is_asked=True, at=math.inf)
    return [(each.version_id, each.archive) for each in choice(rows, found)]


def as_of(rows: list[ObjectVersion], found: list[ObjectVersion], at: float) -> list[str | None]:
    def choose(own: object, copies: object) -> list[ObjectVersion]:
        version = current_at(own, copies, at)  # type: ignore[arg-type]
        return [] if version is None else [version]

    choice = SureChoice(choose, [BOUNDED], is_asked=False, at=at)
    return [each.archive for each in choice(rows, found)]


def event(key: str) -> ObjectVersion:
    """The event of the copy `v1`: with it, dates of copies do not say what is newer."""
    return ObjectVersion(0, key, "s1", True, False, 1, "e", LATER, beside=Event("", "v1"))


@pytest.mark.parametrize(
    ("key", "last_modified", "is_open"),
    [
        ("k", WRITTEN, True),
        ("m", WRITTEN, True),
        ("l", LATER - 1, True),
        ("l", LATER, False),
        ("j", WRITTEN, False),
        ("n", WRITTEN, False),
    ],
)
def test_the_newest_version_is_open_where_the_archive_may_hold_a_newer_one(
    key: str, last_modified: float, is_open: bool
) -> None:
    name = ObjectVersion(0, key)
    whole = [(None, LEFT_OPEN)] if is_open else [("v1", "s3://cold/packed/whole.tar")]
    assert asked([name], [archived(last_modified, key=key)]) == whole


def test_an_archive_of_which_nothing_is_known_leaves_every_key_open() -> None:
    unknown = LeftOut(ARCHIVE, "rubbish")
    assert asked([ObjectVersion(0, "z")], [archived(LATER * 2, key="z")], unknown) == [(None, LEFT_OPEN)]
    assert unknown.may_hold_prefix("anything/")


def test_a_version_that_was_named_is_restored_whatever_else_there_is() -> None:
    row = ObjectVersion(0, "k", "v1", etag="e")
    assert asked([row], [archived(1.0), archived(2.0, "v2")]) == [("v1", "s3://cold/packed/whole.tar")]
    null = row._replace(version_id="null")
    assert asked([null], [archived(1.0, "null")]) == [(None, LEFT_OPEN)]


def test_a_bucket_as_it_was_is_open_where_an_expired_version_may_be_in_the_archive() -> None:
    own = ObjectVersion(0, "k", "v1", True, False, 1, "e", 500.0)
    assert as_of([own], [], LATER) == [LEFT_OPEN]
    assert as_of([own._replace(last_modified=LATER)], [], LATER) == [None]
    assert as_of([own._replace(last_modified=LATER)], [event("k")], LATER) == [LEFT_OPEN]
    assert as_of([own._replace(key="z")], [], LATER) == [None]


def test_a_key_that_came_after_the_time_asked_for_is_open() -> None:
    assert as_of([ObjectVersion(0, "k", "v1", True, False, 1, "e", LATER)], [], LATER - 1) == [LEFT_OPEN]


def test_a_deletion_after_the_archive_is_sure_unless_expire_made_it() -> None:
    marker = ObjectVersion(0, "k", "d1", True, True, None, None, LATER)
    assert as_of([marker], [], LATER) == []
    assert as_of([marker._replace(last_modified=LATER - 1)], [], LATER) == [LEFT_OPEN]
    assert as_of([marker], [marker._replace(archive="s3://copies/k")], LATER) == [LEFT_OPEN]


@pytest.mark.parametrize(
    ("prefix", "may_hold"),
    [("", True), ("k", True), ("k/", True), ("l", True), ("m", True), ("j", False), ("n", False)],
)
def test_a_prefix_is_held_where_a_key_of_it_lies_between_first_and_last(prefix: str, may_hold: bool) -> None:
    assert BOUNDED.may_hold_prefix(prefix) is may_hold


def look(record: ArchiveRecord | None, archive: Location, monkeypatch: pytest.MonkeyPatch) -> LeftOut:
    whole = packed([(member("a"), b""), (member("b"), b"")], TAR)
    monkeypatch.setattr(left_out, "open_side", lambda *_, **__: whole.store)
    (seen,) = asyncio.run(look_at_left_out(Side(Location("cold")), [DamagedIndex(archive, "rubbish", record)]))
    return seen


def test_an_earlier_record_counts_while_the_archive_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    record = packed([(member("a"), b""), (member("b"), b"")], TAR).record
    seen = look(record, record.location, monkeypatch)
    assert (seen.keys, seen.written_at) == (("a", "b"), 1_750_000_000.0)
    other = look(replace(record, etag="another"), record.location, monkeypatch)
    assert (other.keys, other.written_at) == (None, 1_750_000_000.0)
    assert look(None, record.location, monkeypatch).keys is None
    gone = look(record, record.location.join("gone"), monkeypatch)
    assert (gone.keys, gone.written_at) == (None, None)


def test_one_archive_of_several_that_may_hold_a_newer_version_is_enough() -> None:
    younger = replace(BOUNDED, written_at=LATER + 1)
    version = archived(LATER)
    for left in ([BOUNDED, younger], [younger, BOUNDED]):
        choice = SureChoice(pick_asked, left, is_asked=True, at=math.inf)
        assert [each.archive for each in choice([ObjectVersion(0, "k")], [version])] == [LEFT_OPEN]


def test_a_key_outside_the_archive_is_not_asked_for_dates() -> None:
    own = ObjectVersion(0, "z", "v1", True, False, 1, "e", 500.0)
    assert as_of([own], [event("z")], LATER) == [None]
    assert asked([ObjectVersion(0, "z")], [archived(1.0, key="z")]) != [(None, LEFT_OPEN)]


def test_a_deletion_counts_until_the_time_asked_for_only() -> None:
    marker = ObjectVersion(0, "k", "d1", True, True, None, None, LATER + 10)
    assert as_of([marker], [], LATER) == [LEFT_OPEN]
    assert as_of([marker], [], LATER + 10) == []


def test_a_null_marker_is_hidden_by_expire_only_if_a_marker_says_so() -> None:
    """A bucket whose versioning is suspended: the object and the marker have the id `null`."""
    marker = ObjectVersion(0, "k", "null", True, True, None, None, LATER)
    assert as_of([marker], [archived(500.0, "null")], LATER) == []
    version = marker._replace(is_delete_marker=False, size_bytes=1, etag="e")
    choice = SureChoice(lambda *_: [], [BOUNDED], is_asked=False, at=LATER)
    assert [each.archive for each in choice([version], [])] == [LEFT_OPEN]


def test_what_the_journal_alone_has_keeps_its_own_reason() -> None:
    row = archived(1.0)._replace(archive=None, beside=Event("x"))
    choice = SureChoice(lambda _, copies: list(copies), [BOUNDED], is_asked=False, at=LATER)
    assert choice([], [row]) == [row]


def test_an_open_key_names_no_version() -> None:
    marker = ObjectVersion(0, "k", "d1", True, True, None, "e", 1.0)
    choice = SureChoice(lambda *_: [], [BOUNDED], is_asked=False, at=LATER)
    (row,) = choice([marker], [])
    assert row == ObjectVersion(0, "k", None, True, False, None, None, 1.0, archive=LEFT_OPEN)
