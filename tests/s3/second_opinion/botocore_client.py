"""The methods of a Store as botocore sends them, and what botocore makes of one canned answer. Nothing is sent."""

from __future__ import annotations

import hashlib
import io
from base64 import b64encode
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, cast
from urllib.parse import urlsplit

import botocore.session
from botocore.awsrequest import AWSResponse
from botocore.config import Config

from jobs.core.enums import ARCHIVE_CLASSES
from jobs.core.model import Attributes, Checksum, Listed, ObjectInfo, ObjectLock, ObjectRef
from jobs.s3 import encoded_words, wire
from jobs.s3.operations import Operation
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
from tests.doubles.answering import Asked, Reply

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
Answer = Mapping[str, Any]


class _Raw(io.BytesIO):
    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self.read()


class BotocoreClient:
    """`reply`: what each request is answered with. `seen`: the requests."""

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
        self.reply, self.seen = Reply(), list[Asked]()
        self._client.meta.events.register("before-call.s3", self._add_headers)
        self._client.meta.events.register("before-send.s3", cast("Any", self._answer))

    def _add_headers(self, params: dict[str, Any], **_: Any) -> None:
        params["headers"].update(self._headers)
        params["context"].setdefault("s3_redirect", {})["redirected"] = True  # a given endpoint serves all regions

    def _answer(self, request: Any, **_: Any) -> AWSResponse:
        parts = urlsplit(request.url)
        body = request.body.read() if hasattr(request.body, "read") else request.body or b""
        headers = {
            name.lower(): value.decode() if isinstance(value, bytes) else value
            for name, value in request.headers.items()
        }
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        self.seen.append(Asked(request.method, path, headers, body))
        data = b"" if request.method == "HEAD" else self.reply.body
        answered = {"Content-Length": str(len(self.reply.body))} | {
            name: value.encode("latin-1").decode("utf-8", "surrogateescape")
            for name, value in self.reply.headers.items()
        }
        return AWSResponse(request.url, self.reply.status, cast("Any", answered), _Raw(data))

    def _ask(self, operation: Operation, headers: Mapping[str, str] | None = None, /, **parameters: Any) -> Answer:
        self._headers = headers or {}
        given = {name: value for name, value in parameters.items() if value is not None}
        return cast("Answer", getattr(self._client, self._methods[operation])(**given))

    def head(self, ref: ObjectRef, *, part_number: int | None = None) -> ObjectInfo:
        return _info(self._ask(Operation.HEAD, WITH_CHECKSUMS, **_place(ref), PartNumber=part_number))

    def get(self, ref: ObjectRef, *, start: int = 0, end: int | None = None, if_match: str | None = None) -> Body:
        span = f"bytes={start}-{'' if end is None else end - 1}" if start or end is not None else None
        answer = self._ask(Operation.GET, WITH_CHECKSUMS, **_place(ref), IfMatch=_quoted(if_match), Range=span)
        data = answer["Body"].read()
        is_whole = "ContentRange" not in answer  # a server without ranges
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        answered_at = parsedate_to_datetime(date).timestamp() if date else None
        return Body(data[start:end] if is_whole else data, _info(answer), answered_at)

    def put(self, ref, data, attributes, *, guard, checksum):
        parameters, headers = _attributes(attributes)
        parameters |= _guard(guard) | _body(data, checksum)
        return _written(self._ask(Operation.PUT, headers, **_place(ref), **parameters))

    def copy(self, source, source_etag, ref, settings, *, guard):
        parameters = _settings(settings) | _guard(guard) | _source(source, source_etag)
        answer = self._ask(Operation.COPY, **_place(ref), **parameters)
        return _written(answer, answer.get("CopyObjectResult") or {})

    def get_tags(self, ref: ObjectRef) -> Mapping[str, str]:
        tags = self._ask(Operation.GET_TAGS, **_place(ref)).get("TagSet") or ()
        return {tag.get("Key") or "": tag.get("Value") or "" for tag in tags}

    def list_annotations(self, ref: ObjectRef, *, token: str | None = None) -> AnnotationPage:
        answer = self._ask(Operation.LIST_ANNOTATIONS, **_place(ref), ContinuationToken=token)
        listed = [
            Annotation(each["AnnotationName"], each.get("Size"), _unquoted(each) or None)
            for each in answer.get("Annotations") or ()
        ]
        return AnnotationPage(listed, answer.get("NextContinuationToken") or None)

    def get_annotation(self, ref: ObjectRef, name: str) -> bytes:
        answer = self._ask(Operation.GET_ANNOTATION, WITH_CHECKSUMS, **_place(ref), AnnotationName=name)
        return cast("bytes", answer["AnnotationPayload"].read())

    def put_annotation(self, ref: ObjectRef, name: str, text: bytes, *, object_etag: str) -> None:
        named = {"AnnotationName": name, "AnnotationPayload": text, "ContentMD5": _md5(text)}
        self._ask(Operation.PUT_ANNOTATION, **_place(ref), **named, ObjectIfMatch=_quoted(object_etag))

    def delete(self, ref, *, if_match=None, send_by=None):
        answer = self._ask(Operation.DELETE, **_place(ref), IfMatch=_quoted(if_match))
        return Deleted(answer.get("VersionId"), answer.get("DeleteMarker") is True)

    def may_read_locks(self, ref: ObjectRef) -> bool:
        self._ask(Operation.GET_RETENTION, **_place(ref))
        return True

    def request_restore(self, ref: ObjectRef, *, days: int | None, tier: str) -> Restoring:
        request = {"GlacierJobParameters": {"Tier": tier}} | ({} if days is None else {"Days": days})
        answer = self._ask(Operation.RESTORE, **_place(ref), RestoreRequest=request)
        return Restoring.REQUESTED if answer["ResponseMetadata"]["HTTPStatusCode"] == 202 else Restoring.READY

    def create_multipart(self, ref, attributes, *, checksum=None):
        parameters, headers = _attributes(attributes)
        if checksum:
            kind = "COMPOSITE" if checksum.is_composite else "FULL_OBJECT"
            parameters |= {"ChecksumAlgorithm": checksum.algorithm, "ChecksumType": kind}
        answer = self._ask(Operation.CREATE_MULTIPART, headers, **_place(ref), **parameters)
        return Upload(ref.bucket, ref.key, answer["UploadId"])

    def copy_part(self, source, source_etag, start, end, upload, number):
        answer = self._ask(
            Operation.COPY_PART,
            **_part(upload, number),
            **_source(source, source_etag),
            CopySourceRange=None if end is None else f"bytes={start}-{end - 1}",
        )
        return _part_done(number, _written(answer, answer.get("CopyPartResult") or {}))

    def put_part(self, upload, number, data, *, checksum=None):
        answer = self._ask(Operation.PUT_PART, **_part(upload, number), **_body(data, checksum))
        return _part_done(number, _written(answer), checksum)

    def complete_multipart(self, upload, parts, *, guard, size_bytes=None, checksum=None):
        listed = [
            {"PartNumber": part.number, "ETag": _quoted(part.etag)}
            | {f"Checksum{each.algorithm}": each.value for each in part.checksums}
            for part in sorted(parts, key=lambda part: part.number)
        ]
        whole = {}
        if checksum:
            kind = "COMPOSITE" if checksum.is_composite else "FULL_OBJECT"
            whole = {f"Checksum{checksum.algorithm}": checksum.value, "ChecksumType": kind}
        named = {**_upload(upload), "MultipartUpload": {"Parts": listed}, "MpuObjectSize": size_bytes}
        return _written(self._ask(Operation.COMPLETE, **named, **_guard(guard), **whole))

    def list_parts(self, upload: Upload, *, after: int = 0) -> PartPage:
        answer = self._ask(Operation.LIST_PARTS, **_upload(upload), PartNumberMarker=after or None)
        is_composite = answer.get("ChecksumType") == "COMPOSITE"
        parts = []
        for each in answer.get("Parts") or ():
            sums = tuple(Checksum(algorithm, value, is_composite) for algorithm, value, _ in _checksums(each))
            parts.append(PartDone(each["PartNumber"], _unquoted(each), sums, each["Size"]))
        return PartPage(parts, answer.get("NextPartNumberMarker") or 0 if answer.get("IsTruncated") else None)

    def abort_multipart(self, upload: Upload) -> None:
        self._ask(Operation.ABORT, **_upload(upload))

    def list_objects(self, bucket, prefix, *, after=None, delimiter="", max_keys=1000):
        token = after.token if after else None
        start = {"ContinuationToken": token, "StartAfter": after.key if after and not token else None}
        answer = self._ask(Operation.LIST_OBJECTS, **_listing(bucket, prefix, delimiter, max_keys), **start)
        entries, prefixes = [_listed(each, None) for each in answer.get("Contents") or ()], _prefixes(answer)
        if not answer.get("IsTruncated"):
            return Page(entries, prefixes, None)
        last = max(entries[-1].key if entries else "", prefixes[-1] if prefixes else "")
        return Page(entries, prefixes, Marker(last, None, answer.get("NextContinuationToken")))

    def list_versions(self, bucket, prefix, *, after=None, delimiter="", max_keys=1000):
        """The versions first, then the markers: botocore makes two lists of one."""
        start = {"KeyMarker": after.key, "VersionIdMarker": after.version_id} if after else {}
        answer = self._ask(Operation.LIST_VERSIONS, **_listing(bucket, prefix, delimiter, max_keys), **start)
        entries = [_listed(each, False) for each in answer.get("Versions") or ()]
        entries += [_listed(each, True) for each in answer.get("DeleteMarkers") or ()]
        following = Marker(answer.get("NextKeyMarker") or "", answer.get("NextVersionIdMarker") or None)
        return Page(entries, _prefixes(answer), following if answer.get("IsTruncated") else None)

    def is_versioned(self, bucket: str) -> bool:
        return self._ask(Operation.GET_VERSIONING, Bucket=bucket).get("Status") == "Enabled"


def _quoted(etag: str | None) -> str | None:
    return None if etag is None else f'"{etag}"'


def _unquoted(answer: Answer) -> str:
    return wire.unquote_etag(answer.get("ETag") or "")


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


def _checksums(answer: Answer) -> tuple[Checksum, ...]:
    is_composite = answer.get("ChecksumType") == "COMPOSITE"
    return tuple(
        Checksum(name.removeprefix("Checksum"), value, is_composite or "-" in value)
        for name, value in answer.items()
        if name.startswith("Checksum") and name not in ("ChecksumType", "ChecksumAlgorithm") and value
    )


def _written(answer: Answer, result: Answer | None = None) -> Written:
    """`result`: the element with ETag and checksums, if they have one of their own."""
    note = wire.expiry_note(answer.get("Expiration"))
    found = answer if result is None else result
    source_version_id = answer.get("CopySourceVersionId")
    return Written(_unquoted(found), answer.get("VersionId"), _checksums(found), note, source_version_id)


def _part_done(number: int, written: Written, checksum: Checksum | None = None) -> PartDone:
    return PartDone(number, written.etag, written.checksums or ((checksum,) if checksum else ()))


def _info(answer: Answer) -> ObjectInfo:
    storage_class, restore = answer.get("StorageClass") or "STANDARD", answer.get("Restore") or ""
    is_restored = 'ongoing-request="false"' in restore
    modified, span = answer.get("LastModified"), answer.get("ContentRange")
    mode, hold = answer.get("ObjectLockMode"), answer.get("ObjectLockLegalHoldStatus") == "ON"
    is_held, days = answer.get("ObjectLockEventHold") == "ON", answer.get("ObjectLockEventHoldDurationDays")
    event = (True, days, answer.get("ObjectLockEventHoldDurationYears")) if is_held else ()
    until = answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-object-lock-retain-until-date")
    content = CONTENT | {"expires": "ExpiresString"}
    attributes = Attributes(
        headers={name: answer[member] for name, member in content.items() if answer.get(member) is not None},
        metadata={name.lower(): encoded_words.decode(value) for name, value in (answer.get("Metadata") or {}).items()},
        storage_class=storage_class,
        sse=answer.get("ServerSideEncryption"),
        kms_key_id=answer.get("SSEKMSKeyId"),
        lock=ObjectLock(mode, until, hold, *event) if mode or hold or is_held else None,
    )
    return ObjectInfo(
        size_bytes=int(span.rpartition("/")[2]) if span else answer.get("ContentLength") or 0,
        etag=_unquoted(answer),
        last_modified=modified.timestamp() if modified else 0.0,
        version_id=answer.get("VersionId"),
        storage_class=storage_class,
        checksums=_checksums(answer),
        attributes=attributes,
        tag_count=answer.get("TagCount") or 0,
        parts_count=answer.get("PartsCount"),
        is_archived=not is_restored if storage_class in ARCHIVE_CLASSES else bool(answer.get("ArchiveStatus")),
        is_restoring='ongoing-request="true"' in restore,
        expiration=answer.get("Expiration"),
        archive_tier=answer.get("ArchiveStatus"),
        replication_status=answer.get("ReplicationStatus"),
        unsent_metadata=answer.get("MissingMeta") or 0,
    )


def _listed(entry: Answer, is_marker: bool | None) -> Listed:
    """`is_marker`: None in a list of current objects."""
    has_content = not is_marker
    return Listed(
        entry["Key"],
        entry.get("VersionId"),
        True if is_marker is None else bool(entry.get("IsLatest")),
        bool(is_marker),
        entry.get("Size") if has_content else None,
        _unquoted(entry) if has_content else None,
        entry["LastModified"].timestamp(),
        (entry.get("StorageClass") or "STANDARD") if has_content else None,
        (entry.get("ChecksumAlgorithm") or [None])[-1],
    )


def _prefixes(answer: Answer) -> list[str]:
    return [each.get("Prefix") or "" for each in answer.get("CommonPrefixes") or ()]
