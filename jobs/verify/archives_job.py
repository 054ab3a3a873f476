"""The verify job of archives: reads every member again and checks the index.

The rows of a run are an archive's members, and the archive itself (its key is its URI). The job
reads an archive once and whole, in the order of its offsets. It names damaged members and verifies
intact ones, also in an archive that was truncated or altered. The archive's own row says whether it
is what was indexed, and whether the index inside agrees.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TYPE_CHECKING

from jobs.archives.files import archive_ref, head_archive, read_own_index
from jobs.archives.model import ArchiveRecord, Member
from jobs.archives.reader import UNPROVEN, ArchiveReader, MemberRead, is_large
from jobs.core.model import Location, ObjectInfo, ObjectVersion
from jobs.core.outcome import Evidence, Outcome, Status
from jobs.core.reasons import Reason
from jobs.errors import REFUSALS, ArchivedObject, DamagedArchive, NoSuchBucket, NotFound, StoreError
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.retries import retry
from jobs.s3.store import Store

if TYPE_CHECKING:
    from jobs.archives.index import ArchiveIndex

ARCHIVES_AT_ONCE = 2
GAP_BYTES = 1024**2
"""All bytes are read, so requests are cut by their size, not at the headers between members."""


@dataclass(frozen=True, slots=True)
class VerifyArchives:
    """The job of one worker.

    `process` takes all rows of one archive, as `chains` cuts them out of a shard.
    """

    store: Store
    index: ArchiveIndex
    budget: ByteBudget

    def chains(self, rows: Iterable[ObjectVersion]) -> Iterator[list[ObjectVersion]]:
        """Yield the rows of a shard, archive by archive."""
        for _, group in itertools.groupby(rows, key=attrgetter("archive")):
            yield list(group)

    async def process(self, rows: Sequence[ObjectVersion]) -> list[Outcome]:
        """Return one outcome for each row, in order.

        Raises Unavailable, and PreconditionFailed when the archive is replaced meanwhile: retry.
        """
        archive = Location.parse(rows[0].archive or "")
        try:
            record = await self.index.record(archive)
            if record is None:
                return [Outcome.of(row, Status.UNKNOWN, Reason.NOT_INDEXED, str(archive)) for row in rows]
            async with aclosing(self.index.members(archive)) as parts:
                members = {(each.key, each.version_id): each async for part in parts for each in part}
        except DamagedArchive as error:
            return [Outcome.of(row, Status.UNKNOWN, Reason.ARCHIVE_DAMAGED, str(error)) for row in rows]
        try:
            record, info = await head_archive(self.store, record)
            if info.is_archived:
                raise ArchivedObject("HeadObject", str(archive), "InvalidObjectState", "archived", 403)
            judged = await self._read(replace(record, etag=info.etag), list(members.values()))
            problems = await self._compare_indexes(record, info, members)
        except REFUSALS as error:
            return [_refused(row, archive, error) for row in rows]
        outcomes = []
        for row in rows:
            member = members.get((row.key, row.version_id))
            if row.key == row.archive:
                outcomes.append(_archive_outcome(row, info, problems))
            elif member is None:
                outcomes.append(Outcome.of(row, Status.UNKNOWN, Reason.NOT_INDEXED))
            else:
                outcomes.append(_member_outcome(row, judged[id(member)]))
        return outcomes

    async def _read(self, record: ArchiveRecord, members: Sequence[Member]) -> dict[int, MemberRead]:
        """Read each member in the archive's order, large ones by themselves.

        Returns the results by `id(member)`.
        """
        reader = ArchiveReader(self.store, archive_ref(record), record.etag, self.budget, gap_bytes=GAP_BYTES)
        judged: dict[int, MemberRead] = {}
        for alone, group in itertools.groupby(sorted(members, key=attrgetter("byte_range")), key=is_large):
            if alone:
                for member in group:
                    judged[id(member)] = await reader.prove(member)
                continue
            async with aclosing(reader.read(list(group))) as reads:
                async for members_read in reads:
                    judged.update((id(read.member), read._replace(data=None)) for read in members_read)
        return judged

    async def _compare_indexes(
        self, record: ArchiveRecord, info: ObjectInfo, members: dict[tuple[str, str | None], Member]
    ) -> list[str]:
        """Return what is wrong with the archive as a whole."""
        import io

        import pyarrow as pa
        import pyarrow.parquet as pq

        from jobs.archives.index_tables import from_batch

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


def _member_outcome(row: ObjectVersion, read: MemberRead) -> Outcome:
    if read.cause is not None:
        return Outcome.of(row, Status.UNKNOWN if read.cause == UNPROVEN else Status.DIFFERENT, *read.cause)
    return Outcome.of(row, Status.VERIFIED)._replace(evidence=read.evidence, size_bytes=read.member.size_bytes)


def _archive_outcome(row: ObjectVersion, info: ObjectInfo, problems: Sequence[str]) -> Outcome:
    if problems:
        outcome = Outcome.of(row, Status.DIFFERENT, Reason.ARCHIVE_DAMAGED, "; ".join(problems))
        return outcome._replace(destination_etag=info.etag)
    return Outcome.of(row, Status.VERIFIED)._replace(evidence=Evidence.CONTENT)


def _refused(row: ObjectVersion, archive: Location, error: StoreError) -> Outcome:
    if isinstance(error, NotFound):
        if isinstance(error, NoSuchBucket):
            raise error
        return Outcome.of(row, Status.MISSING, Reason.ARCHIVE_GONE, str(archive))
    if isinstance(error, ArchivedObject):
        return Outcome.of(row, Status.BLOCKED, Reason.ARCHIVED, str(archive))
    return Outcome.refused(row, error)
