"""The restore job: members of archives and earlier versions become objects again, with all attributes.

A row names one version and, in `archive`, the archive that holds it. Members of one archive are
read by coalesced ranges and proven before they are written. If an archive must be thawed, the job
asks S3 for that, and its rows are blocked. A version that the bucket still has is copied. The job
never overwrites an object: every write requires that its key is free. An object that is there is
`same`, or in the way.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING

from msgspec.structs import replace

from jobs.archives.files import archive_ref, head_archive
from jobs.archives.model import ArchiveRecord, Member
from jobs.archives.reader import UNPROVEN, ArchiveReader, MemberRead, content_checksums, is_large
from jobs.core.evidence import compare, is_multipart
from jobs.core.model import Attributes, Checksum, Location, ObjectInfo, ObjectRef, ObjectVersion, Route, is_version
from jobs.core.outcome import Evidence, Outcome, Status
from jobs.core.pace import Pace
from jobs.core.part_sizes import choose_part_size
from jobs.core.reasons import Reason
from jobs.errors import (
    REFUSALS,
    ArchivedObject,
    Conflict,
    DamagedArchive,
    NotFound,
    PreconditionFailed,
    StoreError,
    Unavailable,
)
from jobs.ledger.files import write_once
from jobs.restore.as_of import NOT_RESTORED
from jobs.restore.thawing import Tier, days_kept, thaw_class, usual_time, waiting_name
from jobs.runs.kind import Opened
from jobs.s3.annotations import Pinned
from jobs.s3.byte_ranges import ByteBudget, ContentSide
from jobs.s3.compare_bytes import check_content, compare_bytes
from jobs.s3.copying import KEEP, Copier, CopyOptions
from jobs.s3.lookup import find
from jobs.s3.retries import PacedGate, retry
from jobs.s3.store import ABSENT, Restoring, Store, Written
from jobs.s3.uploads import ObjectUpload

if TYPE_CHECKING:
    from jobs.archives.index import ArchiveIndex

CHAIN_ROWS = 2_048
"""Rows of one archive in one step: the most that a crash loses, and that one index read serves."""

CHAINS_AT_ONCE = 4
COMPARED_BYTES = 16 * 1024**2
PART_BYTES = 8 * 1024**2

Found = dict[str, tuple[ObjectVersion, Member]]
"""Rows of one archive by their keys, and what the archive has of each."""

_REFUSALS = (*REFUSALS, PreconditionFailed)
"""The errors of an archive as a whole."""


class Restore:
    """One worker's restore job. `process` takes rows of one archive, which `chains` cuts from a
    shard.

    `archives` has the archives, the source the versions that the bucket still has.
    """

    def __init__(self, opened: Opened, archives: Store, index: ArchiveIndex):
        spec = opened.spec
        self._opened, self._archives, self._index, self._destination = opened, archives, index, opened.destination
        self._options = CopyOptions.from_dict(spec.options)
        # It begins at the original keys, wherever the archives are.
        original = Location(spec.source.location.bucket, spec.options["source_prefix"])
        self._route = Route(original, spec.destination.location)
        stores = opened.source, self._destination
        self._copier = Copier(*stores, self._route, self._options, opened.budget, opened.records)
        # Comparisons run while members hold memory, so they need their own budget (no deadlock).
        self._compared = ByteBudget(COMPARED_BYTES)
        self._gate = PacedGate(Pace(opened.in_flight))

    def chains(self, rows: Iterable[ObjectVersion]) -> Iterator[list[ObjectVersion]]:
        """The rows of a shard, those of one archive together, at most `CHAIN_ROWS` of them."""
        for _, group in itertools.groupby(rows, key=attrgetter("archive")):
            while chain := list(itertools.islice(group, CHAIN_ROWS)):
                yield chain

    async def process(self, rows: Sequence[ObjectVersion]) -> list[Outcome]:
        """Restore rows of one archive → an outcome for each, in order. Raises Unavailable if S3 is
        down.
        """
        if (archive := rows[0].archive) in NOT_RESTORED:
            return [Outcome.of(row, *NOT_RESTORED[archive]) for row in rows]
        if archive is not None:
            outcomes = await self._from_archive(rows, Location.parse(archive))
        else:
            outcomes = await asyncio.gather(*map(self._copy_guarded, rows))
        if self._opened.spec.options["at"] is None:
            return outcomes
        return [
            outcome._replace(reason=outcome.reason or Reason.ORDER_UNKNOWN)
            if outcome.status is Status.DONE and is_multipart(row.etag)
            else outcome
            for row, outcome in zip(rows, outcomes, strict=True)
        ]

    async def _from_archive(self, rows: Sequence[ObjectVersion], archive: Location) -> list[Outcome]:
        try:
            record = await self._index.record(archive)
            found = {} if record is None else await self._members(rows, archive)
        except DamagedArchive as error:
            return [Outcome.of(row, Status.BLOCKED, Reason.ARCHIVE_DAMAGED, str(error)) for row in rows]
        outcomes = {} if record is None else await self._from_record(record, found)
        lost = "" if record else str(archive)
        return [outcomes.get(row.row) or Outcome.of(row, Status.BLOCKED, Reason.NOT_INDEXED, lost) for row in rows]

    async def _members(self, rows: Sequence[ObjectVersion], archive: Location) -> Found:
        by_key = {row.key: row for row in rows}  # a run has each key once
        found: Found = {}
        async with aclosing(self._index.members(archive, keys=sorted(by_key))) as parts:
            async for member in (member async for part in parts for member in part):
                row = by_key[member.key]
                if is_version(row.version_id, member.version_id) and row.etag in (None, member.etag):
                    found[row.key] = row, member
        return found

    async def _from_record(self, record: ArchiveRecord, found: Found) -> dict[int, Outcome]:
        """The outcomes of members of one archive, by row number."""
        outcomes: dict[int, Outcome] = {}
        storage_class = record.storage_class
        try:
            record, info = await head_archive(self._archives, record)
            storage_class = thaw_class(info.storage_class, info.archive_tier)  # the index has that of its making
            if info.is_archived:
                raise _archived(archive_ref(record))
            # An archive that was written again is read as well: each member proves itself.
            reader = ArchiveReader(self._archives, archive_ref(record), info.etag, self._opened.budget)
            async with aclosing(reader.read([each for _, each in found.values() if not is_large(each)])) as reads:
                async for batch in reads:
                    works = (self._land(found[read.member.key][0], read) for read in batch)
                    outcomes.update((outcome.row, outcome) for outcome in await asyncio.gather(*works))
            for row, member in found.values():
                if is_large(member):
                    outcomes[row.row] = await self._guarded(row, retry(partial(self._stream, row, member, reader)))
        except _REFUSALS as error:
            left = [each for each in found.values() if each[0].row not in outcomes]
            return outcomes | await self._unreadable(archive_ref(record), storage_class, left, error)
        return outcomes

    async def _land(self, row: ObjectVersion, read: MemberRead) -> Outcome:
        return await self._guarded(row, self._gate.run(lambda: self._put(row, read)))

    async def _guarded(self, row: ObjectVersion, work: Awaitable[Outcome]) -> Outcome:
        """One object's failure is its row's outcome. Refused credentials and a service that does not answer stop all.

        Raises ArchivedObject.
        """
        try:
            return await work
        except DamagedArchive as error:
            return Outcome.of(row, Status.BLOCKED, Reason.ARCHIVE_DAMAGED, str(error))
        except ArchivedObject:
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

        async def settle(row: ObjectVersion, member: Member) -> Outcome | None:
            try:
                return await self._gate.run(lambda: self._settle(row, member))
            except REFUSALS:  # nobody may look
                return None

        settled = await asyncio.gather(*(settle(row, member) for row, member in found))
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

    async def _thaw(self, row: ObjectVersion, ref: ObjectRef, storage_class: str) -> Outcome:
        """Ask S3 to thaw an archive or version → the outcome of rows that wait. Raises Conflict: it
        has thawed.

        A note is written before the request, so that the handler of S3's event finds every waiting
        run: `thawing/<bucket>/<key>/<run id>.json` in the ledger.
        """
        tier, store = self._opened.spec.options["tier"], self._opened.source if row.archive is None else self._archives
        note = json.dumps({"version_id": ref.version_id, "tier": tier}).encode()
        name, ledger = waiting_name(ref.bucket, ref.key, self._opened.spec.run_id), self._opened.ledger
        await write_once(ledger.store, ledger.location, name, note)
        try:
            answer = await retry(lambda: store.request_restore(ref, days=days_kept(storage_class), tier=tier))
        except REFUSALS as error:
            return Outcome.refused(row, error)
        if answer is Restoring.READY:
            raise Conflict("RestoreObject", str(ref), "Thawed", "it can be read by now")
        detail = f"{ref} ({tier}: {usual_time(storage_class, Tier(tier))})"
        return Outcome.of(row, Status.BLOCKED, Reason.THAWING, detail)

    async def _put(self, row: ObjectVersion, read: MemberRead) -> Outcome:
        """Write a member that is in memory. Raises Conflict when another writer is there: look
        again.
        """
        if read.data is None:
            return Outcome.of(row, Status.BLOCKED, *(read.cause or UNPROVEN))
        member, target = read.member, self._route.target_of(row)
        attributes, checksum = self._attributes(member), _carried_checksum(member)
        writing = self._destination.put(target, read.data, attributes, guard=ABSENT, checksum=checksum)
        md5 = hashlib.md5(read.data, usedforsecurity=False).hexdigest()
        return await self._written(row, member, writing, read.evidence, md5)

    async def _stream(self, row: ObjectVersion, member: Member, reader: ArchiveReader) -> Outcome:
        """Write a large member in bounded memory. Nothing is published before it is proven.

        Raises DamagedArchive without a proof, the errors of reading the archive, and Conflict like
        `_put`.
        """
        settled = await self._settle(row, member)
        if settled is not None:
            return settled
        part_bytes = choose_part_size(member.size_bytes, PART_BYTES)
        place = self._destination, self._route.target_of(row), self._attributes(member)
        upload = ObjectUpload(*place, part_bytes, ABSENT, parts_in_flight=1, records=self._opened.records)
        try:
            async with aclosing(reader.stream(member)) as pieces:
                async for data in pieces:
                    await upload.write(data)
            return await self._written(row, member, upload.finish(), Evidence.CHECKSUM)
        finally:
            await upload.abort()

    async def _written(
        self,
        row: ObjectVersion,
        member: Member,
        writing: Awaitable[Written],
        evidence: Evidence,
        md5: str | None = None,
    ) -> Outcome:
        """The outcome of a write. Where an object is in its place, that decides."""
        try:
            return _restored(row, member, await writing, evidence)
        except PreconditionFailed as error:
            settled = await self._settle(row, member, md5)
            if settled is None:
                raise Conflict(error.operation, error.target, "Raced", "what was there is gone again") from error
            return settled

    async def _settle(self, row: ObjectVersion, member: Member, md5: str | None = None) -> Outcome | None:
        """A row's outcome by the object at its destination: `same` or `blocked`. None: no object.

        `md5`: of the member's bytes, if they were read, for its ETag may not be an MD5 (parts).
        Reads the object if nothing that S3 keeps of it is comparable, unless it would have to be
        thawed.
        """
        target = self._route.target_of(row)
        there = await find(self._destination, target)
        if there is None:
            return None
        # An encrypted member's ETag only looks like an MD5: a different one proves nothing.
        etag = md5 or (member.etag if member.etag == there.etag else "")
        carried = Attributes(member.headers, member.metadata)
        known = ObjectInfo(member.size_bytes, etag, 0.0, None, "STANDARD", content_checksums(member), carried)
        verdict = compare(known, there)
        if verdict.same is None and known.checksums and not there.is_archived:
            side = ContentSide(self._destination, target, there)
            verdict, _ = await check_content(side, str(known.checksums[0]), self._compared)
        if not verdict.same:
            return _in_the_way(row, there)
        written = Written(there.etag, there.version_id, there.checksums)
        return _restored(row, member, written, verdict.evidence)._replace(status=Status.SAME, size_bytes=0)

    def _attributes(self, member: Member) -> Attributes:
        own, options = Attributes(member.headers, member.metadata, member.tags), self._options
        wanted = member.storage_class if options.storage_class == KEEP else options.storage_class
        kept = None if wanted == "STANDARD" else wanted
        return replace(own, storage_class=kept, sse=options.sse, kms_key_id=options.kms_key_id)

    async def _copy_guarded(self, row: ObjectVersion) -> Outcome:
        try:
            return await self._guarded(row, self._gate.run(lambda: self._copy(row)))
        except ArchivedObject:
            return await self._thaw(row, self._route.source_of(row), thaw_class(row.storage_class))

    async def _copy(self, row: ObjectVersion) -> Outcome:
        """Copy a version that the source bucket still has. Raises ArchivedObject if it must be
        thawed.
        """
        if self._copier.is_simple(row):
            try:
                return (await self._copier.copy_object(row, row.version_id, ABSENT))[0]
            except PreconditionFailed:
                pass  # an object is there, or the source is not what the plan saw: look at both
        ref, target, store = self._route.source_of(row), self._route.target_of(row), self._opened.source
        source, there = await asyncio.gather(find(store, ref), find(self._destination, target))
        if source is None or row.etag not in (None, source.etag):
            return Outcome.of(row, Status.MISSING, Reason.SOURCE_GONE)
        if there is not None:
            return await self._compare(
                row, ContentSide(store, ref, source), ContentSide(self._destination, target, there)
            )
        if source.is_archived:
            raise _archived(ref)
        try:
            return await self._copier.copy(row, source, ABSENT)
        except PreconditionFailed as error:  # perhaps this very copy, whose answer was lost
            raise Conflict(error.operation, error.target, "Raced", "something changed meanwhile") from error

    async def _compare(self, row: ObjectVersion, ours: ContentSide, theirs: ContentSide) -> Outcome:
        """The outcome of a version by the object at its destination."""
        source, there = ours.info, theirs.info
        verdict = compare(source, there)
        if verdict.same is None and not source.is_archived and not there.is_archived:
            verdict = await compare_bytes(ours, theirs, self._opened.budget)
        if not verdict.same:
            return _in_the_way(row, there)
        original = Pinned(ours.ref._replace(version_id=row.version_id or source.version_id), source.etag)
        copy = Pinned(theirs.ref._replace(version_id=there.version_id), there.etag)
        lack = await self._copier.complete_annotations(row, original, source.size_bytes, copy)
        same = Outcome.of(row, Status.SAME, Reason.COPY_INCOMPLETE if lack else "", lack)
        return same._replace(
            destination_etag=there.etag, destination_version_id=there.version_id, evidence=verdict.evidence
        )


def _archived(ref: ObjectRef) -> ArchivedObject:
    return ArchivedObject("HeadObject", str(ref), "InvalidObjectState", "archived", 403)


def _in_the_way(row: ObjectVersion, there: ObjectInfo) -> Outcome:
    """The outcome of a row that finds another object in its place."""
    detail = "archived" if there.is_archived else ""
    outcome = Outcome.of(row, Status.BLOCKED, Reason.DESTINATION_DIFFERS, detail)
    return outcome._replace(destination_etag=there.etag)


def _restored(row: ObjectVersion, member: Member, written: Written, evidence: Evidence) -> Outcome:
    sha256 = next((str(each) for each in content_checksums(member) if each.algorithm == "SHA256"), None)
    return Outcome.of(row, Status.DONE, Reason.COPY_INCOMPLETE if written.note else "", written.note)._replace(
        version_id=row.version_id or member.version_id,
        evidence=evidence,
        size_bytes=member.size_bytes,
        etag=member.etag,
        destination_version_id=written.version_id,
        destination_etag=written.etag,
        checksum=sha256,
    )


def _carried_checksum(member: Member) -> Checksum | None:
    """The checksum that S3 must find, by the original's algorithm, so that both stay comparable."""
    known = content_checksums(member)
    original = {each.algorithm for each in member.checksums}
    return next((each for each in known if each.algorithm in original), known[0] if known else None)
