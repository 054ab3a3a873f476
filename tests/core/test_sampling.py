"""Samples that add up to everything, exactly once."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.core.sampling import AGE_SECONDS, Rota, Sample, next_number, parse_fraction
from jobs.errors import UsageError
from tests.runs.key_shards import shards_of


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
    assert Sample.from_list([3, 30]) == Sample(3, 30)


@pytest.mark.parametrize(("text", "slices"), [("1/1", 1), ("1/30", 30), ("1/999999", 999_999)])
def test_a_fraction_says_how_many_slices_there_are(text: str, slices: int) -> None:
    assert parse_fraction(text) == slices


DAY = 86_400.0
ROTA = Rota({"deep": True}, {"newer": 10 * DAY}, 40 * DAY)


@pytest.mark.parametrize(
    ("other", "is_one", "why"),
    [
        (ROTA, True, "the same"),
        (ROTA._replace(asked_at=41 * DAY), True, "the same moment, asked a day later"),
        (Rota({"deep": True}, {"newer": 11 * DAY}, 41 * DAY), True, "the same age, asked a day later"),
        (Rota({"deep": True}, {"newer": 11 * DAY + AGE_SECONDS - 1}, 41 * DAY), True, "nearly the same age"),
        (Rota({"deep": True}, {"newer": 11 * DAY + AGE_SECONDS}, 41 * DAY), False, "another age"),
        (Rota({"deep": True}, {"newer": 11 * DAY - AGE_SECONDS}, 41 * DAY), False, "another age"),
        (ROTA._replace(question={"deep": False}), False, "another depth"),
        (ROTA._replace(times={"older": 10 * DAY}), False, "another filter"),
        (ROTA._replace(times={}), False, "no filter"),
        (ROTA._replace(times={"newer": 10 * DAY, "older": 1.0}), False, "one filter more"),
    ],
)
def test_the_same_question_at_another_time_is_one_rota(other: Rota, is_one: bool, why: str) -> None:
    assert ROTA.continues(other) is is_one, why
    assert other.continues(ROTA) is is_one, why


def test_of_several_times_each_has_to_be_the_same() -> None:
    both = Rota({}, {"newer": 10 * DAY, "older": 20 * DAY}, 40 * DAY)
    assert not both.continues(both._replace(times={"newer": 10 * DAY, "older": 25 * DAY}))
    assert not both.continues(both._replace(times={"newer": 15 * DAY, "older": 20 * DAY}))


@pytest.mark.parametrize("text", ["", "30", "2/30", "1/0", "1/x", "1/30 ", "1/-3", "1/1000000", "1/٣"])
def test_a_malformed_fraction_says_how_to_write_it(text: str) -> None:
    with pytest.raises(UsageError, match="1/30"):
        parse_fraction(text)
