"""The methods of a Store as botocore sends them. Nothing is sent."""

from __future__ import annotations

import contextlib
import hashlib
import io
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast
from urllib.parse import urlsplit

import botocore.session
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError

from jobs.core.model import Attributes, Checksum, ObjectRef
from jobs.s3 import encoded_words, wire
from jobs.s3.operations import BY_CALL
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
WITH_CHECKSUMS = {"headers": {"x-amz-checksum-mode": "ENABLED"}}
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

    def send(self, method: str, *arguments: Any, **named: Any) -> None:
        """Call a method of a Store."""
        given = {name: value for name, value in PARAMETERS[method](*arguments, **named).items() if value is not None}
        self._headers = given.pop("headers", {})
        with contextlib.suppress(ClientError):
            getattr(self._client, self._methods[BY_CALL[method]])(**given)


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


def _listing(bucket: str, prefix: str, *, delimiter: str, max_keys: int) -> dict[str, Any]:
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


def _attributes(values: Attributes) -> dict[str, Any]:
    """Botocore takes `Expires` as a date only."""
    parameters = _settings(values)
    parameters |= {CONTENT[name]: value for name, value in values.headers.items() if name in CONTENT}
    if values.metadata:
        parameters["Metadata"] = {name: encoded_words.encode(value) for name, value in values.metadata.items()}
    if values.tags:
        parameters["Tagging"] = wire.encode_tags(values.tags)
    return parameters | {"headers": {name: value for name, value in values.headers.items() if name not in CONTENT}}


def _complete(upload, parts, *, guard, size_bytes, checksum):
    listed = [
        {"PartNumber": part.number, "ETag": _quoted(part.etag)}
        | {f"Checksum{each.algorithm}": each.value for each in part.checksums}
        for part in sorted(parts, key=lambda part: part.number)
    ]
    whole = {f"Checksum{checksum.algorithm}": checksum.value, "ChecksumType": _kind(checksum)} if checksum else {}
    named = {"MultipartUpload": {"Parts": listed}, "MpuObjectSize": size_bytes}
    return _upload(upload) | named | _guard(guard) | whole


def _create(ref, attributes, *, checksum):
    kind = {"ChecksumAlgorithm": checksum.algorithm, "ChecksumType": _kind(checksum)} if checksum else {}
    return _place(ref) | _attributes(attributes) | kind


def _list_objects(*named, after, **more):
    token = after.token if after else None
    start = {"ContinuationToken": token, "StartAfter": after.key if after and not token else None}
    return _listing(*named, **more) | start


def _list_versions(*named, after, **more):
    return _listing(*named, **more) | ({"KeyMarker": after.key, "VersionIdMarker": after.version_id} if after else {})


def _restore(ref, *, days, tier):
    request = {"GlacierJobParameters": {"Tier": tier}} | ({} if days is None else {"Days": days})
    return _place(ref) | {"RestoreRequest": request}


def _get(ref, *, start, end, if_match):
    span = f"bytes={start}-{'' if end is None else end - 1}" if start or end is not None else None
    return _place(ref) | WITH_CHECKSUMS | {"IfMatch": _quoted(if_match), "Range": span}


def _copy_part(source, etag, start, end, upload, number):
    span = None if end is None else f"bytes={start}-{end - 1}"
    return _part(upload, number) | _source(source, etag) | {"CopySourceRange": span}


def _put_annotation(ref, name, text, *, object_etag):
    named = {"AnnotationName": name, "AnnotationPayload": text, "ContentMD5": _md5(text)}
    return _place(ref) | named | {"ObjectIfMatch": _quoted(object_etag)}


PARAMETERS: dict[str, Callable[..., dict[str, Any]]] = {
    "abort_multipart": _upload,
    "complete_multipart": _complete,
    "copy": lambda source, etag, ref, settings, *, guard: (
        _place(ref) | _settings(settings) | _guard(guard) | _source(source, etag)
    ),
    "copy_part": _copy_part,
    "create_multipart": _create,
    "delete": lambda ref, *, if_match: _place(ref) | {"IfMatch": _quoted(if_match)},
    "get": _get,
    "get_annotation": lambda ref, name: _place(ref) | WITH_CHECKSUMS | {"AnnotationName": name},
    "get_tags": _place,
    "head": lambda ref, *, part_number: _place(ref) | WITH_CHECKSUMS | {"PartNumber": part_number},
    "is_versioned": lambda bucket: {"Bucket": bucket},
    "list_annotations": lambda ref, *, token: _place(ref) | {"ContinuationToken": token},
    "list_objects": _list_objects,
    "list_parts": lambda upload, *, after: _upload(upload) | {"PartNumberMarker": after or None},
    "list_versions": _list_versions,
    "may_read_locks": _place,
    "put": lambda ref, data, attributes, *, guard, checksum: (
        _place(ref) | _attributes(attributes) | _guard(guard) | _body(data, checksum)
    ),
    "put_annotation": _put_annotation,
    "put_part": lambda upload, number, data, *, checksum: _part(upload, number) | _body(data, checksum),
    "request_restore": _restore,
}
"""What botocore is given for the arguments of each method. `headers`: what it has no parameter for."""
