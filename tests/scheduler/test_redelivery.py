"""Redelivery: SQS learns when each failed message comes again."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest

from scheduler.redelivery import FIRST_SECONDS, LAST_SECONDS, delay_seconds
from tests.doubles.scripted_server import Reply, Script, scripted
from tests.scheduler.conftest import Place
from tests.scheduler.event_samples import message

ARN = "arn:aws:sqs:us-east-1:123456789012:sealift-objects"
VISIBILITY_SECONDS_MAX = 12 * 3600
"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibility.html"""


@pytest.fixture
def queue(place: Place) -> Iterator[Script]:
    with scripted() as script:
        script.reply = Reply(200, {"Content-Type": "application/x-amz-json-1.0"}, b'{"Successful": [], "Failed": []}')
        place.more |= {"AWS_ENDPOINT_URL_SQS": script.endpoint}
        yield script


def received(body: Any, name: str, count: int) -> dict[str, Any]:
    delivered = message(body, name) | {"receiptHandle": f"receipt-{name}", "eventSourceARN": ARN}
    return delivered | {"attributes": {"ApproximateReceiveCount": str(count)}}


def told(queue: Script) -> dict[str, int]:
    """Receipt → seconds, of all requests."""
    asked = [json.loads(each.body) for each in queue.seen]
    assert {each["QueueUrl"].rpartition("/")[2] for each in asked} <= {"sealift-objects"}
    return {entry["ReceiptHandle"]: entry["VisibilityTimeout"] for each in asked for entry in each["Entries"]}


def test_what_failed_comes_again_sooner_and_later_each_time(place: Place, queue: Script) -> None:
    bodies = [place.event("good"), *["no event"] * 3]
    records = [received(body, f"m{number}", number or 1) for number, body in enumerate(bodies)]
    with place.function("backup") as backup:
        assert backup.invoke({"Records": records}).failed == ["m1", "m2", "m3"]
    targets = {value for each in queue.seen for name, value in each.headers.items() if name.lower() == "x-amz-target"}
    assert targets == {"AmazonSQS.ChangeMessageVisibilityBatch"}
    first, second, third = (told(queue)[f"receipt-m{number}"] for number in (1, 2, 3))
    assert set(told(queue)) == {"receipt-m1", "receipt-m2", "receipt-m3"}
    assert 0 < first <= FIRST_SECONDS < second < third < LAST_SECONDS


def test_a_batch_that_is_refused_as_a_whole_is_postponed_as_well(place: Place, queue: Script) -> None:
    place.policy.write_text("version: 1\n")
    records = [received("any", f"m{number}", 1) for number in range(23)]
    with place.function("backup") as backup:
        assert backup.invoke({"Records": records}).error_type == "PolicyError"
    assert len(told(queue)) == 23
    assert max(len(json.loads(each.body)["Entries"]) for each in queue.seen) == 10


def test_a_queue_out_of_reach_changes_nothing(place: Place) -> None:
    with place.function("backup") as backup:
        assert backup.invoke({"Records": [received("no event", "m0", 1)]}).failed == ["m0"]
        (line,) = [line for line in backup.lines() if line.get("event") == "not postponed"]
    assert line["queue"] == ARN


def test_pauses_are_ones_that_sqs_takes() -> None:
    for count, chance in itertools.product((1, 2, 5, 8, 10_000), (0.0, 1.0)):
        assert 1 <= delay_seconds(count, chance) <= min(LAST_SECONDS, VISIBILITY_SECONDS_MAX)
