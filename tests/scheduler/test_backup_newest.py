"""The newest version is on top of its copies, or the journal says who finishes it."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.backup.job import Backup, BackupOptions
from jobs.core.model import Attributes, Listed, Location, ObjectRef, Route
from jobs.core.outcome import Outcome, Status
from jobs.errors import PreconditionFailed
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.store import UNGUARDED
from scheduler import backlog
from tests.doubles.manifest_rows import rows_of_csv
from tests.doubles.memory_store import MemoryStore
from tests.scheduler.conftest import Place
from tests.scheduler.event_samples import batch, notification
from tests.scheduler.test_backup_batches import Faulty, Scene

LIMIT_BYTES = 10
LARGE = b"more than ten bytes"


class Ordered(Faulty):
    """Each look at the clock is a second later than the one before."""

    def __init__(self) -> None:
        super().__init__()
        seconds = itertools.count(1e9)
        self._buckets.clock = lambda: next(seconds)


class Key(Scene):
    """One key whose events are handled one at a time."""

    def __init__(self, folder: Path, *, versioned: bool = True, **pair: Any) -> None:
        super().__init__(folder)
        self.store = Ordered()
        self.is_mirrored = pair.get("deletes") == "mirror"
        if not versioned:
            self.store._buckets.named["source"].is_versioned = False
        document = yaml.safe_load((folder / "policy.yaml").read_text())
        document["pairs"][0] |= {"thresholds": {"lambda_max_size": f"{LIMIT_BYTES} B"}, **pair}
        (folder / "policy.yaml").write_text(yaml.safe_dump(document))

    def handle(self, event: dict[str, Any]) -> str:
        """Handle one event. Returns its ending."""
        count = len(self.lines("journal/"))
        self.invoke(batch(event))
        lines = self.lines("journal/")
        assert len(lines) == count + 1
        return str(max(lines, key=lambda line: (line["recorded_at"], int(line["sequencer"], 16)))["status"])

    def history(self, bucket: str) -> list[Listed]:
        """The versions of the key, oldest first."""
        return self.run(MemoryStore.list_versions(self.store, bucket, "k")).entries[::-1]

    def bodies(self) -> list[bytes | None]:
        """The copies, oldest first. None is a delete marker."""
        stored = self.store._buckets.named["hotter"].versions.get("k", [])
        return [None if each.is_delete_marker else each.data for each in stored]

    def copy_by_run(self) -> None:
        """The source's newest version is copied as a run does it."""
        ref = ObjectRef("source", "k", self.history("source")[-1].version_id)
        body = self.run(MemoryStore.get(self.store, ref))
        attributes = Attributes(metadata=body.info.attributes.metadata)
        self.run(MemoryStore.put(self.store, "hotter", "k", body.data, attributes, guard=UNGUARDED))

    def delete(self) -> dict[str, Any]:
        """Delete the key. Returns the event."""
        deleted = self.run(MemoryStore.delete(self.store, "source", "k"))
        return self.told("k", "ObjectRemoved:DeleteMarkerCreated", versionId=deleted.version_id)

    def remove(self, place: int) -> dict[str, Any]:
        """Remove a version or marker for good. Returns the event."""
        version_id = self.history("source")[place].version_id
        self.run(MemoryStore.delete(self.store, "source", "k", version_id=version_id))
        return self.told("k", "ObjectRemoved:Delete", versionId=version_id)

    def run_backlog(self) -> list[Outcome]:
        """Publish a manifest of what waits, and copy its rows as a run does."""
        return self.run(self._run_backlog())

    async def _run_backlog(self) -> list[Outcome]:
        published = await backlog.publish(self.runtime, "pair", await backlog.waiting(self.runtime, "pair"), "due")
        assert published is not None
        rows = rows_of_csv(await self.runtime.read(str(published.manifest).removeprefix("s3://ledger/l/")))
        route = Route(Location("source"), Location("hotter"))
        options = BackupOptions(mirrors_deletes=self.is_mirrored)
        job = Backup(self.store, self.store, route, options, ByteBudget(1 << 20))
        return [outcome for row in rows for outcome in await job.process([row])]

    def backlog(self) -> list[tuple[str | None, int | None, str]]:
        return [(row["version_id"], row["size_bytes"], row["reason"]) for row in self.lines("backlog/")]

    def run(self, work: Any) -> Any:
        return self.runtime.run(work)


@pytest.mark.parametrize("deletes", ["mirror", "retain"])
@pytest.mark.parametrize("kind", ["versioned", "NO is removed", "unversioned"])
def test_content_that_comes_back_is_on_top_after_its_event(place: Place, kind: str, deletes: str) -> None:
    """OK, NO, OK within seconds, one event at a time: the first copy is not of the third write."""
    if kind == "unversioned":
        place.source += "-plain"
        place.client.create_bucket(Bucket=place.source)
    place.write_policy(deletes=deletes)
    with place.function("backup") as backup:
        for number, body in enumerate((b"OK", b"NO", b"OK")):
            event = place.put("k", body)
            if number == 1:
                refused = event["s3"]["object"].get("versionId")
            if number == 2 and kind == "NO is removed":
                place.client.delete_object(Bucket=place.source, Key="k", VersionId=refused)
            assert backup.invoke(batch(notification(event))).failed == []
            assert place.copy_of("k") == body
    assert [status for _, status in place.journal()] == ["copied"] * 3


def test_a_large_object_without_versions_is_copied_when_it_is_overwritten(place: Place) -> None:
    """SeaweedFS lists what it keeps in several pieces with an ETag of its own. "Others kept changing this key" was
    false, and no copy was made.
    """
    place.source += "-plain"
    place.client.create_bucket(Bucket=place.source)
    place.write_policy()
    with place.function("backup") as backup:
        for body in (b"small", b"large" * 2_000_000):
            event = place.put("k", body)
            assert backup.invoke(batch(notification(event))).failed == []
            assert place.copy_of("k") == body
    assert [status for _, status in place.journal()] == ["copied"] * 2


ARCHIVED_COPIES = {"bucket": "hotter", "region": "us-east-1", "storage_class": "DEEP_ARCHIVE"}


@pytest.mark.parametrize("has_copy", [True, False])
def test_a_delete_marker_that_is_removed_from_above_a_large_version_is_handed_over(
    tmp_path: Path, has_copy: bool
) -> None:
    """It ended as `same`, and the copy stayed deleted."""
    key = Key(tmp_path, deletes="mirror")
    key.put("k", LARGE)
    if has_copy:
        key.copy_by_run()
    else:
        key.run(MemoryStore.delete(key.store, "hotter", "k"))
    assert key.handle(key.delete()) == ("deleted" if has_copy else "same")
    before = key.bodies()
    assert key.handle(key.remove(-1)) == "handed_over"
    [version] = key.history("source")
    assert key.backlog() == [(version.version_id, len(LARGE), "larger than 10 B")]
    assert key.bodies() == before


def test_the_removal_of_a_large_version_shows_the_one_below(tmp_path: Path) -> None:
    key = Key(tmp_path, deletes="mirror")
    assert key.handle(key.put("k", b"small")) == "copied"
    key.put("k", LARGE)
    key.copy_by_run()
    assert key.handle(key.remove(-1)) == "same"
    assert key.bodies()[-1] == b"small"


def test_a_large_object_without_versions_is_copied_by_the_run_as_it_is_then(tmp_path: Path) -> None:
    key = Key(tmp_path, versioned=False)
    for body in (LARGE, LARGE[::-1]):
        large = key.put("k", body)
        del large["Records"][0]["s3"]["object"]["versionId"]
        assert key.handle(large) == "handed_over"
    assert [outcome.status for outcome in key.run_backlog()] == [Status.COPIED]
    assert key.bodies() == [LARGE[::-1]]


def test_what_a_delete_had_no_time_for_is_handed_over(tmp_path: Path) -> None:
    key = Key(tmp_path, deletes="mirror")
    assert key.handle(key.put("k", b"first")) == "copied"
    assert key.handle(key.delete()) == "deleted"
    removal = key.remove(-1)
    key.store.slow = lambda operation, arguments: 5.0 if operation == "copy" else 0.0
    assert key.invoke(batch(removal), remaining_seconds=0.5) == []
    [version] = key.history("source")
    assert key.backlog() == [(version.version_id, 5, "slower than the time that was left")]


def test_a_newest_version_that_nothing_can_put_back_waits_once(tmp_path: Path) -> None:
    """Source and copies are archived, and an older version's copy is on top. Its own event says it, and the key's."""
    key = Key(tmp_path, destination=ARCHIVED_COPIES, deletes="mirror")
    event = key.put("k", b"cold", storage_class="GLACIER")
    for body in (b"cold", b"other"):
        archived = Attributes(storage_class="DEEP_ARCHIVE")
        key.run(MemoryStore.put(key.store, "hotter", "k", body, archived, guard=UNGUARDED))
    assert key.handle(event) == "handed_over"
    version_id = key.history("source")[-1].version_id
    assert key.backlog() == [(version_id, 4, "archived: a run takes it once it is restored")]


def test_a_folder_that_the_server_cannot_copy_fails_with_its_reason(place: Place) -> None:
    """SeaweedFS lists a key that ends in / and does not find it. "Others kept changing this key" was false."""
    event = place.event("folder/", b"")
    with place.function("backup") as backup:
        assert backup.invoke(batch(event)).failed == ["m0"]
    [line] = place.lines("journal/")
    assert line["status"] == "failed"
    assert "the server lists this object, and does not find it" in line["reason"]


def dated(key: Key, event: dict[str, Any], place: int) -> dict[str, Any]:
    """The event with the time at which its version was written."""
    written_at = datetime.fromtimestamp(key.history("source")[place].last_modified, UTC)
    event["Records"][0]["eventTime"] = written_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return event


@pytest.mark.parametrize("deletes", ["mirror", "retain"])
def test_the_newest_comes_back_though_a_run_was_killed_above_it(tmp_path: Path, deletes: str) -> None:
    """A run was killed when it had copied a large older version, which then was removed at the source."""
    key = Key(tmp_path, deletes=deletes)
    late = dated(key, key.put("k", LARGE), 0)
    assert key.handle(late) == "handed_over"
    assert key.handle(key.put("k", b"newest")) == "copied"
    key.run(MemoryStore.put(key.store, "hotter", "k", LARGE, Attributes(), guard=UNGUARDED))
    key.remove(0)
    assert [each.status for each in key.run_backlog()] == [Status.MISSING]
    assert key.bodies() == [b"newest", LARGE, b"newest"]


def test_a_run_leaves_the_copy_of_a_newer_version_that_was_removed_on_top(tmp_path: Path) -> None:
    """Deletes are retained, and that version was the newest one until it was removed."""
    key = Key(tmp_path)
    assert key.handle(key.put("k", b"first")) == "copied"
    assert key.handle(dated(key, key.put("k", LARGE), -1)) == "handed_over"
    key.copy_by_run()
    key.remove(-1)
    assert [each.status for each in key.run_backlog()] == [Status.MISSING]
    assert key.bodies() == [b"first", LARGE]


def test_the_copy_of_a_newer_version_that_was_removed_stays_on_top_when_its_event_comes_again(tmp_path: Path) -> None:
    key = Key(tmp_path)
    first = dated(key, key.put("k", b"first"), -1)
    assert key.handle(first) == "copied"
    second = dated(key, key.put("k", b"other"), -1)
    assert key.handle(second) == "copied"
    assert [key.handle(key.remove(-1)), key.handle(second), key.handle(first)] == ["retained", "superseded", "same"]
    assert key.bodies() == [b"first", b"other"]


@pytest.mark.parametrize("is_large", [False, True])
def test_a_late_older_version_leaves_the_copy_of_a_newer_one_that_was_removed_on_top(
    tmp_path: Path, is_large: bool
) -> None:
    """The copy that the retained delete protects was covered by that of the newest version that is left."""
    key = Key(tmp_path)
    late, second = key.put("k", LARGE if is_large else b"late"), key.put("k", b"second")
    assert [key.handle(second), key.handle(key.put("k", b"the third"))] == ["copied", "copied"]
    assert key.handle(key.remove(-1)) == "retained"
    assert key.handle(late) == ("handed_over" if is_large else "copied")
    if is_large:
        assert [each.status for each in key.run_backlog()] == [Status.COPIED]
    after = [b"second", b"the third", LARGE if is_large else b"late", b"the third"]
    assert key.bodies() == after
    assert [key.handle(second), key.handle(late)] == ["same", "handed_over" if is_large else "same"]
    assert key.bodies() == after


def test_another_writer_between_a_late_version_and_what_is_put_back_on_top(tmp_path: Path) -> None:
    """The condition of the second write fails once."""
    key = Key(tmp_path)
    late, second = key.put("k", b"late"), key.put("k", b"second")
    assert [key.handle(second), key.handle(key.put("k", b"the third"))] == ["copied", "copied"]
    key.remove(-1)
    failures = iter([None, PreconditionFailed("CopyObject", "k", "PreconditionFailed", "no", 412)])
    key.store.fail = lambda operation, arguments: next(failures, None) if operation == "copy" else None
    assert key.handle(late) == "copied"
    assert list(failures) == []
    assert key.bodies() == [b"second", b"the third", b"late", b"the third"]


def test_the_good_copy_of_a_damaged_version_stays_and_its_event_fails(tmp_path: Path) -> None:
    """Only bytes can tell whether the copy, in one part and under a key, is the version's."""
    key = Key(tmp_path)
    key.store._default_checksum = None
    older = key.put("k", b"good")
    key.run(MemoryStore.put(key.store, "hotter", "k", b"good", Attributes(sse="aws:kms"), guard=UNGUARDED))
    key.store.rot("source", "k", b"gOOd")
    assert key.handle(older) == "failed"
    assert "the source is damaged" in key.lines("journal/")[0]["reason"]
    newest = key.put("k", b"newest")
    assert [key.handle(newest), key.handle(older)] == ["copied", "failed"]
    assert key.bodies() == [b"good", b"newest"]
