"""backup: what an event asks for. Each version named is stored at the destination, and the source's newest is on top.

Replicate works from a manifest and asks "is it there?". Events come late, twice and in any order, so that this job asks
the source which version is the newest each time, after each write (`jobs.backup.succession`):

- A new key costs three requests: HEAD, a guarded CopyObject, and HEAD again, since the source may have moved on.
- Anything else looks at both sides (`key_backup`), takes guarded steps, and asks again whether the source has moved on,
  until nothing is left to do. A writer always looks after its last write, so that any number of these at
  once end alike. What an event costs does not grow with the number of versions of its key.
- A version that comes after a newer one is appended; then the destination's own copy of the newest is appended
  again, server-side. In between the older one is on top for the time of one CopyObject.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from jobs.backup.key_backup import BackupOptions, BackupStores, KeyBackup, Progress, Settled
from jobs.backup.version_match import Likeness, identity
from jobs.core.histories import keys_of
from jobs.core.model import NULL_VERSION, ObjectInfo, ObjectRef, ObjectVersion, Route
from jobs.core.outcome import Outcome, Status
from jobs.errors import ArchivedObject, ConfigError, Conflict, NoSuchBucket, NotFound, PreconditionFailed
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.lookup import find
from jobs.s3.store import ABSENT, Store

__all__ = ["Backup", "BackupOptions", "Progress", "Settled"]


class Backup(BackupStores):
    """The backup job of one pair of locations (a `jobs.runs.worker.Job`). The destination has to keep versions."""

    chains = staticmethod(keys_of)

    def __init__(self, source: Store, destination: Store, route: Route, options: BackupOptions, budget: ByteBudget):
        super().__init__(source, destination, route, options, budget)
        self._is_checked = False

    async def process(self, rows: Sequence[ObjectVersion]) -> list[Outcome]:
        """The outcomes of one key's rows. Raises what `settle` raises."""
        settled = await self.settle(rows[0].key, rows)
        above = f"larger than the limit of {self.options.limit_bytes} bytes"
        return [
            settled.outcomes.get(row.row) or Outcome(row.row, row.key, row.version_id, Status.FAILED, above)
            for row in rows
        ]

    async def settle(self, key: str, rows: Sequence[ObjectVersion] = (), progress: Progress | None = None) -> Settled:
        """Store the rows' versions and put the right one on top; without rows, only the latter.

        A row whose version is gone from the source ends as `missing`: the history that comes along says more.
        `progress` tells a caller that cancels this whether an older version may be on top.
        Raises StoreError; ConfigError when the destination keeps no versions. Doing it again is safe at any time.
        """
        await self._check_destination()
        likeness = self._likeness(key)
        bet = await self._bet(rows[0], likeness) if len(rows) == 1 else None
        if bet is not None and bet.is_newest:
            return Settled({rows[0].row: bet.outcome})
        made = {} if bet is None else {rows[0].row: bet.outcome}
        return await KeyBackup(self, key, rows, made, progress or Progress(), likeness).settle()

    def _likeness(self, key: str) -> Likeness:
        source = ObjectRef(self.route.source.bucket, key)
        target = self.route.target_of(ObjectVersion(-1, key))
        return Likeness(self.source, source, self.destination, target, self.budget, self.options.limit_bytes)

    async def _check_destination(self) -> None:
        if not self._is_checked:
            bucket = self.route.destination.bucket
            if not await self.destination.is_versioned(bucket):
                raise ConfigError(f"{bucket} keeps no versions: enable versioning, or older copies would be lost")
            self._is_checked = True

    async def _bet(self, row: ObjectVersion, likeness: Likeness) -> _Bet | None:
        """Copy a version that is probably the newest of a key that is probably new; None: look closer."""
        now = ObjectRef(self.route.source.bucket, row.key)
        info = await find(self.source, now)
        if info is not None:
            likeness.remember_source(info)
        limit = self.options.limit_bytes
        if info is None or not _is_of(row, info) or info.is_archived or (limit is not None and info.size_bytes > limit):
            return None
        try:
            outcome = await self.copier.copy(row, info, ABSENT)
        except NoSuchBucket:
            raise
        except (PreconditionFailed, Conflict, NotFound, ArchivedObject):  # it is another one by now
            return None
        likeness.remember(identity(info), outcome)
        after = await find(self.source, now)
        return _Bet(outcome, after is not None and _is_of(row, after))


class _Bet(NamedTuple):
    outcome: Outcome
    is_newest: bool


def _is_of(row: ObjectVersion, info: ObjectInfo) -> bool:
    """Whether what HEAD shows of the key is the row's version."""
    if row.version_id is None:
        return info.version_id in (None, NULL_VERSION) and row.etag in (None, info.etag)
    return info.version_id == row.version_id
