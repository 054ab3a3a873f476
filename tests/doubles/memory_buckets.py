"""What MemoryStore keeps: buckets, versions, and the rules that S3 applies to each request."""

from __future__ import annotations

import bisect
import hashlib
import re
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from msgspec import Struct

from jobs.core.algorithms import ALGORITHMS
from jobs.core.model import NULL_VERSION, Attributes, Checksum, Listed, ObjectInfo, ObjectRef
from jobs.errors import StoreError, store_error
from jobs.s3 import checksums
from jobs.s3.operations import Operation
from jobs.s3.store import ANNOTATION_BYTES, Deleted, Guard, Marker, Page, Written

_ARCHIVE_CLASSES = frozenset({"GLACIER", "DEEP_ARCHIVE"})
ANNOTATIONS_MAX = 1_000
_OF_BUCKETS = {"PutBucketVersioning", *(each for each in Operation if each.is_of_bucket)}


class Beginning(NamedTuple):
    """When a write began, and its place among all writes: S3 dates and orders versions by it."""

    time: float
    order: int


class Version(Struct):
    """One version of an object, or a delete marker.

    `order`: its place among all writes. An upload in parts has that of its CreateMultipartUpload.
    `is_replica`: S3's own replication has written it.
    """

    version_id: str
    data: bytes
    etag: str
    last_modified: float
    attributes: Attributes
    checksums: tuple[Checksum, ...] = ()
    part_sizes: tuple[int, ...] = ()
    is_delete_marker: bool = False
    is_restored: bool = False
    is_restoring: bool = False
    is_replica: bool = False
    order: int = 0
    annotations: dict[str, bytes] = {}

    @property
    def storage_class(self) -> str:
        """STANDARD unless something else was asked for."""
        return self.attributes.storage_class or "STANDARD"

    @property
    def is_archived(self) -> bool:
        """Whether it must be restored before it can be read."""
        return self.storage_class in _ARCHIVE_CLASSES and not self.is_restored


class Bucket(Struct):
    """`versions`: key → its versions, oldest first; never an empty list. `is_suspended`: of versioning that was on."""

    is_versioned: bool
    has_object_lock: bool
    versions: dict[str, list[Version]] = {}
    order: list[str] | None = None
    is_suspended: bool = False

    @property
    def names_versions(self) -> bool:
        """Whether answers name versions: a bucket that never kept any has none."""
        return self.is_versioned or self.is_suspended

    def keys(self, after: str) -> list[str]:
        """The keys that sort at or behind `after`, in S3's order (UTF-8 bytes, which is code points)."""
        if self.order is None:
            self.order = sorted(self.versions)
        return self.order[bisect.bisect_left(self.order, after) :]


class Buckets:
    """The buckets by name. Every check raises the StoreError that S3 would answer."""

    def __init__(self, clock: Callable[[], float], new_id: Callable[[], str]):
        self.clock, self.new_id = clock, new_id
        self.named: dict[str, Bucket] = {}
        self._orders = 0

    def begin(self) -> Beginning:
        """A write begins now."""
        self._orders += 1
        return Beginning(self.clock(), self._orders)

    def bucket(self, operation: str, ref: ObjectRef) -> Bucket:
        """Raise NoSuchBucket without the bucket, and Rejected for an object without a key."""
        if not ref.key and operation not in _OF_BUCKETS:
            raise store_error(operation, str(ref), "NoKey", "an object needs a key", 400)
        if ref.bucket not in self.named:
            raise store_error(operation, str(ref), "NoSuchBucket", "the bucket does not exist", 404)
        return self.named[ref.bucket]

    def find(self, operation: str, ref: ObjectRef) -> Version:
        """The version that can be described and read."""
        versions = self.bucket(operation, ref).versions.get(ref.key, [])
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

    def source(self, operation: str, ref: ObjectRef, etag: str | None, place: ObjectRef) -> Version:
        """The version to copy from: pinned by `etag`, readable. A refusal names `place`, as it does of a real store."""
        try:
            version = self.find(operation, ref)
        except StoreError as error:
            raise error.recast(type(error), target=str(place)) from error
        if etag is not None and etag != version.etag:
            raise precondition(operation, place)
        refuse_archived(operation, place, version)
        return version

    def info(self, bucket: str, version: Version) -> ObjectInfo:
        """What HEAD says of the version."""
        kept, storage_class = version.attributes, version.storage_class
        return ObjectInfo(
            size_bytes=len(version.data),
            etag=version.etag,
            last_modified=float(int(version.last_modified)),
            version_id=version.version_id if self.named[bucket].names_versions else None,
            storage_class=storage_class,
            checksums=version.checksums,
            attributes=Attributes(kept.headers, kept.metadata, {}, storage_class, kept.sse, kept.kms_key_id, kept.lock),
            tag_count=len(kept.tags),
            is_archived=version.is_archived,
            is_restoring=version.is_restoring,
            replication_status="REPLICA" if version.is_replica else None,
        )

    def check_key(self, operation: str, ref: ObjectRef) -> None:
        """The bucket exists and the key has a legal length."""
        self.bucket(operation, ref)
        assert ref.version_id is None, "what is written has no version id yet"
        if not 1 <= len(ref.key.encode()) <= 1024:
            raise store_error(operation, str(ref), "KeyTooLongError", "a key has 1 to 1,024 bytes of UTF-8", 400)

    def check_lock(self, operation: str, ref: ObjectRef, attributes: Attributes) -> None:
        """Object Lock settings need a bucket with Object Lock, and a retention that has not passed."""
        if attributes.lock is None:
            return
        if not self.named[ref.bucket].has_object_lock:
            raise store_error(operation, str(ref), "InvalidRequest", "the bucket has no Object Lock", 400)
        until = attributes.lock.retain_until
        if until is not None and datetime.fromisoformat(until).timestamp() <= self.clock():
            what = "The retain until date must be in the future!"
            raise store_error(operation, str(ref), "InvalidArgument", what, 400)

    def check_held(self, ref: ObjectRef, version: Version) -> None:
        """A version under retention or legal hold stays."""
        lock = version.attributes.lock
        if lock is None:
            return
        until = datetime.fromisoformat(lock.retain_until).timestamp() if lock.retain_until else 0.0
        if lock.legal_hold or (lock.mode and until > self.clock()):
            raise store_error("DeleteObject", str(ref), "AccessDenied", "the version is under Object Lock", 403)

    def check_guard(self, operation: str, ref: ObjectRef, guard: Guard) -> None:
        """The condition of a write holds."""
        versions = self.named[ref.bucket].versions.get(ref.key, [])
        current = versions[-1] if versions and not versions[-1].is_delete_marker else None
        if guard.absent and current is not None:
            raise precondition(operation, ref)
        if guard.etag is not None:
            if current is None:
                raise store_error(operation, str(ref), "NoSuchKey", "the key does not exist", 404)
            if current.etag != guard.etag:
                raise precondition(operation, ref)

    def write(
        self,
        ref: ObjectRef,
        data: bytes,
        etag: str,
        attributes: Attributes,
        sums: tuple[Checksum, ...],
        part_sizes: tuple[int, ...] = (),
        began: Beginning | None = None,
    ) -> Written:
        """Make a new version, the current one unless a later write has ended before (`began`: of an upload)."""
        home = self.named[ref.bucket]
        version_id = self.new_id() if home.is_versioned else NULL_VERSION
        time, order = began or self.begin()
        version = Version(version_id, data, etag, time, attributes, sums, part_sizes, order=order)
        self.add(home, ref.key, version)
        return Written(etag, version_id if home.names_versions else None, sums)

    def remove(self, ref: ObjectRef) -> Deleted:
        """Take the version away; without a version id, and where versions are kept, put a delete marker on top."""
        home = self.named[ref.bucket]
        versions = home.versions.get(ref.key, [])
        if ref.version_id is None and home.names_versions:
            time, order = self.begin()
            version_id = self.new_id() if home.is_versioned else NULL_VERSION
            marker = Version(version_id, b"", "", time, Attributes(), is_delete_marker=True, order=order)
            self.add(home, ref.key, marker)
            return Deleted(marker.version_id, True)
        doomed = next((each for each in versions if each.version_id == (ref.version_id or NULL_VERSION)), None)
        if doomed is None:
            return Deleted(ref.version_id, False)
        self.check_held(ref, doomed)
        versions.remove(doomed)
        if not versions:
            del home.versions[ref.key]
            home.order = None
        return Deleted(ref.version_id, doomed.is_delete_marker)

    def add(self, home: Bucket, key: str, version: Version) -> None:
        """Put the version (or delete marker) where its beginning belongs; without versioning the one that began last
        is the only one.
        """
        if key not in home.versions:
            home.versions[key] = []
            home.order = None
        versions = home.versions[key]
        if home.is_suspended:
            versions[:] = [each for each in versions if each.version_id != NULL_VERSION]
        elif not home.is_versioned:
            versions[:] = [each for each in versions if each.order > version.order][:1] or [version]
            return
        place_version(versions, version)


def place_version(versions: list[Version], version: Version) -> None:
    """Put a version where the beginning of its write belongs. `versions` are the oldest first."""
    bisect.insort(versions, version, key=lambda each: each.order)


def md5(data: bytes) -> str:
    """Hexadecimal MD5: a part's ETag."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def precondition(operation: str, ref: ObjectRef) -> StoreError:
    """412."""
    return store_error(operation, str(ref), "PreconditionFailed", "the object is not as the request demands", 412)


def refuse_archived(operation: str, ref: ObjectRef, version: Version) -> None:
    """An archived version cannot be read."""
    if version.is_archived:
        raise store_error(operation, str(ref), "InvalidObjectState", "the object must be restored first", 403)


def check_digest(operation: str, ref: ObjectRef, data: bytes, checksum: Checksum | None) -> None:
    """The bytes have the checksum."""
    if checksum is None:
        return
    if checksum.algorithm not in ALGORITHMS:
        raise store_error(operation, str(ref), "InvalidRequest", f"unknown checksum {checksum.algorithm}", 400)
    if checksums.full_object(checksum.algorithm, data).value != checksum.value:
        raise store_error(operation, str(ref), "BadDigest", f"the {checksum.algorithm} does not match the bytes", 400)


def check_annotation(operation: str, ref: ObjectRef, name: str, text: bytes, version: Version) -> None:
    """The rules for names and texts:
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/annotations-overview.html
    """
    if len(name.encode()) > 512:
        raise store_error(operation, str(ref), "AnnotationNameTooLong", "a name has at most 512 bytes", 400)
    if not re.fullmatch(r"[\w.-]+", name) or name.lower().startswith(("aws", "s3")):
        raise store_error(operation, str(ref), "InvalidAnnotationName", f"the name {name!r} is not allowed", 400)
    if not 1 <= len(text) <= ANNOTATION_BYTES:
        raise store_error(operation, str(ref), "InvalidRequest", "an annotation has 1 byte to 1 MiB", 400)
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise store_error(operation, str(ref), "UnsupportedMediaType", "it is not UTF-8", 415) from error
    if name not in version.annotations and len(version.annotations) == ANNOTATIONS_MAX:
        raise store_error(operation, str(ref), "AnnotationLimitExceeded", "it has 1,000 already", 400)


def listed(key: str, version: Version, is_latest: bool) -> Listed:
    """The version as a line of a listing."""
    if version.is_delete_marker:
        return Listed(key, version.version_id, is_latest, True, None, None, version.last_modified, None)
    algorithm = version.checksums[0].algorithm if version.checksums else None
    size_bytes, modified = len(version.data), version.last_modified
    return Listed(
        key, version.version_id, is_latest, False, size_bytes, version.etag, modified, version.storage_class, algorithm
    )


def page(
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
