"""Runs in AWS Batch, through the command line: sent, followed, found again."""

from __future__ import annotations

import signal

import pytest

from tests.doubles.batch.account import await_value
from tests.end_to_end.batch_workers import Fleet


def test_eight_shards_replicated_by_an_array_job_with_a_report_stage(yard: Fleet) -> None:
    for number in range(40):
        yard.world.put(f"k{number:05d}", b"x" * number)
    result = yard.replicate(rows_per_shard="5")
    assert result.code == 0, result.stderr
    report = result.document
    assert (report["state"], report["accounted"], report["outcomes"]) == ("complete", 40, {"done": 40})
    run_id = report["run_id"]
    assert yard.batch.names() == [f"{run_id}-000-work", f"{run_id}-000-report"]
    assert yard.batch.calls["SubmitJob"] == 2
    work = yard.batch.job(f"{run_id}-000-work")
    assert (work.request["jobDefinition"], work.size) == ("sealift-replicate", 8)
    assert yard.ended(f"{run_id}-000-report").status == "SUCCEEDED"
    assert yard.world.copy_of("k00007") == b"x" * 7
    known = yard.show(run_id)["batch"]
    assert (known["children"], known["shards"], known["failed_children"]) == (8, 8, [])
    assert known["jobs"]["work"]["children"] == {"succeeded": 8}


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
