"""The verify job: proves that each version of a manifest is at the destination.

A source whose bytes are not those that S3 keeps checksums of is `damaged`. That says nothing
against the copy, which may be the last good one. A row whose copy was condemned is proven by bytes.

The evidence comes in steps: stored checksums of one algorithm and type, then ETags where both are
MD5s, then (only with `deep`) the bytes: of both sides, or of the destination alone against a
checksum that an earlier run has proven. What cannot be compared is `unknown`, never a match.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partialmethod
from typing import Any, NamedTuple, TypeAlias

from jobs.core.algorithms import Protection, protects
from jobs.core.evidence import (
    Verdict,
    best_checksum,
    compare,
    is_md5,
    is_md5_etag,
    is_named,
    with_checksums,
)
from jobs.core.histories import is_in_order, keys_of, with_rows
from jobs.core.model import NULL_VERSION, Checksum, Listed, ObjectInfo, ObjectRef, ObjectVersion, Route, is_exact
from jobs.core.outcome import Depth, Evidence, Outcome, Status
from jobs.core.reasons import Reason
from jobs.errors import (
    ArchivedObject,
    Denied,
    NoSuchBucket,
    NotFound,
    PreconditionFailed,
    Redirected,
    Rejected,
    Unavailable,
)
from jobs.s3.annotations import AnnotationPair
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.compare_bytes import ContentSide, check_content, compare_bytes, read_or_lost
from jobs.s3.lookup import VersionLooks, find, is_current_version, key_history
from jobs.s3.store import Store
from jobs.s3.tag_reader import TagReader
from jobs.sync.verify import verify_key
from jobs.verify.attestation import attested, parse_attestations

Checksums: TypeAlias = tuple[Checksum, ...]

LOOKS = 3
"""How often a destination that changes while it is read is looked at."""


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """`deep`: read and compare the bytes of both sides.

    `all_versions`: verify each version, not only the current one. `compares_tags`: a copy
    has all tags and annotations of its source, and may have more.

    `source_checksums`, `destination_checksums`: the report of checksums at rest that the rows'
    attestations come from, with its `uri`, `computed_at` (epoch seconds) and `age_hours` when the
    run was planned.
    """

    all_versions: bool = False
    deep: bool = False
    compares_tags: bool = False
    source_checksums: Mapping[str, Any] | None = None
    destination_checksums: Mapping[str, Any] | None = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> VerifyOptions:
        """Read the options from a run's spec, which has others as well."""
        return cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data})


class _Looks(NamedTuple):
    """What was seen of the versions of one key."""

    source: VersionLooks
    destination: VersionLooks

    @classmethod
    def of(cls, job: Verify) -> _Looks:
        return cls(VersionLooks(job.source), VersionLooks(job.destination))


class Verify:
    """The verify job of one worker (a `jobs.runs.worker.Job`)."""

    chains = staticmethod(keys_of)

    def __init__(
        self,
        source: Store,
        destination: Store,
        route: Route,
        options: VerifyOptions,
        budget: ByteBudget,
    ):
        self.source, self.destination, self.route = source, destination, route
        self.options, self.budget = options, budget
        self._tags, self._annotations = TagReader(source), AnnotationPair.between(source, destination, budget)

    async def process(self, rows: Sequence[ObjectVersion], *, is_last: bool = False) -> list[Outcome]:
        """Return the outcomes of one key's rows, oldest version first.

        `is_last`: a version that cannot be read ends as failed. Raises Unavailable or Throttled where a
        retry may help.
        """
        target = self.route.target_of(rows[0])
        if not self.options.all_versions:
            return [await self.guarded(row, self.verify(row, target), is_last=is_last) for row in rows]
        key = _Key(self, target, is_last=is_last)
        copies = await key_history(self.destination, *target[:2])
        described = [await key.describe(row) for row in rows]
        ends: dict[str | None, Outcome] = {}
        if is_in_order(described):
            ends = await verify_key(described, copies, key, is_listed=False)
        if any(end.status is not Status.VERIFIED for end in ends.values()) or not ends:
            listed = await self._list_source(rows[0])
            versions = with_rows(listed, described) if listed else described
            ends = await verify_key(versions, copies, key, is_listed=listed is not None)
        return [ends[row.version_id] for row in rows]

    process_last = partialmethod(process, is_last=True)

    async def _list_source(self, row: ObjectVersion) -> list[Listed] | None:
        """All versions that the source has of the row's key. None: nobody may know."""
        try:
            return await key_history(self.source, *self.route.source_of(row)[:2])
        except (Denied, Redirected, Rejected):
            return None

    async def guarded(self, row: ObjectVersion, work: Awaitable[Outcome], *, is_last: bool) -> Outcome:
        """Return what the work returns, or how a row ends that S3 refuses for good."""
        try:
            return await work
        except ArchivedObject as error:
            is_copy = error.target.startswith(str(self.route.target_of(row)))
            return Outcome.of(row, Status.UNKNOWN, Reason.ARCHIVED, "copy" if is_copy else "source")
        except (Denied, Redirected, Rejected, Unavailable) as error:
            if isinstance(error, Unavailable) and not (is_last and error.is_of_object):
                raise
            return Outcome.refused(row, error)

    async def verify(self, row: ObjectVersion, target: ObjectRef, looks: _Looks | None = None) -> Outcome:
        """Verify a row by one object of the destination. `looks`: at the others of a history."""
        if row.is_delete_marker:
            return Outcome.of(row, Status.UNKNOWN, Reason.IS_MARKER)
        may_leave_out = not row.condemned_etag and not self.options.compares_tags
        for _ in range(LOOKS):
            looks = looks or _Looks.of(self)
            try:
                if self.options.deep and row.known_checksum and may_leave_out:
                    return await self._verify_known(row, row.known_checksum, target, looks)
                return await self._verify_both(row, target, looks)
            except NoSuchBucket:
                raise
            except (NotFound, PreconditionFailed):
                looks = None  # the destination is another one by now: judge that
        return Outcome.of(row, Status.UNKNOWN, Reason.RACED)

    async def _verify_both(self, row: ObjectVersion, target: ObjectRef, looks: _Looks) -> Outcome:
        """Compare both sides.

        Raises NotFound or PreconditionFailed when the destination goes away or changes meanwhile.
        """
        ref = self.route.source_of(row)
        source, destination = await asyncio.gather(looks.source.find(ref), looks.destination.find(target))
        if source is None:
            return Outcome.of(row, Status.CHANGED, Reason.SOURCE_GONE)
        if not is_named(row, source):
            return Outcome.of(row, Status.CHANGED, Reason.SOURCE_REPLACED)
        if destination is None:
            return Outcome.of(row, Status.MISSING, Reason.COPY_MISSING)
        try:
            verdict, checksum = await self._prove(
                row, ContentSide(self.source, ref, source), ContentSide(self.destination, target, destination)
            )
        except NoSuchBucket:
            raise
        except (NotFound, PreconditionFailed):  # of which side, only another look says
            if await self._has_changed(ref, source):
                return Outcome.of(row, Status.CHANGED, Reason.SOURCE_CHANGED)
            raise
        is_fixed = self.options.all_versions and is_exact(ref.version_id)
        if verdict.same is False and not is_fixed and await self._has_changed(ref, source):
            return Outcome.of(row, Status.CHANGED, Reason.SOURCE_CHANGED)
        if verdict.same and (lack := await self._lack(ref, source, target, destination)):
            verdict = Verdict(False, Evidence.NONE, Reason.METADATA_DIFFERS, lack)
        return _judged(row, source.etag, destination, verdict, checksum, source.last_modified)

    async def _lack(self, ref: ObjectRef, source: ObjectInfo, target: ObjectRef, copy: ObjectInfo) -> str:
        """What the copy lacks: `tags`, `annotations`, or nothing. No ETag pins these, version ids do."""
        if not self.options.compares_tags:
            return ""
        ours = ref._replace(version_id=ref.version_id or source.version_id)
        theirs = target._replace(version_id=target.version_id or copy.version_id)
        tags = await self._tags.read_surely(ours, source.tag_count)
        if tags and not tags.items() <= (await self.destination.get_tags(theirs)).items():
            return "tags"
        return "" if await self._annotations.has_all(ours, theirs) else "annotations"

    async def _has_changed(self, ref: ObjectRef, seen: ObjectInfo) -> bool:
        """True if the source is another object by now: the destination may be its copy.

        So it is where the row names a version that was superseded since.
        """
        now = await find(self.source, ref if self.options.all_versions else ref._replace(version_id=None))
        if now is None or now.etag != seen.etag:
            return True
        ids = {now.version_id or NULL_VERSION, seen.version_id or NULL_VERSION}
        return len(ids) > 1 and NULL_VERSION not in ids  # some servers leave the id out

    async def _verify_known(self, row: ObjectVersion, known_checksum: str, target: ObjectRef, looks: _Looks) -> Outcome:
        """Compare the destination's bytes with all that the ledger knows of the content.

        The source is not read. It is asked only where the ETag and a weak checksum contradict each
        other, and where the bytes are others: they may be the copy of a newer object.
        """
        destination = await looks.destination.find(target)
        if destination is None:
            return Outcome.of(row, Status.MISSING, Reason.COPY_MISSING)
        side = ContentSide(self.destination, target, destination)
        verdict = await read_or_lost([side], lambda: self._prove_known(row, known_checksum, side))
        if isinstance(verdict, ContentSide):
            verdict = Verdict(False, Evidence.CONTENT, Reason.BYTES_LOST, "copy")
        if verdict.same is False and await self._is_replaced(row):
            return Outcome.of(row, Status.CHANGED, Reason.SOURCE_CHANGED)
        judged = _judged(row, row.etag, destination, verdict, known_checksum)
        return judged if verdict.reason is Reason.SIZE_DIFFERS else judged._replace(depth=Depth.BYTES)

    async def _is_replaced(self, row: ObjectVersion) -> bool:
        """True if the source has another object by now: the destination may be its copy.

        Where the source is gone, or may not be asked, nothing excuses the destination.
        """
        if row.etag is None or self.options.all_versions:  # the versions of a history have their own places
            return False
        try:
            now = await find(self.source, self.route.source_of(row)._replace(version_id=None))
        except (NotFound, Denied, Redirected, Rejected):
            return False
        return now is not None and now.etag != row.etag

    async def _prove_known(self, row: ObjectVersion, known_checksum: str, side: ContentSide) -> Verdict:
        """Judge the bytes by the row's size, checksum and ETag. All has to agree.

        | checksum | ETag                        | algorithm      | source now       | verdict   |
        |----------|-----------------------------|----------------|------------------|-----------|
        | differs  |                             |                |                  | different |
        | agrees   | no MD5, or the content's    |                | not asked        | same      |
        | agrees   | looks like another MD5      | against intent | not asked        | same      |
        | agrees   | looks like another MD5      | weak           | that is its MD5  | different |
        | agrees   | looks like another MD5      | weak           | it is encrypted  | same      |
        | agrees   | looks like another MD5      | weak           | gone, or another | unknown   |

        The ETag of an object under KMS looks like an MD5. Other content can be made to have the
        same CRC. So a CRC does not outweigh an ETag that may be an MD5.
        """
        size_bytes = side.info.size_bytes
        if row.size_bytes not in (None, size_bytes):
            return Verdict(False, Evidence.NONE, Reason.SIZE_DIFFERS)
        verdict, md5 = await check_content(side, known_checksum, self.budget, has_md5=is_md5(row.etag))
        is_other_md5 = verdict.same and is_md5(row.etag) and md5 != row.etag
        algorithm = known_checksum.partition(":")[0]
        if not is_other_md5 or protects(algorithm, Protection.INTENT):
            return verdict
        is_md5_of_source = await self._has_md5_etag(row)
        if is_md5_of_source is None:
            return Verdict(None, Evidence.NONE, Reason.EVIDENCE_WEAK, algorithm)
        return Verdict(False, Evidence.MD5_ETAG, Reason.CHECKSUM_DIFFERS, "MD5") if is_md5_of_source else verdict

    async def _has_md5_etag(self, row: ObjectVersion) -> bool | None:
        """True if the row's ETag is the MD5 of the source's content. None if nobody can tell."""
        try:
            source = await find(self.source, self.route.source_of(row))
        except (NotFound, Denied, Redirected, Rejected):
            return None
        return is_md5_etag(source) if source is not None and source.etag == row.etag else None

    async def _prove(
        self, row: ObjectVersion, source: ContentSide, destination: ContentSide
    ) -> tuple[Verdict, str | None]:
        reports = self.options.source_checksums, self.options.destination_checksums
        ours = _true_of(source.info, row.source_attested, reports[0])
        theirs = _true_of(destination.info, row.destination_attested, reports[1])
        verdict = compare(with_checksums(source.info, ours), with_checksums(destination.info, theirs))
        is_read = row.condemned_etag or (
            self.options.deep and not _at_rest(source.info, destination.info, ours, theirs)
        )
        if verdict.same is not False and is_read:
            return await compare_bytes(source, destination, self.budget)
        if verdict.same and (ours or theirs):
            used = _sources(reports[0] if ours else None, reports[1] if theirs else None)
            verdict = verdict._replace(reason=Reason.CHECKSUMS_AT_REST, detail=used)
        return verdict, best_checksum(with_checksums(source.info, ours))


class _Key:
    """The versions of one key, compared one with another, each pair at most once."""

    def __init__(self, job: Verify, target: ObjectRef, *, is_last: bool):
        self.job, self.target, self.is_last, self.looks = job, target, is_last, _Looks.of(job)
        self.ends: dict[tuple[str | None, str | None], Outcome] = {}

    def _refs(self, version: ObjectVersion, copy: Listed) -> tuple[ObjectRef, ObjectRef]:
        return self.job.route.source_of(version), self.target._replace(version_id=copy.version_id)

    async def describe(self, row: ObjectVersion) -> ObjectVersion:
        """Return the row with its size and ETag, which a manifest may not say."""
        if row.size_bytes is not None or row.is_delete_marker:
            return row
        try:
            info = await self.looks.source.find(self.job.route.source_of(row))
        except (Denied, Redirected, Rejected):
            return row
        return row if info is None else row._replace(size_bytes=info.size_bytes, etag=row.etag or info.etag)

    async def compare(self, version: ObjectVersion, copy: Listed) -> Outcome:
        """Compare a version with a copy."""
        pair = version.version_id, copy.version_id
        if pair not in self.ends:
            work = self._compare(version, copy)
            self.ends[pair] = await self.job.guarded(version, work, is_last=self.is_last)
        return self.ends[pair]

    async def _compare(self, version: ObjectVersion, copy: Listed) -> Outcome:
        if copy.is_delete_marker:
            return Outcome.of(version, Status.DIFFERENT, Reason.MARKER_DIFFERS)
        if version.size_bytes not in (None, copy.size_bytes):  # no need to look, let alone to read
            differs = Outcome.of(version, Status.DIFFERENT, Reason.SIZE_DIFFERS)
            return differs._replace(
                size_bytes=copy.size_bytes or 0,
                destination_version_id=copy.version_id,
                destination_etag=copy.etag,
                source_modified=version.last_modified,
                copy_modified=copy.last_modified,
            )
        return await self.job.verify(version, self._refs(version, copy)[1], self.looks)

    async def claims(self, version: ObjectVersion, copy: Listed, outcome: Outcome) -> bool:
        """True if the ETag, or what S3 stores of both, says that the copy is the version's.

        Of another version's copy they do not say it: that one is not damaged.
        """
        if outcome.reason is Reason.METADATA_DIFFERS:
            return True
        if outcome.evidence is Evidence.NONE:
            return False
        if is_md5(version.etag) and version.etag == copy.etag:
            return True
        ref, there = self._refs(version, copy)
        try:
            source, found = await asyncio.gather(self.looks.source.find(ref), self.looks.destination.find(there))
        except (NotFound, Denied, Redirected, Rejected):
            return False  # nobody can tell
        if source is None or found is None or version.etag not in (None, source.etag):
            return False
        return found.etag == copy.etag and compare(source, found).same is True

    async def is_current(self, version: ObjectVersion) -> bool:
        """True if the version is the source's current one."""
        return await is_current_version(
            self.job.source, self.job.route.source_of(version), version.etag, is_delete_marker=version.is_delete_marker
        )


def _true_of(info: ObjectInfo, text: str | None, report: Mapping[str, Any] | None) -> Checksums:
    """Return the attested checksums that are true of the object as it is now.

    None without their report.
    """
    return () if report is None else attested(info, parse_attestations(text), report["computed_at"])


def _at_rest(source: ObjectInfo, destination: ObjectInfo, ours: Checksums, theirs: Checksums) -> bool:
    """True if S3's own checksums at rest prove that both sides are the same, so that no read is
    necessary.
    """
    verdict = compare(replace(source, checksums=ours), replace(destination, checksums=theirs))
    return verdict.same is True and verdict.evidence is Evidence.CHECKSUM


def _sources(source: Mapping[str, Any] | None, destination: Mapping[str, Any] | None) -> str:
    """Return which reports a proof uses, and how old they were."""
    reports = [
        f"{side} {report['age_hours']:.1f} h old ({report['uri']})"
        for side, report in (("source", source), ("destination", destination))
        if report is not None
    ]
    return ", ".join(reports)


def _judged(
    row: ObjectVersion,
    source_etag: str | None,
    destination: ObjectInfo,
    verdict: Verdict,
    checksum: str | None,
    source_modified: float | None = None,
) -> Outcome:
    status = {True: Status.VERIFIED, False: Status.DIFFERENT, None: Status.UNKNOWN}[verdict.same]
    if verdict.is_source_damaged:
        status = Status.DAMAGED
    return Outcome.of(row, status, verdict.reason, verdict.detail)._replace(
        evidence=verdict.evidence if verdict.same is not None else Evidence.NONE,
        size_bytes=destination.size_bytes,
        etag=source_etag,
        destination_version_id=destination.version_id,
        destination_etag=destination.etag,
        checksum=checksum if verdict.same else None,
        source_modified=row.last_modified if source_modified is None else source_modified,
        copy_modified=destination.last_modified,
    )
