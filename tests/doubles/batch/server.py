"""AWS Batch on loopback, as much of it as Sealift uses, speaking the service's own REST JSON.

    with batch_server(ProcessRunner()) as server:
        server.add_queue("spot")
        boto3.client("batch", endpoint_url=server.endpoint, …)   # or AWS_ENDPOINT_URL_BATCH

Requests and responses are checked against botocore's model. Imports nothing of pytest.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.doubles.answering import Asked, Reply, answering
from tests.doubles.batch.engine import Engine, Environment, Job, Place, new_id, now_ms
from tests.doubles.batch.rules import Refused, check_shape, check_submission, model, paths
from tests.doubles.batch.runners import Runner

_ARN = "arn:aws:batch:us-east-1:123456789012"


@dataclass
class Queue:
    """A job queue."""

    name: str
    state: str = "ENABLED"


class BatchServer:
    """The API. `calls` counts operations; `throttle` and `lose` hold how many calls of each are to fail."""

    def __init__(self, runner: Runner, *, max_running: int):
        self.engine = Engine(runner, max_running)
        self.queues: dict[str, Queue] = {}
        self.definitions: dict[str, list[dict[str, Any]]] = {}
        self.calls: Counter[str] = Counter()
        self.throttle: Counter[str] = Counter()
        """Operation → how many of its next calls are answered 429."""
        self.lose: Counter[str] = Counter()
        """Operation → how many of its next calls are carried out but never answered."""
        self.endpoint = ""

    def add_queue(
        self,
        name: str,
        *,
        state: str = "ENABLED",
        environment: Environment | None = None,
        priority: int = 1,
    ) -> Queue:
        """A queue with a compute environment behind it: its own, without a limit, or one that it may share."""
        self.queues[name] = Queue(name, state)
        with self.engine.lock:
            self.engine.places[name] = Place(environment or Environment(), priority)
        return self.queues[name]

    def job(self, name: str, index: int | None = None) -> Job:
        """The latest job of that name, or a child of it."""
        with self.engine.lock:
            found = [job for job in self.engine.jobs.values() if job.name == name and job.index is None][-1]
            return found if index is None else found.children[index]

    def names(self) -> list[str]:
        """The names of all submitted jobs, in order."""
        with self.engine.lock:
            return [job.name for job in self.engine.jobs.values() if job.index is None]

    def answer(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out one request. Raises Refused."""
        self.calls[operation] += 1
        shapes = model().operation_model(operation)
        check_shape(request, shapes.input_shape, operation)
        handler = getattr(self, f"_{shapes.name}", None)
        if handler is None:
            raise Refused(f"this Batch does not know {operation}")
        response: dict[str, Any] = handler(request)
        if shapes.output_shape is not None:
            check_shape(response, shapes.output_shape, f"response of {operation}")
        return response

    def _RegisterJobDefinition(self, request: dict[str, Any]) -> dict[str, Any]:
        name = request["jobDefinitionName"]
        revisions = self.definitions.setdefault(name, [])
        revision = len(revisions) + 1
        arn = f"{_ARN}:job-definition/{name}:{revision}"
        revisions.append(request | {"revision": revision, "jobDefinitionArn": arn, "status": "ACTIVE"})
        return {"jobDefinitionName": name, "jobDefinitionArn": arn, "revision": revision}

    def _DescribeJobDefinitions(self, request: dict[str, Any]) -> dict[str, Any]:
        everything = [each for revisions in self.definitions.values() for each in revisions]
        if "jobDefinitions" in request:
            wanted = request["jobDefinitions"]
            if any(":" not in each for each in wanted):
                raise Refused("jobDefinitions must be name:revision or an ARN")
            found = [each for each in everything if {_short(each), each["jobDefinitionArn"]} & set(wanted)]
        else:
            name, status = request.get("jobDefinitionName"), request.get("status")
            found = [
                each
                for each in everything
                if name in (None, each["jobDefinitionName"]) and status in (None, each["status"])
            ]
        return {"jobDefinitions": found}

    def _DescribeJobQueues(self, request: dict[str, Any]) -> dict[str, Any]:
        wanted = request.get("jobQueues")
        return {
            "jobQueues": [
                {
                    "jobQueueName": queue.name,
                    "jobQueueArn": f"{_ARN}:job-queue/{queue.name}",
                    "state": queue.state,
                    "status": "VALID",
                    "priority": 1,
                    "computeEnvironmentOrder": [
                        {"order": 1, "computeEnvironment": f"{_ARN}:compute-environment/local"}
                    ],
                }
                for queue in self.queues.values()
                if wanted is None or queue.name in wanted or f"{_ARN}:job-queue/{queue.name}" in wanted
            ]
        }

    def _SubmitJob(self, request: dict[str, Any]) -> dict[str, Any]:
        queue = self.queues.get(request["jobQueue"].rpartition("/")[2])
        if queue is None:
            raise Refused(f"JobQueue {request['jobQueue']} not found.")
        if queue.state != "ENABLED":
            raise Refused(f"JobQueue {queue.name} is not in ENABLED state.")
        definition = self._definition(request["jobDefinition"])
        check_submission(request)
        size = (request.get("arrayProperties") or {}).get("size")
        with self.engine.lock:
            for each in request.get("dependsOn") or []:
                other = self.engine.jobs.get(each.get("jobId", ""))
                if other is None:
                    raise Refused(f"Job {each.get('jobId')} does not exist")
            job = Job(new_id(), request["jobName"], queue.name, request, definition, now_ms(), size)
            job.container = _container(definition, request.get("containerOverrides") or {})
            self.engine.add(job)
        return {"jobArn": f"{_ARN}:job/{job.id}", "jobName": job.name, "jobId": job.id}

    def _definition(self, reference: str) -> dict[str, Any]:
        name, _, revision = reference.rpartition("/")[2].partition(":")
        active = [each for each in self.definitions.get(name, []) if each["status"] == "ACTIVE"]
        if revision:
            active = [each for each in active if str(each["revision"]) == revision]
        if not active:
            raise Refused(f"JobDefinition name {reference} does not exist or is not in ACTIVE status")
        return active[-1]

    def _DescribeJobs(self, request: dict[str, Any]) -> dict[str, Any]:
        if len(request["jobs"]) > 100:
            raise Refused("jobs must have at most 100 members")
        with self.engine.lock:
            return {"jobs": [self._detail(self.engine.jobs[id]) for id in request["jobs"] if id in self.engine.jobs]}

    def _ListJobs(self, request: dict[str, Any]) -> dict[str, Any]:
        given = [name for name in ("jobQueue", "arrayJobId", "multiNodeJobId") if name in request]
        if len(given) != 1:
            raise Refused("exactly one of jobQueue, arrayJobId and multiNodeJobId")
        filters = request.get("filters") or []
        with self.engine.lock:
            if "arrayJobId" in request:
                parent = self.engine.jobs.get(request["arrayJobId"])
                jobs = list(parent.children) if parent else []
            else:
                name = request["jobQueue"].rpartition("/")[2]
                if name not in self.queues:
                    raise Refused(f"JobQueue {request['jobQueue']} not found.")
                jobs = [job for job in self.engine.jobs.values() if job.queue == name and job.index is None][::-1]
                jobs = [job for job in jobs if _passes(job, filters)]
            if not filters:
                jobs = [job for job in jobs if self.engine.status_of(job) == request.get("jobStatus", "RUNNING")]
            limit = min(request.get("maxResults", 1000), 100 if filters else 1000)
            start = int(request.get("nextToken", "0"))
            page: dict[str, Any] = {"jobSummaryList": [self._summary(job) for job in jobs[start : start + limit]]}
            return page | ({"nextToken": str(start + limit)} if start + limit < len(jobs) else {})

    def _TerminateJob(self, request: dict[str, Any]) -> dict[str, Any]:
        with self.engine.lock:
            job = self.engine.jobs.get(request["jobId"])
            if job is not None:
                self.engine.terminate(job, request["reason"])
        return {}

    def _detail(self, job: Job) -> dict[str, Any]:
        container: dict[str, Any] = {
            "image": job.container["image"],
            "command": list(job.container["command"]),
            "environment": [{"name": name, "value": value} for name, value in job.container["environment"].items()],
        }
        if job.attempts:
            container |= _ended(job)
        detail: dict[str, Any] = {
            "jobArn": f"{_ARN}:job/{job.id}",
            "jobName": job.name,
            "jobId": job.id,
            "jobQueue": f"{_ARN}:job-queue/{job.queue}",
            "jobDefinition": job.definition["jobDefinitionArn"],
            "status": self.engine.status_of(job),
            "createdAt": job.created_at,
            "startedAt": job.attempts[-1].started_at if job.attempts else 0,
            "dependsOn": job.request.get("dependsOn") or [],
            "tags": job.request.get("tags") or {},
            "container": container,
            "attempts": [
                {
                    "startedAt": each.started_at,
                    "stoppedAt": each.stopped_at,
                    "statusReason": each.status_reason,
                    "container": {"logStreamName": each.log_stream}
                    | ({"exitCode": each.exit_code} if each.exit_code is not None else {})
                    | ({"reason": each.reason} if each.reason else {}),
                }
                for each in job.attempts
                if each.stopped_at
            ],
        }
        return detail | _common(self.engine, job)

    def _summary(self, job: Job) -> dict[str, Any]:
        summary: dict[str, Any] = {
            "jobArn": f"{_ARN}:job/{job.id}",
            "jobId": job.id,
            "jobName": job.name,
            "createdAt": job.created_at,
            "status": self.engine.status_of(job),
        }
        if job.attempts:
            ended = _ended(job)
            summary["container"] = {name: ended[name] for name in ("exitCode", "reason") if name in ended}
        return summary | _common(self.engine, job)


def _common(engine: Engine, job: Job) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if job.status_reason:
        found["statusReason"] = job.status_reason
    if job.stopped_at:
        found["stoppedAt"] = job.stopped_at
    if job.size is not None:
        found["arrayProperties"] = {"size": job.size, "statusSummary": engine.summary(job)}
    elif job.index is not None:
        found["arrayProperties"] = {"index": job.index}
    return found


def _ended(job: Job) -> dict[str, Any]:
    last = job.attempts[-1]
    found: dict[str, Any] = {"logStreamName": last.log_stream}
    if last.exit_code is not None:
        found["exitCode"] = last.exit_code
    if last.reason:
        found["reason"] = last.reason
    return found


def _container(definition: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Image, command, environment and resources of a job's containers."""
    properties = definition["containerProperties"]
    resources = {each["type"]: each["value"] for each in properties.get("resourceRequirements") or []}
    resources |= {each["type"]: each["value"] for each in overrides.get("resourceRequirements") or []}
    pairs = [*(properties.get("environment") or []), *(overrides.get("environment") or [])]
    return {
        "image": properties["image"],
        "command": overrides.get("command") or properties.get("command") or [],
        "environment": {each["name"]: each["value"] for each in pairs},
        "vcpus": float(resources.get("VCPU", 1)),
        "memory_mib": int(resources.get("MEMORY", 2048)),
    }


def _passes(job: Job, filters: list[dict[str, Any]]) -> bool:
    for each in filters:
        if each["name"] != "JOB_NAME":
            raise Refused(f"this Batch does not know the filter {each['name']}")
        wanted = [value.lower() for value in each["values"]]
        name = job.name.lower()
        if not any(name.startswith(w[:-1]) if w.endswith("*") else name == w for w in wanted):
            return False
    return True


def _short(definition: dict[str, Any]) -> str:
    return f"{definition['jobDefinitionName']}:{definition['revision']}"


@contextlib.contextmanager
def batch_server(runner: Runner, *, max_running: int = 4) -> Iterator[BatchServer]:
    """A Batch of its own on a free port."""
    batch = BatchServer(runner, max_running=max_running)

    def reply(asked: Asked) -> Reply:
        operation = paths().get(asked.path, "")
        if batch.throttle[operation] > 0:
            batch.throttle[operation] -= 1
            batch.calls[operation] += 1
            return _reply(429, {"message": "Too Many Requests"}, "TooManyRequestsException")
        try:
            answer = _reply(200, batch.answer(operation, json.loads(asked.body or b"{}")))
        except Refused as refused:
            answer = _reply(400, {"message": str(refused)}, "ClientException")
        if batch.lose[operation] > 0:
            batch.lose[operation] -= 1
            return Reply(0)
        return answer

    with answering(reply) as batch.endpoint:
        try:
            yield batch
        finally:
            batch.engine.close()


def _reply(status: int, document: dict[str, Any], error: str = "") -> Reply:
    headers = {"Content-Type": "application/json"} | ({"x-amzn-ErrorType": error} if error else {})
    return Reply(status, headers, json.dumps(document).encode())
