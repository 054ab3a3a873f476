"""Uploading a file in bounded memory."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from jobs.core.model import Attributes, Location
from jobs.core.part_sizes import choose_part_size, part_ranges
from jobs.errors import StoreError
from jobs.s3.checksums import full_object
from jobs.s3.store import Guard, Store

PART_BYTES = 32 * 1024 * 1024


async def upload_file(
    store: Store, path: Path, place: Location, attributes: Attributes, *, guard: Guard, part_bytes: int = PART_BYTES
) -> None:
    """Upload a local file, one part in memory at a time, each with a checksum that S3 verifies.

    Raises PreconditionFailed as `guard` says, any other StoreError when S3 refuses; nothing is left then.
    """
    size_bytes = path.stat().st_size
    if size_bytes <= part_bytes:
        data = await asyncio.to_thread(path.read_bytes)
        checksum = full_object("CRC64NVME", data)
        await store.put(place.bucket, place.key, data, attributes, guard=guard, checksum=checksum)
        return
    upload_id = await store.create_multipart(place.bucket, place.key, attributes, checksum_algorithm="CRC64NVME")
    try:
        parts = []
        with path.open("rb") as file:
            for number, start, end in part_ranges(size_bytes, choose_part_size(size_bytes, part_bytes)):
                data = await asyncio.to_thread(file.read, end - start)
                checksum = full_object("CRC64NVME", data)
                parts.append(await store.put_part(place.bucket, place.key, upload_id, number, data, checksum=checksum))
        await store.complete_multipart(place.bucket, place.key, upload_id, parts, guard=guard)
    except BaseException:
        with contextlib.suppress(StoreError):  # the bucket's lifecycle rule is the second net
            await store.abort_multipart(place.bucket, place.key, upload_id)
        raise
