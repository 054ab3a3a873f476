"""An archive's own index, as a salvage uses it: which members are the archive's own.

Where bytes are missing or were added, the index is no longer where the archive's end says. It still
comes directly before that end. `moved_bytes` says by how much it moved.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from jobs.archives.files import archive_format, is_possible_index
from jobs.archives.index_tables import from_batch
from jobs.archives.member_names import spell, spell_version
from jobs.archives.model import BLOCK_BYTES, LOCATOR_BYTES, Locator, Member
from jobs.archives.tar_layout import END_OF_TAR, encode_map
from jobs.archives.zstd_frames import MAGIC
from jobs.core.enums import ArchiveFormat
from jobs.core.model import Location, ObjectRef
from jobs.errors import DamagedArchive
from jobs.s3.retries import retry
from jobs.s3.store import Store

END_FRAME_BYTES = 64
"""The most that zstd makes of `END_OF_TAR`, between the index and the locator."""


class OwnMember(NamedTuple):
    """A member by the index. `offset` is where its content was in the tar when it was written."""

    key: str
    version_id: str | None
    is_latest: bool
    size_bytes: int
    sha256: str | None
    offset: int

    @property
    def name(self) -> str:
        """Its name in the tar, if nothing else took that name."""
        return spell(self.key) if self.is_latest else spell_version(self.key, self.version_id)

    def to_member(self) -> Member:
        """The member, of which only the identity is known."""
        return Member(self.key, self.version_id, self.is_latest, self.size_bytes, None, 0.0, "", {}, {}, {})


@dataclass(frozen=True, slots=True)
class OwnIndex:
    """The members by `identity`, and `frames`: where a frame is in the archive → in the tar."""

    members: Mapping[bytes, OwnMember] = field(default_factory=dict)
    frames: Mapping[int, int] = field(default_factory=dict)
    moved_bytes: int = 0

    def places(self) -> list[int]:
        """Where contents may begin in the tar, in order."""
        moved = (0, self.moved_bytes) if self.moved_bytes and not self.frames else (0,)
        return sorted({each.offset + by for each in self.members.values() for by in moved})

    def frames_at(self) -> Mapping[int, int]:
        """The same as `frames`, also for those behind the place where bytes are missing."""
        return {offset + self.moved_bytes: start for offset, start in self.frames.items()} | dict(self.frames)


def identity(member: Member) -> bytes:
    """A hash of all that a header and the index both say of a member: all but place and SHA-256.

    The header of a streamed member was written before its SHA-256 was known.
    """
    checksums = {each.algorithm: each.value for each in member.checksums}
    maps = map(encode_map, (checksums, member.headers, member.metadata, member.tags))
    parts = [*member[:5], int(member.last_modified), member.storage_class, *maps]
    return hashlib.sha256(json.dumps(parts).encode()).digest()


async def find_own_index(store: Store, archive: Location) -> OwnIndex:
    """Return the index at the end of the archive itself. Raises DamagedArchive if it has none."""
    kind = archive_format(archive)
    info = await retry(lambda: store.head(ObjectRef(*archive)))
    ref = ObjectRef(archive.bucket, archive.key, info.version_id)

    async def read(start: int) -> bytes:
        if start < 0:
            raise DamagedArchive(f"{archive} is shorter than its own index")
        return (await retry(lambda: store.get(ref, start=start, end=info.size_bytes, if_match=info.etag))).data

    index = Locator.decode(await read(info.size_bytes - LOCATOR_BYTES)).to_member()
    if kind is None or not is_possible_index(index):
        raise DamagedArchive(f"{archive}: its end names an index of an impossible size")
    begin, end = index.byte_range
    tail_bytes = end - begin + 2 * LOCATOR_BYTES + len(END_OF_TAR) + BLOCK_BYTES
    first = max(0, info.size_bytes - tail_bytes)
    tail = await read(first)
    for place in _places(kind, index, tail):
        try:
            return _parsed(_content(index, tail[place : place + end - begin]), first + place - begin)
        except DamagedArchive:
            continue
    raise DamagedArchive(f"{archive}: its own index is damaged")


def _places(kind: ArchiveFormat, index: Member, tail: bytes) -> list[int]:
    """Where the index may begin in the archive's last bytes."""
    begin, end = index.byte_range
    if kind is ArchiveFormat.TAR:
        rest = -index.size_bytes % BLOCK_BYTES + len(END_OF_TAR)
        lengths = [rest + locator_bytes for locator_bytes in (2 * LOCATOR_BYTES, LOCATOR_BYTES)]
    else:
        ends = (len(tail) - LOCATOR_BYTES - length for length in range(1, END_FRAME_BYTES + 1))
        lengths = [len(tail) - place for place in ends if place >= 0 and tail.startswith(MAGIC, place)]
    places = (len(tail) - length - (end - begin) for length in lengths)
    return [place for place in places if place >= 0]


def _content(index: Member, data: bytes) -> bytes:
    if index.frame_offset is None:
        return data
    try:
        with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
            return reader.read(index.skip_bytes + index.size_bytes)[index.skip_bytes :]
    except zstandard.ZstdError as error:
        raise DamagedArchive(f"the archive's own index is damaged: {error}") from error


def _parsed(data: bytes, moved_bytes: int) -> OwnIndex:
    members: dict[bytes, OwnMember] = {}
    frames: dict[int, int] = {}
    try:
        file = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True)
        for batch in file.iter_batches():
            for each in from_batch(batch):
                members[identity(each)] = OwnMember(*each[:4], each.sha256, each.offset)
                if each.frame_offset is not None and each.frame_start is not None:
                    frames[each.frame_offset] = each.frame_start
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise DamagedArchive(f"the archive's own index is damaged: {error}") from error
    return OwnIndex(members, frames, moved_bytes)
