"""`sealift query` and `sealift catalog` on a real server: what SQL sees is what the ledger says, and nothing else."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs.errors import ConfigError
from jobs.ledger.views import usable
from tests.end_to_end.conftest import World

HOSTILE = [
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM query('SELECT * FROM read_text(''/etc/passwd'')')",
    "COPY (SELECT 1) TO '/tmp/sealift-was-here.csv'",
    "ATTACH '/tmp/sealift-was-here.db'",
    "INSTALL httpfs",
    "SELECT * FROM sys",
]


@pytest.fixture
def ran(world: World) -> tuple[World, str]:
    """Five objects, replicated; the run."""
    for key in ("a", "b", "line\nbreak", "tab\there", 'quote",<b>'):
        world.put(key, key.encode())
    report = world.run("replicate")
    assert report["outcomes"] == {"copied": 5}
    return world, report["run_id"]


def ask(world: World, sql: str, *arguments: str) -> list[dict]:
    result = world.sealift("query", sql, "--format", "json", *arguments)
    assert result.code == 0, result.stderr
    return json.loads(result.stdout)


def test_a_runs_tables_can_be_joined_and_agree_with_its_report(ran: tuple[World, str]) -> None:
    world, run_id = ran
    assert ask(world, "SELECT status, count(*) AS n FROM outcomes GROUP BY 1") == [{"status": "copied", "n": 5}]
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


@pytest.mark.slow
def test_one_run_alone(ran: tuple[World, str]) -> None:
    world, first = ran
    second = world.run("verify", "--include", "a")["run_id"]
    assert ask(world, "SELECT DISTINCT run_id FROM outcomes ORDER BY 1") == [{"run_id": first}, {"run_id": second}]
    assert ask(world, "SELECT key, run_id FROM outcomes", "--run", second) == [{"key": "a", "run_id": second}]
    assert ask(world, "SELECT run_id FROM runs", "--run", second) == [{"run_id": second}]
    unknown = world.sealift("query", "SELECT * FROM runs", "--run", "nothing")
    assert (unknown.code, "no run nothing" in unknown.stderr) == (10, True)


def test_tables_without_files_are_empty_with_their_columns(ran: tuple[World, str]) -> None:
    world, _ = ran
    described = world.sealift("query", "--tables").stdout
    for name in ("differences", "catalog", "tombstones", "journal"):
        assert ask(world, f"SELECT * FROM {name}") == []
        columns = [row["column_name"] for row in ask(world, f"DESCRIBE {name}")]
        assert "key" in columns
        assert all(f"    {column} " in described for column in columns)


def test_every_format_has_the_same_rows(ran: tuple[World, str], tmp_path: Path) -> None:
    world, _ = ran
    sql = "SELECT key, size_bytes, finished_at FROM outcomes ORDER BY key"
    expected = ask(world, sql)
    target = tmp_path / "out.parquet"
    assert world.sealift("query", sql, "--format", "parquet", "--output", str(target)).code == 0
    assert [row["key"] for row in pq.read_table(target).to_pylist()] == [row["key"] for row in expected]
    text = world.sealift("query", sql, "--format", "csv").stdout
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [(row["key"], int(row["size_bytes"])) for row in rows] == [
        (row["key"], row["size_bytes"]) for row in expected
    ]
    shown = world.sealift("query", sql).stdout
    assert "line\\nbreak" in shown
    assert "tab\\there" in shown
    assert "\t" not in shown


def test_numbers_and_times_are_json(ran: tuple[World, str]) -> None:
    world, _ = ran
    [row] = ask(
        world,
        "SELECT 'nan'::DOUBLE AS a, sum(rows) AS b, [1, NULL] AS c, 1 AS d, 2 AS d, max(created_at) AS t FROM runs",
    )
    assert (row["a"], row["b"], row["c"]) == (None, 5, [1, None])
    assert row["t"].endswith("+00:00")
    assert sorted(row.values(), key=str).count(2) == 1


def test_wrong_sql_is_one_line_and_exit_2(ran: tuple[World, str], tmp_path: Path) -> None:
    world, _ = ran
    for sql in ("SELEC 1", "SELECT nothing FROM outcomes", "SELECT * FROM nowhere", "", "SELECT 1; SELECT 2"):
        target = tmp_path / "never"
        result = world.sealift("query", sql, "--output", str(target))
        assert (result.code, result.has_no_answer) == (2, True), sql
        assert len(result.stderr.splitlines()) == 1
        assert not target.exists()
    failing = world.sealift("query", "SELECT key::INTEGER FROM outcomes", "--format", "csv")
    assert (failing.code, failing.stdout, len(failing.stderr.splitlines())) == (2, "", 1)


def test_a_damaged_file_and_too_little_memory_are_no_mistakes_in_sql(ran: tuple[World, str]) -> None:
    world, run_id = ran
    hungry = world.sealift("query", "SELECT string_agg(repeat('x', 1000000), '') FROM range(1000)")
    assert (hungry.code, hungry.has_no_answer, "ask for less" in hungry.stderr) == (10, True, True), hungry.stderr
    folder = f"runs/runs/{run_id}/outcomes/00000/"
    [file] = world.client.list_objects_v2(Bucket=world.ledger, Prefix=folder)["Contents"]
    world.client.put_object(Bucket=world.ledger, Key=file["Key"], Body=b"damaged")
    damaged = world.sealift("query", "SELECT key FROM outcomes", "--format", "json")
    assert (damaged.code, damaged.document["error"]["code"]) == (10, "LedgerError")
    assert f"s3://{world.ledger}/{file['Key']} cannot be read" in damaged.stderr
    assert "restore an earlier version" in damaged.document["error"]["advice"]
    assert len(damaged.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("sql", "advice"),
    [
        ("SELECT 'k'::INTEGER", "use TRY_CAST, which gives NULL instead, or leave such rows out with WHERE"),
        ("SELECT strptime('k', '%Y')", "correct the SELECT: `sealift query --tables` has each column and its type"),
        ("SELECT repeat('k', 5000000000)", "correct the SELECT: `sealift query --tables` has each column and its type"),
    ],
)
def test_a_value_that_sql_cannot_take_is_answered_with_what_to_do(world: World, sql: str, advice: str) -> None:
    result = world.sealift("query", sql, "--format", "json")
    assert (result.code, result.document["error"]["advice"]) == (2, advice), result.stderr


def test_what_is_wrong_with_the_ledger_comes_with_what_to_do(ran: tuple[World, str]) -> None:
    world, run_id = ran
    nothing = world.sealift("query", "SELECT 1", "--run", "latest", "--ledger", f"s3://{world.ledger}/other")
    assert (nothing.code, "yet: start one, or check --ledger or SEALIFT_LEDGER" in nothing.stderr) == (10, True)
    for body, why in ((b"{", "is not JSON"), (b"[]", "is no document"), (b'{"created_at": "x"}', "not what Sealift")):
        world.client.put_object(Bucket=world.ledger, Key=f"runs/runs/{run_id}/spec.json", Body=body)
        asked = world.sealift("query", "SELECT * FROM runs")
        assert (asked.code, why in asked.stderr) == (10, True), asked.stderr
        assert "restore an earlier version" in asked.stderr
    world.client.put_object(Bucket=world.ledger, Key=f"runs/runs/{run_id}/spec.json", Body=b"{")
    assert "spec.json is not what" in (listed := world.sealift("runs", "list").stderr)
    assert "it was altered; restore an earlier version of it" in listed
    assert "restore an earlier version of it" in world.sealift("runs", "show", run_id).stderr


@pytest.mark.parametrize(
    ("sql", "candidate"),
    [
        ("SELECT keyy FROM outcomes", 'Candidate bindings: "key"'),
        ("SELECT * FROM outcome", "name outcome does not exist"),  # no table of DuckDB's own is meant
        ("SELECT lenght(key) FROM outcomes", 'Did you mean "length"?'),
    ],
)
def test_wrong_sql_names_what_may_have_been_meant(ran: tuple[World, str], sql: str, candidate: str) -> None:
    result = ran[0].sealift("query", sql)
    assert result.code == 2
    assert candidate in result.stderr
    assert "duckdb_" not in result.stderr
    assert "sealift query --tables" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_sql_reaches_nothing_but_the_ledgers_tables(world: World) -> None:
    leftovers = [Path("/tmp/sealift-was-here.csv"), Path("/tmp/sealift-was-here.db")]
    for sql in HOSTILE:
        result = world.sealift("query", sql, "--format", "json")
        assert (result.code, result.has_no_answer) == (2, True), sql
        assert len(result.stderr.splitlines()) == 1, result.stderr
        assert not any(path.exists() for path in leftovers)


@pytest.mark.slow
def test_the_catalog_has_the_latest_proof_and_nothing_disproved(ran: tuple[World, str]) -> None:
    world, first = ran
    world.client.put_object(Bucket=world.destination, Key="b", Body=b"B")
    world.client.delete_object(Bucket=world.destination, Key="line\nbreak")
    second = world.run("verify")
    assert second["outcomes"] == {"verified": 3, "mismatched": 1, "missing": 1}
    made = world.sealift("catalog", "rebuild", "--json").document
    assert (made["rows"], made["runs"]) == (3, 2)
    found = ask(world, "SELECT * FROM catalog ORDER BY key")
    assert [(row["key"], row["status"], row["run_id"]) for row in found] == [
        (key, "verified", second["run_id"]) for key in ("a", 'quote",<b>', "tab\there")
    ]
    assert {(row["source_bucket"], row["destination_bucket"]) for row in found} == {(world.source, world.destination)}
    assert all(row["destination_key"] == row["key"] and row["proven_at"] for row in found)
    assert ask(world, "SELECT * FROM catalog", "--run", first) == []
    repaired = world.sealift("runs", "retry", second["run_id"], "--json").document
    assert repaired["outcomes"] == {"copied": 2}
    assert world.sealift("catalog", "rebuild", "--json").document["rows"] == 5
    assert len(ask(world, "SELECT * FROM catalog")) == 5


def test_a_catalog_is_rebuilt_beside_a_damaged_outcome_file_which_is_named(ran: tuple[World, str]) -> None:
    world, _ = ran
    second = world.run("verify", "--include", "a")["run_id"]
    [file] = world.client.list_objects_v2(Bucket=world.ledger, Prefix=f"runs/runs/{second}/outcomes/")["Contents"]
    world.client.put_object(Bucket=world.ledger, Key=file["Key"], Body=b"damaged")
    result = world.sealift("catalog", "rebuild", "--json")
    document = result.document
    assert (result.code, document["rows"], document["runs"]) == (10, 5, 2)
    assert [each["file"] for each in document["damaged"]] == [f"s3://{world.ledger}/{file['Key']}"]
    assert file["Key"] in result.stderr
    assert "Restore earlier versions of these files" in result.stderr
    assert len(ask(world, "SELECT * FROM catalog")) == 5
    assert "5 object versions" in world.sealift("catalog", "rebuild").stdout


def test_a_catalog_that_was_not_finished_is_not_read(ran: tuple[World, str]) -> None:
    world, _ = ran
    half = {"Bucket": world.ledger, "Key": "runs/catalog/99990101T000000000Z/data/00000.parquet", "Body": b"half"}
    world.client.put_object(**half)
    assert ask(world, "SELECT * FROM catalog") == []
    assert world.sealift("catalog", "rebuild", "--json").document["rows"] == 5
    assert len(ask(world, "SELECT * FROM catalog")) == 5


@pytest.mark.parametrize("file_format", ["csv", "json", "parquet"])
def test_a_reader_that_goes_away_is_an_interruption(world: World, file_format: str) -> None:
    process = world.start("query", "SELECT * FROM range(400000)", "--format", file_format)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert (process.wait(60), process.stderr.read()) == (75, "")
    process.stderr.close()


@pytest.mark.parametrize("file_format", ["table", "csv", "json"])
@pytest.mark.parametrize("rows", [1, 400_000])
def test_a_full_disk_behind_stdout_is_named(world: World, file_format: str, rows: int) -> None:
    with Path("/dev/full").open("w") as full:
        sql = f"SELECT * FROM range({rows})"
        command = [sys.executable, "-m", "jobs", "query", sql, "--format", file_format]
        ended = subprocess.run(
            command, check=False, env=world.environment(), stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert ended.returncode == 10
    assert "cannot write to stdout: No space left on device" in ended.stderr
    assert "scratch" not in ended.stderr


def test_a_full_scratch_folder_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"scratch folder .*free space or set TMPDIR"), usable(tmp_path):
        (tmp_path / "no folder" / "file").write_text("x")


@pytest.mark.parametrize(
    ("sql", "offered"),
    [
        ("SELECT * FROM outcome", 'did you mean "outcomes"?'),
        ("SELECT * FROM Runz", 'did you mean "runs"?'),
        ("SELECT * FROM elephants", "the tables are"),
        ("SELECT kee FROM outcomes", '"key"'),
        ("SELECT outcome.key FROM outcomes", '"outcomes"'),
    ],
)
def test_an_unknown_name_is_answered_with_those_that_there_are(world: World, sql: str, offered: str) -> None:
    world.put("a")
    world.run("replicate")
    refused = world.sealift("query", sql)
    assert (refused.code, offered in refused.stderr) == (2, True), refused.stderr
    tables = "the tables are runs, manifest, outcomes, differences, catalog, tombstones, journal"
    assert f"see `sealift query --tables`: {tables}" in refused.stderr
    error = world.sealift("query", sql, "--format", "json").document["error"]
    assert offered in error["message"]
    assert tables in error["advice"]
    assert error["code"] == "UsageError"
