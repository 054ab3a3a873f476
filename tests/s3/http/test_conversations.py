"""No answer goes to another request, whatever bytes a server sends on a kept connection."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.doubles.examples import examples
from tests.s3.http.conversations import FRAGMENTS, REQUESTS_MAX, Request, Step, When, play

WHOLE, EMPTY, HEAD, INTERIM = FRAGMENTS[0], FRAGMENTS[1], FRAGMENTS[2], FRAGMENTS[7]
BYTES = st.lists(
    st.sampled_from(FRAGMENTS) | st.binary(max_size=40).map(lambda data: data.replace(b"<", b"{")), max_size=3
).map(b"".join)
FIRST = st.tuples(BYTES, st.sampled_from([b"", WHOLE])).map(lambda each: Step(When.NOW, b"".join(each)))
MORE = st.lists(st.builds(Step, st.sampled_from(When), BYTES), max_size=3)
REQUESTS = st.tuples(st.booleans(), st.tuples(FIRST, MORE).map(lambda each: [each[0], *each[1]]))
"""A request, its answer, and what else comes."""


def test_a_conversation_is_answered() -> None:
    steps = [(False, [WHOLE]), (True, [HEAD]), (False, [INTERIM + WHOLE]), (True, [INTERIM, EMPTY])]
    requests: list[Request] = [(is_head, [Step(When.NOW, data) for data in sent]) for is_head, sent in steps]
    assert play(requests) == ["answered"] * 4


@settings(max_examples=examples(400), deadline=None)
@given(st.lists(REQUESTS, max_size=REQUESTS_MAX))
def test_an_answer_goes_to_its_request(requests: list[Request]) -> None:
    play(requests)


@pytest.mark.parametrize("is_head", [False, True])
@pytest.mark.parametrize("when", [None, When.NOW, When.LATE, When.WAITING])
def test_a_second_answer_goes_to_nobody(when: When | None, is_head: bool) -> None:
    first = EMPTY if is_head else WHOLE
    steps = [Step(When.NOW, first), Step(when, first)] if when else [Step(When.NOW, first + first)]
    assert play([(is_head, steps), (is_head, [Step(When.NOW, first)])]) == ["answered"] * 2
