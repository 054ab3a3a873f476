"""Spans: requests for byte ranges of one object, shared by neighbours. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

GAP_BYTES = 128 * 1024
"""The largest gap that is read through: in the time of a second request, S3 sends so many bytes.

A first byte after 20 to 100 ms, then 85 MB/s would justify megabytes. Requests run side by side, so
much less pays.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance-guidelines.html
"""

SPAN_BYTES = 8 * 1024**2
"""About how much one request reads: enough to hide its latency, little enough for many in memory.
"""


class ByteRange(NamedTuple):
    """Bytes `start` to `end` (exclusive). `content_bytes`: their decompressed size, held beside
    them.
    """

    start: int
    end: int
    content_bytes: int = 0


class Span(NamedTuple):
    """One request: bytes `start` to `end` (exclusive).

    `items`: the positions of its ranges in the list of wanted ranges, in the order of their starts.
    `held_bytes`: its memory, with the content of its items.
    """

    start: int
    end: int
    items: tuple[int, ...]
    held_bytes: int


def coalesce(wanted: Sequence[ByteRange], *, gap_bytes: int = GAP_BYTES, span_bytes: int = SPAN_BYTES) -> list[Span]:
    """The requests for all wanted ranges, by their start. Each range lies whole in exactly one.

    A span goes on while the next range begins at most `gap_bytes` after its end and its memory
    stays within `span_bytes`. A range that is larger alone gets its own span. Ranges may overlap or
    be equal.
    """
    spans: list[Span] = []
    items: list[int] = []
    start = end = content_bytes = 0
    for item in sorted(range(len(wanted)), key=wanted.__getitem__):
        begin, stop, made_bytes = wanted[item]
        is_near = begin <= end + gap_bytes
        is_small = max(end, stop) - start + content_bytes + made_bytes <= span_bytes
        if items and not (is_near and is_small):
            spans.append(Span(start, end, tuple(items), end - start + content_bytes))
            items = []
        if not items:
            start, end, content_bytes = begin, stop, 0
        items.append(item)
        end = max(end, stop)
        content_bytes += made_bytes
    if items:
        spans.append(Span(start, end, tuple(items), end - start + content_bytes))
    return spans
