"""Settings of AWS Batch: queues with their compute environments, job definitions, images.

Each method asks one question and changes nothing. None: there is no such thing in the region.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from jobs.aws.clients import Clients, call
from jobs.aws.readings import none_if_absent

_ECR = re.compile(r"(\d{12})\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]+)\.[a-z.]+/([^@:]+)(?::([^@]+))?(?:@(sha256:\w+))?")


@dataclass(frozen=True, slots=True)
class ComputeEnvironment:
    """A compute environment. `kind`: FARGATE_SPOT, FARGATE, SPOT or EC2. Empty if unmanaged."""

    name: str
    state: str
    status: str
    reason: str
    kind: str
    max_vcpus: int


@dataclass(frozen=True, slots=True)
class JobQueue:
    """A job queue, with its environments in their order. `is_fair`: it shares by identifiers."""

    arn: str
    state: str
    status: str
    reason: str
    is_fair: bool
    environments: tuple[ComputeEnvironment, ...]


@dataclass(frozen=True, slots=True)
class JobDefinition:
    """The latest active revision of a job definition."""

    revision: int
    image: str
    job_role: str | None
    execution_role: str | None
    vcpus: float
    memory_mib: int
    environment: Mapping[str, str]
    platforms: tuple[str, ...]


class EcrImage(NamedTuple):
    """An image in a repository of ECR, by tag or digest."""

    registry: str
    region: str
    repository: str
    tag: str | None
    digest: str | None

    @classmethod
    def parse(cls, image: str) -> EcrImage | None:
        """None for an image that lies elsewhere."""
        found = _ECR.fullmatch(image)
        if found is None:
            return None
        account, region, repository, tag, digest = found.groups()
        return cls(account, region, repository, tag if tag or digest else "latest", digest)


class BatchSettings:
    """Reads settings in one region. Methods raise StoreError and ConfigError."""

    def __init__(self, clients: Clients):
        self._clients = clients

    def queue(self, name: str) -> JobQueue | None:
        """The queue of this name."""
        client = self._clients["batch"]
        queues = call(client, "DescribeJobQueues", name, jobQueues=[name])["jobQueues"]
        if not queues:
            return None
        order = sorted(queues[0]["computeEnvironmentOrder"], key=lambda each: each["order"])
        names = [each["computeEnvironment"] for each in order]
        found = call(client, "DescribeComputeEnvironments", name, computeEnvironments=names)["computeEnvironments"]
        by_arn = {each["computeEnvironmentArn"]: each for each in found}
        by_name = {each["computeEnvironmentName"]: each for each in found}
        chosen = [by_arn.get(each) or by_name[each] for each in names]
        return JobQueue(
            arn=queues[0]["jobQueueArn"],
            state=queues[0]["state"],
            status=queues[0]["status"],
            reason=queues[0].get("statusReason", ""),
            is_fair=bool(queues[0].get("schedulingPolicyArn")),
            environments=tuple(map(_environment, chosen)),
        )

    def definition(self, name: str) -> JobDefinition | None:
        """The latest active revision, which a job without a revision gets."""
        client = self._clients["batch"]
        asked: dict[str, Any] = {"jobDefinitionName": name, "status": "ACTIVE"}
        found: list[Any] = []
        while True:
            answer = call(client, "DescribeJobDefinitions", name, **asked)
            found += answer["jobDefinitions"]
            if not answer.get("nextToken"):
                break
            asked["nextToken"] = answer["nextToken"]
        return _definition(max(found, key=lambda each: each["revision"])) if found else None

    def has_image(self, image: EcrImage) -> bool:
        """Whether the repository, which has to be in this region, has the image."""
        client = self._clients["ecr"]
        wanted = {"imageDigest": image.digest} if image.digest else {"imageTag": image.tag}
        asked = {"registryId": image.registry, "repositoryName": image.repository, "imageIds": [wanted]}
        answer = none_if_absent(lambda: call(client, "DescribeImages", image.repository, **asked))
        return answer is not None and bool(answer["imageDetails"])

    def quota(self, service: str, code: str) -> float:
        """The value of a quota of the account."""
        client = self._clients["service-quotas"]
        return float(call(client, "GetServiceQuota", code, ServiceCode=service, QuotaCode=code)["Quota"]["Value"])


def _environment(each: Mapping[str, Any]) -> ComputeEnvironment:
    resources = each.get("computeResources", {})
    return ComputeEnvironment(
        name=each["computeEnvironmentName"],
        state=each["state"],
        status=each["status"],
        reason=each.get("statusReason", ""),
        kind=resources.get("type", ""),
        max_vcpus=resources.get("maxvCpus", 0),
    )


def _definition(each: Mapping[str, Any]) -> JobDefinition:
    container = each["containerProperties"]
    needs = {need["type"]: need["value"] for need in container.get("resourceRequirements", [])}
    return JobDefinition(
        revision=each["revision"],
        image=container["image"],
        job_role=container.get("jobRoleArn"),
        execution_role=container.get("executionRoleArn"),
        vcpus=float(needs.get("VCPU", 0)),
        memory_mib=int(needs.get("MEMORY", 0)),
        environment={pair["name"]: pair["value"] for pair in container.get("environment", [])},
        platforms=tuple(each.get("platformCapabilities", [])),
    )
