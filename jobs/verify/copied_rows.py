"""Rows of a shard that the run before this one has just copied, by that run's own outcomes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from jobs.core.outcome import Status
from jobs.errors import LedgerError
from jobs.ledger.ledger import Ledger
from jobs.tables.rows import read_statuses

_COPIED = frozenset({Status.DONE, Status.SAME})
"""Outcomes of a copy whose run looked at the source: it had the ETag of the row."""


@dataclass(slots=True)
class CopiedRows:
    """Which rows of a shard run `run_id` copied, or found to be the same.

    The outcomes are read once, when the first row is asked about. A row counts only if each attempt
    at it ended so. Where the outcomes cannot be read, no row counts.
    """

    ledger: Ledger
    run_id: str
    shard: int
    _rows: frozenset[int] | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def has(self, row: int) -> bool:
        """True if the run has copied this row. Raises StoreError if the ledger does not answer."""
        async with self._lock:
            if self._rows is None:
                try:
                    self._rows = await self._read()
                except LedgerError:  # the copy's own report says so; here both sides are asked
                    self._rows = frozenset()
        return row in self._rows

    async def _read(self) -> frozenset[int]:
        plan = await self.ledger.plan(self.run_id)
        numbers = plan.row_numbers()[self.shard] if self.shard < len(plan.shards) else range(0)
        copied: set[int] = set()
        others: set[int] = set()
        for checkpoint in await self.ledger.checkpoints(self.run_id, self.shard, plan=plan):
            data = await self.ledger.checkpoint_data(self.run_id, checkpoint, numbers)
            for row, status in read_statuses(data):
                (copied if status in _COPIED else others).add(row)
        return frozenset(copied - others)
