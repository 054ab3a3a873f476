"""Runs whose workers died where this machine cannot see them: `status` is not well, and says since when."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from jobs.runs.launch import HERE_ROWS
from tests.end_to_end.conftest import World
from tests.end_to_end.forged_ledger import edit_json, names, write
from tests.end_to_end.test_dismissals import REASON, stop_halfway
from tests.end_to_end.test_reconcile import settle
from tests.end_to_end.test_resume import await_copies
from tests.end_to_end.test_small_runs import fill, replicate


@pytest.fixture
def much_later(tmp_path: Path) -> dict[str, str]:
    """The environment of a command to which every run is old."""
    (tmp_path / "sitecustomize.py").write_text("from jobs.runs import progress\nprogress.SILENT_SECONDS = 0.0\n")
    return {"PYTHONPATH": str(tmp_path)}


def leave_dead(world: World, **holder: Any) -> str:
    """The id of a run whose last command ran elsewhere."""
    run_id = stop_halfway(world)
    [launch] = names(world, f"runs/{run_id}/launches/")
    edit_json(world, launch, lambda document: document.update(holder))
    return run_id


@pytest.mark.parametrize(
    "holder",
    [{"host": "another-machine"}, {"id": "batch-000"}, {"batch_job_id": "8c1f7d0e-0000-4000-8000-000000000000"}],
    ids=["another machine", "Batch", "a worker in Batch"],
)
def test_a_run_that_died_elsewhere_is_a_problem_once_it_was_silent_for_long(
    world: World, much_later: dict[str, str], holder: dict[str, Any]
) -> None:
    run_id = leave_dead(world, **holder)
    young = world.sealift("status", "--json").document
    assert (young["state"], young["problems"], [each["run_id"] for each in young["running"]]) == ("well", [], [run_id])
    result = world.sealift("status", "--json", **much_later)
    [problem] = result.document["problems"]
    assert (result.code, result.document["state"], result.document["running"]) == (3, "wrong", [])
    assert problem["problem"].startswith(f"run {run_id} is incomplete, and nobody has written to it for")
    assert problem["problem"].endswith(f": sealift runs show {run_id}")
    [run] = world.sealift("runs", "list", "--json", **much_later).document["runs"]
    assert (run["state"], run["silent_since"]) == ("incomplete", problem["since"])
    shown = world.sealift("runs", "show", run_id, **much_later)
    assert "nobody has written to it since" in shown.stdout
    assert f"continue with  sealift runs retry {run_id}" in shown.stdout
    assert world.sealift("runs", "dismiss", run_id, *REASON).code == 0
    assert world.sealift("status", "--json", **much_later).document["state"] == "well"


@pytest.mark.parametrize("folder", ["outcomes/00000", "leases/00000", "launches", "batch", "errors"])
def test_who_writes_to_a_run_lives(world: World, much_later: dict[str, str], folder: str) -> None:
    run_id = leave_dead(world, host="another-machine")
    [run] = world.sealift("runs", "list", "--json").document["runs"]
    [before] = world.sealift("runs", "list", "--json", **much_later).document["runs"]
    settle()
    if folder == "launches":
        edit_json(world, f"runs/{run_id}/launches/000000.json", lambda document: None)
    else:
        name = "fff0000000000000000-000000-0-0-0.parquet" if folder.startswith("outcomes") else "000009.json"
        write(world, f"runs/{run_id}/{folder}/{name}", b"{}")
    [after] = world.sealift("runs", "list", "--json", **much_later).document["runs"]
    assert run["silent_since"] is None
    assert before["silent_since"] < after["silent_since"]


def test_a_command_of_this_machine_may_be_silent_as_long_as_it_lives(world: World, much_later: dict[str, str]) -> None:
    fill(world, HERE_ROWS)
    process = replicate(world, SEALIFT_IN_FLIGHT="1")
    await_copies(world, process, 5)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        [run] = world.sealift("runs", "list", "--json", **much_later).document["runs"]
        status = world.sealift("status", "--json", **much_later).document
    finally:
        os.kill(process.pid, signal.SIGCONT)
    process.communicate(timeout=60)
    assert (run["state"], run["silent_since"], status["problems"]) == ("incomplete", None, [])
