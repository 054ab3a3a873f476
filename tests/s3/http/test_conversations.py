"""No answer goes to another request, whatever bytes a server sends on a kept connection."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.doubles.examples import examples
from tests.s3.http.conversations import CUT, END, FRAGMENTS, HEAD, LATE, LITERAL, NEXT, WAITING, play

WHOLE, INTERIM = bytes([0]), bytes([7])
STEPS = st.one_of(
    st.integers(0, len(FRAGMENTS) - 1).map(lambda number: bytes([number])),
    st.sampled_from([bytes([each]) for each in (HEAD, NEXT, NEXT, CUT, LATE, WAITING, END)]),
    st.binary(max_size=40).map(lambda data: bytes([LITERAL + len(data)]) + data),
)


def test_a_conversation_is_answered() -> None:
    head = bytes([HEAD, 2])
    assert play(bytes([NEXT]).join([WHOLE, head, INTERIM + WHOLE, bytes([HEAD, 7, CUT, 1])])) == ["answered"] * 4


MARKS = st.sampled_from([b"", bytes([CUT]), bytes([LATE]), bytes([WAITING]), bytes([END])])
REQUESTS = st.tuples(
    st.sampled_from([b"", bytes([HEAD])]), st.lists(STEPS, max_size=3).map(b"".join), st.sampled_from([b"", WHOLE]),
    MARKS, st.lists(STEPS, max_size=3).map(b"".join),
).map(b"".join)  # fmt: skip
"""A request, its answer, and what else comes."""


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(REQUESTS, max_size=6).map(bytes([NEXT]).join))
def test_an_answer_goes_to_its_request(program: bytes) -> None:
    play(program)


@pytest.mark.parametrize("is_head", [False, True])
@pytest.mark.parametrize("when", [b"", bytes([CUT]), bytes([LATE]), bytes([WAITING])])
def test_a_second_answer_goes_to_nobody(when: bytes, is_head: bool) -> None:
    first = bytes([HEAD, 1]) if is_head else WHOLE
    assert play(first + when + first[-1:] + bytes([NEXT]) + first) == ["answered"] * 2


@settings(max_examples=examples(200), deadline=None)
@given(st.binary(max_size=200))
def test_an_answer_goes_to_its_request_whatever_the_bytes(program: bytes) -> None:
    play(program)
