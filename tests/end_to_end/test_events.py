"""`sealift events` against moto's SQS."""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from tests.doubles.servers import REGION, Server
from tests.end_to_end.commands import call
from tests.end_to_end.conftest import Result


@dataclass
class Queues:
    """The queues of a policy in moto's SQS."""

    endpoint: str
    policy: Path
    name: str
    queue: str = ""
    dead: str = ""

    def sealift(self, *arguments: str) -> Result:
        environment = {"AWS_ENDPOINT_URL": self.endpoint, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        return Result(*call(arguments, os.environ | environment | {"SEALIFT_POLICY": str(self.policy)}))

    def client(self, service: str, region: str = REGION) -> Any:
        keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
        return boto3.client(service, endpoint_url=self.endpoint, region_name=region, **keys)  # type: ignore[call-overload]  # any service

    def count(self, queue: str) -> int:
        names = ["ApproximateNumberOfMessages"]
        answer = self.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=names)
        return int(answer["Attributes"][names[0]])


def write_policy(folder: Path, name: str) -> Path:
    pair = {
        "name": "pair",
        "source": {"bucket": "source", "region": REGION},
        "destination": {"bucket": "hotter", "region": REGION},
    }
    document = {"version": 1, "name": name, "ledger": {"bucket": "ledger", "region": REGION}, "pairs": [pair]}
    file = folder / "policy.yaml"
    file.write_text(yaml.safe_dump(document))
    return file


@pytest.fixture
def queues(moto_server: Server, tmp_path: Path) -> Queues:
    name = f"q{uuid.uuid4().hex[:8]}"
    queues = Queues(moto_server.endpoint, write_policy(tmp_path, name), name)
    client = queues.client("sqs")
    queues.client("s3").create_bucket(Bucket="ledger")
    queues.dead = client.create_queue(QueueName=f"{name}-objects-dead")["QueueUrl"]
    arn = client.get_queue_attributes(QueueUrl=queues.dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 3})
    queues.queue = client.create_queue(QueueName=f"{name}-objects", Attributes={"RedrivePolicy": redrive})["QueueUrl"]
    for number in range(25):
        client.send_message(QueueUrl=queues.dead, MessageBody=f"m{number}")
    return queues


def created(key: str, sequencer: str) -> str:
    s3 = {"bucket": {"name": "source"}, "object": {"key": key, "size": 1, "eTag": "e", "sequencer": sequencer}}
    record = {"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": s3}
    return json.dumps({"Records": [record]})


def test_dead_letters_are_listed_and_stay(queues: Queues) -> None:
    sqs = queues.client("sqs")
    sqs.purge_queue(QueueUrl=queues.dead)
    for body in (created("a b", "A1"), created("c", "C1"), "{"):
        sqs.send_message(QueueUrl=queues.dead, MessageBody=body)
    for _ in range(2):  # a look takes nothing
        result = queues.sealift("events", "list", "--json")
        assert result.code == 0, result.stderr
        document = result.document
        assert (document["waiting"], document["looked_at"]) == (3, 3)
        found = {each["key"]: each for each in document["events"]}
        assert {"a b", "c", ""} == found.keys()
        assert "not an S3 event" in found[""]["problem"]
    assert queues.count(queues.dead) == 3
    text = queues.sealift("events", "list").stdout
    assert "3 dead letters" in text
    assert "s3://source/a b" in text
    assert "sealift events redrive" in text
    sqs.receive_message(QueueUrl=queues.dead)  # what somebody looks at waits, too
    status = queues.sealift("status", "--json")
    waiting = {each["what"]: each["waiting"] for each in status.document["queues"]}
    assert (status.code, waiting["dead letter"], waiting["event"]) == (3, 3, 0), status.stderr
    assert "3 dead letters" in queues.sealift("status").stdout


def test_undelivered_events_of_every_region_are_listed_and_counted(queues: Queues, tmp_path: Path) -> None:
    """A rule of a far region leaves what it could not forward in a queue there, with the reason as attributes."""
    sqs, far = queues.client("sqs"), "eu-west-1"
    document = yaml.safe_load(queues.policy.read_text())
    document["pairs"][0]["source"]["region"] = far
    queues.policy.write_text(yaml.safe_dump(document))
    sqs.purge_queue(QueueUrl=queues.dead)
    there = queues.client("sqs", far)
    name = f"{queues.name}-undelivered"
    urls = {REGION: sqs.create_queue(QueueName=name), far: there.create_queue(QueueName=name)}
    said = queues.sealift("events", "list")
    assert f"0 undelivered events in {name}" in said.stdout, said.stderr
    status = queues.sealift("status", "--json").document
    assert [each["waiting"] for each in status["queues"] if each["what"] == "undelivered event"] == [0, 0]
    assert not [each for each in status["problems"] if "undelivered" in each["problem"]]
    detail = {"bucket": {"name": "source"}, "object": {"key": "a b"}}
    event = {"source": "aws.s3", "detail-type": "Object Created", "detail": detail}
    reasons = {"ERROR_CODE": "NO_PERMISSIONS", "ERROR_MESSAGE": "the bus refuses the role"}
    attributes = {each: {"DataType": "String", "StringValue": text} for each, text in reasons.items()}
    there.send_message(QueueUrl=urls[far]["QueueUrl"], MessageBody=json.dumps(event), MessageAttributes=attributes)
    sqs.send_message(QueueUrl=urls[REGION]["QueueUrl"], MessageBody=json.dumps({"action": "nightly", "pair": "pair"}))
    for _ in range(2):  # a look takes nothing
        listed = queues.sealift("events", "list", "--json").document
        home, other = listed["undelivered"]
        assert (home["queue"], home["waiting"], home["events"][0]["what"]) == (name, 1, "a call of nightly pair")
        assert home["events"][0]["reason"] == "AWS gave no reason"
        assert (other["queue"], other["region"], other["waiting"]) == (f"{name} in {far}", far, 1)
        assert other["events"][0]["what"] == "Object Created: s3://source/a b"
        assert other["events"][0]["reason"] == "NO_PERMISSIONS: the bus refuses the role"
    text = queues.sealift("events", "list").stdout
    assert f"1 undelivered event in {name} in {far}" in text
    assert "NO_PERMISSIONS" in text
    found = queues.sealift("status", "--json")
    assert found.code == 3
    problems = [each["problem"] for each in found.document["problems"]]
    assert f"1 undelivered event in {name} in {far}: sealift events list" in problems
    there.delete_queue(QueueUrl=urls[far]["QueueUrl"])
    text = queues.sealift("status").stdout
    assert f"? not known: {name} in {far}: " in text


def test_as_many_as_asked_are_returned_then_the_rest(queues: Queues) -> None:
    def redrive(*arguments: str) -> dict[str, Any]:
        return queues.sealift("events", "redrive", "--json", *arguments).document

    assert (redrive("--dry-run")["waiting"], queues.count(queues.queue), queues.count(queues.dead)) == (25, 0, 25)
    assert redrive("--limit", "12")["moved"] == 12
    assert (queues.count(queues.queue), queues.count(queues.dead)) == (12, 13)
    assert redrive()["moved"] == 13
    assert (queues.count(queues.queue), queues.count(queues.dead)) == (25, 0)
    assert redrive()["moved"] == 0
