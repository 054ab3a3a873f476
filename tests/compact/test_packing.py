"""Groups: nothing lost, no more than asked for, the same from wherever one starts."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.compact import grouping
from jobs.compact.grouping import count_lookups, cut, group_rows, weigh
from jobs.compact.packing import (
    HEADER_BYTES,
    ArchiveStorage,
    PackingRule,
    TarSize,
    archive_location,
    common_folder,
    is_unknown,
    period,
    sort_key,
)
from jobs.compact.savings import Economy
from jobs.core.enums import ArchiveFormat
from jobs.core.model import Location, ObjectVersion
from jobs.core.pricing import own_prices
from jobs.tables.rows import manifest_schema, version_batch
from tests.doubles.examples import examples

MONTH = 31 * 86_400.0
STORAGE = ArchiveStorage("GLACIER")
ECONOMY = Economy.of(own_prices(), "GLACIER_IR", 400 * 86_400.0, 24.0)
rows = st.lists(
    st.builds(
        ObjectVersion,
        row=st.just(0),
        key=st.sampled_from(["a/1", "a/2", "a/3", "b/1", "b/c/1", "b/c/2", "top", "é/ü"]),
        size_bytes=st.none() | st.integers(0, 3000),
        last_modified=st.none() | st.sampled_from([0.0, MONTH, 2 * MONTH + 1]),
        etag=st.sampled_from(["e", "f", None]),
    ),
    max_size=40,
).map(lambda found: sorted(found, key=sort_key))
rules = st.builds(PackingRule, st.integers(1, 20_000), members_max=st.integers(1, 10))


def tar_size(found: list[ObjectVersion], rule: PackingRule | None = None) -> TarSize:
    return weigh(found, ECONOMY, rule or PackingRule()).archive


@given(rows, rules)
def test_groups_hold_every_row_once_in_order(found: list[ObjectVersion], rule: PackingRule) -> None:
    groups = list(cut(found, rule))
    assert [row for group in groups for row in group] == found
    assert all(groups)


@given(rows, rules)
def test_groups_keep_to_the_rule(found: list[ObjectVersion], rule: PackingRule) -> None:
    for group in cut(found, rule):
        assert len(group) <= rule.members_max
        assert len(group) == 1 or tar_size(group).size_bytes <= rule.target_bytes
        assert len({period(row.last_modified) for row in group}) == 1


@given(rows, rules)
def test_a_worker_that_starts_at_a_group_finds_the_same_groups(found: list[ObjectVersion], rule: PackingRule) -> None:
    groups = list(cut(found, rule))
    for start in range(len(groups)):
        rest = [row for group in groups[start:] for row in group]
        assert list(cut(rest, rule)) == groups[start:]


@given(rows, rules, st.integers(1, 30), st.integers(1, 30))
@settings(max_examples=examples(25), deadline=None)
def test_a_plan_that_reads_windows_finds_the_workers_groups(
    found: list[ObjectVersion], rule: PackingRule, window_rows: int, batch_rows: int
) -> None:
    expected = list(cut(found, rule))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grouping, "WINDOW_ROWS", window_rows)
        patch.setattr(grouping, "FOLDER_ROWS", 1)
        windows = list(group_rows(_batches(found, batch_rows), rule, ECONOMY))
        assert list(cut(found, rule)) == expected
    groups = [group for _, some in windows for group in some]
    assert [group.rows for group in groups] == list(map(len, expected))
    assert [row for table, _ in windows for row in table["key"].to_pylist()] == [row.key for row in found]
    assert all(table.num_rows == sum(group.rows for group in some) for table, some in windows)
    assert sum(count_lookups(table) for table, _ in windows) == sum(map(is_unknown, found))
    for group, members in zip(groups, expected, strict=True):
        assert group[:4] == weigh(members, ECONOMY, rule)[:4]
        assert group.unknown_sizes == sum(row.size_bytes is None and not row.is_delete_marker for row in members)
        assert group.size_bytes == sum(row.size_bytes or 0 for row in members)
        assert tuple(group.savings) == pytest.approx(tuple(weigh(members, ECONOMY, rule).savings))


def _batches(found: list[ObjectVersion], batch_rows: int) -> Iterator[pa.RecordBatch]:
    """The rows as a sort yields them: times are numbers."""
    place = manifest_schema().get_field_index("last_modified")
    for start in range(0, len(found), batch_rows):
        batch = version_batch(found[start : start + batch_rows])
        yield batch.set_column(place, "last_modified", batch["last_modified"].cast(pa.int64()))


def test_a_folder_longer_than_the_first_search_ends_where_it_ends() -> None:
    names = [f"a/{n:05}" for n in range(4_000)] + [f"a/b/{n:05}" for n in range(10)] + ["a/c"]
    found = [ObjectVersion(0, key, size_bytes=1) for key in names]
    assert list(map(len, cut(found, PackingRule(members_max=5_000)))) == [4_000, 11]


def test_a_folder_is_not_split_when_the_archive_is_half_full() -> None:
    found = [ObjectVersion(0, f"{folder}/{number}", size_bytes=1000) for folder in "abc" for number in range(4)]
    size_bytes = tar_size(found[:1]).size_bytes
    assert [len(group) for group in cut(found, PackingRule(7 * size_bytes))] == [4, 4, 4]
    assert [len(group) for group in cut(found, PackingRule(9 * size_bytes))] == [8, 4]


def test_an_archive_is_named_after_folder_month_and_content() -> None:
    found = [ObjectVersion(0, f"docs/2026/../{n}", size_bytes=1, etag="e", last_modified=0.0) for n in range(3)]
    rule = PackingRule(format=ArchiveFormat.TAR)
    here = archive_location(Location("cold", "packed"), "docs", found, rule, STORAGE)
    assert here.bucket == "cold"
    assert here.key.startswith("packed/docs/2026/%2E%2E/1970-01-")
    assert here.key.endswith(".tar")
    renumbered = [row._replace(row=7 + n) for n, row in enumerate(found)]
    assert archive_location(Location("cold", "packed"), "docs", renumbered, rule, STORAGE) == here
    tagged = PackingRule(format=rule.format, tags={"a": "b"})
    others = [
        archive_location(Location("cold", "packed"), "others", found, rule, STORAGE),
        archive_location(Location("cold", "packed"), "docs", found[:2], rule, STORAGE),
        archive_location(Location("cold", "packed"), "docs", [*found[:2], found[2]._replace(etag="f")], rule, STORAGE),
        archive_location(Location("cold", "packed"), "docs", found, tagged, STORAGE),
        archive_location(Location("cold", "packed"), "docs", found, rule, ArchiveStorage("DEEP_ARCHIVE")),
        archive_location(Location("cold", "packed"), "docs", found, rule, ArchiveStorage("GLACIER", "AES256")),
        archive_location(Location("cold", "packed"), "docs", found, rule, ArchiveStorage("GLACIER", "aws:kms", "k")),
    ]
    assert len({here, *others}) == 8


@pytest.mark.parametrize(("version_id", "is_same"), [(None, False), ("null", False), ("v", True)])
def test_content_that_was_written_again_has_an_archive_of_its_own(version_id: str | None, is_same: bool) -> None:
    """A version id names one write. Without one, other content may have been written in between."""
    row = ObjectVersion(0, "k", version_id, size_bytes=1, etag="e")
    places = [
        archive_location(Location("cold"), "docs", [row._replace(last_modified=at)], PackingRule(), STORAGE)
        for at in (1.0, 1.9, 2.0)  # HEAD dates by seconds
    ]
    assert (places[0] == places[1], places[1] == places[2]) == (True, is_same)


@given(rows)
def test_the_common_folder_is_one_of_every_key(found: list[ObjectVersion]) -> None:
    if not found:
        return
    folder = common_folder(found)
    assert all(row.key.startswith(folder) for row in found)
    assert folder == "" or folder.endswith("/")


MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40


def upload_parts(sizes: list[int], part_bytes: int) -> int:
    """How many parts an upload becomes, played as `ObjectUpload` and `ArchiveWriter.add_copy` do it."""
    parts = pending = 0
    for size in sizes:
        pending += HEADER_BYTES
        if size < 64 * MIB:
            pending += size + -size % 512
            size = 0
        while pending > part_bytes:
            parts, pending = parts + 1, pending - part_bytes
        if size:
            filling = max(0, 5 * MIB - pending)
            parts, pending = parts + 1, 0
            left = size - filling
            parts += -(-left // (GIB if size <= 1000 * GIB else 5 * GIB))
            pending += -size % 512
    return parts + -(-pending // part_bytes)


@settings(max_examples=examples(10), deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([1, 4096, MIB, 63 * MIB, 64 * MIB, 65 * MIB, 3 * GIB, 1001 * GIB, 20 * TIB]),
            st.sampled_from([1, 7, 400]),
        ),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from([GIB, 300 * GIB, 5 * TIB, 48 * TIB]),
)
def test_no_plain_tar_takes_more_parts_than_s3(runs: list[tuple[int, int]], target_bytes: int) -> None:
    found = [
        ObjectVersion(0, f"k{n}-{i:04}", size_bytes=size) for n, (size, count) in enumerate(runs) for i in range(count)
    ]
    rule = PackingRule(target_bytes, ArchiveFormat.TAR)
    for group in cut(found, rule):
        size = tar_size(group, rule)
        part_bytes = size.part_bytes()
        if part_bytes is None:
            assert len(group) == 1
            continue
        assert part_bytes <= 5 * GIB
        assert upload_parts([row.size_bytes or 0 for row in group], part_bytes) <= size.parts <= 10_000
        assert size.part_bytes(is_streamed=True) is not None


def test_a_member_that_needs_too_many_parts_is_too_big_for_an_archive() -> None:
    rule = PackingRule(format=ArchiveFormat.TAR)
    assert tar_size([ObjectVersion(0, "k", size_bytes=48 * TIB)], rule).part_bytes() is not None
    assert tar_size([ObjectVersion(0, "k", size_bytes=50 * TIB)], rule).part_bytes() is None
