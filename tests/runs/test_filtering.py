"""Filters: which of them drops a row, and what none may drop."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.core.sampling import Sample
from jobs.core.selection import Selection
from tests.doubles.selecting import filter_of

NOW = 1_790_000_000.0
DOCUMENT, TRIAL = (f".sealift/{kind}-0123456789abcdef0123456789abcdef" for kind in ("place", "trial"))
DROPPED = [
    (Selection(prefix="a/"), {"key": "b/a/"}, "prefix"),
    (Selection(include=("*.pdf", "*.txt")), {"key": "a.doc"}, "include"),
    (Selection(exclude=("tmp/*",)), {"key": "tmp/a"}, "exclude"),
    (Selection(), {"is_latest": False}, "noncurrent"),
    (Selection(), {"is_delete_marker": True}, "delete_marker"),
    (Selection(), {"key": f"{DOCUMENT}.json"}, "sealift_object"),
    (Selection(include=("a",)), {"key": f"a\n/{DOCUMENT}\n"}, "sealift_object"),
    (Selection(versions="all"), {"is_delete_marker": True, "key": f"a/{TRIAL}"}, "sealift_object"),
    (Selection(max_size_bytes=10), {"size_bytes": 11}, "max_size"),
    (Selection(newer_than=NOW), {"last_modified": NOW}, "newer_than"),
    (Selection(older_than=NOW), {"last_modified": NOW}, "older_than"),
]
TAKEN = [
    (Selection(), {}),
    (Selection(prefix="a/"), {"key": "a/b"}),
    (Selection(include=("*.pdf", "*.txt")), {"key": "a.txt"}),
    (Selection(versions="all"), {"is_latest": False}),
    (Selection(versions="all"), {"is_delete_marker": True}),
    (Selection(), {"key": f"a{DOCUMENT}.json"}),  # a user's own
    (Selection(), {"key": f"{DOCUMENT}.json/part"}),
    (Selection(), {"key": DOCUMENT[:-1]}),
    (Selection(), {"key": DOCUMENT.upper()}),
    (Selection(), {"key": ".sealift/place-names.txt"}),
    (Selection(max_size_bytes=10), {"size_bytes": 10}),
    (Selection(max_size_bytes=0), {"size_bytes": None}),
    (Selection(newer_than=NOW, older_than=NOW), {"last_modified": None}),
    (Selection(newer_than=NOW), {"last_modified": NOW + 1}),
    (Selection(older_than=NOW), {"last_modified": NOW - 1}),
]


@pytest.mark.parametrize(("selection", "row", "name"), DROPPED)
def test_each_filter_drops_and_is_named(selection, row, name):
    assert filter_of(selection, **{"key": "k"} | row) == name


@pytest.mark.parametrize(("selection", "row"), TAKEN)
def test_what_a_filter_must_not_drop(selection, row):
    assert filter_of(selection, **{"key": "k"} | row) is None


def test_the_first_filter_in_order_is_the_one_that_counts():
    selection = Selection(prefix="a", exclude=("*",), max_size_bytes=5)
    assert filter_of(selection, "b", size_bytes=9) == "prefix"
    assert filter_of(selection, "a", size_bytes=9) == "exclude"


@given(st.text(max_size=20), st.integers(1, 5))
def test_a_sample_takes_each_key_in_exactly_one_slice(key, of):
    takers = [n for n in range(of) if filter_of(Selection(sample=(n, of)), key) is None]
    assert takers == [n for n in range(of) if Sample(n, of).contains(key)]
    assert len(takers) == 1
