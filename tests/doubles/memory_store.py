"""MemoryStore: S3 in a dictionary, for tests and simulations. It follows S3's documentation, not a double's habits.

No method waits for anything, so that each is atomic; a simulation wraps it to delay, lose or
repeat requests. Clock and ids are arguments: the same calls give the same answers.
"""

from __future__ import annotations

import hashlib
import inspect
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from jobs.core.elapsed import elapsed_seconds, refuse_late
from jobs.core.model import Attributes, Checksum, Listed, ObjectInfo, ObjectRef
from jobs.errors import Rejected, StoreError, store_error
from jobs.s3 import checksums
from jobs.s3.store import (
    Annotation,
    AnnotationPage,
    Body,
    CopySettings,
    Deleted,
    Guard,
    Marker,
    Page,
    PartDone,
    PartPage,
    Restoring,
    Upload,
    Written,
)
from tests.doubles.memory_buckets import (
    Beginning,
    Bucket,
    Buckets,
    Version,
    check_annotation,
    check_digest,
    listed,
    md5,
    page,
    precondition,
    refuse_archived,
)

MINIMUM_PART_BYTES = 5 * 1024 * 1024
LISTED_PARTS = 1_000


class _Upload(Struct):
    bucket: str
    key: str
    attributes: Attributes
    algorithm: str | None
    is_composite: bool
    began: Beginning
    parts: dict[int, bytes] = {}


class Request(Struct, frozen=True):
    """A request on its way to a MemoryStore, as a hook gets it. `await request()` does it, as often as it is called.

    `operation`: the method's name. `arguments`: its arguments by name, defaults too. What a hook changes there is sent.
    """

    operation: str
    arguments: dict[str, Any]
    _act: Callable[[], Awaitable[Any]]

    async def __call__(self) -> Any:
        return await self._act()

    @property
    def place(self) -> ObjectRef:
        """The object or the bucket that it is for; the destination of a copy."""
        given = self.arguments
        if "upload" in given:
            return ObjectRef(given["upload"].bucket, given["upload"].key)
        return given.get("ref") or ObjectRef(given["bucket"], given.get("key", ""))


Hook = Callable[[Request], Awaitable[Any]]
OPERATIONS = (
    *("head", "get", "put", "copy", "delete", "request_restore", "get_tags", "may_read_locks"),
    *("list_annotations", "get_annotation", "put_annotation", "list_objects", "list_versions", "is_versioned"),
    *("create_multipart", "copy_part", "put_part", "complete_multipart", "list_parts", "abort_multipart"),
)


class MemoryStore:
    """A Store without a server, with these `buckets`; others are made with `create_bucket`.

    `default_checksum`: what S3 adds to an object that came without a checksum (None: nothing,
    as servers before 2025). `minimum_part_bytes`: the least size of a part that is not the
    last, and what an object has to exceed for a copy of a range.

    `on`: name of an operation → a hook around it, which gets the `Request`. It may count, refuse,
    change arguments or answer, lose the answer, or let others write first. The hook of `every` is
    around those of single operations. `hook` changes them later (None: no hook).
    `MemoryStore.put(store, …)` is never hooked: for what a test itself, or a hook, writes and reads.

        asked = []

        async def lose_first(request):
            asked.append(request.place.key)
            request.arguments["guard"] = UNGUARDED  # the server ignores conditions
            written = await request()
            if len(asked) == 1:
                raise Unavailable("CopyObject", "k", "ConnectionLost")
            return written

        store = MemoryStore(on={"copy": lose_first})
    """

    heeds_conditions = True
    keeps_annotations = True

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
        default_checksum: str | None = "CRC64NVME",
        minimum_part_bytes: int = MINIMUM_PART_BYTES,
        on: Mapping[str, Hook] | None = None,
        buckets: Iterable[str] = (),
        versioned: bool = True,
    ):
        self._default_checksum, self._minimum_part_bytes = default_checksum, minimum_part_bytes
        self._buckets = Buckets(clock, new_id)
        self._uploads: dict[str, _Upload] = {}
        self.survivors = 0
        """How many of the next aborts a part in flight survives."""
        self.drops: frozenset[str] = frozenset()
        """What CreateMultipartUpload drops without a word, as Ceph 18.2 does: `tags`, `lock`, `sse`."""
        self._hooks: dict[str, Hook | None] = {}
        self.hook(**on or {})
        for bucket in buckets:
            self.create_bucket(bucket, versioned)

    def hook(self, **hooks: Hook | None) -> None:
        """Set hooks, as `on` does."""
        if unknown := hooks.keys() - {*OPERATIONS, "every"}:
            raise ValueError(f"no operations: {unknown}")
        self._hooks |= hooks
        for name in OPERATIONS:
            around = [hook for hook in (self._hooks.get(name), self._hooks.get("every")) if hook]
            if around:
                setattr(self, name, _hooked(getattr(type(self), name).__get__(self), around))
            else:
                self.__dict__.pop(name, None)

    @property
    def server_clock(self) -> float:
        """As the Date of its latest answer says."""
        return float(int(self._buckets.clock())) - elapsed_seconds()

    def region_of(self, bucket: str) -> None:
        """Nothing: memory has no regions."""

    def create_bucket(self, name: str, versioned: bool = True, object_lock: bool = False) -> None:
        """Make a bucket; one that is there keeps its objects. Object Lock needs versioning."""
        self._buckets.named.setdefault(name, Bucket(versioned or object_lock, object_lock))

    def rot(self, bucket: str, key: str, data: bytes) -> None:
        """The current version has these bytes now. What is kept beside them stays, as on a bad disk."""
        self._buckets.find("Rot", ObjectRef(bucket, key)).data = data

    def enable_versioning(self, bucket: str) -> None:
        """From now on; what is there becomes the `null` version."""
        home = self._buckets.bucket("PutBucketVersioning", ObjectRef(bucket, ""))
        home.is_versioned, home.is_suspended = True, False

    def suspend_versioning(self, bucket: str) -> None:
        """From now on each write replaces the `null` version, on top of the versions that are there."""
        home = self._buckets.bucket("PutBucketVersioning", ObjectRef(bucket, ""))
        home.is_versioned, home.is_suspended = False, True

    def restore(self, ref: ObjectRef) -> None:
        """Finish a restore: the archived version can be read."""
        version = self._buckets.find("RestoreObject", ref)
        version.is_restored, version.is_restoring = True, False

    def end_restore(self, ref: ObjectRef) -> None:
        """The days of a restored copy are over."""
        self._buckets.find("RestoreObject", ref).is_restored = False

    def uploads(self, bucket: str) -> list[Upload]:
        """The unfinished multipart uploads."""
        return [Upload(each.bucket, each.key, id_) for id_, each in self._uploads.items() if each.bucket == bucket]

    def stored(self, bucket: str, key: str) -> list[Version]:
        """All versions of a key, the oldest first."""
        return list(self._buckets.named[bucket].versions.get(key, []))

    async def head(self, ref: ObjectRef, *, part_number: int | None = None) -> ObjectInfo:
        """HeadObject."""
        version = self._buckets.find("HeadObject", ref)
        info = self._buckets.info(ref.bucket, version)
        if part_number is None:
            return info
        sizes = version.part_sizes or (len(version.data),)
        if not 1 <= part_number <= len(sizes):
            raise store_error("HeadObject", str(ref), "InvalidPartNumber", "there is no such part", 416)
        return replace(info, size_bytes=sizes[part_number - 1], parts_count=len(version.part_sizes) or None)

    async def get(self, ref: ObjectRef, *, start: int = 0, end: int | None = None, if_match: str | None = None) -> Body:
        """GetObject."""
        version = self._buckets.find("GetObject", ref)
        if if_match is not None and if_match != version.etag:
            raise precondition("GetObject", ref)
        refuse_archived("GetObject", ref, version)
        size_bytes = len(version.data)
        is_ranged = start > 0 or end is not None
        if is_ranged and (start >= size_bytes or (end is not None and end <= start)):
            raise store_error("GetObject", str(ref), "InvalidRange", "the range is not satisfiable", 416)
        return Body(version.data[start:end], self._buckets.info(ref.bucket, version), float(int(self._buckets.clock())))

    async def put(
        self, ref: ObjectRef, data: bytes, attributes: Attributes, *, guard: Guard, checksum: Checksum | None = None
    ) -> Written:
        """PutObject."""
        self._buckets.check_key("PutObject", ref)
        self._buckets.check_lock("PutObject", ref, attributes)
        check_digest("PutObject", ref, data, checksum)
        self._buckets.check_guard("PutObject", ref, guard)
        algorithm = checksum.algorithm if checksum else self._default_checksum
        sums = (checksums.full_object(algorithm, data),) if algorithm else ()
        return self._buckets.write(ref, data, md5(data), attributes, sums)

    async def copy(
        self, source: ObjectRef, source_etag: str | None, ref: ObjectRef, settings: CopySettings, *, guard: Guard
    ) -> Written:
        """CopyObject: the copy is of one part, its checksums full-object ones of the source's algorithms."""
        self._buckets.check_key("CopyObject", ref)
        origin = self._buckets.source("CopyObject", source, source_etag, ref)
        carried = {name: text for name, text in origin.attributes.headers.items() if not name.startswith("x-amz-")}
        attributes = replace(
            origin.attributes,
            headers=carried,
            storage_class=settings.storage_class,
            sse=settings.sse,
            kms_key_id=settings.kms_key_id,
            lock=settings.lock,
        )
        self._buckets.check_lock("CopyObject", ref, attributes)
        self._buckets.check_guard("CopyObject", ref, guard)
        algorithms = [checksum.algorithm for checksum in origin.checksums]
        if not algorithms and self._default_checksum:
            algorithms = [self._default_checksum]
        sums = tuple(checksums.full_object(algorithm, origin.data) for algorithm in algorithms)
        written = self._buckets.write(ref, origin.data, md5(origin.data), attributes, sums)
        if origin.annotations and not settings.without_annotations:
            copied = self._buckets.find("CopyObject", ref._replace(version_id=written.version_id))
            copied.annotations = dict(origin.annotations)
        is_versioned = self._buckets.named[source.bucket].names_versions
        made = self._buckets.find("CopyObject", ref._replace(version_id=written.version_id)).last_modified
        source_version_id = origin.version_id if is_versioned else None
        return written._replace(source_version_id=source_version_id, last_modified=made)

    async def get_tags(self, ref: ObjectRef) -> Mapping[str, str]:
        """GetObjectTagging."""
        return dict(self._buckets.find("GetObjectTagging", ref).attributes.tags)

    async def may_read_locks(self, ref: ObjectRef) -> bool:
        """GetObjectRetention: whoever asks may."""
        return True

    async def list_annotations(self, ref: ObjectRef, *, token: str | None = None) -> AnnotationPage:
        """ListObjectAnnotations: as many as an object may have, on one page."""
        there = self._buckets.find("ListObjectAnnotations", ref).annotations
        return AnnotationPage([Annotation(name, len(there[name]), md5(there[name])) for name in sorted(there)], None)

    async def get_annotation(self, ref: ObjectRef, name: str) -> bytes:
        """GetObjectAnnotation."""
        there = self._buckets.find("GetObjectAnnotation", ref).annotations
        if name not in there:
            raise store_error("GetObjectAnnotation", str(ref), "NoSuchAnnotation", "there is no such annotation", 404)
        return there[name]

    async def put_annotation(self, ref: ObjectRef, name: str, text: bytes, *, object_etag: str) -> None:
        """PutObjectAnnotation: no new version, and the object keeps its ETag."""
        version = self._buckets.find("PutObjectAnnotation", ref)
        if version.etag != object_etag:
            raise precondition("PutObjectAnnotation", ref)
        check_annotation("PutObjectAnnotation", ref, name, text, version)
        version.annotations[name] = text

    async def delete(self, ref: ObjectRef, *, if_match: str | None = None, send_by: float | None = None) -> Deleted:
        """DeleteObject."""
        refuse_late("DeleteObject", ref, send_by)
        self._buckets.bucket("DeleteObject", ref)
        try:
            self._buckets.check_guard("DeleteObject", ref, Guard(etag=if_match))
            return self._buckets.remove(ref)
        except StoreError as error:
            error.was_sent_once = True
            raise

    async def request_restore(self, ref: ObjectRef, *, days: int | None, tier: str) -> Restoring:
        """RestoreObject. It goes on until `restore` ends it."""
        version = self._buckets.find("RestoreObject", ref)
        if not version.is_restored and not version.is_archived:
            raise Rejected("RestoreObject", str(ref), "InvalidObjectState", "the object is not archived", 403)
        if version.is_restored:
            return Restoring.READY
        was, version.is_restoring = version.is_restoring, True
        return Restoring.UNDER_WAY if was else Restoring.REQUESTED

    async def create_multipart(
        self, ref: ObjectRef, attributes: Attributes, *, checksum: Checksum | None = None
    ) -> Upload:
        """CreateMultipartUpload."""
        self._buckets.check_key("CreateMultipartUpload", ref)
        self._buckets.check_lock("CreateMultipartUpload", ref, attributes)
        algorithm = checksum.algorithm if checksum else self._default_checksum
        is_composite = checksum is not None and checksum.is_composite
        plain = Attributes()
        attributes = replace(attributes, **{name: getattr(plain, name) for name in self.drops})
        upload_id = self._buckets.new_id()
        self._uploads[upload_id] = _Upload(*ref[:2], attributes, algorithm, is_composite, self._buckets.begin())
        return Upload(*ref[:2], upload_id)

    async def copy_part(
        self, source: ObjectRef, source_etag: str, start: int, end: int | None, upload: Upload, number: int
    ) -> PartDone:
        """UploadPartCopy."""
        there = self._upload("UploadPartCopy", upload)
        origin = self._buckets.source("UploadPartCopy", source, source_etag, upload.place)
        if end is not None and len(origin.data) <= self._minimum_part_bytes:
            raise store_error("UploadPartCopy", str(source), "InvalidRequest", "too small for a copy of a range", 400)
        if not 0 <= start < (end or len(origin.data)) <= len(origin.data):
            raise store_error("UploadPartCopy", str(source), "InvalidArgument", "no such range in the source", 400)
        return self._add_part(there, number, origin.data[start:end])

    async def put_part(self, upload: Upload, number: int, data: bytes, *, checksum: Checksum | None = None) -> PartDone:
        """UploadPart."""
        there, data = self._upload("UploadPart", upload), bytes(data)
        check_digest("UploadPart", upload.place, data, checksum)
        return self._add_part(there, number, data)

    async def complete_multipart(
        self,
        upload: Upload,
        parts: Sequence[PartDone],
        *,
        guard: Guard,
        size_bytes: int | None = None,
        checksum: Checksum | None = None,
    ) -> Written:
        """CompleteMultipartUpload."""
        ref, operation = upload.place, "CompleteMultipartUpload"
        there = self._upload(operation, upload)
        numbers = sorted(part.number for part in parts)
        stored = [there.parts.get(number) for number in numbers]
        asked = {part.number: part.etag for part in parts}
        pieces = [piece for piece in stored if piece is not None]
        if not parts or any(p is None or md5(p) != asked[n] for n, p in zip(numbers, stored, strict=True)):
            raise store_error(operation, str(ref), "InvalidPart", "a part is missing or has another ETag", 400)
        if any(len(piece) < self._minimum_part_bytes for piece in pieces[:-1]):
            raise store_error(operation, str(ref), "EntityTooSmall", "a part is smaller than allowed", 400)
        data = b"".join(pieces)
        if size_bytes not in (None, len(data)):
            raise store_error(operation, str(ref), "InvalidRequest", f"the parts have {len(data)} bytes", 400)
        if checksum is not None and not checksum.is_composite:
            check_digest(operation, ref, data, checksum)
        self._buckets.check_guard(operation, ref, guard)
        sums: tuple[Checksum, ...] = ()
        if there.algorithm:
            whole = None if there.is_composite else checksums.full_object(there.algorithm, data)
            sums = (whole or checksums.composite([checksums.full_object(there.algorithm, piece) for piece in pieces]),)
        digests = b"".join(hashlib.md5(piece, usedforsecurity=False).digest() for piece in pieces)
        del self._uploads[upload.upload_id]
        sizes = tuple(map(len, pieces))
        etag = f"{md5(digests)}-{len(pieces)}"
        return self._buckets.write(ref, data, etag, there.attributes, sums, sizes, there.began)

    async def list_parts(self, upload: Upload, *, after: int = 0) -> PartPage:
        """ListParts."""
        there = self._upload("ListParts", upload)
        numbers = sorted(number for number in there.parts if number > after)
        listed = [self._stored(there, number) for number in numbers[:LISTED_PARTS]]
        return PartPage(listed, numbers[LISTED_PARTS - 1] if len(numbers) > LISTED_PARTS else None)

    async def abort_multipart(self, upload: Upload) -> None:
        """AbortMultipartUpload."""
        self._buckets.bucket("AbortMultipartUpload", upload.place)
        there = self._uploads.get(upload.upload_id)
        if there is not None and self.survivors:  # a part was in flight
            self.survivors -= 1
            there.parts = dict(list(there.parts.items())[-1:])
        else:
            self._uploads.pop(upload.upload_id, None)

    async def list_objects(
        self, bucket: str, prefix: str, *, after: Marker | None = None, delimiter: str = "", max_keys: int = 1000
    ) -> Page:
        """ListObjectsV2."""
        home = self._buckets.bucket("ListObjectsV2", ObjectRef(bucket, ""))
        found: list[Listed] = []
        for key in home.keys(prefix):
            if not key.startswith(prefix):
                break
            latest = home.versions[key][-1]
            if not latest.is_delete_marker and (after is None or key > after.key):
                found.append(listed(key, latest, True)._replace(version_id=None))
        return page(found, prefix, after, delimiter, max_keys, is_versions=False)

    async def list_versions(
        self, bucket: str, prefix: str, *, after: Marker | None = None, delimiter: str = "", max_keys: int = 1000
    ) -> Page:
        """ListObjectVersions."""
        home = self._buckets.bucket("ListObjectVersions", ObjectRef(bucket, ""))
        found: list[Listed] = []
        for key in home.keys(prefix):
            if not key.startswith(prefix):
                break
            versions = home.versions[key]
            entries = [listed(key, version, version is versions[-1]) for version in reversed(versions)]
            if after is not None and key <= after.key:
                if key < after.key or after.version_id is None:
                    continue
                ids = [entry.version_id for entry in entries]
                entries = entries[ids.index(after.version_id) + 1 :] if after.version_id in ids else []
            found += entries
        return page(found, prefix, after, delimiter, max_keys, is_versions=True)

    async def is_versioned(self, bucket: str) -> bool:
        """GetBucketVersioning."""
        return self._buckets.bucket("GetBucketVersioning", ObjectRef(bucket, "")).is_versioned

    async def close(self) -> None:
        """Nothing to release."""

    def _upload(self, operation: str, upload: Upload) -> _Upload:
        self._buckets.bucket(operation, upload.place)
        there = self._uploads.get(upload.upload_id)
        if there is None or (there.bucket, there.key) != (upload.bucket, upload.key):
            raise store_error(operation, str(upload.place), "NoSuchUpload", "the upload does not exist", 404)
        return there

    def _add_part(self, upload: _Upload, number: int, data: bytes) -> PartDone:
        upload.parts[number] = data
        return self._stored(upload, number)._replace(size_bytes=None)

    def _stored(self, upload: _Upload, number: int) -> PartDone:
        data = upload.parts[number]
        sums = (checksums.full_object(upload.algorithm, data),) if upload.algorithm else ()
        return PartDone(number, md5(data), sums, len(data))


def _hooked(act: Callable[..., Awaitable[Any]], hooks: Sequence[Hook]) -> Callable[..., Awaitable[Any]]:
    """The operation within its hooks, the last one outermost."""
    signature, name = inspect.signature(act), getattr(act, "__name__", "")

    async def send(*args: Any, **named: Any) -> Any:
        bound = signature.bind(*args, **named)
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        request = Request(name, arguments, lambda: act(**arguments))
        for hook in hooks:
            request = Request(name, arguments, partial(hook, request))
        return await request()

    return send
