"""Checksums of bytes in S3's spelling, and bytes against those that S3 keeps of an object's content.

Base64, big-endian, `-N` after a composite of N parts.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
"""

from __future__ import annotations

import base64
import importlib
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any

from jobs.core.algorithms import ALGORITHMS, STRENGTH, Protection, protects
from jobs.core.evidence import is_md5_etag
from jobs.core.model import Checksum, ObjectInfo
from jobs.core.outcome import Evidence


def _hash(algorithm: str) -> tuple[Callable[[bytes], object], Callable[[], bytes]]:
    """What takes in bytes piece by piece, and what returns their digest."""
    known = ALGORITHMS[algorithm]
    module, _, name = known.hasher.partition(":")
    function: Any = attrgetter(name)(importlib.import_module(module))
    if name.startswith("crc"):
        crc = 0

        def proceed(data: bytes) -> None:
            nonlocal crc
            crc = int(function(data, crc))

        return proceed, lambda: crc.to_bytes(known.digest_bytes, "big")
    if name.startswith("XXHash."):  # with the seed 0, as AWS's own clients have it
        xxhash = function()
        return lambda data: xxhash.update(bytes(data)), lambda: bytes(xxhash.finalize())  # it takes no bytearray
    made = function(usedforsecurity=False)
    return made.update, made.digest


class Hasher:
    """A full-object checksum of bytes that come piece by piece. Raises KeyError for an algorithm that is not in
    ALGORITHMS.
    """

    def __init__(self, algorithm: str):
        self.algorithm = algorithm
        self.update, self._digest = _hash(algorithm)

    @property
    def checksum(self) -> Checksum:
        """That of the bytes that have come."""
        return Checksum(self.algorithm, base64.b64encode(self._digest()).decode())


def full_object(algorithm: str, data: bytes) -> Checksum:
    """The checksum of the whole content."""
    hasher = Hasher(algorithm)
    hasher.update(data)
    return hasher.checksum


def combine(parts: Iterable[tuple[int, Checksum]]) -> Checksum:
    """The full-object checksum of contents, (size in bytes, checksum) each, one after the other.

    All of one algorithm, which is combinable.
    """
    from awscrt import checksums

    (_, first), *others = parts
    function = getattr(checksums, f"combine_{first.algorithm.lower()}")
    whole = int.from_bytes(base64.b64decode(first.value), "big")
    for size_bytes, checksum in others:
        whole = int(function(whole, int.from_bytes(base64.b64decode(checksum.value), "big"), size_bytes))
    width_bytes = ALGORITHMS[first.algorithm].digest_bytes
    return Checksum(first.algorithm, base64.b64encode(whole.to_bytes(width_bytes, "big")).decode())


def composite(parts: Sequence[Checksum]) -> Checksum:
    """The checksum of the parts' checksums, as S3 keeps it for a multipart upload."""
    algorithm = parts[0].algorithm
    joined = b"".join(base64.b64decode(part.value) for part in parts)
    return Checksum(algorithm, f"{full_object(algorithm, joined).value}-{len(parts)}", is_composite=True)


def full_object_checksums(checksums: Iterable[Checksum]) -> list[Checksum]:
    """Return those of the whole content that can be computed from bytes, in their order."""
    return [each for each in checksums if not each.is_composite and each.algorithm in ALGORITHMS]


def is_checksum_of(checksum: Checksum, data: bytes) -> bool:
    """True if the bytes have this checksum, which is one of `full_object_checksums`."""
    return full_object(checksum.algorithm, data).value == checksum.value


def stored_checksums(info: ObjectInfo) -> list[tuple[Checksum, Evidence]]:
    """The full-object checksums, the strongest first, and an MD5 ETag, each with what it is evidence as."""
    found = [(each, Evidence.CHECKSUM) for each in full_object_checksums(info.checksums)]
    if is_md5_etag(info):
        md5 = base64.b64encode(bytes.fromhex(info.etag)).decode()
        found.append((Checksum("MD5", md5), Evidence.MD5_ETAG))
    return sorted(found, key=lambda each: STRENGTH[each[0].algorithm])


class ContentCheck:
    """Bytes, piece by piece, against everything that S3 keeps of an object's content.

    `also`: an algorithm that `checksum` is asked for.
    """

    def __init__(self, info: ObjectInfo, also: str | None = None):
        self._stored = stored_checksums(info)
        algorithms = {*(each.algorithm for each, _ in self._stored), *([also] if also else [])}
        self._hashers = {each: Hasher(each) for each in algorithms}

    def update(self, data: bytes) -> None:
        """The next piece."""
        for hasher in self._hashers.values():
            hasher.update(data)

    def checksum(self, algorithm: str) -> Checksum:
        """That of the bytes. Raises KeyError for an algorithm that nobody asked for."""
        return self._hashers[algorithm].checksum

    @property
    def compared(self) -> Evidence:
        """The strongest of what the bytes are compared with."""
        return self._stored[0][1] if self._stored else Evidence.NONE

    @property
    def is_refuted(self) -> bool:
        """Whether one of the checksums is of other bytes than these."""
        return any(self.checksum(each.algorithm).value != each.value for each, _ in self._stored)

    @property
    def evidence(self) -> Evidence:
        """The strongest that protects against intent. NONE: the bytes must be compared."""
        strong = (evidence for each, evidence in self._stored if protects(each.algorithm, Protection.INTENT))
        return next(strong, Evidence.NONE)
