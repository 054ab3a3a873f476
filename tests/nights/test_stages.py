"""How much a night reads: the slice in turn, or a wider one where that is small."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.core.model import Location
from jobs.core.run import Plan, Side
from jobs.core.selection import Selection
from jobs.nights.calendar import Stage
from jobs.nights.stages import READ_BYTES_MIN, Stages
from jobs.runs import launch
from jobs.runs.request import Request


@pytest.mark.parametrize(
    ("stage", "objects", "size_bytes", "taken"),
    [
        (Stage.DEEP, 36_000, 36_000, (35, 360)),
        (Stage.DEEP, 35_999, 36_000, (35, 180)),
        (Stage.DEEP, 1_000, 1_000, (5, 10)),
        (Stage.DEEP, 9, 9, (0, 1)),
        (Stage.DEEP, 360, 360 * READ_BYTES_MIN, (35, 360)),
        (Stage.SLICE, 9, 9, (35, 360)),
    ],
)
def test_a_night_reads_a_hundred_objects_or_a_gibibyte_however_small_the_slice(
    monkeypatch: pytest.MonkeyPatch, stage: Stage, objects: int, size_bytes: int, taken: tuple[int, int]
) -> None:
    discarded: list[int] = []

    async def plan_run(request: Request, *_: Any, **__: Any) -> Any:
        of = (request.selection.sample or (0, 1))[1]
        plan = Plan(objects // of, size_bytes // of, ())
        return SimpleNamespace(request=request, plan=plan, discard=lambda: discarded.append(of))

    monkeypatch.setattr(launch, "plan_run", plan_run)
    stages = Stages(*[SimpleNamespace(ledger=None)] * 8)  # type: ignore[arg-type]  # only plans
    request = Request("verify", None, Side(Location("copies")), None, Selection(sample=(35, 360)))
    with ExitStack() as stack:
        planned: Any = asyncio.run(stages._plan(stage, request, stages.settings, stack, (objects, size_bytes)))
        assert planned.request.selection.sample == taken
    assert taken[1] in discarded
