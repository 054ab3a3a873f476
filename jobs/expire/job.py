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
attempt deleted is `expired` by this run, not missing. Locks are never bypassed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jobs.core.elapsed import elapsed_seconds
from jobs.core.enums import Step
from jobs.core.model import Location, ObjectRef, ObjectVersion
from jobs.core.outcome import Evidence, Outcome, PartlyDone, Status
from jobs.errors import Conflict, Denied, Interrupted, PreconditionFailed, Redirected, Rejected, StoreError, Unavailable
from jobs.expire.copies import Copies, Pair
from jobs.expire.deletes import ExactDeletes
from jobs.expire.originals import Seen, find_original
from jobs.expire.places import PlaceLook
from jobs.expire.removals import Removal, Removals, dry_run_outcome, kept_outcome
from jobs.expire.rules import CopyAt, Terms, decide
from jobs.runs.failure_count import gave_up
from jobs.s3.lookup import KeyLooks
from jobs.s3.retries import gather_bounded, retry
from jobs.s3.store import Store

if TYPE_CHECKING:
    from jobs.ledger.tombstones import Tombstone, Tombstones


GROUP_ROWS = 500
GROUP_BYTES = 256 * 1024**2
"""Rows are compared and then deleted in groups of this size: small, so that little time passes
between the two."""

REQUESTS_AT_ONCE = 64
GROUPS_AT_ONCE = 2
FAILING_PARTS = 32
"""How many parts of a group may fail at the last try until the rest of it gives up. Three objects
that S3 cannot serve are found among 500 rows."""

_DELETED_SINCE = (
    "somebody else has deleted it, more than an hour after an attempt of this run announced its delete and was killed: "
    "give the command again"
)


@dataclass(frozen=True, slots=True)
class ExpireOptions:
    """The grace period, and whether to `delete` or only to say what would be deleted.

    `heeded_steps`: see `jobs.expire.deletes.heeded_steps`.
    """

    grace_seconds: float
    delete: bool = False
    heeded_steps: Sequence[Step] = ()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ExpireOptions:
        """Read the options from a run's spec, which has others as well."""
        return cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data})


@dataclass(frozen=True, slots=True)
class Expire:
    """The expire job of one worker: `process` takes what `chains` cuts out of a shard.

    `look`: at the documents of both places, for S3's time. `places`: where copies count. `prefix`:
    no key outside of it is touched, whatever the rows say. `planned_at`: epoch seconds at which the
    run was planned.
    """

    source: Store
    copies: Copies
    look: PlaceLook
    bucket: str
    options: ExpireOptions
    tombstones: Tombstones
    clock: Callable[[], float]
    places: Sequence[Location]
    prefix: str = ""
    planned_at: float = math.inf
    removals: Removals = field(init=False)

    def __post_init__(self) -> None:
        deletes = ExactDeletes(self.source, self.bucket, self.options.heeded_steps)
        removals = Removals(self.copies, deletes, self.tombstones, self.clock, self._look_by_itself, self.look.look)
        object.__setattr__(self, "removals", removals)

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

    async def process(self, rows: Sequence[ObjectVersion]) -> list[Outcome]:
        """Return one outcome for each row, in order.

        Raises Unavailable, Conflict or PreconditionFailed where a retry may help. Tombstones then
        say what is gone. Raises ConfigError for a delete whose condition was not tried, and for a
        place that is not as it was. Raises PartlyDone when the worker has to stop.
        """
        is_versioned = await retry(lambda: self.source.is_versioned(self.bucket))
        # The plan weighed the shares: what became due after it was not weighed.
        now = min(await self.look.look(), self.clock(), self.planned_at)
        terms = Terms(now, self.options.grace_seconds, is_versioned, self.places, self.prefix)
        looks, seen_at = KeyLooks(self.source, self.bucket), elapsed_seconds()
        looked = await gather_bounded(lambda row: self._look(row, is_versioned, looks), rows, REQUESTS_AT_ONCE)
        seen, outcomes = await self._sort(rows, looked)
        uncompared: list[tuple[Seen, Pair]] = []
        for each in seen:
            decision = decide(each.row, each.copy, each.original, None, None, terms)
            if decision.compare and each.copy is not None:
                ref = ObjectRef(self.bucket, each.row.key, each.original.version_id)
                uncompared.append((each, Pair(ref, each.info, each.copy)))
            else:
                outcomes[each.row.row] = kept_outcome(each.row, decision.reason, waits=decision.waits)
        removals: list[Removal] = []
        compared = await self.copies.compare([pair for _, pair in uncompared])
        for (each, pair), proven in zip(uncompared, compared, strict=True):
            decision = decide(each.row, each.copy, each.original, proven.verdict, proven.copy, terms)
            if decision.step is None:
                outcomes[each.row.row] = kept_outcome(each.row, decision.reason, waits=decision.waits)
            else:
                removals.append(Removal(each, pair, proven, decision.step, min(seen_at, proven.looked_at)))
        if self.options.delete:
            deleted = await self.removals.remove(removals)
        else:
            deleted = list(map(dry_run_outcome, removals))
        outcomes |= {outcome.row: outcome for outcome in deleted}
        return [outcomes[row.row] for row in rows]

    async def process_last(self, rows: Sequence[ObjectVersion]) -> list[Outcome]:
        """Do as `process`, at the last try: an object that S3 cannot serve ends as failed.

        The group is halved until that object is alone, so that the others go.
        """
        outcomes: list[Outcome] = []
        parts, failing = [rows], 0
        while parts:
            part = parts.pop()
            try:
                outcomes += await self.process(part)
            except (Unavailable, Conflict, PreconditionFailed) as error:
                failing += 1
                if len(part) > 1 and failing < FAILING_PARTS and _is_of_objects(error):
                    half = len(part) // 2
                    parts += [part[half:], part[:half]]
                else:
                    outcomes += await self._give_up(part, error)
            except Interrupted as stop:
                done = stop.outcomes if isinstance(stop, PartlyDone) else []
                raise PartlyDone(str(stop), [*outcomes, *done]) from stop
        return outcomes

    async def _give_up(self, rows: Sequence[ObjectVersion], error: StoreError) -> list[Outcome]:
        """Return the outcomes of rows whose last try failed. What this run has deleted is expired."""
        is_versioned = await retry(lambda: self.source.is_versioned(self.bucket))

        async def look(row: ObjectVersion) -> Seen | Outcome | None:
            try:
                return await self._look_by_itself(row, is_versioned)
            except Unavailable:
                return gave_up(row, error)

        seen, outcomes = await self._sort(rows, await gather_bounded(look, rows, REQUESTS_AT_ONCE))
        outcomes |= {each.row.row: gave_up(each.row, error) for each in seen}
        return [outcomes[row.row] for row in rows]

    async def _sort(
        self, rows: Sequence[ObjectVersion], looked: Sequence[Seen | Outcome | None]
    ) -> tuple[list[Seen], dict[int, Outcome]]:
        """Return the originals that are there, and the outcomes of the rest.

        What this run deleted is not missing.
        """
        announced: Mapping[int, Tombstone] = {}
        if any(each is None or (isinstance(each, Seen) and each.is_moved) for each in looked):
            announced = await self.tombstones.announced(rows[0].row, rows[-1].row)
        seen: list[Seen] = []
        outcomes: dict[int, Outcome] = {}
        settled: list[Tombstone] = []
        for row, each in zip(rows, looked, strict=True):
            stone = announced.get(row.row)
            if each is None and stone is None:
                outcomes[row.row] = Outcome.of(row, Status.MISSING, "the original is gone already")
            elif stone is not None and (each is None or (isinstance(each, Seen) and each.is_replaced)):
                outcomes[row.row] = _by_earlier_attempt(row, stone)
                settled.append(stone._replace(recorded_at=self.clock()))
            elif stone is not None and isinstance(each, Seen) and each.original.markers_above and _hides(stone):
                # Below any marker this run must not remove it: the marker may be its own.
                marker = each.original.marker_of(stone.marker_version_id, stone.recorded_at)
                if marker is None:
                    outcomes[row.row] = kept_outcome(row, _DELETED_SINCE)
                    continue
                outcomes[row.row] = _by_earlier_attempt(row, stone)
                settled.append(stone._replace(marker_version_id=marker.version_id, recorded_at=self.clock()))
            elif isinstance(each, Seen):
                seen.append(each)
            elif each is not None:
                outcomes[row.row] = each
        if settled:
            await self.tombstones.settle(settled)
        return seen, outcomes

    async def _look(self, row: ObjectVersion, is_versioned: bool, looks: KeyLooks) -> Seen | Outcome | None:
        """Return the original as it is now, None when it is gone, an outcome when S3 refuses to
        show it.
        """
        try:
            copy = CopyAt.decode(row.proof) if row.proof else None
        except ValueError as error:
            return kept_outcome(row, f"the ledger was altered: {error}")
        try:
            found = await find_original(looks, row, is_versioned=is_versioned)
        except (Denied, Redirected) as error:
            return Outcome.of(row, Status.DENIED, str(error))
        except Rejected as error:
            return Outcome.of(row, Status.FAILED, str(error))
        return None if found is None else Seen(row, copy, *found)

    async def _look_by_itself(self, row: ObjectVersion, is_versioned: bool) -> Seen | Outcome | None:
        return await self._look(row, is_versioned, KeyLooks(self.source, self.bucket))


def _by_earlier_attempt(row: ObjectVersion, stone: Tombstone) -> Outcome:
    what = "hidden by a delete marker" if _hides(stone) else "removed for good"
    copy: dict[str, Any] = {"destination_version_id": stone.copy_version_id, "destination_etag": stone.copy_etag}
    evidence = next((each for each in Evidence if each == stone.evidence), Evidence.NONE)
    outcome = Outcome.of(row, Status.EXPIRED, f"{what}, by an earlier attempt of this run")
    return outcome._replace(evidence=evidence, size_bytes=stone.size_bytes, **copy)


def _hides(stone: Tombstone) -> bool:
    return stone.step is Step.HIDE


def _is_of_objects(error: StoreError) -> bool:
    """False where the server is silent or busy, which fewer rows do not help."""
    return not isinstance(error, Unavailable) or error.is_of_object
