"""The follow function: runs are closed, and people told, once."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest
from msgspec.structs import asdict

from jobs.aws.queues import Queue
from jobs.ledger.backlog import Manifest
from scheduler.follow import handle
from scheduler.submit import handle as submit
from tests.doubles.batch.server import BatchServer
from tests.doubles.servers import REGION, Server
from tests.scheduler.conftest import Place, command_of
from tests.scheduler.event_samples import eventbridge
from tests.scheduler.scene import Scene

RUN = "20261125T003345Z-replicate-1f3a2b"


Mails = list[tuple[str, str]]


@pytest.fixture
def mail(monkeypatch: pytest.MonkeyPatch) -> Mails:
    """The subjects and texts that were published."""
    mails: Mails = []
    monkeypatch.setattr("scheduler.follow.publish", lambda topic, subject, text: mails.append((subject, text)))
    return mails


def follow(scene: Scene, event: dict[str, Any]) -> str:
    """What was done."""
    done = scene.run(handle(scene.runtime, event))
    return str(done["action"])


def start(scene: Scene, event: dict[str, Any]) -> str:
    """Start a job. Returns its name."""
    [started] = scene.run(submit(scene.runtime, event, "request"))["started"]
    return str(started["job_name"])


def ended(name: str, status: str = "SUCCEEDED", **more: Any) -> dict[str, Any]:
    """A state change as EventBridge tells it, as far as it is read."""
    detail = {"jobName": name, "jobId": "4c7599ae-0a82-49aa-ba5a-4727fcce14a8", "status": status, **more}
    return {"id": "c8f9c4b5-76e5-d76a-f980-7011e206042b", "detail-type": "Batch Job State Change", "detail": detail}


def document(run_id: str = RUN, **more: Any) -> dict[str, Any]:
    """A run's report."""
    return {
        "run_id": run_id,
        "job": "replicate",
        "state": "complete",
        "rows": 12_000,
        "accounted": 12_000,
        "outcomes": {"done": 11_997, "blocked": 3},
        "failures": 3,
        "planned_dollars": 0.25,
        "source": "s3://source/in/",
        "destination": "s3://copies/in/",
        **more,
    }


def report(scene: Scene) -> None:
    scene.write(f"runs/{RUN}/report.json", document())
    scene.write(f"runs/{RUN}/spec.json", {"options": {"pair": "pair"}})


def metrics(capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    lines = [line for line in map(json.loads, capsys.readouterr().out.splitlines()) if "_aws" in line]
    return {
        each["Name"]: line[each["Name"]] for line in lines for each in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]
    }


@pytest.fixture
def queue(place: Place, moto_server: Server, monkeypatch: pytest.MonkeyPatch) -> Queue:
    """What the topic delivers."""
    values = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": REGION}
    values |= {f"AWS_ENDPOINT_URL_{name}": moto_server.endpoint for name in ("SNS", "SQS")}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    topic = boto3.client("sns").create_topic(Name="sealift-alarms")["TopicArn"]
    sqs = boto3.client("sqs")
    url = sqs.create_queue(QueueName=place.source)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    boto3.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    place.more |= {"AWS_ENDPOINT_URL_SNS": moto_server.endpoint}
    return Queue(url)


FAILED = ended(f"{RUN}-000-report", "FAILED", container={"exitCode": 3, "reason": ""})


def test_the_report_of_a_run_is_told_by_a_topic_or_the_call_fails(place: Place, queue: Queue) -> None:
    """And the next call tells what a topic has refused."""
    for name, text in (("report", document()), ("spec", {"options": {"pair": "pair"}})):
        key = f"l/runs/{RUN}/{name}.json"
        place.client.put_object(Bucket=place.ledger, Key=key, Body=json.dumps(text).encode())
    arn = f"arn:aws:sns:{REGION}:123456789012:"
    place.more["SEALIFT_TOPIC"] = f"{arn}not-there"
    with place.function("follow") as function:
        assert function.invoke(FAILED).error_type == "NotFound"
    place.more["SEALIFT_TOPIC"] = f"{arn}sealift-alarms"
    with place.function("follow") as function:
        assert [function.invoke(FAILED).payload["action"] for _ in range(2)] == ["told", "told before"]
    [message] = queue.receive(wait_seconds=0)
    assert json.loads(message.body)["Subject"] == "Sealift replicate: 3 of 12,000 rows need attention: 3 blocked."


def test_the_report_of_a_run_says_what_came_of_it(
    scene: Scene, mail: Mails, capsys: pytest.CaptureFixture[str]
) -> None:
    report(scene)
    assert follow(scene, ended(f"{RUN}-000-work")) == "waits for the report"
    assert follow(scene, FAILED) == "told"
    assert metrics(capsys) == {}
    ((_, body),) = mail
    assert "copied: 11,997" in body
    assert "s3://source/in/ → s3://copies/in/" in body
    assert f"s3://ledger/l/runs/{RUN}/report.json" in body
    assert "runs retry" not in body


def test_a_run_whose_work_failed_is_closed_by_a_report_of_its_own(scene: Scene, mail: Mails, jobs: BatchServer) -> None:
    for _ in range(2):
        assert follow(scene, ended(f"{RUN}-000-work", "FAILED", arrayProperties={"size": 3})) == "closing"
    never = ended(f"{RUN}-000-report", "FAILED", statusReason="Dependent Job failed")
    assert follow(scene, never) == "closing"
    (name,) = jobs.names()
    assert command_of(jobs, name) == ["worker", RUN, "--report", "--ledger", "s3://ledger/l"]
    report(scene)
    assert follow(scene, ended(name, "FAILED", jobId=jobs.job(name).id)) == "told"
    assert len(mail) == 1


def test_a_run_without_a_report_is_told_with_the_reason(scene: Scene, mail: Mails) -> None:
    reason = {"statusReason": "Task failed to start", "container": {"reason": "CannotPullContainerError"}}
    assert follow(scene, ended(f"{RUN}-000-report", "FAILED", **reason)) == "told"
    ((subject, body),) = mail
    assert "no report" in subject
    assert "Task failed to start; CannotPullContainerError" in body
    assert f"sealift runs show {RUN}" in body


NIGHT = {"action": "nightly", "pair": "pair", "scheduled_at": "2026-11-25T03:30:00Z"}


def test_a_night_is_told_as_it_ended_or_that_it_did_not(
    scene: Scene, mail: Mails, jobs: BatchServer, capsys: pytest.CaptureFixture[str]
) -> None:
    name = start(scene, NIGHT)
    container = {"command": command_of(jobs, name)}
    assert follow(scene, ended(name, "FAILED", statusReason="Host EC2 terminated", container=container)) == "told"
    assert metrics(capsys) == {}
    subject, body = mail.pop()
    assert subject == "Sealift night of pair FAILED"
    assert "Host EC2 terminated" in body
    assert "sealift nightly --pair pair --night 2026-11-25" in body
    summary = {
        "pair": "pair",
        "night": "2026-11-25",
        "verdict": "2 rows need attention: 2 different.",
        "left": 2,
        "summary": "s3://y",
        "planned_dollars": 0.5,
        "source": "s3://docs/in/",
        "destination": "s3://copies/out/",
        "next_steps": ["See what was found, and what helps: sealift runs show r"],
        "report_html": "s3://y.html",
    }
    scene.write("nights/pair/2026-11-25.json", summary)
    end = ended(name, "FAILED", container={"exitCode": 3} | container)
    assert follow(scene, end) == "told"
    assert follow(scene, end) == "told before"
    assert metrics(capsys) == {"NightSucceeded": 1}
    ((subject, body),) = mail
    assert subject == "Sealift night of pair: 2 rows need attention: 2 different."
    assert "s3://docs/in/ → s3://copies/out/\n\nSee what was found" in body
    assert body.endswith("page: s3://y.html")


def test_a_drill_is_told_as_it_ended_or_that_it_did_not(
    scene: Scene, mail: Mails, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["drill", "--pair", "pair", "--name", "2026-11-25", "--yes"]
    end = ended("sealift-pair-drill-2026-11-25", "FAILED", container={"exitCode": 3, "command": command})
    assert follow(scene, end) == "told"
    assert "sealift drill --pair pair --name 2026-11-25 --yes" in mail.pop()[1]
    summary = {"verdict": "1 of 300 differs.", "next_steps": ["See: sealift x"], "report_html": "s3://y.html"}
    scene.write("drills/pair/2026-11-25.json", summary)
    assert [follow(scene, end) for _ in range(2)] == ["told", "told before"]
    ((subject, body),) = mail
    assert subject == "Sealift drill of pair: 1 of 300 differs."
    assert body.endswith("See: sealift x\n\npage: s3://y.html")
    assert metrics(capsys) == {}  # NightSucceeded is of nights


def test_a_start_that_came_to_nothing_is_told(scene: Scene, mail: Mails, jobs: BatchServer) -> None:
    own = "s3://ledger/l/manifests/pair=pair/000001-0123456789ab.csv"
    manifest = Manifest("pair", 1, own, rows=1, size_bytes=0, created_at=1.0, taken_before=0, taken=[])
    scene.write("manifests/pair=pair/000001.json", asdict(manifest))
    name = start(scene, {"action": "manifest", "pair": "pair", "number": 1})
    assert follow(scene, ended(name)) == "ended"
    assert follow(scene, ended(name, "FAILED", container={"exitCode": 3})) == "ended"
    container = {"exitCode": 2, "command": command_of(jobs, name)}
    assert follow(scene, ended(name, "FAILED", container=container)) == "told"
    ((subject, body),) = mail
    assert subject == f"Sealift job {name} FAILED"
    assert f"sealift replicate --pair pair --yes --manifest {own}" in body
    assert "exit code 2" in body


def test_a_restored_object_goes_to_the_backlog(scene: Scene) -> None:
    about: dict[str, Any] = {"version_id": "v1", "size": 5, "etag": "e", "restore_expiry_time": "2026-12-25T00:00:00Z"}
    assert follow(scene, eventbridge("source", "cold a+b", "Object Restore Completed", **about)) == "enqueued"
    assert follow(scene, eventbridge("source", "k")) == "ignored"
    (row,) = scene.lines("backlog/pair=pair/")
    assert (row["key"], row["version_id"], row["size_bytes"]) == ("cold a+b", "v1", 5)


def test_restores_and_no_other_runs_go_on_when_an_archive_has_thawed(scene: Scene, jobs: BatchServer) -> None:
    key = "packed/docs/2026-11-a b.tar.zst"
    others = ("20261125T003345Z-expire-1f3a2b", "20261125T003345Z-replicate-1f3a2b", "--ledger=s3:evil")
    for run in (*others, "20261125T003345Z-restore-1f3a2b", "20261126T003345Z-restore-2f3a2b"):
        scene.write(f"thawing/cold/{key}/{run}.json", {})
    event = eventbridge("cold", key, "Object Restore Completed", size=5, etag="e", source_storage_class="GLACIER")
    assert [follow(scene, event) for _ in range(2)] == ["resumed", "resumed"]
    other = eventbridge("cold", "packed/docs", "Object Restore Completed", size=5, etag="e")
    assert follow(scene, other) == "ignored"
    assert [command_of(jobs, name)[:3] for name in sorted(jobs.names())] == [
        ["runs", "retry", "20261125T003345Z-restore-1f3a2b"],
        ["runs", "retry", "20261126T003345Z-restore-2f3a2b"],
    ]
