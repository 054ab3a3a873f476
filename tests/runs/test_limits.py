"""Limits hold for a command, however many runs it makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.core.model import Location
from jobs.core.run import Plan, RunSpec, Side
from jobs.errors import LimitExceeded
from jobs.runs.launch import OF_PAIR, check_limits
from jobs.runs.request import Planned


def planned(job: str, rows: int, dollars: float) -> Planned:
    side = Side(Location("b"))
    return Planned(RunSpec("r", job, 0.0, side, side, "m"), Plan(rows, 0, (), dollars={"copy": dollars}), Path())


@pytest.mark.parametrize(
    ("runs", "says"),
    [
        ([planned("replicate", 2, 0.1), planned("verify", 2, 0.1)], ""),
        ([planned("replicate", 3, 0.0)], "the plan has 3 objects, --max-objects allows 2"),
        ([planned("replicate", 1, 0.0)] * 3, "the plan has 3 objects, --max-objects allows 2"),
        ([planned("replicate", 2, 0.3), planned("verify", 2, 0.3)], "costs about $0.6000, --max-cost allows $0.5000"),
    ],
)
def test_the_objects_of_a_kind_and_the_dollars_of_all_runs_add_up(runs: list[Planned], says: str) -> None:
    check_limits(runs, None, None)
    if not says:
        check_limits(runs, 0.5, 2)
        return
    for how, text in (((), says), ((OF_PAIR,), says.replace("--max-", "limits.max_"))):
        with pytest.raises(LimitExceeded) as refused:
            check_limits(runs, 0.5, 2, *how)
        assert text in str(refused.value)
