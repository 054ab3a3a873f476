"""Manifests of any form, read as batches in `jobs.tables.rows.manifest_schema()`.

- `….json`: an inventory's manifest.json (`jobs.inventory.report`).
- `….csv`, `….csv.gz`: S3 Batch Operations' form, bucket,key[,version id] without a header. Keys are
  URL-encoded as S3 itself writes them (a space is `+`), so they are decoded exactly once.
  https://docs.aws.amazon.com/AmazonS3/latest/userguide/batch-ops-create-job.html
  After the version id may come size and time, each perhaps empty: the backlog's manifests say both.
- `….parquet`: a column `key`, raw, and optional columns of what else is known. An inventory's own
  data file is one.

A row that does not say whether it is its key's latest version counts as one: it was asked for. A
row that says it is not, and has no version id, is the null version.
"""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from msgspec import Struct

from jobs.core.model import NULL_VERSION, Location, ObjectRef
from jobs.errors import ConfigError, ManifestError, UsageError
from jobs.inventory.rows import GZIP_ERRORS, GzipFile, decode_keys
from jobs.s3.downloads import download
from jobs.s3.store import Store
from jobs.tables.rows import DEFAULTS, fill_batch, manifest_schema

pc: Any = pyarrow.compute  # its stubs know too few overloads

BATCH_ROWS = 20_000
CSV_COLUMNS = ("bucket", "key", "version_id", "size_bytes", "last_modified")
CSV_FORMS = {2, 3, 5}
"""How many of these a CSV may have."""
ACCEPTED = "an inventory's manifest.json, a .csv, a .csv.gz or a .parquet"

_ALIASES = {
    "size_bytes": ("size", "size_bytes"),
    "etag": ("e_tag", "etag"),
    "last_modified": ("last_modified_date", "last_modified"),
}
"""Names in an inventory's own data files, and ours, which count where a file has both."""


class Manifest(Struct, frozen=True):
    """An open manifest. `bucket` is None when it does not say. `batches` can be read once.

    `says_latest`: its rows say whether they are their keys' latest versions.
    """

    bucket: str | None
    batches: AsyncIterator[pa.RecordBatch]
    says_latest: bool


class _Piece(NamedTuple):
    bucket: str | None
    batch: pa.RecordBatch
    says_latest: bool = False


async def open_manifest(uri: str, store: Store, *, bucket: str | None = None) -> Manifest:
    """Open the manifest at an S3 URI, which `store` reads, or at a local path.

    Its first rows are read, so that most mistakes show here. The rest show while reading. Raises
    UsageError for another kind of file, ManifestError for rows that are wrong or missing or that
    name another bucket than `bucket` (None: the first row's), ConfigError or a StoreError when it
    cannot be read.
    """
    name = uri.lower()
    if name.endswith(".json"):
        pieces = _inventory_pieces(uri, store, bucket)
    elif name.endswith((".csv", ".csv.gz", ".parquet")):
        read = _read_parquet if name.endswith(".parquet") else _read_csv
        pieces = _pieces(uri, store, partial(read, uri, bucket=bucket))
    else:
        raise UsageError(f"{uri!r} is not a manifest", advice=f"give {ACCEPTED}")
    first = await anext(pieces, None)
    if first is None:
        raise ManifestError(f"{uri} has no rows: there is nothing to do")
    return Manifest(first.bucket or bucket, _batches(first, pieces), first.says_latest)


async def _batches(first: _Piece, rest: AsyncIterator[_Piece]) -> AsyncIterator[pa.RecordBatch]:
    yield first.batch
    async for piece in rest:
        yield piece.batch


async def _inventory_pieces(uri: str, store: Store, bucket: str | None) -> AsyncIterator[_Piece]:
    from jobs.inventory.report import open_inventory

    inventory = await open_inventory(store, Location.parse(uri) if uri.startswith("s3://") else _local_path(uri))
    if bucket not in (None, inventory.source_bucket):
        raise _other_bucket(uri, bucket, inventory.source_bucket)
    async for batch in inventory.batches(store):
        if batch.num_rows:
            yield _Piece(inventory.source_bucket, batch, inventory.has_field("IsLatest"))


async def _pieces(uri: str, store: Store, read: Callable[[Path], Iterator[_Piece]]) -> AsyncIterator[_Piece]:
    """The pieces of a file, of which S3 gives one state, each read by a thread: the loop is never kept waiting."""
    with TemporaryDirectory(prefix="sealift-manifest-") as scratch:
        if uri.startswith("s3://"):
            path = Path(scratch, "manifest")
            await download(store, ObjectRef(*Location.parse(uri)), path)
        else:
            path = _local_path(uri)
        pieces = read(path)
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            yield piece


def _read_csv(uri: str, path: Path, bucket: str | None) -> Iterator[_Piece]:
    import smart_open  # it loads botocore

    with _reading(uri), smart_open.open(path.absolute(), "rb", compression="disable") as raw:
        yield from read_csv(uri, GzipFile(fileobj=raw) if uri.lower().endswith(".gz") else raw, bucket)


def read_csv(uri: str, raw: IO[bytes], bucket: str | None = None) -> Iterator[_Piece]:
    """The rows of an open CSV, some at a time.

    Raises ManifestError for rows that are wrong or name another bucket, csv.Error and
    UnicodeDecodeError for what is no CSV in UTF-8.
    """
    return _pieces_of(uri, _csv_columns(uri, raw), bucket)


def _csv_columns(uri: str, raw: IO[bytes]) -> Iterator[dict[str, Any]]:
    rows = csv.reader(io.TextIOWrapper(raw, encoding="utf-8-sig", newline=""), strict=True)
    read, columns = 0, 0
    while some := list(islice(rows, BATCH_ROWS)):
        columns = columns or len(some[0])
        for place, row in enumerate(some):
            if len(row) != columns or columns not in CSV_FORMS:
                forms = " or ".join(",".join(CSV_COLUMNS[:number]) for number in sorted(CSV_FORMS))
                advice = f"write {forms} in each line, without a header"
                raise ManifestError(f"{uri} row {read + place + 1}: {len(row)} columns", advice=advice)
        read += len(some)
        by_column = zip(CSV_COLUMNS, zip(*some, strict=True), strict=False)
        arrays: dict[str, Any] = {name: pa.array([each or None for each in texts]) for name, texts in by_column}
        try:
            keys = decode_keys(arrays["key"].cast(pa.string()))
        except UnicodeDecodeError as error:
            raise ManifestError(f"{uri}: the key {error.object!r} is not UTF-8 once it is URL-decoded") from None
        yield arrays | {"key": keys}


def _read_parquet(uri: str, path: Path, bucket: str | None) -> Iterator[_Piece]:
    with _reading(uri), path.open("rb") as raw:
        file = pq.ParquetFile(raw)
        found = _find_columns({name.lower(): name for name in reversed(file.schema_arrow.names)})
        if "key" not in found:
            raise ManifestError(f"{uri} has no column key (it has {', '.join(file.schema_arrow.names)})")
        batches = file.iter_batches(batch_size=BATCH_ROWS, columns=list(found.values()))
        columns = ({name: batch[column] for name, column in found.items()} for batch in batches if batch.num_rows)
        yield from _pieces_of(uri, columns, bucket)


def _pieces_of(uri: str, batches: Iterable[dict[str, Any]], bucket: str | None) -> Iterator[_Piece]:
    """The rows of batches, by our names of columns and `bucket`: one bucket, and all of our types."""
    row = 1
    for columns in batches:
        if "bucket" in columns:
            buckets = pc.fill_null(columns.pop("bucket").cast(pa.string()), "")
            bucket = bucket or buckets[0].as_py()
            other = pc.index(pc.not_equal(buckets, pa.scalar(bucket)), True).as_py()
            if other >= 0 or not bucket:
                other = max(other, 0)
                raise _other_bucket(f"{uri} row {row + other}", bucket, buckets[other].as_py())
        arrays = {name: _converted(uri, name, column) for name, column in columns.items()}
        empty = pc.index(pc.equal(pc.fill_null(arrays["key"], ""), pa.scalar("")), True).as_py()
        if empty >= 0:
            raise ManifestError(f"{uri} row {row + empty}: the key is empty")
        if "version_id" in arrays and "is_latest" in arrays:
            # An inventory leaves the null version's id empty. By its key alone the row would name the current one.
            ids, has_newer = arrays["version_id"], pc.invert(arrays["is_latest"])
            arrays["version_id"] = pc.if_else(has_newer, pc.fill_null(ids, NULL_VERSION), ids)
        rows = len(arrays["key"])
        row += rows
        yield _Piece(bucket, fill_batch(arrays, rows), "is_latest" in arrays)


def _find_columns(names: dict[str, str]) -> dict[str, str]:
    """Our column names → the file's, given the file's names by their lower case."""
    ours = ("bucket", *manifest_schema().names)
    aliases = ((column, alias) for column in ours for alias in _ALIASES.get(column, (column,)))
    return {column: names[alias] for column, alias in aliases if alias in names}


def _converted(uri: str, name: str, column: Any) -> Any:
    wanted = manifest_schema().field(name).type
    if name == "last_modified" and pa.types.is_integer(column.type):
        raise ManifestError(f"{uri}: the column {name} holds numbers, expected timestamps")
    try:
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        column = column.cast(wanted, safe=not pa.types.is_timestamp(column.type))
        column.validate(full=True)  # a file may call bytes a text that are not UTF-8
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ManifestError(f"{uri}: the column {name} is not {wanted}: {_first_line(error)}") from error
    if name in DEFAULTS:
        return pc.fill_null(column, DEFAULTS[name])
    if name.endswith("etag"):
        column = pc.utf8_trim(column, '"')
    if name.endswith("etag") or name in ("version_id", "storage_class"):
        return pc.if_else(pc.equal(column, pa.scalar("")), None, column)
    return column


def _other_bucket(place: str, expected: str | None, named: str) -> ManifestError:
    if not named:
        return ManifestError(f"{place}: the bucket is empty")
    what = f"{place} names the bucket {named}, expected {expected}: a run works on one source bucket"
    return ManifestError(what, advice="make a manifest for each")


def _local_path(uri: str) -> Path:
    if "://" in uri and not uri.startswith("file://"):
        raise UsageError(f"{uri!r}: manifests are read from s3:// or a local path")
    return Path(uri.removeprefix("file://"))


@contextmanager
def _reading(uri: str) -> Iterator[None]:
    """Whatever goes wrong while a file is read becomes one of our errors."""
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ManifestError(f"{uri} is not a readable Parquet file: {_first_line(error)}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise ManifestError(f"{uri} is not CSV in UTF-8: {error}") from error
    except GZIP_ERRORS as error:  # one of them is an OSError
        raise ManifestError(f"{uri} is truncated or damaged: {error}") from error
    except OSError as error:
        why = error.strerror or str(error)
        raise ConfigError(f"cannot read the manifest {uri}: {why}", advice="correct the path or URI") from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
