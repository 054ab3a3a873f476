"""`sealift nightly` on a real server: a pair's night, twice, killed, twice at once, above its limits, and on Batch."""

from __future__ import annotations

import json
import os
import re
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.cli.console import IN_FLIGHT
from tests.doubles.servers import REGION
from tests.end_to_end.conftest import World
from tests.end_to_end.nights import NIGHT, command, counted, nightly, stage
from tests.end_to_end.pair_policy import runs, write_policy
from tests.end_to_end.scenes import settle, workers_of

STAGES = ["reconcile", "repair", "slice", "deep"]
DOCS = [f"docs/k{number:02d}" for number in range(30)]


def jobs(world: World) -> Counter[str]:
    return Counter(run["job"] for run in runs(world))


@pytest.fixture
def filled(world: World, tmp_path: Path) -> World:
    """Thirty objects of docs and three of logs, all copied; and some that the policy leaves out."""
    for key in (*DOCS, "docs/tmp/a", "logs/1", "logs/2", "logs/3", "other"):
        world.put(key, key.encode())
    for key in (*DOCS, "logs/1", "logs/2", "logs/3"):
        there = f"copies/{key}" if key in DOCS else f"elsewhere/{key}"
        source = {"Bucket": world.source, "Key": key}
        world.client.copy_object(Bucket=world.destination, Key=there, CopySource=source)
    return world


@pytest.fixture
def damaged(filled: World) -> World:
    """Two copies lost, one object newer than its copy, one copy that nobody has an original of."""
    for key in DOCS[:2]:
        filled.client.delete_object(Bucket=filled.destination, Key=f"copies/{key}")
    settle()
    filled.put(DOCS[2], b"a newer original")
    filled.client.put_object(Bucket=filled.destination, Key="copies/docs/retained", Body=b"deleted at the source")
    return filled


def test_a_night_mends_proves_and_sums_up(damaged: World, tmp_path: Path) -> None:
    policy = write_policy(damaged, tmp_path)
    night = nightly(damaged, policy)
    assert (night["code"], night["exit_code"], night["ending"]) == (0, 0, "well")
    assert [each["stage"] for each in night["stages"]] == STAGES
    assert counted(night, "reconcile") == {"same": 27, "missing": 2, "extra": 1, "stale": 1, "excluded": 1}
    assert counted(night, "repair") == {"done": 3}
    assert set(counted(night, "slice")) == {"verified"}
    assert counted(night, "deep") == {"verified": 30}  # the slice is small, so all is read
    assert night["verdict"].startswith("All is well; of 30 objects, checksums prove 30, and within ")
    assert all(damaged.copy_of(f"copies/{key}") for key in DOCS)
    assert damaged.copy_of(f"copies/{DOCS[2]}") == b"a newer original"
    assert "copies/docs/tmp/a" not in damaged.keys(damaged.destination)
    stored = json.loads(damaged.fetch(night["report_html"].replace(".html", ".json")).decode().replace(*IN_FLIGHT))
    assert stored == {name: value for name, value in night.items() if name not in ("code", "ran_before")}
    assert night["report_html"] == f"s3://{damaged.ledger}/runs/nights/docs/{NIGHT}.html"
    assert jobs(damaged) == {"reconcile": 1, "replicate": 1, "verify": 2}
    compared = damaged.sealift("runs", "show", stage(night, "reconcile")["run_id"], "--json").document
    assert compared["repaired"]["rows"] == 3

    again = nightly(damaged, policy, "--executor", "local")
    assert (night["ran_before"], again) == (False, night | {"ran_before": True})
    assert jobs(damaged) == {"reconcile": 1, "replicate": 1, "verify": 2}
    damaged.client.delete_object(Bucket=damaged.destination, Key=f"copies/{DOCS[3]}")
    checked = nightly(damaged, policy, "--again")
    assert (checked["ran_before"], counted(checked, "repair")) == (False, {"done": 1})
    assert checked["report_html"].endswith(f"/nights/docs/{NIGHT}-02.html")


def test_what_differs_is_never_overwritten_and_is_one_finding_on_the_nights_page(filled: World, tmp_path: Path) -> None:
    settle()
    filled.client.put_object(Bucket=filled.destination, Key=f"copies/{DOCS[5]}", Body=b"tampered")
    policy = write_policy(filled, tmp_path, docs={"verify": {"rota": "1/1", "deep": "1/1"}})
    night = nightly(filled, policy)
    assert (night["code"], counted(night, "reconcile")["different"]) == (3, 1)
    assert counted(night, "repair") == {"changed": 1}  # it looks, and does not write
    found = [counted(night, name) for name in ("slice", "deep")]
    assert [counts["different"] for counts in found] == [1, 1]
    assert (night["known"]["left"], night["known"]["left_first"]) == (1, [DOCS[5]])  # three stages found the one object
    assert night["ending"] == "findings"
    assert filled.copy_of(f"copies/{DOCS[5]}") == b"tampered"
    name = f"runs/nights/docs/{NIGHT}.html"
    page = filled.read(filled.ledger, name).decode()
    assert night["report_html"] == f"s3://{filled.ledger}/{name}"
    [step] = night["next_steps"]
    assert step.partition(": ")[2] in page


def kill_when(world: World, policy: str, is_there: Callable[[], bool]) -> None:
    """Start the night and kill it, its workers too, as soon as something is there."""
    process = world.start(*command(policy), checkpoint_rows="1", in_flight="1")
    while not is_there():
        assert process.poll() is None, process.communicate()
    workers = workers_of(process)
    for pid in (process.pid, *workers):
        os.kill(pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("record", ["reconcile-[^/]*/spec", "replicate-[^/]*/plan"])
def test_a_night_that_is_killed_goes_on_and_ends_as_if_nothing_had_happened(
    damaged: World, tmp_path: Path, record: str
) -> None:
    policy = write_policy(damaged, tmp_path)
    settle()
    is_named = re.compile(rf".*-{record}\.json").fullmatch
    kill_when(damaged, policy, lambda: any(map(is_named, damaged.keys(damaged.ledger))))
    before = {run["run_id"] for run in runs(damaged) if run["state"] != "unplanned"}
    night = nightly(damaged, policy)
    assert (night["code"], night["ending"]) == (0, "well")
    assert [each["stage"] for each in night["stages"]] == STAGES
    assert counted(night, "reconcile") == {"same": 27, "missing": 2, "extra": 1, "stale": 1, "excluded": 1}
    assert counted(night, "repair") == {"done": 3}
    made = [run for run in runs(damaged) if run["state"] != "unplanned"]  # that one was never published
    assert [run["state"] for run in made] == ["complete"] * 4
    assert Counter(run["job"] for run in made) == {"reconcile": 1, "replicate": 1, "verify": 2}
    assert before <= {each["run_id"] for each in night["stages"]}  # what had begun was gone on with


@pytest.mark.slow
def test_a_replica_is_compared_with_the_hot_bucket(filled: World, tmp_path: Path) -> None:
    """The oracle is what the test has done to the replica. Nothing there is mended: S3 writes it."""
    twin = f"{filled.destination}-twin"
    filled.client.create_bucket(Bucket=twin)
    for key in filled.keys(filled.destination, "copies/"):
        filled.client.copy_object(Bucket=twin, Key=key, CopySource={"Bucket": filled.destination, "Key": key})
    policy = write_policy(filled, tmp_path, docs={"replica": {"bucket": twin, "region": REGION}})
    first = nightly(filled, policy)
    assert [each["stage"] for each in first["stages"]] == [*STAGES[:2], "replica", *STAGES[2:]]
    assert (first["code"], counted(first, "replica")) == (0, {"same": 30})

    filled.client.delete_object(Bucket=twin, Key="copies/docs/k01")
    filled.client.put_object(Bucket=twin, Key="copies/docs/k02", Body=b"DOCS/K02")
    filled.client.put_object(Bucket=twin, Key="copies/docs/k99", Body=b"its delete marker was not replicated")
    second = nightly(filled, policy, "--again")
    assert counted(second, "replica") == {"same": 28, "missing": 1, "different": 1, "extra": 1}
    assert (second["code"], second["known"]["left"], counted(second, "repair")) == (3, 2, {})
    assert second["known"]["left_first"] == ["docs/k01", "docs/k02"]  # keys of the originals, not of the copies
    assert [step.rpartition(": ")[2] for step in second["next_steps"]] == ["sealift status"]
    assert "copies/docs/k01" not in filled.keys(twin)
    assert filled.read(twin, "copies/docs/k02") == b"DOCS/K02"
