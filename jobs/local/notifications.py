"""Notifications of S3: what an exchange changed, and the message about it. Pure.

| request                              | notification                                           |
|--------------------------------------|--------------------------------------------------------|
| PUT key                              | ObjectCreated:Put                                      |
| PUT key, x-amz-copy-source           | ObjectCreated:Copy                                     |
| POST key?uploadId                    | ObjectCreated:CompleteMultipartUpload                  |
| DELETE key, DELETE key?versionId     | ObjectRemoved:Delete, ObjectRemoved:DeleteMarkerCreated |
| POST bucket?delete                   | one of these two for each key                          |

Addresses are path-style: `/bucket/key`. An upload from a browser's form (POST bucket) makes no
notification. Sources:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-how-to-event-types-and-destinations.html
https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote_plus, unquote, urlsplit
from xml.etree import ElementTree

_SIGNATURE = frozenset({"x-id", "awsaccesskeyid", "signature", "expires"})
_MARKER = "x-amz-delete-marker"


@dataclass(slots=True)
class Exchange:
    """A request and its answer. Header names are in lower case. Bodies are kept only if
    `needs_body`.
    """

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    status: int = 0
    answer_headers: Mapping[str, str] = field(default_factory=dict)
    answer_body: bytes = b""

    @property
    def needs_body(self) -> bool:
        """Whether only a body says what was changed, or if anything was: XML of a few hundred KiB
        at most.
        """
        _, key, query = self.place()
        is_copy = self.method == "PUT" and "x-amz-copy-source" in self.headers and not query
        is_complete = self.method == "POST" and bool(key) and "uploadId" in query
        return is_copy or is_complete or (self.method == "POST" and not key and "delete" in query)

    def place(self) -> tuple[str, str, dict[str, str]]:
        """Bucket, key (empty: the bucket itself) and the query without what only signs or names the
        request.
        """
        parts = urlsplit(self.target)
        path, query = parts.path.removeprefix("/"), parse_qsl(parts.query, keep_blank_values=True)
        if not self.target.startswith("/"):
            path = ""
        bucket, _, key = path.partition("/")
        kept = {name: value for name, value in query if not _is_signature(name)}
        return unquote(bucket), unquote(key, errors="surrogateescape"), kept


class Change(NamedTuple):
    """One object that changed. `size_bytes` and `etag` are None if the exchange did not say."""

    name: str
    bucket: str
    key: str
    version_id: str | None = None
    size_bytes: int | None = None
    etag: str | None = None

    @property
    def is_creation(self) -> bool:
        """Whether an object version was made, not removed."""
        return self.name.startswith("ObjectCreated")


def read_changes(exchange: Exchange) -> list[Change]:
    """The changes of an exchange. None if S3 refused."""
    if not 200 <= exchange.status < 300:
        return []
    bucket, key, query = exchange.place()
    if not bucket:
        return []
    version_id = exchange.answer_headers.get("x-amz-version-id")
    if exchange.needs_body:
        answer = _parse(exchange.answer_body)
        if answer is None or _tag(answer) == "Error":  # CopyObject and Complete may say so below a 200
            return []
        if not key:
            return list(_deleted(bucket, _parse(exchange.body), answer))
        name = "ObjectCreated:Copy" if exchange.method == "PUT" else "ObjectCreated:CompleteMultipartUpload"
        return [Change(name, bucket, key, version_id)]
    if exchange.method == "PUT" and key and not query:
        headers = exchange.headers
        size_bytes = int(headers.get("x-amz-decoded-content-length") or headers.get("content-length") or 0)
        etag = exchange.answer_headers.get("etag", "").strip('"') or None
        return [Change("ObjectCreated:Put", bucket, key, version_id, size_bytes, etag)]
    if exchange.method == "DELETE" and key and not query.keys() - {"versionId"}:
        makes_marker = exchange.answer_headers.get(_MARKER) == "true" and "versionId" not in query
        return [Change(_removal(makes_marker), bucket, key, query.get("versionId") or version_id)]
    return []


def to_record(change: Change, sequencer: str, at_seconds: float, region: str) -> dict[str, Any]:
    """The record of S3's notification. `at_seconds` is epoch time."""
    fields = {
        "key": quote_plus(change.key, safe="/", errors="surrogateescape"),
        "size": change.size_bytes,
        "eTag": change.etag,
        "versionId": change.version_id,
        "sequencer": sequencer,
    }
    at = datetime.fromtimestamp(at_seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": region,
        "eventTime": at,
        "eventName": change.name,
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "sealift-local",
            "bucket": {"name": change.bucket, "arn": f"arn:aws:s3:::{change.bucket}"},
            "object": {name: value for name, value in fields.items() if value is not None},
        },
    }


def _deleted(bucket: str, request: ElementTree.Element | None, answer: ElementTree.Element) -> Iterator[Change]:
    """One change a key. A quiet answer names failures only: what was asked for and did not fail is
    gone.
    """
    by_tag = [(_tag(each), _texts(each)) for each in answer]
    done = [each for tag, each in by_tag if tag == "Deleted"]
    if not done and request is not None:
        failed = {(each.get("Key"), each.get("VersionId")) for tag, each in by_tag if tag == "Error"}
        asked = [_texts(each) for each in request if _tag(each) == "Object"]
        done = [each for each in asked if (each.get("Key"), each.get("VersionId")) not in failed]
    for each in done:
        makes_marker = each.get("DeleteMarker") == "true" and not each.get("VersionId")
        version_id = each.get("DeleteMarkerVersionId") if makes_marker else each.get("VersionId")
        yield Change(_removal(makes_marker), bucket, each.get("Key", ""), version_id or None)


def _removal(makes_marker: bool) -> str:
    return "ObjectRemoved:DeleteMarkerCreated" if makes_marker else "ObjectRemoved:Delete"


def _is_signature(name: str) -> bool:
    return name.lower() in _SIGNATURE or name.lower().startswith("x-amz-")


def _parse(body: bytes) -> ElementTree.Element | None:
    try:
        return ElementTree.fromstring(body)
    except ElementTree.ParseError:
        return None


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _texts(element: ElementTree.Element) -> dict[str, str]:
    return {_tag(each): each.text or "" for each in element}
