"""Planning a compaction: every row in one shard or left out by name, groups whole."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.compact.archived import SCHEMA
from jobs.compact.packing import CompactOptions, EarlierRule, PackingRule
from jobs.compact.plan import Grouped, forecast, plan_groups
from jobs.core.model import LATEST_SECONDS, Listed, ObjectVersion
from jobs.core.pricing import PricedWork, own_prices
from jobs.core.reasons import Reason
from jobs.core.selection import Selection
from jobs.errors import ManifestError
from jobs.runs.sharding import Shards
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


def entry(key: str, size_bytes: int | None = 1, **more: Any) -> Listed:
    return Listed(key, None, True, False, size_bytes, "e", 0.0, "STANDARD")._replace(**more)


def planned(
    found: list[Listed], rule: PackingRule, *, is_all: bool = True, storage_class: str = "GLACIER_IR", **options: Any
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
            batches(), Selection(versions="all"),
            CompactOptions(rule, storage_class, pack_all=is_all, **options),
            archived(), Shards(write_shard, folder, 7),
        )  # fmt: skip

    with TemporaryDirectory() as folder:
        return asyncio.run(run(Path(folder))), shards


@given(entries, st.integers(10_000, 400_000), st.booleans())
@settings(max_examples=examples(25), deadline=None)
def test_shards_hold_every_row_that_pays_once_in_whole_groups(
    found: list[Listed], target_bytes: int, is_all: bool
) -> None:
    grouped, shards = planned(found, PackingRule(target_bytes, members_max=5), is_all=is_all)
    rows = [row for shard in shards for row in shard]
    assert {row.key for row in rows} <= {each.key for each in found}
    assert len({row.key for row in rows}) == len(rows) == grouped.packed.members
    assert [row.row for row in rows] == list(range(len(rows)))
    assert len(rows) + sum(grouped.left_alone.values()) == len(found)
    assert not is_all or not grouped.left_alone
    assert all(shards)
    in_shards = [{row.archive for row in shard} for shard in shards]
    assert len(set().union(*in_shards)) == sum(map(len, in_shards)) == grouped.archives
    assert len([number for number, _ in itertools.groupby(row.archive for row in rows)]) == grouped.archives
    assert [shard.rows for shard in grouped.shards] == list(map(len, shards))


def test_the_plan_counts_requests_dollars_and_savings() -> None:
    found = [entry(f"k{n:04}", 50_000, storage_class="STANDARD_IA") for n in range(400)]
    grouped, _ = planned(found, PackingRule(5_000_000), storage_class="DEEP_ARCHIVE")
    plan = forecast(grouped, PricedWork(), 1)
    assert plan.rows == 400
    assert plan.requests == {"put": grouped.archives, "part": grouped.packed.parts, "get": 400, "list": 400}
    assert plan.dollars["gets"] == pytest.approx(0.4 * 0.001)
    assert plan.savings["monthly_before"] == pytest.approx(400 * 128 / 1024**2 * 0.0125)
    assert plan.savings["archives"] == grouped.archives == 5
    assert plan.savings["monthly_after"] < plan.savings["monthly_before"] / 10
    far = forecast(grouped, PricedWork(cross_region=True), 1)
    assert far.dollars["transfer"] == pytest.approx(400 * 50_000 / 1024**3 * 0.02)


def test_what_is_not_packed_is_counted_by_its_reason() -> None:
    rules = (EarlierRule("docs/", 10 * DAY, 100), EarlierRule("it's/", 10 * DAY, 100, {"a": "b"}))
    found = [
        entry("docs/old", 99),
        entry("docs/large", 100),
        entry("docs/young", 99, last_modified=10 * DAY),
        entry("huge", 48 << 40),
        entry("it's/old"),
        entry("marker", None, is_delete_marker=True, etag=None),
        entry("twice", 1),
        entry("twice", 2, last_modified=1.0),
    ]
    grouped, shards = planned(found, PackingRule(1 << 50), earlier_rules=rules)
    kept = {(row.key, row.size_bytes) for shard in shards for row in shard}
    assert kept == {("docs/large", 100), ("docs/young", 99), ("it's/old", 1), ("twice", 2), ("huge", 48 << 40)}
    assert grouped.excluded == {"earlier_rule": 1, "delete_marker": 1, "duplicate": 1}
    assert planned([entry("huge", 50 << 40)], PackingRule(1 << 50))[0].excluded == {"too_large": 1}
    left, _ = planned([entry("one", 9)], PackingRule(), is_all=False)
    assert (left.left_alone, left.rows, left.shards) == ({Reason.DOES_NOT_PAY: 1}, 0, ())


@pytest.mark.parametrize("lacking", [{"size_bytes": None}, {"etag": None}])
def test_rows_that_do_not_say_their_content_are_refused(lacking: dict[str, Any]) -> None:
    """A key alone names no content: an archive of that key may hold an older object."""
    with pytest.raises(ManifestError, match="which content"):
        planned([entry("a"), entry("b", **lacking)], PackingRule())


@pytest.mark.parametrize("last_modified", [-62_135_596_800.0, -1.0, LATEST_SECONDS])
def test_a_time_that_is_far_away_is_planned(last_modified: float) -> None:
    """Programs in Go write the year 1 where they know no time, and a CSV may say up to the year 9999."""
    grouped, [[row]] = planned([entry("k", last_modified=last_modified)], PackingRule())
    assert (row.last_modified, grouped.archives) == (last_modified, 1)
