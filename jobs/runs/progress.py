"""Progress of a run, from the names of its checkpoints: one listing, no reads."""

from __future__ import annotations

from typing import NamedTuple

from jobs.core.run import Plan
from jobs.ledger.ledger import Ledger


class RunProgress(NamedTuple):
    """Rows with an outcome, rows that ended badly, and bytes handled.

    A row that two attempts did counts at most once.
    """

    rows: int
    bad_rows: int
    size_bytes: int


async def find_progress(ledger: Ledger, run_id: str, plan: Plan) -> RunProgress:
    """How far the run is now."""
    done = [0] * len(plan.shards)
    bad_rows = size_bytes = 0
    for checkpoint in await ledger.checkpoints(run_id, plan=plan):
        done[checkpoint.shard] += checkpoint.rows
        bad_rows += checkpoint.bad_rows
        size_bytes += checkpoint.size_bytes
    rows = sum(min(count, shard.rows) for count, shard in zip(done, plan.shards, strict=True))
    return RunProgress(rows, bad_rows, size_bytes)
