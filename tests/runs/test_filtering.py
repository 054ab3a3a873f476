"""Filters: which of them drops a row, and what none may drop."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.core.selection import Selection
from tests.doubles.selecting import filter_of

NOW = 1_790_000_000.0
DOCUMENT, TRIAL = (f".sealift/{kind}-0123456789abcdef0123456789abcdef" for kind in ("place", "trial"))
FILTERED: list[tuple[Selection, dict[str, Any], str | None]] = [
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
    (Selection(prefix="a", exclude=("*",), max_size_bytes=5), {"key": "b", "size_bytes": 9}, "prefix"),
    (Selection(prefix="a", exclude=("*",), max_size_bytes=5), {"key": "a", "size_bytes": 9}, "exclude"),
    (Selection(), {}, None),
    (Selection(prefix="a/"), {"key": "a/b"}, None),
    (Selection(include=("*.pdf", "*.txt")), {"key": "a.txt"}, None),
    (Selection(versions="all"), {"is_latest": False}, None),
    (Selection(versions="all"), {"is_delete_marker": True}, None),
    (Selection(), {"key": f"a{DOCUMENT}.json"}, None),  # a user's own
    (Selection(), {"key": f"{DOCUMENT}.json/part"}, None),
    (Selection(), {"key": DOCUMENT[:-1]}, None),
    (Selection(), {"key": DOCUMENT.upper()}, None),
    (Selection(), {"key": ".sealift/place-names.txt"}, None),
    (Selection(max_size_bytes=10), {"size_bytes": 10}, None),
    (Selection(max_size_bytes=0), {"size_bytes": None}, None),
    (Selection(newer_than=NOW, older_than=NOW), {"last_modified": None}, None),
    (Selection(newer_than=NOW), {"last_modified": NOW + 1}, None),
    (Selection(older_than=NOW), {"last_modified": NOW - 1}, None),
]


@pytest.mark.parametrize(("selection", "row", "name"), FILTERED)
def test_the_first_filter_that_drops_a_row_is_named(selection, row, name):
    assert filter_of(selection, **{"key": "k"} | row) == name
