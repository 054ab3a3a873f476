"""Parquet tables of the ledger and the rows in them.

Columns are plain types that DuckDB and pandas read as they are. pyarrow is imported inside
the functions, so a command that needs no table starts fast.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import groupby, starmap
from operator import itemgetter
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from jobs.core.model import Listed, ObjectVersion, Repair
from jobs.core.outcome import Depth, Evidence, Outcome, Status
from jobs.errors import DamagedArchive, LedgerError

if TYPE_CHECKING:
    import pyarrow as pa

REPETITIVE: Any = ["storage_class", "archive", "status", "reason", "detail", "evidence", "depth", "attempt"]
"""Columns with few different values, which a Parquet file keeps in a dictionary. To look for
repetition in the others costs more time than all the rest, and saves nothing.
"""
SHARD_BATCH_ROWS = 10_000
PLANNED = "plan"
"""The attempt of outcomes that were written with the plan."""
DEFAULTS = {"is_latest": True, "is_delete_marker": False}
"""What a manifest's row is where its manifest does not say."""


@cache
def schema_of(*kinds: type[Any]) -> pa.Schema:
    """The Arrow schema of NamedTuples or Structs: floats are times, what may be None is nullable, other is text.

    What is beside a row has columns of its own.
    """
    import pyarrow as pa

    types: dict[Any, Any] = {int: pa.int64(), bool: pa.bool_(), float: pa.timestamp("us", tz="UTC")}
    fields: list[pa.Field[Any]] = []
    hints = {name: hint for kind in kinds for name, hint in get_type_hints(kind).items() if hint is not object}
    for name, hint in hints.items():
        choices = get_args(hint) or (hint,)
        fields.append(pa.field(name, types.get(choices[0], pa.string()), type(None) in choices))
    return pa.schema(fields)


def shard_schema() -> pa.Schema:
    """The columns of a usual shard: a row's, and a `Repair`'s beside them."""
    return schema_of(ObjectVersion, Repair)


def manifest_schema() -> pa.Schema:
    """The columns of a manifest: a shard's without the row number."""
    return shard_schema().remove(0)


def write_parquet(table: pa.Table | pa.RecordBatch) -> bytes:
    """The table as a Parquet file (zstd, row groups of 10,000 rows, so readers can stream)."""
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    with pq.ParquetWriter(sink, table.schema, compression="zstd", use_dictionary=REPETITIVE) as writer:
        writer.write(table, row_group_size=10_000)
    return sink.getvalue()


def cut(batches: Iterable[pa.RecordBatch], rows_each: int) -> Iterator[pa.Table]:
    """The rows in tables of `rows_each`, in order. The last one may be shorter."""

    def pieces() -> Iterator[tuple[int, pa.RecordBatch]]:
        row = 0
        for batch in batches:
            start = 0
            while start < batch.num_rows:
                piece = batch.slice(start, rows_each - row % rows_each)
                yield row // rows_each, piece
                start, row = start + piece.num_rows, row + piece.num_rows

    return joined(pieces())


def joined(pieces: Iterable[tuple[int, pa.RecordBatch]]) -> Iterator[pa.Table]:
    """A table of the neighbours that have the same number."""
    import pyarrow as pa

    for _, some in groupby(pieces, key=itemgetter(0)):
        yield pa.Table.from_batches([piece for _, piece in some])


def fill_batch(columns: Mapping[str, Any], rows: int, schema: pa.Schema | None = None) -> pa.RecordBatch:
    """These columns (name → Arrow array, or Python values) as `rows` rows in `manifest_schema()`, or
    in the schema that is given.

    Other names are left out. A column that is missing holds its default, else null: a row that does
    not say whether it is its key's latest version is taken for one.
    """
    import pyarrow as pa

    schema = schema or manifest_schema()
    arrays: list[Any] = []
    for field in schema:
        column = columns.get(field.name)
        if column is None:
            column = pa.repeat(pa.scalar(DEFAULTS.get(field.name), field.type), rows)
        elif not isinstance(column, pa.Array | pa.ChunkedArray):
            column = pa.array(column, field.type)
        if isinstance(column, pa.ChunkedArray):
            column = column.combine_chunks()
        arrays.append(cast(column, field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def batch_of(rows: Sequence[tuple[Any, ...]], names: Sequence[str], schema: pa.Schema) -> pa.RecordBatch:
    """Rows as named columns of a schema. Names that it lacks are left out, times are epoch seconds."""
    import pyarrow as pa

    columns: dict[str, Any] = dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else {}
    for field in schema:
        if pa.types.is_timestamp(field.type) and field.name in columns:
            columns[field.name] = [None if value is None else round(value * 1e6) for value in columns[field.name]]
    return fill_batch(columns, len(rows), schema)


def manifest_batch(rows: Sequence[Listed] | Sequence[ObjectVersion]) -> pa.RecordBatch:
    """A page of a listing, or rows of a manifest, in a manifest's columns."""
    return batch_of(rows, rows[0]._fields if rows else (), manifest_schema())


ReadBeside = Callable[["pa.RecordBatch"], Iterable[object]]
"""Reads what the shards of one kind of work have beside each row of a batch."""


def read_repairs(batch: pa.RecordBatch | pa.Table) -> Iterator[Repair | None]:
    """What an earlier run found out about each row's objects, if it did."""
    return (Repair(*each) if any(each) else None for each in zip(*column_values(batch, schema_of(Repair)), strict=True))


def read_shard(data: bytes, beside: ReadBeside = read_repairs) -> Iterator[list[ObjectVersion]]:
    """The rows of a shard file, some at a time. Raises LedgerError for another file."""
    import pyarrow.parquet as pq

    with unaltered("a shard of the run"):
        for batch in pq.ParquetFile(io.BytesIO(data)).iter_batches(batch_size=SHARD_BATCH_ROWS):
            columns = *column_values(batch, schema_of(ObjectVersion)), beside(batch)
            yield list(starmap(ObjectVersion, zip(*columns, strict=True)))


def read_row_numbers(data: bytes) -> list[int]:
    """The row numbers of a checkpoint, in order. Raises LedgerError for another file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with unaltered("a checkpoint of the run"):
        rows: list[Any] = pq.ParquetFile(pa.BufferReader(data)).read(["row"])["row"].to_pylist()
        return rows


def write_outcomes(outcomes: Sequence[Outcome]) -> bytes:
    """Outcomes as one Parquet file."""
    return write_parquet(batch_of(outcomes, Outcome._fields, schema_of(Outcome)))


def done_outcomes(shard: bytes, at: float) -> bytes:
    """The outcomes of a shard's rows whose copies a list of the destination showed at that time.

    Size and MD5 ETag are equal at both sides, so the copy's are the row's.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    rows = pq.ParquetFile(pa.BufferReader(shard)).read()
    known: dict[str, Any] = {name: rows[name] for name in rows.schema.names} | {
        "evidence": pc.if_else(rows["is_delete_marker"], Evidence.NONE.value, Evidence.MD5_ETAG.value),
        "size_bytes": pc.fill_null(rows["size_bytes"], pa.scalar(0, pa.int64())),
        "destination_etag": rows["etag"],
        "source_modified": rows["last_modified"],
    }
    constant: dict[str, Any] = {"status": Status.SAME.value, "reason": "", "detail": "", "attempt": PLANNED}
    constant |= {"depth": Depth.LISTED.value, "at": int(at * 1e6)}
    repeated = {name: pa.repeat(value, rows.num_rows) for name, value in constant.items()}
    return write_parquet(fill_batch(known | repeated, rows.num_rows, schema_of(Outcome)))


def read_outcomes(data: bytes) -> Iterator[Outcome]:
    """The outcomes of a Parquet file that `write_outcomes` made.

    Raises LedgerError for another one.
    """
    import pyarrow.parquet as pq

    with unaltered("a checkpoint of the run"):
        for batch in pq.ParquetFile(io.BytesIO(data)).iter_batches():
            for values in zip(*column_values(batch, schema_of(Outcome)), strict=True):
                outcome = Outcome._make(values)
                status, evidence = Status(outcome.status), Evidence(outcome.evidence)
                yield outcome._replace(status=status, evidence=evidence, depth=Depth(outcome.depth))


@contextlib.contextmanager
def unaltered(what: str) -> Iterator[None]:
    """Any error of a reader within is a LedgerError."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, DamagedArchive, KeyError, TypeError, ValueError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise LedgerError(f"{what} cannot be read ({reason}): the ledger was altered") from error


def cast(column: Any, kind: pa.DataType) -> Any:
    """The column in this type. To ask Arrow for the type that it has would load all of its functions."""
    return column if column.type == kind else column.cast(kind)


def fit(rows: pa.RecordBatch | pa.Table, field: pa.Field[Any]) -> Any:
    """A column in its field's type: a file may have it in another.

    Raises ArrowException, KeyError, ValueError.
    """
    column = cast(rows.column(field.name), field.type)
    if column.null_count and not field.nullable:
        raise ValueError(f"a row has no {field.name}")
    return column


def column_values(rows: pa.RecordBatch | pa.Table, schema: pa.Schema) -> Iterator[list[Any]]:
    """Python values of each column, in the schema's order. Times as epoch seconds (a datetime each is slow).

    Raises as `fit` does.
    """
    import pyarrow as pa

    for field in schema:
        column = fit(rows, field)
        if pa.types.is_timestamp(field.type):
            micros = [each.view(pa.int64()) for each in getattr(column, "chunks", [column])]
            yield [None if value is None else value / 1e6 for each in micros for value in each.to_pylist()]
        else:
            yield column.to_pylist()
