from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.core.part_sizes import (
    MAX_OBJECT_BYTES,
    MAX_PART_BYTES,
    MAX_PARTS,
    MIN_PART_BYTES,
    choose_part_size,
    count_parts,
    part_ranges,
)

MIB, GIB, TIB = 1024**2, 1024**3, 1024**4


@given(st.integers(0, MAX_OBJECT_BYTES), st.integers(1, 2 * MAX_PART_BYTES))
def test_every_object_that_s3_takes_gets_parts_that_s3_takes(size_bytes, preferred_bytes):
    part_size = choose_part_size(size_bytes, preferred_bytes)
    assert MIN_PART_BYTES <= part_size <= MAX_PART_BYTES
    assert 1 <= count_parts(size_bytes, part_size) <= MAX_PARTS


@given(st.integers(0, 10**6), st.integers(101, 10**6))
def test_the_ranges_tile_the_object(size_bytes, part_size_bytes):
    """An empty one is one empty part."""
    ranges = list(part_ranges(size_bytes, part_size_bytes))
    assert [number for number, _, _ in ranges] == list(range(1, count_parts(size_bytes, part_size_bytes) + 1))
    assert (ranges[0][1], ranges[-1][2]) == (0, size_bytes)
    assert all(end - start == part_size_bytes and end == after for (_, start, end), (_, after, _) in pairwise(ranges))
    assert 0 <= ranges[-1][2] - ranges[-1][1] <= part_size_bytes


@pytest.mark.parametrize(
    ("size_bytes", "preferred_bytes", "expected"),
    [
        (0, 64 * MIB, 64 * MIB),
        (100 * GIB, 8 * MIB, 10_737_419),  # 8 MiB would take 12,800 parts
        (50 * GIB, 1, 5_368_710),
        (1 * GIB, 1, 5 * MIB),
        (1 * GIB, 6 * GIB, 5 * GIB),
        (5 * TIB, 64 * MIB, 549_755_814),
        (MAX_OBJECT_BYTES, 64 * MIB, 5 * GIB),
    ],
)
def test_the_preferred_size_gives_way_to_the_limits(size_bytes, preferred_bytes, expected):
    assert choose_part_size(size_bytes, preferred_bytes) == expected


def test_the_largest_object_is_48_8_tib_and_no_more():
    assert round(MAX_OBJECT_BYTES / TIB, 1) == 48.8
    with pytest.raises(ValueError, match="S3 takes"):
        choose_part_size(MAX_OBJECT_BYTES + 1, 64 * MIB)
