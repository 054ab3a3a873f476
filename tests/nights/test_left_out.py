"""What a night's repair was given and did not take: nobody worked on it, so somebody has to know."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.core.run import RunState
from jobs.nights.calendar import LEFT_OUT, Stage
from jobs.nights.night import _Night
from jobs.nights.stages import Done
from jobs.nights.verdicts import is_well


def report(rows: int, duplicates: int = 0, **outcomes: int) -> dict[str, Any]:
    excluded = {"duplicate": duplicates} if duplicates else {}
    made = {"run_id": "run", "state": RunState.COMPLETE, "rows": rows, "accounted": rows, "excluded": excluded}
    return made | {"outcomes": outcomes}


def repair(given: int, repaired: dict[str, Any], verified: dict[str, Any]) -> list[dict[str, Any]]:
    """The stages of a night whose reconciliation named `given` rows."""
    reports = {Stage.REPAIR: repaired, Stage.VERIFY: verified}
    asked: list[Stage] = []

    async def transfer(stage: Stage, request: Any) -> Done:
        asked.append(stage)
        return Done(reports[stage], 0)

    stages: Any = SimpleNamespace(
        records=SimpleNamespace(ledger=SimpleNamespace(uri=lambda *parts: "/".join(parts))),
        pair=None,
        scope=None,
        transfer=transfer,
        display=SimpleNamespace(note=lambda text: None),
    )
    night = _Night(stages, {})
    night._request = lambda *_, **__: None  # type: ignore[assignment,method-assign]
    assert asyncio.run(night._repair("20260101T000000Z-reconcile-0", given))
    assert asked == [Stage.REPAIR, Stage.VERIFY]
    return night.done


@pytest.mark.parametrize(
    ("given", "repaired", "verified", "left"),
    [
        (5, report(5, done=5), report(5, verified=5), [{}, {}]),
        (5, report(3, done=3), report(3, verified=3), [{LEFT_OUT: 2}, {}]),
        (5, report(3, 2, done=3), report(3, verified=3), [{}, {}]),
        (5, report(5, done=4, same=1), report(4, verified=4), [{}, {LEFT_OUT: 1}]),
        (5, report(5, done=4, blocked=1), report(4, verified=4), [{"blocked": 1}, {}]),
    ],
)
def test_rows_that_a_plan_left_out_are_left_and_the_night_is_not_well(
    given: int, repaired: dict[str, Any], verified: dict[str, Any], left: list[dict[str, int]]
) -> None:
    stages = repair(given, repaired, verified)
    assert [stage["left"] for stage in stages] == [sum(each.values()) for each in left]
    for stage, of_stage, outcomes in zip(stages, left, (repaired, verified), strict=True):
        assert stage["counts"] == outcomes["outcomes"] | of_stage
    assert is_well(stages) is not any(left)
