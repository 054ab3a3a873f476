"""The batch executor: whether a run goes to AWS Batch, and its shards as children of array jobs there.

    <ledger>/runs/<run id>/batch/000.json    the first submission: which shards, where, how. Written before it is sent

Batch has no client token. The run's id and the submission's number name its jobs, and by their names a second caller
finds what a first one sent, whatever was lost in between. Of two jobs of one name the earlier one stays, and what both
have done by then is done once, since they work for one owner. Progress comes from the array's status summary and the
ledger's checkpoints, and no request is ever made for one child.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from msgspec.structs import asdict, replace

from jobs.aws.batch import Batch, ChildFailure, JobState
from jobs.aws.batch_arrays import (
    CHILDREN_MAX,
    STAGES,
    TERMINATED,
    WORK,
    Placement,
    Submission,
    make_submission,
    payload,
)
from jobs.config import Settings
from jobs.core.display import Display
from jobs.core.pace import watch_seconds
from jobs.core.run import Plan, RunSpec, continuation, worker_pins
from jobs.errors import ConfigError, ExitCode, Interrupted, PreconditionFailed, StoreError, UsageError
from jobs.interrupts import stopped_by_signals
from jobs.ledger.ledger import Ledger
from jobs.ledger.owner import BATCH, claim_run, last_owner
from jobs.runs.progress import find_progress, unfinished_shards
from jobs.runs.request import Request

WATCH_SHARE = 0.1
"""The pause between two looks at a run, as a share of the time so far."""
FORGOTTEN_SECONDS = 60.0
"""After so long, Batch has forgotten a job that it does not list. Before, it may not list it yet."""
DESCRIBED_FAILURES, SHOWN_FAILURES = 100, 10
"""The number of failed children that are described, by one request, and of those that a text has."""
DETACHED = "detached"
"""The executor that sends a run to AWS Batch and does not wait for it."""


class Submitted(NamedTuple):
    """A submission, and the ids of its jobs by stage."""

    submission: Submission
    job_ids: Mapping[str, str]


async def send(ledger: Ledger, batch: Batch, submission: Submission, pins: Sequence[str] = ()) -> Submitted:
    """Submit the work and the report. What any caller has submitted before is found.

    `pins` go onto each worker's command line, because the ledger must not hold them. The first
    to write the submission's document decides which shards, and a later caller continues with
    that document. Where they go is the caller's affair. Raises LedgerError, and StoreError when
    Batch refuses.
    """
    run_id, number = submission.run_id, submission.number
    try:
        await ledger.write_document(run_id, _document(number), submission.to_dict())
    except PreconditionFailed:
        first = await read_submission(ledger, run_id, number)
        submission = replace(first, placement=submission.placement)
    what = f"submission {number} to Batch"  # a cancelled submission stays cancelled
    owner = await claim_run(ledger, run_id, what, owner_id=f"{BATCH}{number:03d}")
    pins = [*pins, "--owner", str(owner.number)]
    ids: dict[str, str] = {}
    for stage in STAGES:
        request = payload(submission, stage, ids.get(WORK), pins, Settings.inherited())
        job_id = await asyncio.to_thread(batch.submit, request, is_new=False)
        earliest = await asyncio.to_thread(batch.find, request["jobQueue"], request["jobName"])
        ids[stage] = earliest or job_id
        if ids[stage] != job_id:
            await asyncio.to_thread(batch.terminate, job_id, f"another submission was first: {earliest}")
    return Submitted(submission, ids)


async def is_superseded(ledger: Ledger, submission: Submission) -> bool:
    """True if its workers stop, because the run was cancelled or has another owner."""
    number, document = await last_owner(ledger, submission.run_id)
    return number > 0 and document.get("id") != f"{BATCH}{submission.number:03d}"


async def last_submission(ledger: Ledger, run_id: str) -> Submission | None:
    """The run's last submission. None for a run that was never sent to Batch."""
    names = [name for name in await ledger.names(run_id, "batch/") if re.fullmatch(r"\d{3}\.json", name)]
    return await read_submission(ledger, run_id, int(max(names)[:3])) if names else None


async def find_jobs(batch: Batch, submission: Submission) -> dict[str, JobState]:
    """Its jobs by stage, as far as Batch lists them: a new one a moment late, and none after a week."""

    def find() -> dict[str, JobState]:
        found = {stage: batch.find(submission.placement.queue, submission.name(stage)) for stage in STAGES}
        states = batch.describe([job_id for job_id in found.values() if job_id])
        return {stage: states[job_id] for stage, job_id in found.items() if job_id in states}

    return await asyncio.to_thread(find)


async def find_failures(batch: Batch, jobs: Mapping[str, JobState]) -> list[ChildFailure]:
    """Why the first `DESCRIBED_FAILURES` failed children failed."""
    work = jobs.get(WORK)
    if work is None or not (work.status == "FAILED" or work.children.get("FAILED")):
        return []
    return await asyncio.to_thread(batch.failures, work.job_id, DESCRIBED_FAILURES)


async def read_submission(ledger: Ledger, run_id: str, number: int) -> Submission:
    """A submission's document.

    Raises LedgerError for the document of another run, or one that sends workers to another ledger.
    """

    def parse(document: Mapping[str, Any]) -> Submission:
        submission = Submission.from_dict(document)
        own = submission.run_id, submission.number, submission.ledger
        if own != (run_id, number, str(ledger.location)) or not 0 < submission.children <= CHILDREN_MAX:
            raise ValueError(f"{submission.children} children for run {own[0]}, submission {own[1]}, in {own[2]}")
        return submission

    return await ledger.read(run_id, _document(number), parse)


def exit_codes(states: Mapping[str, JobState], failures: Sequence[ChildFailure]) -> dict[int, int]:
    """Map each failed child to a Sealift exit code.

    A container that never started, or ran out of memory, is a matter of configuration: a retry as
    it is will not help.
    """
    codes = {failure.index: _exit_code(failure) for failure in failures}
    work = states.get(WORK)
    if work is not None and work.status == "FAILED" and not codes:
        codes[0] = int(ExitCode.TRANSIENT)
    return codes


def _exit_code(failure: ChildFailure) -> int:
    if failure.reason.startswith("OutOfMemory") or failure.status_reason.startswith("Task failed to start"):
        return int(ExitCode.CONFIG)
    return int(ExitCode.TRANSIENT) if failure.exit_code in (None, TERMINATED) else failure.exit_code


def _document(number: int) -> str:
    """The name of a submission's document."""
    return f"batch/{number:03d}.json"


def is_batch(executor: str | None, settings: Settings) -> bool:
    """True if the run goes to AWS Batch. `executor`: what the command line says, None for the settings."""
    return (executor or settings.executor) != "local"


def choose_placement(settings: Settings, job: str) -> Placement:
    """Choose the queue and the job definition of a run, which decide under which role its jobs run.

    They come from the settings, never from the ledger. `{job}` in the name of a job definition becomes
    the run's job, so that each has a role of its own. Raises UsageError.
    """
    queue, definition = settings.batch_queue, settings.batch_job_definition
    if not queue:
        raise UsageError("no job queue", advice="set SEALIFT_BATCH_QUEUE")
    if not definition:
        raise UsageError("no job definition", advice="set SEALIFT_BATCH_JOB_DEFINITION")
    return Placement(queue, definition.replace("{job}", job), settings.system)


async def check_placement(settings: Settings, run: Request | RunSpec) -> Placement:
    """Choose a run's placement, and check that queue and job definition exist, and that containers reach both sides.

    Raises ConfigError and UsageError.
    """
    placement = choose_placement(settings, run.job)
    for side in (run.source, run.destination):
        if side is not None and side.profile:
            raise UsageError(
                f"{side.location} is reached by the profile {side.profile!r} of this machine, which containers do not "
                "have",
                advice="give the job definition a role that may reach both sides",
            )
    batch = Batch()
    await asyncio.to_thread(batch.check_queue, placement.queue)
    await asyncio.to_thread(batch.check_definition, placement.job_definition)
    return placement


async def planning_settings(executor: str | None, settings: Settings, request: Request) -> Settings:
    """The settings to plan with. For AWS Batch its placement is checked, and a run has as many workers as children."""
    if not is_batch(executor, settings):
        return settings
    await check_placement(settings, request)
    return replace(settings, executor="batch", processes=settings.batch_processes)


async def submit(
    ledger: Ledger, spec: RunSpec, plan: Plan, settings: Settings, display: Display, after: str | None = None
) -> Submitted | None:
    """Send the shards of a run that has no report to Batch. None when all of its rows are accounted for.

    Jobs that are at work are found, unless they were cancelled. Otherwise the remaining shards are
    submitted. `after`: the job that has to succeed first.
    """
    batch, pins, last = Batch(), worker_pins(spec, plan), await last_submission(ledger, spec.run_id)
    if last is not None and not await is_superseded(ledger, last):
        jobs = await find_jobs(batch, last)
        if any(not state.has_ended for state in jobs.values()):
            if len(jobs) < len(STAGES):  # who sent them died, or the list is late
                return await send(ledger, batch, replace(last, placement=choose_placement(settings, spec.job)), pins)
            display.say(f"run {spec.run_id} is at work in Batch already: following it")
            return Submitted(last, {stage: state.job_id for stage, state in jobs.items()})
    shards = await unfinished_shards(ledger, spec.run_id, plan)
    if not shards:
        return None
    placement, number = await check_placement(settings, spec), last.number + 1 if last else 0
    submission = make_submission(spec.run_id, number, placement, shards, str(ledger.location), after)
    return await send(ledger, batch, submission, pins)


async def follow(
    submission: Submission, spec: RunSpec, plan: Plan, ledger: Ledger, display: Display
) -> tuple[dict[int, int], list[ChildFailure]]:
    """Show a run's progress until all rows are accounted for, or none of its jobs can do more.

    Returns the exit codes of children that failed, and why they did. The report's own job makes its
    report for those who do not wait, and for large runs. Raises Interrupted on SIGTERM or Ctrl-C, and
    the run itself continues.
    """
    batch, signalled, began = Batch(), asyncio.Event(), time.monotonic()
    with display.meter(spec.job, plan.rows) as shown, stopped_by_signals(signalled.set):
        while True:
            progress = await find_progress(ledger, spec.run_id, plan)
            shown.update(*progress)
            jobs, now, is_accounted = await find_jobs(batch, submission), time.monotonic(), progress.rows == plan.rows
            ended = sum(state.has_ended for state in jobs.values())
            is_known = len(jobs) == len(STAGES) or now - began >= FORGOTTEN_SECONDS
            is_done = WORK in jobs and jobs[WORK].status == "SUCCEEDED"
            is_reportable = is_accounted and (is_done or await ledger.report(spec.run_id) is not None)
            if is_reportable or (is_known and ended == len(jobs)):
                break
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(signalled.wait(), watch_seconds(now - began, WATCH_SHARE))
                to_follow, to_end = f"sealift runs show {spec.run_id} --follow", f"sealift runs cancel {spec.run_id}"
                advice = f"follow it with {to_follow}, end it with {to_end}"
                raise Interrupted(f"run {spec.run_id} continues in Batch", advice=advice)
    failures = await find_failures(batch, jobs)
    return exit_codes(jobs, failures), failures


async def cancel(ledger: Ledger, run_id: str) -> dict[str, str]:
    """End the run's jobs. Returns their ids by stage.

    Workers write a checkpoint on the way, so the run can continue later. The ledger records it first: a worker
    whose termination is lost, or that has yet to start, reads it there. Raises UsageError for a run
    that is not in Batch.
    """
    batch, submission = Batch(), await last_submission(ledger, run_id)
    if submission is None:
        raise UsageError(
            f"run {run_id} was not sent to Batch",
            advice=f"stop the command that runs it with Ctrl-C or SIGTERM, then continue with: {continuation(run_id)}",
        )
    await claim_run(ledger, run_id, "sealift runs cancel")
    jobs = await find_jobs(batch, submission)
    for stage in reversed(jobs):
        reason = f"cancelled by sealift runs cancel {run_id}"
        await asyncio.to_thread(batch.terminate, jobs[stage].job_id, reason)
    return {stage: state.job_id for stage, state in jobs.items()}


async def describe(ledger: Ledger, run_id: str) -> tuple[dict[str, Any], str] | None:
    """What Batch and the ledger know of a run's jobs, JSON-ready and as text for people.

    None for a run that was never sent there.
    """
    batch, submission = Batch(), await last_submission(ledger, run_id)
    if submission is None:
        return None
    jobs, failures, refused = dict[str, JobState](), list[ChildFailure](), None
    try:
        jobs = await find_jobs(batch, submission)
        failures = await find_failures(batch, jobs)
    except (ConfigError, StoreError) as error:
        refused = str(error)
    number, (queue, definition, _) = submission.number, submission.placement
    shards, in_all = len(submission.shards), submission.children
    about = {"submission": number, "queue": queue, "job_definition": definition, "shards": shards, "children": in_all}
    lines = [f"  batch  submission {number}: {shards:,} shards in {in_all:,} children, queue {queue}"]
    for stage, state in jobs.items():
        counted = ", ".join(f"{count:,} {status.lower()}" for status, count in state.children.items())
        why = f": {state.status_reason}" if state.status_reason else ""
        lines.append(f"  {stage}  {state.job_id} {state.status.lower()}{counted and f' ({counted})'}{why}")
    lines += [f"  Batch says nothing  {refused}"] if refused else []
    children = {stage: {name.lower(): count for name, count in each.children.items()} for stage, each in jobs.items()}
    states = {stage: asdict(state) | {"children": children[stage]} for stage, state in jobs.items()}
    document = about | {"jobs": states, "refused": refused, "failed_children": [asdict(each) for each in failures]}
    return document, "\n".join([*lines, *failure_texts(failures)])


def failure_texts(failures: Sequence[ChildFailure]) -> list[str]:
    """Why children failed, a line each."""
    lines = []
    for each in failures[:SHOWN_FAILURES]:
        code = "never started" if each.exit_code is None else f"exit code {each.exit_code}"
        reason = "; ".join(text for text in (each.status_reason, each.reason) if text)
        log = f", log {each.log_stream}" if each.log_stream else ""
        lines.append(f"  child {each.index} failed after {each.attempts} attempts: {reason} ({code}{log})")
    return lines
