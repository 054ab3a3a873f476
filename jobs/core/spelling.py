"""Spellings of a key on servers that drop its empty parts: they take `x//k` and `/x/k` for `x/k`.

S3 does not. What decides whether two keys may be one object takes them for one.
"""

from __future__ import annotations

import re

_SLASHES = re.compile("/+")


def one_spelling(key: str) -> str:
    """Return a key, or the prefix of one, without its empty parts."""
    return _SLASHES.sub("/", key).lstrip("/")


def one_spelling_sql(key: str) -> str:
    """`one_spelling` as SQL over a column."""
    has_empty_part = f"contains({key}, '//') OR starts_with({key}, '/')"
    return f"CASE WHEN {has_empty_part} THEN ltrim(regexp_replace({key}, '/+', '/', 'g'), '/') ELSE {key} END"
