"""The expire job: deletes originals whose copy has been read and compared a moment before.

No other job deletes. A row says where a listing, or an archive's index, has a copy
(`jobs.expire.rules.CopyAt`). The job asks S3 for the original and its locks, reads the copy's bytes,
and compares them with what S3 keeps of the original, else with the original's own bytes. Then
`jobs.expire.rules.decide` decides:

- A current version in a bucket that keeps versions gets a delete marker, if it still has the
  compared ETag. Removing the marker undoes that. A later run, a grace period after that, removes the
  version below the marker.
- Any other version is removed for good: by its version id or, where there are none, only if it has
  the compared ETag. A null version below others is removed by that id as well, while the bucket
  keeps versions, since no write makes one then.

Tombstones are announced before anything is deleted (`jobs.ledger.tombstones`). So what a killed
attempt deleted is `done` by this run, not missing. Each delete is sent at most `FRESH_SECONDS`
after the look at the original and its copy that it relies on (`Store.delete`, `send_by`). If a
comparison took longer, or the machine slept, both are looked at again. Locks are never bypassed.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import compress
from typing import TYPE_CHECKING, NamedTuple, cast

from jobs.core.elapsed import elapsed_seconds
from jobs.core.enums import Step
from jobs.core.model import NULL_VERSION, Location, ObjectVersion, is_exact
from jobs.core.outcome import Evidence, Outcome, PartlyDone, Status
from jobs.core.reasons import Cause, Reason, Why
from jobs.errors import (
    ConfigError,
    Conflict,
    Denied,
    Interrupted,
    NoSuchBucket,
    NotFound,
    PreconditionFailed,
    Redirected,
    Rejected,
    StoreError,
    Unavailable,
)
from jobs.expire.copies import Copies
from jobs.expire.originals import find_original
from jobs.expire.places import PlaceLook
from jobs.expire.rules import CopyAt, Original, Proven, Terms, decide
from jobs.runs.failure_count import gave_up
from jobs.runs.kind import no_look
from jobs.s3.lookup import KeyLooks
from jobs.s3.retries import gather_bounded, retry
from jobs.s3.store import DELETED_AT_ONCE, Store

if TYPE_CHECKING:
    from jobs.ledger.tombstones import Tombstone, Tombstones


GROUP_ROWS = 128
GROUP_BYTES = 256 * 1024**2
"""Rows are compared and then deleted in groups of this size: small, so that little time passes
between the two, and a slow server is in time."""
GROUPS_AT_ONCE = 2
REQUESTS_AT_ONCE = 64

FRESH_SECONDS = 5.0
"""How long after the beginning of a look at the original, its copy and their places a delete may be sent."""

End = Outcome | StoreError | Interrupted
"""What became of a row: an outcome, or an error that a retry may cure."""


class Removal(NamedTuple):
    """A row whose original goes now, and why it may. `seen_at`: when the older of both looks began."""

    original: Original
    proven: Proven
    step: Step
    seen_at: float

    @property
    def row(self) -> int:
        """The row's number."""
        return self.original.row.row

    @property
    def is_exact(self) -> bool:
        """True if the version id alone removes these bytes and no others."""
        return self.step is Step.REMOVE and is_exact(self.original.ref.version_id)

    @property
    def is_null(self) -> bool:
        """True for a null version below others: a condition would apply to the one on top.

        While a bucket keeps versions, no write makes a null version, so its id is exact directly after a look:
        https://docs.aws.amazon.com/AmazonS3/latest/userguide/AddingObjectstoVersioningEnabledBuckets.html
        """
        return not self.original.is_current and not is_exact(self.original.ref.version_id)


class Ended(NamedTuple):
    """What became of a delete: why it was not done, or the id of the marker. None: there is none."""

    error: StoreError | Interrupted | None = None
    marker_id: str | None = None


@dataclass(frozen=True, slots=True)
class Expire:
    """The expire job of one worker: `process` takes what `chains` cuts out of a shard.

    `look`: at the documents of both places, for S3's time. `heeded`: the steps in which the
    server heeds conditions (`jobs.expire.plan.heeded_steps`), none in a dry run. `places`: where
    copies count. `prefix`: no key outside of it is touched, whatever the rows say. `planned_at`:
    epoch seconds at which the run was planned. `look_at_owner`: see `jobs.runs.kind.Opened`.
    """

    source: Store
    copies: Copies
    look: PlaceLook
    bucket: str
    grace_seconds: float
    heeded: Collection[Step]
    tombstones: Tombstones
    clock: Callable[[], float]
    places: Sequence[Location]
    prefix: str = ""
    planned_at: float = math.inf
    look_at_owner: Callable[[], Awaitable[None]] = no_look
    _unanswered: set[int] = field(default_factory=set, init=False)
    """The rows whose delete may have been done, or may still be: its answer was lost."""

    def chains(self, rows: Iterable[ObjectVersion]) -> Iterator[list[ObjectVersion]]:
        """Yield the rows of a shard in groups, in order."""
        group: list[ObjectVersion] = []
        size_bytes = 0
        for row in rows:
            if group and (len(group) == GROUP_ROWS or size_bytes + (row.size_bytes or 0) > GROUP_BYTES):
                yield group
                group, size_bytes = [], 0
            group.append(row)
            size_bytes += row.size_bytes or 0
        if group:
            yield group

    async def process(self, rows: Sequence[ObjectVersion], *, is_last: bool = False) -> list[Outcome]:
        """Return one outcome for each row, in order.

        Raises Unavailable, Conflict or PreconditionFailed where a retry may help. Tombstones then
        say what is gone. Raises ConfigError for a delete whose condition was not tried, and for a
        place that is not as it was. Raises PartlyDone when the worker has to stop.
        """
        is_versioned = await retry(lambda: self.source.is_versioned(self.bucket))
        # The plan weighed the shares: what became due after it was not weighed.
        now = min(await self.look.look(), self.clock(), self.planned_at)
        terms = Terms(now, self.grace_seconds, is_versioned, self.places, self.prefix)
        looks, seen_at = KeyLooks(self.source, self.bucket), elapsed_seconds()
        look = partial(self._look, is_versioned=is_versioned, looks=looks, is_last=is_last)
        there, outcomes = await self._sort(rows, await gather_bounded(look, rows, REQUESTS_AT_ONCE))
        proven = await self.copies.compare([each for each in there if decide(each, None, terms) is None])
        removals: list[Removal] = []
        for each in there:
            decision = decide(each, proof := proven.get(each.row.row), terms)
            if isinstance(decision, Cause):
                outcomes[each.row.row] = _kept(each.row, *decision)
                if decision.reason == Reason.REFUSED and not is_last and await self._is_taken(each, is_versioned):
                    raise _raced("GetObject", each.row)
            elif decision is not None and proof is not None:
                removals.append(Removal(each, proof, decision, min(seen_at, proof.looked_at)))
        if removals and self.heeded:
            outcomes |= await self._remove(removals, is_versioned, is_last)
        else:
            for going in removals:
                outcomes[going.row] = _deleted(going, Status.LEFT, is_hidden=going.step is Step.HIDE)
        return [outcomes[row.row] for row in rows]

    async def process_last(self, rows: Sequence[ObjectVersion]) -> list[Outcome]:
        """Do as `process`, at the last try: a row that S3 cannot serve ends as failed, the others go."""
        return await self.process(rows, is_last=True)

    async def _is_taken(self, original: Original, is_versioned: bool) -> bool:
        """True if another attempt of this run has deleted the original since it was seen."""
        now = await self._look(original.row, is_versioned=is_versioned)
        is_there = isinstance(now, Outcome) or (now is not None and now.is_current and not now.is_replaced)
        return not is_there and await self.tombstones.announced_by_others(original.row.row)

    async def _remove(self, removals: Sequence[Removal], is_versioned: bool, is_last: bool) -> dict[int, Outcome]:
        """Raises, but at the last try, an error that a retry may cure, and PartlyDone when the worker has to stop."""
        try:
            ends = await self._announce_and_delete(removals)
        except (Unavailable, Conflict, Interrupted) as error:
            ends = dict.fromkeys((each.row for each in removals), error)
        outcomes = {row: end for row, end in ends.items() if isinstance(end, Outcome)}
        if stop := next((end for end in ends.values() if isinstance(end, Interrupted)), None):
            raise PartlyDone(str(stop), list(outcomes.values())) from stop
        failed = {row: end for row, end in ends.items() if isinstance(end, StoreError)}
        if failed and not is_last:
            raise next(iter(failed.values()))
        if failed:  # what was done may have lost its answer
            rows = [each.original.row for each in removals if each.row in failed]
            look = partial(self._look, is_versioned=is_versioned, is_last=True)
            there, known = await self._sort(rows, await gather_bounded(look, rows, REQUESTS_AT_ONCE))
            outcomes |= known | {each.row.row: gave_up(each.row, failed[each.row.row]) for each in there}
        return outcomes

    async def _announce_and_delete(self, removals: Sequence[Removal]) -> dict[int, End]:
        """Announce, delete, confirm → what became of each row."""
        steps = {each.step for each in removals if not each.is_exact and not each.is_null}
        self._check_heeded(steps)
        name = await self.tombstones.announce(list(map(self._tombstone, removals)))
        try:
            fresh, kept = await self._look_again(removals)
            needs_versions = Step.HIDE in steps or any(each.is_null for each in fresh)
            if needs_versions and not await retry(lambda: self.source.is_versioned(self.bucket)):
                what = "it has been suspended meanwhile, so a delete would do something else: look again"
                raise Conflict("GetBucketVersioning", self.bucket, "Raced", what)
        except (Unavailable, Conflict, Interrupted):  # no delete was sent, so what is gone is no work of this run
            await self.tombstones.confirm(name, [])
            raise
        ended = await self._delete(fresh)
        ends = {each.row: _end(each, ended[each.row]) for each in fresh}
        self._unanswered.update(row for row, end in ends.items() if isinstance(end, Unavailable))
        gone = [each for each in fresh if _may_be_gone(ends[each.row])]
        stones = [self._tombstone(each)._replace(marker_version_id=ended[each.row].marker_id or None) for each in gone]
        await self.tombstones.confirm(name, stones)
        return ends | kept

    def _check_heeded(self, steps: Collection[Step]) -> None:
        """Raise ConfigError for a step whose condition was not tried when the run was planned."""
        if set(steps) - set(self.heeded):
            raise ConfigError(
                f"s3://{self.bucket} keeps versions since the run was planned, or no longer, so whether its server "
                "heeds If-Match is not known",
                advice="plan again",
            )

    async def _look_again(self, removals: Sequence[Removal]) -> tuple[list[Removal], dict[int, Outcome]]:
        """Return the removals with looks that are fresh, and the outcomes of what is not as it was."""
        seen_at = elapsed_seconds()
        await retry(self.look_at_owner)  # after the tombstones: who owns the run now reads them, or is seen here
        await self.look.look()
        stale = [each for each in removals if each.is_null or seen_at - each.seen_at >= FRESH_SECONDS / 2]
        changed = await self.copies.find_changed([(each.original, each.proven) for each in stale])
        moved = await gather_bounded(self._is_moved, stale, REQUESTS_AT_ONCE)
        for each in compress(stale, moved):
            if await self.tombstones.announced_by_others(each.row):
                raise _raced("HeadObject", each.original.row)
        fresh = {each.row: each for each in removals} | {each.row: each._replace(seen_at=seen_at) for each in stale}
        kept = {
            each.row: _kept(each.original.row, *(cause or Cause(Reason.SOURCE_CHANGED)))
            for each, cause, is_moved in zip(stale, changed, moved, strict=True)
            if cause or is_moved
        }
        return [each for row, each in fresh.items() if row not in kept], kept

    async def _is_moved(self, removal: Removal) -> bool:
        """True if the original is not as it was."""
        is_versioned = removal.step is Step.HIDE or not removal.original.is_current
        now = await self._look(removal.original.row, is_versioned=is_versioned)
        if now is None:  # an older version of the same bytes may be current now
            return removal.row not in self._unanswered
        return now != removal.original

    async def _delete(self, removals: Sequence[Removal]) -> dict[int, Ended]:
        """Delete → what became of each row."""
        send_by = min((each.seen_at for each in removals), default=0.0) + FRESH_SECONDS
        ended: dict[int, Ended] = {}

        async def by_condition(each: Removal) -> None:
            ended[each.row] = await self._delete_guarded(each, send_by)

        by_id = [each for each in removals if each.is_exact or each.is_null]
        guarded = [each for each in removals if not each.is_exact and not each.is_null]
        await gather_bounded(by_condition, guarded, REQUESTS_AT_ONCE)
        refs = [each.original.ref for each in by_id]
        named = [(ref.key, ref.version_id or NULL_VERSION) for ref in refs]
        errors: Sequence[StoreError | Interrupted | None]
        try:
            errors = await remove_versions(self.source, self.bucket, named, send_by)
        except (Unavailable, Conflict, Interrupted) as error:
            errors = [error] * len(named)
        return ended | {each.row: Ended(error) for each, error in zip(by_id, errors, strict=True)}

    async def _delete_guarded(self, removal: Removal, send_by: float) -> Ended:
        """Hide the current object (without versions: remove it), if it still has the proven ETag.

        Where it was deleted meanwhile, that counts as this run's only if an answer to this run's
        delete was lost: somebody else's delete is not for this run to undo. It is a Conflict when
        S3 says that it has another ETag, and then that it has this one: try again.
        """
        row, etag = removal.original.row, removal.original.info.etag
        try:
            try:
                made = await self.source.delete(self.bucket, row.key, if_match=etag, send_by=send_by)
                return Ended(None, made.version_id or ("" if made.is_delete_marker else None))
            except (PreconditionFailed, NotFound) as error:
                now = await self._look(row, is_versioned=removal.step is Step.HIDE)
                if isinstance(now, Original) and now.is_current and not now.is_replaced:
                    return Ended(Conflict(error.operation, error.target, "Raced", "it is there, and it is not"))
                markers = now.markers_above if isinstance(now, Original) else ()
                if await self.tombstones.announced_by_others(row.row):
                    return Ended(_raced(error.operation, row))
                is_ours = row.row in self._unanswered or not error.was_sent_once
                if not is_ours or (now is not None and not markers):
                    return Ended(error)
                return Ended(None, markers[0].version_id if markers else None)  # the lowest may be the first request's
        except (Unavailable, Conflict, Denied, Rejected, Interrupted) as error:  # others end the run
            return Ended(error)

    def _tombstone(self, removal: Removal) -> Tombstone:
        from jobs.ledger.tombstones import Tombstone

        row, at, ref, info, *_ = removal.original
        verdict, copy, _ = removal.proven
        return Tombstone(
            row.row, row.key, ref.version_id, info.etag, info.size_bytes, info.last_modified, removal.step, at.place,
            copy.version_id if copy else None, copy.etag if copy else None, verdict.evidence.value, None, self.clock(),
        )  # fmt: skip

    async def _sort(
        self, rows: Sequence[ObjectVersion], looked: Sequence[Original | Outcome | None]
    ) -> tuple[list[Original], dict[int, Outcome]]:
        """Return the originals that are there, and the outcomes of the rest.

        What this run deleted is not missing.
        """
        announced: Mapping[int, Tombstone] = {}
        if not all(isinstance(each, Outcome) or (each and each.is_current and not each.is_replaced) for each in looked):
            announced = await self.tombstones.announced(rows[0].row, rows[-1].row)
        there: list[Original] = []
        outcomes: dict[int, Outcome] = {}
        settled: list[Tombstone] = []
        for row, each in zip(rows, looked, strict=True):
            if isinstance(each, Outcome):
                outcomes[row.row] = each
                continue
            stone = announced.get(row.row)
            is_gone = each is None or each.is_replaced
            if stone is not None and each is not None and not is_gone and each.markers_above and _hides(stone):
                # Below any marker this run must not remove it: the marker may be its own.
                marker = each.marker_of(stone.marker_version_id, stone.recorded_at)
                if marker is None:
                    outcomes[row.row] = _kept(row, Reason.DELETED, "source")  # by others, long after
                    continue
                stone, is_gone = stone._replace(marker_version_id=marker.version_id), True
            if stone is not None and is_gone:
                outcomes[row.row] = _by_earlier_attempt(row, stone)
                settled.append(stone._replace(recorded_at=self.clock()))
            elif each is None:
                outcomes[row.row] = Outcome.of(row, Status.MISSING, Reason.SOURCE_GONE)
            else:
                there.append(each)
        if settled:
            await self.tombstones.settle(settled)
        return there, outcomes

    async def _look(
        self, row: ObjectVersion, *, is_versioned: bool, looks: KeyLooks | None = None, is_last: bool = False
    ) -> Original | Outcome | None:
        """Return the original as it is now, None when it is gone, an outcome when S3 does not show it."""
        if row.beside is None:
            return _kept(row, Reason.COPY_MISSING)
        try:
            looks = looks or KeyLooks(self.source, self.bucket)
            return await find_original(looks, row, cast(CopyAt, row.beside), is_versioned=is_versioned)
        except (Denied, Redirected, Rejected) as error:
            return Outcome.refused(row, error)
        except Unavailable as error:
            if not is_last:
                raise
            return gave_up(row, error)


async def remove_versions(
    store: Store, bucket: str, versions: Sequence[tuple[str, str]], send_by: float | None = None
) -> list[StoreError | None]:
    """Remove versions for good, each named by (key, version id). Locks are never bypassed.

    Return None for each, or why it stays. `send_by`: see `Store.delete`.

    A version id names the same bytes for ever, so no condition is necessary. `null` does not.
    Raises Interrupted only if no request was sent whose answer is unknown.
    """
    answers: list[StoreError | None] = []
    for start in range(0, len(versions), DELETED_AT_ONCE):
        group, failures = versions[start : start + DELETED_AT_ONCE], list[StoreError]()
        request = partial(store.delete_versions, bucket, group, send_by=send_by)
        try:
            answers += await retry(request, partial(_note, failures))
        except Interrupted as stop:
            if failures:  # its answer was lost, so it may have removed them
                raise failures[-1] from stop
            raise
    return answers


def _note(failures: list[StoreError], error: StoreError) -> None:
    if error.code == "TooLate":  # a later try is too late as well
        raise failures[-1] if failures else error
    failures.append(error)


def _by_earlier_attempt(row: ObjectVersion, stone: Tombstone) -> Outcome:
    how = "hidden" if _hides(stone) else "removed"
    return Outcome.of(row, Status.DONE, Reason.DELETED, how)._replace(
        evidence=next((each for each in Evidence if each == stone.evidence), Evidence.NONE),
        size_bytes=stone.size_bytes,
        destination_version_id=stone.copy_version_id,
        destination_etag=stone.copy_etag,
    )


def _hides(stone: Tombstone) -> bool:
    return stone.step is Step.HIDE


def _raced(operation: str, row: ObjectVersion) -> Conflict:
    """Another attempt of this run deletes it as well: its tombstone says what became of it."""
    return Conflict(operation, row.key, "Raced", "another attempt of the run deletes it as well")


def _kept(row: ObjectVersion, reason: Why, detail: str = "") -> Outcome:
    """Return the outcome of an original that stays."""
    status = Status.LEFT if reason == Reason.TOO_NEW else Status.BLOCKED
    return Outcome.of(row, status, reason, detail)


def _deleted(removal: Removal, status: Status, *, is_hidden: bool) -> Outcome:
    """Return the outcome of an original that goes, or would, with its copy."""
    copy = removal.proven.copy
    return Outcome.of(removal.original.row, status, Reason.DELETED, "hidden" if is_hidden else "removed")._replace(
        evidence=removal.proven.verdict.evidence,
        size_bytes=removal.original.info.size_bytes,
        destination_version_id=copy.version_id if copy else None,
        destination_etag=copy.etag if copy else None,
    )


def _end(removal: Removal, ended: Ended) -> End:
    """Return what S3's answer to a delete means."""
    row, error = removal.original.row, ended.error
    if error is None:
        is_hidden = removal.step is Step.HIDE and ended.marker_id is not None
        return _deleted(removal, Status.DONE, is_hidden=is_hidden)
    if isinstance(error, Unavailable | Conflict | Interrupted):
        return error
    if isinstance(error, NoSuchBucket):
        raise error
    if isinstance(error, PreconditionFailed | NotFound):
        return _kept(row, Reason.SOURCE_CHANGED)
    return _kept(row, Reason.REFUSED, error.fact)


def _may_be_gone(end: End) -> bool:
    """Also where a delete may have been done before the error. A stop comes before a delete is sent."""
    return isinstance(end, StoreError) or (isinstance(end, Outcome) and end.status is Status.DONE)
