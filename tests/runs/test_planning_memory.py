"""Plans of rows that DuckDB spills: wide ones, and many of one kind. A limit that is too small ends a plan."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs.compact import plan
from jobs.compact.archived import SCHEMA
from jobs.compact.packing import CompactOptions, PackingRule
from jobs.core.model import Listed, Location
from jobs.core.run import RunSpec, Side
from jobs.core.selection import Selection
from jobs.restore.plan import plan_restore
from jobs.runs import planning, there
from jobs.runs.planning import plan_rows
from jobs.runs.sharding import Shards
from jobs.runs.sorting import Sorting
from jobs.runs.there import Copies
from jobs.tables.rows import fill_batch, manifest_batch

pytestmark = pytest.mark.slow
BATCH_ROWS = 10_000
ARCHIVED_ROWS = 200_000
MONTH_MICROS = 31 * 86_400 * 10**6
ALL = Selection(versions="all")
Values = Callable[[int], dict[str, Any]]


async def manifest(rows: int, values: Values) -> AsyncIterator[pa.RecordBatch]:
    for start in range(0, rows, BATCH_ROWS):
        batch = [values(number) for number in range(start, min(start + BATCH_ROWS, rows))]
        yield fill_batch({name: [each[name] for each in batch] for name in batch[0]}, len(batch))


async def forget(number: int, data: bytes) -> None:
    pass


def long_key(number: int) -> str:
    """About as long as S3 takes them. Numbers that follow each other have keys that do not."""
    return f"{number * 7_919 % 1_000_003:01000d}"


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        pytest.param(lambda number: {"key": long_key(number), "size_bytes": 10**10}, 100_000, id="large objects"),
        pytest.param(lambda number: {"key": long_key(number // 2), "size_bytes": 1}, 50_000, id="each twice"),
        pytest.param(lambda number: {"key": long_key(0), "size_bytes": 1}, 1, id="one again and again"),
    ],
)
def test_long_keys_do_not_end_a_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: Values, kept: int
) -> None:
    """With a quarter of the memory, so a quarter of the rows are enough."""
    monkeypatch.setattr(planning, "MEMORY_LIMIT", "44MB")
    planned, histogram = asyncio.run(plan_rows(manifest(100_000, values), ALL, Shards(forget, tmp_path, processes=2)))
    assert (planned.rows, planned.excluded.get("duplicate", 0)) == (kept, 100_000 - kept)
    assert histogram.keys == kept


def test_long_texts_beside_rows_do_not_end_a_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def join(sorting: Sorting) -> None:
        sorting.relation = f"(SELECT *, [repeat(key, 400)] AS attested FROM {sorting.relation})"
        sorting.schema = sorting.schema.append(pa.field("attested", pa.list_(pa.string())))

    monkeypatch.setattr(planning, "MEMORY_LIMIT", "44MB")
    rows = manifest(100_000, lambda number: {"key": f"{number:05d}"})
    assert asyncio.run(plan_rows(rows, ALL, Shards(forget, tmp_path), join=join))[0].rows == 100_000


@pytest.mark.parametrize(("all_versions", "limit"), [(False, "44MB"), (True, "88MB")])
def test_long_keys_do_not_end_the_join_with_a_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, all_versions: bool, limit: str
) -> None:
    def values(number: int) -> dict[str, Any]:
        return {"key": long_key(number), "size_bytes": 1, "etag": f"{number:032x}", "last_modified": 10**7}

    async def batches(*_: Any, **__: Any) -> AsyncIterator[pa.RecordBatch]:
        for start in range(0, 100_000, 1_000):
            numbers = range(start, start + 1_000)
            etags = [f"{number + (number % 10 == 0):032x}" for number in numbers]
            yield manifest_batch(
                [
                    Listed(long_key(number), None, True, False, 1, etag, 11.0, "STANDARD")
                    for number, etag in zip(numbers, etags, strict=True)
                ]
            )

    monkeypatch.setattr(planning, "MEMORY_LIMIT", limit)
    monkeypatch.setattr(there, "listed_rows", batches)
    sides = Side(Location("source")), Side(Location("copies"))
    run = RunSpec("20261201T000000Z-replicate-000000", "replicate", 0.0, *sides, "m", {"all_versions": all_versions})
    copies = Copies(run)
    planned, _ = asyncio.run(plan_rows(manifest(100_000, values), ALL, Shards(forget, tmp_path), copies=copies))
    assert planned.there["same"] == 90_000


def test_long_keys_do_not_end_the_sort_of_a_restore(tmp_path: Path) -> None:
    rows = manifest(150_000, lambda number: {"key": long_key(number), "size_bytes": 1})
    chosen = asyncio.run(plan_restore(rows, ALL, lambda own, archived: [*own, *archived], Shards(forget, tmp_path)))
    assert sum(each.rows for each in chosen.shards) == 150_000


def test_long_keys_do_not_end_the_sort_of_a_compaction(tmp_path: Path) -> None:
    def by_month(number: int) -> dict[str, Any]:
        modified = number * 7_919 % 36 * MONTH_MICROS
        return {"key": f"{number:01000d}", "etag": f"{number:032x}", "last_modified": modified}

    asyncio.run(planning.spool(manifest(300_000, by_month), ALL, tmp_path / "rows.parquet"))
    sorting = Sorting(tmp_path, 10**9, 10**7, planning.MEMORY_LIMIT)
    sorting.count()
    assert sum(batch.num_rows for batch in sorting.in_packing_order()) == 300_000


def test_archived_rows_do_not_end_the_plan_of_a_compaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a bucket was packed before: with a quarter of the memory, so a quarter of the rows are enough."""

    def values(number: int) -> dict[str, Any]:
        version = f"{number:032d}" if number % 2 else None
        key, etag = f"{number:0100d}", f"{number:032x}"
        return {"key": key, "version_id": version, "size_bytes": 1, "etag": etag, "last_modified": 10**7}

    async def archived() -> AsyncIterator[pa.Table]:
        async for batch in manifest(ARCHIVED_ROWS, values):
            yield pa.Table.from_batches([batch]).select(SCHEMA.names).cast(SCHEMA)

    monkeypatch.setattr(plan, "MEMORY_LIMIT", "44MB")
    rows, packing = manifest(ARCHIVED_ROWS, values), CompactOptions(PackingRule())
    grouped = asyncio.run(plan.plan_groups(rows, ALL, packing, archived(), Shards(forget, tmp_path)))
    assert grouped.excluded == {"already_archived": ARCHIVED_ROWS}


CODE = """
import asyncio, sys
from pathlib import Path
from tests.runs.test_planning_memory import ALL, Shards, forget, manifest, plan_rows
values = lambda number: {"key": f"{number:06d}".ljust(1000, "x"), "size_bytes": 1}
rows = manifest(600_000, values)
asyncio.run(plan_rows(rows, ALL, Shards(forget, Path(sys.argv[1]), 10_000)))
# not ru_maxrss: a process has that of the test process which started it, if that is larger
print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line))
"""


def test_planning_does_not_hold_the_manifest_in_memory(tmp_path: Path) -> None:
    """600,000 rows of 1 KiB are 600 MB, beside 150 for the program and as much again to sort: far from that."""
    ran = subprocess.run([sys.executable, "-c", CODE, str(tmp_path)], capture_output=True, text=True, check=True)
    assert int(ran.stdout) < 600 * 1024
