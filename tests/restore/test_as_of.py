"""A bucket as it was: whatever happened to a key, what was on top at a time is found among what is left of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.core.model import ObjectVersion
from jobs.restore.as_of import MARKER, NO_ARCHIVE, ONE_SECOND, OVERWRITTEN, current_at, merge, pick, pick_asked

STEPS = st.lists(st.sampled_from(["put", "put", "delete", "archive", "expire", "hide", "wait", "wait"]), max_size=30)


def version(name: str, time: float, *, latest: bool = True, marker: bool = False, archive: str | None = None):
    etag = None if marker else f"e{name}"
    return ObjectVersion(0, "k", name, latest, marker, None if marker else 1, etag, time, archive=archive)


@dataclass
class Bucket:
    """One key in a versioned bucket, with archives of it; `truth` is what was on top, from when on."""

    now: int = 0
    versions: list[ObjectVersion] = field(default_factory=list)
    archived: list[ObjectVersion] = field(default_factory=list)
    truth: list[tuple[int, ObjectVersion]] = field(default_factory=list)

    def take(self, step: str, number: int) -> None:
        getattr(self, step)(number)

    def wait(self, number: int) -> None:
        self.now += 1 + number % 3

    def put(self, number: int) -> None:
        self._write(version(f"v{number}", self.now))

    def delete(self, number: int) -> None:
        self._write(version(f"m{number}", self.now, marker=True))

    def archive(self, number: int) -> None:
        """Everything that is there, each with what is known of it then, after the second in which it was written."""
        self.now += 1
        known = {each.version_id for each in self.archived}
        for place, each in enumerate(self.versions):
            if not each.is_delete_marker and each.version_id not in known:
                latest = place == len(self.versions) - 1
                self.archived.append(each._replace(is_latest=latest, archive="s3://cold/a"))

    def expire(self, number: int) -> None:
        """One of the archived originals is deleted, whichever it is."""
        packed = {each.version_id for each in self.archived}
        doomed = [each for each in self.versions if each.version_id in packed]
        if doomed:
            self.versions.remove(doomed[number % len(doomed)])

    def hide(self, number: int) -> None:
        """An expire run puts a delete marker on top of what is archived: for the key's users that changes nothing."""
        packed = {each.version_id for each in self.archived}
        if self.versions and self.versions[-1].version_id in packed:
            self.versions.append(version(f"x{number}", self.now, marker=True))
            self.archived.append(version(f"x{number}", self.now, marker=True, archive="s3://cold/a"))

    def _write(self, made: ObjectVersion) -> None:
        self.versions.append(made)
        self.truth.append((self.now, made))

    def was(self, at: float) -> set[str | None]:
        """What was on top: one answer, but where the last of several of one second is gone, and was packed when others
        were on top of it. Nothing tells then in which order they were written.
        """
        written = [(time, made) for time, made in self.truth if time <= at]
        if not written:
            return {None}
        second, last = written[-1]
        packed = any(each.version_id == last.version_id and not each.is_latest for each in self.archived)
        is_open = packed and last not in self.versions
        able = [made for time, made in written if is_open and time == second] or [last]
        return {None if made.is_delete_marker else made.version_id for made in able}


@given(steps=STEPS, at=st.integers(-1, 100), numbers=st.randoms(use_true_random=False))
def test_what_was_on_top_is_found_whatever_was_archived_and_expired(steps, at, numbers):
    bucket = Bucket()
    for number, step in enumerate(steps):
        bucket.take(step, number)
    archived = list(bucket.archived)
    found = current_at(bucket.versions, archived, at)
    assert (found and found.version_id) in bucket.was(at)
    if found is not None:
        assert (found.archive is None) == any(each.version_id == found.version_id for each in bucket.versions)
    history = merge(bucket.versions, archived)
    assert {each.version_id for each in history} == {each.version_id for each in [*bucket.versions, *archived]}
    assert len({each.version_id for each in history}) == len(history)
    assert [each for each in history if each.archive is None] == bucket.versions, "the bucket's own order stays"


def test_what_is_asked_for_is_the_version_named_else_the_newest():
    """One compaction packed the latest version. The next one, with all versions, packed what came after it."""
    old, new = version("1", 1, archive="s3://cold/a"), version("2", 2, latest=False, archive="s3://cold/b")
    key = ObjectVersion(0, "k")
    assert pick(key, [new, old]) == new
    assert pick(key._replace(version_id="1"), [new, old]) == old
    assert pick(key._replace(etag="e1"), [new, old]) == old
    assert pick(key._replace(version_id="1", etag="e2"), [new, old]).archive == NO_ARCHIVE
    missing, marker = key._replace(version_id="9"), key._replace(version_id="2", is_delete_marker=True)
    found = pick_asked([key._replace(version_id="1"), missing, marker], [new, old])
    assert found == [missing._replace(archive=NO_ARCHIVE), marker._replace(archive=MARKER), old]
    asked = [key._replace(version_id="2"), key._replace(version_id="1")]
    assert pick_asked(asked, [new, old]) == pick_asked(asked[::-1], [old, new]) == [old, new]


def test_the_null_version_is_found_whether_or_not_the_archive_has_its_id():
    """A listing of objects names no versions, one of versions calls them `null`, and so does an inventory."""
    for packed in (None, "null"):
        there = version("null", 1, archive="s3://cold/a")._replace(version_id=packed)
        for asked in (None, "null"):
            assert pick(ObjectVersion(0, "k", asked), [there]) == there
        assert pick(ObjectVersion(0, "k", "1"), [there]).archive == NO_ARCHIVE


def test_of_versions_of_one_second_in_different_archives_nobody_knows_the_newest():
    key, older = ObjectVersion(0, "k"), version("o", 1, latest=False, archive="s3://cold/a")
    first, second = (version(name, 5, latest=False, archive=f"s3://cold/{name}") for name in "ab")
    for archived in ([older, first, second], [second, first, older]):
        for found in (pick(key, archived), current_at([], archived, 5)):
            assert found is not None
            assert (found.archive, found.version_id, found.etag) == (ONE_SECOND, None, None)
        assert pick(key._replace(version_id="a"), archived) == first
        assert current_at([], archived, 4) == older
        newer = version("n", 6, archive="s3://cold/b")
        assert pick(key, [newer, *archived]) == current_at([], [newer, *archived], 6) == newer
    latest, beside = second._replace(is_latest=True), second._replace(archive=first.archive)
    assert pick(key, [latest, first]) == current_at([], [latest, first], 5) == latest
    assert pick(key, [first, beside]) == current_at([], [first, beside], 5) == beside  # an archive has their order
    alike = second._replace(etag=first.etag)
    assert pick(key, [first, alike]) == alike


def test_an_archive_has_whole_seconds_where_a_listing_has_fractions():
    """Ceph lists fractions. The HEAD that dates a member has none anywhere."""
    below, on_top = version("1", 10.25), version("2", 10, archive="s3://cold/a")  # of 10.75
    assert current_at([below], [on_top], 11) == on_top
    assert current_at([below], [on_top._replace(is_latest=False)], 11) == below
    assert current_at([below, version("3", 11.5)], [on_top], 11) == on_top


def test_objects_without_versions_are_told_apart_by_etag_and_time():
    first, second = (version("null", time, archive="a")._replace(etag=etag) for time, etag in ((1, "x"), (5, "y")))
    assert current_at([], [second, first], 3) == first._replace(archive=OVERWRITTEN)
    assert current_at([], [second, first], 5) == second
    there = second._replace(archive=None)
    assert current_at([there], [second, first], 6) == there
    again = first._replace(last_modified=9.25, archive=None)  # the same content, written after the first had gone
    assert current_at([again], [second, first], 3) == first._replace(archive=OVERWRITTEN)
    assert current_at([again], [second, first], 5) == second._replace(archive=OVERWRITTEN)
    assert current_at([again], [again._replace(last_modified=9.0, archive="b"), second, first], 9.5) == again


@dataclass
class Suspended:
    """One key in a bucket whose versioning is suspended and enabled again; a null version replaces the last one."""

    now: int = 0
    is_on: bool = True
    versions: list[ObjectVersion] = field(default_factory=list)
    truth: list[tuple[int, ObjectVersion]] = field(default_factory=list)

    def take(self, step: str, number: int) -> None:
        self.now += 1
        if step == "switch":
            self.is_on = not self.is_on
            return
        made = version(f"v{number}" if self.is_on else "null", self.now, marker=step == "delete")
        made = made._replace(etag=made.etag and f"e{number}")
        if not self.is_on:
            self.versions = [each for each in self.versions if each.version_id != "null"]
        self.versions.append(made)
        self.truth.append((self.now, made))

    def listed(self) -> list[ObjectVersion]:
        return [each._replace(is_latest=each is self.versions[-1]) for each in self.versions]


@given(steps=st.lists(st.sampled_from(["put", "put", "delete", "switch"]), max_size=20), at=st.integers(0, 21))
def test_what_a_null_version_may_have_replaced_is_not_guessed(steps, at):
    bucket = Suspended()
    for number, step in enumerate(steps):
        bucket.take(step, number)
    written = [made for time, made in bucket.truth if time <= at]
    was = None if not written or written[-1].is_delete_marker else written[-1].etag
    found = current_at(bucket.listed(), [], at)
    if found is not None and found.archive != OVERWRITTEN:
        assert found.etag == was
    if "switch" not in steps:
        assert found is None or found.archive is None


def null(time: float, archive: str | None = None) -> ObjectVersion:
    return version("null", time, archive=archive)._replace(etag=f"e{time}")


@pytest.mark.parametrize("name", ["null", None])
def test_a_null_version_that_replaced_an_unknown_one_leaves_the_answer_open(name: str | None) -> None:
    """B was current at 20, between A that is packed and C that is there: nothing is left of B."""
    packed, later = (each._replace(version_id=name) for each in (null(10, "s3://cold/a"), null(30)))
    assert current_at([later], [packed], 20) == packed._replace(archive=OVERWRITTEN)
    assert current_at([later], [packed], 9) is None
    assert current_at([], [packed], 20) == packed
    assert current_at([later], [packed], 30) == later
