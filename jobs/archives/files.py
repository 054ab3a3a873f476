"""Archive files: listing them, streaming one member, and reading the index inside."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace

from jobs.archives.model import CHUNK_BYTES, LOCATOR_BYTES, ArchiveRecord, Locator, Member
from jobs.archives.zstd_frames import FrameCutter
from jobs.core.enums import ArchiveFormat
from jobs.core.model import Location, ObjectInfo, ObjectRef
from jobs.errors import DamagedArchive, NoSuchBucket, NotFound, Rejected
from jobs.s3.byte_ranges import ByteBudget, read_ranges
from jobs.s3.listing import list_all
from jobs.s3.retries import retry
from jobs.s3.store import Store

INDEX_BYTES_MAX = 1024**3
"""The most that an index may have. `MEMBERS_MAX` members need a tenth of it."""

SOURCE_METADATA, RUN_METADATA = "sealift-source", "sealift-run"
"""The names in the metadata of an archive: the bucket that its members are from, and its run."""

DECODED_BYTES = 1024**2
"""About how much decoded content is handed on at once."""


def archive_format(location: Location) -> ArchiveFormat | None:
    """The format by an archive's name. None for a name that is not an archive's."""
    longest_first = sorted(ArchiveFormat, key=lambda kind: -len(kind.value))
    return next((kind for kind in longest_first if location.key.endswith(f".{kind.value}")), None)


async def list_archives(store: Store, location: Location) -> AsyncIterator[Location]:
    """All objects below the location that have an archive's name."""
    async for archive, _ in list_etags(store, location):
        yield archive


async def list_etags(store: Store, location: Location) -> AsyncIterator[tuple[Location, str]]:
    """`list_archives`, each with its ETag."""
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
    except NoSuchBucket:
        raise
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
    except NoSuchBucket:
        raise
    except NotFound:
        return None
    return info if info.etag == record.etag else None


async def is_there(store: Store, record: ArchiveRecord) -> bool:
    """True if the archive of an index is still there. Raises as `find_archive`."""
    return await find_archive(store, record) is not None


def extract_member(record: ArchiveRecord, member: Member, data: bytes, start: int) -> bytes:
    """A member's content out of `data`, the archive's bytes from `start` on.

    `data` has to hold all of the member's `byte_range`. Nothing is proven. Raises DamagedArchive.
    """
    begin, end = member.byte_range
    if begin == end:
        return b""
    piece = memoryview(data)[begin - start : end - start]
    if len(piece) != end - begin:
        raise _damaged(record, member, "the archive ends before it")
    content = bytes(piece) if member.frame_offset is None else _decompress(record, member, piece)
    content = content[member.skip_bytes : member.skip_bytes + member.size_bytes]
    if len(content) != member.size_bytes:
        raise _damaged(record, member, "the archive ends before it")
    return content


async def stream_member(
    store: Store, record: ArchiveRecord, member: Member, budget: ByteBudget
) -> AsyncGenerator[bytes, None]:
    """A member's content piece by piece, in bounded memory. Its SHA-256 proves it at the end.

    Raises DamagedArchive for bytes that are not the member's, PreconditionFailed for another
    archive in its place, ArchivedObject for one that must be thawed first. The caller then undoes
    what it did with the pieces.
    """
    start, end = member.byte_range
    digest = hashlib.sha256()
    size_bytes = 0

    async def fetch(begin: int, stop: int) -> bytes:
        return await retry(lambda: _get(store, record, member, start + begin, start + stop))

    async with aclosing(read_ranges(end - start, CHUNK_BYTES, fetch, budget)) as pieces:
        decoded = pieces if member.frame_offset is None else _frames(record, member, pieces)
        async with aclosing(decoded) as contents:
            async for data in contents:
                size_bytes += len(data)
                await asyncio.to_thread(digest.update, data)
                yield data
    if size_bytes != member.size_bytes or member.sha256 not in (None, digest.hexdigest()):
        raise _damaged(record, member, "its content is not the index's")


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
    return record, await asyncio.to_thread(extract_member, record, index, body.data, start)


async def _get(store: Store, record: ArchiveRecord, member: Member, start: int, end: int) -> bytes:
    try:
        return (await store.get(archive_ref(record), start=start, end=end, if_match=record.etag)).data
    except Rejected as error:
        if error.code != "InvalidRange":
            raise
        raise _damaged(record, member, "the archive ends before it") from error


def _decompress(record: ArchiveRecord, member: Member, data: memoryview) -> bytes:
    import zstandard

    try:
        with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
            return reader.read(member.skip_bytes + member.size_bytes)
    except zstandard.ZstdError as error:
        raise _damaged(record, member, f"zstd: {error}") from error


async def _frames(record: ArchiveRecord, member: Member, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The content of the frames, without what comes before and after the member.

    It is decoded block by block, because a few hundred bytes can be many MiB of zeros.
    """
    import zstandard

    skip, left = member.skip_bytes, member.size_bytes
    cutter, decoder = FrameCutter(), zstandard.ZstdDecompressor().decompressobj(read_across_frames=True)
    ready = bytearray()
    async for piece in pieces:
        try:
            for block in cutter.feed(piece):
                data = decoder.decompress(block.data)
                content = data[skip : skip + left]
                skip = max(0, skip - len(data))
                left -= len(content)
                ready += content
                if len(ready) >= DECODED_BYTES:
                    yield bytes(ready)
                    ready.clear()
        except (ValueError, zstandard.ZstdError) as error:
            raise _damaged(record, member, f"zstd: {error}") from error
    if ready:
        yield bytes(ready)


def _damaged(record: ArchiveRecord, member: Member, why: str) -> DamagedArchive:
    return DamagedArchive(f"{record.location}, member {member.key!r}: {why}")
