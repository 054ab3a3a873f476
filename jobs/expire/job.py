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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from jobs.core.elapsed import elapsed_seconds
from jobs.core.enums import Step
from jobs.core.model import Location, ObjectVersion
from jobs.core.outcome import Evidence, Outcome, Status
from jobs.core.reasons import Reason
from jobs.errors import Denied, LedgerError, Redirected, Rejected, StoreError, Unavailable
from jobs.expire.copies import Copies, Proven
from jobs.expire.deletes import ExactDeletes
from jobs.expire.originals import Seen, find_original
from jobs.expire.places import PlaceLook
from jobs.expire.removals import Removal, Removals, dry_run_outcome, kept_outcome
from jobs.expire.rules import CopyAt, Decision, Terms, decide
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


@dataclass(frozen=True, slots=True)
class Expire:
    """The expire job of one worker: `process` takes what `chains` cuts out of a shard.

    `look`: at the documents of both places, for S3's time. `heeded`: the steps in which the
    server heeds conditions (`jobs.expire.deletes.heeded_steps`), none in a dry run. `places`: where
    copies count. `prefix`: no key outside of it is touched, whatever the rows say. `planned_at`:
    epoch seconds at which the run was planned.
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
    removals: Removals = field(init=False)

    def __post_init__(self) -> None:
        exact = ExactDeletes(self.source, self.bucket, self.heeded)
        removals = Removals(self.copies, exact, self.tombstones, self.clock, self._look, self.look.look)
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
        return await self._process(rows, is_last=False)

    async def process_last(self, rows: Sequence[ObjectVersion]) -> list[Outcome]:
        """Do as `process`, at the last try: a row that S3 cannot serve ends as failed, the others go."""
        return await self._process(rows, is_last=True)

    async def _process(self, rows: Sequence[ObjectVersion], *, is_last: bool) -> list[Outcome]:
        is_versioned = await retry(lambda: self.source.is_versioned(self.bucket))
        # The plan weighed the shares: what became due after it was not weighed.
        now = min(await self.look.look(), self.clock(), self.planned_at)
        terms = Terms(now, self.grace_seconds, is_versioned, self.places, self.prefix)
        looks, seen_at = KeyLooks(self.source, self.bucket), elapsed_seconds()
        look = partial(self._look, is_versioned=is_versioned, looks=looks, is_last=is_last)
        seen, outcomes = await self._sort(rows, await gather_bounded(look, rows, REQUESTS_AT_ONCE))
        proven: dict[int, Proven] = {}
        pairs = {each.row.row: each.pair for each in seen if _decide(each, None, terms).compare}
        proven.update(zip(pairs, await self.copies.compare(list(pairs.values())), strict=True))
        removals: list[Removal] = []
        for each in seen:
            proof = proven.get(each.row.row)
            decision = _decide(each, proof, terms)
            if decision.step is None or proof is None:
                outcomes[each.row.row] = kept_outcome(each.row, decision.reason, decision.detail)
            else:
                removals.append(Removal(each, proof, decision.step, min(seen_at, proof.looked_at)))
        if not self.heeded:
            outcomes |= {each.row: dry_run_outcome(each) for each in removals}
        elif removals:
            outcomes |= await self._remove(removals, is_versioned, is_last)
        return [outcomes[row.row] for row in rows]

    async def _remove(self, removals: Sequence[Removal], is_versioned: bool, is_last: bool) -> dict[int, Outcome]:
        """Raises, but at the last try, an error that a retry may cure."""
        ends = dict(zip((each.seen.row for each in removals), await self.removals.remove(removals), strict=True))
        failed = {row: end for row, end in ends.items() if isinstance(end, StoreError)}
        if failed and not is_last:
            raise next(iter(failed.values()))
        outcomes = {end.row: end for end in ends.values() if isinstance(end, Outcome)}
        if failed:  # what was done may have lost its answer
            look = partial(self._look, is_versioned=is_versioned, is_last=True)
            seen, known = await self._sort(list(failed), await gather_bounded(look, failed, REQUESTS_AT_ONCE))
            outcomes |= known | {one.row.row: gave_up(one.row, failed[one.row]) for one in seen}
        return outcomes

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
            if isinstance(each, Outcome):
                outcomes[row.row] = each
                continue
            stone = announced.get(row.row)
            is_gone = each is None or each.is_replaced
            if stone is not None and each is not None and not is_gone and each.original.markers_above and _hides(stone):
                # Below any marker this run must not remove it: the marker may be its own.
                marker = each.original.marker_of(stone.marker_version_id, stone.recorded_at)
                if marker is None:
                    outcomes[row.row] = kept_outcome(row, Reason.DELETED, "source")  # by others, long after
                    continue
                stone, is_gone = stone._replace(marker_version_id=marker.version_id), True
            if stone is not None and is_gone:
                outcomes[row.row] = _by_earlier_attempt(row, stone)
                settled.append(stone._replace(recorded_at=self.clock()))
            elif each is None:
                outcomes[row.row] = Outcome.of(row, Status.MISSING, Reason.SOURCE_GONE)
            else:
                seen.append(each)
        if settled:
            await self.tombstones.settle(settled)
        return seen, outcomes

    async def _look(
        self, row: ObjectVersion, *, is_versioned: bool, looks: KeyLooks | None = None, is_last: bool = False
    ) -> Seen | Outcome | None:
        """Return the original as it is now, None when it is gone, an outcome when S3 does not show it."""
        if row.proof is None:
            return kept_outcome(row, Reason.COPY_MISSING)
        try:
            copy = msgspec.json.decode(row.proof, type=CopyAt)
            looks = looks or KeyLooks(self.source, self.bucket)
            return await find_original(looks, row, copy, is_versioned=is_versioned)
        except msgspec.MsgspecError as error:
            raise LedgerError(
                f"a shard of the run holds no place of a copy: the ledger was altered: {error}"
            ) from error
        except (Denied, Redirected) as error:
            return _refused(row, Status.DENIED, error)
        except Rejected as error:
            return _refused(row, Status.FAILED, error)
        except Unavailable as error:
            if not is_last:
                raise
            return gave_up(row, error)


def _decide(seen: Seen, proven: Proven | None, terms: Terms) -> Decision:
    verdict, current = (None, None) if proven is None else (proven.verdict, proven.copy)
    return decide(seen.row, seen.pair.copy, seen.original, verdict, current, terms)


def _refused(row: ObjectVersion, status: Status, error: StoreError) -> Outcome:
    reason = Reason.DENIED if status is Status.DENIED else Reason.REFUSED
    return Outcome.of(row, status, reason, f"{error.operation}: {error.code}")


def _by_earlier_attempt(row: ObjectVersion, stone: Tombstone) -> Outcome:
    how = "hidden" if _hides(stone) else "removed"
    return Outcome.of(row, Status.EXPIRED, Reason.DELETED, how)._replace(
        evidence=next((each for each in Evidence if each == stone.evidence), Evidence.NONE),
        size_bytes=stone.size_bytes,
        destination_version_id=stone.copy_version_id,
        destination_etag=stone.copy_etag,
    )


def _hides(stone: Tombstone) -> bool:
    return stone.step is Step.HIDE
