"""The reader of members: coalesced ranges, each member proven against the index.

Restores, verifications of archives and expire runs read here. A read yields proven content, or the
reason why there is no proof. It never yields bytes that could be another object's.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from operator import attrgetter
from typing import NamedTuple

from msgspec import Struct

from jobs.archives.model import CHUNK_BYTES, Member
from jobs.archives.spans import GAP_BYTES, SPAN_BYTES, ByteRange, Span, coalesce
from jobs.archives.zstd_frames import decompress, decompress_pieces
from jobs.core.model import Checksum, ObjectRef
from jobs.core.outcome import Evidence
from jobs.core.reasons import Cause, Reason
from jobs.errors import DamagedArchive, Rejected
from jobs.s3.byte_ranges import ByteBudget, read_ahead, read_ranges
from jobs.s3.checksums import Hasher, full_object_checksums, is_checksum_of
from jobs.s3.retries import retry
from jobs.s3.store import Store

SPANS_AHEAD = 4
"""Requests for one archive in flight."""

FURTHEST_BYTES = 2 * CHUNK_BYTES
"""The most that a small member takes of an archive, and the furthest that it begins inside its
frame.

An index that says otherwise is wrong.
"""

UNPROVEN = Cause(Reason.NOTHING_COMPARABLE, "the index has no checksum of it")


class MemberRead(NamedTuple):
    """One member, read. With `data` it is proven by `evidence`. Without, `cause` says what is
    wrong.
    """

    member: Member
    data: bytes | None
    evidence: Evidence = Evidence.NONE
    cause: Cause | None = None


def is_large(member: Member) -> bool:
    """True for a member too large for memory: `ArchiveReader.stream` reads it, `read` does not."""
    return member.size_bytes > CHUNK_BYTES


class ArchiveReader(Struct, frozen=True):
    """Reads members of one archive. Every request is pinned to its version and ETag.

    `gap_bytes`: the largest gap between neighbours that share a request (negative: none share one).
    """

    store: Store
    ref: ObjectRef
    etag: str
    budget: ByteBudget
    gap_bytes: int = GAP_BYTES
    span_bytes: int = SPAN_BYTES

    async def read(self, members: Sequence[Member]) -> AsyncGenerator[list[MemberRead], None]:
        """The members, none of them `is_large`, in the archive's order, a list for each request.

        A few requests run ahead. A list's bytes are in the budget until the next list is asked for.
        A member that fails its proof is read once more by itself. Raises the errors of the archive
        as a whole: NotFound, PreconditionFailed (another object is in its place), ArchivedObject
        (not thawed, or no longer), Denied, Unavailable.
        """
        placed = [member for member in members if _has_place(member)]
        if len(placed) < len(members):
            why = Cause(Reason.ARCHIVE_DAMAGED, "its place in the index is impossible")
            yield [MemberRead(member, None, cause=why) for member in members if not _has_place(member)]
        if any(not member.size_bytes for member in placed):
            yield [judge(member, b"") for member in placed if not member.size_bytes]
        filled = [member for member in placed if member.size_bytes]
        spans = coalesce(
            [ByteRange(*member.byte_range, member.size_bytes) for member in filled],
            gap_bytes=self.gap_bytes,
            span_bytes=self.span_bytes,
        )
        reads = read_ahead(
            spans,
            lambda span: self._read(span, [filled[each] for each in span.items]),
            self.budget,
            size_bytes=attrgetter("held_bytes"),
            at_once=lambda: SPANS_AHEAD,
        )
        async with aclosing(reads) as batches:
            async for batch in batches:
                yield batch

    async def stream(self, member: Member) -> AsyncGenerator[bytes, None]:
        """A large member's content in order, in bounded pieces. It is proven only at its end.

        The caller uses nothing of it before. Raises DamagedArchive when the bytes are not the
        member's or nothing proves them, and what `read` raises.
        """
        known = next(iter(content_checksums(member)), None)
        if known is None:
            raise self._damaged(member, UNPROVEN.detail)
        hasher, size_bytes, (start, end) = Hasher(known.algorithm), 0, member.byte_range

        async def fetch(begin: int, stop: int) -> bytes:
            data = await self._get(start + begin, start + stop)
            if len(data) < stop - begin:
                raise self._damaged(member, "the archive ends before it")
            return data

        try:
            async with aclosing(read_ranges(end - start, CHUNK_BYTES, fetch, self.budget)) as pieces:
                is_plain = member.frame_offset is None
                decoded = pieces if is_plain else decompress_pieces(pieces, member.skip_bytes, member.size_bytes)
                async with aclosing(decoded) as contents:
                    async for data in contents:
                        size_bytes += len(data)
                        await asyncio.to_thread(hasher.update, data)
                        yield data
        except ValueError as error:
            raise self._damaged(member, str(error)) from error
        if size_bytes != member.size_bytes or hasher.checksum.value != known.value:
            raise self._damaged(member, f"its {known.algorithm} is not the index's")

    async def contents(
        self, members: Sequence[Member]
    ) -> AsyncGenerator[tuple[Member, AsyncGenerator[bytes, None] | Cause], None]:
        """The content of each member, large ones last, or why there is none. See `read` and `stream`."""
        async with aclosing(self.read([each for each in members if not is_large(each)])) as batches:
            async for member, data, _, cause in (read async for batch in batches for read in batch):
                yield member, (cause or UNPROVEN) if data is None else _once(data)
        for member in filter(is_large, members):
            yield member, self.stream(member) if content_checksums(member) else UNPROVEN

    async def _read(self, span: Span, members: Sequence[Member]) -> list[MemberRead]:
        reads = await asyncio.to_thread(_judge_all, members, span.start, await self._get(span.start, span.end))
        for place, read in enumerate(reads):
            if read.data is None and read.cause != UNPROVEN:  # the network may have altered it
                start, end = read.member.byte_range
                again = await self._get(start, end)
                reads[place] = (await asyncio.to_thread(_judge_all, [read.member], start, again))[0]
        return reads

    async def _get(self, start: int, end: int) -> bytes:
        """Bytes of the archive, fewer than asked for where it ends before."""
        try:
            return (await retry(lambda: self.store.get(self.ref, start=start, end=end, if_match=self.etag))).data
        except Rejected as error:
            if error.code != "InvalidRange":
                raise
            return b""

    def _damaged(self, member: Member, why: str) -> DamagedArchive:
        return DamagedArchive(f"s3://{self.ref.bucket}/{self.ref.key}, member {member.key!r}: {why}")


def judge(member: Member, content: bytes) -> MemberRead:
    """Prove bytes to be the member's: by its SHA-256, a full-object checksum of S3's, or an MD5
    ETag.
    """
    if len(content) != member.size_bytes:
        return MemberRead(member, None, cause=Cause(Reason.SIZE_DIFFERS))
    known = content_checksums(member)
    if known:
        if is_checksum_of(known[0], content):
            return MemberRead(member, content, Evidence.CHECKSUM)
        return MemberRead(member, None, cause=Cause(Reason.CHECKSUM_DIFFERS, known[0].algorithm))
    # The ETag of an object encrypted with KMS looks like an MD5: only an equal one proves anything.
    if hashlib.md5(content, usedforsecurity=False).hexdigest() == member.etag:
        return MemberRead(member, content, Evidence.MD5_ETAG)
    return MemberRead(member, None, cause=UNPROVEN)


def content_checksums(member: Member) -> tuple[Checksum, ...]:
    """Return the full-object checksums of a member as the index has them, Sealift's own SHA-256
    first.
    """
    if member.sha256 is None:
        return tuple(full_object_checksums(member.checksums))
    own = Checksum("SHA256", base64.b64encode(bytes.fromhex(member.sha256)).decode())
    return own, *(each for each in full_object_checksums(member.checksums) if each.algorithm != "SHA256")


def _has_place(member: Member) -> bool:
    start, end = member.byte_range
    return 0 <= start <= end <= start + FURTHEST_BYTES and 0 <= member.skip_bytes <= FURTHEST_BYTES


def _judge_all(members: Sequence[Member], start: int, data: bytes) -> list[MemberRead]:
    """Members, in the archive's order, out of `data`, its bytes from `start` on.

    Each frame is decompressed once.
    """
    whole = memoryview(data)
    reads: list[MemberRead] = []
    for (begin, end), sharing in itertools.groupby(members, key=attrgetter("byte_range")):
        piece, group = whole[begin - start : end - start], list(sharing)
        if len(piece) != end - begin:
            cause = Cause(Reason.ARCHIVE_DAMAGED, "it ends before this member")
            reads += [MemberRead(member, None, cause=cause) for member in group]
        elif group[0].frame_offset is None:
            reads += [judge(member, bytes(piece)) for member in group]
        else:
            reads += _judge_frame(group, piece)
    return reads


def _judge_frame(members: Sequence[Member], piece: memoryview) -> list[MemberRead]:
    """Members of a frame, which is decompressed up to their end and no further."""
    try:
        frame = decompress(piece, max(member.skip_bytes + member.size_bytes for member in members))
    except ValueError as error:
        cause = Cause(Reason.ARCHIVE_DAMAGED, f"its frame is damaged ({error})")
        return [MemberRead(member, None, cause=cause) for member in members]
    return [judge(each, frame[each.skip_bytes : each.skip_bytes + each.size_bytes]) for each in members]


async def _once(data: bytes) -> AsyncGenerator[bytes, None]:
    yield data
