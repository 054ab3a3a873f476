"""The queue server beside moto's: the same client, the same requests, the same answers. Then what only ours can."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest

from tests.doubles.servers import REGION, Server
from tests.local.queue_process import queue_server


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with queue_server() as made:
        yield made


@pytest.fixture(params=["ours", "moto"])
def client(request: pytest.FixtureRequest) -> Any:
    if request.param == "moto":
        server: Server = request.getfixturevalue("moto_server")
        return open_client(server.endpoint)
    return open_client(f"http://127.0.0.1:{request.getfixturevalue('port')}")


def open_client(endpoint: str, service: str = "sqs") -> Any:
    session: Any = boto3.Session("a", "b", region_name=REGION)
    return session.client(service, endpoint_url=endpoint)


def make(client: Any, **attributes: str) -> str:
    url: str = client.create_queue(QueueName=f"q{uuid.uuid4().hex[:8]}", Attributes=attributes)["QueueUrl"]
    return url


def bodies(client: Any, url: str, **more: Any) -> list[str]:
    answer = client.receive_message(QueueUrl=url, MaxNumberOfMessages=10, **more)
    return sorted(each["Body"] for each in answer.get("Messages", []))


def depth(client: Any, url: str) -> tuple[int, ...]:
    names = [f"ApproximateNumberOfMessages{suffix}" for suffix in ("", "NotVisible", "Delayed")]
    told = client.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return tuple(int(told[name]) for name in names)


def test_batches_are_taken_handed_out_and_deleted(client: Any) -> None:
    url = make(client)
    texts = [f"{number} <&> ü 🛳" for number in range(10)]
    entries = [{"Id": str(number), "MessageBody": text} for number, text in enumerate(texts)]
    sent = client.send_message_batch(QueueUrl=url, Entries=entries)
    assert [each["Id"] for each in sent["Successful"]] == [each["Id"] for each in entries]
    client.send_message(QueueUrl=url, MessageBody="delayed", DelaySeconds=900)
    assert depth(client, url) == (10, 0, 1)
    names = ["ApproximateReceiveCount", "SentTimestamp"]
    got = client.receive_message(QueueUrl=url, MaxNumberOfMessages=10, AttributeNames=names)["Messages"]
    assert sorted(each["Body"] for each in got) == texts
    assert {each["Attributes"]["ApproximateReceiveCount"] for each in got} == {"1"}
    assert all(abs(int(each["Attributes"]["SentTimestamp"]) / 1000 - time.time()) < 60 for each in got)
    assert (bodies(client, url), depth(client, url)) == ([], (0, 10, 1))
    receipts = [{"Id": str(number), "ReceiptHandle": each["ReceiptHandle"]} for number, each in enumerate(got)]
    assert len(client.delete_message_batch(QueueUrl=url, Entries=receipts)["Successful"]) == 10
    assert depth(client, url) == (0, 0, 1)


def test_what_is_shown_again_too_often_is_a_dead_letter(client: Any) -> None:
    dead = make(client)
    arn = client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 2})
    url = make(client, RedrivePolicy=redrive)
    client.send_message(QueueUrl=url, MessageBody="poison")
    for _ in range(2):
        (message,) = client.receive_message(QueueUrl=url)["Messages"]
        client.change_message_visibility(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)
    assert bodies(client, url) == []
    assert bodies(client, dead) == ["poison"]
    told = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert json.loads(told["RedrivePolicy"]) == json.loads(redrive)


def test_hidden_messages_are_shown_again_in_batches(client: Any) -> None:
    """`sealift events list` looks at dead letters, and shows them again at once."""
    url = make(client)
    for number in range(3):
        client.send_message(QueueUrl=url, MessageBody=str(number))
    got = client.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    entries = [
        {"Id": each["Body"], "ReceiptHandle": each["ReceiptHandle"], "VisibilityTimeout": 0}
        for each in got
        if each["Body"] != "1"
    ]
    done = client.change_message_visibility_batch(QueueUrl=url, Entries=entries)
    assert sorted(each["Id"] for each in done["Successful"]) == ["0", "2"]
    assert not done.get("Failed")
    assert bodies(client, url) == ["0", "2"]


def test_queues_are_found_by_name_emptied_and_missed(client: Any) -> None:
    url = make(client)
    name = url.rpartition("/")[2]
    assert client.get_queue_url(QueueName=name)["QueueUrl"] == url
    assert url in client.list_queues(QueueNamePrefix=name)["QueueUrls"]
    client.send_message(QueueUrl=url, MessageBody="m")
    client.purge_queue(QueueUrl=url)
    assert depth(client, url) == (0, 0, 0)
    with pytest.raises(client.exceptions.QueueDoesNotExist):
        client.get_queue_url(QueueName="not-there")
    eleven = [{"Id": str(number), "MessageBody": "m"} for number in range(11)]
    with pytest.raises(client.exceptions.TooManyEntriesInBatchRequest):
        client.send_message_batch(QueueUrl=url, Entries=eleven)


def test_who_waits_gets_a_message_when_it_is_sent(client: Any) -> None:
    url = make(client)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(bodies, client, url, WaitTimeSeconds=20)
        client.send_message(QueueUrl=url, MessageBody="now")
        assert waiting.result(timeout=10) == ["now"]


def test_dead_letters_are_moved_back_all_at_once(port: int) -> None:
    client = open_client(f"http://127.0.0.1:{port}")
    dead = make(client)
    arn = client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.start_message_move_task(SourceArn=arn)
    url = make(client, RedrivePolicy=json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 2}))
    for number in range(3):
        client.send_message(QueueUrl=dead, MessageBody=str(number))
    client.start_message_move_task(SourceArn=arn)
    (task,) = client.list_message_move_tasks(SourceArn=arn)["Results"]
    assert (task["Status"], task["ApproximateNumberOfMessagesMoved"]) == ("COMPLETED", 3)
    assert (bodies(client, url), bodies(client, dead)) == (["0", "1", "2"], [])


def test_what_it_does_not_play_is_refused_and_sns_is_heard(port: int) -> None:
    client = open_client(f"http://127.0.0.1:{port}")
    with pytest.raises(client.exceptions.ClientError, match="is not played here"):
        client.tag_queue(QueueUrl=make(client), Tags={"a": "b"})
    topics = open_client(f"http://127.0.0.1:{port}", "sns")
    assert topics.publish(TopicArn=f"arn:aws:sns:{REGION}:1:t", Subject="s", Message="m")["MessageId"]
