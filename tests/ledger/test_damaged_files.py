"""Files of the ledger that were damaged: SQL over them names the file, and blames no query."""

from __future__ import annotations

import asyncio

import duckdb
import pytest

from jobs.core.model import Attributes
from jobs.core.outcome import Status
from jobs.errors import ConfigError, LedgerError, UsageError
from jobs.ledger.ledger import Checkpoint, Ledger
from jobs.s3.store import UNGUARDED
from jobs.tables import duck
from jobs.tables.duck import refusals
from jobs.tables.rows import write_outcomes
from tests.ledger.test_views import RUN, ask, ledger, outcome, put, write

ROWS = 20_000


def overwrite(made: Ledger, name: str, data: bytes) -> None:
    asyncio.run(made.store.put("ledger", f"here/{name}", data, Attributes(), guard=UNGUARDED))


def damaged(data: bytes, kind: str) -> bytes:
    """A Parquet file with one kind of damage."""
    if kind == "pages":  # its footer is whole
        middle = len(data) // 8
        return data[:middle] + bytes(each ^ 0xFF for each in data[middle : 2 * middle]) + data[2 * middle :]
    return {"cut": data[: len(data) // 2], "empty": b"", "other": b"this is no Parquet file"}[kind]


def checkpoint(attempt: str = "a", shard: int = 0, rows: int = ROWS) -> tuple[str, bytes]:
    """The name of an outcome file, and its content."""
    name = Checkpoint(shard, attempt, 0, rows, 0, 0).name
    outcomes = [outcome(row, Status.VERIFIED, attempt)._replace(key=f"k{row * 7919}") for row in range(rows)]
    return f"runs/{RUN}/outcomes/{shard:05d}/{name}", write_outcomes(outcomes)


@pytest.fixture
def made() -> Ledger:
    return ledger()


@pytest.mark.parametrize("kind", ["pages", "cut", "empty", "other"])
@pytest.mark.parametrize("is_contested", [False, True])
def test_a_damaged_outcome_file_is_named(made: Ledger, kind: str, is_contested: bool) -> None:
    name, data = checkpoint()
    overwrite(made, name, damaged(data, kind))
    write(made, 1, "b", [outcome(0, Status.VERIFIED, "b")])
    if is_contested:
        write(made, 0, "c", [outcome(0, Status.VERIFIED, "c")])
    with pytest.raises(LedgerError) as failed:
        ask(made, "SELECT max(hash(COLUMNS(*))) FROM outcomes")
    message = str(failed.value)
    assert f"s3://ledger/here/{name}" in message
    assert "restore an earlier version" in message
    assert "sealift-views-" not in message


@pytest.mark.parametrize(
    ("name", "table"),
    [("journal/dt=2026-11-25/batch-1.json", "journal"), ("state/deltas/run.parquet", "state"),
     ("state/deltas/run.parquet", "findings")],
)  # fmt: skip
def test_another_damaged_file_is_named(made: Ledger, name: str, table: str) -> None:
    asyncio.run(put(made, name, b'{"key": "a"'))
    with pytest.raises(LedgerError, match=name):
        ask(made, f"SELECT * FROM {table}")


@pytest.mark.parametrize("folder", ["²", "0", "99999999999"])
@pytest.mark.parametrize("place", ["outcomes/{}/a-000000-1-0-0.parquet", "shards/{}.parquet"])
def test_a_file_that_is_in_no_shard_is_none_of_its_table(made: Ledger, folder: str, place: str) -> None:
    write(made, 0, "a", [outcome(0, Status.VERIFIED, "a")])
    overwrite(made, f"runs/{RUN}/{place.format(folder)}", b"something else")
    assert ask(made, "SELECT count(*) AS rows FROM outcomes") == [{"rows": 1}]
    assert ask(made, "SELECT * FROM manifest") == []


def test_damage_behind_the_first_rows_is_named(made: Ledger) -> None:
    name, data = checkpoint(rows=3 * ROWS)
    at, size = len(data) * 4 // 5, len(data) // 20
    overwrite(made, name, data[:at] + bytes(each ^ 0xFF for each in data[at : at + size]) + data[at + size :])
    with pytest.raises(LedgerError, match=f"s3://ledger/here/{name}"):
        ask(made, "SELECT * FROM outcomes")


@pytest.mark.parametrize(
    ("value", "message"),
    [("'x'::INTEGER", "SQL: Conversion Error: "), ("error('no')::INTEGER", "SQL: Invalid Input Error: no;")],
)
def test_a_mistake_in_sql_behind_the_first_rows_is_one(made: Ledger, value: str, message: str) -> None:
    overwrite(made, *checkpoint(rows=3 * ROWS))
    with pytest.raises(UsageError, match=message):
        ask(made, f"SELECT CASE WHEN row > {2 * ROWS} THEN {value} ELSE 1 END AS number FROM outcomes")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT key::INTEGER FROM outcomes",
        "SELECT strptime(key, '%Y') FROM outcomes",
        "SELECT keyy FROM outcomes",
        "SELECT regexp_matches(key, '(') FROM outcomes",
        "SELEC 1 FROM outcomes",
    ],
)
def test_a_mistake_in_sql_stays_one(made: Ledger, sql: str) -> None:
    overwrite(made, *checkpoint(rows=2))
    with pytest.raises(UsageError, match="SQL: "):
        ask(made, sql)


def test_a_query_that_needs_too_much_memory_says_what_to_do(made: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    write(made, 0, "a", [outcome(0, Status.VERIFIED, "a")])
    monkeypatch.setattr(duck.Database.__init__, "__kwdefaults__", {"memory_limit": "64MB"})
    with pytest.raises(ConfigError, match=r"more memory than .* \(Out of Memory Error: .*\); ask for less, .*--run"):
        ask(made, "SELECT string_agg(repeat('x', 1000000), '') AS text FROM range(1000), outcomes")


@pytest.mark.parametrize(
    "error",
    [
        duckdb.OutOfMemoryException("Out of Memory Error: failed to offload data block of size 256.0 KiB (1/1 used)."),
        duckdb.IOException('IO Error: Could not write file "/tmp/spill/x": No space left on device'),
    ],
)
def test_a_scratch_folder_that_is_full_is_no_mistake_in_sql(error: duckdb.Error) -> None:
    with pytest.raises(ConfigError, match=r"no room .* free space or set TMPDIR"), refusals():
        raise error
