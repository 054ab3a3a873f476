"""An undo of a run whose worker was killed before it confirmed, on machines whose clocks are wrong."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobs.core.enums import Step
from jobs.core.model import Attributes, Location
from jobs.core.outcome import Status
from jobs.errors import NotFound
from jobs.expire.undo import UndoResult, unhide
from jobs.ledger.tombstones import Tombstone, Tombstones
from jobs.s3.store import UNGUARDED
from tests.doubles.memory_store import MemoryStore, Request
from tests.expire.scene import job, replica, row_of, shop, work

NOW = 1_700_000_000.0
HOUR = 3600.0


@pytest.mark.parametrize("ahead", [-HOUR / 2, 0.0, HOUR, 40 * 24 * HOUR])
def test_the_marker_of_a_killed_attempt_goes_whatever_the_clock_of_its_machine_said(ahead: float) -> None:
    """An announcement of later than the marker passed for one of another deletion, and all for brought back."""
    undone, is_there = asyncio.run(kill_and_undo(ahead, deleted_after=1.0))
    assert (undone.markers, undone.problems, is_there) == (1, [], True)


def test_a_marker_that_came_long_after_the_announcement_stays() -> None:
    undone, is_there = asyncio.run(kill_and_undo(0.0, deleted_after=2 * HOUR))
    assert (undone.markers, is_there) == (0, False)
    assert len(undone.problems) == 1


@pytest.mark.parametrize("deleted_after", [1.0, 2 * HOUR])
def test_an_upload_in_parts_between_version_and_marker_is_not_taken_for_all_is_back(
    deleted_after: float,
) -> None:
    """S3 orders it by its beginning. Nothing lay directly above, so undo said that all was back."""
    undone, is_there = asyncio.run(kill_and_undo(0.0, deleted_after, with_upload=True))
    assert (undone.markers, undone.lost, is_there) == (0, 0, False)
    assert len(undone.problems) == 1


@pytest.mark.parametrize("step", [Step.REMOVE, Step.HIDE])
def test_the_last_of_several_killed_attempts_counts(step: Step) -> None:
    """An attempt was to remove a hidden version, or had hidden it. Somebody brought it back, and the next attempt hid
    it. Undo said that all was back, and that attempt's successor, that it was not hidden."""
    store = shop()
    refs = [store.put_now("docs", f"k{n}", b"content") for n in range(2)]
    rows = [row_of(store, n, ref, replica(store, ref)) for n, ref in enumerate(refs)]
    first = Tombstone(0, "k0", refs[0].version_id, rows[0].etag or "", 7, NOW, step, "s3://c/k0", None, None, "content")
    stones = Tombstones(store, Location("ledger", "runs"), "docs", "run-1")
    name = asyncio.run(stones.announce([first]))
    if step is Step.HIDE:
        asyncio.run(stones.confirm(name, [first._replace(marker_version_id="gone")]))
    store.now += HOUR
    again = first._replace(step=Step.HIDE, recorded_at=store.now)
    both = [again, again._replace(row=1, key="k1", version_id=refs[1].version_id)]
    asyncio.run(Tombstones(store, Location("ledger", "runs"), "docs", "run-1").announce(both))
    for ref in refs:
        asyncio.run(store.delete("docs", ref.key))
    undone = asyncio.run(unhide(store, Tombstones(store, Location("ledger", "runs"), "docs", "run-1")))
    assert (undone.markers, undone.problems) == (2, [])
    for ref in refs:
        asyncio.run(store.delete("docs", ref.key))
    assert [each.status for each in work(job(store), rows)] == [Status.DONE] * 2


def test_a_marker_that_an_unanswered_delete_removed_is_removed() -> None:
    """Some servers answer 404 when the request is sent again."""
    store = shop()
    refs = [store.put_now("docs", f"k{n}", b"content") for n in range(2)]
    rows = [row_of(store, n, ref, replica(store, ref)) for n, ref in enumerate(refs)]
    assert [each.status for each in work(job(store), rows)] == [Status.DONE] * 2

    async def gone(request: Request) -> Any:
        await request()
        raise NotFound("DeleteObject", str(request.place), "NoSuchVersion", "", 404)

    store.hook(delete=gone)
    undone = asyncio.run(unhide(store, Tombstones(store, Location("ledger", "runs"), "docs", "run-1")))
    assert (undone.markers, undone.problems, len(store.current())) == (2, [], 2)


def test_a_version_that_two_attempts_name_has_one_problem() -> None:
    store = shop()
    ref = store.put_now("docs", "k", b"content")
    etag = row_of(store, 0, ref, replica(store, ref)).etag or ""
    stone = Tombstone(0, "k", ref.version_id, etag, 7, NOW, Step.HIDE, "s3://c/k", None, None, "content")
    for _ in range(2):
        stones = Tombstones(store, Location("ledger", "runs"), "docs", "run-1")
        name = asyncio.run(stones.announce([stone]))
        asyncio.run(stones.confirm(name, [stone._replace(marker_version_id=ref.version_id)]))  # no marker: forged
    undone = asyncio.run(unhide(store, Tombstones(store, Location("ledger", "runs"), "docs", "run-1")))
    assert (undone.markers, len(undone.problems)) == (0, 1)


async def kill_and_undo(ahead: float, deleted_after: float, *, with_upload: bool = False) -> tuple[UndoResult, bool]:
    """What an undo says, and whether the object is there then."""
    now = NOW
    store = MemoryStore(clock=lambda: now)
    for bucket in ("source", "ledger"):
        store.create_bucket(bucket, versioned=True)
    made = await store.put("source", "k", b"body", Attributes(), guard=UNGUARDED)
    now += HOUR
    upload = await store.create_multipart("source", "k", Attributes())
    stones = Tombstones(store, Location("ledger"), "source", "run")
    stone = Tombstone(0, "k", made.version_id, made.etag, 4, NOW, Step.HIDE, "s3://c/k", None, None, "content")
    await stones.announce([stone._replace(recorded_at=now + ahead)])
    now += deleted_after
    await store.delete("source", "k")
    if with_upload:
        part = await store.put_part(upload, 1, b"slow")
        await store.complete_multipart(upload, [part], guard=UNGUARDED)
    now += 24 * HOUR
    undone = await unhide(store, Tombstones(store, Location("ledger"), "source", "run"))
    [*_, top] = (await store.list_versions("source", "k")).entries[:1]
    return undone, not top.is_delete_marker and top.version_id == made.version_id
