"""Reading what is to be packed: many small objects at once, each pinned, hashed and proven on the
way.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing
from functools import partial
from itertools import groupby
from typing import NamedTuple

from jobs.archives.member_attributes import member_defect
from jobs.archives.model import CHUNK_BYTES, Member, describe
from jobs.archives.reader import UNPROVEN, judge
from jobs.compact.packing import CompactOptions
from jobs.core.enums import SKIP_ANNOTATIONS
from jobs.core.evidence import is_md5_etag
from jobs.core.model import ObjectInfo, ObjectRef, ObjectVersion, is_exact
from jobs.core.outcome import Evidence, Outcome, Status
from jobs.core.pace import Pace
from jobs.core.reasons import Reason
from jobs.errors import (
    REFUSALS,
    ArchivedObject,
    Conflict,
    NotFound,
    PreconditionFailed,
    StoreError,
    Throttled,
    Unavailable,
)
from jobs.s3.annotations import AnnotationLists
from jobs.s3.byte_ranges import ByteBudget, ContentSide, read_ahead, read_ranges
from jobs.s3.checksums import ContentCheck
from jobs.s3.compare_bytes import update
from jobs.s3.lookup import TagReader
from jobs.s3.retries import retry
from jobs.s3.store import Store
from jobs.s3.uploads import ALTERED

SMALL_BYTES = CHUNK_BYTES
"""Up to this size an object comes whole, by one request."""

LEAST_HELD_BYTES = 2048
HASHED_BYTES = 256 * 1024
"""Larger contents are hashed beside the event loop."""


class Read(NamedTuple):
    """One row, read: `data` is None for a large one, which is only described yet. `evidence`: what
    proves its content, at the end.

    Without a `member`, `outcome` says why the row is not packed.
    """

    row: ObjectVersion
    member: Member | None = None
    info: ObjectInfo | None = None
    data: bytes | None = None
    evidence: Evidence = Evidence.NONE
    outcome: Outcome | None = None


def refused(row: ObjectVersion, error: StoreError, changed: Reason = Reason.SOURCE_REPLACED) -> Outcome:
    """The outcome of a row whose object S3 does not show. `changed`: the reason where it is another."""
    if isinstance(error, NotFound):
        return Outcome.of(row, Status.MISSING, Reason.SOURCE_GONE)
    if isinstance(error, PreconditionFailed):
        return Outcome.of(row, Status.CHANGED, changed)
    if isinstance(error, ArchivedObject):
        return Outcome.of(row, Status.BLOCKED, Reason.ARCHIVED, "source")
    return Outcome.refused(row, error)


class MemberSource:
    """Reads rows of one bucket, and leaves out what the options leave out."""

    def __init__(self, store: Store, bucket: str, budget: ByteBudget, pace: Pace, options: CompactOptions):
        self.store, self.bucket, self.budget, self.pace, self.options = store, bucket, budget, pace, options
        self.tag_reader, self.annotations = TagReader(store), AnnotationLists(store)

    def ref(self, row: ObjectVersion) -> ObjectRef:
        """The version that the row names."""
        return ObjectRef(self.bucket, row.key, row.version_id)

    async def read(self, rows: Sequence[ObjectVersion]) -> AsyncGenerator[Read, None]:
        """Read the rows and yield them in their order, many at once as pace and memory allow.

        The rows after a large object are read when it has been used, since its use needs memory
        that they would hold. Raises Unavailable when nothing answers at all,
        and NoSuchBucket when there is no such bucket.
        """
        for is_large, group in groupby(rows, _is_large):
            if is_large:
                reads = (await self.fetch(row) for row in group)
            else:
                reads = read_ahead(
                    group, self.fetch, self.budget, size_bytes=_held_bytes, at_once=lambda: self.pace.in_flight
                )
            async with aclosing(reads):
                async for read in reads:
                    yield read

    async def fetch(self, row: ObjectVersion) -> Read:
        """One row: its content when it is small, its description in any case, or why it is not packed."""
        began = time.monotonic()
        try:
            read = await retry(lambda: self._fetch(row), self._heed)
        except (*REFUSALS, PreconditionFailed, Unavailable) as error:
            if isinstance(error, Unavailable) and error.status == 0:
                raise
            return Read(row, outcome=refused(row, error))
        self.pace.succeed(time.monotonic() - began)
        return read

    async def pieces(self, read: Read) -> AsyncGenerator[bytes, None]:
        """The content of a large row in order, pinned, in bounded pieces, for `aclosing`.

        Raises Conflict at its end when the bytes were not the object's.
        """
        if read.member is None or read.info is None:
            raise ValueError("a row without a member has no content")
        side = ContentSide(self.store, self.ref(read.row)._replace(version_id=read.info.version_id), read.info)
        check = ContentCheck(read.info)

        def get(start: int, end: int) -> Awaitable[bytes]:
            return retry(partial(side.read, start, end))

        async with aclosing(read_ranges(read.info.size_bytes, CHUNK_BYTES, get, self.budget)) as pieces:
            async for piece in pieces:
                await update(check, piece)
                yield piece
        if check.is_refuted:
            raise Conflict("GetObject", str(side.ref), ALTERED, "the bytes received are not the source's")

    async def _fetch(self, row: ObjectVersion) -> Read:
        ref, data = self.ref(row), None
        if _is_large(row):
            info = await self.store.head(ref)
            if row.etag != info.etag:
                raise PreconditionFailed("HeadObject", str(ref), "PreconditionFailed", "another ETag", 412)
            if info.is_archived:
                raise ArchivedObject("HeadObject", str(ref), "InvalidObjectState", "archived", 403)
        else:
            data, info, _ = await self.store.get(ref, if_match=row.etag)
        # No ETag pins tags: those of the version that was read, which may be hidden by another one
        # since, or replaced where it has no id of its own.
        read = ref._replace(version_id=row.version_id or info.version_id)
        tags = await self.tag_reader.read(read, info.tag_count)
        if tags and not is_exact(read.version_id):
            now = await self.store.head(read)
            if (now.etag, now.last_modified) != (info.etag, info.last_modified):
                raise PreconditionFailed("HeadObject", str(read), "PreconditionFailed", "its tags are another's", 412)
        described = describe(row, info, tags, None)
        if why := await self._why_left_out(read, described, info):
            return Read(row, info=info, outcome=Outcome.of(row, *why))
        if data is None:
            return Read(row, described, info, None, ContentCheck(info).compared)
        prove = partial(_prove, described, info, data)
        sha256, evidence = prove() if len(data) < HASHED_BYTES else await asyncio.to_thread(prove)
        if evidence is None or row.size_bytes not in (None, len(data)):  # a cache may have kept a part
            raise Unavailable("GetObject", str(ref), ALTERED, "the bytes are not the source's", 200)
        return Read(row, described._replace(sha256=sha256), info, data, evidence)

    async def _why_left_out(
        self, ref: ObjectRef, member: Member, info: ObjectInfo
    ) -> tuple[Status, Reason, str] | None:
        lacking = next(
            (f"{name}={value}" for name, value in self.options.rule.tags.items() if member.tags.get(name) != value),
            None,
        )
        if lacking is not None:
            return Status.LEFT, Reason.TAG_MISSING, lacking
        if any(rule.takes(member.key, info, member.tags) for rule in self.options.earlier_rules):
            return Status.LEFT, Reason.EARLIER_RULE, ""
        if self.options.annotations != SKIP_ANNOTATIONS and await self.annotations.read(ref):
            return Status.LEFT, Reason.HAS_ANNOTATIONS, ""
        defect = member_defect(member)  # no reader would take any member of the archive
        if info.unsent_metadata:
            defect = "S3 cannot send all of its metadata (x-amz-missing-meta)"
        return (Status.BLOCKED, Reason.UNPACKABLE, defect) if defect else None

    def _heed(self, error: StoreError) -> None:
        if isinstance(error, Throttled):
            self.pace.throttle(time.monotonic())


def _is_large(row: ObjectVersion) -> bool:
    return (row.size_bytes or 0) > SMALL_BYTES


def _held_bytes(row: ObjectVersion) -> int:
    """What reading a row that is not large holds of the memory."""
    return max(LEAST_HELD_BYTES, row.size_bytes or 0)


def _prove(member: Member, info: ObjectInfo, data: bytes) -> tuple[str, Evidence | None]:
    """The SHA-256 of an object's content, and what proves it: a full-object checksum, else an ETag
    that is an MD5, else nothing. None: the bytes are not the object's.
    """
    read = judge(member, data)
    is_unproven = read.cause == UNPROVEN and not is_md5_etag(info)
    return hashlib.sha256(data).hexdigest(), read.evidence if read.cause is None or is_unproven else None
