"""Repair after a reconciliation: copies what is missing or stale, then verifies it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack
from typing import Any

from msgspec.structs import replace

from jobs.config import Settings
from jobs.core.display import Display
from jobs.core.model import parse_time
from jobs.core.prefix_map import PrefixMap
from jobs.core.run import RunSpec, RunState
from jobs.core.selection import Selection
from jobs.ledger.ledger import Ledger
from jobs.reconcile.advice import REPAIR
from jobs.replicate.kind import KIND as REPLICATE
from jobs.runs import launch
from jobs.runs.batch_executor import planning_settings
from jobs.runs.kind import Kind
from jobs.runs.request import Planned, Request
from jobs.runs.work import work
from jobs.s3.store import server_time
from jobs.verify.kind import KIND as VERIFY

CLOCK_SECONDS = 3
"""By so much a listing's time and ours may differ, where both are S3's."""
KINDS: Mapping[str, Kind] = {kind.name: kind for kind in (REPLICATE, VERIFY)}
"""Job → the kind of work, for the jobs of a repair or a night, in order."""


async def await_later_second(ledger: Ledger, report: Mapping[str, Any]) -> None:
    """Wait for a second of S3's after the lists of a comparison.

    What was found and what was mended in one second is found: the state lets the worse one win.
    """
    newest = max(parse_time(report[side]["created_at"]) for side in ("source", "destination"))
    seconds = newest + 1 - server_time(ledger.store)
    await asyncio.sleep(min(max(seconds, 0.0), CLOCK_SECONDS))


async def plan(
    request: Request, ledger: Ledger, settings: Settings, executor: str | None, display: Display, scratch: ExitStack
) -> Planned:
    """Plan a run of a repair or a night where it will work, and try its conditions. `scratch` discards it."""
    copies, own_settings = request.job == REPLICATE.name, await planning_settings(executor, settings, request)
    planned = await launch.plan_run(request, ledger, own_settings, display, copies=copies)
    scratch.callback(planned.discard)
    async with AsyncExitStack() as behind:
        return await launch.try_conditions(planned, KINDS[request.job].writes(planned.spec), behind)


async def repair(
    spec: RunSpec,
    maps: PrefixMap,
    ledger: Ledger,
    settings: Settings,
    limits: tuple[float | None, int | None],
    executor: str | None,
    display: Display,
    agreed: Mapping[str, bool],
) -> tuple[list[dict[str, Any]], int]:
    """Replicate the rows of `repair.parquet` of a reconcile run, then verify them → the reports, and
    the first exit code that is not 0.

    The first run that does not come to its end is the last one. `limits`: the most dollars and objects of
    all runs together. `agreed`: the option `--unguarded`, if the user gave it. Raises LimitExceeded
    before anything is copied, and ConfigError for a server that ignores conditions.
    """
    reports, code = list[dict[str, Any]](), 0
    with ExitStack() as scratch:
        how = ledger, settings, executor, display
        runs = [await plan(request, *how, scratch) for request in _requests(spec, maps, ledger, agreed)]
        launch.check_limits(runs, *limits)
        for run in runs:
            await launch.publish(run, ledger)
            report, own, _ = await work(run.spec, run.plan, *how, KINDS[run.spec.job])
            reports.append(report)
            code = code or own
            if report["state"] != RunState.COMPLETE:  # as after Ctrl-C: nothing more is begun
                break
    return reports, code


def _requests(spec: RunSpec, maps: PrefixMap, ledger: Ledger, agreed: Mapping[str, bool]) -> Iterator[Request]:
    """The copies of each mapped prefix, then their verification."""
    for job in KINDS:
        for pair in maps.pairs:
            sides = zip((spec.source, spec.destination), pair, strict=True)
            source, destination = (replace(side, location=side.location._replace(key=key)) for side, key in sides)
            yield Request(
                job=job,
                source=source,
                destination=destination,
                manifest=ledger.uri(spec.run_id, REPAIR),
                selection=Selection(versions=spec.options["versions"], prefix=pair[0]),
                options={"all_versions": spec.options["versions"] == "all", "deep": False, **agreed},
                retry_of=spec.run_id,
            )
