"""Content that has the checksum of other content, as anybody can make it who knows linear algebra."""

from __future__ import annotations

import zlib


def with_crc32_of(content: bytes, other: bytes) -> bytes:
    """`other`, its last four bytes so changed that the CRC32 is that of `content`."""
    table = [_step(number) for number in range(256)]
    by_top = {entry >> 24: number for number, entry in enumerate(table)}
    value = zlib.crc32(content) ^ 0xFFFFFFFF
    for _ in range(4):
        number = by_top[value >> 24]
        value = ((value ^ table[number]) << 8 | number) & 0xFFFFFFFF
    start = other[:-4]
    forged = start + (value ^ zlib.crc32(start) ^ 0xFFFFFFFF).to_bytes(4, "little")
    assert zlib.crc32(forged) == zlib.crc32(content)
    return forged


def _step(number: int) -> int:
    for _ in range(8):
        number = number >> 1 ^ (0xEDB88320 if number & 1 else 0)
    return number
