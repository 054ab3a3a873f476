"""The account: who asks, what roles may do, states of KMS keys, metrics of CloudWatch.

Each method asks one question and changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from jobs.aws.clients import Clients, call
from jobs.aws.readings import none_if_absent

PERIOD_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks: the account, and the ARN of the user or of the role's session."""

    account: str
    arn: str

    @property
    def partition(self) -> str:
        """`aws`, `aws-cn` or `aws-us-gov`."""
        return self.arn.split(":")[1]


@dataclass(frozen=True, slots=True)
class Key:
    """A KMS key. `state` is Enabled, Disabled, PendingDeletion or another word of KMS."""

    arn: str
    state: str
    is_customers: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """IAM's answer to one action of a role. `answer`: allowed, implicitDeny or explicitDeny."""

    action: str
    resource: str
    answer: str
    missing_context: tuple[str, ...]


class Account:
    """Asks about the account in one region. Methods raise StoreError and ConfigError."""

    def __init__(self, clients: Clients):
        self._clients = clients

    def identity(self) -> Identity:
        """Who the credentials belong to."""
        answer = call(self._clients["sts"], "GetCallerIdentity", "the caller")
        return Identity(answer["Account"], answer["Arn"])

    def key(self, name: str) -> Key | None:
        """The key of this id, ARN or alias. None if it does not exist."""
        client = self._clients["kms"]
        answer = none_if_absent(lambda: call(client, "DescribeKey", name, KeyId=name))
        if answer is None:
            return None
        found = answer["KeyMetadata"]
        return Key(found["Arn"], found["KeyState"], found["KeyManager"] == "CUSTOMER")

    def key_policy(self, name: str) -> Mapping[str, Any]:
        """The policy of a key, as JSON has it."""
        answer = call(self._clients["kms"], "GetKeyPolicy", name, KeyId=name, PolicyName="default")
        policy: Mapping[str, Any] = json.loads(answer["Policy"])
        return policy

    def simulate(
        self, role: str, actions: Sequence[str], resources: Sequence[str], context: Mapping[str, str]
    ) -> tuple[Decision, ...]:
        """What IAM says of each action of a role on each resource.

        The simulation knows the role's policies, its permissions boundary and the organization's
        policies. It does not know policies of buckets, queues and keys. Raises ValueError if IAM
        leaves a decision out.
        https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
        """
        client = self._clients["iam"]
        entries = [
            {"ContextKeyName": name, "ContextKeyType": "string", "ContextKeyValues": [value]}
            for name, value in context.items()
        ]
        asked: dict[str, Any] = {
            "PolicySourceArn": role,
            "ActionNames": list(actions),
            "ResourceArns": list(resources),
            "ContextEntries": entries,
        }
        found: list[Decision] = []
        while True:
            answer = call(client, "SimulatePrincipalPolicy", role, **asked)
            for each in answer["EvaluationResults"]:
                found += _decisions(each)
            if not answer.get("IsTruncated"):
                break
            asked["Marker"] = answer["Marker"]
        wanted = {(action, resource) for action in actions for resource in resources}
        if missing := sorted(wanted - {(each.action, each.resource) for each in found}):
            raise ValueError(f"no decision on {missing[0][0]} on {missing[0][1]}")
        return tuple(found)

    def latest_metric(
        self, namespace: str, metric: str, dimensions: Mapping[str, str], statistic: str, hours: int
    ) -> float | None:
        """The latest value of a metric within the last `hours`. None if CloudWatch has no value.

        For the statistic `Sum` it is the sum of all of them.
        """
        now = datetime.now(UTC)
        points = call(
            self._clients["cloudwatch"],
            "GetMetricStatistics",
            metric,
            Namespace=namespace,
            MetricName=metric,
            Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
            StartTime=now - timedelta(hours=hours),
            EndTime=now,
            Period=PERIOD_SECONDS,
            Statistics=[statistic],
        )["Datapoints"]
        if not points:
            return None
        if statistic == "Sum":
            return float(sum(each["Sum"] for each in points))
        return float(max(points, key=lambda each: each["Timestamp"])[statistic])


def _decisions(result: Mapping[str, Any]) -> list[Decision]:
    """The decisions on an action: for each resource, or for the one that was named."""
    action, parts = result["EvalActionName"], result.get("ResourceSpecificResults") or []
    if not parts:
        missing = tuple(result.get("MissingContextValues", ()))
        return [Decision(action, result["EvalResourceName"], result["EvalDecision"], missing)]
    return [
        Decision(
            action, part["EvalResourceName"], part["EvalResourceDecision"], tuple(part.get("MissingContextValues", ()))
        )
        for part in parts
    ]
