"""Comparison of two objects by their bytes, or of one with a known checksum."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import NamedTuple, TypeVar

from jobs.core.algorithms import ALGORITHMS
from jobs.core.evidence import SIZE_DIFFERS, Verdict, compare
from jobs.core.model import ObjectInfo, ObjectRef
from jobs.core.outcome import Evidence
from jobs.errors import NoSuchBucket, NotFound
from jobs.s3.byte_ranges import ByteBudget, read_ranges
from jobs.s3.checksums import Hasher
from jobs.s3.lookup import find
from jobs.s3.retries import retry
from jobs.s3.store import Body, Store
from jobs.s3.stored_checksums import ContentCheck, stored_checksums

RANGE_BYTES = 8 * 1024 * 1024
READS_OF_LOST = 3
"""How often S3 has to deny an object that it shows, before its bytes count as lost."""
T = TypeVar("T")


class ContentSide(NamedTuple):
    """One object, as HEAD described it, and the store that has it.

    `is_retried`: each range is read again where that may help. Else the caller repeats the whole.
    """

    store: Store
    ref: ObjectRef
    info: ObjectInfo
    is_retried: bool = False


async def compare_content(
    source: ContentSide, destination: ContentSide, budget: ByteBudget, check: ContentCheck | None = None
) -> tuple[Verdict, str | None]:
    """Read both objects, pinned by ETag, and compare their bytes → verdict and `SHA256:base64` of
    the content.

    The checksum is None when they differ. `check` is updated with the source's bytes as far as both
    are equal. Raises PreconditionFailed when one changes meanwhile.
    """
    if source.info.size_bytes != destination.info.size_bytes:
        return Verdict(False, Evidence.CONTENT, SIZE_DIFFERS), None

    async def fetch(start: int, end: int) -> tuple[int, bytes, bytes]:
        reads = [asyncio.ensure_future(_read(side, start, end)) for side in (source, destination)]
        try:
            ours, theirs = await asyncio.gather(*reads)
        finally:
            for read in reads:  # when one fails, the other's bytes are in no budget
                read.cancel()
        return start, ours, theirs

    digest = Hasher("SHA256")
    async with aclosing(read_ranges(source.info.size_bytes, RANGE_BYTES, fetch, budget, copies=2)) as ranges:
        async for start, ours, theirs in ranges:
            if ours != theirs:
                offset = start + next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
                return Verdict(False, Evidence.CONTENT, f"content differs at byte {offset}"), None
            await update(digest, ours)
            if check is not None:
                await update(check, ours)
    return Verdict(True, Evidence.CONTENT), digest.spelled()


async def damage_of(side: ContentSide, budget: ByteBudget) -> str:
    """Read one object, pinned by ETag. Return how its bytes contradict what S3 keeps of them.

    An empty text where they do not, or where S3 keeps nothing of them that can be computed. Raises
    PreconditionFailed when it changes meanwhile.
    """
    if not stored_checksums(side.info):
        return ""
    return _DAMAGED if (await check_bytes(side, side.info, budget)).is_refuted else ""


async def check_bytes(side: ContentSide, known: ObjectInfo, budget: ByteBudget) -> ContentCheck:
    """Read one object, pinned by ETag, against everything that S3 keeps of the content of `known`.

    Raises PreconditionFailed when it changes meanwhile.
    """
    check = ContentCheck(known)

    async def fetch(start: int, end: int) -> bytes:
        return await _read(side, start, end)

    async with aclosing(read_ranges(side.info.size_bytes, RANGE_BYTES, fetch, budget)) as ranges:
        async for data in ranges:
            await update(check, data)
    return check


async def compare_and_blame(
    source: ContentSide, destination: ContentSide, budget: ByteBudget
) -> tuple[Verdict, str | None]:
    """Compare bytes as `compare_content` does. Where they differ, also say which side is damaged, as
    far as what S3 keeps of each tells. Lost bytes differ from all others.

    Equal bytes prove nothing where the copy was made of a source that had rotted. The stored
    checksums of such a copy differ from those of the source. Only then are equal bytes checked
    against the source's.
    """
    answer = await read_or_lost([source, destination], lambda: _compare_and_blame(source, destination, budget))
    if answer is source:
        return Verdict(False, Evidence.CONTENT, f"the source is damaged: {LOST}", is_source_damaged=True), None
    return (Verdict(False, Evidence.CONTENT, LOST), None) if isinstance(answer, ContentSide) else answer


async def _compare_and_blame(
    source: ContentSide, destination: ContentSide, budget: ByteBudget
) -> tuple[Verdict, str | None]:
    check = None if compare(source.info, destination.info).same else ContentCheck(source.info)
    verdict, checksum = await compare_content(source, destination, budget, check)
    if verdict.same is not False:
        if check is not None and check.is_refuted:
            reason = f"the source is damaged, and so is the copy: {_DAMAGED}"
            return Verdict(False, Evidence.CONTENT, reason, is_source_damaged=True), None
        return verdict, checksum
    if damage := await damage_of(source, budget):
        return Verdict(False, Evidence.CONTENT, f"the source is damaged: {damage}", is_source_damaged=True), None
    if source.info.size_bytes != destination.info.size_bytes or stored_checksums(source.info):
        return verdict, checksum  # rot changes no size
    if stored_checksums(destination.info) and not await damage_of(destination, budget):
        return verdict._replace(reason=f"{verdict.reason}, {_EITHER}", is_copy_intact=True), None
    return verdict, checksum


async def read_or_lost(sides: Sequence[ContentSide], read: Callable[[], Awaitable[T]]) -> T | ContentSide:
    """Return what `read` returns, or the side whose bytes are lost.

    They are lost if HEAD shows the same object after each read for which GET found nothing. Raises
    what `read` raises, NotFound for an object that went away or was replaced.
    """
    for reads_left in reversed(range(READS_OF_LOST)):
        try:
            return await read()
        except NoSuchBucket:
            raise
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


LOST = "its bytes are lost: S3 shows the object, and finds nothing when it is read"
_DAMAGED = "its bytes are not those of the checksum, or the ETag, that S3 keeps of it"
_EITHER = "and the copy's bytes are those that S3 keeps a checksum of, the source has none: either may be wrong"


async def check_content(side: ContentSide, known_checksum: str, budget: ByteBudget) -> Verdict:
    """Read one object, pinned by ETag, and compare with the `ALGORITHM:base64` of the content that
    is known.

    Raises PreconditionFailed when it changes meanwhile.
    """
    algorithm = known_checksum.partition(":")[0]
    if algorithm not in ALGORITHMS:
        return Verdict(None, Evidence.NONE, f"{algorithm} is an algorithm that this Sealift does not know")
    [spelled] = await hash_content(side, [algorithm], budget)
    if spelled == known_checksum:
        return Verdict(True, Evidence.CHECKSUM)
    return Verdict(False, Evidence.CHECKSUM, f"the content's {algorithm} is not the one proven before")


async def hash_content(side: ContentSide, algorithms: Sequence[str], budget: ByteBudget) -> list[str]:
    """Read one object, pinned by ETag → `ALGORITHM:base64` of the content for each algorithm.

    Raises PreconditionFailed when it changes meanwhile, and KeyError like `Hasher`.
    """
    digests = [Hasher(algorithm) for algorithm in algorithms]

    async def fetch(start: int, end: int) -> bytes:
        return await _read(side, start, end)

    async with aclosing(read_ranges(side.info.size_bytes, RANGE_BYTES, fetch, budget)) as ranges:
        async for data in ranges:
            for digest in digests:
                await update(digest, data)
    return [digest.spelled() for digest in digests]


async def _read(side: ContentSide, start: int, end: int) -> bytes:
    def get() -> Awaitable[Body]:
        return side.store.get(side.ref, start=start, end=end, if_match=side.info.etag)

    return (await (retry(get) if side.is_retried else get())).data


async def update(digest: Hasher | ContentCheck, data: bytes) -> None:
    """Take in the next piece, beside the event loop if it is large."""
    if len(data) < 256 * 1024:
        digest.update(data)
    else:  # the hash functions let go of the interpreter lock, so the other ranges arrive meanwhile
        await asyncio.to_thread(digest.update, data)
