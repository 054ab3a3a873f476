"""The follow function: runs are closed, and people told, once."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest

from jobs.aws.queues import Queue
from tests.doubles.batch.account import Puppets, make_client, register
from tests.doubles.batch.server import BatchServer, batch_server
from tests.doubles.lambda_runtime import Answer, Function
from tests.doubles.servers import REGION, Server
from tests.scheduler.conftest import Place
from tests.scheduler.event_samples import eventbridge

RUN = "20261125T003345Z-replicate-1f3a2b"


@dataclass
class Mail:
    """What the topic delivered."""

    queue: Queue

    def read(self) -> list[tuple[str, str]]:
        found = []
        while messages := self.queue.receive(wait_seconds=0):
            found += [json.loads(each.body) for each in messages]
            self.queue.delete(messages)
        return [(each["Subject"], each["Message"]) for each in found]


@pytest.fixture
def mail(place: Place, moto_server: Server, monkeypatch: pytest.MonkeyPatch) -> Mail:
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
    return Mail(Queue(url))


@pytest.fixture
def batch_jobs(place: Place) -> Iterator[BatchServer]:
    with batch_server(Puppets(), max_running=1) as server:
        server.add_queue("sealift-orchestrators")
        for name in ("nightly", "backfill", "replicate"):
            register(make_client(server), f"sealift-{name}")
        place.more |= {"AWS_ENDPOINT_URL_BATCH": server.endpoint}
        yield server


def ended(name: str, status: str = "SUCCEEDED", **more: Any) -> dict[str, Any]:
    """A state change as EventBridge tells it."""
    return {
        "version": "0",
        "id": "c8f9c4b5-76e5-d76a-f980-7011e206042b",
        "detail-type": "Batch Job State Change",
        "source": "aws.batch",
        "account": "123456789012",
        "time": "2026-11-25T02:56:50Z",
        "region": REGION,
        "resources": [f"arn:aws:batch:{REGION}:123456789012:job/4c7599ae"],
        "detail": {
            "jobArn": f"arn:aws:batch:{REGION}:123456789012:job/4c7599ae",
            "jobName": name,
            "jobId": "4c7599ae-0a82-49aa-ba5a-4727fcce14a8",
            "jobQueue": f"arn:aws:batch:{REGION}:123456789012:job-queue/sealift-orchestrators",
            "status": status,
            "attempts": [],
            "dependsOn": [],
            **more,
        },
    }


def report(place: Place, run_id: str = RUN, **more: Any) -> None:
    document = {
        "run_id": run_id,
        "job": "replicate",
        "state": "complete",
        "rows": 12_000,
        "accounted": 12_000,
        "outcomes": {"copied": 11_997, "denied": 3},
        "failures": 3,
        "planned_dollars": 0.25,
        "source": f"s3://{place.source}/in/",
        "destination": "s3://copies/in/",
        **more,
    }
    write(place, f"runs/{run_id}/report.json", document)
    write(place, f"runs/{run_id}/spec.json", {"options": {"pair": "pair"}})


def write(place: Place, name: str, document: dict[str, Any]) -> None:
    place.client.put_object(Bucket=place.ledger, Key=f"l/{name}", Body=json.dumps(document).encode())


def action(answer: Answer) -> str:
    assert not answer.error_type, answer.error_message
    found: str = answer.payload["action"]
    return found


def metrics(follow: Function) -> dict[str, float]:
    lines = [line for line in follow.lines() if "_aws" in line]
    return {
        each["Name"]: line[each["Name"]] for line in lines for each in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]
    }


def test_the_report_of_a_run_is_told_once(place: Place, mail: Mail) -> None:
    report(place)
    with place.function("follow") as follow:
        assert action(follow.invoke(ended(f"{RUN}-000-work"))) == "waits for the report"
        failed = ended(f"{RUN}-000-report", "FAILED", container={"exitCode": 3, "reason": ""})
        assert action(follow.invoke(failed)) == "told"
        assert action(follow.invoke(failed)) == "told before"
        assert metrics(follow) == {"Findings": 3, "PlannedDollars": 0.25}
    ((subject, body),) = mail.read()
    assert subject == "Sealift replicate: 3 of 12,000 rows need attention: 3 denied."
    assert "copied: 11,997" in body
    assert f"s3://{place.source}/in/ → s3://copies/in/" in body
    assert f"s3://{place.ledger}/l/runs/{RUN}/report.json" in body


def test_a_run_of_no_row_is_no_success_in_its_mail(place: Place, mail: Mail) -> None:
    report(place, rows=0, accounted=0, outcomes={}, failures=0, excluded={"sample": 7})
    with place.function("follow") as follow:
        assert action(follow.invoke(ended(f"{RUN}-000-report"))) == "told"
    ((subject, body),) = mail.read()
    verdict = "Nothing was done: no row was in this run (7 left out by the sample)."
    assert subject == f"Sealift replicate: {verdict}"
    assert body.startswith(verdict)


def test_a_run_whose_work_failed_is_closed_by_a_report_of_its_own(
    place: Place, mail: Mail, batch_jobs: BatchServer
) -> None:
    with place.function("follow") as follow:
        for _ in range(2):
            assert action(follow.invoke(ended(f"{RUN}-000-work", "FAILED", arrayProperties={"size": 3}))) == "closing"
        never = ended(f"{RUN}-000-report", "FAILED", statusReason="Dependent Job failed")
        assert action(follow.invoke(never)) == "closing"
        (name,) = batch_jobs.names()
        command = batch_jobs.job(name).request["containerOverrides"]["command"]
        assert command == ["worker", RUN, "--report", "--ledger", f"s3://{place.ledger}/l"]
        report(place)
        assert action(follow.invoke(ended(name, "FAILED", jobId=batch_jobs.job(name).id))) == "told"
    assert len(mail.read()) == 1


def test_a_failed_array_is_closed_without_an_event_of_its_parent(place: Place, batch_jobs: BatchServer) -> None:
    """AWS does not say whether a parent has events. The report that waited for it is a plain job."""
    never = ended(f"{RUN}-000-report", "FAILED", statusReason="Dependent Job failed")
    with place.function("follow") as follow:
        for _ in range(2):
            assert action(follow.invoke(never)) == "closing"
    (name,) = batch_jobs.names()
    command = batch_jobs.job(name).request["containerOverrides"]["command"]
    assert command == ["worker", RUN, "--report", "--ledger", f"s3://{place.ledger}/l"]


def test_a_run_without_a_report_is_told_with_the_reason(place: Place, mail: Mail) -> None:
    with place.function("follow") as follow:
        reason = {"statusReason": "Task failed to start", "container": {"reason": "CannotPullContainerError"}}
        assert action(follow.invoke(ended(f"{RUN}-000-report", "FAILED", **reason))) == "told"
    ((subject, body),) = mail.read()
    assert "no report" in subject
    assert "Task failed to start; CannotPullContainerError" in body
    assert f"sealift runs show {RUN}" in body


def test_children_and_other_peoples_jobs_are_ignored(place: Place) -> None:
    with place.function("follow") as follow:
        for event in (
            ended(f"{RUN}-000-work", "FAILED", arrayProperties={"index": 0}),
            ended(f"{RUN}-000-report", "RUNNING"),
            ended("somebody-elses", "FAILED"),
            eventbridge("a-bucket-of-others", "k", "Object Restore Completed"),
            eventbridge(place.source, "k"),
        ):
            assert action(follow.invoke(event)) == "ignored"


def night(place: Place, function: Function) -> str:
    started = function.invoke({"action": "nightly", "pair": "pair", "scheduled_at": "2026-11-25T03:30:00Z"})
    name: str = started.payload["started"][0]["job_name"]
    return name


def test_a_night_is_told_as_it_ended(place: Place, mail: Mail, batch_jobs: BatchServer) -> None:
    with place.function("submit") as submit:
        name = night(place, submit)
    stage = {"stage": "reconcile", "state": "complete", "refused": None, "rows": 7, "left": 2, "report_html": "s3://x"}
    proven = stage | {"stage": "sample", "rows": 40, "left": 0, "counts": {"verified": 30, "unverifiable": 10}}
    summary = {
        "pair": "pair",
        "night": "2026-11-25",
        "verdict": "2 rows need attention: 2 different.",
        "left": 2,
        "stages": [stage, proven],
        "summary": "s3://y",
        "planned_dollars": 0.5,
        "source": "s3://docs/in/",
        "destination": "s3://copies/out/",
        "next_steps": ["See what reconcile left, and what helps: sealift runs show r"],
        "report_html": "s3://y.html",
    }
    write(place, "nights/pair/2026-11-25.json", summary)
    with place.function("follow") as follow:
        end = ended(name, "FAILED", container={"exitCode": 3}, jobId=batch_jobs.job(name).id)
        assert action(follow.invoke(end)) == "told"
        assert action(follow.invoke(end)) == "told before"
        assert metrics(follow) == {"NightSucceeded": 1, "Findings": 2, "PlannedDollars": 0.5, "VerifiedShare": 75}
    ((subject, body),) = mail.read()
    assert subject == "Sealift night of pair: 2 rows need attention: 2 different."
    assert "reconcile: complete, 7 rows, 2 left" in body
    assert "s3://docs/in/ → s3://copies/out/\n\nSee what reconcile left" in body
    assert body.endswith("page: s3://y.html")


def test_a_night_that_did_not_end_is_told_with_what_to_do(place: Place, mail: Mail, batch_jobs: BatchServer) -> None:
    with place.function("submit") as submit:
        name = night(place, submit)
    with place.function("follow") as follow:
        second = ended(name, "FAILED", statusReason="another one was first: 4c7599ae", jobId="not the one")
        assert action(follow.invoke(second)) == "ignored"
        end = ended(name, "FAILED", statusReason="Host EC2 terminated", jobId=batch_jobs.job(name).id)
        assert action(follow.invoke(end)) == "told"
        assert metrics(follow) == {"NightSucceeded": 0}
    ((subject, body),) = mail.read()
    assert subject == "Sealift night of pair FAILED"
    assert "Host EC2 terminated" in body
    assert "sealift nightly --pair pair --night 2026-11-25" in body


def test_a_start_that_came_to_nothing_is_told(place: Place, mail: Mail, batch_jobs: BatchServer) -> None:
    with place.function("submit") as submit:
        asked = {"action": "backfill", "pair": "pair", "prefix": "p/", "id": "x"}
        name = submit.invoke(asked).payload["started"][0]["job_name"]
    with place.function("follow") as follow:
        job_id = batch_jobs.job(name).id
        assert action(follow.invoke(ended(name, jobId=job_id))) == "ended"
        assert action(follow.invoke(ended(name, "FAILED", container={"exitCode": 3}, jobId=job_id))) == "ended"
        claim = json.loads(place.read(f"starts/{name}.json")) | {"command": ["see", "https://evil.example"]}
        write(place, f"starts/{name}.json", claim)
        container = {"exitCode": 2, "command": batch_jobs.job(name).request["containerOverrides"]["command"]}
        assert action(follow.invoke(ended(name, "FAILED", container=container, jobId=job_id))) == "told"
    ((subject, body),) = mail.read()
    assert "evil" not in body
    assert subject == "Sealift backfill of pair FAILED"
    assert "sealift replicate --pair pair --yes --prefix p/" in body
    assert "exit code 2" in body


def reconciled(place: Place, run_id: str, source: str) -> None:
    """A reconciliation's run as the ledger has it, with the parts that people hear of."""
    rows = {"same": 5, "missing": 2, "different": 1, "extra": 1, "in flight": 0}
    document = {
        "run_id": run_id,
        "job": "reconcile",
        "state": "complete",
        "rows": 9,
        "categories": {name: {"rows": count, "bytes": count} for name, count in rows.items()},
        "findings": 4,
        "finding_categories": ["missing", "stale", "different", "extra"],
        "unparsed": 0,
        "margin_seconds": 900.0,
        "source": {"location": "s3://docs/in/"},
        "destination": {"location": "s3://copies/in/"},
        "differences": {"csv": "s3://ledger/differences.csv"},
        "report_html": "s3://ledger/report.html",
    }
    write(place, f"runs/{run_id}/spec.json", {"manifest": source, "options": {"destination_manifest": "s3://inv/b"}})
    write(place, f"runs/{run_id}/report.json", document)


def test_what_a_started_reconciliation_found_is_told_with_what_to_do(place: Place, mail: Mail) -> None:
    name, now = "sealift-pair-reconcile-a-b", time.time()
    write(place, f"starts/{name}.json", {"pair": "pair", "job": "reconcile", "once": "a-b"})
    before, run_id, other = (
        f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(at))}-reconcile-1f3a2b"
        for at in (now - 9000, now - 60, now - 30)
    )
    for each, source in ((before, "s3://inv/a"), (run_id, "s3://inv/a"), (other, "s3://inv/other")):
        reconciled(place, each, source)
    command = ["reconcile", "--source-inventory", "s3://inv/a", "--destination-inventory", "s3://inv/b"]
    job = {"container": {"exitCode": 3, "command": command}, "createdAt": int((now - 100) * 1000)}
    with place.function("follow") as follow:
        assert [action(follow.invoke(ended(name, "FAILED", **job))) for _ in range(2)] == ["told", "told before"]
    ((subject, body),) = mail.read()
    verdict = "4 of 9 rows need attention: 2 missing, 1 extra, 1 different."
    assert subject == f"Sealift reconcile of pair: {verdict}"
    assert body.startswith(f"{verdict}\n\n")
    assert "same: 5\nmissing: 2\n" in body
    assert "in flight" not in body
    assert "s3://docs/in/ → s3://copies/in/" in body
    folder = f"s3://{place.ledger}/l/runs/{run_id}/"
    assert f"sealift replicate --pair pair --manifest {folder}repair.parquet" in body
    assert f"sealift replicate --pair pair --manifest {folder}different.parquet" in body
    assert "page: s3://ledger/report.html" in body


def test_a_note_of_another_run_than_a_restore_starts_nothing(place: Place, batch_jobs: BatchServer) -> None:
    register(make_client(batch_jobs), "sealift-restore")
    runs = ("20261125T003345Z-expire-1f3a2b", "20261125T003345Z-replicate-1f3a2b", "--ledger=s3:evil")
    for run in (*runs, "20261125T003345Z-restore-1f3a2b"):
        place.client.put_object(Bucket=place.ledger, Key=f"l/thawing/cold/key/{run}.json", Body=b"{}")
    event = eventbridge("cold", "key", "Object Restore Completed", size=5, etag="e", source_storage_class="GLACIER")
    with place.function("follow") as follow:
        answer = follow.invoke(event)
    assert answer.payload["runs"] == ["20261125T003345Z-restore-1f3a2b"]
    assert batch_jobs.names() == ["sealift-restore-20261125T003345Z-restore-1f3a2b"]


def test_a_restored_object_goes_to_the_backlog(place: Place) -> None:
    with place.function("follow") as follow:
        event = eventbridge(
            place.source,
            "cold a+b",
            "Object Restore Completed",
            version_id="v1",
            size=5,
            etag="e",
            restore_expiry_time="2026-12-25T00:00:00Z",
            source_storage_class="GLACIER",
        )
        assert action(follow.invoke(event)) == "enqueued"
    (row,) = place.lines("backlog/pair=pair/")
    assert (row["key"], row["version_id"], row["size_bytes"]) == ("cold a+b", "v1", 5)


def test_restores_go_on_when_an_archive_has_thawed(place: Place, batch_jobs: BatchServer) -> None:
    register(make_client(batch_jobs), "sealift-restore")
    key = "packed/docs/2026-11-a b.tar.zst"
    for run in ("20261125T003345Z-restore-1f3a2b", "20261126T003345Z-restore-2f3a2b"):
        place.client.put_object(Bucket=place.ledger, Key=f"l/thawing/cold/{key}/{run}.json", Body=b"{}")
    event = eventbridge("cold", key, "Object Restore Completed", size=5, etag="e", source_storage_class="GLACIER")
    with place.function("follow") as follow:
        assert [action(follow.invoke(event)) for _ in range(2)] == ["resumed", "resumed"]
        other = eventbridge("cold", "packed/docs", "Object Restore Completed", size=5, etag="e")
        assert action(follow.invoke(other)) == "ignored"
    started = [json.loads(place.read(name)) for name in place.names("starts/") if not name.endswith("submitted.json")]
    assert [each["command"][:3] for each in started] == [
        ["runs", "retry", "20261125T003345Z-restore-1f3a2b"],
        ["runs", "retry", "20261126T003345Z-restore-2f3a2b"],
    ]


def test_a_topic_that_refuses_fails_the_call_so_that_it_is_made_again(place: Place, mail: Mail) -> None:
    report(place)
    place.more |= {"SEALIFT_TOPIC": f"arn:aws:sns:{REGION}:123456789012:not-there"}
    with place.function("follow") as follow:
        assert follow.invoke(ended(f"{RUN}-000-report")).error_type == "NotFound"
    del place.more["SEALIFT_TOPIC"]
    with place.function("follow") as follow:
        assert action(follow.invoke(ended(f"{RUN}-000-report"))) == "told"
    assert len(mail.read()) == 1
