"""Kill anything at any moment: the run goes on, every row is accounted for once."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import random
import signal
import subprocess
from pathlib import Path

import pytest

from tests.doubles.batch.account import await_value
from tests.doubles.fault_proxy import Faults, fault_proxy
from tests.doubles.servers import seaweedfs
from tests.end_to_end.conftest import SMALL_PARTS, World, make_world
from tests.end_to_end.forged_ledger import names
from tests.end_to_end.scenes import await_copies, copied, fill, kill, workers_of

MIB = 1024 * 1024
ROWS = 200
SLOW = {"checkpoint_rows": "20", "in_flight": "1", "processes": "2"}
TWO_SHARDS = SLOW | {"rows_per_shard": "100"}
"""Workers are processes of their own."""


def replicate(world: World, **extra: str) -> subprocess.Popen[str]:
    return world.start("replicate", *world.sides, "--json", **TWO_SHARDS | extra)


def complete(document: dict[str, object]) -> None:
    """A complete run of all rows, each with one outcome that ended well."""
    outcomes = document["outcomes"]
    assert isinstance(outcomes, dict)
    assert document["state"] == "complete"
    assert set(outcomes) <= {"done", "same"}
    assert sum(outcomes.values()) == document["rows"] == ROWS


@pytest.mark.slow
def test_killed_workers_are_started_again_and_lose_only_work_in_flight(world: World) -> None:
    fill(world, ROWS)
    chance = random.Random(1)
    process = replicate(world)
    killed = 0
    for _ in range(2):
        await_copies(world, process, copied(world) + chance.randint(20, 80))
        for pid in workers_of(process)[:1]:
            os.kill(pid, signal.SIGKILL)
            killed += 1
    stdout, stderr = process.communicate(timeout=120)
    assert killed > 0
    assert process.returncode == 0, stderr
    complete(json.loads(stdout))
    assert copied(world) == ROWS


def test_a_killed_command_is_gone_on_with_by_retry(world: World) -> None:
    fill(world, ROWS)
    process = replicate(world)
    await_copies(world, process, 60)
    assert kill(process)
    done = copied(world)
    assert 0 < done < ROWS
    [run] = world.sealift("runs", "list", "--json").document["runs"]
    assert (run["state"], run["rows"]) == ("stopped", ROWS)
    assert world.sealift("runs", "show", run["run_id"], "--json").document["state"] == "stopped"
    retried = world.sealift("runs", "retry", run["run_id"], "--json")
    assert retried.code == 0, retried.stderr
    complete(retried.document)
    # What earlier checkpoints hold was not done again; what was in flight was found there, or done.
    assert retried.document["outcomes"].get("same", 0) <= 2 * (20 + 1 + 20)


@pytest.mark.parametrize(
    "environment", [pytest.param(TWO_SHARDS, marks=pytest.mark.slow), SLOW], ids=["workers", "one process"]
)
def test_sigterm_checkpoints_and_exits_75(world: World, environment: dict[str, str]) -> None:
    fill(world, ROWS)
    process = world.start("replicate", *world.sides, "--json", **environment)
    await_copies(world, process, 60)
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 75, stderr
    document = json.loads(stdout)
    assert document["state"] == "incomplete"
    assert document["accounted"] == copied(world) < ROWS
    retried = world.sealift("runs", "retry", document["run_id"], "--json")
    complete(retried.document)
    assert retried.document["outcomes"] == {"done": ROWS}


@pytest.mark.slow
def test_a_server_that_goes_away_ends_the_run_with_75_and_it_goes_on_when_it_is_back(tmp_path: Path) -> None:
    with seaweedfs(tmp_path) as server:
        world = make_world(server, versioned=False)
        fill(world, ROWS)
        process = replicate(world, patience_seconds="1")
        await_copies(world, process, 60)
        assert process.poll() is None
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 75, stderr
    assert "sealift runs retry" in json.loads(stdout)["error"]["message"]
    assert "Traceback" not in stderr
    with seaweedfs(tmp_path) as server:
        world = dataclasses.replace(world, server=server, client=server.client())
        [run] = world.sealift("runs", "list", "--json").document["runs"]
        assert run["state"] == "stopped"
        retried = world.sealift("runs", "retry", run["run_id"], "--json")
        assert retried.code == 0, retried.stderr
        complete(retried.document)
        assert copied(world) == ROWS


@pytest.mark.slow
def test_a_killed_copy_in_parts_goes_on_and_leaves_no_upload_but_those_of_others(world: World) -> None:
    body = os.urandom(5 * MIB) * 48
    world.client.upload_fileobj(io.BytesIO(body), world.source, "big")
    foreign = world.client.create_multipart_upload(Bucket=world.destination, Key="big")["UploadId"]

    def parts() -> list[int]:
        """How many parts each of our uploads has. The look for conditional writes has one of another key."""
        uploads = world.client.list_multipart_uploads(Bucket=world.destination).get("Uploads", [])
        place = {"Bucket": world.destination, "Key": "big"}
        ours = [each["UploadId"] for each in uploads if each["Key"] == "big" and each["UploadId"] != foreign]
        return [len(world.client.list_parts(**place, UploadId=each).get("Parts", ())) for each in ours]

    # Each answer comes late, so that seconds lie between the first part and the last one.
    with fault_proxy(world.server.endpoint, Faults({"stall": 1}, seed=1)) as proxy:
        through = {"AWS_ENDPOINT_URL_S3": proxy.endpoint}
        process = world.start("replicate", *world.sides, **through, **SMALL_PARTS)
        await_value(lambda: process.poll() is not None or any(parts()), 60)
        kill(process)
        [done] = parts()
        assert 0 < done < 48
        proxy.faults.shares = {}
        [run] = world.sealift("runs", "list", "--json").document["runs"]
        retried = world.sealift("runs", "retry", run["run_id"], "--json", **through, **SMALL_PARTS)
    assert (retried.code, retried.document["outcomes"]) == (0, {"done": 1}), retried.stderr
    assert world.copy_of("big") == body
    left = world.client.list_multipart_uploads(Bucket=world.destination)["Uploads"]
    assert [each["UploadId"] for each in left] == [foreign]
    records = names(world, f"runs/{run['run_id']}/uploads/")
    assert len(records) == 2, "one upload, begun and ended: the second attempt went on with it"
    world.client.abort_multipart_upload(Bucket=world.destination, Key="big", UploadId=foreign)
