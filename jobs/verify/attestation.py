"""Attestations: checksums that S3 computed at rest, pinned to object versions.

A report of checksums says what an object's bytes were when S3 read them. It proves an object only
while that is the same object: the same version id (a version never changes), or, without one, the
same ETag on an object that was last modified before the report.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from jobs.core.model import Checksum, ObjectInfo

_SPELLED = re.compile(r"(?<!\S)([^:\s]+):(FULL_OBJECT|COMPOSITE):([^:\s]+):(?:version=(\S+)|etag=(\S+))")


class Attestation(NamedTuple):
    """A checksum, and the version id, else the ETag, of its object."""

    checksum: Checksum
    version_id: str | None = None
    etag: str | None = None

    def spelled(self) -> str:
        """Return `CRC32:FULL_OBJECT:bS9TOQ==:version=…` or `…:etag=…`, without spaces, as S3's ids
        and ETags have none.
        """
        kind = "COMPOSITE" if self.checksum.is_composite else "FULL_OBJECT"
        pin = f"version={self.version_id}" if self.version_id else f"etag={self.etag}"
        return f"{self.checksum.algorithm}:{kind}:{self.checksum.value}:{pin}"


def parse_attestations(text: str | None) -> list[Attestation]:
    """Read texts of `spelled` with spaces between them. Invalid ones are ignored."""
    return [
        Attestation(Checksum(algorithm, value, kind == "COMPOSITE"), version_id or None, etag or None)
        for algorithm, kind, value, version_id, etag in _SPELLED.findall(text or "")
    ]


def attested(info: ObjectInfo, attestations: Iterable[Attestation], computed_at: float) -> tuple[Checksum, ...]:
    """Return the checksums that are true of the object that HEAD describes.

    `computed_at`: the report's time.

    | pinned by  | the object has        | last modified | true of it |
    |------------|-----------------------|---------------|------------|
    | version id | this version id       |               | yes        |
    | version id | another, or none      |               | no         |
    | ETag       | another ETag          |               | no         |
    | ETag       | this ETag             | after report  | no         |
    | ETag       | this ETag             | before report | yes        |
    """
    return tuple(
        each.checksum
        for each in attestations
        if (
            each.version_id == info.version_id
            if each.version_id
            else each.etag == info.etag and info.last_modified <= computed_at
        )
    )
