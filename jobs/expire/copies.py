"""The compare: is what is at a copy's place now the original of now, byte by byte?

The caller is about to delete the original. So nothing that the ledger or a listing says of the
copy's content counts. What cannot be read, or not in time, is unknown: never an error, never a wait
without end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import NamedTuple, cast

from jobs.archives.model import ArchiveRecord, Member
from jobs.archives.reader import ArchiveReader, MemberRead, content_checksums, is_large
from jobs.core.elapsed import elapsed_seconds
from jobs.core.enums import ArchiveFormat
from jobs.core.evidence import SIZE_DIFFERS, Protection, Verdict, compare
from jobs.core.model import Checksum, Location, ObjectInfo, ObjectRef
from jobs.core.outcome import Evidence
from jobs.errors import (
    ArchivedObject,
    Conflict,
    DamagedArchive,
    Denied,
    NotFound,
    PreconditionFailed,
    Redirected,
    Rejected,
    Unavailable,
)
from jobs.expire.rules import CopyAt
from jobs.s3.annotations.comparing import AnnotationComparison
from jobs.s3.annotations.lists import NOT_IMPLEMENTED
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.checksums import Hasher
from jobs.s3.compare_bytes import ContentSide, check_bytes, compare_content
from jobs.s3.fenced_store import NoAnswer, patient
from jobs.s3.lookup import find
from jobs.s3.retries import gather_bounded
from jobs.s3.store import Store
from jobs.s3.stored_checksums import ContentCheck
from jobs.s3.tag_reader import TagReader

COPIES_AT_ONCE = 64
ARCHIVES_AT_ONCE = 4
HASHED_BYTES = 256 * 1024
"""Larger contents are hashed beside the event loop."""
NO_TYPE = frozenset({"binary/octet-stream", "application/octet-stream"})
"""What servers add to an object that was written without a type."""

_UNREAD = (
    *(NotFound, PreconditionFailed, ArchivedObject, Denied, Redirected, Rejected, DamagedArchive),
    *(NoAnswer, Unavailable, Conflict),
)
"""With these a row is kept. Credentials that are not accepted end the run."""


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
    tries. `by_checksum`: what S3 keeps of both sides counts, and archived copies do.
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
            places.setdefault((at.bucket, at.key, at.etag) if at.member else number, []).append(number)

        async def compare_at(numbers: Sequence[int]) -> None:
            found = await self._compare_at([pairs[number] for number in numbers])
            proven.update(zip(numbers, found, strict=True))

        for is_archive, at_once in ((False, COPIES_AT_ONCE), (True, ARCHIVES_AT_ONCE)):
            chosen = [each for each in places.values() if (pairs[each[0]].copy.member is not None) is is_archive]
            await gather_bounded(compare_at, chosen, at_once)
        return [proven[number] for number in range(len(pairs))]

    async def find_changed(self, pairs: Sequence[Pair], proven: Sequence[Proven]) -> list[str]:
        """Return for each pair why its copy is no longer the object that was compared, else ""."""

        async def look(ref: ObjectRef) -> ObjectInfo | str | None:
            try:
                return await find(self._copies, ref)
            except _UNREAD as error:
                return str(error)

        places = list(dict.fromkeys(ObjectRef(pair.copy.bucket, pair.copy.key) for pair in pairs))
        found = dict(zip(places, await gather_bounded(look, places, COPIES_AT_ONCE), strict=True))
        reasons = []
        for pair, before in zip(pairs, proven, strict=True):
            now = found[ObjectRef(pair.copy.bucket, pair.copy.key)]
            reasons.append(now if isinstance(now, str) else self._changed(pair.copy, before.copy, now))
        return reasons

    def _changed(self, at: CopyAt, before: ObjectInfo | None, now: ObjectInfo | None) -> str:
        if (reason := refuse_copy(at, now, by_checksum=self.by_checksum)) or now is None:
            return reason
        is_same = before is not None and _identity(before) == _identity(now)
        return "" if is_same else f"{at.name} is another object now than the one that was compared"

    async def _compare_at(self, pairs: Sequence[Pair]) -> list[Proven]:
        """Compare originals with what is at one place: a copy, or their archive."""
        at, looked_at = pairs[0].copy, elapsed_seconds()
        try:
            copy = await find(self._copies, ObjectRef(at.bucket, at.key))
        except _UNREAD as error:
            return [Proven(_unread(at, error), None, looked_at)] * len(pairs)
        verdicts = {number: self._refute(pair, copy) for number, pair in enumerate(pairs)}
        left = [number for number, verdict in verdicts.items() if verdict is None]
        if copy is not None and left:
            compare_all = self._compare_members if at.member else self._compare_replicas
            found = await compare_all([pairs[number] for number in left], copy)
            verdicts.update(zip(left, found, strict=True))
        return [Proven(verdicts[each] or _unknown("not compared"), copy, looked_at) for each in range(len(pairs))]

    def _refute(self, pair: Pair, copy: ObjectInfo | None) -> Verdict | None:
        """The verdict that needs no bytes, if there is one."""
        ref, info, at = pair
        if not self.is_apart and (ref.bucket, ref.key) == (at.bucket, at.key):
            return _unknown("its copy is the original itself")
        if (reason := refuse_copy(at, copy, by_checksum=self.by_checksum)) or copy is None:
            return _unknown(reason)
        member = _member(at) if at.member else None
        if info.size_bytes != (copy.size_bytes if member is None else member.size_bytes):
            return Verdict(False, Evidence.NONE, SIZE_DIFFERS)
        carried = copy.attributes if member is None else member
        if dict(info.attributes.metadata) != dict(carried.metadata):
            return Verdict(False, Evidence.NONE, "its user metadata differs")
        if _headers(info.attributes.headers) != _headers(carried.headers):
            return Verdict(False, Evidence.NONE, "its content headers differ")
        return None

    async def _compare_replicas(self, pairs: Sequence[Pair], copy: ObjectInfo) -> list[Verdict]:
        return [await self._complete(pair, copy, await self._compare_replica(pair, copy)) for pair in pairs]

    async def _compare_replica(self, pair: Pair, copy: ObjectInfo) -> Verdict:
        ref, info, at = pair
        verdict, check = compare(info, copy, Protection.INTENT), ContentCheck(info)
        if verdict.same is False or self.by_checksum:
            return verdict
        theirs = ContentSide(self._copies, ObjectRef(at.bucket, at.key, copy.version_id), copy)
        try:
            if check.evidence is not Evidence.NONE:
                return _judge(await check_bytes(theirs, info, self.budget))
            if info.is_archived:
                return _unknown(f"the original must be restored before its bytes can be compared: {verdict.reason}")
            original = ContentSide(self._originals, ref, info)
            verdict, _ = await compare_content(original, theirs, self.budget, check)
        except _UNREAD as error:
            return _unread(at, error)
        if verdict.same and check.is_refuted:
            return Verdict(False, Evidence.CHECKSUM, "the original is damaged, and its copy has the same bytes")
        return verdict

    async def _compare_members(self, pairs: Sequence[Pair], archive: ObjectInfo) -> list[Verdict]:
        contents = self._indexed(pairs, archive) if archive.is_archived else await self._read(pairs, archive)

        async def judge(number: int) -> Verdict:
            pair, content = pairs[number], contents[number]
            if isinstance(content, Verdict):
                return content
            if not isinstance(content, Checksum):
                verdict, content = _judge(content.check), content.sha256
                if verdict.same is False or verdict.evidence is not Evidence.NONE:
                    return await self._complete(pair, archive, verdict)
            return await self._complete(pair, archive, await self._compare_original(pair, content))

        return await gather_bounded(judge, range(len(pairs)), COPIES_AT_ONCE)

    def _indexed(self, pairs: Sequence[Pair], archive: ObjectInfo) -> Sequence[Verdict | Checksum | _Content]:
        """The members' SHA-256 by the index, if S3 keeps of the archive what the index says of it."""
        if not _is_indexed(archive, pairs[0].copy.checksum):
            reason = "S3's checksums of its archive do not show that it is the indexed one: restore it and read it"
            return [_unknown(reason)] * len(pairs)
        members = [_member(pair.copy) for pair in pairs]
        unproven = _unknown("the index has no SHA-256 of it: restore its archive and read it")
        return [content_checksums(each)[0] if each.sha256 else unproven for each in members]

    async def _read(self, pairs: Sequence[Pair], archive: ObjectInfo) -> Sequence[Verdict | Checksum | _Content]:
        """Read members of one archive. When a request gets no answer, the rest is not tried."""
        reader = ArchiveReader(self._copies, _record(pairs[0].copy, archive), self.budget)
        members = [_member(pair.copy) for pair in pairs]
        numbers = {id(member): number for number, member in enumerate(members)}
        contents: dict[int, Verdict | _Content] = {}
        unread = _unknown("it is not in its archive")
        try:
            reads = reader.read([member for member in members if not is_large(member)])
            async with aclosing(cast("AsyncGenerator[list[MemberRead], None]", reads)) as batches:
                async for batch in batches:
                    for member, data, _, reason in batch:
                        number = numbers[id(member)]
                        contents[number] = _unknown(f"{pairs[number].copy.name} does not hold it whole: {reason}")
                        if data is not None:
                            contents[number] = content = _Content(pairs[number].info)
                            await content.update(data)
            for number, member in enumerate(members):
                if is_large(member):
                    contents[number] = await self._read_large(pairs[number], member, reader)
        except _UNREAD as error:
            unread = _unread(pairs[0].copy, error)
        return [contents.get(number, unread) for number in range(len(pairs))]

    async def _read_large(self, pair: Pair, member: Member, reader: ArchiveReader) -> Verdict | _Content:
        content = _Content(pair.info)
        try:
            async with aclosing(reader.stream(member)) as pieces:
                async for piece in pieces:
                    await content.update(piece)
        except DamagedArchive as error:
            return _unknown(str(error))
        return content

    async def _compare_original(self, pair: Pair, sha256: Checksum) -> Verdict:
        """Read the original: it must have the member's SHA-256, and all that S3 keeps of it."""
        ref, info, at = pair
        if info.is_archived:
            return _unknown("the original must be restored before its bytes can be compared")
        known = replace(info, checksums=(*info.checksums, sha256))
        try:
            check = await check_bytes(ContentSide(self._originals, ref, info), known, self.budget)
        except _UNREAD as error:
            return _unread(at, error)
        return _judge(check)._replace(evidence=Evidence.CONTENT)

    async def _complete(self, pair: Pair, copy: ObjectInfo, verdict: Verdict) -> Verdict:
        """The verdict, unless the copy lacks tags or annotations of the original."""
        ref, info, at = pair
        if not verdict.same:
            return verdict
        replica = ObjectRef(at.bucket, at.key, copy.version_id)
        try:
            if tags := await self._read_tags(ref, info):
                there = _member(at).tags if at.member else await self._copies.get_tags(replica)
                if not tags.items() <= there.items():
                    return Verdict(False, Evidence.NONE, "it lacks tags of the original")
            if self.ignores_annotations:
                return verdict
            lack = await self._annotations.find_lack(ref, None if at.member else replica)
        except _UNREAD as error:
            return _unknown(f"nobody knows whether it has the original's tags and annotations: {error}")
        return _unknown(lack) if lack else verdict

    async def _read_tags(self, ref: ObjectRef, info: ObjectInfo) -> Mapping[str, str]:
        """The original's tags. Only AWS is known to count them in each answer."""
        try:
            if self.source.heeds_conditions:
                return await self._tags.read(ref, info.tag_count)
            return await self._originals.get_tags(ref)
        except Rejected as error:
            if error.status != NOT_IMPLEMENTED or info.tag_count:
                raise
            return {}


class _Content:
    """Bytes that were read, against what S3 keeps of the original. Their SHA-256, if that is nothing
    strong.
    """

    def __init__(self, info: ObjectInfo):
        self.check, self._hasher = ContentCheck(info), Hasher("SHA256")

    @property
    def sha256(self) -> Checksum:
        return Checksum("SHA256", self._hasher.spelled().partition(":")[2])

    async def update(self, data: bytes) -> None:
        if len(data) < HASHED_BYTES:
            self._update(data)
        else:
            await asyncio.to_thread(self._update, data)

    def _update(self, data: bytes) -> None:
        self.check.update(data)
        if self.check.evidence is Evidence.NONE:
            self._hasher.update(data)


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


def _is_indexed(archive: ObjectInfo, known: str | None) -> bool:
    """True if S3 keeps of the archive the SHA-256 (of its parts) that its index has."""
    algorithm, _, value = (known or "").partition(":")
    return algorithm == "SHA256" and Checksum(algorithm, value, "-" in value) in archive.checksums


def _identity(info: ObjectInfo) -> tuple[object, ...]:
    carried = (dict(info.attributes.metadata), dict(info.attributes.headers), info.tag_count)
    return info.version_id, info.etag, info.last_modified, info.size_bytes, *carried


def _headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name != "content-type" or value not in NO_TYPE}


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


def _judge(check: ContentCheck) -> Verdict:
    if check.is_refuted:
        return Verdict(False, Evidence.CHECKSUM, "its bytes are not the original's, or not what S3 keeps of that")
    return Verdict(True, check.evidence)


def _unknown(reason: str) -> Verdict:
    return Verdict(None, Evidence.NONE, reason)


def _unread(at: CopyAt, error: Exception) -> Verdict:
    if isinstance(error, NotFound):
        return _unknown(f"{at.name} or the original cannot be read: its bytes are gone")
    if isinstance(error, PreconditionFailed):
        return _unknown(f"{at.name} or the original was replaced while it was read")
    return _unknown(f"{at.name} or the original cannot be read: {error}")
