"""What the simulator found in the product, each as a test of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pyarrow as pa
import pytest

from jobs.core.model import Attributes, Location, ObjectRef, ObjectVersion, Route
from jobs.core.outcome import Outcome, Status
from jobs.core.run import Plan, RunSpec, ShardSummary, Side
from jobs.errors import ArchivedObject, Conflict, PreconditionFailed
from jobs.ledger.ledger import Checkpoint, Ledger
from jobs.replicate.job import Replicate, ReplicateOptions
from jobs.runs.folding import fold_run
from jobs.runs.launch import conclude
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.compare_bytes import ContentSide, compare_content
from jobs.s3.multipart_copy import Transfer, stream
from jobs.s3.store import UNGUARDED
from jobs.tables.rows import shard_schema, write_outcomes, write_parquet
from tests.doubles.memory_store import MemoryStore
from tests.simulation.copies.tables import PART_BYTES, SCALE, read_failures, replaced
from tests.simulation.engine.campaign import play
from tests.simulation.engine.courses import make

ROUTE = Route(Location("source"), Location("destination"))


def world(clock: Callable[[], float] = lambda: 1.0, *, checksum: str | None = "CRC64NVME") -> MemoryStore:
    store = MemoryStore(clock=clock, default_checksum=checksum)
    store.create_bucket("source")
    store.create_bucket("destination")
    return store


def ticking() -> Callable[[], float]:
    ticks = iter(range(1_000))
    return lambda: float(next(ticks))


class Meddling:
    """A store that lets somebody else act just before its first request of one kind, or a later one."""

    def __init__(self, store: MemoryStore, name: str, act: Callable[[], Awaitable[Any]], *, at: int = 1):
        self._store, self._name, self._act, self._left = store, name, act, at

    def __getattr__(self, name: str) -> Any:
        async def ask(*arguments: Any, **named: Any) -> Any:
            self._left -= name == self._name
            if name == self._name and self._left == 0:
                await self._act()
            return await getattr(self._store, name)(*arguments, **named)

        return ask


def replicate(store: Any, **options: Any) -> Replicate:
    return Replicate(store, store, ROUTE, ReplicateOptions(**options), ByteBudget(1_000))


def test_a_destination_that_goes_away_before_its_replacement_is_not_a_missing_source():
    """S3 answers 404 to a copy with If-Match when nothing is there to match: the row said "the source is gone"."""

    async def scene() -> None:
        store = world(ticking())
        await store.put("destination", "k", b"old", Attributes(), guard=UNGUARDED)
        written = await store.put("source", "k", b"new!", Attributes(), guard=UNGUARDED)
        row = ObjectVersion(0, "k", written.version_id, size_bytes=4, etag=written.etag, storage_class="STANDARD")
        refused = await store.put("destination", "other", b"", Attributes(), guard=UNGUARDED)
        assert refused.version_id

        class AtReplacement(Meddling):
            def __getattr__(self, name: str) -> Any:
                ask = super().__getattr__(name)

                async def second(*arguments: Any, **named: Any) -> Any:
                    if named["guard"].etag is None:
                        return await store.copy(*arguments, **named)
                    return await ask(*arguments, **named)

                return second if name == "copy" else ask

        job = replicate(AtReplacement(store, "copy", lambda: store.delete("destination", "k")))
        with pytest.raises(Conflict):
            await job.process([row])
        [outcome] = await job.process([row])
        assert outcome.status is Status.COPIED

    asyncio.run(scene())


def test_a_destination_that_goes_away_while_it_is_read_is_not_a_missing_source():
    async def scene() -> None:
        store = world(checksum=None)
        await store.put("destination", "k", b"same", Attributes(sse="aws:kms"), guard=UNGUARDED)
        written = await store.put("source", "k", b"same", Attributes(), guard=UNGUARDED)
        row = ObjectVersion(0, "k", written.version_id, size_bytes=4, etag=written.etag, storage_class="STANDARD")
        job = replicate(Meddling(store, "get", lambda: store.delete("destination", "k")))
        with pytest.raises(Conflict):
            await job.process([row])
        [outcome] = await job.process([row])
        assert outcome.status is Status.COPIED

    asyncio.run(scene())


@pytest.mark.parametrize("modified", [True, False])
def test_a_version_gone_from_the_source_keeps_its_place_in_the_history(modified: bool):
    """The rows are the oldest version and the newest, which is gone: the oldest was copied over the newest's copy."""

    async def scene() -> None:
        store = world(ticking())
        versions = [await store.put("source", "k", data, Attributes(), guard=UNGUARDED) for data in (b"1", b"2", b"3")]
        await store.put("destination", "k", b"3", Attributes(), guard=UNGUARDED)
        times = [entry.last_modified for entry in (await store.list_versions("source", "k")).entries][::-1]
        rows = [
            ObjectVersion(
                number, "k", versions[at].version_id, at == 2, False, 1, versions[at].etag,
                times[at] if modified else None,
            )
            for number, at in enumerate((0, 2))
        ]  # fmt: skip
        await store.delete("source", "k", version_id=versions[2].version_id)
        outcomes = await replicate(store, all_versions=True).process(rows)
        assert [outcome.status for outcome in outcomes] == [Status.CHANGED, Status.SAME]
        assert (await store.get(ObjectRef("destination", "k"))).data == b"3"

    asyncio.run(scene())


def test_when_one_side_cannot_be_read_the_other_side_is_not_read_on():
    """The bytes of the side that was still on its way were in nobody's budget."""

    async def scene() -> None:
        store = world()
        for bucket in ("source", "destination"):
            await store.put(bucket, "k", b"bytes", Attributes(), guard=UNGUARDED)
        ended: list[str] = []

        class Slow:
            async def get(self, *arguments: Any, **named: Any) -> Any:
                try:
                    await asyncio.Event().wait()
                finally:
                    ended.append("cancelled")

        class Refusing:
            async def get(self, *arguments: Any, **named: Any) -> Any:
                raise ArchivedObject("GetObject", "k", "InvalidObjectState", "", 403)

        info = await store.head(ObjectRef("source", "k"))
        slow: Any = Slow()
        refusing: Any = Refusing()
        sides = [ContentSide(each, ObjectRef("b", "k"), info) for each in (slow, refusing)]
        with pytest.raises(ArchivedObject):
            await compare_content(sides[0], sides[1], ByteBudget(100))
        await asyncio.sleep(0)
        assert ended == ["cancelled"]

    asyncio.run(scene())


def test_a_failed_stream_gives_its_bytes_back_at_once():
    """A row that waits to be tried again kept the ranges that were read ahead, for as long as its error was kept."""

    async def scene() -> None:
        store = MemoryStore(clock=lambda: 1.0, minimum_part_bytes=PART_BYTES)
        store.create_bucket("source")
        store.create_bucket("destination")
        await store.put("source", "k", bytes(60), Attributes(), guard=UNGUARDED)
        ref = ObjectRef("source", "k")
        failing: Any = Meddling(store, "put_part", _raced)
        transfer = Transfer(
            store, ref, await store.head(ref), failing, "destination", "k", Attributes(), guard=UNGUARDED
        )
        budget = ByteBudget(100)
        with replaced(SCALE), pytest.raises(PreconditionFailed) as kept:
            await stream(transfer, budget)
        assert kept.value.__traceback__ is not None  # it holds every frame that it passed through
        assert budget._free == budget.size_bytes
        assert store.uploads("destination") == []

    asyncio.run(scene())


async def _raced() -> None:
    raise PreconditionFailed("UploadPart", "k", "PreconditionFailed", "", 412)


def test_a_report_names_the_failures_that_it_counts():
    """Somebody folded, and died before the report; an attempt that was still at work then found another row wrong."""

    async def scene() -> None:
        store = world()
        store.create_bucket("ledger")
        ledger = Ledger(store, Location("ledger"))
        rows = [ObjectVersion(row, f"k{row}") for row in range(2)]
        side = Side(Location("source"))
        spec = RunSpec("20231114T221300Z-verify-aaaaaa", "verify", 1_699_999_980.0, side, side, "listing")
        plan = Plan(2, 0, (ShardSummary(2, 0),))
        columns = {name: [getattr(row, name) for row in rows] for name in shard_schema().names}
        await ledger.write_shard(spec.run_id, 0, write_parquet(pa.table(columns, schema=shard_schema())))

        async def checkpoint(attempt: str, *statuses: Status) -> None:
            outcomes = [Outcome(row, f"k{row}", None, status) for row, status in enumerate(statuses)]
            bad = sum(status is not Status.VERIFIED for status in statuses)
            await ledger.write_checkpoint(
                spec.run_id, Checkpoint(0, attempt, 0, len(outcomes), bad, 0), write_outcomes(outcomes)
            )

        await checkpoint("a", Status.MISSING, Status.VERIFIED)
        folded = await fold_run(ledger, spec.run_id, plan)
        await ledger.write_failures(spec.run_id, folded.failures_parquet, folded.failures_csv)
        await checkpoint("b", Status.MISSING, Status.MISMATCHED)
        report = await conclude(spec, plan, ledger, {})
        assert report["failures"] == 2
        place = Location.parse(report["failures_manifest"])
        assert [row.key for row in read_failures((await store.get(ObjectRef(*place))).data)] == ["k0", "k1"]
        csv = await store.get(ObjectRef(place.bucket, place.key.removesuffix("parquet") + "csv"))
        assert csv.data.count(b"\n") == 3

    asyncio.run(scene())


def test_the_same_bytes_in_another_class_are_an_accepted_limit_of_manifests_without_version_ids():
    course = play(make(5_060_762))
    assert course.model.violations == []
    assert "an ETag that came again: the class is that of the object listed" in course.model.known_limits


MENDED = (
    5_090_033,
    5_146_729,
    5_203_617,
    5_218_659,
    5_300_305,
    5_315_779,
    5_344_769,
    5_378_449,
    5_388_710,
    5_573_281,
    6_159_569,
    6_403_087,
    6_549_174,
    6_773_557,
)
MISJUDGED = (
    5_408_482,
    5_449_202,
    5_464_001,
    5_505_516,
    5_557_395,
    5_566_130,
    5_771_611,
    5_874_911,
    5_944_073,
    6_440_961,
    6_680_937,
    6_778_176,
    6_808_553,
    7_216_864,
)


@pytest.mark.parametrize("seed", [*MENDED, *MISJUDGED])
def test_seeds_that_found_something_find_nothing_any_more(seed: int):
    """What the long campaigns found: mistakes of Sealift's, and of the model's."""
    assert play(make(seed)).model.violations == []
