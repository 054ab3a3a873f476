"""Aligning two histories of one key."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from jobs.core.histories import align, first_missing

histories = st.lists(st.sampled_from("abc"), max_size=6)


def equal(one: str, other: str) -> bool:
    return one == other


@given(histories, histories)
def test_matches_are_equal_and_in_order(source: list[str], destination: list[str]) -> None:
    found = [(s, d) for s, d in enumerate(align(source, destination, equal)) if d is not None]
    assert all(source[s] == destination[d] for s, d in found)
    assert all(one[1] < other[1] for one, other in itertools.pairwise(found))


@given(histories, st.lists(st.sampled_from("xyz"), max_size=3), st.integers(0, 6))
def test_a_history_reproduced_so_far_resumes_right_there(source: list[str], noise: list[str], done: int) -> None:
    reproduced = [*noise, *source[:done]]
    assert first_missing(align(source, reproduced, equal)) >= min(done, len(source))


def longest_common(source: list[str], destination: list[str]) -> int:
    some = (each for count in range(len(source), 0, -1) for each in itertools.combinations(source, count))
    return next((len(each) for each in some if is_within(each, destination)), 0)


def is_within(some: tuple[str, ...], whole: list[str]) -> bool:
    rest = iter(whole)
    return all(each in rest for each in some)


@given(histories, histories)
def test_as_many_are_found_as_can_be(source: list[str], destination: list[str]) -> None:
    found = [at for at in align(source, destination, equal) if at is not None]
    assert len(found) == longest_common(source, destination)


@given(histories)
def test_a_whole_history_is_found_whole(source: list[str]) -> None:
    assert align(source, source, equal) == list(range(len(source)))


def test_nothing_is_put_beneath_what_is_there() -> None:
    alignment = align("abc", "ac", equal)
    assert alignment == [0, None, 1]
    assert first_missing(alignment) == 3


def test_a_later_marker_is_not_taken_for_an_earlier_one_where_what_lies_beneath_it_says_more() -> None:
    assert align("MabM", "bM", equal) == [None, None, 0, 1]
    assert align("aba", "a", equal) == [0, None, None]  # what cannot be told apart is the earliest
