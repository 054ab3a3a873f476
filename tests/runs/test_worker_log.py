"""A worker's log: JSON lines with run, shard and attempt, and few bytes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pyarrow as pa
import pytest

from jobs.config import Settings
from jobs.core.histories import keys_of
from jobs.core.model import Location, ObjectVersion
from jobs.core.outcome import Outcome, Status
from jobs.core.reasons import Reason
from jobs.core.run import Plan, ShardSummary
from jobs.errors import Denied, Interrupted
from jobs.ledger.ledger import Ledger
from jobs.runs.worker import Progress, Worker, WorkerLimits
from jobs.runs.worker_log import PROGRESS_SECONDS, WorkerLog
from jobs.tables.rows import shard_schema, write_parquet
from tests.doubles.memory_store import MemoryStore

ROWS_PER_SHARD = Settings.from_environment({}).rows_per_shard
LOG_BYTES_PER_MILLION_ROWS_MAX = 64 * 1024


class Mixed:
    """A job of which every third row is denied and every fifth missing, each with a detail of its own."""

    chains = staticmethod(keys_of)

    async def process(self, rows: Any) -> list[Outcome]:
        return [self._outcome(row) for row in rows]

    def _outcome(self, row: ObjectVersion) -> Outcome:
        outcome = Outcome(row.row, row.key, row.version_id, Status.DONE, size_bytes=10, detail=f"of {row.key}")
        if row.row % 3 == 0:
            return outcome._replace(status=Status.BLOCKED, reason=Reason.DENIED)
        return outcome if row.row % 5 else outcome._replace(status=Status.MISSING, reason=Reason.SOURCE_GONE)


def worked(rows: int) -> list[str]:
    """The log of a worker over so many rows."""
    lines: list[str] = []

    async def scene() -> None:
        store = MemoryStore()
        store.create_bucket("ledger")
        ledger = Ledger(store, Location("ledger", ""))
        versions = [ObjectVersion(row, f"key-{row:09d}", None) for row in range(rows)]
        columns = {name: [getattr(row, name) for row in versions] for name in shard_schema().names}
        await ledger.write_shard("run", 3, write_parquet(pa.table(columns, schema=shard_schema())))
        plan = Plan(rows, 0, (*[ShardSummary(0, 0)] * 3, ShardSummary(rows, 0)))
        worker = Worker(ledger, "run", 3, Mixed(), WorkerLimits(checkpoint_rows=1_000), plan=plan)
        log = WorkerLog("replicate", "run", 3, worker.attempt, "1.2.3", rows, write=lines.append)
        worker.on_checkpoint, worker.on_progress = log.count, log.progress
        with log:
            await worker.run()

    asyncio.run(scene())
    return lines


def test_the_log_of_a_million_rows_is_a_few_lines_per_shard() -> None:
    few, many = worked(300), worked(9_000)
    assert len(few) == len(many)  # however many rows there are, and however they end
    size_bytes = sum(len(line) + 1 for line in many)
    assert size_bytes * (1_000_000 / ROWS_PER_SHARD) <= LOG_BYTES_PER_MILLION_ROWS_MAX
    assert size_bytes - sum(len(line) + 1 for line in few) <= 50  # the digits of the counts


def test_lines_say_what_was_done_by_whom() -> None:
    lines = [json.loads(line) for line in worked(300)]
    assert {(line["run"], line["shard"]) for line in lines} == {("run", 3)}
    assert len({line["attempt"] for line in lines}) == 1
    started, ended, *errors = lines
    assert (started["event"], started["planned"], started["version"]) == ("started", 300, "1.2.3")
    counted = {"done": 160, "blocked": 100, "missing": 40}
    assert (ended["event"], ended["level"], ended["exit_code"], ended["outcomes"]) == ("ended", "info", 0, counted)
    assert (ended["objects"], ended["bytes"], ended["errors"]) == (300, 3_000, 140)
    assert 0 < ended["seconds"] < 60
    assert {line["reason"]: line["errors"] for line in errors} == {"denied": 100, "source_gone": 40}


@pytest.mark.parametrize(
    ("error", "level", "exit_code", "message"),
    [
        (Interrupted("stopped"), "warning", 75, "stopped"),
        (
            Denied("GetObject", "b/k", "AccessDenied", "no\nway " * 2_000),
            "error",
            10,
            "GetObject b/k: AccessDenied: no way",
        ),
        (ZeroDivisionError("by\nzero"), "error", 1, "ZeroDivisionError: by zero"),
    ],
)
def test_an_attempt_that_breaks_says_why_in_one_line(
    error: Exception, level: str, exit_code: int, message: str
) -> None:
    lines: list[str] = []
    with pytest.raises(type(error)), WorkerLog("verify", "run", 0, "a", "1", 5, write=lines.append):
        raise error
    ended = json.loads(lines[-1])
    assert (ended["level"], ended["exit_code"]) == (level, exit_code)
    assert ended["message"].startswith(message)
    assert len(lines[-1]) < 4_000
    assert ended["objects"] == 0


def test_progress_is_a_line_a_minute() -> None:
    now = [0.0]
    lines: list[str] = []
    log = WorkerLog("verify", "run", 0, "a", "1", 5, write=lines.append, clock=lambda: now[0])
    with log:
        for second in range(int(PROGRESS_SECONDS) * 3):
            now[0] = float(second)
            log.progress(Progress(second, 0, 0, 4))
    assert [json.loads(line)["rows"] for line in lines if '"progress"' in line] == [60, 120]
