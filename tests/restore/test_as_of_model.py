"""A bucket as it was at a time: random histories of puts, deletes, archives and expiries, against a model."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.archives.index import ArchiveIndex
from jobs.compact.packing import sort_key
from jobs.core.enums import ArchiveFormat, Step
from jobs.core.model import Attributes, Location, ObjectRef, ObjectVersion, Route
from jobs.core.outcome import Status
from jobs.core.selection import Selection
from jobs.errors import NotFound
from jobs.ledger.expired_rows import expired_rows
from jobs.ledger.tombstones import Tombstone, Tombstones
from jobs.restore.archived_rows import archived_rows
from jobs.restore.as_of import current_at
from jobs.restore.job import Restore, RestoreOptions
from jobs.restore.plan import plan_restore
from jobs.restore.thaw_requests import ThawRequests
from jobs.restore.thawing import Tier
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.listing import list_all
from jobs.s3.lookup import key_history
from jobs.s3.store import UNGUARDED
from jobs.tables.rows import manifest_batch, read_shard
from tests.compact.test_job import make, work
from tests.doubles.examples import examples
from tests.doubles.memory_store import MemoryStore

KEYS = ("a", "b/c", "b/d")
STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "put", "put", "delete", "wait", "archive", "expire"]), st.integers(0, 1 << 16)),
    min_size=4,
    max_size=40,
)


@dataclass
class World:
    """A versioned bucket `docs`, its archives in `cold`. `truth`: what each key held, from when on (None: nothing)."""

    now: float = 1_750_000_000.0
    truth: dict[str, list[tuple[float, bytes | None]]] = field(default_factory=lambda: {key: [] for key in KEYS})
    packed: list[ObjectVersion] = field(default_factory=list)
    store: MemoryStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = MemoryStore(clock=lambda: self.now)
        for bucket in ("docs", "cold", "ledger"):
            self.store.create_bucket(bucket)
        self.index = ArchiveIndex(self.store, Location("ledger"))

    def put(self, chance: int) -> None:
        key, data = KEYS[chance % len(KEYS)], b"%d" % chance
        asyncio.run(self.store.put("docs", key, data, Attributes(metadata={"n": str(chance)}), guard=UNGUARDED))
        self.truth[key].append((self.now, data))

    def delete(self, chance: int) -> None:
        key = KEYS[chance % len(KEYS)]
        asyncio.run(self.store.delete("docs", key))
        self.truth[key].append((self.now, None))

    def wait(self, chance: int) -> None:
        self.now += 1 + chance % 3

    def archive(self, chance: int) -> None:
        """Pack all that is there: what was written in this second may still be overwritten in it, so wait."""
        self.wait(0)
        listed = asyncio.run(self._listed())
        rows = [row._replace(row=number) for number, row in enumerate(sorted(listed, key=sort_key))]
        if rows:
            packer = make(self.store, [ArchiveFormat.TAR, ArchiveFormat.TAR_ZST][chance % 2])
            packer = replace(packer, run_id=str(chance))
            work(packer, rows)
        self.packed += rows

    def expire(self, chance: int) -> None:
        """Take away an original that is in an archive, as an expire run does: hide what is current, remove the rest."""
        if self.packed:
            row = self.packed.pop(chance % len(self.packed))
            asyncio.run(self._expire(row, str(chance)))

    async def _expire(self, row: ObjectVersion, run_id: str) -> None:
        history = await key_history(self.store, "docs", row.key)
        is_current = history[-1].version_id == row.version_id
        step = Step.HIDE if is_current else Step.REMOVE
        gone = Tombstone(
            0, row.key, row.version_id, row.etag or "", row.size_bytes or 0, row.last_modified or 0.0, step,
            "s3://cold/x", None, None, "checksum", recorded_at=self.now,
        )  # fmt: skip
        tombstones = Tombstones(self.store, Location("ledger"), "docs", run_id)
        name = await tombstones.announce([gone])
        deleted = await self.store.delete("docs", row.key, version_id=None if is_current else row.version_id)
        if is_current:
            gone = gone._replace(marker_version_id=deleted.version_id)
        await tombstones.confirm(name, [gone])

    def was(self, at: float) -> dict[str, bytes]:
        found = {}
        for key, changes in self.truth.items():
            held = [data for time, data in changes if time <= at]
            if held and held[-1] is not None:
                found[key] = held[-1]
        return found

    async def _listed(self) -> list[ObjectVersion]:
        rows = []
        async for page in list_all(self.store, Location("docs"), versions=True):
            rows += [ObjectVersion(0, *each[:8]) for each in page if not each.is_delete_marker]
        return rows[::-1]  # oldest first, as a manifest is put in order

    async def restore(self, at: float) -> tuple[dict[str, bytes], set[Status]]:
        """Plan, restore into a bucket of its own, and look what is there."""
        back = f"back-{at}"
        self.store.create_bucket(back)
        shards: list[bytes] = []

        async def candidates() -> AsyncIterator[pa.RecordBatch]:
            async for page in list_all(self.store, Location("docs"), versions=True):
                yield manifest_batch(page)
            async for batch in archived_rows(self.index, await self.index.records(), ""):
                yield batch
            async for batch in expired_rows(self.store, Location("ledger"), "docs"):
                yield batch

        async def write_shard(number: int, data: bytes) -> None:
            shards.append(data)

        with tempfile.TemporaryDirectory() as folder:
            choose: Any = lambda rows, archived: [each for each in [current_at(rows, archived, at)] if each]  # noqa: E731
            chosen = await plan_restore(
                candidates(), Selection(versions="all"), choose, write_shard=write_shard, scratch_directory=Path(folder)
            )
        options = RestoreOptions(storage_class="STANDARD", is_history=True)
        route = Route(Location("docs"), Location(back))
        thaws = ThawRequests(self.store, Location("ledger"), "run", Tier.BULK, 7)
        job = Restore(self.store, self.store, self.store, route, options, ByteBudget(1 << 24), self.index, thaws)
        rows = [row for data in shards for batch in read_shard(data) for row in batch]
        assert [row.row for row in rows] == list(range(chosen.rows))
        outcomes = [each for chain in job.chains(rows) for each in await job.process(chain)]
        assert [each.row for each in outcomes] == list(range(chosen.rows))
        found = {}
        for key in KEYS:
            try:
                found[key] = (await self.store.get(ObjectRef(back, key))).data
            except NotFound:
                continue
        return found, {each.status for each in outcomes}


@settings(max_examples=examples(20), deadline=None)
@given(steps=STEPS, times=st.lists(st.integers(-1, 40), min_size=1, max_size=2, unique=True))
def test_the_bucket_comes_back_as_the_model_remembers_it(steps: list[tuple[str, int]], times: list[int]) -> None:
    world = World()
    began = world.now
    for name, chance in steps:
        getattr(world, name)(chance)
    for seconds in times:
        found, statuses = asyncio.run(world.restore(began + seconds))
        assert found == world.was(began + seconds)
        assert statuses <= {Status.RESTORED}
