"""How much a night reads: the slice in turn, or a wider one where that is small."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.core.elapsed import elapsed_seconds
from jobs.core.model import Location
from jobs.core.run import Plan, Side
from jobs.core.selection import Selection
from jobs.nights.calendar import Stage
from jobs.nights.documents import StageResult
from jobs.nights.stages import READ_BYTES_MIN, Stages
from jobs.policy.coverage import scope
from jobs.policy.reader import parse_policy
from jobs.reports.document import iso_time
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


POLICY = """
version: 1
ledger: {bucket: ledger, region: us-east-1}
pairs:
- name: pair
  source: {bucket: source, region: us-east-1, prefixes: [docs/], exclude: [docs/tmp/]}
  destination: {bucket: hot, region: us-east-1, prefix: copies/}
  replica: {bucket: twin, region: us-west-2}
"""


@pytest.mark.parametrize(("listed_ago", "waits"), [(-30.0, 3.0), (-1.0, 2.0), (0.0, 1.0), (2.0, 0.0)])
def test_a_repair_begins_in_a_later_second_of_s3_than_the_listing(
    monkeypatch: pytest.MonkeyPatch, listed_ago: float, waits: float
) -> None:
    now, waited = 1_800_000_000.0, list[float]()

    async def report_of(*_: Any) -> Any:
        side = {"created_at": iso_time(now - listed_ago)}
        return {"source": side, "destination": side, "repair_manifest": "some"}

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    async def done(*_: Any) -> StageResult:
        return StageResult(stage=Stage.REPAIR)

    monkeypatch.setattr(Stages, "_report_of", report_of)
    monkeypatch.setattr(Stages, "_work", done)
    monkeypatch.setattr("asyncio.sleep", sleep)
    policy = parse_policy(POLICY.encode(), "policy.yaml")
    store = SimpleNamespace(server_clock=now - elapsed_seconds())
    night: Any = SimpleNamespace(ledger=SimpleNamespace(store=store, uri=lambda *_: "s3://ledger/repair"))
    rest: list[Any] = [SimpleNamespace(night="2026-11-20")] * 3
    stages = Stages(night, rest[0], policy, policy.pairs[0], scope(policy, policy.pairs[0]), *rest)
    asyncio.run(stages.repair(StageResult(stage=Stage.RECONCILE, run_id="run")))
    assert waited == [pytest.approx(waits, abs=0.5)]
