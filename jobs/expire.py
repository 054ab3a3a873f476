"""expire: delete originals whose copy is proven, now and by the copy itself. The only verb that deletes.

A row brings a pointer (`jobs.core.expiry.Proof`): where the ledger says that a copy is. Nothing of that is believed.
The job asks S3 what the original is, who holds it, and what is in the copy: the member's bytes out of its archive,
hashed and held against what S3 keeps of the original (else against the original's own bytes); or the replica's
checksums against the original's, else the bytes of both. Then `jobs.core.expiry.decide` says what happens:

- A current version in a bucket that keeps versions gets a delete marker, if it still has the proven ETag. Removing the
  marker undoes that. A later run, a grace period after that, removes the version behind it.
- Any other version is removed for good: by its version id or, where there are none, only if it has the proven ETag.
  A null version beneath others is removed by that id as well, while the bucket keeps versions: nobody writes it then.

Tombstones are announced before anything goes (`jobs.s3.tombstones`): what a killed attempt deleted is `expired` by this
run, not missing. Locks are never bypassed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from jobs.core.evidence import Verdict
from jobs.core.expiry import Original, Proof, Step, Terms, decide
from jobs.core.model import Location, ObjectInfo, ObjectRef, ObjectVersion, is_exact
from jobs.core.outcome import Outcome, Status
from jobs.errors import (
    Conflict,
    Denied,
    NotFound,
    PreconditionFailed,
    Redirected,
    Rejected,
    StoreError,
    Unavailable,
)
from jobs.s3.copies import Copies, Pair
from jobs.s3.deletes import ExactDeletes
from jobs.s3.lookup import KeyLooks
from jobs.s3.originals import find_original
from jobs.s3.store import Store
from jobs.s3.tries import do_all, try_often

if TYPE_CHECKING:
    from jobs.s3.announcements import Announcements
    from jobs.s3.tombstones import Tombstone, Tombstones

T = TypeVar("T")

GROUP_ROWS = 500
GROUP_BYTES = 256 * 1024**2
"""What is proven together and then deleted together: little, so that little time lies between."""

REQUESTS_AT_ONCE = 64
GROUPS_AT_ONCE = 2

FRESH_SECONDS = 5.0
"""A copy that was looked at longer ago is looked at once more, directly before its original goes."""


@dataclass(frozen=True, slots=True)
class ExpireOptions:
    """`delete`: do it; else say what would be done."""

    grace_seconds: float
    delete: bool = False

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ExpireOptions:
        """From a run's spec, whose other options are somebody else's."""
        return cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data})


class _Seen(NamedTuple):
    """A row whose original is there: what S3 says of it, and what the row's proof is."""

    row: ObjectVersion
    proof: Proof | None
    original: Original
    info: ObjectInfo

    @property
    def is_moved(self) -> bool:
        """Whether it is beneath others now, or another object is in its place."""
        return not self.original.is_current or self.row.etag != self.original.etag

    def is_done_by(self, step: Step) -> bool:
        """Whether that is what a step that was announced leaves behind."""
        is_replaced = self.row.etag != self.original.etag
        return is_replaced or (step is Step.HIDE and self.original.marker_version_id is not None)


class _Doomed(NamedTuple):
    """A row whose original goes now, and why it may."""

    seen: _Seen
    proof: Proof
    step: Step
    verdict: Verdict

    @property
    def is_exact(self) -> bool:
        """Whether a version id is all that it takes to remove these bytes and no others."""
        return self.step is Step.REMOVE and is_exact(self.seen.original.version_id)

    @property
    def is_null(self) -> bool:
        """Whether it is a null version beneath others: a condition would be asked of the one on top."""
        return not self.seen.original.is_current and not is_exact(self.seen.original.version_id)


@dataclass(frozen=True, slots=True)
class Expire:
    """The expire job of one worker: `process` takes what `chains` cuts out of a shard.

    `places`: where copies count. `prefix`: no key outside of it is touched, whatever the rows say, so that other runs
    may rely on that (`jobs.s3.announcements`).
    """

    source: Store
    copies: Copies
    bucket: str
    options: ExpireOptions
    tombstones: Tombstones
    announcements: Announcements
    clock: Callable[[], float]
    places: Sequence[Location]
    prefix: str = ""
    deletes: ExactDeletes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "deletes", ExactDeletes(self.source, self.bucket))

    def chains(self, rows: Iterable[ObjectVersion]) -> Iterator[list[ObjectVersion]]:
        """The rows of a shard, some at a time, in order."""
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

    async def process(self, rows: Sequence[ObjectVersion]) -> list[Outcome]:
        """One outcome for each row, in order.

        Raises Unavailable, Conflict or PreconditionFailed where trying again may help: what is gone by then is
        known by its tombstone. Raises ConfigError for a server that deletes whatever the condition says.
        """
        is_versioned = await try_often(lambda: self.source.is_versioned(self.bucket))
        terms = Terms(self.clock(), self.options.grace_seconds, is_versioned, self.places, self.prefix)
        looks = KeyLooks(self.source, self.bucket)
        looked = await do_all(lambda row: self._look(row, is_versioned, looks), rows, REQUESTS_AT_ONCE)
        seen, outcomes = await self._sort(rows, looked)
        doomed: list[_Doomed] = []
        unproven: list[_Seen] = []
        for each in seen:
            decision = decide(each.row, each.proof, each.original, None, terms)
            if decision.prove:
                unproven.append(each)
            else:
                outcomes[each.row.row] = _kept(each.row, decision.reason)
        looked_at = _seconds()
        verdicts = await self.copies.compare([self._pair(each) for each in unproven])
        for each, verdict in zip(unproven, verdicts, strict=True):
            decision = decide(each.row, each.proof, each.original, verdict, terms)
            if decision.step is None or each.proof is None:
                outcomes[each.row.row] = _kept(each.row, decision.reason)
            else:
                doomed.append(_Doomed(each, each.proof, decision.step, verdict))
        gone = await self._delete(doomed, looked_at) if self.options.delete else map(_spared, doomed)
        outcomes |= {outcome.row: outcome for outcome in gone}
        return [outcomes[row.row] for row in rows]

    async def _sort(
        self, rows: Sequence[ObjectVersion], looked: Sequence[_Seen | Outcome | None]
    ) -> tuple[list[_Seen], dict[int, Outcome]]:
        """The originals that are there, and the outcomes of the rest. What this run took is not missing."""
        announced: Mapping[int, Tombstone] = {}
        if any(each is None or (isinstance(each, _Seen) and each.is_moved) for each in looked):
            announced = await self.tombstones.announced(rows[0].row, rows[-1].row)
        seen: list[_Seen] = []
        outcomes: dict[int, Outcome] = {}
        settled: list[Tombstone] = []
        for row, each in zip(rows, looked, strict=True):
            stone = announced.get(row.row)
            if each is None and stone is None:
                outcomes[row.row] = _ended(row, Status.MISSING, "the original is gone already")
            elif stone is not None and (each is None or (isinstance(each, _Seen) and each.is_done_by(stone.step))):
                outcomes[row.row] = _ended(row, Status.EXPIRED, "by an earlier attempt of this run")
                above = each.original.marker_version_id if isinstance(each, _Seen) else None
                marker_id = above or stone.marker_version_id  # known to an attempt that saw the version beneath it
                settled.append(stone._replace(marker_version_id=marker_id, recorded_at=self.clock()))
            elif isinstance(each, _Seen):
                seen.append(each)
            elif each is not None:
                outcomes[row.row] = each
        if settled:
            await self.tombstones.settle(settled)
        return seen, outcomes

    async def _look(self, row: ObjectVersion, is_versioned: bool, looks: KeyLooks) -> _Seen | Outcome | None:
        """The original as it is now; None when it is gone; an outcome when S3 does not let us see it."""
        try:
            proof = Proof.decode(row.proof) if row.proof else None
        except ValueError as error:
            return _kept(row, f"the ledger was altered: {error}")
        try:
            found = await find_original(looks, row, is_versioned=is_versioned)
        except (Denied, Redirected) as error:
            return _ended(row, Status.DENIED, str(error))
        except Rejected as error:
            return _ended(row, Status.FAILED, str(error))
        return None if found is None else _Seen(row, proof, *found)

    def _pair(self, seen: _Seen) -> Pair:
        version_id = seen.original.version_id
        if seen.proof is None:
            raise ValueError(f"row {seen.row.row} has no proof")
        return Pair(ObjectRef(self.bucket, seen.row.key, version_id), seen.info, seen.proof)

    async def _delete(self, doomed: Sequence[_Doomed], looked_at: float) -> list[Outcome]:
        """Announce, look at the copies once more, delete, confirm. What is kept is announced no more then."""
        if not doomed:
            return []
        name = await self.tombstones.announce([self._tombstone(each) for each in doomed])
        doomed, kept = await self._look_again(doomed, looked_at)
        exact = [each for each in doomed if each.is_exact]
        nulls = [each for each in doomed if each.is_null]
        guarded = [each for each in doomed if not each.is_exact and not each.is_null]
        if guarded:
            await self.deletes.check_conditions(guarded[0].seen.row.key)
        outcomes = await do_all(self._delete_guarded, guarded, REQUESTS_AT_ONCE)
        if exact:
            named = [(each.seen.row.key, str(each.seen.original.version_id)) for each in exact]
            told = await self.deletes.remove(named)
            outcomes += [_told(each, error) for each, error in zip(exact, told, strict=True)]
        if nulls:
            told = await self.deletes.remove_nulls([(each.seen.row.key, each.seen.original.etag) for each in nulls])
            outcomes += [_told(each, error) for each, error in zip(nulls, told, strict=True)]
        gone = {outcome.row: marker for outcome, marker in outcomes if outcome.status is Status.EXPIRED}
        stones = [
            self._tombstone(each)._replace(marker_version_id=gone[each.seen.row.row])
            for each in doomed
            if each.seen.row.row in gone
        ]
        await self.tombstones.confirm(name, stones)
        return kept + [outcome for outcome, _ in outcomes]

    async def _look_again(self, doomed: Sequence[_Doomed], looked_at: float) -> tuple[list[_Doomed], list[Outcome]]:
        """Those whose copy is still one, and is to stay; the outcomes of the others."""
        proofs = [each.proof for each in doomed]
        runs = await self.announcements.find(proofs)  # only now, when this run has announced what it deletes
        reasons = [
            f"its copy {proof.place} may go itself, as the expire run {run} has announced: copy it elsewhere"
            if run
            else ""
            for proof, run in zip(proofs, runs, strict=True)
        ]
        if _seconds() - looked_at > FRESH_SECONDS:
            lost = await self.copies.find_lost(proofs)
            reasons = [reason or why for reason, why in zip(reasons, lost, strict=True)]
        kept = [_kept(each.seen.row, reason) for each, reason in zip(doomed, reasons, strict=True) if reason]
        return [each for each, reason in zip(doomed, reasons, strict=True) if not reason], kept

    async def _delete_guarded(self, doomed: _Doomed) -> tuple[Outcome, str | None]:
        """The current object, if it still has the proven ETag: hidden by a marker or, without versions, removed.

        Raises Conflict when S3 says that it has not, and then that it has: try again.
        """
        row, etag = doomed.seen.row, doomed.seen.original.etag
        try:
            marker_id = (await self.deletes.take_current(row.key, etag)).version_id
        except (Denied, Rejected) as error:
            return _told(doomed, error)
        except (PreconditionFailed, NotFound) as error:
            now = await self._look(row, doomed.step is Step.HIDE, KeyLooks(self.source, self.bucket))
            if isinstance(now, _Seen) and not now.is_moved:
                raise Conflict(error.operation, error.target, "Raced", "it is there, and it is not") from error
            if now is not None and not (isinstance(now, _Seen) and now.original.marker_version_id):
                return _told(doomed, error)
            marker_id = now.original.marker_version_id if isinstance(now, _Seen) else None
        outcome, _ = _told(doomed, None)
        if doomed.step is not Step.HIDE:
            return outcome, None
        return outcome._replace(reason=f"hidden by the delete marker {marker_id}: removing that undoes it"), marker_id

    def _tombstone(self, doomed: _Doomed) -> Tombstone:
        from jobs.s3.tombstones import Tombstone

        (row, _, original, _), proof = doomed.seen, doomed.proof
        return Tombstone(
            row.row,
            row.key,
            original.version_id,
            original.etag,
            original.size_bytes,
            original.last_modified,
            doomed.step,
            proof.place,
            proof.version_id,
            proof.etag,
            doomed.verdict.evidence.value,
            recorded_at=self.clock(),
        )


def _seconds() -> float:
    """A clock that nobody sets."""
    return asyncio.get_running_loop().time()


def _ended(row: ObjectVersion, status: Status, reason: str) -> Outcome:
    return Outcome(row.row, row.key, row.version_id, status, reason, etag=row.etag)


def _kept(row: ObjectVersion, reason: str) -> Outcome:
    return _ended(row, Status.KEPT, reason)


def _expired(doomed: _Doomed, status: Status, reason: str) -> Outcome:
    """With the copy that stands for it."""
    return _ended(doomed.seen.row, status, reason)._replace(
        evidence=doomed.verdict.evidence,
        size_bytes=doomed.seen.original.size_bytes,
        destination_version_id=doomed.proof.version_id,
        destination_etag=doomed.proof.etag,
    )


def _spared(doomed: _Doomed) -> Outcome:
    what = "hidden by a delete marker" if doomed.step is Step.HIDE else "removed for good"
    return _expired(doomed, Status.SKIPPED, f"dry run: it would be {what}")


def _told(doomed: _Doomed, error: StoreError | None) -> tuple[Outcome, str | None]:
    """What S3's answer to a delete means; the delete marker is the caller's to add. Raises what may pass."""
    row = doomed.seen.row
    if error is None:
        return _expired(doomed, Status.EXPIRED, ""), None
    if isinstance(error, PreconditionFailed | NotFound):
        if error.code == "NoSuchBucket":
            raise error
        return _kept(row, "it changed or went away while its copy was proven"), None
    if isinstance(error, Unavailable | Conflict):
        raise error
    return _kept(row, f"S3 did not let it go: {error}"), None
