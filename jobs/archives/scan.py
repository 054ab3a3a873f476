"""Scan of an archive whose own index is damaged: its members that are whole, by their headers.

Headers are read one after the other, from the archive's beginning. Each says where the next one is,
and a checksum proves all that it says. So nothing inside a member, which can be a tar itself, passes
for a member. The scan ends at the first header that is damaged: behind it, nobody can tell the two
apart.
"""

from __future__ import annotations

import bisect
import hashlib
import io
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple

import zstandard

from jobs.archives.files import archive_ref
from jobs.archives.index_tables import TableWriter
from jobs.archives.model import BLOCK_BYTES, CHUNK_BYTES, ArchiveRecord, Member
from jobs.archives.reader import FURTHEST_BYTES, content_checksums
from jobs.archives.tar_layout import is_index, read_member
from jobs.archives.zstd_frames import FrameCutter
from jobs.core.enums import ArchiveFormat
from jobs.core.evidence import is_md5
from jobs.errors import DamagedArchive
from jobs.s3.byte_ranges import ByteBudget, read_ranges
from jobs.s3.checksums import Hasher
from jobs.s3.retries import retry
from jobs.s3.store import Store

RECORDS_BYTES_MAX = 1024**2
"""The most that a member's PAX records may have. S3's own limits come to some 10 KiB."""

BUDGET_BYTES = 2 * CHUNK_BYTES
PIECE_BYTES = 256 * 1024


class Scan(NamedTuple):
    """The index (`parquet`) of the members that are whole, and how many others had a whole header.

    `damaged`: their content is not what the header says. `unproven`: the header has no checksum of
    it. `reason`: why the scan ended before the archive's own index. Empty: it saw every member.
    """

    parquet: bytes
    members: int
    damaged: int
    unproven: int
    reason: str


async def scan_archive(store: Store, record: ArchiveRecord) -> Scan:
    """Read the archive once, in bounded memory. Raises the errors of reading it."""
    tar = _Tar()
    whole: list[Member] = []
    damaged = unproven = 0
    reason = ""
    async with aclosing(_contents(store, record, tar)) as pieces:
        tar.pieces = pieces
        try:
            while (member := await _next_member(tar)) is not None:
                proven = await _prove(tar, member)
                if proven is None:
                    unproven += 1
                elif not proven:
                    damaged += 1
                else:
                    whole.append(member._replace(sha256=proven))
                await tar.skip(-member.size_bytes % BLOCK_BYTES)
        except DamagedArchive as error:
            reason = str(error)
    file = io.BytesIO()
    table = TableWriter(file)
    table.add([_located(member, tar.frames, record.size_bytes) for member in whole])
    table.close()
    return Scan(file.getvalue(), len(whole), damaged, unproven, reason)


@dataclass(slots=True)
class _Tar:
    """The tar, read forward. `place`: where the next byte is in it.

    `frames`: where a frame begins in the tar, and in the archive.
    """

    place: int = 0
    frames: list[tuple[int, int]] = field(default_factory=list)
    pieces: AsyncIterator[bytes] | None = None
    _rest: memoryview = field(default_factory=lambda: memoryview(b""))

    async def read(self, size_bytes: int) -> AsyncGenerator[bytes, None]:
        """The next bytes, in pieces. Raises DamagedArchive if the archive ends before."""
        while size_bytes:
            if not self._rest:
                self._rest = memoryview(await anext(self.pieces, b"") if self.pieces is not None else b"")
            if not self._rest:
                raise DamagedArchive(f"the archive ends at byte {self.place:,} of the tar")
            most = min(size_bytes, PIECE_BYTES)
            taken, self._rest = self._rest[:most], self._rest[most:]
            size_bytes -= len(taken)
            self.place += len(taken)
            yield bytes(taken)

    async def take(self, size_bytes: int) -> bytes:
        """The next bytes at once."""
        return b"".join([piece async for piece in self.read(size_bytes)])

    async def skip(self, size_bytes: int) -> None:
        """Leave bytes out."""
        async for _ in self.read(size_bytes):
            pass


async def _next_member(tar: _Tar) -> Member | None:
    """The member whose header comes next. None: the archive's own index comes.

    Raises DamagedArchive for anything but a header that Sealift writes: PAX records, then a file.
    """
    place = tar.place
    blocks = await tar.take(BLOCK_BYTES)
    try:
        records = tarfile.TarInfo.frombuf(blocks, "utf-8", "surrogateescape")
        if records.type == tarfile.XHDTYPE and 0 <= records.size <= RECORDS_BYTES_MAX:
            blocks += await tar.take(records.size + -records.size % BLOCK_BYTES + BLOCK_BYTES)
            with tarfile.open(fileobj=io.BytesIO(blocks), mode="r:", errors="surrogateescape") as header:
                entry = header.next()
            if entry is not None and entry.isreg() and entry.size >= 0:
                if is_index(entry.pax_headers):
                    return None
                if member := read_member(entry.name, entry.size, int(entry.mtime), entry.pax_headers):
                    return member._replace(offset=tar.place)
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise DamagedArchive(f"no header can be read at byte {place:,} of the tar: {error}") from error
    raise DamagedArchive(f"no member of Sealift's begins at byte {place:,} of the tar")


async def _prove(tar: _Tar, member: Member) -> str | None:
    """Read a member's content → its SHA-256. Empty: damaged. None: the header has no checksum.

    The ETag of an object encrypted with KMS looks like an MD5: only an equal one proves anything.
    """
    known = next(iter(content_checksums(member)), None)
    hasher = None if known is None else Hasher(known.algorithm)
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    async for piece in tar.read(member.size_bytes):
        sha256.update(piece)
        if hasher is not None:
            hasher.update(piece)
        elif is_md5(member.etag):
            md5.update(piece)
    if hasher is not None and known is not None:
        return sha256.hexdigest() if hasher.spelled() == f"{known.algorithm}:{known.value}" else ""
    return sha256.hexdigest() if md5.hexdigest() == member.etag else None


async def _contents(store: Store, record: ArchiveRecord, tar: _Tar) -> AsyncGenerator[bytes, None]:
    """The tar in pieces of any size."""
    ref, etag = archive_ref(record), record.etag

    async def fetch(start: int, end: int) -> bytes:
        return (await retry(lambda: store.get(ref, start=start, end=end, if_match=etag))).data

    async with aclosing(read_ranges(record.size_bytes, CHUNK_BYTES, fetch, ByteBudget(BUDGET_BYTES))) as pieces:
        decoded = pieces if record.format is ArchiveFormat.TAR else _decoded(pieces, tar.frames)
        async with aclosing(decoded) as contents:
            async for data in contents:
                if data:
                    yield data


async def _decoded(pieces: AsyncIterator[bytes], frames: list[tuple[int, int]]) -> AsyncGenerator[bytes, None]:
    """The content of zstd's frames, each piece a block's. In place of a damaged frame's: zeros.

    So what lies in the frame is damaged, and what comes behind it is at its place.
    """
    cutter = FrameCutter()
    decoder: zstandard.ZstdDecompressionObj | None = None
    place = left_bytes = fed_bytes = 0
    async for data in pieces:
        fed_bytes += len(data)
        try:
            for piece in cutter.feed(data):
                if piece.is_first:
                    yield bytes(left_bytes)
                    place += left_bytes
                    frames.append((place, fed_bytes - cutter.held_bytes - len(piece.data)))
                    left_bytes = zstandard.get_frame_parameters(piece.data).content_size
                    if left_bytes > FURTHEST_BYTES:
                        raise DamagedArchive(f"a frame of an impossible size comes at byte {place:,} of the tar")
                    decoder = zstandard.ZstdDecompressor(max_window_size=FURTHEST_BYTES).decompressobj()
                if piece.is_skippable or decoder is None:
                    continue
                try:
                    content = decoder.decompress(piece.data)
                except zstandard.ZstdError:
                    decoder = None
                    continue
                yield content
                place += len(content)
                left_bytes -= len(content)
        except (ValueError, zstandard.ZstdError) as error:
            raise DamagedArchive(f"the frame at byte {place:,} of the tar is damaged: {error}") from error


def _located(member: Member, frames: Sequence[tuple[int, int]], archive_bytes: int) -> Member:
    """The member with the frames that hold its header's end and its content."""
    if not frames:
        return member
    start, offset = frames[bisect.bisect_left(frames, (member.offset,)) - 1]
    behind = bisect.bisect_left(frames, (member.offset + member.size_bytes,))
    end = frames[behind][1] if behind < len(frames) else archive_bytes
    return member._replace(frame_start=start, frame_offset=offset, frame_length=end - offset)
