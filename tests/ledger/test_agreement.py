"""Agreement of a run's documents, from what the planner itself makes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.core.model import Location
from jobs.core.run import Plan, RunSpec, ShardSummary, Side
from jobs.ledger.agreement import (
    checkpoint_disagreement,
    plan_disagreement,
    run_job,
    shard_disagreement,
    spec_disagreement,
)
from jobs.runs.request import new_run_id

JOBS = st.sampled_from(["replicate", "verify", "compact", "restore", "expire", "reconcile"])
TIMES = st.floats(0, 4e9, allow_nan=False)


def make_spec(job: str, now: float) -> RunSpec:
    side = Side(Location("bucket"))
    return RunSpec(new_run_id(job, now), job, now, side, side, "listing")


@given(JOBS, TIMES)
def test_what_the_planner_makes_agrees(job: str, now: float) -> None:
    spec = make_spec(job, now)
    assert run_job(spec.run_id) == job
    assert spec_disagreement(spec.run_id, spec) == ""


@given(JOBS, JOBS, TIMES)
def test_no_run_asks_for_another_job_than_its_id(job: str, forged: str, now: float) -> None:
    spec = replace(make_spec(job, now), job=forged)
    assert bool(spec_disagreement(spec.run_id, spec)) == (job != forged)


@pytest.mark.parametrize(
    "run_id",
    [
        *(
            "",
            "x",
            "20261125T000000Z-verify-1",
            "20261125T000000Z-verify-1f3a02-work",
            "20261125T000000Z-Verify-1f3a02",
        ),
        *("20261325T000000Z-verify-1f3a02", "../20261125T000000Z-verify-1f3a02", "20261125T000000Z-verify-1f3a02\n"),
    ],
)
def test_what_no_planner_makes_is_no_id_of_a_run(run_id: str) -> None:
    assert run_job(run_id) is None


@given(st.lists(st.integers(0, 5), max_size=6))
def test_rows_are_numbered_through_the_shards(counts: list[int]) -> None:
    plan = Plan(sum(counts), 0, tuple(ShardSummary(count, 0) for count in counts))
    numbers = plan.row_numbers()
    assert [number for rows in numbers for number in rows] == list(range(plan.rows))
    assert [len(rows) for rows in numbers] == counts
    assert plan_disagreement("20261125T000000Z-verify-1f3a02", plan) == ""


def test_a_reconciliation_has_rows_and_no_shards() -> None:
    assert plan_disagreement("20261125T000000Z-reconcile-1f3a02", Plan(5, 9, ())) == ""
    assert "has shards" in plan_disagreement("20261125T000000Z-reconcile-1f3a02", Plan(1, 0, (ShardSummary(1, 0),)))
    assert "its shards have 0 rows" in plan_disagreement("20261125T000000Z-verify-1f3a02", Plan(5, 9, ()))


@pytest.mark.parametrize(
    ("there", "is_well"),
    [({"same": 2, "shards": 1}, True), ({"same": 5, "shards": 2}, True), ({"alike": 1, "same": 0, "shards": 0}, True),
     ({"same": 2, "shards": 3}, False), ({"same": 3, "shards": 1}, False), ({"shards": 1}, False),
     ({"same": -1, "shards": -1}, False), ({"same": "2", "shards": 1}, False), (["same"], False)],
)  # fmt: skip
def test_what_is_done_with_a_plan_is_in_its_last_shards(there: Any, is_well: bool) -> None:
    plan = Plan(5, 9, (ShardSummary(3, 4), ShardSummary(2, 5)), there=there)
    assert (plan_disagreement("20261125T000000Z-replicate-1f3a02", plan) == "") == is_well


def test_each_disagreement_of_rows_is_named() -> None:
    assert shard_disagreement([3, 4], range(3, 5)) == ""
    assert "has 1 rows, the plan says 2" in shard_disagreement([3], range(3, 5))
    assert "other row numbers than 3 to 4" in shard_disagreement([4, 3], range(3, 5))
    assert checkpoint_disagreement([4, 3], 1, (2, 1), range(3, 5)) == ""
    assert "its name says 2 and 0" in checkpoint_disagreement([4, 3], 1, (2, 0), range(3, 5))
    assert "two outcomes" in checkpoint_disagreement([4, 4], 0, (2, 0), range(3, 5))
    assert "other rows than 3 to 4" in checkpoint_disagreement([4, 5], 0, (2, 0), range(3, 5))
