"""The Batch queue and the schedule of the event-driven system on one machine.

`enqueue` says which backlog is due, `submit` what a manifest starts, `follow` what an end means. A
job is the command itself, in a process of its own, with the executor `local`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.aws.batch import Batch
from jobs.core.parentage import TIED
from jobs.errors import ExitCode
from jobs.local.seaweedfs import stop
from scheduler import enqueue, follow
from scheduler.batch_starts import ATTEMPTS, start
from scheduler.runtime import Runtime
from scheduler.submit import for_manifest

LOOK_SECONDS = 2.0
"""In an account the schedule looks each five minutes. Here a look costs nothing."""
AT_ONCE = 2
MESSAGES_KEPT = 5


@dataclass(slots=True)
class _Job:
    job_id: str
    request: Mapping[str, Any]
    attempt: int = 0
    process: subprocess.Popen[bytes] | None = None


class LocalBatch(Batch):
    """Batch's queue on this machine: `AT_ONCE` jobs run, others wait. A transient end is retried.

    `folder` has a log of each job, and the jobs' scratch folder, which `close` removes. `command`
    gets a job's own arguments.
    """

    def __init__(self, folder: Path, command: Sequence[str] = (sys.executable, "-P", "-m", "jobs")):
        super().__init__()
        self._folder, self._command = folder, command
        self._scratch = folder / "scratch"
        self._scratch.mkdir(exist_ok=True)
        self._waiting: deque[_Job] = deque()
        self._running: list[_Job] = []

    @property
    def unfinished(self) -> int:
        """How many jobs wait or run."""
        return len(self._waiting) + len(self._running)

    def submit(self, request: Mapping[str, Any], *, is_new: bool) -> str:
        """Put a job into the queue. Returns its id, which is its name: `batch_starts.start` makes
        it unique.
        """
        name = str(request["jobName"])
        if all(each.job_id != name for each in (*self._waiting, *self._running)):
            self._waiting.append(_Job(name, request))
        return name

    def terminate(self, job_id: str, reason: str) -> None:
        """Take a job out of the queue, or end it."""
        self._waiting = deque(each for each in self._waiting if each.job_id != job_id)
        for each in self._running:
            if each.job_id == job_id and each.process is not None:
                each.attempt = ATTEMPTS  # as with Batch, no retry follows
                each.process.terminate()

    def step(self) -> list[dict[str, Any]]:
        """Start the jobs that fit. Returns the ends since the last step, as EventBridge reports
        them.
        """
        ended = []
        for job in list(self._running):
            assert job.process is not None
            code = job.process.poll()
            if code is None:
                continue
            _close(job.process)
            self._running.remove(job)
            if code not in (ExitCode.DONE, ExitCode.FINDINGS) and job.attempt < ATTEMPTS and _is_transient(code):
                self._waiting.append(job)
            else:
                ended.append(_end(job, code))
        while self._waiting and len(self._running) < AT_ONCE:
            self._begin(self._waiting.popleft())
        return ended

    def close(self) -> None:
        """End running jobs after their checkpoint, and drop waiting ones."""
        self._waiting.clear()
        for job in self._running:
            if job.process is not None:
                stop(job.process, is_patient=True)
                _close(job.process)
        self._running.clear()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _begin(self, job: _Job) -> None:
        container = job.request["containerOverrides"]
        variables = {each["name"]: each["value"] for each in container["environment"]}
        variables |= {"SEALIFT_EXECUTOR": "local", "TMPDIR": str(self._scratch.resolve())}
        job.attempt += 1
        with (self._folder / f"{job.job_id}.log").open("ab") as log:
            job.process = subprocess.Popen(
                [*self._command, *container["command"]],
                env=os.environ | variables | TIED,
                stdin=subprocess.PIPE,  # it closes when this process ends, however that happens
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._running.append(job)


def _close(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()


class RunDriver:
    """Starts runs that are due, and follows their ends. `function_arn`: the name that `follow` gets
    of itself.
    """

    def __init__(self, runtime: Runtime, batch: LocalBatch, function_arn: str, clock: Callable[[], float] = time.time):
        self.runtime, self.batch, self.function_arn, self._clock = runtime, batch, function_arn, clock
        self._due = 0.0
        self.messages: deque[str] = deque(maxlen=MESSAGES_KEPT)

    def step(self) -> None:
        """Look at the backlog each `LOOK_SECONDS`, at the jobs each time. Raises SealiftError."""
        if self._clock() >= self._due:
            self._due = self._clock() + LOOK_SECONDS
            self.runtime.run(self._look())
        for event in self.batch.step():
            done = self.runtime.run(follow.handle(self.runtime, event, self.function_arn))
            self.messages.append(str(done.get("subject") or f"{done['about']}: {done['action']}"))

    async def _look(self) -> None:
        policy = await self.runtime.policy()
        enqueued = await enqueue.handle(self.runtime, {"action": "backlog"})
        for published in enqueued.manifests:
            pair = policy.pair(published.pair)
            assert pair is not None  # enqueue took it from the policy
            for what in for_manifest(pair, published):
                await start(self.runtime, policy, what, self.batch)
        enqueued.check()


def _is_transient(code: int) -> bool:
    return code == ExitCode.TRANSIENT or code < 0  # negative: killed, as by a Spot reclaim


def _end(job: _Job, code: int) -> dict[str, Any]:
    detail = {
        "jobName": job.job_id,
        "jobId": job.job_id,
        "status": "SUCCEEDED" if code == ExitCode.DONE else "FAILED",
        "statusReason": "Essential container in task exited",
        "container": {"exitCode": code},
    }
    return {"source": "aws.batch", "detail-type": "Batch Job State Change", "detail": detail}
