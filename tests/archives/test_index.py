"""The index: one key among many is found by a few ranged reads, whoever wrote what in between."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

from jobs.archives.index import ArchiveIndex, Damage
from jobs.archives.index_tables import INDEX_SCHEMA, TableWriter
from jobs.archives.model import ArchiveRecord, Member
from jobs.core.enums import ArchiveFormat
from jobs.core.model import Attributes, Location, ObjectRef
from jobs.errors import DamagedArchive
from jobs.s3.store import UNGUARDED
from jobs.tables.ranged_parquet import TAIL_BYTES
from jobs.tables.rows import write_parquet
from tests.archives.samples import member, refuse_if_match
from tests.doubles.memory_store import MemoryStore, Request

LEDGER = Location("ledger", "all")


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


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(buckets=["ledger"])


@pytest.fixture
def index(store: MemoryStore) -> ArchiveIndex:
    return ArchiveIndex(store, LEDGER)


async def put(store: MemoryStore, name: str, data: bytes) -> None:
    await store.put(ObjectRef("ledger", f"all/archives/{name}"), data, Attributes(), guard=UNGUARDED)


async def publish(index: ArchiveIndex, name: str, members: list[Member], bucket: str = "cold") -> ArchiveRecord:
    return await index.publish(record(name, members, bucket), own_index(members))


async def test_one_key_among_many_takes_few_requests_and_few_bytes(store: MemoryStore, index: ArchiveIndex) -> None:
    requests: list[tuple[str, int]] = []

    async def count(request: Request) -> Any:
        answer = await request()
        requests.append((request.operation, len(answer.data) if request.operation == "get" else 0))
        return answer

    groups = [[member(f"k{group:02}/{n:06}", sha256=f"{n:064x}") for n in range(15_000)] for group in range(4)]
    for number, group in enumerate(groups):
        await publish(index, f"a{number}.tar", group)
    await index.records()  # the directory is there from now on
    store.hook(every=count)
    (found,) = await index.find("k03/012345", await index.records())
    store.hook(every=None)
    assert found.member == groups[3][12345]
    assert found.record.location == Location("cold", "a3.tar")
    assert sorted(name for name, _ in requests) == ["get", "get", "get", "head", "list_objects"]
    size_bytes = (await store.head(ObjectRef("ledger", "all/archives/cold/a3.tar.parquet"))).size_bytes
    assert sum(read_bytes for _, read_bytes in requests) < TAIL_BYTES + size_bytes / 4 + 10_000


async def test_the_newest_version_comes_first_and_of_one_time_the_latest_of_its_key(index: ArchiveIndex) -> None:
    old = member("k", b"0", "v0", last_modified=1.0)
    latest = member("k", b"2", "v2", last_modified=2.0)
    below = member("k", b"1", "v1", last_modified=2.0, is_latest=False)
    await publish(index, "a.tar", [below, old])
    await publish(index, "b.tar", [latest])
    assert [each.member for each in await index.find("k", await index.records())] == [latest, below, old]


async def test_an_archive_is_indexed_once_and_the_first_one_stands(index: ArchiveIndex) -> None:
    first = await publish(index, "a.tar", [member("k")])
    assert await index.publish(replace(first, etag="other"), own_index([member("z")])) == first
    assert (await index.record(first.location), await index.find("z", await index.records())) == (first, [])
    etag = await index.etag(first.location)
    for name in ("by another process", "too late"):  # both saw the same stale index
        made = replace(first, etag=name)
        won = await index.publish(made, own_index([member("z")]), stale_etag=etag)
        assert won.etag == "by another process"


async def test_an_index_that_the_server_does_not_replace_is_never_called_the_one_that_won(
    store: MemoryStore, index: ArchiveIndex
) -> None:
    """Ceph 18.2: If-Match of a PutObject never holds."""
    lost = await publish(index, "a.tar", [member("k")])
    store.hook(put=refuse_if_match)
    with pytest.raises(match=r"delete s3://ledger/all/archives/cold/a\.tar\.parquet"):
        await index.publish(
            replace(lost, etag="new"), own_index([member("z")]), stale_etag=await index.etag(lost.location)
        )
    assert await index.record(lost.location) == lost


async def test_archives_below_a_location_are_a_folder_of_their_own(index: ArchiveIndex) -> None:
    for name in ("x/a.tar", "x/y/b.tar", "xy/c.tar"):
        await publish(index, name, [member("k")])
    await publish(index, "x/d.tar", [member("k")], bucket="other")
    below = await index.records(Location("cold", "x"))
    assert [each.location.key for each in below] == ["x/a.tar", "x/y/b.tar"]
    assert (len(await index.records(Location("cold"))), len(await index.records())) == (3, 4)


@pytest.mark.parametrize("content", [b"", b"[", b'[["a.tar", "?", {}]]', b"{}", b"[1]"])
async def test_a_wrong_directory_only_costs_time(store: MemoryStore, index: ArchiveIndex, content: bytes) -> None:
    await publish(index, "a.tar", [member("k")])
    await put(store, "cold.directory.json", content)
    assert len(await index.find("k", await index.records())) == 1
    await store.delete(ObjectRef("ledger", "all/archives/cold/a.tar.parquet"))
    assert await index.find("k", await index.records()) == []


FOREIGN = write_parquet(pa.table({"key": ["a"]}))


@pytest.mark.parametrize("data", [b"", b"x" * 100, b"x" * 100 + b"\xff\xff\xff\x7fPAR1", FOREIGN])
async def test_what_is_no_index_is_said_to_be_damaged(store: MemoryStore, index: ArchiveIndex, data: bytes) -> None:
    await put(store, "cold/a.tar.parquet", data)
    with pytest.raises(DamagedArchive):
        await index.record(Location("cold", "a.tar"))
    assert await index.record(Location("cold", "b.tar")) is None


async def test_a_member_that_no_restore_can_send_or_find_is_damage(index: ArchiveIndex) -> None:
    """Whoever may write to the ledger can forge an index: its headers would be those of a request."""
    await publish(index, "a.tar", [member("k", headers={"x-amz-copy-source": "secrets/k"})])
    with pytest.raises(DamagedArchive):
        _ = [part async for part in index.members(Location("cold", "a.tar"))]


async def test_a_key_that_is_no_text_is_damage(store: MemoryStore, index: ArchiveIndex) -> None:
    """The footer of an altered index shows the first and the last key of a row group alone."""
    await publish(index, "a.tar", [member(key) for key in ("a", "b", "c")])
    table = pq.read_table(io.BytesIO((await store.get(ObjectRef("ledger", "all/archives/cold/a.tar.parquet"))).data))
    keys = pa.array([b"a", b"b\xff", b"c"]).view(pa.string())
    await put(store, "cold/a.tar.parquet", write_parquet(table.set_column(0, table.schema.field(0), keys)))
    damage: Damage = []
    assert await index.find("a", await index.records(), damage) == []
    assert [each.archive.key for each in damage] == ["a.tar"]


async def test_the_index_is_a_table_that_anybody_reads(store: MemoryStore, index: ArchiveIndex) -> None:
    await publish(index, "a.tar", [member("k", tags={"b": "2", "a": "1"})])
    data = (await store.get(ObjectRef("ledger", "all/archives/cold/a.tar.parquet"))).data
    table = pq.read_table(io.BytesIO(data))
    assert table.schema.equals(INDEX_SCHEMA)
    (row,) = table.to_pylist()
    assert (row["key"], row["archive"], row["tags"]) == ("k", "s3://cold/a.tar", '{"a":"1","b":"2"}')


async def test_a_flipped_bit_among_the_rows_is_found_or_changes_nothing(
    store: MemoryStore, index: ArchiveIndex
) -> None:
    at = Location("cold", "a.tar")
    await publish(index, "a.tar", [member(f"docs/{number}") for number in range(50)])
    whole = (await store.get(ObjectRef("ledger", "all/archives/cold/a.tar.parquet"))).data
    rows_end = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    expected = [each async for part in index.members(at) for each in part]
    found = 0
    for bit in range(32, 8 * rows_end, 41):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        await put(store, "cold/a.tar.parquet", bytes(flipped))
        try:
            assert [each async for part in index.members(at) for each in part] == expected, f"bit {bit}"
        except DamagedArchive:
            found += 1
    assert found > 100


@pytest.mark.parametrize(("is_incomplete", "is_known"), [(True, False), (False, False), (False, True)])
async def test_a_damaged_index_is_named_and_the_others_are_read(
    store: MemoryStore, index: ArchiveIndex, *, is_incomplete: bool, is_known: bool
) -> None:
    """`incomplete`: what earlier releases said of an index that lacks members of its archive. `is_known`: the
    directory has the record of an index that was damaged later, and so its source bucket.
    """
    await publish(index, "b.tar", [member("z")])
    lacking = replace(record("a.tar", [member("k")]), incomplete="cut" if is_incomplete else None)
    await index.publish(lacking, own_index([member("k")]))
    if is_known:
        await index.records()
    if not is_incomplete:
        await put(store, "cold/a.tar.parquet", b"rubbish" * 9)
    for _ in range(2):  # the first one writes the directory again
        damage: Damage = []
        found = [each.location.key for each in await index.records(damage=damage)]
        assert found == (["a.tar", "b.tar"] if is_incomplete else ["b.tar"])
        bucket = "docs" if is_incomplete or is_known else None
        assert [(each.archive.key, each.source_bucket) for each in damage] == [("a.tar", bucket)]
