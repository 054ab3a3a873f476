"""Answers as servers give them: right ones, odd ones, refusals, and what is no answer of S3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

from hypothesis import strategies as st

from jobs.s3.operations import BY_CALL
from tests.doubles.scripted_server import Reply, error_body
from tests.s3.second_opinion.calls import REPLIES

STATUSES = (400, 401, 403, 404, 405, 409, 412, 416, 429, 500, 501, 503)
CODES = (  # but those of another region, which our client follows
    "AccessDenied",
    "BadDigest",
    "ConditionalRequestConflict",
    "ExpiredToken",
    "InternalError",
    "InvalidAccessKeyId",
    "InvalidArgument",
    "InvalidObjectState",
    "InvalidSecurity",
    "InvalidToken",
    "MethodNotAllowed",
    "NoSuchBucket",
    "NoSuchKey",
    "NoSuchUpload",
    "NoSuchVersion",
    "NotSignedUp",
    "OperationAborted",
    "PreconditionFailed",
    "RequestTimeTooSkewed",
    "RequestTimeout",
    "RestoreAlreadyInProgress",
    "ServiceUnavailable",
    "SignatureDoesNotMatch",
    "SlowDown",
    "SomethingNew",
    "TokenRefreshRequired",
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "x-amz-delete-marker": st.sampled_from(["true", "false"]),
        "x-amz-version-id": st.sampled_from(["v1", "null"]),
    },
)


@st.composite
def refusals(draw: Any) -> Reply:
    """An error: with its document, without, or with another one.

    The server keeps the document of a HEAD to itself, until the client asks with a GET.
    """
    body = draw(st.sampled_from(CODES).map(error_body) | st.sampled_from([b"", b"<html>busy</html>", b"no XML"]))
    return Reply(draw(st.sampled_from(STATUSES)), draw(HEADERS), body)


@st.composite
def descriptions(draw: Any) -> dict[str, str]:
    """Headers of HEAD or GET."""
    optional = {
        "Last-Modified": st.sampled_from(["Wed, 25 Nov 2026 00:33:40 GMT"]),
        "x-amz-storage-class": st.sampled_from(["STANDARD_IA", "GLACIER", "INTELLIGENT_TIERING"]),
        "x-amz-archive-status": st.just("ARCHIVE_ACCESS"),
        "x-amz-restore": st.sampled_from(
            ['ongoing-request="true"', 'ongoing-request="false", expiry-date="Fri, 23 Dec 2026 00:00:00 GMT"']
        ),
        "x-amz-checksum-crc64nvme": st.just("AAAAAAAAAAA="),
        "x-amz-checksum-sha256": st.sampled_from(["abc=", "abc=-3"]),
        "x-amz-checksum-type": st.sampled_from(["COMPOSITE", "FULL_OBJECT"]),
        "x-amz-tagging-count": st.integers(0, 10).map(str),
        "x-amz-mp-parts-count": st.integers(1, 10_000).map(str),
        "x-amz-object-lock-mode": st.just("GOVERNANCE"),
        "x-amz-object-lock-retain-until-date": st.just("2099-01-01T00:00:00.000Z"),
        "x-amz-object-lock-legal-hold": st.sampled_from(["ON", "OFF"]),
        "x-amz-object-lock-event-hold": st.sampled_from(["ON", "OFF"]),
        "x-amz-object-lock-event-hold-duration-days": st.just("30"),
        "x-amz-missing-meta": st.integers(0, 9).map(str),
        "x-amz-server-side-encryption": st.just("aws:kms"),
        "x-amz-server-side-encryption-aws-kms-key-id": st.just("arn:aws:kms:eu-west-1:1:key/k"),
        "x-amz-replication-status": st.sampled_from(["REPLICA", "PENDING"]),
        "Date": st.sampled_from(["Wed, 25 Nov 2026 00:33:41 GMT"]),
        "x-amz-expiration": st.just('expiry-date="Fri, 23 Dec 2026 00:00:00 GMT", rule-id="r"'),
        "x-amz-version-id": st.sampled_from(["v1", "null", "other"]),
        "x-amz-meta-Port": st.sampled_from(
            ["Oslo", "a  b", "", "=?UTF-8?B?xYHDs2TFug==?=", "\xc4", "Łódź".encode().decode("latin-1")]
        ),
        "Content-Type": st.just("text/plain"),
        "Content-Language": st.just("de"),
        "Expires": st.sampled_from(["Wed, 25 Nov 2026 00:33:40 GMT", "0"]),
    }
    etag = draw(st.sampled_from(['"e1"', "e1", '"e1-3"', None, '""']))
    headers: dict[str, str] = draw(st.fixed_dictionaries({}, optional=optional))
    return headers | ({} if etag is None else {"ETag": etag})


@st.composite
def heads(draw: Any) -> Reply:
    """An answer to HEAD."""
    return Reply(200, draw(descriptions()) | {"Content-Length": str(draw(st.integers(0, 10**13)))})


@st.composite
def gets(draw: Any) -> Reply:
    """An answer to GET: the whole or the range."""
    headers = draw(descriptions())
    headers.pop("x-amz-archive-status", None)  # S3 documents it for HEAD alone: a GET of what is archived is refused
    if draw(st.booleans()):
        return Reply(206, headers | {"Content-Range": "bytes 2-3/10"}, b"23")
    return Reply(200, headers, b"0123456789")


@st.composite
def writes(draw: Any) -> Reply:
    """An answer to PutObject or UploadPart."""
    headers = draw(descriptions())
    headers.pop("x-amz-checksum-type", None)  # S3 documents it for whole objects alone
    return Reply(200, headers)


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="￾￿"), min_size=1, max_size=6)
TIMES = st.sampled_from(["2026-11-25T00:33:40.000Z", "2026-11-25T00:33:40Z"])


def _element(name: str, value: object) -> str:
    return "" if value is None else f"<{name}>{escape(str(value))}</{name}>"


@st.composite
def _entry(draw: Any, kind: str, *, is_encoded: bool) -> str:
    key = draw(NAMES)
    fields = [
        ("Key", quote_plus(key, safe="/") if is_encoded else key),
        ("VersionId", draw(st.sampled_from(["v1", "null"])) if kind != "Contents" else None),
        ("IsLatest", draw(st.sampled_from(["true", "false"])) if kind != "Contents" else None),
        ("LastModified", draw(TIMES)),
    ]
    if kind != "DeleteMarker":
        fields += [
            ("ETag", draw(st.sampled_from(['"e1"', "e1", '"e1-3"']))),
            ("ChecksumAlgorithm", draw(st.sampled_from([None, "CRC64NVME"]))),
            ("Size", draw(st.integers(0, 10**13))),
            ("StorageClass", draw(st.sampled_from([None, "GLACIER"]))),
        ]
    return f"<{kind}>{''.join(_element(*each) for each in fields)}</{kind}>"


def _listing(root: str, parts: Sequence[str]) -> Reply:
    return Reply(body=f'<{root} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{"".join(parts)}</{root}>'.encode())


@st.composite
def listings(draw: Any, *, is_versions: bool) -> Reply:
    """A page: keys encoded or not, truncated or not, with markers or without."""
    is_encoded = draw(st.booleans())
    spell = (lambda text: quote_plus(text, safe="/")) if is_encoded else (lambda text: text)
    kinds = ["Version", "DeleteMarker"] if is_versions else ["Contents"]
    parts = [_element("EncodingType", "url" if is_encoded else None)]
    parts.append(_element("IsTruncated", draw(st.sampled_from([None, "true", "false"]))))
    if is_versions:
        parts.append(_element("NextKeyMarker", draw(st.none() | NAMES.map(spell))))
        parts.append(_element("NextVersionIdMarker", draw(st.sampled_from([None, "v9", ""]))))
    else:
        parts.append(_element("NextContinuationToken", draw(st.sampled_from([None, "t+/=", "a%20b"]))))
    for kind in draw(st.lists(st.sampled_from(kinds), max_size=4)):
        parts.append(draw(_entry(kind, is_encoded=is_encoded)))
    for prefix in draw(st.lists(NAMES, max_size=2)):
        parts.append(f"<CommonPrefixes>{_element('Prefix', spell(prefix))}</CommonPrefixes>")
    return _listing("ListVersionsResult" if is_versions else "ListBucketResult", parts)


@st.composite
def results(draw: Any, method: str) -> Reply:
    """An answer that names an ETag in its document."""
    root = BY_CALL[method].body
    fields = [
        _element("ETag", draw(st.sampled_from(['"e1"', "e1", '"e1-3"', None, ""]))),
        _element("ChecksumCRC64NVME", draw(st.sampled_from([None, "AAAAAAAAAAA="]))),
        _element("ChecksumSHA256", draw(st.sampled_from([None, "abc=-3"]))),
    ]
    if method != "copy_part":  # a part has no type
        fields.append(_element("ChecksumType", draw(st.sampled_from([None, "COMPOSITE", "FULL_OBJECT"]))))
    headers = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "x-amz-version-id": st.just("v1"),
                "x-amz-copy-source-version-id": st.sampled_from(["v1", "v2"]),
            },
        )
    )
    return Reply(200, headers, f"<{root}>{''.join(fields)}</{root}>".encode())


@st.composite
def part_lists(draw: Any) -> Reply:
    """An answer to ListParts."""
    fields = [
        _element("ChecksumType", draw(st.sampled_from([None, "COMPOSITE", "FULL_OBJECT"]))),
        _element("IsTruncated", draw(st.sampled_from([None, "true", "false"]))),
        _element("NextPartNumberMarker", draw(st.sampled_from([None, 0, 2, 9]))),
    ]
    for number in draw(st.lists(st.integers(1, 10_000), max_size=3, unique=True)):
        part = [
            _element("PartNumber", number),
            _element("ETag", draw(st.sampled_from(['"e1"', "e1", "", None]))),
            _element("Size", draw(st.sampled_from([0, 5, 5_368_709_120]))),
            _element("ChecksumCRC64NVME", draw(st.sampled_from([None, "AAAAAAAAAAA="]))),
        ]
        fields.append(f"<Part>{''.join(part)}</Part>")
    return Reply(body=f"<ListPartsResult>{''.join(fields)}</ListPartsResult>".encode())


@st.composite
def tag_sets(draw: Any) -> Reply:
    """An answer to GetObjectTagging."""
    tags = draw(st.dictionaries(NAMES, NAMES | st.just(""), max_size=3))
    rows = "".join(f"<Tag>{_element('Key', name)}{_element('Value', value)}</Tag>" for name, value in tags.items())
    return Reply(body=f"<Tagging><TagSet>{rows}</TagSet></Tagging>".encode())


def _annotated_version() -> st.SearchStrategy[dict[str, str]]:
    return st.fixed_dictionaries({}, optional={"x-amz-object-version-id": st.sampled_from(["v1", "null", "other"])})


@st.composite
def annotation_lists(draw: Any) -> Reply:
    """An answer to ListObjectAnnotations."""
    parts = [_element("NextContinuationToken", draw(st.sampled_from([None, "t+/=", ""])))]
    rows = []
    for name in draw(st.lists(NAMES, max_size=3)):
        fields = [
            ("AnnotationName", name),
            ("Size", draw(st.sampled_from([1, 1_048_576, None]))),
            ("ETag", draw(st.sampled_from(['"e1"', "e1", "", None]))),
            ("LastModified", draw(TIMES)),
        ]
        rows.append(f"<AnnotationEntry>{''.join(_element(*each) for each in fields)}</AnnotationEntry>")
    rows = [f"<Annotations>{''.join(rows)}</Annotations>"]
    return replace(_listing("ListObjectAnnotationsOutput", [*parts, *rows]), headers=draw(_annotated_version()))


@st.composite
def annotation_texts(draw: Any) -> Reply:
    """An answer to GetObjectAnnotation."""
    optional = {
        "x-amz-object-version-id": st.sampled_from(["v1", "null", "other"]),
        "x-amz-checksum-crc64nvme": st.sampled_from(["AAAAAAAAAAA=", "5xZDwoVUCeA="]),
        "x-amz-checksum-type": st.just("FULL_OBJECT"),
        "ETag": st.just('"e1"'),
    }
    return Reply(200, draw(st.fixed_dictionaries({}, optional=optional)), b"text")


STATES = st.sampled_from(["<Status>Enabled</Status>", "<Status>Suspended</Status>", ""]).map(
    lambda status: Reply(body=f"<VersioningConfiguration>{status}</VersioningConfiguration>".encode())
)
SUCCESSES: dict[str, st.SearchStrategy[Reply]] = {
    **{method: st.just(reply) for method, reply in REPLIES.items()},
    **{method: results(method) for method in ("copy", "copy_part", "complete_multipart")},
    "delete": st.sampled_from(
        [
            Reply(204, {"x-amz-version-id": "v1", "x-amz-delete-marker": "true"}),
            Reply(204, {"x-amz-delete-marker": "false"}),
        ]
    ),
    "get": gets(),
    "get_annotation": annotation_texts(),
    "get_tags": tag_sets(),
    "head": heads(),
    "is_versioned": STATES,
    "list_annotations": annotation_lists(),
    "list_objects": listings(is_versions=False),
    "list_parts": part_lists(),
    "list_versions": listings(is_versions=True),
    "put": writes(),
    "put_part": writes(),
    "request_restore": st.sampled_from([200, 202]).map(Reply),
}


def replies(method: str) -> st.SearchStrategy[Reply]:
    """Every kind of answer to a method."""
    return st.one_of(SUCCESSES[method], refusals()).map(replace)
