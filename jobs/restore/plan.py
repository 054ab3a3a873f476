"""Plan of a restore: the wanted version of each key, by archive, cut into shards.

Candidates are spooled to disk and sorted there. Only one key's are in memory at a time.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.archives.index import ArchiveIndex
from jobs.config import ROWS_PER_SHARD, Settings
from jobs.core.display import Display
from jobs.core.model import ObjectVersion
from jobs.core.part_sizes import COPY_LIMIT_BYTES, PREFERRED_PART_BYTES
from jobs.core.pricing import Group, Histogram, own_prices
from jobs.core.run import ShardSummary
from jobs.core.selection import Selection
from jobs.errors import UsageError
from jobs.ledger.ledger import Ledger
from jobs.reports.figures import plural
from jobs.restore.as_of import UNKNOWN
from jobs.restore.as_of_journal import Event
from jobs.restore.candidates import Choose, RestoreQuery
from jobs.restore.journal_rows import SCHEMA
from jobs.restore.pricing import forecast, look_at_archives
from jobs.runs import sharding as shards
from jobs.runs.planning import spool, write_shards
from jobs.runs.request import Planned, Request, check_outside, check_sides, drafting
from jobs.runs.sorting import SORT_BYTES, limit_sort
from jobs.runs.there import WriteShard
from jobs.tables.duck import Database, in_thread, parquet, scratch_folder
from jobs.tables.rows import cut, fill_batch, manifest_schema, version_batch

BATCH_ROWS = 20_000


class Taken(NamedTuple):
    """What a restore takes from one archive of members of one class: URI, that class, members, their bytes."""

    archive: str
    storage_class: str
    rows: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class RestoreSelection:
    """What a restore restores.

    `histogram`: the rows that the bucket still has, by what decides their price.
    """

    rows: int
    size_bytes: int
    shards: Sequence[ShardSummary]
    excluded: Counter[str]
    archives: Sequence[Taken]
    histogram: Histogram


async def plan_restore(
    candidates: AsyncIterator[pa.RecordBatch],
    selection: Selection,
    choose: Choose,
    *,
    write_shard: WriteShard,
    scratch_directory: Path,
    rows_per_shard: int = ROWS_PER_SHARD,
    processes: int = 1,
) -> RestoreSelection:
    """Choose among `candidates` (in `manifest_schema()`, or in `SCHEMA`) and write shards.

    A row with an `archive` is archived, one with an `Event` is an event of the journal. A
    key's own rows come newest first, as listings have them.
    `write_shard(number, parquet)` is awaited once for each shard, in order from 0, none of them
    empty. Raises ConfigError when the scratch directory cannot hold the rows.
    """
    with scratch_folder(scratch_directory, "planning-", "sort the rows") as folder:
        whole = (
            fill_batch({name: each[name] for name in each.schema.names}, each.num_rows, SCHEMA)
            async for each in candidates
        )
        excluded = await spool(whole, selection, folder / "rows.parquet", SCHEMA)
        chosen = folder / "chosen.parquet"
        with closing(Database(folder, memory_limit=f"{SORT_BYTES}B").connection) as connection:
            await in_thread(connection, limit_sort, connection, parquet(folder / "rows.parquet"))
            await in_thread(connection, _choose_rows, connection, folder / "rows.parquet", choose, excluded, chosen)
            rows, size_bytes, archives, histogram = await in_thread(connection, _count, connection, parquet(chosen))
            shard_count = shards.count_shards(rows, size_bytes, rows_per_shard=rows_per_shard, processes=processes)
            # The rows of an archive are together, in its order, the others spread by hash.
            in_order: Any = connection.sql(
                f"FROM {parquet(chosen)} "
                "ORDER BY archive NULLS FIRST, CASE WHEN archive IS NULL THEN hash(key) END, key"
            )
            tables = cut(in_order.to_arrow_reader(BATCH_ROWS), -(-rows // max(shard_count, 1)))
            written, _ = await write_shards(tables, write_shard, connection)
    return RestoreSelection(rows, size_bytes, written, excluded, archives, histogram)


def _choose_rows(
    connection: duckdb.DuckDBPyConnection, rows: Path, choose: Choose, excluded: Counter[str], chosen: Path
) -> None:
    """Write the wanted version of each key."""
    with pq.ParquetWriter(chosen, manifest_schema(), compression="lz4") as writer:
        wanted = _wanted(connection, rows, choose, excluded)
        while batch := list(itertools.islice(wanted, BATCH_ROWS)):
            writer.write_batch(version_batch(batch))


def _wanted(
    connection: duckdb.DuckDBPyConnection, rows: Path, choose: Choose, excluded: Counter[str]
) -> Iterator[ObjectVersion]:
    for _, group in itertools.groupby(_candidates(connection, rows), key=attrgetter("key")):
        own: list[ObjectVersion] = []
        archived: list[ObjectVersion] = []
        for row in group:
            (own if row.archive is None and row.beside is None else archived).append(row)
        versions = choose(own, archived)
        if len(versions) > 1:
            excluded["older_version"] += len(versions) - 1
        yield from versions[-1:]


def _candidates(connection: duckdb.DuckDBPyConnection, rows: Path) -> Iterator[ObjectVersion]:
    """All rows by key: a key's own rows oldest first, then archived ones, the preferred first."""
    is_own = "(archive IS NULL AND event_order IS NULL)"
    relation: Any = connection.sql(
        f"SELECT {', '.join(SCHEMA.names)} FROM {parquet(rows)} "
        f"ORDER BY key, NOT {is_own}, CASE WHEN {is_own} THEN -place ELSE place END"
    )
    for batch in relation.to_arrow_reader(BATCH_ROWS):
        for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            event = None if values[-2] is None else Event(values[-2], values[-1] or "")
            row = ObjectVersion._make((0, *values[:-2], event))
            yield row if row.last_modified is None else row._replace(last_modified=row.last_modified / 1e6)


def _count(connection: duckdb.DuckDBPyConnection, chosen: str) -> tuple[int, int, list[Taken], Histogram]:
    """(rows, bytes, what is taken of archives, the rows of the bucket) of a relation."""

    def query(sql: str) -> list[tuple[Any, ...]]:
        return connection.execute(sql).fetchall()

    [(rows, size_bytes)] = query(f"SELECT count(*), coalesce(sum(size_bytes), 0)::BIGINT FROM {chosen}")
    archives = query(
        f"SELECT archive, coalesce(nullif(storage_class, ''), 'STANDARD'), count(*), sum(size_bytes)::BIGINT "
        f"FROM {chosen} WHERE archive NOT IN {tuple(UNKNOWN)} GROUP BY 1, 2 ORDER BY 1, 2"
    )
    groups = query(
        f"""
        SELECT coalesce(storage_class, 'STANDARD'), coalesce(size_bytes > {COPY_LIMIT_BYTES}, false),
               size_bytes IS NOT NULL, false, count(*), coalesce(sum(size_bytes), 0)::BIGINT,
               coalesce(sum(greatest(1, ceil(size_bytes / {PREFERRED_PART_BYTES}))), count(*))::BIGINT
        FROM {chosen} WHERE archive IS NULL GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        """
    )
    histogram = Histogram(tuple(Group(*each) for each in groups), sum(each[4] for each in groups))
    return rows, size_bytes, [Taken(*each) for each in archives], histogram


async def plan_run(
    request: Request, ledger: Ledger, settings: Settings, display: Display, *, keys: Sequence[str] = ()
) -> Planned:
    """Find candidates, choose versions, look at the archives, price the plan.

    Raises ConfigError, UsageError, …
    """
    if request.source is None:
        raise UsageError("nothing to restore from", advice="give --archives s3://bucket/prefix")
    check_outside(request.destination, ledger.location)
    with drafting(request) as draft:
        index = ArchiveIndex(ledger.store, ledger.location)
        query = RestoreQuery(request, request.source, ledger, index, keys, draft)
        records = await query.records()
        in_place = request.options["in_place"]
        source, draft.destination = await check_sides(request.source, draft.destination, in_place=in_place)
        chosen = await plan_restore(
            query.candidates(list(records.values())),
            request.selection,
            query.choose(),
            write_shard=draft.write_shard,
            scratch_directory=draft.scratch,
            rows_per_shard=settings.rows_per_shard,
            processes=settings.processes,
        )
        for each in query.damage:
            display.say(f"left out, it cannot be searched: {each.archive}: {each.reason}")
        if not query.is_listed:
            display.say("nobody may list the archives, so one without an index is not noticed: allow s3:ListBucket")
        if query.without_event:
            display.say(
                f"{plural(query.without_event, 'version')} have no event in the journal and count by the dates of "
                "their copies: the source may have had them earlier, or deleted them unseen"
            )
        spec = draft.spec(query.description(), {**draft.ways(source), **query.options()}, source)
        names = dict.fromkeys(each.archive for each in chosen.archives)
        taken = {name: records[name] for name in names if name in records}
        archives = await look_at_archives(query.archives, taken)
        plan = forecast(chosen, archives, spec, settings.processes, own_prices(), query.without_event)
        return draft.planned(spec, plan)
