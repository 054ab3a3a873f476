"""Launch of a run: plan it, try the conditions of its writes, publish it.

Before a run is published, the conditions of its writes are tried at the destination, since its server may ignore them
(`jobs.s3.condition_trial`). Then the run is refused, unless the user agreed that a write by others may be replaced.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from jobs.config import Settings
from jobs.core.display import Display
from jobs.core.model import Location
from jobs.core.pricing import Bill, PricedWork, part_rule
from jobs.core.rate_limits import RateLimits
from jobs.core.run import UNSIZED_ROWS, WITHOUT_CONDITIONS, Plan, RunSpec, RunState
from jobs.errors import Denied, LedgerError, LimitExceeded, Rejected
from jobs.ledger.ledger import Checkpoint, Ledger
from jobs.ledger.one_bucket import check_ledger_apart, warning_of_one
from jobs.ledger.run_ids import run_job
from jobs.reports.figures import human_dollars
from jobs.runs.request import Draft, Planned, Request, check_sides, drafting, manifest_rows
from jobs.s3.condition_trial import find_ignored, ignored_error, untried_error
from jobs.s3.operations import Operation
from jobs.s3.retries import gather_bounded, promptly, together
from jobs.s3.sessions import endpoint_of, open_side
from jobs.s3.store import server_time
from jobs.tables.rows import PLANNED, done_outcomes

if TYPE_CHECKING:
    from jobs.runs.sorting import Sorting

UPLOADS = 8
UNKNOWN_TIMES = 10.0
"""How many times the least a run may take where no earlier one says it: 6 s became 62 s on a slow server."""
MARGIN_TIMES = 1.5
"""How many times as slow as the earlier run it may be."""
START_SECONDS = 3.0
"""What processes take to start, and a report to be made, however few the rows."""
RECENT_SECONDS = 35 * 86_400.0
OF_PAIR = "limits.max_{}"
"""The limits of a pair, as the policy names them."""
LOOKS = 5
"""How far back, and at how many runs of the kind, one of the place is looked for."""
Join = Callable[[RunSpec, "Sorting"], None]
"""Adds to the rows of a plan what a kind of work knows of them."""
Preparer = Callable[[Request, Location, Ledger, Draft, Display], Coroutine[Any, Any, Join | None]]
"""Reads what a kind of work knows of the rows. Returns the join with it."""


async def plan_run(
    request: Request,
    ledger: Ledger,
    settings: Settings,
    display: Display,
    *,
    copies: bool,
    prepare: Preparer | None = None,
    lists_copies: Callable[[RunSpec], bool] = lambda spec: False,
) -> Planned:
    """Plan a run over copies: read and filter the manifest, cut it into shards, price it.

    `copies`: the run writes to the destination, else it compares. `lists_copies`: whether a run's
    destination is listed, so that rows whose copies are there are done with the plan. Raises
    ManifestError, ConfigError, UsageError, …
    """
    with drafting(request) as draft:
        source, description, batches = await manifest_rows(request, ledger, draft)
        sides = check_sides(source, draft.destination, all_versions=bool(request.options.get("all_versions")))
        # DuckDB takes a while to load, meanwhile both sides answer.
        (source, draft.destination), _ = await together(sides, asyncio.to_thread(import_module, "jobs.runs.planning"))
        from jobs.runs.planning import plan_rows
        from jobs.runs.there import Copies, PackedCopies

        if warning := await warning_of_one(source, request.destination):
            display.say(warning)
        join = await prepare(request, source.location, ledger, draft, display) if prepare else None
        spec = draft.spec(description, draft.ways(source), source)
        work = PricedWork.of(spec, is_copying=copies)
        lists, packed = lists_copies(spec), PackedCopies.of(request.options, ledger)
        now = partial(server_time, ledger.store)
        plan, histogram = await plan_rows(
            batches,
            request.selection,
            draft.shards(settings),
            copies=Copies(spec, packed, lists, now, ledger if lists else None) if lists or packed else None,
            join=join and partial(join, spec),
            parts=part_rule(work),
        )
        if unsized := histogram.unsized_rows:
            spec = replace(spec, options={**spec.options, UNSIZED_ROWS: unsized})
        return draft.planned(spec, Bill(work, histogram).of(plan, settings.processes))


def check_limits(
    runs: Sequence[Planned], max_cost: float | None, max_objects: int | None, named: str = "--max-{}"
) -> None:
    """Check all runs of a command together, before any of them is published. `named`: what the limits are called.

    Their costs add up, and so do the objects of runs of one kind. A run that verifies what another
    one copies has the same objects. Raises LimitExceeded for what is larger or dearer than the
    limits allow.
    """
    rows = Counter[str]()
    for run in runs:
        rows[run.spec.job] += run.plan.rows
    objects, dollars = max(rows.values(), default=0), sum(run.plan.total_dollars for run in runs)
    refusal = ""
    if max_objects is not None and objects > max_objects:
        refusal = f"the plan has {objects:,} objects, {named.format('objects')} allows {max_objects:,}"
    elif max_cost is not None and dollars > max_cost:
        allowed = f"{named.format('cost')} allows {human_dollars(max_cost)}"
        refusal = f"the plan costs about {human_dollars(dollars)}, {allowed}"
    if refusal:
        raise LimitExceeded(refusal, advice="filter or raise it")


async def timed(planned: Planned, ledger: Ledger, *, is_carried: bool) -> Plan:
    """The plan with the time that it takes: a range, since a table knows no server, no network and no other work.

    The least is what the tables say, and the limits of the user. The most is what the last run of the same kind and
    place says of as much work, else many times the least.
    `is_carried`: bytes pass through workers, whatever the run's options say.
    """
    spec, plan, limits = planned.spec, planned.plan, RateLimits.of(planned.spec)
    is_carried = bool(is_carried or spec.options.get("streamed") or spec.options.get("deep"))
    size_bytes = 2 * plan.size_bytes if is_carried else 0  # read and written, or read at both sides
    least = max(plan.seconds, limits.seconds(sum(plan.requests.values()), size_bytes))
    timed_by, times = await _last_run(ledger, spec)
    most = max(least, START_SECONDS + times * plan.seconds)
    return replace(plan, seconds=least, seconds_most=most, timed_by=timed_by)


async def _last_run(ledger: Ledger, spec: RunSpec) -> tuple[str, float]:
    """The last complete run of the same kind, between the same places, and how many times its forecast
    as much work takes by it.
    """
    since = time.strftime("%Y%m%d", time.gmtime(spec.created_at - RECENT_SECONDS))
    run_ids = [run_id for run_id in await ledger.run_ids(since) if run_job(run_id) == spec.job]
    places = spec.source.location, spec.destination.location

    async def times(run_id: str) -> tuple[str, float] | None:
        with suppress(LedgerError, KeyError, TypeError, ValueError):  # an altered run forecasts nothing
            other = await ledger.spec(run_id)
            if (other.source.location, other.destination.location) != places:
                return None
            report = await ledger.report(run_id)
            if report is not None and report["state"] == RunState.COMPLETE and report["planned"]["seconds"]:
                took = float(report["worked_seconds"]) - START_SECONDS
                return run_id, max(1.0, took / float(report["planned"]["seconds"])) * MARGIN_TIMES
        return None

    timed_by = await together(*map(times, reversed(run_ids[-LOOKS:])))
    return next(filter(None, timed_by), ("", UNKNOWN_TIMES))


async def try_conditions(planned: Planned, operations: Sequence[Operation], behind: AsyncExitStack) -> Planned:
    """The plan, whose spec names the operations on which the destination ignores conditions (`WITHOUT_CONDITIONS`).
    Deletes are tried at the source.

    The end of `behind` waits until all is removed that the trial has made.

    Raises ConfigError if there are any, or if that cannot be found out, unless the user agreed. Raises StoreError.
    """
    if not operations or not planned.plan.open_rows:
        return planned
    spec = planned.spec
    side = spec.source if Operation.DELETE in operations else spec.destination  # of originals, or in place
    place = side.location
    is_agreed, ignored = bool(spec.options.get(WITHOUT_CONDITIONS)), list(operations)
    store = open_side(side)
    behind.push_async_callback(store.close)
    try:
        trial, address = partial(find_ignored, store, place, operations, behind), partial(endpoint_of, side)
        ignored = await promptly(trial, f"the trial of conditions at {place}", address)
    except (Denied, Rejected) as error:
        if not is_agreed or isinstance(error, Rejected):
            raise untried_error(place, error) from error
    if ignored and not is_agreed:
        raise ignored_error(place, ignored)
    return replace(planned, spec=replace(spec, options={**spec.options, WITHOUT_CONDITIONS: ignored}))


async def publish(planned: Planned, ledger: Ledger) -> None:
    """Write spec, shards and, last, the plan into the ledger. With the plan the run exists.

    Raises UsageError if a side shows the ledger under another name.
    """
    plan, run_id = planned.plan, planned.spec.run_id

    async def upload(number: int) -> None:
        data = (planned.scratch / f"{number:05d}.parquet").read_bytes()
        await ledger.write_shard(run_id, number, data)
        if number not in plan.open_shards:
            checkpoint = Checkpoint(number, PLANNED, 0, plan.shards[number].rows, 0, plan.shards[number].size_bytes)
            await ledger.write_checkpoint(run_id, checkpoint, done_outcomes(data, plan.there["at"]))

    await together(ledger.create(planned.spec), gather_bounded(upload, range(len(plan.shards)), UPLOADS))
    await check_ledger_apart(planned.spec, ledger)
    await ledger.publish_plan(run_id, plan)
