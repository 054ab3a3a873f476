"""MemoryStore: S3 in a dictionary, for tests and simulations. It follows S3's documentation, not a double's habits.

No method waits for anything, so that each is atomic; a simulation wraps it to delay, lose or
repeat requests. Clock and ids are arguments: the same calls give the same answers.
"""

from __future__ import annotations

import bisect
import hashlib
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from jobs.core.model import NULL_VERSION, Attributes, Checksum, Listed, ObjectInfo, ObjectRef
from jobs.errors import StoreError, store_error
from jobs.s3 import checksums
from jobs.s3.store import Body, CopySettings, Deleted, Guard, Marker, Page, PartDone, Written

MINIMUM_PART_BYTES = 5 * 1024 * 1024
_ARCHIVE_CLASSES = frozenset({"GLACIER", "DEEP_ARCHIVE"})


@dataclass(slots=True)
class _Version:
    version_id: str
    data: bytes
    etag: str
    last_modified: float
    attributes: Attributes
    checksums: tuple[Checksum, ...] = ()
    part_sizes: tuple[int, ...] = ()
    is_delete_marker: bool = False
    is_restored: bool = False

    @property
    def storage_class(self) -> str:
        return self.attributes.storage_class or "STANDARD"

    @property
    def is_archived(self) -> bool:
        return self.storage_class in _ARCHIVE_CLASSES and not self.is_restored


@dataclass(slots=True)
class _Upload:
    bucket: str
    key: str
    attributes: Attributes
    algorithm: str | None
    is_composite: bool
    parts: dict[int, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class _Bucket:
    """`versions`: key → its versions, oldest first; never an empty list."""

    is_versioned: bool
    has_object_lock: bool
    versions: dict[str, list[_Version]] = field(default_factory=dict)
    order: list[str] | None = None

    def keys(self, after: str) -> list[str]:
        """The keys that sort at or behind `after`, in S3's order (UTF-8 bytes, which is code points)."""
        if self.order is None:
            self.order = sorted(self.versions)
        return self.order[bisect.bisect_left(self.order, after) :]


class MemoryStore:
    """A Store without a server; buckets are made with `create_bucket`.

    `default_checksum`: what S3 adds to an object that came without a checksum (None: nothing,
    as servers before 2025). `minimum_part_bytes`: the least size of a part that is not the last.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
        default_checksum: str | None = "CRC64NVME",
        minimum_part_bytes: int = MINIMUM_PART_BYTES,
    ):
        self._clock, self._new_id = clock, new_id
        self._default_checksum, self._minimum_part_bytes = default_checksum, minimum_part_bytes
        self._buckets: dict[str, _Bucket] = {}
        self._uploads: dict[str, _Upload] = {}

    def create_bucket(self, name: str, versioned: bool = True, object_lock: bool = False) -> None:
        """Make a bucket; one that is there keeps its objects. Object Lock needs versioning."""
        self._buckets.setdefault(name, _Bucket(versioned or object_lock, object_lock))

    def enable_versioning(self, bucket: str) -> None:
        """From now on; what is there becomes the `null` version."""
        self._bucket("PutBucketVersioning", ObjectRef(bucket, "")).is_versioned = True

    def restore(self, ref: ObjectRef) -> None:
        """Finish a restore: the archived version can be read."""
        self._find("RestoreObject", ref).is_restored = True

    def uploads(self, bucket: str) -> list[str]:
        """The ids of unfinished multipart uploads."""
        return [upload_id for upload_id, upload in self._uploads.items() if upload.bucket == bucket]

    async def head(self, ref: ObjectRef, *, part_number: int | None = None) -> ObjectInfo:
        """HeadObject."""
        version = self._find("HeadObject", ref)
        info = self._info(ref.bucket, version)
        if part_number is None:
            return info
        sizes = version.part_sizes or (len(version.data),)
        if not 1 <= part_number <= len(sizes):
            raise store_error("HeadObject", str(ref), "InvalidPartNumber", "there is no such part", 416)
        return replace(info, size_bytes=sizes[part_number - 1], parts_count=len(version.part_sizes) or None)

    async def get(self, ref: ObjectRef, *, start: int = 0, end: int | None = None, if_match: str | None = None) -> Body:
        """GetObject."""
        version = self._find("GetObject", ref)
        if if_match is not None and if_match != version.etag:
            raise _precondition("GetObject", ref)
        _refuse_archived("GetObject", ref, version)
        size_bytes = len(version.data)
        is_ranged = start > 0 or end is not None
        if is_ranged and (start >= size_bytes or (end is not None and end <= start)):
            raise store_error("GetObject", str(ref), "InvalidRange", "the range is not satisfiable", 416)
        return Body(version.data[start:end], self._info(ref.bucket, version))

    async def put(
        self,
        bucket: str,
        key: str,
        data: bytes,
        attributes: Attributes,
        *,
        guard: Guard,
        checksum: Checksum | None = None,
    ) -> Written:
        """PutObject."""
        ref = ObjectRef(bucket, key)
        self._check_key("PutObject", ref)
        self._check_lock("PutObject", ref, attributes)
        _check_digest("PutObject", ref, data, checksum)
        self._check_guard("PutObject", ref, guard)
        algorithm = checksum.algorithm if checksum else self._default_checksum
        sums = (checksums.full_object(algorithm, data),) if algorithm else ()
        return self._write(ref, data, _md5(data), attributes, sums)

    async def copy(
        self, source: ObjectRef, source_etag: str | None, bucket: str, key: str, settings: CopySettings, *, guard: Guard
    ) -> Written:
        """CopyObject: the copy is of one part, its checksums full-object ones of the source's algorithms."""
        ref = ObjectRef(bucket, key)
        self._check_key("CopyObject", ref)
        origin = self._source("CopyObject", source, source_etag)
        carried = {name: text for name, text in origin.attributes.headers.items() if not name.startswith("x-amz-")}
        attributes = replace(
            origin.attributes,
            headers=carried,
            storage_class=settings.storage_class,
            sse=settings.sse,
            kms_key_id=settings.kms_key_id,
            lock=settings.lock,
        )
        self._check_lock("CopyObject", ref, attributes)
        self._check_guard("CopyObject", ref, guard)
        algorithms = [checksum.algorithm for checksum in origin.checksums]
        if not algorithms and self._default_checksum:
            algorithms = [self._default_checksum]
        sums = tuple(checksums.full_object(algorithm, origin.data) for algorithm in algorithms)
        return self._write(ref, origin.data, _md5(origin.data), attributes, sums)

    async def get_tags(self, ref: ObjectRef) -> Mapping[str, str]:
        """GetObjectTagging."""
        return dict(self._find("GetObjectTagging", ref).attributes.tags)

    async def delete(self, bucket: str, key: str, *, version_id: str | None = None) -> Deleted:
        """DeleteObject."""
        ref = ObjectRef(bucket, key, version_id)
        home = self._bucket("DeleteObject", ref)
        versions = home.versions.get(key, [])
        if version_id is None and home.is_versioned:
            marker = _Version(self._new_id(), b"", "", self._clock(), Attributes(), is_delete_marker=True)
            self._add(home, key, marker)
            return Deleted(marker.version_id, True)
        doomed = next((each for each in versions if each.version_id == (version_id or NULL_VERSION)), None)
        if doomed is None:
            return Deleted(version_id, False)
        self._check_held(ref, doomed)
        versions.remove(doomed)
        if not versions:
            del home.versions[key]
            home.order = None
        return Deleted(version_id, doomed.is_delete_marker)

    async def create_multipart(
        self,
        bucket: str,
        key: str,
        attributes: Attributes,
        *,
        checksum_algorithm: str | None = None,
        is_composite: bool = False,
    ) -> str:
        """CreateMultipartUpload."""
        ref = ObjectRef(bucket, key)
        self._check_key("CreateMultipartUpload", ref)
        self._check_lock("CreateMultipartUpload", ref, attributes)
        if checksum_algorithm is None:
            checksum_algorithm, is_composite = self._default_checksum, False
        upload_id = self._new_id()
        self._uploads[upload_id] = _Upload(bucket, key, attributes, checksum_algorithm, is_composite)
        return upload_id

    async def copy_part(
        self,
        source: ObjectRef,
        source_etag: str,
        start: int,
        end: int,
        bucket: str,
        key: str,
        upload_id: str,
        number: int,
    ) -> PartDone:
        """UploadPartCopy."""
        ref = ObjectRef(bucket, key)
        upload = self._upload("UploadPartCopy", ref, upload_id)
        origin = self._source("UploadPartCopy", source, source_etag)
        if not 0 <= start < end <= len(origin.data):
            raise store_error("UploadPartCopy", str(source), "InvalidArgument", "no such range in the source", 400)
        return self._add_part(upload, number, origin.data[start:end])

    async def put_part(
        self, bucket: str, key: str, upload_id: str, number: int, data: bytes, *, checksum: Checksum | None = None
    ) -> PartDone:
        """UploadPart."""
        ref = ObjectRef(bucket, key)
        upload = self._upload("UploadPart", ref, upload_id)
        _check_digest("UploadPart", ref, data, checksum)
        return self._add_part(upload, number, data)

    async def complete_multipart(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[PartDone],
        *,
        guard: Guard,
        checksum: Checksum | None = None,
    ) -> Written:
        """CompleteMultipartUpload."""
        ref, operation = ObjectRef(bucket, key), "CompleteMultipartUpload"
        upload = self._upload(operation, ref, upload_id)
        numbers = sorted(part.number for part in parts)
        stored = [upload.parts.get(number) for number in numbers]
        asked = {part.number: part.etag for part in parts}
        pieces = [piece for piece in stored if piece is not None]
        if not parts or any(p is None or _md5(p) != asked[n] for n, p in zip(numbers, stored, strict=True)):
            raise store_error(operation, str(ref), "InvalidPart", "a part is missing or has another ETag", 400)
        if any(len(piece) < self._minimum_part_bytes for piece in pieces[:-1]):
            raise store_error(operation, str(ref), "EntityTooSmall", "a part is smaller than allowed", 400)
        data = b"".join(pieces)
        if checksum is not None and not checksum.is_composite:
            _check_digest(operation, ref, data, checksum)
        self._check_guard(operation, ref, guard)
        sums: tuple[Checksum, ...] = ()
        if upload.algorithm:
            whole = None if upload.is_composite else checksums.full_object(upload.algorithm, data)
            sums = (whole or checksums.composite(upload.algorithm, pieces),)
        digests = b"".join(hashlib.md5(piece, usedforsecurity=False).digest() for piece in pieces)
        del self._uploads[upload_id]
        sizes = tuple(map(len, pieces))
        return self._write(ref, data, f"{_md5(digests)}-{len(pieces)}", upload.attributes, sums, sizes)

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """AbortMultipartUpload."""
        self._bucket("AbortMultipartUpload", ObjectRef(bucket, key))
        self._uploads.pop(upload_id, None)

    async def list_objects(
        self, bucket: str, prefix: str, *, after: Marker | None = None, delimiter: str = "", max_keys: int = 1000
    ) -> Page:
        """ListObjectsV2."""
        home = self._bucket("ListObjectsV2", ObjectRef(bucket, ""))
        found: list[Listed] = []
        for key in home.keys(prefix):
            if not key.startswith(prefix):
                break
            latest = home.versions[key][-1]
            if not latest.is_delete_marker and (after is None or key > after.key):
                found.append(_listed(key, latest, True)._replace(version_id=None))
        return _page(found, prefix, after, delimiter, max_keys, is_versions=False)

    async def list_versions(
        self, bucket: str, prefix: str, *, after: Marker | None = None, delimiter: str = "", max_keys: int = 1000
    ) -> Page:
        """ListObjectVersions."""
        home = self._bucket("ListObjectVersions", ObjectRef(bucket, ""))
        found: list[Listed] = []
        for key in home.keys(prefix):
            if not key.startswith(prefix):
                break
            versions = home.versions[key]
            entries = [_listed(key, version, version is versions[-1]) for version in reversed(versions)]
            if after is not None and key <= after.key:
                if key < after.key or after.version_id is None:
                    continue
                ids = [entry.version_id for entry in entries]
                entries = entries[ids.index(after.version_id) + 1 :] if after.version_id in ids else []
            found += entries
        return _page(found, prefix, after, delimiter, max_keys, is_versions=True)

    async def is_versioned(self, bucket: str) -> bool:
        """GetBucketVersioning."""
        return self._bucket("GetBucketVersioning", ObjectRef(bucket, "")).is_versioned

    async def close(self) -> None:
        """Nothing to release."""

    def _bucket(self, operation: str, ref: ObjectRef) -> _Bucket:
        if ref.bucket not in self._buckets:
            raise store_error(operation, str(ref), "NoSuchBucket", "the bucket does not exist", 404)
        return self._buckets[ref.bucket]

    def _find(self, operation: str, ref: ObjectRef) -> _Version:
        """The version that can be described and read."""
        versions = self._bucket(operation, ref).versions.get(ref.key, [])
        if ref.version_id is None:
            if not versions:
                raise store_error(operation, str(ref), "NoSuchKey", "the key does not exist", 404)
            version = versions[-1]
        else:
            named = [each for each in versions if each.version_id == ref.version_id]
            if not named:
                raise store_error(operation, str(ref), "NoSuchVersion", "the version does not exist", 404)
            version = named[0]
        if version.is_delete_marker:
            raise store_error(operation, str(ref), "DeleteMarker", "a delete marker", 405 if ref.version_id else 404)
        return version

    def _source(self, operation: str, ref: ObjectRef, etag: str | None) -> _Version:
        version = self._find(operation, ref)
        if etag is not None and etag != version.etag:
            raise _precondition(operation, ref)
        _refuse_archived(operation, ref, version)
        return version

    def _info(self, bucket: str, version: _Version) -> ObjectInfo:
        return ObjectInfo(
            size_bytes=len(version.data),
            etag=version.etag,
            last_modified=float(int(version.last_modified)),
            version_id=version.version_id if self._buckets[bucket].is_versioned else None,
            storage_class=version.storage_class,
            checksums=version.checksums,
            attributes=replace(version.attributes, tags={}, storage_class=version.storage_class),
            tag_count=len(version.attributes.tags),
            is_archived=version.is_archived,
        )

    def _check_key(self, operation: str, ref: ObjectRef) -> None:
        self._bucket(operation, ref)
        if not 1 <= len(ref.key.encode()) <= 1024:
            raise store_error(operation, str(ref), "KeyTooLongError", "a key has 1 to 1,024 bytes of UTF-8", 400)

    def _check_lock(self, operation: str, ref: ObjectRef, attributes: Attributes) -> None:
        if attributes.lock is not None and not self._buckets[ref.bucket].has_object_lock:
            raise store_error(operation, str(ref), "InvalidRequest", "the bucket has no Object Lock", 400)

    def _check_held(self, ref: ObjectRef, version: _Version) -> None:
        lock = version.attributes.lock
        if lock is None:
            return
        until = datetime.fromisoformat(lock.retain_until).timestamp() if lock.retain_until else 0.0
        if lock.legal_hold or (lock.mode and until > self._clock()):
            raise store_error("DeleteObject", str(ref), "AccessDenied", "the version is under Object Lock", 403)

    def _check_guard(self, operation: str, ref: ObjectRef, guard: Guard) -> None:
        versions = self._buckets[ref.bucket].versions.get(ref.key, [])
        current = versions[-1] if versions and not versions[-1].is_delete_marker else None
        if guard.absent and current is not None:
            raise _precondition(operation, ref)
        if guard.etag is not None:
            if current is None:
                raise store_error(operation, str(ref), "NoSuchKey", "the key does not exist", 404)
            if current.etag != guard.etag:
                raise _precondition(operation, ref)

    def _write(
        self,
        ref: ObjectRef,
        data: bytes,
        etag: str,
        attributes: Attributes,
        sums: tuple[Checksum, ...],
        part_sizes: tuple[int, ...] = (),
    ) -> Written:
        home = self._buckets[ref.bucket]
        version_id = self._new_id() if home.is_versioned else NULL_VERSION
        self._add(home, ref.key, _Version(version_id, data, etag, self._clock(), attributes, sums, part_sizes))
        return Written(etag, version_id if home.is_versioned else None, sums)

    def _add(self, home: _Bucket, key: str, version: _Version) -> None:
        if key not in home.versions:
            home.versions[key] = []
            home.order = None
        if not home.is_versioned:
            home.versions[key].clear()
        home.versions[key].append(version)

    def _upload(self, operation: str, ref: ObjectRef, upload_id: str) -> _Upload:
        self._bucket(operation, ref)
        upload = self._uploads.get(upload_id)
        if upload is None or (upload.bucket, upload.key) != (ref.bucket, ref.key):
            raise store_error(operation, str(ref), "NoSuchUpload", "the upload does not exist", 404)
        return upload

    def _add_part(self, upload: _Upload, number: int, data: bytes) -> PartDone:
        upload.parts[number] = data
        sums = (checksums.full_object(upload.algorithm, data),) if upload.algorithm else ()
        return PartDone(number, _md5(data), sums)


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _precondition(operation: str, ref: ObjectRef) -> StoreError:
    return store_error(operation, str(ref), "PreconditionFailed", "the object is not as the request demands", 412)


def _refuse_archived(operation: str, ref: ObjectRef, version: _Version) -> None:
    if version.is_archived:
        raise store_error(operation, str(ref), "InvalidObjectState", "the object must be restored first", 403)


def _check_digest(operation: str, ref: ObjectRef, data: bytes, checksum: Checksum | None) -> None:
    if checksum is None:
        return
    if checksum.algorithm not in checksums.ALGORITHMS:
        raise store_error(operation, str(ref), "InvalidRequest", f"unknown checksum {checksum.algorithm}", 400)
    if checksums.full_object(checksum.algorithm, data).value != checksum.value:
        raise store_error(operation, str(ref), "BadDigest", f"the {checksum.algorithm} does not match the bytes", 400)


def _listed(key: str, version: _Version, is_latest: bool) -> Listed:
    if version.is_delete_marker:
        return Listed(key, version.version_id, is_latest, True, None, None, version.last_modified, None)
    algorithm = version.checksums[0].algorithm if version.checksums else None
    size_bytes, modified = len(version.data), version.last_modified
    return Listed(
        key, version.version_id, is_latest, False, size_bytes, version.etag, modified, version.storage_class, algorithm
    )


def _page(
    found: list[Listed], prefix: str, after: Marker | None, delimiter: str, max_keys: int, *, is_versions: bool
) -> Page:
    """The first `max_keys` of the entries, those with the delimiter behind the prefix rolled up."""
    entries: list[Listed] = []
    prefixes: list[str] = []
    rolled_before = after.key if after is not None and delimiter and after.key.endswith(delimiter) else None
    marker: Marker | None = None
    for entry in found:
        cut = entry.key.find(delimiter, len(prefix)) if delimiter else -1
        common = entry.key[: cut + len(delimiter)] if cut >= 0 else None
        if common is not None and (common == rolled_before or common in prefixes[-1:]):
            continue
        if len(entries) + len(prefixes) == max_keys:
            return Page(entries, prefixes, marker)
        if common is not None:
            prefixes.append(common)
            marker = Marker(common, None, None if is_versions else common)
        else:
            entries.append(entry)
            version_id = entry.version_id if is_versions else None
            marker = Marker(entry.key, version_id, None if is_versions else entry.key)
    return Page(entries, prefixes, None)
