"""Planning a compaction: every row in one shard, groups whole, and the plan's groups are the worker's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.compact.archived import SCHEMA
from jobs.compact.grouping import cut, weigh
from jobs.compact.packing import EarlierRule, PackingRule, sort_key
from jobs.compact.plan import Grouped, forecast, plan_groups, rows_left_by
from jobs.compact.savings import Economy, refusal
from jobs.core.enums import ArchiveFormat
from jobs.core.model import LATEST_SECONDS, Listed, ObjectVersion
from jobs.core.pricing import PricedWork, own_prices
from jobs.core.reasons import Reason
from jobs.core.selection import Selection
from jobs.tables.rows import manifest_batch, read_shard
from tests.doubles.examples import examples

TABLE = own_prices()
DAY = 86_400.0

entries = st.lists(
    st.builds(
        Listed,
        key=st.text(st.sampled_from(list("ab/é~")), min_size=1, max_size=6),
        version_id=st.none(),
        is_latest=st.just(True),
        is_delete_marker=st.just(False),
        size_bytes=st.integers(0, 200_000),
        etag=st.just("e"),
        last_modified=st.sampled_from([0.0, 30.5 * DAY, 31 * DAY, 62 * DAY + 0.25]),
        storage_class=st.sampled_from(["STANDARD", "GLACIER"]),
    ),
    max_size=40,
    unique_by=lambda entry: entry.key,
)


def planned(
    found: list[Listed], rule: PackingRule, economy: Economy, processes: int = 1
) -> tuple[Grouped, list[list[ObjectVersion]]]:
    shards: list[list[ObjectVersion]] = []

    async def batches() -> AsyncIterator[pa.RecordBatch]:
        yield manifest_batch(found)

    async def archived() -> AsyncIterator[pa.Table]:
        yield SCHEMA.empty_table()

    async def write_shard(number: int, data: bytes) -> None:
        assert number == len(shards)
        shards.append([row for batch in read_shard(data) for row in batch])

    async def run(folder: Path) -> Grouped:
        return await plan_groups(
            batches(), Selection(), rule, economy, archived=archived(), write_shard=write_shard,
            scratch_directory=folder, rows_per_shard=7, processes=processes,
        )  # fmt: skip

    with TemporaryDirectory() as folder:
        return asyncio.run(run(Path(folder))), shards


@given(entries, st.integers(10_000, 400_000), st.sampled_from([None, 1.0, 24.0]))
@settings(max_examples=examples(25), deadline=None)
def test_shards_hold_every_row_once_in_whole_groups(
    found: list[Listed], target_bytes: int, payback_months: float | None
) -> None:
    rule = PackingRule(target_bytes, members_max=5)
    economy = Economy.of(TABLE, "GLACIER_IR", 400 * DAY, payback_months)
    grouped, shards = planned(found, rule, economy)
    rows = [row for shard in shards for row in shard]
    assert sorted(row.key for row in rows) == sorted(entry.key for entry in found)
    assert [row.row for row in rows] == list(range(len(rows)))
    assert rows == sorted(rows, key=sort_key)
    assert all(shards)
    groups = [group for shard in shards for group in cut(shard, rule)]
    assert groups == list(cut(rows, rule))
    paying = [group for group in groups if refusal(weigh(group, economy, rule).savings, economy) is None]
    assert grouped.archives == len(paying)
    assert grouped.packed.members == sum(map(len, paying))
    assert sum(grouped.left_alone.values()) == len(rows) - grouped.packed.members
    assert [shard.rows for shard in grouped.shards] == list(map(len, shards))


def test_the_plan_counts_requests_dollars_and_savings() -> None:
    found = [Listed(f"k{n:04}", None, True, False, 50_000, "e", 0.0, "STANDARD_IA") for n in range(400)]
    economy = Economy.of(TABLE, "DEEP_ARCHIVE", 400 * DAY, None)
    grouped, _ = planned(found, PackingRule(5_000_000), economy)
    plan = forecast(grouped, PricedWork(), 1, TABLE)
    assert plan.rows == 400
    assert plan.requests == {"put": grouped.archives, "part": grouped.packed.parts, "get": 400, "list": 400}
    assert plan.dollars["gets"] == pytest.approx(0.4 * 0.001)
    assert plan.savings["monthly_before"] == pytest.approx(400 * 128 / 1024**2 * 0.0125)
    assert plan.savings["archives"] == grouped.archives == 5
    assert plan.savings["monthly_after"] < plan.savings["monthly_before"] / 10
    far = forecast(grouped, PricedWork(cross_region=True), 1, TABLE)
    assert far.dollars["transfer"] == pytest.approx(400 * 50_000 / 1024**3 * 0.02)


@pytest.mark.parametrize(("size_bytes", "left_alone"), [(48 << 40, {}), (50 << 40, {Reason.TOO_LARGE: 1})])
def test_what_no_archive_can_hold_is_left_alone_by_the_plan(size_bytes: int, left_alone: dict[str, int]) -> None:
    """The same object would pay, so nothing else says it."""
    found = [
        Listed("huge", None, True, False, size_bytes, "e", 0.0, "STANDARD"),
        Listed("small", None, True, False, 50_000, "e", 62 * DAY, "STANDARD"),
    ]
    economy = Economy.of(TABLE, "DEEP_ARCHIVE", 400 * DAY, None)
    grouped, _ = planned(found, PackingRule(format=ArchiveFormat.TAR), economy)
    assert grouped.left_alone == left_alone
    assert grouped.archives == grouped.packed.members == 2 - len(left_alone)


def test_duplicates_are_left_out_and_counted() -> None:
    found = [Listed("k", None, True, False, size, "e", float(size), "STANDARD") for size in (1, 2)]
    grouped, shards = planned(found, PackingRule(), Economy.of(TABLE, "GLACIER", 0.0, None))
    assert [row.size_bytes for row in shards[0]] == [2]
    assert grouped.excluded == {"duplicate": 1}


@pytest.mark.parametrize("last_modified", [-62_135_596_800.0, -1.0, LATEST_SECONDS])
def test_a_time_that_is_far_away_is_planned(last_modified: float) -> None:
    """Programs in Go write the year 1 where they know no time, and a CSV may say up to the year 9999."""
    found = [Listed("k", None, True, False, 1, "e", last_modified, "STANDARD")]
    grouped, [[row]] = planned(found, PackingRule(), Economy.of(TABLE, "GLACIER", 0.0, None))
    assert (row.last_modified, grouped.archives) == (last_modified, 1)


def test_the_first_rule_that_holds_applies() -> None:
    earlier = (EarlierRule("docs/", 10 * DAY, 100), EarlierRule("", 0.0, 0))
    found = [
        Listed("docs/old", None, True, False, 99, "e", 1 * DAY, "STANDARD"),
        Listed("docs/large", None, True, False, 100, "e", 1 * DAY, "STANDARD"),
        Listed("docs/young", None, True, False, 99, "e", 10 * DAY, "STANDARD"),
        Listed("scans/old", None, True, False, 99, "e", 1 * DAY, "STANDARD"),
        Listed("docs/unknown", None, True, False, None, "e", 1 * DAY, "STANDARD"),
    ]

    async def batches() -> AsyncIterator[pa.RecordBatch]:
        yield manifest_batch(found)

    async def left() -> list[Any]:
        return [
            key for batch in [b async for b in rows_left_by(earlier, batches())] for key in batch["key"].to_pylist()
        ]

    assert asyncio.run(left()) == ["docs/large", "docs/young", "scans/old", "docs/unknown"]
