"""A bucket that events fill, as its source was: whatever the order in which events came, and whatever was lost."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from jobs.core.model import ObjectVersion
from jobs.ledger.journal import Ending, Entry
from jobs.restore.as_of import NEVER_COPIED, current_at
from jobs.restore.as_of_journal import is_of_event, row_from_entry

STEPS = st.lists(st.sampled_from(["put", "put", "delete", "undelete", "purge"]), min_size=1, max_size=12)
SPACING_SECONDS = 10.0


@dataclass
class Version:
    """One of the source's versions. `is_marker`, and from when to when it was in the history."""

    name: str
    made: float
    is_marker: bool
    removed: float = float("inf")

    @property
    def etag(self) -> str:
        return f"e{self.name}"


@dataclass
class Pair:
    """One key at a source and in the bucket that its events fill. `seed` decides when each event is handled."""

    mirrors: bool
    seed: int
    source: list[Version] = field(default_factory=list)
    events: list[tuple[float, str, Version]] = field(default_factory=list)
    copies: list[ObjectVersion] = field(default_factory=list)
    copy_of: dict[str, str] = field(default_factory=dict)
    journal: list[ObjectVersion] = field(default_factory=list)

    def live(self, steps: list[str]) -> float:
        """Let the steps happen; the time after the last of them."""
        now = 1000.0
        for number, step in enumerate(steps):
            now += SPACING_SECONDS
            alive = self._alive(now)
            if step in ("put", "delete"):
                version = Version(f"v{number}", now, step == "delete")
                self.source.append(version)
                name = "ObjectRemoved:DeleteMarkerCreated" if version.is_marker else "ObjectCreated:Put"
                self.events.append((now, name, version))
            elif step == "undelete" and alive and alive[-1].is_marker:
                self._remove(alive[-1], now)
            elif step == "purge" and len(alive) > 1:
                self._remove(alive[0], now)
        return now

    def back_up(self) -> None:
        """Each event is handled once, at some time after it, as the backup function does."""
        dice = random.Random(self.seed)
        handled = [
            (time + dice.choice([0.5, 3.0, 25.0, 90.0]), time, name, version) for time, name, version in self.events
        ]
        for now, time, name, version in sorted(handled, key=lambda each: each[:2]):
            ending = Ending.RETAINED
            if name.startswith("ObjectCreated"):
                ending = Ending.COPIED
                if version.name not in self.copy_of:
                    if version.removed <= now:
                        ending = Ending.SUPERSEDED
                    else:
                        self._copy(version, now)
            self._put_newest_on_top(now)
            entry = Entry(now, name, "source", "k", version.name, "1", ending, event_at=time)
            if name.startswith("ObjectCreated"):
                entry = replace(entry, size_bytes=1, etag=version.etag)
            copy = self.copy_of.get(version.name)
            row = row_from_entry(replace(entry, destination_key="k", destination_version_id=copy))
            assert row is not None
            self.journal.append(row)

    def expected(self, at: float) -> str | None:
        alive = self._alive(at)
        return None if not alive or alive[-1].is_marker else alive[-1].name

    def _alive(self, at: float) -> list[Version]:
        return [each for each in self.source if each.made <= at < each.removed]

    def _remove(self, version: Version, now: float) -> None:
        version.removed = now
        self.events.append((now, "ObjectRemoved:Delete", version))

    def _copy(self, version: Version, now: float) -> None:
        self._append(now, version.etag)
        self.copy_of.setdefault(version.name, str(self.copies[-1].version_id))

    def _append(self, now: float, etag: str | None) -> None:
        name = f"c{len(self.copies)}"
        size = None if etag is None else 1
        self.copies.append(ObjectVersion(0, "k", name, True, etag is None, size, etag, float(int(now))))

    def _put_newest_on_top(self, now: float) -> None:
        alive = self._alive(now)
        newest = next((each for each in reversed(alive) if self.mirrors or not each.is_marker), None)
        top = self.copies[-1] if self.copies else None
        if newest is None:
            return
        if newest.is_marker:
            if top is not None and not top.is_delete_marker:
                self._append(now, None)
        elif top is None or top.etag != newest.etag:
            self._copy(newest, now)


def content(version: ObjectVersion | None) -> str | None:
    return None if version is None else str(version.etag).removeprefix("e")


@given(STEPS, st.booleans(), st.integers(0, 1 << 16), st.randoms())
def test_what_was_on_top_at_the_source_is_found(
    steps: list[str], mirrors: bool, seed: int, dice: random.Random
) -> None:
    pair = Pair(mirrors, seed)
    end = pair.live(steps)
    pair.back_up()
    told = [*pair.journal, *dice.sample(pair.journal, len(pair.journal) // 2)]  # some of them twice
    dice.shuffle(told)
    at = 1000.0
    while at <= end + 100.0:
        found = current_at(pair.copies, told, at)
        assert content(found) == pair.expected(at), at
        is_copied = found is not None and found.archive != NEVER_COPIED
        assert is_copied == (pair.expected(at) in pair.copy_of)
        at += SPACING_SECONDS / 2


def version(name: str, time: float, etag: str | None, size: int | None = 5) -> ObjectVersion:
    return ObjectVersion(0, "k", name, True, etag is None, None if etag is None else size, etag, time)


def told(event: str, at: float, copy: str | None = None, etag: str | None = "a", name: str = "v1") -> ObjectVersion:
    entry = Entry(at + 1, event, "s", "k", name, None, Ending.COPIED, size_bytes=5, etag=etag, event_at=at)
    row = row_from_entry(replace(entry, destination_key="k", destination_version_id=copy))
    assert row is not None
    return row


def test_a_copy_that_a_run_made_is_dated_by_the_event_that_was_handed_over() -> None:
    events = [told("ObjectCreated:Put", 98.0, etag="b-2")]
    found = current_at([version("c1", 9000.0, "b-2")], events, 99.0)
    assert found is not None
    assert found.version_id == "c1"
    assert is_of_event(found, events)
    assert not is_of_event(version("c2", 9000.0, "other"), events)


def test_what_says_nothing_of_a_version_is_no_row() -> None:
    for event in ("ObjectRestore:Completed", "ObjectTagging:Put", "unreadable", "s3:TestEvent"):
        assert row_from_entry(Entry(1.0, event, "s", "k", "v", None, Ending.SKIPPED, destination_key="k")) is None
    assert row_from_entry(Entry(1.0, "ObjectCreated:Put", "s", "k", "v", None, Ending.SKIPPED)) is None


@given(
    st.lists(
        st.tuples(st.sampled_from(["put", "put null", "hide", "hide null", "remove null", "remove top"]), st.booleans())
    ),
    st.randoms(),
)
def test_versions_without_an_id_replace_one_another(steps: list[tuple[str, bool]], dice: random.Random) -> None:
    """A source whose versioning is on and suspended in turns, with contents that come again.

    Only sequencers order steps of one time.
    """
    now, bucket, journal, copies = 1000.0, list[tuple[str | None, str | None]](), list[ObjectVersion](), []
    shown: dict[float, str | None] = {now: None}
    for number, (step, is_later) in enumerate(steps):
        now += SPACING_SECONDS * is_later
        name: str | None = None if "null" in step else f"v{number}"
        etag = None if "hide" in step else "ab"[number % 2]
        if step == "remove top":
            if not bucket or bucket[-1][0] is None:
                continue
            name, event = bucket.pop()[0], "ObjectRemoved:Delete"
        else:
            event = "ObjectRemoved:DeleteMarkerCreated" if etag is None else "ObjectCreated:Put"
            if name is None:
                bucket = [each for each in bucket if each[0] is not None]
            if step == "remove null":
                event = "ObjectRemoved:Delete"
            else:
                bucket.append((name, etag))
        copy = None
        if event == "ObjectCreated:Put":
            copy = f"c{number}"
            copies.append(version(copy, now + 1, etag))
        entry = Entry(now + 1, event, "s", "k", name, f"{number + 1:04X}00", Ending.COPIED, event_at=now)
        if copy:
            entry = replace(entry, size_bytes=5, etag=etag)
        row = row_from_entry(replace(entry, destination_key="k", destination_version_id=copy))
        assert row is not None
        journal.append(row)
        shown[now] = bucket[-1][1] if bucket else None
    dice.shuffle(journal)
    for at, etag in shown.items():
        found = current_at(copies, journal, at)
        assert (found.etag if found else None) == etag, at
