"""Work at a published run: where it belongs, from where it is, to its report."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from types import MappingProxyType
from typing import Any, NamedTuple

from jobs.aws.batch import ChildFailure
from jobs.aws.batch_arrays import Submission
from jobs.config import Settings
from jobs.core.display import Display
from jobs.core.run import Plan, RunSpec, RunState, continuation
from jobs.errors import Conflict, ExitCode, Interrupted, SealiftError, Unavailable
from jobs.ledger.ledger import Checkpoint, Ledger
from jobs.ledger.uploads import unfinished_uploads
from jobs.reports.document import exit_code, summarize
from jobs.reports.publish import PAGE, publish
from jobs.runs import batch_executor
from jobs.runs.batch_executor import DETACHED, is_batch
from jobs.runs.kind import Kind
from jobs.runs.local_executor import WorkHere, execute, is_worked_here
from jobs.s3.retries import promptly, together
from jobs.s3.sessions import side_store
from jobs.s3.uploads import ABORTS_AT_ONCE, abort_unfinished

SUBMITTED = "submitted"
"""The state of a run that nobody waits for."""


class Ended(NamedTuple):
    """A run that can do no more here: its report, its exit code, and why children in AWS Batch failed."""

    report: dict[str, Any]
    code: int
    failures: Sequence[ChildFailure] = ()


async def work(
    spec: RunSpec,
    plan: Plan,
    ledger: Ledger,
    settings: Settings,
    executor: str | None,
    display: Display,
    kind: Kind,
    work_here: WorkHere | None = None,
) -> Ended:
    """Work through the published plan of a run without a report where it belongs, from where it is, to its end.

    Where nobody waits for it, the report only says which jobs have it. `work_here`: see `execute`.
    """
    codes: Mapping[int, int] = {}
    if plan.open_shards:
        if not is_batch(executor, settings):
            working = execute(spec, plan, ledger, settings, display, work_here)
            page = asyncio.to_thread(import_module, "jobs.reports.html.page")  # it takes a while to load
            codes, _ = await together(working, page)
        else:
            # a waiting parent must not be its child's dependency (deadlock)
            after = settings.batch_job_id if executor == DETACHED else None
            submitted = await batch_executor.submit(ledger, spec, plan, settings, display, after)
            if submitted is not None and executor == DETACHED:
                jobs = {"run_id": spec.run_id, "job": spec.job, "jobs": dict(submitted.job_ids), "state": SUBMITTED}
                return Ended(jobs, int(ExitCode.DONE))
            if submitted is not None:
                return await follow(submitted.submission, spec, plan, ledger, display, kind)
    return await end(spec, plan, ledger, kind, codes)


async def follow(
    submission: Submission, spec: RunSpec, plan: Plan, ledger: Ledger, display: Display, kind: Kind
) -> Ended:
    """Follow a run in AWS Batch to its end. Raises Interrupted on SIGTERM or Ctrl-C, and the run itself continues."""
    codes, failures = await batch_executor.follow(submission, spec, plan, ledger, display)
    return await end(spec, plan, ledger, kind, codes, failures=failures)


async def conclude(
    spec: RunSpec, plan: Plan, ledger: Ledger, codes: Mapping[int, int], kind: Kind, checkpoints: Sequence[Checkpoint]
) -> dict[str, Any]:
    """Fold the outcomes in these checkpoints into the run's report.

    Publish it when every row is accounted for. The first report to be published wins.
    """
    from jobs.ledger.state_files import compact_if_due
    from jobs.runs.folding import fold_run, write_late_verdicts  # DuckDB loads here

    folded, finished_at = await fold_run(ledger, spec.run_id, plan, checkpoints, spec), time.time()
    if plan.open_rows and folded.finished_at:  # S3's dates have seconds, and the fold may come later
        finished_at = min(finished_at, folded.finished_at + 1.0)
    broken = [code for code in codes.values() if code not in (ExitCode.DONE, ExitCode.TRANSIENT, ExitCode.TAKEN_OVER)]
    is_complete = folded.rows == plan.rows
    state = RunState.COMPLETE if is_complete else RunState.FAILED if broken else RunState.INCOMPLETE
    failures = None
    if is_complete and folded.failures_parquet:
        failures = await ledger.write_failures(spec.run_id, folded.failures_parquet, folded.failures_csv)
    report = summarize(
        spec,
        plan,
        state,
        finished_at=finished_at,
        **folded.sums,
        worked_seconds=round(max(0.0, finished_at - folded.began_at), 3) if folded.began_at else 0.0,
        exit_codes=sorted(set(codes.values())),
        failures_manifest=failures,
        report=ledger.uri(spec.run_id, "report.json") if is_complete else None,
        report_html=ledger.uri(spec.run_id, PAGE) if is_complete else None,
        ledger=str(ledger.location),
        **(await kind.report_details(ledger, spec, plan) if is_complete and kind.report_details else {}),
    )
    if is_complete:
        if report["failures"]:
            report["next_steps"] = kind.hints(report)
        report, _ = await together(publish(ledger, spec, report, folded.listed), _abort_uploads(spec, ledger, kind))
        # A checkpoint that comes from now on sees the report, and its worker adds it.
        there, _ = await together(ledger.checkpoints(spec.run_id, plan=plan), compact_if_due(ledger, spec.run_id))
        await write_late_verdicts(ledger, spec, [each for each in there if each not in folded.checkpoints])
    return report


async def _abort_uploads(spec: RunSpec, ledger: Ledger, kind: Kind) -> None:
    """Abort what the run's attempts have left. What cannot be aborted is left to the bucket's lifecycle rule."""
    with suppress(SealiftError):
        if kind.writes(spec) and (left := await unfinished_uploads(ledger, spec.run_id)):
            async with side_store(spec.destination, max_in_flight=ABORTS_AT_ONCE) as store:
                await abort_unfinished(store, left, spec.destination.location)


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
        look = promptly(lambda: ledger.report(spec.run_id), "the run", lambda: ledger.location)
        report, there = await together(look, ledger.checkpoints(spec.run_id, plan=plan), ends_early=True)
        if report is None:
            report = await conclude(spec, plan, ledger, codes, kind, there)
        elif codes and is_worked_here(spec, plan):  # another command's, which may have come before our checkpoints
            from jobs.runs.folding import write_late_verdicts

            await write_late_verdicts(ledger, spec, there)
    except (Unavailable, Conflict) as error:
        again = f"when it answers again, continue with: {continuation(spec.run_id)}"
        raise Interrupted(error.what, advice=again) from error
    worst = max((code for code in codes.values() if code in (1, 2, 10)), default=0)
    return Ended(report, worst if report["state"] == "failed" and worst else int(exit_code(report)), failures)
