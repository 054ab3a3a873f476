"""How far a run is, by the names of its checkpoints alone: one listing, nothing is read."""

from __future__ import annotations

from typing import NamedTuple

from jobs.core.run import Plan
from jobs.ledger.ledger import Ledger


class Standing(NamedTuple):
    """Rows with an outcome, those that ended badly, bytes handled. Rows that two attempts did count once at most."""

    rows: int
    bad_rows: int
    size_bytes: int


async def find_standing(ledger: Ledger, run_id: str, plan: Plan) -> Standing:
    """Where the run stands now."""
    done = [0] * len(plan.shards)
    bad_rows = size_bytes = 0
    for checkpoint in await ledger.checkpoints(run_id, plan=plan):
        done[checkpoint.shard] += checkpoint.rows
        bad_rows += checkpoint.bad_rows
        size_bytes += checkpoint.size_bytes
    rows = sum(min(count, shard.rows) for count, shard in zip(done, plan.shards, strict=True))
    return Standing(rows, bad_rows, size_bytes)
