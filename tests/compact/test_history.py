"""A compaction over any history, against an oracle that reads the buckets alone.

The world grows, loses objects, is damaged and interrupted. The oracle knows no type of Sealift's: it
remembers what was put, reads archives with the standard library's tar, and counts the bytes that
were written.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import itertools
import json
import tarfile
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pytest
import zstandard
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from jobs.archives.index import ArchiveIndex, Damage
from jobs.compact.archived import archived_versions, renew_indexes
from jobs.compact.grouping import cut
from jobs.compact.job import Compact, CompactOptions
from jobs.compact.packing import PackingRule
from jobs.compact.plan import plan_groups
from jobs.compact.savings import Economy
from jobs.core.enums import ArchiveFormat
from jobs.core.model import Attributes, Location, ObjectRef, Route
from jobs.core.selection import Selection
from jobs.errors import Conflict, Denied, PreconditionFailed, StoreError, Unavailable
from jobs.runs.planning import read_price_table
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.listing import list_all
from jobs.s3.store import UNGUARDED
from jobs.tables.rows import manifest_batch, read_shard
from tests.doubles import one_duckdb
from tests.doubles.examples import examples
from tests.doubles.memory_store import MemoryStore

DAY = 86_400.0
ECONOMY = Economy.of(read_price_table(), "GLACIER_IR", 0.0, None)
SOURCE, ARCHIVES, LEDGER = Location("docs"), Location("cold", "packed"), Location("ledger")
RECORD = "SCHILY.xattr.user.sealift."
OVERHEAD_BYTES = 10_240
"""Of an archive: its index, its header, the end and the locator."""

MEMBER_OVERHEAD_BYTES = 2_048


class Killed(Exception):
    """The worker dies, within the request or after it."""


class World(MemoryStore):
    """A store that dies at a request, denies keys, and counts what is written into archives.

    Its version ids have no order in time, as those of S3, but each replay has the same ones.
    """

    def __init__(self) -> None:
        self.now, ids = 0.0, itertools.count()
        super().__init__(clock=lambda: self.now, new_id=lambda: hashlib.md5(b"%d" % next(ids)).hexdigest())
        self.requests_left: int | None = None
        self.denied: set[str] = set()
        self.written_bytes = self.archives_written = 0

    def _request(self) -> None:
        if self.requests_left is not None:
            self.requests_left -= 1
            if self.requests_left < 0:
                raise Killed

    async def get(self, ref: ObjectRef, **more: Any) -> Any:
        self._request()
        if ref.bucket == "docs" and ref.key in self.denied:
            raise Denied("GetObject", str(ref), "AccessDenied", "no", 403)
        return await super().get(ref, **more)

    async def put(self, bucket: str, key: str, data: bytes, *given: Any, **more: Any) -> Any:
        self._request()
        written = await super().put(bucket, key, data, *given, **more)
        if bucket == "cold":
            self.written_bytes += len(data)
            self.archives_written += 1
        self._request()
        return written


Identity = tuple[str, str | None, str, int]
"""Key, version id, SHA-256 of an object's bytes, and the second of its writing: what the oracle knows of it."""


def members_of(data: bytes) -> list[Identity]:
    """Each member of an archive, by the standard library."""
    if data[:4] == zstandard.FRAME_HEADER:
        data = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True).read()
    found = []
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for entry in tar:
            file = tar.extractfile(entry)
            assert file is not None
            if f"{RECORD}index" not in entry.pax_headers:
                records = entry.pax_headers
                key = json.loads(records[f"{RECORD}key"]) if f"{RECORD}key" in records else entry.name
                sha256 = hashlib.sha256(file.read()).hexdigest()
                found.append((key, records.get(f"{RECORD}version-id"), sha256, int(entry.mtime)))
    return found


class History(RuleBasedStateMachine):
    """Growth, deletions, lost archives and indexes, damaged indexes, and compactions that are killed."""

    @initialize(versioned=st.booleans(), kind=st.sampled_from(ArchiveFormat))
    def begin(self, versioned: bool, kind: ArchiveFormat) -> None:
        self.store, self.versioned = World(), versioned
        for bucket in ("docs", "cold", "ledger"):
            self.store.create_bucket(bucket, versioned=versioned and bucket == "docs")
        self.options = CompactOptions(PackingRule(20_000, kind, members_max=5), ECONOMY)
        self.data: dict[Identity, bytes] = {}
        self.left: set[Identity] = set()
        self.lost: Counter[Identity] = Counter()

    @rule(
        keys=st.lists(st.text("ab/0", min_size=1, max_size=4), min_size=1, max_size=6),
        days=st.integers(0, 40),
        is_again=st.booleans(),
    )
    def grow(self, keys: list[str], days: int, is_again: bool = False) -> None:
        """Write new content, or (`is_again`) what the key had first."""
        self.store.now += days * DAY
        for key in keys:
            self.store.now += 1
            data = f"{key} at {self.store.now}".encode() * 70
            if is_again:
                data = next((known for each, known in self.data.items() if each[0] == key), data)
            made = asyncio.run(self.store.put("docs", key, data, Attributes(), guard=UNGUARDED))
            self.data[key, made.version_id, hashlib.sha256(data).hexdigest(), int(self.store.now)] = data

    @rule(data=st.data())
    def deny(self, data: st.DataObject) -> None:
        keys = sorted({key for key, *_ in self.data})
        self.store.denied = set(data.draw(st.lists(st.sampled_from(keys), max_size=2))) if keys else set()

    @rule(requests=st.integers(0, 60))
    def compact_and_die(self, requests: int) -> None:
        self.store.requests_left = requests
        with contextlib.suppress(Killed, StoreError):
            asyncio.run(self._compact())
        self.store.requests_left = None
        assert max(self._places().values(), default=0) <= 1, "a version was packed twice"

    @rule()
    def compact(self) -> None:
        asyncio.run(self._compact())
        places, here = self._places(), self._here()
        assert set(places.values()) <= {1}, "a version was packed twice"
        assert set(places) <= set(self.data), "an archive holds bytes that nobody put"
        lacking = {each for each in here if each[0] not in self.store.denied} - set(places)
        assert not lacking, f"not packed: {lacking}"
        assert self.left <= set(places) | set(self.lost), "what left the source is nowhere"
        packed = [*places, *self.lost.elements()]
        new_bytes = sum(len(self.data[each]) + MEMBER_OVERHEAD_BYTES for each in packed)
        assert self.store.written_bytes <= 1.1 * new_bytes + self.store.archives_written * OVERHEAD_BYTES
        assert asyncio.run(self._indexed()) == places

    @rule(data=st.data())
    def delete_originals(self, data: st.DataObject) -> None:
        """As expire does it: only what is proven to be in an archive."""
        proven = sorted(set(self._places()) & self._here(), key=str)
        for each in data.draw(st.lists(st.sampled_from(proven), max_size=3, unique=True)) if proven else []:
            asyncio.run(self.store.delete("docs", each[0], version_id=each[1]))
            self.left.add(each)

    @rule(data=st.data())
    def lose_an_archive(self, data: st.DataObject) -> None:
        keys = self._keys("cold")
        if keys:
            key = data.draw(st.sampled_from(keys))
            self.lost.update(members_of(self._bytes("cold", key)))
            asyncio.run(self.store.delete("cold", key))

    @rule(data=st.data(), is_lost=st.booleans())
    def lose_or_damage_an_index(self, data: st.DataObject, is_lost: bool) -> None:
        keys = [key for key in self._keys("ledger") if key.endswith(".parquet")]
        if keys:
            key = data.draw(st.sampled_from(keys))
            rubbish = b"rubbish" * 100
            asyncio.run(
                self.store.delete("ledger", key)
                if is_lost
                else self.store.put("ledger", key, rubbish, Attributes(), guard=UNGUARDED)
            )

    async def _compact(self) -> None:
        """A plan of all that is there, then every group, as a worker does it."""
        shards: list[bytes] = []
        versions = "all" if self.versioned else "current"
        index = ArchiveIndex(self.store, LEDGER)

        async def batches() -> AsyncIterator[pa.RecordBatch]:
            async for page in list_all(self.store, SOURCE, versions=self.versioned):
                yield manifest_batch(page)

        async def write_shard(number: int, data: bytes) -> None:
            shards.append(data)

        damage: Damage = []
        await renew_indexes(index, ARCHIVES, self.store, SOURCE.bucket)
        with TemporaryDirectory() as folder, patch("duckdb.connect", one_duckdb.connect_unlocked):
            await plan_groups(
                batches(), Selection(versions=versions), self.options.rule, ECONOMY,
                archived=archived_versions(index, ARCHIVES, SOURCE, self.options.storage, damage, store=self.store),
                write_shard=write_shard, scratch_directory=Path(folder), rows_per_shard=5,
            )  # fmt: skip
        job = Compact(self.store, self.store, Route(SOURCE, ARCHIVES), self.options, ByteBudget(1 << 20), index, "run")
        rows = [row for data in shards for batch in read_shard(data) for row in batch]
        for group in cut(rows, self.options.rule):
            for attempt in range(5):
                try:
                    await job.process(group)
                    break
                except (Unavailable, Conflict, PreconditionFailed):
                    assert attempt < 4

    async def _indexed(self) -> Counter[Identity]:
        """What the product's index says. Only of an archive that is lost may an index be damaged still."""
        index = ArchiveIndex(self.store, LEDGER)
        found: Counter[Identity] = Counter()
        damage: Damage = []
        there = {entry.key for entry in (await self.store.list_objects("cold", "")).entries}
        records = await index.records(ARCHIVES, damage)
        assert not {each.archive.key for each in damage} & there
        for record in records:
            if record.location.key in there:
                async for part in index.members(record.location):
                    found.update(
                        (each.key, each.version_id, each.sha256 or "", int(each.last_modified or 0)) for each in part
                    )
        return found

    def _places(self) -> Counter[Identity]:
        """How often each version is in an archive, by the bytes of the archives."""
        return Counter(each for key in self._keys("cold") for each in members_of(self._bytes("cold", key)))

    def _here(self) -> set[Identity]:
        """What the source has."""

        async def look() -> set[Identity]:
            found = set()
            async for page in list_all(self.store, SOURCE, versions=self.versioned):
                for each in page:
                    if not each.is_delete_marker:
                        ref = ObjectRef("docs", each.key, each.version_id)
                        data = (await MemoryStore.get(self.store, ref)).data
                        sha256 = hashlib.sha256(data).hexdigest()
                        found.add((each.key, each.version_id, sha256, int(each.last_modified)))
            return found

        return asyncio.run(look())

    def _keys(self, bucket: str) -> list[str]:
        return [entry.key for entry in asyncio.run(self.store.list_objects(bucket, "")).entries]

    def _bytes(self, bucket: str, key: str) -> bytes:
        return asyncio.run(MemoryStore.get(self.store, ObjectRef(bucket, key))).data


@pytest.mark.slow
@pytest.mark.hypothesis
def test_over_any_history_each_version_is_in_one_provable_place() -> None:
    run_state_machine_as_test(
        History,
        settings=settings(
            max_examples=examples(60), stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


@pytest.mark.parametrize("requests", range(12))
def test_a_compaction_that_died_at_any_request_is_not_packed_again_when_its_group_grows(requests: int) -> None:
    history = History()
    history.begin(versioned=True, kind=ArchiveFormat.TAR)
    history.grow(["a", "b"], 0)
    history.compact_and_die(requests)
    history.grow(["aa"], 0)
    history.compact()
    assert sorted(key for key, *_ in history._places()) == ["a", "aa", "b"]


def test_a_lost_archive_with_a_damaged_index_is_packed_again() -> None:
    history = History()
    history.begin(versioned=True, kind=ArchiveFormat.TAR)
    history.grow(["a"], 0)
    history.compact()
    store, (archive,), (index, *_) = history.store, history._keys("cold"), history._keys("ledger")
    asyncio.run(store.put("ledger", index, b"rubbish" * 100, Attributes(), guard=UNGUARDED))
    asyncio.run(store.delete("cold", archive))
    history.lost.update(history._here())
    history.compact()
    assert [key for key, *_ in history._places()] == ["a"]


def test_content_that_comes_back_to_a_key_without_version_ids_is_packed_again() -> None:
    history = History()
    history.begin(versioned=False, kind=ArchiveFormat.TAR)
    for is_again in (False, False, True):
        history.grow(["a"], 0, is_again)
        history.compact()
    assert len(history._places()) == 3


def test_a_replay_of_a_history_meets_the_same_versions_in_the_same_archives() -> None:
    def replay() -> tuple[set[Identity], list[str]]:
        history = History()
        history.begin(versioned=True, kind=ArchiveFormat.TAR)
        history.grow(["a", "b", "a"], 0)
        history.compact()
        return history._here(), history._keys("cold")

    assert replay() == replay(), "Hypothesis draws from what is there, and needs the same at each replay"
