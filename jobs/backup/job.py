"""The backup job: stores the versions that events name, the newest on top.

Replicate works from a manifest and asks "is it there?". Events come late, twice and in any order.
So this job asks the source which version is the newest, each time and after each write
(`jobs.backup.succession`):

- A new key of a small object costs three requests: HEAD, a guarded CopyObject, and HEAD again,
  since the source may have changed.
- Any other key is read at both sides (`key_backup`). The job takes guarded steps and asks again
  whether the source has changed, until no step is left. A writer always looks after its last write,
  so any number of concurrent writers reach the same end. What an event costs does not grow with the
  number of versions of its key.
- A version that comes after a newer one is appended. Then the destination's own copy of the newest
  is appended again, server-side. In between the older version is on top for the time of one
  CopyObject.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from jobs.backup.key_backup import (
    BackupOptions,
    BackupStores,
    DamagedNewest,
    KeyBackup,
    KeyProgress,
    KeyResult,
    Unfinished,
)
from jobs.backup.version_match import VersionMatcher, identity
from jobs.core.histories import keys_of
from jobs.core.model import NULL_VERSION, ObjectInfo, ObjectRef, ObjectVersion
from jobs.core.outcome import Outcome, Status
from jobs.errors import (
    REFUSALS,
    ArchivedObject,
    ConfigError,
    Conflict,
    Denied,
    NoSuchBucket,
    NotFound,
    PreconditionFailed,
    Redirected,
)
from jobs.s3.lookup import find
from jobs.s3.store import ABSENT

__all__ = ["Backup", "BackupOptions", "KeyProgress", "KeyResult", "Unfinished"]


class Backup(BackupStores):
    """The backup job of one pair of locations (a `jobs.runs.worker.Job`).

    The destination must keep versions.
    """

    chains = staticmethod(keys_of)
    _is_checked = False

    async def process(self, rows: Sequence[ObjectVersion]) -> list[Outcome]:
        """Return the outcomes of one key's rows. Raises what `settle` raises, but for refusals.

        A refusal of one version ends all rows of its key, whose versions have their places by each
        other, and no other row. Another attempt at them knows what this one owes.
        """
        key = rows[0].key
        await self._check_destination()
        try:
            settled = await self.settle(key, rows, self.begun.setdefault(key, KeyProgress()))
        except DamagedNewest as error:
            named = {row.row for row in rows if str(self.route.source_of(row)) == error.target or not row.version_id}
            statuses = [Status.DAMAGED if row.row in named else Status.FAILED for row in rows]
            return [Outcome.of(row, status, str(error)) for row, status in zip(rows, statuses, strict=True)]
        except NoSuchBucket:
            raise
        except REFUSALS as error:
            status = Status.DENIED if isinstance(error, Denied | Redirected) else Status.FAILED
            return [Outcome.of(row, status, str(error)) for row in rows]
        self.begun.pop(key, None)
        reason = f"larger than the limit of {self.options.limit_bytes} bytes"
        return [
            settled.outcomes.get(row.row) or Outcome(row.row, row.key, row.version_id, Status.FAILED, reason)
            for row in rows
        ]

    async def settle(
        self, key: str, rows: Sequence[ObjectVersion] = (), progress: KeyProgress | None = None
    ) -> KeyResult:
        """Store the rows' versions and put the newest one on top. Without rows, do only the latter.

        A row whose version is gone from the source ends as `missing`. The returned history says
        more. A caller that cancels this reads in `progress` whether an older version may be on top.
        Raises StoreError. Raises ConfigError when the destination keeps no versions. Repeating it
        is always safe.
        """
        await self._check_destination()
        matcher = self._matcher(key)
        first = await self._copy_new_key(rows[0], matcher) if len(rows) == 1 else None
        if first is not None and first.is_newest:
            return KeyResult({rows[0].row: first.outcome})
        outcomes = {} if first is None else {rows[0].row: first.outcome}
        return await KeyBackup(self, key, rows, outcomes, progress or KeyProgress(), matcher).settle()

    def _matcher(self, key: str) -> VersionMatcher:
        source = ObjectRef(self.route.source.bucket, key)
        target = self.route.target_of(ObjectVersion(-1, key))
        return VersionMatcher(self.source, source, self.destination, target, self.budget, self.options.limit_bytes)

    async def _check_destination(self) -> None:
        if not self._is_checked:
            bucket = self.route.destination.bucket
            if not await self.destination.is_versioned(bucket):
                raise ConfigError(f"{bucket} keeps no versions: enable versioning, or older copies would be lost")
            self._is_checked = True

    async def _copy_new_key(self, row: ObjectVersion, matcher: VersionMatcher) -> _FirstCopy | None:
        """Copy a version that is probably the newest of a key that is probably new.

        None: look at both sides.
        """
        current = ObjectRef(self.route.source.bucket, row.key)
        info = await find(self.source, current)
        if info is not None:
            matcher.record_source(info)
        limit = self.options.limit_bytes
        if info is None or not _is_of(row, info) or info.is_archived or (limit is not None and info.size_bytes > limit):
            return None
        if not self.copier.is_one_write(info.size_bytes):
            return None  # its parts would all be copied before S3 says that the key is not new
        try:
            outcome = await self.copier.copy(row, info, ABSENT)
        except NoSuchBucket:
            raise
        except (PreconditionFailed, Conflict, NotFound, ArchivedObject):
            return None  # the key is not new, or the source changed
        matcher.record_copy(identity(info), outcome)
        after = await find(self.source, current)
        return _FirstCopy(outcome, after is not None and _is_of(row, after))


class _FirstCopy(NamedTuple):
    """The copy of a new key. `is_newest`: the source still had this version after the copy."""

    outcome: Outcome
    is_newest: bool


def _is_of(row: ObjectVersion, info: ObjectInfo) -> bool:
    """True if HEAD of the key shows the row's version."""
    if row.version_id in (None, NULL_VERSION):
        return info.version_id in (None, NULL_VERSION) and row.etag in (None, info.etag)
    return info.version_id == row.version_id
