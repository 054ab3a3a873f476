"""Archives, their indexes and tombstones stay readable for ever: files of earlier releases, read by the code of now."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pyarrow.parquet as pq

from jobs.archives.files import extract_member, read_own_index
from jobs.archives.index import ArchiveIndex
from jobs.archives.index_tables import from_batch
from jobs.core.model import Attributes, Location, ObjectRef
from jobs.ledger.tombstones import read_tombstones
from jobs.s3.store import UNGUARDED
from tests.doubles.memory_store import MemoryStore

GOLDEN = Path(__file__).parent / "golden"
ARCHIVE = Location("kept-copies", "archives/docs/2026-11-5b6d61c35164b65bf13f.tar.zst")
LEDGER = Location("kept-ledger", "sealift/")
MEMBERS = {"docs/a": b"a", "docs/b": b"bb", "docs/c": b"ccc", "docs/lost": b"its copy is lost"}


def test_members_of_a_released_archive_are_found_by_its_index_and_read() -> None:
    data, store = (GOLDEN / "0.1.0.tar.zst").read_bytes(), MemoryStore()
    index = f"{LEDGER.key}archives/{ARCHIVE.bucket}/{ARCHIVE.key}.parquet"
    for bucket, key, content in (
        (ARCHIVE.bucket, ARCHIVE.key, data),
        (LEDGER.bucket, index, (GOLDEN / "0.1.0.tar.zst.parquet").read_bytes()),
    ):
        store.create_bucket(bucket)
        asyncio.run(store.put(ObjectRef(bucket, key), content, Attributes(), guard=UNGUARDED))

    async def read() -> dict[str, bytes]:
        record = await ArchiveIndex(store, LEDGER).record(ARCHIVE)
        assert record is not None
        batches = [batch async for batch in ArchiveIndex(store, LEDGER).members(ARCHIVE)]
        members = [member for batch in batches for member in batch]
        return {member.key: extract_member(ARCHIVE, member, data, 0) for member in members}

    assert asyncio.run(read()) == MEMBERS
    _, own_index = asyncio.run(read_own_index(store, ARCHIVE))
    assert [each.key for each in from_batch(pq.read_table(io.BytesIO(own_index)))] == [*MEMBERS]


def test_tombstones_are_read() -> None:
    data = (GOLDEN / "tombstones.parquet").read_bytes()
    rows = read_tombstones(data, "20261125T003345Z-expire-1f3a02", "docs")
    named = ("key", "version_id", "etag", "step", "copy", "copy_version_id", "copy_etag", "marker_version_id")
    assert [tuple(getattr(row, name) for name in named) for row in rows] == [
        ("docs/a", None, "e0", "hide", "s3://copies/docs/a", None, "c0", "m1"),
        ("docs/b", "v1", "e1", "remove", "s3://cold/2026-11.tar.zst", "x1", "c1", None),
    ]
