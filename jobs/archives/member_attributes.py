"""Attributes of an archive's member: what may become headers of a request. Pure.

They come from an index or a tar header, which a writer to the ledger or the archive can make. Header
names are of a fixed list: `x-amz-copy-source` among them would make a restore's PUT a copy of any
object that the restorer may read.
"""

from __future__ import annotations

import re
from typing import Any

from jobs.archives.model import Member, is_text

MEMBER_HEADERS = frozenset(
    {
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-type",
        "expires",
        "x-amz-website-redirect-location",
    }
)
"""What S3 keeps of an upload's headers beside metadata: `jobs.s3.wire.CONTENT_HEADERS`."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A header's name: https://www.rfc-editor.org/rfc/rfc9110#name-tokens"""
_NO_VALUE = re.compile(r"[\x00\r\n]")
_STORAGE_CLASS = re.compile(r"[A-Z0-9_]{1,32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ALGORITHM = re.compile(r"[A-Z0-9]{1,16}")
_CHECKSUM = re.compile(r"[A-Za-z0-9+/=]{1,128}(-\d{1,5})?")


def member_defect(member: Member) -> str:
    """What of a member no restore could send or find. Empty means nothing."""
    if not is_text(member.key) or not member.key:
        return "it has no key"
    places = (member.size_bytes, member.offset, member.frame_start, member.frame_offset, member.frame_length)
    if None in places[:2] or any(place is not None and place < 0 for place in places):
        return "it has no size or place in the archive that is a number of bytes"
    at_seconds: Any = member.last_modified
    if at_seconds is None:
        return "it has no time"
    maps: dict[str, Any] = {"headers": member.headers, "metadata": member.metadata, "tags": member.tags}
    for name, values in maps.items():
        if not isinstance(values, dict) or not all(map(is_text, (*values, *values.values()))):
            return f"its {name} are no map of texts"
    strange = [name for name in member.headers if name not in MEMBER_HEADERS]
    if strange:
        return f"the header {strange[0]!r} is none that S3 keeps of an object"
    strange = [name for name in member.metadata if not _TOKEN.fullmatch(name)]
    if strange:
        return f"{strange[0]!r} is no name of metadata"
    if any(_NO_VALUE.search(value) for values in (member.headers, member.metadata) for value in values.values()):
        return "a header or metadata has a line break or a null character"
    if member.storage_class and not _STORAGE_CLASS.fullmatch(member.storage_class):
        return f"{member.storage_class!r} is no storage class"
    if member.sha256 is not None and not _SHA256.fullmatch(member.sha256):
        return f"{member.sha256!r} is no SHA-256"
    for checksum in member.checksums:
        value: Any = checksum.value
        if not isinstance(value, str):
            return "a checksum is no text"
        if not (_ALGORITHM.fullmatch(checksum.algorithm) and _CHECKSUM.fullmatch(checksum.value)):
            return f"{checksum.algorithm}:{checksum.value!r} is no checksum"
    return ""
