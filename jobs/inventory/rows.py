"""Rows of an inventory report's data files, in a manifest's columns.

Keys are form-encoded in CSV, raw in ORC and Parquet.
"""

from __future__ import annotations

import gzip
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast
from urllib.parse import unquote_plus

import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.orc
import pyarrow.parquet as pq
from isal import igzip, isal_zlib

from jobs.core.model import NULL_VERSION
from jobs.inventory.data_files import fold_name
from jobs.inventory.fields import FEW_VALUED, FIELDS, FLAG, NUMBER, TEXT, TIME
from jobs.tables.rows import DEFAULTS, fill_batch, manifest_schema

_Array: TypeAlias = Any
pc: Any = pyarrow.compute  # its stubs know too few overloads

BATCH_ROWS = 50_000
CSV_BLOCK_BYTES = 4 << 20
_ARROW = {TEXT: pa.string(), NUMBER: pa.int64(), FLAG: pa.bool_(), TIME: pa.timestamp("ms", "UTC")}
_WORD = pa.dictionary(pa.int32(), pa.string())
"""A text of few values."""
# isal's stubs are incomplete.
GzipFile: Any = igzip.IGzipFile
GZIP_ERRORS = cast("type[Exception]", isal_zlib.error), gzip.BadGzipFile, EOFError
"""What reading a damaged or truncated file raises."""

_SOURCES = {"size_bytes": "size", "last_modified": "lastmodifieddate"}
"""Column of a manifest → field, where the two differ."""
_READ = frozenset(FIELDS) - {"ismultipartuploaded", "replicationstatus", "encryptionstatus"}


def read_batches(path: Path, file_format: str, columns: Sequence[str], bucket: str) -> Iterator[pa.RecordBatch]:
    """Yield the file's rows in the columns of `manifest_schema`, at most BATCH_ROWS at a time.

    `columns` are those that the report's manifest promises. `bucket` is the one that every row must
    name. Raises ValueError (pyarrow's among them) or OSError when the file is not what was
    promised.
    """
    for raw in read_fields(path, file_format, columns, _READ):
        for start in range(0, raw.num_rows, BATCH_ROWS):
            yield _manifest_batch(raw.slice(start, BATCH_ROWS), bucket)


def read_fields(
    path: Path, file_format: str, columns: Sequence[str], fields: Collection[str]
) -> Iterator[pa.RecordBatch]:
    """Yield those of the file's columns that are among `fields`, typed, by their folded names.

    Keys are decoded. In CSV, empty values are null. Raises as `read_batches` does.
    """
    wanted = [column for column in columns if fold_name(column) in fields]
    for batch in _FORMATS[file_format](path, wanted, columns):
        arrays = {fold_name(name): array for name, array in zip(batch.schema.names, batch.columns, strict=True)}
        if file_format == "CSV":
            arrays["key"] = decode_keys(arrays["key"])
        if arrays["key"].null_count:
            raise ValueError("a row has no key")
        yield pa.RecordBatch.from_pydict(arrays)


def _read_parquet(path: Path, wanted: list[str], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        _check_names(file.schema_arrow.names, columns)
        yield from file.iter_batches(batch_size=BATCH_ROWS, columns=wanted)


def _read_orc(path: Path, wanted: list[str], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    with path.open("rb") as source:
        file = pyarrow.orc.ORCFile(source)
        _check_names(file.schema.names, columns)
        for stripe in range(file.nstripes):
            yield file.read_stripe(stripe, columns=wanted)


def _read_csv(path: Path, wanted: list[str], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    read = pyarrow.csv.ReadOptions(column_names=list(columns), block_size=CSV_BLOCK_BYTES, use_threads=False)
    words = {name for name in FEW_VALUED if FIELDS[name] == TEXT}
    convert: Any = pyarrow.csv.ConvertOptions(
        column_types={name: _WORD if fold_name(name) in words else _ARROW[FIELDS[fold_name(name)]] for name in wanted},
        include_columns=wanted,
        strings_can_be_null=True,
        null_values=[""],
        true_values=["true"],
        false_values=["false"],
    )
    try:
        with GzipFile(path) as text:
            if not text.peek(1):
                return  # no rows, which pyarrow takes for an error
            with pyarrow.csv.open_csv(text, read_options=read, convert_options=convert) as rows:
                yield from rows
    except GZIP_ERRORS as error:
        raise ValueError(str(error)) from error


_FORMATS = {"Parquet": _read_parquet, "ORC": _read_orc, "CSV": _read_csv}


def _check_names(found: Sequence[str], promised: Sequence[str]) -> None:
    if missing := [column for column in promised if column not in found]:
        raise ValueError(f"it lacks {', '.join(missing)}")


def _manifest_batch(raw: pa.RecordBatch, bucket: str) -> pa.RecordBatch:
    by_name = dict(zip(raw.schema.names, raw.columns, strict=True))
    if "bucket" in by_name:
        _check_bucket(by_name["bucket"].cast(pa.string()), bucket)
    named = {field: _SOURCES.get(field.name, fold_name(field.name)) for field in manifest_schema()}
    columns = {field.name: _present(by_name[name], field.type) for field, name in named.items() if name in by_name}
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
