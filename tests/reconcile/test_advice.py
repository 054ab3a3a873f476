"""What a reconciliation tells people to do with what it left, in the right number."""

from __future__ import annotations

import pytest

from jobs.core.category import Category
from jobs.core.model import Location
from jobs.reconcile.advice import are_disjoint, disjoint_step, findings_by_category, forgotten_prefix, next_steps
from jobs.reports.document import is_compared

COMMANDS = "sealift reconcile --repair", "sealift reconcile --repair --repair-different"


def test_unverifiable_rows_are_failed_replications_only_where_the_inventory_says_so() -> None:
    """An encrypted object cannot be compared, and S3 reports nothing wrong with it."""
    unverifiable: dict[str, tuple[int, int]] = {Category.UNVERIFIABLE: (3, 30), Category.SAME: (5, 50)}
    assert next_steps(findings_by_category(unverifiable, 0), *COMMANDS) == []
    [step] = next_steps(findings_by_category(unverifiable, 2), *COMMANDS)
    assert "replication failed" in step
    missing = unverifiable | {Category.MISSING: (1, 10)}
    assert len(next_steps(findings_by_category(missing, 1), *COMMANDS)) == 1


@pytest.mark.parametrize(
    ("counts", "is_disjoint"),
    [
        ({Category.MISSING: 3, Category.EXTRA: 3, Category.EXCLUDED: 1}, True),
        ({Category.MISSING: 3, Category.EXTRA: 3, Category.SAME: 1}, False),
        ({Category.MISSING: 3, Category.EXTRA: 3, Category.DIFFERENT: 1}, False),
        ({Category.MISSING: 3}, False),
        ({Category.EXTRA: 3}, False),
    ],
)
def test_two_sides_without_a_common_key_may_lack_a_prefix(counts: dict[Category, int], is_disjoint: bool) -> None:
    """All copies of a new destination are missing, and there nothing is extra."""
    categories = {str(category): (counts.get(category, 0), 0) for category in Category}
    assert are_disjoint(categories) == is_disjoint


@pytest.mark.parametrize(("same", "unverifiable", "expected"), [(1, 1, True), (1, 2, False), (0, 0, False)])
def test_most_of_what_is_there_has_to_be_compared(same: int, unverifiable: int, expected: bool) -> None:
    rows = {Category.SAME: same, Category.UNVERIFIABLE: unverifiable, Category.EXCLUDED: 9}
    assert is_compared({"categories": {str(name): {"rows": count} for name, count in rows.items()}}) == expected


@pytest.mark.parametrize(
    ("missing", "extra", "forgotten", "says"),
    [
        (["a", "b/c"], ["all/a", "all/b/c"], ("destination", "all/"), "--destination s3://copies/here/all/"),
        (["2026/a", "2026/b", "2026/c"], ["a", "b"], ("source", "2026/"), "--source s3://docs/2026/"),
        (["a", "b"], ["c", "d"], None, "Check the prefixes"),
        (["a", "b", "c", "d"], ["x/a", "y/b"], None, "Check the prefixes"),
        ([], ["a"], None, "Check the prefixes"),
    ],
)
def test_a_prefix_that_was_forgotten_is_named(
    missing: list[str], extra: list[str], forgotten: tuple[str, str] | None, says: str
) -> None:
    assert forgotten_prefix(missing, extra) == forgotten
    places = {"source": Location("docs"), "destination": Location("copies", "here/")}
    assert says in disjoint_step(forgotten, places)
