"""How much a night reads, and which runs it takes for its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jobs.core.model import Location
from jobs.core.run import RunSpec, Side
from jobs.core.selection import Selection
from jobs.nights.stages import READ_BYTES_MIN, _is_of, read_turns
from jobs.runs.request import Request


@pytest.mark.parametrize(
    ("objects", "size_bytes", "taken"),
    [
        (18_000, 18_000, [(35, 360), (35, 180)]),
        (17_999, 18_000, [(35, 180), (35, 120)]),
        (1_000, 1_000, [(15, 20), (17, 18)]),
        (9, 9, [(0, 1)]),
        (9, 180 * READ_BYTES_MIN, [(35, 360), (35, 180)]),
    ],
)
def test_a_night_reads_a_hundred_objects_or_a_gibibyte_however_small_the_slice(
    objects: int, size_bytes: int, taken: list[tuple[int, int]]
) -> None:
    turns = read_turns((35, 360), objects, size_bytes)
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
