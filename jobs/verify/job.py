"""The verify job: proves that each version of a manifest is at the destination.

A source whose bytes are not those that S3 keeps checksums of is `damaged`. That says nothing
against the copy, which may be the last good one. A row whose copy was condemned is proven by bytes.

The evidence comes in steps: stored checksums of one algorithm and type, then ETags where both are
MD5s, then (only with `deep`) the bytes: of both sides, or of the destination alone against a
checksum that an earlier run has proven. What cannot be compared is `unknown`, never a match.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partialmethod

from msgspec import Struct
from msgspec.structs import replace

from jobs.core.algorithms import Protection, protects
from jobs.core.evidence import Verdict, compare, is_md5, is_named, with_checksums
from jobs.core.histories import SKEW_SECONDS, is_in_order, keys_of
from jobs.core.model import NULL_VERSION, Listed, ObjectInfo, ObjectVersion, Route, is_exact
from jobs.core.outcome import Evidence, Outcome, Status
from jobs.core.reasons import Reason
from jobs.errors import REFUSALS, Conflict, StoreError, Unavailable
from jobs.s3.annotations import AnnotationPair
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.compare_bytes import check_content
from jobs.s3.lookup import TagReader, key_history
from jobs.s3.retries import gather_bounded
from jobs.s3.store import Store
from jobs.sync.edges import Edge, Look, Version, is_likely
from jobs.sync.look import AT_ONCE, CHANGED, Side, compare_versions, places_of, refusal_end
from jobs.sync.table import Act, Rules, around, next_step
from jobs.verify.attestation import attested

LOOKS = 3
"""How often a key that changes while it is read is looked at."""
RULES = Rules(all_versions=True, is_replay=True)
"""What is asked for is the copy of each version that a row names, and what is on top."""
REFUSED = (*REFUSALS, Unavailable)
_STATUSES = {True: Status.VERIFIED, False: Status.DIFFERENT, None: Status.UNKNOWN}
_SAME = {Status.VERIFIED: True, Status.DIFFERENT: False, Status.CHANGED: False}
"""What an outcome says of two versions. All others leave it unknown."""


class VerifyOptions(Struct, frozen=True):
    """`deep`: read and compare the bytes of both sides.

    `all_versions`: verify each version, not only the current one. `compares_tags`: a copy
    has all tags and annotations of its source, and may have more.
    """

    all_versions: bool = False
    deep: bool = False
    compares_tags: bool = False


@dataclass(eq=False)
class Verify:
    """The verify job of one worker (a `jobs.runs.worker.Job`)."""

    chains = staticmethod(keys_of)
    source: Store
    destination: Store
    route: Route
    options: VerifyOptions
    budget: ByteBudget

    def __post_init__(self) -> None:
        self.tags = TagReader(self.source)
        self.annotations = AnnotationPair(self.source, self.destination, self.budget)

    async def process(self, rows: Sequence[ObjectVersion], *, is_last: bool = False) -> list[Outcome]:
        """Return the outcomes of one key's rows, oldest version first.

        `is_last`: a version that cannot be read ends as failed. Raises Unavailable or Throttled where a
        retry may help.
        """
        for _ in range(LOOKS):
            key = _Key(self, rows, is_last=is_last)
            try:
                if self.options.all_versions:
                    return await verify_history(key)
                return [await verify_current(key, row) for row in rows]
            except CHANGED:
                continue  # the key is another one by now: judge that
            except REFUSED as error:
                return [key.refused(row, error) for row in rows]
        return [Outcome.of(row, Status.UNKNOWN, Reason.RACED) for row in rows]

    process_last = partialmethod(process, is_last=True)


class _Key:
    """The versions of one key, compared one with another, each pair at most once for a row."""

    def __init__(self, job: Verify, rows: Sequence[ObjectVersion], *, is_last: bool):
        self.job, self.rows, self.is_last = job, rows, is_last
        self.ours = Side(job.source, job.route.source_of(rows[0])._replace(version_id=None))
        self.theirs = Side(job.destination, job.route.target_of(rows[0]), is_current=not job.options.all_versions)
        self.ends: dict[tuple[int, Version, Version], Outcome] = {}

    def refused(self, row: ObjectVersion, error: StoreError) -> Outcome:
        """How a row ends that S3 refuses for good. Raises the error where another look, or a retry, may help."""
        end = refusal_end(error, is_last=self.is_last)
        if end.reason == Reason.ARCHIVED:
            which = "copy" if error.target.startswith(str(self.theirs.ref)) else "source"
            return Outcome.of(row, Status.UNKNOWN, Reason.ARCHIVED, which)
        return Outcome.of(row, *end)

    async def compare(self, row: ObjectVersion, version: Version, copy: Version) -> Outcome:
        """Compare a version, which a row names, with a copy of its history."""
        if (row.row, version, copy) not in self.ends:
            try:
                end = await self.judge(row, version, copy, await self.by_known(row, copy))
            except REFUSED as error:
                end = self.refused(row, error)
            self.ends[row.row, version, copy] = end
            version.compared = {**version.compared, copy: Verdict(_SAME.get(end.status))}
        return self.ends[row.row, version, copy]

    async def judge(self, row: ObjectVersion, version: Version, copy: Version, by_row: Outcome | None) -> Outcome:
        """How a row ends by the copy of its version. `by_row`: what `by_known` says of the two."""
        if by_row is not None and by_row.status is Status.VERIFIED:
            return by_row
        options, there = self.job.options, await self.theirs.describe(copy)
        try:
            source = await self.ours.describe(version)
        except Conflict:
            if by_row is not None:
                return by_row  # nothing excuses the copy
            if not is_exact(version.version_id):
                raise
            return Outcome.of(row, Status.CHANGED, Reason.SOURCE_GONE)
        ours, theirs = attested(source, "source", row.beside), attested(there, "destination", row.beside)
        version.info, copy.info = with_checksums(source, ours), with_checksums(there, theirs)
        is_read = options.deep or bool(row.repair.condemned_etag)
        if ours and theirs and not row.repair.condemned_etag:
            at_rest = compare(replace(source, checksums=ours), replace(there, checksums=theirs))
            is_read &= not (at_rest.same and at_rest.evidence is Evidence.CHECKSUM)
        verdict = await compare_versions(
            (self.ours, version), (self.theirs, copy), self.job.budget, must_read=is_read, may_read=is_read
        )
        if verdict.same and not is_read and (ours or theirs):
            used = ", ".join(side for side, found in (("source", ours), ("destination", theirs)) if found)
            verdict = verdict._replace(reason=Reason.CHECKSUMS_AT_REST, detail=used)
        if verdict.same is not False and by_row is not None and by_row.status is Status.DIFFERENT:
            # The copy is not what was proven: the source cannot be read, or has rotted to the same.
            return by_row._replace(etag=source.etag, source_modified=source.last_modified)
        if verdict.same and options.compares_tags and (lack := await self._lack(version, source, copy)):
            verdict = Verdict(False, Evidence.NONE, Reason.METADATA_DIFFERS, lack)
        return _judged(row, source, there, verdict)

    async def by_known(self, row: ObjectVersion, copy: Version) -> Outcome | None:
        """How a row ends by the copy's bytes and what an earlier run has proven. None: that proves nothing here.

        All has to agree. Other content can be made to have the same CRC, so a CRC does not outweigh an ETag
        that may be an MD5. The ETag of an object under KMS looks like one: then both sides are read.
        """
        options, checksum = self.job.options, row.repair.known_checksum
        if not (options.deep and checksum) or row.repair.condemned_etag or options.compares_tags:
            return None
        content = await self.theirs.content(copy)
        if row.size_bytes not in (None, content.info.size_bytes):
            return None
        try:
            verdict, md5 = await check_content(content, checksum, self.job.budget, has_md5=is_md5(row.etag))
        except REFUSED:
            return None
        is_weak = not protects(checksum.partition(":")[0], Protection.INTENT)
        if verdict.same and is_weak and is_md5(row.etag) and md5 != row.etag:
            return None
        return _judged(row, row, content.info, verdict._replace(evidence=Evidence.CONTENT, checksum=checksum))

    async def _lack(self, version: Version, source: ObjectInfo, copy: Version) -> str:
        """What the copy lacks: `tags`, `annotations`, or nothing. No ETag pins these, version ids do."""
        ours, theirs = self.ours.ref_of(version), self.theirs.ref_of(copy)
        tags = await self.job.tags.read_surely(ours, source.tag_count)
        if tags and not tags.items() <= (await self.theirs.tags(copy)).items():
            return "tags"
        return "" if await self.job.annotations.has_all(ours, theirs) else "annotations"


async def verify_current(key: _Key, row: ObjectVersion) -> Outcome:
    """Verify a row by what is current at the destination.

    It may name a version that was superseded since: then the destination may be the copy of a newer one.
    """
    if row.is_delete_marker:
        return Outcome.of(row, Status.UNKNOWN, Reason.IS_MARKER)
    first = by_row = None
    if key.job.options.deep and row.repair.known_checksum and (first := await key.theirs.find()):
        by_row = await key.by_known(row, first)
        if by_row is not None and by_row.status is Status.VERIFIED:
            return by_row
    # The source first: what is copied between the two looks is then seen to have changed.
    version, copy = await key.ours.find(row.version_id), await key.theirs.find()
    if version is None:  # nothing excuses a copy that is not what was proven
        return by_row if by_row and copy else Outcome.of(row, Status.CHANGED, Reason.SOURCE_GONE)
    if not is_named(row, await key.ours.describe(version)):
        return Outcome.of(row, Status.CHANGED, Reason.SOURCE_REPLACED)
    if copy is None:
        return Outcome.of(row, Status.MISSING, Reason.COPY_MISSING)
    try:
        end = await key.judge(row, version, copy, by_row if copy is first else await key.by_known(row, copy))
    except CHANGED:
        if await _has_changed(key, version):
            return Outcome.of(row, Status.CHANGED, Reason.SOURCE_CHANGED)
        raise
    except REFUSED as error:
        return key.refused(row, error)
    if end.status is Status.DIFFERENT and await _has_changed(key, version):
        return Outcome.of(row, Status.CHANGED, Reason.SOURCE_CHANGED)
    return end


async def _has_changed(key: _Key, seen: Version) -> bool:
    """True if the source is another object by now: the destination may be its copy."""
    now = await key.ours.find()
    ids = {each.version_id or NULL_VERSION for each in (now, seen) if each}  # some servers leave the id out
    return now is None or now.etag != seen.etag or (len(ids) > 1 and NULL_VERSION not in ids)


async def verify_history(key: _Key) -> list[Outcome]:
    """Verify each row by the copy that the alignment of both histories finds for its version.

    The source is listed unless the rows say all: then the copies are in their place. The first line that fits decides:

    | version                                                          | outcome                  |
    |------------------------------------------------------------------|--------------------------|
    | the source has it no more; has another of its id                 | changed                  |
    | a marker, newest: no object is on top of the copies              | verified                 |
    | a marker: there is one between the copies around it              | verified                 |
    | a marker, a newer version has a copy                             | left: marker_late        |
    | a marker                                                         | missing                  |
    | matched, newest, below a delete marker                           | missing: copy_hidden     |
    | matched, newest, below an object that differs                    | different: copy_covered  |
    | matched                                                          | as the two compare       |
    | unmatched, a free copy differs, and is its copy by ETag and such | different                |
    | unmatched, a comparison ended otherwise                          | as that one              |
    | unmatched, as many copies as versions, a free one in its place   | different                |
    | unmatched                                                        | missing                  |
    """
    copies = await key_history(key.theirs.store, *key.theirs.ref[:2])
    by_rows: Sequence[Outcome] = ()
    if is_in_order(key.rows) and all(row.size_bytes is not None or row.is_delete_marker for row in key.rows):
        by_rows = await _History(key, [*map(key.ours.named, key.rows)], copies).outcomes()
        if all(end.status is Status.VERIFIED for end in by_rows):
            return [*by_rows]
    source = await key_history(key.ours.store, *key.ours.ref[:2])
    ends = await _History(key, [*map(key.ours.version, source)], copies).outcomes()
    return [
        by_row if row.repair.known_checksum and end.reason is Reason.SOURCE_GONE else end
        for row, by_row, end in zip(key.rows, by_rows or ends, ends, strict=True)
    ]


class _History:
    def __init__(self, key: _Key, ours: Sequence[Version], copies: Sequence[Listed]):
        self.key, theirs = key, [*map(key.theirs.version, copies)]
        etags = {copy.etag for copy in theirs if copy.etag}  # none proves anything before it is compared
        self.look = Look(ours, theirs, places_of(key.rows, ours), skew_seconds=SKEW_SECONDS, agreed_etags=etags)
        self.rows = {version: row for version, row in zip(self.look.meant, key.rows, strict=True) if version}
        self.found: dict[Version, Version] = {}

    async def outcomes(self) -> list[Outcome]:
        while (step := next_step(self.look, RULES)).act is Act.ASK:
            pairs = dict(reversed(step.ask))  # one of each, the most important
            await gather_bounded(self._compare, [*pairs.items()], AT_ONCE)
        self.found = dict(step.match)
        self._match_top()
        return [await self._outcome(row, version) for row, version in zip(self.key.rows, self.look.meant, strict=True)]

    def _match_top(self) -> None:
        """What is on top is the newest version's copy if it is the same, and not an older one's as well."""
        other = next((version for version, copy in self.found.items() if copy is self.look.on_top), None)
        if other is None or (newest := self.look.source[-1]) is other or newest not in self.found:
            return
        if newest in self.rows and self.look.edge(newest, self.found[other]) is Edge.SAME:
            freed, self.found[newest] = self.found[newest], self.found.pop(other)
            if self.look.edge(other, freed):
                self.found[other] = freed

    async def _compare(self, pair: tuple[Version, Version]) -> None:
        """Compare what the alignment rests on. A version that no row names keeps what looks like its copy."""
        version, copy = pair
        if version in self.rows:
            await self.key.compare(self.rows[version], version, copy)
        else:
            version.compared = {**version.compared, copy: Verdict(True if is_likely(version, copy) else None)}

    async def _outcome(self, row: ObjectVersion, version: Version | None) -> Outcome:
        if version is None:
            return Outcome.of(row, Status.CHANGED, Reason.SOURCE_GONE)
        if row.etag not in (None, version.etag):
            return Outcome.of(row, Status.CHANGED, Reason.SOURCE_REPLACED)
        if version.is_marker:
            return self._marker(row, version)
        copy = self.found.get(version)
        return await (self._unmatched(row, version) if copy is None else self._matched(row, version, copy))

    async def _matched(self, row: ObjectVersion, version: Version, copy: Version) -> Outcome:
        top = self.look.copies[-1]
        if copy is top or version is not self.look.source[-1]:
            return await self.key.compare(row, version, copy)
        if top.is_marker:
            return Outcome.of(row, Status.MISSING, Reason.COPY_HIDDEN)
        on_top = await self.key.compare(row, version, top)
        if on_top.status is Status.DIFFERENT:
            return on_top._replace(reason=Reason.COPY_COVERED, detail="", evidence=Evidence.NONE, checksum=None)
        return on_top

    async def _unmatched(self, row: ObjectVersion, version: Version) -> Outcome:
        copies, taken = self.look.copies, {*self.found.values()}
        ends = {copy: end for copy in version.compared if (end := self.key.ends.get((row.row, version, copy)))}
        for copy, end in ends.items():
            if end.status is Status.DIFFERENT and copy not in taken and self._claims(end, version, copy):
                return end
        for end in ends.values():
            if end.status not in (Status.DIFFERENT, Status.VERIFIED):  # a copy that is the same is another version's
                return end
        in_place = copies[version.place] if len(self.look.source) == len(copies) else None
        if in_place is not None and in_place not in taken and not in_place.is_marker:
            end = await self.key.compare(row, version, in_place)
            if end.status is Status.DIFFERENT:
                return end
        return Outcome.of(row, Status.MISSING, Reason.COPY_MISSING)

    def _claims(self, end: Outcome, version: Version, copy: Version) -> bool:
        """True if the ETag, or what S3 stores of both, says that a copy that differs is the version's.

        Of another version's copy they do not say it: that one is not damaged.
        """
        if end.reason is Reason.METADATA_DIFFERS or (is_md5(version.etag) and version.etag == copy.etag):
            return True
        return version.info is not None and copy.info is not None and compare(version.info, copy.info).same is True

    def _marker(self, row: ObjectVersion, version: Version) -> Outcome:
        place, has_newer = around(version, self.found, self.look.copies)
        between = [copy for copy in place if copy.is_marker]
        if between or (version is self.look.source[-1] and self.look.on_top is None):
            version_id = between[-1].version_id if between else None
            return Outcome.of(row, Status.VERIFIED)._replace(destination_version_id=version_id)
        if has_newer:
            return Outcome.of(row, Status.LEFT, Reason.MARKER_LATE)
        return Outcome.of(row, Status.MISSING, Reason.COPY_MISSING)


def _judged(row: ObjectVersion, source: ObjectInfo | ObjectVersion, copy: ObjectInfo, verdict: Verdict) -> Outcome:
    """The outcome of a row by a comparison. `source`: what S3 shows, or the row itself where S3 was not asked."""
    status = Status.DAMAGED if verdict.is_source_damaged else _STATUSES[verdict.same]
    return Outcome.of(row, status, verdict.reason, verdict.detail)._replace(
        evidence=verdict.evidence if verdict.same is not None else Evidence.NONE,
        size_bytes=copy.size_bytes,
        etag=source.etag,
        destination_version_id=copy.version_id,
        destination_etag=copy.etag,
        checksum=verdict.checksum if verdict.same else None,
        source_modified=source.last_modified,
        copy_modified=copy.last_modified,
    )
