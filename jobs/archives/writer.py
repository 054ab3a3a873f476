"""ArchiveWriter: members into one archive, streamed, with its index as the last member.

Memory holds a frame, the parts under way and a row group of the index; the rest of the index waits in
a temporary file. pyarrow and zstandard load with this module: import it where it is used.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import IO

import zstandard

from jobs.archives.index_tables import TableWriter
from jobs.archives.model import CHUNK_BYTES, FRAME_BYTES, Locator, Member
from jobs.archives.tar_layout import END_OF_TAR, Layout, Placed
from jobs.core.enums import ArchiveFormat
from jobs.core.model import ObjectRef
from jobs.core.part_sizes import MIN_PART_BYTES, choose_part_size, part_ranges
from jobs.s3.store import Written
from jobs.s3.uploads import ArchiveUpload

ZSTD_LEVEL = 3
COPY_PART_BYTES = 1024**3
SPOOLED_BYTES = 4 * 1024**2
LARGE_FRAME_BYTES = 256 * 1024


@dataclass(slots=True)
class ArchiveWriter:
    """Writes one archive through `upload`; the same members in the same order make the same bytes.

    After `finish`, `index_file` holds the archive's own index. Whoever makes one closes it.
    """

    upload: ArchiveUpload
    format: ArchiveFormat
    members: int = field(default=0, init=False)
    member_bytes: int = field(default=0, init=False)
    first_key: str = field(default="", init=False)
    last_key: str = field(default="", init=False)
    index_file: IO[bytes] = field(init=False)
    _layout: Layout = field(default_factory=Layout, init=False)
    _table: TableWriter = field(init=False)
    _zstd: zstandard.ZstdCompressor = field(init=False)
    _frame: bytearray = field(default_factory=bytearray, init=False)
    _frame_start: int = field(default=0, init=False)
    _waiting: list[Member] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.index_file = tempfile.SpooledTemporaryFile(SPOOLED_BYTES)  # noqa: SIM115  closed by `close`
        self._table = TableWriter(self.index_file)
        self._zstd = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True, write_content_size=True)

    async def add(self, member: Member, data: bytes) -> None:
        """A member whose content is in memory. Raises ValueError when the content is not as large as it says."""
        if len(data) != member.size_bytes:
            raise ValueError(f"{member.key!r} has {member.size_bytes} bytes, {len(data)} were given")
        placed = self._place(member)
        size_bytes = len(placed.header) + len(data) + len(placed.padding)
        if self.format is ArchiveFormat.TAR:
            await self.upload.write(b"".join((placed.header, data, placed.padding)))
            self._table.add([placed.member])
            return
        if self._frame and len(self._frame) + size_bytes > FRAME_BYTES:
            await self._close_frame()
        self._frame += placed.header
        self._frame += data
        self._frame += placed.padding
        self._waiting.append(placed.member)

    async def add_stream(self, member: Member, chunks: AsyncIterator[bytes]) -> Member:
        """A member whose content comes piece by piece, hashed on the way → the member with its SHA-256.

        Raises ValueError when more or less comes than it says: then the archive cannot be finished.
        """
        placed = self._place(member)
        digest = hashlib.sha256()
        frame_offset = await self._begin_large(placed)
        size_bytes = 0
        async for chunk in chunks:
            size_bytes += len(chunk)
            await asyncio.to_thread(digest.update, chunk)
            await self._write(chunk)
        if size_bytes != member.size_bytes:
            raise ValueError(f"{member.key!r} has {member.size_bytes} bytes, {size_bytes} came")
        hashed = placed.member._replace(sha256=digest.hexdigest())
        return await self._end_large(placed._replace(member=hashed), frame_offset)

    async def add_copy(self, member: Member, source: ObjectRef) -> Member:
        """A large member that S3 copies by itself; only into a plain tar. Its SHA-256 stays unknown.

        Raises ValueError for one that is too small, and StoreErrors: then the archive cannot be finished.
        """
        if self.format is not ArchiveFormat.TAR or member.size_bytes < 2 * MIN_PART_BYTES or member.etag is None:
            raise ValueError(f"{member.key!r} cannot be copied into this archive")
        placed = self._place(member)
        await self.upload.write(placed.header)
        filling = self.upload.missing_bytes
        if filling:
            head = await self.upload.store.get(source, start=0, end=filling, if_match=member.etag)
            await self.upload.write(head.data)
        rest_bytes = member.size_bytes - filling
        part_bytes = choose_part_size(rest_bytes, COPY_PART_BYTES)
        ranges = [(start, end) for _, start, end in part_ranges(rest_bytes, part_bytes)]
        if len(ranges) > 1 and ranges[-1][1] - ranges[-1][0] < MIN_PART_BYTES:
            _, end = ranges.pop()  # the last part is too small for one that is not the archive's last
            middle = ranges[-1][0] + (end - ranges[-1][0]) // 2
            ranges[-1:] = [(ranges[-1][0], middle), (middle, end)]
        for start, end in ranges:
            await self.upload.copy(source, member.etag, filling + start, filling + end)
        return await self._end_large(placed, None)

    async def finish(self) -> Written:
        """Write the index and the end, and publish. Raises PreconditionFailed when the name is taken."""
        if self.format is ArchiveFormat.TAR_ZST:
            await self._close_frame()
        await asyncio.to_thread(self._table.close)
        size_bytes = self.index_file.tell()
        self.index_file.seek(0)
        placed = self._layout.place_index(size_bytes)
        frame_offset = await self._begin_large(placed)
        while chunk := self.index_file.read(CHUNK_BYTES):
            await self._write(chunk)
        await self._write(placed.padding)
        locator = Locator(placed.member.offset, size_bytes)
        if self.format is ArchiveFormat.TAR_ZST:
            start = placed.member.offset - len(placed.header)
            length = self.upload.size_bytes - frame_offset
            locator = replace(locator, frame_start=start, frame_offset=frame_offset, frame_length=length)
        await self._write(END_OF_TAR)
        await self.upload.write(locator.encode(self.format))
        return await self.upload.finish()

    async def close(self) -> None:
        """Drop the temporary file, and what was uploaded of an archive that is not finished."""
        self._table.discard()
        self.index_file.close()
        await self.upload.abort()

    def _place(self, member: Member) -> Placed:
        self.members += 1
        self.member_bytes += member.size_bytes
        self.first_key = min(self.first_key, member.key) if self.members > 1 else member.key
        self.last_key = max(self.last_key, member.key)
        return self._layout.place(member)

    async def _begin_large(self, placed: Placed) -> int:
        """Write a header at the beginning of a frame of its own; the frame's place in the archive."""
        if self.format is ArchiveFormat.TAR_ZST:
            await self._close_frame()
        frame_offset = self.upload.size_bytes
        await self._write(placed.header)
        return frame_offset

    async def _end_large(self, placed: Placed, frame_offset: int | None) -> Member:
        await self._write(placed.padding)
        member = placed.member
        if frame_offset is not None and self.format is ArchiveFormat.TAR_ZST:
            member = member._replace(
                frame_start=member.offset - len(placed.header),
                frame_offset=frame_offset,
                frame_length=self.upload.size_bytes - frame_offset,
            )
        self._table.add([member])
        self._frame_start = self._layout.size_bytes
        return member

    async def _write(self, data: bytes) -> None:
        """Bytes of the tar, as they are or as a frame."""
        if self.format is ArchiveFormat.TAR:
            await self.upload.write(data)
        elif data:
            await self.upload.write(await asyncio.to_thread(self._zstd.compress, data))

    async def _close_frame(self) -> None:
        """Compress the members that wait for it into one frame."""
        if not self._frame:
            return
        offset = self.upload.size_bytes
        data = bytes(self._frame)
        is_large = len(data) > LARGE_FRAME_BYTES
        frame = await asyncio.to_thread(self._zstd.compress, data) if is_large else self._zstd.compress(data)
        await self.upload.write(frame)
        self._table.add(
            [
                member._replace(frame_start=self._frame_start, frame_offset=offset, frame_length=len(frame))
                for member in self._waiting
            ]
        )
        self._waiting = []
        self._frame = bytearray()
        self._frame_start += len(data)
