"""A scratch folder whose name means something to DuckDB changes no answer."""

from __future__ import annotations

from pathlib import Path

from tests.end_to_end.conftest import World


def test_a_scratch_folder_that_duckdb_cannot_open_is_named(world: World, tmp_path: Path) -> None:
    scratch = tmp_path / "what?"
    scratch.mkdir()
    world.put("k")
    sides = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}"]
    result = world.sealift("replicate", *sides, TMPDIR=str(scratch))
    assert (result.code, "its name has a `?`; set TMPDIR" in result.stderr) == (10, True), result.stderr
