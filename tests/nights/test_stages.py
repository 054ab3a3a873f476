"""How much a night reads: the slice in turn, or a wider one where that is small."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.core.elapsed import elapsed_seconds
from jobs.nights.calendar import Stage
from jobs.nights.documents import StageResult
from jobs.nights.stages import READ_BYTES_MIN, Stages, read_turns
from jobs.policy.coverage import scope
from jobs.policy.reader import parse_policy
from jobs.reports.document import iso_time


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
        return {"source": side, "destination": side, "repair_manifest": "some", "run_id": "run"}

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    async def done(*_: Any) -> StageResult:
        return StageResult(stage=Stage.REPAIR)

    monkeypatch.setattr(Stages, "_report_of", report_of)
    monkeypatch.setattr(Stages, "_work", done)
    monkeypatch.setattr("asyncio.sleep", sleep)
    policy = parse_policy(POLICY.encode(), "policy.yaml")
    store = SimpleNamespace(server_clock=now - elapsed_seconds())
    night: Any = SimpleNamespace(
        night="2026-11-20", ledger=SimpleNamespace(store=store, uri=lambda *_: "s3://ledger/repair")
    )
    rest: list[Any] = [None] * 3
    stages = Stages(night, policy, policy.pairs[0], scope(policy, policy.pairs[0]), *rest)
    asyncio.run(stages.repair(StageResult(stage=Stage.RECONCILE, run_id="run")))
    assert waited == [pytest.approx(waits, abs=0.5)]
