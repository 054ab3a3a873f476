"""Multipart copies: within one service, or streamed between two.

A copy that was killed is continued (`_resume`). It accepts an upload only if this run recorded it for an equal plan,
and a part only if S3 lists it with the size in the plan. The plan has the source's version and ETag, and S3 held every
part to them. Another caller who knows the upload's id could have sent other bytes. So the object is published only with
the source's checksum. Where no checksum can prove the parts, a part is accepted only with the ETag that S3 answered
when this run sent it (`_PartRecords`). A stream that is continued reads all of the source again, since it is hashed as
a whole. It sends those parts again that S3 does not have with the checksum of these bytes.

S3 orders a key's versions by the beginning of their uploads. So what came to the key meanwhile is on top of the copy:
the look after each copy finds it (`jobs.s3.lookup`).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import NamedTuple, TypeVar

from jobs.core.algorithms import ALGORITHMS, Protection, protects
from jobs.core.model import Attributes, Checksum, ObjectInfo, ObjectRef
from jobs.core.outcome import Evidence
from jobs.core.part_sizes import choose_part_size, part_ranges
from jobs.errors import AuthenticationFailed, Conflict, Denied, NotFound, Rejected, StoreError, Unavailable
from jobs.s3.byte_ranges import ByteBudget, read_ranges
from jobs.s3.checksums import ContentCheck, composite, full_object, full_object_checksums
from jobs.s3.retries import retry
from jobs.s3.store import Guard, PartDone, Store, Written
from jobs.s3.uploads import (
    ALTERED,
    NO_RECORDS,
    BegunUpload,
    CopyPlan,
    UploadRecords,
    abort_upload,
    all_parts,
    complete,
)

PARTS_IN_FLIGHT = 8
PART_RECORDS = 400
"""The number of records for the parts of a large upload. After a kill, parts without a record are
sent again."""
T = TypeVar("T")
U = TypeVar("U")
Range = tuple[int, int, int]
"""A part's number, its start, and its end, which is exclusive."""
STREAM_PART_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Transfer:
    """One object version on its way. `info` is what HEAD said of the source. Its ETag pins every read."""

    source: Store
    ref: ObjectRef
    info: ObjectInfo
    destination: Store
    target: ObjectRef
    attributes: Attributes
    guard: Guard
    records: UploadRecords = NO_RECORDS


async def copy_parts(transfer: Transfer, part_size_bytes: int) -> Written:
    """Multipart server-side copy, parts in parallel, each pinned.

    Where the source has a composite checksum its part boundaries are kept, so that checksum and
    ETag come out the same. A full-object checksum of the source must come out at the destination.

    Each part is retried by itself. A copy that failed for a moment, or was killed, continues with
    the parts that S3 has, if the source's checksum or the records of this run prove them.
    """
    checksum = _carried_checksum(transfer.info)
    part_size_bytes = choose_part_size(transfer.info.size_bytes, part_size_bytes)
    is_provable = checksum is not None and checksum.value != ""
    if checksum is not None and checksum.is_composite:
        source_part_bytes = await _source_part_size(transfer)
        part_size_bytes = source_part_bytes or part_size_bytes
        is_provable = source_part_bytes is not None

    async with _upload(transfer, checksum, part_size_bytes, is_provable=is_provable) as (upload, there, add):

        async def copy_part(span: Range) -> PartDone:
            number, start, end = span
            copy = partial(transfer.destination.copy_part, transfer.ref, transfer.info.etag, start, end, upload.upload)
            part = await retry(partial(copy, number))
            await add(part)
            return part

        ranges = part_ranges(transfer.info.size_bytes, part_size_bytes)
        missing = [each for each in ranges if each[0] not in there]
        parts = [*there.values(), *await _all_or_first_error(copy_part, missing, PARTS_IN_FLIGHT)]
        if there and checksum is not None and checksum.is_composite:
            _check_composite(transfer, parts, checksum)
        return await _complete(transfer, upload, parts, checksum)


class _PartRecords:
    """Records of the parts of an upload that no checksum of the source can prove: their digests, as S3's ETags."""

    def __init__(self, records: UploadRecords, upload: BegunUpload, count: int):
        self._records, self._upload = records, upload
        self._at_once = max(PARTS_IN_FLIGHT, count // PART_RECORDS)
        self._parts: list[tuple[int, str]] = []

    async def add(self, part: PartDone) -> None:
        """Add a part that S3 has copied. Several parts make one record."""
        self._parts.append((part.number, part.etag))
        if len(self._parts) >= self._at_once:
            parts, self._parts = self._parts, []
            await self._records.sent(self._upload, parts)


class Streamed(NamedTuple):
    """The answer to a copy through this process, and `SHA256:base64` of the bytes.

    `evidence`: which of the source's checksums they match. NONE: S3 keeps none of the whole source,
    so nothing shows that the bytes that were read are those that were stored.
    """

    written: Written
    checksum: str
    evidence: Evidence


async def stream(transfer: Transfer, budget: ByteBudget) -> Streamed:
    """Copy through this process, in bounded parts, hashed on the way.

    The bytes are checked against the source's MD5 ETag and full-object checksums before they are
    published, and every upload carries a checksum that the destination verifies. Raises
    Rejected for an object whose parts do not fit into the budget.
    """
    if transfer.info.size_bytes <= STREAM_PART_BYTES:
        return await _stream_whole(transfer, budget)
    return await _stream_parts(transfer, budget)


async def _stream_whole(transfer: Transfer, budget: ByteBudget) -> Streamed:
    known = full_object_checksums(transfer.info.checksums)
    held = await budget.acquire(transfer.info.size_bytes)
    try:
        # The caller's own tries repeat no more than this one read.
        body = await transfer.source.get(transfer.ref, if_match=transfer.info.etag)
        check = ContentCheck(transfer.info, "SHA256")
        check.update(body.data)
        _check_received(transfer, check, len(body.data))
        checksum = check.checksum(known[0].algorithm if known else "SHA256")
        put = partial(transfer.destination.put, *transfer.target[:2], body.data, transfer.attributes)
        return _streamed(await put(guard=transfer.guard, checksum=checksum), check)
    finally:
        budget.release(held)


async def _stream_parts(transfer: Transfer, budget: ByteBudget) -> Streamed:
    part_size_bytes = choose_part_size(transfer.info.size_bytes, STREAM_PART_BYTES)
    if part_size_bytes > max(budget.size_bytes, STREAM_PART_BYTES):
        advice = f"set SEALIFT_TUNING=buffer_mib={-(-part_size_bytes // 1024**2)} for the workers"
        what = f"the parts of {transfer.info.size_bytes} bytes do not fit into a worker's buffer: {advice}"
        raise Rejected("UploadPart", str(transfer.ref), "BufferTooSmall", what, 400)
    check = ContentCheck(transfer.info, "SHA256")
    parts: list[PartDone] = []

    async def fetch(start: int, end: int) -> bytes:
        read = partial(transfer.source.get, transfer.ref, start=start, end=end, if_match=transfer.info.etag)
        return (await retry(read)).data

    whole = [each for each in full_object_checksums(transfer.info.checksums) if _is_combinable(each)]
    checksum = whole[0] if whole else Checksum("SHA256", "", is_composite=True)
    is_provable = protects(checksum.algorithm, Protection.INTENT)
    async with _upload(transfer, checksum, part_size_bytes, is_provable=is_provable) as (upload, there, add):

        async def send(number: int, data: bytes) -> PartDone:
            own = await asyncio.to_thread(full_object, checksum.algorithm, data)
            known = there.get(number)
            if known is not None and own.value in [each.value for each in known.checksums]:
                return known
            put = partial(transfer.destination.put_part, upload.upload, number, data, checksum=own)
            part = await retry(put)
            await add(part)
            return part

        size_bytes = 0
        reading = read_ranges(transfer.info.size_bytes, part_size_bytes, fetch, budget)
        async with contextlib.aclosing(reading) as ranges:
            async for data in ranges:
                size_bytes += len(data)
                _, done = await asyncio.gather(asyncio.to_thread(check.update, data), send(len(parts) + 1, data))
                parts.append(done)
        _check_received(transfer, check, size_bytes)
        return _streamed(await _complete(transfer, upload, parts, checksum), check)


@contextlib.asynccontextmanager
async def _upload(
    transfer: Transfer, checksum: Checksum | None, part_size_bytes: int, *, is_provable: bool
) -> AsyncIterator[tuple[BegunUpload, dict[int, PartDone], Callable[[PartDone], Awaitable[None]]]]:
    """A multipart upload, the parts that it has already, and what is told of each further part.

    If the block raises, the upload is kept for the next attempt, if that can help and the run has
    records. Else it is aborted.
    """
    plan = {**_plan(transfer, part_size_bytes, checksum), "is_provable": is_provable}
    ranges = list(part_ranges(transfer.info.size_bytes, part_size_bytes))
    found = await _resume(transfer, plan, ranges)
    if found:
        upload, parts = found
    else:
        create = partial(transfer.destination.create_multipart, *transfer.target[:2], transfer.attributes)
        upload, parts = BegunUpload(*await retry(partial(create, checksum=checksum)), plan), {}
    is_recorded = found is not None

    async def add(part: PartDone) -> None:
        if not is_provable:
            await records.add(part)

    records = _PartRecords(transfer.records, upload, len(ranges))
    try:
        if not is_recorded:
            await transfer.records.begun(upload)
            is_recorded = transfer.records.are_kept
        yield upload, parts, add
    except BaseException as error:
        if is_recorded and not _is_final(error):
            transfer.records.give_back(upload)
        else:
            await _drop(transfer, upload)
        raise
    await transfer.records.ended(upload)


async def _resume(
    transfer: Transfer, plan: CopyPlan, ranges: Sequence[Range]
) -> tuple[BegunUpload, dict[int, PartDone]] | None:
    """This run's unfinished upload of an equal plan, with the parts that S3 lists.

    None if it has none. One with a part that the plan does not have is dropped.
    """
    upload = await transfer.records.take(plan)
    if upload is None:
        return None
    sizes = {number: end - start for number, start, end in ranges}
    try:
        listed = [part async for part in all_parts(transfer.destination, upload.upload)]
        own = None if plan["is_provable"] else await transfer.records.sent_parts(upload)
    except (NotFound, Denied, Rejected):
        await _drop(transfer, upload)
        return await _resume(transfer, plan, ranges)
    except BaseException:
        transfer.records.give_back(upload)
        raise
    if any(part.size_bytes != sizes.get(part.number) for part in listed):
        await _drop(transfer, upload)
        return await _resume(transfer, plan, ranges)
    needs_checksum = bool(plan["is_composite"])  # S3 demands it of each part then
    usable = [part for part in listed if part.etag and (part.checksums or not needs_checksum)]
    if own is not None:
        usable = [part for part in usable if (part.number, part.etag) in own]
    return upload, {part.number: PartDone(part.number, part.etag, part.checksums) for part in usable}


def _check_composite(transfer: Transfer, parts: Sequence[PartDone], checksum: Checksum) -> None:
    """Raise Conflict unless the parts have the source's composite checksum."""
    sums = [[each for each in part.checksums if each.algorithm == checksum.algorithm] for part in parts]
    if not all(sums) or composite([each[0] for each in sums]).value != checksum.value:
        what = "the parts that were there before do not have the source's checksum"
        raise Conflict("CompleteMultipartUpload", str(transfer.target), ALTERED, what)


async def _drop(transfer: Transfer, upload: BegunUpload) -> None:
    """Abort an upload, unless it is another attempt's, which may be alive."""
    if upload.attempt not in ("", transfer.records.attempt):
        return
    with contextlib.suppress(StoreError):  # the run's end and the bucket's lifecycle rule are other nets
        await abort_upload(transfer.destination, upload.upload)
        await transfer.records.ended(upload)


def _is_final(error: BaseException) -> bool:
    """Whether S3 has refused the copy, so that trying on with the same upload is of no use."""
    return isinstance(error, StoreError) and not isinstance(error, (Unavailable, AuthenticationFailed))


def _plan(transfer: Transfer, part_size_bytes: int, checksum: Checksum | None) -> CopyPlan:
    """All that decides what the upload's parts are, and what the object will carry."""
    attributes = json.dumps(asdict(transfer.attributes), sort_keys=True)
    return {
        "bucket": transfer.target.bucket,
        "key": transfer.target.key,
        "source_bucket": transfer.ref.bucket,
        "source_key": transfer.ref.key,
        "source_version_id": transfer.ref.version_id or transfer.info.version_id,
        "source_etag": transfer.info.etag,
        "size_bytes": transfer.info.size_bytes,
        "part_size_bytes": part_size_bytes,
        "checksum_algorithm": checksum.algorithm if checksum else None,
        "is_composite": checksum.is_composite if checksum else False,
        "attributes_sha256": hashlib.sha256(attributes.encode()).hexdigest(),
    }


async def _complete(
    transfer: Transfer, upload: BegunUpload, parts: Sequence[PartDone], checksum: Checksum | None
) -> Written:
    """Publish the object, if S3 finds the source's full-object checksum."""
    expected = checksum if checksum and checksum.value and not checksum.is_composite else None
    size_bytes = transfer.info.size_bytes
    return await complete(transfer.destination, upload.upload, parts, transfer.guard, size_bytes, expected)


def _is_combinable(checksum: Checksum) -> bool:
    return not checksum.is_composite and ALGORITHMS[checksum.algorithm].is_combinable


def _carried_checksum(info: ObjectInfo) -> Checksum | None:
    """The copy's checksum: a full-object one that S3 builds from parts, else a composite."""
    known = [each for each in info.checksums if each.algorithm in ALGORITHMS]
    combinable = [each for each in known if _is_combinable(each)]
    composite = [each for each in known if each.is_composite]
    if combinable or composite:
        return (combinable or composite)[0]
    return Checksum("CRC64NVME", "") if not info.checksums else None


async def _source_part_size(transfer: Transfer) -> int | None:
    """The size of the source's parts, None when they differ (the last may be shorter), by the first and the
    last but one.
    """
    first = await transfer.source.head(transfer.ref, part_number=1)
    count = first.parts_count
    if count is None or first.size_bytes <= 0 or -(-transfer.info.size_bytes // first.size_bytes) != count:
        return None
    later = await transfer.source.head(transfer.ref, part_number=count - 1) if count > 2 else first
    return first.size_bytes if later.size_bytes == first.size_bytes else None


async def _all_or_first_error(act: Callable[[U], Awaitable[T]], items: Iterable[U], at_once: int) -> list[T]:
    """The results in order, so many at once. The first error cancels the rest and is raised."""
    gate = asyncio.Semaphore(at_once)

    async def one(item: U) -> T:
        async with gate:
            return await act(item)

    tasks = [asyncio.ensure_future(one(each)) for each in items]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _check_received(transfer: Transfer, check: ContentCheck, size_bytes: int) -> None:
    """Raise Unavailable, so the row is retried, when these are not the source's bytes.

    All that S3 keeps of the whole content has to agree: each full-object checksum, and an MD5 ETag.
    """
    if check.is_refuted or size_bytes != transfer.info.size_bytes:
        raise Unavailable("GetObject", str(transfer.ref), ALTERED, "the bytes received are not the source's", 200)


def _streamed(written: Written, check: ContentCheck) -> Streamed:
    return Streamed(written, check.spelled("SHA256"), check.compared)
