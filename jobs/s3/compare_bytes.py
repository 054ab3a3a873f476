"""Comparison of two objects by their bytes, or of one with a known checksum."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import TypeVar

from msgspec.structs import replace

from jobs.core.algorithms import ALGORITHMS
from jobs.core.evidence import Verdict, compare, difference
from jobs.core.model import Checksum, ObjectInfo
from jobs.core.outcome import Evidence
from jobs.core.reasons import Reason
from jobs.errors import NotFound
from jobs.s3.byte_ranges import ByteBudget, ContentSide, read_ranges
from jobs.s3.checksums import ContentCheck, stored_checksums
from jobs.s3.lookup import find
from jobs.s3.retries import gather_bounded

RANGE_BYTES = 8 * 1024 * 1024
READS_OF_LOST = 3
"""How often S3 has to deny an object that it shows, before its bytes count as lost."""
T = TypeVar("T")


async def is_damaged(side: ContentSide, budget: ByteBudget) -> bool:
    """Read one object, pinned by ETag. Return whether its bytes contradict what S3 keeps of them.

    False where S3 keeps nothing of them that can be computed. Raises PreconditionFailed when it
    changes meanwhile.
    """
    return bool(stored_checksums(side.info)) and (await check_bytes(side, side.info, budget)).is_refuted


async def check_bytes(
    side: ContentSide, known: ObjectInfo, budget: ByteBudget, also: str | None = None
) -> ContentCheck:
    """Read one object, pinned by ETag, against everything that S3 keeps of the content of `known`.

    `also`: an algorithm that the check is asked for. Raises PreconditionFailed when the object
    changes meanwhile.
    """
    return await check_pieces(read_ranges(side.info.size_bytes, RANGE_BYTES, side.read, budget), known, also)


async def check_pieces(pieces: AsyncGenerator[bytes, None], known: ObjectInfo, also: str | None = None) -> ContentCheck:
    """All pieces of a content in order, as `check_bytes` checks an object's. Raises what they raise."""
    check = ContentCheck(known, also)
    async with aclosing(pieces):
        async for data in pieces:
            await update(check, data)
    return check


async def compare_bytes(source: ContentSide, destination: ContentSide, budget: ByteBudget) -> Verdict:
    """Read both objects, pinned by ETag, and compare their bytes, then metadata and headers. Where the
    bytes differ, also say which side is damaged, as far as what S3 keeps of each tells. Lost bytes
    differ from all others.

    Equal bytes prove nothing where the copy was made of a source that had rotted. The stored
    checksums of such a copy differ from those of the source. Only then are equal bytes checked
    against the source's. Raises PreconditionFailed when one changes meanwhile.
    """
    answer = await read_or_lost([source, destination], lambda: _compare_bytes(source, destination, budget))
    if isinstance(answer, ContentSide):
        is_ours = answer is source
        lost = "source" if is_ours else "copy"
        return Verdict(False, Evidence.CONTENT, Reason.BYTES_LOST, lost, is_source_damaged=is_ours)
    differing = difference(source.info.attributes, destination.info.attributes) if answer.same else ""
    return Verdict(False, Evidence.NONE, Reason.METADATA_DIFFERS, differing) if differing else answer


async def _compare_bytes(source: ContentSide, destination: ContentSide, budget: ByteBudget) -> Verdict:
    is_stored_same = compare(source.info, destination.info).same
    known = replace(source.info, etag="", checksums=()) if is_stored_same else source.info
    check = ContentCheck(known, "SHA256")
    verdict = await _compare_ranges(source, destination, budget, check)
    if verdict.same and check.is_refuted:
        return Verdict(False, Evidence.CONTENT, Reason.BOTH_DAMAGED, is_source_damaged=True)
    if verdict.same:
        return verdict._replace(checksum=str(check.checksum("SHA256")))
    if await is_damaged(source, budget):
        return Verdict(False, Evidence.CONTENT, Reason.DAMAGED, is_source_damaged=True)
    can_rot = source.info.size_bytes == destination.info.size_bytes  # rot changes no size
    is_copy_known = not stored_checksums(source.info) and stored_checksums(destination.info)
    if can_rot and is_copy_known and not await is_damaged(destination, budget):
        return verdict._replace(reason=Reason.EITHER_DAMAGED)
    return verdict


async def _compare_ranges(
    source: ContentSide, destination: ContentSide, budget: ByteBudget, check: ContentCheck
) -> Verdict:
    """Compare the bytes. `check` gets the source's as far as both are equal."""
    if source.info.size_bytes != destination.info.size_bytes:
        return Verdict(False, Evidence.CONTENT, Reason.SIZE_DIFFERS)

    async def fetch(start: int, end: int) -> tuple[int, bytes, bytes]:
        sides = (source, destination)  # when one fails, the other's bytes are in no budget
        ours, theirs = await gather_bounded(lambda side: side.read(start, end), sides, len(sides), ends_early=True)
        return start, ours, theirs

    async with aclosing(read_ranges(source.info.size_bytes, RANGE_BYTES, fetch, budget, copies=2)) as ranges:
        async for start, ours, theirs in ranges:
            if ours != theirs:
                offset = start + next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
                return Verdict(False, Evidence.CONTENT, Reason.CONTENT_DIFFERS, str(offset))
            await update(check, ours)
    return Verdict(True, Evidence.CONTENT)


async def read_or_lost(sides: Sequence[ContentSide], read: Callable[[], Awaitable[T]]) -> T | ContentSide:
    """Return what `read` returns, or the side whose bytes are lost.

    They are lost if HEAD shows the same object after each read for which GET found nothing. Raises
    what `read` raises, NotFound for an object that went away or was replaced.
    """
    for reads_left in reversed(range(READS_OF_LOST)):
        try:
            return await read()
        except NotFound as error:
            lost = next((side for side in sides if str(side.ref) == error.target), None)
            if lost is None or not await _is_still_shown(lost):
                raise
            if not reads_left:
                return lost
    raise AssertionError("the last read returns")


async def _is_still_shown(side: ContentSide) -> bool:
    now = await find(side.store, side.ref)
    return now is not None and (now.etag, now.version_id) == (side.info.etag, side.info.version_id)


async def check_content(
    side: ContentSide, known_checksum: str, budget: ByteBudget, *, has_md5: bool = False
) -> tuple[Verdict, str]:
    """Read one object, pinned by ETag, and compare with the `ALGORITHM:base64` of the content that
    is known. Also return the MD5 in hex if that is asked for.

    Raises PreconditionFailed when it changes meanwhile.
    """
    algorithm, _, value = known_checksum.partition(":")
    if algorithm not in ALGORITHMS:
        return Verdict(None, Evidence.NONE, Reason.UNKNOWN_ALGORITHM, algorithm), ""
    known = replace(side.info, etag="", checksums=(Checksum(algorithm, value),))
    check = await check_bytes(side, known, budget, also="MD5" if has_md5 else None)
    md5 = base64.b64decode(check.checksum("MD5").value).hex() if has_md5 else ""
    if check.is_refuted:
        return Verdict(False, Evidence.CHECKSUM, Reason.CHECKSUM_DIFFERS, algorithm), md5
    return Verdict(True, Evidence.CHECKSUM, Reason.CHECKSUMS_AT_REST, "proven"), md5


async def update(digest: ContentCheck, data: bytes) -> None:
    """Take in the next piece, beside the event loop if it is large."""
    if len(data) < 256 * 1024:
        digest.update(data)
    else:  # the hash functions let go of the interpreter lock, so the other ranges arrive meanwhile
        await asyncio.to_thread(digest.update, data)
