"""The end of a run whose workers have ended."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from jobs.core.model import Location
from jobs.core.run import RunSpec, Side
from jobs.errors import Interrupted
from jobs.ledger.ledger import Ledger
from jobs.runs.work import end
from tests.doubles.hooks import hang
from tests.doubles.memory_store import MemoryStore

SPEC = RunSpec("run", "expire", 0.0, Side(Location("originals")), Side(Location("copies")), "")


async def test_a_ledger_that_never_answers_ends_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of three attempts waited for it, and then the command."""
    monkeypatch.setattr("jobs.s3.retries.PATIENCE_SECONDS", 0.05)
    store = MemoryStore(buckets=["ledger"])

    store.hook(get=hang)
    nothing = cast(Any, None)
    async with asyncio.timeout(5):
        with pytest.raises(Interrupted):
            await end(SPEC, nothing, Ledger(store, Location("ledger", "")), nothing)
