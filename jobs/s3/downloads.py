"""Downloads to local files, in bounded ranges that are pinned to one ETag.

`download` fetches any object. `fetch_promised` and `read_manifest` are for reports that a
manifest describes (S3 Inventory, S3 Batch Operations): a file is used only as the manifest
promises it, and looked for beside the manifest where a report was copied elsewhere.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import IO

from msgspec import Struct

from jobs.core.model import Location, ObjectRef
from jobs.errors import Denied, ManifestError, NoSuchBucket, NotFound, Rejected
from jobs.s3.byte_ranges import ByteBudget, ContentSide, read_ranges
from jobs.s3.store import Store

RANGE_BYTES = 8 << 20
MANIFEST_BYTES = 64 << 20
"""A manifest of S3's largest inventories has some MiB. A larger file is something else."""


class PromisedFile(Struct, frozen=True):
    """A file that a report's manifest promises, and the `places` where it may be, in order.

    `md5` in hex. `kind` and `report` are the messages' nouns.
    """

    manifest: Location | Path | str
    places: Sequence[Location | Path]
    md5: str
    kind: str
    report: str
    size_bytes: int | None = None


async def download(store: Store, ref: ObjectRef, path: Path) -> str:
    """Write the object to `path` → the MD5 of its bytes, in hex. Raises a StoreError of the reads.

    At most four ranges are in memory. The first range brings size and ETag: small objects take one
    request.
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

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        await asyncio.to_thread(keep, file, first.data)
        size_bytes, read = first.info.size_bytes, ContentSide(store, ref, first.info).read
        rest = read_ranges(size_bytes, RANGE_BYTES, read, ByteBudget(4 * RANGE_BYTES), first=RANGE_BYTES)
        async with aclosing(rest) as ranges:
            async for data in ranges:
                await asyncio.to_thread(keep, file, data)
    return digest.hexdigest()


async def fetch_promised(store: Store, file: PromisedFile, target: Path) -> tuple[Location | Path, Path]:
    """Where the file is, and a verified local copy of it: at `target`, or itself where it is local.

    Raises ManifestError when it is missing or is not what the manifest promises, a StoreError
    otherwise. S3 also denies access to a key that is missing, if the credentials lack
    s3:ListBucket, so the next place is looked at then.
    """
    denied = None
    for place in file.places:
        try:
            path, md5 = await _fetch(store, place, target)
        except (NotFound, NoSuchBucket, FileNotFoundError):
            continue
        except Denied as error:
            denied = error
            continue
        if md5 != file.md5 or file.size_bytes not in (None, path.stat().st_size):
            raise ManifestError(
                f"{place} has the MD5 {md5}, {file.manifest} says {file.md5}: the file was changed, "
                "truncated or replaced",
                advice=f"use another {file.report}",
            )
        return place, path
    if denied:
        raise denied
    raise ManifestError(
        f"{file.places[0]}, a {file.kind} of {file.manifest}, is missing (nor is it beside the manifest)",
        advice=f"restore it, or use another {file.report}",
    )


async def read_manifest(store: Store, place: Location | Path, advice: str) -> bytes:
    """A manifest's bytes, or those of another small file of a report.

    Raises ManifestError, with this `advice`, for a file that is missing or too large, a
    StoreError or an OSError when it cannot be read.
    """
    try:
        if isinstance(place, Path):
            size_bytes = place.stat().st_size
        else:
            size_bytes = (await store.head(ObjectRef(*place))).size_bytes
        if size_bytes > MANIFEST_BYTES:
            raise ManifestError(f"{place} has {size_bytes} bytes, too many for a manifest", advice=advice)
        return place.read_bytes() if isinstance(place, Path) else (await store.get(ObjectRef(*place))).data
    except (NotFound, NoSuchBucket, FileNotFoundError, IsADirectoryError) as error:
        raise ManifestError(f"{place} does not exist", advice=advice) from error


async def _fetch(store: Store, place: Location | Path, target: Path) -> tuple[Path, str]:
    """A local copy of the file, and its MD5."""
    if isinstance(place, Path):
        with place.open("rb") as file:
            return place, (await asyncio.to_thread(hashlib.file_digest, file, "md5")).hexdigest()
    return target, await download(store, ObjectRef(*place), target)
