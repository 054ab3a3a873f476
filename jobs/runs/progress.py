"""Progress of a run from its checkpoints, and whether anybody still works at it."""

from __future__ import annotations

import os
from itertools import chain, islice
from typing import NamedTuple

from jobs.core.run import Plan
from jobs.ledger.ledger import Ledger
from jobs.runs.leases import BATCH, LAUNCHES, holder_text

FIRST_KEYS = 5
"""How many keys a text names of many."""


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


async def first_open_keys(ledger: Ledger, run_id: str, plan: Plan) -> list[str]:
    """The first few keys whose rows have no outcome yet, of the first shard that has such rows."""
    from jobs.tables.rows import read_outcome_numbers, read_shard

    checkpoints = await ledger.checkpoints(run_id, plan=plan)
    for shard, numbers in enumerate(plan.row_numbers()):
        own = [each for each in checkpoints if each.shard == shard]
        if sum(each.rows for each in own) >= len(numbers):
            continue
        files = [await ledger.checkpoint_data(run_id, each, numbers) for each in own]
        done = set(chain.from_iterable(read_outcome_numbers(each)[0] for each in files))
        rows = chain.from_iterable(read_shard(await ledger.shard(run_id, shard, numbers)))
        keys = (row.key for row in rows if row.row not in done)
        return list(islice(dict.fromkeys(keys), FIRST_KEYS))  # versions of a key are one key
    return []


class RunCommand(NamedTuple):
    """The command that works at a run. `is_over`: None if it runs where this machine cannot see it.

    `is_ours`: it is this process.
    """

    text: str
    is_over: bool | None
    is_ours: bool


async def find_command(ledger: Ledger, run_id: str) -> RunCommand | None:
    """The command that claimed the run last. Its workers end with it.

    None: nobody has claimed the run, or AWS Batch works at it.
    """
    names = await ledger.names(run_id, LAUNCHES)
    if not names:
        return None
    document = await ledger.document(run_id, LAUNCHES + names[-1])
    if document.get("batch_job_id") or str(document.get("id")).startswith(BATCH):
        return None
    is_here = document.get("host") == os.uname().nodename and isinstance(document.get("pid"), int)
    is_over = not _is_alive(document["pid"]) if is_here else None
    return RunCommand(holder_text(document), is_over, is_here and document["pid"] == os.getpid())


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
