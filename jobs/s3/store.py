"""Store: the protocol through which Sealift talks to S3.

Consistency that callers rely on (S3 gives it since 2020): a read after a successful write
sees it. A conditional write (`Guard`) succeeds for one writer only. A listing shows every
object that existed throughout it, in the byte order of the keys.

Every method raises a `StoreError` of `jobs.errors` and nothing else. What writes an object takes a reference
without a version id. One contract suite
(`tests/s3/contract/`) runs against every implementation.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from msgspec import Struct

from jobs.core.elapsed import elapsed_seconds
from jobs.core.model import Attributes, Checksum, Listed, ObjectInfo, ObjectLock, ObjectRef


class Guard(NamedTuple):
    """The condition of a write: the key must not exist (`absent`), or have this ETag (`etag`)."""

    absent: bool = False
    etag: str | None = None


ABSENT = Guard(absent=True)
UNGUARDED = Guard()

ANNOTATION_BYTES = 1024 * 1024
"""The size of the largest annotation:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/annotations-overview.html"""


class CopySettings(Struct, frozen=True):
    """What a server-side copy sets. None keeps S3's default for a copy.

    CopyObject copies content headers, user metadata, tags and annotations by itself. It does not
    copy storage class, encryption and Object Lock, so they are set here. `without_annotations`: it
    copies no annotations.
    """

    storage_class: str | None = None
    sse: str | None = None
    kms_key_id: str | None = None
    lock: ObjectLock | None = None
    without_annotations: bool = False


class Written(NamedTuple):
    """S3's answer to a write: the new ETag (no quotes), version id if any, checksums if it said.

    `note`: what a reader of the outcome has to know of how it was written, else empty.
    `source_version_id`: the version that a copy was made of, where the server says it.
    `last_modified`: of a copy by one request, in epoch seconds, where the server says it.
    """

    etag: str
    version_id: str | None = None
    checksums: tuple[Checksum, ...] = ()
    note: str = ""
    source_version_id: str | None = None
    last_modified: float | None = None

    def noting(self, *notes: str) -> Written:
        """The answer with more notes behind its own. Empty ones are left out."""
        return self._replace(note="; ".join(filter(None, (self.note, *notes)))) if any(notes) else self


class Deleted(NamedTuple):
    """S3's answer to a delete: the delete marker it made (or the version removed)."""

    version_id: str | None
    is_delete_marker: bool


class Restoring(StrEnum):
    """S3's answer to a request to restore an archived object."""

    REQUESTED = "requested"
    UNDER_WAY = "under_way"
    READY = "ready"


class Body(NamedTuple):
    """The bytes of a (ranged) GET and what its headers said of the whole object.

    `answered_at`: the answer's own `Date` in epoch seconds. None if it has none that is valid.
    """

    data: bytes
    info: ObjectInfo
    answered_at: float | None = None


class Page(NamedTuple):
    """One page of a listing, in S3's order. `next_marker` is None on the last page.

    `prefixes` are the common prefixes when a delimiter was given.
    """

    entries: list[Listed]
    prefixes: list[str]
    next_marker: Marker | None


class Marker(NamedTuple):
    """Where the next page of a listing begins: after this key (and, for versions, this version).

    `course`: how many pages there were, and where an earlier one ended (`jobs.s3.list_pages`).
    """

    key: str
    version_id: str | None = None
    token: str | None = None
    course: tuple[int, object] = (0, None)


class Upload(Struct, frozen=True):
    """A multipart upload: where its object is to be, and S3's id.

    Who begins it may note a `plan`, a digest of what it is made of, so that two uploads with equal plans have equal
    parts (None: nobody can go on with it), and whose `attempt` it is. No request carries them.
    """

    bucket: str
    key: str
    upload_id: str
    plan: str | None = None
    attempt: str = ""

    @property
    def place(self) -> ObjectRef:
        """Where its object is to be."""
        return ObjectRef(self.bucket, self.key)


class PartDone(NamedTuple):
    """A finished part of a multipart upload. `etag` has no quotes. `size_bytes`: as a list of parts says it."""

    number: int
    etag: str
    checksums: tuple[Checksum, ...] = ()
    size_bytes: int | None = None


class PartPage(NamedTuple):
    """One page of an upload's parts, in order. `next_after` is None on the last page."""

    parts: list[PartDone]
    next_after: int | None


class Annotation(NamedTuple):
    """An annotation of an object version, as a list names it. `etag` has no quotes."""

    name: str
    size_bytes: int
    etag: str | None = None


class AnnotationPage(NamedTuple):
    """One page of a version's annotations. `next_token` is None on the last page."""

    annotations: list[Annotation]
    next_token: str | None


class Store(Protocol):
    """S3, as Sealift uses it. One instance talks to one endpoint with one set of credentials."""

    @property
    def heeds_conditions(self) -> bool:
        """Whether conditional writes are known to hold there.

        False: `jobs.s3.condition_trial` finds out.
        """

    @property
    def keeps_annotations(self) -> bool:
        """Whether the server is known to keep annotations.

        False: unknown. Then `jobs.s3.annotations` finds out.
        """

    @property
    def server_clock(self) -> float | None:
        """The server's time when `elapsed_seconds()` was 0, by the Date of an answer. None: no answer yet."""

    def region_of(self, bucket: str) -> str | None:
        """The bucket's region, if a request has found it out."""

    async def head(self, ref: ObjectRef, *, part_number: int | None = None) -> ObjectInfo:
        """The object's description with its checksums.

        With `part_number`, `size_bytes` is that part's.
        """

    async def get(self, ref: ObjectRef, *, start: int = 0, end: int | None = None, if_match: str | None = None) -> Body:
        """The bytes from `start` to `end`, which is exclusive, in memory. `end` None: all the rest.

        Ask for bounded ranges. `info.size_bytes` is the whole object's size. Raises
        PreconditionFailed when the object has another ETag than `if_match`.
        """

    async def put(
        self, ref: ObjectRef, data: bytes, attributes: Attributes, *, guard: Guard, checksum: Checksum | None = None
    ) -> Written:
        """Write a whole object.

        S3 refuses the bytes if they do not match `checksum`, or their MD5 where none is given.
        """

    async def copy(
        self, source: ObjectRef, source_etag: str | None, ref: ObjectRef, settings: CopySettings, *, guard: Guard
    ) -> Written:
        """CopyObject (sources up to 5 GB), pinned to the source's version and, if given, ETag."""

    async def get_tags(self, ref: ObjectRef) -> Mapping[str, str]:
        """The object version's tags."""

    async def may_read_locks(self, ref: ObjectRef) -> bool:
        """Whether `head` shows the version's lock. S3 leaves it out for who may not ask for it (GetObjectRetention)."""

    async def list_annotations(self, ref: ObjectRef, *, token: str | None = None) -> AnnotationPage:
        """One page of the object version's annotations (ListObjectAnnotations).

        A server that does not know the request may answer with the object itself. So
        `jobs.s3.annotations` finds out first whether it knows annotations. Raises StoreError.
        """

    async def get_annotation(self, ref: ObjectRef, name: str) -> bytes:
        """An annotation's text (GetObjectAnnotation), at most `ANNOTATION_BYTES`.

        Raises NotFound with the code NoSuchAnnotation where the version has none of this name.
        """

    async def put_annotation(self, ref: ObjectRef, name: str, text: bytes, *, object_etag: str) -> None:
        """Put an annotation onto the object version, or replace that of the same name
        (PutObjectAnnotation).

        Raises PreconditionFailed when the object has another ETag. Never call it for a server that
        is not known to keep annotations: it would replace the object.
        """

    async def delete(self, ref: ObjectRef, *, if_match: str | None = None, send_by: float | None = None) -> Deleted:
        """Remove the version that `ref` names, for good. Without a version id: make a delete marker (versioned
        buckets) or remove the object.

        `send_by`: by `elapsed_seconds`, the last moment at which it may be sent, or sent again. After that, raises
        Conflict with the code `TooLate` if nothing was sent, else the error of what was sent last.

        With `if_match`, only if the current version has this ETag. S3 asks that of the current one
        alone. Raises PreconditionFailed, or NotFound when nothing is there.
        """

    async def request_restore(self, ref: ObjectRef, *, days: int | None, tier: str) -> Restoring:
        """Ask for a readable copy of an archived version, kept for `days` (None: for
        Intelligent-Tiering, it stays).

        `tier` is Expedited, Standard or Bulk. Asking again is harmless: a copy that is there stays
        `days` longer. Raises Rejected for a version that is not archived, or a tier that its class
        does not have.
        """

    async def create_multipart(
        self, ref: ObjectRef, attributes: Attributes, *, checksum: Checksum | None = None
    ) -> Upload:
        """Begin a multipart upload. `checksum`: of which algorithm S3 is to keep one, and whether of the checksums of
        the parts or of the whole. Its value is not looked at.
        """

    async def copy_part(
        self, source: ObjectRef, source_etag: str, start: int, end: int | None, upload: Upload, number: int
    ) -> PartDone:
        """UploadPartCopy of bytes `start` to `end` (exclusive), pinned to the version and ETag.

        `end`: None for the whole object. S3 copies ranges of more than 5 MiB only:
        https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html
        """

    async def put_part(self, upload: Upload, number: int, data: bytes, *, checksum: Checksum | None = None) -> PartDone:
        """Upload one part. S3 checks the bytes as it does in `put`."""

    async def complete_multipart(
        self,
        upload: Upload,
        parts: Sequence[PartDone],
        *,
        guard: Guard,
        size_bytes: int | None = None,
        checksum: Checksum | None = None,
    ) -> Written:
        """Publish the upload. `size_bytes` and `checksum`: what S3 must find of the whole object."""

    async def list_parts(self, upload: Upload, *, after: int = 0) -> PartPage:
        """One page of the parts of an unfinished upload that come after this number (ListParts).

        Raises NotFound when the upload is completed, aborted or unknown.
        """

    async def abort_multipart(self, upload: Upload) -> None:
        """Drop an unfinished upload. One that is gone already is no error."""

    async def list_objects(
        self, bucket: str, prefix: str, *, after: Marker | None = None, delimiter: str = "", max_keys: int = 1000
    ) -> Page:
        """One page of current objects (ListObjectsV2).

        `after` with only a key starts after that key.
        """

    async def list_versions(
        self, bucket: str, prefix: str, *, after: Marker | None = None, delimiter: str = "", max_keys: int = 1000
    ) -> Page:
        """One page of all versions and markers (ListObjectVersions), newest first for each key."""

    async def is_versioned(self, bucket: str) -> bool:
        """Whether the bucket keeps versions now (GetBucketVersioning says Enabled)."""

    async def close(self) -> None:
        """Release connections. The store is not used afterwards."""


def server_time(store: Store) -> float:
    """The time of a store's server in epoch seconds, ours while it has not answered."""
    return time.time() if store.server_clock is None else store.server_clock + elapsed_seconds()
