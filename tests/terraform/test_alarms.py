"""Alarms: each watches a metric where AWS or Sealift publishes it, and reaches people from there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from jobs.policy.reader import read_policy
from scheduler import event_metrics
from tests.terraform.world import ROOT, State

REGION = "eu-central-1"
SOURCES = "".join((ROOT / "scheduler" / f"{name}.py").read_text() for name in ("enqueue", "follow", "event_metrics"))
OF_A_PAIR = {
    *re.findall(r'Metric\("(\w+)"', SOURCES),
    *event_metrics._COUNTS,
    *("OldestEventAge", "OldestUnhandledEventAge"),
}
OF_A_JOB = set(re.findall(r'Metric\("(\w+)"', (ROOT / "jobs" / "runs" / "worker_log.py").read_text()))

OF_THE_DESTINATION = {"ReplicationLatency", "BytesPendingReplication", "OperationsPendingReplication"}
OF_THE_SOURCE = {"OperationsFailedReplication"}
"""Where S3 publishes: https://docs.aws.amazon.com/AmazonS3/latest/userguide/repl-metrics.html"""

WORLDS = ["example", "hosts", "minimal"]


@pytest.fixture(params=WORLDS)
def world(request) -> Any:
    return request.getfixturevalue(request.param)


def alarms(state) -> Iterator[dict[str, Any]]:
    return state.all_values("aws_cloudwatch_metric_alarm")


def regions(state) -> dict[str, str]:
    return {values["bucket"]: values["region"] for values in state.all_values("aws_s3_bucket")}


def watching(state, metric: str) -> list[dict[str, Any]]:
    return [values for values in alarms(state) if values["metric_name"] == metric]


def test_replication_is_watched_where_s3_publishes_it(world):
    where = regions(world)
    for values in alarms(world):
        if values["namespace"] == "AWS/S3":
            assert values["metric_name"] in OF_THE_DESTINATION | OF_THE_SOURCE
            side = "DestinationBucket" if values["metric_name"] in OF_THE_DESTINATION else "SourceBucket"
            assert values["region"] == where[values["dimensions"][side]], values["alarm_name"]
    for panel in json.loads(world.all("aws_cloudwatch_dashboard")["this"]["dashboard_body"])["widgets"]:
        for namespace, metric, *rest in panel["properties"]["metrics"]:
            if namespace == "AWS/S3":
                pairs = rest[:-1]
                dimensions = dict(zip(pairs[::2], pairs[1::2], strict=True))
                assert metric in OF_THE_DESTINATION
                assert rest[-1]["region"] == where[dimensions["DestinationBucket"]]


def test_every_replication_rule_is_watched(world):
    """Metrics exist only where the rule turns them on."""
    rules = {}
    for bucket, values in world.all("aws_s3_bucket_replication_configuration").items():
        for rule in values["rule"]:
            rules[bucket, rule["id"]] = rule
    for (bucket, name), rule in rules.items():
        (metrics,) = rule["destination"][0]["metrics"]
        assert metrics["status"] == "Enabled"
        assert bool(metrics["event_threshold"]) == bool(rule["destination"][0]["replication_time"])
        for metric in ("ReplicationLatency", "OperationsFailedReplication"):
            found = [each["dimensions"] for each in watching(world, metric)]
            assert [(bucket, name)] == [
                (each["SourceBucket"], each["RuleId"]) for each in found if each["RuleId"] == name
            ]


def parts(state) -> list[State]:
    """What is made in each account, where a root makes several."""
    modules = {
        each["address"].partition(".aws_")[0]
        for each in state.resources
        if each["mode"] == "managed" and ".aws_" in each["address"]
    }
    return [
        State([each for each in state.resources if each["address"].startswith(f"{module}.aws_")], state.outputs)
        for module in sorted(modules)
    ]


@pytest.mark.parametrize("name", [*WORLDS, "two_accounts"])
def test_events_to_other_regions_and_accounts_are_retried_and_kept(request, name):
    """A dead-letter queue has to be in its rule's region:
    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html"""
    state = request.getfixturevalue(name)
    made = parts(state) if name == "two_accounts" else [state]
    assert len(made) == (2 if name == "two_accounts" else 1)
    for part in made:
        _are_retried_and_kept(part)


def _are_retried_and_kept(world):
    queues = {values["arn"]: values for values in world.all_values("aws_sqs_queue")}
    policies = {values["queue_url"]: values["policy"] for values in world.all_values("aws_sqs_queue_policy")}
    rules = {
        (values["region"], values["name"]): values["arn"] for values in world.all_values("aws_cloudwatch_event_rule")
    }
    watched = {
        (values["region"], values["dimensions"]["QueueName"])
        for values in watching(world, "ApproximateNumberOfMessagesVisible")
    }
    targets = list(world.all_values("aws_cloudwatch_event_target"))
    assert targets
    for values in targets:
        (retries,) = values["retry_policy"]
        assert retries["maximum_event_age_in_seconds"] >= 3600
        dead = values["dead_letter_config"][0]["arn"]
        assert dead.split(":")[3] == values["region"]
        assert (values["region"], queues[dead]["name"]) in watched
        granted = [
            statement
            for statement in json.loads(policies[queues[dead]["url"]])["Statement"]
            if statement["Effect"] == "Allow" and statement["Principal"] == {"Service": "events.amazonaws.com"}
        ]
        sources = {arn for statement in granted for arn in statement["Condition"]["ArnEquals"]["aws:SourceArn"]}
        assert rules[values["region"], values["rule"]] in sources


def test_alarms_of_every_region_reach_people(world):
    """An alarm acts in its own region only. From another one a rule carries its state to the topic."""
    carried = {
        values["region"]
        for values in world.all_values("aws_cloudwatch_event_rule")
        if "aws.cloudwatch" in values["event_pattern"] and values["region"] != REGION
    }
    for values in alarms(world):
        topics = {arn.split(":")[3] for arn in values["alarm_actions"] or []}
        assert topics == ({REGION} if values["region"] == REGION else set())
        assert values["region"] in carried | {REGION}, values["alarm_name"]


def test_silence_of_the_parts_is_heard(example):
    """A message that was received three times leaves the queue's own metric, so the function says how old it is:
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html"""
    policy = read_policy(str(ROOT / "policy.example.yaml"))
    for pair in policy.pairs:
        unhandled, backlog = (
            next(each for each in watching(example, metric) if each["dimensions"]["Pair"] == pair.name)
            for metric in ("OldestUnhandledEventAge", "BacklogAge")
        )
        assert unhandled["threshold"] == policy.alarms.oldest_event_minutes * 60
        assert pair.thresholds.backlog_age < backlog["threshold"] <= pair.thresholds.backlog_age + 3600
        assert backlog["treat_missing_data"] == "breaching"  # the function that measures it has stopped


def test_blocked_queues_are_told(example):
    """https://docs.aws.amazon.com/batch/latest/userguide/batch-job-queue-blocked-events.html"""
    (pattern,) = [
        json.loads(values["event_pattern"])
        for values in example.all_values("aws_cloudwatch_event_rule")
        if "Batch Job Queue Blocked" in values["event_pattern"]
    ]
    queues = {values["arn"] for values in example.all_values("aws_batch_job_queue")}
    assert set(pattern["detail"]["jobQueue"]) >= queues


def test_own_metrics_are_this_systems(world):
    """Two systems of an account may have a pair of one name."""
    name = world.output("environment")["SEALIFT_SYSTEM"]
    seen = [
        (values["metric_name"], values["dimensions"]) for values in alarms(world) if values["namespace"] == "Sealift"
    ]
    for panel in json.loads(world.all("aws_cloudwatch_dashboard")["this"]["dashboard_body"])["widgets"]:
        for namespace, metric, *rest in panel["properties"]["metrics"]:
            if namespace == "Sealift":
                seen.append((metric, dict(zip(rest[::2], rest[1::2], strict=True))))
    assert len(seen) > 10
    for metric, dimensions in seen:
        assert dimensions["System"] == name, metric
        kind = "Pair" if "Pair" in dimensions else "Job"
        assert set(dimensions) == {"System", kind}
        assert metric in (OF_A_PAIR if kind == "Pair" else OF_A_JOB)
