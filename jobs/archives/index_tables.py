"""The index's table: one row per member, in the order of the archive, as Parquet.

Columns are plain types that DuckDB and pandas read. Headers, metadata, tags and checksums
are JSON objects. Row groups are small and only `key` has statistics: the footer alone finds one
key's rows, and stays small.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.archives.member_attributes import member_defect
from jobs.archives.model import ArchiveRecord, Member
from jobs.archives.tar_layout import encode_map
from jobs.core.model import Checksum, Location
from jobs.errors import DamagedArchive

ROW_GROUP_ROWS = 4096
RECORD = b"sealift.archive"
"""The footer's entry that holds the archive's record, as JSON."""

_FIELDS: list[pa.Field[Any]] = [
    pa.field("key", pa.string(), nullable=False),
    pa.field("version_id", pa.string()),
    pa.field("is_latest", pa.bool_(), nullable=False),
    pa.field("size_bytes", pa.int64(), nullable=False),
    pa.field("etag", pa.string()),
    pa.field("last_modified", pa.timestamp("us", tz="UTC"), nullable=False),
    pa.field("storage_class", pa.string(), nullable=False),
    pa.field("headers", pa.string(), nullable=False),
    pa.field("metadata", pa.string(), nullable=False),
    pa.field("tags", pa.string(), nullable=False),
    pa.field("checksums", pa.string(), nullable=False),
    pa.field("sha256", pa.string()),
    pa.field("offset", pa.int64(), nullable=False),
    pa.field("frame_start", pa.int64()),
    pa.field("frame_offset", pa.int64()),
    pa.field("frame_length", pa.int64()),
]
SCHEMA = pa.schema(_FIELDS)
INDEX_SCHEMA = SCHEMA.append(pa.field("archive", pa.string(), nullable=False))
_MAPS = ("headers", "metadata", "tags")


def to_batch(members: Sequence[Member]) -> pa.RecordBatch:
    """Members as rows."""
    columns = dict(zip(Member._fields, zip(*members, strict=True), strict=True)) if members else {}
    arrays = []
    for field in SCHEMA:
        values: Any = columns.get(field.name, ())
        if field.name in _MAPS:
            values = [encode_map(value) for value in values]
        elif field.name == "checksums":
            values = [encode_map({each.algorithm: each.value for each in value}) for value in values]
        elif pa.types.is_timestamp(field.type):
            arrays.append(pa.array([int(value * 1e6) for value in values], pa.int64()).cast(field.type))
            continue
        arrays.append(pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def from_batch(batch: pa.RecordBatch | pa.Table) -> Iterator[Member]:
    """The inverse of `to_batch`. Columns beside a member's are ignored.

    Raises DamagedArchive for other tables, and for a member that no restore can send or find.
    """
    try:
        columns = _columns(batch)
    except (pa.ArrowException, KeyError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise DamagedArchive(f"an index has other columns than members have: {error!r}") from error
    members = [Member._make(values) for values in zip(*columns, strict=True)]
    for member in members:
        if defect := member_defect(member):
            raise DamagedArchive(
                f"the index is damaged, or was altered, at member {member.key!r}: {defect}",
                advice="make it again from the archive itself: sealift archives reindex",
            )
    return iter(members)


def _columns(batch: pa.RecordBatch | pa.Table) -> list[list[Any]]:
    columns: list[list[Any]] = []
    for field in SCHEMA:
        column: Any = batch.column(field.name).cast(field.type)
        if pa.types.is_timestamp(field.type):
            columns.append([value / 1e6 for value in column.cast(pa.int64()).to_pylist()])
        elif field.name in _MAPS:
            columns.append([json.loads(text) if text else {} for text in column.to_pylist()])
        elif field.name == "checksums":
            columns.append([_checksums(text) for text in column.to_pylist()])
        else:
            columns.append(column.to_pylist())
    return columns


def _checksums(text: str) -> tuple[Checksum, ...]:
    return tuple(Checksum(name, value, "-" in value) for name, value in json.loads(text).items()) if text else ()


class TableWriter:
    """Writes members to a Parquet file, a row group at a time. `rows` counts them."""

    def __init__(self, file: Any):
        self._writer = _parquet_writer(file, SCHEMA)
        self._pending: list[Member] = []
        self.rows = 0

    def add(self, members: Sequence[Member]) -> None:
        """Add the next rows."""
        self.rows += len(members)
        self._pending += members
        while len(self._pending) >= ROW_GROUP_ROWS:
            self._writer.write_batch(to_batch(self._pending[:ROW_GROUP_ROWS]))
            del self._pending[:ROW_GROUP_ROWS]

    def close(self) -> None:
        """Write the rest and the footer. The file stays open."""
        if self._pending:
            self._writer.write_batch(to_batch(self._pending))
            self._pending = []
        self._writer.close()

    def discard(self) -> None:
        """Write no more. Harmless after `close`."""
        self._pending = []
        self._writer.close()


def write_index(rows: Any, record: ArchiveRecord, file: Any) -> None:
    """Write the ledger's index from an archive's own (`rows`, a file), with its name and record.

    Raises DamagedArchive for rows that cannot be read.
    """
    schema = INDEX_SCHEMA.with_metadata({RECORD: json.dumps(record.to_dict(), sort_keys=True).encode()})
    with _parquet_writer(file, schema) as writer:
        for table in own_groups(rows, record.location):
            named = table.append_column("archive", pa.repeat(str(record.location), table.num_rows))
            writer.write_table(named.cast(schema), row_group_size=ROW_GROUP_ROWS)


def own_groups(rows: Any, archive: Location) -> Iterator[pa.Table]:
    """The row groups of an archive's own index (a file), in `SCHEMA`. Raises DamagedArchive."""
    try:
        own = pq.ParquetFile(rows, page_checksum_verification=True)
        for group in range(own.num_row_groups):
            yield own.read_row_group(group).cast(SCHEMA)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise DamagedArchive(f"{archive}: its own index is damaged: {error}") from error


def _parquet_writer(file: Any, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        file,
        schema,
        compression="zstd",
        write_page_checksum=True,  # finds a flipped bit, which could be another offset or key
        write_statistics=["key"],
        use_dictionary=cast("Any", ["storage_class", "headers", "metadata", "tags", "archive"]),
    )
