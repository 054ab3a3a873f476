"""The job of a run that copies: `sync_key` over the keys of a shard."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partialmethod

from jobs.core.histories import keys_of
from jobs.core.model import ObjectVersion, Route
from jobs.core.outcome import Outcome
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.store import Store
from jobs.s3.uploads import NO_RECORDS, UploadRecords
from jobs.sync.key import Sides, SyncOptions, sync_key


class SyncJob:
    """The job of one worker (a `jobs.runs.worker.Job`)."""

    chains = staticmethod(keys_of)

    def __init__(
        self,
        source: Store,
        destination: Store,
        route: Route,
        options: SyncOptions,
        budget: ByteBudget,
        records: UploadRecords = NO_RECORDS,
    ):
        self.sides = Sides(source, destination, route, options, budget, records)

    async def process(self, rows: Sequence[ObjectVersion], *, is_last: bool = False) -> list[Outcome]:
        """The outcomes of one key's rows. Raises what `sync_key` raises.

        `is_last`: a version whose requests keep failing ends as failed, and others go on.
        """
        result = await sync_key(self.sides, rows[0].key, rows, is_last=is_last)
        return [result.outcomes[row.row] for row in rows]

    process_last = partialmethod(process, is_last=True)
