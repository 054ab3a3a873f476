"""How much a night reads, and which runs it takes for its own."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from jobs.core.model import Location
from jobs.core.run import RunSpec, Side
from jobs.core.selection import Selection
from jobs.nights.calendar import slices
from jobs.nights.night import _is_of
from jobs.runs.request import Request


@pytest.mark.parametrize(
    ("enough", "taken"),
    [
        (180, [(35, 360), (35, 180)]),
        (179.99, [(35, 180), (35, 120)]),
        (10, [(15, 20), (17, 18)]),
        (0.09, [(0, 1)]),
    ],
)
def test_a_night_reads_enough_however_small_the_slice(enough: float, taken: list[tuple[int, int]]) -> None:
    turns = slices(35, 360, enough)
    assert (turns[: len(taken)], turns[-1]) == (taken, (0, 1))


SOURCE, HOT = Side(Location("source"), owner="1"), Side(Location("hot", "copies/"), region="us-east-1")
OPTIONS = {"pair": "pair", "night": "2026-11-25", "night_label": "2026-11-25-02", "keeps_replaced": True}
WANTED = Request("replicate", SOURCE, HOT, "s3://ledger/repair.parquet", Selection(), OPTIONS)


@pytest.mark.parametrize(
    ("change", "is_taken"),
    [
        ({}, True),
        ({"source": replace(SOURCE, region="eu-west-1")}, True),  # found since
        ({"options": OPTIONS | {"streamed": False}}, True),
        ({"source": Side(Location("secrets"), owner="1")}, False),
        ({"source": Side(Location("source"))}, False),
        ({"destination": Side(Location("hot"))}, False),
        ({"manifest": "s3://elsewhere/repair.parquet"}, False),
        ({"options": OPTIONS | {"night_label": "2026-11-25"}}, False),
        ({"options": OPTIONS | {"keeps_replaced": False}}, False),
        ({"options": OPTIONS | {"overwrite": "always"}}, False),
    ],
)
def test_a_night_takes_only_a_run_that_is_what_the_policy_asks_for(change: dict[str, Any], is_taken: bool) -> None:
    """The policy may have changed since it was planned, and whoever writes to the ledger can write one."""
    spec = RunSpec("r", "replicate", 0.0, SOURCE, HOT, "s3://ledger/repair.parquet", OPTIONS)
    assert _is_of(replace(spec, **change), WANTED) is is_taken
