"""Plan of a restore: the wanted version of each key, by archive, cut into shards.

Candidates are spooled to disk and sorted there. Only one key's are in memory at a time.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.archives.index import ArchiveIndex
from jobs.config import ROWS_PER_SHARD, Settings
from jobs.core import pricing
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
from jobs.restore.as_of_journal import Event, is_event
from jobs.restore.candidates import RestoreQuery
from jobs.restore.journal_rows import SCHEMA, SHARD_SCHEMA, restore_batch
from jobs.restore.pricing import forecast, look_at_archives
from jobs.restore.thawing import Tier
from jobs.runs import sharding as shards
from jobs.runs.planning import spool, write_shards
from jobs.runs.request import Planned, Request, check_outside, check_sides, drafting
from jobs.runs.sorting import SORT_BYTES, limit_sort
from jobs.runs.there import WriteShard
from jobs.tables.duck import Database, in_thread, parquet, scratch_folder
from jobs.tables.rows import cut, fill_batch

BATCH_ROWS = 20_000
_IS_OWN = "archive IS NULL AND event_order IS NULL"

Choose = Callable[[Sequence[ObjectVersion], Sequence[ObjectVersion]], list[ObjectVersion]]
"""Maps one key's rows (oldest first) and archived versions (preferred first) to what is restored,
the newest last.
"""


class Taken(NamedTuple):
    """What a restore takes from one archive of members of one class: URI, that class, members,
    their bytes, and the parts of large ones.
    """

    archive: str
    storage_class: str
    rows: int
    size_bytes: int
    large: int
    parts: int


@dataclass(slots=True)
class RestoreSelection:
    """What a restore restores: the rows that `choose` takes of spooled candidates.

    `histogram`: the rows that the bucket still has, by what decides their price. `without_event`:
    the rows that count by the dates of their copies, where others have events in the journal.
    """

    connection: duckdb.DuckDBPyConnection
    folder: Path
    choose: Choose
    excluded: Counter[str]
    rows: int = 0
    size_bytes: int = 0
    shards: Sequence[ShardSummary] = ()
    archives: list[Taken] = field(default_factory=list)
    histogram: Histogram = field(default_factory=lambda: Histogram((), 0))
    without_event: int = 0

    @property
    def names(self) -> dict[str, None]:
        """The archives, each once, in their order."""
        return dict.fromkeys(each.archive for each in self.archives)

    def choose_rows(self) -> None:
        """Write the wanted version of each key to chosen.parquet."""
        with pq.ParquetWriter(self.folder / "chosen.parquet", SCHEMA, compression="lz4") as writer:
            rows = self._chosen()
            while batch := list(itertools.islice(rows, BATCH_ROWS)):
                writer.write_batch(restore_batch(batch))

    def count(self) -> None:
        """Add up the chosen rows."""
        part_bytes = pricing.RANGE_BYTES
        self.rows, self.size_bytes = map(
            int, self._query(f"SELECT count(*), coalesce(sum(size_bytes), 0) FROM {self._relation}")[0]
        )
        self.archives = [
            Taken(archive, storage_class, rows, int(size_bytes), large, int(parts))
            for archive, storage_class, rows, size_bytes, large, parts in self._query(
                f"""
                SELECT archive, coalesce(nullif(storage_class, ''), 'STANDARD'), count(*), sum(size_bytes),
                       count(*) FILTER (size_bytes > {part_bytes}),
                       coalesce(sum(ceil(size_bytes / {part_bytes})) FILTER (size_bytes > {part_bytes}), 0)
                FROM {self._relation} WHERE archive NOT IN {tuple(UNKNOWN)}
                GROUP BY 1, 2 ORDER BY 1, 2
                """
            )
        ]
        limit, part = COPY_LIMIT_BYTES, PREFERRED_PART_BYTES
        groups = self._query(
            f"""
            SELECT coalesce(storage_class, 'STANDARD'), coalesce(size_bytes > {limit}, false), size_bytes IS NOT NULL,
                   false, count(*), coalesce(sum(size_bytes), 0)::BIGINT,
                   coalesce(sum(greatest(1, ceil(size_bytes / {part}))), count(*))::BIGINT
            FROM {self._relation} WHERE {_IS_OWN} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
            """
        )
        self.histogram = Histogram(tuple(Group(*each) for each in groups), sum(each[4] for each in groups))

    def in_order(self) -> Any:
        """The rows in the order of shards: those of an archive together, in its order, the others spread by hash."""
        return self.connection.sql(
            f"SELECT {', '.join(SCHEMA.names)} FROM {self._relation} "
            f"ORDER BY archive NULLS FIRST, {_IS_OWN}, CASE WHEN archive IS NULL THEN hash(key) END, key"
        )

    @property
    def _relation(self) -> str:
        return parquet(self.folder / "chosen.parquet")

    def _chosen(self) -> Iterator[ObjectVersion]:
        for _, group in itertools.groupby(self._candidates(), key=attrgetter("key")):
            rows = list(group)
            own = [row for row in rows if row.archive is None and not is_event(row)]
            versions = self.choose(own, [row for row in rows if row.archive is not None or is_event(row)])
            if len(versions) > 1:
                self.excluded["older_version"] += len(versions) - 1
            yield from versions[-1:]

    def _candidates(self) -> Iterator[ObjectVersion]:
        """All rows by key: a key's own rows oldest first, then archived ones, the preferred
        first.
        """
        names = SCHEMA.names
        relation: Any = self.connection.sql(
            f"SELECT {', '.join(names)} FROM {parquet(self.folder / 'rows.parquet')} "
            f"ORDER BY key, NOT ({_IS_OWN}), CASE WHEN {_IS_OWN} THEN -place ELSE place END"
        )
        for batch in relation.to_arrow_reader(BATCH_ROWS):
            for values in zip(*(batch.column(name).to_pylist() for name in names), strict=True):
                event = None if values[-2] is None else Event(values[-2], values[-1] or "")
                row = ObjectVersion._make((0, *values[:-2], event))
                yield row if row.last_modified is None else row._replace(last_modified=row.last_modified / 1e6)

    def _query(self, sql: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql).fetchall()


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
        excluded, _ = await spool(whole, selection, folder / "rows.parquet", SCHEMA)
        with closing(Database(folder, memory_limit=f"{SORT_BYTES}B").connection) as connection:
            await in_thread(connection, limit_sort, connection, parquet(folder / "rows.parquet"))
            chosen = RestoreSelection(connection, folder, choose, excluded)
            await in_thread(connection, chosen.choose_rows)
            await in_thread(connection, chosen.count)
            shard_count = shards.count_shards(
                chosen.rows, chosen.size_bytes, rows_per_shard=rows_per_shard, processes=processes
            )
            tables = cut(chosen.in_order().to_arrow_reader(BATCH_ROWS), -(-chosen.rows // max(shard_count, 1)))
            chosen.shards, _ = await write_shards(tables, write_shard, connection, SHARD_SCHEMA)
    return chosen


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
        query = RestoreQuery(request, ledger, ArchiveIndex(ledger.store, ledger.location), keys, draft)
        records = await query.records()
        in_place = request.options["in_place"]
        source, draft.destination = await check_sides(request.source, draft.destination, in_place=in_place)
        chosen = await plan_restore(
            query.candidates(records),
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
        chosen.without_event = query.without_event
        if chosen.without_event:
            display.say(
                f"{plural(chosen.without_event, 'version')} have no event in the journal and count by the dates of "
                "their copies: the source may have had them earlier, or deleted them unseen"
            )
        spec = draft.spec(query.description(), {**draft.ways(source), **query.bucket, **query.left_out()}, source)
        prices = own_prices()
        archives = await look_at_archives(query.archives, records, list(chosen.names), Tier(spec.options["tier"]))
        return draft.planned(spec, forecast(chosen, archives, spec, settings.processes, prices))
