"""Members by coalesced ranges: the same bytes as one by one, few requests, no memory beyond the budget."""

from __future__ import annotations

import asyncio
import hashlib
import random
from typing import Any

import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.archives.model import ArchiveRecord, Member
from jobs.archives.reader import UNPROVEN, ArchiveReader, judge
from jobs.archives.writer import ArchiveWriter
from jobs.core.enums import ArchiveFormat
from jobs.core.model import Attributes, Checksum, Location
from jobs.core.outcome import Evidence
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.checksums import full_object
from jobs.s3.uploads import ObjectUpload
from tests.doubles.examples import examples
from tests.doubles.memory_store import MemoryStore

BUDGET_BYTES = 40_000


class Watched(MemoryStore):
    """Counts what is read, and how much of it is held at once."""

    requests = 0

    async def get(self, *given: Any, **more: Any) -> Any:
        self.requests += 1
        await asyncio.sleep(0)
        return await super().get(*given, **more)


def described(name: str, data: bytes, **more: Any) -> Member:
    sha256 = hashlib.sha256(data).hexdigest()
    return Member(name, None, True, len(data), None, 0.0, "STANDARD", {}, {}, {}, sha256=sha256)._replace(**more)


async def packed(store: MemoryStore, kind: ArchiveFormat, contents: list[bytes]) -> tuple[ArchiveRecord, list[Member]]:
    """An archive of these contents; its members are placed."""
    store.create_bucket("cold")
    upload = ObjectUpload(store, "cold", f"a.{kind.value}", Attributes(), 8 << 20)
    writer = ArchiveWriter(upload, kind)
    try:
        for number, data in enumerate(contents):
            await writer.add(described(f"k{number:03}", data), data)
        written = await writer.finish()
        writer.index_file.seek(0)
        from jobs.archives.index_tables import from_batch

        members = list(from_batch(pq.read_table(writer.index_file)))
        record = ArchiveRecord(
            Location("cold", f"a.{kind.value}"), kind, upload.size_bytes, written.etag, None, "STANDARD",
            len(members), 0, "", "", "docs", 0.0,
        )  # fmt: skip
        return record, members
    finally:
        await writer.close()


@settings(max_examples=examples(40), deadline=None)
@given(
    kind=st.sampled_from(list(ArchiveFormat)),
    sizes=st.lists(st.integers(0, 3_000), min_size=1, max_size=40),
    chosen=st.randoms(use_true_random=False),
    gap_bytes=st.sampled_from([-1, 0, 2_000, 1 << 20]),
    span_bytes=st.sampled_from([1, 5_000, 1 << 20]),
)
def test_any_members_come_as_they_were_within_the_budget(
    kind: ArchiveFormat, sizes: list[int], chosen: random.Random, gap_bytes: int, span_bytes: int
) -> None:
    contents = [random.Random(number).randbytes(size) for number, size in enumerate(sizes)]

    async def read() -> None:
        store = Watched()
        record, members = await packed(store, kind, contents)
        wanted = [member for member in members if chosen.random() < 0.6]
        chosen.shuffle(wanted)
        budget = ByteBudget(BUDGET_BYTES)
        reader = ArchiveReader(store, record, budget, gap_bytes, span_bytes)
        found = [each async for batch in reader.read(wanted) for each in batch]
        assert {each.member.key: each.data for each in found} == {
            each.key: contents[int(each.key[1:])] for each in wanted
        }
        assert all(each.evidence is Evidence.CHECKSUM for each in found)
        assert len(found) == len(wanted)
        assert store.requests <= sum(each.size_bytes > 0 for each in wanted)
        assert budget.try_acquire(BUDGET_BYTES) == BUDGET_BYTES

    asyncio.run(read())


def test_neighbours_come_by_one_request_and_who_stops_early_gives_the_memory_back() -> None:
    contents = [bytes([n]) * 1_000 for n in range(50)]

    async def read() -> None:
        store, budget = Watched(), ByteBudget(1 << 20)
        record, members = await packed(store, ArchiveFormat.TAR, contents)
        found = [each async for batch in ArchiveReader(store, record, budget).read(members) for each in batch]
        assert (len(found), store.requests) == (50, 1)
        reads: Any = ArchiveReader(store, record, budget, gap_bytes=-1).read(members)
        assert len(await anext(reads)) == 1
        await reads.aclose()
        assert budget.try_acquire(1 << 20) == 1 << 20

    asyncio.run(read())


def test_what_proves_a_members_bytes() -> None:
    data = b"content"
    crc = full_object("CRC64NVME", data)
    bare = described("k", data, sha256=None)
    assert judge(described("k", data), data).evidence is Evidence.CHECKSUM
    assert judge(bare._replace(checksums=(crc,)), data).evidence is Evidence.CHECKSUM
    assert judge(bare._replace(etag=hashlib.md5(data).hexdigest()), data).evidence is Evidence.MD5_ETAG
    for member, given_, reason in (
        (described("k", data), b"Content", "its SHA256 is not the index's"),
        (bare._replace(checksums=(crc,)), b"Content", "its CRC64NVME is not the index's"),
        (bare._replace(etag=hashlib.md5(data).hexdigest()), b"Content", UNPROVEN),
        (bare._replace(checksums=(Checksum("SHA256", "x-2", True),)), data, UNPROVEN),
        (described("k", data), data[:-1], "its size is not the index's"),
    ):
        read = judge(member, given_)
        assert (read.data, read.reason) == (None, reason)
