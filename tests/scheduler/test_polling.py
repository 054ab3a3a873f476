"""Queue, function, dead-letter queue: a poison message goes there, and keeps nobody else from being handled."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest

from jobs.aws.queues import Depth, Queue, redrive
from scheduler.backup import handle
from scheduler.polling import Polled, poll
from tests.doubles.servers import REGION, Server
from tests.scheduler.event_samples import notification, record
from tests.scheduler.test_backup_batches import Scene

RECEIVES = 3


@pytest.fixture
def queues(moto_server: Server, monkeypatch: pytest.MonkeyPatch) -> tuple[Queue, Queue]:
    values = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": REGION}
    for variable, value in (values | {"AWS_ENDPOINT_URL_SQS": moto_server.endpoint}).items():
        monkeypatch.setenv(variable, value)
    client, name = boto3.client("sqs"), uuid.uuid4().hex
    dead = client.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
    arn = client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": RECEIVES})
    client.create_queue(QueueName=name, Attributes={"RedrivePolicy": policy, "VisibilityTimeout": "0"})
    return Queue.named(name), Queue(dead)


def test_poison_is_dead_lettered_and_returned_once_its_cause_is_mended(
    queues: tuple[Queue, Queue], tmp_path: Path
) -> None:
    queue, dead = queues
    scene = Scene(tmp_path)
    gone = notification(record("source", "late", versionId="v9", eTag="e", size=4, sequencer="01"))
    good = [scene.put(f"k{number:02d}") for number in range(30)]

    def function(event: Mapping[str, Any]) -> Mapping[str, Any]:
        return scene.runtime.run(handle(scene.runtime, event, 30.0, "request"))

    queue.send(["{poison", json.dumps(gone), *map(json.dumps, good)])
    polled = [poll(queue, function, batch_messages=10, wait_seconds=0)]
    while polled[-1].received:
        polled.append(poll(queue, function, batch_messages=10, wait_seconds=0))
    assert sum(each.received - each.failed for each in polled) == 30
    assert sum(each.failed for each in polled) == 2 * RECEIVES
    assert [scene.copy_of(f"k{number:02d}") for number in range(30)] == [b"body"] * 30
    assert (queue.depth(), dead.depth()) == (Depth(0, 0, 0), Depth(2, 0, 0))

    removal = notification(record("source", "late", "ObjectRemoved:Delete", versionId="v9", sequencer="02"))
    queue.send([json.dumps(removal)])
    assert poll(queue, function, wait_seconds=0) == Polled(1, 0)
    assert redrive(dead, queue) == 2
    assert poll(queue, function, batch_messages=10, wait_seconds=0) == Polled(2, 1)
    assert ("late", "superseded") in scene.endings()


def test_a_function_that_refuses_loses_no_message(queues: tuple[Queue, Queue], tmp_path: Path) -> None:
    queue, _ = queues
    scene = Scene(tmp_path)
    (tmp_path / "policy.yaml").write_text("version: 1")
    queue.send([json.dumps(scene.put("k"))])

    def function(event: Mapping[str, Any]) -> Mapping[str, Any]:
        return scene.runtime.run(handle(scene.runtime, event, 30.0, "request"))

    assert poll(queue, function, wait_seconds=0, batch_messages=1) == Polled(1, 1)
    assert queue.depth().waiting == 1
