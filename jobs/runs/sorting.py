"""Sorting of a manifest's rows on disk: duplicates out, a shard each, in order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from jobs.core.part_sizes import COPY_LIMIT_BYTES, MAX_PART_BYTES, MAX_PARTS, MIN_PART_BYTES, PREFERRED_PART_BYTES
from jobs.core.pricing import Group
from jobs.runs import sharding
from jobs.tables.duck import connect, parquet
from jobs.tables.rows import joined, shard_schema

BATCH_ROWS = 20_000
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

SEEN = """CREATE TABLE seen (
    place BIGINT, there VARCHAR, seen_bytes BIGINT, is_first BOOLEAN, copy_etag VARCHAR, copy_second BIGINT)"""
"""The rows whose copies are listed at the destination, by their `place` (`jobs.runs.there`). Of a
key's rows one is the first."""
SAME = "same"
"""What `seen` says of rows that are done."""
_IS_DONE = f"place IN (SELECT place FROM seen WHERE there = '{SAME}')"
"""Not a join: a server may list an object twice."""


class Sorting:
    """The spooled rows in a database that spills to disk above its memory limit.

    `schema`: the columns of a shard, also those that a `Join` has added.
    """

    def __init__(self, folder: Path, multipart_threshold_bytes: int, part_size_bytes: int, memory_limit: str):
        self._threshold_bytes, self._part_size_bytes = multipart_threshold_bytes, part_size_bytes
        pa.default_memory_pool().release_unused()  # DuckDB has memory of its own
        file = str(folder / "planning.duckdb")
        self.connection = connect(folder, memory_limit=memory_limit, database=file, threads=2)
        self.connection.execute(SEEN)
        self.folder = folder
        self.relation, self.schema = parquet(folder / "rows.parquet"), shard_schema()

    def leave_out(self, *places_sql: str) -> int:
        """Leave out the rows that the SQL selects by their `place`. Returns their number. No row may come twice.

        One statement after the other: a join cannot spill what another one of its statement holds.
        """
        self.connection.execute("CREATE TABLE IF NOT EXISTS left_out (place BIGINT, name VARCHAR)")
        [before] = self._one("SELECT count(*) FROM left_out")
        for each in places_sql:
            self.connection.execute(f"INSERT INTO left_out BY NAME {each}")
        count = int(self._one("SELECT count(*) FROM left_out")[0] - before)
        if count:
            self.relation = f"(FROM {self.relation} ANTI JOIN left_out USING (place))"
        return count

    def count(self) -> tuple[int, int, int]:
        """(rows, bytes, duplicates).

        Drops duplicates: of each (key, version id) the newest row stays. Grouping hashes is cheap,
        and only rows that share a hash are compared in full: by a digest, since DuckDB spills long
        keys too late for its limit.
        """
        total, size_bytes = self.total()
        self.connection.execute(
            "CREATE TABLE suspects AS SELECT hash(key, version_id) AS suspect "
            f"FROM {self.relation} GROUP BY 1 HAVING count(*) > 1"
        )
        if not self._one("SELECT count(*) FROM suspects")[0]:
            return total, size_bytes, 0
        self.connection.execute(
            f"""
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

    def count_done(self) -> int:
        """The number of rows that are done."""
        return int(self._one(f"SELECT count(*) FROM {self.relation} WHERE {_IS_DONE}")[0])

    def total(self) -> tuple[int, int]:
        """(rows, bytes)."""
        rows, size_bytes = self._one(f"SELECT count(*), coalesce(sum(size_bytes), 0)::BIGINT FROM {self.relation}")
        return rows, size_bytes

    def spread(self, shard_count: int, done_shards: int = 0) -> None:
        """Give each row a shard: by the hash of its key, or, if the key holds a big object, in turn from
        the largest on, so that shards take as long. Keys of one hash are together, as if they were one.

        Rows that are done are in `done_shards` more shards behind the others.
        """
        self.connection.execute(
            f"""
            CREATE TABLE big AS
            SELECT hash(key) AS key_hash,
                   (row_number() OVER (ORDER BY sum(size_bytes) DESC, hash(key)) - 1) % {max(shard_count, 1)} AS turn
            FROM {self._open}
            WHERE hash(key) IN (SELECT hash(key) FROM {self._open} WHERE size_bytes > {self._threshold_bytes})
            GROUP BY 1
            """
        )
        hashed, done = sharding.shard_sql(shard_count), f"{shard_count} + {sharding.shard_sql(done_shards)}"
        self.relation = (
            f"(SELECT taken.*, CASE WHEN {_IS_DONE} THEN {done} "
            f"ELSE coalesce(big.turn::INTEGER, {hashed}) END AS shard FROM {self.relation} AS taken "
            "LEFT JOIN big ON big.key_hash = hash(taken.key))"
        )

    @property
    def _open(self) -> str:
        """The rows that are not done, with what `seen` says of them."""
        return f"(FROM {self.relation} LEFT JOIN seen USING (place) WHERE there IS DISTINCT FROM '{SAME}')"

    def groups(self) -> tuple[Group, ...]:
        """The rows that are not done, counted by what decides their price."""
        columns = group_columns(self._threshold_bytes, self._part_size_bytes)
        groups = f"SELECT {columns}, coalesce(there, '') FROM {self._open} GROUP BY ALL ORDER BY ALL"
        return tuple(Group(*each) for each in self.connection.execute(groups).fetchall())

    def shards(self) -> Iterator[pa.Table]:
        """The rows of each shard that has any, in the order in which a worker takes them.

        A key's latest version comes last whatever its time is: S3 dates a multipart upload by its
        beginning. A listing names the newest version first, so rows with equal times come in reverse.
        """
        rows = self._in_order("shard, key, is_latest, last_modified NULLS FIRST, place DESC", "shard")
        return joined(piece for batch in rows for piece in _cut(batch))

    def in_packing_order(self) -> Iterator[pa.RecordBatch]:
        """All rows by the month of their last change, then by key, versions oldest first, for
        archives.

        Times are numbers.
        """
        month = "year(make_timestamp(last_modified)) * 12 + month(make_timestamp(last_modified))"  # numbers sort sooner
        return self._in_order(f"{month} NULLS LAST, key, is_latest, last_modified NULLS FIRST, place DESC")

    def _in_order(self, order: str, *more: str) -> Iterator[pa.RecordBatch]:
        """All rows, with these columns and a shard's.

        The sorted rows wait in a file, so that the database takes no memory while they are used.
        """
        limit_sort(self.connection, self.relation)
        names = ", ".join([*more, *self.schema.names[1:]])
        in_order = self.connection.sql(f"SELECT {names} FROM {self.relation} ORDER BY {order}")
        rows: Any = in_order.to_arrow_reader(BATCH_ROWS)
        path = self.folder / "sorted"
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, rows.schema) as writer:
            for batch in rows:
                writer.write_batch(batch)
        self.connection.close()  # gives its memory back
        with pa.OSFile(str(path), "rb") as file, pa.ipc.open_stream(file) as batches:
            yield from batches

    def _one(self, sql: str) -> tuple[Any, ...]:
        row: tuple[Any, ...] = self.connection.execute(sql).fetchall()[0]
        return row


def group_columns(threshold_bytes: int = COPY_LIMIT_BYTES, part_bytes: int = PREFERRED_PART_BYTES) -> str:
    """The fields of a `Group` as SQL over rows that have a manifest's columns, but for `there`. To GROUP BY ALL."""
    part_size = (
        f"least(greatest({max(part_bytes, MIN_PART_BYTES)}, (size_bytes + {MAX_PARTS - 1}) // {MAX_PARTS}), "
        f"{MAX_PART_BYTES})"
    )
    return f"""coalesce(nullif(storage_class, ''), 'STANDARD'), coalesce(size_bytes > {threshold_bytes}, false),
        size_bytes IS NOT NULL, is_delete_marker, count(*), coalesce(sum(size_bytes), 0)::BIGINT,
        coalesce(sum(greatest(1, (size_bytes + {part_size} - 1) // {part_size})), count(*))::BIGINT"""


def limit_sort(connection: duckdb.DuckDBPyConnection, relation: str) -> None:
    """Let a connection sort all rows of a relation by their texts, with the memory that it takes."""
    columns = connection.sql(f"FROM {relation} LIMIT 0").to_arrow_table().schema
    texts = ", ".join(f"{each.name}::VARCHAR" for each in columns if not pa.types.is_primitive(each.type))
    [(text_bytes,)] = connection.execute(f"SELECT coalesce(max(strlen(concat({texts}))), 0) FROM {relation}").fetchall()
    limit_bytes = SORT_BYTES + max(text_bytes - USUAL_TEXT_BYTES, 0) * 2 * MERGED_ROWS
    connection.execute(f"SET threads = 1; SET memory_limit = '{limit_bytes // 10**6}MB'")


def _cut(rows: pa.RecordBatch) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Cut rows that are sorted by their shard at each change of it."""
    start = 0
    counts: Any = pc.value_counts(rows["shard"])
    for each in counts.to_pylist():
        yield each["values"], rows.slice(start, each["counts"])
        start += each["counts"]
