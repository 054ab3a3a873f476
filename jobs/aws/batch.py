"""Batch client: what Sealift asks of AWS Batch, as typed values and our errors.

boto3's rules say where it is (AWS_ENDPOINT_URL_BATCH, region, profile, credentials). Nothing here
asks about one child: children are listed by their array and described a hundred at a time.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from msgspec import Struct

from jobs.aws.clients import call, open_client
from jobs.core.pace import backoff_seconds
from jobs.errors import ConfigError, Throttled, Unavailable

DESCRIBED_AT_ONCE = 100
READ_TRIES = 8
SUBMIT_TRIES = 6
ENDED = frozenset({"SUCCEEDED", "FAILED"})


class JobState(Struct, frozen=True):
    """A plain job, or an array's parent. `children`: its children by status."""

    job_id: str
    name: str
    status: str
    status_reason: str = ""
    exit_code: int | None = None
    reason: str = ""
    log_stream: str = ""
    children: Mapping[str, int] = {}

    @property
    def has_ended(self) -> bool:
        """Whether nothing will happen to it any more."""
        return self.status in ENDED


class ChildFailure(Struct, frozen=True):
    """Why one child of an array (or a plain job, index 0) failed.

    `status_reason` is Batch's (`Host EC2 … terminated.`), `reason` the container's
    (`OutOfMemoryError: …`). `exit_code` is None when the container never started.
    """

    index: int
    job_id: str
    status_reason: str
    reason: str
    exit_code: int | None
    log_stream: str
    attempts: int


class Batch:
    """AWS Batch in one region, with boto3's configuration."""

    def __init__(self, region: str | None = None):
        self._region = region

    def _client(self, tries: int) -> Any:
        return open_client("batch", self._region, tries)

    @cached_property
    def _reader(self) -> Any:
        return self._client(READ_TRIES)

    @cached_property
    def _submitter(self) -> Any:
        """One try only: botocore would submit again after a lost answer, without a token."""
        return self._client(1)

    def check_queue(self, queue: str) -> None:
        """Raises ConfigError unless the queue is there and takes jobs."""
        queues = call(self._reader, "DescribeJobQueues", queue, jobQueues=[queue])["jobQueues"]
        if not queues:
            raise ConfigError(
                f"the job queue {queue!r} does not exist", advice="check SEALIFT_BATCH_QUEUE and the region"
            )
        if queues[0]["state"] != "ENABLED" or queues[0].get("status", "VALID") not in ("VALID", "UPDATING"):
            state = f"{queues[0]['state']}, {queues[0].get('status', 'VALID')}"
            raise ConfigError(
                f"the job queue {queue!r} takes no jobs ({state})", advice="enable it or name another one"
            )

    def check_definition(self, definition: str) -> None:
        """Raises ConfigError unless an active definition has this name, `name:revision` or ARN."""
        short = definition.rpartition("/")[2]
        if ":" in short:
            definitions = call(self._reader, "DescribeJobDefinitions", definition, jobDefinitions=[definition])
        else:
            asked = {"jobDefinitionName": short, "status": "ACTIVE", "maxResults": 1}
            definitions = call(self._reader, "DescribeJobDefinitions", definition, **asked)
        if not any(each.get("status") == "ACTIVE" for each in definitions["jobDefinitions"]):
            raise ConfigError(
                f"the job definition {definition!r} does not exist or is not active",
                advice="check SEALIFT_BATCH_JOB_DEFINITION and the region",
            )

    def submit(self, request: Mapping[str, Any], *, is_new: bool) -> str:
        """Submit a job unless one of its name is there. Its id.

        `is_new`: it was never submitted before, so only our own lost answers count.
        """
        name, queue = request["jobName"], request["jobQueue"]
        must_look = not is_new
        for attempt in range(1, SUBMIT_TRIES + 1):
            if must_look and (found := self.find(queue, name)):
                return found
            try:
                answer = call(self._submitter, "SubmitJob", name, **request)
            except Unavailable as error:
                must_look = must_look or not isinstance(error, Throttled)
                if attempt == SUBMIT_TRIES:
                    raise
                time.sleep(backoff_seconds(attempt, random.random()))
            else:
                return str(answer["jobId"])
        raise AssertionError("the last try returns or raises")

    def find(self, queue: str, name: str) -> str | None:
        """The id of the earliest job of that name in the queue, whatever its state."""
        jobs = [
            (each["createdAt"], each["jobId"])
            for each in self._list(jobQueue=queue, filters=[{"name": "JOB_NAME", "values": [name]}])
            if each["jobName"] == name
        ]
        return min(jobs)[1] if jobs else None

    def describe(self, job_ids: Sequence[str]) -> dict[str, JobState]:
        """Job id → its state, for those that Batch still knows (it forgets them after a week)."""
        return {detail["jobId"]: _state(detail) for detail in self._describe(job_ids)}

    def failures(self, job_id: str, limit: int) -> list[ChildFailure]:
        """Why the first `limit` failed children of an array, or the plain job, failed."""
        ids = [each["jobId"] for each in self._list(limit, arrayJobId=job_id, jobStatus="FAILED")][:limit]
        found = [_failure(detail) for detail in self._describe(ids or [job_id]) if detail["status"] == "FAILED"]
        return sorted(found, key=lambda failure: failure.index)

    def terminate(self, job_id: str, reason: str) -> None:
        """End a job, or all children of an array, running or not.

        One that has ended stays as it is.
        """
        call(self._reader, "TerminateJob", job_id, jobId=job_id, reason=reason)

    def _describe(self, job_ids: Sequence[str]) -> Iterator[dict[str, Any]]:
        for start in range(0, len(job_ids), DESCRIBED_AT_ONCE):
            chunk = list(job_ids[start : start + DESCRIBED_AT_ONCE])
            yield from call(self._reader, "DescribeJobs", chunk[0], jobs=chunk)["jobs"]

    def _list(self, limit: int | None = None, **asked: Any) -> Iterator[dict[str, Any]]:
        seen = 0
        while limit is None or seen < limit:
            page = call(self._reader, "ListJobs", asked.get("jobQueue") or asked["arrayJobId"], **asked)
            yield from page["jobSummaryList"]
            seen += len(page["jobSummaryList"])
            if not page.get("nextToken"):
                return
            asked["nextToken"] = page["nextToken"]


def _state(detail: Mapping[str, Any]) -> JobState:
    container = detail.get("container", {})
    return JobState(
        job_id=detail["jobId"],
        name=detail["jobName"],
        status=detail["status"],
        status_reason=detail.get("statusReason", ""),
        exit_code=container.get("exitCode"),
        reason=container.get("reason", ""),
        log_stream=container.get("logStreamName", ""),
        children={
            status: count
            for status, count in detail.get("arrayProperties", {}).get("statusSummary", {}).items()
            if count
        },
    )


def _failure(detail: Mapping[str, Any]) -> ChildFailure:
    state = _state(detail)
    return ChildFailure(
        index=detail.get("arrayProperties", {}).get("index", 0),
        job_id=state.job_id,
        status_reason=state.status_reason,
        reason=state.reason,
        exit_code=state.exit_code,
        log_stream=state.log_stream,
        attempts=len(detail.get("attempts", [])),
    )
