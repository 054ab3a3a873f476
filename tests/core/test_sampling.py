"""Samples that add up to everything, exactly once."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.core.sampling import Sample
from jobs.errors import UsageError
from tests.runs.key_shards import shards_of


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 60))
def test_each_key_is_in_exactly_one_slice(key: str, of: int) -> None:
    assert sum(Sample(number, of).contains(key) for number in range(of)) == 1


def test_slices_are_about_equal() -> None:
    keys = [f"orders/2026/{number:07d}.json" for number in range(30_000)]
    sizes = [sum(Sample(number, 30).contains(key) for key in keys) for number in range(3)]
    assert all(800 < size < 1200 for size in sizes)


@pytest.mark.parametrize(("of", "shards"), [(30, 10), (10, 30), (7, 7), (16, 64), (4, 2)])
@pytest.mark.parametrize("form", ["orders/2026/{:07d}.json", "{:d}", "a/{:x}/b", "{:020d}"])
def test_a_slice_has_its_share_of_each_shard(form: str, of: int, shards: int) -> None:
    """Two hashes of one CRC put a slice of 1/30 on one or five of ten shards."""
    keys = [form.format(number) for number in range(20_000)]
    for number in (0, of - 1):
        loads = Counter(shards_of([key for key in keys if Sample(number, of).contains(key)], shards))
        mean = len(keys) / of / shards
        assert all(abs(loads[shard] - mean) < 6 * mean**0.5 for shard in range(shards)), loads


def test_a_key_keeps_its_slice_from_one_release_to_the_next() -> None:
    """A run of 1/30 each day covers everything only if all thirty agree about the slices."""
    slices = {key: next(n for n in range(30) if Sample(n, 30).contains(key)) for key in ("", "a", "docs/é.txt")}
    assert slices == {"": 24, "a": 19, "docs/é.txt": 27}


@pytest.mark.parametrize(
    ("text", "number", "of"), [("1/1", 0, 1), ("1/30", 0, 30), ("999999/999999", 999_998, 999_999)]
)
def test_a_sample_is_written_as_its_number_and_how_many_there_are(text: str, number: int, of: int) -> None:
    assert Sample.parse(text) == Sample(number, of)


@pytest.mark.parametrize("text", ["", "30", "31/30", "0/30", "1/0", "1/x", "1/30 ", "1/-3", "1/1000000", "1/٣"])
def test_a_malformed_sample_says_how_to_write_it(text: str) -> None:
    with pytest.raises(UsageError, match="1/30"):
        Sample.parse(text)
