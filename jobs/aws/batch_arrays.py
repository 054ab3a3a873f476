"""Batch array jobs of a run: which child takes which shards. Pure.

    plan (the command that submits)  →  work  →  report

An array's size must be known when it is submitted, so the plan is made before. Where the planning
command is a Batch job itself, the work waits for that job. Rules and limits:
https://docs.aws.amazon.com/batch/latest/userguide/array_jobs.html, …/job_retries.html,
…/service_limits.html
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import asdict

from jobs.errors import ExitCode, UsageError

CHILDREN_MAX = 10_000
SHARDS_MAX = 1_000_000
NAME_CHARS_MAX = 128
OVERRIDES_CHARS_MAX = 8_192
"""Of command and environment as JSON, less than what Batch takes of a whole request:
https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_TaskOverride.html"""
ATTEMPTS = 5
"""Starts of a child at most, Spot reclaims included."""
TERMINATED = 128 + 15
"""The exit code of a container that SIGTERM ended before `jobs.container` could listen to it."""
SYSTEM_TAG = "sealift:system"
"""The tag with the policy's name. Terraform/iam.tf lets roles end only jobs that have it."""
WORK, REPORT = "work", "report"
STAGES = (WORK, REPORT)
"""The jobs that one submission of a run consists of, in the order in which they are submitted."""


class Placement(NamedTuple):
    """Where the jobs of a run go. What each gets is the job definition's affair, Spot or on demand the queue's."""

    queue: str
    job_definition: str
    system: str | None = None


class Submission(Struct, frozen=True):
    """One way of sending shards of a run to Batch. The first has number 0, each retry the next.

    `shards` are the numbers of the shards to work on, ascending. Child `i` takes `per_child` of
    them from `i * per_child` on. `after`: the job that has to succeed before anything starts.
    """

    run_id: str
    number: int
    placement: Placement
    shards: Sequence[int]
    per_child: int
    ledger: str
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
        return asdict(self) | {"placement": self.placement._asdict(), "shards": _ranges(self.shards)}

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
        known = {name: data[name] for name in ("run_id", "number", "per_child", "ledger", "after")}
        place = Placement(*(data["placement"][name] for name in Placement._fields))
        return cls(**known, shards=shards, placement=place)


def make_submission(
    run_id: str, number: int, placement: Placement, shards: Iterable[int], ledger: str, after: str | None = None
) -> Submission:
    """A submission of these shards, with as few of them in a child as an array's size allows.

    Raises UsageError without shards.
    """
    wanted = sorted(shards)
    if not wanted:
        raise UsageError(f"run {run_id} has no shards left to work on")
    per_child = -(-len(wanted) // CHILDREN_MAX)
    return Submission(run_id, number, placement, wanted, per_child, ledger, after)


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

    Raises UsageError when the request is larger than Batch and ECS take.
    """
    placement, run_id = submission.placement, submission.run_id
    system = {SYSTEM_TAG: placement.system} if placement.system else {}
    is_work = stage == WORK
    part = ["--submission", str(submission.number)] if is_work else ["--report"]
    command = ["worker", run_id, *part, "--ledger", submission.ledger, *(pins if is_work else ())]
    overrides: dict[str, Any] = {"command": command}
    if variables:
        overrides["environment"] = [{"name": name, "value": value} for name, value in variables.items()]
    request: dict[str, Any] = {
        "jobName": submission.name(stage),
        "jobQueue": placement.queue,
        "jobDefinition": placement.job_definition,
        "containerOverrides": overrides,
        "retryStrategy": retry_strategy(ATTEMPTS),
        "tags": system | {"sealift:run": run_id, "sealift:stage": stage},
        "propagateTags": True,
    }
    if is_work and submission.children > 1:
        request["arrayProperties"] = {"size": submission.children}
    if (before := submission.after if is_work else work_id) is not None:
        request["dependsOn"] = [{"jobId": before}]
    return checked(request)


def checked(request: dict[str, Any]) -> dict[str, Any]:
    """A SubmitJob request. Raises UsageError when it is larger than Batch and ECS take."""
    name, characters = request["jobName"], len(json.dumps(request["containerOverrides"]))
    if characters > OVERRIDES_CHARS_MAX or len(name) > NAME_CHARS_MAX:
        says = f"the command and environment of the job {name} have {characters:,} characters"
        raise UsageError(f"{says}, ECS takes {OVERRIDES_CHARS_MAX:,}", advice="use fewer or shorter prefixes and names")
    return request


def _ranges(shards: Sequence[int]) -> list[list[int]]:
    """`[0, 1, 2, 5]` → `[[0, 2], [5, 5]]`."""
    found = []
    for _, group in groupby(enumerate(shards), key=lambda pair: pair[1] - pair[0]):
        numbers = [shard for _, shard in group]
        found.append([numbers[0], numbers[-1]])
    return found
