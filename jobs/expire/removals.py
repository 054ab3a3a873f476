"""Removals of originals: announce, delete what was seen a moment ago, confirm.

Nothing else deletes originals. A tombstone is written before the first delete, so what a killed
attempt removed is known. Each delete is sent at most `FRESH_SECONDS` after the look at the original
and its copy that it relies on (`Store.delete`, `send_by`). If a comparison took longer, or the
machine slept, both are looked at again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from jobs.core.elapsed import elapsed_seconds
from jobs.core.enums import Step
from jobs.core.model import ObjectVersion, is_exact
from jobs.core.outcome import Outcome, PartlyDone, Status
from jobs.core.reasons import Reason, Why
from jobs.errors import (
    Conflict,
    Denied,
    Interrupted,
    NoSuchBucket,
    NotFound,
    PreconditionFailed,
    Rejected,
    StoreError,
    Unavailable,
)
from jobs.expire.copies import Copies, Proven
from jobs.expire.deletes import ExactDeletes
from jobs.expire.originals import Seen
from jobs.s3.retries import gather_bounded

if TYPE_CHECKING:
    from jobs.ledger.tombstones import Tombstone, Tombstones

REQUESTS_AT_ONCE = 64
REMOVED_AT_ONCE = 128
"""So many are looked at again and then deleted: few enough for a slow server to do that in time."""

FRESH_SECONDS = 5.0
"""How long after the beginning of a look at the original, its copy and their places a delete may be sent."""

_Remove = Callable[[Sequence[tuple[str, str]], float], Awaitable[list[StoreError | None]]]


class Removal(NamedTuple):
    """A row whose original goes now, and why it may. `seen_at`: when the older of both looks began."""

    seen: Seen
    proven: Proven
    step: Step
    seen_at: float

    @property
    def row(self) -> int:
        """The row's number."""
        return self.seen.row.row

    @property
    def is_exact(self) -> bool:
        """True if the version id alone removes these bytes and no others."""
        return self.step is Step.REMOVE and is_exact(self.seen.original.version_id)

    @property
    def is_null(self) -> bool:
        """True for a null version below others: a condition would apply to the one on top."""
        return not self.seen.original.is_current and not is_exact(self.seen.original.version_id)

    @property
    def is_guarded(self) -> bool:
        """True if a condition protects it."""
        return not self.is_exact and not self.is_null


class Ended(NamedTuple):
    """What became of a delete: why it was not done, or the id of the marker. None: there is none."""

    error: StoreError | Interrupted | None = None
    marker_id: str | None = None


@dataclass(frozen=True, slots=True)
class Removals:
    """The deletes of one worker in one bucket.

    `look` returns a single row's original as it is now. `look_at_places` raises where a place is no
    longer what the plan relied on.
    """

    copies: Copies
    deletes: ExactDeletes
    tombstones: Tombstones
    clock: Callable[[], float]
    look: Callable[..., Awaitable[Seen | Outcome | None]]
    look_at_places: Callable[[], Awaitable[float]]
    _unanswered: set[int] = field(default_factory=set, init=False)
    """The rows whose delete may have been done, or may still be: its answer was lost."""

    async def remove(self, removals: Sequence[Removal]) -> list[Outcome | StoreError]:
        """Announce, delete, confirm, some at a time → for each its outcome, or an error that a retry
        may cure.

        Raises PartlyDone when the worker has to stop.
        """
        done: list[Outcome | StoreError] = []
        for start in range(0, len(removals), REMOVED_AT_ONCE):
            group = removals[start : start + REMOVED_AT_ONCE]
            try:
                done += await self._remove(group)
            except (Unavailable, Conflict) as error:
                done += [error] * len(group)
            except Interrupted as stop:
                ends = [*done, *getattr(stop, "outcomes", ())]
                raise PartlyDone(str(stop), [each for each in ends if isinstance(each, Outcome)]) from stop
        return done

    async def _remove(self, removals: Sequence[Removal]) -> list[Outcome | StoreError]:
        steps = {each.step for each in removals if each.is_guarded}
        self.deletes.check_heeded(steps)
        name = await self.tombstones.announce([self._tombstone(each) for each in removals])
        try:
            fresh, kept = await self._look_again(removals)
            if Step.HIDE in steps:
                await self.deletes.check_versioned()
        except (Unavailable, Conflict, Interrupted):  # no delete was sent, so what is gone is no work of this run
            await self.tombstones.confirm(name, [])
            raise
        ended = await self._delete(fresh)
        ends = {each.row: _outcome(each, ended[each.row]) for each in fresh} | {each.row: each for each in kept}
        self._unanswered.update(row for row, end in ends.items() if isinstance(end, Unavailable))
        gone = [each for each in fresh if _may_be_gone(ends[each.row])]
        await self.tombstones.confirm(
            name, [self._tombstone(each)._replace(marker_version_id=ended[each.row].marker_id or None) for each in gone]
        )
        if stop := next((end.error for end in ended.values() if isinstance(end.error, Interrupted)), None):
            raise PartlyDone(str(stop), [end for end in ends.values() if isinstance(end, Outcome)]) from stop
        return [end for each in removals if not isinstance(end := ends[each.row], Interrupted)]

    async def _look_again(self, removals: Sequence[Removal]) -> tuple[list[Removal], list[Outcome]]:
        """Return the removals with looks that are fresh, and the outcomes of what is not as it was."""
        seen_at = elapsed_seconds()
        await self.look_at_places()
        if seen_at - min((each.seen_at for each in removals), default=seen_at) < FRESH_SECONDS / 2:
            return list(removals), []
        pairs, proven = [each.seen.pair for each in removals], [each.proven for each in removals]
        changed = await self.copies.find_changed(pairs, proven)
        moved = await gather_bounded(self._is_moved, removals, REQUESTS_AT_ONCE)
        fresh, kept = list[Removal](), list[Outcome]()
        for each, verdict, is_moved in zip(removals, changed, moved, strict=True):
            if verdict is None and not is_moved:
                fresh.append(each._replace(seen_at=seen_at))
            else:
                why = (verdict.reason, verdict.detail) if verdict else (Reason.SOURCE_CHANGED, "")
                kept.append(kept_outcome(each.seen.row, *why))
        return fresh, kept

    async def _is_moved(self, removal: Removal) -> bool:
        """True if the original is not as it was."""
        is_versioned = removal.step is Step.HIDE or not removal.seen.original.is_current
        now = await self.look(removal.seen.row, is_versioned=is_versioned)
        if now is None:  # an older version of the same bytes may be current now
            return removal.row not in self._unanswered
        return not isinstance(now, Seen) or now.original != removal.seen.original

    async def _delete(self, removals: Sequence[Removal]) -> dict[int, Ended]:
        """Delete → what became of each row."""
        send_by = min((each.seen_at for each in removals), default=0.0) + FRESH_SECONDS
        ended: dict[int, Ended] = {}

        async def by_condition(each: Removal) -> None:
            ended[each.row] = await self._delete_guarded(each, send_by)

        async def by_id(remove: _Remove, chosen: Sequence[Removal], names: Sequence[str | None]) -> None:
            named = [(each.seen.row.key, str(name)) for each, name in zip(chosen, names, strict=True)]
            errors: Sequence[StoreError | Interrupted | None]
            try:
                errors = await remove(named, send_by) if named else []
            except (Unavailable, Conflict, Interrupted) as error:
                errors = [error] * len(named)
            ended.update({each.row: Ended(error) for each, error in zip(chosen, errors, strict=True)})

        await gather_bounded(by_condition, [each for each in removals if each.is_guarded], REQUESTS_AT_ONCE)
        exact, nulls = ([each for each in removals if each.is_exact], [each for each in removals if each.is_null])
        await by_id(self.deletes.remove, exact, [each.seen.original.version_id for each in exact])
        await by_id(self.deletes.remove_nulls, nulls, [each.seen.original.etag for each in nulls])
        return ended

    async def _delete_guarded(self, removal: Removal, send_by: float) -> Ended:
        """Hide the current object (without versions: remove it), if it still has the proven ETag.

        Where it was deleted meanwhile, that counts as this run's only if an answer to this run's
        delete was lost: somebody else's delete is not for this run to undo. It is a Conflict when
        S3 says that it has another ETag, and then that it has this one: try again.
        """
        row, etag = removal.seen.row, removal.seen.original.etag
        try:
            try:
                made = await self.deletes.delete_current(row.key, etag, send_by)
                return Ended(None, made.version_id or ("" if made.is_delete_marker else None))
            except (PreconditionFailed, NotFound) as error:
                now = await self.look(row, is_versioned=removal.step is Step.HIDE)
                if isinstance(now, Seen) and not now.is_moved:
                    return Ended(Conflict(error.operation, error.target, "Raced", "it is there, and it is not"))
                markers = now.original.markers_above if isinstance(now, Seen) else ()
                is_ours = row.row in self._unanswered or not error.was_sent_once
                if not is_ours or (now is not None and not markers):
                    return Ended(error)
                return Ended(None, markers[0].version_id if markers else None)  # the lowest may be the first request's
        except (Unavailable, Conflict, Denied, Rejected, Interrupted) as error:  # others end the run
            return Ended(error)

    def _tombstone(self, removal: Removal) -> Tombstone:
        from jobs.ledger.tombstones import Tombstone

        row, original, copy = removal.seen.row, removal.seen.original, removal.proven.copy
        return Tombstone(
            row.row,
            row.key,
            original.version_id,
            original.etag,
            original.size_bytes,
            original.last_modified,
            removal.step,
            removal.seen.pair.copy.place,
            copy.version_id if copy else None,
            copy.etag if copy else None,
            removal.proven.verdict.evidence.value,
            recorded_at=self.clock(),
        )


def kept_outcome(row: ObjectVersion, reason: Why, detail: str = "") -> Outcome:
    """Return the outcome of an original that stays."""
    status = Status.WAITING if reason == Reason.TOO_NEW else Status.KEPT
    return Outcome.of(row, status, reason, detail)


def dry_run_outcome(removal: Removal) -> Outcome:
    """Return what a dry run says of it."""
    return _deleted(removal, Status.SKIPPED, is_hidden=removal.step is Step.HIDE)


def _deleted(removal: Removal, status: Status, *, is_hidden: bool) -> Outcome:
    """Return the outcome with the copy that the original goes for."""
    copy = removal.proven.copy
    return Outcome.of(removal.seen.row, status, Reason.DELETED, "hidden" if is_hidden else "removed")._replace(
        evidence=removal.proven.verdict.evidence,
        size_bytes=removal.seen.original.size_bytes,
        destination_version_id=copy.version_id if copy else None,
        destination_etag=copy.etag if copy else None,
    )


def _outcome(removal: Removal, end: Ended) -> Outcome | StoreError | Interrupted:
    """Return what S3's answer to a delete means, or the error that a retry may cure."""
    row, error = removal.seen.row, end.error
    if error is None:
        is_hidden = removal.step is Step.HIDE and end.marker_id is not None
        return _deleted(removal, Status.EXPIRED, is_hidden=is_hidden)
    if isinstance(error, Unavailable | Conflict | Interrupted):
        return error
    if isinstance(error, NoSuchBucket):
        raise error
    if isinstance(error, PreconditionFailed | NotFound):
        return kept_outcome(row, Reason.SOURCE_CHANGED)
    return kept_outcome(row, Reason.REFUSED, f"{error.operation}: {error.code}")


def _may_be_gone(end: Outcome | StoreError | Interrupted) -> bool:
    """Also where a delete may have been done before the error. A stop comes before a delete is sent."""
    return isinstance(end, StoreError) or (isinstance(end, Outcome) and end.status is Status.EXPIRED)
