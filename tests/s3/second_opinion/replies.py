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
CODES = (
    "AccessDenied BadDigest ConditionalRequestConflict ExpiredToken InternalError InvalidAccessKeyId "
    "InvalidArgument InvalidObjectState InvalidSecurity InvalidToken MethodNotAllowed NoSuchBucket "
    "NoSuchKey NoSuchUpload NoSuchVersion NotSignedUp OperationAborted PreconditionFailed "
    "RequestTimeTooSkewed RequestTimeout RestoreAlreadyInProgress ServiceUnavailable "
    "SignatureDoesNotMatch SlowDown SomethingNew TokenRefreshRequired"
)
"""All but those of another region, which our client follows."""
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
    body = draw(
        st.sampled_from(CODES.split()).map(error_body) | st.sampled_from([b"", b"<html>busy</html>", b"no XML"])
    )
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


NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\uffff\ufffe"), min_size=1, max_size=6
)
TIMES = st.sampled_from(["2026-11-25T00:33:40.000Z", "2026-11-25T00:33:40Z"])
ETAG = st.sampled_from(['"e1"', "e1", '"e1-3"', None, ""])
CRC, KIND = st.sampled_from([None, "AAAAAAAAAAA="]), st.sampled_from([None, "COMPOSITE", "FULL_OBJECT"])
TRUNCATED = ("IsTruncated", st.sampled_from([None, "true", "false"]))
ANNOTATED = st.fixed_dictionaries({}, optional={"x-amz-object-version-id": st.sampled_from(["v1", "null", "other"])})
Content = st.SearchStrategy[Any] | Sequence[Any]
"""Of an element: its text (None: it is left out), or the elements in it."""


@st.composite
def _element(draw: Any, name: str, content: Content, most: int = 0) -> str:
    """An element, or up to `most` of them."""
    if most:
        return "".join(draw(st.lists(_element(name, content), max_size=most)))
    if isinstance(content, Sequence):
        return f"<{name}>{''.join(draw(_element(*each)) for each in content)}</{name}>"
    text = draw(content)
    return "" if text is None else f"<{name}>{escape(str(text))}</{name}>"


def documents(root: str, *content: Any, headers: st.SearchStrategy[dict[str, str]] = st.just({})) -> Any:  # noqa: B008
    """Answers with such a document."""
    named = f'<{root} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    return st.builds(
        lambda sent, text: Reply(200, sent, text.replace(f"<{root}>", named, 1).encode()),
        headers,
        _element(root, content),
    )


@st.composite
def listings(draw: Any, *, is_versions: bool) -> Reply:
    """A page: keys encoded or not, truncated or not, with markers or without."""
    is_encoded = draw(st.booleans())
    keys = NAMES.map(lambda text: quote_plus(text, safe="/")) if is_encoded else NAMES
    version = [("VersionId", st.sampled_from(["v1", "null"])), ("IsLatest", st.sampled_from(["true", "false"]))]
    named = [("Key", keys), *(version if is_versions else ()), ("LastModified", TIMES)]
    content = [
        ("ETag", st.sampled_from(['"e1"', "e1", '"e1-3"'])),
        ("ChecksumAlgorithm", st.sampled_from([None, "CRC64NVME"])),
        ("Size", st.integers(0, 10**13)),
        ("StorageClass", st.sampled_from([None, "GLACIER"])),
    ]
    markers = [("NextKeyMarker", st.none() | keys), ("NextVersionIdMarker", st.sampled_from([None, "v9", ""]))]
    token = [("NextContinuationToken", st.sampled_from([None, "t+/=", "a%20b"]))]
    entries = [("Version" if is_versions else "Contents", [*named, *content], 3)]
    if is_versions:
        entries.insert(draw(st.integers(0, 1)), ("DeleteMarker", named, 2))
    return draw(
        documents(
            "ListVersionsResult" if is_versions else "ListBucketResult",
            ("EncodingType", st.just("url" if is_encoded else None)),
            TRUNCATED,
            *(markers if is_versions else token),
            *entries,
            ("CommonPrefixes", [("Prefix", keys)], 2),
        )
    )


def results(method: str) -> Any:
    """Answers that name an ETag in their document. A part has no type."""
    versions = {"x-amz-version-id": st.just("v1"), "x-amz-copy-source-version-id": st.sampled_from(["v1", "v2"])}
    sums = [("ChecksumCRC64NVME", CRC), ("ChecksumSHA256", st.sampled_from([None, "abc=-3"]))]
    kind = [] if method == "copy_part" else [("ChecksumType", KIND)]
    headers = st.fixed_dictionaries({}, optional=versions)
    return documents(BY_CALL[method].body, ("ETag", ETAG), *sums, *kind, headers=headers)


PART = [
    ("PartNumber", st.integers(1, 10_000)),
    ("ETag", ETAG),
    ("Size", st.sampled_from([0, 5, 5_368_709_120])),
    ("ChecksumCRC64NVME", CRC),
]
ANNOTATION = [
    ("AnnotationName", NAMES),
    ("Size", st.sampled_from([1, 1_048_576, None])),
    ("ETag", ETAG),
    ("LastModified", TIMES),
]
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
    "get_annotation": st.builds(
        lambda sent, version: Reply(200, sent | version, b"text"),
        st.fixed_dictionaries(
            {},
            optional={
                "x-amz-checksum-crc64nvme": st.sampled_from(["AAAAAAAAAAA=", "5xZDwoVUCeA="]),
                "x-amz-checksum-type": st.just("FULL_OBJECT"),
                "ETag": st.just('"e1"'),
            },
        ),
        ANNOTATED,
    ),
    "get_tags": documents("Tagging", ("TagSet", [("Tag", [("Key", NAMES), ("Value", NAMES | st.just(""))], 3)])),
    "head": heads(),
    "is_versioned": documents("VersioningConfiguration", ("Status", st.sampled_from(["Enabled", "Suspended", None]))),
    "list_annotations": documents(
        "ListObjectAnnotationsOutput",
        ("NextContinuationToken", st.sampled_from([None, "t+/=", ""])),
        ("Annotations", [("AnnotationEntry", ANNOTATION, 3)]),
        headers=ANNOTATED,
    ),
    "list_objects": listings(is_versions=False),
    "list_parts": documents(
        "ListPartsResult",
        ("ChecksumType", KIND),
        TRUNCATED,
        ("NextPartNumberMarker", st.sampled_from([None, 0, 2, 9])),
        ("Part", PART, 3),
    ),
    "list_versions": listings(is_versions=True),
    "put": writes(),
    "put_part": writes(),
    "request_restore": st.sampled_from([200, 202]).map(Reply),
}


def replies(method: str) -> st.SearchStrategy[Reply]:
    """Every kind of answer to a method."""
    return st.one_of(SUCCESSES[method], refusals()).map(replace)
