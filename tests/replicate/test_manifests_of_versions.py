"""Manifests that do not know a key's history, or know an old one: what is made of it at the destination."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any
from unittest import mock

import pytest

from jobs.core.model import Attributes, Listed, Location, ObjectRef, ObjectVersion, Route
from jobs.core.outcome import Outcome, Status
from jobs.errors import ConfigError, Conflict
from jobs.replicate.job import Replicate, ReplicateOptions
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.lookup import key_history
from jobs.s3.store import UNGUARDED
from jobs.verify.job import Verify, VerifyOptions
from tests.doubles.memory_store import MemoryStore

ROUTE = Route(Location("here"), Location("there"))
MARKER = None
BODIES = (b"one", b"two!", MARKER, b"three")


class Store(MemoryStore):
    """A bucket and that of its copies, whose clock ticks once a request. `before`: what others do before a request,
    once.
    """

    def __init__(self, **options: Any) -> None:
        ticks = itertools.count(1)
        super().__init__(**{"clock": lambda: float(next(ticks))} | options)
        self.before: dict[str, Callable[[], Awaitable[Any]]] = {}
        for bucket in ("here", "there"):
            self.create_bucket(bucket)

    async def copy(self, *arguments: Any, **named: Any) -> Any:
        await self._meddle("copy")
        return await super().copy(*arguments, **named)

    async def head(self, ref: ObjectRef, **named: Any) -> Any:
        await self._meddle(f"head {ref.bucket}")
        return await super().head(ref, **named)

    async def delete(self, *arguments: Any, **named: Any) -> Any:
        await self._meddle("delete")
        return await super().delete(*arguments, **named)

    async def _meddle(self, name: str) -> None:
        if meddle := self.before.pop(name, None):
            await meddle()

    async def write(self, bucket: str, *bodies: bytes | None) -> None:
        for body in bodies:
            if body is MARKER:
                await self.delete(bucket, "k")
            else:
                await self.put(bucket, "k", body, Attributes(), guard=UNGUARDED)

    async def history(self, bucket: str) -> list[Listed]:
        return await key_history(self, bucket, "k")

    async def rows(self) -> list[ObjectVersion]:
        """All that the source has now, as a listing names it."""
        return [ObjectVersion(row, *each[:8]) for row, each in enumerate(await self.history("here"))]

    async def bodies(self, bucket: str = "there") -> list[bytes | None]:
        """All versions of a bucket, oldest first."""
        return [
            MARKER if each.is_delete_marker else (await self.get(ObjectRef(bucket, "k", each.version_id))).data
            for each in await self.history(bucket)
        ]

    async def replicate(self, rows: Sequence[ObjectVersion], **options: Any) -> list[Outcome]:
        chosen = ReplicateOptions.from_dict({"all_versions": True, **options})
        job = Replicate(self, self, ROUTE, chosen, ByteBudget(1 << 20))
        for _ in range(3):
            try:
                return await job.process(rows)
            except Conflict:
                continue
        raise AssertionError("it does not come to an end")

    async def verify(self, rows: Sequence[ObjectVersion]) -> list[Outcome]:
        options = VerifyOptions(all_versions=True, deep=True)
        return await Verify(self, self, ROUTE, options, ByteBudget(1 << 20)).process(rows)

    def suspend(self) -> None:
        self._buckets.named["there"].is_versioned = False


def play(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scene())


def statuses(outcomes: Sequence[Outcome]) -> list[Status]:
    return [each.status for each in outcomes]


def undated(row: ObjectVersion) -> ObjectVersion:
    """A row as S3 Batch Operations' form of a manifest has it."""
    return ObjectVersion(row.row, row.key, row.version_id)


def of_one_second(row: ObjectVersion) -> ObjectVersion:
    return row._replace(last_modified=1.0, is_latest=False)


@pytest.mark.parametrize("knows", [undated, of_one_second])
@pytest.mark.parametrize("order", list(itertools.permutations(range(len(BODIES)))))
async def test_the_source_says_the_order_of_versions_and_not_the_manifest(
    order: Sequence[int], knows: Callable[[ObjectVersion], ObjectVersion]
) -> None:
    store = Store()
    await store.write("here", *BODIES)
    listed = await store.rows()
    rows = [knows(listed[place]) for place in order]
    outcomes = await store.replicate(rows)
    assert [each.row for each in outcomes] == [row.row for row in rows]
    assert await store.bodies() == list(BODIES)
    for outcome in outcomes:
        assert outcome.status is (Status.DELETED if BODIES[outcome.row] is MARKER else Status.COPIED)
    assert statuses(await store.replicate(rows)) == [Status.SAME] * 4
    assert statuses(await store.verify(rows)) == [Status.VERIFIED] * 4


async def test_copies_in_the_order_of_an_undated_manifest_are_not_verified() -> None:
    store = Store()
    await store.write("here", b"one", b"two!")
    await store.write("there", b"two!", b"one")
    rows = [undated(row) for row in reversed(await store.rows())]
    assert statuses(await store.verify(rows)) != [Status.VERIFIED] * 2


@pytest.mark.parametrize("has_etag", [True, False])
async def test_a_row_without_a_version_id_is_copied_once(has_etag: bool) -> None:
    store = Store()
    await store.write("here", b"one", b"two!")
    row = (await store.rows())[-1]
    rows = [ObjectVersion(0, "k", etag=row.etag if has_etag else None)]
    assert statuses(await store.replicate(rows)) == [Status.COPIED]
    assert statuses(await store.replicate(rows)) == [Status.SAME]
    assert await store.bodies() == [b"two!"]


@pytest.mark.parametrize("all_versions", [False, True])
@pytest.mark.parametrize("has_id", [False, True])
async def test_an_object_of_another_size_than_the_row_says_is_not_copied(has_id: bool, all_versions: bool) -> None:
    store = Store()
    await store.write("here", b"another")
    [row] = await store.rows()
    named = ObjectVersion(0, "k", row.version_id if has_id else None, size_bytes=3)
    assert statuses(await store.replicate([named], all_versions=all_versions)) == [Status.CHANGED]
    assert await store.bodies() == []


@pytest.mark.parametrize("is_newest_last", [False, True])
@pytest.mark.parametrize("overwrite", ["older", "always"])
async def test_several_versions_of_a_key_are_copied_as_a_history_or_not_at_all(
    overwrite: str, is_newest_last: bool
) -> None:
    """Without --versions all they replaced each other: the oldest could end on top, and all were called copied."""

    store = Store()
    await store.write("here", b"one", b"two!")
    rows = [undated(row) for row in await store.rows()]
    if not is_newest_last:
        rows.reverse()
    outcomes = await store.replicate(rows, all_versions=False, overwrite=overwrite)
    assert statuses(outcomes) == [Status.FAILED, Status.FAILED]
    assert "--versions all" in outcomes[0].reason
    assert await store.bodies() == []


@pytest.mark.parametrize("is_hidden", [False, True])
async def test_a_delete_marker_that_the_source_no_longer_has_hides_no_copy(is_hidden: bool) -> None:
    """`is_hidden`: an earlier run made it, when the source had it."""

    store = Store()
    await store.write("here", b"one", MARKER)
    rows = await store.rows()
    if is_hidden:
        await store.replicate(rows)
    await store.delete("here", "k", version_id=rows[1].version_id)
    first, second = await store.replicate(rows)
    assert (first.status, second.status) == (Status.COPIED, Status.MISSING)
    assert "delete marker" in second.reason
    assert (await store.get(ObjectRef("there", "k"))).data == b"one"


async def test_a_delete_marker_is_not_made_once_the_object_is_back_at_the_source() -> None:
    store = Store()
    await store.write("here", b"one", MARKER)
    rows = await store.rows()
    store.before["copy"] = lambda: store.delete("here", "k", version_id=rows[1].version_id)
    assert statuses(await store.replicate(rows)) == [Status.SAME, Status.MISSING]
    assert await store.bodies() == [b"one"]


@pytest.mark.parametrize("request_before", ["head there", "delete"])
async def test_a_delete_marker_hides_no_copy_that_another_run_has_made_meanwhile(request_before: str) -> None:
    """Before the last look it is seen. After that, the condition of the marker does not hold."""

    store = Store()
    await store.write("here", b"one", MARKER)
    rows = await store.rows()
    await store.write("here", b"two!")
    all_rows = await store.rows()
    await store.replicate(rows[:1])

    async def replicate_all() -> None:
        await store.replicate(all_rows)

    store.before[request_before] = replicate_all
    assert statuses(await store.replicate(rows)) == [Status.SAME, Status.SAME]
    assert await store.bodies() == [b"one", MARKER, b"two!"]


async def test_a_delete_marker_whose_answer_is_lost_is_made_once() -> None:
    store = Store()
    await store.write("here", b"one", MARKER)
    rows = await store.rows()
    await store.replicate(rows[:1])
    store.before["delete"] = lambda: store.delete("there", "k")  # the transport sends it again
    assert statuses(await store.replicate(rows)) == [Status.SAME, Status.SAME]
    assert await store.bodies() == [b"one", MARKER]


async def test_a_destination_that_no_longer_keeps_versions_loses_none() -> None:
    store = Store()
    await store.write("here", b"one", MARKER)
    await store.write("there", b"other")
    store.suspend()
    with pytest.raises(ConfigError, match="no longer keeps versions"):
        await store.replicate(await store.rows(), overwrite="always")
    assert await store.bodies() == [b"other"]


async def test_a_destination_that_is_suspended_meanwhile_ends_the_run_at_the_first_answer() -> None:
    async def suspend() -> None:
        store.suspend()

    store = Store()
    await store.write("here", b"one", b"two!", b"three")
    store.before["copy"] = suspend
    with pytest.raises(ConfigError, match="no longer keeps versions"):
        await store.replicate(await store.rows())
    assert await store.bodies() == [b"one"]


def test_rows_that_begin_together_ask_once_whether_versions_are_kept() -> None:
    """Fifty at once asked fifty times, of which S3 may refuse some for their rate."""
    asked: list[str] = []

    class Counting(Store):
        async def is_versioned(self, bucket: str) -> bool:
            asked.append(bucket)
            await asyncio.sleep(0)
            return await super().is_versioned(bucket)

    async def scene() -> None:
        store = Counting()
        options = ReplicateOptions.from_dict({"all_versions": True})
        job = Replicate(store, store, ROUTE, options, ByteBudget(1 << 20))
        rows = [ObjectVersion(row, f"k{row}", f"v{row}") for row in range(5)]
        outcomes = await asyncio.gather(*(job.process([row]) for row in rows))
        assert [each.status for [each] in outcomes] == [Status.MISSING] * 5

    play(scene)
    assert asked == ["there"]


@pytest.mark.parametrize("asked", ["replicate", "verify", "verify --deep"])
async def test_long_histories_that_differ_take_a_few_requests_a_version(asked: str) -> None:
    """The source has lost its oldest versions and has newer ones, and all have one size: each could be each other's."""

    store, looks = Store(), Counter[str]()
    bodies = [f"{number:04d}".encode() for number in range(60)]
    await store.write("here", *bodies[10:])
    await store.write("there", *bodies[:50], b"else")
    rows = await store.rows()

    async def count(ref: ObjectRef, **named: Any) -> Any:
        looks[ref.bucket] += 1
        return await MemoryStore.head(store, ref, **named)

    with mock.patch.object(store, "head", count):
        if asked == "replicate":
            job: Any = Replicate(store, store, ROUTE, ReplicateOptions(all_versions=True), ByteBudget(1000))
        else:
            options = VerifyOptions(all_versions=True, deep="--deep" in asked)
            job = Verify(store, store, ROUTE, options, ByteBudget(1000))
        outcomes = await job.process(rows)
    counted = Counter(each.status for each in outcomes)
    if asked == "replicate":
        assert counted == {Status.SAME: 40, Status.COPIED: 10}
    else:
        assert counted == {Status.VERIFIED: 40, Status.MISSING: 10}
    assert looks.total() < 6 * len(bodies), looks
