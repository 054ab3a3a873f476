"""The proof of what a drill has restored, and its removal.

| what says how an object has to be | it counts where                                              |
|-----------------------------------|--------------------------------------------------------------|
| source                            | the source's object is current, and not newer than the copy  |
| index                             | an archive holds it: the index within that archive           |
| version                           | otherwise: the version itself that was restored              |

All bytes of both sides are read, user metadata and content headers are equal, and the restored object has each tag and
annotation of the other one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from functools import partial

from msgspec import Struct

from jobs.archives.index import members_of, read_own_groups
from jobs.archives.model import Member
from jobs.archives.reader import content_checksums
from jobs.core.evidence import difference
from jobs.core.model import Attributes, Location, ObjectRef, ObjectVersion, Route, is_exact
from jobs.core.outcome import GOOD, Outcome
from jobs.core.reasons import Reason
from jobs.core.selection import is_sealift_object
from jobs.drill.model import INDEX, SOURCE, VERSION, Leg, Proof, Written
from jobs.errors import REFUSALS, Conflict, DamagedArchive, NotFound, PreconditionFailed
from jobs.s3.annotations import AnnotationPair
from jobs.s3.byte_ranges import ByteBudget, ContentSide
from jobs.s3.compare_bytes import check_content, compare_bytes
from jobs.s3.listing import list_all
from jobs.s3.lookup import TagReader, find
from jobs.s3.retries import gather_bounded, retry
from jobs.s3.store import Store

AT_ONCE = 16


class Prover(Struct, frozen=True):
    """Compares what was restored of one leg. `source`: where the originals are. `kept`: has what was restored from.
    `recent`: objects of the source that are younger say how far behind copies are (epoch seconds). `annotations`:
    whether copies get them.
    """

    leg: Leg
    route: Route
    source: Location
    source_store: Store
    kept: Store
    restored: Store
    budget: ByteBudget
    recent: float
    annotations: bool = True
    pairs: dict[int, AnnotationPair] = {}

    async def prove(self, rows: Sequence[ObjectVersion], outcomes: Sequence[Outcome]) -> list[Proof]:
        """What became of these rows of a restore run, in order. Raises Unavailable where S3 does not answer."""
        members = await self._members(rows)

        async def look(ended: tuple[ObjectVersion, Outcome]) -> Proof:
            row, outcome = ended
            if outcome.status not in GOOD:
                return Proof(key=row.key, reason=str(outcome.reason), detail=outcome.detail)
            try:
                return await retry(lambda: self._prove(row, outcome, members.get(row.key)))
            except (*REFUSALS, NotFound, PreconditionFailed, Conflict) as error:
                refused = Outcome.refused(row, error)
                return Proof(key=row.key, reason=str(refused.reason), detail=refused.detail)

        return await gather_bounded(look, list(zip(rows, outcomes, strict=True)), AT_ONCE)

    async def _members(self, rows: Sequence[ObjectVersion]) -> Mapping[str, Member]:
        found = dict[str, Member]()
        for archive in {row.archive for row in rows if row.archive}:
            own = [row for row in rows if row.archive == archive]
            wanted = {(row.key, row.version_id) for row in own}
            with contextlib.suppress(*REFUSALS, NotFound, PreconditionFailed, DamagedArchive):  # its rows say so
                groups = await read_own_groups(self.kept, Location.parse(archive), None)
                members = members_of(groups, [row.key for row in own])
                found |= {each.key: each for each in members if (each.key, each.version_id) in wanted}
        return found

    async def _prove(self, row: ObjectVersion, restored: Outcome, member: Member | None) -> Proof:
        target = self.route.target_of(row)
        there = await find(self.restored, target)
        if there is None:
            return Proof(key=row.key, reason=Reason.COPY_MISSING)
        if there.etag != restored.destination_etag or restored.destination_version_id not in (None, there.version_id):
            return Proof(key=row.key, reason=Reason.DESTINATION_DIFFERS)  # others wrote it, and keep it
        original = ObjectRef(self.source.bucket, row.key[len(self.leg.prefix) :])
        source = await find(self.source_store, original) if row.is_latest else None
        theirs = ContentSide(self.restored, target._replace(version_id=there.version_id), there)
        lag = None
        if source is not None and source.last_modified <= (row.last_modified or 0.0) and not source.is_archived:
            by, copied_at = SOURCE, row.last_modified or 0.0
            lag = copied_at - source.last_modified if source.last_modified >= self.recent else None
            reason, detail = await self._differs(ContentSide(self.source_store, original, source), theirs)
        elif row.archive:
            if member is None:
                return Proof(key=row.key, reason=Reason.ARCHIVE_DAMAGED, detail=row.archive)
            by = INDEX
            reason, detail = await self._differs_from(member, theirs)
        else:
            by, ref = VERSION, self.route.source_of(row)
            info = await retry(partial(self.kept.head, ref))
            reason, detail = await self._differs(ContentSide(self.kept, ref, info), theirs)
        return Proof(key=row.key, by=by, reason=reason, detail=detail, size_bytes=there.size_bytes, lag_seconds=lag)

    async def _differs(self, ours: ContentSide, theirs: ContentSide) -> tuple[str, str]:
        verdict = await compare_bytes(ours, theirs, self.budget)
        if not verdict.same:
            return str(verdict.reason), verdict.detail
        tags = await TagReader(ours.store).read_surely(ours.ref, ours.info.tag_count)
        pair = AnnotationPair(ours.store, theirs.store, self.budget)
        pair = self.pairs.setdefault(id(ours.store), pair)  # it tries only once whether a server keeps any
        if self.annotations and not await pair.has_all(ours.ref, theirs.ref):
            return Reason.METADATA_DIFFERS, "annotations"
        return await self._lacks(tags, theirs)

    async def _differs_from(self, member: Member, theirs: ContentSide) -> tuple[str, str]:
        known = next((each for each in content_checksums(member) if each.algorithm == "SHA256"), None)
        if known is None:
            return Reason.NOTHING_COMPARABLE, ""
        verdict, _ = await check_content(theirs, str(known), self.budget)
        if not verdict.same:
            return str(verdict.reason), verdict.detail
        if differing := difference(Attributes(member.headers, member.metadata), theirs.info.attributes):
            return Reason.METADATA_DIFFERS, differing
        return await self._lacks(member.tags, theirs)

    async def _lacks(self, tags: Mapping[str, str], theirs: ContentSide) -> tuple[str, str]:
        own = await TagReader(theirs.store).read_surely(theirs.ref, theirs.info.tag_count)
        return ("", "") if tags.items() <= own.items() else (Reason.METADATA_DIFFERS, "tags")


def written_by(route: Route, rows: Sequence[ObjectVersion], outcomes: Sequence[Outcome]) -> list[Written]:
    """The versions that a restore run has written, by its outcomes."""
    return [
        Written(route.target_of(row).key, outcome.destination_version_id)
        for row, outcome in zip(rows, outcomes, strict=True)
        if outcome.status in GOOD
    ]


async def remove(store: Store, place: Location, written: Sequence[Written]) -> list[str]:
    """Remove the versions that a drill has written below its place. Returns the keys that are left there.

    Nothing else goes, neither what others wrote there nor what has no version id.
    """

    async def remove_one(each: Written) -> None:
        if each.key.startswith(place.key) and is_exact(each.version_id):
            await retry(lambda: store.delete(ObjectRef(place.bucket, each.key, each.version_id)))

    await gather_bounded(remove_one, written, AT_ONCE)
    pages = list_all(store, place, versions=True)
    return [each.key async for page in pages for each in page if not is_sealift_object(each.key)]
