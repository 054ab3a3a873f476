"""Members by coalesced ranges: the same bytes as one by one, few requests, no memory beyond the budget."""

from __future__ import annotations

import asyncio
import hashlib
import random
import tracemalloc
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from jobs.archives.model import CHUNK_BYTES, Member
from jobs.archives.reader import UNPROVEN, ArchiveReader, MemberRead, content_checksums, judge
from jobs.core.enums import ArchiveFormat
from jobs.core.model import Attributes, Checksum, ObjectRef
from jobs.core.outcome import Evidence
from jobs.core.reasons import Cause, Reason
from jobs.errors import DamagedArchive, PreconditionFailed
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.checksums import full_object
from jobs.s3.store import UNGUARDED
from tests.archives import samples
from tests.archives.samples import Packed, pack, reader_of
from tests.doubles.examples import examples
from tests.doubles.memory_store import Request

BUDGET_BYTES = 40_000


class Watch:
    """Counts the reads of an archive, notes their ranges, and alters the answers to the first `altered` of them."""

    requests = in_flight = most_in_flight = altered = 0

    def __init__(self, made: Packed) -> None:
        self.store, self.record, self.members = made.store, made.record, made.members
        self.ranges: list[tuple[int, int | None]] = []
        self.store.hook(get=self.get)

    async def get(self, request: Request) -> Any:
        self.requests += 1
        self.ranges.append((request.arguments["start"], request.arguments["end"]))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(0)
        self.in_flight -= 1
        body = await request()
        if self.requests <= self.altered:
            return body._replace(data=bytes([body.data[0] ^ 1]) + body.data[1:])
        return body


async def watched(kind: ArchiveFormat, contents: list[bytes]) -> Watch:
    """An archive of these contents, in members `k000` and so on."""
    made = await pack([(samples.member(f"k{number:03}", data), data) for number, data in enumerate(contents)], kind)
    return Watch(replace(made, record=replace(made.record, version_id=None)))


@settings(max_examples=examples(25), deadline=None)
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
        watch = await watched(kind, contents)
        wanted = [each for each in watch.members if chosen.random() < 0.6]
        chosen.shuffle(wanted)
        budget = ByteBudget(BUDGET_BYTES)
        reader = reader_of(watch.store, watch.record, budget, gap_bytes=gap_bytes, span_bytes=span_bytes)
        found = [each async for batch in reader.read(wanted) for each in batch]
        assert {each.member.key: each.data for each in found} == {
            each.key: contents[int(each.key[1:])] for each in wanted
        }
        assert all(each.evidence is Evidence.CHECKSUM for each in found)
        assert len(found) == len(wanted)
        assert watch.requests <= sum(each.size_bytes > 0 for each in wanted)
        assert budget.try_acquire(BUDGET_BYTES) == BUDGET_BYTES

    asyncio.run(read())


async def test_neighbours_come_by_one_request_and_who_stops_early_gives_the_memory_back() -> None:
    watch = await watched(ArchiveFormat.TAR, [bytes([n]) * 1_000 for n in range(50)])
    budget = ByteBudget(1 << 20)
    for spans, requests in (({}, 1), ({"gap_bytes": -1}, 50), ({"span_bytes": 1}, 50)):
        watch.requests = 0
        reads = reader_of(watch.store, watch.record, budget, **spans).read(watch.members)
        assert (len([each async for batch in reads for each in batch]), watch.requests) == (50, requests)
    reads = reader_of(watch.store, watch.record, budget, gap_bytes=-1).read(watch.members)
    assert len(await anext(reads)) == 1
    await reads.aclose()
    assert budget.try_acquire(1 << 20) == 1 << 20


def test_what_proves_a_members_bytes() -> None:
    data = b"content"
    crc = full_object("CRC64NVME", data)
    bare = samples.member("k", data, sha256=None)
    assert judge(samples.member("k", data), data).evidence is Evidence.CHECKSUM
    assert judge(bare._replace(checksums=(crc,)), data).evidence is Evidence.CHECKSUM
    assert judge(bare._replace(etag=hashlib.md5(data).hexdigest()), data).evidence is Evidence.MD5_ETAG
    for member, given_, cause in (
        (samples.member("k", data), b"Content", Cause(Reason.CHECKSUM_DIFFERS, "SHA256")),
        (bare._replace(checksums=(crc,)), b"Content", Cause(Reason.CHECKSUM_DIFFERS, "CRC64NVME")),
        (bare._replace(etag=hashlib.md5(data).hexdigest()), b"Content", UNPROVEN),
        (bare._replace(checksums=(Checksum("SHA256", "x-2", True),)), data, UNPROVEN),
        (samples.member("k", data), data[:-1], Cause(Reason.SIZE_DIFFERS)),
    ):
        read = judge(member, given_)
        assert (read.data, read.cause) == (None, cause)


async def read_all(reader: ArchiveReader, members: list[Member]) -> list[MemberRead]:
    return [each async for batch in reader.read(members) for each in batch]


async def streamed(reader: ArchiveReader, member: Member) -> bytes:
    return b"".join([piece async for piece in reader.stream(member)])


async def made(kind: ArchiveFormat, contents: list[bytes]) -> tuple[Watch, ArchiveReader, list[Member]]:
    """An archive, its reader without neighbours that share requests, and its members."""
    watch = await watched(kind, contents)
    return watch, reader_of(watch.store, watch.record, ByteBudget(1 << 30), gap_bytes=-1), watch.members


@pytest.mark.parametrize(
    "wrong",
    [
        {"offset": -1}, {"offset": 0, "size_bytes": -1}, {"offset": 0, "size_bytes": 2 * CHUNK_BYTES + 1},
        {"frame_start": 0, "frame_offset": 0, "frame_length": 9, "offset": -1},
        {"frame_start": 0, "frame_offset": 0, "frame_length": 9, "offset": 2 * CHUNK_BYTES + 1},
    ],
)  # fmt: skip
async def test_an_impossible_place_is_not_asked_for_and_the_others_are_read(wrong: dict[str, Any]) -> None:
    store, reader, (member, other) = await made(ArchiveFormat.TAR, [b"one", b"two"])
    bad = member._replace(**wrong)
    assert await read_all(reader, [bad, other]) == [
        MemberRead(bad, None, cause=Cause(Reason.ARCHIVE_DAMAGED, "its place in the index is impossible")),
        MemberRead(other, b"two", Evidence.CHECKSUM),
    ]
    assert store.requests == 1


@pytest.mark.parametrize("kind", list(ArchiveFormat))
async def test_a_member_that_fails_its_proof_is_read_once_more_by_itself(kind: ArchiveFormat) -> None:
    contents = [random.Random(number).randbytes(1_000) for number in range(3)]
    store, reader, members = await made(kind, contents)
    store.altered = 1
    assert [each.data for each in await read_all(reader, members[1:2])] == [contents[1]]
    assert store.ranges == [members[1].byte_range] * 2
    store.altered = 1 << 20
    [read] = await read_all(reader, members[1:2])
    assert read.data is None
    assert read.cause is not None
    assert read.cause.reason in (Reason.CHECKSUM_DIFFERS, Reason.ARCHIVE_DAMAGED)
    assert store.requests == 4


async def test_another_archive_of_that_name_is_refused() -> None:
    watch, reader, members = await made(ArchiveFormat.TAR, [b"one"])
    await watch.store.put(ObjectRef("cold", "packed/one.tar"), b"another", Attributes(), guard=UNGUARDED)
    with pytest.raises(PreconditionFailed):
        await read_all(reader, members)


@pytest.mark.parametrize("kind", list(ArchiveFormat))
async def test_a_streamed_member_is_proven_by_what_the_index_has(
    kind: ArchiveFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, other = random.Random(1).randbytes(3_000), random.Random(2).randbytes(3_000)
    store, reader, (own, _) = await made(kind, [data, other])
    bare = own._replace(sha256=None)
    for member in (own, bare._replace(checksums=(full_object("CRC64NVME", data),))):
        assert await streamed(reader, member) == data
    for algorithm in ("SHA256", "CRC64NVME"):
        wrong = bare._replace(checksums=(full_object(algorithm, other),))
        with pytest.raises(DamagedArchive, match=f"member 'k000': its {algorithm} is not the index's"):
            await streamed(reader, wrong)
    asked = store.requests
    with pytest.raises(DamagedArchive, match=UNPROVEN.detail):
        await streamed(reader, bare)
    monkeypatch.setattr("jobs.archives.reader.CHUNK_BYTES", 1_000)
    assert [content async for _, content in reader.contents([bare])] == [UNPROVEN]
    assert store.requests == asked
    assert reader.budget.try_acquire(1 << 30) == 1 << 30


def test_the_own_sha256_comes_first_and_only_once() -> None:
    data = b"content"
    crc, sha = full_object("CRC64NVME", data), full_object("SHA256", data)
    member = samples.member("k", data)._replace(checksums=(sha, crc, Checksum("CRC32", "x-2", True)))
    assert content_checksums(member) == (sha, crc)
    assert set(content_checksums(member._replace(sha256=None))) == {sha, crc}


async def test_a_frame_is_unpacked_no_further_than_its_members() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(64 << 20))
    watch = await watched(ArchiveFormat.TAR_ZST, [])
    small = samples.member("k", bytes(10), offset=512, frame_start=0, frame_offset=0, frame_length=len(bomb))
    place = ObjectRef("cold", watch.record.location.key)
    written = await watch.store.put(place, bomb, Attributes(), guard=UNGUARDED)
    reader = reader_of(watch.store, replace(watch.record, etag=written.etag), ByteBudget(1 << 20))
    tracemalloc.start()
    try:
        [found] = await read_all(reader, [small])
        assert found.data == bytes(10)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
