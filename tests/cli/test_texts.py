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
    ("seconds", "most", "earlier", "shown"),
    [
        (0.0, 0.0, "", "under 0.1 s"),
        (20.0, 0.0, "", "about 20 s"),
        (0.01, 3.1, "", "up to 3.1 s"),
        (19.0, 193.0, "", "19 s to 3 min"),
        (19.0, 126.0, "RUN", "19 s to 2 min, by RUN and the table"),
    ],
)
def test_a_plan_says_how_long_it_takes_as_a_range(seconds: float, most: float, earlier: str, shown: str) -> None:
    place = Side(Location.parse("s3://documents/")), Side(Location.parse("s3://copies/"))
    spec = RunSpec("20261128T000000Z-verify-000000", "verify", 0.0, *place, manifest="rows.csv")
    plan = Plan(1, 1, (), seconds=seconds, seconds_most=most, timed_by=earlier)
    assert f"\n  duration  {shown}\n" in plan_text(spec, plan) + "\n"


@pytest.mark.parametrize(
    ("rows", "listed", "same", "is_warned"),
    [(1000, 900, 0, True), (1000, 900, 500, False), (1000, 100, 0, False), (5, 5, 0, False)],
)
def test_a_plan_warns_of_a_destination_that_is_full_of_other_names(
    rows: int, listed: int, same: int, is_warned: bool
) -> None:
    place = Side(Location.parse("s3://documents/")), Side(Location.parse("s3://copies/"))
    spec = RunSpec("20261128T000000Z-replicate-000000", "replicate", 0.0, *place, manifest="rows.csv")
    plan = Plan(rows, 1, (), there={"listed": listed, "same": same, "alike": 0, "other": 0})
    assert ("have other names" in plan_text(spec, plan)) == is_warned
