"""`sealift query` on a real server: what SQL sees is what the ledger says, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.end_to_end.conftest import World


@pytest.fixture
def ran(world: World) -> tuple[World, str]:
    """Five objects, replicated; the run."""
    for key in ("a", "b", "line\nbreak", "tab\there", 'quote",<b>'):
        world.put(key, key.encode())
    report = world.run("replicate")
    assert report["outcomes"] == {"done": 5}
    return world, report["run_id"]


def ask(world: World, sql: str, *arguments: str) -> list[dict]:
    result = world.sealift("query", sql, "--format", "json", *arguments)
    assert result.code == 0, result.stderr
    return json.loads(result.stdout)


def test_a_runs_tables_can_be_joined_and_agree_with_its_report(ran: tuple[World, str]) -> None:
    world, run_id = ran
    assert ask(world, "SELECT status, count(*) AS n FROM outcomes GROUP BY 1") == [{"status": "done", "n": 5}]
    [run] = ask(world, "SELECT * FROM runs")
    assert (run["run_id"], run["job"], run["state"], run["rows"], run["failures"]) == (
        run_id,
        "replicate",
        "complete",
        5,
        0,
    )
    joined = ask(
        world,
        "SELECT m.key, m.size_bytes, o.status, o.run_id, o.shard FROM manifest m "
        "JOIN outcomes o USING (run_id, row) WHERE m.etag = o.etag ORDER BY m.key",
    )
    assert [row["key"] for row in joined] == sorted(["a", "b", "line\nbreak", "tab\there", 'quote",<b>'])
    assert {row["run_id"] for row in joined} == {run_id}


def test_a_format_for_programs_and_one_for_people(ran: tuple[World, str], tmp_path: Path) -> None:
    world, _ = ran
    sql = "SELECT key FROM outcomes ORDER BY key"
    target = tmp_path / "out.parquet"
    assert world.sealift("query", sql, "--format", "parquet", "--output", str(target)).code == 0
    assert pq.read_table(target).to_pylist() == ask(world, sql)
    shown = world.sealift("query", sql).stdout
    assert ("line\\nbreak" in shown, "\t" in shown) == (True, False)


def test_wrong_sql_is_one_line_and_exit_2(ran: tuple[World, str], tmp_path: Path) -> None:
    world, _ = ran
    target = tmp_path / "never"
    for sql in ("SELEC 1", "SELECT * FROM read_csv('/etc/passwd')", f"COPY (SELECT 1) TO '{target}'"):
        result = world.sealift("query", sql, "--output", str(target))
        assert (result.code, result.has_no_answer) == (2, True), sql
        assert len(result.stderr.splitlines()) == 1
        assert not target.exists()
    failing = world.sealift("query", "SELECT key::INTEGER FROM outcomes", "--format", "csv")
    assert (failing.code, failing.stdout, len(failing.stderr.splitlines())) == (2, "", 1)
