"""The index: one key among many is found by a few ranged reads, whoever wrote what in between."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.archives.index import ArchiveIndex, Damage
from jobs.archives.index_tables import INDEX_SCHEMA, TableWriter
from jobs.archives.model import ArchiveRecord, Member
from jobs.core.enums import ArchiveFormat
from jobs.core.model import Attributes, Location, ObjectRef
from jobs.errors import DamagedArchive, PreconditionFailed
from jobs.s3.store import UNGUARDED
from jobs.tables.ranged_parquet import TAIL_BYTES
from tests.archives.samples import member
from tests.doubles.memory_store import MemoryStore, Request

LEDGER = Location("ledger", "all")


def counting() -> tuple[MemoryStore, list[tuple[str, int]]]:
    """A store, and the requests to it with the bytes that they read."""
    requests: list[tuple[str, int]] = []

    async def count(request: Request) -> Any:
        answer = await request()
        requests.append((request.operation, len(answer.data) if request.operation == "get" else 0))
        return answer

    return MemoryStore(on={"every": count}), requests


def record(name: str, members: list[Member], bucket: str = "cold") -> ArchiveRecord:
    keys = [each.key for each in members]
    return ArchiveRecord(
        Location(bucket, name), ArchiveFormat.TAR, 5, "e", None, "GLACIER_IR", len(members), 7,
        min(keys), max(keys), "docs", 1_700_000_000.0,
    )  # fmt: skip


def own_index(members: list[Member]) -> io.BytesIO:
    file = io.BytesIO()
    writer = TableWriter(file)
    writer.add(members)
    writer.close()
    file.seek(0)
    return file


def on(store: MemoryStore, work: Callable[[ArchiveIndex], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        store.create_bucket("ledger")
        return await work(ArchiveIndex(store, LEDGER))

    return asyncio.run(run())


async def publish(index: ArchiveIndex, name: str, members: list[Member], bucket: str = "cold") -> ArchiveRecord:
    return await index.publish(record(name, members, bucket), own_index(members))


def test_one_key_among_many_takes_few_requests_and_few_bytes() -> None:
    store, requests = counting()
    groups = [[member(f"k{group:02}/{n:06}", sha256=f"{n:064x}") for n in range(15_000)] for group in range(4)]

    async def work(index: ArchiveIndex) -> None:
        for number, group in enumerate(groups):
            await publish(index, f"a{number}.tar", group)
        await index.records()  # the directory is there from now on
        requests.clear()
        (found,) = await index.find("k03/012345")
        assert found.member == groups[3][12345]
        assert found.record.location == Location("cold", "a3.tar")
        assert sorted(name for name, _ in requests) == ["get", "get", "get", "head", "list_objects"]
        read_bytes = sum(size_bytes for _, size_bytes in requests)
        size_bytes = (await store.head(ObjectRef("ledger", "all/archives/cold/a3.tar.parquet"))).size_bytes
        assert read_bytes < TAIL_BYTES + size_bytes / 4 + 10_000

    on(store, work)


def test_the_newest_version_comes_first_and_of_one_time_the_latest_of_its_key() -> None:
    old = member("k", b"0", "v0", last_modified=1.0)
    latest = member("k", b"2", "v2", last_modified=2.0)
    below = member("k", b"1", "v1", last_modified=2.0, is_latest=False)

    async def work(index: ArchiveIndex) -> None:
        await publish(index, "a.tar", [below, old])
        await publish(index, "b.tar", [latest])
        assert [each.member for each in await index.find("k")] == [latest, below, old]

    on(MemoryStore(), work)


def test_an_archive_is_indexed_once_and_the_first_one_stands() -> None:
    async def work(index: ArchiveIndex) -> None:
        first = await publish(index, "a.tar", [member("k")])
        second = await index.publish(replace(first, etag="other"), own_index([member("z")]))
        assert second == first
        assert await index.record(Location("cold", "a.tar")) == first
        assert await index.find("z") == []

    on(MemoryStore(), work)


def test_an_index_that_the_server_does_not_replace_is_never_called_the_one_that_won() -> None:
    """Ceph 18.2: If-Match of a PutObject never holds."""

    async def refuse(request: Request) -> Any:
        if request.arguments["guard"].etag is not None:
            raise PreconditionFailed("PutObject", request.place.key, "PreconditionFailed", "", 412)
        return await request()

    async def work(index: ArchiveIndex) -> None:
        lost = await publish(index, "a.tar", [member("k")])
        etag = await index.etag(lost.location)
        with pytest.raises(match=r"delete s3://ledger/all/archives/cold/a\.tar\.parquet"):
            await index.publish(replace(lost, etag="new"), own_index([member("z")]), stale_etag=etag)
        assert await index.record(lost.location) == lost

    on(MemoryStore(on={"put": refuse}), work)


def test_an_index_that_another_process_has_replaced_wins() -> None:
    async def work(index: ArchiveIndex) -> None:
        lost = await publish(index, "a.tar", [member("k")])
        etag = await index.etag(lost.location)
        first = replace(lost, etag="first")
        assert await index.publish(first, own_index([member("z")]), stale_etag=etag) == first
        second = replace(lost, etag="second")
        assert await index.publish(second, own_index([member("z")]), stale_etag=etag) == first

    on(MemoryStore(), work)


def test_archives_below_a_location_are_a_folder_of_their_own() -> None:
    async def work(index: ArchiveIndex) -> None:
        for name in ("x/a.tar", "x/y/b.tar", "xy/c.tar"):
            await publish(index, name, [member("k")])
        await publish(index, "x/d.tar", [member("k")], bucket="other")
        below = await index.records(Location("cold", "x"))
        assert [each.location.key for each in below] == ["x/a.tar", "x/y/b.tar"]
        assert len(await index.records(Location("cold"))) == 3
        assert len(await index.records()) == 4

    on(MemoryStore(), work)


@pytest.mark.parametrize("content", [b"", b"[", b'[["a.tar", "?", {}]]', b"{}", b"[1]"])
def test_a_wrong_directory_only_costs_time(content: bytes) -> None:
    store = MemoryStore()

    async def work(index: ArchiveIndex) -> None:
        await publish(index, "a.tar", [member("k")])
        await store.put(ObjectRef("ledger", "all/archives/cold.directory.json"), content, Attributes(), guard=UNGUARDED)
        assert len(await index.find("k")) == 1
        await store.delete(ObjectRef("ledger", "all/archives/cold/a.tar.parquet"))
        assert await index.find("k") == []

    on(store, work)


def test_of_an_index_that_was_damaged_later_the_source_bucket_stays_known() -> None:
    store = MemoryStore()

    async def work(index: ArchiveIndex) -> None:
        for name in ("a.tar", "b.tar"):
            await publish(index, name, [member("k")])
        await index.records()
        await store.put(
            ObjectRef("ledger", "all/archives/cold/a.tar.parquet"), b"rubbish", Attributes(), guard=UNGUARDED
        )
        for _ in range(2):  # the first one writes the directory again
            damage: Damage = []
            assert [each.location.key for each in await index.records(damage=damage)] == ["b.tar"]
            assert [(each.archive.key, each.source_bucket) for each in damage] == [("a.tar", "docs")]

    on(store, work)


def foreign() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"key": ["a"]}), sink)
    return sink.getvalue()


@pytest.mark.parametrize("data", [b"", b"x" * 100, b"x" * 100 + b"\xff\xff\xff\x7fPAR1", foreign()])
def test_what_is_no_index_is_said_to_be_damaged(data: bytes) -> None:
    store = MemoryStore()

    async def work(index: ArchiveIndex) -> None:
        await store.put(ObjectRef("ledger", "all/archives/cold/a.tar.parquet"), data, Attributes(), guard=UNGUARDED)
        with pytest.raises(DamagedArchive):
            await index.record(Location("cold", "a.tar"))
        assert await index.record(Location("cold", "b.tar")) is None

    on(store, work)


def test_a_member_that_no_restore_can_send_or_find_is_damage() -> None:
    """Whoever may write to the ledger can forge an index: its headers would be those of a request."""

    async def work(index: ArchiveIndex) -> None:
        await publish(index, "a.tar", [member("k", headers={"x-amz-copy-source": "secrets/k"})])
        with pytest.raises(DamagedArchive):
            _ = [part async for part in index.members(Location("cold", "a.tar"))]

    on(MemoryStore(), work)


def test_the_index_is_a_table_that_anybody_reads() -> None:
    store = MemoryStore()

    async def work(index: ArchiveIndex) -> None:
        await publish(index, "a.tar", [member("k", tags={"b": "2", "a": "1"})])
        data = (await store.get(ObjectRef("ledger", "all/archives/cold/a.tar.parquet"))).data
        table = pq.read_table(io.BytesIO(data))
        assert table.schema.equals(INDEX_SCHEMA)
        (row,) = table.to_pylist()
        assert (row["key"], row["archive"], row["tags"]) == ("k", "s3://cold/a.tar", '{"a":"1","b":"2"}')

    on(store, work)


def test_a_flipped_bit_among_the_rows_is_found_or_changes_nothing() -> None:
    store = MemoryStore()
    ref = ObjectRef("ledger", "all/archives/cold/a.tar.parquet")

    async def work(index: ArchiveIndex) -> None:
        await publish(index, "a.tar", [member(f"docs/{number}") for number in range(50)])
        whole = (await store.get(ref)).data
        rows_end = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
        expected = [each async for part in index.members(Location("cold", "a.tar")) for each in part]
        found = 0
        for bit in range(32, 8 * rows_end, 41):
            flipped = bytearray(whole)
            flipped[bit // 8] ^= 1 << bit % 8
            await store.put(ObjectRef(ref.bucket, ref.key), bytes(flipped), Attributes(), guard=UNGUARDED)
            try:
                read = [each async for part in index.members(Location("cold", "a.tar")) for each in part]
            except DamagedArchive:
                found += 1
            else:
                assert read == expected, f"bit {bit}"
        assert found > 100

    on(store, work)


@pytest.mark.parametrize("is_incomplete", [True, False])
def test_a_damaged_index_is_named_and_the_others_are_read(is_incomplete: bool) -> None:
    """`incomplete`: what earlier releases said of an index that lacks members of its archive."""
    store = MemoryStore()

    async def work(index: ArchiveIndex) -> None:
        await publish(index, "b.tar", [member("z")])
        lacking = replace(record("a.tar", [member("k")]), incomplete="cut" if is_incomplete else None)
        await index.publish(lacking, own_index([member("k")]))
        if not is_incomplete:
            place = ("ledger", "all/archives/cold/a.tar.parquet")
            await store.put(ObjectRef(*place), b"rubbish" * 9, attributes=Attributes(), guard=UNGUARDED)
        for _ in range(2):
            damage: Damage = []
            found = [each.location.key for each in await index.records(damage=damage)]
            assert found == (["a.tar", "b.tar"] if is_incomplete else ["b.tar"])
            assert [each.archive.key for each in damage] == ["a.tar"]

    on(store, work)
