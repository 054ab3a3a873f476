"""Samples that add up to everything, exactly once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.core.sampling import Sample, next_number, parse_fraction
from jobs.errors import UsageError


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 60))
def test_each_key_is_in_exactly_one_slice(key: str, of: int) -> None:
    assert sum(Sample(number, of).contains(key) for number in range(of)) == 1


@given(st.integers(1, 60), st.integers(0, 1000))
def test_any_n_runs_in_a_row_take_every_slice_once(of: int, start: int) -> None:
    assert sorted(next_number(run, of) for run in range(start, start + of)) == list(range(of))


def test_slices_are_about_equal() -> None:
    keys = [f"orders/2026/{number:07d}.json" for number in range(30_000)]
    sizes = [sum(Sample(number, 30).contains(key) for key in keys) for number in range(3)]
    assert all(800 < size < 1200 for size in sizes)


@pytest.mark.parametrize("text", ["", "30", "2/30", "1/0", "1/x", "1/30 ", "1/-3"])
def test_a_malformed_fraction_says_how_to_write_it(text: str) -> None:
    with pytest.raises(UsageError, match="1/30"):
        parse_fraction(text)
