"""The writer of an archive: members, streamed, and the index as the last member.

Memory holds a frame, the parts in flight and a row group of the index. The rest of the index waits
in a temporary file.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import IO

import zstandard
from msgspec.structs import replace

from jobs.archives.index_tables import TableWriter
from jobs.archives.model import CHUNK_BYTES, FRAME_BYTES, Locator, Member
from jobs.archives.tar_layout import END_OF_TAR, Layout, Placed
from jobs.core.enums import ArchiveFormat
from jobs.s3.store import Written
from jobs.s3.uploads import ObjectUpload

ZSTD_LEVEL = 3
SPOOLED_BYTES = 4 * 1024**2
LARGE_FRAME_BYTES = 256 * 1024


@dataclass(slots=True)
class ArchiveWriter:
    """Writes one archive through `upload`. The same members in the same order make the same bytes.

    After `finish`, `index_file` holds the archive's own index. The caller closes the writer.
    """

    upload: ObjectUpload
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
        self.index_file = tempfile.SpooledTemporaryFile(SPOOLED_BYTES)  # noqa: SIM115  see `close`
        self._table = TableWriter(self.index_file)
        self._zstd = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True, write_content_size=True)

    async def add(self, member: Member, data: bytes) -> None:
        """Add a member whose content is in memory. Raises ValueError for a wrong size."""
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
        """Add a member piece by piece, hashed on the way → the member with its SHA-256.

        Raises ValueError for content of another size: then the archive cannot be finished.
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
        await self._write(placed.padding)
        member = placed.member._replace(sha256=digest.hexdigest())
        if self.format is ArchiveFormat.TAR_ZST:
            member = member._replace(
                frame_start=member.offset - len(placed.header),
                frame_offset=frame_offset,
                frame_length=self.upload.size_bytes - frame_offset,
            )
        self._table.add([member])
        self._frame_start = self._layout.size_bytes
        return member

    async def finish(self) -> Written:
        """Write the index and the end, then publish. Raises PreconditionFailed when the name is
        taken.
        """
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
        """Drop the temporary file, and the upload of an archive that is not finished."""
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
        """Write a header at the start of its own frame → the frame's place in the archive."""
        if self.format is ArchiveFormat.TAR_ZST:
            await self._close_frame()
        frame_offset = self.upload.size_bytes
        await self._write(placed.header)
        return frame_offset

    async def _write(self, data: bytes) -> None:
        """Bytes of the tar, as they are or as a frame."""
        if self.format is ArchiveFormat.TAR:
            await self.upload.write(data)
        elif data:
            await self.upload.write(await asyncio.to_thread(self._zstd.compress, data))

    async def _close_frame(self) -> None:
        """Compress the waiting members into one frame."""
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
