"""Salvage: members of an archive that are whole, without the ledger's index.

The archive may be cut, damaged or another program's, a plain tar or one in zstd. It is read once,
from its beginning, in bounded memory. What is written is proven first, and never over an object.
Its own index, where it is whole, says which members are its own, and which of them are lost. What
else is found may be a part of another member, whose owner chose its key, so it gets a place of its
own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Generator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple

import zstandard

from jobs.archives.model import CHUNK_BYTES, Member
from jobs.archives.own_index import OwnIndex, find_own_index
from jobs.archives.tar_scan import Begun, Condition, Event, Found, TarScan
from jobs.archives.zstd_frames import MAGIC, FrameCutter
from jobs.core.model import Attributes, Location, ObjectRef
from jobs.core.part_sizes import choose_part_size
from jobs.errors import Conflict, DamagedArchive, PreconditionFailed, Rejected
from jobs.s3.byte_ranges import ByteBudget, read_ranges
from jobs.s3.retries import retry
from jobs.s3.store import Store
from jobs.s3.uploads import ObjectUpload

BUDGET_BYTES = 32 * 1024**2
FED_BYTES = 64 * 1024
"""The piece by which the archive is decoded."""

WRITES_AT_ONCE = 8
PART_BYTES = 8 * 1024**2
WINDOW_BYTES_MAX = 128 * 1024**2
"""What zstd itself decodes without being told to."""

FOUND_INSIDE = "found-inside"
"""The folder of members that may be parts of others."""
IN_DOUBT = "the archive's own index does not prove it: it may lie inside another member"
TRIES = 256
"""Places that are tried as a frame's beginning, beside one in each piece. Each costs a block."""

TAKEN = "an object is there already: it is left as it is"


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What became of a member.

    `target`: where it was written. `note`: how that write was made safe, where the server does not
    do it. `problem`: why it was not written.
    """

    found: Found
    target: Location | None = None
    problem: str = ""
    note: str = ""


async def salvage(store: Store, archive: Location, writer: SalvageWriter | None = None) -> AsyncGenerator[Salvaged]:
    """All members of an archive that can be told, in its order, and what is lost between them.

    Raises NotFound, ArchivedObject for one that must be thawed first, PreconditionFailed for one
    that is replaced meanwhile, and the errors of writing.
    """
    own_index = await _own_index(store, archive)
    frames = own_index.frames_at()
    scan = TarScan(own_index)
    try:
        async with aclosing(_contents(store, archive, frames)) as contents:
            async for data in contents:
                if isinstance(data, FrameAt):
                    scan.locate(frames[data.offset])
                    continue
                events = scan.lose() if data is None else scan.feed(data)
                async for salvaged in _follow(await asyncio.to_thread(list, events), writer):
                    yield salvaged
        async for salvaged in _follow(list(scan.close()), writer):
            yield salvaged
        if writer is not None:
            async for salvaged in writer.drain(0):
                yield salvaged
    finally:
        if writer is not None:
            await writer.abort()


async def _own_index(store: Store, archive: Location) -> OwnIndex:
    """The archive's own index, an empty one where it cannot be read."""
    try:
        return await find_own_index(store, archive)
    except (DamagedArchive, Rejected):
        return OwnIndex()


async def _follow(events: list[Event], writer: SalvageWriter | None) -> AsyncIterator[Salvaged]:
    for event in events:
        if writer is None:
            if isinstance(event, Found):
                yield Salvaged(event)
        elif isinstance(event, Begun):
            writer.begin(event)
        elif isinstance(event, Found):
            await writer.end(event)
            async for salvaged in writer.drain(WRITES_AT_ONCE):
                yield salvaged
        else:
            await writer.write(event)


@dataclass(slots=True)
class SalvageWriter:
    """Writes whole members below `place`, with what their headers say of them.

    A current version gets its key. Another one gets the name that it has in the tar. What may be a
    part of another member goes below `FOUND_INSIDE`.
    """

    store: Store
    place: Location
    _upload: ObjectUpload | None = field(default=None, init=False)
    _problem: str = field(default="", init=False)
    _ending: deque[asyncio.Task[Salvaged]] = field(default_factory=deque, init=False)

    def begin(self, begun: Begun) -> None:
        """Begin the next member. Nothing is published before `end`."""
        member = begun.member
        place = self.place.join(FOUND_INSIDE) if begun.is_in_doubt else self.place
        target = place.join(member.key if member.is_latest else begun.name)
        part_bytes = choose_part_size(member.size_bytes, PART_BYTES)
        self._upload = ObjectUpload(self.store, target.bucket, target.key, _attributes(member), part_bytes)

    async def write(self, data: bytes) -> None:
        """The next bytes of the member."""
        if self._upload is None or self._problem:
            return
        try:
            await self._upload.write(data)
        except Rejected as error:
            self._problem = str(error)

    async def end(self, found: Found) -> None:
        """Publish the member if it is whole, else drop what was written of it."""
        upload, self._upload = self._upload, None
        problem, self._problem = self._problem, ""
        self._ending.append(asyncio.create_task(self._end(upload, found, problem)))

    async def drain(self, left: int) -> AsyncIterator[Salvaged]:
        """What became of members, until only `left` of them are being written."""
        while len(self._ending) > left:
            yield await self._ending.popleft()

    async def abort(self) -> None:
        """Leave nothing behind of members that are not published."""
        for task in self._ending:
            task.cancel()
        await asyncio.gather(*self._ending, return_exceptions=True)
        if self._upload is not None:
            await self._upload.abort()

    async def _end(self, upload: ObjectUpload | None, found: Found, problem: str) -> Salvaged:
        if upload is None:
            return Salvaged(found)
        try:
            if found.condition is not Condition.WHOLE or problem:
                return Salvaged(found, problem=problem)
            target = Location(upload.bucket, upload.key)
            try:
                done = await upload.finish()
            except PreconditionFailed:
                return Salvaged(found, problem=f"{target}: {TAKEN}")
            except (Rejected, Conflict) as error:
                return Salvaged(found, problem=str(error))
            return Salvaged(found, target, note=done.note)
        finally:
            await upload.abort()


def _attributes(member: Member) -> Attributes:
    return Attributes(headers=member.headers, metadata=member.metadata, tags=member.tags)


class FrameAt(NamedTuple):
    """The next bytes are those of a frame that the index has: where it begins in the archive."""

    offset: int


async def _contents(
    store: Store, archive: Location, frames: Collection[int]
) -> AsyncGenerator[bytes | FrameAt | None, None]:
    """The tar in pieces. None: bytes are missing here. `frames`: where the index has frames."""
    info = await retry(lambda: store.head(ObjectRef(*archive)))
    ref = ObjectRef(archive.bucket, archive.key, info.version_id)

    async def fetch(start: int, end: int) -> bytes:
        return (await retry(lambda: store.get(ref, start=start, end=end, if_match=info.etag))).data

    decoder: FrameDecoder | None = None
    is_first = True
    async with aclosing(read_ranges(info.size_bytes, CHUNK_BYTES, fetch, ByteBudget(BUDGET_BYTES))) as ranges:
        async for data in ranges:
            if is_first and (archive.key.endswith(".zst") or data.startswith(MAGIC)):
                decoder = FrameDecoder(frames)
            is_first = False
            for start in range(0, len(data), FED_BYTES):
                piece = data[start : start + FED_BYTES]
                if decoder is None:
                    yield piece
                else:
                    for decoded in decoder.feed(piece):
                        yield decoded
    if decoder is not None and not decoder.is_whole:
        yield None


@dataclass(slots=True)
class FrameDecoder:
    """Decodes zstd, block by block, and finds the next frame behind one that is damaged.

    Content may be full of what looks like a frame's beginning. `frames`, where the index has
    frames, are tried always, and of all else no more than `TRIES` and one in each piece.
    """

    frames: Collection[int] = ()
    _cutter: FrameCutter = field(default_factory=FrameCutter)
    _decoder: zstandard.ZstdDecompressionObj | None = None
    _tail: bytes | None = None
    """The last bytes of a search. None: no search is under way."""
    _fed_bytes: int = 0
    _tries_left: int = TRIES

    @property
    def is_whole(self) -> bool:
        """True if what came so far ends with a whole frame."""
        return self._tail is None and self._cutter.is_between_frames

    def feed(self, data: bytes) -> Iterator[bytes | FrameAt | None]:
        """The content of the next bytes, each piece a block's. None: bytes are missing here."""
        self._fed_bytes += len(data)
        self._tries_left += 1
        rest: bytes | None = data
        while rest is not None:
            rest = yield from self._feed(rest)

    def _feed(self, data: bytes) -> Generator[bytes | FrameAt | None, None, bytes | None]:
        """The same, up to the first damage. Returns what comes after that."""
        if self._tail is not None:
            data = self._tail + data
            place = self._search(data)
            if place is None:
                return None
            self._tail, self._cutter = None, FrameCutter()
            data = data[place:]
        block = b""
        try:
            for piece in self._cutter.feed(data):
                block = piece.data
                if piece.is_first:
                    offset = self._fed_bytes - self._cutter.held_bytes - len(block)
                    if offset in self.frames:
                        yield FrameAt(offset)
                    decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES_MAX)
                    self._decoder = decompressor.decompressobj()
                if not piece.is_skippable and self._decoder is not None:
                    content = self._decoder.decompress(block)
                    if content:
                        yield content
                block = b""
        except (ValueError, zstandard.ZstdError):
            yield None
            self._tail = b""
            return (block + self._cutter.rest())[1:]
        return None

    def _search(self, data: bytes) -> int | None:
        """Where a frame may begin in data that ends where the fed bytes do. None: nowhere yet."""
        place = data.find(MAGIC)
        while place >= 0:
            if self._fed_bytes - len(data) + place in self.frames:
                return place
            if self._tries_left > 0:
                self._tries_left -= 1
                return place
            place = data.find(MAGIC, place + 1)
        self._tail = data[-len(MAGIC) + 1 :]
        return None
