"""The verify job of archives: reads every member again and checks the index.

A row is an archive. The job reads it once and whole, also one that was truncated or altered. The outcome
says whether it is what was indexed, whether the index inside agrees, and which members are damaged.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct
from msgspec.structs import replace

from jobs.archives.files import archive_ref, head_archive, read_own_index
from jobs.archives.index import ArchiveIndex
from jobs.archives.index_tables import from_batch
from jobs.archives.model import ArchiveRecord, Member
from jobs.archives.reader import UNPROVEN, ArchiveReader, MemberRead, is_large
from jobs.core.histories import keys_of
from jobs.core.model import Location, ObjectInfo, ObjectVersion
from jobs.core.outcome import Evidence, Outcome, Status
from jobs.core.reasons import Reason
from jobs.errors import REFUSALS, ArchivedObject, DamagedArchive, NotFound, StoreError
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.retries import retry
from jobs.s3.store import Store

ARCHIVES_AT_ONCE = 2
GAP_BYTES = 1024**2
"""All bytes are read, so requests are cut by their size, not at the headers between members."""
NAMED_MEMBERS = 100
Members: TypeAlias = Mapping[tuple[str, str | None], Member]


class VerifyArchives(Struct, frozen=True):
    """The job of one worker. The keys of its rows are archives of the bucket."""

    chains = staticmethod(keys_of)
    store: Store
    index: ArchiveIndex
    budget: ByteBudget
    bucket: str

    async def process(self, rows: Sequence[ObjectVersion]) -> list[Outcome]:
        """Return one outcome for each row, in order.

        Raises Unavailable, and PreconditionFailed when the archive is replaced meanwhile: retry.
        """
        return [await self._verify(row, Location(self.bucket, row.key)) for row in rows]

    async def _verify(self, row: ObjectVersion, archive: Location) -> Outcome:
        try:
            record = await self.index.record(archive)
            if record is None:
                return Outcome.of(row, Status.UNKNOWN, Reason.NOT_INDEXED, str(archive))
            async with aclosing(self.index.members(archive)) as parts:
                members = {(each.key, each.version_id): each async for part in parts for each in part}
        except DamagedArchive as error:
            return Outcome.of(row, Status.UNKNOWN, Reason.ARCHIVE_DAMAGED, str(error))
        try:
            record, info = await head_archive(self.store, record)
            if info.is_archived:
                raise ArchivedObject("HeadObject", str(archive), "InvalidObjectState", "archived", 403)
            bad = await self._read(replace(record, etag=info.etag), [*members.values()])
            problems = await self._problems(record, info, members)
        except REFUSALS as error:
            return _refused(row, archive, error)
        damaged = [read.member for read in bad if read.cause != UNPROVEN]
        if damaged:
            problems.append(f"{len(damaged):,} of {len(members):,} members are damaged: {_names(damaged)}")
        if problems:
            outcome = Outcome.of(row, Status.DIFFERENT, Reason.ARCHIVE_DAMAGED, "; ".join(problems))
            return outcome._replace(destination_etag=info.etag)
        if bad:
            unproven = f"{UNPROVEN.detail}: {_names([read.member for read in bad])}"
            return Outcome.of(row, Status.UNKNOWN, Reason.NOTHING_COMPARABLE, unproven)
        size_bytes = sum(member.size_bytes for member in members.values())
        return Outcome.of(row, Status.VERIFIED)._replace(evidence=Evidence.CONTENT, size_bytes=size_bytes)

    async def _read(self, record: ArchiveRecord, members: Sequence[Member]) -> list[MemberRead]:
        """Read each member, large ones by themselves. Returns those that are not proven."""
        reader = ArchiveReader(self.store, archive_ref(record), record.etag, self.budget, gap_bytes=GAP_BYTES)
        async with aclosing(reader.read([member for member in members if not is_large(member)])) as batches:
            bad = [read async for batch in batches for read in batch if read.cause is not None]
        large = [await reader.prove(member) for member in members if is_large(member)]
        return [*bad, *(read for read in large if read.cause is not None)]

    async def _problems(self, record: ArchiveRecord, info: ObjectInfo, members: Members) -> list[str]:
        """Return what is wrong with the archive as a whole."""
        problems = []
        if info.etag != record.etag:
            problems.append("it was replaced: its ETag is not that of the index")
        if info.size_bytes != record.size_bytes:
            problems.append("its size is not that of the index")
        try:
            _, own = await retry(lambda: read_own_index(self.store, record.location, record.version_id))
            inside = {
                (each.key, each.version_id): each
                for each in from_batch(pq.read_table(io.BytesIO(own), page_checksum_verification=True))
            }
        except DamagedArchive as error:
            return [*problems, str(error)]
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            return [*problems, f"its own index is damaged: {error}"]
        if disputed := sum(inside.get(key) != members.get(key) for key in inside.keys() | members.keys()):
            problems.append(f"the index inside says otherwise of {disputed:,} members")
        return problems


def _names(members: Sequence[Member]) -> str:
    return ", ".join([member.key for member in members[:NAMED_MEMBERS]] + ["…"] * (len(members) > NAMED_MEMBERS))


def _refused(row: ObjectVersion, archive: Location, error: StoreError) -> Outcome:
    if isinstance(error, NotFound):
        return Outcome.of(row, Status.MISSING, Reason.ARCHIVE_GONE, str(archive))
    if isinstance(error, ArchivedObject):
        return Outcome.of(row, Status.BLOCKED, Reason.ARCHIVED, str(archive))
    return Outcome.refused(row, error)
