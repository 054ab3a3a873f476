"""Multipart copies: within one service, or streamed between two.

A copy that was killed is continued (`_go_on`). It accepts an upload only if this run recorded it for an equal plan,
and a part only if S3 lists it with the size in the plan. The plan has the source's version and ETag, and S3 held every
part to them. Another caller who knows the upload's id could have sent other bytes. So the object is published only with
the source's checksum. Where no checksum can prove the parts, a part is accepted only with the ETag that S3 answered
when this run sent it (`UploadRecords.sent`). A stream that is continued reads all of the source again, since it is
hashed as a whole. It sends those parts again that S3 does not have with the checksum of these bytes.

S3 orders a key's versions by the beginning of their uploads. So what came to the key meanwhile is on top of the copy:
the look after each copy finds it (`jobs.s3.lookup`).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial

from msgspec import to_builtins

from jobs.core.algorithms import ALGORITHMS, Protection, protects
from jobs.core.model import Checksum, ObjectInfo
from jobs.core.part_sizes import choose_part_size, part_ranges
from jobs.errors import Conflict, Denied, NotFound, Rejected, Unavailable
from jobs.s3.byte_ranges import ByteBudget, ContentSide, read_ranges
from jobs.s3.checksums import ContentCheck, composite, full_object, full_object_checksums
from jobs.s3.retries import gather_bounded, retry
from jobs.s3.store import PartDone, Written
from jobs.s3.uploads import ALTERED, WHOLE, ObjectUpload, all_parts

PARTS_IN_FLIGHT = 8
PART_RECORDS = 400
"""The number of records for the parts of a large upload. After a kill, parts without a record are
sent again."""
Range = tuple[int, int, int]
"""A part's number, its start, and its end, which is exclusive."""
STREAM_PART_BYTES = 8 * 1024 * 1024
Parts = tuple[dict[int, PartDone], Callable[[PartDone], Awaitable[PartDone]]]
"""The parts that an upload has already, and what is told of each further part."""


async def copy_parts(source: ContentSide, upload: ObjectUpload) -> Written:
    """Multipart server-side copy, parts in parallel, each pinned to the ETag of `source`.

    Where the source has a composite checksum its part boundaries are kept, so that checksum and
    ETag come out the same. A full-object checksum of the source must come out at the destination.

    Each part is retried by itself. A copy that failed for a moment, or was killed, continues with
    the parts that S3 has, if the source's checksum or the records of this run prove them.
    """
    upload.checksum = checksum = _carried_checksum(source.info)
    part_size_bytes = choose_part_size(source.info.size_bytes, upload.part_size_bytes)
    is_provable = checksum is not None and checksum.value != ""
    if checksum is not None and checksum.is_composite:
        source_part_bytes = await _source_part_size(source)
        part_size_bytes = source_part_bytes or part_size_bytes
        is_provable = source_part_bytes is not None
    async with _parts(source, upload, part_size_bytes, is_provable=is_provable) as (there, keep):

        async def copy_part(span: Range) -> PartDone:
            number, start, end = span
            until = None if (start, end) == (0, source.info.size_bytes) else end
            copy = partial(upload.store.copy_part, source.ref, source.info.etag, start, until, upload.upload)
            return await keep(await retry(partial(copy, number)))

        missing = [each for each in part_ranges(source.info.size_bytes, part_size_bytes) if each[0] not in there]
        copied = await gather_bounded(copy_part, missing, PARTS_IN_FLIGHT, ends_early=True)
        parts = sorted([*there.values(), *copied], key=lambda part: part.number)
        if there and is_provable and checksum is not None and checksum.is_composite:
            _check_composite(upload, parts, checksum)
        return await upload.complete(parts, source.info.size_bytes)


async def stream(source: ContentSide, upload: ObjectUpload, budget: ByteBudget) -> tuple[Written, ContentCheck]:
    """Copy through this process, in bounded parts, hashed on the way. Returns also the check of the bytes, which knows
    their SHA-256, and what of the source's they were compared with.

    The bytes are checked against the source's MD5 ETag and full-object checksums before they are
    published, and every upload carries a checksum that the destination verifies. Raises
    Rejected for an object whose parts do not fit into the budget.
    """
    check = ContentCheck(source.info, "SHA256")
    is_whole = source.info.size_bytes <= STREAM_PART_BYTES
    return await (_stream_whole if is_whole else _stream_parts)(source, upload, budget, check), check


async def _stream_whole(source: ContentSide, upload: ObjectUpload, budget: ByteBudget, check: ContentCheck) -> Written:
    held = await budget.acquire(source.info.size_bytes)
    try:
        # The caller's own tries repeat no more than this one read.
        body = await source.store.get(source.ref, if_match=source.info.etag)
        check.update(body.data)
        _check_received(source, check, len(body.data))
        known = full_object_checksums(source.info.checksums)
        checksum = check.checksum(known[0].algorithm if known else "SHA256")
        put = partial(upload.store.put, upload.target, body.data, upload.attributes)
        return await put(guard=upload.guard, checksum=checksum)
    finally:
        budget.release(held)


def _check_received(source: ContentSide, check: ContentCheck, size_bytes: int) -> None:
    """Raise Unavailable, so the row is retried, when these are not the source's bytes.

    All that S3 keeps of the whole content has to agree: each full-object checksum, and an MD5 ETag.
    """
    if check.is_refuted or size_bytes != source.info.size_bytes:
        raise Unavailable("GetObject", str(source.ref), ALTERED, "the bytes received are not the source's", 200)


async def _stream_parts(source: ContentSide, upload: ObjectUpload, budget: ByteBudget, check: ContentCheck) -> Written:
    size_bytes = source.info.size_bytes
    part_size_bytes = choose_part_size(size_bytes, STREAM_PART_BYTES)
    if part_size_bytes > max(budget.size, STREAM_PART_BYTES):
        advice = f"set SEALIFT_TUNING=buffer_mib={-(-part_size_bytes // 1024**2)} for the workers"
        what = f"the parts of {size_bytes} bytes do not fit into a worker's buffer: {advice}"
        raise Rejected("UploadPart", str(source.ref), "BufferTooSmall", what, 400)
    whole = [each for each in full_object_checksums(source.info.checksums) if _is_combinable(each)]
    upload.checksum = checksum = whole[0] if whole else Checksum("SHA256", "", is_composite=True)
    is_provable = protects(checksum.algorithm, Protection.INTENT)
    parts: list[PartDone] = []
    async with _parts(source, upload, part_size_bytes, is_provable=is_provable) as (there, keep):

        async def send(number: int, data: bytes) -> PartDone:
            own = await asyncio.to_thread(full_object, checksum.algorithm, data)
            known = there.get(number)
            if known is not None and own.value in [each.value for each in known.checksums]:
                return known
            put = partial(upload.store.put_part, upload.upload, number, data, checksum=own)
            return await keep(await retry(put))

        def read(start: int, end: int) -> Awaitable[bytes]:
            return retry(partial(source.read, start, end))

        received = 0
        async with contextlib.aclosing(read_ranges(size_bytes, part_size_bytes, read, budget)) as ranges:
            async for data in ranges:
                received += len(data)
                _, done = await asyncio.gather(asyncio.to_thread(check.update, data), send(len(parts) + 1, data))
                parts.append(done)
        _check_received(source, check, received)
        return await upload.complete(parts, size_bytes)


@contextlib.asynccontextmanager
async def _parts(
    source: ContentSide, upload: ObjectUpload, part_size_bytes: int, *, is_provable: bool
) -> AsyncIterator[Parts]:
    """A multipart upload, begun or continued.

    If the block raises, the upload is kept for the next attempt, if that can help and the run has
    records. Else it is aborted.
    """
    plan = _plan(source, upload, part_size_bytes, is_provable=is_provable)
    ranges = list(part_ranges(source.info.size_bytes, part_size_bytes))
    at_once, unrecorded = max(PARTS_IN_FLIGHT, len(ranges) // PART_RECORDS), list[tuple[int, str]]()

    async def keep(part: PartDone) -> PartDone:
        """Record the parts that no checksum can prove, by their digests (S3's ETags), several at once."""
        if not is_provable:
            unrecorded.append((part.number, part.etag))
        if len(unrecorded) >= at_once and upload.begun is not None:
            recorded = unrecorded.copy()
            unrecorded.clear()
            await upload.records.sent(upload.begun, recorded)
        return part

    sizes = {number: end - start for number, start, end in ranges}
    there = await _go_on(upload, plan, sizes, is_provable=is_provable)
    try:
        if upload.begun is None:
            await upload.begin(plan)
        yield there, keep
    except BaseException as error:
        await upload.leave(error)
        raise


async def _go_on(
    upload: ObjectUpload, plan: str, sizes: Mapping[int, int], *, is_provable: bool
) -> dict[int, PartDone]:
    """Go on with this run's unfinished upload of an equal plan, if there is one. Returns the parts to be believed, of
    those that S3 lists.

    One with a part that has another size than `sizes` says is dropped.
    """
    while (begun := await upload.records.take(plan)) is not None:
        upload.begun, upload.is_recorded = begun, True
        try:
            listed = await all_parts(upload.store, begun)
            own = None if is_provable else await upload.records.sent_parts(begun)
        except BaseException as error:
            await upload.leave(error)
            if not isinstance(error, (NotFound, Denied, Rejected)):
                raise
            continue
        if any(part.size_bytes != sizes.get(part.number) for part in listed):
            await upload.abort()
            continue
        needs_checksum = upload.checksum is not None and upload.checksum.is_composite  # S3 demands it of each part then
        usable = [part for part in listed if part.etag and (part.checksums or not needs_checksum)]
        return {part.number: part for part in usable if own is None or (part.number, part.etag) in own}
    return {}


def _check_composite(upload: ObjectUpload, parts: Sequence[PartDone], checksum: Checksum) -> None:
    """Raise Conflict unless the parts have the source's composite checksum."""
    sums = [[each for each in part.checksums if each.algorithm == checksum.algorithm] for part in parts]
    if not all(sums) or composite([each[0] for each in sums]).value != checksum.value:
        what = "the parts that were there before do not have the source's checksum"
        raise Conflict("CompleteMultipartUpload", str(upload.target), ALTERED, what)


def _plan(source: ContentSide, upload: ObjectUpload, part_size_bytes: int, *, is_provable: bool) -> str:
    """A digest of all that decides what the upload's parts are, and what the object will carry."""
    (bucket, key, version_id), info, kind = source.ref, source.info, upload.checksum
    read = [bucket, key, version_id or info.version_id, info.etag, info.size_bytes]
    parts = [part_size_bytes, kind and kind.algorithm, kind and kind.is_composite, is_provable]
    text = json.dumps([*upload.target[:2], to_builtins(upload.attributes), read, parts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _is_combinable(checksum: Checksum) -> bool:
    return not checksum.is_composite and ALGORITHMS[checksum.algorithm].is_combinable


def _carried_checksum(info: ObjectInfo) -> Checksum | None:
    """The copy's checksum: a full-object one that S3 builds from parts, else a composite."""
    known = [each for each in info.checksums if each.algorithm in ALGORITHMS]
    combinable = [each for each in known if _is_combinable(each)]
    composite = [each for each in known if each.is_composite]
    if combinable or composite:
        return (combinable or composite)[0]
    return WHOLE if not info.checksums else None


async def _source_part_size(source: ContentSide) -> int | None:
    """The size of the source's parts, None when they differ (the last may be shorter), by the first and the
    last but one.
    """
    first = await source.store.head(source.ref, part_number=1)
    count = first.parts_count
    if count is None or first.size_bytes <= 0 or -(-source.info.size_bytes // first.size_bytes) != count:
        return None
    later = await source.store.head(source.ref, part_number=count - 1) if count > 2 else first
    return first.size_bytes if later.size_bytes == first.size_bytes else None
