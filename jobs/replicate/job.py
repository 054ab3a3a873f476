"""The replicate job: brings the keys of a manifest to the destination, by `jobs.sync.key`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from jobs.core.histories import keys_of
from jobs.core.model import ObjectVersion, Route
from jobs.core.outcome import Outcome
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.store import Store
from jobs.s3.uploads import NO_RECORDS, UploadRecords
from jobs.sync.key import Sides, SyncOptions, sync_key


class Replicate:
    """The replicate job of one worker (a `jobs.runs.worker.Job`)."""

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
        self.sides = Sides(source, destination, route, replace(options, is_replay=True), budget, records)

    async def process(self, rows: Sequence[ObjectVersion]) -> list[Outcome]:
        """Return the outcomes of one key's rows, oldest version first. Raises as `sync_key`."""
        return await self._process(rows, is_last=False)

    async def process_last(self, rows: Sequence[ObjectVersion]) -> list[Outcome]:
        """Do as `process`, at the last try: a version that cannot be copied ends as failed."""
        return await self._process(rows, is_last=True)

    async def _process(self, rows: Sequence[ObjectVersion], *, is_last: bool) -> list[Outcome]:
        result = await sync_key(self.sides, rows[0].key, rows, is_last=is_last)
        return [result.outcomes[row.row] for row in rows]
