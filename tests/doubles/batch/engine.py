"""What Batch does with jobs once they are submitted: capacity, dependencies, arrays, attempts, retries, ends.

Each queue has its jobs wait for the vCPUs of a compute environment. The head of a queue that does not fit holds back
all behind it.
https://docs.aws.amazon.com/batch/latest/userguide/job_scheduling.html

A thread advances the jobs a few hundred times a second; whoever wants to change them holds the `lock`.
The phrases (`Dependent Job failed`, …) are the service's own.
"""

from __future__ import annotations

import fnmatch
import threading
import time
import uuid
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from typing import Any

from tests.doubles.batch.runners import Child, Exit, Runner, Running

STATUSES = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED")
ENDED = ("SUCCEEDED", "FAILED")
TICK_SECONDS = 0.005
STOP_GRACE_SECONDS = 30.0
"""How long ECS gives a container between SIGTERM and SIGKILL."""


@dataclass
class Attempt:
    """One start of a job's container."""

    started_at: int
    log_stream: str
    running: Running
    stopped_at: int = 0
    exit_code: int | None = None
    reason: str = ""
    status_reason: str = ""


@dataclass
class Job:
    """A plain job, an array's parent (`size` set) or one of its children (`index` set)."""

    id: str
    name: str
    queue: str
    request: dict[str, Any]
    definition: dict[str, Any]
    created_at: int
    size: int | None = None
    index: int | None = None
    status: str = "SUBMITTED"
    status_reason: str = ""
    attempts: list[Attempt] = field(default_factory=list)
    children: list[Job] = field(default_factory=list)
    waits_for: list[Job] = field(default_factory=list)
    container: dict[str, Any] = field(default_factory=dict)
    stopped_at: int = 0
    ending: str = ""
    """Why the running attempt was told to stop, in the words of its status reason. It is not retried."""
    ended_children: int = 0

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED

    @property
    def vcpus(self) -> float:
        """What its container takes of its environment."""
        return float(self.container.get("vcpus", 1))

    def retry_strategy(self) -> dict[str, Any]:
        """The request's, else the definition's."""
        found: dict[str, Any] = self.request.get("retryStrategy") or self.definition.get("retryStrategy") or {}
        return found


@dataclass(eq=False)
class Environment:
    """A compute environment: its jobs have at most so many vCPUs together."""

    max_vcpus: float = float("inf")


@dataclass
class Place:
    """Where the jobs of a queue wait. Queues of a higher `priority` come first."""

    environment: Environment = field(default_factory=Environment)
    priority: int = 1
    waiting: deque[Job] = field(default_factory=deque)


class Engine:
    """The jobs of one account, run by `runner`, at most `max_running` children at once. No job takes too long."""

    def __init__(self, runner: Runner, max_running: int):
        self.runner, self.max_running = runner, max_running
        self.lock = threading.RLock()
        self.jobs: dict[str, Job] = {}
        self.places: dict[str, Place] = defaultdict(Place)
        self._waiting: list[Job] = []
        self._running: list[Job] = []
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._live, name="batch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Kill what runs and end."""
        self._closed.set()
        self._thread.join()
        everything = [job.attempts[-1].running for job in self._running]
        for running in everything:
            running.terminate(0)
        while any(running.poll() is None for running in everything):
            time.sleep(TICK_SECONDS)

    def add(self, job: Job) -> None:
        """Take in a submitted job; an array gets its children."""
        with self.lock:
            waits_for = [self.jobs[each["jobId"]] for each in job.request.get("dependsOn") or []]
            self.jobs[job.id] = job
            if job.size is None:
                job.waits_for = waits_for
                self._waiting.append(job)
                return
            for index in range(job.size):
                child = Job(f"{job.id}:{index}", job.name, job.queue, job.request, job.definition, job.created_at)
                child.index = index
                child.waits_for = waits_for
                child.container = job.container
                job.children.append(child)
                self.jobs[child.id] = child
                self._waiting.append(child)

    def terminate(self, job: Job, reason: str) -> None:
        """End a job, or all children of an array; running ones get SIGTERM."""
        with self.lock:
            for each in job.children or [job]:
                if each.has_ended:
                    continue
                if each.status != "RUNNING":
                    self._end(each, "FAILED", reason)
                else:
                    each.ending = reason
                    each.attempts[-1].running.terminate(STOP_GRACE_SECONDS)

    def _live(self) -> None:
        while not self._closed.wait(TICK_SECONDS):
            with self.lock:
                self._look_at_waiting()
                self._look_at_running()
                self._start_runnable()

    def _look_at_waiting(self) -> None:
        still: list[Job] = []
        for job in self._waiting:
            if job.has_ended:
                continue
            if any(each.status == "FAILED" for each in job.waits_for):
                self._end(job, "FAILED", "Dependent Job failed")
            elif all(each.status == "SUCCEEDED" for each in job.waits_for):
                self._make_runnable(job)
            else:
                job.status = "PENDING"
                still.append(job)
        self._waiting = still

    def _make_runnable(self, job: Job) -> None:
        job.status = "RUNNABLE"
        self.places[job.queue].waiting.append(job)

    def _start_runnable(self) -> None:
        for place in sorted(self.places.values(), key=lambda place: -place.priority):
            while len(self._running) < self.max_running:
                job = self._head(place)
                if job is None or self._vcpus(place.environment) + job.vcpus > place.environment.max_vcpus:
                    break
                place.waiting.popleft()
                self._start(job)

    def _head(self, place: Place) -> Job | None:
        """The job that is next in a queue."""
        while place.waiting and place.waiting[0].has_ended:
            place.waiting.popleft()
        return place.waiting[0] if place.waiting else None

    def _vcpus(self, environment: Environment) -> float:
        """What the jobs of an environment have now."""
        return sum(job.vcpus for job in self._running if self.places[job.queue].environment is environment)

    def _start(self, job: Job) -> None:
        stream = f"{job.definition['jobDefinitionName']}/default/{uuid.uuid4().hex}"
        running = self.runner.start(self._child(job, len(job.attempts) + 1, stream))
        job.attempts.append(Attempt(now_ms(), stream, running))
        job.status = "RUNNING"
        self._running.append(job)

    def _child(self, job: Job, attempt: int, log_stream: str) -> Child:
        container = job.container
        environment = dict(container["environment"])
        environment |= {
            "AWS_BATCH_JOB_ID": job.id,
            "AWS_BATCH_JOB_ATTEMPT": str(attempt),
            "AWS_BATCH_JQ_NAME": job.queue,
            "AWS_BATCH_CE_NAME": "local",
        }
        if job.index is not None:
            environment["AWS_BATCH_JOB_ARRAY_INDEX"] = str(job.index)
        return Child(
            job_id=job.id,
            name=job.name,
            image=container["image"],
            command=tuple(container["command"]),
            environment=environment,
            vcpus=container["vcpus"],
            memory_mib=container["memory_mib"],
            log_stream=log_stream,
        )

    def _look_at_running(self) -> None:
        for job in list(self._running):
            attempt = job.attempts[-1]
            if (end := attempt.running.poll()) is not None:
                self._running.remove(job)
                self._conclude(job, attempt, end)

    def _conclude(self, job: Job, attempt: Attempt, end: Exit) -> None:
        attempt.stopped_at, attempt.exit_code, attempt.reason = now_ms(), end.code, end.reason
        if end.code is None:
            attempt.status_reason = "Task failed to start"
        else:
            attempt.status_reason = job.ending or "Essential container in task exited"
        if job.ending:
            self._end(job, "FAILED", attempt.status_reason)
        elif end.code == 0:
            self._end(job, "SUCCEEDED", attempt.status_reason)
        elif _is_retried(job.retry_strategy(), len(job.attempts), attempt):
            self._make_runnable(job)
        else:
            self._end(job, "FAILED", attempt.status_reason)

    def _end(self, job: Job, status: str, reason: str) -> None:
        job.status, job.status_reason, job.stopped_at = status, reason, now_ms()
        if job.index is None:
            return
        parent = self.jobs[job.id.rpartition(":")[0]]
        parent.ended_children += 1
        if parent.ended_children == parent.size:
            has_failed = any(child.status == "FAILED" for child in parent.children)
            parent.status, parent.stopped_at = "FAILED" if has_failed else "SUCCEEDED", now_ms()
            parent.status_reason = "Array Child Job failed" if has_failed else ""

    def summary(self, job: Job) -> dict[str, int]:
        """The array's children, counted by status."""
        counted = Counter(child.status for child in job.children)
        return {status: counted[status] for status in STATUSES}

    def status_of(self, job: Job) -> str:
        """An array whose children have begun is PENDING until the last has ended."""
        if job.size is not None and not job.has_ended:
            return "PENDING" if any(child.status != "SUBMITTED" for child in job.children) else "SUBMITTED"
        return job.status


def _is_retried(strategy: dict[str, Any], attempts: int, attempt: Attempt) -> bool:
    """The first rule whose conditions all hold decides; without one, a failed attempt is retried."""
    if attempts >= strategy.get("attempts", 1):
        return False
    code = "" if attempt.exit_code is None else str(attempt.exit_code)
    for rule in strategy.get("evaluateOnExit") or []:
        said = {"onExitCode": code, "onReason": attempt.reason, "onStatusReason": attempt.status_reason}
        if all(_matches(rule[name], said[name]) for name in said if name in rule):
            return bool(rule["action"].upper() == "RETRY")
    return True


def _matches(pattern: str, text: str) -> bool:
    """Globs know no wildcard but one asterisk at the end."""
    escaped = "".join(f"[{letter}]" if letter in "?[" else letter for letter in pattern)
    return fnmatch.fnmatchcase(text, escaped)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def new_id() -> str:
    """A job id as Batch gives them."""
    return str(uuid.uuid4())
