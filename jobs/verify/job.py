"""The verify job: proves that each version of a manifest is at the destination.

A source whose bytes are not those that S3 keeps checksums of is `damaged`. That says nothing
against the copy, which may be the last good one. A row whose copy was condemned is proven by bytes.

The evidence comes in steps: stored checksums of one algorithm and type, then ETags where both are
MD5s, then (only with `deep`) the bytes: of both sides, or of the destination alone against a
checksum that an earlier run has proven. What cannot be compared is `unverifiable`, never a match.

A run that follows a copy shard by shard asks the destination first, for the rows that the copy's
own outcomes call copied. If its ETag is an MD5, and the one that the manifest names, then the
source is not asked: half of the requests.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

from jobs.core.algorithms import ALGORITHMS, Protection, protects
from jobs.core.evidence import (
    NOT_THE_ONE_NAMED,
    Verdict,
    best_checksum,
    compare,
    is_md5,
    is_md5_etag,
    is_named,
    with_checksums,
)
from jobs.core.histories import align_known, is_in_order, keys_of, with_rows
from jobs.core.model import NULL_VERSION, Checksum, Listed, ObjectInfo, ObjectRef, ObjectVersion, Route
from jobs.core.outcome import Evidence, Outcome, Status
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
from jobs.runs.failure_count import gave_up
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.compare_bytes import ContentSide, check_bytes, check_content, compare_bytes, read_or_lost
from jobs.s3.lookup import VersionLooks, find, is_current_version, key_history
from jobs.s3.store import Store
from jobs.verify.attestation import attested, parse_attestations
from jobs.verify.copied_rows import CopiedRows

Checksums: TypeAlias = tuple[Checksum, ...]

SOURCE_GONE = "the source object is gone"
SOURCE_MOVED_ON = "the source is another object by now, whose copy may be there"
MUST_BE_RESTORED = "must be restored before it can be read"
LOOKS = 3
"""How often a destination that changes while it is read is looked at."""


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """`deep`: read and compare the bytes of both sides.

    `all_versions`: verify each version, not only the current one. `after_copy`: the run that has
    just copied the rows. Of those that it copied, the source is asked only where the destination
    proves nothing.

    `source_checksums`, `destination_checksums`: the report of checksums at rest that the rows'
    attestations come from, with its `uri`, `computed_at` (epoch seconds) and `age_hours` when the
    run was planned.
    """

    all_versions: bool = False
    deep: bool = False
    after_copy: str | None = None
    source_checksums: Mapping[str, Any] | None = None
    destination_checksums: Mapping[str, Any] | None = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> VerifyOptions:
        """Read the options from a run's spec, which has others as well."""
        return cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data})


class _Looks(NamedTuple):
    """What was seen of the versions of one key. `again`: of the source, after a mismatch."""

    source: VersionLooks
    destination: VersionLooks
    again: VersionLooks


@dataclass(frozen=True, slots=True)
class Verify:
    """The verify job of one worker (a `jobs.runs.worker.Job`).

    `copied`: the rows that the run before it has copied. None: no run did.
    """

    chains = staticmethod(keys_of)

    source: Store
    destination: Store
    route: Route
    options: VerifyOptions
    budget: ByteBudget
    copied: CopiedRows | None = None

    async def process(self, rows: Sequence[ObjectVersion]) -> list[Outcome]:
        """Return the outcomes of one key's rows, oldest version first.

        Raises Unavailable or Throttled where a retry may help.
        """
        return await self._process(rows, is_last=False)

    async def process_last(self, rows: Sequence[ObjectVersion]) -> list[Outcome]:
        """Do as `process`, at the last try: a version that cannot be read ends as failed."""
        return await self._process(rows, is_last=True)

    async def _process(self, rows: Sequence[ObjectVersion], *, is_last: bool) -> list[Outcome]:
        target = self.route.target_of(rows[0])
        if not self.options.all_versions:
            return [await self._guarded(row, self._verify(row, target), is_last=is_last) for row in rows]
        history = await key_history(self.destination, target.bucket, target.key)
        outcomes = await self._verify_history(await self._in_order(rows), target, history, is_last=is_last)
        of_version = {each.version_id: each for each in outcomes}
        return [of_version[row.version_id] for row in rows]

    async def _in_order(self, rows: Sequence[ObjectVersion]) -> Sequence[ObjectVersion]:
        """Return the rows of a key oldest first. Where their own dates do not say it, the source
        does.
        """
        if is_in_order(rows):
            return rows
        ref = self.route.source_of(rows[0])
        try:
            listed = await key_history(self.source, ref.bucket, ref.key)
        except (Denied, Redirected, Rejected):
            return rows  # nobody knows
        return [each for each in with_rows(listed, rows) if each.row >= 0]

    async def _guarded(self, row: ObjectVersion, work: Any, *, is_last: bool) -> Outcome:
        try:
            outcome: Outcome = await work
            return outcome
        except Unavailable as error:
            if not (is_last and error.is_of_object):
                raise
            return gave_up(row, error)
        except (Denied, Redirected) as error:
            return Outcome.of(row, Status.DENIED, str(error))
        except ArchivedObject as error:
            is_copy = error.target.startswith(str(self.route.target_of(row)))
            which = "the copy" if is_copy else "the source"
            return Outcome.of(row, Status.UNVERIFIABLE, f"{which} {MUST_BE_RESTORED}")
        except Rejected as error:
            return Outcome.of(row, Status.FAILED, str(error))

    def _looks(self) -> _Looks:
        return _Looks(VersionLooks(self.source), VersionLooks(self.destination), VersionLooks(self.source))

    async def _verify(self, row: ObjectVersion, target: ObjectRef, looks: _Looks | None = None) -> Outcome:
        """Verify a row by one object of the destination. `looks`: at the others of a history."""
        if row.is_delete_marker:
            return Outcome.of(row, Status.UNVERIFIABLE, "a delete marker is verified only with --versions all")
        if self.copied is not None and not row.condemned_etag and await self.copied.has(row.row):
            proven = await self._verify_copy(row, target)
            if proven is not None:
                return proven
        for _ in range(LOOKS):
            looks = looks or self._looks()
            try:
                if self.options.deep and row.known_checksum and not row.condemned_etag:
                    return await self._verify_known(row, row.known_checksum, target, looks)
                return await self._verify_both(row, target, looks)
            except NoSuchBucket:
                raise
            except (NotFound, PreconditionFailed):
                looks = None  # the destination is another one by now: judge that
        return Outcome.of(row, Status.UNVERIFIABLE, "the destination changed each time that it was read")

    async def _verify_copy(self, row: ObjectVersion, target: ObjectRef) -> Outcome | None:
        """Verify by the destination alone. None if only the source could say more.

        An MD5 that equals the manifest's ETag proves that this ETag is an MD5 as well: those of KMS
        equal no content's.
        """
        destination = await find(self.destination, target)
        if destination is None or not is_md5_etag(destination):
            return None
        if destination.etag != row.etag or row.size_bytes not in (None, destination.size_bytes):
            return None
        verdict = Verdict(True, Evidence.MD5_ETAG, Reason.SOURCE_NOT_ASKED)
        return _judged(row, row.etag, destination, verdict, best_checksum(destination))

    async def _verify_both(self, row: ObjectVersion, target: ObjectRef, looks: _Looks) -> Outcome:
        """Compare both sides.

        Raises NotFound or PreconditionFailed when the destination goes away or changes meanwhile.
        """
        ref = self.route.source_of(row)
        source, destination = await asyncio.gather(looks.source.find(ref), looks.destination.find(target))
        if source is None:
            return Outcome.of(row, Status.CHANGED, SOURCE_GONE)
        if not is_named(row, source):
            return Outcome.of(row, Status.CHANGED, NOT_THE_ONE_NAMED)._replace(etag=source.etag)
        if destination is None:
            return Outcome.of(row, Status.MISSING, "nothing is at the destination")
        try:
            verdict, checksum = await self._prove(
                row, ContentSide(self.source, ref, source), ContentSide(self.destination, target, destination)
            )
        except NoSuchBucket:
            raise
        except (NotFound, PreconditionFailed):  # of which side, only another look says
            if await self._has_changed(ref, source, VersionLooks(self.source)):
                return Outcome.of(row, Status.CHANGED, "the source changed while it was read")
            raise
        if verdict.same is False and await self._has_changed(ref, source, looks.again):
            return Outcome.of(row, Status.CHANGED, SOURCE_MOVED_ON)
        return _judged(row, source.etag, destination, verdict, checksum)

    async def _has_changed(self, ref: ObjectRef, seen: ObjectInfo, looks: VersionLooks) -> bool:
        """True if the source is another object by now: the destination may be its copy.

        So it is where the row names a version that was superseded since.
        """
        now = await looks.find(ref if self.options.all_versions else ref._replace(version_id=None))
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
            return Outcome.of(row, Status.MISSING, "nothing is at the destination")
        side = ContentSide(self.destination, target, destination)
        verdict = await read_or_lost([side], lambda: self._prove_known(row, known_checksum, side))
        if isinstance(verdict, ContentSide):
            verdict = Verdict(False, Evidence.CONTENT, Reason.BYTES_LOST)
        if verdict.same is False and await self._is_replaced(row):
            return Outcome.of(row, Status.CHANGED, SOURCE_MOVED_ON)
        return _judged(row, row.etag, destination, verdict, known_checksum)

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
        algorithm = known_checksum.partition(":")[0]
        if not row.etag or not is_md5(row.etag) or algorithm not in ALGORITHMS:
            return await check_content(side, known_checksum, self.budget)
        known = replace(side.info, etag="", checksums=(Checksum(algorithm, known_checksum.partition(":")[2]),))
        check = await check_bytes(side, known, self.budget, also="MD5")
        if check.is_refuted:
            return Verdict(False, Evidence.CHECKSUM, Reason.CHECKSUM_DIFFERS, algorithm)
        if base64.b64decode(check.checksum("MD5").value).hex() == row.etag or protects(algorithm, Protection.INTENT):
            return Verdict(True, Evidence.CHECKSUM)
        is_md5_of_source = await self._has_md5_etag(row)
        if is_md5_of_source is None:
            return Verdict(None, Evidence.NONE, Reason.EVIDENCE_WEAK, algorithm)
        if is_md5_of_source:
            return Verdict(False, Evidence.MD5_ETAG, Reason.CHECKSUM_DIFFERS, "MD5")
        return Verdict(True, Evidence.CHECKSUM)

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

    async def _verify_history(
        self, rows: Sequence[ObjectVersion], target: ObjectRef, history: Sequence[Listed], *, is_last: bool
    ) -> list[Outcome]:
        """Verify each version: by its place where the histories are equally long, else by its
        content.

        The place says that a version is damaged only where the rows are all that the source has.
        """
        judged: dict[tuple[int, int], Outcome] = {}
        looks = self._looks()

        async def judge(s: int, d: int) -> Outcome:
            if (s, d) not in judged:
                work = self._verify_version(rows[s], target, history[d], looks)
                judged[s, d] = await self._guarded(rows[s], work, is_last=is_last)
            return judged[s, d]

        if len(rows) == len(history):
            by_place = [await judge(index, index) for index in range(len(rows))]
            if not any(each.status is Status.MISMATCHED for each in by_place) or await self._is_whole(rows):
                return by_place
        refs = [self.route.source_of(row) for row in rows]
        copies = [target._replace(version_id=each.version_id) for each in history]

        def differ(s: int, d: int) -> bool:
            md5s = looks.source.md5_of(refs[s]), looks.destination.md5_of(copies[d])
            return None not in md5s and md5s[0] != md5s[1]

        alignment = await _aligned(len(rows), len(history), judge, differ)
        outcomes = []
        for s, (row, at) in enumerate(zip(rows, alignment, strict=True)):
            if at is not None:
                outcomes.append(await judge(s, at))
            else:
                of_all = [await judge(s, d) for d in range(len(history))]
                outcomes.append(await self._unmatched(row, target, of_all, looks))
        if alignment[-1] is not None:
            of_top = await judge(len(rows) - 1, len(history) - 1)
            if of_top.status is not Status.VERIFIED:
                covered = self._judge_covered(outcomes[-1], rows[-1], history[-1], of_top)
                outcomes[-1] = await self._guarded(rows[-1], covered, is_last=is_last)
        return outcomes

    async def _judge_covered(self, outcome: Outcome, row: ObjectVersion, top: Listed, of_top: Outcome) -> Outcome:
        """Judge the last version of the rows, whose copy lies below `top`.

        That is right if the source has a newer version, too. Else a reader of the copies does not
        get the source's current version, unless `top` is another copy of it. `of_top` is what a
        comparison with `top` came to.
        """
        ref = self.route.source_of(row)
        if not await is_current_version(self.source, ref, row.etag, is_delete_marker=row.is_delete_marker):
            return outcome
        if top.is_delete_marker:
            return Outcome.of(row, Status.MISSING, "its copy lies below a delete marker of the destination")
        if of_top.status is not Status.MISMATCHED:
            return of_top
        reason = "its copy lies below another version, which readers get"
        return Outcome.of(row, Status.MISMATCHED, reason)._replace(
            size_bytes=top.size_bytes or 0, destination_etag=top.etag
        )

    async def _is_whole(self, rows: Sequence[ObjectVersion]) -> bool:
        """True if the rows are all versions that the source has of their key."""
        ref = self.route.source_of(rows[0])
        try:
            history = await key_history(self.source, ref.bucket, ref.key)
        except (Denied, Redirected, Rejected):
            return False  # nobody knows
        return [row.version_id or NULL_VERSION for row in rows] == [each.version_id for each in history]

    async def _verify_version(self, row: ObjectVersion, target: ObjectRef, there: Listed, looks: _Looks) -> Outcome:
        if row.is_delete_marker and there.is_delete_marker:
            return Outcome.of(row, Status.VERIFIED)._replace(destination_version_id=there.version_id)
        if row.is_delete_marker or there.is_delete_marker:
            reason = "a delete marker on one side only"
            return Outcome.of(row, Status.MISMATCHED, reason)._replace(size_bytes=there.size_bytes or 0)
        if row.size_bytes not in (None, there.size_bytes):  # no need to look, let alone to read
            differs = Outcome.of(row, Status.MISMATCHED, Reason.SIZE_DIFFERS)
            return differs._replace(size_bytes=there.size_bytes or 0, destination_etag=there.etag)
        return await self._verify(row, target._replace(version_id=there.version_id), looks)

    async def _unmatched(
        self, row: ObjectVersion, target: ObjectRef, outcomes: Sequence[Outcome], looks: _Looks
    ) -> Outcome:
        """Return the outcome of a row without a match: its damaged copy, else what prevented a
        proof, else missing.

        A damaged copy has to be named. By what S3 keeps beside its bytes it would pass for the row.
        """
        if not any(outcome.status in (Status.CHANGED, Status.DAMAGED) for outcome in outcomes):
            for outcome in outcomes:
                if outcome.status is Status.MISMATCHED and await self._claims_to_be(row, target, outcome, looks):
                    return outcome
        for outcome in outcomes:
            if outcome.status not in (Status.VERIFIED, Status.MISMATCHED):
                return outcome
        return Outcome.of(row, Status.MISSING, "no version at the destination reproduces it")

    async def _claims_to_be(self, row: ObjectVersion, target: ObjectRef, mismatch: Outcome, looks: _Looks) -> bool:
        """True if the ETag or the stored checksums say "same" of a copy whose bytes differ.

        Of another version's copy they do not: that one is not damaged.
        """
        if mismatch.evidence is Evidence.NONE:
            return False
        if row.etag is not None and is_md5(row.etag) and row.etag == mismatch.destination_etag:
            return True
        there = target._replace(version_id=mismatch.destination_version_id)
        try:
            source, destination = await asyncio.gather(
                looks.source.find(self.route.source_of(row)), looks.destination.find(there)
            )
        except (NotFound, Denied, Redirected, Rejected):
            return False  # nobody can tell
        if source is None or destination is None or row.etag not in (None, source.etag):
            return False
        return destination.etag == mismatch.destination_etag and compare(source, destination).same is True


async def _aligned(
    rows: int,
    versions: int,
    judge: Callable[[int, int], Awaitable[Outcome]],
    differ: Callable[[int, int], bool],
) -> list[int | None]:
    """Return for each row the index of the version that reproduces it, as `align` does.

    What is the same from the beginning on, and from the end on, is not compared with the others.
    `differ`: whether a row and a version are known to be different.
    """

    async def is_same(s: int, d: int) -> bool:
        return not differ(s, d) and (await judge(s, d)).status is Status.VERIFIED

    first = last = 0
    while first < min(rows, versions) and await is_same(first, first):
        first += 1
    while last < min(rows, versions) - first and await is_same(rows - 1 - last, versions - 1 - last):
        last += 1
    same: set[tuple[int, int]] = set()
    for s in range(first, rows - last):
        await asyncio.sleep(0)  # all that was seen before is no request
        same |= {(s, d) for d in range(first, versions - last) if await is_same(s, d)}
    between = align_known(rows, same)[first : rows - last]
    return [*range(first), *between, *range(versions - last, versions)]


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
    row: ObjectVersion, source_etag: str | None, destination: ObjectInfo, verdict: Verdict, checksum: str | None
) -> Outcome:
    status = {True: Status.VERIFIED, False: Status.MISMATCHED, None: Status.UNVERIFIABLE}[verdict.same]
    if verdict.is_source_damaged:
        status = Status.DAMAGED
    return Outcome.of(row, status, verdict.reason, verdict.detail)._replace(
        evidence=verdict.evidence if verdict.same is not None else Evidence.NONE,
        size_bytes=destination.size_bytes,
        etag=source_etag,
        destination_version_id=destination.version_id,
        destination_etag=destination.etag,
        checksum=checksum if verdict.same else None,
    )
