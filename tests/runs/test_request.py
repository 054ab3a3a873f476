"""Rows of earlier runs, as a request names them."""

from __future__ import annotations

import asyncio

import pytest

from jobs.core.model import Location
from jobs.core.run import Plan, RunSpec, Side
from jobs.errors import UsageError
from jobs.ledger.ledger import Ledger
from jobs.runs.request import failures_of, manifest_rows, new_run_id
from tests.doubles.memory_store import MemoryStore
from tests.runs.requests import request_for


@pytest.mark.parametrize("rows", [0, 5])
def test_a_run_that_only_compared_has_neither_failed_nor_proven_rows(rows: int) -> None:
    async def scene() -> None:
        store = MemoryStore()
        store.create_bucket("ledger")
        ledger = Ledger(store, Location("ledger", ""))
        sides = Side(Location("originals")), Side(Location("copies"))
        run_id = new_run_id("reconcile", 1_700_000_000.0)
        options = {"versions": "current", "destination_manifest": "s3://i/manifest.json"}
        await ledger.create(RunSpec(run_id, "reconcile", 1_700_000_000.0, *sides, "s3://i/manifest.json", options))
        await ledger.publish_plan(run_id, Plan(rows, 0, ()))
        for uri in (f"run:{run_id}", f"proven:{run_id}"):
            with pytest.raises(UsageError, match="it only compared"):
                await manifest_rows(request_for(uri), ledger)
        with pytest.raises(UsageError, match="reconcile --repair"):
            await failures_of(ledger, run_id)

    asyncio.run(scene())
