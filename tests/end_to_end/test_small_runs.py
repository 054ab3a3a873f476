"""A run of few rows: its worker is the command's own process, and stops and goes on as any other."""

from __future__ import annotations

import json
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobs.core.model import Location
from jobs.core.run import Plan, RunSpec, ShardSummary, Side
from jobs.runs.launch import HERE_BYTES, HERE_ROWS, is_worked_here
from tests.end_to_end.conftest import World
from tests.end_to_end.test_resume import await_copies, copied


def fill(world: World, rows: int) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: world.put(f"k{number:05d}", b"x"), range(rows)))


def replicate(world: World, **extra: str) -> subprocess.Popen[str]:
    sides = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}"]
    return world.start("replicate", *sides, "--json", **extra)


def worker_of(world: World, run_id: str) -> int:
    """The process id in the first claim of the run's first shard."""
    key = f"runs/runs/{run_id}/leases/00000/000000.json"
    body = world.client.get_object(Bucket=world.ledger, Key=key)["Body"].read()
    return int(json.loads(body)["pid"])


@pytest.mark.parametrize(("rows", "is_here"), [(3, True), (HERE_ROWS + 1, False)])
def test_few_rows_are_worked_through_in_the_process_of_the_command(world: World, rows: int, is_here: bool) -> None:
    fill(world, rows)
    process = replicate(world)
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, json.loads(stdout)["outcomes"]) == (0, {"copied": rows}), stderr
    assert (worker_of(world, json.loads(stdout)["run_id"]) == process.pid) is is_here


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_has_it_write_a_checkpoint_and_leave_the_shard_to_a_retry(world: World, number: int) -> None:
    fill(world, HERE_ROWS)
    process = replicate(world, SEALIFT_IN_FLIGHT="1")
    await_copies(world, process, 5)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    document = json.loads(stdout)
    assert (process.returncode, document["state"]) == (75, "incomplete"), stderr
    assert 0 < document["accounted"] == copied(world) < HERE_ROWS
    assert worker_of(world, document["run_id"]) == process.pid
    retried = world.sealift("runs", "retry", document["run_id"], "--json")
    assert retried.document["outcomes"] == {"copied": HERE_ROWS}
    assert "have not ended" not in retried.stderr  # its claim of the shard has


PLACE = Side(Location("bucket"))


@pytest.mark.parametrize(
    ("rows", "size_bytes", "shards", "options", "is_here"),
    [
        (HERE_ROWS, HERE_BYTES, 1, {}, True),
        (HERE_ROWS + 1, 0, 1, {}, False),
        (1, HERE_BYTES + 1, 1, {}, False),
        (2, 0, 2, {}, False),
        (0, 0, 0, {}, False),
        (1, 1, 1, {"delete": True}, False),
    ],
)
def test_what_deletes_or_is_large_has_a_process_of_its_own(
    rows: int, size_bytes: int, shards: int, options: dict[str, bool], is_here: bool
) -> None:
    spec = RunSpec("run", "any", 0.0, PLACE, PLACE, "", options)
    assert is_worked_here(spec, Plan(rows, size_bytes, (ShardSummary(rows, size_bytes),) * shards)) is is_here
