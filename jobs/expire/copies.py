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
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.compare_bytes import ContentSide, check_bytes, update
from jobs.s3.fenced_store import patient
from jobs.s3.lookup import find
from jobs.s3.retries import gather_bounded
from jobs.s3.store import Store
from jobs.s3.stored_checksums import ContentCheck
from jobs.s3.tag_reader import TagReader

COPIES_AT_ONCE = 64
ARCHIVES_AT_ONCE = 4

Content = Verdict | Checksum | ContentCheck
"""What is known of a copy's bytes: why nothing is, their SHA-256 by the index, or what was read."""


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

    async def find_changed(self, pairs: Sequence[Pair], proven: Sequence[Proven]) -> list[Verdict | None]:
        """Return for each pair why its copy is no longer the object that was compared, else None."""
        at = {ObjectRef(pair.copy.bucket, pair.copy.key): pair.copy for pair in pairs}
        found = dict(zip(at, await gather_bounded(self._look, at.values(), COPIES_AT_ONCE), strict=True))
        changed = []
        for pair, before in zip(pairs, proven, strict=True):
            now = found[ObjectRef(pair.copy.bucket, pair.copy.key)]
            refused = now if isinstance(now, Verdict) else self._refuse(pair.copy, now)
            is_same = before.copy and isinstance(now, ObjectInfo) and _identity(before.copy) == _identity(now)
            changed.append(refused or (None if is_same else _unknown(Reason.SOURCE_CHANGED, "copy")))
        return changed

    async def _look(self, at: CopyAt) -> ObjectInfo | Verdict | None:
        """What is current at the key of a copy, or of its archive."""
        try:
            return await find(self._copies, ObjectRef(at.bucket, at.key))
        except (StoreError, DamagedArchive) as error:
            return _unread(error)

    def _refuse(self, at: CopyAt, copy: ObjectInfo | None) -> Verdict | None:
        reason = refuse_copy(at, copy, by_checksum=self.by_checksum)
        own = {Reason.REFUSED: "expires", Reason.ARCHIVED: "copy"}.get(reason, "") if reason else ""
        named = at.place if at.member and own != "expires" else own
        return _unknown(reason, named) if reason else None

    async def _compare_at(self, pairs: Sequence[Pair]) -> list[Proven]:
        """Compare originals with what is at one place: a copy, or their archive."""
        looked_at, copy = elapsed_seconds(), await self._look(pairs[0].copy)
        if isinstance(copy, Verdict):
            return [Proven(copy, None, looked_at)] * len(pairs)
        contents: dict[int, Content] = {}
        for number, pair in enumerate(pairs):
            if (verdict := self._refute(pair, copy)) is not None:
                contents[number] = verdict
        left = [number for number in range(len(pairs)) if number not in contents]
        if copy is not None and left:
            read = self._read_members if pairs[0].copy.member else self._read_replica
            contents.update(zip(left, await read([pairs[number] for number in left], copy), strict=True))

        async def judge(number: int) -> Proven:
            pair, content = pairs[number], contents[number]
            try:
                verdict = content if isinstance(content, Verdict) else await self._judge(pair, content)
                if verdict.same and copy is not None:
                    verdict = await self._find_lack(pair, copy) or verdict
            except (StoreError, DamagedArchive) as error:
                verdict = _unread(error)
            return Proven(verdict, copy, looked_at)

        return await gather_bounded(judge, range(len(pairs)), COPIES_AT_ONCE)

    def _refute(self, pair: Pair, copy: ObjectInfo | None) -> Verdict | None:
        """The verdict that needs no bytes, if there is one."""
        ref, info, at = pair
        if not self.is_apart and (ref.bucket, ref.key) == (at.bucket, at.key):
            return _unknown(Reason.REFUSED, "itself")
        if (refused := self._refuse(at, copy)) or copy is None:
            return refused or _unknown(Reason.COPY_MISSING)
        if info.size_bytes != (at.member.size_bytes if at.member else copy.size_bytes):
            return Verdict(False, Evidence.NONE, Reason.SIZE_DIFFERS)
        differing = difference(info.attributes, at.member or copy.attributes)
        return Verdict(False, Evidence.NONE, Reason.METADATA_DIFFERS, differing) if differing else None

    async def _read_replica(self, pairs: Sequence[Pair], copy: ObjectInfo) -> list[Content]:
        ((_, info, at),) = pairs
        verdict = compare(info, copy, Protection.INTENT)
        if verdict.same is False or self.by_checksum:
            return [verdict]
        theirs = ContentSide(self._copies, ObjectRef(at.bucket, at.key, copy.version_id), copy)
        try:
            return [await check_bytes(theirs, info, self.budget, _hashed(info))]
        except (StoreError, DamagedArchive) as error:
            return [_unread(error)]

    async def _read_members(self, pairs: Sequence[Pair], archive: ObjectInfo) -> list[Content]:
        """Read members of one archive. When a request gets no answer, the rest is not tried."""
        if self.by_checksum:
            return [_indexed(pair, archive) for pair in pairs]
        at = pairs[0].copy
        record = ArchiveRecord(
            Location(at.bucket, at.key), ArchiveFormat.TAR, archive.size_bytes, archive.etag, archive.version_id,
            "", 0, 0, "", "", "", archive.last_modified,
        )  # fmt: skip
        reader = ArchiveReader(self._copies, record, self.budget)
        members = [cast("Member", pair.copy.member) for pair in pairs]
        numbers = {id(member): number for number, member in enumerate(members)}
        contents: dict[int, Content] = {}
        unread = _unknown(Reason.ARCHIVE_DAMAGED, at.place)
        try:
            reads = reader.read([member for member in members if not is_large(member)])
            async with aclosing(cast("AsyncGenerator[list[MemberRead], None]", reads)) as batches:
                async for member, data, _, reason in (read async for batch in batches for read in batch):
                    info = pairs[numbers[id(member)]].info
                    contents[numbers[id(member)]] = check = ContentCheck(info, _hashed(info))
                    if data is None:
                        contents[numbers[id(member)]] = _unknown(*(reason or (Reason.ARCHIVE_DAMAGED,)))
                    else:
                        await update(check, data)
            for number, member in enumerate(members):
                if is_large(member):
                    contents[number] = await _read_large(pairs[number], member, reader)
        except (StoreError, DamagedArchive) as error:
            unread = _unread(error)
        return [contents.get(number, unread) for number in range(len(pairs))]

    async def _judge(self, pair: Pair, content: Checksum | ContentCheck) -> Verdict:
        """Whether content is the original's: by what S3 keeps of it, else by its bytes, read now."""
        ref, info, _ = pair
        differs = Verdict(False, Evidence.CHECKSUM, Reason.CONTENT_DIFFERS)
        if isinstance(content, ContentCheck):
            if content.is_refuted or content.evidence is not Evidence.NONE:
                return differs if content.is_refuted else Verdict(True, content.evidence)
            sha256, evidence = content.checksum("SHA256"), Evidence.CONTENT
        else:
            sha256, evidence = content, Evidence.CHECKSUM
        if info.is_archived:
            return _unknown(Reason.ARCHIVED, "source")
        known = replace(info, checksums=(*info.checksums, sha256))
        check = await check_bytes(ContentSide(self._originals, ref, info), known, self.budget)
        return differs if check.is_refuted else Verdict(True, evidence)

    async def _find_lack(self, pair: Pair, copy: ObjectInfo) -> Verdict | None:
        """Why the copy lacks tags or annotations of the original, or nobody knows. None: it has all."""
        ref, info, at = pair
        replica = ObjectRef(at.bucket, at.key, copy.version_id)
        if tags := await self._tags.read_surely(ref, info.tag_count):
            there = at.member.tags if at.member else await self._copies.get_tags(replica)
            if not tags.items() <= there.items():
                return Verdict(False, Evidence.NONE, Reason.METADATA_DIFFERS, "tags")
        if self.ignores_annotations:
            return None
        lack = await self._annotations.find_lack(ref, None if at.member else replica)
        return _unknown(Reason.METADATA_DIFFERS, "annotations") if lack else None


def refuse_copy(at: CopyAt, copy: ObjectInfo | None, *, by_checksum: bool = False) -> Reason | None:
    """Return why what is current at a copy's key, or at its archive's, does not count. Pure.

    | at the key                                       | refused                       |
    |--------------------------------------------------|-------------------------------|
    | nothing, or a delete marker                      | copy_missing                  |
    | an archive of another ETag than the indexed one  | archive_damaged               |
    | an object that a lifecycle rule will remove      | refused (expires)            |
    | an archived object that is not restored          | archived, but for by_checksum |
    | any other                                        | no                            |
    """
    if copy is None:
        return Reason.COPY_MISSING
    if at.member is not None and copy.etag != at.etag:
        return Reason.ARCHIVE_DAMAGED
    if copy.expiration is not None:
        return Reason.REFUSED
    return Reason.ARCHIVED if copy.is_archived and not by_checksum else None


def _identity(info: ObjectInfo) -> tuple[object, ...]:
    carried = (dict(info.attributes.metadata), dict(info.attributes.headers), info.tag_count)
    return info.version_id, info.etag, info.last_modified, info.size_bytes, *carried


def _indexed(pair: Pair, archive: ObjectInfo) -> Content:
    """The member's SHA-256 by the index, if S3 keeps of the archive the SHA-256 that its index has."""
    algorithm, _, value = (pair.copy.checksum or "").partition(":")
    if algorithm != "SHA256" or Checksum(algorithm, value, "-" in value) not in archive.checksums:
        return _unknown(Reason.NOTHING_COMPARABLE, "SHA-256 of the archive")
    if pair.copy.member is None or pair.copy.member.sha256 is None:
        return _unknown(Reason.NOTHING_COMPARABLE, "SHA-256 of the member")
    return content_checksums(pair.copy.member)[0]


async def _read_large(pair: Pair, member: Member, reader: ArchiveReader) -> Content:
    check = ContentCheck(pair.info, _hashed(pair.info))
    try:
        async with aclosing(reader.stream(member)) as pieces:
            async for piece in pieces:
                await update(check, piece)
    except DamagedArchive as error:
        return _unread(error)
    return check


def _hashed(info: ObjectInfo) -> str | None:
    """Without anything strong of the original, its bytes are read and hashed as well."""
    return "SHA256" if ContentCheck(info).evidence is Evidence.NONE else None


def _unknown(reason: Reason, detail: str = "") -> Verdict:
    return Verdict(None, Evidence.NONE, reason, detail)


def _unread(error: StoreError | DamagedArchive) -> Verdict:
    """The verdict where one side cannot be read. Credentials that are not accepted end the run."""
    if isinstance(error, AuthenticationFailed):
        raise error
    if isinstance(error, DamagedArchive):
        return _unknown(Reason.ARCHIVE_DAMAGED, str(error))
    return _unknown(Reason.REFUSED, f"{error.operation}: {error.code}")
