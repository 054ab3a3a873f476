"""Plans as lines for people."""

from __future__ import annotations

import pytest

from jobs.cli.texts import plan_text
from jobs.core.model import Location
from jobs.core.run import Plan, RunSpec, Side


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
    sides = Side(Location.parse(source)), Side(Location.parse(destination))
    spec = RunSpec("20261128T000000Z-run-000000", job, 0.0, *sides, manifest="rows.csv")
    plan = Plan(1, 1, (), {}, {}, {}, "", 0.0)
    first = f"{Location.parse(source)}a is s3://copies/xa, not s3://copies/x/a: end the destination with /"
    assert (first in plan_text(spec, plan), "warning" in plan_text(spec, plan)) == (is_warned, is_warned)
