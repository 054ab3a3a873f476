"""Runs in AWS Batch whose children die, whose rows fail, and what cannot be sent at all."""

from __future__ import annotations

import pytest

from tests.doubles.batch.runners import OUT_OF_MEMORY
from tests.end_to_end.batch_workers import ROWS, Fleet, complete


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
    assert (failure["index"], failure["exit_code"], failure["reason"]) == (3, 137, OUT_OF_MEMORY)
    assert failure["log_stream"] == child.attempts[-1].log_stream
    shown = fleet.sealift("runs", "show", run_id)
    assert f"child 3 failed after 1 attempts: Essential container in task exited; {OUT_OF_MEMORY}" in shown.stdout
    assert child.attempts[-1].log_stream in shown.stdout
    assert fleet.keys(run_id, "report.json") == []
    retried = fleet.sealift("runs", "retry", run_id, "--json")
    assert retried.code == 0, retried.stderr
    complete(retried.document)
    again = fleet.batch.job(f"{run_id}-001-work")
    assert again.size is None  # one shard was left: a plain job
    assert again.container["command"][:4] == ["worker", run_id, "--submission", "1"]


@pytest.mark.slow
def test_cancel_leaves_a_run_that_retry_goes_on_with(fleet: Fleet) -> None:
    fleet.slow_down()
    run_id = fleet.submitted()
    child, process = fleet.paused(run_id, 0)
    cancelled = fleet.sealift("runs", "cancel", run_id, "--json")
    assert (cancelled.code, cancelled.document["state"]) == (0, "cancelled")
    process.resume()
    fleet.ended(f"{run_id}-000-work")
    assert child.attempts[-1].exit_code in (75, 76)  # by the signal, or by its look at the owner
    watched = fleet.sealift("runs", "show", run_id, "--follow", "--json")
    assert (watched.code, watched.document["state"]) == (75, "incomplete")
    done = watched.document["accounted"]
    assert 5 <= done < ROWS
    assert watched.document["failed_children"][0]["status_reason"] == f"cancelled by sealift runs cancel {run_id}"
    retried = fleet.sealift("runs", "retry", run_id, "--json")
    assert retried.code == 0, retried.stderr
    complete(retried.document)
    assert retried.document["outcomes"] == {"done": ROWS}
    assert fleet.sealift("runs", "cancel", run_id).stdout.startswith("Nothing to cancel")


@pytest.mark.parametrize(
    ("settings", "arguments", "code", "said"),
    [
        ({"QUEUE": "none"}, [], 10, "the job queue 'none' does not exist"),
        ({"QUEUE": "closed"}, [], 10, "takes no jobs (DISABLED"),
        ({"JOB_DEFINITION": "none"}, [], 10, "job definition 'none' does not exist or is not active"),
        ({"JOB_DEFINITION": "sealift:7"}, [], 10, "job definition 'sealift:7' does not exist or is not active"),
        ({}, ["--source-profile", "mine"], 2, "profile 'mine'"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_planned(
    yard: Fleet, settings: dict[str, str], arguments: list[str], code: int, said: str
) -> None:
    fleet = yard
    fleet.batch.add_queue("closed", state="DISABLED")
    result = fleet.replicate(*arguments, **{f"SEALIFT_BATCH_{name}": value for name, value in settings.items()})
    assert result.code == code, result.stderr
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.has_no_answer
    assert fleet.batch.names() == []
    assert fleet.sealift("runs", "list", "--json").document["runs"] == []
