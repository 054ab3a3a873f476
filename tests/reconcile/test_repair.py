"""The repair after a comparison."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.core.elapsed import elapsed_seconds
from jobs.reconcile.repair import await_later_second
from jobs.reports.document import iso_time


@pytest.mark.parametrize(("listed_ago", "waits"), [(-30.0, 3.0), (-1.0, 2.0), (0.0, 1.0), (2.0, 0.0)])
def test_a_repair_begins_in_a_later_second_of_s3_than_the_listing(
    monkeypatch: pytest.MonkeyPatch, listed_ago: float, waits: float
) -> None:
    now, waited = 1_800_000_000.0, list[float]()

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("asyncio.sleep", sleep)
    side = {"created_at": iso_time(now - listed_ago)}
    ledger: Any = SimpleNamespace(store=SimpleNamespace(server_clock=now - elapsed_seconds()))
    asyncio.run(await_later_second(ledger, {"source": side, "destination": side}))
    assert waited == [pytest.approx(waits, abs=0.5)]
