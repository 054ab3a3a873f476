"""Repair after a reconciliation: copies what is missing or stale, then verifies it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, NamedTuple

from jobs.config import Settings
from jobs.core.display import Display
from jobs.core.model import Location, parse_time
from jobs.core.prefix_map import PrefixMap
from jobs.core.run import RunSpec, RunState, Side
from jobs.core.selection import Selection
from jobs.ledger.ledger import Ledger
from jobs.reconcile.advice import REPAIR
from jobs.replicate.kind import KIND as REPLICATE
from jobs.runs import launch
from jobs.runs.kind import Kind, writes_of_copies
from jobs.runs.placement import batch_placement, check_placement
from jobs.runs.request import Request, check_apart
from jobs.runs.work import work
from jobs.s3.store import server_time
from jobs.verify.kind import KIND as VERIFY

JOBS = ("replicate", "verify")
CLOCK_SECONDS = 3
"""By so much a listing's time and ours may differ, where both are S3's."""
KINDS: Mapping[str, Kind] = {kind.name: kind for kind in (REPLICATE, VERIFY)}
"""Job → the kind of work, for the jobs of a repair or a night."""


class Repaired(NamedTuple):
    """The result of a repair: reports by job (for the JSON document), reports in order, exit
    code.
    """

    document: dict[str, Any]
    reports: list[dict[str, Any]]
    code: int


async def await_later_second(ledger: Ledger, report: Mapping[str, Any]) -> None:
    """Wait for a second of S3's after the lists of a comparison.

    What was found and what was mended in one second is found: the state lets the worse one win.
    """
    newest = max(parse_time(report[side]["created_at"]) for side in ("source", "destination"))
    seconds = newest + 1 - server_time(ledger.store)
    await asyncio.sleep(min(max(seconds, 0.0), CLOCK_SECONDS))


class Limits(NamedTuple):
    """The limits of a repair. None: no limit."""

    max_cost: float | None
    max_objects: int | None


async def repair(
    spec: RunSpec,
    maps: PrefixMap,
    ledger: Ledger,
    settings: Settings,
    limits: Limits,
    executor: str | None,
    display: Display,
    agreed: Mapping[str, bool],
) -> Repaired:
    """Replicate the rows of `repair.parquet` of a reconcile run, then verify them.

    The first run that does not come to its end is the last one. `agreed`: the option `--unguarded`, if
    the user gave it. Raises LimitExceeded before anything is copied when all runs together exceed
    the limits, and ConfigError for a server that ignores conditions.
    """
    reports: dict[str, list[dict[str, Any]]] = {job: [] for job in JOBS}
    in_order: list[dict[str, Any]] = []
    code = 0
    with ExitStack() as planned:
        runs = []
        for request in _requests(spec, maps, ledger, agreed):
            if (placement := batch_placement(executor, settings, request.job)) is not None:
                await check_placement(placement, request.source, request.destination)
            run = await launch.plan_run(request, ledger, settings, display, copies=request.job == JOBS[0])
            planned.callback(run.discard)
            runs.append(run)
        launch.check_limits(runs, *limits)
        if lacking := launch.unpriced(runs, limits.max_cost):
            display.say(lacking)
        copies = sum(run.spec.job == JOBS[0] for run in runs)
        for number, run in enumerate(runs[:copies]):
            runs[number] = await launch.try_conditions(run, writes_of_copies(run.spec))
        for run in runs:
            await launch.publish(run, ledger)
            kind = KINDS[run.spec.job]
            report, own, _ = await work(run.spec, run.plan, ledger, settings, executor, display, kind)
            reports[run.spec.job].append(report)
            in_order.append(report)
            code = code or own
            if report["state"] != RunState.COMPLETE:  # as after Ctrl-C: nothing more is begun
                break
    return Repaired({"repair": reports["replicate"], "verification": reports["verify"]}, in_order, code)


def _requests(spec: RunSpec, maps: PrefixMap, ledger: Ledger, agreed: Mapping[str, bool]) -> Iterator[Request]:
    """The copies of each mapped prefix, then their verification."""
    for job in JOBS:
        for source_prefix, destination_prefix in maps.pairs:
            yield Request(
                job=job,
                source=_at(spec.source, source_prefix),
                destination=_at(spec.destination, destination_prefix),
                manifest=ledger.uri(spec.run_id, REPAIR),
                selection=Selection(versions=spec.options["versions"], prefix=source_prefix),
                options={"all_versions": spec.options["versions"] == "all", "deep": False, **agreed},
                retry_of=spec.run_id,
            )


def check_places(source: Side | None, destination: Side | None, maps: PrefixMap, ledger: Location) -> None:
    """Check that the ledger is in no prefix that is compared, since each run writes to the ledger.

    None: a side that is not known yet. Two sides in one bucket are refused elsewhere. Raises
    UsageError.
    """
    for source_prefix, destination_prefix in maps.pairs:
        check_apart(_at(source, source_prefix) if source else None, None, ledger)
        check_apart(None, _at(destination, destination_prefix) if destination else None, ledger)


def _at(side: Side, prefix: str) -> Side:
    return replace(side, location=side.location._replace(key=prefix))
