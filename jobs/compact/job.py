"""The compact job: packs small cold objects into few archives with an index.

A group of rows (`jobs.compact.packing`) becomes one archive. The archive's name follows from its
members, and its index, written last, marks it as finished. So another attempt, another run over the
same objects, or two at once find it and read nothing again.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from jobs.archives.files import RUN_METADATA, SOURCE_METADATA, find_archive
from jobs.archives.model import ArchiveRecord, Member
from jobs.compact.member_reader import Content, MemberSource, Read, refused
from jobs.compact.packing import (
    ArchiveStorage,
    EarlierRule,
    PackingRule,
    archive_location,
    is_copied,
    is_unknown,
)
from jobs.compact.savings import Economy, refusal
from jobs.core.enums import CHECK_ANNOTATIONS, SKIP_ANNOTATIONS, ArchiveFormat
from jobs.core.evidence import best_checksum
from jobs.core.model import NULL_VERSION, Attributes, Listed, Location, ObjectInfo, ObjectRef, ObjectVersion, Route
from jobs.core.outcome import Evidence, Outcome, Status
from jobs.core.pace import Pace
from jobs.core.part_sizes import MAX_PART_BYTES
from jobs.core.reasons import Cause, Reason
from jobs.errors import (
    REFUSALS,
    ArchivedObject,
    Conflict,
    DamagedArchive,
    Denied,
    IrreplaceableIndex,
    NoSuchBucket,
    NotFound,
    PreconditionFailed,
    Redirected,
    Rejected,
    StoreError,
    Unavailable,
)
from jobs.s3.annotations import AnnotationLists
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.lookup import key_history
from jobs.s3.retries import gather_bounded, retry
from jobs.s3.store import Store, Written
from jobs.s3.uploads import ALTERED, NO_RECORDS, UploadRecords

if TYPE_CHECKING:
    from jobs.archives.index import ArchiveIndex
    from jobs.archives.writer import ArchiveWriter
    from jobs.compact.grouping import Group

ARCHIVE_ALGORITHM = "SHA256"
"""The checksum that S3 keeps of an archive and of its parts. `expire` relies on it for cold ones."""

ARCHIVES_AT_ONCE = 2
"""While the last parts of one archive are written, the members of the next are read."""

UNKNOWN = (
    "another archive of this name is in no index and holds other content, perhaps of objects that could be read then "
    "and not now: thaw it if it is cold, then sealift archives reindex"
)
REPLACED = (
    "another object took the place of this archive, and nothing replaces it: restore what is whole of it, then delete "
    "it and compact again, or pack below another location"
)
"""Why an archive cannot be written: an object has its name. `UNKNOWN`: the index does not know it."""


class _Stored(NamedTuple):
    """A finished archive. `missing`: what it does not show as it was asked for. Else empty."""

    record: ArchiveRecord
    missing: str


@dataclass(frozen=True, slots=True)
class CompactOptions:
    """How to pack. `streamed`: archives and objects are on different services.

    `annotations`: whether an object with annotations is left out (`check`) or packed without
    them (`skip`). `old_versions`: rows name versions, and do not say which is their key's latest.
    `earlier_rules`: those of the policy that have tags, and take objects before this rule does.
    """

    rule: PackingRule
    economy: Economy
    storage_class: str = "GLACIER_IR"
    sse: str | None = None
    kms_key_id: str | None = None
    streamed: bool = False
    annotations: str = CHECK_ANNOTATIONS
    old_versions: bool = False
    earlier_rules: tuple[EarlierRule, ...] = ()

    @property
    def storage(self) -> ArchiveStorage:
        """How the archives are stored."""
        return ArchiveStorage(self.storage_class, self.sse, self.kms_key_id)


@dataclass(frozen=True, slots=True)
class Compact:
    """One worker's compact job. `process` takes a group, which `chains` cuts from a shard."""

    source: Store
    destination: Store
    route: Route
    options: CompactOptions
    budget: ByteBudget
    index: ArchiveIndex
    run_id: str
    in_flight: int = 512
    records: UploadRecords = NO_RECORDS
    _pace: Pace = field(init=False)
    _annotations: AnnotationLists | None = field(init=False)

    def __post_init__(self) -> None:
        lists = None if self.options.annotations == SKIP_ANNOTATIONS else AnnotationLists(self.source)
        object.__setattr__(self, "_pace", Pace(self.in_flight))
        object.__setattr__(self, "_annotations", lists)

    def chains(self, rows: Iterable[ObjectVersion]) -> Iterator[list[ObjectVersion]]:
        """The rows of a shard, group by group."""
        from jobs.compact.grouping import cut

        return cut(rows, self.options.rule)

    async def process(self, rows: Sequence[ObjectVersion]) -> list[Outcome]:
        """Pack one group → an outcome for each row, in order.

        Raises Unavailable, Conflict or PreconditionFailed where a retry may help.
        """
        named, writes, left_out = await self._identify(rows)
        if self.options.old_versions:
            named = await self._in_order(named)
        outcomes = {outcome.row: outcome for outcome in left_out}
        for group in self.chains(named):  # sizes that were unknown may be too much for one
            outcomes |= {outcome.row: outcome for outcome in await self._pack_group(group, writes)}
        return [outcomes[row.row] for row in rows]

    async def _identify(
        self, rows: Sequence[ObjectVersion]
    ) -> tuple[list[ObjectVersion], dict[int, float], list[Outcome]]:
        """(the rows with what S3 says of those that are unknown, when those were written, the
        outcomes of those that S3 refuses).

        The rows keep the times of the manifest, by which they are grouped.
        """
        reader = self._reader()
        unknown = [row for row in rows if is_unknown(row)]
        reads = await gather_bounded(reader.describe, unknown, self.in_flight)
        seen = {read.row.row: read for read in reads}
        named: list[ObjectVersion] = []
        writes: dict[int, float] = {}
        left_out: list[Outcome] = []
        for row in rows:
            read = seen.get(row.row)
            if read is None:
                named.append(row)
            elif read.outcome is not None:
                left_out.append(read.outcome)
            elif (info := read.info) is not None:
                writes[row.row] = info.last_modified
                known = row._replace(size_bytes=info.size_bytes, storage_class=info.storage_class)
                is_named = not _is_unnamed(row)
                named.append(known if is_named else known._replace(version_id=info.version_id, etag=info.etag))
        return named, writes, left_out

    async def _in_order(self, rows: Sequence[ObjectVersion]) -> list[ObjectVersion]:
        """The rows of each key in the order of its versions, and which of them is the latest now.

        A restore asks the archive for both, since S3 dates versions to the second. Where the
        versions may not be listed, none that is named counts as the latest.
        """
        keys = list(dict.fromkeys(row.key for row in rows if row.version_id is not None))
        listed = dict(zip(keys, await gather_bounded(self._history, keys, self.in_flight), strict=True))
        ordered: list[ObjectVersion] = []
        for key, group in itertools.groupby(rows, key=attrgetter("key")):
            versions = listed.get(key, [])
            places = {each.version_id: place for place, each in enumerate(versions)}
            latest = versions[-1].version_id if versions else None
            known = [
                row if row.version_id is None else row._replace(is_latest=row.version_id == latest) for row in group
            ]
            last = len(places)  # a row of the key alone names what is current
            ordered += sorted(known, key=lambda row: places.get(row.version_id, -1 if row.version_id else last))
        return ordered

    async def _history(self, key: str) -> list[Listed]:
        try:
            return await retry(lambda: key_history(self.source, self.route.source.bucket, key))
        except NoSuchBucket:
            raise
        except REFUSALS:
            return []

    async def _pack_group(self, rows: Sequence[ObjectVersion], writes: Mapping[int, float]) -> list[Outcome]:
        """Pack rows that fit into one archive, unless it is there already or would not pay."""
        options = self.options
        if (cause := self._refusal(rows)) is not None:
            return [Outcome.of(row, Status.LEFT, *cause) for row in rows]
        if self._part_bytes(rows) is None:
            return [Outcome.of(row, Status.LEFT, Reason.TOO_LARGE) for row in rows]
        archive = archive_location(
            self.route.destination, self.route.source.bucket, rows, options.rule, options.storage, writes
        )
        try:
            found, lost_index = await self._find(archive)
        except NoSuchBucket:
            raise
        except (Denied, Redirected, Rejected) as error:
            return [Outcome.refused(row, error) for row in rows]
        if found is not None:
            try:
                return await self._account(rows, found, writes)
            except DamagedArchive as error:
                return [Outcome.of(row, Status.BLOCKED, Reason.ARCHIVE_DAMAGED, str(error)) for row in rows]
        return await self._pack_readable(rows, archive, lost_index)

    async def _pack_readable(
        self, rows: Sequence[ObjectVersion], archive: Location, lost_index: str | None
    ) -> list[Outcome]:
        """Pack the rows but the large ones that cannot be read or copied whole.

        The archive has the header of such a row by then, so it begins again without it. Bytes that
        came altered are read once more first.
        """
        refused: dict[int, Outcome] = {}
        altered: set[int] = set()
        while True:
            left = [row for row in rows if row.row not in refused]
            try:
                packed = await self._pack(left, archive, lost_index, is_whole=not refused) if left else []
            except _Refused as error:
                number = error.outcome.row
                if error.is_altered and number not in altered:
                    altered.add(number)
                else:
                    refused[number] = error.outcome
                continue
            except IrreplaceableIndex as error:
                packed = [Outcome.of(row, Status.BLOCKED, Reason.ARCHIVE_DAMAGED, str(error)) for row in left]
            outcomes = refused | {outcome.row: outcome for outcome in packed}
            return [outcomes[row.row] for row in rows]

    def _weigh(self, rows: Sequence[ObjectVersion]) -> Group:
        from jobs.compact.grouping import weigh

        return weigh(rows, self.options.economy, self.options.rule)

    def _refusal(self, rows: Sequence[ObjectVersion]) -> Cause | None:
        return refusal(self._weigh(rows).savings, self.options.economy)

    def _part_bytes(self, rows: Sequence[ObjectVersion]) -> int | None:
        return self._weigh(rows).archive.part_bytes(is_streamed=self.options.streamed)

    async def _find(self, archive: Location) -> tuple[_Stored | None, str | None]:
        """(an archive that is there, the ETag of an index that is damaged or whose archive is
        gone).
        """
        try:
            record = await self.index.record(archive)
        except DamagedArchive:
            damaged_index = await self.index.etag(archive)
            return await self._look(await self._adopt(archive, damaged_index)), damaged_index
        if record is None:
            return await self._look(await self._adopt(archive)), None
        found = await self._look(record)
        return found, None if found else await self.index.etag(archive)

    async def _look(self, record: ArchiveRecord | None) -> _Stored | None:
        """The archive of a record, with what it does not show as it was asked for.

        None: the archive is gone, or there is no record.
        """
        info = None if record is None else await find_archive(self.destination, record)
        if record is None or info is None:
            return None
        return _Stored(record, self.options.storage.missing(info.attributes))

    async def _adopt(self, archive: Location, damaged_index: str | None = None) -> ArchiveRecord | None:
        """Index an archive whose attempt was killed before it did, or whose index is damaged. None:
        no archive exists.
        """
        try:
            return await self.index.adopt(self.destination, archive, damaged_index)
        except NoSuchBucket:
            raise
        except NotFound:
            return None
        except (ArchivedObject, DamagedArchive):
            return None  # pack again, then compare with this archive

    async def _account(
        self, rows: Sequence[ObjectVersion], found: _Stored, writes: Mapping[int, float]
    ) -> list[Outcome]:
        """The outcomes of rows whose archive is finished.

        Rows that it lacks could not be read when it was written. What can be read by now becomes an
        archive of its own.
        """
        record, asked = found.record, {(row.key, row.version_id): row for row in rows}
        packed: dict[int, Outcome] = {}
        async for part in self.index.members(record.location):
            for member in part:
                row = asked.get((member.key, member.version_id)) or asked.get((member.key, None))
                if row is not None:
                    packed[row.row] = _packed(row, member, Evidence.NONE)
        outcomes = {number: _placed(outcome, found) for number, outcome in packed.items()}
        readable: list[ObjectVersion] = []
        for row in rows:
            if row.row in outcomes:
                continue
            read = await self._reader().fetch(row)
            if read.outcome is not None:
                outcomes[row.row] = read.outcome
            elif packed:
                readable.append(row)
            else:
                why = f"the index of {record.location} has none of the members that its name is made of"
                outcomes[row.row] = Outcome.of(row, Status.BLOCKED, Reason.ARCHIVE_DAMAGED, why)
        if readable:
            outcomes |= {outcome.row: outcome for outcome in await self._pack_group(readable, writes)}
        return [outcomes[row.row] for row in rows]

    async def _pack(
        self, rows: Sequence[ObjectVersion], archive: Location, lost_index: str | None, *, is_whole: bool
    ) -> list[Outcome]:
        """Pack the rows that were not refused before (`is_whole`: none was)."""
        from jobs.archives.writer import ArchiveWriter
        from jobs.s3.uploads import ObjectUpload

        is_tar = self.options.rule.format is ArchiveFormat.TAR
        attributes = Attributes(
            headers={"content-type": "application/x-tar" if is_tar else "application/zstd"},
            metadata={SOURCE_METADATA: self.route.source.bucket, RUN_METADATA: self.run_id},
            storage_class=self.options.storage_class,
            sse=self.options.sse,
            kms_key_id=self.options.kms_key_id,
        )
        part_bytes = self._part_bytes(rows) or MAX_PART_BYTES
        upload = ObjectUpload(
            self.destination,
            archive.bucket,
            archive.key,
            attributes,
            part_bytes,
            records=self.records,
            algorithm=ARCHIVE_ALGORITHM,
        )
        writer = ArchiveWriter(upload, self.options.rule.format)
        outcomes: list[Outcome] = []
        packed: list[ObjectVersion] = []
        try:
            async with aclosing(self._reader().read(rows)) as reads:
                async for read in reads:
                    outcome = await self._add(writer, read)
                    outcomes.append(outcome)
                    if outcome.status is Status.DONE and read.info is not None:
                        packed.append(read.row._replace(storage_class=read.info.storage_class))
            # Objects that are gone or lack the tag can leave too few members for it to pay, and the
            # manifest may not say in which class they are by now.
            is_weighed = is_whole and [row.storage_class for row in packed] == [row.storage_class for row in rows]
            cause = self._refusal(packed) if packed and not is_weighed else None
            if cause is not None:
                return [_unpacked(outcome, cause) for outcome in outcomes]
            stored = await self._publish(writer, archive, lost_index) if writer.members else None
        finally:
            await writer.close()
        return [_placed(outcome, stored) for outcome in outcomes]

    async def _add(self, writer: ArchiveWriter, read: Read) -> Outcome:
        """Add a read to the archive. Raises _Refused for a large object that cannot be read."""
        member, info = read.member, read.info
        if read.outcome is not None:
            return read.outcome
        if member is None or info is None:
            raise AssertionError("a read has a member or an outcome")
        if read.data is not None:
            await writer.add(member, read.data)
            return _packed(read.row, member, read.evidence)
        ref = ObjectRef(self.route.source.bucket, member.key, read.row.version_id or info.version_id)
        known = best_checksum(info)
        try:
            if self._is_copied(member) and known is not None:
                return _packed(read.row, await writer.add_copy(member, ref), Evidence.NONE)
            content = Content(self.source, ref, member, known, self.budget)
            async with aclosing(content.pieces()) as pieces:
                added = await writer.add_stream(member, pieces)
            return _packed(read.row, added, content.evidence)
        except StoreError as error:
            raise _refused(read.row, error) or error from error

    def _is_copied(self, member: Member) -> bool:
        return not self.options.streamed and is_copied(member.size_bytes, self.options.rule.format)

    async def _publish(self, writer: ArchiveWriter, archive: Location, lost_index: str | None) -> _Stored:
        """Finish the archive, then its index. An existing archive of that name has to be equal.

        `lost_index`: the ETag of the index of an archive that is gone, which the new one replaces.
        """
        checksum = None
        try:
            written = await writer.finish()
        except PreconditionFailed as error:
            written = await self._find_same(writer, archive, error)
        if writer.upload.checksum is not None:
            checksum = f"{writer.upload.checksum.algorithm}:{writer.upload.checksum.value}"
        info = await self.destination.head(ObjectRef(*archive, written.version_id))
        record = ArchiveRecord(
            location=archive,
            format=self.options.rule.format,
            size_bytes=writer.upload.size_bytes,
            etag=written.etag,
            version_id=written.version_id,
            storage_class=self.options.storage_class,
            members=writer.members,
            member_bytes=writer.member_bytes,
            first_key=writer.first_key,
            last_key=writer.last_key,
            source_bucket=self.route.source.bucket,
            created_at=info.last_modified,
            checksum=checksum,
            run_id=self.run_id,
            encryption=self.options.storage.encryption,
            parts=tuple((size, each.value) for size, each in writer.upload.parts),
        )
        writer.index_file.seek(0)
        published = await self.index.publish(record, writer.index_file, damaged_etag=lost_index)
        return _Stored(published, self.options.storage.missing(info.attributes))

    async def _find_same(self, writer: ArchiveWriter, archive: Location, error: PreconditionFailed) -> Written:
        """Another attempt's archive of this name. Raises Conflict if its bytes differ."""
        info = await self.destination.head(ObjectRef(*archive))
        is_same = info.size_bytes == writer.upload.size_bytes
        if is_same and writer.upload.checksum in info.checksums:
            return Written(info.etag, info.version_id, info.checksums)
        is_replaced = await self._is_replaced(archive, info)
        raise Conflict(error.operation, error.target, "OtherArchive", REPLACED if is_replaced else UNKNOWN) from error

    async def _is_replaced(self, archive: Location, info: ObjectInfo) -> bool:
        """True if the index knows another object of this name."""
        try:
            record = await self.index.record(archive)
        except DamagedArchive:
            return False
        return record is not None and record.etag != info.etag

    def _reader(self) -> MemberSource:
        return MemberSource(
            self.source,
            self.route.source.bucket,
            self.budget,
            self._pace,
            self.options.rule.tags,
            annotations=self._annotations,
            earlier_rules=self.options.earlier_rules,
        )


class _Refused(Exception):
    """A large member cannot be read, and its header was written already. Raised in this module only.

    `is_altered`: its bytes came, and were not the object's.
    """

    def __init__(self, outcome: Outcome, *, is_altered: bool = False):
        super().__init__(outcome.reason)
        self.outcome, self.is_altered = outcome, is_altered


_READS = frozenset({"GetObject", "UploadPartCopy"})


def _refused(row: ObjectVersion, error: StoreError) -> _Refused | None:
    """What S3 refused of a member. None for an error of the archive that is being written, and for
    one that concerns all members.
    """
    if error.operation not in _READS or error.code in ("NoSuchUpload", "NoSuchBucket"):
        return None
    is_altered = error.code == ALTERED
    is_its_own = isinstance(error, (*REFUSALS, PreconditionFailed)) or (
        isinstance(error, Unavailable) and error.is_of_object
    )
    if not (is_altered or is_its_own):
        return None
    return _Refused(refused(row, error, Reason.SOURCE_CHANGED), is_altered=is_altered)


def _is_unnamed(row: ObjectVersion) -> bool:
    """True if nothing in the row says which content its key had."""
    return row.etag is None and row.version_id in (None, NULL_VERSION) and not row.is_delete_marker


def _unpacked(outcome: Outcome, cause: Cause) -> Outcome:
    """The outcome of a row whose archive was given up."""
    if outcome.status is not Status.DONE:
        return outcome
    return outcome._replace(status=Status.LEFT, reason=cause.reason, detail=cause.detail)


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
