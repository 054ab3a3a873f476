"""Kill anything at any moment: the run goes on, every row is accounted for once."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import random
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.doubles.batch.account import await_value
from tests.doubles.fault_proxy import Faults, fault_proxy
from tests.doubles.servers import seaweedfs
from tests.end_to_end.conftest import SMALL_PARTS, World, make_world

MIB = 1024 * 1024
ROWS = 1_500
FAST_CHECKPOINTS = {"SEALIFT_CHECKPOINT_ROWS": "50", "SEALIFT_IN_FLIGHT": "8", "SEALIFT_PROCESSES": "2"}


@pytest.fixture
def filled(world: World) -> World:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: world.put(f"k{number:05d}", b"x"), range(ROWS)))
    return world


def workers_of(parent: subprocess.Popen[str]) -> list[int]:
    """The process ids of the parent's workers."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            stat = (folder / "stat").read_text() if folder.name.isdigit() else ""
        except (FileNotFoundError, ProcessLookupError):
            continue
        if stat and int(stat.rpartition(")")[2].split()[1]) == parent.pid:
            found.append(int(folder.name))
    return found


def copied(world: World) -> int:
    """How many copies there are. What a plan or worker probes the destination with is none."""
    pages = world.client.get_paginator("list_objects_v2").paginate(Bucket=world.destination)
    return sum(".sealift-" not in each["Key"] for page in pages for each in page.get("Contents", ()))


def await_copies(world: World, process: subprocess.Popen[str], at_least: int) -> None:
    """Return when the destination has so many objects, or the process has ended."""
    while process.poll() is None and copied(world) < at_least:
        time.sleep(0.01)


def replicate(world: World) -> subprocess.Popen[str]:
    arguments = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}", "--json"]
    return world.start("replicate", *arguments, **FAST_CHECKPOINTS)


def complete(document: dict[str, object]) -> None:
    """A complete run of all rows, each with one outcome that ended well."""
    outcomes = document["outcomes"]
    assert isinstance(outcomes, dict)
    assert document["state"] == "complete"
    assert set(outcomes) <= {"copied", "same"}
    assert sum(outcomes.values()) == document["rows"] == ROWS


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_workers_are_started_again_and_lose_only_work_in_flight(filled: World, seed: int) -> None:
    chance = random.Random(seed)
    process = replicate(filled)
    killed = 0
    for _ in range(2):
        await_copies(filled, process, copied(filled) + chance.randint(50, 400))
        for pid in workers_of(process)[:1]:
            os.kill(pid, signal.SIGKILL)
            killed += 1
    stdout, stderr = process.communicate(timeout=120)
    assert killed > 0
    assert process.returncode == 0, stderr
    complete(json.loads(stdout))
    assert copied(filled) == ROWS


def test_workers_leave_the_cores_to_others_and_the_command_stays_prompt(filled: World) -> None:
    process = replicate(filled)
    await_copies(filled, process, 1)
    workers = workers_of(process)
    assert workers
    assert {os.sched_getscheduler(pid) for pid in workers} == {os.SCHED_BATCH}
    assert os.sched_getscheduler(process.pid) == os.SCHED_OTHER
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    complete(json.loads(stdout))


def test_watch_and_show_say_that_a_killed_run_is_stopped(filled: World) -> None:
    process = replicate(filled)
    await_copies(filled, process, 100)
    watching = filled.start(
        "runs", "show", filled.sealift("runs", "list", "--follow", "--json").document["runs"][0]["run_id"]
    )
    workers = workers_of(process)
    for pid in (process.pid, *workers):
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=60)
    stdout, stderr = watching.communicate(timeout=60)
    run_id = filled.sealift("runs", "list", "--json").document["runs"][0]["run_id"]
    assert (watching.returncode, "is stopped at" in stdout) == (75, True), stderr
    assert f"sealift runs retry {run_id}" in stdout
    watched = filled.sealift("runs", "show", run_id, "--follow", "--json")
    assert (watched.code, watched.document["state"], watched.document["rows"]) == (75, "stopped", ROWS)
    assert f"sealift runs retry {run_id}" in filled.sealift("runs", "show", run_id).stdout
    assert filled.sealift("runs", "show", run_id, "--json").document["state"] == "stopped"


def test_a_killed_command_is_gone_on_with_by_retry(filled: World) -> None:
    process = replicate(filled)
    await_copies(filled, process, 300)
    workers = workers_of(process)
    os.kill(process.pid, signal.SIGKILL)
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=60)
    done = copied(filled)
    assert 0 < done < ROWS
    [run] = filled.sealift("runs", "list", "--json").document["runs"]
    assert (run["state"], run["rows"]) == ("stopped", ROWS)
    retried = filled.sealift("runs", "retry", run["run_id"], "--json")
    assert retried.code == 0, retried.stderr
    complete(retried.document)
    # What earlier checkpoints hold was not done again; what was in flight was found there, or done.
    assert retried.document["outcomes"].get("same", 0) <= 2 * (50 + 8 + 50)
    shown = filled.sealift("runs", "show", run["run_id"], "--json").document
    assert shown.items() >= retried.document.items()


def test_sigterm_checkpoints_and_exits_75(filled: World) -> None:
    process = replicate(filled)
    await_copies(filled, process, 300)
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 75, stderr
    document = json.loads(stdout)
    assert document["state"] == "incomplete"
    assert document["accounted"] == copied(filled) < ROWS
    retried = filled.sealift("runs", "retry", document["run_id"], "--json")
    complete(retried.document)
    assert retried.document["outcomes"] == {"copied": ROWS}


@pytest.mark.slow
def test_attempts_at_one_shard_at_once_take_over_from_each_other_and_leave_one_outcome_a_row(filled: World) -> None:
    process = replicate(filled)
    await_copies(filled, process, 100)
    [run] = filled.sealift("runs", "list", "--json").document["runs"]
    others = [
        filled.start(
            "worker", run["run_id"], "--shard", "0", "--ledger", f"s3://{filled.ledger}/runs", **FAST_CHECKPOINTS
        )
        for _ in range(2)
    ]
    for other in others:
        _, errors = other.communicate(timeout=120)
        assert other.returncode in (0, 75), errors
        assert (other.returncode == 75) == ("took over" in errors)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    complete(json.loads(stdout))
    assert copied(filled) == ROWS


@pytest.mark.slow
def test_a_server_that_goes_away_ends_the_run_with_75_and_it_goes_on_when_it_is_back(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    impatient = FAST_CHECKPOINTS | {"SEALIFT_PATIENCE_SECONDS": "1"}
    with seaweedfs(tmp_path) as server:
        world = make_world(server, versioned=False)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: world.put(f"k{number:05d}", b"x"), range(ROWS)))
        arguments = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}", "--json"]
        process = world.start("replicate", *arguments, **impatient)
        await_copies(world, process, 300)
        assert process.poll() is None
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 75, stderr
    assert "sealift runs retry" in json.loads(stdout)["error"]["message"]
    assert "Traceback" not in stderr
    assert "sealift runs retry" in stderr
    with seaweedfs(tmp_path) as server:
        world = dataclasses.replace(world, server=server, client=server.client())
        [run] = world.sealift("runs", "list", "--json").document["runs"]
        assert run["state"] == "stopped"
        retried = world.sealift("runs", "retry", run["run_id"], "--json")
        assert retried.code == 0, retried.stderr
        complete(retried.document)
        assert copied(world) == ROWS


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_plan_that_is_told_to_stop_leaves_nothing_behind(world: World, tmp_path: Path, number: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes connections, and never answers
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        sides = ["--source", "s3://any", "--source-endpoint", endpoint, "--destination", f"s3://{world.destination}"]
        process = world.start("replicate", *sides, TMPDIR=str(tmp_path))
        await_value(lambda: list(tmp_path.glob("sealift-plan-*")) or None)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 75
    assert stderr.splitlines()[-1] == "sealift: interrupted"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_killed_copy_in_parts_goes_on_and_leaves_no_upload_but_those_of_others(world: World) -> None:
    body = os.urandom(5 * MIB) * 48
    world.client.upload_fileobj(io.BytesIO(body), world.source, "big")
    foreign = world.client.create_multipart_upload(Bucket=world.destination, Key="big")["UploadId"]
    sides = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}", "--json"]

    def parts() -> list[int]:
        """How many parts each of our uploads has. The look for conditional writes has one of another key."""
        uploads = world.client.list_multipart_uploads(Bucket=world.destination).get("Uploads", [])
        place = {"Bucket": world.destination, "Key": "big"}
        ours = [each["UploadId"] for each in uploads if each["Key"] == "big" and each["UploadId"] != foreign]
        return [len(world.client.list_parts(**place, UploadId=each).get("Parts", ())) for each in ours]

    # Each answer comes late, so that seconds lie between the first part and the last one.
    with fault_proxy(world.server.endpoint, Faults({"stall": 1}, seed=1)) as proxy:
        through = {"AWS_ENDPOINT_URL_S3": proxy.endpoint}
        process = world.start("replicate", *sides, **through, **SMALL_PARTS)
        await_value(lambda: process.poll() is not None or any(parts()), 60)
        workers = workers_of(process)
        os.kill(process.pid, signal.SIGKILL)
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        process.communicate(timeout=60)
        [done] = parts()
        assert 0 < done < 48
        proxy.faults.shares = {}
        [run] = world.sealift("runs", "list", "--json").document["runs"]
        retried = world.sealift("runs", "retry", run["run_id"], "--json", **through)
    assert (retried.code, retried.document["outcomes"]) == (0, {"copied": 1}), retried.stderr
    assert world.copy_of("big") == body
    left = world.client.list_multipart_uploads(Bucket=world.destination)["Uploads"]
    assert [each["UploadId"] for each in left] == [foreign]
    names = world.client.list_objects_v2(Bucket=world.ledger, Prefix=f"runs/runs/{run['run_id']}/uploads/")["Contents"]
    assert len(names) == 2, "one upload, begun and ended: the second attempt went on with it"
    world.client.abort_multipart_upload(Bucket=world.destination, Key="big", UploadId=foreign)
