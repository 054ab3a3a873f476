"""A scratch folder whose name means something to DuckDB changes no answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.end_to_end.conftest import World


@pytest.mark.slow
@pytest.mark.parametrize("name", ["key=x/status=1/run_id=2/row=9", "it's [outcomes-7-] *"])
def test_runs_queries_and_catalogs_work_in_any_scratch_folder(world: World, tmp_path: Path, name: str) -> None:
    scratch = tmp_path / name
    scratch.mkdir(parents=True)
    extra = {"TMPDIR": str(scratch)}
    for number in range(3):
        world.put(f"k{number}")
    assert world.run("replicate", **extra)["outcomes"] == {"copied": 3}
    world.client.delete_object(Bucket=world.destination, Key="k1")
    verified = world.run("verify", **extra)
    assert verified["outcomes"] == {"verified": 2, "missing": 1}
    assert [row["key"] for row in world.failed_rows(verified)] == ["k1"]
    sql = "SELECT key, status, run_id, row FROM outcomes ORDER BY key"
    asked = world.sealift("query", sql, "--run", verified["run_id"], "--format", "json", **extra)
    assert asked.code == 0, asked.stderr
    assert [(row["key"], row["status"]) for row in json.loads(asked.stdout)] == [
        ("k0", "verified"),
        ("k1", "missing"),
        ("k2", "verified"),
    ]
    assert {row["run_id"] for row in json.loads(asked.stdout)} == {verified["run_id"]}
    rebuilt = world.sealift("catalog", "rebuild", "--json", **extra)
    assert (rebuilt.code, rebuilt.document["rows"]) == (0, 2), rebuilt.stderr
    sides = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}"]
    compared = world.sealift("reconcile", *sides, "--margin", "0s", "--repair", "--yes", "--json", **extra)
    assert compared.document["repair"][0]["outcomes"] == {"copied": 1}, compared.stderr
    assert not list(scratch.iterdir())


def test_a_scratch_folder_that_duckdb_cannot_open_is_named(world: World, tmp_path: Path) -> None:
    scratch = tmp_path / "what?"
    scratch.mkdir()
    world.put("k")
    sides = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}"]
    result = world.sealift("replicate", *sides, TMPDIR=str(scratch))
    assert (result.code, "its name has a `?`; set TMPDIR" in result.stderr) == (10, True), result.stderr
