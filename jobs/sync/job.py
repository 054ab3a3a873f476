"""The job of a run that copies: `sync_key` over the keys of a shard."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partialmethod

from jobs.core.histories import keys_of
from jobs.core.model import ObjectVersion
from jobs.core.outcome import Outcome
from jobs.sync.key import Sides, sync_key


class SyncJob(Sides):
    """The job of one worker (a `jobs.runs.worker.Job`)."""

    chains = staticmethod(keys_of)

    async def process(self, rows: Sequence[ObjectVersion], *, is_last: bool = False) -> list[Outcome]:
        """The outcomes of one key's rows. Raises what `sync_key` raises.

        `is_last`: a version whose requests keep failing ends as failed, and others go on.
        """
        result = await sync_key(self, rows[0].key, rows, is_last=is_last)
        return [result.outcomes[row.row] for row in rows]

    process_last = partialmethod(process, is_last=True)
