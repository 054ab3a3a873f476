"""Plan of a replicate run, with a look at the destination if that is asked for.

A forecast takes for granted that nothing is at the destination. A listing says what is there
already, for a thousandth of a request for each object.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jobs.config import Settings
from jobs.core import pricing
from jobs.core.display import Display
from jobs.core.model import Location
from jobs.core.pricing import Histogram, PricedWork
from jobs.core.selection import Selection
from jobs.ledger.ledger import Ledger
from jobs.runs.launch import plan_run
from jobs.runs.request import Planned, Request
from jobs.s3.sessions import open_side
from jobs.s3.store import Store

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

LOOK = "look"
"""The option of a run: true to look, then what was seen (`Seen`)."""

_MEMORY = "256MB"
_MD5 = "^[0-9a-f]{32}$"


class Seen(NamedTuple):
    """What a listing of the destination says of a plan's rows.

    `same`: rows whose copy is there with the same size, and the same ETag where both are MD5s.
    `other`: rows whose copy is there and differs. `absent`: all other rows.
    """

    listed: int
    same: int
    other: int
    absent: int


async def plan_copies(request: Request, ledger: Ledger, settings: Settings, display: Display) -> Planned:
    """Plan a replicate run. With the option `look` its forecast knows what is at the destination.

    Raises as `plan_run`.
    """
    planned = await plan_run(request, ledger, settings, display, copies=True, refuses_large=True)
    if not request.options.get(LOOK):
        return planned
    folder = planned.scratch / LOOK
    try:
        folder.mkdir()
        return await _with_look(planned, request, settings, folder)
    except BaseException:
        planned.discard()
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _with_look(planned: Planned, request: Request, settings: Settings, folder: Path) -> Planned:
    from jobs.runs.planning import forecast, plan_rows, read_price_table
    from jobs.tables.duck import connect, in_thread

    spec = planned.spec
    store = open_side(spec.destination)
    try:
        await _spool(store, spec.destination.location, folder / "there.parquet")
    finally:
        await store.close()
    work, prices = PricedWork.of(spec, is_copying=True), read_price_table(request.price_table)
    with connect(folder, memory_limit=_MEMORY) as connection:
        seen = await in_thread(connection, _compare, connection, planned, folder)
        copies, present = [
            await plan_rows(
                _rows(connection, is_same=is_same),
                Selection(versions="all"),  # the rows were selected when the plan was made
                write_shard=_forget,
                scratch_directory=folder,
                **pricing.part_rule(work)._asdict(),
            )
            for is_same in (False, True)
        ]
    plan = forecast(copies, work, settings.processes, prices)
    # A conditional copy that fails, and a look at both sides: what a copy with Object Lock takes.
    checked = replace(work, object_lock=True, streamed=False, endpoint_hops=0)
    groups = (each._replace(size_bytes=0, parts=each.rows, is_multipart=False) for each in present.histogram.groups)
    skipped = Histogram(tuple(groups), present.histogram.keys)
    requests = _sum(plan.requests, pricing.requests_for(checked, skipped))
    moved = pricing.bytes_moved(work, copies.histogram)
    plan = replace(
        planned.plan,
        requests={kind: int(count) for kind, count in requests.items()},
        dollars=_sum(plan.dollars, pricing.estimate(checked, skipped, prices)),
        seconds=pricing.estimate_seconds({kind: int(n) for kind, n in requests.items()}, moved, settings.processes),
    )
    options = {**spec.options, LOOK: seen._asdict()}
    return replace(planned, spec=replace(spec, options=options), plan=plan)


async def _spool(store: Store, place: Location, path: Path) -> None:
    """Write a listing of a place to a file."""
    import pyarrow.parquet as pq

    from jobs.s3.listing import list_all
    from jobs.tables.rows import manifest_batch, manifest_schema

    with pq.ParquetWriter(path, manifest_schema(), compression="lz4") as writer:
        async with aclosing(list_all(store, place, versions=False)) as pages:
            async for page in pages:
                writer.write_batch(manifest_batch(page))


def _compare(connection: duckdb.DuckDBPyConnection, planned: Planned, folder: Path) -> Seen:
    """Make the table `compared`: the plan's rows, and whether the destination has the same."""
    from jobs.tables.duck import parquet, quoted

    source, destination = planned.spec.source.location.key, planned.spec.destination.location.key
    rest = f"CASE WHEN starts_with(key, {quoted(source)}) THEN substr(key, {len(source) + 1}) ELSE key END"
    differs = (
        f"regexp_matches(wanted.etag, {quoted(_MD5)}) AND regexp_matches(there.etag, {quoted(_MD5)}) "
        "AND wanted.etag <> there.etag"
    )
    connection.execute(
        f"""
        CREATE TABLE compared AS
        SELECT wanted.*, there.key IS NOT NULL AS is_there,
               there.key IS NOT NULL AND wanted.size_bytes IS NOT DISTINCT FROM there.size_bytes
               AND NOT coalesce({differs}, false) AS is_same
        FROM (SELECT *, {quoted(destination)} || {rest} AS copy_key
              FROM {parquet(planned.scratch, below="[0-9]*.parquet")}) AS wanted
        LEFT JOIN {parquet(folder / "there.parquet")} AS there ON there.key = wanted.copy_key
        """
    )
    counts = connection.execute(
        "SELECT count(*) FILTER (is_same), count(*) FILTER (is_there AND NOT is_same), count(*) FILTER (NOT is_there) "
        "FROM compared"
    ).fetchall()[0]
    [(listed,)] = connection.execute(f"SELECT count(*) FROM {parquet(folder / 'there.parquet')}").fetchall()
    return Seen(listed, *counts)


async def _rows(connection: duckdb.DuckDBPyConnection, *, is_same: bool) -> AsyncIterator[pa.RecordBatch]:
    """The compared rows that are the same, or the others, as a manifest."""
    from jobs.tables.rows import manifest_schema

    condition = "is_same" if is_same else "NOT is_same"
    names = ", ".join(f'"{name}"' for name in manifest_schema().names)
    for batch in connection.sql(f"SELECT {names} FROM compared WHERE {condition} ORDER BY row").to_arrow_reader():
        yield batch.cast(manifest_schema())


async def _forget(number: int, data: bytes) -> None:
    """Keep no shard: the plan has its own."""


def _sum(*tallies: Any) -> dict[str, float]:
    return {name: sum(each.get(name, 0) for each in tallies) for name in dict.fromkeys([n for t in tallies for n in t])}
