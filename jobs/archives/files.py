"""Archive files: listing them, streaming one member, and reading the index inside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

from msgspec.structs import replace

from jobs.archives.model import LOCATOR_BYTES, ArchiveRecord, Locator, Member
from jobs.archives.zstd_frames import decompress
from jobs.core.enums import ArchiveFormat
from jobs.core.model import Location, ObjectInfo, ObjectRef
from jobs.errors import DamagedArchive, NotFound
from jobs.s3.listing import list_all
from jobs.s3.retries import retry
from jobs.s3.store import Store

INDEX_BYTES_MAX = 1024**3
"""The most that an index may have. `MEMBERS_MAX` members need a tenth of it."""

SOURCE_METADATA, RUN_METADATA = "sealift-source", "sealift-run"
"""The names in the metadata of an archive: the bucket that its members are from, and its run."""


def archive_format(location: Location) -> ArchiveFormat | None:
    """The format by an archive's name. None for a name that is not an archive's."""
    longest_first = sorted(ArchiveFormat, key=lambda kind: -len(kind.value))
    return next((kind for kind in longest_first if location.key.endswith(f".{kind.value}")), None)


async def list_archives(store: Store, location: Location) -> AsyncIterator[tuple[Location, str]]:
    """All objects below the location that have an archive's name, each with its ETag."""
    async with aclosing(list_all(store, location._replace(key=location.join("").key), versions=False)) as pages:
        async for page in pages:
            for entry in page:
                archive = Location(location.bucket, entry.key)
                if archive_format(archive) is not None:
                    yield archive, entry.etag or ""


def archive_ref(record: ArchiveRecord) -> ObjectRef:
    """The archive's own version."""
    return ObjectRef(record.location.bucket, record.location.key, record.version_id)


async def head_archive(store: Store, record: ArchiveRecord) -> tuple[ArchiveRecord, ObjectInfo]:
    """The archive as it is now: its own version or, where that is gone, what is in its place.

    An archive that was copied over itself is a new version. Returns the record with the version
    that was found, and what HEAD says of it. Raises StoreErrors.
    """
    try:
        return record, await retry(lambda: store.head(archive_ref(record)))
    except NotFound:
        if record.version_id is None:
            raise
    info = await retry(lambda: store.head(ObjectRef(*record.location)))
    return replace(record, version_id=info.version_id), info


async def find_archive(store: Store, record: ArchiveRecord) -> ObjectInfo | None:
    """The archive of an index as the store has it. None: it is gone, or another object is there.

    Raises StoreErrors other than NotFound.
    """
    try:
        info = await retry(lambda: store.head(archive_ref(record)))
    except NotFound:
        return None
    return info if info.etag == record.etag else None


def extract_member(archive: Location, member: Member, data: bytes, start: int) -> bytes:
    """A member's content out of `data`, the archive's bytes from `start` on.

    `data` has to hold all of the member's `byte_range`. Nothing is proven. Raises DamagedArchive.
    """
    begin, end = member.byte_range
    content: bytes | memoryview = memoryview(data)[begin - start : end - start]
    is_whole, taken = len(content) == end - begin, member.skip_bytes + member.size_bytes
    try:
        if is_whole and member.frame_offset is not None and begin < end:
            content = decompress(content, taken)
    except ValueError as error:
        raise DamagedArchive(f"{archive}, member {member.key!r}: {error}") from error
    content = bytes(content[member.skip_bytes : taken])
    if not is_whole or len(content) != member.size_bytes:
        raise DamagedArchive(f"{archive}, member {member.key!r}: the archive ends before it")
    return content


async def describe_archive(store: Store, archive: Location, version_id: str | None = None) -> ArchiveRecord:
    """The record of an archive by HEAD. It has no counts yet (`jobs.archives.index.completed`).

    Its `source_bucket` and `run_id` come from the object's metadata. Raises DamagedArchive for an
    object that is no archive by its name or size.
    """
    kind = archive_format(archive)
    info = await store.head(ObjectRef(archive.bucket, archive.key, version_id))
    if kind is None or info.size_bytes < LOCATOR_BYTES:
        raise DamagedArchive(f"{archive} is not an archive of Sealift's")
    metadata = info.attributes.metadata
    checksum = min(info.checksums, key=lambda each: each.is_composite, default=None)
    return ArchiveRecord(
        location=archive,
        format=kind,
        size_bytes=info.size_bytes,
        etag=info.etag,
        version_id=info.version_id,
        storage_class=info.storage_class,
        members=0,
        member_bytes=0,
        first_key="",
        last_key="",
        source_bucket=metadata.get(SOURCE_METADATA, ""),
        created_at=info.last_modified,
        checksum=f"{checksum.algorithm}:{checksum.value}" if checksum else None,
        run_id=metadata.get(RUN_METADATA),
    )


async def read_own_index(store: Store, archive: Location, version_id: str | None = None) -> tuple[ArchiveRecord, bytes]:
    """What an archive says of itself: its record and its index (Parquet, `index_tables.SCHEMA`).

    It takes three requests. Raises DamagedArchive for an archive that was cut short or is not
    Sealift's, ArchivedObject for one that must be thawed first.
    """
    record = await describe_archive(store, archive, version_id)
    ref, size_bytes = archive_ref(record), record.size_bytes
    tail = await store.get(ref, start=size_bytes - LOCATOR_BYTES, if_match=record.etag)
    try:
        locator = Locator.decode(tail.data)
    except DamagedArchive as error:
        raise type(error)(f"{archive}: {error}") from error
    index = locator.to_member()
    start, end = index.byte_range
    if not 0 <= start < end <= size_bytes:
        raise DamagedArchive(f"{archive}: its end names an index that is not in it")
    taken_bytes = max(end - start, index.skip_bytes + index.size_bytes)
    if index.skip_bytes < 0 or taken_bytes > INDEX_BYTES_MAX:
        raise DamagedArchive(f"{archive}: its end names an index of an impossible size")
    body = await store.get(ref, start=start, end=end, if_match=record.etag)
    return record, await asyncio.to_thread(extract_member, archive, index, body.data, start)
