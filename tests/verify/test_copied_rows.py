"""What a run has just copied, by its own outcomes: only of this does a verification ask one side."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from jobs.core.model import Location
from jobs.core.outcome import GOOD, Evidence, Outcome, Status
from jobs.core.run import Plan, ShardSummary
from jobs.ledger.ledger import Checkpoint, Ledger
from jobs.tables.rows import write_outcomes
from jobs.verify.copied_rows import CopiedRows
from tests.doubles.memory_store import MemoryStore

RUN, ROWS = "20261127T000000Z-replicate-1", 4


def copied_rows(checkpoints: Iterable[dict[int, Status]], *, shard: int = 1, cut: bool = False) -> set[int]:
    """The rows that count in the second shard of two, by its checkpoints."""

    async def scene() -> set[int]:
        store = MemoryStore()
        store.create_bucket("ledger")
        ledger = Ledger(store, Location("ledger", "here"))
        plan = Plan(2 * ROWS, 0, (ShardSummary(ROWS, 0, sha256="a" * 64), ShardSummary(ROWS, 0, sha256="b" * 64)))
        await ledger.publish_plan(RUN, plan)
        for number, statuses in enumerate(checkpoints):
            outcomes = [Outcome(row, "k", None, each, "", Evidence.NONE) for row, each in statuses.items()]
            bad_rows = sum(each.status not in GOOD for each in outcomes)
            data = write_outcomes(outcomes)
            checkpoint = Checkpoint(1, "attempt", number, len(outcomes), bad_rows, 0)
            await ledger.write_checkpoint(RUN, checkpoint, data[: len(data) // 2] if cut else data)
        copied = CopiedRows(ledger, RUN, shard)
        return {row for row in range(2 * ROWS) if await copied.has(row)}

    return asyncio.run(scene())


def test_a_row_counts_that_was_copied_or_found_to_be_the_same() -> None:
    statuses = {4: Status.DONE, 5: Status.SAME, 6: Status.CHANGED, 7: Status.MISSING}
    assert copied_rows([statuses]) == {4, 5}


@pytest.mark.parametrize("other", sorted(set(Status) - {Status.DONE, Status.SAME}))
def test_no_row_counts_that_any_attempt_ended_otherwise(other: Status) -> None:
    assert copied_rows([{4: Status.DONE}, {4: other, 5: Status.DONE}]) == {5}
    assert copied_rows([{4: other}, {4: Status.SAME}]) == set()


def test_nothing_counts_of_another_shard_or_of_outcomes_that_cannot_be_read() -> None:
    assert copied_rows([{4: Status.DONE}], shard=0) == set()
    assert copied_rows([{4: Status.DONE}], shard=2) == set()
    assert copied_rows([{4: Status.DONE}], cut=True) == set()
    assert copied_rows([]) == set()
