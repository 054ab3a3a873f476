"""backup: what an event asks for. Each version named is stored at the destination, and the source's newest is on top.

Replicate works from a manifest and asks "is it there?". Events come late, twice and in any order, so that this job asks
the source which version is the newest each time, after each write (`jobs.core.succession`):

- A new key costs three requests: HEAD, a guarded CopyObject, and HEAD again, since the source may have moved on.
- Anything else looks at both histories, takes one guarded step, and looks again, until nothing is left to do. Whoever
  writes last has looked after it, so that any number of these at once end alike.
- A version that comes after a newer one is appended; then the destination's own copy of the newest is appended
  again, server-side. In between the older one is on top for the time of one CopyObject.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from jobs.core.model import NULL_VERSION, Listed, Location, ObjectInfo, ObjectRef, ObjectVersion, Route
from jobs.core.outcome import Outcome, Status
from jobs.core.succession import Act, newest, next_step
from jobs.errors import ArchivedObject, ConfigError, Conflict, NotFound, PreconditionFailed, StoreError
from jobs.s3.copier import Copier, CopyOptions
from jobs.s3.likeness import Likeness, Unread, identity
from jobs.s3.lookup import find, key_history
from jobs.s3.store import ABSENT, Guard, Store
from jobs.s3.streams import ByteBudget

ROUNDS = 12
_GONE = "the source object is gone"


@dataclass(frozen=True, slots=True)
class BackupOptions(CopyOptions):
    """How to copy; whether deletes are mirrored; above which size this worker leaves an object to another."""

    mirrors_deletes: bool = False
    limit_bytes: int | None = None


class Settled(NamedTuple):
    """What became of one key.

    `outcomes`: row number → outcome; a row that is in `left` has none, since it is above the limit.
    `history` is the source's, oldest first, as last seen (None: nobody had to look). `is_marked`: a delete
    marker was made.
    """

    outcomes: dict[int, Outcome]
    left: frozenset[int] = frozenset()
    history: Sequence[Listed] | None = None
    is_marked: bool = False


class Backup:
    """The backup job of one pair of locations (a `jobs.runs.worker.Job`). The destination has to keep versions."""

    def __init__(self, source: Store, destination: Store, route: Route, options: BackupOptions, budget: ByteBudget):
        self.source, self.destination, self.route = source, destination, route
        self.options, self.budget = options, budget
        self.copier = Copier(source, destination, route, options, budget)
        inside = Route(Location(route.destination.bucket), Location(route.destination.bucket))
        self.restorer = Copier(destination, destination, inside, replace(options, streamed=False), budget)
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
        bet = await self._bet(rows[0]) if len(rows) == 1 else None
        if bet is not None and bet.is_newest:
            return Settled({rows[0].row: bet.outcome})
        made = {} if bet is None else {rows[0].row: bet.outcome}
        return await _Key(self, key, rows, made, progress or Progress(), self._likeness(key)).settle()

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

    async def _bet(self, row: ObjectVersion) -> _Bet | None:
        """Copy a version that is probably the newest of a key that is probably new; None: look closer."""
        now = ObjectRef(self.route.source.bucket, row.key)
        info = await find(self.source, now)
        limit = self.options.limit_bytes
        if info is None or not _is_of(row, info) or info.is_archived or (limit is not None and info.size_bytes > limit):
            return None
        try:
            outcome = await self.copier.copy(row, info, ABSENT)
        except (PreconditionFailed, Conflict, NotFound, ArchivedObject) as error:  # it is another one by now
            if isinstance(error, NotFound) and error.code == "NoSuchBucket":
                raise
            return None
        after = await find(self.source, now)
        return _Bet(outcome, after is not None and _is_of(row, after))


@dataclass(slots=True)
class Progress:
    """`owes_newest`: an older version was put on top, and the newest was not put back yet."""

    owes_newest: bool = False


class _Bet(NamedTuple):
    outcome: Outcome
    is_newest: bool


@dataclass(slots=True)
class _Key:
    """One key being settled."""

    job: Backup
    key: str
    rows: Sequence[ObjectVersion]
    outcomes: dict[int, Outcome]
    progress: Progress
    likeness: Likeness
    is_marked: bool = False
    left: set[int] = field(default_factory=set)
    refused: set[tuple[str | None, str | None]] = field(default_factory=set)

    async def settle(self) -> Settled:
        source, target = self.job.route.source, self._target()
        last: StoreError | None = None
        for _ in range(ROUNDS):
            whole, copies = await asyncio.gather(
                key_history(self.job.source, source.bucket, self.key),
                key_history(self.job.destination, target.bucket, target.key),
            )
            try:
                if await self._step(whole, copies):
                    return Settled(self.outcomes, frozenset(self.left), whole, self.is_marked)
            except Unread:
                self.left |= {row.row for row in self.rows if row.row not in self.outcomes}
                return Settled(self.outcomes, frozenset(self.left), whole, self.is_marked)
            except (PreconditionFailed, Conflict, NotFound) as error:  # somebody was first, or it has gone: look again
                if isinstance(error, NotFound) and error.code == "NoSuchBucket":
                    raise
                last = error
        raise Conflict("backup", str(target), "Raced", f"others kept changing this key, {ROUNDS} times over: {last}")

    async def _step(self, whole: Sequence[Listed], copies: Sequence[Listed]) -> bool:
        """Take one step; True when there was none to take."""
        history = [version for version in whole if identity(version) not in self.refused]
        named = {row.row: _place(row, history) for row in self.rows}
        wanted = sorted({index for index in named.values() if index is not None})
        target = newest(history, mirrors_deletes=self.job.options.mirrors_deletes)
        found: dict[int, int] = {}
        for index in {*wanted, *([] if target is None else [target])}:
            at = await self.likeness.find_copy(history[index], copies)
            if at is not None:
                found[index] = at
        step = next_step(
            history,
            copies,
            wanted,
            found,
            older_on_top=await self.likeness.is_older_on_top(history, copies, target, found),
            mirrors_deletes=self.job.options.mirrors_deletes,
        )
        if step.act is Act.COPY:
            rows = [row for row in self.rows if named[row.row] == step.place]
            covered = found.get(target) if target is not None else None
            self.progress.owes_newest = self.progress.owes_newest or target is None  # it will have to be hidden again
            await self._copy(history[step.place], rows, copies, covered)
        elif step.act is Act.RESTORE:
            await self._restore(copies[step.place], copies)
        elif step.act is Act.MARK and newest(whole, mirrors_deletes=True) is None:
            await self.job.destination.delete(*self._target()[:2])
            self.is_marked = True
        else:
            self.progress.owes_newest = False
            self._conclude(named, history, copies, found)
            return True
        return False

    async def _copy(
        self, version: Listed, rows: Sequence[ObjectVersion], copies: Sequence[Listed], covered: int | None
    ) -> None:
        """Put a source version on top. `covered`: where the newest one's copy is, if this puts an older one over it."""
        size_bytes, limit = version.size_bytes or 0, self.job.options.limit_bytes
        to_restore = copies[covered].size_bytes or 0 if covered is not None else 0
        if limit is not None and max(size_bytes, to_restore) > limit:
            self._refuse(version, rows, None)
            return
        row = _row(version, rows)
        ref = self.job.route.source_of(row)
        info = await self.job.source.head(ref)
        if version.version_id in (None, NULL_VERSION) and info.etag != version.etag:
            raise Conflict("HeadObject", str(ref), "Raced", "the source was overwritten after it was listed")
        if info.is_archived:
            self._refuse(version, rows, Status.ARCHIVED)
            return
        self.progress.owes_newest = self.progress.owes_newest or covered is not None
        try:
            outcome = await self.job.copier.copy(row, info, _guard(copies))
        except ArchivedObject:
            self._refuse(version, rows, Status.ARCHIVED)
            return
        self.likeness.remember(version, outcome)
        for asked in rows:
            self.outcomes[asked.row] = outcome._replace(row=asked.row, version_id=asked.version_id)

    async def _restore(self, copy: Listed, copies: Sequence[Listed]) -> None:
        row = _row(copy, ())
        info = await self.job.destination.head(self.job.restorer.route.source_of(row))
        self.progress.owes_newest = True
        outcome = await self.job.restorer.copy(row, info, _guard(copies))
        self.likeness.remember_twin(copy, outcome)

    def _refuse(self, version: Listed, rows: Sequence[ObjectVersion], status: Status | None) -> None:
        """A version that cannot be copied here: decide as if it were not there."""
        self.refused.add(identity(version))
        if status is None:
            self.left |= {row.row for row in rows}
            return
        reason = "the source must be restored from its archive class first"
        for row in rows:
            self.outcomes[row.row] = Outcome(row.row, row.key, row.version_id, status, reason, etag=row.etag)

    def _conclude(
        self,
        named: dict[int, int | None],
        history: Sequence[Listed],
        copies: Sequence[Listed],
        found: dict[int, int],
    ) -> None:
        """The outcomes of rows that nothing was done for: they were there already, or are gone."""
        for row in self.rows:
            if row.row in self.outcomes or row.row in self.left:
                continue
            index = named[row.row]
            if index is None:
                self.outcomes[row.row] = Outcome(row.row, row.key, row.version_id, Status.MISSING, _GONE, etag=row.etag)
                continue
            version, copy = history[index], copies[found[index]]
            evidence = self.likeness.evidence(version, copy)
            self.outcomes[row.row] = Outcome(
                row.row,
                row.key,
                row.version_id,
                Status.SAME,
                evidence=evidence,
                size_bytes=version.size_bytes or 0,
                etag=version.etag,
                destination_version_id=copy.version_id,
                destination_etag=copy.etag,
            )

    def _target(self) -> ObjectRef:
        return self.job.route.target_of(ObjectVersion(-1, self.key))


def _is_of(row: ObjectVersion, info: ObjectInfo) -> bool:
    """Whether what HEAD shows of the key is the row's version."""
    if row.version_id is None:
        return info.version_id in (None, NULL_VERSION) and row.etag in (None, info.etag)
    return info.version_id == row.version_id


def _place(row: ObjectVersion, history: Sequence[Listed]) -> int | None:
    """Where in the source's history the row's version is.

    Without a version id the ETag names it; in a bucket with versions that is the latest one that has it.
    """
    for index in range(len(history) - 1, -1, -1):
        version = history[index]
        if version.is_delete_marker:
            continue
        if row.version_id is not None:
            if version.version_id == row.version_id:
                return index
        elif row.etag in (None, version.etag):
            return index
    return None


def _row(version: Listed, rows: Sequence[ObjectVersion]) -> ObjectVersion:
    number = rows[0].row if rows else -1
    return ObjectVersion(
        number,
        version.key,
        version.version_id,
        version.is_latest,
        False,
        version.size_bytes,
        version.etag,
        version.last_modified,
        version.storage_class,
    )


def _guard(copies: Sequence[Listed]) -> Guard:
    top = copies[-1] if copies else None
    return ABSENT if top is None or top.is_delete_marker else Guard(etag=top.etag)
