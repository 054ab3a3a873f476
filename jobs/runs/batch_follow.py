"""Runs in AWS Batch: submit, follow, cancel and describe them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from jobs.aws.batch import Batch, ChildFailure, JobState
from jobs.aws.batch_arrays import WORK, make_submission
from jobs.config import Settings
from jobs.core.display import Display
from jobs.core.pace import watch_seconds
from jobs.core.run import Plan, RunSpec, continuation, worker_pins
from jobs.errors import ConfigError, Interrupted, StoreError, UsageError
from jobs.interrupts import stopped_by_signals
from jobs.ledger.ledger import Ledger
from jobs.runs import launch
from jobs.runs.batch_executor import BatchExecutor, Submitted, exit_codes
from jobs.runs.kind import Kind
from jobs.runs.placement import check_placement, choose_placement
from jobs.runs.progress import find_progress, unfinished_shards

BATCH_SHARE = 0.25
"""The pause between two looks at what has ended in Batch, as a share of the time so far."""
FORGOTTEN_SECONDS = 60.0
"""After so long, Batch has forgotten a job that it does not know.

Before, it may not know it yet.
"""
SHOWN_FAILURES = 10


async def submit(
    ledger: Ledger, spec: RunSpec, plan: Plan, settings: Settings, display: Display, after: str | None = None
) -> Submitted | None:
    """Send the shards of a run that has no report to Batch. None when all of its rows are accounted for.

    Jobs that are at work, or whose submission is incomplete, are found, unless they were cancelled.
    Otherwise the remaining shards are submitted. `after`: the job that has to succeed first.
    """
    executor = BatchExecutor(ledger, Batch())
    last = await executor.latest(spec.run_id)
    if last is not None and not await executor.is_superseded(last.submission):
        states = await executor.states(last)
        is_at_work = any(not state.has_ended for state in states.values())
        if not last.is_whole and (is_at_work or not last.job_ids):
            placement = choose_placement(settings, spec.job)
            return await executor.submit(replace(last.submission, placement=placement), worker_pins(spec, plan))
        if is_at_work:
            display.say(f"run {spec.run_id} is at work in Batch already: following it")
            return last
    shards = await unfinished_shards(ledger, spec.run_id, plan)
    if not shards:
        return None
    placement = choose_placement(settings, spec.job)
    await check_placement(placement, spec.source, spec.destination)
    number = last.submission.number + 1 if last else 0
    submission = make_submission(spec.run_id, number, placement, shards, str(ledger.location), after)
    return await executor.submit(submission, worker_pins(spec, plan))


async def follow(
    submitted: Submitted,
    spec: RunSpec,
    plan: Plan,
    ledger: Ledger,
    display: Display,
    kind: Kind,
) -> launch.Ended:
    """Show a run's progress until all rows are accounted for, or none of its jobs can do more.

    The report's own job makes its report for those who do not wait, and for large runs. The first
    report to be published wins. Raises Interrupted on SIGTERM or Ctrl-C, and the run
    itself continues.
    """
    executor = BatchExecutor(ledger, Batch())
    began = changed_at = ask_at = time.monotonic()
    states: Mapping[str, JobState] = {}
    last_stage = (0, False)
    with display.meter(spec.job, plan.rows) as shown, _signalled() as signalled:
        while True:
            progress, now = await find_progress(ledger, spec.run_id, plan), time.monotonic()
            shown.update(*progress)
            is_accounted = progress.rows == plan.rows
            if is_accounted or now >= ask_at:
                states = await executor.states(submitted)
                ask_at = now + watch_seconds(now - changed_at, BATCH_SHARE)
            ended = sum(state.has_ended for state in states.values())
            is_known = len(states) == len(submitted.job_ids) or now - began >= FORGOTTEN_SECONDS
            if (is_known and ended == len(states)) or (is_accounted and await _is_reportable(states, spec, ledger)):
                break
            if (stage := (ended, is_accounted)) != last_stage:
                changed_at, last_stage = now, stage  # the report's job may still take a moment
            share = BATCH_SHARE if is_accounted else launch.LEDGER_SHARE
            await _pause(spec.run_id, watch_seconds(now - changed_at, share), signalled)
    failures = []
    if WORK in states and states[WORK].status == "FAILED":
        failures = await executor.failures(submitted)
    return await launch.end(spec, plan, ledger, kind, exit_codes(states, failures), failures=failures)


async def _is_reportable(states: Mapping[str, JobState], spec: RunSpec, ledger: Ledger) -> bool:
    """True if a run with an outcome for each row has its report, or its workers are done."""
    is_done = WORK in states and states[WORK].status == "SUCCEEDED"
    return is_done or await ledger.report(spec.run_id) is not None


async def _pause(run_id: str, seconds: float, signalled: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(signalled.wait(), seconds)
        raise Interrupted(
            f"run {run_id} continues in Batch",
            advice=f"follow it with sealift runs show {run_id} --follow, end it with sealift runs cancel {run_id}",
        )


@contextlib.contextmanager
def _signalled() -> Iterator[asyncio.Event]:
    """An event that SIGTERM and Ctrl-C set while the block runs."""
    event = asyncio.Event()
    with stopped_by_signals(event.set):
        yield event


async def cancel(ledger: Ledger, run_id: str) -> Submitted:
    """Stop the run's workers and terminate its jobs.

    Raises UsageError for a run that is not in Batch.
    """
    executor = BatchExecutor(ledger, Batch())
    submitted = await executor.latest(run_id)
    if submitted is None:
        raise UsageError(
            f"run {run_id} was not sent to Batch",
            advice=f"stop the command that runs it with Ctrl-C or SIGTERM, then continue with: {continuation(run_id)}",
        )
    await executor.cancel(submitted, f"cancelled by sealift runs cancel {run_id}")
    return submitted


async def describe(ledger: Ledger, run_id: str) -> dict[str, Any] | None:
    """What Batch and the ledger know of a run's jobs, JSON-ready.

    None for a run that was never sent there.
    """
    executor = BatchExecutor(ledger, Batch())
    submitted = await executor.latest(run_id)
    if submitted is None:
        return None
    submission, states = submitted.submission, dict[str, JobState]()
    failures: list[ChildFailure] = []
    unreachable = None
    try:
        states = await executor.states(submitted)
        if WORK in states and (states[WORK].status == "FAILED" or states[WORK].children.get("FAILED")):
            failures = await executor.failures(submitted)
    except (ConfigError, StoreError) as error:
        unreachable = str(error)
    return {
        "submission": submission.number,
        "queue": submission.placement.queue,
        "job_definition": submission.placement.job_definition,
        "shards": len(submission.shards),
        "children": submission.children,
        "jobs": {
            stage: {"job_id": job_id, "status": "unknown"} | (_job(states[stage]) if stage in states else {})
            for stage, job_id in submitted.job_ids.items()
        },
        "refused": unreachable,
        "failed_children": [asdict(failure) for failure in failures],
    }


def _job(state: JobState) -> dict[str, Any]:
    return asdict(state) | {"children": {status.lower(): count for status, count in state.children.items()}}


def batch_text(known: Mapping[str, Any]) -> str:
    """The result of `describe` as text for people."""
    lines = [
        f"  batch  submission {known['submission']}: {known['shards']:,} shards in {known['children']:,} children, "
        f"queue {known['queue']}"
    ]
    for stage, job in known["jobs"].items():
        counted = ", ".join(f"{count:,} {status}" for status, count in job.get("children", {}).items())
        why = f": {job['status_reason']}" if job.get("status_reason") else ""
        lines.append(f"  {stage}  {job['job_id']} {job['status'].lower()}{f' ({counted})' if counted else ''}{why}")
    if known["refused"]:
        lines.append(f"  Batch says nothing  {known['refused']}")
    lines += map(failure_text, known["failed_children"][:SHOWN_FAILURES])
    return "\n".join(lines)


def failure_text(failure: Mapping[str, Any]) -> str:
    """Why a child failed, in one line."""
    code = "never started" if failure["exit_code"] is None else f"exit code {failure['exit_code']}"
    reason = "; ".join(text for text in (failure["status_reason"], failure["reason"]) if text)
    log = f", log {failure['log_stream']}" if failure["log_stream"] else ""
    return f"  child {failure['index']} failed after {failure['attempts']} attempts: {reason} ({code}{log})"
