"""Nobody at the wheel: workers whose command was killed, whose reader left, whose run was cancelled or retried."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.doubles.batch.account import await_value
from tests.end_to_end.batch_workers import Fleet
from tests.end_to_end.conftest import World
from tests.end_to_end.expiry import DELETE, declare, places
from tests.end_to_end.scenes import fill, kill

ROWS = 1_200


def first_key(world: World, bucket: str) -> str | None:
    """One short request, while a worker deletes from the front."""
    found = world.client.list_objects_v2(Bucket=bucket, Prefix="k", MaxKeys=1).get("Contents", [])
    return str(found[0]["Key"]) if found else None


def await_(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Return when the condition is met, or the process has ended."""
    while process.poll() is None and not condition():
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


@pytest.mark.slow
def test_a_killed_expire_deletes_nothing_more_until_somebody_says_retry(world: World) -> None:
    fill(world, ROWS)
    world.run("replicate", rows_per_shard="600")
    declare(world, wait_seconds=11)
    options = {"rows_per_shard": "600", "processes": "2"}
    command = ["expire", *places(world), *DELETE]
    process = world.start(*command, **options)
    await_(lambda: len(world.own_keys(world.source)) < ROWS, process)  # with the place's document
    workers = kill(process, workers=False)
    assert workers
    time.sleep(2.0)
    left = len(world.own_keys(world.source))
    assert left > 1
    time.sleep(2.0)
    assert len(world.own_keys(world.source)) == left
    await_value(lambda: all(map(is_gone, workers)))
    again = world.sealift(*command, "--json")
    assert again.code == 0, again.stderr
    assert set(again.document["outcomes"]) == {"done"}
    assert (len(world.own_keys(world.source)), len(world.own_keys(world.destination))) == (1, ROWS + 1)


@pytest.mark.slow
def test_a_cancelled_expire_in_batch_deletes_no_more_even_if_its_termination_is_lost(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = fleet.world
    rows = 1_500  # three groups, removed by twelve requests, so that the worker is found in the middle
    fill(world, rows)
    one_shard = {"rows_per_shard": str(rows)}
    fleet.replicate(**one_shard)
    declare(world, wait_seconds=11)
    fleet.batch.engine.max_running = 1
    settings = {"processes": "1", "in_flight": "32", "SEALIFT_BATCH_JOB_DEFINITION": "sealift"}
    command = ["expire", *places(world), *DELETE, "--json"]
    submitted = fleet.sealift(*command, "--executor", "detached", **settings, **one_shard)  # one group after the other
    run_id = submitted.document["run_id"]
    job = await_value(lambda: fleet.batch.job(f"{run_id}-000-work"))
    await_value(lambda: first_key(world, world.source) != "k00000" or job.has_ended, 60)
    process = job.attempts[-1].running
    process.pause()
    monkeypatch.setattr(fleet.batch.engine, "terminate", lambda *arguments, **named: None)
    cancelled = fleet.sealift("runs", "cancel", run_id, "--json")
    assert cancelled.document["state"] == "cancelled", cancelled.stderr
    monkeypatch.undo()
    process.resume()
    await_value(lambda: job.attempts[0].exit_code is not None, 60)
    assert job.attempts[0].exit_code == 76
    left = len(world.own_keys(world.source))
    assert left > 1
    fleet.ended(f"{run_id}-000-work")
    assert (len(job.attempts), len(world.own_keys(world.source))) == (1, left)  # Batch has not started it again
    again = fleet.sealift(*command, **settings, **one_shard)
    assert again.code == 0, again.stderr
    assert set(again.document["outcomes"]) == {"done"}
    assert len(world.own_keys(world.source)) == 1
