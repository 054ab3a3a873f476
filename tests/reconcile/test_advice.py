"""What a reconciliation tells people to do with what it left, in the right number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from jobs.core.category import Category
from jobs.core.model import Location
from jobs.core.prefix_map import PrefixMap
from jobs.core.run import RunSpec, Side
from jobs.ledger.ledger import Ledger
from jobs.reconcile.advice import DISJOINT_STEP, disjoint_step, first_steps
from jobs.reports.document import is_compared
from tests.doubles.memory_store import MemoryStore

LEDGER = Ledger(MemoryStore(), Location("ledger"))
SPEC = RunSpec("run", "reconcile", 0.0, Side(Location("docs")), Side(Location("copies")), "")
COMMANDS = "sealift reconcile --repair", "sealift reconcile --repair --repair-different"


def found(findings: int, **rows: int) -> dict[str, Any]:
    names = {name.name.lower(): str(name) for name in Category}
    return {"findings": findings, "categories": {names[name]: {"rows": count} for name, count in rows.items()}}


@pytest.mark.parametrize(
    ("comparison", "begins"),
    [
        (found(0, unverifiable=3, same=5), []),
        (found(2, unverifiable=3, same=5), ["S3 reports that its replication failed"]),
        (found(1, unverifiable=3, same=5, missing=1), ["Copy what is missing"]),
        (
            found(4, same=5, stale=1, different=2, extra=1),
            ["Copy what is", "Look at 2 different", "Look at 1 object wi"],
        ),
        (found(6, missing=3, extra=3, same=1), ["Copy what is missing", "Look at 3 objects"]),
        (found(6, missing=3, extra=3, excluded=1), [DISJOINT_STEP]),
        (found(3, missing=3), ["Copy what is missing"]),
    ],
)
def test_each_kind_of_finding_has_its_step(
    monkeypatch: pytest.MonkeyPatch, comparison: dict[str, Any], begins: list[str]
) -> None:
    """An encrypted object cannot be compared, and S3 reports nothing wrong with it. Sides without a common key
    may lack a prefix.
    """
    monkeypatch.setattr("jobs.reconcile.advice.first_findings", lambda *_: [])
    steps = first_steps(LEDGER, SPEC, comparison, PrefixMap(), Path(), COMMANDS)
    assert [step[: len(begin)] for step, begin in zip(steps, begins, strict=True)] == begins


@pytest.mark.parametrize(
    ("missing", "extra", "says"),
    [
        (["a", "b/c"], ["all/a", "all/b/c"], "--destination s3://copies/here/all/"),
        (["2026/a", "2026/b", "2026/c"], ["a", "b"], "--source s3://docs/2026/"),
        (["a", "b"], ["c", "d"], DISJOINT_STEP),
        (["a", "b", "c", "d"], ["x/a", "y/b"], DISJOINT_STEP),
    ],
)
def test_a_prefix_that_was_forgotten_is_named(missing: list[str], extra: list[str], says: str) -> None:
    assert says in disjoint_step((Location("docs"), missing), (Location("copies", "here/"), extra))


def test_a_night_has_no_prefixes_to_give() -> None:
    """Its places are the policy's, and it repairs what is missing."""
    spec = replace(SPEC, options={"pair": "docs", "of_replica": False})
    steps = first_steps(LEDGER, spec, found(6, missing=3, extra=3), PrefixMap(), Path(), ())
    assert [step.split()[0] for step in steps] == ["Copy", "Look", "Then"]


@pytest.mark.parametrize(("same", "unverifiable", "expected"), [(1, 1, True), (1, 2, False), (0, 0, False)])
def test_most_of_what_is_there_has_to_be_compared(same: int, unverifiable: int, expected: bool) -> None:
    rows = {Category.SAME: same, Category.UNVERIFIABLE: unverifiable, Category.EXCLUDED: 9}
    assert is_compared({"categories": {str(name): {"rows": count} for name, count in rows.items()}}) == expected
