"""Parameters of botocore's operations, from Sealift's types. Pure.

What has no parameter that keeps it as it is goes into `Parameters.headers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from jobs.core.model import Attributes, Checksum, ObjectRef
from jobs.s3 import wire
from jobs.s3.http import encoded_words
from jobs.s3.http.part_files import Content, PartFile
from jobs.s3.store import CopySettings, Guard

_CONTENT = {
    "content-type": "ContentType",
    "cache-control": "CacheControl",
    "content-disposition": "ContentDisposition",
    "content-encoding": "ContentEncoding",
    "content-language": "ContentLanguage",
    "x-amz-website-redirect-location": "WebsiteRedirectLocation",
}


class Parameters(NamedTuple):
    """The parameters of an operation, and headers that it has no parameter for."""

    values: dict[str, Any]
    headers: Mapping[str, str] = {}


def place(ref: ObjectRef) -> dict[str, Any]:
    """Bucket, key and version."""
    version = {} if ref.version_id is None else {"VersionId": ref.version_id}
    return {"Bucket": ref.bucket, "Key": ref.key, **version}


def guard(condition: Guard) -> dict[str, str]:
    """The condition of a write."""
    if condition.absent:
        return {"IfNoneMatch": "*"}
    return {} if condition.etag is None else {"IfMatch": f'"{condition.etag}"'}


def copy_source(source: ObjectRef, etag: str | None) -> dict[str, Any]:
    """The source of a copy, pinned."""
    condition = {} if etag is None else {"CopySourceIfMatch": f'"{etag}"'}
    return {"CopySource": place(source), **condition}


def body(data: Content, value: Checksum | None) -> dict[str, Any]:
    """The bytes, and the checksum that S3 must find in them (`wire.body_headers`)."""
    if value is None:
        return {"Body": data, "ContentMD5": wire.content_md5(bytes(data))}
    return {
        "Body": data.open() if isinstance(data, PartFile) else data,
        "ChecksumAlgorithm": value.algorithm,
        f"Checksum{value.algorithm}": value.value,
    }


def settings(values: CopySettings | Attributes) -> dict[str, Any]:
    """Storage class, encryption and Object Lock of a write."""
    lock = values.lock
    has_retention = lock is not None and lock.mode and lock.retain_until
    is_without = isinstance(values, CopySettings) and values.without_annotations
    named = {
        "StorageClass": values.storage_class,
        "ServerSideEncryption": values.sse,
        "SSEKMSKeyId": values.kms_key_id,
        "ObjectLockMode": lock.mode if lock and has_retention else None,
        "ObjectLockRetainUntilDate": lock.retain_until if lock and has_retention else None,
        "ObjectLockLegalHoldStatus": "ON" if lock and lock.legal_hold else None,
        "AnnotationDirective": "EXCLUDE" if is_without else None,
    }
    return {name: value for name, value in named.items() if value}


def attributes(values: Attributes) -> Parameters:
    """Everything that a new object carries besides its bytes."""
    named: dict[str, Any] = {_CONTENT[name]: value for name, value in values.headers.items() if name in _CONTENT}
    named |= settings(values)
    if values.metadata:
        named["Metadata"] = {name: encoded_words.encode(value) for name, value in values.metadata.items()}
    if values.tags:
        named["Tagging"] = wire.encode_tags(values.tags)
    return Parameters(named, {name: value for name, value in values.headers.items() if name not in _CONTENT})
