"""Checksums of bytes in S3's spelling.

Base64, big-endian, `-N` after a composite of N parts.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Iterable, Sequence

from jobs.core.model import Checksum

ALGORITHMS = ("CRC64NVME", "CRC32", "CRC32C", "SHA1", "SHA256", "SHA512", "MD5")


def digest(algorithm: str, data: bytes) -> bytes:
    """The raw digest. Raises KeyError for an algorithm that is not in ALGORITHMS."""
    if algorithm == "CRC32":
        return zlib.crc32(data).to_bytes(4, "big")
    if algorithm in ("CRC64NVME", "CRC32C"):
        from awscrt import checksums

        if algorithm == "CRC32C":
            return int(checksums.crc32c(data)).to_bytes(4, "big")
        return int(checksums.crc64nvme(data)).to_bytes(8, "big")
    if algorithm not in ALGORITHMS:
        raise KeyError(algorithm)
    return hashlib.new(algorithm.lower(), data, usedforsecurity=False).digest()


class Hasher:
    """A full-object checksum of bytes that come piece by piece. Raises KeyError like `digest`."""

    def __init__(self, algorithm: str):
        self.algorithm = algorithm
        self._crc = 0
        self._hash = None if algorithm.startswith("CRC") else hashlib.new(algorithm.lower(), usedforsecurity=False)
        digest(algorithm, b"")

    def update(self, data: bytes) -> None:
        """The next piece."""
        if self._hash is not None:
            self._hash.update(data)
        elif self.algorithm == "CRC32":
            self._crc = zlib.crc32(data, self._crc)
        else:
            from awscrt import checksums

            proceed = checksums.crc32c if self.algorithm == "CRC32C" else checksums.crc64nvme
            self._crc = int(proceed(data, self._crc))

    def spelled(self) -> str:
        """`ALGORITHM:base64`."""
        width = 8 if self.algorithm == "CRC64NVME" else 4
        raw = self._crc.to_bytes(width, "big") if self._hash is None else self._hash.digest()
        return f"{self.algorithm}:{base64.b64encode(raw).decode()}"


def full_object(algorithm: str, data: bytes) -> Checksum:
    """The checksum of the whole content."""
    return Checksum(algorithm, base64.b64encode(digest(algorithm, data)).decode())


def combine_crc64nvme(parts: Iterable[tuple[Checksum, int]]) -> Checksum:
    """The full-object CRC64NVME of contents, (checksum, size in bytes) each, one after the other."""
    from awscrt import checksums

    whole = 0
    for checksum, size_bytes in parts:
        own = int.from_bytes(base64.b64decode(checksum.value), "big")
        whole = int(checksums.combine_crc64nvme(whole, own, size_bytes))
    return Checksum("CRC64NVME", base64.b64encode(whole.to_bytes(8, "big")).decode())


def composite(algorithm: str, parts: Sequence[bytes]) -> Checksum:
    """The checksum of the parts' checksums, as S3 keeps it for a multipart upload."""
    joined = b"".join(digest(algorithm, part) for part in parts)
    value = base64.b64encode(digest(algorithm, joined)).decode()
    return Checksum(algorithm, f"{value}-{len(parts)}", is_composite=True)
