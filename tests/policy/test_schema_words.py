"""The schema and the reader take the same words."""

from __future__ import annotations

import copy
import json

import jsonschema
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobs.errors import PolicyError
from jobs.policy import words
from jobs.policy.reader import parse_policy
from jobs.policy.words import Count, Dollars, Word
from tests.doubles.examples import examples
from tests.policy.schema import FILE, as_text, make_schema, word_schema
from tests.policy.test_reader import EXAMPLE, PLACES, VALUES
from tests.policy.test_reader import example as example_document

KINDS = [
    each for each in vars(words).values() if isinstance(each, type) and issubclass(each, Word) and each is not Word
]
SCHEMA = jsonschema.Draft202012Validator(make_schema())
NEAR = st.sampled_from(["", " ", "\n", "\r", "٣", "१", "0", "00", ".5", "-", "é", "/", "$", "%", "B", "d", "\u2028"])
TEXTS = st.sampled_from([each.pattern for each in KINDS if each.pattern]).flatmap(st.from_regex)
VALUES_NEAR = st.one_of(
    TEXTS,
    st.builds(lambda text, place, near: text[:place] + near + text[place:], TEXTS, st.integers(0, 20), NEAR),
    st.integers(-2, 10**13),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-2, 10**13).map(float),
    st.booleans(),
    st.none(),
    st.text(max_size=6),
)


def is_word(kind: type[Word], value: object) -> bool:
    try:
        kind.parse(value)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(max_examples=examples(25), deadline=None)
@given(value=VALUES_NEAR)
@example(value="30d\n")
@example(value="٣d")
@example(value="1/१0")
@example(value="$0.00")
@example(value=5.0)
@example(value=10.0**9)
def test_a_word_is_one_to_the_schema_and_to_the_reader(kind: type[Word], value: object) -> None:
    """Digits of other scripts, a last line break, `$0` and 5.0 were taken by one of them only."""
    assert jsonschema.Draft202012Validator(word_schema(kind)).is_valid(value) == is_word(kind, value)


@settings(max_examples=examples(25), deadline=None)
@given(st.sampled_from(PLACES), VALUES)
def test_what_the_reader_takes_the_schema_takes(steps: tuple[str | int, ...], value: object) -> None:
    document = copy.deepcopy(example_document())
    here = document
    for step in steps[:-1]:
        here = here[step]  # type: ignore[index]
    here[steps[-1]] = value  # type: ignore[index]
    try:
        text = json.dumps(document, allow_nan=False)
        parse_policy(text.encode("utf-8", "replace"), str(EXAMPLE))
    except (PolicyError, ValueError):
        return
    assert SCHEMA.is_valid(json.loads(text))


def test_whole_numbers_are_numbers_without_a_fraction() -> None:
    assert (int(Count.parse(5.0)), float(Dollars.parse(5))) == (5, 5.0)


def test_the_schema_in_the_documents_is_the_models() -> None:
    assert FILE.read_text("utf-8") == as_text(), "python -m tests.policy.schema > docs/policy.schema.json"
