"""The writer of restored members: with all attributes, never over an object."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable
from contextlib import aclosing
from dataclasses import dataclass

from jobs.archives.model import Member
from jobs.archives.reader import UNPROVEN, ArchiveReader, MemberRead, content_checksums
from jobs.core.evidence import compare
from jobs.core.model import Attributes, Checksum, ObjectInfo, ObjectVersion, Route
from jobs.core.outcome import Evidence, Outcome, Status
from jobs.core.part_sizes import choose_part_size
from jobs.core.reasons import Reason
from jobs.errors import Conflict, PreconditionFailed
from jobs.s3.byte_ranges import ByteBudget, ContentSide
from jobs.s3.compare_bytes import check_content
from jobs.s3.copying import KEEP, CopyOptions
from jobs.s3.lookup import find
from jobs.s3.store import ABSENT, Store, Written
from jobs.s3.uploads import NO_RECORDS, ObjectUpload, UploadRecords

PART_BYTES = 8 * 1024**2


@dataclass(frozen=True, slots=True)
class MemberWriter:
    """Writes members along a route. Every write requires that its key is free."""

    destination: Store
    route: Route
    options: CopyOptions
    budget: ByteBudget
    records: UploadRecords = NO_RECORDS

    async def put(self, row: ObjectVersion, read: MemberRead) -> Outcome:
        """Write a member that is in memory. Raises Conflict when another writer is there: look
        again.
        """
        if read.data is None:
            return Outcome.of(row, Status.BLOCKED, *(read.cause or UNPROVEN))
        member, target = read.member, self.route.target_of(row)
        attributes, checksum = self._attributes(member), _carried_checksum(member)
        writing = self.destination.put(target, read.data, attributes, guard=ABSENT, checksum=checksum)
        md5 = hashlib.md5(read.data, usedforsecurity=False).hexdigest()
        return await self._written(row, member, writing, read.evidence, md5)

    async def stream(self, row: ObjectVersion, member: Member, reader: ArchiveReader) -> Outcome:
        """Write a large member in bounded memory. Nothing is published before it is proven.

        Raises DamagedArchive without a proof, the errors of reading the archive, and Conflict like
        `put`.
        """
        settled = await self.settle(row, member)
        if settled is not None:
            return settled
        target = self.route.target_of(row)
        part_bytes = choose_part_size(member.size_bytes, PART_BYTES)
        attributes = self._attributes(member)
        upload = ObjectUpload(self.destination, target, attributes, part_bytes, parts_in_flight=1, records=self.records)
        try:
            async with aclosing(reader.stream(member)) as pieces:
                async for data in pieces:
                    await upload.write(data)
            return await self._written(row, member, upload.finish(), Evidence.CHECKSUM)
        finally:
            await upload.abort()

    async def settle(self, row: ObjectVersion, member: Member, md5: str | None = None) -> Outcome | None:
        """A row's outcome by the object at its destination: `same` or `blocked`. None: no
        object.

        `md5`: of the member's bytes, if they were read, for its ETag may not be an MD5 (parts).
        Reads the object if nothing that S3 keeps of it is comparable, unless it would have to be
        thawed.
        """
        target = self.route.target_of(row)
        info = await find(self.destination, target)
        if info is None:
            return None
        evidence = await self._compare(ContentSide(self.destination, target, info), member, md5)
        if evidence is None:
            return in_the_way(row, info)
        written = Written(info.etag, info.version_id, info.checksums)
        return _restored(row, member, written, evidence)._replace(status=Status.SAME, size_bytes=0)

    async def _compare(self, there: ContentSide, member: Member, md5: str | None) -> Evidence | None:
        """What proves that the object is the member. None: it is another."""
        # An encrypted member's ETag only looks like an MD5: a different one proves nothing.
        etag = md5 or (member.etag if member.etag == there.info.etag else "")
        carried = Attributes(member.headers, member.metadata)
        known = ObjectInfo(member.size_bytes, etag, 0.0, None, "STANDARD", content_checksums(member), carried)
        verdict = compare(known, there.info)
        if verdict.same is None and known.checksums and not there.info.is_archived:
            best = known.checksums[0]
            verdict, _ = await check_content(there, f"{best.algorithm}:{best.value}", self.budget)
        return verdict.evidence if verdict.same else None

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
            settled = await self.settle(row, member, md5)
            if settled is None:
                raise Conflict(error.operation, error.target, "Raced", "what was there is gone again") from error
            return settled

    def _attributes(self, member: Member) -> Attributes:
        wanted = member.storage_class if self.options.storage_class == KEEP else self.options.storage_class
        return Attributes(
            headers=member.headers,
            metadata=member.metadata,
            tags=member.tags,
            storage_class=None if wanted == "STANDARD" else wanted,
            sse=self.options.sse,
            kms_key_id=self.options.kms_key_id,
        )


def in_the_way(row: ObjectVersion, there: ObjectInfo) -> Outcome:
    """The outcome of a row whose place at the destination another object has."""
    detail = "archived" if there.is_archived else ""
    outcome = Outcome.of(row, Status.BLOCKED, Reason.DESTINATION_DIFFERS, detail)
    return outcome._replace(destination_etag=there.etag)


def _restored(row: ObjectVersion, member: Member, written: Written, evidence: Evidence) -> Outcome:
    sha256 = next((f"SHA256:{each.value}" for each in content_checksums(member) if each.algorithm == "SHA256"), None)
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
