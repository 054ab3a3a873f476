"""Plan of a rollback: all versions are listed, and what has changed since is decided key by key. Of an undo: the
outcomes of the run, turned round.

Only keys with a version that came later are read in Python, one at a time. All else stays in DuckDB, on disk.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, cast

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec.structs import replace

from jobs.config import Settings
from jobs.core.display import Display
from jobs.core.model import Listed, Location, ObjectVersion
from jobs.core.outcome import Outcome, Status
from jobs.core.pricing import Bill, Group, Histogram, PricedWork
from jobs.core.run import Plan, RunState
from jobs.errors import ConfigError, UsageError
from jobs.ledger.ledger import Ledger
from jobs.reports.document import iso_time
from jobs.rollback.rules import Move, Step, decide, turn_round
from jobs.runs.folding import open_fold
from jobs.runs.planning import check_share, cut_shards, spool
from jobs.runs.request import Draft, Planned, Request, check_apart, check_sides, drafting
from jobs.runs.sorting import SORT_BYTES, group_columns, limit_sort
from jobs.s3.listing import list_all
from jobs.s3.retries import retry
from jobs.s3.sessions import side_store
from jobs.s3.store import Store
from jobs.tables.duck import connect, in_thread, parquet, quoted, scratch_folder
from jobs.tables.rows import batch_of, manifest_batch, schema_of, shard_schema

BATCH_ROWS = 20_000
MOVE = schema_of(Move)
SCHEMA = pa.schema([*shard_schema(), *MOVE])
"""The columns of a shard: beside the version that readers get after the step (or that HIDE hides), the step and what
must be on top for it.
"""
_CHOSEN = SCHEMA.remove(0)


async def plan_run(request: Request, ledger: Ledger, settings: Settings, display: Display) -> Planned:
    """Find what has to be done to which keys, cut it into shards and price it.

    Raises ConfigError for a bucket that keeps no versions now, UsageError for a time before all versions, and
    LimitExceeded where more keys change than allowed.
    """
    options = request.options
    check_apart(request.source, None, ledger.location)
    with drafting(request) as draft, scratch_folder(draft.scratch, "planning-", "sort the versions") as folder:
        source, draft.destination = await check_sides(request.destination, request.destination, in_place=True)
        async with side_store(source) as store:
            if not await retry(partial(store.is_versioned, source.location.bucket)):
                what = f"the versioning of {source.location.bucket} is off or suspended: a write replaces what is there"
                advice = "enable it; what was overwritten without it is gone, but for copies: see `sealift restore`"
                raise ConfigError(what, advice=advice)
            if undone := options["undo"]:
                keys = await _turn_round(ledger, undone, source.location, folder)
            else:
                keys = await _choose(store, request, folder)
        what = f"outcomes of {undone}" if undone else f"versions as of {iso_time(options['at'])}"
        spec = draft.spec(what, draft.ways(source), source)
        work = replace(PricedWork.of(spec, is_copying=True), object_lock=True)  # it has a HEAD before each copy
        plan = await _cut(draft, folder, work, settings)
        say = display.say if options["dry_run"] else None
        check_share(plan.rows, keys, "keys would change", options["max_share"], say)
        return draft.planned(spec, replace(plan, rollback={"keys": keys, **plan.rollback}))


async def _choose(store: Store, request: Request, folder: Path) -> int:
    """List all versions, and write a row for each key that has to change. Returns the number of keys.

    Raises ConfigError if there are no versions, UsageError if all are later than the time.
    """
    at, place, listed = request.options["at"], request.destination.location, folder / "rows.parquet"
    pages = (manifest_batch(page) async for page in list_all(store, place, versions=True))
    await spool(pages, request.selection, listed)
    with closing(connect(folder, memory_limit=f"{SORT_BYTES}B")) as connection:
        relation = parquet(listed)
        sql = f"SELECT count(*) FILTER (is_latest), min(last_modified) FROM {relation}"
        keys, first = (await in_thread(connection, connection.execute, sql)).fetchall()[0]
        if first is None:
            raise ConfigError(f"{place} has no versions", advice="check the bucket and the prefix")
        if first > at * 1e6:
            what = f"--as-of {iso_time(at)} is before the first version in {place}, of {iso_time(first / 1e6)}"
            raise UsageError(what, advice="name a later time")
        await in_thread(connection, limit_sort, connection, relation)
        await in_thread(connection, _write_moves, connection, relation, at, folder)
    return int(keys)


def _write_moves(connection: duckdb.DuckDBPyConnection, relation: str, at: float, folder: Path) -> None:
    """Write what has to be done to each key that has a version of a later time."""
    later: Any = connection.sql(
        f"SELECT {', '.join(Listed._fields[:-1])}, NULL FROM {relation} "
        f"WHERE key IN (SELECT key FROM {relation} WHERE last_modified > {int(at * 1e6)}) ORDER BY key, place DESC"
    )

    versions = (
        version._replace(last_modified=version.last_modified / 1e6) for version in map(Listed._make, _rows(later))
    )
    histories = (list(group) for _, group in itertools.groupby(versions, key=attrgetter("key")))
    _write_rows(filter(None, (decide(history, at) for history in histories)), folder)


def _rows(relation: Any) -> Iterator[tuple[Any, ...]]:
    for batch in relation.to_arrow_reader(BATCH_ROWS):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _write_rows(rows: Iterator[ObjectVersion], folder: Path) -> None:
    names = (*ObjectVersion._fields[:-1], *Move._fields)
    with pq.ParquetWriter(folder / "chosen.parquet", _CHOSEN, compression="lz4") as writer:
        while batch := list(itertools.islice(rows, BATCH_ROWS)):
            writer.write_batch(batch_of([(*row[:-1], *cast(Move, row.beside)) for row in batch], names, _CHOSEN))


async def _turn_round(ledger: Ledger, run_id: str, place: Location, folder: Path) -> int:
    """Write the rows that take back what the run's outcomes say it wrote. Returns the number of its keys.

    Its copies and delete markers are removed, and the markers that it removed are put again.
    """
    spec, report = await ledger.spec(run_id), await ledger.report(run_id)
    if spec.job != "rollback" or spec.options["undo"] or spec.source.location.bucket != place.bucket:
        kind = "undo of a rollback" if spec.job == "rollback" and spec.options["undo"] else f"{spec.job} run"
        what = f"--source is {place}, and {run_id} is the {kind} of {spec.source.location}"
        raise UsageError(what, advice="name a rollback run, see `sealift runs list`, and its bucket")
    if report is None or report["state"] != RunState.COMPLETE:
        raise ConfigError(f"run {run_id} has not ended", advice=f"finish it with `sealift runs retry {run_id}` first")
    connection = await open_fold(ledger, run_id, await ledger.plan(run_id), folder)
    if connection is None:
        raise ConfigError(f"run {run_id} did nothing", advice="there is nothing to take back")
    names = ", ".join(Outcome._fields[1 : Outcome._fields.index("detail") + 1])
    is_wanted = f"status = '{Status.DONE}' AND starts_with(key, {quoted(place.key)})"
    with closing(connection):
        done = (Outcome(0, *row) for row in _rows(connection.sql(f"SELECT {names} FROM folded WHERE {is_wanted}")))
        rows = (ObjectVersion(0, each.key, each.version_id, etag=each.etag, beside=turn_round(each)) for each in done)
        _write_rows(rows, folder)
    return int(report["rows"])


async def _cut(draft: Draft, folder: Path, work: PricedWork, settings: Settings) -> Plan:
    """Cut the rows into shards, spread by the hash of their keys, and price them."""
    with closing(connect(folder, memory_limit=f"{SORT_BYTES}B", threads=1)) as connection:
        relation = parquet(folder / "chosen.parquet")
        steps = dict(connection.execute(f"SELECT step, count(*) FROM {relation} GROUP BY 1 ORDER BY 1").fetchall())
        # What makes or removes a delete marker costs alike.
        priced = f"SELECT * REPLACE (step <> '{Step.COPY}' AS is_delete_marker) FROM {relation}"
        groups = connection.execute(
            f"SELECT {group_columns()} FROM ({priced}) WHERE step <> '{Step.LEAVE}' GROUP BY ALL ORDER BY ALL"
        ).fetchall()
        histogram, rows = Histogram(tuple(Group(*each) for each in groups), 0), sum(steps.values())
        size_bytes = sum(each.size_bytes for each in histogram.groups)
        in_order = connection.sql(f"FROM {relation} ORDER BY hash(key), key")
        shards = await cut_shards(connection, in_order, rows, size_bytes, draft.shards(settings), SCHEMA)
    bill = Bill(work, histogram, list=steps.get(Step.UNHIDE, 0) + steps.get(Step.REMOVE, 0))
    return bill.of(Plan(rows, size_bytes, shards, rollback=steps), settings.processes)
