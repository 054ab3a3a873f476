"""Sorting of a manifest's rows on disk: duplicates out, a shard each, in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.core.part_sizes import MAX_PART_BYTES, MAX_PARTS, MIN_PART_BYTES
from jobs.core.pricing import Group
from jobs.runs import sharding
from jobs.tables.duck import connect, parquet
from jobs.tables.rows import manifest_schema

BATCH_ROWS = 20_000
READ_ROWS = 100_000
READ_BYTES = 16 * 1024**2
"""The largest batch that is read at a time and divided into slabs."""
SLAB_BYTES = 16 * 1024**2
MAX_SLABS = 512
"""The memory that a slab of whole shards takes while it is sorted, and the most slabs there are."""
SORT_BYTES = 160_000_000
"""The memory of a sort of all rows at once. It spills early, and takes no longer for it."""
MERGED_ROWS = 122_880
USUAL_TEXT_BYTES = 250
"""DuckDB merges so many rows at a time and holds them, and once more what they are sorted by.
Longer texts take memory beside `SORT_BYTES`: without it the sort fails instead of spilling."""

_IDENTITY = "sha256(strlen(key) || ':' || key || coalesce(':' || version_id, ''))"
"""A text of one length for each (key, version id)."""
_RECENCY = f"coalesce(last_modified, {-(2**63) - 1}) * {2**60}::HUGEINT - place"
"""The larger, the newer. Undated rows are oldest. Of equal ones the first of the manifest counts."""

SEEN = "CREATE TABLE seen (place BIGINT, there VARCHAR, seen_bytes BIGINT, is_first BOOLEAN)"
"""The rows whose copies are listed at the destination, by their `place` (`jobs.runs.there`). Of a
key's rows one is the first."""
SAME = "same"
"""What `seen` says of rows that are done."""
_DONE = f"(SELECT place FROM seen WHERE there = '{SAME}')"

_SORTED_BY = frozenset({"key", "is_latest", "last_modified"})

Rows = TypeVar("Rows", pa.RecordBatch, pa.Table)


class Sorting:
    """The spooled rows in a database that spills to disk above its memory limit."""

    def __init__(self, folder: Path, multipart_threshold_bytes: int, part_size_bytes: int, memory_limit: str):
        self._threshold_bytes, self._part_size_bytes = multipart_threshold_bytes, part_size_bytes
        pa.default_memory_pool().release_unused()  # DuckDB has memory of its own
        file = str(folder / "planning.duckdb")
        self.connection = connect(folder, memory_limit=memory_limit, database=file, threads=2)
        self.connection.execute(SEEN)
        self.folder = folder
        self.relation = self._whole = parquet(folder / "rows.parquet")

    def leave_out(self, places_sql: Callable[[str], str]) -> int:
        """Leave out the rows whose `place` the SQL selects from a relation → how many they are."""
        self.connection.execute(f"CREATE TABLE left_out AS {places_sql(self.relation)}")
        count = int(self._one("SELECT count(*) FROM left_out")[0])
        if count:
            self.relation = f"(FROM {self.relation} ANTI JOIN left_out USING (place))"
        return count

    def set_aside(self) -> None:
        """Leave out the rows that are done, until `add_done`."""
        self._whole = self.relation
        self.relation = f"(FROM {self.relation} ANTI JOIN {_DONE} USING (place))"

    def add_done(self, first_shard: int, shard_count: int) -> None:
        """Spread the rows that were set aside over so many shards behind the others."""
        done = f"FROM {self._whole} SEMI JOIN {_DONE} USING (place)"
        shard = f"{first_shard} + {sharding.shard_sql(shard_count)}"
        self.relation = f"(FROM {self.relation} UNION ALL BY NAME SELECT *, {shard} AS shard FROM ({done}))"

    def count(self) -> tuple[int, int, int]:
        """(rows, bytes, duplicates).

        Drops duplicates: of each (key, version id) the newest row stays. Grouping hashes is cheap,
        and only rows that share a hash are compared in full: by a digest, since DuckDB spills long
        keys too late for its limit.
        """
        total, size_bytes = self.total()
        self.connection.execute(
            f"""
            CREATE TABLE suspects AS
            SELECT hash(key, version_id) AS suspect FROM {self.relation} GROUP BY 1 HAVING count(*) > 1;
            CREATE TABLE newest AS
            SELECT arg_max(place, {_RECENCY}) AS place
            FROM {self.relation} WHERE hash(key, version_id) IN (SELECT suspect FROM suspects)
            GROUP BY {_IDENTITY};
            CREATE TABLE duplicates AS
            SELECT place, size_bytes
            FROM {self.relation} WHERE hash(key, version_id) IN (SELECT suspect FROM suspects)
            AND place NOT IN (SELECT place FROM newest)
            """
        )
        duplicates, their_bytes = self._one("SELECT count(*), coalesce(sum(size_bytes), 0) FROM duplicates")
        if duplicates:
            self.relation = f"(FROM {self.relation} ANTI JOIN duplicates USING (place))"
        return total - duplicates, int(size_bytes) - int(their_bytes), duplicates

    def total(self) -> tuple[int, int]:
        """(rows, bytes)."""
        rows, size_bytes = self._one(f"SELECT count(*), coalesce(sum(size_bytes), 0)::BIGINT FROM {self.relation}")
        return rows, size_bytes

    def spread(self, shard_count: int) -> None:
        """Give each row a shard: by the hash of its key, or packed by bytes if the key holds a big
        object. Keys of one hash are together, as if they were one.
        """
        hashed = sharding.shard_sql(shard_count)
        self.connection.execute(
            f"""
            CREATE TABLE big AS
            SELECT hash(key) AS key_hash, sum(size_bytes)::BIGINT AS size_bytes FROM {self.relation}
            WHERE hash(key) IN (SELECT hash(key) FROM {self.relation} WHERE size_bytes > {self._threshold_bytes})
            GROUP BY 1
            """
        )
        if not self._one("SELECT count(*) FROM big")[0]:
            self.relation = f"(SELECT *, {hashed} AS shard FROM {self.relation})"
            return
        loads = [0] * shard_count
        small = (
            f"SELECT {hashed}, sum(size_bytes)::BIGINT FROM {self.relation} "
            "WHERE hash(key) NOT IN (SELECT key_hash FROM big) GROUP BY 1"
        )
        for shard, size_bytes in self.connection.execute(small).fetchall():
            loads[shard] = size_bytes or 0
        self._pack(loads)
        self.relation = (
            f"(SELECT taken.*, coalesce(packed.shard, {hashed}) AS shard "
            f"FROM {self.relation} AS taken LEFT JOIN {parquet(self.folder / 'packed.parquet')} AS packed "
            "ON packed.key_hash = hash(taken.key))"
        )

    def groups(self) -> tuple[Group, ...]:
        """The rows counted by what decides their price."""
        part_size = (
            f"least(greatest({max(self._part_size_bytes, MIN_PART_BYTES)}, "
            f"(size_bytes + {MAX_PARTS - 1}) // {MAX_PARTS}), {MAX_PART_BYTES})"
        )
        parts = f"greatest(1, (size_bytes + {part_size} - 1) // {part_size})"
        groups = self.connection.execute(
            f"""
            SELECT coalesce(storage_class, 'STANDARD') AS storage_class,
                   coalesce(size_bytes > {self._threshold_bytes}, false) AS is_multipart,
                   size_bytes IS NOT NULL AS is_size_known,
                   is_delete_marker,
                   count(*),
                   coalesce(sum(size_bytes), 0)::BIGINT,
                   coalesce(sum({parts}), count(*))::BIGINT,
                   coalesce(there, '')
            FROM {self.relation} LEFT JOIN seen USING (place) GROUP BY 1, 2, 3, 4, 8 ORDER BY 1, 2, 3, 4, 8
            """
        ).fetchall()
        return tuple(Group(*each) for each in groups)

    def shards(self, rows: int, spooled_bytes: int, shard_count: int) -> Iterator[pa.Table]:
        """The rows of each shard that has any, in the order in which a worker takes them.

        `spooled_bytes` is what all rows take in memory. Slabs of whole shards are sorted one after
        the other, so memory does not grow with the rows. A key's latest version comes last whatever
        its time is: S3 dates a multipart upload by its beginning. A listing names the newest
        version first, so rows with equal times come in reverse.
        """
        slabs = max(1, min(-(-spooled_bytes // SLAB_BYTES), shard_count, MAX_SLABS))
        batch_rows = min(max(READ_BYTES * rows // max(spooled_bytes, 1), 1), READ_ROWS)
        names = ", ".join(self._given_columns())
        reader: Any = self.connection.sql(
            f"SELECT shard, {names}, place, shard * {slabs} // {max(shard_count, 1)} AS slab FROM {self.relation}"
        ).to_arrow_reader(batch_rows)
        path = self.folder / "slabs"
        schema = reader.schema
        pieces: list[list[tuple[int, int]]] = [[] for _ in range(slabs)]  # where in the file, how long
        with path.open("wb") as file:
            for batch in reader:
                for slab, piece in _cut(batch.take(_order(batch.select(["slab"]))), "slab"):
                    data = piece.serialize()
                    pieces[slab].append((file.tell(), data.size))
                    file.write(data)
        self.connection.close()  # gives its memory back
        del reader
        pa.default_memory_pool().release_unused()
        with pa.OSFile(str(path), "rb") as file:
            for of_slab in pieces:
                batches = []
                for offset, size_bytes in of_slab:
                    file.seek(offset)
                    batches.append(pa.ipc.read_record_batch(file.read_buffer(size_bytes), schema))
                for _, table in _cut(_in_work_order(pa.Table.from_batches(batches, schema)), "shard"):
                    yield table

    def _given_columns(self) -> list[str]:
        """The columns of a manifest in which any row has a value. Most manifests lack half of them,
        and to sort nulls takes as long as to sort values.
        """
        groups = pq.ParquetFile(self.folder / "rows.parquet").metadata
        nulls: Counter[str] = Counter()
        for number in range(groups.num_row_groups):
            group = groups.row_group(number)
            for column in map(group.column, range(group.num_columns)):
                nulls[column.path_in_schema] += column.statistics.null_count or 0 if column.statistics else 0
        return [name for name in manifest_schema().names if name in _SORTED_BY or nulls[name] < groups.num_rows]

    def in_packing_order(self) -> Iterator[pa.RecordBatch]:
        """All rows by the month of their last change, then by key, versions oldest first, for
        archives.

        Times are numbers. The sorted rows
        wait in a file, so that the database takes no memory while they are grouped.
        """
        limit_sort(self.connection, self.relation)
        names = ", ".join(self._given_columns())
        month = "year(make_timestamp(last_modified)) * 12 + month(make_timestamp(last_modified))"  # numbers sort sooner
        rows: Any = self.connection.sql(
            f"SELECT {names} FROM {self.relation} "
            f"ORDER BY {month} NULLS LAST, key, is_latest, last_modified NULLS FIRST, place DESC"
        ).to_arrow_reader(BATCH_ROWS)
        path = self.folder / "sorted"
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, rows.schema) as writer:
            for batch in rows:
                writer.write_batch(batch)
        self.connection.close()  # gives its memory back
        with pa.OSFile(str(path), "rb") as file, pa.ipc.open_stream(file) as batches:
            yield from map(_with_nulls, batches)

    def _pack(self, loads_bytes: list[int]) -> None:
        """Write the shard of each hash in `big` to packed.parquet."""
        reader = self._stream("SELECT * FROM big ORDER BY size_bytes DESC, key_hash")
        fields: list[pa.Field[Any]] = [pa.field("key_hash", pa.uint64()), pa.field("shard", pa.int32())]
        schema = pa.schema(fields)
        with pq.ParquetWriter(self.folder / "packed.parquet", schema) as writer:
            for batch in reader:
                sizes_bytes: list[Any] = batch["size_bytes"].to_pylist()
                packed = list(sharding.pack(sizes_bytes, loads_bytes))
                for shard, size_bytes in zip(packed, sizes_bytes, strict=True):
                    loads_bytes[shard] += size_bytes
                writer.write_batch(
                    pa.RecordBatch.from_arrays([batch["key_hash"], pa.array(packed, pa.int32())], schema=schema)
                )

    def _stream(self, sql: str) -> Iterator[pa.RecordBatch]:
        relation: Any = self.connection.sql(sql)
        return iter(relation.to_arrow_reader(BATCH_ROWS))

    def _one(self, sql: str) -> tuple[Any, ...]:
        row: tuple[Any, ...] = self.connection.execute(sql).fetchall()[0]
        return row


def limit_sort(connection: duckdb.DuckDBPyConnection, relation: str) -> None:
    """Let a connection sort all rows of a relation by their texts, with the memory that it takes."""
    query = f"SELECT coalesce(max(strlen(key) + coalesce(strlen(archive), 0)), 0) FROM {relation}"
    [(text_bytes,)] = connection.execute(query).fetchall()
    limit_bytes = SORT_BYTES + max(text_bytes - USUAL_TEXT_BYTES, 0) * 2 * MERGED_ROWS
    connection.execute(f"SET threads = 1; SET memory_limit = '{limit_bytes // 10**6}MB'")


def _in_work_order(rows: pa.Table) -> pa.Table:
    """Rows by shard and key, versions oldest first. Undated ones come before the others."""
    rows = rows.combine_chunks()  # a comparison within one chunk takes a third of the time
    time: Any = pc.fill_null(rows["last_modified"], pa.scalar(-(2**63), pa.int64()))
    order = rows.select(["shard", "key", "is_latest"]).append_column("time", time)
    reverse: Any = pc.negate(rows["place"])
    order = order.append_column("reverse", reverse)
    given = [name for name in manifest_schema().names if name in rows.column_names]
    return _with_nulls(rows.select(["shard", *given]).take(_order(order)), "shard")


def _with_nulls(rows: Rows, *before: str) -> Rows:
    """Rows with these columns and all of a manifest, in order. Those that are not there are null."""
    for place, field in enumerate(manifest_schema(), start=len(before)):
        if field.name not in rows.schema.names:
            rows = rows.add_column(place, field, pa.nulls(rows.num_rows, field.type))
    return rows


def _order(rows: pa.RecordBatch | pa.Table) -> Any:
    """The places of the rows when they are sorted by all their columns, ascending."""
    keys: Any = [(name, "ascending") for name in rows.column_names]
    return pc.sort_indices(rows, sort_keys=keys)


def _cut(rows: Rows, column: str) -> Iterator[tuple[int, Rows]]:
    """Cut rows that are sorted by a column of numbers at each change of its value."""
    start = 0
    counts: Any = pc.value_counts(rows[column])
    for each in counts.to_pylist():
        yield each["values"], rows.slice(start, each["counts"])
        start += each["counts"]
