"""The newest version is on top of its copies, or the journal says who finishes it."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from jobs.core.model import Location, ObjectRef, Route
from jobs.core.outcome import Status
from jobs.s3.byte_ranges import ByteBudget
from jobs.sync.key import Sides, SyncOptions
from jobs.sync.table import Rules
from scheduler import backlog
from tests.doubles.manifest_rows import rows_of_csv
from tests.scheduler.event_samples import batch
from tests.scheduler.scene import Scene, slow

LIMIT_BYTES = 10
LARGE = b"more than ten bytes"


class Key(Scene):
    """One key whose events are handled one at a time. Each look at the clock is a second later."""

    def __init__(self, folder: Path, **pair: Any) -> None:
        super().__init__(folder, thresholds={"lambda_max_size": f"{LIMIT_BYTES} B"}, **pair)
        seconds = itertools.count(1e9)
        self.store._buckets.clock = lambda: next(seconds)
        self.is_mirrored = pair.get("deletes") == "mirror"

    def settle(self, event: dict[str, Any]) -> str:
        """Handle one event. Returns its ending."""
        before = self.lines("journal/")
        self.handle(event)
        [new] = (Counter(map(json.dumps, self.lines("journal/"))) - Counter(map(json.dumps, before))).elements()
        return str(json.loads(new)["status"])

    def remove(self, place: int) -> dict[str, Any]:
        return self.delete("k", self.history("source")[place].version_id)

    def run_backlog(self) -> list[Status]:
        """Publish a manifest of what waits, and copy its rows as a run does."""

        async def copy() -> list[Status]:
            waiting = await backlog.waiting(self.runtime, "pair")
            published = await backlog.publish(self.runtime, "pair", waiting, "due")
            assert published is not None
            rows = rows_of_csv(await self.runtime.read(str(published.manifest).removeprefix("s3://ledger/l/")))
            route = Route(Location("source"), Location("hotter"))
            options = SyncOptions(rules=Rules(True, self.is_mirrored), compares_tags=True)
            job = Sides(self.store, self.store, route, options, ByteBudget(1 << 20))
            return [outcome.status for row in rows for outcome in await job.process([row])]

        statuses: list[Status] = self.run(copy())
        return statuses

    def backlog(self) -> list[tuple[str | None, int | None, str]]:
        return [(row["version_id"], row["size_bytes"], row["reason"]) for row in self.lines("backlog/")]


ARCHIVED_COPIES = {"bucket": "hotter", "region": "us-east-1", "storage_class": "DEEP_ARCHIVE"}


@pytest.mark.parametrize("has_copy", [True, False])
def test_a_delete_marker_that_is_removed_from_above_a_large_version_is_handed_over(
    tmp_path: Path, has_copy: bool
) -> None:
    """It ended as `same`, and the copy stayed deleted."""
    key = Key(tmp_path, deletes="mirror")
    key.put("k", LARGE)
    if has_copy:
        key.put_copy(LARGE)
    else:
        key.run(key.store.delete(ObjectRef("hotter", "k")))
    assert key.settle(key.delete("k")) == ("deleted" if has_copy else "same")
    before = key.copies()
    assert key.settle(key.remove(-1)) == "handed_over"
    [version] = key.history("source")
    assert key.backlog() == [(version.version_id, len(LARGE), "too_large")]
    assert key.copies() == before


def test_what_a_delete_had_no_time_for_comes_again(tmp_path: Path) -> None:
    key = Key(tmp_path, deletes="mirror")
    assert key.settle(key.put("k", b"first")) == "copied"
    assert key.settle(key.delete("k")) == "deleted"
    removal = key.remove(-1)
    key.store.hook(copy=slow(lambda request: 5.0))
    assert key.invoke(batch(removal), remaining_seconds=0.5) == ["m0"]
    key.store.hook(copy=None)
    assert key.settle(removal) == "same"
    assert key.copies() == [b"first", None, b"first"]


def test_a_newest_version_that_nothing_can_put_back_waits_once(tmp_path: Path) -> None:
    """Source and copies are archived, and an older version's copy is on top. Its own event says it, and the key's."""
    key = Key(tmp_path, destination=ARCHIVED_COPIES, deletes="mirror")
    event = key.put("k", b"cold", storage_class="GLACIER")
    for body in (b"cold", b"other"):
        key.put_copy(body, storage_class="DEEP_ARCHIVE")
    assert key.settle(event) == "handed_over"
    version_id = key.history("source")[-1].version_id
    assert key.backlog() == [(version_id, 4, "archived")]


def test_a_late_large_version_brings_the_newest_that_is_left_on_top(tmp_path: Path) -> None:
    """The copy of a newer version that was removed stays below, as a version."""
    key = Key(tmp_path)
    late, second = key.put("k", LARGE), key.put("k", b"second")
    assert [key.settle(second), key.settle(key.put("k", b"the third"))] == ["copied", "copied"]
    assert key.settle(key.remove(-1)) == "retained"
    assert key.settle(late) == "handed_over"
    assert key.run_backlog() == [Status.DONE]
    assert key.copies() == [b"second", b"the third", LARGE, b"second"]
    assert [key.settle(second), key.settle(late)] == ["same", "same"]
    assert len(key.copies()) == 4
