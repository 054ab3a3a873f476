from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.runs.sharding import MAX_SHARDS, count_shards, pack
from tests.runs.key_shards import shards_of

TIB = 1024**4


@pytest.mark.parametrize(
    ("rows", "size_bytes", "processes", "expected"),
    [
        (0, 0, 8, 0),
        (1, 0, 8, 1),
        (1_999, 0, 8, 1),
        (2_000, 0, 8, 8),
        (100_000, 0, 1, 1),
        (100_001, 0, 1, 2),
        (1_000_000, 0, 2, 10),
        (10**10, 0, 2, 10_000),
        (3, 500 * TIB, 2, 3),  # never more shards than rows
        (1_000, 500 * TIB, 2, 500),
        (8, 2 * 1024**3, 2, 2),  # few but large
    ],
)
def test_the_number_of_shards(rows, size_bytes, processes, expected):
    assert count_shards(rows, size_bytes, processes=processes) == expected


@given(st.integers(0, 10**12), st.integers(0, 10**18), st.integers(1, 512), st.integers(1, 10**6))
def test_the_number_of_shards_stays_in_its_limits(rows, size_bytes, processes, rows_per_shard):
    count = count_shards(rows, size_bytes, processes=processes, rows_per_shard=rows_per_shard)
    assert 0 <= count <= min(MAX_SHARDS, rows)
    assert (count == 0) == (rows == 0)
    assert count * rows_per_shard >= rows or count == MAX_SHARDS


def test_hashing_spreads_keys_of_one_prefix():
    keys = [f"2026/11/25/{number:08d}.pdf" for number in range(8_000)]
    counts = Counter(shards_of(keys, 8))
    assert set(counts) == set(range(8))
    assert max(counts.values()) < 1_100


sizes = st.lists(st.integers(0, 10**13), max_size=60).map(lambda all_: sorted(all_, reverse=True))


@given(sizes, st.integers(1, 12))
def test_packing_is_within_four_thirds_of_any_packing(sizes_bytes, count):
    shards = list(pack(sizes_bytes, [0] * count))
    assert len(shards) == len(sizes_bytes)
    loads = [0] * count
    for shard, size in zip(shards, sizes_bytes, strict=True):
        loads[shard] += size
    # No packing beats these: the mean, the largest, and two of the count + 1 largest share a shard.
    best = max(
        sum(sizes_bytes) / count,
        max(sizes_bytes, default=0),
        sum(sizes_bytes[count - 1 : count + 1]) * (len(sizes_bytes) > count),
    )
    assert max(loads) <= best + (sizes_bytes[count] if len(sizes_bytes) > count else 0)
    assert max(loads) <= 2 * best


def test_packing_fills_the_emptiest_shard_first():
    assert list(pack([10, 6, 5, 4], [0, 0])) == [0, 1, 1, 0]
    assert list(pack([5, 5, 1], [100, 0])) == [1, 1, 1]
