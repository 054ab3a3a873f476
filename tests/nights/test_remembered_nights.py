"""Which summaries a night looks at for what others found wrong."""

from __future__ import annotations

import asyncio
import json
from datetime import date
from typing import Any

import pytest

from jobs.core.model import Location
from jobs.ledger.files import write_file
from jobs.ledger.ledger import Ledger
from jobs.nights.disproofs import Disproof, open_disproofs
from jobs.nights.records import NightRecords
from tests.doubles.memory_store import MemoryStore

PLACE = Location("ledger")
FOUND = Disproof("2026-11-10", "2026-11-11T03:00:00Z", "sample", "r1", 1, [2, 30])


def summary(label: str, finished_at: str, **more: Any) -> dict[str, Any]:
    fields = {"night": label[:10], "pair": "p", "state": "complete", "verdict": "", "left": 0, "exit_code": 0}
    return fields | {"seconds": 1, "finished_at": finished_at, "stages": [], "summary": f"s3://l/{label}"} | more


def remembered(*summaries: dict[str, Any]) -> list[dict[str, Any]]:
    async def look() -> list[dict[str, Any]]:
        store = MemoryStore()
        store.create_bucket("ledger")
        for each in summaries:
            name = f"nights/p/{each['summary'].removeprefix('s3://l/')}.json"
            await write_file(store, PLACE, name, json.dumps(each).encode())
        return await NightRecords(Ledger(store, PLACE), "p", date.max).remembered(2)

    return asyncio.run(look())


@pytest.mark.parametrize("is_again_first", [True, False])
def test_an_old_night_that_was_checked_again_answers_what_later_ones_pass_on(is_again_first: bool) -> None:
    passed_on = {"unanswered": [FOUND._asdict()], "answered": []}
    first = summary("2026-11-10", "2026-11-11T03:00:00Z")
    nights = [summary(f"2026-11-2{day}", f"2026-11-2{day}T03:00:00Z", **passed_on) for day in (1, 2, 3)]
    assert open_disproofs(remembered(first, *nights), "s3://d") == [FOUND]
    at = "2026-11-22T12:00:00Z" if is_again_first else "2026-11-23T12:00:00Z"
    again = summary("2026-11-10-2", at, unanswered=[], answered=["r1"])
    read = remembered(first, *nights, again)
    assert [each["summary"][7:] for each in read] == ["2026-11-23", "2026-11-22", "2026-11-10-2"]
    assert open_disproofs(read, "s3://d") == []
    assert open_disproofs(remembered(first, *nights, again | {"answered": []}), "s3://d") == [FOUND]
