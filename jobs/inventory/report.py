"""Inventory reports, by S3 or by `sealift inventory`: manifest and verified files.

Nothing is trusted before it is verified: manifest.json against manifest.checksum, each data file
against the size and MD5 in the manifest, before a row of it is given out. Layout:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.core.model import Location
from jobs.errors import ManifestError
from jobs.inventory.data_files import fold_name
from jobs.s3.downloads import PromisedFile, fetch_promised, read_manifest
from jobs.s3.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

VERSIONS = ("2016-11-30",)
FORMATS = ("CSV", "ORC", "Parquet")
CREATOR = "sealift"
"""What `sealift inventory` adds to its manifests as `createdBy`."""
_TIMESTAMP_DIGITS_MAX = 15

_BINARY_COLUMN = {
    "Parquet": re.compile(r"(?:required|optional)\s+\w+\s+(\w+)"),
    "ORC": re.compile(r"[<,]\s*(\w+)\s*:"),
}


@dataclass(frozen=True, slots=True)
class DataFile:
    """One data file of a report as the manifest promises it: key, size, MD5 in hex."""

    key: str
    size_bytes: int
    md5: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """A report whose manifest has been verified.

    `created_at`: epoch seconds at which its listing began. `is_listing`: made by
    `sealift inventory`, so that a report without rows is of an empty bucket, and no mistake.
    `columns` are the data files' columns by their names there (`VersionId` in CSV, `version_id`
    elsewhere).
    """

    manifest: Location | Path
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

    async def fetch(self, store: Store, file: DataFile, target: Path) -> tuple[Location | Path, Path]:
        """Where the file lies, and a verified local copy of it: at `target`, or itself where it is
        local.

        Raises ManifestError when it is missing or is not what the manifest promises, a StoreError
        otherwise.
        """
        promised = PromisedFile(
            self.manifest, self._places(file), file.md5, "data file", "inventory", file.size_bytes, may_be_denied=True
        )
        return await fetch_promised(store, promised, target)

    def _places(self, file: DataFile) -> list[Location | Path]:
        """Where the file may be: where the manifest says, and beside a manifest that was copied with
        its files.
        """
        named = Location(self.destination_bucket, file.key)
        name = file.key.rpartition("/")[2]
        if isinstance(self.manifest, Path):
            dated = self.manifest.parent
            configuration = dated.parent
            inside = file.key.rpartition(f"/{configuration.name}/")[2] if configuration.name else name
            paths = (configuration / inside, configuration / "data" / name, dated / "files" / name, dated / name)
            return [*dict.fromkeys(paths), named]
        dated_key = self.manifest.key.rpartition("/")[0]
        base, _, _ = dated_key.rpartition("/")
        inside = file.key.rpartition(f"/{base.rpartition('/')[2]}/")[2] if base else name
        beside = Location(self.manifest.bucket, base), Location(self.manifest.bucket, dated_key)
        copies = (
            beside[0].join(inside),
            beside[0].join(f"data/{name}"),
            beside[1].join(f"files/{name}"),
            beside[1].join(name),
        )
        return list(dict.fromkeys((named, *copies)))


_NO_CHECKSUM = "the report is not complete yet, or was copied without it. Wait for it, or copy it as well"


async def open_inventory(store: Store, location: Location | Path) -> Inventory:
    """The report whose `manifest.json` is at `location` (in S3, or a local path), verified by its
    checksum.

    Raises ManifestError when it is missing, its checksum is missing or differs, or it is not a
    manifest of S3 Inventory in a known version and format. StoreError when S3 refuses otherwise.
    """
    content = await read_manifest(store, location, "give the path of a report's manifest.json")
    beside: Location | Path
    if isinstance(location, Path):
        beside = location.with_suffix(".checksum")
    else:
        beside = Location(location.bucket, location.key.removesuffix(".json") + ".checksum")
    promised = (await read_manifest(store, beside, _NO_CHECKSUM)).decode("ascii", "replace")
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if promised.strip().lower() != md5:
        raise ManifestError(
            f"{location} has the MD5 {md5}, but {beside} says {promised.strip()[:40]!r}: the manifest was changed",
            advice="use another inventory",
        )
    return _parse(content, location)


def _parse(content: bytes, location: Location | Path) -> Inventory:
    def reject(problem: str) -> ManifestError:
        return ManifestError(f"{location} is not an S3 Inventory manifest that can be used: {problem}")

    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise reject(f"it is not JSON ({_one_line(error)})") from error
    if not isinstance(data, dict):
        raise reject("it is not a JSON object")
    for name in ("sourceBucket", "destinationBucket", "version", "creationTimestamp", "fileFormat", "fileSchema"):
        if not isinstance(data.get(name), str) or not data[name]:
            raise reject(f"{name} is missing or no text")
    if data["version"] not in VERSIONS:
        raise reject(f"version is {data['version']!r}, known is {', '.join(VERSIONS)}")
    if data["fileFormat"] not in FORMATS:
        raise reject(f"fileFormat is {data['fileFormat']!r}, known are {', '.join(FORMATS)}")
    if not data["creationTimestamp"].isdecimal() or len(data["creationTimestamp"]) > _TIMESTAMP_DIGITS_MAX:
        raise reject(f"creationTimestamp is {data['creationTimestamp']!r}, expected epoch milliseconds")
    columns = _columns(data["fileFormat"], data["fileSchema"])
    folded = [fold_name(column) for column in columns]
    if "key" not in folded or len(set(folded)) != len(folded):
        raise reject(
            f"fileSchema must name each column once, and the key among them; it is {data['fileSchema'][:200]!r}"
        )
    if not isinstance(data.get("files"), list):
        raise reject("files is missing or no list")
    return Inventory(
        manifest=location,
        source_bucket=data["sourceBucket"],
        destination_bucket=data["destinationBucket"].rpartition(":")[2],
        created_at=int(data["creationTimestamp"]) / 1000,
        file_format=data["fileFormat"],
        columns=columns,
        files=tuple(_data_file(file, reject) for file in data["files"]),
        is_listing=data.get("createdBy") == CREATOR,
    )


def _columns(file_format: str, schema: str) -> tuple[str, ...]:
    if file_format == "CSV":
        return tuple(name.strip() for name in schema.split(","))
    return tuple(_BINARY_COLUMN[file_format].findall(schema))


def _data_file(file: Any, reject: Any) -> DataFile:
    match file:
        case {"key": str(key), "size": int(size_bytes), "MD5checksum": str(md5)} if key and size_bytes >= 0 and md5:
            return DataFile(key, size_bytes, md5.lower())
    raise reject(f"each of files must have key, size and MD5checksum; one is {json.dumps(file)[:200]}")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
