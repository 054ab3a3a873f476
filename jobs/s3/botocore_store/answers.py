"""Answers of botocore's operations, as Sealift's types. Pure.

What botocore makes of an answer is taken as it is, so that it is a second opinion on our own
parsers. Only a lock's date is taken from the headers, since botocore turns the text into a date.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from jobs.core.enums import ARCHIVE_CLASSES
from jobs.core.model import Attributes, Checksum, Listed, ObjectInfo, ObjectLock, ObjectRef
from jobs.errors import Unavailable
from jobs.s3 import wire
from jobs.s3.botocore_store.client import ANNOTATION_COUNT, ENTRY_ORDER
from jobs.s3.http import encoded_words
from jobs.s3.http.answers import Response
from jobs.s3.store import Annotation, AnnotationPage, Marker, Page, PartPage, StoredPart, Written

_CONTENT = {
    "content-type": "ContentType",
    "cache-control": "CacheControl",
    "content-disposition": "ContentDisposition",
    "content-encoding": "ContentEncoding",
    "content-language": "ContentLanguage",
    "expires": "ExpiresString",
    "x-amz-website-redirect-location": "WebsiteRedirectLocation",
}

Answer = Mapping[str, Any]


def response(answer: Answer, body: bytes = b"") -> Response:
    """Status and headers of the answer, for the checks that both stores share."""
    metadata = answer["ResponseMetadata"]
    headers = {name.lower(): utf8(value) for name, value in metadata["HTTPHeaders"].items()}
    return Response(metadata["HTTPStatusCode"], headers, body)


def check_whole(ref: ObjectRef, answer: Answer) -> None:
    """Raises Unavailable for a body that nothing measures, or that two ETags belong to."""
    headers = response(answer).headers
    if "content-length" not in headers and "chunked" not in headers.get("transfer-encoding", ""):
        detail = "the answer has no length, so it may be cut short"
        raise Unavailable("GetObject", str(ref), "IncompleteBody", detail, 200)
    if '"' in wire.unquote_etag(answer.get("ETag") or ""):
        raise Unavailable("GetObject", str(ref), "MalformedAnswer", "the answer has two ETags", 200)


def utf8(text: str) -> str:
    """A header's text. `http.client` takes its bytes for Latin-1."""
    return text if text.isascii() else text.encode("latin-1").decode("utf-8", "surrogateescape")


def object_info(answer: Answer) -> ObjectInfo:
    """What HEAD or GET says of an object."""
    storage_class = answer.get("StorageClass") or "STANDARD"
    restore = answer.get("Restore") or ""
    is_restored = 'ongoing-request="false"' in restore
    modified = answer.get("LastModified")
    return ObjectInfo(
        size_bytes=answer.get("ContentLength") or 0,
        etag=wire.unquote_etag(answer.get("ETag") or ""),
        last_modified=modified.timestamp() if modified else 0.0,
        version_id=answer.get("VersionId"),
        storage_class=storage_class,
        checksums=checksums(answer),
        attributes=_attributes(answer, storage_class),
        tag_count=answer.get("TagCount") or 0,
        parts_count=answer.get("PartsCount"),
        is_archived=not is_restored if storage_class in ARCHIVE_CLASSES else bool(answer.get("ArchiveStatus")),
        is_restoring='ongoing-request="true"' in restore,
        expiration=answer.get("Expiration"),
        archive_tier=answer.get("ArchiveStatus"),
    )


def _attributes(answer: Answer, storage_class: str) -> Attributes:
    mode, hold = answer.get("ObjectLockMode"), answer.get("ObjectLockLegalHoldStatus") == "ON"
    until = answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-object-lock-retain-until-date")
    return Attributes(
        headers={name: utf8(answer[member]) for name, member in _CONTENT.items() if answer.get(member) is not None},
        metadata={
            name.lower(): encoded_words.decode(utf8(value)) for name, value in (answer.get("Metadata") or {}).items()
        },
        storage_class=storage_class,
        sse=answer.get("ServerSideEncryption"),
        kms_key_id=answer.get("SSEKMSKeyId"),
        lock=ObjectLock(mode, until, hold) if mode or hold else None,
    )


def checksums(answer: Answer) -> tuple[Checksum, ...]:
    """The checksums that botocore knows by name."""
    is_composite = answer.get("ChecksumType") == "COMPOSITE"
    return tuple(
        Checksum(name.removeprefix("Checksum"), value, is_composite or "-" in value)
        for name, value in answer.items()
        if name.startswith("Checksum") and name not in ("ChecksumType", "ChecksumAlgorithm") and value
    )


def written(answer: Answer, result: Answer | None = None) -> Written:
    """What a write says: `result`, if its ETag and checksums have an element of their own."""
    found = answer if result is None else result
    etag, note = wire.unquote_etag(found.get("ETag") or ""), wire.expiry_note(answer.get("Expiration"))
    return Written(etag, answer.get("VersionId"), checksums(found), note)


def put(answer: Answer) -> Written:
    """What PutObject or UploadPart says. Raises ValueError without an ETag."""
    if answer.get("ETag") is None:
        raise ValueError("no ETag in the answer")
    return written(answer)


def parts_page(answer: Answer) -> PartPage:
    """A page of ListParts. Raises ValueError for a part without number or size."""
    is_composite = answer.get("ChecksumType") == "COMPOSITE"
    parts = []
    for each in answer.get("Parts") or ():
        number, size_bytes = each.get("PartNumber"), each.get("Size")
        if number is None or size_bytes is None:
            raise ValueError("a part without number or size")
        sums = tuple(Checksum(algorithm, value, is_composite) for algorithm, value, _ in checksums(each))
        parts.append(StoredPart(number, size_bytes, wire.unquote_etag(each.get("ETag") or ""), sums))
    return PartPage(parts, answer.get("NextPartNumberMarker") or 0 if answer.get("IsTruncated") else None)


def annotations_page(answer: Answer) -> AnnotationPage:
    """A page of ListObjectAnnotations.

    Raises ValueError for an annotation without name or size, or if botocore has read fewer than the
    document has.
    """
    found = []
    for each in answer.get("Annotations") or ():
        if not each.get("AnnotationName") or each.get("Size") is None:
            raise ValueError("an annotation without name or size")
        etag = wire.unquote_etag(each.get("ETag") or "") or None
        found.append(Annotation(each["AnnotationName"], each["Size"], etag))
    if len(found) != answer.get(ANNOTATION_COUNT, len(found)):
        raise ValueError("the page has annotations where botocore does not look for them")
    return AnnotationPage(found, answer.get("NextContinuationToken") or None)


def objects_page(answer: Answer) -> Page:
    """A page of ListObjectsV2."""
    entries = [
        Listed(
            each["Key"],
            None,
            True,
            False,
            each.get("Size"),
            _etag(each),
            _epoch_seconds(each),
            each.get("StorageClass") or "STANDARD",
            _algorithm(each),
        )
        for each in answer.get("Contents") or ()
    ]
    prefixes = _prefixes(answer)
    if not answer.get("IsTruncated"):
        return Page(entries, prefixes, None)
    last = max(entries[-1].key if entries else "", prefixes[-1] if prefixes else "")
    return Page(entries, prefixes, Marker(last, None, answer.get("NextContinuationToken")))


def versions_page(answer: Answer) -> Page:
    """A page of ListObjectVersions.

    Raises ValueError if the order names other entries than there are.
    """
    lists = {"Version": answer.get("Versions") or [], "DeleteMarker": answer.get("DeleteMarkers") or []}
    order: list[str] = answer.get(ENTRY_ORDER) or []
    if any(order.count(kind) != len(entries) for kind, entries in lists.items()):
        raise ValueError("the page has other entries than its elements")
    following = {kind: iter(entries) for kind, entries in lists.items()}
    entries = [_version(next(following[kind]), is_marker=kind == "DeleteMarker") for kind in order]
    marker = None
    if answer.get("IsTruncated"):
        marker = Marker(answer.get("NextKeyMarker") or "", answer.get("NextVersionIdMarker") or None)
    return Page(entries, _prefixes(answer), marker)


def _version(entry: Answer, *, is_marker: bool) -> Listed:
    return Listed(
        entry["Key"],
        entry.get("VersionId"),
        bool(entry.get("IsLatest")),
        is_marker,
        None if is_marker else entry.get("Size"),
        None if is_marker else _etag(entry),
        _epoch_seconds(entry),
        None if is_marker else entry.get("StorageClass") or "STANDARD",
        _algorithm(entry),
    )


def _prefixes(answer: Answer) -> list[str]:
    prefixes: Iterable[Answer] = answer.get("CommonPrefixes") or ()
    return [each.get("Prefix") or "" for each in prefixes]


def _etag(entry: Answer) -> str | None:
    etag = entry.get("ETag")
    return None if etag is None else str(etag).strip('"')


def _epoch_seconds(entry: Answer) -> float:
    modified = entry.get("LastModified")
    return float(modified.timestamp()) if modified else 0.0


def _algorithm(entry: Answer) -> str | None:
    """The algorithm of an entry. Of several our parser takes the last, and so does this."""
    algorithms = entry.get("ChecksumAlgorithm") or [None]
    last: str | None = algorithms[-1]
    return last
