"""The compare: is what is at a copy's place now the original of now, byte by byte?

The caller is about to delete the original. So nothing that the ledger or a listing says of the
copy's content counts. What cannot be read, or not in time, is unknown: never an error, never a wait
without end.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, cast

from jobs.archives.model import ArchiveRecord
from jobs.archives.reader import ArchiveReader, MemberRead, content_checksums, is_large
from jobs.core.algorithms import Protection
from jobs.core.elapsed import elapsed_seconds
from jobs.core.enums import ArchiveFormat
from jobs.core.evidence import Verdict, compare, difference
from jobs.core.model import Checksum, Location, ObjectInfo, ObjectRef
from jobs.core.outcome import Evidence
from jobs.core.reasons import Cause, Reason
from jobs.errors import AuthenticationFailed, DamagedArchive, StoreError
from jobs.expire.rules import CopyAt, Original, Proven
from jobs.s3.annotations.comparing import AnnotationComparison
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.compare_bytes import ContentSide, check_bytes, update
from jobs.s3.gated_store import patient
from jobs.s3.lookup import find
from jobs.s3.retries import gather_bounded
from jobs.s3.store import Store
from jobs.s3.stored_checksums import ContentCheck
from jobs.s3.tag_reader import TagReader

COPIES_AT_ONCE = 64
ARCHIVES_AT_ONCE = 4

Content = Verdict | Checksum | ContentCheck
"""What is known of a copy's bytes: why nothing is, their SHA-256 by the index, or what was read."""
Read = tuple[Original, Content]


class Copies:
    """Compares copies with originals.

    `is_apart`: they are on different services. `patience_seconds`: for one request, with all its
    tries. `by_checksum`: no copy is read. What S3 keeps of it counts, also of archived ones.
    `ignores_annotations`: an original may have annotations that its copy lacks.
    """

    def __init__(
        self,
        source: Store,
        destination: Store,
        budget: ByteBudget,
        is_apart: bool = False,
        patience_seconds: float = 60.0,
        by_checksum: bool = False,
        ignores_annotations: bool = False,
    ):
        self._originals, self._copies = (patient(each, patience_seconds) for each in (source, destination))
        self._budget, self._is_apart, self._by_checksum = budget, is_apart, by_checksum
        self._annotations = AnnotationComparison.between(self._originals, self._copies, budget)
        self._ignores_annotations, self._tags = ignores_annotations, TagReader(self._originals)

    async def compare(self, originals: Sequence[Original]) -> dict[int, Proven]:
        """Compare bytes, metadata, headers, tags and annotations of each with its copy → by row.

        What is current at the copy's key counts. Each read is pinned to its version and ETag.
        """
        replicas = [[each] for each in originals if each.copy.member is None]
        archives: dict[tuple[Any, ...], list[Original]] = {}
        for each in originals:
            if (at := each.copy).member is not None:
                archives.setdefault((at.bucket, at.key, at.etag, at.checksum), []).append(each)
        proven: dict[int, Proven] = {}
        for groups, at_once in ((replicas, COPIES_AT_ONCE), (archives.values(), ARCHIVES_AT_ONCE)):
            for found in await gather_bounded(self._compare_at, groups, at_once):
                proven |= found
        return proven

    async def find_changed(self, compared: Sequence[tuple[Original, Proven]]) -> list[Cause | None]:
        """Return for each original why its copy is no longer the object that was compared, else None."""
        at = {(each.copy.bucket, each.copy.key): each.copy for each, _ in compared}
        found = dict(zip(at, await gather_bounded(self._look, at.values(), COPIES_AT_ONCE), strict=True))
        changed: list[Cause | None] = []
        for each, before in compared:
            now = found[each.copy.bucket, each.copy.key]
            cause = now if isinstance(now, Cause) else refuse_copy(each.copy, now, by_checksum=self._by_checksum)
            is_same = before.copy and isinstance(now, ObjectInfo) and _identity(before.copy) == _identity(now)
            changed.append(cause or (None if is_same else Cause(Reason.SOURCE_CHANGED, "copy")))
        return changed

    async def _look(self, at: CopyAt) -> ObjectInfo | Cause | None:
        """What is current at the key of a copy, or of its archive."""
        try:
            return await find(self._copies, ObjectRef(at.bucket, at.key))
        except (StoreError, DamagedArchive) as error:
            return _cause(error)

    async def _compare_at(self, originals: Sequence[Original]) -> dict[int, Proven]:
        """Compare originals with what is at one place: a copy, or their archive."""
        looked_at, found = elapsed_seconds(), await self._look(originals[0].copy)
        copy = None if isinstance(found, Cause) else found
        contents: dict[int, Content] = {}
        for each in originals:
            if refuted := _unknown(found) if isinstance(found, Cause) else self._refute(each, copy):
                contents[each.row.row] = refuted
        left = [each for each in originals if each.row.row not in contents]
        if copy is not None and left:
            try:
                async for each, content in self._read(left, copy):
                    contents[each.row.row] = content
            except (StoreError, DamagedArchive) as error:  # of an archive: the rest is not tried
                contents |= {each.row.row: _unknown(_cause(error)) for each in left if each.row.row not in contents}

        async def judge(original: Original) -> Proven:
            try:
                verdict = await self._judge(original, contents[original.row.row])
                if verdict.same and copy is not None:
                    verdict = await self._find_lack(original, copy) or verdict
            except (StoreError, DamagedArchive) as error:
                verdict = _unknown(_cause(error))
            return Proven(verdict, copy, looked_at)

        judged = await gather_bounded(judge, originals, COPIES_AT_ONCE)
        return {each.row.row: proven for each, proven in zip(originals, judged, strict=True)}

    def _refute(self, original: Original, copy: ObjectInfo | None) -> Verdict | None:
        """The verdict that needs no bytes, if there is one."""
        at, ref, info = original.copy, original.ref, original.info
        if not self._is_apart and (ref.bucket, ref.key) == (at.bucket, at.key):
            return _unknown(Cause(Reason.KEPT, "itself"))
        if (cause := refuse_copy(at, copy, by_checksum=self._by_checksum)) or copy is None:
            return _unknown(cause or Cause(Reason.COPY_MISSING))
        if info.size_bytes != (at.member or copy).size_bytes:
            return Verdict(False, Evidence.NONE, Reason.SIZE_DIFFERS)
        differing = difference(info.attributes, at.member or copy.attributes)
        return Verdict(False, Evidence.NONE, Reason.METADATA_DIFFERS, differing) if differing else None

    async def _read(
        self, originals: Sequence[Original], copy: ObjectInfo
    ) -> AsyncGenerator[tuple[Original, Content], None]:
        """What is at one place: a replica, or the members of an archive."""
        at = originals[0].copy
        if self._by_checksum or at.member is None:
            for each in originals:
                yield each, _indexed(each.copy, copy) if at.member else await self._read_replica(each, copy)
            return
        record = ArchiveRecord(
            Location(at.bucket, at.key), ArchiveFormat.TAR, copy.size_bytes, copy.etag, copy.version_id,
            "", 0, 0, "", "", "", copy.last_modified,
        )  # fmt: skip
        reader = ArchiveReader(self._copies, record, self._budget)
        of_member = {id(each.copy.member): each for each in originals}
        members = [member for each in originals if (member := each.copy.member)]
        small = reader.read([member for member in members if not is_large(member)])
        async with aclosing(cast("AsyncGenerator[list[MemberRead], None]", small)) as batches:
            async for member, data, _, cause in (read async for batch in batches for read in batch):
                original = of_member[id(member)]
                content = _unknown(cause or Cause(Reason.ARCHIVE_DAMAGED))
                yield original, content if data is None else await _hash(original.info, _once(data))
        for member in filter(is_large, members):
            original = of_member[id(member)]
            try:
                yield original, await _hash(original.info, reader.stream(member))
            except DamagedArchive as error:
                yield original, _unknown(_cause(error))

    async def _read_replica(self, original: Original, copy: ObjectInfo) -> Content:
        verdict, info = compare(original.info, copy, Protection.INTENT), original.info
        if verdict.same is False or self._by_checksum:
            return verdict
        theirs = ContentSide(self._copies, ObjectRef(original.copy.bucket, original.copy.key, copy.version_id), copy)
        return await check_bytes(theirs, info, self._budget, _hashed(info))

    async def _judge(self, original: Original, content: Content) -> Verdict:
        """Whether content is the original's: by what S3 keeps of it, else by its bytes, read now."""
        info, differs = original.info, Verdict(False, Evidence.CHECKSUM, Reason.CONTENT_DIFFERS)
        if isinstance(content, Verdict):
            return content
        if isinstance(content, ContentCheck):
            if content.is_refuted or content.evidence is not Evidence.NONE:
                return differs if content.is_refuted else Verdict(True, content.evidence)
            sha256, evidence = content.checksum("SHA256"), Evidence.CONTENT
        else:
            sha256, evidence = content, Evidence.CHECKSUM
        if info.is_archived:
            return _unknown(Cause(Reason.ARCHIVED, "source"))
        known = replace(info, checksums=(*info.checksums, sha256))
        check = await check_bytes(ContentSide(self._originals, original.ref, info), known, self._budget)
        return differs if check.is_refuted else Verdict(True, evidence)

    async def _find_lack(self, original: Original, copy: ObjectInfo) -> Verdict | None:
        """Why the copy lacks tags or annotations of the original, or nobody knows. None: it has all."""
        at, ref = original.copy, original.ref
        replica = ObjectRef(at.bucket, at.key, copy.version_id)
        if tags := await self._tags.read_surely(ref, original.info.tag_count):
            there = at.member.tags if at.member else await self._copies.get_tags(replica)
            if not tags.items() <= there.items():
                return Verdict(False, Evidence.NONE, Reason.METADATA_DIFFERS, "tags")
        if self._ignores_annotations or not await self._annotations.find_lack(ref, None if at.member else replica):
            return None
        return _unknown(Cause(Reason.METADATA_DIFFERS, "annotations"))


def refuse_copy(at: CopyAt, copy: ObjectInfo | None, *, by_checksum: bool = False) -> Cause | None:
    """Return why what is current at a copy's key, or at its archive's, does not count. Pure.

    | at the key                                       | refused                       |
    |--------------------------------------------------|-------------------------------|
    | nothing, or a delete marker                      | copy_missing                  |
    | an archive of another ETag than the indexed one  | archive_damaged               |
    | an object that a lifecycle rule will remove      | kept (expires)                |
    | an archived object that is not restored          | archived, but for by_checksum |
    | any other                                        | no                            |
    """
    archive = at.place if at.member else ""
    if copy is None:
        return Cause(Reason.COPY_MISSING, archive)
    if archive and copy.etag != at.etag:
        return Cause(Reason.ARCHIVE_DAMAGED, archive)
    if copy.expiration is not None:
        return Cause(Reason.KEPT, "expires")
    return Cause(Reason.ARCHIVED, archive or "copy") if copy.is_archived and not by_checksum else None


def _identity(info: ObjectInfo) -> tuple[object, ...]:
    carried = (dict(info.attributes.metadata), dict(info.attributes.headers), info.tag_count)
    return info.version_id, info.etag, info.last_modified, info.size_bytes, *carried


def _indexed(at: CopyAt, archive: ObjectInfo) -> Content:
    """The member's SHA-256 by the index, if S3 keeps of the archive the SHA-256 that its index has."""
    algorithm, _, value = (at.checksum or "").partition(":")
    if algorithm != "SHA256" or Checksum(algorithm, value, "-" in value) not in archive.checksums:
        return _unknown(Cause(Reason.NOTHING_COMPARABLE, "SHA-256 of the archive"))
    if at.member is None or at.member.sha256 is None:
        return _unknown(Cause(Reason.NOTHING_COMPARABLE, "SHA-256 of the member"))
    return content_checksums(at.member)[0]


async def _hash(info: ObjectInfo, content: AsyncGenerator[bytes, None]) -> ContentCheck:
    check = ContentCheck(info, _hashed(info))
    async with aclosing(content) as pieces:
        async for piece in pieces:
            await update(check, piece)
    return check


async def _once(data: bytes) -> AsyncGenerator[bytes, None]:
    yield data


def _hashed(info: ObjectInfo) -> str | None:
    """Without anything strong of the original, its bytes are read and hashed as well."""
    return "SHA256" if ContentCheck(info).evidence is Evidence.NONE else None


def _unknown(cause: Cause) -> Verdict:
    return Verdict(None, Evidence.NONE, *cause)


def _cause(error: StoreError | DamagedArchive) -> Cause:
    """Why one side cannot be read. Credentials that are not accepted end the run."""
    if isinstance(error, AuthenticationFailed):
        raise error
    if isinstance(error, DamagedArchive):
        return Cause(Reason.ARCHIVE_DAMAGED, str(error))
    return Cause(Reason.REFUSED, error.fact)
