"""Attestations: checksums that S3 computed at rest, pinned to object versions.

A report of checksums says what an object's bytes were when S3 read them. It proves an object only
while that is the same object: the same version id (a version never changes), or, without one, the
same ETag on an object that was last modified before the report.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from jobs.core.model import Checksum, ObjectInfo

_SPELLED = re.compile(r"(?<!\S)([^:\s]+):(FULL_OBJECT|COMPOSITE):([^:\s]+):(?:version=(\S+)|etag=(\S+))")


def attested(info: ObjectInfo, text: str | None, report: Mapping[str, Any] | None) -> tuple[Checksum, ...]:
    """Return the checksums of a row's text that are true of the object that HEAD describes.

    The text has `CRC32:FULL_OBJECT:bS9TOQ==:version=…` or `…:etag=…`, with spaces between them.
    `report`: what the run says of the report, with its time `computed_at`. Without it nothing is true.

    | pinned by  | the object has        | last modified | true of it |
    |------------|-----------------------|---------------|------------|
    | version id | this version id       |               | yes        |
    | version id | another, or none      |               | no         |
    | ETag       | another ETag          |               | no         |
    | ETag       | this ETag             | after report  | no         |
    | ETag       | this ETag             | before report | yes        |
    """
    if report is None:
        return ()
    is_unchanged = info.last_modified <= report["computed_at"]
    return tuple(
        Checksum(algorithm, value, kind == "COMPOSITE")
        for algorithm, kind, value, version_id, etag in _SPELLED.findall(text or "")
        if (version_id == info.version_id if version_id else etag == info.etag and is_unchanged)
    )
