"""Part ranges of a multipart upload or copy, within S3's limits.

Limits: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html. The maximum object size
is what they multiply to (https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingObjects.html).
"""

from __future__ import annotations

from collections.abc import Iterator

MIN_PART_BYTES = 5 * 1024**2
"""Every part but the last has at least this size."""

MAX_PART_BYTES = 5 * 1024**3
MAX_PARTS = 10_000
COPY_LIMIT_BYTES = 5_000_000_000
"""CopyObject takes sources up to 5 GB:
https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html"""
PREFERRED_PART_BYTES = 64 * 1024**2
"""The parts of a larger copy, as far as S3's limits allow."""

MAX_OBJECT_BYTES = MAX_PARTS * MAX_PART_BYTES
"""48.8 TiB, which S3's documentation rounds to "50 TB"."""


def choose_part_size(size_bytes: int, preferred_bytes: int) -> int:
    """The part size nearest to the preferred one with which S3 takes an object of `size_bytes`.

    Raises ValueError for a size below zero or above `MAX_OBJECT_BYTES`.
    """
    if not 0 <= size_bytes <= MAX_OBJECT_BYTES:
        raise ValueError(f"an object of {size_bytes} bytes: S3 takes 0 to {MAX_OBJECT_BYTES}")
    fewest = -(-size_bytes // MAX_PARTS)
    return min(max(preferred_bytes, MIN_PART_BYTES, fewest), MAX_PART_BYTES)


def count_parts(size_bytes: int, part_size_bytes: int) -> int:
    """How many parts `part_ranges` yields: an empty object has one empty part."""
    return max(1, -(-size_bytes // part_size_bytes))


def part_ranges(size_bytes: int, part_size_bytes: int) -> Iterator[tuple[int, int, int]]:
    """(part number from 1, start, end exclusive) in bytes.

    Together they tile the object exactly.
    """
    for index in range(count_parts(size_bytes, part_size_bytes)):
        start = index * part_size_bytes
        yield index + 1, start, min(start + part_size_bytes, size_bytes)
