"""Typed files: CSV and ORC data files as Parquet, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet as pq
from isal import igzip, isal_zlib

from jobs.inventory.data_files import fold_name
from jobs.inventory.fields import FEW_VALUED, FIELDS, FLAG, NUMBER, TEXT, TIME
from jobs.inventory.rows import decode_keys, read_orc

pc: Any = pyarrow.compute  # its stubs know too few overloads

BLOCK_BYTES = 4 << 20
ROW_GROUP_ROWS = 30_720
"""Large row groups cost more memory and time than they save."""

_ARROW: dict[str, pa.DataType] = {
    TEXT: pa.string(),
    NUMBER: pa.int64(),
    FLAG: pa.bool_(),
    TIME: pa.timestamp("ms", "UTC"),
}
_WORD = pa.dictionary(pa.int32(), pa.string())
"""A text of few values."""


# isal's stubs are incomplete.
_GzipFile: Any = igzip.IGzipFile
_GzipError = cast("type[Exception]", isal_zlib.error)


class TypeMismatch(ValueError):
    """Raised for a file with a value that does not have its column's type."""


def write_typed(path: Path, file_format: str, columns: Sequence[str]) -> Path | None:
    """Write those of `columns` that are in FIELDS to `<path>.parquet`.

    Returns its path, None without rows.

    CSV: columns under their folded names, keys decoded, empty values null. Blocks. Threads may run
    it side by side.

    Raises TypeMismatch for a file with an unreadable value, or a row without its key (CSV).
    """
    wanted = [name for name in columns if fold_name(name) in FIELDS]
    target, writer = path.with_suffix(".parquet"), None
    try:
        read = _read_csv(path, columns) if file_format == "CSV" else read_orc(path, wanted, columns)
        for batch in read:
            if writer is None:
                writer = _writer(target, batch.schema)
            writer.write_batch(batch, row_group_size=ROW_GROUP_ROWS)
    except (pa.ArrowException, ValueError, OSError, EOFError, _GzipError) as error:
        raise TypeMismatch(str(error)) from error
    finally:
        if writer is not None:
            writer.close()
    return None if writer is None else target


def _writer(target: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Open a fast writer: dictionaries for columns of few values, compression for keys, which
    resemble each other.
    """
    words: Any = [name for name in schema.names if fold_name(name) in FEW_VALUED]
    # The columns whose statistics `stage` reads.
    measured: Any = [name for name in schema.names if fold_name(name) in (*FEW_VALUED, "key")]
    compression: Any = {name: "lz4" if fold_name(name) == "key" else "none" for name in schema.names}
    return pq.ParquetWriter(target, schema, compression=compression, use_dictionary=words, write_statistics=measured)


def _arrow_type(name: str) -> pa.DataType:
    return _WORD if FIELDS[name] == TEXT and name in FEW_VALUED else _ARROW[FIELDS[name]]


def _read_csv(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    names = [fold_name(name) for name in columns]
    read = pyarrow.csv.ReadOptions(column_names=names, block_size=BLOCK_BYTES, use_threads=False)
    convert = pyarrow.csv.ConvertOptions(
        column_types={name: _arrow_type(name) for name in names if name in FIELDS},
        include_columns=[name for name in names if name in FIELDS],
        strings_can_be_null=True,
        null_values=[""],
        true_values=["true"],
        false_values=["false"],
    )
    with _GzipFile(path) as text:
        if not text.peek(1):
            return  # no rows, which pyarrow takes for an error
        rows = pyarrow.csv.open_csv(text, read_options=read, convert_options=convert)
        with rows:
            for batch in rows:
                yield _decoded(batch)


def _decoded(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the batch with decoded keys, and times without a zone, as in the other formats."""
    arrays = dict(zip(batch.schema.names, batch.columns, strict=True))
    arrays["key"] = decode_keys(arrays["key"])
    if arrays["key"].null_count:
        raise ValueError("a row has no key")
    if "lastmodifieddate" in arrays:
        arrays["lastmodifieddate"] = arrays["lastmodifieddate"].cast(pa.timestamp("ms"))
    return pa.RecordBatch.from_pydict(arrays)
