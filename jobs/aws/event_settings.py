"""Settings of what carries events: queues, EventBridge rules, functions, schedules.

Each method asks one question and changes nothing. None: there is no such thing in the region.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobs.aws.clients import Clients, call
from jobs.aws.readings import none_if_absent

_INPUTS = ("Input", "InputPath", "InputTransformer")


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """An SQS queue. `policy`: its resource policy, as JSON has it. `messages`: waiting or taken.

    `kept_seconds`: how long it keeps a message. None: it does not say, as on other servers.
    """

    name: str
    url: str
    arn: str
    policy: Mapping[str, Any]
    key: str | None
    visibility_seconds: int
    kept_seconds: int | None
    dead_letter_arn: str | None
    messages: int


@dataclass(frozen=True, slots=True)
class RuleSettings:
    """An EventBridge rule. `pattern`: as JSON has it. `targets`: ARN → the role that sends there.

    `dead_letters`: ARN of a target → the queue of what it does not take, None without one.
    `altered`: targets that get something else than the event.
    """

    arn: str
    is_enabled: bool
    pattern: Mapping[str, Any]
    targets: Mapping[str, str | None]
    dead_letters: Mapping[str, str | None]
    altered: frozenset[str]


@dataclass(frozen=True, slots=True)
class FunctionSettings:
    """A Lambda function. `reserved`: its reserved concurrency, None for none.

    `policy`: who may call it, as JSON has it. `dead_letter_arn`: where a call ends that failed each
    time, if nobody waits for it.
    """

    arn: str
    state: str
    last_update: str
    role: str
    timeout_seconds: int
    environment: Mapping[str, str]
    reserved: int | None
    policy: Mapping[str, Any]
    dead_letter_arn: str | None


@dataclass(frozen=True, slots=True)
class QueueMapping:
    """What takes a queue's messages to a function. `is_filtered`: not all of them."""

    state: str
    function: str
    reports_failures: bool
    is_filtered: bool


@dataclass(frozen=True, slots=True)
class ScheduleSettings:
    """A schedule of EventBridge Scheduler. `payload`: what its target gets.

    `begins_at`: epoch seconds before which it does nothing, None if it says none.
    """

    is_enabled: bool
    expression: str
    time_zone: str
    target: str
    role: str
    payload: str
    begins_at: float | None
    has_ended: bool


class EventSettings:
    """Reads settings in one region. Methods raise StoreError and ConfigError."""

    def __init__(self, clients: Clients):
        self._clients = clients

    def queue(self, name: str, owner: str | None = None) -> QueueSettings | None:
        """The queue of this name in the caller's account, or in the account `owner`."""
        client = self._clients["sqs"]
        asked = {"QueueOwnerAWSAccountId": owner} if owner else {}
        found = none_if_absent(lambda: call(client, "GetQueueUrl", name, QueueName=name, **asked))
        if found is None:
            return None
        url = found["QueueUrl"]
        known = call(client, "GetQueueAttributes", name, QueueUrl=url, AttributeNames=["All"])["Attributes"]
        counts = (known[f"ApproximateNumberOfMessages{suffix}"] for suffix in ("", "NotVisible", "Delayed"))
        return QueueSettings(
            name=name,
            url=url,
            arn=known["QueueArn"],
            policy=json.loads(known.get("Policy") or "{}"),
            key=known.get("KmsMasterKeyId"),
            visibility_seconds=int(float(known["VisibilityTimeout"])),
            kept_seconds=int(known["MessageRetentionPeriod"]) if "MessageRetentionPeriod" in known else None,
            dead_letter_arn=json.loads(known.get("RedrivePolicy") or "{}").get("deadLetterTargetArn"),
            messages=sum(map(int, counts)),
        )

    def rule(self, name: str) -> RuleSettings | None:
        """The rule of this name on the default bus."""
        client = self._clients["events"]
        found = none_if_absent(lambda: call(client, "DescribeRule", name, Name=name))
        if found is None:
            return None
        targets = call(client, "ListTargetsByRule", name, Rule=name)["Targets"]
        return RuleSettings(
            arn=found["Arn"],
            is_enabled=found["State"] == "ENABLED",
            pattern=json.loads(found["EventPattern"]),
            targets={each["Arn"]: each.get("RoleArn") for each in targets},
            dead_letters={each["Arn"]: each.get("DeadLetterConfig", {}).get("Arn") for each in targets},
            altered=frozenset(each["Arn"] for each in targets if not each.keys().isdisjoint(_INPUTS)),
        )

    def function(self, name: str) -> FunctionSettings | None:
        """The function of this name."""
        client = self._clients["lambda"]
        found = none_if_absent(lambda: call(client, "GetFunctionConfiguration", name, FunctionName=name))
        if found is None:
            return None
        concurrency = call(client, "GetFunctionConcurrency", name, FunctionName=name)
        policy = none_if_absent(lambda: call(client, "GetPolicy", name, FunctionName=name))
        return FunctionSettings(
            arn=found["FunctionArn"],
            state=found.get("State", "Active"),
            last_update=found.get("LastUpdateStatus", "Successful"),
            role=found["Role"],
            timeout_seconds=found["Timeout"],
            environment=found.get("Environment", {}).get("Variables", {}),
            reserved=concurrency.get("ReservedConcurrentExecutions"),
            policy={} if policy is None else json.loads(policy["Policy"]),
            dead_letter_arn=found.get("DeadLetterConfig", {}).get("TargetArn") or None,
        )

    def mappings(self, queue_arn: str) -> tuple[QueueMapping, ...]:
        """What takes the queue's messages away."""
        client = self._clients["lambda"]
        answer = call(client, "ListEventSourceMappings", queue_arn, EventSourceArn=queue_arn)
        return tuple(
            QueueMapping(
                state=each["State"],
                function=each["FunctionArn"].split(":")[6],
                reports_failures="ReportBatchItemFailures" in each.get("FunctionResponseTypes", []),
                is_filtered=bool(each.get("FilterCriteria", {}).get("Filters") or each.get("FilterCriteriaError")),
            )
            for each in answer["EventSourceMappings"]
        )

    def concurrency_limit(self) -> int:
        """How many invocations the account may have at once."""
        answer = call(self._clients["lambda"], "GetAccountSettings", "the account")
        return int(answer["AccountLimit"]["ConcurrentExecutions"])

    def schedule(self, group: str, name: str) -> ScheduleSettings | None:
        """The schedule of this name in a group."""
        client = self._clients["scheduler"]
        found = none_if_absent(lambda: call(client, "GetSchedule", name, GroupName=group, Name=name))
        if found is None:
            return None
        return ScheduleSettings(
            is_enabled=found["State"] == "ENABLED",
            expression=found["ScheduleExpression"],
            time_zone=found.get("ScheduleExpressionTimezone", "UTC"),
            target=found["Target"]["Arn"],
            role=found["Target"]["RoleArn"],
            payload=found["Target"].get("Input", ""),
            begins_at=found["StartDate"].timestamp() if "StartDate" in found else None,
            has_ended="EndDate" in found,
        )
