from __future__ import annotations

import asyncio
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.core.model import LATEST_SECONDS, ObjectVersion, Repair
from jobs.core.part_sizes import COPY_LIMIT_BYTES, PREFERRED_PART_BYTES, choose_part_size, count_parts
from jobs.core.pricing import Bill, Histogram, PricedWork
from jobs.core.run import Plan
from jobs.core.selection import Selection
from jobs.errors import ConfigError, ManifestError
from jobs.runs import sorting
from jobs.runs.filtering import select_rows
from jobs.runs.planning import plan_rows
from jobs.runs.sharding import Shards
from jobs.tables.rows import manifest_schema, read_repairs, read_shard, shard_schema
from tests.doubles.examples import examples
from tests.doubles.selecting import plain_filter_of

ALL = Selection(versions="all")
MIB = 1024**2
OWN = [
    f"{name}{'0a' * 16}{end}" for name in (".sealift/place-", "a/.sealift/trial-") for end in ("", ".json", "/b", "\n")
]


def row(key, version_id=None, **known):
    """A manifest's row as a dict; `last_modified` in epoch seconds."""
    defaults = {"is_latest": True, "is_delete_marker": False, "size_bytes": 100}
    return {"key": key, "version_id": version_id} | defaults | known


def batch_of(rows):
    columns = []
    for field in manifest_schema():
        values = [each.get(field.name) for each in rows]
        if field.name == "last_modified":
            micros = [None if value is None else round(value * 1e6) for value in values]
            columns.append(pa.array(micros, pa.int64()).cast(field.type))
        else:
            columns.append(pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=manifest_schema())


def plan(rows, selection=ALL, **rules):
    """The plan, and the rows of each shard as a worker reads them."""
    planned, _, shards = weighed(rows, selection, **rules)
    return planned, shards


def weighed(rows, selection=ALL, *, batch_rows=7, rows_per_shard=100_000, processes=1, **rules):
    """The plan, its histogram, and the rows of each shard as a worker reads them."""

    async def batches():
        for start in range(0, len(rows), batch_rows):
            yield batch_of(rows[start : start + batch_rows])

    files: dict[int, bytes] = {}

    async def write_shard(number, data):
        assert number == len(files)
        files[number] = data

    with tempfile.TemporaryDirectory() as scratch:
        planned, histogram = asyncio.run(
            plan_rows(batches(), selection, Shards(write_shard, Path(scratch), rows_per_shard, processes), **rules)
        )
        assert list(Path(scratch).iterdir()) == []
    for data in files.values():
        assert pq.ParquetFile(pa.BufferReader(data)).schema_arrow.equals(shard_schema())
    shards = [[each for some in read_shard(data, read_repairs) for each in some] for data in files.values()]
    return planned, histogram, shards


def test_a_row_arrives_in_its_shard_as_the_manifest_has_it():
    known = row(
        "a/é\n+", "v1", is_latest=False, size_bytes=7, etag="e", last_modified=1.5, storage_class="GLACIER_IR",
        condemned_etag="c",
    )  # fmt: skip
    planned, shards = plan([known])
    assert shards == [[ObjectVersion(0, "a/é\n+", "v1", False, False, 7, "e", 1.5, "GLACIER_IR", beside=Repair("c"))]]
    assert (planned.rows, planned.size_bytes, planned.excluded) == (1, 7, {})


def test_the_versions_of_a_key_stand_oldest_first():
    """Ties are in reverse: a listing names the newest first. The latest is last whatever its time says."""
    rows = [
        row("k", "latest, a multipart upload begun early", last_modified=1.0),
        row("k", "fourth", is_latest=False, last_modified=5.0),
        row("k", "third", is_latest=False, last_modified=5.0),
        row("k", "second", is_latest=False, is_delete_marker=True, size_bytes=None, last_modified=4.0),
        row("k", "first", is_latest=False, last_modified=3.0),
    ]
    _, [shard] = plan(rows)
    assert [each.version_id for each in shard] == ["first", "second", "third", "fourth", rows[0]["version_id"]]
    assert [each.row for each in shard] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("last_modified", [-62_135_596_800.0, LATEST_SECONDS])
def test_a_time_that_is_far_away_is_older_or_newer(last_modified):
    """Programs in Go write the year 1 where they know no time, and a CSV may say up to the year 9999."""
    older, _ = plan([row("k", last_modified=last_modified)], Selection(older_than=1.7e9))
    newer, _ = plan([row("k", last_modified=last_modified)], Selection(newer_than=1.7e9))
    assert (older.rows, newer.rows) == ((1, 0) if last_modified < 0 else (0, 1))


def test_versions_without_times_are_in_the_reverse_of_the_manifest():
    _, [shard] = plan([row("k", "new"), row("j", "x"), row("k", "old")])
    assert [each.version_id for each in shard if each.key == "k"] == ["old", "new"]


def test_an_object_version_named_twice_is_one_row():
    rows = [
        row("k", "v", etag="old", last_modified=1.0),
        row("k", "v", etag="new", last_modified=2.0),
        row("k", "w"),
        row("k"),
        row("k"),
        row("j", "v"),
    ]
    planned, [shard] = plan(rows)
    assert sorted((each.key, each.version_id or "", each.etag) for each in shard) == [
        ("j", "v", None),
        ("k", "", None),
        ("k", "v", "new"),
        ("k", "w", None),
    ]
    assert planned.excluded == {"duplicate": 2}
    assert (planned.rows, planned.size_bytes) == (4, 400)


@pytest.mark.parametrize("size_bytes", [-1, 1 << 50, (1 << 63) - 1])
def test_a_size_that_no_object_has_is_named(size_bytes):
    """The plan ended in a traceback of DuckDB."""
    with pytest.raises(ManifestError, match=f"b has {size_bytes:,} bytes, which no object has"):
        plan([row("a"), row("b", size_bytes=size_bytes)])


def test_nothing_selected_is_a_plan_without_shards():
    planned, histogram, shards = weighed([row("a"), row("b")], Selection(prefix="z"))
    assert (planned.rows, planned.size_bytes, planned.shards, shards) == (0, 0, (), [])
    assert planned.excluded == {"prefix": 2}
    assert histogram == Histogram((), 0)
    assert Bill(PricedWork(), histogram).of(planned, 2).total_dollars == 0
    assert plan([])[0].rows == 0


def test_big_objects_are_spread_by_bytes_with_all_versions_of_their_key():
    gib = 1024**3
    big = [row(f"big/{n}", "new", size_bytes=(10 + n) * gib) for n in range(8)]
    old = [row(f"big/{n}", "old", is_latest=False, size_bytes=1) for n in range(8)]
    planned, shards = plan(big + old, processes=4)
    sizes = [summary.size_bytes for summary in planned.shards]
    assert max(sizes) - min(sizes) <= 17 * gib
    for shard in shards:
        assert [each.version_id for each in shard] == ["old", "new"] * 2


def test_small_objects_fill_all_shards():
    planned, _ = plan([row(f"docs/{n:06d}") for n in range(4_000)], batch_rows=1_000, rows_per_shard=1_000)
    assert len(planned.shards) == 4
    assert all(850 < summary.rows < 1_150 for summary in planned.shards)


def test_the_histogram_counts_what_makes_the_price():
    rows = [
        row("a", size_bytes=100 * MIB, storage_class="STANDARD_IA"),
        row("b", size_bytes=201 * MIB, storage_class="STANDARD_IA"),
        row("c", size_bytes=10 * MIB),
        row("c", "m", is_delete_marker=True, size_bytes=None),
        row("d", size_bytes=None),
    ]
    _, histogram, _ = weighed(rows, parts=(10 * MIB, 50 * MIB))
    assert histogram.keys == 4
    assert [group[:-1] for group in histogram.groups] == [
        ("STANDARD", False, False, False, 1, 0, 1),
        ("STANDARD", False, False, True, 1, 0, 1),
        ("STANDARD", False, True, False, 1, 10 * MIB, 1),
        ("STANDARD_IA", True, True, False, 2, 301 * MIB, 2 + 5),
    ]


@given(st.lists(st.integers(0, 50 * 1024**4 // 2), min_size=1, max_size=5), st.integers(1, 6 * 1024**3))
@settings(max_examples=examples(15), deadline=None)
def test_parts_are_counted_as_the_copy_will_cut_them(sizes, part_size_bytes):
    rows = [row(str(n), size_bytes=size) for n, size in enumerate(sizes)]
    _, histogram, _ = weighed(rows, parts=(COPY_LIMIT_BYTES, part_size_bytes))
    expected = sum(count_parts(size, choose_part_size(size, part_size_bytes)) for size in sizes)
    assert sum(group.parts for group in histogram.groups) == expected


keys = st.sampled_from(["a", "b", "a/b", "é", "B", "c.pdf", "d.PDF", "a\nb", " ", *OWN])
manifest_rows = st.lists(
    st.fixed_dictionaries(
        {
            "key": keys,
            "version_id": st.sampled_from([None, "null", "v1", "v2", "v3", ""]),
            "is_latest": st.booleans(),
            "is_delete_marker": st.booleans(),
            "size_bytes": st.none() | st.integers(0, 60),
            "last_modified": st.none() | st.integers(1, 4).map(float),
            "storage_class": st.sampled_from([None, "STANDARD", "GLACIER"]),
        }
    ),
    max_size=40,
)
selections = st.builds(
    Selection,
    prefix=st.sampled_from(["", "a", "é"]),
    include=st.sampled_from([(), ("a*",), ("?", "*.pdf"), ("[!a]*",)]),
    exclude=st.sampled_from([(), ("*b",), ("*.PDF", " ")]),
    max_size_bytes=st.none() | st.integers(0, 60),
    newer_than=st.none() | st.integers(0, 5).map(float),
    older_than=st.none() | st.floats(0, 5),
    versions=st.sampled_from(["current", "all"]),
    sample=st.sampled_from([None, (0, 2), (1, 2)]),
)


def reason(selection, each):
    names = ("is_latest", "is_delete_marker", "size_bytes", "last_modified")
    return plain_filter_of(selection, each["key"], **{name: each[name] for name in names})


@given(manifest_rows, selections)
@settings(deadline=None)
def test_filtering_a_table_is_filtering_its_rows(rows, selection):
    excluded: Counter[str] = Counter()
    taken = select_rows(batch_of(rows), selection, excluded)
    assert taken.equals(batch_of([each for each in rows if reason(selection, each) is None]))
    assert excluded == Counter(filter(None, (reason(selection, each) for each in rows)))


@given(st.text("ab*?[]!-^./\n\\+", max_size=10), st.lists(st.text("ab[]!-^./\n\\+é", max_size=6), max_size=8))
@settings(deadline=None)
def test_globs_mean_the_same_in_both_engines(glob, some_keys):
    rows = [row(key) for key in some_keys]
    selection = Selection(include=(glob,))
    taken = select_rows(batch_of(rows), selection, Counter())
    assert taken["key"].to_pylist() == [key for key in some_keys if plain_filter_of(selection, key) is None]


@given(manifest_rows, selections, st.integers(1, 10), st.sampled_from([5, 30, 10**9]), st.sampled_from([2, 20_000]))
@settings(max_examples=examples(15), deadline=None)
def test_every_selected_row_is_in_exactly_one_shard(rows, selection, rows_per_shard, threshold_bytes, batch_rows):
    with mock.patch.object(sorting, "BATCH_ROWS", batch_rows):
        planned, histogram, shards = weighed(
            rows, selection, rows_per_shard=rows_per_shard, parts=(threshold_bytes, PREFERRED_PART_BYTES)
        )
    taken = [each for each in rows if reason(selection, each) is None]
    planned_rows = [each for shard in shards for each in shard]

    # Accounted: each object version once, and every other row under the filter that dropped it.
    assert Counter((each.key, each.version_id) for each in planned_rows) == Counter(
        {(each["key"], each["version_id"]) for each in taken}
    )
    assert planned.rows + sum(planned.excluded.values()) == len(rows)
    assert [each.row for each in planned_rows] == list(range(planned.rows))
    assert all(shards)
    assert [(len(shard), sum(each.size_bytes or 0 for each in shard)) for shard in shards] == [
        (summary.rows, summary.size_bytes) for summary in planned.shards
    ]
    assert planned.size_bytes == sum(each.size_bytes or 0 for each in planned_rows)
    assert sum(group.rows for group in histogram.groups) == planned.rows

    # A key is in one shard, in one run of rows, oldest first.
    runs = [(number, each.key) for number, shard in enumerate(shards) for each in shard]
    changes = [run for index, run in enumerate(runs) if index == 0 or runs[index - 1] != run]
    assert len(changes) == len({key for _, key in changes}) == histogram.keys
    history = defaultdict(list)
    for each in planned_rows:
        history[each.key].append((each.is_latest, each.last_modified or 0.0))
    assert all(versions == sorted(versions) for versions in history.values())


def test_the_forecast_is_a_plan_that_survives_json():
    planned, histogram, _ = weighed([row("a", size_bytes=6_000_000_000), row("b"), row("c", size_bytes=None)])
    found = Bill(PricedWork(), histogram).of(planned, 2)
    assert found.requests == {"copy": 2, "create": 1, "part": 90, "complete": 1, "head": 4, "tagging": 1, "list": 1}
    assert found.total_dollars == pytest.approx((95 * 0.005 + 5 * 0.0004) / 1000)
    assert found.price_table.startswith("us-east-1")
    assert found.seconds > 0
    assert Plan.from_dict(found.to_dict()) == found


def test_a_scratch_directory_that_cannot_be_used_is_named(tmp_path):
    async def batches():
        yield batch_of([row("a")])

    async def write_shard(number, data):
        raise OSError("No space left on device")

    with pytest.raises(ConfigError, match=r"cannot sort the manifest in .*: No space left on device; free space"):
        asyncio.run(plan_rows(batches(), ALL, Shards(write_shard, tmp_path)))
    assert list(tmp_path.iterdir()) == []
