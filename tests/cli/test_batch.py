"""Runs in AWS Batch, through the command line: a local Batch starts real workers against a real S3 server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from jobs.cli import batch, launch
from jobs.core.model import Location
from jobs.runs.batch import BatchExecutor
from jobs.s3.batch import Batch
from tests.batch.account import await_value, make_client, register
from tests.batch.engine import Job
from tests.batch.runners import OUT_OF_MEMORY, Child, Exit, Process, Runner, Running, SubprocessRunner
from tests.batch.server import BatchServer, batch_server
from tests.cli.conftest import Result, World

ROWS = 480
SHARDS = 4
SLOW = {"SEALIFT_CHECKPOINT_ROWS": "5", "SEALIFT_IN_FLIGHT": "1"}


@dataclass
class Fleet:
    """A world with a Batch beside it."""

    world: World
    batch: BatchServer
    runner: SubprocessRunner
    logs: Path

    def environment(self, **extra: str) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL_BATCH": self.batch.endpoint,
            "SEALIFT_EXECUTOR": "batch",
            "SEALIFT_BATCH_QUEUE": "spot",
            "SEALIFT_BATCH_JOB_DEFINITION": "sealift-{job}",
            "SEALIFT_ROWS_PER_SHARD": str(ROWS // SHARDS),
        } | extra

    def sealift(self, *arguments: str, **extra: str) -> Result:
        return self.world.sealift(*arguments, **self.environment(**extra))

    def start(self, *arguments: str, **extra: str) -> subprocess.Popen[str]:
        return self.world.start(*arguments, **self.environment(**extra))

    def replicate(self, *arguments: str, **extra: str) -> Result:
        return self.sealift(*self.replication(*arguments), **extra)

    def replication(self, *arguments: str) -> list[str]:
        sides = ["--source", f"s3://{self.world.source}", "--destination", f"s3://{self.world.destination}"]
        return ["replicate", *sides, "--json", *arguments]

    def slow_down(self, **extra: str) -> None:
        """Workers take their time and checkpoint each few rows, so that things can happen to them."""
        self.runner.environment = {**self.runner.environment, **SLOW, **extra}

    def submitted(self, *arguments: str) -> str:
        """The id of a run that was submitted and left."""
        result = self.replicate("--detach", *arguments)
        assert result.code == 0, result.stderr
        document = result.document
        assert document["state"] == "submitted"
        return str(document["run_id"])

    def paused(self, run_id: str, index: int) -> tuple[Job, Process]:
        """A child that has checkpointed some of its rows, and its process, held there."""

        def look() -> tuple[Job, Process] | None:
            job = self.batch.job(f"{run_id}-000-work", index)
            if job.status != "RUNNING" or not self.checkpointed(run_id, index):
                return None
            [process] = job.attempts[-1].running
            assert isinstance(process, Process)
            process.pause()
            return job, process

        found: tuple[Job, Process] = await_value(look)
        return found

    def checkpointed(self, run_id: str, shard: int) -> int:
        return sum(int(key.rpartition("/")[2].split("-")[2]) for key in self.keys(run_id, f"outcomes/{shard:05d}/"))

    def keys(self, run_id: str, folder: str) -> list[str]:
        pages = self.world.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.world.ledger, Prefix=f"runs/runs/{run_id}/{folder}"
        )
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def read(self, key: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(
            self.world.client.get_object(Bucket=self.world.ledger, Key=key)["Body"].read()
        )
        return document

    def ended(self, name: str) -> Job:
        found: Job = await_value(lambda: job if (job := self.batch.job(name)).has_ended else None, 60)
        return found

    def show(self, run_id: str) -> dict[str, Any]:
        return self.sealift("runs", "show", run_id, "--json").document


@dataclass
class LateReports:
    """A runner whose containers start at once, but those that make reports only when they may."""

    runner: Runner
    may_start: threading.Event

    def start(self, child: Child) -> Running:
        if child.name.endswith("-report"):
            return LateReport(self, child)
        return self.runner.start(child)


@dataclass
class LateReport:
    """A container that may not have started yet."""

    late: LateReports
    child: Child
    running: Running | None = None

    def poll(self) -> Exit | None:
        if self.running is None and self.late.may_start.is_set():
            self.running = self.late.runner.start(self.child)
        return self.running.poll() if self.running else None

    def terminate(self, grace_seconds: float) -> None:
        if self.running:
            self.running.terminate(grace_seconds)


@pytest.fixture
def yard(world: World, tmp_path: Path) -> Iterator[Fleet]:
    """A fleet that has nothing to carry."""
    runner = SubprocessRunner({**world.environment(), "SEALIFT_LOG": "json"}, tmp_path)
    with batch_server(runner, max_running=4, second_seconds=1000.0) as batch:
        batch.add_queue("spot")
        batch.add_queue("calm")
        for name in ("sealift", "sealift-replicate", "sealift-verify"):
            register(make_client(batch), name)
        yield Fleet(world, batch, runner, tmp_path)


@pytest.fixture
def fleet(yard: Fleet) -> Fleet:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: yard.world.put(f"k{number:05d}", b"x" * number), range(ROWS)))
    return yard


def complete(report: dict[str, Any]) -> None:
    """A complete run of all rows, each with one outcome that ended well."""
    assert report["state"] == "complete"
    assert report["rows"] == report["accounted"] == ROWS
    assert set(report["outcomes"]) <= {"copied", "same", "verified"}
    assert report["failures"] == 0


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
    assert known["jobs"]["work"]["children"] == {"SUCCEEDED": 8}


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
    assert fleet.sealift("runs", "report", result.document["run_id"], "--json").document == result.document


@pytest.mark.slow
def test_the_report_of_a_large_run_is_left_to_its_own_job(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "REPORTED_HERE_ROWS", ROWS - 1)
    late = LateReports(fleet.runner, threading.Event())
    fleet.batch.engine.runner = late
    run_id = fleet.submitted()

    async def follow_until_it_may() -> batch.Followed:
        following = asyncio.create_task(followed(fleet, run_id))
        await asyncio.to_thread(fleet.ended, f"{run_id}-000-work")
        looks = fleet.batch.calls["DescribeJobs"] + 3
        await asyncio.to_thread(await_value, lambda: fleet.batch.calls["DescribeJobs"] >= looks)
        assert not following.done()
        late.may_start.set()
        return await following

    with mock.patch.dict(os.environ, fleet.world.environment() | fleet.environment()):
        complete(asyncio.run(follow_until_it_may()).report)


async def followed(fleet: Fleet, run_id: str) -> batch.Followed:
    """What `runs watch` does, in this process."""
    ledger = launch.open_ledger(Location(fleet.world.ledger, "runs"))
    submitted = await BatchExecutor(ledger, Batch()).latest(run_id)
    assert submitted is not None
    return await batch.follow(submitted, await ledger.spec(run_id), await ledger.plan(run_id), ledger)


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
    assert fleet.batch.calls["SubmitJob"] == 4
    work = fleet.batch.job(f"{report['run_id']}-000-work")
    verify = fleet.batch.job(f"{report['then']['run_id']}-000-work")
    assert verify.request["dependsOn"] == [{"jobId": work.id, "type": "N_TO_N"}]
    for copied, proven in zip(work.children, verify.children, strict=True):
        assert proven.attempts[0].started_at >= copied.stopped_at


@pytest.mark.slow
def test_detach_leaves_and_watch_follows(fleet: Fleet) -> None:
    run_id = fleet.submitted()
    watched = fleet.sealift("runs", "watch", run_id, "--json")
    assert watched.code == 0, watched.stderr
    complete(watched.document)
    assert fleet.batch.calls["DescribeJobs"] < 100
    assert fleet.batch.calls["ListJobs"] == 0


def test_a_reclaimed_child_checkpoints_exits_75_is_retried_and_completes(fleet: Fleet) -> None:
    fleet.slow_down()
    run_id = fleet.submitted()
    child, process = fleet.paused(run_id, 0)
    fleet.batch.engine.reclaim(child)
    process.resume()
    watched = fleet.sealift("runs", "watch", run_id, "--json")
    assert watched.code == 0, watched.stderr
    complete(watched.document)
    assert watched.document["outcomes"] == {"copied": ROWS}  # nothing that a checkpoint held was done again
    first, second = child.attempts
    assert (first.exit_code, second.exit_code) == (75, 0)
    assert first.status_reason.startswith("Host EC2")


@pytest.mark.slow
def test_a_child_killed_for_its_memory_leaves_an_incomplete_run_that_retry_completes(fleet: Fleet) -> None:
    fleet.slow_down()
    run_id = fleet.submitted()
    child, process = fleet.paused(run_id, 3)
    process.kill(OUT_OF_MEMORY)
    watched = fleet.sealift("runs", "watch", run_id, "--json")
    assert watched.code == 10, watched.stderr
    report = watched.document
    assert report["state"] == "failed"
    assert report["accounted"] < ROWS
    [failure] = report["failed_children"]
    assert (failure["child"], failure["exit_code"], failure["reason"]) == (3, 137, OUT_OF_MEMORY)
    assert failure["log_stream"] == child.attempts[-1].log_stream
    shown = fleet.sealift("runs", "show", run_id)
    assert f"child 3 failed after 1 attempts: Essential container in task exited; {OUT_OF_MEMORY}" in shown.stdout
    assert child.attempts[-1].log_stream in shown.stdout
    assert fleet.keys(run_id, "report.json") == []
    elsewhere = {"SEALIFT_BATCH_QUEUE_ON_DEMAND": "calm"}
    retried = fleet.sealift("runs", "retry", run_id, "--memory", "1GiB", "--on-demand", "--json", **elsewhere)
    assert retried.code == 0, retried.stderr
    complete(retried.document)
    again = fleet.batch.job(f"{run_id}-001-work")
    assert again.size is None  # one shard was left: a plain job
    assert (again.container["memory_mib"], again.queue) == (1024, "calm")
    assert again.container["command"][:4] == ["worker", run_id, "--submission", "1"]


@pytest.mark.slow
def test_a_timeout_checkpoints_and_is_told_apart(fleet: Fleet) -> None:
    fleet.slow_down()
    run_id = fleet.submitted("--timeout", "60")
    child, process = fleet.paused(run_id, 0)
    await_value(lambda: all(other.has_ended for other in fleet.batch.job(f"{run_id}-000-work").children[1:]))
    fleet.batch.engine.second_seconds = 0.0
    await_value(lambda: child.ending)
    fleet.batch.engine.second_seconds = 1000.0
    process.resume()
    watched = fleet.sealift("runs", "watch", run_id, "--json")
    report = watched.document
    assert watched.code == 75, watched.stderr
    assert report["state"] == "incomplete"
    [failure] = report["failed_children"]
    assert (failure["status_reason"], failure["exit_code"]) == ("Job attempt duration exceeded timeout", 75)
    retried = fleet.sealift("runs", "retry", run_id, "--json")
    assert retried.code == 0, retried.stderr
    complete(retried.document)


def test_an_image_that_cannot_start_fails_the_run_and_says_why(fleet: Fleet) -> None:
    why = "CannotPullContainerError: pull access denied for sealift"
    fleet.batch.engine.faults.broken_images["sealift:1"] = why
    result = fleet.replicate()
    assert result.code == 10, result.stderr
    assert result.document["state"] == "failed"
    assert result.document["accounted"] == 0
    assert len(result.document["failed_children"]) == SHARDS
    assert {each["reason"] for each in result.document["failed_children"]} == {why}
    assert {each["exit_code"] for each in result.document["failed_children"]} == {None}
    shown = fleet.sealift("runs", "show", result.document["run_id"]).stdout
    assert f"Task failed to start; {why} (never started" in shown


@pytest.mark.slow
def test_a_child_started_twice_accounts_for_each_row_once(fleet: Fleet) -> None:
    fleet.slow_down()
    fleet.batch.engine.faults.twice = lambda job: job.index in (0, 3)
    result = fleet.replicate()
    assert result.code == 0, result.stderr
    complete(result.document)
    work = fleet.batch.job(f"{result.document['run_id']}-000-work")
    for index in (0, 3):
        both = work.children[index].attempts[0].running
        assert [await_value(running.poll) for running in both] == [Exit(0), Exit(0)]


@pytest.mark.slow
def test_cancel_leaves_a_run_that_retry_goes_on_with(fleet: Fleet) -> None:
    fleet.slow_down()
    run_id = fleet.submitted()
    child, process = fleet.paused(run_id, 0)
    cancelled = fleet.sealift("runs", "cancel", run_id, "--json")
    assert (cancelled.code, cancelled.document["state"]) == (0, "cancelled")
    process.resume()
    fleet.ended(f"{run_id}-000-work")
    assert child.attempts[-1].exit_code == 75
    watched = fleet.sealift("runs", "watch", run_id, "--json")
    assert (watched.code, watched.document["state"]) == (75, "incomplete")
    done = watched.document["accounted"]
    assert 5 <= done < ROWS
    assert watched.document["failed_children"][0]["status_reason"] == f"cancelled by sealift runs cancel {run_id}"
    retried = fleet.sealift("runs", "retry", run_id, "--json")
    assert retried.code == 0, retried.stderr
    complete(retried.document)
    assert retried.document["outcomes"] == {"copied": ROWS}
    assert fleet.sealift("runs", "cancel", run_id).stdout.startswith("Nothing to cancel")


@pytest.mark.slow
def test_retry_submits_only_the_shards_that_are_left(fleet: Fleet) -> None:
    def doomed(child: Child) -> bool:
        return (
            child.name.endswith("-000-work")
            and "-replicate-" in child.name
            and child.environment["AWS_BATCH_JOB_ARRAY_INDEX"] in ("1", "3")
        )

    class Choosy(SubprocessRunner):
        def start(self, child: Child) -> Any:
            return Ended(Exit(1)) if doomed(child) else super().start(child)

    fleet.batch.engine.runner = Choosy(fleet.runner.environment, fleet.logs)
    result = fleet.replicate("--then-verify")
    assert (result.code, result.document["state"]) == (1, "failed")
    then = result.document["then"]  # verified is what was copied, the rest waits
    assert (then["state"], then["outcomes"]) == ("incomplete", {"verified": result.document["accounted"]})
    assert {each["status_reason"] for each in then["failed_children"]} == {"Dependent Job failed"}
    assert fleet.batch.job(f"{result.document['run_id']}-000-report").status_reason == "Dependent Job failed"
    run_id = result.document["run_id"]
    retried = fleet.sealift("runs", "retry", run_id, "--json")
    assert retried.code == 0, retried.stderr
    complete(retried.document)
    assert fleet.batch.job(f"{run_id}-001-work").size == 2
    [intent] = [fleet.read(key) for key in fleet.keys(run_id, "batch/001.json")]
    assert intent["shards"] == [[1, 1], [3, 3]]
    verified = fleet.sealift("runs", "retry", then["run_id"], "--json")
    assert verified.code == 0, verified.stderr
    complete(verified.document)


@dataclass
class Ended:
    """A child that has ended at once."""

    exit: Exit

    def poll(self) -> Exit | None:
        return self.exit

    def terminate(self, grace_seconds: float) -> None:
        return


@pytest.mark.slow
def test_retry_of_failed_rows_is_a_new_run_of_them_in_batch(fleet: Fleet) -> None:
    fleet.world.client.put_object(Bucket=fleet.world.destination, Key="k00009", Body=b"newer")
    first = fleet.replicate()
    assert first.code == 3, first.stderr
    fleet.world.client.delete_object(Bucket=fleet.world.destination, Key="k00009")
    retried = fleet.sealift("runs", "retry", first.document["run_id"], "--json")
    assert retried.code == 0, retried.stderr
    assert (retried.document["rows"], retried.document["outcomes"]) == (1, {"copied": 1})
    assert fleet.batch.job(f"{retried.document['run_id']}-000-work").size is None


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
    complete(fleet.sealift("runs", "watch", run_id, "--json").document)


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


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--queue", "none"], 10, "there is no job queue 'none'"),
        (["--queue", "closed"], 10, "takes no jobs (DISABLED"),
        (["--job-definition", "none"], 10, "no active job definition 'none'"),
        (["--job-definition", "sealift:7"], 10, "no active job definition 'sealift:7'"),
        (["--on-demand"], 2, "SEALIFT_BATCH_QUEUE_ON_DEMAND"),
        (["--timeout", "5"], 2, "timeout of 5 s"),
        (["--attempts", "11"], 2, "1 to 10"),
        (["--priority", "10000"], 2, "0 to 9999"),
        (["--share", "a-b"], 2, "share identifier 'a-b'"),
        (["--tag", "bare"], 2, "KEY=VALUE"),
        (["--source-profile", "mine"], 2, "profile 'mine'"),
        (["--executor", "local", "--detach"], 2, "--detach needs --executor batch"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_planned(
    yard: Fleet, arguments: list[str], code: int, said: str
) -> None:
    fleet = yard
    fleet.batch.add_queue("closed", state="DISABLED")
    result = fleet.replicate(*arguments)
    assert result.code == code, result.stderr
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""
    assert fleet.batch.names() == []
    assert fleet.sealift("runs", "list", "--json").document["runs"] == []


@pytest.mark.slow
def test_a_refused_submission_is_in_the_ledger_and_can_go_elsewhere(fleet: Fleet) -> None:
    fleet.batch.add_queue("fair", is_fair_share=True)
    result = fleet.replicate("--queue", "fair")  # Batch wants a share identifier, which only SubmitJob says
    assert result.code == 10, result.stderr
    assert "ShareIdentifier is required" in result.stderr.splitlines()[-1]
    [run] = fleet.sealift("runs", "list", "--json").document["runs"]
    assert run["state"] == "incomplete"
    assert "ShareIdentifier is required" in fleet.show(run["run_id"])["batch"]["refused"]
    retried = fleet.sealift(
        "runs", "retry", run["run_id"], "--share", "night", "--priority", "7", "--tag", "team=a", "--json"
    )
    assert retried.code == 0, retried.stderr
    complete(retried.document)
    request = fleet.batch.job(f"{run['run_id']}-001-work").request
    assert (request["shareIdentifier"], request["schedulingPriorityOverride"]) == ("night", 7)
    assert request["tags"]["team"] == "a"


@pytest.mark.slow
def test_a_worker_of_another_version_says_so_in_the_ledger(fleet: Fleet) -> None:
    run_id = planned_by_another_version(fleet)
    submitted = fleet.sealift("runs", "retry", run_id, "--json")
    assert submitted.code == 10, submitted.stderr
    assert submitted.document["state"] == "failed"
    assert {each["exit_code"] for each in submitted.document["failed_children"]} == {10}
    errors = fleet.show(run_id)["batch"]["errors"]
    assert len(errors) == SHARDS
    assert all("was planned by Sealift 0.0.1" in each["error"] for each in errors)
    assert all(
        each["job_id"].partition(":")[0] == submitted.document["failed_children"][0]["job_id"].partition(":")[0]
        for each in errors
    )


def planned_by_another_version(fleet: Fleet) -> str:
    """A run whose spec names another version: the spec is write-once, so its ledger is written anew."""
    fleet.batch.throttle["SubmitJob"] = 6
    assert fleet.replicate().code == 75
    [run] = fleet.sealift("runs", "list", "--json").document["runs"]
    run_id = str(run["run_id"])
    key = f"runs/runs/{run_id}/spec.json"
    spec = fleet.read(key) | {"sealift_version": "0.0.1"}
    fleet.world.client.put_object(Bucket=fleet.world.ledger, Key=key, Body=json.dumps(spec).encode())
    return run_id


@pytest.mark.slow
def test_an_index_out_of_the_plan_is_exit_2_and_in_the_ledger(fleet: Fleet) -> None:
    run_id = fleet.submitted()
    fleet.ended(f"{run_id}-000-report")
    ledger = f"s3://{fleet.world.ledger}/runs"
    result = fleet.sealift(
        "worker", run_id, "--submission", "0", "--ledger", ledger, AWS_BATCH_JOB_ARRAY_INDEX="4", AWS_BATCH_JOB_ID="a:4"
    )
    assert result.code == 2
    assert "has 4 children, none is 4" in result.stderr.splitlines()[-1]
    [error] = fleet.show(run_id)["batch"]["errors"]
    assert (error["exit_code"], error["job_id"], error["what"]) == (2, "a:4", "child 4 of submission 0")
    missing = fleet.sealift("worker", run_id, "--submission", "5", "--ledger", ledger)
    assert missing.code == 10
    assert "there is no batch/005.json of run" in missing.stderr


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
    follower = fleet.start("runs", "watch", run_id)
    await_value(lambda: fleet.batch.calls["DescribeJobs"] >= 3)
    follower.send_signal(signal.SIGTERM)
    _, stderr = follower.communicate(timeout=60)
    assert follower.returncode == 75
    assert f"run {run_id} goes on in Batch" in stderr.splitlines()[-1]
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
    with mock.patch.dict(os.environ, variables), mock.patch.object(batch, "FORGOTTEN_SECONDS", 0.5):
        ended = asyncio.run(followed(fleet, run_id))
    assert ended.report["state"] == "incomplete"
    assert 0 < ended.report["accounted"] < ROWS
    retried = fleet.sealift("runs", "retry", run_id, "--json")
    assert retried.code == 0, retried.stderr
    complete(retried.document)
