"""The restore job: members of archives and earlier versions become objects again.

A row names one version and, in `archive`, the archive that holds it. Members of one archive are
read by coalesced ranges and proven before they are written. If an archive must be thawed, the job
asks S3 for that, and its rows are blocked. A version that the bucket still has is copied. The job
never overwrites an object: one that exists is `same`, or in the way.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING

from jobs.archives.files import archive_ref, head_archive
from jobs.archives.model import ArchiveRecord, Member
from jobs.archives.reader import ArchiveReader, MemberRead, is_large
from jobs.core.evidence import compare, is_multipart
from jobs.core.model import Location, ObjectInfo, ObjectRef, ObjectVersion, Route, is_version
from jobs.core.outcome import Outcome, Status
from jobs.core.pace import Pace
from jobs.core.reasons import Reason
from jobs.errors import (
    REFUSALS,
    ArchivedObject,
    Conflict,
    DamagedArchive,
    NoSuchBucket,
    NotFound,
    PreconditionFailed,
    StoreError,
    Unavailable,
)
from jobs.ledger.files import write_file
from jobs.restore.as_of import UNKNOWN
from jobs.restore.member_writer import MemberWriter, in_the_way
from jobs.restore.thawing import (
    ARCHIVE_ACCESS,
    DAYS,
    DEEP_ARCHIVE_ACCESS,
    HOURS,
    Tier,
    thaw_class,
    tier_of_class,
    waiting_name,
)
from jobs.s3.annotations import Pinned
from jobs.s3.byte_ranges import ByteBudget, ContentSide
from jobs.s3.compare_bytes import compare_bytes
from jobs.s3.copying import Copier, CopyOptions
from jobs.s3.lookup import find
from jobs.s3.retries import PacedGate, retry
from jobs.s3.store import ABSENT, Restoring, Store
from jobs.s3.uploads import NO_RECORDS, UploadRecords

if TYPE_CHECKING:
    from jobs.archives.index import ArchiveIndex

CHAIN_ROWS = 2_048
"""Rows of one archive in one step: the most that a crash loses, and that one index read serves."""

CHAINS_AT_ONCE = 4
COMPARED_BYTES = 16 * 1024**2

_REFUSALS = (*REFUSALS, PreconditionFailed)
"""The errors of an archive as a whole."""


@dataclass(frozen=True, slots=True)
class RestoreOptions(CopyOptions):
    """How to restore.

    `is_history`: rows without an archive are versions of the source bucket. Else no archive has
    them. `at`: epoch seconds, the time as of which versions were chosen. `tier`: how archived
    objects are thawed.
    """

    is_history: bool = False
    at: float | None = None
    tier: str = Tier.BULK.value


@dataclass(slots=True)
class Restore:
    """One worker's restore job. `process` takes rows of one archive, which `chains` cuts from a
    shard.

    `source` has the bucket's versions, `archives` the archives. `route` begins at the original
    keys.
    """

    source: Store
    archives: Store
    destination: Store
    route: Route
    options: RestoreOptions
    budget: ByteBudget
    index: ArchiveIndex
    run_id: str
    in_flight: int = 512
    records: UploadRecords = NO_RECORDS
    _copier: Copier = field(init=False)
    _writer: MemberWriter = field(init=False)
    _gate: PacedGate = field(init=False)

    def __post_init__(self) -> None:
        self._copier = Copier(self.source, self.destination, self.route, self.options, self.budget, self.records)
        # Comparisons run while members hold memory, so they need their own budget (no deadlock).
        compared = ByteBudget(COMPARED_BYTES)
        self._writer = MemberWriter(self.destination, self.route, self.options, compared, self.records)
        self._gate = PacedGate(Pace(self.in_flight))

    def chains(self, rows: Iterable[ObjectVersion]) -> Iterator[list[ObjectVersion]]:
        """The rows of a shard, those of one archive together, at most `CHAIN_ROWS` of them."""
        for _, group in itertools.groupby(rows, key=attrgetter("archive")):
            while chain := list(itertools.islice(group, CHAIN_ROWS)):
                yield chain

    async def process(self, rows: Sequence[ObjectVersion]) -> list[Outcome]:
        """Restore rows of one archive → an outcome for each, in order. Raises Unavailable if S3 is
        down.
        """
        outcomes = await self._process(rows)
        if self.options.at is None:
            return outcomes
        return [
            outcome._replace(reason=outcome.reason or Reason.ORDER_UNKNOWN)
            if outcome.status is Status.DONE and is_multipart(row.etag)
            else outcome
            for row, outcome in zip(rows, outcomes, strict=True)
        ]

    async def _process(self, rows: Sequence[ObjectVersion]) -> list[Outcome]:
        if (archive := rows[0].archive) in UNKNOWN:
            cause = UNKNOWN[archive]
            status = Status.MISSING if cause.reason is Reason.NOT_ARCHIVED else Status.BLOCKED
            return [Outcome.of(row, status, *cause) for row in rows]
        if archive is not None:
            return await self._from_archive(rows, Location.parse(archive))
        if not self.options.is_history:
            marker, absent = (Status.LEFT, Reason.IS_MARKER), (Status.MISSING, Reason.NOT_ARCHIVED)
            return [Outcome.of(row, *(marker if row.is_delete_marker else absent)) for row in rows]
        return list(await asyncio.gather(*map(self._copy_guarded, rows)))

    async def _from_archive(self, rows: Sequence[ObjectVersion], archive: Location) -> list[Outcome]:
        try:
            record = await self.index.record(archive)
            members = {} if record is None else await self._members(rows, archive)
        except DamagedArchive as error:
            return [Outcome.of(row, Status.BLOCKED, Reason.ARCHIVE_DAMAGED, str(error)) for row in rows]
        found = [(row, members[row.row]) for row in rows if row.row in members]
        outcomes = {} if record is None else await self._from_record(record, found)
        lost = "" if record else str(archive)
        return [outcomes.get(row.row) or Outcome.of(row, Status.BLOCKED, Reason.NOT_INDEXED, lost) for row in rows]

    async def _members(self, rows: Sequence[ObjectVersion], archive: Location) -> dict[int, Member]:
        """Row number → the member that the row names."""
        by_key: dict[str, list[ObjectVersion]] = {}
        for row in rows:
            by_key.setdefault(row.key, []).append(row)
        found: dict[int, Member] = {}
        async with aclosing(self.index.members(archive, keys=sorted(by_key))) as parts:
            async for member in (member async for part in parts for member in part):
                for row in by_key.get(member.key, ()):
                    if is_version(row.version_id, member.version_id) and row.etag in (None, member.etag):
                        found[row.row] = member
        return found

    async def _from_record(
        self, record: ArchiveRecord, found: Sequence[tuple[ObjectVersion, Member]]
    ) -> dict[int, Outcome]:
        """The outcomes of members of one archive, by row number."""
        outcomes: dict[int, Outcome] = {}
        storage_class = record.storage_class
        try:
            record, info = await head_archive(self.archives, record)
            storage_class = thaw_class(info)  # the index has that of its making
            if info.is_archived:
                raise _archived(archive_ref(record))
            # An archive that was written again is read as well: each member proves itself.
            reader = ArchiveReader(self.archives, archive_ref(record), info.etag, self.budget)
            small = {_name(member): row for row, member in found if not is_large(member)}
            async with aclosing(reader.read([member for _, member in found if not is_large(member)])) as reads:
                async for batch in reads:
                    landed = await asyncio.gather(*(self._land(small[_name(read.member)], read) for read in batch))
                    outcomes.update((outcome.row, outcome) for outcome in landed)
            for row, member in found:
                if is_large(member):
                    again = partial(self._writer.stream, row, member, reader)
                    outcomes[row.row] = await self._guarded(row, retry(again))
        except NoSuchBucket:
            raise
        except _REFUSALS as error:
            left = [each for each in found if each[0].row not in outcomes]
            return outcomes | await self._unreadable(archive_ref(record), storage_class, left, error)
        return outcomes

    async def _land(self, row: ObjectVersion, read: MemberRead) -> Outcome:
        return await self._guarded(row, self._gate.run(lambda: self._writer.put(row, read)))

    async def _guarded(self, row: ObjectVersion, work: Awaitable[Outcome]) -> Outcome:
        """One object's failure is its row's outcome. Refused credentials and a service that does not answer stop all.

        Raises ArchivedObject.
        """
        try:
            return await work
        except DamagedArchive as error:
            return Outcome.of(row, Status.BLOCKED, Reason.ARCHIVE_DAMAGED, str(error))
        except (NoSuchBucket, ArchivedObject):
            raise
        except (*_REFUSALS, Conflict, Unavailable) as error:
            if isinstance(error, Unavailable) and error.status == 0:
                raise
            return Outcome.refused(row, error)

    async def _unreadable(
        self, ref: ObjectRef, storage_class: str, found: Sequence[tuple[ObjectVersion, Member]], error: StoreError
    ) -> dict[int, Outcome]:
        """Outcomes of members whose archive cannot be read. Those that are restored already are
        `same`.
        """
        settled = await asyncio.gather(*(self._settle(row, member) for row, member in found))
        outcomes = {outcome.row: outcome for outcome in settled if outcome is not None}
        left = [row for row, _ in found if row.row not in outcomes]
        if not left:
            return outcomes
        if isinstance(error, ArchivedObject):
            why = await self._thaw(left[0], ref, storage_class)
        elif isinstance(error, NotFound):
            why = Outcome.of(left[0], Status.MISSING, Reason.ARCHIVE_GONE, f"s3://{ref.bucket}/{ref.key}")
        elif isinstance(error, PreconditionFailed):
            why = Outcome.of(left[0], Status.BLOCKED, Reason.ARCHIVE_DAMAGED, f"{ref} was replaced while it was read")
        else:
            why = Outcome.refused(left[0], error)
        return outcomes | {row.row: Outcome.of(row, why.status, why.reason, why.detail) for row in left}

    async def _settle(self, row: ObjectVersion, member: Member) -> Outcome | None:
        """The outcome by what is at the destination. None: nothing, or nobody may look."""
        try:
            return await self._gate.run(lambda: self._writer.settle(row, member))
        except NoSuchBucket:
            raise
        except REFUSALS:
            return None

    async def _thaw(self, row: ObjectVersion, ref: ObjectRef, storage_class: str) -> Outcome:
        """Ask S3 to thaw an archive or version → the outcome of rows that wait. Raises Conflict: it
        has thawed.

        A note is written before the request, so that the handler of S3's event finds every waiting
        run: `thawing/<bucket>/<key>/<run id>.json` in the ledger.
        """
        tier, store = self.options.tier, self.source if row.archive is None else self.archives
        note = json.dumps({"version_id": ref.version_id, "tier": tier}).encode()
        with contextlib.suppress(PreconditionFailed):
            name = waiting_name(ref.bucket, ref.key, self.run_id)
            await write_file(self.index.store, self.index.location, name, note)
        days = None if storage_class in (ARCHIVE_ACCESS, DEEP_ARCHIVE_ACCESS) else DAYS
        try:
            answer = await retry(lambda: store.request_restore(ref, days=days, tier=tier))
        except REFUSALS as error:
            return Outcome.refused(row, error)
        if answer is Restoring.READY:
            raise Conflict("RestoreObject", str(ref), "Thawed", "it can be read by now")
        hours = HOURS.get((storage_class, Tier(tier)), 0.0)
        within = f"up to {hours:g} hours" if hours >= 1 else "minutes"
        return Outcome.of(row, Status.BLOCKED, Reason.THAWING, f"{ref} ({tier}: {within})")

    async def _copy_guarded(self, row: ObjectVersion) -> Outcome:
        try:
            return await self._guarded(row, self._gate.run(lambda: self._copy(row)))
        except ArchivedObject:
            return await self._thaw(row, self.route.source_of(row), tier_of_class(row.storage_class))

    async def _copy(self, row: ObjectVersion) -> Outcome:
        """Copy a version that the source bucket still has. Raises ArchivedObject if it must be
        thawed.
        """
        if self._copier.is_simple(row):
            try:
                return _restored((await self._copier.copy_object(row, row.version_id, ABSENT))[0])
            except PreconditionFailed:
                pass  # an object is there, or the source is not what the plan saw: look at both
        ref, target = self.route.source_of(row), self.route.target_of(row)
        source, there = await asyncio.gather(find(self.source, ref), find(self.destination, target))
        if source is None or row.etag not in (None, source.etag):
            return Outcome.of(row, Status.MISSING, Reason.SOURCE_GONE)
        if there is not None:
            return await self._compare(row, source, there)
        if source.is_archived:
            raise _archived(ref)
        try:
            return _restored(await self._copier.copy(row, source, ABSENT))
        except PreconditionFailed as error:  # perhaps this very copy, whose answer was lost
            raise Conflict(error.operation, error.target, "Raced", "something changed meanwhile") from error

    async def _compare(self, row: ObjectVersion, source: ObjectInfo, there: ObjectInfo) -> Outcome:
        ref, target = self.route.source_of(row), self.route.target_of(row)
        verdict = compare(source, there)
        if verdict.same is None and not source.is_archived and not there.is_archived:
            sides = ContentSide(self.source, ref, source), ContentSide(self.destination, target, there)
            verdict, _ = await compare_bytes(*sides, self.budget)
        if not verdict.same:
            return in_the_way(row, there)
        ours = Pinned(ref._replace(version_id=row.version_id or source.version_id), source.etag)
        theirs = Pinned(target._replace(version_id=there.version_id), there.etag)
        lack = await self._copier.complete_annotations(row, ours, source.size_bytes, theirs)
        return _as_it_is(row, there, lack)._replace(evidence=verdict.evidence)


def _archived(ref: ObjectRef) -> ArchivedObject:
    """The error that a read would get, as HEAD already shows."""
    return ArchivedObject("HeadObject", str(ref), "InvalidObjectState", "archived", 403)


def _as_it_is(row: ObjectVersion, there: ObjectInfo, lack: str = "") -> Outcome:
    same = Outcome.of(row, Status.SAME, Reason.COPY_INCOMPLETE if lack else "", lack)
    return same._replace(destination_etag=there.etag, destination_version_id=there.version_id)


def _name(member: Member) -> tuple[str, str | None, int]:
    return member.key, member.version_id, member.offset


def _restored(outcome: Outcome) -> Outcome:
    return outcome._replace(status=Status.DONE)
