"""The end of a night: one summary, and the page of that one."""

from __future__ import annotations

import asyncio
from datetime import date
from pathlib import Path
from typing import Any

from jobs.core.model import Location, ObjectRef
from jobs.ledger.ledger import Ledger
from jobs.nights.calendar import Stage
from jobs.nights.documents import Claim, Known, Night, StageResult, Summary
from jobs.nights.night import _end
from jobs.nights.page import render_night
from jobs.nights.stages import Stages
from jobs.policy.coverage import scope
from jobs.policy.reader import parse_policy
from tests.doubles.memory_store import MemoryStore
from tests.nights.night_world import World

POLICY = """
version: 1
ledger: {bucket: ledger, region: us-east-1}
pairs:
- name: pair
  source: {bucket: source, region: us-east-1}
  destination: {bucket: hot, region: us-east-1}
"""


def test_the_page_is_of_the_summary_that_came_first() -> None:
    """A start that was killed, or a second one, left "All is well" beside a summary with findings."""
    store = MemoryStore()
    store.create_bucket("ledger")
    night = Night(Ledger(store, Location("ledger")), "pair", date(2026, 11, 25))
    policy = parse_policy(POLICY.encode(), "policy.yaml")
    rest: list[Any] = [None] * 3
    stages = Stages(night, policy, policy.pairs[0], scope(policy, policy.pairs[0]), *rest)
    claim = Claim(night="2026-11-25", began_at=1.0, margin_seconds=None, slice=(1, 30), deep=None, places=[])
    compared = StageResult(stage=Stage.RECONCILE, run_id="r", state="complete")

    async def end(left: int) -> tuple[Summary, str]:
        summary = await _end(stages, claim, [compared], Known(left=left, objects=9), None)
        page = await store.get(ObjectRef("ledger", f"{night.name}.html"))
        return summary, page.data.decode()

    first, page = asyncio.run(end(2))
    assert page == render_night(first)
    asyncio.run(store.delete("ledger", f"{night.name}.html"))  # it was killed before
    assert asyncio.run(end(0)) == (first, page)


def test_a_page_that_a_killed_start_owes_is_written_by_the_next_one(tmp_path: Path) -> None:
    world = World(tmp_path, "retain", is_versioned=False, has_inventory=False)
    world.put("source", "a", b"one")
    world.copy("a")
    name = world.start()["report_html"].removeprefix("s3://ledger/")
    pages = world.store._buckets.named["ledger"].versions
    page = pages.pop(name)[-1].data
    assert world.start()["ran_before"]
    assert pages[name][-1].data == page
