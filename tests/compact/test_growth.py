"""Growth: whatever is added, and however often it is compacted, each version is packed once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from jobs.archives.index import ArchiveIndex, Damage
from jobs.compact.archived import archived_versions, renew_indexes
from jobs.compact.job import Compact
from jobs.compact.packing import CompactOptions, PackingRule
from jobs.compact.plan import Grouped, plan_groups
from jobs.core.enums import ArchiveFormat
from jobs.core.model import Attributes, Listed, Location, ObjectRef
from jobs.core.outcome import Outcome, Status
from jobs.core.selection import Selection
from jobs.runs.sharding import Shards
from jobs.s3.listing import list_all
from jobs.s3.store import UNGUARDED
from jobs.tables.rows import manifest_batch, read_shard
from tests.compact.samples import opened
from tests.doubles.examples import examples
from tests.doubles.memory_store import MemoryStore

DAY = 86_400.0
SOURCE, ARCHIVES = Location("docs"), Location("cold", "packed")


class Addition(NamedTuple):
    """Objects that come at one time, which may replace others."""

    keys: list[str]
    days_later: int


additions = st.builds(
    Addition,
    st.lists(st.text(st.sampled_from(list("ab/0")), min_size=1, max_size=4), min_size=1, max_size=8, unique=True),
    st.integers(0, 40),
)


class Yard:
    """A bucket that grows, and its archives."""

    def __init__(self, *, versioned: bool):
        self.now = 0.0
        self.store = MemoryStore(clock=lambda: self.now)
        for bucket in ("docs", "cold", "ledger"):
            self.store.create_bucket(bucket, versioned=versioned and bucket == "docs")
        self.index = ArchiveIndex(self.store, Location("ledger"))

    async def add(self, addition: Addition) -> None:
        self.now += addition.days_later * DAY
        for key in addition.keys:
            self.now += 1
            await self.store.put(ObjectRef("docs", key), f"{key} at {self.now}".encode(), Attributes(), guard=UNGUARDED)

    async def compact(self, options: CompactOptions, *, versions: str) -> tuple[Grouped, list[Outcome]]:
        """A compaction of all that is there: plan, then every group."""
        shards: list[bytes] = []

        async def batches() -> AsyncIterator[pa.RecordBatch]:
            async for page in list_all(self.store, SOURCE, versions=versions == "all"):
                yield manifest_batch(page)

        async def write_shard(number: int, data: bytes) -> None:
            shards.append(data)

        damage: Damage = []
        with TemporaryDirectory() as folder:
            archived = archived_versions(self.index, ARCHIVES, SOURCE, options, self.store, damage)
            grouped = await plan_groups(
                batches(), Selection(versions=versions), replace(options, pack_all=True),
                archived, Shards(write_shard, Path(folder), 5),
            )  # fmt: skip
        assert damage == []
        asked = msgspec.to_builtins(options, enc_hook=dict)
        job = Compact(opened(self.store, "compact", ARCHIVES, asked), self.index)
        rows = [row for data in shards for batch in read_shard(data) for row in batch]
        return grouped, [outcome for group in job.chains(rows) for outcome in await job.process(group)]

    async def listed(self, versions: str) -> list[Listed]:
        """All that is there."""
        return [entry async for page in list_all(self.store, SOURCE, versions=versions == "all") for entry in page]

    async def members(self, storage_class: str) -> Counter[tuple[str, str | None, str | None]]:
        """How often each version is in an archive of this class."""
        found: Counter[tuple[str, str | None, str | None]] = Counter()
        for record in await self.index.records():
            if record.storage_class == storage_class:
                async for part in self.index.members(record.location):
                    found.update((each.key, each.version_id, each.etag) for each in part)
        return found


def options_for(storage_class: str = "GLACIER_IR", kind: ArchiveFormat = ArchiveFormat.TAR) -> CompactOptions:
    return CompactOptions(PackingRule(20_000, kind, members_max=5), storage_class)


@given(st.lists(additions, min_size=1, max_size=5), st.booleans(), st.sampled_from(["current", "all"]))
@settings(max_examples=examples(4), deadline=None)
def test_over_any_growth_each_version_is_packed_once(history: list[Addition], versioned: bool, versions: str) -> None:
    yard, options = Yard(versioned=versioned), options_for()
    versions = versions if versioned else "current"

    async def run() -> None:
        packed = 0
        for addition in history:
            await yard.add(addition)
            _, outcomes = await yard.compact(options, versions=versions)
            assert {outcome.status for outcome in outcomes} <= {Status.DONE}
            packed += len(outcomes)
            members = await yard.members("GLACIER_IR")
            assert set(members.values()) == {1}
            assert packed == members.total(), "a version was packed again"
            listed = await yard.listed(versions)
            assert {(each.key, each.etag) for each in listed} <= {(key, etag) for key, _, etag in members}
            again, nothing = await yard.compact(options, versions=versions)
            assert nothing == []
            assert again.excluded["already_archived"] == len(listed)

    asyncio.run(run())


async def test_another_class_is_packed_again_because_it_was_asked_for() -> None:
    yard = Yard(versioned=True)
    await yard.add(Addition(["a", "b"], 0))
    for storage_class in ("GLACIER_IR", "DEEP_ARCHIVE", "GLACIER_IR"):
        await yard.compact(options_for(storage_class), versions="current")
    for name in ("GLACIER_IR", "DEEP_ARCHIVE"):
        assert sorted((await yard.members(name)).values()) == [1, 1]


@pytest.mark.parametrize(
    ("asked", "is_packed_again"),
    [
        ({}, False),
        ({"sse": "aws:kms", "kms_key_id": "one"}, False),
        ({"sse": "aws:kms"}, False),
        ({"sse": "aws:kms", "kms_key_id": "two"}, True),
        ({"sse": "AES256"}, True),
    ],
)
async def test_an_archive_whose_index_was_lost_shows_its_encryption_itself(
    asked: dict[str, Any], is_packed_again: bool
) -> None:
    """Its attempt was killed before it wrote the index, so nothing says what was asked for."""
    yard, plain = Yard(versioned=True), options_for()
    await yard.add(Addition(["a", "b"], 0))
    await yard.compact(replace(plain, sse="aws:kms", kms_key_id="one"), versions="current")
    (record,) = await yard.index.records()
    await yard.store.delete(ObjectRef("ledger", f"archives/cold/{record.location.key}.parquet"))
    assert await renew_indexes(yard.index, ARCHIVES, yard.store) == []
    assert bool((await yard.compact(replace(plain, **asked), versions="current"))[1]) == is_packed_again


async def test_what_a_lost_archive_held_is_packed_again() -> None:
    """`verify --archives` finds such an archive, and says: compact again."""
    yard, options = Yard(versioned=True), options_for()
    await yard.add(Addition(["a", "b"], 0))
    await yard.compact(options, versions="current")
    (record,) = await yard.index.records()
    await yard.store.delete(ObjectRef(*record.location))
    _, outcomes = await yard.compact(options, versions="current")
    assert [outcome.status for outcome in outcomes] == [Status.DONE] * 2
    (again,) = await yard.index.records()
    assert (await yard.store.head(ObjectRef(*again.location))).etag == again.etag
    assert (await yard.compact(options, versions="current"))[1] == []


async def test_an_archive_is_read_for_its_index_where_that_is_missing_or_damaged() -> None:
    yard = Yard(versioned=True)
    await yard.add(Addition([f"k{n:02}" for n in range(15)], 0))
    await yard.compact(options_for(), versions="current")
    before = await yard.index.records()
    damaged, lost = (ObjectRef("ledger", f"archives/cold/{each.location.key}.parquet") for each in before[:2])
    await yard.store.delete(lost)
    for ref, data in ((damaged, b"rubbish" * 100), (ObjectRef("cold", "packed/other.tar"), b"not ours" * 200)):
        await yard.store.put(ref, data, Attributes(), guard=UNGUARDED)
    [unread] = await renew_indexes(yard.index, ARCHIVES, yard.store)
    assert unread.archive.key == "packed/other.tar"
    found = await yard.index.records()
    assert {each.location: each.members for each in found} == {each.location: 5 for each in before}
