"""Groups: nothing lost, no more than asked for; and how an archive is named."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from jobs.compact.packing import CompactOptions, PackingRule, archive_location, common_folder, tar_bytes
from jobs.core.enums import ArchiveFormat
from jobs.core.model import Location, ObjectVersion
from tests.compact.samples import grouped

MONTH = 31 * 86_400.0
rows = st.lists(
    st.builds(
        ObjectVersion,
        row=st.just(0),
        key=st.sampled_from(["a/1", "a/2", "a/3", "b/1", "b/c/1", "b/c/2", "top", "é/ü"]),
        size_bytes=st.integers(0, 3000),
        last_modified=st.sampled_from([-1.0, 0.0, MONTH, 2 * MONTH + 1]),
        etag=st.sampled_from(["e", "f"]),
    ),
    min_size=1,
    max_size=40,
)
rules = st.builds(PackingRule, st.integers(1, 20_000), members_max=st.integers(1, 10))


def cut(found: list[ObjectVersion], rule: PackingRule) -> list[list[ObjectVersion]]:
    numbered, _ = grouped(found, rule)
    return [list(group) for _, group in itertools.groupby(numbered, key=lambda row: row.archive)]


@given(rows, rules)
def test_groups_hold_every_row_once_and_keep_to_the_rule(found: list[ObjectVersion], rule: PackingRule) -> None:
    numbered, groups = grouped(found, rule)
    cuts = cut(found, rule)
    assert len(numbered) == len(found)
    assert [each.rows for each in groups] == list(map(len, cuts))
    for group, added in zip(cuts, groups, strict=True):
        assert len(group) <= rule.members_max
        assert added.size_bytes == sum(row.size_bytes or 0 for row in group)
        assert added.archive_bytes == sum(tar_bytes(row.size_bytes or 0) for row in group)
        assert len(group) == 1 or added.archive_bytes <= rule.target_bytes
        assert len({time.gmtime(row.last_modified)[:2] for row in group}) == 1
        assert sum(count for count, _ in added.classes.values()) == len(group)


def test_a_folder_is_not_split_when_the_archive_is_half_full() -> None:
    found = [
        ObjectVersion(0, f"{folder}/{number}", size_bytes=1000, last_modified=0.0)
        for folder in "abc"
        for number in range(4)
    ]
    assert [len(group) for group in cut(found, PackingRule(7 * tar_bytes(1000)))] == [4, 4, 4]
    assert [len(group) for group in cut(found, PackingRule(9 * tar_bytes(1000)))] == [8, 4]


def test_an_archive_is_named_after_folder_month_and_content() -> None:
    found = [ObjectVersion(0, f"docs/2026/../{n}", size_bytes=1, etag="e", last_modified=0.0) for n in range(3)]
    options = CompactOptions(PackingRule(format=ArchiveFormat.TAR), "GLACIER")

    def named(found: list[ObjectVersion], bucket: str = "docs", **changed: Any) -> Location:
        return archive_location(Location("cold", "packed"), bucket, found, replace(options, **changed))

    here = named(found)
    assert here.bucket == "cold"
    assert here.key.startswith("packed/docs/2026/%2E%2E/1970-01-")
    assert here.key.endswith(".tar")
    assert named([row._replace(row=7 + n) for n, row in enumerate(found)]) == here
    others = [
        named(found, "others"),
        named(found[:2]),
        named([*found[:2], found[2]._replace(etag="f")]),
        named(found, rule=replace(options.rule, tags={"a": "b"})),
        named(found, storage_class="DEEP_ARCHIVE"),
        named(found, sse="aws:kms", kms_key_id="k"),
    ]
    assert len({here, *others}) == 7


@pytest.mark.parametrize(("version_id", "is_same"), [(None, False), ("null", False), ("v", True)])
def test_content_that_was_written_again_has_an_archive_of_its_own(version_id: str | None, is_same: bool) -> None:
    """A version id names one write. Without one, other content may have been written in between."""
    row = ObjectVersion(0, "k", version_id, size_bytes=1, etag="e")
    places = [
        archive_location(Location("cold"), "docs", [row._replace(last_modified=at)], CompactOptions(PackingRule()))
        for at in (1.0, 1.9, 2.0)  # HEAD dates by seconds
    ]
    assert (places[0] == places[1], places[1] == places[2]) == (True, is_same)


@given(rows)
def test_the_common_folder_is_one_of_every_key(found: list[ObjectVersion]) -> None:
    folder = common_folder(found)
    assert all(row.key.startswith(folder) for row in found)
    assert folder == "" or folder.endswith("/")
