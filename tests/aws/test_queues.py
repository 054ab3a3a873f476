"""The edge to SQS, against moto's server: a poison message reaches the dead-letter queue, and comes back."""

from __future__ import annotations

import json
import uuid

import boto3
import pytest

from jobs.aws.queues import Depth, Queue, redrive
from jobs.errors import ConfigError, StoreError
from tests.doubles.servers import REGION, Server


@pytest.fixture
def queues(moto_server: Server, monkeypatch: pytest.MonkeyPatch) -> tuple[Queue, Queue]:
    """A queue whose messages die at their third receipt, and where they go then."""
    values = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": REGION}
    for variable, value in (values | {"AWS_ENDPOINT_URL_SQS": moto_server.endpoint}).items():
        monkeypatch.setenv(variable, value)
    client = boto3.client("sqs")
    name = uuid.uuid4().hex
    dead = client.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
    arn = client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 2})
    client.create_queue(QueueName=name, Attributes={"RedrivePolicy": policy})
    return Queue.named(name), Queue(dead)


def test_messages_are_sent_received_and_deleted_in_any_number(queues: tuple[Queue, Queue]) -> None:
    queue, _ = queues
    queue.send(f"ünï {number}" for number in range(23))
    assert queue.depth() == Depth(23, 0, 0)
    received = []
    while messages := queue.receive(wait_seconds=0, hidden_seconds=60):
        assert len(messages) <= 10
        received += messages
    assert {each.body for each in received} == {f"ünï {number}" for number in range(23)}
    assert {each.received_count for each in received} == {1}
    assert all(each.sent_at > 1e9 for each in received)
    queue.delete(received)
    assert queue.depth() == Depth(0, 0, 0)


def test_a_poison_message_dies_and_is_returned(queues: tuple[Queue, Queue]) -> None:
    queue, dead = queues
    queue.send(["poison", "poison too"])
    for _ in range(3):
        queue.receive(wait_seconds=0, hidden_seconds=0)
    assert dead.depth().waiting == 2
    assert redrive(dead, queue, limit=1) == 1
    assert redrive(dead, queue, limit=9) == 1
    assert (dead.depth().waiting, queue.depth().waiting) == (0, 2)
    assert redrive(dead, queue, limit=9) == 0


def test_a_queue_that_is_not_there_is_named(queues: tuple[Queue, Queue]) -> None:
    with pytest.raises((StoreError, ConfigError), match="not-there"):
        Queue.named("not-there")
