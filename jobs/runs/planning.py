"""Planning of a run: the rows of a manifest filtered, sorted, sharded and priced.

Memory does not grow with the manifest: the selected rows are spooled to disk and sorted there.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.core.display import shown
from jobs.core.model import SIZE_LIMIT
from jobs.core.part_sizes import COPY_LIMIT_BYTES, PREFERRED_PART_BYTES
from jobs.core.pricing import Histogram
from jobs.core.run import PROVEN_BEFORE, Plan, ShardSummary
from jobs.core.selection import Selection
from jobs.errors import LimitExceeded, ManifestError
from jobs.runs.filtering import select_rows
from jobs.runs.sharding import Shards, WriteShard
from jobs.runs.sorting import Sorting
from jobs.runs.there import Copies, find_there, leave_out_known, leave_out_packed
from jobs.tables.duck import in_thread, scratch_folder
from jobs.tables.rows import REPETITIVE, cut, fill_batch, manifest_schema, shard_schema, write_parquet

MEMORY_LIMIT = "176MB"
SPOOL_BYTES = 8 * 1024**2
CUT_ROWS = 10_000


async def plan_rows(
    batches: AsyncIterator[pa.RecordBatch],
    selection: Selection,
    shards: Shards,
    *,
    parts: tuple[int, int] = (COPY_LIMIT_BYTES, PREFERRED_PART_BYTES),
    copies: Copies | None = None,
    join: Callable[[Sorting], None] | None = None,
) -> tuple[Plan, Histogram]:
    """Take the selected rows of `batches` (in `manifest_schema()`) and write them as shards.

    Each object version is in one row of one shard. The versions of a key are in one shard, oldest first.
    `parts`: see `pricing.part_rule`. With `copies` the destination is listed, and the last shards have the
    rows that need no copy any more. `join` adds what else is known of the rows. Returns the plan, still
    without its price, and the rows that are not done, by what decides the price. Raises ConfigError when
    the folder cannot hold the rows.
    """
    with scratch_folder(shards.folder, "planning-", "sort the manifest") as folder:
        excluded = await spool(batches, selection, folder / "rows.parquet")
        sorting = Sorting(folder, *parts, MEMORY_LIMIT)
        with closing(sorting.connection):
            rows, size_bytes, duplicates = await in_thread(sorting.connection, sorting.count)
            if join:
                await in_thread(sorting.connection, join, sorting)
            at = int(copies.now()) if copies else 0
            there = await find_there(copies.run, sorting) if copies and rows else None
            if copies and there:
                if copies.packed:
                    excluded["in_archive"] = await leave_out_packed(copies.packed, copies.run, sorting)
                if copies.ledger and there["alike"]:
                    excluded[PROVEN_BEFORE] = await leave_out_known(copies.ledger, copies.run, sorting, there["alike"])
                    there["alike"] -= excluded[PROVEN_BEFORE]
                rows, size_bytes = await in_thread(sorting.connection, sorting.total)
            if copies and not copies.is_done:
                there = None
                sorting.connection.execute("DELETE FROM seen")
            done_rows = await in_thread(sorting.connection, sorting.count_done)
            done_bytes, done_keys = (there["same_bytes"], there["same_keys"]) if there else (0, 0)
            wanted = shards.number(rows - done_rows, size_bytes - done_bytes)
            done_shards = shards._replace(processes=1).number(done_rows, 0)
            await in_thread(sorting.connection, sorting.spread, wanted, done_shards)
            groups = await in_thread(sorting.connection, sorting.groups)
            summaries, keys = await write_shards(sorting.shards(), shards.write, sorting.connection, sorting.schema)
    if duplicates:
        excluded["duplicate"] = duplicates
    first_rows = accumulate((each.rows for each in summaries), initial=0)
    done = sum(first >= rows - done_rows for first, _ in zip(first_rows, summaries, strict=False))
    known = there | {"shards": done, "at": at} if there else {}
    return Plan(rows, size_bytes, summaries, dict(+excluded), there=known), Histogram(groups, keys - done_keys)


async def spool(
    batches: AsyncIterator[pa.RecordBatch], selection: Selection, path: Path, schema: pa.Schema | None = None
) -> Counter[str]:
    """Write the selected rows to a file, with their place in the manifest. `schema`: of the batches.

    Returns the rows left out, by filter. Raises ManifestError for a row with a size that no object
    can have.
    """
    excluded: Counter[str] = Counter()
    place = 0
    pending: list[pa.RecordBatch] = []
    schema = _spooled(pa.RecordBatch.from_pylist([], schema or manifest_schema()), 0).schema
    with pq.ParquetWriter(path, schema, compression="lz4", use_dictionary=REPETITIVE) as writer:

        def add(batch: pa.RecordBatch) -> None:
            nonlocal place
            taken = _spooled(select_rows(batch, selection, excluded), place)
            _check_sizes(taken)
            place += taken.num_rows
            pending.append(taken)
            if sum(each.nbytes for each in pending) >= SPOOL_BYTES:
                writer.write_table(pa.Table.from_batches(pending))
                pending.clear()

        async for batch in batches:
            await asyncio.to_thread(add, batch)
        if pending:
            writer.write_table(pa.Table.from_batches(pending))
    return excluded


def _check_sizes(rows: pa.RecordBatch) -> None:
    extremes: Any = pc.min_max(rows["size_bytes"])
    for odd in (extremes["min"], extremes["max"]):
        if odd.is_valid and not 0 <= odd.as_py() < SIZE_LIMIT:
            key = rows["key"][pc.index(rows["size_bytes"], odd).as_py()].as_py()
            raise ManifestError(f"the manifest says that {shown(key)} has {odd.as_py():,} bytes, which no object has")


def _spooled(batch: pa.RecordBatch, place: int) -> pa.RecordBatch:
    """The batch with `place`. Times become numbers, which have no time zone in DuckDB."""
    columns = {name: batch[name] for name in batch.schema.names}
    columns["last_modified"] = columns["last_modified"].cast(pa.int64())
    columns["place"] = _numbers(place, batch.num_rows)
    return pa.RecordBatch.from_pydict(columns)


async def write_shards(
    tables: Iterator[pa.Table],
    write_shard: WriteShard,
    connection: duckdb.DuckDBPyConnection,
    schema: pa.Schema | None = None,
) -> tuple[tuple[ShardSummary, ...], int]:
    """Number the rows of each table and write them as a shard.

    `connection`: what the tables come from. `schema`: a shard's, if not a usual one's. Returns the
    shards' summaries and the number of keys, where the rows of a key are neighbours.
    """
    summaries: list[ShardSummary] = []
    row = keys = 0
    table = await in_thread(connection, next, tables, None)
    while table is not None:
        # One core sorts while the other encodes.
        encoding = asyncio.to_thread(_encode, table, row, schema)
        (data, summary, own_keys), table = await asyncio.gather(encoding, in_thread(connection, next, tables, None))
        await write_shard(len(summaries), data)
        summaries.append(summary)
        row += summary.rows
        keys += own_keys
    return tuple(summaries), keys


async def cut_shards(
    connection: duckdb.DuckDBPyConnection,
    in_order: Any,
    rows: int,
    size_bytes: int,
    shards: Shards,
    schema: pa.Schema | None = None,
) -> tuple[ShardSummary, ...]:
    """Write a sorted relation of a connection as shards of about equal size.

    `schema`: a shard's, if not a usual one's. A column that the relation lacks holds its default.
    """
    own = (schema or shard_schema()).remove(0)
    filled = (
        fill_batch(dict(zip(each.schema.names, each.columns, strict=True)), each.num_rows, own)
        for each in in_order.to_arrow_reader(CUT_ROWS)
    )
    tables = cut(filled, -(-rows // max(shards.number(rows, size_bytes), 1)))
    return (await write_shards(tables, shards.write, connection, schema))[0]


def check_share(changed: int, of: int, what: str, limit: float, say: Callable[[str], None] | None) -> None:
    """Raise LimitExceeded if a run changes a larger share than `limit` (`--max-share`).

    `what`: what is counted, and becomes of it. `say`: a dry run's, which only says so.
    """
    if exceeds(changed, of, limit):
        text = f"{changed:,} of the {of:,} {what}, more than {limit:.0%} of them"
        if say is None:
            raise LimitExceeded(text, advice="if that is meant, raise --max-share")
        say(f"{text}: the run itself takes a larger --max-share")


def exceeds(changed: int, of: int, limit: float) -> bool:
    """Return True if what would change is more than this part of all. 1.0 allows everything."""
    return limit < 1.0 and changed > limit * of


def _encode(table: pa.Table, first_row: int, schema: pa.Schema | None = None) -> tuple[bytes, ShardSummary, int]:
    """A shard's file, its summary and the number of its keys."""
    rows, schema = table.num_rows, schema or shard_schema()
    key: Any = table["key"].combine_chunks()
    keys = 1 + (pc.sum(pc.not_equal(key[1:], key[:-1])).as_py() or 0)
    numbered = table.select(schema.names[1:]).add_column(0, "row", _numbers(first_row, rows))
    data = write_parquet(numbered.cast(schema))
    return data, ShardSummary(rows, pc.sum(table["size_bytes"]).as_py() or 0, sha256(data).hexdigest()), keys


def _numbers(first: int, count: int) -> Any:
    """So many numbers from the first on."""
    return pc.cumulative_sum(pa.repeat(pa.scalar(1, pa.int64()), count), start=pa.scalar(first - 1))
