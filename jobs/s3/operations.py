"""Operations of S3: one table of what each one is. Pure.

The client, what gates it, the log of its requests and the tests against botocore take from here how a request is
addressed, what it may do, how long its answer may take and what its body is. Who grants permissions takes the actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum, auto
from types import MappingProxyType


class Effect(Enum):
    """What a request does. CLEANS: it removes what no listing of objects shows."""

    READS = auto()
    WRITES = auto()
    DELETES = auto()
    CLEANS = auto()


class Patience(Enum):
    """How long S3 may think.

    SLOW: a page may lie behind a million delete markers, a thousand deletes or a large body take their time.
    LATE: S3 may take minutes for 5 GB, and sends spaces meanwhile.
    """

    QUICK = auto()
    SLOW = auto()
    LATE = auto()


CONTENT = "content"
"""The body of an answer that is what a user stored, whatever it looks like."""

_READ, _WRITE, _DELETE, _CLEAN = Effect
_QUICK, _SLOW, _LATE = Patience
_KEY, _BUCKET = False, True
_OBJECT = ("GetObject", "GetObjectVersion")
_TAGS = ("GetObjectTagging", "GetObjectVersionTagging")
_NOTES = ("ListObjectAnnotations", "ListObjectVersionAnnotations")
_NOTE = ("GetObjectAnnotation", "GetObjectVersionAnnotation")
_PUT_NOTE = ("PutObjectAnnotation", "PutObjectVersionAnnotation")
_REMOVE = ("DeleteObject", "DeleteObjectVersion")


class Operation(StrEnum):
    """An operation, by S3's own name:
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html

    `call`: the method of `Store` that sends it, if there is one. `is_of_bucket`: it addresses a bucket. So would an
    object without a key: its PUT would make the bucket, and its DELETE remove it. `query`: what its query begins with.
    `body`: of the answer, CONTENT, the name of its document, or empty where S3 sends none. `actions`: of IAM, the one
    that allows it, and the one that does so where it names a version:
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
    """

    call: str
    method: str
    is_of_bucket: bool
    query: str
    effect: Effect
    patience: Patience
    body: str
    actions: tuple[str, ...]

    def __new__(
        cls, name: str, call: str, method: str, is_of_bucket: bool, query: str, effect: Effect, patience: Patience,
        body: str, actions: tuple[str, ...],
    ) -> Operation:  # fmt: skip
        """A name that knows its row."""
        self = str.__new__(cls, name)
        self._value_ = name
        self.call, self.method, self.is_of_bucket, self.query = call, method, is_of_bucket, query
        self.effect, self.patience, self.body = effect, patience, body
        self.actions = tuple(f"s3:{each}" for each in actions)
        return self

    # fmt: off
    HEAD = "HeadObject", "head", "HEAD", _KEY, "", _READ, _QUICK, "", _OBJECT
    GET = "GetObject", "get", "GET", _KEY, "", _READ, _QUICK, CONTENT, _OBJECT
    PUT = "PutObject", "put", "PUT", _KEY, "", _WRITE, _SLOW, "", ("PutObject",)
    COPY = "CopyObject", "copy", "PUT", _KEY, "", _WRITE, _LATE, "CopyObjectResult", ("PutObject",)
    GET_TAGS = "GetObjectTagging", "get_tags", "GET", _KEY, "tagging", _READ, _QUICK, "Tagging", _TAGS
    LIST_ANNOTATIONS = (
        "ListObjectAnnotations", "list_annotations", "GET", _KEY, "annotation", _READ, _QUICK,
        "ListObjectAnnotationsOutput", _NOTES,
    )
    GET_ANNOTATION = (
        "GetObjectAnnotation", "get_annotation", "GET", _KEY, "annotation", _READ, _QUICK, CONTENT, _NOTE,
    )
    PUT_ANNOTATION = (
        "PutObjectAnnotation", "put_annotation", "PUT", _KEY, "annotation", _WRITE, _QUICK,
        "PutObjectAnnotationOutput", _PUT_NOTE,
    )
    DELETE = "DeleteObject", "delete", "DELETE", _KEY, "", _DELETE, _QUICK, "", _REMOVE
    DELETE_VERSIONS = (
        "DeleteObjects", "delete_versions", "POST", _BUCKET, "delete=", _DELETE, _SLOW, "DeleteResult", _REMOVE,
    )
    RESTORE = (
        "RestoreObject", "request_restore", "POST", _KEY, "restore=", _WRITE, _QUICK, "", ("RestoreObject",),
    )
    CREATE_MULTIPART = (
        "CreateMultipartUpload", "create_multipart", "POST", _KEY, "uploads=", _WRITE, _QUICK,
        "InitiateMultipartUploadResult", ("PutObject",),
    )
    COPY_PART = "UploadPartCopy", "copy_part", "PUT", _KEY, "", _WRITE, _LATE, "CopyPartResult", ("PutObject",)
    PUT_PART = "UploadPart", "put_part", "PUT", _KEY, "", _WRITE, _SLOW, "", ("PutObject",)
    COMPLETE = (
        "CompleteMultipartUpload", "complete_multipart", "POST", _KEY, "", _WRITE, _LATE,
        "CompleteMultipartUploadResult", ("PutObject",),
    )
    LIST_PARTS = (
        "ListParts", "list_parts", "GET", _KEY, "", _READ, _QUICK, "ListPartsResult", ("ListMultipartUploadParts",),
    )
    ABORT = (
        "AbortMultipartUpload", "abort_multipart", "DELETE", _KEY, "", _CLEAN, _QUICK, "", ("AbortMultipartUpload",),
    )
    LIST_OBJECTS = (
        "ListObjectsV2", "list_objects", "GET", _BUCKET, "list-type=2", _READ, _SLOW, "ListBucketResult",
        ("ListBucket",),
    )
    LIST_VERSIONS = (
        "ListObjectVersions", "list_versions", "GET", _BUCKET, "versions=", _READ, _SLOW, "ListVersionsResult",
        ("ListBucketVersions",),
    )
    GET_VERSIONING = (
        "GetBucketVersioning", "is_versioned", "GET", _BUCKET, "versioning=", _READ, _QUICK,
        "VersioningConfiguration", ("GetBucketVersioning",),
    )
    GET_LOCATION = (
        "GetBucketLocation", "", "GET", _BUCKET, "location=", _READ, _QUICK, "LocationConstraint",
        ("GetBucketLocation",),
    )
    # fmt: on

    @property
    def can_find_a_marker(self) -> bool:
        """Whether it reads what a version id names, which may be a delete marker: S3 answers 405 then."""
        return self.effect is Effect.READS and len(self.actions) > 1


SOURCE_READS: Mapping[Operation, tuple[Operation, ...]] = MappingProxyType(
    {Operation.COPY: (Operation.GET, Operation.GET_TAGS), Operation.COPY_PART: (Operation.GET,)}
)
"""What a copy does at its source, by the same credentials."""
BY_CALL: Mapping[str, Operation] = MappingProxyType({each.call: each for each in Operation if each.call})
"""By the methods of `Store`."""
