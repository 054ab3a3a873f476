"""Questions about AWS Batch: can it start a job? And the quotas of the account."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

from jobs.aws.clients import none_if_absent
from jobs.doctor.model import APPLY, Finding, Question, failure, ok, warning
from jobs.doctor.system import System
from jobs.policy.model import Policy

QUEUES = ("workers", "orchestrators")
_VALID = ("VALID", "UPDATING")
_QUOTAS = {
    "fargate_spot": ("L-36FBB829", "Fargate Spot vCPU resource count"),
    "fargate": ("L-3032A538", "Fargate On-Demand vCPU resource count"),
}
CONCURRENCY_MIN = 100
"""Of Lambda: a new account has 10, an account that asks nothing gets 1,000."""
_ECR = re.compile(r"(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com/([^@:]+)(?::[^@]+)?@(sha256:\w+)")


def questions(system: System) -> Iterator[Question]:
    """Of queues, image and quotas."""
    for use in QUEUES:
        yield Question("job-queue", f"{system.name}-{use}", partial(_queue, system, f"{system.name}-{use}"))
    yield Question("image", f"{system.name}-replicate", partial(_image, system))
    yield from quotas(system)


def quotas(system: System) -> Iterator[Question]:
    """What the account may run: asked before anything is made, too."""
    for compute, (code, name) in _QUOTAS.items():
        if wanted := _wanted_vcpus(system.policy, compute):
            yield Question("vcpu-quota", name, partial(_vcpus, system, code, wanted))
    yield Question("lambda-quota", "the account", partial(_concurrency, system))


def _queue(system: System, name: str) -> Finding:
    queues = system.call("batch", "DescribeJobQueues", name, jobQueues=[name])["jobQueues"]
    if not queues:
        return failure("there is no such job queue", APPLY)
    queue = queues[0]
    if queue["state"] != "ENABLED" or queue["status"] not in _VALID:
        says = f"the job queue is {queue['state']}, {queue['status']}: {queue.get('statusReason', '')}"
        return failure(says, f"enable it: {APPLY}")
    names = [each["computeEnvironment"] for each in queue["computeEnvironmentOrder"]]
    answer = system.call("batch", "DescribeComputeEnvironments", name, computeEnvironments=names)
    states = [
        f"{each['computeEnvironmentName']} is {each['state']}, {each['status']}: {each.get('statusReason', '')}"
        for each in answer["computeEnvironments"]
        if each["state"] != "ENABLED" or each["status"] not in _VALID
    ]
    if len(states) == len(answer["computeEnvironments"]):
        return failure(f"no compute environment starts jobs: {'; '.join(states) or 'it has none'}", APPLY)
    return warning("; ".join(states), APPLY) if states else ok("it starts jobs")


def _image(system: System) -> Finding:
    """Of all job definitions: they name the same one."""
    container = system.definition("replicate")
    if container is None:
        return failure("there is no such job definition", APPLY)
    image = _ECR.fullmatch(container["image"])
    if image is None:
        return warning(f"its image {container['image']} is none of ECR by its digest", APPLY)
    account, region, repository, digest = image.groups()
    asked = {"registryId": account, "repositoryName": repository, "imageIds": [{"imageDigest": digest}]}
    found = none_if_absent(lambda: system.call("ecr", "DescribeImages", repository, region, **asked))
    if not found or not found["imageDetails"]:
        return failure(f"the image {digest[:19]} is not in {repository}: no job starts", "push it, or correct image")
    return ok("the image of jobs can be pulled")


def _wanted_vcpus(policy: Policy, compute: str) -> int:
    """As many as the compute environments of terraform/batch.tf may have. Orchestrators run on demand."""
    wanted = 2 * len(policy.pairs) + 2 * policy.batch.vcpus if compute == "fargate" else 0
    return wanted + (policy.batch.max_vcpus if compute == policy.batch.compute else 0)


def _vcpus(system: System, code: str, wanted: int) -> Finding:
    answer = system.call("service-quotas", "GetServiceQuota", code, ServiceCode="fargate", QuotaCode=code)
    value = float(answer["Quota"]["Value"])
    says = f"the account may have {value:,.0f} vCPUs, the system wants {wanted:,}"
    if value < wanted:
        return warning(f"{says}: jobs wait", "ask AWS for a higher quota, or lower batch.max_vcpus")
    return ok(says)


def _concurrency(system: System) -> Finding:
    limit = system.call("lambda", "GetAccountSettings", "the account")["AccountLimit"]["ConcurrentExecutions"]
    says = f"the account may run {limit:,} functions at once"
    if limit < CONCURRENCY_MIN:
        return warning(f"{says}: events wait when many come", "ask AWS for 1,000 concurrent executions")
    return ok(says)
