"""`--max-cost` and `--max-objects` with `--then-verify`: both runs count before anything is written."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.cli.run_command import launch_and_report
from jobs.cli.start_options import StartOptions, WorkerOptions
from jobs.config import Settings
from jobs.core.model import Location
from jobs.core.run import Plan, RunSpec, ShardSummary, Side
from jobs.core.selection import Selection
from jobs.errors import LimitExceeded
from jobs.ledger.ledger import Ledger
from jobs.runs.batch_follow import plan_verification
from jobs.runs.planning import read_price_table
from jobs.runs.request import Planned, Request
from tests.doubles.memory_store import MemoryStore

ROWS = 1000
SETTINGS = replace(
    Settings.from_environment({}), executor="batch", batch_queue="queue", batch_job_definition="definition"
)


def copies(scratch: Path) -> Planned:
    side, shard = Side(Location("docs")), ShardSummary(ROWS, 0)
    spec = RunSpec("20261127T000000Z-replicate-000", "replicate", 0.0, side, Side(Location("copies")), "all", {})
    return Planned(spec, Plan(ROWS, 0, (shard,), dollars={"copies": 0.005}), scratch)


def start(scratch: Path, monkeypatch: pytest.MonkeyPatch, max_cost: float | None, max_objects: int | None) -> list[str]:
    """The jobs of the runs that were published. The first one ends the command."""
    planned, published = copies(scratch), list[str]()

    async def plan(*_: Any) -> Planned:
        return planned

    async def publish(each: Planned, _: Ledger) -> None:
        published.append(each.spec.job)

    async def nothing(*_: Any, **__: Any) -> int:
        return 0

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    monkeypatch.setattr("jobs.cli.run_command.check_placement", nothing)
    monkeypatch.setattr("jobs.runs.launch.publish", publish)
    monkeypatch.setattr("jobs.cli.run_command._start", nothing)
    store = MemoryStore()
    store.create_bucket("ledger")
    numbers = ("children", "priority", "vcpus", "memory_bytes", "timeout_seconds", "attempts")
    absent = (*numbers, "queue", "job_definition", "share")
    batch: Any = {"detach": False, "on_demand": False, "tags": (), **dict.fromkeys(absent)}
    flags: Any = dict.fromkeys(("dry_run", "allow_empty"), False)
    others: Any = dict.fromkeys(("max_failures", "max_rate", "bandwidth_bytes", "price_table", "executor"))
    limits: Any = {"max_cost": max_cost, "max_objects": max_objects}
    options = StartOptions(**flags, **others, **limits, yes=True, as_json=True, batch=WorkerOptions(**batch))
    request = Request("replicate", Side(Location("docs")), Side(Location("copies")), None, Selection())
    ledger = Ledger(store, Location("ledger"))
    try:
        asyncio.run(launch_and_report(request, ledger, SETTINGS, options, plan, then_verify=True))
    except LimitExceeded:
        assert published == []
        raise
    return published


def test_what_both_runs_cost_together_is_allowed_or_nothing_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A HEAD costs $0.0004 per 1,000: two for each of 1,000 rows, beside copies of $0.0050."""
    monkeypatch.setattr(Planned, "discard", lambda self: None)
    assert start(tmp_path, monkeypatch, 0.0059, None) == ["replicate", "verify"]
    for enough_for_one in (0.0057, 0.005):
        with pytest.raises(LimitExceeded, match="costs about"):
            start(tmp_path, monkeypatch, enough_for_one, None)


def test_the_objects_of_both_runs_are_the_same_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Planned, "discard", lambda self: None)
    assert start(tmp_path, monkeypatch, None, ROWS) == ["replicate", "verify"]
    with pytest.raises(LimitExceeded, match="1,000 objects"):
        start(tmp_path, monkeypatch, None, ROWS - 1)


def test_the_verification_is_priced_by_its_own_requests(tmp_path: Path) -> None:
    dollars = plan_verification(copies(tmp_path), read_price_table()).plan.total_dollars
    assert dollars == pytest.approx(2 * ROWS * 0.0004 / 1000)
