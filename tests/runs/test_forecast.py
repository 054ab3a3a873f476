"""Forecasts of time: a range, from the table and from the last run of the same kind and place."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from jobs.core.model import Location
from jobs.core.run import Plan, RunSpec, Side
from jobs.ledger.ledger import Ledger
from jobs.runs.launch import MARGIN_TIMES, RECENT_SECONDS, START_SECONDS, UNKNOWN_TIMES, timed
from jobs.runs.request import Planned, new_run_id
from tests.doubles.ledgers import make_ledger

NOW = 1_800_000_000.0
PLACE = Side(Location("originals", "a/")), Side(Location("copies"))


def spec(at: float = NOW, job: str = "replicate", place: tuple[Side, Side] = PLACE, **options: Any) -> RunSpec:
    return RunSpec(new_run_id(job, at), job, at, *place, "listing", options)


@pytest.fixture
def ledger() -> Ledger:
    return make_ledger("l")


def end(ledger: Ledger, run: RunSpec, planned: float, worked: float, state: str = "complete") -> str:
    async def write() -> None:
        await ledger.create(run)
        report = {"state": state, "planned": {"seconds": planned}, "worked_seconds": worked}
        await ledger.publish_report(run.run_id, report)

    asyncio.run(write())
    return run.run_id


def time_of(ledger: Ledger, run: RunSpec, *, is_carried: bool = False) -> Plan:
    planned = Planned(run, Plan(1000, 10**6, (), requests={"copy": 1000}, seconds=20.0), Path())
    return asyncio.run(timed(planned, ledger, is_carried=is_carried))


def test_without_an_earlier_run_the_most_is_many_times_what_the_table_says(ledger: Ledger) -> None:
    plan = time_of(ledger, spec())
    assert (plan.seconds, plan.seconds_most, plan.timed_by) == (20.0, START_SECONDS + UNKNOWN_TIMES * 20, "")


def test_the_last_run_of_the_kind_and_place_says_the_most(ledger: Ledger) -> None:
    end(ledger, spec(NOW - 900), 10, 500)
    last = end(ledger, spec(NOW - 800), 10, START_SECONDS + 40)
    end(ledger, spec(NOW - 700, "verify"), 10, 900)
    end(ledger, spec(NOW - 600, place=(PLACE[0], Side(Location("others")))), 10, 900)
    end(ledger, spec(NOW - 500), 10, 900, "incomplete")
    plan = time_of(ledger, spec())
    assert (plan.timed_by, plan.seconds_most) == (last, START_SECONDS + MARGIN_TIMES * 4 * 20)
    assert time_of(ledger, spec(NOW + RECENT_SECONDS + 86_400)).timed_by == ""


def test_a_run_that_was_quicker_than_its_forecast_promises_nothing(ledger: Ledger) -> None:
    end(ledger, spec(NOW - 900), 10, 1)
    assert time_of(ledger, spec()).seconds_most == START_SECONDS + MARGIN_TIMES * 20


@pytest.mark.parametrize("report", [{"state": "complete"}, {"state": "complete", "planned": {"seconds": "x"}}])
def test_an_altered_report_forecasts_nothing(ledger: Ledger, report: dict[str, Any]) -> None:
    run = spec(NOW - 900)
    asyncio.run(ledger.create(run))
    asyncio.run(ledger.publish_report(run.run_id, report))
    assert time_of(ledger, spec()).timed_by == ""


def test_limits_are_in_both_ends_of_the_range(ledger: Ledger) -> None:
    slow = replace(spec(), options={"max_rate": 1})
    assert (time_of(ledger, slow).seconds, time_of(ledger, slow).seconds_most) == (1000.0, 1000.0)
    narrow = replace(spec(), options={"bandwidth_bytes": 1000})
    assert (time_of(ledger, narrow).seconds, time_of(ledger, narrow, is_carried=True).seconds) == (20.0, 2000.0)
