"""Multipart copies: within one service, or streamed between two."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass

from jobs.core.evidence import is_md5_etag
from jobs.core.model import Attributes, Checksum, ObjectInfo, ObjectRef
from jobs.core.part_sizes import choose_part_size, part_ranges
from jobs.errors import StoreError, Unavailable
from jobs.s3.byte_ranges import ByteBudget, read_ranges
from jobs.s3.store import Guard, PartDone, Store, Written

PARTS_IN_FLIGHT = 8
STREAM_PART_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Transfer:
    """One object version on its way.

    `info` is what HEAD said of the source. Its ETag pins every read.
    """

    source: Store
    ref: ObjectRef
    info: ObjectInfo
    destination: Store
    bucket: str
    key: str
    attributes: Attributes
    guard: Guard


async def copy_parts(transfer: Transfer, part_size_bytes: int) -> Written:
    """Multipart server-side copy, parts in parallel, each pinned.

    Where the source has a composite checksum its part boundaries are kept, so that checksum and
    ETag come out the same. A full-object checksum of the source must come out at the destination.
    """
    checksum = _carried_checksum(transfer.info)
    part_size_bytes = choose_part_size(transfer.info.size_bytes, part_size_bytes)
    if checksum is not None and checksum.is_composite:
        part_size_bytes = await _source_part_size(transfer) or part_size_bytes
    ranges = list(part_ranges(transfer.info.size_bytes, part_size_bytes))
    gate = asyncio.Semaphore(PARTS_IN_FLIGHT)

    async with _upload(transfer, checksum) as upload_id:

        async def copy_part(number: int, start: int, end: int) -> PartDone:
            async with gate:
                return await transfer.destination.copy_part(
                    transfer.ref, transfer.info.etag, start, end, transfer.bucket, transfer.key, upload_id, number
                )

        parts = await _all_or_first_error([copy_part(*each) for each in ranges])
        expected = checksum if checksum and checksum.value and not checksum.is_composite else None
        return await transfer.destination.complete_multipart(
            transfer.bucket, transfer.key, upload_id, parts, guard=transfer.guard, checksum=expected
        )


async def stream(transfer: Transfer, budget: ByteBudget) -> tuple[Written, str]:
    """Copy through this process, in bounded parts, hashed on the way → the answer and
    `SHA256:base64`.

    The bytes are checked against the source's MD5 ETag or full-object SHA-256 before they are
    published, and every upload carries a checksum that the destination verifies.
    """
    if transfer.info.size_bytes <= STREAM_PART_BYTES:
        return await _stream_whole(transfer, budget)
    return await _stream_parts(transfer, budget)


async def _stream_whole(transfer: Transfer, budget: ByteBudget) -> tuple[Written, str]:
    held = await budget.acquire(transfer.info.size_bytes)
    try:
        body = await transfer.source.get(transfer.ref, if_match=transfer.info.etag)
        digests = _Digests()
        digests.update(body.data)
        digests.check(transfer, len(body.data))
        written = await transfer.destination.put(
            transfer.bucket,
            transfer.key,
            body.data,
            transfer.attributes,
            guard=transfer.guard,
            checksum=digests.sha256(),
        )
        return written, digests.spelled()
    finally:
        budget.release(held)


async def _stream_parts(transfer: Transfer, budget: ByteBudget) -> tuple[Written, str]:
    part_size_bytes = choose_part_size(transfer.info.size_bytes, STREAM_PART_BYTES)
    digests = _Digests()
    parts: list[PartDone] = []

    async def fetch(start: int, end: int) -> bytes:
        return (await transfer.source.get(transfer.ref, start=start, end=end, if_match=transfer.info.etag)).data

    checksum = Checksum("SHA256", "", is_composite=True)
    async with _upload(transfer, checksum) as upload_id:
        size_bytes = 0
        reading = read_ranges(transfer.info.size_bytes, part_size_bytes, fetch, budget)
        async with contextlib.aclosing(reading) as ranges:
            async for data in ranges:
                size_bytes += len(data)
                part = Checksum("SHA256", base64.b64encode(hashlib.sha256(data).digest()).decode())
                _, done = await asyncio.gather(
                    asyncio.to_thread(digests.update, data),
                    transfer.destination.put_part(
                        transfer.bucket, transfer.key, upload_id, len(parts) + 1, data, checksum=part
                    ),
                )
                parts.append(done)
        digests.check(transfer, size_bytes)
        written = await transfer.destination.complete_multipart(
            transfer.bucket, transfer.key, upload_id, parts, guard=transfer.guard
        )
        return written, digests.spelled()


@contextlib.asynccontextmanager
async def _upload(transfer: Transfer, checksum: Checksum | None) -> AsyncIterator[str]:
    """A multipart upload that is aborted when the block does not end well."""
    upload_id = await transfer.destination.create_multipart(
        transfer.bucket,
        transfer.key,
        transfer.attributes,
        checksum_algorithm=checksum.algorithm if checksum else None,
        is_composite=checksum.is_composite if checksum else False,
    )
    try:
        yield upload_id
    except BaseException:
        with contextlib.suppress(StoreError):  # the bucket's lifecycle rule is the second net
            await transfer.destination.abort_multipart(transfer.bucket, transfer.key, upload_id)
        raise


def _carried_checksum(info: ObjectInfo) -> Checksum | None:
    """The copy's checksum: a full-object one that S3 builds from parts, else a composite."""
    combinable = [c for c in info.checksums if not c.is_composite and c.algorithm in ("CRC64NVME", "CRC32C", "CRC32")]
    composite = [c for c in info.checksums if c.is_composite]
    if combinable or composite:
        return (combinable or composite)[0]
    return Checksum("CRC64NVME", "") if not info.checksums else None


async def _source_part_size(transfer: Transfer) -> int | None:
    """The size of the source's parts, None when they differ (the last may be shorter)."""
    first = await transfer.source.head(transfer.ref, part_number=1)
    count = first.parts_count
    if count is None or first.size_bytes <= 0 or -(-transfer.info.size_bytes // first.size_bytes) != count:
        return None
    return first.size_bytes


async def _all_or_first_error(work: Sequence[Coroutine[None, None, PartDone]]) -> list[PartDone]:
    """The results in order. The first error cancels the rest and is raised."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Digests:
    """SHA-256 and MD5 of the bytes that pass through."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)

    def update(self, data: bytes) -> None:
        self._sha256.update(data)
        self._md5.update(data)

    def sha256(self) -> Checksum:
        return Checksum("SHA256", base64.b64encode(self._sha256.digest()).decode())

    def spelled(self) -> str:
        return "SHA256:" + self.sha256().value

    def check(self, transfer: Transfer, size_bytes: int) -> None:
        """Raise Unavailable, so the row is retried, when these are not the source's bytes."""
        info = transfer.info
        wrong = size_bytes != info.size_bytes or (is_md5_etag(info) and self._md5.hexdigest() != info.etag)
        stored = [c.value for c in info.checksums if c.algorithm == "SHA256" and not c.is_composite]
        if wrong or (stored and stored[0] != self.sha256().value):
            raise Unavailable(
                "GetObject", str(transfer.ref), "AlteredContent", "the bytes received are not the source's"
            )
