"""Pages of listings: S3's XML to `Page`.

Requests ask for `encoding-type=url`, since keys may hold characters that XML 1.0 cannot. What the
answer declares as encoded is decoded exactly once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from urllib.parse import unquote_plus

from jobs.core.model import Listed
from jobs.s3.operations import Operation
from jobs.s3.store import Marker, Page, PartDone, PartPage
from jobs.s3.wire import Malformed, element_checksums, epoch_seconds, parse_document, texts, unquote_etag

_FIELDS = ("Key", "VersionId", "IsLatest", "Size", "ETag", "LastModified", "StorageClass", "ChecksumAlgorithm")
_ENTRIES = ("Contents", "Version", "DeleteMarker")
_DIGITS_MAX = 18
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ECHO = re.compile(
    rb"(?<!<CommonPrefixes>)<(Prefix|Delimiter|KeyMarker|VersionIdMarker|StartAfter|ContinuationToken)>[^<]*</\1>"
)
"""What a page repeats of its request: some servers do so as it is, with characters that no XML can hold."""


def _number(text: str, name: str) -> int:
    """`int` would take signs, spaces and underscores."""
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX):
        raise Malformed(f"{name} is {text[:40]!r}")
    return int(text)


def parse_page(body: bytes, operation: Operation, after: Marker | None = None, prefix: str = "") -> Page:
    """The answer to ListObjectVersions or ListObjectsV2, to the page behind `after`. Raises `wire.Malformed`, also for
    keys that do not begin with `prefix`: a cache may answer with the page of another question. Servers
    write control characters as others, so what follows the first of them is not compared.
    """
    page, plain = _page(body, operation), _CONTROL.split(prefix, maxsplit=1)[0]
    if other := next((each.key for each in page.entries if not each.key.startswith(plain)), ""):
        raise Malformed(f"the page has {other[:100]!r}, which does not begin with {prefix[:100]!r}")
    check_advance(page, after)
    return page if page.next_marker is None else page._replace(next_marker=_proceed(page.next_marker, after))


def check_advance(page: Page, after: Marker | None) -> None:
    """Raise Malformed for a page that ends where the one before it ended, or nowhere.

    A listing that goes on from there would never end, or begin again.
    """
    marker = page.next_marker
    if marker is None:
        return
    is_nowhere = not (marker.token or marker.key)
    is_same = marker.token == after.token if after and marker.token else marker[:3] == (after or ())[:3]
    has_same_end = after is not None and marker.token and page.entries and page.entries[-1].key == after.key
    if is_nowhere or is_same or has_same_end:
        raise Malformed(f"the page ends where the one before it ended, at {marker.key[:100]!r}: it would never end")


def _proceed(marker: Marker, after: Marker | None) -> Marker:
    """The marker, with the number of pages so far and where one earlier page ended: page 1, 2, 4, 8 and so on.

    A listing that ends a page there again goes round and would never end. Raises Malformed for it.
    """
    place = (marker.key, marker.version_id) if marker.key else marker.token
    pages, known = after.course if after else (0, None)
    if place == known:
        raise Malformed(f"the listing comes to {marker.key[:100]!r} for the second time: it would never end")
    pages += 1
    return marker._replace(course=(pages, place if pages.bit_count() == 1 else known))


def _page(body: bytes, operation: Operation) -> Page:
    is_versions = operation is Operation.LIST_VERSIONS
    try:
        root = parse_document(body, operation.body)
    except Malformed:
        root = parse_document(_ECHO.sub(b"", body), operation.body)
    space = root.tag[: root.tag.find("}") + 1]
    is_encoded = root.findtext(f"{space}EncodingType") == "url"

    def decode(text: str | None) -> str:
        if not text:
            return ""
        return unquote_plus(text) if is_encoded and ("%" in text or "+" in text) else text

    kinds = {space + name: name == "DeleteMarker" for name in _ENTRIES}
    names = [space + name for name in _FIELDS]
    entries, prefixes = list[Listed](), list[str]()
    for child in root:
        is_marker = kinds.get(child.tag)
        if is_marker is not None:
            fields = {field.tag: field.text for field in child}
            entries.append(_entry(map(fields.get, names), is_versions, is_marker, decode))
        elif child.tag == f"{space}CommonPrefixes":
            prefixes.append(decode(child.findtext(f"{space}Prefix")))
    if root.findtext(f"{space}IsTruncated") != "true":
        return Page(entries, prefixes, None)
    lasts = (entries[-1].key if entries else "", prefixes[-1] if prefixes else "")
    if not is_versions:
        return Page(entries, prefixes, Marker(max(lasts), None, root.findtext(f"{space}NextContinuationToken")))
    sent = root.findtext(f"{space}NextKeyMarker") or ""
    # Some servers declare encoded keys and send the marker as it is.
    key = sent if sent in lasts and decode(sent) not in lasts else decode(sent)
    return Page(entries, prefixes, Marker(key, root.findtext(f"{space}NextVersionIdMarker") or None))


def _entry(
    fields: Iterable[str | None], is_versions: bool, is_marker: bool, decode: Callable[[str | None], str]
) -> Listed:
    key, version_id, is_latest, size, etag, modified, storage_class, algorithm = fields
    if key is None:
        raise Malformed("an entry without a key")
    if (at_seconds := epoch_seconds(modified or "1970-01-01T00:00:00Z")) is None:
        raise Malformed(f"LastModified is {str(modified)[:40]!r}")
    return Listed(
        decode(key),
        version_id if is_versions else None,
        not is_versions or is_latest == "true",
        is_marker,
        None if is_marker or size is None else _number(size, "Size"),
        None if is_marker or etag is None else etag.strip('"') or None,
        at_seconds,
        None if is_marker else storage_class or "STANDARD",
        algorithm,
    )


def parse_parts(body: bytes, after: int = 0) -> PartPage:
    """The answer to ListParts, to the page behind the part `after`. Raises `wire.Malformed`, also for one that ends
    where the one before it ended.
    """
    root = parse_document(body, Operation.LIST_PARTS.body)
    kind, parts = root.findtext("{*}ChecksumType"), []
    for fields in map(texts, root.iterfind("{*}Part")):
        number, size_bytes = (_number(fields.get(name, ""), name) for name in ("PartNumber", "Size"))
        etag = unquote_etag(fields.get("ETag", ""))
        parts.append(PartDone(number, etag, element_checksums(fields, kind), size_bytes))
    if root.findtext("{*}IsTruncated") != "true":
        return PartPage(parts, None)
    next_after = _number(root.findtext("{*}NextPartNumberMarker") or "", "the marker")
    if next_after <= after:
        raise Malformed(f"the page of parts ends at {next_after}, as the one before it: it would never end")
    return PartPage(parts, next_after)
