"""Checksums of bytes in S3's spelling, and bytes against those that S3 keeps of an object's content.

Base64, big-endian, `-N` after a composite of N parts.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
"""

from __future__ import annotations

import base64
import importlib
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

from jobs.core.algorithms import ALGORITHMS, STRENGTH, Protection, protects
from jobs.core.evidence import is_md5_etag
from jobs.core.model import Checksum, ObjectInfo
from jobs.core.outcome import Evidence


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
    """One of the Common Runtime's XXHash as a hash, with the seed 0 as AWS's own clients have it."""

    def __init__(self, new: Callable[[], Any]):
        self._hash = new()

    def update(self, data: bytes) -> None:
        self._hash.update(bytes(data))  # it takes no bytearray

    def digest(self) -> bytes:
        return bytes(self._hash.finalize())


def _new(algorithm: str) -> _Hash:
    known = ALGORITHMS[algorithm]
    module, _, name = known.hasher.partition(":")
    function: Any = attrgetter(name)(importlib.import_module(module))
    if name.startswith("XXHash."):
        return _XxHash(function)
    if name.startswith("crc"):
        return _Crc(function, known.digest_bytes)
    made: _Hash = function(usedforsecurity=False)
    return made


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


def combine(parts: Iterable[tuple[Checksum, int]]) -> Checksum:
    """The full-object checksum of contents, (checksum, size in bytes) each, one after the other.

    All of one algorithm, which is combinable.
    """
    from awscrt import checksums

    (first, _), *others = parts
    function = getattr(checksums, f"combine_{first.algorithm.lower()}")
    whole = int.from_bytes(base64.b64decode(first.value), "big")
    for checksum, size_bytes in others:
        whole = int(function(whole, int.from_bytes(base64.b64decode(checksum.value), "big"), size_bytes))
    width_bytes = ALGORITHMS[first.algorithm].digest_bytes
    return Checksum(first.algorithm, base64.b64encode(whole.to_bytes(width_bytes, "big")).decode())


def composite(parts: Sequence[Checksum]) -> Checksum:
    """The checksum of the parts' checksums, as S3 keeps it for a multipart upload."""
    algorithm = parts[0].algorithm
    joined = b"".join(base64.b64decode(part.value) for part in parts)
    value = base64.b64encode(digest(algorithm, joined)).decode()
    return Checksum(algorithm, f"{value}-{len(parts)}", is_composite=True)


class Stored(NamedTuple):
    """One checksum of the whole content: its algorithm, its base64, and what it is evidence as."""

    algorithm: str
    value: str
    evidence: Evidence


def full_object_checksums(checksums: Iterable[Checksum]) -> list[Checksum]:
    """Return those of the whole content that can be computed from bytes, in their order."""
    return [each for each in checksums if not each.is_composite and each.algorithm in ALGORITHMS]


def is_checksum_of(checksum: Checksum, data: bytes) -> bool:
    """True if the bytes have this checksum, which is one of `full_object_checksums`."""
    return full_object(checksum.algorithm, data).value == checksum.value


def stored_checksums(info: ObjectInfo) -> list[Stored]:
    """The full-object checksums, the strongest first, and an MD5 ETag."""
    found = [Stored(each.algorithm, each.value, Evidence.CHECKSUM) for each in full_object_checksums(info.checksums)]
    if is_md5_etag(info):
        found.append(Stored("MD5", base64.b64encode(bytes.fromhex(info.etag)).decode(), Evidence.MD5_ETAG))
    return sorted(found, key=lambda each: STRENGTH[each.algorithm])


class ContentCheck:
    """Bytes, piece by piece, against everything that S3 keeps of an object's content.

    `also`: an algorithm that `checksum` is asked for.
    """

    def __init__(self, info: ObjectInfo, also: str | None = None):
        self._stored: Sequence[Stored] = stored_checksums(info)
        algorithms = {*(each.algorithm for each in self._stored), *([also] if also else [])}
        self._hashers = {each: Hasher(each) for each in algorithms}

    def update(self, data: bytes) -> None:
        """The next piece."""
        for hasher in self._hashers.values():
            hasher.update(data)

    def checksum(self, algorithm: str) -> Checksum:
        """That of the bytes. Raises KeyError for an algorithm that nobody asked for."""
        return Checksum(algorithm, self.spelled(algorithm).partition(":")[2])

    def spelled(self, algorithm: str) -> str:
        """As `checksum`, as `ALGORITHM:base64`."""
        return self._hashers[algorithm].spelled()

    @property
    def compared(self) -> Evidence:
        """The strongest of what the bytes are compared with."""
        return self._stored[0].evidence if self._stored else Evidence.NONE

    @property
    def is_refuted(self) -> bool:
        """Whether one of the checksums is of other bytes than these."""
        return any(self._hashers[each.algorithm].spelled() != f"{each.algorithm}:{each.value}" for each in self._stored)

    @property
    def evidence(self) -> Evidence:
        """The strongest that protects against intent. NONE: the bytes must be compared."""
        strong = [each for each in self._stored if protects(each.algorithm, Protection.INTENT)]
        return strong[0].evidence if strong else Evidence.NONE
