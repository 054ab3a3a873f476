"""Archives made in memory: members, a store, and what was written."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pyarrow.parquet as pq
from msgspec import Struct
from msgspec.structs import replace

from jobs.archives.files import archive_ref, read_own_index
from jobs.archives.index import completed
from jobs.archives.index_tables import from_batch
from jobs.archives.model import ArchiveRecord, Member
from jobs.archives.reader import ArchiveReader
from jobs.archives.writer import ArchiveWriter
from jobs.core.enums import ArchiveFormat
from jobs.core.model import Attributes, Location, ObjectRef
from jobs.errors import PreconditionFailed
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.store import UNGUARDED, Store
from jobs.s3.uploads import ObjectUpload
from tests.doubles.memory_store import MemoryStore, Request

PART_BYTES = 5 * 1024**2
TAR, ZST = ArchiveFormat.TAR, ArchiveFormat.TAR_ZST


class Packed(Struct, frozen=True):
    """One archive: where it is, its record, its members as its own index has them, its bytes."""

    store: MemoryStore
    record: ArchiveRecord
    members: list[Member]
    data: bytes


def member(key: str, data: bytes = b"", version_id: str | None = None, **more: object) -> Member:
    made = Member(key, version_id, True, len(data), "e" * 32, 1_700_000_000.0, "STANDARD", {}, {}, {})
    return made._replace(sha256=hashlib.sha256(data).hexdigest())._replace(**more)  # type: ignore[arg-type]  # fields


async def pieces(data: bytes, piece_bytes: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), piece_bytes):
        yield data[start : start + piece_bytes]


async def pack(
    contents: Sequence[tuple[Member, bytes]],
    kind: ArchiveFormat,
    *,
    streamed_from: int = 1 << 40,
) -> Packed:
    """Write an archive; members of `streamed_from` bytes come in pieces."""
    store = MemoryStore(clock=lambda: 1_750_000_000.0, buckets=["cold", "docs"])
    location = Location("cold", f"packed/one.{kind.value}")
    attributes = Attributes(metadata={"sealift-source": "docs", "sealift-run": "r"})
    writer = ArchiveWriter(ObjectUpload(store, ObjectRef(*location), attributes, PART_BYTES), kind)
    try:
        for each, data in contents:
            if len(data) >= streamed_from:
                await writer.add_stream(each, pieces(data, 1 << 20))
            else:
                await writer.add(each, data)
        await writer.finish()
    finally:
        await writer.close()
    record, own_index = await read_own_index(store, location)
    members = list(from_batch(pq.read_table(io.BytesIO(own_index))))
    data = (await store.get(ObjectRef(*location))).data
    return Packed(store, completed(record, own_index), members, data)


def packed(contents: Sequence[tuple[Member, bytes]], kind: ArchiveFormat, **how: int) -> Packed:
    return asyncio.run(pack(contents, kind, **how))


async def altered(made: Packed, data: bytes) -> ArchiveRecord:
    """Other bytes in the archive's place, and a record that is content with them."""
    written = await made.store.put(ObjectRef(*made.record.location), data, Attributes(), guard=UNGUARDED)
    return replace(made.record, etag=written.etag, version_id=written.version_id)


async def read_member(store: Store, record: ArchiveRecord, member: Member) -> bytes:
    """A member's content as the product's reader brings and proves it."""
    return b"".join([data async for data in reader_of(store, record, ByteBudget(64 * 1024**2)).stream(member)])


def reader_of(store: Store, record: ArchiveRecord, budget: ByteBudget, **spans: int) -> ArchiveReader:
    """The reader of an archive as its record says."""
    return ArchiveReader(store, archive_ref(record), record.etag, budget, **spans)


async def refuse_if_match(request: Request) -> Any:
    """As Ceph 18.2 answers each If-Match of a PutObject."""
    if request.arguments["guard"].etag is not None:
        raise PreconditionFailed("PutObject", request.place.key, "PreconditionFailed", "", 412)
    return await request()
