"""The compact job: packs small cold objects into few archives with an index.

A group of rows (`jobs.compact.grouping`) becomes one archive. The archive's name follows from its
members, and its index, written last, marks it as finished. So another attempt, another run over the
same objects, or two at once find it and read nothing again.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import aclosing
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from jobs.archives.files import RUN_METADATA, SOURCE_METADATA, find_archive
from jobs.archives.model import ArchiveRecord, Member
from jobs.compact.member_reader import MemberSource, Read, refused
from jobs.compact.packing import CompactOptions, archive_location, part_bytes, tar_bytes
from jobs.core.enums import ArchiveFormat
from jobs.core.model import Attributes, Checksum, Location, ObjectRef, ObjectVersion
from jobs.core.outcome import Evidence, Outcome, Status
from jobs.core.pace import Pace
from jobs.core.reasons import Reason
from jobs.errors import (
    REFUSALS,
    AuthenticationFailed,
    DamagedArchive,
    LaterArchive,
    NoSuchBucket,
    PreconditionFailed,
    StoreError,
    Unavailable,
)
from jobs.runs.kind import Opened
from jobs.s3.operations import Operation
from jobs.s3.store import Written

if TYPE_CHECKING:
    from jobs.archives.index import ArchiveIndex
    from jobs.archives.writer import ArchiveWriter

ARCHIVE_ALGORITHM = "SHA256"
"""The checksum that S3 keeps of an archive and of its parts. `expire` relies on it for cold ones."""

ARCHIVES_AT_ONCE = 2
"""While the last parts of one archive are written, the members of the next are read."""

OTHER_OBJECT = (
    "another object has the name of this archive, and nothing replaces it. If it is an archive that is in no index: "
    "thaw it if it is cold, then sealift archives reindex. Else restore what is whole of it, then delete it and "
    "compact again, or pack below another location"
)


class _Stored(NamedTuple):
    """A finished archive. `missing`: what it does not show as it was asked for. Else empty."""

    record: ArchiveRecord
    missing: str


class Compact:
    """One worker's compact job. `process` takes a group, which `chains` cuts from a shard."""

    def __init__(self, opened: Opened, index: ArchiveIndex):
        self._opened, self._index, self._destination = opened, index, opened.destination
        self._route, self._options = opened.route, msgspec.convert(dict(opened.spec.options), CompactOptions)
        bucket, pace = self._route.source.bucket, Pace(opened.in_flight)
        self._reader = MemberSource(opened.source, bucket, opened.budget, pace, self._options)

    def chains(self, rows: Iterable[ObjectVersion]) -> Iterator[list[ObjectVersion]]:
        """The rows of a shard, group by group."""
        for _, group in itertools.groupby(rows, key=attrgetter("archive")):
            yield list(group)

    async def process(self, rows: Sequence[ObjectVersion]) -> list[Outcome]:
        """Pack one group, unless it is packed already → an outcome for each row, in order.

        Raises Unavailable, Conflict or PreconditionFailed where a retry may help.
        """
        archive = archive_location(self._route.destination, self._route.source.bucket, rows, self._options)
        try:
            found, stale_etag = await self._find(archive)
            if found is not None:
                return await self._account(rows, found)
            return await self._pack_readable(rows, archive, stale_etag)
        except DamagedArchive as error:
            return [Outcome.of(row, Status.BLOCKED, Reason.ARCHIVE_DAMAGED, str(error)) for row in rows]
        except REFUSALS as error:
            return [Outcome.refused(row, error) for row in rows]

    async def _find(self, archive: Location) -> tuple[_Stored | None, str | None]:
        """(an archive that is finished, the ETag of an index that is damaged or whose archive is
        gone).
        """
        etag = await self._index.etag(archive)
        if etag is None:
            return None, None
        try:
            record = await self._index.record(archive)
        except LaterArchive:
            raise
        except DamagedArchive:
            return None, etag
        info = None if record is None else await find_archive(self._destination, record)
        if record is None or info is None:
            return None, etag
        return _Stored(record, self._options.missing(info.attributes)), None

    async def _account(self, rows: Sequence[ObjectVersion], found: _Stored) -> list[Outcome]:
        """The outcomes of rows whose archive is finished.

        Rows that it lacks could not be read when it was written. They become an archive of their
        own.
        """
        asked = {(row.key, row.version_id): row for row in rows}
        outcomes: dict[int, Outcome] = {}
        async for part in self._index.members(found.record.location):
            for member in part:
                row = asked.get((member.key, member.version_id)) or asked.get((member.key, None))
                if row is not None:
                    outcomes[row.row] = _placed(_packed(row, member, Evidence.NONE), found)
        if not outcomes:
            raise DamagedArchive(f"the index of {found.record.location} has none of the members that its name says")
        if lacking := [row for row in rows if row.row not in outcomes]:
            outcomes |= {outcome.row: outcome for outcome in await self.process(lacking)}
        return [outcomes[row.row] for row in rows]

    async def _pack_readable(
        self, rows: Sequence[ObjectVersion], archive: Location, stale_etag: str | None
    ) -> list[Outcome]:
        """Pack the rows but the large ones that cannot be read.

        The archive has the header of such a row by then, so it begins again without it.
        """
        outcomes: dict[int, Outcome] = {}
        while left := [row for row in rows if row.row not in outcomes]:
            try:
                outcomes |= {outcome.row: outcome for outcome in await self._pack(left, archive, stale_etag)}
            except _Refused as error:
                outcomes[error.outcome.row] = error.outcome
        return [outcomes[row.row] for row in rows]

    async def _pack(self, rows: Sequence[ObjectVersion], archive: Location, stale_etag: str | None) -> list[Outcome]:
        """Pack the rows. Raises _Refused for a large one that cannot be read."""
        from jobs.archives.writer import ArchiveWriter
        from jobs.s3.uploads import ObjectUpload

        is_tar = self._options.rule.format is ArchiveFormat.TAR
        attributes = Attributes(
            headers={"content-type": "application/x-tar" if is_tar else "application/zstd"},
            metadata={SOURCE_METADATA: self._route.source.bucket, RUN_METADATA: self._opened.spec.run_id},
            storage_class=self._options.storage_class,
            sse=self._options.sse,
            kms_key_id=self._options.kms_key_id,
        )
        upload = ObjectUpload(
            self._destination,
            ObjectRef(*archive),
            attributes,
            part_bytes(sum(tar_bytes(row.size_bytes or 0) for row in rows)),
            records=self._opened.records,
            checksum=Checksum(ARCHIVE_ALGORITHM, "", is_composite=True),
        )
        writer = ArchiveWriter(upload, self._options.rule.format)
        try:
            async with aclosing(self._reader.read(rows)) as reads:
                outcomes = [await self._add(writer, read) async for read in reads]
            stored = await self._publish(writer, archive, stale_etag) if writer.members else None
        finally:
            await writer.close()
        return [_placed(outcome, stored) for outcome in outcomes]

    async def _add(self, writer: ArchiveWriter, read: Read) -> Outcome:
        """Add a read to the archive. Raises _Refused for a large object that cannot be read."""
        if read.outcome is not None or read.member is None:
            return read.outcome or Outcome.of(read.row, Status.BLOCKED, Reason.UNPACKABLE)
        if read.data is not None:
            await writer.add(read.member, read.data)
            return _packed(read.row, read.member, read.evidence)
        try:
            async with aclosing(self._reader.pieces(read)) as pieces:
                added = await writer.add_stream(read.member, pieces)
        except StoreError as error:
            is_its_own = error.operation == Operation.GET and not isinstance(error, NoSuchBucket | AuthenticationFailed)
            if not is_its_own or (isinstance(error, Unavailable) and not error.is_of_object):
                raise
            raise _Refused(refused(read.row, error, Reason.SOURCE_CHANGED)) from error
        return _packed(read.row, added, read.evidence)

    async def _publish(self, writer: ArchiveWriter, archive: Location, stale_etag: str | None) -> _Stored:
        """Finish the archive, then its index. An existing archive of that name has to be equal.

        `stale_etag`: the ETag of an index that the new one replaces.
        """
        try:
            written = await writer.finish()
        except PreconditionFailed as error:
            written = await self._find_same(writer, archive, error)
        info = await self._destination.head(ObjectRef(*archive, written.version_id))
        record = ArchiveRecord(
            location=archive,
            format=self._options.rule.format,
            size_bytes=writer.upload.size_bytes,
            etag=written.etag,
            version_id=written.version_id,
            storage_class=self._options.storage_class,
            members=writer.members,
            member_bytes=writer.member_bytes,
            first_key=writer.first_key,
            last_key=writer.last_key,
            source_bucket=self._route.source.bucket,
            created_at=info.last_modified,
            checksum=str(writer.upload.checksum),
            run_id=self._opened.spec.run_id,
            encryption=self._options.encryption,
            parts=tuple((size, each.value) for size, each in writer.upload.parts),
        )
        writer.index_file.seek(0)
        published = await self._index.publish(record, writer.index_file, stale_etag=stale_etag)
        return _Stored(published, self._options.missing(info.attributes))

    async def _find_same(self, writer: ArchiveWriter, archive: Location, error: PreconditionFailed) -> Written:
        """Another attempt's archive of this name. Raises DamagedArchive if its bytes differ."""
        info = await self._destination.head(ObjectRef(*archive))
        if info.size_bytes == writer.upload.size_bytes and writer.upload.checksum in info.checksums:
            return Written(info.etag, info.version_id, info.checksums)
        raise DamagedArchive(f"{archive}: {OTHER_OBJECT}") from error


class _Refused(Exception):
    """A large member cannot be read, and its header was written already. Raised in this module only."""

    def __init__(self, outcome: Outcome):
        super().__init__(outcome.reason)
        self.outcome = outcome


def _placed(outcome: Outcome, stored: _Stored | None) -> Outcome:
    """The outcome with the archive's version, and with what it lacks, if the row is in an archive."""
    if stored is None or outcome.status is not Status.DONE:
        return outcome
    record = stored.record
    placed = outcome._replace(destination_etag=record.etag, destination_version_id=record.version_id)
    return placed._replace(reason=Reason.COPY_INCOMPLETE, detail=stored.missing) if stored.missing else placed


def _packed(row: ObjectVersion, member: Member, evidence: Evidence) -> Outcome:
    checksum = None if member.sha256 is None else f"SHA256:{base64.b64encode(bytes.fromhex(member.sha256)).decode()}"
    return Outcome.of(row, Status.DONE)._replace(
        evidence=evidence,
        size_bytes=member.size_bytes,
        etag=member.etag,
        checksum=checksum,
    )
