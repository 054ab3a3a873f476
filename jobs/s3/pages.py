"""Pages of listings: S3's XML to `Page`, in one pass over ElementTree's C parser.

Requests ask for `encoding-type=url`, since keys may hold characters that XML 1.0 cannot; what
the answer declares as encoded is decoded exactly once.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from urllib.parse import unquote_plus

from jobs.core.model import Listed
from jobs.s3.store import Marker, Page
from jobs.s3.wire import parse_xml


@lru_cache(4096)  # one second's objects share their time
def _epoch_seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def parse_page(body: bytes) -> Page:
    """The answer to ListObjectsV2 or ListObjectVersions. Raises `wire.Malformed`."""
    root = parse_xml(body)
    space = root.tag[: root.tag.find("}") + 1]
    is_versions = root.tag.endswith("ListVersionsResult")
    is_encoded = root.findtext(f"{space}EncodingType") == "url"
    marker, common = space + "DeleteMarker", space + "CommonPrefixes"
    entry_tags = {marker, space + "Version", space + "Contents"}
    key_tag, modified_tag = space + "Key", space + "LastModified"
    version_tag, latest_tag = space + "VersionId", space + "IsLatest"
    size_tag, etag_tag = space + "Size", space + "ETag"
    class_tag, checksum_tag = space + "StorageClass", space + "ChecksumAlgorithm"

    def decode(text: str | None) -> str:
        if not text:
            return ""
        return unquote_plus(text) if is_encoded and ("%" in text or "+" in text) else text

    entries: list[Listed] = []
    prefixes: list[str] = []
    for child in root:
        tag = child.tag
        if tag in entry_tags:
            found = {field.tag: field.text for field in child}
            is_marker = tag == marker
            size = found.get(size_tag)
            etag = found.get(etag_tag)
            entries.append(
                Listed(
                    decode(found[key_tag]),
                    found.get(version_tag) if is_versions else None,
                    not is_versions or found.get(latest_tag) == "true",
                    is_marker,
                    None if is_marker or size is None else int(size),
                    None if is_marker or etag is None else etag.strip('"'),
                    _epoch_seconds(found.get(modified_tag) or "1970-01-01T00:00:00Z"),
                    None if is_marker else found.get(class_tag) or "STANDARD",
                    found.get(checksum_tag),
                )
            )
        elif tag == common:
            prefixes.append(decode(child.findtext(f"{space}Prefix")))
    next_marker = None
    if root.findtext(f"{space}IsTruncated") == "true":
        if is_versions:
            key = decode(root.findtext(f"{space}NextKeyMarker"))
            next_marker = Marker(key, root.findtext(f"{space}NextVersionIdMarker") or None)
        else:
            last = max(entries[-1].key if entries else "", prefixes[-1] if prefixes else "")
            next_marker = Marker(last, None, root.findtext(f"{space}NextContinuationToken"))
    return Page(entries, prefixes, next_marker)
