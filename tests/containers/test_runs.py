"""Runs in real containers, as a job definition asks for them: the work, its report, and the end of a reclaimed host."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from jobs.errors import ExitCode
from tests.containers.conftest import Built
from tests.doubles.batch.account import await_value
from tests.doubles.servers import Server
from tests.doubles.tuning import tuned
from tests.end_to_end.conftest import World, discard, make_world
from tests.end_to_end.scenes import copied, fill

ROWS = 300
# Slow enough to be met at work, with checkpoints close to each other.
SLOW = {"checkpoint_rows": "20", "in_flight": "1"}
IN_BATCH = {"AWS_BATCH_JOB_ID": "0b1c2d3e", "AWS_BATCH_JOB_ATTEMPT": "1"}


@pytest.fixture
def world(seaweed: Server) -> Iterator[World]:
    made = make_world(seaweed, versioned=False)
    fill(made, ROWS)
    yield made
    discard(made)


def start(built: Built, world: World, name: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a command in a container. It has the host's network, because the S3 server is on loopback."""
    ledger = {"SEALIFT_LEDGER": f"s3://{world.ledger}/runs"}
    variables = tuned(world.server.environment() | ledger | SLOW) | IN_BATCH
    flags = ["--rm", f"--name={name}", "--pull=never", "--network=host", "--read-only", "--cap-drop=all"]
    flags += ["--security-opt=no-new-privileges", "--ulimit=host", "--memory=1024m"]
    environment = [f"--env={key}={value}" for key, value in variables.items()]
    command = built.podman.command("run", *flags, *environment, built.image, *arguments, "--json")
    return subprocess.Popen(
        command,
        cwd=built.podman.folder,
        env=built.podman.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
    stdout, stderr = process.communicate(timeout=180)
    assert stdout, stderr
    return process.returncode, json.loads(stdout)


def test_a_reclaimed_container_checkpoints_and_another_one_does_the_rest(built: Built, world: World) -> None:
    """SIGTERM goes to the first process. The report is made with DuckDB, on a read-only root file system."""
    with ThreadPoolExecutor(1) as pool:
        first = start(built, world, "first", "replicate", *world.sides, "--max-rate", "60")
        running = pool.submit(end, first)
        await_value(lambda: running.done() or copied(world) > 40, 120)
        built.podman.run("stop", "--time", "30", "first")
        code, document = running.result(timeout=60)
    assert (code, document["state"]) == (ExitCode.TRANSIENT, "incomplete")
    assert document["accounted"] == copied(world) < ROWS
    code, document = end(start(built, world, "second", "runs", "retry", document["run_id"]))
    # All that the first one did had been written when it ended: nothing was found to be there already.
    assert (code, document["state"], document["outcomes"]) == (ExitCode.DONE, "complete", {"done": ROWS})
