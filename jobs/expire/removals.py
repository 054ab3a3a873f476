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
from jobs.expire.copies import Copies, Pair, Proven
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

_GONE = "it changed or went away while its copy was compared"
_MOVED = "it was moved while its copy was compared, or written again or locked: give the command again"


class Removal(NamedTuple):
    """A row whose original goes now, and why it may. `seen_at`: when the older of both looks began."""

    seen: Seen
    pair: Pair
    proven: Proven
    step: Step
    seen_at: float

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
    look: Callable[[ObjectVersion, bool], Awaitable[Seen | Outcome | None]]
    look_at_places: Callable[[], Awaitable[float]]
    _unanswered: set[int] = field(default_factory=set, init=False)
    """The rows whose delete may have been done, or may still be: its answer was lost."""

    async def remove(self, removals: Sequence[Removal]) -> list[Outcome]:
        """Announce, delete, confirm, some at a time. Raises PartlyDone when the worker has to stop."""
        done: list[Outcome] = []
        for start in range(0, len(removals), REMOVED_AT_ONCE):
            try:
                done += await self._remove(removals[start : start + REMOVED_AT_ONCE])
            except Interrupted as stop:
                raise PartlyDone(str(stop), [*done, *getattr(stop, "outcomes", ())]) from stop
        return done

    async def _remove(self, removals: Sequence[Removal]) -> list[Outcome]:
        steps = {each.step for each in removals if each.is_guarded}
        self.deletes.check_heeded(steps)
        name = await self.tombstones.announce([self._tombstone(each) for each in removals])
        try:
            removals, kept = await self._look_again(removals)
            if Step.HIDE in steps:
                await self.deletes.check_versioned()
        except (Unavailable, Conflict, Interrupted):  # no delete was sent, so what is gone is no work of this run
            await self.tombstones.confirm(name, [])
            raise
        outcomes: list[tuple[Outcome, str | None]] = []
        stop: Interrupted | None = None
        try:
            await self._delete(removals, outcomes)
        except Interrupted as error:  # raised before a request is sent, so what is gone is known
            stop = error
        gone = {outcome.row: marker for outcome, marker in outcomes if outcome.status is Status.EXPIRED}
        stones = [
            self._tombstone(each)._replace(marker_version_id=gone[each.seen.row.row])
            for each in removals
            if each.seen.row.row in gone
        ]
        await self.tombstones.confirm(name, stones)
        done = kept + [outcome for outcome, _ in outcomes]
        if stop is not None:
            raise PartlyDone(str(stop), done) from stop
        return done

    async def _look_again(self, removals: Sequence[Removal]) -> tuple[list[Removal], list[Outcome]]:
        """Return the removals with looks that are fresh, and the outcomes of what is not as it was."""
        seen_at = elapsed_seconds()
        await self.look_at_places()
        if seen_at - min((each.seen_at for each in removals), default=seen_at) < FRESH_SECONDS / 2:
            return list(removals), []
        changed = await self.copies.find_changed([each.pair for each in removals], [each.proven for each in removals])
        moved = await self._find_moved(removals)
        reasons = [one or other for one, other in zip(changed, moved, strict=True)]
        kept = [kept_outcome(each.seen.row, reason) for each, reason in zip(removals, reasons, strict=True) if reason]
        fresh = [each for each, reason in zip(removals, reasons, strict=True) if not reason]
        return [each._replace(seen_at=seen_at) for each in fresh], kept

    async def _find_moved(self, removals: Sequence[Removal]) -> list[str]:
        """Return for each why the original is not as it was, else an empty text."""

        async def look(removal: Removal) -> str:
            is_versioned = removal.step is Step.HIDE or not removal.seen.original.is_current
            now = await self.look(removal.seen.row, is_versioned)
            if now is None:  # an older version of the same bytes may be current now
                return "" if removal.seen.row.row in self._unanswered else _GONE
            return "" if isinstance(now, Seen) and now.original == removal.seen.original else _MOVED

        return await gather_bounded(look, removals, REQUESTS_AT_ONCE)

    async def _delete(self, removals: Sequence[Removal], outcomes: list[tuple[Outcome, str | None]]) -> None:
        """Delete, and add each outcome when it is known. Raises Interrupted when the worker has to stop."""
        exact = [each for each in removals if each.is_exact]
        nulls = [each for each in removals if each.is_null]
        guarded = [each for each in removals if each.is_guarded]
        await self._delete_all_guarded(guarded, outcomes)
        if exact:
            named = [(each.seen.row.key, str(each.seen.original.version_id)) for each in exact]
            outcomes += await self._told(exact, self.deletes.remove(named, _send_by(exact)))
        if nulls:
            named = [(each.seen.row.key, each.seen.original.etag) for each in nulls]
            outcomes += await self._told(nulls, self.deletes.remove_nulls(named, _send_by(nulls)))

    async def _told(
        self, removals: Sequence[Removal], request: Awaitable[list[StoreError | None]]
    ) -> list[tuple[Outcome, str | None]]:
        """Return the outcomes of what was removed by its id."""
        try:
            errors = await request
        except Unavailable:
            self._unanswered.update(each.seen.row.row for each in removals)
            raise
        told = list(zip(removals, errors, strict=True))
        self._unanswered.update(each.seen.row.row for each, error in told if isinstance(error, Unavailable))
        return [_delete_outcome(each, error) for each, error in told]

    async def _delete_all_guarded(self, guarded: Sequence[Removal], outcomes: list[tuple[Outcome, str | None]]) -> None:
        """Delete those that a condition protects."""
        stops: list[Interrupted] = []

        async def delete(each: Removal) -> None:
            try:
                outcomes.append(await self._delete_guarded(each))
            except Interrupted as stop:  # the others may have been sent
                stops.append(stop)

        await gather_bounded(delete, guarded, REQUESTS_AT_ONCE)
        if stops:
            raise stops[0]

    async def _delete_guarded(self, removal: Removal) -> tuple[Outcome, str | None]:
        """Hide the current object (without versions: remove it), if it still has the proven ETag.

        Where it was deleted meanwhile, that counts as this run's only if an answer to this run's
        delete was lost: somebody else's delete is not for this run to undo.

        Raises Conflict when S3 says that it has another ETag, and then that it has this one: try
        again.
        """
        row, etag = removal.seen.row, removal.seen.original.etag
        try:
            made = await self.deletes.delete_current(row.key, etag, _send_by([removal]))
            marker_id = made.version_id
            if removal.step is Step.HIDE and marker_id is None and not made.is_delete_marker:
                return _expired(removal, Status.EXPIRED, "removed for good: the server set no delete marker"), None
        except Unavailable:
            self._unanswered.add(row.row)
            raise
        except (Denied, Rejected) as error:
            return _delete_outcome(removal, error)
        except (PreconditionFailed, NotFound) as error:
            now = await self.look(row, removal.step is Step.HIDE)
            if isinstance(now, Seen) and not now.is_moved:
                raise Conflict(error.operation, error.target, "Raced", "it is there, and it is not") from error
            if error.was_sent_once and row.row not in self._unanswered:
                return _delete_outcome(removal, error)
            markers = now.original.markers_above if isinstance(now, Seen) else ()
            if now is not None and not markers:
                return _delete_outcome(removal, error)
            marker_id = markers[0].version_id if markers else None  # the lowest may be that of the first request
        outcome, _ = _delete_outcome(removal, None)
        if removal.step is not Step.HIDE:
            return outcome, None
        return outcome._replace(reason=f"hidden by the delete marker {marker_id}: removing that undoes it"), marker_id

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
            removal.pair.copy.place,
            copy.version_id if copy else None,
            copy.etag if copy else None,
            removal.proven.verdict.evidence.value,
            recorded_at=self.clock(),
        )


def _send_by(removals: Sequence[Removal]) -> float:
    return min(each.seen_at for each in removals) + FRESH_SECONDS


def kept_outcome(row: ObjectVersion, reason: str, *, waits: bool = False) -> Outcome:
    """Return the outcome of an original that stays. `waits`: for its grace period only."""
    return Outcome.of(row, Status.WAITING if waits else Status.KEPT, reason)


def dry_run_outcome(removal: Removal) -> Outcome:
    """Return what a dry run says of it."""
    what = "hidden by a delete marker" if removal.step is Step.HIDE else "removed for good"
    return _expired(removal, Status.SKIPPED, f"dry run: it would be {what}")


def _expired(removal: Removal, status: Status, reason: str) -> Outcome:
    """Return the outcome with the copy that the original went for."""
    copy = removal.proven.copy
    return Outcome.of(removal.seen.row, status, reason)._replace(
        evidence=removal.proven.verdict.evidence,
        size_bytes=removal.seen.original.size_bytes,
        destination_version_id=copy.version_id if copy else None,
        destination_etag=copy.etag if copy else None,
    )


def _delete_outcome(removal: Removal, error: StoreError | None) -> tuple[Outcome, str | None]:
    """Return what S3's answer to a delete means.

    The caller adds the delete marker. Raises what a retry may cure.
    """
    row = removal.seen.row
    if error is None:
        return _expired(removal, Status.EXPIRED, ""), None
    if isinstance(error, PreconditionFailed | NotFound):
        if isinstance(error, NoSuchBucket):
            raise error
        return kept_outcome(row, _GONE), None
    if isinstance(error, Unavailable | Conflict):
        raise error
    return kept_outcome(row, f"S3 refused to delete it: {error}"), None
