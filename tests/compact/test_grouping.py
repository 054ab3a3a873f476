"""Groups in columns: those that a worker cuts and weighs row by row, with the same archives."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.compact import grouping
from jobs.compact.grouping import Group, count_lookups, group_rows
from jobs.compact.packing import ArchiveStorage, PackingRule, archive_location, cut, is_unknown, sort_key, tar_size
from jobs.compact.savings import Economy, weigh
from jobs.core.enums import ArchiveFormat
from jobs.core.model import Location, ObjectVersion
from jobs.runs.planning import read_price_table
from jobs.tables.rows import manifest_schema, version_batch
from tests.doubles.examples import examples

DAY, MIB, GIB, TIB = 86_400.0, 1 << 20, 1 << 30, 1 << 40
ECONOMY = Economy.of(read_price_table(), "GLACIER_IR", 400 * DAY, 24.0)
ARCHIVES, STORAGE = Location("cold", "packed"), ArchiveStorage("GLACIER_IR")

sizes = st.one_of(
    st.none(),
    st.integers(0, 3_000),
    st.sampled_from([128 * 1024 - 1, 128 * 1024, 64 * MIB - 1, 64 * MIB, GIB, 1000 * GIB, 1000 * GIB + 1, 49 * TIB]),
)
rows = st.lists(
    st.builds(
        ObjectVersion,
        row=st.just(0),
        key=st.text(st.sampled_from(list("ab/é\n")), min_size=1, max_size=5),
        version_id=st.none() | st.sampled_from(["v1", "v2", "null"]),
        is_latest=st.just(True),
        is_delete_marker=st.booleans(),
        size_bytes=sizes,
        etag=st.sampled_from(["e", "f", "e", "f", None]),
        last_modified=st.sampled_from([None, 0.0, 31 * DAY - 0.000001, 31 * DAY, 390 * DAY, 420 * DAY]),
        storage_class=st.sampled_from([None, "", "STANDARD", "GLACIER", "INTELLIGENT_TIERING", "STANDARD_IA", "NEW"]),
    ),
    max_size=60,
).map(lambda found: sorted(found, key=sort_key))
rules = st.builds(
    PackingRule,
    st.one_of(st.integers(1, 30_000), st.sampled_from([GIB, 5 * TIB, 48 * TIB])),
    st.sampled_from(ArchiveFormat),
    members_max=st.integers(1, 12),
)


@given(rows, rules, st.integers(1, 30), st.integers(1, 30))
@settings(max_examples=examples(150), deadline=None)
def test_the_groups_are_those_that_a_worker_finds(
    found: list[ObjectVersion], rule: PackingRule, window_rows: int, batch_rows: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grouping, "WINDOW_ROWS", window_rows)
        patch.setattr(grouping, "FOLDER_ROWS", 1)
        windows = list(group_rows(_batches(found, batch_rows), rule, ECONOMY))
    expected = list(cut(found, rule))
    groups = [group for _, some in windows for group in some]
    assert [group.rows for group in groups] == list(map(len, expected))
    assert [row for table, _ in windows for row in table["key"].to_pylist()] == [row.key for row in found]
    assert all(table.num_rows == sum(group.rows for group in some) for table, some in windows)
    assert sum(count_lookups(table) for table, _ in windows) == sum(map(is_unknown, found))
    for group, members in zip(groups, expected, strict=True):
        _compare(group, members, rule)


@given(rows, rules)
@settings(max_examples=examples(50), deadline=None)
def test_the_archives_have_the_same_names(found: list[ObjectVersion], rule: PackingRule) -> None:
    named: list[Location] = []
    taken = 0
    for _, groups in group_rows(_batches(found, 7), rule, ECONOMY):
        for group in groups:
            named.append(archive_location(ARCHIVES, "docs", found[taken : taken + group.rows], rule, STORAGE))
            taken += group.rows
    assert taken == len(found)
    assert named == [archive_location(ARCHIVES, "docs", members, rule, STORAGE) for members in cut(found, rule)]


def test_a_folder_longer_than_the_first_search_ends_where_it_ends() -> None:
    names = [f"a/{n:05}" for n in range(4_000)] + [f"a/b/{n:05}" for n in range(10)] + ["a/c"]
    found = [ObjectVersion(0, key, size_bytes=1) for key in names]
    rule = PackingRule(members_max=5_000)
    assert [group.rows for _, some in group_rows(_batches(found, 500), rule, ECONOMY) for group in some] == [4_000, 11]
    assert list(map(len, cut(found, rule))) == [4_000, 11]


def _batches(found: list[ObjectVersion], batch_rows: int) -> Iterator[pa.RecordBatch]:
    """The rows as a sort yields them: times are numbers."""
    schema = manifest_schema()
    at = schema.get_field_index("last_modified")
    schema = schema.set(at, pa.field("last_modified", pa.int64()))
    for start in range(0, len(found), batch_rows):
        batch = version_batch(found[start : start + batch_rows])
        columns = [column.cast(field.type) for column, field in zip(batch.columns, schema, strict=True)]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _compare(group: Group, members: list[ObjectVersion], rule: PackingRule) -> None:
    assert group.unknown_sizes == sum(row.size_bytes is None and not row.is_delete_marker for row in members)
    assert (group.archive.part_bytes() is None) == (tar_size(members, rule).part_bytes() is None)
    if group.archive.part_bytes() is None:
        return  # nobody asks for the size of what is too big
    assert group.archive == tar_size(members, rule)
    assert group.size_bytes == sum(row.size_bytes or 0 for row in members)
    assert tuple(group.savings) == pytest.approx(tuple(weigh(members, ECONOMY, rule)), rel=1e-12, abs=1e-18)
