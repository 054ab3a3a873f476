from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.runs.sharding import MAX_SHARDS, Shards

TIB = 1024**4
NOWHERE: Any = None


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
    assert Shards(NOWHERE, Path(), processes=processes).number(rows, size_bytes) == expected


@given(st.integers(0, 10**12), st.integers(0, 10**18), st.integers(1, 512), st.integers(1, 10**6))
def test_the_number_of_shards_stays_in_its_limits(rows, size_bytes, processes, rows_per_shard):
    count = Shards(NOWHERE, Path(), rows_per_shard, processes).number(rows, size_bytes)
    assert 0 <= count <= min(MAX_SHARDS, rows)
    assert (count == 0) == (rows == 0)
    assert count * rows_per_shard >= rows or count == MAX_SHARDS
