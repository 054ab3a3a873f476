"""The checksum algorithms that Sealift knows. A new one is one line here. Pure.

One that is not here proves nothing, anywhere.
Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class Protection(StrEnum):
    """What equal values of an algorithm protect against.

    ACCIDENT: bits that flip, bytes that are cut off or mixed up. Anybody can make other content
    with the same value: CRCs are linear, XXHASH has no secret. INTENT: that as well, and somebody
    who makes other content for a value that is given. Nobody can do that today for MD5 or SHA-1
    either, though two contents of one MD5 or SHA-1 can be made by somebody who makes both:
    https://www.rfc-editor.org/rfc/rfc6151, https://www.rfc-editor.org/rfc/rfc6194.
    """

    ACCIDENT = "accident"
    INTENT = "intent"


class Algorithm(NamedTuple):
    """One algorithm in S3's spelling.

    `hasher`: where its function is, `module:name`, of the three kinds that `jobs.s3.checksums` knows.
    `is_combinable`: S3 makes the checksum of an object in parts from those of its parts.
    """

    name: str
    digest_bytes: int
    hasher: str
    protects_against: Protection
    is_combinable: bool = False


_TABLE = (
    Algorithm("SHA512", 64, "hashlib:sha512", Protection.INTENT),
    Algorithm("SHA256", 32, "hashlib:sha256", Protection.INTENT),
    Algorithm("SHA1", 20, "hashlib:sha1", Protection.INTENT),
    Algorithm("MD5", 16, "hashlib:md5", Protection.INTENT),
    Algorithm("XXHASH128", 16, "awscrt.checksums:XXHash.new_xxhash3_128", Protection.ACCIDENT),
    Algorithm("CRC64NVME", 8, "awscrt.checksums:crc64nvme", Protection.ACCIDENT, is_combinable=True),
    Algorithm("XXHASH3", 8, "awscrt.checksums:XXHash.new_xxhash3_64", Protection.ACCIDENT),
    Algorithm("XXHASH64", 8, "awscrt.checksums:XXHash.new_xxhash64", Protection.ACCIDENT),
    Algorithm("CRC32C", 4, "awscrt.checksums:crc32c", Protection.ACCIDENT, is_combinable=True),
    Algorithm("CRC32", 4, "zlib:crc32", Protection.ACCIDENT, is_combinable=True),
)
ALGORITHMS: Mapping[str, Algorithm] = {each.name: each for each in _TABLE}
"""By name, the strongest first."""
STRENGTH: Mapping[str, int] = {each.name: place for place, each in enumerate(_TABLE)}
"""The place of each, 0 is the strongest."""


def protects(algorithm: str, against: Protection) -> bool:
    """True if equal values of the algorithm protect against that. One that is not known does not."""
    known = ALGORITHMS.get(algorithm)
    return known is not None and known.protects_against in (Protection.INTENT, against)
