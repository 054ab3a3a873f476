"""Launch of a run: plan it, publish it, execute it on this machine, conclude it.

Before a run is published, the conditions of its writes are tried at the destination, since its server may ignore them
(`jobs.s3.condition_trial`). Then the run is refused, unless the user agreed that a write by others may be replaced.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from jobs.config import Settings
from jobs.core.display import Display, Meter
from jobs.core.model import Route
from jobs.core.pace import watch_seconds
from jobs.core.pricing import PricedWork, own_prices, part_rule
from jobs.core.request_log import REQUESTS
from jobs.core.run import (
    UNSIZED_ROWS,
    WITHOUT_CONDITIONS,
    Plan,
    RunSpec,
    RunState,
    continuation,
    is_destructive,
    worker_pins,
)
from jobs.credentials import lend
from jobs.errors import Conflict, Denied, ExitCode, Interrupted, LimitExceeded, SealiftError, Unavailable
from jobs.interrupts import stopped_by_signals
from jobs.ledger.ledger import Checkpoint, Ledger
from jobs.ledger.one_bucket import check_ledger_apart, warning_of_one
from jobs.ledger.owner import claim_run
from jobs.ledger.uploads import unfinished_uploads
from jobs.reports.document import exit_code, summarize
from jobs.reports.figures import human_dollars
from jobs.reports.publish import PAGE
from jobs.reports.publish import publish as publish_report
from jobs.runs.progress import find_progress
from jobs.runs.request import Draft, Planned, Request, check_sides, drafting, manifest_rows, outcomes_name
from jobs.s3.condition_trial import find_ignored, ignored_error, untried_error
from jobs.s3.operations import Operation
from jobs.s3.retries import gather_bounded
from jobs.s3.sessions import open_side
from jobs.s3.store import server_time
from jobs.s3.uploads import ABORTS_AT_ONCE, abort_unfinished
from jobs.tables.rows import PLANNED

if TYPE_CHECKING:
    import pyarrow as pa

    from jobs.aws.batch import ChildFailure
    from jobs.runs.kind import Kind
    from jobs.runs.worker import Stops

UPLOADS = 8
HERE_ROWS = 250
HERE_BYTES = 64 * 1024**2
"""The largest run whose worker is no process of its own."""
WATCH_SECONDS, LEDGER_SHARE = 2.0, 0.015
"""The pause between two looks at what the workers have done: at least so long, and a share of the time so far.
A look lists all checkpoints."""
RowsPreparer = Callable[
    ["AsyncIterator[pa.RecordBatch]", Request, Route, Ledger, Draft, Display],
    Coroutine[Any, Any, "tuple[AsyncIterator[pa.RecordBatch], dict[str, Any]]"],
]
"""Adds to the rows of a manifest what a kind of work knows of them.

Returns the rows, and options for the run's spec.
"""


ReportDetails = Callable[[Ledger, RunSpec, Plan], Awaitable[dict[str, Any]]]
"""What the report of a complete run says besides its counts."""


async def no_details(ledger: Ledger, spec: RunSpec, plan: Plan) -> dict[str, Any]:
    """Nothing."""
    return {}


async def plan_run(
    request: Request,
    ledger: Ledger,
    settings: Settings,
    display: Display,
    *,
    copies: bool,
    prepare: RowsPreparer | None = None,
    lists_copies: Callable[[RunSpec], bool] = lambda spec: False,
) -> Planned:
    """Plan a run over copies: read and filter the manifest, cut it into shards, price it.

    `copies`: the run writes to the destination, else it compares. `lists_copies`: whether a run's
    destination is listed, so that rows whose copies are there are done with the plan. Raises
    ManifestError, ConfigError, UsageError, …
    """
    from jobs.runs.planning import forecast, plan_rows
    from jobs.runs.there import Copies

    with drafting(request) as draft:
        source, description, batches = await manifest_rows(request, ledger, draft)
        all_versions = bool(request.options.get("all_versions"))
        source, draft.destination = await check_sides(source, draft.destination, all_versions=all_versions)
        if warning := await warning_of_one(source, request.destination):
            display.say(warning)
        extra: dict[str, Any] = {}
        if prepare is not None:
            route = Route(source.location, request.destination.location)
            batches, extra = await prepare(batches, request, route, ledger, draft, display)
        spec = draft.spec(description, extra | draft.ways(source), source)
        work = PricedWork.of(spec, is_copying=copies)
        lists, packed = lists_copies(spec), None
        if request.options.get("packed"):
            from jobs.runs.packed import PackedCopies

            packed = PackedCopies.of(request.options, ledger)
        now = partial(server_time, ledger.store)
        planned = await plan_rows(
            batches,
            request.selection,
            write_shard=draft.write_shard,
            scratch_directory=draft.scratch,
            rows_per_shard=settings.rows_per_shard,
            processes=settings.processes,
            copies=Copies(spec, draft.write_outcomes, packed, lists, now) if lists or packed else None,
            **part_rule(work)._asdict(),
        )
        prices = own_prices()
        if unsized := planned.histogram.unsized_rows:
            spec = replace(spec, options={**spec.options, UNSIZED_ROWS: unsized})
        return draft.planned(spec, forecast(planned, work, settings.processes, prices))


def check_limits(runs: Sequence[Planned], max_cost: float | None, max_objects: int | None) -> None:
    """Check all runs of a command together, before any of them is published.

    Their costs add up, and so do the objects of runs of one kind. A run that verifies what another
    one copies has the same objects. Raises LimitExceeded for what is larger or dearer than the
    limits allow.
    """
    rows = Counter[str]()
    for run in runs:
        rows[run.spec.job] += run.plan.rows
    objects, dollars = max(rows.values(), default=0), sum(run.plan.total_dollars for run in runs)
    if max_objects is not None and objects > max_objects:
        raise LimitExceeded(
            f"the plan has {objects:,} objects, --max-objects allows {max_objects:,}", advice="filter or raise it"
        )
    if max_cost is not None and dollars > max_cost:
        raise LimitExceeded(
            f"the plan costs about {human_dollars(dollars)}, --max-cost allows {human_dollars(max_cost)}",
            advice="filter or raise it",
        )


async def try_conditions(planned: Planned, operations: Sequence[Operation]) -> Planned:
    """The plan, whose spec names the operations on which the destination ignores conditions (`WITHOUT_CONDITIONS`).

    Raises ConfigError if there are any, or if that cannot be found out, unless the user agreed. Raises StoreError.
    """
    if not operations or not planned.plan.open_rows:
        return planned
    spec, place = planned.spec, planned.spec.destination.location
    is_agreed, ignored = bool(spec.options.get(WITHOUT_CONDITIONS)), list(operations)
    store = open_side(spec.destination, max_in_flight=4)
    try:
        ignored = await find_ignored(store, place, operations)
    except Denied as error:
        if not is_agreed:
            raise untried_error(place, error) from error
    finally:
        await store.close()
    if ignored and not is_agreed:
        raise ignored_error(place, ignored)
    return replace(planned, spec=replace(spec, options={**spec.options, WITHOUT_CONDITIONS: ignored}))


async def publish(planned: Planned, ledger: Ledger) -> None:
    """Write spec, shards and, last, the plan into the ledger. With the plan the run exists.

    Raises UsageError if a side shows the ledger under another name.
    """
    await ledger.create(planned.spec)
    await check_ledger_apart(planned.spec, ledger)

    plan, run_id = planned.plan, planned.spec.run_id

    async def upload(number: int) -> None:
        data = (planned.scratch / f"{number:05d}.parquet").read_bytes()
        await ledger.write_shard(run_id, number, data)
        if number not in plan.open_shards:
            rows, size_bytes = plan.shards[number].rows, plan.shards[number].size_bytes
            data = (planned.scratch / outcomes_name(number)).read_bytes()
            await ledger.write_checkpoint(run_id, Checkpoint(number, PLANNED, 0, rows, 0, size_bytes), data)

    await gather_bounded(upload, range(len(plan.shards)), UPLOADS)
    await ledger.publish_plan(run_id, plan)


async def execute(
    spec: RunSpec,
    plan: Plan,
    ledger: Ledger,
    settings: Settings,
    display: Display,
    work_here: Callable[[int, Stops], Awaitable[int]] | None = None,
) -> dict[int, int]:
    """Run the shards on this machine and show progress. Workers of earlier owners stop.

    `work_here` is one attempt at a run with few rows, which needs no process of its own: it gets the
    number of the owner and what stops it, and returns an exit code. None: every worker is a process.
    Returns the exit code of each shard.
    """
    from jobs.runs.local_executor import ATTEMPTS, LocalExecutor, WorkerProcess
    from jobs.runs.worker import Stops

    shards = plan.open_shards
    if not shards:
        return {}
    what = "another command that works on this run"
    owner = (await claim_run(ledger, spec.run_id, what, batch_job_id=settings.batch_job_id)).number
    processes = min(settings.processes, len(shards))

    def start(shard: int) -> WorkerProcess:
        # -P: not the `jobs` of the folder that the command was called in
        debug = ["--debug"] if REQUESTS.sink else []
        program = [sys.executable, "-P", "-m", "jobs", *debug, "worker", spec.run_id]
        started = ["--owner", str(owner), "--workers", str(processes), "--ledger", str(ledger.location)]
        return WorkerProcess([*program, "--shard", str(shard), *started, *worker_pins(spec, plan)], lend)

    executor, stops = LocalExecutor(start, processes), Stops()

    def stop() -> None:
        if not stops.is_stopped:
            display.say("stopping: the workers write what they have done first")
        stops.stop()
        executor.stop()

    async def show(shown: Meter) -> None:
        began = time.monotonic()
        while True:
            await asyncio.sleep(max(WATCH_SECONDS, watch_seconds(time.monotonic() - began, LEDGER_SHARE)))
            with suppress(SealiftError, OSError):  # the ledger is away, or nobody reads it
                shown.update(*await find_progress(ledger, spec.run_id, plan))

    with display.meter(spec.job, plan.rows) as shown, stopped_by_signals(stop):
        showing, code = asyncio.create_task(show(shown)), int(ExitCode.TRANSIENT)
        try:
            if work_here is None or not is_worked_here(spec, plan):
                return await asyncio.to_thread(executor.run, shards)
            for _ in range(ATTEMPTS):
                if code != ExitCode.TRANSIENT or stops.is_stopped:
                    break
                code = await work_here(owner, stops)
            return {0: code}
        finally:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)


def is_worked_here(spec: RunSpec, plan: Plan) -> bool:
    """Whether the rows are too few for a worker's own process, which takes a quarter of a second of
    CPU to start.

    What deletes has a process, whose command line says what may be deleted.
    """
    first = plan.shards[0] if len(plan.open_shards) == 1 else None
    is_small = first is not None and first.rows <= HERE_ROWS and first.size_bytes <= HERE_BYTES
    return is_small and not is_destructive(spec)


async def conclude(
    spec: RunSpec,
    plan: Plan,
    ledger: Ledger,
    codes: Mapping[int, int],
    kind: Kind,
) -> dict[str, Any]:
    """Fold the outcomes into the run's report.

    Publish it when every row is accounted for. The first report to be published wins.
    """
    from jobs.runs.folding import fold_run, write_late_verdicts

    folded, finished_at = await fold_run(ledger, spec.run_id, plan, spec), time.time()
    if plan.open_rows and folded.finished_at:  # S3's dates have seconds, and the fold may come later
        finished_at = min(finished_at, folded.finished_at + 1.0)
    broken = [code for code in codes.values() if code not in (ExitCode.DONE, ExitCode.TRANSIENT, ExitCode.TAKEN_OVER)]
    state = RunState.FAILED if broken else RunState.INCOMPLETE
    if folded.rows == plan.rows:
        state = RunState.COMPLETE
    is_complete = state is RunState.COMPLETE
    failures = None
    if is_complete and folded.failures:
        failures = await ledger.write_failures(spec.run_id, folded.failures_parquet, folded.failures_csv)
    report = summarize(
        spec,
        plan,
        state,
        folded.outcomes,
        folded.size_bytes,
        finished_at,
        outcome_bytes=folded.outcome_bytes,
        evidence=folded.evidence,
        worked_seconds=round(max(0.0, finished_at - folded.began_at), 3) if folded.began_at else 0.0,
        reasons=folded.reasons,
        attempts=folded.attempts,
        exit_codes=sorted(set(codes.values())),
        failures_manifest=failures,
        report=ledger.uri(spec.run_id, "report.json") if is_complete else None,
        report_html=ledger.uri(spec.run_id, PAGE) if is_complete else None,
        ledger=str(ledger.location),
        **(await kind.report_details(ledger, spec, plan) if is_complete else {}),
    )
    if is_complete:
        if kind.writes(spec):
            await _abort_uploads(spec, ledger)
        if report["failures"]:
            report["next_steps"] = kind.hints(report)
        report = await publish_report(ledger, spec, report, folded.listed)
        # A checkpoint that comes from now on sees the report, and its worker adds it.
        late = [each for each in await ledger.checkpoints(spec.run_id, plan=plan) if each not in folded.checkpoints]
        await write_late_verdicts(ledger, spec, late)
    return report


async def _abort_uploads(spec: RunSpec, ledger: Ledger) -> None:
    """Abort what the run's attempts have left. What cannot be aborted is left to the bucket's lifecycle rule."""
    with suppress(SealiftError):
        if left := await unfinished_uploads(ledger, spec.run_id):
            store = open_side(spec.destination, max_in_flight=ABORTS_AT_ONCE)
            try:
                await abort_unfinished(store, left, spec.destination.location)
            finally:
                await store.close()


class Ended(NamedTuple):
    """A run that can do no more here: its report, its exit code, and why children in AWS Batch failed."""

    report: dict[str, Any]
    code: int
    failures: Sequence[ChildFailure] = ()


async def end(
    spec: RunSpec,
    plan: Plan,
    ledger: Ledger,
    kind: Kind,
    codes: Mapping[int, int] = MappingProxyType({}),
    *,
    failures: Sequence[ChildFailure] = (),
) -> Ended:
    """The end of a run whose workers have ended. The report that is there counts, else it is made now.

    `codes`: of the workers. The worst of them is the exit code where workers broke and rows are left.
    Raises Interrupted if the ledger does not answer.
    """
    try:
        report = await ledger.report(spec.run_id)
        report = report or await conclude(spec, plan, ledger, codes, kind)
    except (Unavailable, Conflict) as error:
        again = f"when it answers again, continue with: {continuation(spec.run_id)}"
        raise Interrupted(error.what, advice=again) from error
    worst = max((code for code in codes.values() if code in (1, 2, 10)), default=0)
    return Ended(report, worst if report["state"] == "failed" and worst else int(exit_code(report)), failures)
