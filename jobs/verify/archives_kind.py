"""Verification of archives as a kind of work: reads every member again and checks the index.

A row is an archive. The job reads it once and whole, also one that was truncated or altered. The outcome
says whether it is what was indexed, whether the index inside agrees, and which members are damaged.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from jobs.archives.files import archive_ref, head_archive, list_archives
from jobs.archives.index import ArchiveIndex, Damage, read_own_groups
from jobs.archives.index_tables import from_batch
from jobs.archives.model import ArchiveRecord, Member
from jobs.archives.reader import UNPROVEN, ArchiveReader
from jobs.config import Settings
from jobs.core.display import Display
from jobs.core.histories import keys_of
from jobs.core.model import Location, ObjectInfo, ObjectVersion
from jobs.core.outcome import Evidence, Outcome, Status
from jobs.core.pricing import Bill, PricedWork, part_rule
from jobs.core.reasons import Cause, Reason
from jobs.core.run import RunSpec
from jobs.errors import REFUSALS, DamagedArchive, NotFound, UsageError
from jobs.ledger.ledger import Ledger
from jobs.runs.kind import Kind, Opened
from jobs.runs.request import Planned, Request, drafting
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.sessions import side_store
from jobs.s3.store import Store
from jobs.sync.look import refusal_end
from jobs.tables.rows import manifest_batch

ARCHIVES_AT_ONCE = 2
GAP_BYTES = 1024**2
"""All bytes are read, so requests are cut by their size, not at the headers between members."""
NAMED = 100
"""So many damaged members are named."""
_WORK = PricedWork(is_copying=False, deep=True, sides_read=1)
"""Each archive is read once, by large ranges. The requests for its own index are not counted."""


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
            damaged, unproven = await self._read(replace(record, etag=info.etag), [*members.values()])
            problems = await self._problems(record, info, members)
        except NotFound:
            return Outcome.of(row, Status.MISSING, Reason.ARCHIVE_GONE, str(archive))
        except REFUSALS as error:
            return Outcome.of(row, *refusal_end(error, is_last=False))
        bad = damaged or unproven
        names = ", ".join(bad[:NAMED] + ["…"] * (len(bad) > NAMED))
        if damaged:
            problems.append(f"{len(damaged):,} of {len(members):,} members are damaged: {names}")
        if problems:
            outcome = Outcome.of(row, Status.DIFFERENT, Reason.ARCHIVE_DAMAGED, "; ".join(problems))
            return outcome._replace(destination_etag=info.etag)
        if unproven:
            return Outcome.of(row, Status.UNKNOWN, UNPROVEN.reason, f"{UNPROVEN.detail}: {names}")
        size_bytes = sum(member.size_bytes for member in members.values())
        return Outcome.of(row, Status.VERIFIED)._replace(evidence=Evidence.CONTENT, size_bytes=size_bytes)

    async def _read(self, record: ArchiveRecord, members: Sequence[Member]) -> tuple[list[str], list[str]]:
        """Read each member. Returns the keys of those that are damaged, and of those that nothing proves."""
        damaged, unproven = list[str](), list[str]()
        reader = ArchiveReader(self.store, archive_ref(record), record.etag, self.budget, gap_bytes=GAP_BYTES)
        async with aclosing(reader.contents(members)) as contents:
            async for member, content in contents:
                if isinstance(content, Cause):
                    (unproven if content == UNPROVEN else damaged).append(member.key)
                    continue
                try:
                    async with aclosing(content) as pieces:
                        async for _ in pieces:
                            pass
                except DamagedArchive:
                    damaged.append(member.key)
        return damaged, unproven

    async def _problems(
        self, record: ArchiveRecord, info: ObjectInfo, members: Mapping[tuple[str, str | None], Member]
    ) -> list[str]:
        """Return what is wrong with the archive as a whole."""
        problems = []
        if info.etag != record.etag:
            problems.append("it was replaced: its ETag is not that of the index")
        try:
            groups = await read_own_groups(self.store, record.location, record.version_id)
            inside = {(each.key, each.version_id): each for group in groups for each in from_batch(group)}
        except DamagedArchive as error:
            return [*problems, f"its own index is damaged: {error}"]
        if disputed := sum(inside.get(key) != members.get(key) for key in inside.keys() | members.keys()):
            problems.append(f"the index inside says otherwise of {disputed:,} members")
        return problems


def _open(opened: Opened) -> VerifyArchives:
    index = ArchiveIndex(opened.ledger.store, opened.ledger.location)
    return VerifyArchives(opened.destination, index, opened.budget, opened.spec.destination.location.bucket)


def _not_retried(spec: RunSpec) -> UsageError:
    return UsageError(f"run {spec.run_id} only read archives", advice="compact or restore what it found damaged")


async def _plan(request: Request, ledger: Ledger, settings: Settings, display: Display) -> Planned:
    """Make the archives rows, indexed or not."""
    from jobs.runs.planning import plan_rows

    side, damage = request.destination, Damage()
    with drafting(request) as draft:
        async with side_store(side, max_in_flight=16) as store:
            keys = [archive.key async for archive, _ in list_archives(store, side.location)]
        records = await ArchiveIndex(ledger.store, ledger.location).records(side.location, damage)
        known = {key: ObjectVersion(0, key) for key in [*keys, *(each.archive.key for each in damage)]}
        for each in records:
            about = each.size_bytes, each.etag, None, each.storage_class
            known[each.location.key] = ObjectVersion(0, each.location.key, each.version_id, True, False, *about)
        rows = _once(manifest_batch([*known.values()]))
        plan, histogram = await plan_rows(rows, request.selection, draft.shards(settings), parts=part_rule(_WORK))
        spec = draft.spec(f"archives in {side.location}", {}, side)
        return draft.planned(spec, Bill(_WORK, histogram).of(plan, settings.processes))


async def _once(batch: pa.RecordBatch) -> AsyncIterator[pa.RecordBatch]:
    yield batch


KIND = Kind(
    "verify archives",
    _open,
    ARCHIVES_AT_ONCE,
    _plan,
    not_retried=_not_retried,
    hints=lambda report: ["Restore what is whole, or compact the originals again."],
)
