"""Alarms: each watches a metric where AWS or Sealift publishes it, and reaches people from there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.terraform.world import ROOT

pytestmark = pytest.mark.slow

REGION = "eu-central-1"
SOURCES = "".join(path.read_text() for path in (ROOT / "scheduler").glob("*.py"))

OF_THE_DESTINATION = {"ReplicationLatency", "BytesPendingReplication", "OperationsPendingReplication"}
OF_THE_SOURCE = {"OperationsFailedReplication"}
"""Where S3 publishes: https://docs.aws.amazon.com/AmazonS3/latest/userguide/repl-metrics.html"""

WORLDS = ["example", "elsewhere", "minimal"]


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


def test_every_replication_rule_is_watched(world):
    """Metrics exist only where the rule turns them on."""
    for bucket, values in world.all("aws_s3_bucket_replication_configuration").items():
        for rule in values["rule"]:
            assert rule["destination"][0]["metrics"][0]["status"] == "Enabled"
            for metric in ("ReplicationLatency", "OperationsFailedReplication"):
                found = [each["dimensions"] for each in watching(world, metric)]
                assert [each["SourceBucket"] for each in found if each["RuleId"] == rule["id"]] == [bucket]


def test_own_metrics_are_ones_that_are_sent_for_this_system(world):
    """Two systems of an account may have a pair of one name."""
    seen = [values for values in alarms(world) if values["namespace"] == "Sealift"]
    assert len(seen) >= 3
    environment = next(world.all_values("aws_lambda_function"))["environment"][0]["variables"]
    for values in seen:
        assert values["dimensions"]["System"] == environment["SEALIFT_SYSTEM"]
        assert re.search(rf"\b{values['metric_name']}\b", SOURCES)


def test_events_to_other_regions_are_retried_and_kept(world):
    """A dead-letter queue has to be in its rule's region:
    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html"""
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
