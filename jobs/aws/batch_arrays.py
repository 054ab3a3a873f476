"""Batch array jobs of a run: which child takes which shards. Pure.

    plan (the command that submits)  →  work  →  report
                                          └─ child by child (N_TO_N) →  work of the verify run  →  report

An array's size must be known when it is submitted, so the plan is made before. Where the planning
command is a Batch job itself, the work waits for that job. Rules and limits:
https://docs.aws.amazon.com/batch/latest/userguide/array_jobs.html, …/job_retries.html,
…/service_limits.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any

from jobs.errors import ExitCode, UsageError

CHILDREN_MAX = 10_000
SHARDS_MAX = 1_000_000
PAYLOAD_BYTES_MAX = 30 * 1024
NAME_CHARS_MAX = 128
TIMEOUT_SECONDS_MIN = 60
ATTEMPTS_MAX = 10
PRIORITY_MAX = 9999
TERMINATED = 128 + 15
"""The exit code of a container that SIGTERM ended before `jobs.container` could listen to it."""
SYSTEM_TAG = "sealift:system"
"""The tag with the policy's name. Terraform/iam.tf lets roles end only jobs that have it."""
WORK, REPORT = "work", "report"
STAGES = (WORK, REPORT)
"""The jobs that one submission of a run consists of, in the order in which they are submitted."""

_SHARE = re.compile(r"[A-Za-z0-9]{1,255}\*?")


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the jobs of a run go, and what each child gets. None: as the job definition says.

    Spot or on demand is the queue's affair. `share` and `priority` are for queues with a
    scheduling policy (`fair_share`). `attempts` counts the first one. `timeout_seconds` is for one
    attempt.
    """

    queue: str
    job_definition: str
    share: str | None = None
    priority: int | None = None
    vcpus: float | None = None
    memory_mib: int | None = None
    timeout_seconds: int | None = None
    attempts: int = 5
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises UsageError for what Batch would refuse."""
        if self.share is not None and not _SHARE.fullmatch(self.share):
            raise UsageError(f"share identifier {self.share!r}", advice="letters and digits only, at most 255")
        if self.priority is not None and not 0 <= self.priority <= PRIORITY_MAX:
            raise UsageError(f"priority {self.priority}", advice=f"expected 0 to {PRIORITY_MAX}")
        if self.timeout_seconds is not None and self.timeout_seconds < TIMEOUT_SECONDS_MIN:
            raise UsageError(f"timeout of {self.timeout_seconds} s: Batch takes {TIMEOUT_SECONDS_MIN} s or more")
        if not 1 <= self.attempts <= ATTEMPTS_MAX:
            raise UsageError(f"{self.attempts} attempts: Batch takes 1 to {ATTEMPTS_MAX}")


@dataclass(frozen=True, slots=True)
class Submission:
    """One way of sending shards of a run to Batch. The first has number 0, each retry the next.

    `shards` are the numbers of the shards to work on, ascending. Child `i` takes `per_child` of
    them from `i * per_child` on. `follows`: the array job whose children these follow one by one.
    `after`: the job that has to succeed before anything starts.
    """

    run_id: str
    number: int
    placement: Placement
    shards: Sequence[int]
    per_child: int
    ledger: str
    follows: str | None = None
    after: str | None = None

    @property
    def children(self) -> int:
        """How many children the work takes. 1 is a plain job."""
        return -(-len(self.shards) // self.per_child)

    def shards_of(self, child: int) -> Sequence[int]:
        """The shards that a child takes. Raises UsageError for an unknown child."""
        if not 0 <= child < self.children:
            raise UsageError(
                f"submission {self.number} of run {self.run_id} has {self.children} children, none is {child}"
            )
        return self.shards[child * self.per_child : (child + 1) * self.per_child]

    def name(self, stage: str) -> str:
        """The name of a stage's job. The run's id decides it, so an earlier job can be found."""
        return f"{self.run_id}-{self.number:03d}-{stage}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready. Shards are ranges, so ten thousand of them take one line."""
        return asdict(self) | {"shards": _ranges(self.shards)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Submission:
        """The inverse of `to_dict`. Raises ValueError, KeyError, TypeError for another document.

        Each range is checked before any is laid out: `[[0, 10¹²], [10¹², 0]]` has two shards by its
        sum.
        """
        ends = [-1, *(end for ends in data["shards"] for end in ends)]
        if not all(type(end) is int and -1 <= end < SHARDS_MAX for end in ends) or ends != sorted(ends):
            raise ValueError(f"the shards are not ascending ranges of numbers below {SHARDS_MAX:,}")
        if type(data["per_child"]) is not int or data["per_child"] < 1 or type(data["number"]) is not int:
            raise ValueError("number or per_child is not a number")
        shards = [shard for first, last in data["shards"] for shard in range(first, last + 1)]
        known = {name: data[name] for name in ("run_id", "number", "per_child", "ledger", "follows", "after")}
        place = {name: data["placement"][name] for name in Placement.__dataclass_fields__ if name in data["placement"]}
        return cls(**known, shards=shards, placement=Placement(**place))


def make_submission(
    run_id: str, number: int, placement: Placement, shards: Iterable[int], ledger: str, **links: str | None
) -> Submission:
    """A submission of these shards, with as few of them in a child as an array's size allows.

    Raises UsageError without shards.
    """
    wanted = sorted(shards)
    if not wanted:
        raise UsageError(f"run {run_id} has no shards left to work on")
    per_child = -(-len(wanted) // CHILDREN_MAX)
    return Submission(run_id, number, placement, wanted, per_child, ledger, **links)


def retry_strategy(attempts: int) -> dict[str, Any]:
    """What is tried again: exit code 75, a host or a Fargate task that Spot took back, an image
    that could not be pulled.

    Batch takes five rules. The first that matches decides. What matches none would be retried,
    hence the last one. The words are Batch's and ECS's:
    https://docs.aws.amazon.com/batch/latest/userguide/job_retries.html
    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html
    """
    return {
        "attempts": attempts,
        "evaluateOnExit": [
            {"onExitCode": str(int(ExitCode.TRANSIENT)), "action": "RETRY"},
            {"onStatusReason": "Host EC2*", "action": "RETRY"},
            {"onStatusReason": "Your Spot Task was interrupted*", "action": "RETRY"},
            {"onStatusReason": "Task failed to start*", "action": "RETRY"},
            {"onReason": "*", "action": "EXIT"},
        ],
    }


def fair_share(share: str, priority: int | None = None) -> dict[str, Any]:
    """What SubmitJob says to a queue with a scheduling policy.

    Batch refuses a share without a priority, unless the job definition has one, and does not say so
    in its documentation: https://github.com/nextflow-io/nextflow/pull/3505
    """
    return {"shareIdentifier": share, "schedulingPriorityOverride": priority or 0}


def payload(
    submission: Submission,
    stage: str,
    work_id: str | None = None,
    pins: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The SubmitJob request of a stage.

    The report waits for the whole of `work_id`. `pins`: for each worker. `variables`: of the
    submitting process, for all jobs.

    Raises UsageError when the request is larger than Batch takes.
    """
    placement, run_id = submission.placement, submission.run_id
    is_work = stage == WORK
    part = ["--submission", str(submission.number)] if is_work else ["--report"]
    command = ["worker", run_id, *part, "--ledger", submission.ledger, *(pins if is_work else ())]
    overrides: dict[str, Any] = {"command": command}
    if variables:
        overrides["environment"] = [{"name": name, "value": value} for name, value in variables.items()]
    resources = {"VCPU": placement.vcpus, "MEMORY": placement.memory_mib}
    wanted = [{"type": kind, "value": _plain(value)} for kind, value in resources.items() if value is not None]
    if wanted and is_work:
        overrides["resourceRequirements"] = wanted
    request: dict[str, Any] = {
        "jobName": submission.name(stage),
        "jobQueue": placement.queue,
        "jobDefinition": placement.job_definition,
        "containerOverrides": overrides,
        "retryStrategy": retry_strategy(placement.attempts),
        "tags": dict(placement.tags) | {"sealift:run": run_id, "sealift:stage": stage},
        "propagateTags": True,
    }
    if is_work and submission.children > 1:
        request["arrayProperties"] = {"size": submission.children}
    depends = _dependencies(submission, work_id) if is_work else [{"jobId": work_id}]
    if depends:
        request["dependsOn"] = depends
    if placement.timeout_seconds is not None:
        request["timeout"] = {"attemptDurationSeconds": placement.timeout_seconds}
    if placement.share is not None:
        request |= fair_share(placement.share, placement.priority)
    if len(json.dumps(request)) > PAYLOAD_BYTES_MAX or len(request["jobName"]) > NAME_CHARS_MAX:
        raise UsageError(
            f"the job {request['jobName']} is larger than Batch takes", advice="fewer or shorter tags, please"
        )
    return request


def _plain(value: float) -> str:
    """A number as Batch takes it: 2, 0.25, 1048576."""
    return str(int(value)) if value == int(value) else str(value)


def _dependencies(submission: Submission, work_id: str | None) -> list[dict[str, str]]:
    depends = []
    if submission.after is not None:
        depends.append({"jobId": submission.after})
    if submission.follows is not None:
        pairs = {"type": "N_TO_N"} if submission.children > 1 else {}
        depends.append({"jobId": submission.follows, **pairs})
    return depends


def _ranges(shards: Sequence[int]) -> list[list[int]]:
    """`[0, 1, 2, 5]` → `[[0, 2], [5, 5]]`."""
    found = []
    for _, group in groupby(enumerate(shards), key=lambda pair: pair[1] - pair[0]):
        numbers = [shard for _, shard in group]
        found.append([numbers[0], numbers[-1]])
    return found
