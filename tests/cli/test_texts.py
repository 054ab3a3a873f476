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


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.0, "under 0.1 s"), (0.04, "under 0.1 s"), (0.1, "about 0.1 s"), (20.0, "about 20 s")]
)
def test_a_plan_never_says_that_it_takes_no_time(seconds: float, shown: str) -> None:
    place = Side(Location.parse("s3://documents/")), Side(Location.parse("s3://copies/"))
    spec = RunSpec("20261128T000000Z-verify-000000", "verify", 0.0, *place, manifest="rows.csv")
    assert f"\n  duration  {shown}\n" in plan_text(spec, Plan(1, 1, (), {}, {}, {}, "", seconds)) + "\n"
