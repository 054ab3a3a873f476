"""The compare: is what is at a copy's place now the original of now, byte by byte?

The caller is about to delete the original. So nothing that the ledger or a listing says of the
copy's content counts. What cannot be read, or not in time, is unknown: never an error, never a wait
without end.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import NamedTuple, cast

from jobs.archives.model import ArchiveRecord, Member
from jobs.archives.reader import ArchiveReader, MemberRead, content_checksums, is_large
from jobs.core.algorithms import Protection
from jobs.core.elapsed import elapsed_seconds
from jobs.core.enums import ArchiveFormat
from jobs.core.evidence import Verdict, compare, difference
from jobs.core.model import Checksum, Location, ObjectInfo, ObjectRef
from jobs.core.outcome import Evidence
from jobs.core.reasons import Reason
from jobs.errors import AuthenticationFailed, DamagedArchive, StoreError
from jobs.expire.rules import CopyAt
from jobs.s3.annotations.comparing import AnnotationComparison
from jobs.s3.annotations.lists import brief
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.compare_bytes import ContentSide, check_bytes, compare_content, update
from jobs.s3.fenced_store import patient
from jobs.s3.lookup import find
from jobs.s3.retries import gather_bounded
from jobs.s3.store import Store
from jobs.s3.stored_checksums import ContentCheck
from jobs.s3.tag_reader import TagReader

COPIES_AT_ONCE = 64
ARCHIVES_AT_ONCE = 4

Content = Verdict | Checksum | ContentCheck
"""What is known of a member: why nothing is, its SHA-256 by the index, or its bytes."""


class Pair(NamedTuple):
    """An original, with the version id that names it, as HEAD showed it, and where its copy is."""

    ref: ObjectRef
    info: ObjectInfo
    copy: CopyAt


class Proven(NamedTuple):
    """`copy`: what is current at the key of the copy, or of its archive. None: nothing, or unknown.

    `looked_at`: by `elapsed_seconds`, before that was asked.
    """

    verdict: Verdict
    copy: ObjectInfo | None
    looked_at: float


@dataclass(frozen=True, slots=True)
class Copies:
    """Compares copies with originals.

    `is_apart`: they are on different services. `patience_seconds`: for one request, with all its
    tries. `by_checksum`: no copy is read. What S3 keeps of it counts, also of archived ones.
    `ignores_annotations`: an original may have annotations that its copy lacks.
    """

    source: Store
    destination: Store
    budget: ByteBudget
    is_apart: bool = False
    patience_seconds: float = 60.0
    by_checksum: bool = False
    ignores_annotations: bool = False
    _originals: Store = field(init=False)
    _copies: Store = field(init=False)
    _annotations: AnnotationComparison = field(init=False)
    _tags: TagReader = field(init=False)

    def __post_init__(self) -> None:
        originals, copies = (patient(each, self.patience_seconds) for each in (self.source, self.destination))
        object.__setattr__(self, "_originals", originals)
        object.__setattr__(self, "_copies", copies)
        object.__setattr__(self, "_annotations", AnnotationComparison.between(originals, copies, self.budget))
        object.__setattr__(self, "_tags", TagReader(originals))

    async def compare(self, pairs: Sequence[Pair]) -> list[Proven]:
        """Compare bytes, metadata, headers, tags and annotations of each pair.

        What is current at the copy's key counts. Each read is pinned to its version and ETag.
        """
        proven: dict[int, Proven] = {}
        places: dict[object, list[int]] = {}
        for number, (_, _, at) in enumerate(pairs):
            place = (at.bucket, at.key, at.etag, at.checksum) if at.member else number
            places.setdefault(place, []).append(number)

        async def compare_at(numbers: Sequence[int]) -> None:
            found = await self._compare_at([pairs[number] for number in numbers])
            proven.update(zip(numbers, found, strict=True))

        for is_archive, at_once in ((False, COPIES_AT_ONCE), (True, ARCHIVES_AT_ONCE)):
            chosen = [each for each in places.values() if (pairs[each[0]].copy.member is not None) is is_archive]
            await gather_bounded(compare_at, chosen, at_once)
        return [proven[number] for number in range(len(pairs))]

    async def find_changed(self, pairs: Sequence[Pair], proven: Sequence[Proven]) -> list[str]:
        """Return for each pair why its copy is no longer the object that was compared, else ""."""
        at = {ObjectRef(pair.copy.bucket, pair.copy.key): pair.copy for pair in pairs}

        async def look(ref: ObjectRef) -> ObjectInfo | str | None:
            try:
                return await find(self._copies, ref)
            except (StoreError, DamagedArchive) as error:
                return _unread(at[ref], error).reason

        found = dict(zip(at, await gather_bounded(look, at, COPIES_AT_ONCE), strict=True))
        reasons = []
        for pair, before in zip(pairs, proven, strict=True):
            now = found[ObjectRef(pair.copy.bucket, pair.copy.key)]
            reason = now if isinstance(now, str) else refuse_copy(pair.copy, now, by_checksum=self.by_checksum)
            is_same = before.copy and isinstance(now, ObjectInfo) and _identity(before.copy) == _identity(now)
            if not reason and not is_same:
                reason = f"{pair.copy.name} is another object now than the one that was compared"
            reasons.append(reason)
        return reasons

    async def _compare_at(self, pairs: Sequence[Pair]) -> list[Proven]:
        """Compare originals with what is at one place: a copy, or their archive."""
        at, looked_at = pairs[0].copy, elapsed_seconds()
        try:
            copy = await find(self._copies, ObjectRef(at.bucket, at.key))
        except (StoreError, DamagedArchive) as error:
            return [Proven(_unread(at, error), None, looked_at)] * len(pairs)
        verdicts = {number: self._refute(pair, copy) for number, pair in enumerate(pairs)}
        left = [number for number, verdict in verdicts.items() if verdict is None]
        if copy is not None and left:
            compare_all = self._compare_members if at.member else self._compare_replica
            verdicts.update(zip(left, await compare_all([pairs[number] for number in left], copy), strict=True))

        async def complete(number: int) -> Proven:
            verdict = verdicts[number] or _unknown("not compared")
            if verdict.same and copy is not None and (lack := await self._find_lack(pairs[number], copy)):
                verdict = lack
            return Proven(verdict, copy, looked_at)

        return await gather_bounded(complete, range(len(pairs)), COPIES_AT_ONCE)

    def _refute(self, pair: Pair, copy: ObjectInfo | None) -> Verdict | None:
        """The verdict that needs no bytes, if there is one."""
        ref, info, at = pair
        if not self.is_apart and (ref.bucket, ref.key) == (at.bucket, at.key):
            return _unknown("its copy is the original itself")
        if (reason := refuse_copy(at, copy, by_checksum=self.by_checksum)) or copy is None:
            return _unknown(reason)
        member = _member(at) if at.member else None
        if info.size_bytes != (copy.size_bytes if member is None else member.size_bytes):
            return Verdict(False, Evidence.NONE, Reason.SIZE_DIFFERS)
        differing = difference(info.attributes, copy.attributes if member is None else member)
        return Verdict(False, Evidence.NONE, Reason.METADATA_DIFFERS, differing) if differing else None

    async def _compare_replica(self, pairs: Sequence[Pair], copy: ObjectInfo) -> list[Verdict]:
        ((ref, info, at),) = pairs
        verdict, check = compare(info, copy, Protection.INTENT), ContentCheck(info)
        if verdict.same is False or self.by_checksum:
            return [verdict]
        theirs = ContentSide(self._copies, ObjectRef(at.bucket, at.key, copy.version_id), copy)
        try:
            if check.evidence is not Evidence.NONE:
                return [_judge(await check_bytes(theirs, info, self.budget))]
            if info.is_archived:
                return [_unknown(_ORIGINAL_ARCHIVED)]
            original = ContentSide(self._originals, ref, info)
            verdict, _ = await compare_content(original, theirs, self.budget, check)
        except (StoreError, DamagedArchive) as error:
            return [_unread(at, error)]
        return [_judge(check, verdict.evidence) if verdict.same else verdict]

    async def _compare_members(self, pairs: Sequence[Pair], archive: ObjectInfo) -> list[Verdict]:
        contents = _indexed(pairs, archive) if self.by_checksum else await self._read(pairs, archive)

        async def judge(number: int) -> Verdict:
            content = contents[number]
            if isinstance(content, Verdict):
                return content
            if isinstance(content, Checksum):
                return await self._compare_original(pairs[number], content, Evidence.CHECKSUM)
            if content.is_refuted or content.evidence is not Evidence.NONE:
                return _judge(content)
            return await self._compare_original(pairs[number], content.checksum("SHA256"), Evidence.CONTENT)

        return await gather_bounded(judge, range(len(pairs)), COPIES_AT_ONCE)

    async def _read(self, pairs: Sequence[Pair], archive: ObjectInfo) -> Sequence[Content]:
        """Read members of one archive. When a request gets no answer, the rest is not tried."""
        at, members = pairs[0].copy, [_member(pair.copy) for pair in pairs]
        reader = ArchiveReader(self._copies, _record(at, archive), self.budget)
        numbers = {id(member): number for number, member in enumerate(members)}
        contents: dict[int, Verdict | ContentCheck] = {}
        unread = _unknown(f"{at.name} does not hold it")
        try:
            reads = reader.read([member for member in members if not is_large(member)])
            async with aclosing(cast("AsyncGenerator[list[MemberRead], None]", reads)) as batches:
                async for member, data, _, reason in (read async for batch in batches for read in batch):
                    contents[numbers[id(member)]] = _unknown(f"{at.name} does not hold it whole: {reason}")
                    if data is not None:
                        contents[numbers[id(member)]] = check = _check(pairs[numbers[id(member)]].info)
                        await update(check, data)
            for number, member in enumerate(members):
                if is_large(member):
                    contents[number] = await _read_large(pairs[number], member, reader)
        except (StoreError, DamagedArchive) as error:
            unread = _unread(at, error)
        return [contents.get(number, unread) for number in range(len(pairs))]

    async def _compare_original(self, pair: Pair, sha256: Checksum, evidence: Evidence) -> Verdict:
        """Read the original: it must have the member's SHA-256, and all that S3 keeps of it."""
        ref, info, at = pair
        if info.is_archived:
            return _unknown(_ORIGINAL_ARCHIVED)
        known = replace(info, checksums=(*info.checksums, sha256))
        try:
            check = await check_bytes(ContentSide(self._originals, ref, info), known, self.budget)
        except (StoreError, DamagedArchive) as error:
            return _unread(at, error)
        return _judge(check, evidence)

    async def _find_lack(self, pair: Pair, copy: ObjectInfo) -> Verdict | None:
        """Why the copy lacks tags or annotations of the original, or nobody knows. None: it has all."""
        ref, info, at = pair
        replica = ObjectRef(at.bucket, at.key, copy.version_id)
        try:
            if tags := await self._tags.read_surely(ref, info.tag_count):
                there = _member(at).tags if at.member else await self._copies.get_tags(replica)
                if not tags.items() <= there.items():
                    return Verdict(False, Evidence.NONE, "it lacks tags of the original")
            if self.ignores_annotations:
                return None
            lack = await self._annotations.find_lack(ref, None if at.member else replica)
        except (StoreError, DamagedArchive) as error:
            return _unread(at, error)
        return _unknown(lack) if lack else None


def refuse_copy(at: CopyAt, copy: ObjectInfo | None, *, by_checksum: bool = False) -> str:
    """Return why what is current at a copy's key, or at its archive's, does not count. Pure.

    | at the key                                       | refused             |
    |--------------------------------------------------|---------------------|
    | nothing, or a delete marker                      | yes                 |
    | an archive of another ETag than the indexed one  | yes                 |
    | an object that a lifecycle rule will remove      | yes                 |
    | an archived object that is not restored          | but for by_checksum |
    | any other                                        | no                  |
    """
    if copy is None:
        return f"{at.name} is gone, or hidden by a delete marker"
    if at.member is not None and copy.etag != at.etag:
        return f"{at.name} is another object than the indexed one"
    if copy.expiration is not None:
        return f"a lifecycle rule will remove {at.name}"
    if copy.is_archived and not by_checksum:
        return f"{at.name} must be restored before its bytes can be compared: --by-checksum may do without"
    return ""


def _identity(info: ObjectInfo) -> tuple[object, ...]:
    carried = (dict(info.attributes.metadata), dict(info.attributes.headers), info.tag_count)
    return info.version_id, info.etag, info.last_modified, info.size_bytes, *carried


def _member(at: CopyAt) -> Member:
    known = dict(at.member or {})
    checksums = tuple(Checksum(*each) for each in known.pop("checksums", ()))
    return Member("", None, True, 0, None, 0.0, "", {}, {}, {})._replace(**known, checksums=checksums)


def _record(at: CopyAt, archive: ObjectInfo) -> ArchiveRecord:
    """What a reader needs of an archive: its place, and what pins it."""
    place, kind, created_at = Location(at.bucket, at.key), ArchiveFormat.TAR, archive.last_modified
    return ArchiveRecord(
        place, kind, archive.size_bytes, archive.etag, archive.version_id, "", 0, 0, "", "", "", created_at
    )


def _indexed(pairs: Sequence[Pair], archive: ObjectInfo) -> Sequence[Content]:
    """The members' SHA-256 by the index, if S3 keeps of the archive the SHA-256 that its index has."""
    algorithm, _, value = (pairs[0].copy.checksum or "").partition(":")
    if algorithm != "SHA256" or Checksum(algorithm, value, "-" in value) not in archive.checksums:
        return [_unknown("S3 keeps no SHA-256 of its archive that its index has: restore it and read it")] * len(pairs)
    unproven = _unknown("the index has no SHA-256 of it: restore its archive and read it")
    members = [_member(pair.copy) for pair in pairs]
    return [content_checksums(each)[0] if each.sha256 else unproven for each in members]


async def _read_large(pair: Pair, member: Member, reader: ArchiveReader) -> Verdict | ContentCheck:
    check = _check(pair.info)
    try:
        async with aclosing(reader.stream(member)) as pieces:
            async for piece in pieces:
                await update(check, piece)
    except DamagedArchive as error:
        return _unread(pair.copy, error)
    return check


def _check(info: ObjectInfo) -> ContentCheck:
    """Without anything strong of the original, its bytes are read and hashed as well."""
    check = ContentCheck(info)
    return ContentCheck(info, "SHA256") if check.evidence is Evidence.NONE else check


def _judge(check: ContentCheck, evidence: Evidence | None = None) -> Verdict:
    if check.is_refuted:
        return Verdict(False, Evidence.CHECKSUM, "its bytes are not the original's, or not those that S3 keeps of it")
    return Verdict(True, evidence or check.evidence)


def _unknown(reason: str) -> Verdict:
    return Verdict(None, Evidence.NONE, reason)


def _unread(at: CopyAt, error: StoreError | DamagedArchive) -> Verdict:
    """The verdict where one side cannot be read. Credentials that are not accepted end the run."""
    if isinstance(error, AuthenticationFailed):
        raise error
    why = brief(error) if isinstance(error, StoreError) else str(error)
    return _unknown(f"{at.name} or the original cannot be read: {why}")


_ORIGINAL_ARCHIVED = "the original must be restored before its bytes can be compared"
