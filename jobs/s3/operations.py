"""Operations of S3: one table of what each one is. Pure.

The client, what gates it, the log of its requests and the tests against botocore take from here how a request is
addressed, what it may do, how long its answer may take and what its body is. Who grants permissions takes the actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum
from types import MappingProxyType

Effect = Enum("Effect", "READS WRITES DELETES CLEANS")
"""What a request does. CLEANS: it removes what no listing of objects shows."""


class Patience(Enum):
    """How many seconds an answer may take, and how many of them S3 may think without a word, if more than usual.

    SLOW: a page may lie behind a million delete markers, a thousand deletes or a large body take their time. LATE: S3
    may take minutes for 5 GB, and sends spaces meanwhile.
    """

    QUICK = 300.0, 0.0
    SLOW = 300.0, 60.0
    LATE = 1800.0, 300.0


CONTENT = "content"
"""The body of an answer that is what a user stored, whatever it looks like."""

_READ, _WRITE, _DELETE, _CLEAN = Effect
_QUICK, _SLOW, _LATE = Patience
_GET, _PUT = ("GetObject", "GetObjectVersion"), ("PutObject",)
_GET_TAGS = ("GetObjectTagging", "GetObjectVersionTagging")
_LIST_NOTES = ("ListObjectAnnotations", "ListObjectVersionAnnotations")
_GET_NOTE = ("GetObjectAnnotation", "GetObjectVersionAnnotation")
_PUT_NOTE = ("PutObjectAnnotation", "PutObjectVersionAnnotation")
_REMOVE = ("DeleteObject", "DeleteObjectVersion")


class Operation(StrEnum):
    """An operation, by S3's own name:
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html

    `call`: the method of `Store` that sends it. `is_of_bucket`: it addresses a bucket. So would an
    object without a key: its PUT would make the bucket, and its DELETE remove it. `query`: what its query begins with.
    `body`: of the answer, CONTENT, the name of its document, or empty where S3 sends none. `actions`: of IAM, the one
    that allows it, and the one that does so where it names a version:
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
    """

    call: str
    method: str
    effect: Effect
    actions: tuple[str, ...]
    body: str
    query: str
    patience: Patience
    is_of_bucket: bool

    def __new__(
        cls, name: str, call: str, method: str, effect: Effect, actions: tuple[str, ...], body: str = "",
        query: str = "", patience: Patience = _QUICK, is_of_bucket: bool = False,
    ) -> Operation:  # fmt: skip
        """A name that knows its row."""
        self = str.__new__(cls, name)
        self._value_ = name
        self.call, self.method, self.effect, self.body, self.query = call, method, effect, body, query
        self.actions = tuple(f"s3:{each}" for each in actions)
        self.patience, self.is_of_bucket = patience, is_of_bucket
        return self

    # fmt: off
    HEAD = "HeadObject", "head", "HEAD", _READ, _GET
    GET = "GetObject", "get", "GET", _READ, _GET, CONTENT
    PUT = "PutObject", "put", "PUT", _WRITE, _PUT, "", "", _SLOW
    COPY = "CopyObject", "copy", "PUT", _WRITE, _PUT, "CopyObjectResult", "", _LATE
    GET_TAGS = "GetObjectTagging", "get_tags", "GET", _READ, _GET_TAGS, "Tagging", "tagging"
    GET_RETENTION = (
        "GetObjectRetention", "may_read_locks", "GET", _READ, ("GetObjectRetention",), "Retention", "retention")
    LIST_ANNOTATIONS = (
        "ListObjectAnnotations", "list_annotations", "GET", _READ, _LIST_NOTES, "ListObjectAnnotationsOutput",
        "annotation")
    GET_ANNOTATION = "GetObjectAnnotation", "get_annotation", "GET", _READ, _GET_NOTE, CONTENT, "annotation"
    PUT_ANNOTATION = (
        "PutObjectAnnotation", "put_annotation", "PUT", _WRITE, _PUT_NOTE, "PutObjectAnnotationOutput", "annotation")
    DELETE = "DeleteObject", "delete", "DELETE", _DELETE, _REMOVE
    RESTORE = "RestoreObject", "request_restore", "POST", _WRITE, ("RestoreObject",), "", "restore="
    CREATE_MULTIPART = (
        "CreateMultipartUpload", "create_multipart", "POST", _WRITE, _PUT, "InitiateMultipartUploadResult", "uploads=")
    COPY_PART = "UploadPartCopy", "copy_part", "PUT", _WRITE, _PUT, "CopyPartResult", "", _LATE
    PUT_PART = "UploadPart", "put_part", "PUT", _WRITE, _PUT, "", "", _SLOW
    COMPLETE = (
        "CompleteMultipartUpload", "complete_multipart", "POST", _WRITE, _PUT, "CompleteMultipartUploadResult", "",
        _LATE)
    LIST_PARTS = "ListParts", "list_parts", "GET", _READ, ("ListMultipartUploadParts",), "ListPartsResult"
    ABORT = "AbortMultipartUpload", "abort_multipart", "DELETE", _CLEAN, ("AbortMultipartUpload",)
    LIST_OBJECTS = (
        "ListObjectsV2", "list_objects", "GET", _READ, ("ListBucket",), "ListBucketResult", "list-type=2", _SLOW, True)
    LIST_VERSIONS = (
        "ListObjectVersions", "list_versions", "GET", _READ, ("ListBucketVersions",), "ListVersionsResult", "versions=",
        _SLOW, True)
    GET_VERSIONING = (
        "GetBucketVersioning", "is_versioned", "GET", _READ, ("GetBucketVersioning",), "VersioningConfiguration",
        "versioning=", _QUICK, True)
    # fmt: on

    @property
    def can_find_a_marker(self) -> bool:
        """Whether it reads what a version id names, which may be a delete marker: S3 answers 405 then."""
        return self.effect is Effect.READS and len(self.actions) > 1


BY_CALL: Mapping[str, Operation] = MappingProxyType({each.call: each for each in Operation})
"""By the methods of `Store`."""
