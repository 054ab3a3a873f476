"""Progress of a run from its checkpoints, and whether anybody still works at it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from jobs.core.run import Plan
from jobs.ledger.ledger import Checkpoint, Ledger
from jobs.ledger.owner import BATCH, FOLDER, holder_text, last_owner
from jobs.ledger.run_ids import begin_second
from jobs.reports.figures import parse_time
from jobs.s3.retries import gather_bounded

CLAIM_SECONDS = 600.0
"""A run that nobody has claimed so long after its command began was left by that."""
SILENT_SECONDS = 12 * 3600.0
"""Who works at a run writes more often, but for one object of terabytes. So a run that nobody has
written to for so long has lost its workers, or waits for machines that do not come.
"""
_SIGNS = ("outcomes/", FOLDER, "batch/")
"""The folders of a run into which somebody who works at it writes."""
UNCLAIMED = "it never claimed the run"
CLOCK_SECONDS = 120.0
"""How far a clock may have been set since a claim."""
_BEGAN = 19
"""The start of a process in /proc/PID/stat, counted behind its name: proc(5)."""
_READS = 32
FIRST_KEYS = 5
"""How many keys a text names of many."""


class RunProgress(NamedTuple):
    """Rows with an outcome, rows that ended badly, and bytes handled.

    They come from the names of checkpoints, so a row that two attempts did may count twice. But
    `rows` says that all are done only if they are.
    """

    rows: int
    bad_rows: int
    size_bytes: int


async def find_progress(ledger: Ledger, run_id: str, plan: Plan) -> RunProgress:
    """How far the run is now."""
    by_shard = await _by_shard(ledger, run_id, plan)
    done = [_named_rows(own, shard.rows) for own, shard in zip(by_shard, plan.shards, strict=True)]
    if sum(done) == plan.rows:
        done = await _done_rows(ledger, run_id, plan, by_shard)
    every = list(chain.from_iterable(by_shard))
    return RunProgress(sum(done), sum(each.bad_rows for each in every), sum(each.size_bytes for each in every))


async def unfinished_shards(ledger: Ledger, run_id: str, plan: Plan) -> list[int]:
    """The shards with rows that have no outcome yet."""
    done = await _done_rows(ledger, run_id, plan, await _by_shard(ledger, run_id, plan))
    return [number for number, (rows, shard) in enumerate(zip(done, plan.shards, strict=True)) if rows < shard.rows]


async def _by_shard(ledger: Ledger, run_id: str, plan: Plan) -> list[list[Checkpoint]]:
    by_shard: list[list[Checkpoint]] = [[] for _ in plan.shards]
    for checkpoint in await ledger.checkpoints(run_id, plan=plan):
        by_shard[checkpoint.shard].append(checkpoint)
    return by_shard


def _named_rows(checkpoints: Iterable[Checkpoint], most: int) -> int:
    return min(sum(each.rows for each in checkpoints), most)


async def _done_rows(ledger: Ledger, run_id: str, plan: Plan, by_shard: Sequence[Sequence[Checkpoint]]) -> list[int]:
    """How many rows of each shard are done. Checkpoints are read only where several attempts, by the
    names, did all rows of a shard: one that was late may have done rows of another.
    """
    done = []
    for own, shard in zip(by_shard, plan.shards, strict=True):
        rows = _named_rows(own, shard.rows)
        if rows == shard.rows and len({each.attempt for each in own}) > 1:
            rows = len(await _done_numbers(ledger, run_id, own))
        done.append(rows)
    return done


async def _done_numbers(ledger: Ledger, run_id: str, checkpoints: Sequence[Checkpoint]) -> set[int]:
    """The rows of a shard's checkpoints, by their files."""
    from jobs.tables.rows import read_outcome_numbers

    files = await gather_bounded(lambda each: ledger.checkpoint_data(run_id, each), checkpoints, _READS)
    return set(chain.from_iterable(read_outcome_numbers(each)[0] for each in files))


class RunCommand(NamedTuple):
    """The command that works at a run. `is_over`: None if it runs where this machine cannot see it.

    `is_ours`: it is this process.
    """

    text: str
    is_over: bool | None
    is_ours: bool


async def find_command(ledger: Ledger, run_id: str) -> RunCommand | None:
    """The command that claimed the run last. Its workers end with it.

    None: nobody has claimed the run yet, or AWS Batch works at it. A command claims what it has
    planned at once. One that was killed before never does.
    """
    number, document = await last_owner(ledger, run_id)
    if not number:
        is_young = (begin_second(run_id) or 0) > time.time() - CLAIM_SECONDS
        return None if is_young or await ledger.names(run_id, "batch/") else RunCommand(UNCLAIMED, True, False)
    if document.get("batch_job_id") or str(document.get("id")).startswith(BATCH):
        return None
    is_here = document.get("host") == os.uname().nodename and isinstance(document.get("pid"), int)
    is_over = not _is_alive(document["pid"], document.get("since")) if is_here else None
    return RunCommand(holder_text(document), is_over, is_here and document["pid"] == os.getpid())


async def silent_since(ledger: Ledger, run_id: str, command: RunCommand | None) -> float | None:
    """When somebody wrote to a run last, in epoch seconds by S3's clock, if that is long ago.

    None: the run is young, or somebody wrote to it since, or its command runs on this machine.
    `command`: from `find_command`.
    """
    began, limit = begin_second(run_id), time.time() - SILENT_SECONDS
    if began is None or began > limit or (command is not None and command.is_over is False):
        return None
    written = await gather_bounded(lambda folder: ledger.written_at(run_id, folder), _SIGNS, _READS)
    last = max(began, *written)
    return last if last <= limit else None


def _is_alive(pid: int, since: object) -> bool:
    """Whether the process of this id lives that made its claim at `since` (ISO 8601).

    A machine that was started again, or a container, gives the id to another one.
    """
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    began, claimed = _began_at(pid), parse_time(since if isinstance(since, str) else None)
    return began is None or claimed is None or began <= claimed.timestamp() + CLOCK_SECONDS


def _began_at(pid: int) -> float | None:
    """When a process began, in epoch seconds. None where the system has no /proc."""
    try:
        ticks = int(Path(f"/proc/{pid}/stat").read_text(encoding="latin-1").rpartition(")")[2].split()[_BEGAN])
        [booted] = [line.split()[1] for line in Path("/proc/stat").read_text().splitlines() if line[:6] == "btime "]
        return int(booted) + ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
