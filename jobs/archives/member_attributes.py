"""Attributes of an archive's member that may become headers of a request. Pure.

They come from an index or a tar header, which anybody with write access to the ledger or the
archive can make. Header names are a fixed list: with `x-amz-copy-source`, a restore's PUT would
copy any object that the restorer may read.
"""

from __future__ import annotations

import re
from typing import Any

from jobs.archives.model import Member

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
"""The headers of an upload that S3 keeps beside metadata: `jobs.s3.wire.CONTENT_HEADERS`."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A header's name: https://www.rfc-editor.org/rfc/rfc9110#name-tokens"""
_SURROGATE = re.compile("[\ud800-\udfff]")
_NO_VALUE = re.compile(r"[\x00\r\n]")
_STORAGE_CLASS = re.compile(r"[A-Za-z0-9_.-]{1,128}")
"""Ceph's operators give classes names of their own:
https://docs.ceph.com/en/latest/radosgw/placement/#storage-classes
"""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ALGORITHM = re.compile(r"[A-Z0-9]{1,16}")
_CHECKSUM = re.compile(r"[A-Za-z0-9+/=]{1,128}(-\d{1,5})?")


def member_defect(member: Member) -> str:
    """Why no restore can send or find a member. Empty: it can."""
    if not is_text(member.key) or not member.key:
        return "it has no key"
    places = (member.size_bytes, member.offset, member.frame_start, member.frame_offset, member.frame_length)
    if None in places[:2] or any(place is not None and place < 0 for place in places):
        return "its size or place in the archive is not a number of bytes"
    at_seconds: Any = member.last_modified
    if at_seconds is None:
        return "it has no time"
    maps: dict[str, Any] = {"headers": member.headers, "metadata": member.metadata, "tags": member.tags}
    for name, values in maps.items():
        is_value = _is_header_value if name == "headers" else is_text
        if not isinstance(values, dict) or not all(map(is_text, values)) or not all(map(is_value, values.values())):
            return f"its {name} are not a map of texts"
    strange = [name for name in member.headers if name not in MEMBER_HEADERS]
    if strange:
        return f"S3 does not keep the header {strange[0]!r} of an object"
    strange = [name for name in member.metadata if not _TOKEN.fullmatch(name)]
    if strange:
        return f"{strange[0]!r} is not a name of metadata"
    if any(_NO_VALUE.search(value) for values in (member.headers, member.metadata) for value in values.values()):
        return "a header or metadata has a line break or a null character"
    if member.storage_class and not _STORAGE_CLASS.fullmatch(member.storage_class):
        return f"{member.storage_class!r} is not a storage class"
    if member.sha256 is not None and not _SHA256.fullmatch(member.sha256):
        return f"{member.sha256!r} is not a SHA-256"
    for checksum in member.checksums:
        value: Any = checksum.value
        if not isinstance(value, str):
            return "a checksum is not a text"
        if not (_ALGORITHM.fullmatch(checksum.algorithm) and _CHECKSUM.fullmatch(checksum.value)):
            return f"{checksum.algorithm}:{checksum.value!r} is not a checksum"
    return ""


def is_text(value: object) -> bool:
    """True for a text that UTF-8 can hold: JSON can hold a lone surrogate, UTF-8 cannot."""
    return isinstance(value, str) and not _SURROGATE.search(value)


def _is_header_value(value: object) -> bool:
    """True for a text, also one with bytes that are not UTF-8: answers are decoded with
    `surrogateescape`, and requests encoded.
    """
    try:
        return isinstance(value, str) and value.encode("utf-8", "surrogateescape") is not None
    except UnicodeEncodeError:
        return False
