"""Which bytes of one object to ask for when many stretches of it are wanted: neighbours come by one request. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

GAP_BYTES = 128 * 1024
"""What a request costs in time, S3 sends in so many bytes: reading across a smaller gap is cheaper than asking twice.

A first byte after 20 to 100 ms, then 85 MB/s would bear megabytes; requests run side by side, so that much less pays.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance-guidelines.html
"""

SPAN_BYTES = 8 * 1024**2
"""About how much one request brings: large enough that its latency does not count, small enough for many in memory."""


class Wanted(NamedTuple):
    """Bytes `start` to `end` (exclusive). `content_bytes`: what is made of them and held beside them."""

    start: int
    end: int
    content_bytes: int = 0


class Span(NamedTuple):
    """One request: bytes `start` to `end` (exclusive). `items`: which of the wanted stretches it holds, by their start.

    `held_bytes`: what it takes in memory, the content of its items included.
    """

    start: int
    end: int
    items: tuple[int, ...]
    held_bytes: int


def coalesce(wanted: Sequence[Wanted], *, gap_bytes: int = GAP_BYTES, span_bytes: int = SPAN_BYTES) -> list[Span]:
    """The requests that bring all that is wanted, by their start; each wanted stretch lies whole in exactly one.

    A span goes on while the next stretch begins at most `gap_bytes` behind its end and what it holds stays within
    `span_bytes`. A stretch that is larger alone gets a span of its own. Stretches may overlap or be the same.
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
