"""Inventory reports, by S3 or by `sealift inventory`: manifest and verified files.

Nothing is trusted before it is verified: manifest.json against manifest.checksum, each data file
against the size and MD5 in the manifest, before a row of it is given out. Layout:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import DecodeError, Meta, Struct, field, json

from jobs.core.model import Location
from jobs.errors import ManifestError
from jobs.inventory.data_files import fold_name
from jobs.s3.downloads import PromisedFile, fetch_promised, read_manifest
from jobs.s3.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

Place = Location | Path
"""In S3, or a local path."""
CREATOR = "sealift"
"""What `sealift inventory` adds to its manifests as `createdBy`."""

_BINARY_COLUMN = {
    "Parquet": re.compile(r"(?:required|optional)\s+\w+\s+(\w+)"),
    "ORC": re.compile(r"[<,]\s*(\w+)\s*:"),
}


class DataFile(Struct, frozen=True):
    """One data file of a report as the manifest promises it: key, size, MD5 in hex."""

    key: Annotated[str, Meta(min_length=1)]
    size_bytes: Annotated[int, Meta(ge=0)] = field(name="size")
    md5: str = field(name="MD5checksum")


class Inventory(Struct, frozen=True):
    """A report whose manifest has been verified.

    `created_at`: epoch seconds at which its listing began. `is_listing`: made by
    `sealift inventory`, so that a report without rows is of an empty bucket, and no mistake.
    `columns` are the data files' columns by their names there (`VersionId` in CSV, `version_id`
    elsewhere).
    """

    manifest: Place
    source_bucket: str
    destination_bucket: str
    created_at: float
    file_format: str
    columns: tuple[str, ...]
    files: tuple[DataFile, ...]
    is_listing: bool = False

    def has_field(self, name: str) -> bool:
        """Whether the report has the field, by S3's name of it."""
        return any(fold_name(column) == fold_name(name) for column in self.columns)

    async def batches(self, store: Store) -> AsyncIterator[pa.RecordBatch]:
        """Yield every row, in the columns of `jobs.tables.rows.manifest_schema`, a bounded batch at
        a time.

        Raises ManifestError for a data file that is missing, is not what the manifest promises, or
        cannot be read. No row of such a file comes.
        """
        import pyarrow as pa

        from jobs.inventory.rows import read_batches

        for file in self.files:
            with tempfile.TemporaryDirectory(prefix="sealift-") as folder:
                place, path = await self.fetch(store, file, Path(folder, "data"))
                batches: Iterator[pa.RecordBatch] = read_batches(
                    path, self.file_format, self.columns, self.source_bucket
                )
                while True:
                    try:
                        batch = await asyncio.to_thread(next, batches, None)
                    except (pa.ArrowException, ValueError, OSError, EOFError) as error:
                        raise ManifestError(
                            f"{place} cannot be read as {self.file_format} with the columns that {self.manifest} "
                            f"gives it: {_one_line(error)}",
                            advice="have the inventory delivered again",
                        ) from error
                    if batch is None:
                        break
                    yield batch

    async def fetch(self, store: Store, file: DataFile, target: Path) -> tuple[Place, Path]:
        """Where the file lies, and a verified local copy of it: at `target`, or itself where it is
        local.

        Raises ManifestError when it is missing or is not what the manifest promises, a StoreError
        otherwise.
        """
        places, md5 = self._places(file), file.md5.lower()
        promised = PromisedFile(self.manifest, places, md5, "data file", "inventory", file.size_bytes)
        return await fetch_promised(store, promised, target)

    def _places(self, file: DataFile) -> list[Place]:
        """Where the file may be: where the manifest says, and beside a manifest that was copied with
        its files.
        """
        named, name = Location(self.destination_bucket, file.key), file.key.rpartition("/")[2]
        if isinstance(self.manifest, Path):
            return [self.manifest.parent.parent / "data" / name, named]
        base = self.manifest.key.rpartition("/")[0].rpartition("/")[0]
        return [named, Location(self.manifest.bucket, base).join(f"data/{name}")]


_NO_CHECKSUM = "the report is not complete yet, or was copied without it. Wait for it, or copy it as well"


async def open_inventory(store: Store, location: Place) -> Inventory:
    """The report whose `manifest.json` is at `location` (in S3, or a local path), verified by its
    checksum.

    Raises ManifestError when it is missing, its checksum is missing or differs, or it is not a
    manifest of S3 Inventory in a known version and format. StoreError when S3 refuses otherwise.
    """
    content = await read_manifest(store, location, "give the path of a report's manifest.json")
    beside: Place
    if isinstance(location, Path):
        beside = location.with_suffix(".checksum")
    else:
        beside = location._replace(key=location.key.removesuffix(".json") + ".checksum")
    promised = (await read_manifest(store, beside, _NO_CHECKSUM)).decode("ascii", "replace")
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if promised.strip().lower() != md5:
        raise ManifestError(
            f"{location} has the MD5 {md5}, but {beside} says {promised.strip()[:40]!r}: the manifest was changed",
            advice="use another inventory",
        )
    return _parse(content, location)


class _Manifest(Struct, rename="camel"):
    """manifest.json, as S3 writes it."""

    source_bucket: Annotated[str, Meta(min_length=1)]
    destination_bucket: Annotated[str, Meta(min_length=1)]
    version: Literal["2016-11-30"]
    creation_timestamp: Annotated[str, Meta(pattern=r"^[0-9]{1,15}$")]
    file_format: Literal["CSV", "ORC", "Parquet"]
    file_schema: str
    files: tuple[DataFile, ...]
    created_by: str = ""


def _parse(content: bytes, location: Place) -> Inventory:
    what = f"{location} is not an S3 Inventory manifest that can be used"
    try:
        data = json.decode(content, type=_Manifest)
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestError(f"{what}: {_one_line(error)}") from error
    columns = _columns(data.file_format, data.file_schema)
    folded = [fold_name(column) for column in columns]
    if "key" not in folded or len(set(folded)) != len(folded):
        schema = data.file_schema[:200]
        raise ManifestError(f"{what}: fileSchema must name each column once, and the key among them; it is {schema!r}")
    return Inventory(
        manifest=location,
        source_bucket=data.source_bucket,
        destination_bucket=data.destination_bucket.rpartition(":")[2],
        created_at=int(data.creation_timestamp) / 1000,
        file_format=data.file_format,
        columns=columns,
        files=data.files,
        is_listing=data.created_by == CREATOR,
    )


def _columns(file_format: str, schema: str) -> tuple[str, ...]:
    if file_format == "CSV":
        return tuple(name.strip() for name in schema.split(","))
    return tuple(_BINARY_COLUMN[file_format].findall(schema))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
