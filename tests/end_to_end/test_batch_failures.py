"""Runs in AWS Batch whose children die, whose rows fail, and what cannot be sent at all."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from tests.doubles.batch.account import await_value
from tests.doubles.batch.runners import OUT_OF_MEMORY, Child, Exit, SubprocessRunner
from tests.end_to_end.batch_workers import ROWS, SHARDS, Fleet, complete


def test_a_reclaimed_child_checkpoints_exits_75_is_retried_and_completes(fleet: Fleet) -> None:
    fleet.slow_down()
    run_id = fleet.submitted()
    child, process = fleet.paused(run_id, 0)
    fleet.batch.engine.reclaim(child)
    process.resume()
    watched = fleet.sealift("runs", "show", run_id, "--follow", "--json")
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
    watched = fleet.sealift("runs", "show", run_id, "--follow", "--json")
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
    watched = fleet.sealift("runs", "show", run_id, "--follow", "--json")
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
        assert {await_value(running.poll, 60) for running in both} <= {Exit(0), Exit(75)}  # one of them takes over


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
    watched = fleet.sealift("runs", "show", run_id, "--follow", "--json")
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
    verified = fleet.sealift("runs", "retry", then["run_id"], "--json", "--job-definition", "sealift-replicate")
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


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--queue", "none"], 10, "the job queue 'none' does not exist"),
        (["--queue", "closed"], 10, "takes no jobs (DISABLED"),
        (["--job-definition", "none"], 10, "job definition 'none' does not exist or is not active"),
        (["--job-definition", "sealift:7"], 10, "job definition 'sealift:7' does not exist or is not active"),
        (["--on-demand"], 2, "SEALIFT_BATCH_QUEUE_ON_DEMAND"),
        (["--timeout", "5"], 2, "timeout of 5 s"),
        (["--attempts", "11"], 2, "1 to 10"),
        (["--priority", "10000"], 2, "from 0 to 9999"),
        (["--share", "a-b"], 2, "share identifier 'a-b'"),
        (["--tag", "bare"], 2, "NAME=VALUE"),
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
    assert result.has_no_answer
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
    how = ["--share", "night", "--priority", "7", "--tag", "team=a", "--json"]
    unnamed = fleet.sealift("runs", "retry", run["run_id"], *how)  # the ledger alone sends nothing elsewhere
    assert (unnamed.code, "'fair'" in unnamed.stderr) == (2, True), unnamed.stderr
    retried = fleet.sealift("runs", "retry", run["run_id"], "--queue", "fair", *how)
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
