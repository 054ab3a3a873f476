"""The ledger as SQL: one outcome a row whatever the attempts, documented columns, and nothing outside."""

from __future__ import annotations

import asyncio
import io
import json
import re
import tempfile
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.core.model import Attributes, ObjectRef
from jobs.core.outcome import GOOD, Evidence, Outcome, Status
from jobs.errors import ConfigError, LedgerError, UsageError
from jobs.ledger.ledger import Checkpoint, Ledger
from jobs.ledger.views import TABLES, open_views
from jobs.s3.store import ABSENT
from jobs.tables import duck
from jobs.tables.duck import Database, check_select, named_tables, refusals
from jobs.tables.rows import write_outcomes, write_parquet
from tests.doubles.ledgers import make_ledger
from tests.doubles.plain_fold import fold

RUN = "20261125T000000Z-verify-1"


@pytest.fixture(autouse=True)
def _folder_whose_name_looks_like_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run_id=x/shard=7/dt=2020-01-01").mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "run_id=x/shard=7/dt=2020-01-01"))


def ledger() -> Ledger:
    return make_ledger("here")


async def put(ledger: Ledger, name: str, data: bytes) -> None:
    await ledger.store.put(ObjectRef("ledger", f"here/{name}"), data, Attributes(), guard=ABSENT)


def asked(database: Database, sql: str) -> list[dict]:
    asyncio.run(database.select(sql))
    return list(database.rows())


def ask(ledger: Ledger, sql: str, run_id: str | None = None) -> list[dict]:
    async def select() -> list[dict]:
        check_select(sql)
        async with open_views(ledger, named_tables(sql, TABLES), run_id) as database:
            database.lock()
            await database.select(sql)
            return list(database.rows())

    return asyncio.run(select())


def outcome(row: int, status: Status, attempt: str, at: float = 1.0) -> Outcome:
    return Outcome(row, f"k{row}", None, status, "", Evidence.NONE, 1, at=at, attempt=attempt)


def write(ledger: Ledger, shard: int, attempt: str, outcomes: list[Outcome]) -> None:
    checkpoint = Checkpoint(shard, attempt, 0, len(outcomes), sum(each.status not in GOOD for each in outcomes), 0)
    asyncio.run(ledger.write_checkpoint(RUN, checkpoint, write_outcomes(outcomes)))


def test_the_outcome_that_stands_is_the_one_that_the_fold_takes() -> None:
    made = ledger()
    one = [outcome(0, Status.VERIFIED, "a"), outcome(1, Status.BLOCKED, "a")]
    other = [outcome(0, Status.DIFFERENT, "b"), outcome(1, Status.VERIFIED, "b", 2.0)]
    write(made, 0, "a", one)
    write(made, 0, "b", other)
    write(made, 1, "c", [outcome(2, Status.VERIFIED, "c")])
    expected = {row: each.status.value for row, each in fold([*one, *other]).items()} | {2: "verified"}
    rows = ask(made, "SELECT row, status, shard, run_id FROM outcomes ORDER BY row")
    assert {row["row"]: row["status"] for row in rows} == expected
    assert [(row["shard"], row["run_id"]) for row in rows] == [(0, RUN), (0, RUN), (1, RUN)]


def test_the_journal_is_json_lines_by_day() -> None:
    made = ledger()
    lines = [{"key": "a\n", "status": "copied", "more": 1}, {"key": "b", "recorded_at": "2026-11-25T01:02:03Z"}]
    text = "\n".join(json.dumps(line) for line in lines).encode()
    asyncio.run(put(made, "journal/dt=2026-11-25/batch-1.json", text))
    rows = ask(made, "SELECT dt, key, status, recorded_at FROM journal ORDER BY key")
    assert [(row["dt"], row["key"], row["status"]) for row in rows] == [
        ("2026-11-25", "a\n", "copied"),
        ("2026-11-25", "b", None),
    ]
    assert rows[1]["recorded_at"].isoformat() == "2026-11-25T01:02:03+00:00"


@pytest.mark.parametrize("line", [b'{"key": "a"', b'{"key": "a", "size_bytes": "many"}'])
def test_a_file_of_the_journal_that_cannot_be_read_is_named(line: bytes) -> None:
    made, name = ledger(), "journal/dt=2026-11-25/batch-1.json"
    asyncio.run(put(made, name, line))
    with pytest.raises(LedgerError, match=re.escape(name)):
        ask(made, "SELECT key, size_bytes FROM journal")


def test_only_the_files_that_the_sql_names_come_down() -> None:
    made = ledger()
    asyncio.run(put(made, f"runs/{RUN}/shards/00000.parquet", b"this is no Parquet file"))
    write(made, 0, "a", [outcome(0, Status.VERIFIED, "a")])
    assert ask(made, "SELECT count(*) AS n FROM Outcomes") == [{"n": 1}]
    with pytest.raises(LedgerError, match="cannot be read"):
        ask(made, "SELECT * FROM manifest")
    with pytest.raises(LedgerError, match="has no run"):
        ask(made, "SELECT * FROM outcomes", "20200101T000000Z-verify-0")


def test_a_locked_database_reads_its_own_folder_alone(tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    inside = tmp_path / "db"
    database = Database(inside)
    database.define("runs", TABLES["runs"], None)
    database.lock()
    for sql in (
        f"SELECT * FROM read_csv('{secret}')",
        f"SELECT * FROM '{secret}'",
        f"SELECT * FROM read_text('{inside}/files/../../secret.csv')",
        f"SELECT * FROM glob('{tmp_path}/*')",
        f"SELECT * FROM sniff_csv('{secret}')",
        "SELECT * FROM read_parquet('s3://bucket/key.parquet')",
        "SELECT * FROM secret",
        f"COPY (SELECT 1) TO '{tmp_path}/out.csv'",
        f"ATTACH '{tmp_path}/out.db'",
        f"EXPORT DATABASE '{tmp_path}/out'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "CALL enable_logging()",
        "SELECT 1; SELECT 2",
        "",
    ):
        with pytest.raises(UsageError):
            asked(database, sql)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["db", "run_id=x", "secret.csv"]


def test_differences_have_the_documented_columns_and_what_else_the_files_bring() -> None:
    made = ledger()
    rows = [{"key": "a", "category": "missing", "source_size_bytes": 5, "storage_class": "GLACIER"}]
    asyncio.run(put(made, f"runs/{RUN}/differences/00000.parquet", write_parquet(pa.Table.from_pylist(rows))))
    [row] = ask(made, "SELECT * FROM differences")
    assert (row["run_id"], row["key"], row["category"], row["source_size_bytes"]) == (RUN, "a", "missing", 5)
    assert list(row)[: len(TABLES["differences"])] == list(TABLES["differences"])
    assert (row["destination_etag"], row["storage_class"]) == (None, "GLACIER")


def damaged(data: bytes, kind: str) -> bytes:
    """A Parquet file with one kind of damage."""
    if kind == "pages":  # its footer is whole
        middle = len(data) // 8
        return data[:middle] + bytes(each ^ 0xFF for each in data[middle : 2 * middle]) + data[2 * middle :]
    if kind == "page header":  # DuckDB does not say of which file
        start = pq.read_metadata(io.BytesIO(data)).row_group(0).column(0).data_page_offset
        return data[:start] + b"\xff" * 8 + data[start + 8 :]
    return {"cut": data[: len(data) // 2], "empty": b"", "other": b"this is no Parquet file"}[kind]


OUTCOMES = f"runs/{RUN}/outcomes/00000/a-000000-3-0-0.parquet"


def many(rows: int) -> bytes:
    return write_outcomes([outcome(row, Status.VERIFIED, "a")._replace(key=f"k{row * 7919}") for row in range(rows)])


@pytest.mark.parametrize("kind", ["pages", "page header", "cut", "empty", "other"])
def test_a_damaged_file_is_named(kind: str) -> None:
    made = ledger()
    asyncio.run(put(made, OUTCOMES, damaged(many(5_000), kind)))
    write(made, 1, "b", [outcome(0, Status.VERIFIED, "b")])
    with pytest.raises(LedgerError, match=f"s3://ledger/here/{OUTCOMES}.*restore an earlier version") as failed:
        ask(made, "SELECT max(hash(COLUMNS(*))) FROM outcomes")
    assert "sealift-views-" not in str(failed.value)


@pytest.mark.parametrize("sql", [
    "SELECT key::INTEGER FROM outcomes",
    "SELECT keyy FROM outcomes",
    "SELEC 1 FROM outcomes",
    "SELECT CASE WHEN row > 4000 THEN 'x'::INTEGER ELSE 1 END AS number FROM outcomes",
    "SELECT CASE WHEN row > 4000 THEN error('no')::INTEGER ELSE 1 END AS number FROM outcomes",
])  # fmt: skip
def test_a_mistake_in_sql_is_one_also_behind_the_first_rows(sql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duck, "BATCH_ROWS", 1_000)
    made = ledger()
    asyncio.run(put(made, OUTCOMES, many(5_000)))
    with pytest.raises(UsageError, match="SQL: "):
        ask(made, sql)


def test_a_query_that_needs_too_much_memory_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    made = ledger()
    write(made, 0, "a", [outcome(0, Status.VERIFIED, "a")])
    monkeypatch.setattr(duck.Database.__init__, "__kwdefaults__", {"memory_limit": "64MB"})
    with pytest.raises(ConfigError, match=r"more memory than .* \(Out of Memory Error: .*\); ask for less, .*--run"):
        ask(made, "SELECT string_agg(repeat('x', 1000000), '') AS text FROM range(1000), outcomes")


@pytest.mark.parametrize("error", [
    duckdb.OutOfMemoryException("Out of Memory Error: failed to offload data block of size 256.0 KiB (1/1 used)."),
    duckdb.IOException('IO Error: Could not write file "/tmp/spill/x": No space left on device'),
])  # fmt: skip
def test_a_scratch_folder_that_is_full_is_no_mistake_in_sql(error: duckdb.Error) -> None:
    with pytest.raises(ConfigError, match=r"no room .* free space or set TMPDIR"), refusals():
        raise error
