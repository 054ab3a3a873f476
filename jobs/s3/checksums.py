"""Checksums of bytes in S3's spelling.

Base64, big-endian, `-N` after a composite of N parts.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from jobs.core.model import Checksum

ALGORITHMS = (
    "CRC64NVME",
    "CRC32",
    "CRC32C",
    "SHA1",
    "SHA256",
    "SHA512",
    "MD5",
    "XXHASH64",
    "XXHASH3",
    "XXHASH128",
)
_XXHASHES = {"XXHASH64": "new_xxhash64", "XXHASH3": "new_xxhash3_64", "XXHASH128": "new_xxhash3_128"}
"""What AWS's own clients compute for each name, with the seed 0."""


class _Hash(Protocol):
    """What hashes bytes that come piece by piece."""

    def update(self, data: bytes, /) -> object: ...

    def digest(self) -> bytes: ...


class _Crc:
    """A CRC as a hash."""

    def __init__(self, proceed: Callable[[bytes, int], int], width_bytes: int):
        self._proceed, self._width_bytes, self._crc = proceed, width_bytes, 0

    def update(self, data: bytes) -> None:
        self._crc = int(self._proceed(data, self._crc))

    def digest(self) -> bytes:
        return self._crc.to_bytes(self._width_bytes, "big")


class _XxHash:
    """One of the Common Runtime's XXHash as a hash."""

    def __init__(self, name: str):
        from awscrt.checksums import XXHash

        self._hash = getattr(XXHash, _XXHASHES[name])()

    def update(self, data: bytes) -> None:
        self._hash.update(bytes(data))  # it takes no bytearray

    def digest(self) -> bytes:
        return bytes(self._hash.finalize())


def _new(algorithm: str) -> _Hash:
    if algorithm == "CRC32":
        return _Crc(zlib.crc32, 4)
    if algorithm in ("CRC64NVME", "CRC32C"):
        from awscrt import checksums

        return _Crc(checksums.crc32c, 4) if algorithm == "CRC32C" else _Crc(checksums.crc64nvme, 8)
    if algorithm in _XXHASHES:
        return _XxHash(algorithm)
    if algorithm not in ALGORITHMS:
        raise KeyError(algorithm)
    return hashlib.new(algorithm.lower(), usedforsecurity=False)


def digest(algorithm: str, data: bytes) -> bytes:
    """The raw digest. Raises KeyError for an algorithm that is not in ALGORITHMS."""
    made = _new(algorithm)
    made.update(data)
    return made.digest()


class Hasher:
    """A full-object checksum of bytes that come piece by piece. Raises KeyError like `digest`."""

    def __init__(self, algorithm: str):
        self.algorithm, self._hash = algorithm, _new(algorithm)

    def update(self, data: bytes) -> None:
        """The next piece."""
        self._hash.update(data)

    def spelled(self) -> str:
        """`ALGORITHM:base64`."""
        return f"{self.algorithm}:{base64.b64encode(self._hash.digest()).decode()}"


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


def composite(parts: Sequence[Checksum]) -> Checksum:
    """The checksum of the parts' checksums, as S3 keeps it for a multipart upload."""
    algorithm = parts[0].algorithm
    joined = b"".join(base64.b64decode(part.value) for part in parts)
    value = base64.b64encode(digest(algorithm, joined)).decode()
    return Checksum(algorithm, f"{value}-{len(parts)}", is_composite=True)
