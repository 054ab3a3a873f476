"""Planning a restore: each key once, in whole shards, archives in their order."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from jobs.core.model import Location, ObjectInfo, ObjectVersion
from jobs.core.run import RunSpec, Side
from jobs.core.selection import Selection
from jobs.restore.as_of import NEVER_COPIED, NOT_RESTORED, pick_asked
from jobs.restore.as_of_journal import Event, is_event
from jobs.restore.candidates import Choose, event_batch
from jobs.restore.plan import RestoreSelection, forecast, plan_restore
from jobs.runs.sharding import Shards
from jobs.tables.rows import manifest_batch, read_shard
from tests.doubles.examples import examples

KEYS = st.sampled_from([f"k/{n}" for n in range(12)] + ["é", "z"])
ROWS = st.builds(
    ObjectVersion,
    row=st.just(0),
    key=KEYS,
    version_id=st.sampled_from(["1", "2", None]),
    is_delete_marker=st.just(False),
    size_bytes=st.integers(0, 20 << 20),
    etag=st.sampled_from(["e", "f"]),
    last_modified=st.sampled_from([1.0, 2.5]),
    archive=st.sampled_from([None, "s3://cold/a", "s3://cold/b"]),
)


def plan(
    rows: list[ObjectVersion], rows_per_shard: int, choose: Choose = pick_asked
) -> tuple[RestoreSelection, list[list[ObjectVersion]]]:
    shards: list[bytes] = []

    async def batches() -> AsyncIterator[pa.RecordBatch]:
        for start in range(0, len(rows), 7):
            some = rows[start : start + 7]
            events = [row for row in some if is_event(row)]
            if events:
                yield event_batch(events)
            if len(events) < len(some):
                yield manifest_batch([row for row in some if not is_event(row)])

    async def write_shard(number: int, data: bytes) -> None:
        assert number == len(shards)
        shards.append(data)

    with tempfile.TemporaryDirectory() as folder:
        chosen = asyncio.run(
            plan_restore(
                batches(),
                Selection(versions="all"),
                choose,
                Shards(write_shard, Path(folder), rows_per_shard),
            )
        )
    return chosen, [[row for part in read_shard(data) for row in part] for data in shards]


@settings(max_examples=examples(15), deadline=None)
@given(rows=st.lists(ROWS, max_size=40), rows_per_shard=st.sampled_from([1, 3, 1000]))
def test_each_key_that_is_asked_for_is_in_one_shard_once(rows: list[ObjectVersion], rows_per_shard: int) -> None:
    chosen, shards = plan(rows, rows_per_shard)
    found = [row for shard in shards for row in shard]
    asked = {row.key for row in rows if row.archive is None}
    assert sorted(row.key for row in found) == sorted(asked)
    assert [row.row for row in found] == list(range(len(found)))
    assert all(len(shard) == summary.rows > 0 for shard, summary in zip(shards, chosen.shards, strict=True))
    assert sum(each.size_bytes for each in chosen.shards) == sum(row.size_bytes or 0 for row in found)
    groups = [archive for archive, _ in itertools.groupby(row.archive for row in found)]
    assert len(groups) == len(set(groups))
    for archive in set(groups) - {None}:
        members = [row.key for row in found if row.archive == archive]
        assert members == sorted(members)
    counted: Counter[str | None] = Counter()  # an archive is there once for each class of its members
    for archive, group in chosen.taken:
        counted[archive] += group.rows
    assert counted == Counter(row.archive for row in found if row.archive not in NOT_RESTORED)


def test_events_are_among_what_is_archived_and_not_in_a_shard() -> None:
    own = [ObjectVersion(0, f"k/{n:02d}", "1", size_bytes=1, etag="e", last_modified=1.0) for n in range(20)]
    events = [row._replace(beside=Event("0A", "c")) for row in own[::2]]

    def choose(listed: Sequence[ObjectVersion], archived: Sequence[ObjectVersion]) -> list[ObjectVersion]:
        assert [each.beside for each in archived] in ([], [Event("0A", "c")])
        return [row._replace(archive=NEVER_COPIED) for row in listed] if archived else [*listed]

    chosen, [found] = plan([*own, *events], 1000, choose)
    assert [row.archive for row in found] == [None] * 10 + [NEVER_COPIED] * 10
    assert [(archive, group.rows) for archive, group in chosen.taken] == [(None, 10)]


def test_a_restore_that_keeps_classes_is_priced_in_each_members_class() -> None:
    classes = ["DEEP_ARCHIVE"] * 2 + ["STANDARD", None]
    rows = [
        ObjectVersion(0, f"k/{n}", archive=archive, size_bytes=10, last_modified=1.0, storage_class=name)
        for n, name in enumerate(classes)
        for archive in (None, "s3://cold/a")
    ]
    chosen, _ = plan([row._replace(version_id="1", etag="e") for row in rows], 1000)
    assert [(group.storage_class, group.rows) for _, group in chosen.taken] == [("DEEP_ARCHIVE", 2), ("STANDARD", 2)]
    side = Side(Location("docs"))
    options = {"tier": "Bulk", "storage_class": "keep"}
    spec = RunSpec("run", "restore", 0.0, side, side, "manifest", options)
    archives = {"s3://cold/a": ObjectInfo(1, "e", 0.0, None, "STANDARD")}
    assert forecast(chosen, archives, spec, 1).dollars["puts"] == pytest.approx((2 * 0.05 + 2 * 0.005) / 1000)
    standard = replace(spec, options=options | {"storage_class": "STANDARD"})
    assert forecast(chosen, archives, standard, 1).dollars["puts"] == pytest.approx(4 * 0.005 / 1000)
    assert forecast(chosen, archives, spec, 1).requests["head"] == 1
