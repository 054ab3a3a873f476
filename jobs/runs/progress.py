"""Progress of a run from its checkpoints, and whether anybody still works at it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

from jobs.core.display import shown_key
from jobs.core.outcome import GOOD
from jobs.core.run import Plan
from jobs.core.words import explained
from jobs.ledger.ledger import Checkpoint, Ledger
from jobs.ledger.owner import last_owner, process_began
from jobs.ledger.run_ids import begin_second
from jobs.s3.retries import gather_bounded

CLAIM_SECONDS = 600.0
"""A command claims what it has planned at once. Killed before, it never does."""
SILENT_SECONDS = 12 * 3600.0
"""Who works at a run writes more often, but for one object of terabytes. So a run that nobody has
written to for so long has lost its workers, or waits for machines that do not come.
"""
FIRST_KEYS = 5
"""How many keys a text names of many."""


class RunProgress(NamedTuple):
    """Rows with an outcome, rows that ended badly, and bytes handled.

    They come from the names of checkpoints, so a row that two attempts did may count twice. But
    `rows` says that all are done only if they are. `latest_error`: the key of the row that ended
    badly last, and why.
    """

    rows: int
    bad_rows: int
    size_bytes: int
    latest_error: str


async def find_progress(ledger: Ledger, run_id: str, plan: Plan) -> RunProgress:
    """How far the run is now."""
    by_shard = await _by_shard(ledger, run_id, plan)
    done = [min(sum(each.rows for each in own), shard.rows) for own, shard in zip(by_shard, plan.shards, strict=True)]
    if sum(done) == plan.rows:
        done = await _done_rows(ledger, run_id, plan, by_shard)
    every = list(chain.from_iterable(by_shard))
    size_bytes, error = sum(each.size_bytes for each in every), await _latest_error(ledger, run_id, every)
    return RunProgress(sum(done), sum(each.bad_rows for each in every), size_bytes, error)


async def _latest_error(ledger: Ledger, run_id: str, checkpoints: Sequence[Checkpoint]) -> str:
    from jobs.tables.rows import read_outcomes

    latest = max((each for each in checkpoints if each.bad_rows), key=lambda each: each.written_at, default=None)
    outcomes = read_outcomes(await ledger.checkpoint_data(run_id, latest)) if latest else ()
    bad = max((each for each in outcomes if each.status not in GOOD), key=lambda each: each.at, default=None)
    return f"{shown_key(bad.key)}: {explained(bad.reason, bad.detail)}" if bad else ""


async def unfinished_shards(ledger: Ledger, run_id: str, plan: Plan) -> list[int]:
    """The shards with rows that have no outcome yet."""
    done = await _done_rows(ledger, run_id, plan, await _by_shard(ledger, run_id, plan))
    return [number for number, (rows, shard) in enumerate(zip(done, plan.shards, strict=True)) if rows < shard.rows]


async def _by_shard(ledger: Ledger, run_id: str, plan: Plan) -> list[list[Checkpoint]]:
    by_shard: list[list[Checkpoint]] = [[] for _ in plan.shards]
    for checkpoint in await ledger.checkpoints(run_id, plan=plan):
        by_shard[checkpoint.shard].append(checkpoint)
    return by_shard


async def _done_rows(ledger: Ledger, run_id: str, plan: Plan, by_shard: Sequence[Sequence[Checkpoint]]) -> list[int]:
    """How many rows of each shard are done. Checkpoints are read only where several attempts, by the
    names, did all rows of a shard: one that was late may have done rows of another.
    """
    from jobs.tables.rows import read_row_numbers

    done = []
    for own, shard in zip(by_shard, plan.shards, strict=True):
        rows = min(sum(each.rows for each in own), shard.rows)
        if rows == shard.rows and len({each.attempt for each in own}) > 1:
            files = await gather_bounded(lambda each: ledger.checkpoint_data(run_id, each), own)
            rows = len(set(chain.from_iterable(read_row_numbers(each) for each in files)))
        done.append(rows)
    return done


async def has_stopped(ledger: Ledger, run_id: str) -> bool:
    """True if a run's command has ended, where this machine knows it by its process. Else: if nobody has
    written to the run for long.
    """
    _, document = await last_owner(ledger, run_id)
    pid, began = document.get("pid"), document.get("began")
    if document.get("host") == os.uname().nodename and isinstance(pid, int) and began:
        return bool(process_began(pid) != began)
    limit = time.time() - (SILENT_SECONDS if document else CLAIM_SECONDS)
    if (begin_second(run_id) or 0.0) > limit:
        return False
    return await ledger.written_at(run_id) < limit
