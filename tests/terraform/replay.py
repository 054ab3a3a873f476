"""Requests evaluated against the policies of a plan: who would be refused, and which permissions nobody used."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.doubles.aws_recorder import Recorded
from tests.terraform.iam import Answer, decide, listed
from tests.terraform.refusals import S3_REFUSES, World
from tests.terraform.requests import S3, Account, Demand
from tests.terraform.world import State

ENDPOINT_SERVICES = ("s3", "batch")
"""Services that jobs reach by VPC endpoints with a policy. Logs and images are the host's own requests."""


@dataclass
class Replay:
    """The policies of a plan. `owners`: bucket → the other account that it is in, where both sides have to allow.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic-cross-account.html
    """

    state: State
    account_id: str
    region: str
    bucket_regions: Mapping[str, str]
    owners: Mapping[str, str] = field(default_factory=dict)
    statements: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    used: set[tuple[str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        policies = self.state.policies
        for values, made in policies("aws_iam_role_policy"):
            self.statements.setdefault(values["role"], []).extend(made)
        self._buckets = {values["bucket"]: made for values, made in policies("aws_s3_bucket_policy")}
        self._keys = {values["arn"]: made for values, made in policies("aws_kms_key")}
        self._endpoints = {
            (values["service_region"] or self.region, values["service_name"].rpartition(".")[2]): made
            for values, made in policies("aws_vpc_endpoint")
        }
        self._inside = {
            json.loads(values["container_properties"])["jobRoleArn"].rpartition("/")[2]
            for values in self.state.all_values("aws_batch_job_definition")
        }
        keys = {
            values["bucket"]: each["kms_master_key_id"]
            for values in self.state.all_values("aws_s3_bucket_server_side_encryption_configuration")
            for each in values["rule"][0]["apply_server_side_encryption_by_default"]
            if each["kms_master_key_id"]
        }
        (own_key,) = (arn for arn in self._keys if arn.split(":")[3:5] == [self.region, self.account_id])
        system = self.state.output("environment")["SEALIFT_SYSTEM"]
        self._account = Account(self.account_id, system, own_key, keys, self.bucket_regions, self.owners)
        self._world = World(
            inside=self._inside,
            bucket_regions=self.bucket_regions,
            locked={values["bucket"] for values in self.state.all_values("aws_s3_bucket_object_lock_configuration")},
            bucket_keys=keys,
            account=self.account_id,
            owners=self.owners,
        )

    def refusals(self, requests: Iterable[Recorded]) -> dict[str, str]:
        """Why → a request that AWS would refuse for it."""
        found: dict[str, str] = {}
        for request in requests:
            if request.role in self.statements:
                for why in self._why(request):
                    found.setdefault(f"{request.role}: {why}", str(request))
        return found

    def unused(self) -> set[tuple[str, str]]:
        """(role, action) of each permission that no request has used so far."""
        granted = {
            (role, action)
            for role, statements in self.statements.items()
            for statement in statements
            if statement["Effect"] == "Allow"
            for action in listed(statement["Action"])
        }
        return granted - self.used

    def _why(self, request: Recorded) -> Iterator[str]:
        if request.service == "s3":
            yield from (name for name, refuses in S3_REFUSES.items() if refuses(request, self._world))
        for demand in self._account.demands(request):
            place = demand.resource.removeprefix(S3).partition("/")[0]
            where = place if demand.action.startswith("s3:") else demand.resource
            answer = decide(self.statements[request.role], demand.action, demand.resource, demand.context)
            if answer is Answer.ALLOWED:
                self.used.add((request.role, demand.action))
            elif demand.is_needed:
                yield f"{demand.action} on {where}: {answer} by its role"
            yield from self._of_resources(request, demand, where)

    def _of_resources(self, request: Recorded, demand: Demand, where: str) -> Iterator[str]:
        """Policies beside the role's: those of buckets and keys, and of the endpoint that leads there."""
        root = f"arn:aws:iam::{self.account_id}:root"  # policies leave it to the account's roles
        asked = (demand.action, demand.resource, demand.context)
        by_bucket = decide(self._buckets.get(where, []), *asked, root)
        if by_bucket is Answer.DENIED:
            yield f"{demand.action} on {where}: denied by the bucket"
        elif where in self.owners and by_bucket is not Answer.ALLOWED and demand.is_needed:
            yield f"{demand.action} on {where}: not allowed by the bucket of another account"
        if demand.action.startswith("kms:") and demand.resource in self._keys:
            by_key = decide(self._keys[demand.resource], *asked, root)
            if by_key is not Answer.ALLOWED:
                yield f"{demand.action} on {where}: not allowed by the key"
        service = demand.action.partition(":")[0]
        if request.role in self._inside and service in ENDPOINT_SERVICES:
            region = self.bucket_regions.get(where, self.region) if service == "s3" else self.region
            endpoint = self._endpoints.get((region, service))
            assert endpoint is not None, f"no endpoint leads to {service} in {region}"
            if decide(endpoint, *asked, "*") is not Answer.ALLOWED:
                yield f"{demand.action} on {where}: not allowed by the endpoint of {service} in {region}"
