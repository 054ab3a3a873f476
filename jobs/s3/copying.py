"""Copies of one object version: by one request, in parts, or streamed.

One request copies the annotations too. Onto other copies `jobs.s3.annotations` puts them.
Each copy's outcome says what the answer proves, and its reason what the copy lacks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from msgspec import Struct
from msgspec.structs import replace

from jobs.core.enums import AnnotationRule
from jobs.core.evidence import best_checksum, compare, is_md5, is_multipart
from jobs.core.model import NULL_VERSION, ObjectInfo, ObjectLock, ObjectRef, ObjectVersion, Route, parse_time
from jobs.core.outcome import Evidence, Outcome, Status
from jobs.core.part_sizes import COPY_LIMIT_BYTES, MAX_OBJECT_BYTES, PREFERRED_PART_BYTES
from jobs.core.reasons import Reason
from jobs.errors import Conflict, NotFound, PreconditionFailed, Rejected, StoreError
from jobs.s3.annotations import EXCLUDED, AnnotationPair, Pinned
from jobs.s3.byte_ranges import ByteBudget, ContentSide
from jobs.s3.multipart_copy import STREAM_PART_BYTES, copy_parts, stream
from jobs.s3.store import CopySettings, Guard, Store, Written
from jobs.s3.uploads import NO_RECORDS, ObjectUpload, UploadRecords

KEEP = "keep"
UNCOMPARED = "the source has no checksum of its whole content: nothing proves the bytes that were read from it"

UNREAD_LOCK = "without the source's lock, if it has one: permit s3:GetObjectRetention and s3:GetObjectLegalHold there"
UNSENT = "without metadata of the source that S3 cannot say in headers (x-amz-missing-meta)"


class CopyOptions(Struct, frozen=True):
    """How to copy.

    `storage_class`: KEEP takes the source's. `sse`: None takes the default of the destination's
    bucket. `streamed`: the bytes pass through this process. `annotations`: COPY or SKIP.
    """

    multipart_threshold_bytes: int = COPY_LIMIT_BYTES
    part_size_bytes: int = PREFERRED_PART_BYTES
    storage_class: str = KEEP
    sse: str | None = None
    kms_key_id: str | None = None
    object_lock: bool = False
    streamed: bool = False
    annotations: str = AnnotationRule.COPY

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """From a run's spec. It ignores the spec's other options."""
        return cls(**{name: data[name] for name in cls.__struct_fields__ if name in data})


@dataclass(frozen=True, slots=True)
class Copier:
    """Copies versions along a route. `clock`: epoch seconds, which say what retention has passed."""

    source: Store
    destination: Store
    route: Route
    options: CopyOptions
    budget: ByteBudget
    records: UploadRecords = NO_RECORDS
    clock: Callable[[], float] = time.time
    carrier: AnnotationPair = field(init=False)
    _settings: dict[str | None, CopySettings] = field(default_factory=dict, init=False)
    _shows_locks: list[bool] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "carrier", AnnotationPair(self.source, self.destination, self.budget))

    def is_simple(self, row: ObjectVersion) -> bool:
        """Whether one guarded CopyObject can do it: small, pinned, nothing to look up."""
        return (
            not self.options.streamed
            and not self.options.object_lock
            and row.size_bytes is not None
            and row.size_bytes <= self.options.multipart_threshold_bytes
            and (row.etag is not None or row.version_id not in (None, NULL_VERSION))
            and (row.storage_class is not None or self.options.storage_class != KEEP)
            and row.repair.condemned_etag is None
            and row.repair.damaged_etag is None
        )

    def is_one_write(self, size_bytes: int) -> bool:
        """Whether one request writes the copy. Otherwise its parts come first."""
        return size_bytes <= (STREAM_PART_BYTES if self.options.streamed else self.options.multipart_threshold_bytes)

    def _storage_class(self, of_source: str | None) -> str | None:
        wanted = of_source if self.options.storage_class == KEEP else self.options.storage_class
        return None if wanted in (None, "", "STANDARD") and self.options.storage_class == KEEP else wanted

    async def copy(self, row: ObjectVersion, source: ObjectInfo, guard: Guard) -> Outcome:
        """Copy the version that `source` describes, by whatever way fits its size and the two
        services.

        Raises Conflict or PreconditionFailed where source or destination changed meanwhile: look
        again.
        """
        try:
            if self.options.streamed or not self.is_one_write(source.size_bytes):
                return await self._copy_in_parts(row, source, guard)
            pinned = row._replace(size_bytes=source.size_bytes, etag=source.etag, storage_class=source.storage_class)
            try:
                return (await self.copy_object(pinned, row.version_id, guard, source))[0]
            except PreconditionFailed as error:
                raise _raced(error) from error
        except NotFound as error:
            # 404 is also what S3 says when the object that If-Match names is gone, or an upload:
            # the source is not.
            if guard.etag is None and error.code != "NoSuchUpload":
                raise
            raise _raced(error) from error

    async def copy_object(
        self, row: ObjectVersion, version_id: str | None, guard: Guard, source: ObjectInfo | None = None
    ) -> tuple[Outcome, str | None]:
        """Copy the version of this id by one CopyObject, pinned to it and to the row's ETag. None: what is current, if
        it has that ETag. Returns also the id of the version that was copied, if the server says it.

        Raises PreconditionFailed when S3 finds otherwise.
        """
        settings, lack = self._settings_of(row.storage_class), ""
        target, ref = self.route.target_of(row), ObjectRef(self.route.source.bucket, row.key, version_id)
        if source is not None and self.options.object_lock:
            lock, lack = await self._carried_lock(ref, source)
            settings = replace(settings, lock=lock)
        written = await self.destination.copy(ref, row.etag, target, settings, guard=guard)
        written = written.noting(lack, EXCLUDED if settings.without_annotations else "")
        return _copied(row, row.size_bytes or 0, row.etag, written, source), written.source_version_id

    def _settings_of(self, storage_class: str | None) -> CopySettings:
        """What a copy sets whose source has this class, but for its lock."""
        known = self._settings.get(storage_class)
        if known is None:
            known = self._settings[storage_class] = CopySettings(
                storage_class=self._storage_class(storage_class),
                sse=self.options.sse,
                kms_key_id=self.options.kms_key_id,
                without_annotations=self._skips_annotations,
            )
        return known

    @property
    def _skips_annotations(self) -> bool:
        return self.options.annotations == AnnotationRule.SKIP

    async def complete_annotations(self, row: ObjectVersion, source: Pinned, size_bytes: int, copy: Pinned) -> str:
        """Put missing annotations onto a copy that was found the same.

        A copy in parts, as its ETag shows, or a streamed one may lack some, if the worker that made it was killed. Of
        the row's condemned copy a verify run may have found that it does. Returns what the copy still lacks, for its
        outcome, else an empty text. Raises as `AnnotationPair.carry`.
        """
        is_by_parts = size_bytes > self.options.multipart_threshold_bytes or is_multipart(copy.etag)
        may_lack = self.options.streamed or is_by_parts or row.repair.condemned_etag == copy.etag
        return await self.carrier.carry(source, copy) if may_lack and not self._skips_annotations else ""

    async def _carried_lock(self, ref: ObjectRef, source: ObjectInfo) -> tuple[ObjectLock | None, str]:
        """The lock that the copy is to have, and why it lacks the source's retention, if it does.

        S3 refuses a retention that has passed with 400. Whether locks are shown at all is asked for once.
        """
        if not self.options.object_lock:
            return None, ""
        lock = source.attributes.lock
        if lock is None:
            if not self._shows_locks:
                self._shows_locks.append(await self.source.may_read_locks(ref))
            return None, "" if self._shows_locks[0] else UNREAD_LOCK
        if lock.retain_until is None or parse_time(lock.retain_until) > self.clock():
            return lock, ""
        hold = replace(lock, mode=None, retain_until=None) if lock.legal_hold or lock.event_hold else None
        return hold, "without the source's retention, which has passed"

    async def _copy_in_parts(self, row: ObjectVersion, source: ObjectInfo, guard: Guard) -> Outcome:
        ref, target = self.route.source_of(row), self.route.target_of(row)
        if source.size_bytes > MAX_OBJECT_BYTES:
            what = f"it has {source.size_bytes} bytes, S3 takes up to {MAX_OBJECT_BYTES}"
            raise Rejected("CreateMultipartUpload", str(ref), "EntityTooLarge", what, 400)
        lock, lack = await self._carried_lock(ref, source)
        read = ref._replace(version_id=row.version_id or source.version_id)  # no ETag pins tags
        attributes = replace(
            source.attributes,
            tags=await self.source.get_tags(read),
            storage_class=self._storage_class(source.storage_class),
            # The source's encryption stays behind: its key may not exist here.
            sse=self.options.sse,
            kms_key_id=self.options.kms_key_id,
            lock=lock,
        )
        side = ContentSide(self.source, ref, source)
        part_bytes = self.options.part_size_bytes
        upload = ObjectUpload(self.destination, target, attributes, part_bytes, guard, records=self.records)
        unproven, read_bytes = "", None
        if self.options.streamed:
            written, read_bytes = await stream(side, upload, self.budget)
            unproven = UNCOMPARED if read_bytes.compared is Evidence.NONE else ""
        else:
            written = await copy_parts(side, upload)
        without = EXCLUDED
        if not self._skips_annotations:
            copy = Pinned(target._replace(version_id=written.version_id), written.etag)
            without = await self.carrier.carry(Pinned(read, source.etag), copy)
        written = written.noting(lack, unproven, UNSENT if source.unsent_metadata else "", without)
        outcome = _copied(row, source.size_bytes, source.etag, written, source)
        if read_bytes is None:
            return outcome
        return outcome._replace(evidence=read_bytes.compared, checksum=str(read_bytes.checksum("SHA256")))


def is_altered(source: ObjectInfo, copied: Outcome) -> bool:
    """Whether the answer to a copy has another checksum of the content than the source."""
    algorithm, _, value = (copied.checksum or "").partition(":")
    stored = [each.value for each in source.checksums if (each.algorithm, each.is_composite) == (algorithm, False)]
    return bool(stored) and value not in stored


def _raced(error: StoreError) -> Conflict:
    return Conflict(error.operation, error.target, "Raced", "source or destination changed meanwhile")


def _copied(
    row: ObjectVersion, size_bytes: int, etag: str | None, written: Written, source: ObjectInfo | None
) -> Outcome:
    evidence, checksum = _proof(etag, written, source)
    return Outcome(
        row.row,
        row.key,
        row.version_id,
        Status.DONE,
        Reason.COPY_INCOMPLETE if written.note else "",
        evidence,
        size_bytes,
        etag=etag,
        destination_version_id=written.version_id,
        destination_etag=etag if written.etag == etag else written.etag,
        checksum=checksum,
        detail=written.note,
        source_modified=source.last_modified if source else row.last_modified,
        copy_modified=written.last_modified,
    )


def _proof(etag: str | None, written: Written, source: ObjectInfo | None) -> tuple[Evidence, str | None]:
    """What the answer to a copy proves: its checksum is the source's, or both ETags are one MD5."""
    if source is not None:
        known_etag = written.etag if written.etag == source.etag else ""  # another one may be that of a KMS key
        described = ObjectInfo(
            source.size_bytes, known_etag, 0.0, None, "STANDARD", written.checksums, source.attributes
        )
        verdict = compare(source, described)
        return (verdict.evidence if verdict.same else Evidence.NONE), best_checksum(described)
    if etag == written.etag and is_md5(etag):
        return Evidence.MD5_ETAG, None
    return Evidence.NONE, None
