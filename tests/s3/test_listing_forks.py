"""The fork that is found behind a key splits what is left exactly, whatever the keys."""

from __future__ import annotations

import asyncio
from bisect import bisect_right

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobs.s3.listing_forks import Fork, find_fork, is_ordered

KEYS = st.sets(st.text(alphabet="a/0-é\U00010000", min_size=1, max_size=12), min_size=1, max_size=40)
ORDERS = {"bytes": lambda key: key, "tree": lambda key: key.replace("/", "\0")}


def explore(keys, last, within, order):
    """Answer find_fork as a server with these keys in this order does; returns the fork and the questions."""
    ordered = sorted((key for key in keys if key.startswith(within)), key=order)
    ranks = [order(key) for key in ordered]
    asked = []

    async def first_key(place):
        asked.append(place)
        at = bisect_right(ranks, order(place))
        return ordered[at] if at < len(ordered) else None

    return asyncio.run(find_fork(last, within, first_key)), asked


@given(keys=KEYS, data=st.data())
@example(keys={"a"}, data=None)
def test_a_fork_costs_few_questions(keys, data):
    last = sorted(keys)[0] if data is None else data.draw(st.sampled_from(sorted(keys)))
    _, asked = explore(keys, last, "", ORDERS["bytes"])
    assert len(asked) <= len(last).bit_length()


@pytest.mark.parametrize("keys", [["b", "a"], ["a/1", "a-b", "a", "b"], ["é/1", "a", "a!x/3", "a b"]])
def test_other_orders_are_none(keys):
    assert not is_ordered(keys)


def test_a_counter_forks_at_its_first_digit_that_still_changes():
    keys = [f"a/{number:06d}" for number in range(1, 2001)]
    assert explore(keys, "a/001000", "", ORDERS["bytes"])[0] == Fork("a/00", "a/001", "a/002000")


def test_no_question_is_longer_than_a_key_may_be():
    last = "k" * 1024
    _, asked = explore({last, "z"}, last, "", ORDERS["bytes"])
    assert asked
    assert all(len(place.encode()) <= 1024 for place in asked)


async def test_answers_that_contradict_each_other_split_nothing():
    async def first_key(place):
        return "abcdz"  # begins with what it was said to lie behind

    assert await find_fork("abcd", "", first_key) is None
