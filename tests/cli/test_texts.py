"""Plans and reports as lines for people."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.cli.texts import plan_text, report_text
from jobs.core.category import Category
from jobs.core.model import Location
from jobs.core.run import Plan, RunSpec, Side
from jobs.reports.document import summarize_reconcile


def text(job: str, plan: Plan, source: str = "s3://documents/", destination: str = "s3://copies/") -> str:
    sides = Side(Location.parse(source)), Side(Location.parse(destination))
    return plan_text(RunSpec(f"20261128T000000Z-{job}-000000", job, 0.0, *sides, manifest="rows.csv"), plan)


@pytest.mark.parametrize(
    ("job", "source", "destination", "is_warned"),
    [
        ("replicate", "s3://documents/2026/", "s3://copies/x", True),
        ("replicate", "s3://documents", "s3://copies/x", True),
        ("replicate", "s3://documents/2026/", "s3://copies/x/", False),
        ("replicate", "s3://documents/2026/", "s3://copies", False),
        ("replicate", "s3://documents/2026", "s3://copies/x", False),
        ("compact", "s3://documents/2026/", "s3://cold/x", False),
    ],
)
def test_a_plan_warns_of_names_that_continue_the_destinations_prefix(
    job: str, source: str, destination: str, is_warned: bool
) -> None:
    said = text(job, Plan(1, 1, ()), source, destination)
    first = f"{Location.parse(source)}a is s3://copies/xa, not s3://copies/x/a: end the destination with /"
    assert (first in said, "warning" in said) == (is_warned, is_warned)


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ({"seconds": 0.0}, "duration  under 0.1 s"),
        ({"seconds": 20.0}, "duration  about 20 s"),
        ({"seconds": 0.01, "seconds_most": 3.1}, "duration  up to 3.1 s"),
        ({"seconds": 19.0, "seconds_most": 193.0}, "duration  19 s to 3 min"),
        (
            {"seconds": 19.0, "seconds_most": 126.0, "timed_by": "RUN"},
            "duration  19 s to 2 min, by RUN and the table",
        ),
    ],
)
def test_a_plan_says_how_long_it_takes_as_a_range(plan: dict[str, Any], said: str) -> None:
    assert f"\n  {said}\n" in text("verify", Plan(1, 1, (), **plan)) + "\n"


@pytest.mark.parametrize(
    ("rows", "listed", "same", "known", "is_warned"),
    [
        (1000, 900, 0, 0, True),
        (1000, 900, 500, 0, False),
        (1000, 900, 0, 500, False),
        (1000, 100, 0, 0, False),
        (5, 5, 0, 0, False),
    ],
)
def test_a_plan_warns_of_a_destination_that_is_full_of_other_names(
    rows: int, listed: int, same: int, known: int, is_warned: bool
) -> None:
    there = {"listed": listed, "same": same, "alike": 0, "other": 0}
    plan = Plan(rows, 1, (), {"proven_before": known}, there=there)
    assert ("have other names" in text("replicate", plan)) == is_warned


def test_a_comparison_of_two_empty_places_has_a_table_without_rows() -> None:
    found = {"categories": {str(each): {"rows": 0, "bytes": 0} for each in Category}, "findings": 0, "unjudged": []}
    places = {"report_html": "s3://l/page.html", "differences": {"parquet": "s3://l/d.parquet"}, "ledger": "s3://l/"}
    report = summarize_reconcile("RUN", found, 0.0, 0.0, **places)
    assert "category  objects  bytes" in report_text(report)
