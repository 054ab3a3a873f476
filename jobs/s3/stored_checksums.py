"""Checksums that S3 keeps of an object's content, compared with other bytes."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from jobs.core.algorithms import ALGORITHMS, STRENGTH, Protection, protects
from jobs.core.evidence import is_md5_etag
from jobs.core.model import Checksum, ObjectInfo
from jobs.core.outcome import Evidence
from jobs.s3.checksums import Hasher, full_object


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
