"""Runs in AWS Batch: submitting, following, cancelling and describing them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from jobs.cli import launch
from jobs.cli.console import meter, say
from jobs.cli.placement import CHILDREN, check, place
from jobs.config import Settings
from jobs.core import price
from jobs.core.arrays import WORK, Placement, spread
from jobs.core.run import Plan, RunSpec
from jobs.errors import ConfigError, Interrupted, StoreError, UsageError
from jobs.runs.batch import BatchExecutor, Submitted, describe_failure, exit_codes, unfinished_shards
from jobs.runs.ledger import Ledger
from jobs.runs.standing import find_standing
from jobs.s3.batch import Batch, ChildFailure, JobState

WATCH_SECONDS_MIN, WATCH_SECONDS_MAX = 0.2, 10.0
WATCH_SHARE = 0.03
"""How long to wait between two looks, as a part of the time since the run was submitted or one of its jobs ended."""
FORGOTTEN_SECONDS = 60.0
"""After so long, a job that Batch does not know is one that it has forgotten, not one that it has yet to learn of."""
SAID_SECONDS = 10.0
SHOWN_ERRORS = 20


def verifying(planned: launch.Planned, prices: price.PriceTable) -> launch.Planned:
    """The run that verifies, shard by shard, what another one copies. Its price takes every row for an object."""
    spec, plan = planned.spec, planned.plan
    kept = ("all_versions", "requester_pays", "streamed", "cross_region", "sample")
    options = {name: spec.options[name] for name in kept if name in spec.options} | {"deep": False, "rotate": False}
    group = price.Group("STANDARD", False, True, False, plan.rows, plan.size_bytes, plan.rows)
    histogram = price.Histogram((group,), plan.rows)
    requests = price.requests_for("verify", options, histogram)
    return replace(
        planned,
        spec=replace(
            spec,
            run_id=spec.run_id.replace(f"-{spec.job}-", "-verify-"),
            job="verify",
            options=options,
            manifest=f"the rows of {spec.run_id}",
        ),
        plan=replace(
            plan,
            requests=requests,
            dollars=price.estimate("verify", options, histogram, prices),
            price_table=prices.name,
            seconds=price.estimate_seconds(requests, 0, min(len(plan.shards), CHILDREN) or 1),
        ),
    )


async def submit(
    spec: RunSpec, plan: Plan, ledger: Ledger, placement: Placement, *, after: str | None, follows: str | None = None
) -> Submitted:
    """Send all shards of a published plan to Batch; the first submission of a run is found by a second."""
    links = {"after": after, "follows": follows}
    submission = spread(spec.run_id, 0, placement, range(len(plan.shards)), str(ledger.location), **links)
    return await BatchExecutor(ledger, Batch()).submit(submission)


async def resubmit(
    ledger: Ledger, spec: RunSpec, plan: Plan, given: Mapping[str, Any], settings: Settings
) -> Submitted | None:
    """Go on with a run that has no report; None when all of its rows are accounted for.

    Jobs that are at work, or were submitted by halves, are found; otherwise the shards that are left
    are submitted anew, where and how the last time unless the options say otherwise.
    """
    executor = BatchExecutor(ledger, Batch())
    last = await executor.latest(spec.run_id)
    if last is not None:
        states = await executor.states(last)
        is_at_work = any(not state.has_ended for state in states.values())
        if not last.is_whole and not last.refusal and (is_at_work or not last.job_ids):
            return await executor.submit(last.submission)
        if is_at_work:
            if not given["as_json"]:
                say(f"run {spec.run_id} is at work in Batch already: following it")
            return last
    shards = await unfinished_shards(ledger, spec.run_id, plan)
    if not shards:
        return None
    placement = place(given, settings, spec.job, last.submission.placement if last else None)
    await check(placement, spec.source, spec.destination)
    number = last.submission.number + 1 if last else 0
    return await executor.submit(spread(spec.run_id, number, placement, shards, str(ledger.location)))


@dataclass(frozen=True, slots=True)
class Followed:
    """A run in Batch that has ended there: its report, and why children failed, if any did."""

    report: dict[str, Any]
    failures: list[ChildFailure]
    codes: Mapping[int, int]


async def follow(submitted: Submitted, spec: RunSpec, plan: Plan, ledger: Ledger) -> Followed:
    """Show a run's progress until it has a report, or none of its jobs can make one any more.

    Raises Interrupted on SIGTERM or Ctrl-C: the run itself goes on.
    """
    executor = BatchExecutor(ledger, Batch())
    began = turned = last_said = time.monotonic()
    last_summary, ended = "", 0
    with meter(spec.job, plan.rows) as shown, _signalled() as signalled:
        while True:
            report, states = await ledger.report(spec.run_id), await executor.states(submitted)
            now = time.monotonic()
            is_known = len(states) == len(submitted.job_ids) or now - began >= FORGOTTEN_SECONDS
            if report is not None or (is_known and all(state.has_ended for state in states.values())):
                break
            if (count := sum(state.has_ended for state in states.values())) != ended:
                turned, ended = now, count  # what follows it may take a moment only
            shown.update(*await find_standing(ledger, spec.run_id, plan))
            summary = state_text(states.get(WORK))
            if summary != last_summary and now - last_said >= SAID_SECONDS:
                last_said, last_summary = now, summary
                say(f"{spec.job}: {summary}")
            pause = min(WATCH_SECONDS_MAX, max(WATCH_SECONDS_MIN, WATCH_SHARE * (now - turned)))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(signalled.wait(), pause)
                raise Interrupted(
                    f"run {spec.run_id} goes on in Batch: follow it with sealift runs watch {spec.run_id}, "
                    f"end it with sealift runs cancel {spec.run_id}"
                )
    failures = []
    if WORK in states and states[WORK].status == "FAILED":
        failures = await executor.failures(submitted)
    codes = exit_codes(states, failures)
    report = await ledger.report(spec.run_id) or await launch.conclude(spec, plan, ledger, codes)
    return Followed(report, failures, codes)


@contextlib.contextmanager
def _signalled() -> Iterator[asyncio.Event]:
    """An event that SIGTERM and Ctrl-C set while the block runs."""
    loop, event = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, event.set)
    try:
        yield event
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def cancel(ledger: Ledger, run_id: str) -> Submitted:
    """Terminate the run's jobs. Raises UsageError for a run that is not in Batch."""
    executor = BatchExecutor(ledger, Batch())
    submitted = await executor.latest(run_id)
    if submitted is None:
        raise UsageError(
            f"run {run_id} was not sent to Batch: stop the command that runs it with Ctrl-C or SIGTERM, "
            f"then go on with: sealift runs retry {run_id}"
        )
    await executor.cancel(submitted, f"cancelled by sealift runs cancel {run_id}")
    return submitted


async def describe(ledger: Ledger, run_id: str) -> dict[str, Any] | None:
    """What Batch and the ledger know of a run's jobs, JSON-ready; None for a run that was never sent there."""
    executor = BatchExecutor(ledger, Batch())
    submitted = await executor.latest(run_id)
    if submitted is None:
        return None
    states: dict[str, JobState] = {}
    failures: list[ChildFailure] = []
    unreachable = ""
    try:
        states = await executor.states(submitted)
        if WORK in states and (states[WORK].status == "FAILED" or states[WORK].children.get("FAILED")):
            failures = await executor.failures(submitted)
    except (ConfigError, StoreError) as error:
        unreachable = str(error)
    names = (await ledger.names(run_id, "errors/"))[-SHOWN_ERRORS:]
    return {
        "submission": submitted.submission.number,
        "queue": submitted.submission.placement.queue,
        "job_definition": submitted.submission.placement.job_definition,
        "shards": len(submitted.submission.shards),
        "children": submitted.submission.children,
        "jobs": {
            stage: {"job_id": job_id, **(_state(states[stage]) if stage in states else {"status": "unknown"})}
            for stage, job_id in submitted.job_ids.items()
        },
        "refused": submitted.refusal or unreachable or None,
        "failed_children": [describe_failure(failure) for failure in failures],
        "errors": [await ledger.document(run_id, f"errors/{name}") for name in names],
    }


def batch_text(known: Mapping[str, Any]) -> str:
    """What `describe` found, for people."""
    lines = [f"  batch  submission {known['submission']}: {known['shards']:,} shards in {known['children']:,} children"]
    lines[0] += f", queue {known['queue']}"
    for stage, job in known["jobs"].items():
        counted = ", ".join(f"{count:,} {status.lower()}" for status, count in job.get("children", {}).items())
        why = f": {job['status_reason']}" if job.get("status_reason") else ""
        lines.append(f"  {stage}  {job['job_id']} {job['status'].lower()}{f' ({counted})' if counted else ''}{why}")
    if known["refused"]:
        lines.append(f"  not submitted  {known['refused']}")
    lines += [failure_text(each) for each in known["failed_children"][:10]]
    lines += [f"  worker of {each['what']} said: {each['error']}" for each in known["errors"][:5]]
    return "\n".join(lines)


def failure_text(failure: Mapping[str, Any]) -> str:
    """Why a child failed, in a line."""
    code = "never started" if failure["exit_code"] is None else f"exit code {failure['exit_code']}"
    reason = "; ".join(text for text in (failure["status_reason"], failure["reason"]) if text)
    log = f", log {failure['log_stream']}" if failure["log_stream"] else ""
    return f"  child {failure['child']} failed after {failure['attempts']} attempts: {reason} ({code}{log})"


def state_text(state: JobState | None) -> str:
    """An array's children by status, in a line."""
    if state is None:
        return "not submitted"
    return ", ".join(f"{count:,} {status.lower()}" for status, count in state.children.items()) or state.status.lower()


def _state(state: JobState) -> dict[str, Any]:
    return {"status": state.status, "status_reason": state.status_reason, "children": dict(state.children)}
