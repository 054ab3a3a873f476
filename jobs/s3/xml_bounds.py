"""Bounds of an answer's XML, checked before it is parsed. Pure.

Beyond them, XML takes far more memory or time than any answer of S3.

16 MiB of XML can take 1.5 GB and 14 s. An element or an attribute costs some 200 bytes, and a
namespace is repeated in the name of each element.
"""

from __future__ import annotations

import re
from itertools import islice
from xml.etree.ElementTree import Element

BYTES_MAX = 16 << 20
SMALL_BYTES = 4096
"""The answer to a copy, for example, is shorter. Nothing in it can grow beyond some MiB."""
TAGS_MAX = 200_000
"""S3 lists or deletes 1,000 entries at once: 100 elements each."""
ATTRIBUTES_MAX = 10_000
NAMESPACE_CHARS_MAX = 256
DEPTH_MAX = 32

_ATTRIBUTE = re.compile(rb"=\s*[\"']")
_LONG_NAMESPACE = re.compile(
    rb"""xmlns[^=<>]*=\s*(?:"[^"<]{%d}|'[^'<]{%d})""" % (NAMESPACE_CHARS_MAX + 1, NAMESPACE_CHARS_MAX + 1)
)


def excess(body: bytes) -> str:
    """Which bound the document exceeds, before it is parsed. Empty: none."""
    if len(body) < SMALL_BYTES:
        return ""
    if len(body) > BYTES_MAX:
        return f"more than {BYTES_MAX:,} bytes"
    if body.count(b"<") > TAGS_MAX:
        return f"more than {TAGS_MAX:,} tags"
    if body.count(b"=") > ATTRIBUTES_MAX and any(islice(_ATTRIBUTE.finditer(body), ATTRIBUTES_MAX, None)):
        return f"more than {ATTRIBUTES_MAX:,} attributes"
    if b"xmlns" in body and _LONG_NAMESPACE.search(body):
        return f"a namespace of more than {NAMESPACE_CHARS_MAX} characters"
    return ""


def is_too_deep(root: Element) -> bool:
    """Whether the document has more than `DEPTH_MAX` levels."""
    level = [root]
    for _ in range(DEPTH_MAX):
        level = [child for element in level for child in element]
    return bool(level)
