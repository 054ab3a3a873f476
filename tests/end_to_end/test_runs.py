"""`sealift runs`: everything from the ledger alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.runs import progress
from tests.end_to_end.conftest import World
from tests.end_to_end.forged_ledger import edit_json, names
from tests.end_to_end.scenes import settle


def test_list_and_show_agree_on_a_run_that_is_named_in_several_ways(world: World) -> None:
    world.put("a")
    first, second = world.run("replicate"), world.run("verify")
    listed = world.sealift("runs", "list", "--json").document["runs"]
    assert [run["run_id"] for run in listed] == [second["run_id"], first["run_id"]]
    assert [run["state"] for run in listed] == ["complete", "complete"]
    assert [run["source"] for run in listed] == [f"s3://{world.source}/"] * 2
    for name in (second["run_id"], second["run_id"][-6:], "latest"):
        shown = world.sealift("runs", "show", name, "--json").document
        assert (shown["run_id"], shown["state"]) == (second["run_id"], "complete")
        assert shown["outcomes"] == {"verified": 1}
    several = world.sealift("runs", "show", first["run_id"][:4])
    assert (several.code, first["run_id"] in several.stderr, second["run_id"] in several.stderr) == (2, True, True)
    text = world.sealift("runs", "list").stdout
    assert (f"s3://{world.source}/" in text, first["run_id"] in text) == (True, True)
    latest = world.sealift("runs", "list", "--json", "--limit", "1").document
    assert [each["run_id"] for each in latest["runs"]] == [second["run_id"]]
    assert (latest["has_more"], latest["total"]) == (True, 2)


def test_retry_acts_on_the_failed_rows_and_nothing_else(world: World) -> None:
    for key in ("a", "b", "c"):
        world.put(key)
    world.client.put_object(Bucket=world.destination, Key="b", Body=b"in the way")
    report = world.run("replicate")
    assert report["outcomes"] == {"done": 2, "changed": 1}
    world.client.delete_object(Bucket=world.destination, Key="b")
    world.client.delete_object(Bucket=world.destination, Key="a")
    retried = world.sealift("runs", "retry", report["run_id"], "--json")
    assert (retried.code, retried.document["outcomes"]) == (0, {"done": 1})
    assert retried.document["retry_of"] == report["run_id"]
    assert world.copy_of("b") == b"content"
    assert "Contents" not in world.client.list_objects_v2(Bucket=world.destination, Prefix="a")
    nothing = world.sealift("runs", "retry", retried.document["run_id"])
    assert (nothing.code, "Nothing to retry" in nothing.stdout) == (0, True)


def test_retry_leaves_out_what_another_run_has_put_right(world: World) -> None:
    for key in ("a", "b"):
        world.put(key)
    run_id = world.run("verify")["run_id"]
    settle()
    assert world.run("replicate", "--include", "a")["outcomes"] == {"done": 1}
    dry = world.sealift("runs", "retry", run_id, "--dry-run", "--json").document["retried"]
    assert dry == {"rows": 1, "outcomes": {"missing": 1}, "first_keys": {"missing": ["b"]}}
    assert world.sealift("runs", "retry", run_id, "--json").document["outcomes"] == {"done": 1}
    again = world.sealift("runs", "retry", run_id)
    assert (again.code, "Nothing to retry" in again.stdout) == (0, True)


def test_damaged_documents_are_named_and_the_other_runs_are_listed(world: World) -> None:
    world.put("a")
    whole = world.run("replicate")["run_id"]
    damaged = [f"{whole[:-6]}f0f0f{number}" for number in range(2)]
    spec = json.loads(world.read(world.ledger, f"runs/runs/{whole}/spec.json"))
    files = {f"{damaged[0]}/spec.json": "{", f"{damaged[1]}/report.json": "[]"}
    for name, text in (files | {f"{damaged[1]}/spec.json": json.dumps(spec | {"run_id": damaged[1]})}).items():
        world.client.put_object(Bucket=world.ledger, Key=f"runs/runs/{name}", Body=text.encode())
    result = world.sealift("runs", "list", "--json")
    states = {each["run_id"]: each["state"] for each in result.document["runs"]}
    assert (result.code, states) == (0, dict.fromkeys(damaged, "unreadable") | {whole: "complete"})
    assert all(f"{run_id} cannot be read" in result.stderr for run_id in damaged)
    status = world.sealift("status")
    assert (status.code, damaged[0] in status.stdout) == (3, True)
    for verb in ("retry", "show"):
        assert world.sealift("runs", verb, damaged[1]).code == 10


def unfinished(world: World, **owner: Any) -> str:
    """The id of a run without outcomes, as a killed command leaves it."""
    world.put("a")
    run_id: str = world.run("replicate")["run_id"]
    for name in names(world, f"runs/{run_id}/"):
        if "/outcomes/" in name or "/report." in name:
            world.client.delete_object(Bucket=world.ledger, Key=f"runs/{name}")
    [first] = names(world, f"runs/{run_id}/owner/")
    edit_json(world, first, lambda document: document.update(owner))
    return run_id


def test_a_run_that_died_elsewhere_is_a_problem_once_it_was_silent_for_long(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = unfinished(world, host="another-machine")
    assert world.sealift("status", "--json").document["state"] == "well"
    monkeypatch.setattr(progress, "SILENT_SECONDS", 0.0)
    status = world.sealift("status", "--json")
    [problem] = status.document["problems"]
    assert (status.code, status.document["state"], run_id in problem["problem"]) == (3, "wrong", True)
    [run] = world.sealift("runs", "list", "--json").document["runs"]
    assert run["state"] == "stopped"


def test_a_run_is_repaired_once_its_retry_ended_well_until_a_check_finds_it_wrong(world: World, tmp_path: Path) -> None:
    for key in ("a", "b"):
        world.put(key)
    run_id = world.run("verify")["run_id"]
    assert "since_then" not in world.sealift("runs", "show", run_id, "--json").document
    assert world.sealift("status").code == 3
    settle()
    world.sealift("runs", "retry", run_id, "--json")
    shown = world.sealift("runs", "show", run_id, "--json")
    assert (shown.code, shown.document["since_then"]) == (3, {"is_repaired": True, "left": 0})
    page = tmp_path / "page.html"
    for more in ([], ["--follow"]):
        assert (
            world.sealift("runs", "show", run_id, "--html", str(page), *more).code == 0
        )  # it wrote what was asked for
        assert "2 of 2 objects" in page.read_text() or "missing" in page.read_text()
        page.unlink()
    assert world.sealift("status").code == 0
    settle()
    world.client.delete_object(Bucket=world.destination, Key="b")
    assert world.run("verify", "--manifest", f"run:{run_id}")["outcomes"] == {"verified": 1, "missing": 1}
    since = world.sealift("runs", "show", run_id, "--json").document["since_then"]
    assert since == {"is_repaired": False, "left": 1}
    assert world.sealift("status").code == 3
