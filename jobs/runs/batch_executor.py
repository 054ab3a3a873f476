"""The batch executor: shards as children of AWS Batch array jobs. Submits, follows, cancels and describes them.

    <ledger>/runs/<run id>/
      batch/000.json           the first submission: which shards, where, how. Written before anything is submitted
      batch/000-work.json      the id of its array job
      batch/000-report.json    the id of the report's job

Batch has no client token. The job's name, which the run's id decides, and these write-once
documents make a second submission find the first, whatever was lost in between. Progress comes from
the array's status summary and the ledger's checkpoints, and no request is ever made for one child.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from jobs.aws.batch import Batch, ChildFailure, JobState
from jobs.aws.batch_arrays import CHILDREN_MAX, STAGES, TERMINATED, WORK, Submission, make_submission, payload
from jobs.config import Settings
from jobs.core.display import Display
from jobs.core.pace import watch_seconds
from jobs.core.run import Plan, RunSpec, continuation, worker_pins
from jobs.errors import ConfigError, ExitCode, Interrupted, LedgerError, PreconditionFailed, StoreError, UsageError
from jobs.interrupts import stopped_by_signals
from jobs.ledger.ledger import Ledger
from jobs.ledger.owner import BATCH, claim_run, last_owner
from jobs.runs.placement import check_placement, choose_placement
from jobs.runs.progress import find_progress, unfinished_shards

WATCH_SHARE = 0.1
"""The pause between two looks at a run, as a share of the time since something ended."""
FORGOTTEN_SECONDS = 60.0
"""After so long, Batch has forgotten a job that it does not know. Before, it may not know it yet."""
DESCRIBED_FAILURES, SHOWN_FAILURES = 100, 10
"""The number of failed children that are described, by one request, and of those that a text has."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """A submission, and the ids of its jobs by stage."""

    submission: Submission
    job_ids: Mapping[str, str]

    @property
    def is_whole(self) -> bool:
        """True if all of its stages are in Batch."""
        return len(self.job_ids) == len(STAGES)


@dataclass(frozen=True, slots=True)
class BatchExecutor:
    """Sends runs of one ledger to AWS Batch and follows them there."""

    ledger: Ledger
    batch: Batch

    async def submit(self, submission: Submission, pins: Sequence[str] = ()) -> Submitted:
        """Submit the work and the report. What any caller has submitted before is found.

        `pins` go onto each worker's command line, because the ledger must not hold them. The first
        to write the submission's document decides which shards, and a later caller continues with
        that document. Raises LedgerError where the document names another queue or job definition,
        StoreError when Batch refuses.
        """
        submission, is_new = await self._claim_number(submission)
        what = f"submission {submission.number} to Batch"  # a cancelled submission stays cancelled
        owner = await claim_run(self.ledger, submission.run_id, what, owner_id=_owner_id(submission))
        pins = [*pins, "--owner", str(owner.number)]
        ids: dict[str, str] = {}
        for stage in STAGES:
            ids[stage] = await self._submit_stage(submission, stage, ids.get(WORK), pins, is_new=is_new)
        return Submitted(submission, ids)

    async def is_superseded(self, submission: Submission) -> bool:
        """True if its workers stop, because the run was cancelled or has another owner."""
        number, document = await last_owner(self.ledger, submission.run_id)
        return number > 0 and document.get("id") != _owner_id(submission)

    async def latest(self, run_id: str) -> Submitted | None:
        """The run's last submission. None for a run that was never sent to Batch."""
        names = [name for name in await self.ledger.names(run_id, "batch/") if re.match(r"\d{3}[.-]", name)]
        if not names:
            return None
        submission = await read_submission(self.ledger, run_id, int(max(names)[:3]))
        ids = {stage: await self._job_id(submission, stage) for stage in STAGES}
        return Submitted(submission, {stage: job_id for stage, job_id in ids.items() if job_id})

    async def states(self, submitted: Submitted) -> dict[str, JobState]:
        """The jobs by stage, by one request.

        A stage that Batch does not know (any more) is left out. Raises LedgerError for a job of
        another name: the ledger's record of the id is wrong.
        """
        states = await asyncio.to_thread(self.batch.describe, list(submitted.job_ids.values()))
        for stage, job_id in submitted.job_ids.items():
            submission, name = submitted.submission, submitted.submission.name(stage)
            if job_id in states and states[job_id].name != name:
                uri = self.ledger.uri(submission.run_id, _document(submission.number, stage))
                what = f"names the job {job_id}, which is {states[job_id].name} and not {name}"
                raise LedgerError(f"{uri} {what}: it was altered", advice="remove it")
        return {stage: states[job_id] for stage, job_id in submitted.job_ids.items() if job_id in states}

    async def failures(self, submitted: Submitted, limit: int = DESCRIBED_FAILURES) -> list[ChildFailure]:
        """Why the first `limit` failed children failed."""
        if WORK not in submitted.job_ids:
            return []
        return await asyncio.to_thread(self.batch.failures, submitted.job_ids[WORK], limit)

    async def cancel(self, submitted: Submitted, reason: str) -> None:
        """End its jobs. Workers write a checkpoint on the way, so the run can continue later.

        The ledger records it first: a worker whose termination is lost, or that has yet to start,
        reads it there. Raises as `states` does.
        """
        await claim_run(self.ledger, submitted.submission.run_id, "sealift runs cancel")
        await self.states(submitted)
        for stage in reversed(STAGES):
            if stage in submitted.job_ids:
                await asyncio.to_thread(self.batch.terminate, submitted.job_ids[stage], reason)

    async def _claim_number(self, ours: Submission) -> tuple[Submission, bool]:
        """(the submission that won this number, whether it is ours). Raises LedgerError for one to another place."""
        name = _document(ours.number)
        # The token shows whether a document is ours, written twice, or another caller's with equal
        # content.
        document = ours.to_dict() | {"token": secrets.token_hex(8), "at": time.time()}
        try:
            await self.ledger.write_document(ours.run_id, name, document)
            return ours, True
        except PreconditionFailed:
            first = await read_submission(self.ledger, ours.run_id, ours.number)
        there, here = first.placement, ours.placement
        if (there.queue, there.job_definition) != (here.queue, here.job_definition):
            raise LedgerError(
                f"{self.ledger.uri(ours.run_id, name)} sends the run to queue {there.queue!r} as "
                f"{there.job_definition!r}, this command to {here.queue!r} as {here.job_definition!r}",
                advice="set SEALIFT_BATCH_QUEUE and SEALIFT_BATCH_JOB_DEFINITION to the same, or find out who wrote it",
            )
        return first, False

    async def _submit_stage(
        self, submission: Submission, stage: str, work_id: str | None, pins: Sequence[str], *, is_new: bool
    ) -> str:
        if not is_new and (earlier_id := await self._job_id(submission, stage)):
            return earlier_id
        request = payload(submission, stage, work_id, pins, Settings.inherited())
        job_id = await asyncio.to_thread(self.batch.submit, request, is_new=is_new)
        record = {"job_id": job_id, "name": request["jobName"], "queue": request["jobQueue"]}
        try:
            await self.ledger.write_document(submission.run_id, _document(submission.number, stage), record)
        except PreconditionFailed:
            first = await self._job_id(submission, stage)
            if first in (None, job_id):
                return job_id
            await asyncio.to_thread(self.batch.terminate, job_id, f"another submission was first: {first}")
            return str(first)
        return job_id

    async def _job_id(self, submission: Submission, stage: str) -> str | None:
        """The recorded id of a stage's job. None: there is no record."""
        document = await self.ledger.find_document(submission.run_id, _document(submission.number, stage))
        job_id = (document or {}).get("job_id")
        return job_id if isinstance(job_id, str) else None


def _owner_id(submission: Submission) -> str:
    """Its id as the run's owner."""
    return f"{BATCH}{submission.number:03d}"


async def read_submission(ledger: Ledger, run_id: str, number: int) -> Submission:
    """A submission's document.

    Raises LedgerError for the document of another run, or one that sends workers to another ledger.
    """
    name = _document(number)
    document = await ledger.document(run_id, name)
    try:
        submission = Submission.from_dict(document)
        is_own = (submission.run_id, submission.number, submission.ledger) == (run_id, number, str(ledger.location))
        is_sound = submission.per_child > 0 and 0 < submission.children <= CHILDREN_MAX
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise LedgerError(f"{ledger.uri(run_id, name)} is not a submission ({error!r}): it was altered") from error
    if not (is_own and is_sound):
        raise LedgerError(
            f"{ledger.uri(run_id, name)} is about run {submission.run_id!r}, submission {submission.number!r}, in "
            f"{submission.ledger!r}: it was altered",
            advice="find out who wrote it, remove it, then continue with `sealift runs retry`",
        )
    return submission


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


def _document(number: int, stage: str = "") -> str:
    """The name of a submission's document, or of the record of a stage's job."""
    return f"batch/{number:03d}{stage and f'-{stage}'}.json"


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
        is_at_work = any(not state.has_ended for state in (await executor.states(last)).values())
        if not last.is_whole and (is_at_work or not last.job_ids):
            placement = choose_placement(settings, spec.job)
            return await executor.submit(replace(last.submission, placement=placement), worker_pins(spec, plan))
        if is_at_work:
            display.say(f"run {spec.run_id} is at work in Batch already: following it")
            return last
    shards = await unfinished_shards(ledger, spec.run_id, plan)
    if not shards:
        return None
    placement = await check_placement(settings, spec)
    number = last.submission.number + 1 if last else 0
    submission = make_submission(spec.run_id, number, placement, shards, str(ledger.location), after)
    return await executor.submit(submission, worker_pins(spec, plan))


async def follow(
    submitted: Submitted, spec: RunSpec, plan: Plan, ledger: Ledger, display: Display
) -> tuple[dict[int, int], list[ChildFailure]]:
    """Show a run's progress until all rows are accounted for, or none of its jobs can do more.

    Returns the exit codes of children that failed, and why they did. The report's own job makes its
    report for those who do not wait, and for large runs. Raises Interrupted on SIGTERM or Ctrl-C, and
    the run itself continues.
    """
    executor, signalled = BatchExecutor(ledger, Batch()), asyncio.Event()
    began = changed_at = time.monotonic()
    last_stage = (0, False)
    with display.meter(spec.job, plan.rows) as shown, stopped_by_signals(signalled.set):
        while True:
            progress = await find_progress(ledger, spec.run_id, plan)
            shown.update(*progress)
            states, now, is_accounted = await executor.states(submitted), time.monotonic(), progress.rows == plan.rows
            ended = sum(state.has_ended for state in states.values())
            is_known = len(states) == len(submitted.job_ids) or now - began >= FORGOTTEN_SECONDS
            is_done = WORK in states and states[WORK].status == "SUCCEEDED"
            is_reportable = is_accounted and (is_done or await ledger.report(spec.run_id) is not None)
            if is_reportable or (is_known and ended == len(states)):
                break
            if (stage := (ended, is_accounted)) != last_stage:
                changed_at, last_stage = now, stage  # the report's job may still take a moment
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(signalled.wait(), watch_seconds(now - changed_at, WATCH_SHARE))
                to_follow, to_end = f"sealift runs show {spec.run_id} --follow", f"sealift runs cancel {spec.run_id}"
                advice = f"follow it with {to_follow}, end it with {to_end}"
                raise Interrupted(f"run {spec.run_id} continues in Batch", advice=advice)
    has_failed = WORK in states and states[WORK].status == "FAILED"
    failures = await executor.failures(submitted) if has_failed else []
    return exit_codes(states, failures), failures


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


async def describe(ledger: Ledger, run_id: str) -> tuple[dict[str, Any], str] | None:
    """What Batch and the ledger know of a run's jobs, JSON-ready and as text for people.

    None for a run that was never sent there.
    """
    executor = BatchExecutor(ledger, Batch())
    submitted = await executor.latest(run_id)
    if submitted is None:
        return None
    states, failures, refused = dict[str, JobState](), list[ChildFailure](), None
    try:
        states = await executor.states(submitted)
        if WORK in states and (states[WORK].status == "FAILED" or states[WORK].children.get("FAILED")):
            failures = await executor.failures(submitted)
    except (ConfigError, StoreError) as error:
        refused = str(error)
    submission, jobs = submitted.submission, dict[str, Any]()
    lines = [
        f"  batch  submission {submission.number}: {len(submission.shards):,} shards in {submission.children:,} "
        f"children, queue {submission.placement.queue}"
    ]
    for stage, job_id in submitted.job_ids.items():
        state = states.get(stage, JobState(job_id, "", "unknown"))
        children = {status.lower(): count for status, count in state.children.items()}
        jobs[stage] = asdict(state) | {"children": children}
        counted = ", ".join(f"{count:,} {status}" for status, count in children.items())
        why = f": {state.status_reason}" if state.status_reason else ""
        lines.append(f"  {stage}  {job_id} {state.status.lower()}{f' ({counted})' if counted else ''}{why}")
    lines += [f"  Batch says nothing  {refused}"] if refused else []
    document = {
        "submission": submission.number,
        "queue": submission.placement.queue,
        "job_definition": submission.placement.job_definition,
        "shards": len(submission.shards),
        "children": submission.children,
        "jobs": jobs,
        "refused": refused,
        "failed_children": [asdict(failure) for failure in failures],
    }
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
