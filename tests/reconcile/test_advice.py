"""What a reconciliation tells people to do with what it left, in the right number."""

from __future__ import annotations

import pytest

from jobs.core.category import Category
from jobs.reconcile.advice import findings_by_category, next_steps

COMMANDS = "sealift reconcile --repair", "sealift reconcile --repair --repair-different"


@pytest.mark.parametrize(
    ("rows", "different", "extra"),
    [
        (
            1,
            "Look at the object that differs. Overwrite it only if the source is right: ",
            "Look at the object without an original. Sealift leaves it where it is.",
        ),
        (
            1_200,
            "Look at the 1,200 objects that differ. Overwrite them only if the source is right: ",
            "Look at the 1,200 objects without an original. Sealift leaves them where they are.",
        ),
    ],
)
def test_one_object_is_not_spoken_of_as_many(rows: int, different: str, extra: str) -> None:
    steps = next_steps({Category.DIFFERENT: rows, Category.EXTRA: rows}, *COMMANDS)
    assert steps[0].startswith(different)
    assert steps[0].endswith("--repair --repair-different")
    assert steps[1:] == [extra]


def test_unverifiable_rows_are_failed_replications_only_where_the_inventory_says_so() -> None:
    """An encrypted object cannot be compared, and S3 reports nothing wrong with it."""
    unverifiable: dict[str, tuple[int, int]] = {Category.UNVERIFIABLE: (3, 30), Category.SAME: (5, 50)}
    assert next_steps(findings_by_category(unverifiable, 0), *COMMANDS) == []
    [step] = next_steps(findings_by_category(unverifiable, 2), *COMMANDS)
    assert "replication failed" in step
    missing = unverifiable | {Category.MISSING: (1, 10)}
    assert len(next_steps(findings_by_category(missing, 1), *COMMANDS)) == 1
