"""Requests to thaw archived objects, with a note of each run that waits.

    <ledger>/thawing/<bucket>/<key>/<run id>.json
    <ledger>/thawing/<bucket>/%long/<hash of a long key>/<run id>.json

The note is written before the request to S3, so that the handler of S3's event finds every waiting
run.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field

from jobs.core.model import Location, ObjectRef
from jobs.errors import Conflict, PreconditionFailed
from jobs.ledger.files import write_file
from jobs.restore.thawing import ARCHIVE_ACCESS, DEEP_ARCHIVE_ACCESS, Tier, waiting_name
from jobs.s3.retries import retry
from jobs.s3.store import Restoring, Store


@dataclass(frozen=True, slots=True)
class ThawRequests:
    """The requests of one worker, one for each object. `ledger` and `location`: where notes go."""

    ledger: Store
    location: Location
    run_id: str
    tier: Tier
    days: int
    _asked: dict[ObjectRef, asyncio.Task[None]] = field(default_factory=dict)

    async def request(self, store: Store, ref: ObjectRef, storage_class: str) -> None:
        """Ask S3 to thaw an object. Raises S3's errors, and Conflict if it is readable already."""
        if ref not in self._asked:
            self._asked[ref] = asyncio.create_task(self._request(store, ref, storage_class))
        try:
            await asyncio.shield(self._asked[ref])
        except Conflict:
            self._asked.pop(ref, None)
            raise

    async def _request(self, store: Store, ref: ObjectRef, storage_class: str) -> None:
        name = waiting_name(ref.bucket, ref.key, self.run_id)
        note = json.dumps({"version_id": ref.version_id, "tier": self.tier.value}).encode()
        with contextlib.suppress(PreconditionFailed):
            await write_file(self.ledger, self.location, name, note)
        days = None if storage_class in (ARCHIVE_ACCESS, DEEP_ARCHIVE_ACCESS) else self.days
        answer = await retry(lambda: store.request_restore(ref, days=days, tier=self.tier.value))
        if answer is Restoring.READY:
            raise Conflict("RestoreObject", str(ref), "Thawed", "it can be read by now")
