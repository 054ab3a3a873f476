"""Plan of a restore: the wanted version of each key, by archive, cut into shards and priced.

Candidates are spooled to disk and sorted there. Only one key's are in memory at a time.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import closing
from operator import attrgetter
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct

from jobs.archives.files import head_archive
from jobs.archives.model import ArchiveRecord
from jobs.archives.spans import SPAN_BYTES
from jobs.config import Settings
from jobs.core.display import Display
from jobs.core.enums import ARCHIVE_CLASSES
from jobs.core.model import ObjectInfo, ObjectVersion
from jobs.core.pricing import Bill, Group, Histogram, PricedWork
from jobs.core.run import Plan, RunSpec, ShardSummary, Side
from jobs.core.selection import Selection
from jobs.errors import REFUSALS
from jobs.ledger.ledger import Ledger
from jobs.reports.figures import plural
from jobs.restore.as_of import NOT_RESTORED
from jobs.restore.as_of_journal import Event
from jobs.restore.candidates import NAMES, SCHEMA, Choose, RestoreQuery
from jobs.restore.thawing import ColdObjects, Tier, estimate_thaw, thaw_class
from jobs.runs.planning import cut_shards, spool
from jobs.runs.request import Planned, Request, check_outside, check_sides, drafting
from jobs.runs.sharding import Shards
from jobs.runs.sorting import SORT_BYTES, group_columns, limit_sort
from jobs.s3.retries import gather_bounded
from jobs.s3.sessions import side_store
from jobs.tables.duck import connect, in_thread, parquet, scratch_folder
from jobs.tables.rows import fill_batch, manifest_batch, manifest_schema

BATCH_ROWS = 20_000
LOOKS_AT_ONCE = 64


Taken = tuple[str | None, Group]
"""Rows that cost alike, and the archive that they are taken from. None: the bucket still has them."""


class RestoreSelection(Struct, frozen=True):
    """What a restore restores. `taken` lacks what is in no archive, and what is unknown."""

    shards: Sequence[ShardSummary]
    excluded: Counter[str]
    taken: Sequence[Taken]


async def plan_restore(
    candidates: AsyncIterator[pa.RecordBatch],
    selection: Selection,
    choose: Choose,
    shards: Shards,
) -> RestoreSelection:
    """Choose among `candidates` (in `manifest_schema()`, or in `SCHEMA`) and write shards.

    A row with an `archive` is archived, one with an `Event` is an event of the journal. A
    key's own rows come newest first, as listings have them. Raises ConfigError when the folder cannot hold the rows.
    """
    with scratch_folder(shards.folder, "planning-", "sort the rows") as folder:
        whole = (
            fill_batch({name: each[name] for name in each.schema.names}, each.num_rows, SCHEMA)
            async for each in candidates
        )
        excluded = await spool(whole, selection, folder / "rows.parquet", SCHEMA)
        chosen = folder / "chosen.parquet"
        with closing(connect(folder, memory_limit=f"{SORT_BYTES}B")) as connection:
            await in_thread(connection, limit_sort, connection, parquet(folder / "rows.parquet"))
            await in_thread(connection, _choose_rows, connection, folder / "rows.parquet", choose, excluded, chosen)
            counted = await in_thread(connection, _count, connection, parquet(chosen))
            rows, size_bytes = sum(each.rows for _, each in counted), sum(each.size_bytes for _, each in counted)
            # The rows of an archive are together, in its order, the others spread by hash.
            in_order: Any = connection.sql(
                f"FROM {parquet(chosen)} "
                "ORDER BY archive NULLS FIRST, CASE WHEN archive IS NULL THEN hash(key) END, key"
            )
            written = await cut_shards(connection, in_order, rows, size_bytes, shards)
    return RestoreSelection(written, excluded, [each for each in counted if each[0] not in NOT_RESTORED])


def _choose_rows(
    connection: duckdb.DuckDBPyConnection, rows: Path, choose: Choose, excluded: Counter[str], chosen: Path
) -> None:
    """Write the wanted version of each key."""

    def wanted() -> Iterator[ObjectVersion]:
        for _, group in itertools.groupby(_candidates(connection, rows), key=attrgetter("key")):
            own: list[ObjectVersion] = []
            archived: list[ObjectVersion] = []
            for row in group:
                (own if row.archive is None and row.beside is None else archived).append(row)
            versions = choose(own, archived)
            if len(versions) > 1:
                excluded["older_version"] += len(versions) - 1
            yield from versions[-1:]

    taken = wanted()
    with pq.ParquetWriter(chosen, manifest_schema(), compression="lz4") as writer:
        while batch := list(itertools.islice(taken, BATCH_ROWS)):
            writer.write_batch(manifest_batch(batch))


def _candidates(connection: duckdb.DuckDBPyConnection, rows: Path) -> Iterator[ObjectVersion]:
    """All rows by key: a key's own rows oldest first, then archived ones, the preferred first."""
    is_own = "(archive IS NULL AND event_order IS NULL)"
    relation: Any = connection.sql(
        f"SELECT {', '.join(NAMES[1:])} FROM {parquet(rows)} "
        f"ORDER BY key, NOT {is_own}, CASE WHEN {is_own} THEN -place ELSE place END"
    )
    for batch in relation.to_arrow_reader(BATCH_ROWS):
        for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            event = None if values[-2] is None else Event(values[-2], values[-1] or "")
            row = ObjectVersion._make((0, *values[:-2], event))
            yield row if row.last_modified is None else row._replace(last_modified=row.last_modified / 1e6)


def _count(connection: duckdb.DuckDBPyConnection, chosen: str) -> list[Taken]:
    """All rows of a relation, by what decides their price."""
    groups = connection.execute(f"SELECT archive, {group_columns()} FROM {chosen} GROUP BY ALL ORDER BY ALL")
    return [(archive, Group(*rows)) for archive, *rows in groups.fetchall()]


async def plan_run(request: Request, ledger: Ledger, settings: Settings, display: Display) -> Planned:
    """Find candidates, choose versions, look at the archives, price the plan.

    Raises ConfigError, UsageError, …
    """
    check_outside(request.destination, ledger.location)
    with drafting(request) as draft:
        query = RestoreQuery(request, ledger, draft)
        records = await query.records()
        in_place = request.options["in_place"]
        source, draft.destination = await check_sides(query.source, draft.destination, in_place=in_place)
        chosen = await plan_restore(
            query.candidates(list(records.values())), request.selection, query.choose, draft.shards(settings)
        )
        for each in query.damage:
            display.say(f"left out, it cannot be searched: {each.archive}: {each.reason}")
        if query.etags is None:
            display.say("nobody may list the archives, so one without an index is not noticed: allow s3:ListBucket")
        if query.without_event:
            display.say(
                f"{plural(query.without_event, 'version')} have no event in the journal and count by the dates of "
                "their copies: the source may have had them earlier, or deleted them unseen"
            )
        spec = draft.spec(query.description(), {**draft.ways(source), **query.options()}, source)
        named = {archive for archive, _ in chosen.taken}
        taken = {uri: record for uri, record in records.items() if uri in named}
        archives = await _look_at(query.archives, taken) if query.archives else {}
        return draft.planned(spec, forecast(chosen, archives, spec, settings.processes, query.without_event))


async def _look_at(side: Side, records: Mapping[str, ArchiveRecord]) -> dict[str, ObjectInfo]:
    """The archives as S3 has them now, by URI. Those that cannot be read are left to the run."""
    found: dict[str, ObjectInfo] = {}
    async with side_store(side, max_in_flight=LOOKS_AT_ONCE) as store:

        async def look(uri: str) -> None:
            with contextlib.suppress(*REFUSALS):
                found[uri] = (await head_archive(store, records[uri]))[1]

        await gather_bounded(look, list(records), LOOKS_AT_ONCE)
    return found


def forecast(
    chosen: RestoreSelection, archives: Mapping[str, ObjectInfo], spec: RunSpec, processes: int, without_event: int = 0
) -> Plan:
    """The plan of a restore: archives to thaw, then to read by ranges or copy, then to write.

    Reading costs at most a request for each `SPAN_BYTES` of an archive's members, if they are
    together. Raises UsageError if the tier cannot thaw an archive, or versions that the bucket
    still has.
    """
    work = PricedWork.of(spec, is_copying=True)
    cold = {
        uri: ColdObjects(thaw_class(info.storage_class, info.archive_tier), info.size_bytes, info.is_restoring)
        for uri, info in archives.items()
        if info.is_archived
    }
    own = [group for archive, group in chosen.taken if archive is None]  # versions that are copied
    members = [(archive, group) for archive, group in chosen.taken if archive is not None]
    # A listing does not say which versions are thawed already.
    versions = [
        ColdObjects(group.storage_class, group.size_bytes, objects=group.rows)
        for group in own
        if group.storage_class in ARCHIVE_CLASSES
    ]
    bill = Bill(work, Histogram(tuple(own), sum(group.rows for group in own)))
    thaw = estimate_thaw([*cold.values(), *versions], Tier(spec.options["tier"]), bill.prices)
    for archive, group in members:
        gets = -(-group.size_bytes // SPAN_BYTES) + 1
        packed_in = archives[archive].storage_class if archive in archives else "STANDARD"
        bill.add(Counter(get=gets, put=group.rows), group.storage_class, group.size_bytes, packed_in)
    names = {archive for archive, _ in members}
    bill.requests.update(head=len(names), restore=thaw.cold - thaw.restoring)
    bill.dollars |= {"thaw_requests": thaw.requests, "thaw_retrieval": thaw.retrieval, "thaw_storage": thaw.storage}
    size_bytes = sum(each.size_bytes for each in chosen.shards)
    bill.moved_bytes = 2 * size_bytes
    plan = Plan(
        rows=sum(each.rows for each in chosen.shards),
        size_bytes=size_bytes,
        shards=tuple(chosen.shards),
        excluded=dict(chosen.excluded),
        restore=thaw._asdict()
        | {
            "archives": len(names),
            "members": sum(group.rows for _, group in members),
            "without_event": without_event,
            "cold": sorted(cold),
            "cold_versions": sum(each.objects for each in versions),
        },
    )
    return bill.of(plan, processes)
