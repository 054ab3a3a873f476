"""Pages of listings: S3's XML to `Page`.

The objects of a page are mostly spelled alike: from the first one a regular expression is made that
takes all of them apart at once, and an XML parser reads only what is around them. A page whose
entries differ is the parser's altogether. Requests ask for `encoding-type=url`, since keys may hold
characters that XML 1.0 cannot. What the answer declares as encoded is decoded exactly once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_plus

from jobs.core.model import LATEST_SECONDS, Checksum, Listed, parse_time
from jobs.s3.operations import Operation
from jobs.s3.store import Marker, Page, PartPage, StoredPart
from jobs.s3.wire import Malformed, parse_document, plain, unquote_etag

_FIELDS = ("Key", "VersionId", "IsLatest", "Size", "ETag", "LastModified", "StorageClass", "ChecksumAlgorithm")
_ENTRIES = frozenset({"Contents", "Version", "DeleteMarker"})
_TAGS_MAX = 100
"""Of one entry that is taken apart by a regular expression."""
_DIGITS_MAX = 18
_ECHO = re.compile(
    rb"(?<!<CommonPrefixes>)<(Prefix|Delimiter|KeyMarker|VersionIdMarker|StartAfter|ContinuationToken)>[^<]*</\1>"
)
"""What a page repeats of its request: some servers do so as it is, with characters that no XML can hold."""
_TAG = re.compile(r"<(/?\w+)>")

Row = Sequence[str | None]
"""The values of _FIELDS. Keys are still encoded."""


class _Layout(NamedTuple):
    """An entry's spelling: its expression, the place of each of _FIELDS (-1: none), its tags."""

    expression: re.Pattern[str]
    places: tuple[int, ...]
    tags: int


@lru_cache(64)
def _layout(tags: tuple[str, ...]) -> _Layout:
    """The layout of entries with these tags in this order, `/Name` closing one."""
    pattern, names = "", []
    for tag, following in zip(tags, (*tags[1:], ""), strict=True):
        pattern += f"<{tag}>"
        if following == f"/{tag}":
            pattern += "([^<]*)"
            names.append(tag)
    places = tuple(names.index(name) if name in names else -1 for name in _FIELDS)
    return _Layout(re.compile(pattern), places, len(tags))


@lru_cache(4096)  # one second's objects share their time
def _epoch_seconds(text: str) -> float:
    try:
        at_seconds = parse_time(text)
    except (ValueError, OverflowError) as error:
        raise Malformed(f"LastModified is {text[:40]!r}") from error
    if not 0 <= at_seconds <= LATEST_SECONDS:
        raise Malformed(f"LastModified is {text[:40]!r}")
    return at_seconds


def _number(text: str, name: str) -> int:
    """`int` would take signs, spaces and underscores."""
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX):
        raise Malformed(f"{name} is {text[:40]!r}")
    return int(text)


def _size_bytes(text: str) -> int:
    return _number(text, "Size")


def parse_page(body: bytes, operation: Operation, after: Marker | None = None) -> Page:
    """The answer to ListObjectVersions or ListObjectsV2, to the page behind `after`. Raises `wire.Malformed`."""
    page = _page(body, operation)
    check_advance(page, after)
    return page


def check_advance(page: Page, after: Marker | None) -> None:
    """Raise Malformed for a page that ends where the one before it ended, or nowhere.

    A listing that goes on from there would never end, or begin again.
    """
    marker = page.next_marker
    if marker is None:
        return
    is_nowhere = not (marker.token or marker.key)
    is_same = marker.token == after.token if after and marker.token else marker == after
    has_same_end = after is not None and marker.token and page.entries and page.entries[-1].key == after.key
    if is_nowhere or is_same or has_same_end:
        raise Malformed(f"the page ends where the one before it ended, at {marker.key[:100]!r}: it would never end")


def _page(body: bytes, operation: Operation) -> Page:
    is_versions = operation is Operation.LIST_VERSIONS
    rows, rest = _take_apart(body)
    root = parse_document(_ECHO.sub(b"", rest), operation.body)
    space = root.tag[: root.tag.find("}") + 1]
    is_encoded = root.findtext(f"{space}EncodingType") == "url"

    def decode(text: str | None) -> str:
        if not text:
            return ""
        return unquote_plus(text) if is_encoded and ("%" in text or "+" in text) else text

    entries = _entries(rows, is_versions, decode)
    prefixes: list[str] = []
    for child in root:
        tag = child.tag.removeprefix(space)
        if tag in _ENTRIES:
            found = {field.tag.removeprefix(space): field.text for field in child}
            row = [found.get(name) for name in _FIELDS]
            entries += _entries([row], is_versions, decode, is_marker=tag == "DeleteMarker")
        elif tag == "CommonPrefixes":
            prefixes.append(decode(child.findtext(f"{space}Prefix")))
    next_marker = None
    if root.findtext(f"{space}IsTruncated") == "true":
        if is_versions:
            sent = root.findtext(f"{space}NextKeyMarker") or ""
            lasts = {entries[-1].key if entries else "", prefixes[-1] if prefixes else ""}
            # Some servers declare encoded keys and send the marker as it is.
            key = sent if sent in lasts and decode(sent) not in lasts else decode(sent)
            next_marker = Marker(key, root.findtext(f"{space}NextVersionIdMarker") or None)
        else:
            last = max(entries[-1].key if entries else "", prefixes[-1] if prefixes else "")
            next_marker = Marker(last, None, root.findtext(f"{space}NextContinuationToken"))
    return Page(entries, prefixes, next_marker)


def parse_parts(body: bytes, after: int = 0) -> PartPage:
    """The answer to ListParts, to the page behind the part `after`. Raises `wire.Malformed`, also for one that ends
    where the one before it ended.
    """
    root = parse_document(body, Operation.LIST_PARTS.body)
    is_composite = root.findtext("{*}ChecksumType") == "COMPOSITE"
    parts = []
    for element in root.iterfind("{*}Part"):
        fields = {field.tag.rpartition("}")[2]: field.text or "" for field in element}
        sums = [(name.removeprefix("Checksum"), value) for name, value in fields.items() if name.startswith("Checksum")]
        parts.append(
            StoredPart(
                _number(fields.get("PartNumber", ""), "PartNumber"),
                _size_bytes(fields.get("Size", "")),
                unquote_etag(fields.get("ETag", "")),
                tuple(Checksum(name, value, is_composite) for name, value in sums if value),
            )
        )
    if root.findtext("{*}IsTruncated") != "true":
        return PartPage(parts, None)
    next_after = _number(root.findtext("{*}NextPartNumberMarker") or "", "the marker")
    if next_after <= after:
        raise Malformed(f"the page of parts ends at {next_after}, as the one before it: it would never end")
    return PartPage(parts, next_after)


def _take_apart(body: bytes) -> tuple[list[Row], bytes]:
    """The rows of the page's objects, and the page without them.

    No rows, and all of it, when they are not alike.
    """
    if b"<DeleteMarker" in body:  # versions and delete markers have one common order
        return [], body
    for name in ("Contents", "Version"):
        start = body.find(b"<%b>" % name.encode())
        end = body.rfind(b"</%b>" % name.encode())
        if 0 <= start < end:
            break
    else:
        return [], body
    end += len(name) + 3
    text = body[start:end].decode("utf-8", "replace")
    tags = _TAG.findall(text[: text.index(f"</{name}>") + len(name) + 3])
    if len(tags) > _TAGS_MAX:
        return [], body
    layout = _layout(tuple(tags))
    rows = layout.expression.findall(text)
    if "<!" in text or "<?" in text or text.count("<") != len(rows) * layout.tags or "�" in text:
        return [], body
    columns = [*zip(*rows, strict=True)] if isinstance(rows[0], tuple) else [tuple(rows)]
    is_escaped = "&" in text
    picked: list[Sequence[str | None]] = []
    for place in layout.places:
        if place < 0:
            picked.append((None,) * len(rows))
        else:
            picked.append([plain(value) for value in columns[place]] if is_escaped else columns[place])
    return list(zip(*picked, strict=True)), body[:start] + body[end:]


def _entries(
    rows: Iterable[Row], is_versions: bool, decode: Callable[[str | None], str], *, is_marker: bool = False
) -> list[Listed]:
    """Raises Malformed for a row without a key."""
    entries = []
    for key, version_id, is_latest, size, etag, modified, storage_class, algorithm in rows:
        if key is None:
            raise Malformed("an entry without a key")
        entries.append(
            Listed(
                decode(key),
                version_id if is_versions else None,
                not is_versions or is_latest == "true",
                is_marker,
                None if is_marker or size is None else _size_bytes(size),
                None if is_marker or etag is None else etag.strip('"') or None,
                _epoch_seconds(modified or "1970-01-01T00:00:00Z"),
                None if is_marker else storage_class or "STANDARD",
                algorithm,
            )
        )
    return entries
