"""Runs in AWS Batch, through the command line: sent, followed, found again."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from unittest import mock

import pytest

from jobs.runs import batch_follow
from tests.doubles.batch.account import await_value, make_client
from tests.end_to_end.batch_workers import ROWS, Fleet, LateReports, complete, followed


def test_eight_shards_replicated_by_an_array_job_with_a_report_stage(fleet: Fleet) -> None:
    result = fleet.replicate(SEALIFT_ROWS_PER_SHARD=str(ROWS // 8))
    assert result.code == 0, result.stderr
    report = result.document
    complete(report)
    assert report["outcomes"] == {"copied": ROWS}
    run_id = report["run_id"]
    assert fleet.batch.names() == [f"{run_id}-000-work", f"{run_id}-000-report"]
    assert fleet.batch.calls["SubmitJob"] == 2
    assert fleet.batch.job(f"{run_id}-000-work").request["jobDefinition"] == "sealift-replicate"
    assert fleet.ended(f"{run_id}-000-report").status == "SUCCEEDED"
    assert fleet.batch.job(f"{run_id}-000-work").size == 8
    assert fleet.world.copy_of("k00007") == b"x" * 7
    known = fleet.show(run_id)["batch"]
    assert (known["children"], known["shards"], known["failed_children"], known["errors"]) == (8, 8, [], [])
    assert known["jobs"]["work"]["children"] == {"succeeded": 8}


def test_who_follows_a_run_makes_its_report_and_waits_for_no_other_container(fleet: Fleet) -> None:
    late = LateReports(fleet.runner, threading.Event())
    fleet.batch.engine.runner = late
    result = fleet.replicate()
    assert result.code == 0, result.stderr
    complete(result.document)
    name = f"{result.document['run_id']}-000-report"
    assert not fleet.batch.job(name).has_ended
    late.may_start.set()
    assert fleet.ended(name).status == "SUCCEEDED"
    assert (
        fleet.sealift("runs", "show", result.document["run_id"], "--json").document.items() >= result.document.items()
    )


@pytest.mark.slow
def test_the_report_of_a_large_run_is_left_to_its_own_job(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_follow, "REPORTED_HERE_ROWS", ROWS - 1)
    late = LateReports(fleet.runner, threading.Event())
    fleet.batch.engine.runner = late
    run_id = fleet.submitted()

    async def follow_until_it_may() -> batch_follow.Followed:
        following = asyncio.create_task(followed(fleet, run_id))
        await asyncio.to_thread(fleet.ended, f"{run_id}-000-work")
        looks = fleet.batch.calls["DescribeJobs"] + 3
        await asyncio.to_thread(await_value, lambda: fleet.batch.calls["DescribeJobs"] >= looks)
        assert not following.done()
        late.may_start.set()
        return await following

    with mock.patch.dict(os.environ, fleet.world.environment() | fleet.environment()):
        complete(asyncio.run(follow_until_it_may()).report)


def test_findings_end_the_report_stage_with_3_once_and_the_command_too(fleet: Fleet) -> None:
    fleet.world.client.put_object(Bucket=fleet.world.destination, Key="k00009", Body=b"newer")
    result = fleet.replicate()
    assert result.code == 3, result.stderr
    assert result.document["outcomes"] == {"copied": ROWS - 1, "changed": 1}
    job = fleet.ended(f"{result.document['run_id']}-000-report")
    assert (job.status, [each.exit_code for each in job.attempts]) == ("FAILED", [3])


@pytest.mark.slow
def test_verify_follows_each_shard_of_replicate(fleet: Fleet) -> None:
    result = fleet.replicate("--then-verify")
    assert result.code == 0, result.stderr
    report = result.document
    complete(report)
    complete(report["then"])
    assert report["then"]["job"] == "verify"
    assert report["then"]["outcomes"] == {"verified": ROWS}
    assert report["then"]["evidence"] == {"md5_etag": ROWS}  # of the copies alone
    assert fleet.batch.calls["SubmitJob"] == 4
    work = fleet.batch.job(f"{report['run_id']}-000-work")
    verify = fleet.batch.job(f"{report['then']['run_id']}-000-work")
    assert verify.request["dependsOn"] == [{"jobId": work.id, "type": "N_TO_N"}]
    for copied, proven in zip(work.children, verify.children, strict=True):
        assert proven.attempts[0].started_at >= copied.stopped_at


@pytest.mark.slow
def test_detach_leaves_and_watch_follows(fleet: Fleet) -> None:
    run_id = fleet.submitted()
    watched = fleet.sealift("runs", "show", run_id, "--follow", "--json")
    assert watched.code == 0, watched.stderr
    complete(watched.document)
    assert fleet.batch.calls["DescribeJobs"] < 100
    assert fleet.batch.calls["ListJobs"] == 0


@pytest.mark.slow
def test_a_second_submission_finds_the_first(fleet: Fleet) -> None:
    fleet.slow_down()
    run_id = fleet.submitted()
    _, process = fleet.paused(run_id, 0)
    again = fleet.sealift("runs", "retry", run_id, "--detach", "--json")
    assert again.code == 0, again.stderr
    assert again.document["jobs"]["work"] == fleet.batch.job(f"{run_id}-000-work").id
    assert fleet.batch.names() == [f"{run_id}-000-work", f"{run_id}-000-report"]
    process.resume()
    complete(fleet.sealift("runs", "show", run_id, "--follow", "--json").document)


@pytest.mark.slow
def test_a_submission_whose_answer_was_lost_is_found_by_its_name(fleet: Fleet) -> None:
    fleet.batch.lose["SubmitJob"] = 1
    fleet.batch.throttle["ListJobs"] = 2
    result = fleet.replicate()
    assert result.code == 0, result.stderr
    complete(result.document)
    assert fleet.batch.names() == [f"{result.document['run_id']}-000-{stage}" for stage in ("work", "report")]
    assert fleet.batch.calls["SubmitJob"] == 2


@pytest.mark.slow
def test_batch_that_says_slow_down_is_asked_again(fleet: Fleet) -> None:
    for operation in ("DescribeJobQueues", "DescribeJobDefinitions", "SubmitJob", "DescribeJobs"):
        fleet.batch.throttle[operation] = 2
    result = fleet.replicate()
    assert result.code == 0, result.stderr
    complete(result.document)


def test_a_local_run_cannot_be_cancelled_and_retry_keeps_to_the_machine(fleet: Fleet) -> None:
    report = fleet.replicate("--executor", "local").document
    complete(report)
    [run] = fleet.sealift("runs", "list", "--json").document["runs"]
    fleet.world.client.delete_object(Bucket=fleet.world.ledger, Key=f"runs/runs/{run['run_id']}/report.json")
    refused = fleet.sealift("runs", "cancel", run["run_id"])
    assert refused.code == 2
    assert "was not sent to Batch" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert "batch" not in fleet.show(run["run_id"])
    assert fleet.batch.names() == []


def test_the_work_waits_for_the_job_that_planned_it(fleet: Fleet) -> None:
    fleet.runner.environment = {**fleet.runner.environment, **fleet.environment()}
    planner = make_client(fleet.batch).submit_job(
        jobName="nightly",
        jobQueue="spot",
        jobDefinition="sealift",
        containerOverrides={"command": fleet.replication("--detach")},
    )["jobId"]
    name = await_value(lambda: next((name for name in fleet.batch.names() if name.endswith("-000-report")), None), 30)
    report = fleet.ended(name)
    assert report.status == "SUCCEEDED"
    work = fleet.batch.job(name.replace("report", "work"))
    assert work.request["dependsOn"] == [{"jobId": planner}]
    assert work.children[0].attempts[0].started_at >= fleet.batch.job("nightly").stopped_at


@pytest.mark.slow
def test_a_follower_that_is_stopped_leaves_the_run_alone_and_show_needs_no_batch(fleet: Fleet) -> None:
    fleet.slow_down()
    run_id = fleet.submitted()
    _, process = fleet.paused(run_id, 0)
    follower = fleet.start("runs", "show", run_id, "--follow")
    await_value(lambda: fleet.batch.calls["DescribeJobs"] >= 3)
    follower.send_signal(signal.SIGTERM)
    _, stderr = follower.communicate(timeout=60)
    assert follower.returncode == 75
    assert f"run {run_id} continues in Batch" in stderr.splitlines()[-1]
    process.resume()
    assert fleet.ended(f"{run_id}-000-report").status == "SUCCEEDED"
    alone = fleet.sealift("runs", "show", run_id, "--json", AWS_ENDPOINT_URL_BATCH="http://127.0.0.1:9")
    assert alone.code == 0, alone.stderr
    assert alone.document["state"] == "complete"
    assert "EndpointConnectionError" in alone.document["batch"]["refused"]


@pytest.mark.slow
def test_jobs_that_batch_has_forgotten_are_not_waited_for(fleet: Fleet) -> None:
    fleet.slow_down()
    run_id = fleet.submitted()
    _, process = fleet.paused(run_id, 0)
    process.kill("")
    fleet.ended(f"{run_id}-000-report")
    with fleet.batch.engine.lock:
        fleet.batch.engine.jobs.clear()

    variables = fleet.world.environment() | fleet.environment()
    with mock.patch.dict(os.environ, variables), mock.patch.object(batch_follow, "FORGOTTEN_SECONDS", 0.5):
        ended = asyncio.run(followed(fleet, run_id))
    assert ended.report["state"] == "incomplete"
    assert 0 < ended.report["accounted"] < ROWS
    retried = fleet.sealift("runs", "retry", run_id, "--json")
    assert retried.code == 0, retried.stderr
    complete(retried.document)
