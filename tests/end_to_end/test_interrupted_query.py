"""One interrupt ends a query that would take hours."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.doubles.batch.account import await_value
from tests.end_to_end.conftest import World

BUSY_TICKS = 250
"""Processor time, in hundredths of a second, that no start takes."""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "file_format"), [(signal.SIGINT, "table"), (signal.SIGTERM, "parquet")])
def test_one_signal_ends_a_query_that_would_take_hours(world: World, number: signal.Signals, file_format: str) -> None:
    world.put("k")
    assert world.sealift("replicate", *sides(world), "--yes").code == 0
    sql = "SELECT count(*) FROM range(100000000000000) numbers, runs WHERE numbers.range % 7 = 3"  # holds no rows
    process = world.start("query", sql, "--format", file_format)
    await_value(lambda: process.poll() is not None or ticks(process.pid) > BUSY_TICKS, 60)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=30)
    assert (process.returncode, "interrupted" in stderr, "Traceback" in stderr) == (75, True, False), stderr


def sides(world: World) -> list[str]:
    return ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}"]


def ticks(process_id: int) -> int:
    """What `proc(5)` calls utime and stime."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
