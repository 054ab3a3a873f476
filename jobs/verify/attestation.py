"""Attestations: checksums that S3 computed at rest, pinned to object versions.

A report of checksums says what an object's bytes were when S3 read them. It proves an object only
while that is the same object: the same version id (a version never changes), or, without one, the
same ETag on an object that was last modified before the report.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from jobs.core.model import Checksum, ObjectInfo, Repair


class Attestation(Struct, frozen=True):
    """A checksum that S3 computed at rest, at `computed_us` (microseconds since the epoch).

    `side`: source or destination. Without `version_id` the ETag pins it.
    """

    side: str
    algorithm: str
    value: str
    is_composite: bool
    version_id: str | None
    etag: str | None
    computed_us: int


class Attested(Repair, frozen=True):
    """What the rows of a verify run have beside them."""

    attested: Sequence[Attestation] = ()


def attested(info: ObjectInfo, side: str, beside: object) -> tuple[Checksum, ...]:
    """Return the checksums of a side that are true of the object that HEAD describes.

    `beside`: what a row has beside it.

    | pinned by  | the object has        | last modified | true of it |
    |------------|-----------------------|---------------|------------|
    | version id | this version id       |               | yes        |
    | version id | another, or none      |               | no         |
    | ETag       | another ETag          |               | no         |
    | ETag       | this ETag             | after report  | no         |
    | ETag       | this ETag             | before report | yes        |
    """
    return tuple(
        Checksum(each.algorithm, each.value, each.is_composite)
        for each in (beside.attested if isinstance(beside, Attested) else ())
        if each.side == side and _is_of(each, info)
    )


def _is_of(each: Attestation, info: ObjectInfo) -> bool:
    if each.version_id:
        return each.version_id == info.version_id
    return each.etag == info.etag and info.last_modified * 1e6 <= each.computed_us
