"""Rows of a verification of archives: one per member and one per archive.

A shard holds whole archives. Only here are all archives at hand, so versions that two archives
claim are found here. Such a row has the other archive's URI as `rival`, and says whether both claim
the same bytes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.archives.index import ArchiveIndex
from jobs.archives.model import ArchiveRecord
from jobs.config import ROWS_PER_SHARD
from jobs.core.model import Location
from jobs.core.run import ShardSummary
from jobs.errors import DamagedArchive
from jobs.runs import sharding as shards
from jobs.tables.duck import Database, in_thread, parquet, scratch_folder
from jobs.tables.rows import members_schema, write_parquet

MEMORY_LIMIT = "256MB"
BATCH_ROWS = 10_000

_NAMES = ("key", "version_id", "is_latest", "size_bytes", "etag", "last_modified", "storage_class", "archive")
_SPOOLED: list[pa.Field[Any]] = [
    *(pa.field(name, members_schema().field(name).type) for name in _NAMES),
    pa.field("sha256", pa.string()),
    pa.field("source_bucket", pa.string()),
]


@dataclass(slots=True)
class PlannedArchives:
    """The rows of a verification, members and archives, and its shards."""

    rows: int = 0
    size_bytes: int = 0
    shards: list[ShardSummary] = field(default_factory=list)


async def plan_archives(
    index: ArchiveIndex,
    records: Sequence[ArchiveRecord],
    unindexed: Sequence[Location],
    *,
    write_shard: Callable[[int, bytes], Awaitable[None]],
    scratch_directory: Path,
    rows_per_shard: int = ROWS_PER_SHARD,
    processes: int = 1,
) -> PlannedArchives:
    """The members of these archives, archive by archive. An archive without an index is one row.

    `write_shard(number, parquet)` is awaited once for each shard, in order from 0, none of them
    empty. Raises ConfigError when the scratch directory cannot hold the rows.
    """
    planned = PlannedArchives()
    with scratch_folder(scratch_directory, "planning-", "sort the rows") as folder:
        await _spool(index, records, unindexed, folder / "rows.parquet")
        with closing(Database(folder, memory_limit=MEMORY_LIMIT).connection) as connection:
            await in_thread(connection, _find_claims, connection, folder / "rows.parquet")
            rows, size_bytes = connection.execute(
                "SELECT count(*), coalesce(sum(size_bytes), 0)::BIGINT FROM rows"
            ).fetchall()[0]
            wanted = shards.count_shards(rows, size_bytes, rows_per_shard=rows_per_shard, processes=processes)
            tables = _tables(connection, max(1, -(-rows // max(wanted, 1))))
            while (table := await in_thread(connection, next, tables, None)) is not None:
                await write_shard(len(planned.shards), write_parquet(table))
                own_bytes = sum(size or 0 for size in table["size_bytes"].to_pylist())
                planned.shards.append(ShardSummary(table.num_rows, own_bytes))
                planned.rows += table.num_rows
                planned.size_bytes += own_bytes
    return planned


async def _spool(
    index: ArchiveIndex, records: Sequence[ArchiveRecord], unindexed: Sequence[Location], path: Path
) -> None:
    schema = pa.schema(_SPOOLED)
    with pq.ParquetWriter(path, schema, compression="lz4") as writer:
        for record in records:
            uri = str(record.location)
            # The worker meets the same damage, and says so in the outcomes of this archive's rows.
            with suppress(DamagedArchive):
                async with aclosing(index.tables(record.location)) as tables:
                    async for table in tables:
                        bucket = pa.array([record.source_bucket] * table.num_rows, pa.string())
                        rows = table.append_column("source_bucket", bucket)
                        writer.write_table(rows.select(schema.names).cast(schema))
            row = {"key": uri, "version_id": record.version_id, "etag": record.etag, "archive": uri, "is_latest": True}
            writer.write_table(pa.Table.from_pylist([row | {"storage_class": record.storage_class}], schema))
        lost = [{"key": str(each), "archive": str(each), "is_latest": True} for each in unindexed]
        writer.write_table(pa.Table.from_pylist(lost, schema))


def _find_claims(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Make the view `rows` and the table `claims`.

    `claims` says by place which other archive has the version, and whether the bytes are the same.
    Without version ids only rows of the same bytes and the same time are one version.
    """
    connection.execute(
        f"""
        CREATE VIEW rows AS
        SELECT *, file_row_number AS place, CASE WHEN version_id IS NULL OR version_id = 'null'
            THEN 'null ' || coalesce(etag, '') || epoch_us(last_modified) ELSE version_id END AS version
        FROM {parquet(path, "file_row_number = true")};
        CREATE TABLE suspects AS
        SELECT hash(source_bucket, key, version) AS suspect FROM rows WHERE source_bucket IS NOT NULL
        GROUP BY 1 HAVING count(*) > 1;
        CREATE TABLE claims AS
        SELECT one.place, min(other.archive) AS other, bool_and(one.size_bytes = other.size_bytes
            AND one.etag = other.etag AND coalesce(one.sha256 = other.sha256, true)) AS is_same
        FROM rows AS one JOIN rows AS other USING (source_bucket, key, version)
        WHERE one.archive <> other.archive
            AND hash(one.source_bucket, one.key, one.version) IN (SELECT suspect FROM suspects)
        GROUP BY 1
        """
    )


def _tables(connection: duckdb.DuckDBPyConnection, rows_each: int) -> Iterator[pa.Table]:
    """The rows, numbered from 0, as shards of at least `rows_each` rows.

    No archive is in two shards.
    """
    names = ", ".join(_NAMES)
    reader: Any = connection.sql(
        f"""
        SELECT {names}, other AS rival, coalesce(is_same, false) AS is_rival_same
        FROM rows LEFT JOIN claims USING (place) ORDER BY place
        """
    ).to_arrow_reader(BATCH_ROWS)
    pending: list[pa.RecordBatch] = []
    number = waiting = 0
    last = None
    for found in reader:
        batch = _numbered(found, number)
        number += batch.num_rows
        first = 0
        for place, archive in enumerate(batch["archive"].to_pylist()):
            if archive != last and waiting + place - first >= rows_each:
                yield pa.Table.from_batches([*pending, batch.slice(first, place - first)])
                pending, waiting, first = [], 0, place
            last = archive
        pending.append(batch.slice(first))
        waiting += batch.num_rows - first
    if waiting:
        yield pa.Table.from_batches(pending)


def _numbered(batch: pa.RecordBatch, first: int) -> pa.RecordBatch:
    """The batch with the columns of a shard that members do not have."""
    columns: dict[str, Any] = {name: batch[name] for name in batch.schema.names}
    columns["row"] = pa.array(range(first, first + batch.num_rows), pa.int64())
    columns["is_delete_marker"] = pa.array([False] * batch.num_rows)
    arrays: list[Any] = [
        columns[each.name].cast(each.type) if each.name in columns else pa.nulls(batch.num_rows, each.type)
        for each in members_schema()
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=members_schema())
