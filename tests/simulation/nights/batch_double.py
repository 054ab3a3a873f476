"""AWS Batch: jobs that are submitted, listed a little late, started, ended, and told of by EventBridge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jobs.errors import store_error
from tests.simulation.engine.processes import EPOCH, Process
from tests.simulation.engine.world import World

ENDED = ("SUCCEEDED", "FAILED")
QUEUE = "sealift-orchestrators"
PAGE_JOBS = 2
START_SECONDS = 12.0
"""Batch takes at least so long until a job's container runs."""
BEHIND = "Dependent Job failed"


class Ending(NamedTuple):
    """What became of a job: its exit code (None: the container never said), and why in Batch's words."""

    status: str
    exit_code: int | None = None
    reason: str = ""


@dataclass(slots=True, eq=False)
class Job:
    """One job, an array's parent included. `submitter`: the function that asked for it; None: another job, others.

    `started_at`, `terminated_at`, `ended_at`: loop time.
    """

    id: str
    name: str
    request: Mapping[str, Any]
    submitter: Process | None
    created_at: float
    listed_at: float
    status: str = "SUBMITTED"
    reason: str = ""
    exit_code: int | None = None
    started_at: float | None = None
    terminated_at: float | None = None
    ended_at: float | None = None
    is_unseen: bool = False
    does_work: bool = False
    waits_for: list[Job] = field(default_factory=list)

    @property
    def command(self) -> list[str]:
        return list(self.request["containerOverrides"]["command"])

    @property
    def start_name(self) -> str:
        """The name by which the functions have started it; empty for another one's."""
        environment = self.request["containerOverrides"].get("environment", ())
        return "".join(each["value"] for each in environment if each["name"] == "SEALIFT_START")

    @property
    def size(self) -> int:
        return int(self.request.get("arrayProperties", {}).get("size", 0))

    @property
    def never_began(self) -> bool:
        return self.status == "FAILED" and self.started_at is None


class Batch:
    """`begin` says whether a job ends as soon as it has begun, `work` what it does and how it ends.

    `tell` is EventBridge, which takes a job's state change.
    """

    def __init__(self, world: World, listing_seconds: float):
        self._world, self._listing_seconds = world, listing_seconds
        self.begin: Callable[[Job], Ending | None]
        self.work: Callable[[Job], Ending]
        self.tell: Callable[[dict[str, Any]], None]
        self.jobs: list[Job] = []
        self.at_work = 0

    # What boto3's client asks.

    def SubmitJob(self, request: Mapping[str, Any], process: Process) -> dict[str, Any]:
        return {"jobId": self.submit(request, process).id}

    def ListJobs(self, request: Mapping[str, Any], process: Process) -> dict[str, Any]:
        """The newest first, ended ones included, by a filter that does not mind capitals; without one, what runs."""
        [wanted] = [each["values"][0].lower() for each in request.get("filters", [{"values": [""]}])]
        now = self._world.loop.time()
        found = [
            each
            for each in reversed(self.jobs)
            if (each.name.lower() == wanted if wanted else each.status == "RUNNING")
        ]
        for each in found:
            each.is_unseen |= each.listed_at > now
        start = int(request.get("nextToken", 0))
        listed = [each for each in found if each.listed_at <= now]
        page = [
            {"jobId": each.id, "jobName": each.name, "createdAt": int(1000 * (EPOCH + each.created_at))}
            for each in listed[start : start + PAGE_JOBS]
        ]
        more = {"nextToken": str(start + PAGE_JOBS)} if start + PAGE_JOBS < len(listed) else {}
        return {"jobSummaryList": page, **more}

    def TerminateJob(self, request: Mapping[str, Any], process: Process) -> dict[str, Any]:
        for job in self.jobs:
            if job.id == request["jobId"]:
                job.terminated_at = self._world.loop.time() if job.terminated_at is None else job.terminated_at
                self._end(job, Ending("FAILED", None if job.started_at is None else 137, request["reason"]))
                return {}
        raise store_error("TerminateJob", request["jobId"], "ClientException", "no such job", 400)

    # What becomes of jobs.

    def submit(self, request: Mapping[str, Any], submitter: Process | None = None) -> Job:
        """Take a job in."""
        now, chance = self._world.loop.time(), self._world.chance
        number = len(self.jobs)
        job = Job(
            f"job-{number:03d}", request["jobName"], request, submitter, now, now + chance() * self._listing_seconds
        )
        job.waits_for = [each for each in self.jobs if {"jobId": each.id} in request.get("dependsOn", ())]
        self.jobs.append(job)
        self.at_work += 1
        self._world.note("batch", job.id, job.name, *job.command)
        if all(each.ended_at is not None for each in job.waits_for):
            self._ready(job)
        return job

    def _later(self, seconds: float, work: Callable[[Job], None], job: Job) -> None:
        self._world.loop.call_later(seconds, work, job, context=self._world.outside)

    def _ready(self, job: Job) -> None:
        if any(each.status == "FAILED" for each in job.waits_for):
            self._end(job, Ending("FAILED", None, BEHIND))
        else:
            job.status = "RUNNABLE"
            self._later(START_SECONDS + 50 * self._world.chance(), self._start, job)

    def _start(self, job: Job) -> None:
        if job.ended_at is not None or self._world.loop.is_over:
            return
        job.status, job.started_at = "RUNNING", self._world.loop.time()
        self._world.note("batch", job.id, "runs")
        if (ending := self.begin(job)) is not None:
            self._end(job, ending)
            return
        if self._world.chance() < 0.1:
            self.tell(_state_change(job, "RUNNING"))
        self._later(1 + 600 * self._world.chance() ** 2, self._finish, job)

    def _finish(self, job: Job) -> None:
        if job.ended_at is None and not self._world.loop.is_over:
            self._end(job, self.work(job))

    def _end(self, job: Job, ending: Ending) -> None:
        if job.ended_at is not None:
            return
        job.status, job.exit_code, job.reason = ending
        job.ended_at = self._world.loop.time()
        self.at_work -= 1
        self._world.note("batch", job.id, *ending)
        for index in range(job.size):  # the rule leaves children out; an account may have other rules
            if self._world.chance() < 0.3:
                self.tell(_state_change(job, "FAILED" if index == 0 else job.status, index))
        self.tell(_state_change(job, job.status))
        for each in self.jobs:
            if job in each.waits_for and all(other.ended_at is not None for other in each.waits_for):
                self._ready(each)


def _state_change(job: Job, status: str, index: int | None = None) -> dict[str, Any]:
    detail: dict[str, Any] = {
        "jobName": job.name,
        "jobId": job.id if index is None else f"{job.id}:{index}",
        "jobQueue": f"arn:aws:batch:us-east-1:123456789012:job-queue/{QUEUE}",
        "status": status,
        "statusReason": job.reason,
        "container": {"command": list(job.command)} | ({} if job.exit_code is None else {"exitCode": job.exit_code}),
    }
    if job.size:
        detail["arrayProperties"] = {"size": job.size} if index is None else {"size": job.size, "index": index}
    return {"detail-type": "Batch Job State Change", "source": "aws.batch", "detail": detail}
