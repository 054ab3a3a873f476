"""The methods of a Store as botocore sends them. Nothing is sent."""

from __future__ import annotations

import contextlib
import hashlib
import io
from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Any, cast
from urllib.parse import urlsplit

import botocore.session
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError

from jobs.core.model import Attributes, Checksum, ObjectRef
from jobs.s3 import encoded_words, wire
from jobs.s3.operations import Operation
from jobs.s3.store import CopySettings, Guard, Upload
from tests.doubles.answering import Asked

CONTENT = {
    "content-type": "ContentType",
    "cache-control": "CacheControl",
    "content-disposition": "ContentDisposition",
    "content-encoding": "ContentEncoding",
    "content-language": "ContentLanguage",
    "x-amz-website-redirect-location": "WebsiteRedirectLocation",
}
WITH_CHECKSUMS = {"x-amz-checksum-mode": "ENABLED"}
"""As a header: with its own parameter, botocore compares the checksum of the whole with a range."""
REFUSED = 500


class _Raw(io.BytesIO):
    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self.read()


class BotocoreClient:
    """`seen`: the requests. Each is refused."""

    def __init__(self) -> None:
        config = Config(
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
        )
        self._client = botocore.session.Session().create_client(
            "s3", "us-east-1", endpoint_url="http://s3.test", config=config, aws_access_key_id="id",
            aws_secret_access_key="secret",
        )  # fmt: skip
        self._methods = {name: method for method, name in self._client.meta.method_to_api_mapping.items()}
        self._headers: Mapping[str, str] = {}
        self.seen = list[Asked]()
        self._client.meta.events.register("before-call.s3", self._add_headers)
        self._client.meta.events.register("before-send.s3", cast("Any", self._refuse))

    def _add_headers(self, params: dict[str, Any], **_: Any) -> None:
        params["headers"].update(self._headers)

    def _refuse(self, request: Any, **_: Any) -> AWSResponse:
        parts = urlsplit(request.url)
        body = request.body.read() if hasattr(request.body, "read") else request.body or b""
        headers = {
            name.lower(): value.decode() if isinstance(value, bytes) else value
            for name, value in request.headers.items()
        }
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        self.seen.append(Asked(request.method, path, headers, body))
        return AWSResponse(request.url, REFUSED, cast("Any", {}), _Raw())

    def _ask(self, operation: Operation, headers: Mapping[str, str] | None = None, /, **parameters: Any) -> None:
        self._headers = headers or {}
        given = {name: value for name, value in parameters.items() if value is not None}
        with contextlib.suppress(ClientError):
            getattr(self._client, self._methods[operation])(**given)

    def head(self, ref: ObjectRef, *, part_number: int | None = None) -> None:
        self._ask(Operation.HEAD, WITH_CHECKSUMS, **_place(ref), PartNumber=part_number)

    def get(self, ref: ObjectRef, *, start: int = 0, end: int | None = None, if_match: str | None = None) -> None:
        span = f"bytes={start}-{'' if end is None else end - 1}" if start or end is not None else None
        self._ask(Operation.GET, WITH_CHECKSUMS, **_place(ref), IfMatch=_quoted(if_match), Range=span)

    def put(self, ref, data, attributes, *, guard, checksum):
        parameters, headers = _attributes(attributes)
        self._ask(Operation.PUT, headers, **_place(ref), **parameters, **_guard(guard), **_body(data, checksum))

    def copy(self, source, source_etag, ref, settings, *, guard):
        parameters = _settings(settings) | _guard(guard) | _source(source, source_etag)
        self._ask(Operation.COPY, **_place(ref), **parameters)

    def get_tags(self, ref: ObjectRef) -> None:
        self._ask(Operation.GET_TAGS, **_place(ref))

    def list_annotations(self, ref: ObjectRef, *, token: str | None = None) -> None:
        self._ask(Operation.LIST_ANNOTATIONS, **_place(ref), ContinuationToken=token)

    def get_annotation(self, ref: ObjectRef, name: str) -> None:
        self._ask(Operation.GET_ANNOTATION, WITH_CHECKSUMS, **_place(ref), AnnotationName=name)

    def put_annotation(self, ref: ObjectRef, name: str, text: bytes, *, object_etag: str) -> None:
        named = {"AnnotationName": name, "AnnotationPayload": text, "ContentMD5": _md5(text)}
        self._ask(Operation.PUT_ANNOTATION, **_place(ref), **named, ObjectIfMatch=_quoted(object_etag))

    def delete(self, ref: ObjectRef, *, if_match: str | None = None) -> None:
        self._ask(Operation.DELETE, **_place(ref), IfMatch=_quoted(if_match))

    def may_read_locks(self, ref: ObjectRef) -> None:
        self._ask(Operation.GET_RETENTION, **_place(ref))

    def request_restore(self, ref: ObjectRef, *, days: int | None, tier: str) -> None:
        request = {"GlacierJobParameters": {"Tier": tier}} | ({} if days is None else {"Days": days})
        self._ask(Operation.RESTORE, **_place(ref), RestoreRequest=request)

    def create_multipart(self, ref, attributes, *, checksum=None):
        parameters, headers = _attributes(attributes)
        if checksum:
            parameters |= {"ChecksumAlgorithm": checksum.algorithm, "ChecksumType": _kind(checksum)}
        self._ask(Operation.CREATE_MULTIPART, headers, **_place(ref), **parameters)

    def copy_part(self, source, source_etag, start, end, upload, number):
        span = None if end is None else f"bytes={start}-{end - 1}"
        parameters = _part(upload, number) | _source(source, source_etag)
        self._ask(Operation.COPY_PART, **parameters, CopySourceRange=span)

    def put_part(self, upload, number, data, *, checksum=None):
        self._ask(Operation.PUT_PART, **_part(upload, number), **_body(data, checksum))

    def complete_multipart(self, upload, parts, *, guard, size_bytes=None, checksum=None):
        listed = [
            {"PartNumber": part.number, "ETag": _quoted(part.etag)}
            | {f"Checksum{each.algorithm}": each.value for each in part.checksums}
            for part in sorted(parts, key=lambda part: part.number)
        ]
        whole = {f"Checksum{checksum.algorithm}": checksum.value, "ChecksumType": _kind(checksum)} if checksum else {}
        named = {**_upload(upload), "MultipartUpload": {"Parts": listed}, "MpuObjectSize": size_bytes}
        self._ask(Operation.COMPLETE, **named, **_guard(guard), **whole)

    def list_parts(self, upload: Upload, *, after: int = 0) -> None:
        self._ask(Operation.LIST_PARTS, **_upload(upload), PartNumberMarker=after or None)

    def abort_multipart(self, upload: Upload) -> None:
        self._ask(Operation.ABORT, **_upload(upload))

    def list_objects(self, bucket, prefix, *, after=None, delimiter="", max_keys=1000):
        token = after.token if after else None
        start = {"ContinuationToken": token, "StartAfter": after.key if after and not token else None}
        self._ask(Operation.LIST_OBJECTS, **_listing(bucket, prefix, delimiter, max_keys), **start)

    def list_versions(self, bucket, prefix, *, after=None, delimiter="", max_keys=1000):
        start = {"KeyMarker": after.key, "VersionIdMarker": after.version_id} if after else {}
        self._ask(Operation.LIST_VERSIONS, **_listing(bucket, prefix, delimiter, max_keys), **start)

    def is_versioned(self, bucket: str) -> None:
        self._ask(Operation.GET_VERSIONING, Bucket=bucket)


def _quoted(etag: str | None) -> str | None:
    return None if etag is None else f'"{etag}"'


def _place(ref: ObjectRef) -> dict[str, Any]:
    return {"Bucket": ref.bucket, "Key": ref.key, "VersionId": ref.version_id}


def _upload(upload: Upload) -> dict[str, Any]:
    return {"Bucket": upload.bucket, "Key": upload.key, "UploadId": upload.upload_id}


def _part(upload: Upload, number: int) -> dict[str, Any]:
    return {**_upload(upload), "PartNumber": number}


def _guard(guard: Guard) -> dict[str, Any]:
    return {"IfNoneMatch": "*" if guard.absent else None, "IfMatch": _quoted(guard.etag)}


def _source(source: ObjectRef, etag: str | None) -> dict[str, Any]:
    place = {name: value for name, value in _place(source).items() if value is not None}
    return {"CopySource": place, "CopySourceIfMatch": _quoted(etag)}


def _listing(bucket: str, prefix: str, delimiter: str, max_keys: int) -> dict[str, Any]:
    return {"Bucket": bucket, "MaxKeys": max_keys, "Prefix": prefix or None, "Delimiter": delimiter or None}


def _md5(data: bytes) -> str:
    return b64encode(hashlib.md5(data).digest()).decode()


def _kind(checksum: Checksum) -> str:
    return "COMPOSITE" if checksum.is_composite else "FULL_OBJECT"


def _body(data: bytes, checksum: Checksum | None) -> dict[str, Any]:
    if checksum is None:
        return {"Body": data, "ContentMD5": _md5(data)}
    algorithm = checksum.algorithm
    return {"Body": data, "ChecksumAlgorithm": algorithm, f"Checksum{algorithm}": checksum.value}


def _settings(values: CopySettings | Attributes) -> dict[str, Any]:
    lock = values.lock
    has_retention = lock is not None and lock.mode and lock.retain_until
    return {
        "StorageClass": values.storage_class,
        "ServerSideEncryption": values.sse,
        "SSEKMSKeyId": values.kms_key_id,
        "ObjectLockMode": lock.mode if lock and has_retention else None,
        "ObjectLockRetainUntilDate": lock.retain_until if lock and has_retention else None,
        "ObjectLockLegalHoldStatus": "ON" if lock and lock.legal_hold else None,
        "ObjectLockEventHold": "ON" if lock and lock.event_hold else None,
        "ObjectLockEventHoldDurationDays": lock.event_days if lock else None,
        "ObjectLockEventHoldDurationYears": lock.event_years if lock else None,
        "AnnotationDirective": "EXCLUDE" if getattr(values, "without_annotations", False) else None,
    }


def _attributes(values: Attributes) -> tuple[dict[str, Any], dict[str, str]]:
    """The parameters, and the headers that botocore has none for: it takes `Expires` as a date only."""
    parameters = _settings(values)
    parameters |= {CONTENT[name]: value for name, value in values.headers.items() if name in CONTENT}
    if values.metadata:
        parameters["Metadata"] = {name: encoded_words.encode(value) for name, value in values.metadata.items()}
    if values.tags:
        parameters["Tagging"] = wire.encode_tags(values.tags)
    return parameters, {name: value for name, value in values.headers.items() if name not in CONTENT}
