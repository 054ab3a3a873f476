"""The rollback job: puts a version back on top, hides one, or shows one again, if the key is as the plan saw it.

S3's own condition guards a copy and a delete marker. It has none for the removal of a version or a delete marker by its
id: before that the key's versions are listed, and `jobs.rollback.rules.judge` says what became of the key. It says so
too where a condition failed: an earlier attempt, or a request without an answer, may have taken the step.

Remove nothing but delete markers, and copies that were compared with their originals a moment before.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import cast

from jobs.core.elapsed import elapsed_seconds
from jobs.core.evidence import compare, is_md5_etag
from jobs.core.model import Listed, Location, ObjectInfo, ObjectRef, ObjectVersion, Route, is_exact
from jobs.core.outcome import Evidence, Outcome, Status
from jobs.core.pace import Pace
from jobs.core.reasons import Reason, Why
from jobs.core.selection import is_sealift_object
from jobs.errors import REFUSALS, Conflict, Denied, NotFound, PreconditionFailed, Rejected, Unavailable
from jobs.ledger.files import write_once
from jobs.rollback.rules import REMOVED, Found, Move, Step, judge
from jobs.runs.kind import Opened
from jobs.s3.annotations import Pinned
from jobs.s3.byte_ranges import ContentSide
from jobs.s3.compare_bytes import compare_bytes
from jobs.s3.copying import Copier, CopyOptions
from jobs.s3.lookup import TagReader, find, key_history
from jobs.s3.retries import PacedGate, retry, together
from jobs.s3.store import ABSENT, Guard

CHAIN_ROWS = 256
"""So many keys share a note in the ledger that work at them has begun."""
CHAINS_AT_ONCE = 4
VERSIONING_SECONDS = 5.0
"""How long a look at the bucket's versioning holds: without it a write would replace what is there."""


class Rollback:
    """One worker's job. Each row is a key, and has a `Move` beside it."""

    def __init__(self, opened: Opened):
        self._opened, self._store, self._writes = opened, opened.source, opened.destination
        spec, bucket = opened.spec, Location(opened.spec.source.location.bucket)
        sides = opened.source, opened.destination, Route(bucket, bucket)
        self._bucket, self._is_undo = bucket.bucket, bool(spec.options["undo"] and spec.options["delete"])
        self._copier = Copier(*sides, CopyOptions(), opened.budget, opened.records)
        self._tags, self._gate = TagReader(self._store), PacedGate(Pace(opened.in_flight))
        self._unsure = set[int]()
        """Rows that may be done already: an earlier attempt began them, or an answer was lost."""
        self._versioned_until = 0.0

    def chains(self, rows: Iterable[ObjectVersion]) -> Iterator[list[ObjectVersion]]:
        """The rows of a shard, `CHAIN_ROWS` at a time."""
        rows = iter(rows)
        while chain := list(itertools.islice(rows, CHAIN_ROWS)):
            yield chain

    async def process(self, rows: Sequence[ObjectVersion]) -> list[Outcome]:
        """Take the step of each row, unless its key has changed. Raises Unavailable if S3 is down.

        First a note in the ledger says that work at the rows begins. If it is there, their steps may have been taken.
        """
        numbers, ledger = {row.row for row in rows}, self._opened.ledger
        note = f"runs/{self._opened.spec.run_id}/begun/{rows[0].row:012}"
        if not await write_once(ledger.store, ledger.location, note, secrets.token_bytes(16)):
            self._unsure |= numbers
        outcomes = await together(*map(self._guarded, rows))
        self._unsure -= numbers
        return outcomes

    async def _guarded(self, row: ObjectVersion) -> Outcome:
        """One key's failure is its row's outcome. A service that does not answer stops all."""
        try:
            return await self._gate.run(lambda: self._act(row))
        except (*REFUSALS, PreconditionFailed, Conflict, Unavailable) as error:
            if isinstance(error, Unavailable) and error.status == 0:
                raise
            return Outcome.refused(row, error)

    async def _act(self, row: ObjectVersion) -> Outcome:
        """Take a row's step, or find what became of the key. Raises Conflict where a look is needed again."""
        move = cast(Move, row.beside)
        if is_sealift_object(row.key):  # no plan names one
            return _changed(row)
        if move.step is Step.LEAVE:
            return Outcome.of(row, Status.BLOCKED, Reason.CURRENT_UNKNOWN, "overwritten")
        found, other = Found.AS_PLANNED, None
        if move.top_etag is None or move.step is Step.REMOVE or row.row in self._unsure:
            found, other = await self._look(row, move)
        if found is Found.AS_PLANNED:
            try:
                return await self._write(row, move)
            except Unavailable:
                self._unsure.add(row.row)
                raise
            except (PreconditionFailed, NotFound, Conflict) as error:
                if not error.was_sent_once:
                    self._unsure.add(row.row)
                found, other = await self._look(row, move)
                if found is Found.AS_PLANNED:
                    raise Conflict(error.operation, error.target, "Raced", "it changed meanwhile") from error
        if found is Found.GONE:
            return Outcome.of(row, Status.MISSING, Reason.SOURCE_GONE)
        if found is Found.TAKEN:
            return _done(
                row, Reason.HIDDEN if move.step is Step.UNHIDE else Reason.DELETED, move.top_id, detail=REMOVED
            )
        if other is None or not (other.is_delete_marker or await self._is_same(row, other.version_id)):
            return _changed(row)
        if found is Found.GOAL:
            return Outcome.of(row, Status.SAME)
        if other.is_delete_marker:
            return _done(row, Reason.HIDDEN, other.version_id)
        # An earlier attempt may have ended before it put annotations onto its copy in parts.
        kept, copy = (Pinned(self._ref(row, each.version_id), each.etag) for each in (row, other))
        lack = await self._copier.complete_annotations(row, kept, other.size_bytes or 0, copy)
        return _done(row, Reason.COPY_INCOMPLETE if lack else "", other.version_id, other.etag, lack)

    async def _look(self, row: ObjectVersion, move: Move) -> tuple[Found, Listed | None]:
        history = await key_history(self._store, self._bucket, row.key)
        return judge(move, row.version_id, history, may_be_own=row.row in self._unsure)

    async def _write(self, row: ObjectVersion, move: Move) -> Outcome:
        """Take a step. Raises PreconditionFailed, NotFound or Conflict where the key is not as planned."""
        if elapsed_seconds() >= self._versioned_until:
            began = elapsed_seconds()
            if not await retry(partial(self._store.is_versioned, self._bucket)):
                return Outcome.of(row, Status.BLOCKED, Reason.KEPT, "suspended")
            self._versioned_until = began + VERSIONING_SECONDS
        steps = {Step.COPY: self._copy, Step.HIDE: self._hide, Step.UNHIDE: self._unhide, Step.REMOVE: self._remove}
        return await steps[move.step](row, move)

    async def _copy(self, row: ObjectVersion, move: Move) -> Outcome:
        source = await find(self._store, self._ref(row, row.version_id))
        if source is None or source.etag != row.etag:
            return Outcome.of(row, Status.MISSING, Reason.SOURCE_GONE)
        # Equal bytes may be an earlier rollback's copy. An ETag that is no MD5 does not tell.
        may_be_same = move.top_etag is not None and (move.top_etag == source.etag or not is_md5_etag(source))
        if may_be_same and await self._is_same(row, move.top_id, source):
            return Outcome.of(row, Status.SAME)
        if source.is_archived:
            return Outcome.of(row, Status.BLOCKED, Reason.ARCHIVED)
        of_source, copier = source.attributes, self._copier
        if of_source.sse:
            copier = replace(copier, options=CopyOptions(sse=of_source.sse, kms_key_id=of_source.kms_key_id))
        pinned = row._replace(size_bytes=source.size_bytes, storage_class=source.storage_class)
        guard = Guard(etag=move.top_etag) if move.top_etag else ABSENT
        if copier.is_one_write(source.size_bytes):
            outcome, _ = await copier.copy_object(pinned, row.version_id, guard, source)
        else:
            outcome = await copier.copy(pinned, source, guard)
        if outcome.evidence is not Evidence.NONE:
            return outcome
        made = self._ref(row, outcome.destination_version_id)
        verdict = compare(source, await retry(partial(self._store.head, made)))
        if verdict.same is False:
            return outcome._replace(status=Status.DIFFERENT, reason=verdict.reason, detail=verdict.detail)
        return outcome._replace(evidence=verdict.evidence)

    async def _hide(self, row: ObjectVersion, move: Move) -> Outcome:
        # SeaweedFS keeps no versions of these: the object would be gone.
        if row.key.endswith("/") and not is_exact(move.top_id) and not self._store.heeds_conditions:
            return Outcome.of(row, Status.BLOCKED, Reason.KEPT, "folder")
        deleted = await self._writes.delete(self._ref(row), if_match=move.top_etag)
        return _done(row, Reason.HIDDEN, deleted.version_id)

    async def _unhide(self, row: ObjectVersion, move: Move) -> Outcome:
        """Remove the delete marker that a listing has just shown on top, directly above the wanted version."""
        try:
            if is_exact(move.top_id):
                await self._writes.delete(self._ref(row, move.top_id))
                return _done(row, Reason.HIDDEN, move.top_id, detail=REMOVED)
        except (Denied, Rejected):
            if self._is_undo:
                raise
        return _changed(row) if self._is_undo else await self._copy(row, move)

    async def _remove(self, row: ObjectVersion, move: Move) -> Outcome:
        """Remove the copy that a listing has just shown on top, if the version that it was made of is the same."""
        kept, copy = self._ref(row, row.version_id), self._ref(row, move.top_id)
        source, there = await asyncio.gather(self._store.head(kept), self._store.head(copy))
        is_other = is_exact(move.top_id) and row.version_id != move.top_id
        if not (self._is_undo and is_other and there.etag == move.top_etag):
            return _changed(row)
        verdict = compare(source, there)
        if verdict.same is None and not (source.is_archived or there.is_archived):
            sides = ContentSide(self._store, kept, source), ContentSide(self._store, copy, there)
            verdict = await compare_bytes(*sides, self._opened.budget)
        if not (verdict.same and await self._have_same_tags(row, move.top_id, source, there)):
            return _changed(row)
        await self._writes.delete(copy)
        return _done(row, Reason.DELETED, move.top_id, detail=REMOVED)

    async def _is_same(self, row: ObjectVersion, other_id: str | None, source: ObjectInfo | None = None) -> bool:
        """Whether another version has the content, metadata and tags of the row's, by what S3 keeps of both."""
        if other_id == row.version_id:
            return True
        source = source or await find(self._store, self._ref(row, row.version_id))
        there = await find(self._store, self._ref(row, other_id))
        if source is None or there is None or not compare(source, there).same:
            return False
        return await self._have_same_tags(row, other_id, source, there)

    async def _have_same_tags(
        self, row: ObjectVersion, other_id: str | None, source: ObjectInfo, there: ObjectInfo
    ) -> bool:
        tags = await self._tags.read_surely(self._ref(row, row.version_id), source.tag_count)
        return tags == await self._tags.read_surely(self._ref(row, other_id), there.tag_count)

    def _ref(self, row: ObjectVersion, version_id: str | None = None) -> ObjectRef:
        return ObjectRef(self._bucket, row.key, version_id)


def _changed(row: ObjectVersion) -> Outcome:
    return Outcome.of(row, Status.CHANGED, Reason.DESTINATION_DIFFERS, "plan")


def _done(row: ObjectVersion, reason: Why, made_id: str | None, etag: str | None = None, detail: str = "") -> Outcome:
    """What an undo needs: the version that was made or removed, and by reason and detail which of both."""
    return Outcome.of(row, Status.DONE, reason, detail)._replace(destination_version_id=made_id, destination_etag=etag)
