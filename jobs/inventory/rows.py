"""Rows of an inventory report's data files, in a manifest's columns.

Keys are form-encoded in CSV, raw in ORC and Parquet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, TypeAlias, cast
from urllib.parse import unquote_plus

import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.orc
import pyarrow.parquet as pq

from jobs.core.model import NULL_VERSION
from jobs.inventory.data_files import fold_name
from jobs.tables.rows import DEFAULTS, fill_batch, manifest_schema

_Array: TypeAlias = Any
pc: Any = pyarrow.compute  # its stubs know too few overloads

BATCH_ROWS = 50_000
CSV_BLOCK_BYTES = 8 << 20

_SOURCES = {
    "key": "key",
    "version_id": "versionid",
    "is_latest": "islatest",
    "is_delete_marker": "isdeletemarker",
    "size_bytes": "size",
    "etag": "etag",
    "last_modified": "lastmodifieddate",
    "storage_class": "storageclass",
}
_READ = {"bucket", *_SOURCES.values()}


def read_batches(path: Path, file_format: str, columns: Sequence[str], bucket: str) -> Iterator[pa.RecordBatch]:
    """Yield the file's rows in the columns of `manifest_schema`, at most BATCH_ROWS at a time.

    `columns` are those that the report's manifest promises. `bucket` is the one that every row must
    name. Raises ValueError (pyarrow's among them) or OSError when the file is not what was
    promised.
    """
    wanted = [column for column in columns if fold_name(column) in _READ]
    for raw in _FORMATS[file_format](path, wanted, columns):
        for start in range(0, raw.num_rows, BATCH_ROWS):
            yield _manifest_batch(raw.slice(start, BATCH_ROWS), bucket, is_encoded=file_format == "CSV")


def _read_parquet(path: Path, wanted: list[str], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        _check_names(file.schema_arrow.names, columns)
        yield from file.iter_batches(batch_size=BATCH_ROWS, columns=wanted)


def read_orc(path: Path, wanted: list[str], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield the `wanted` columns of an ORC file, a stripe at a time.

    Raises ValueError where one of `columns` lacks.
    """
    with path.open("rb") as source:
        file = pyarrow.orc.ORCFile(source)
        _check_names(file.schema.names, columns)
        for stripe in range(file.nstripes):
            yield file.read_stripe(stripe, columns=wanted)


def _read_csv(path: Path, wanted: list[str], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    if not path.stat().st_size:
        raise ValueError("the file is empty")
    read = pyarrow.csv.ReadOptions(column_names=list(columns), block_size=CSV_BLOCK_BYTES)
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
    # As text first: an empty value is absent in some columns and a value in others.
    convert = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(columns, pa.string()), include_columns=wanted, strings_can_be_null=False
    )
    with pa.input_stream(str(path), compression="gzip") as source:
        if not source.read(1):
            return  # no rows, which pyarrow takes for an error
    with (
        pa.input_stream(str(path), compression="gzip") as source,
        pyarrow.csv.open_csv(
            cast("IO[bytes]", source), read_options=read, parse_options=parse, convert_options=convert
        ) as rows,
    ):
        yield from rows


_FORMATS = {"Parquet": _read_parquet, "ORC": read_orc, "CSV": _read_csv}


def _check_names(found: Sequence[str], promised: Sequence[str]) -> None:
    if missing := [column for column in promised if column not in found]:
        raise ValueError(f"it lacks {', '.join(missing)}")


def _manifest_batch(raw: pa.RecordBatch, bucket: str, *, is_encoded: bool) -> pa.RecordBatch:
    by_name = {fold_name(name): raw.column(name) for name in raw.schema.names}
    if "bucket" in by_name:
        _check_bucket(by_name["bucket"].cast(pa.string()), bucket)
    columns = {
        field.name: _present(by_name[_SOURCES[field.name]], field.type)
        for field in manifest_schema()
        if _SOURCES.get(field.name) in by_name
    }
    if "key" not in columns:
        raise ValueError("a row has no key")
    if is_encoded:
        columns["key"] = decode_keys(columns["key"])
    if columns["key"].null_count:
        raise ValueError("a row has no key")
    if "version_id" in columns:
        columns["version_id"] = columns["version_id"].fill_null(NULL_VERSION)  # S3 leaves the null version's id empty
    if "etag" in columns:
        columns["etag"] = pc.utf8_trim(columns["etag"], '"')
    for name in DEFAULTS.keys() & columns.keys():
        columns[name] = columns[name].fill_null(DEFAULTS[name])
    return fill_batch(columns, raw.num_rows)


def _present(column: _Array, kind: pa.DataType) -> _Array:
    """The column as `kind`, its empty texts as null."""
    if pa.types.is_string(column.type):
        column = pc.if_else(pc.equal(column, pa.scalar("")), pa.scalar(None, pa.string()), column)
    if pa.types.is_timestamp(kind):
        return column.cast(kind, safe=False)  # ORC has nanoseconds
    return column.cast(kind)


def decode_keys(keys: _Array) -> _Array:
    """Form-decoded keys, exactly once. Raises ValueError for a key that is no UTF-8.

    The slash is what S3 encodes most, so it goes first, in all keys at once. Nothing encoded can
    come of that.
    """
    keys = pc.replace_substring(keys, "%2F", "/")
    text = bytes(keys.buffers()[2] or b"")  # of all keys at once: to ask each of them costs far more
    if b"%" not in text and b"+" not in text:
        return keys
    encoded: _Array = pc.fill_null(pc.or_(pc.match_substring(keys, "%"), pc.match_substring(keys, "+")), False)
    decoded = [unquote_plus(key, errors="strict") for key in keys.filter(encoded).to_pylist()]
    array: _Array = pc.replace_with_mask(keys, encoded, pa.array(decoded, pa.string()))
    return array


def _check_bucket(column: _Array, bucket: str) -> None:
    others = column.filter(pc.fill_null(pc.not_equal(column, pa.scalar(bucket)), True))
    if len(others):
        raise ValueError(f"a row names the bucket {others[0].as_py()!r}, the manifest is of {bucket!r}")
