"""The batch executor: shards as children of AWS Batch array jobs.

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
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobs.aws.batch import Batch, ChildFailure, JobState
from jobs.aws.batch_arrays import CHILDREN_MAX, STAGES, TERMINATED, WORK, Submission, payload
from jobs.config import Settings
from jobs.errors import ExitCode, LedgerError, PreconditionFailed, UsageError
from jobs.ledger.ledger import Ledger
from jobs.ledger.owner import BATCH, claim_run, last_owner

SHOWN_FAILURES = 100
"""The number of failed children that are described: one request."""


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
        names = await self.ledger.names(run_id, "batch/")
        if not names:
            return None
        number = max(map(_number, names))
        submission = await read_submission(self.ledger, run_id, number)
        ids = {}
        for stage in STAGES:
            if f"{number:03d}-{stage}.json" in names:
                ids[stage] = await _job_id(self.ledger, run_id, _job_document(number, stage))
        return Submitted(submission, ids)

    async def states(self, submitted: Submitted) -> dict[str, JobState]:
        """The jobs by stage, by one request.

        A stage that Batch does not know (any more) is left out. Raises LedgerError for a job of
        another name: the ledger's record of the id is wrong.
        """
        states = await asyncio.to_thread(self.batch.describe, list(submitted.job_ids.values()))
        for stage, job_id in submitted.job_ids.items():
            submission, name = submitted.submission, submitted.submission.name(stage)
            if job_id in states and states[job_id].name != name:
                raise LedgerError(
                    f"{self.ledger.uri(submission.run_id, _job_document(submission.number, stage))} names the job "
                    f"{job_id}, which is {states[job_id].name} and not {name}: it was altered",
                    advice="remove it",
                )
        return {stage: states[job_id] for stage, job_id in submitted.job_ids.items() if job_id in states}

    async def failures(self, submitted: Submitted, limit: int = SHOWN_FAILURES) -> list[ChildFailure]:
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

    async def _claim_number(self, submission: Submission) -> tuple[Submission, bool]:
        """(the submission that won this number, whether it is ours)."""
        name = f"{_stem(submission.number)}.json"
        # The token shows whether a document is ours, written twice, or another caller's with equal
        # content.
        document = submission.to_dict() | {"token": secrets.token_hex(8), "at": time.time()}
        try:
            await self.ledger.write_document(submission.run_id, name, document)
        except PreconditionFailed:
            first = await read_submission(self.ledger, submission.run_id, submission.number)
            self._check_place(submission, first)
            return first, False
        return submission, True

    def _check_place(self, ours: Submission, first: Submission) -> None:
        """Check that the submission that won goes where this command's would. Raises LedgerError."""
        there, here = first.placement, ours.placement
        if (there.queue, there.job_definition) != (here.queue, here.job_definition):
            raise LedgerError(
                f"{self.ledger.uri(ours.run_id, f'{_stem(ours.number)}.json')} sends the run to queue "
                f"{there.queue!r} as {there.job_definition!r}, this command to {here.queue!r} as "
                f"{here.job_definition!r}",
                advice="set SEALIFT_BATCH_QUEUE and SEALIFT_BATCH_JOB_DEFINITION to the same, or find out who wrote it",
            )

    async def _submit_stage(
        self, submission: Submission, stage: str, work_id: str | None, pins: Sequence[str], *, is_new: bool
    ) -> str:
        if not is_new and (earlier_id := await self._recorded_job_id(submission, stage)):
            return earlier_id
        request = payload(submission, stage, work_id, pins, Settings.inherited())
        job_id = await asyncio.to_thread(self.batch.submit, request, is_new=is_new)
        record = {"job_id": job_id, "name": request["jobName"], "queue": request["jobQueue"]}
        try:
            await self.ledger.write_document(submission.run_id, _job_document(submission.number, stage), record)
        except PreconditionFailed:
            first = await self._recorded_job_id(submission, stage)
            if first is None:
                raise
            if first != job_id:
                await asyncio.to_thread(self.batch.terminate, job_id, f"another submission was first: {first}")
            return first
        return job_id

    async def _recorded_job_id(self, submission: Submission, stage: str) -> str | None:
        try:
            return await _job_id(self.ledger, submission.run_id, _job_document(submission.number, stage))
        except LedgerError:
            return None


def _owner_id(submission: Submission) -> str:
    """Its id as the run's owner."""
    return f"{BATCH}{submission.number:03d}"


async def child_shards(ledger: Ledger, run_id: str, number: int, child: int) -> Sequence[int]:
    """The shards of one child of a submission. Raises LedgerError, UsageError."""
    return (await read_submission(ledger, run_id, number)).shards_of(child)


async def read_submission(ledger: Ledger, run_id: str, number: int) -> Submission:
    """A submission's document.

    Raises LedgerError for the document of another run, or one that sends workers to another ledger.
    """
    name = f"{_stem(number)}.json"
    document = await ledger.document(run_id, name)
    try:
        submission = Submission.from_dict(document)
        is_own = (submission.run_id, submission.number, submission.ledger) == (run_id, number, str(ledger.location))
        is_sound = submission.per_child > 0 and 0 < submission.children <= CHILDREN_MAX
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise LedgerError(f"{ledger.uri(run_id, name)} is not a submission ({error!r}): it was altered") from error
    if not (is_own and is_sound):
        raise LedgerError(
            f"{ledger.uri(run_id, name)} is about run {submission.run_id!r}, "
            f"submission {submission.number!r}, in {submission.ledger!r}: "
            "it was altered",
            advice="find out who wrote it, remove it, then continue with `sealift runs retry`",
        )
    return submission


async def _job_id(ledger: Ledger, run_id: str, name: str) -> str:
    job_id = (await ledger.document(run_id, name)).get("job_id")
    if not isinstance(job_id, str):
        raise LedgerError(f"{ledger.uri(run_id, name)} has no job_id: it was altered")
    return job_id


def _number(name: str) -> int:
    """The number in the name of a submission's document. Raises LedgerError."""
    digits = name[:3]
    if not (len(digits) == 3 and digits.isascii() and digits.isdigit()):
        raise LedgerError(f"batch/{name!r} is not a submission document", advice="remove it from the ledger")
    return int(digits)


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


def _stem(number: int) -> str:
    """What the names of a submission's documents begin with."""
    return f"batch/{number:03d}"


def _job_document(number: int, stage: str) -> str:
    return f"{_stem(number)}-{stage}.json"
