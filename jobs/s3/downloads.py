"""Objects to local files, in bounded ranges that are pinned to one ETag."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import aclosing
from pathlib import Path
from typing import IO

from jobs.core.model import ObjectRef
from jobs.errors import Rejected
from jobs.s3.byte_ranges import ByteBudget, read_ranges
from jobs.s3.store import Body, Store

RANGE_BYTES = 8 << 20


async def download(store: Store, ref: ObjectRef, path: Path) -> str:
    """Write the object to `path` → the MD5 of its bytes, in hex. Raises a StoreError of the reads.

    At most four ranges are in memory. The first range brings size and ETag: small objects take one request.
    """
    try:
        first = await store.get(ref, start=0, end=RANGE_BYTES)
    except Rejected as error:
        if error.code != "InvalidRange":  # S3's answer to any range of an empty object
            raise
        first = await store.get(ref)
    digest = hashlib.md5(usedforsecurity=False)

    def keep(file: IO[bytes], data: bytes) -> None:
        digest.update(data)
        file.write(data)

    async def fetch(start: int, end: int) -> Body:
        return await store.get(ref, start=start + RANGE_BYTES, end=end + RANGE_BYTES, if_match=first.info.etag)

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        await asyncio.to_thread(keep, file, first.data)
        rest = read_ranges(max(0, first.info.size_bytes - RANGE_BYTES), RANGE_BYTES, fetch, ByteBudget(4 * RANGE_BYTES))
        async with aclosing(rest) as bodies:
            async for body in bodies:
                await asyncio.to_thread(keep, file, body.data)
    return digest.hexdigest()
