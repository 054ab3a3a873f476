"""Are two objects the same, and what proves it?

Sources: https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html and
https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html (when an ETag is an MD5).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from jobs.core.model import Checksum, ObjectInfo
from jobs.core.outcome import Evidence

_MD5 = re.compile(r"[0-9a-f]{32}")
_STRENGTH = ("SHA512", "SHA256", "SHA1", "MD5", "XXHASH128", "CRC64NVME", "XXHASH3", "XXHASH64", "CRC32C", "CRC32")


class Verdict(NamedTuple):
    """`same` is True or False when proven, None when nothing comparable was at hand."""

    same: bool | None
    evidence: Evidence
    reason: str = ""


def is_md5(etag: str | None) -> bool:
    """Whether the ETag has the form of an MD5. A KMS-encrypted object's has it too, but equals no other."""
    return etag is not None and _MD5.fullmatch(etag) is not None


def is_md5_etag(info: ObjectInfo) -> bool:
    """Whether the ETag is the MD5 of the content: one part, and not encrypted with KMS or a customer's key."""
    return is_md5(info.etag) and info.attributes.sse in (None, "", "AES256")


def compare(source: ObjectInfo, destination: ObjectInfo) -> Verdict:
    """What stored sizes, checksums and ETags prove.

    | sizes  | a comparable checksum | both ETags MD5 | verdict                  |
    |--------|-----------------------|----------------|--------------------------|
    | differ |                       |                | different                |
    | equal  | one differs           |                | different, `checksum`    |
    | equal  | all equal, one or more|                | same, `checksum`         |
    | equal  | none                  | differ         | different, `md5_etag`    |
    | equal  | none                  | equal          | same, `md5_etag`         |
    | equal  | none                  | no             | unknown, with the reason |

    Full-object checksums of one algorithm are always comparable. Composite ones depend on where
    the parts were cut, so that only equal ones say something.
    """
    if source.size_bytes != destination.size_bytes:
        sizes = f"{source.size_bytes} bytes at the source, {destination.size_bytes} at the destination"
        return Verdict(False, Evidence.NONE, f"size differs: {sizes}")
    proofs = _comparable(source.checksums, destination.checksums)
    for algorithm, equal in proofs:
        if not equal:
            return Verdict(False, Evidence.CHECKSUM, f"{algorithm} differs")
    if proofs:
        return Verdict(True, Evidence.CHECKSUM)
    if is_md5_etag(source) and is_md5_etag(destination):
        equal = source.etag == destination.etag
        return Verdict(equal, Evidence.MD5_ETAG, "" if equal else "MD5 differs")
    return Verdict(
        None, Evidence.NONE, f"nothing comparable: source {_known(source)}, destination {_known(destination)}"
    )


def _comparable(source: tuple[Checksum, ...], destination: tuple[Checksum, ...]) -> list[tuple[str, bool]]:
    """(algorithm, equal) for each pair that proves something, the strongest algorithm first."""
    others = {(checksum.algorithm, checksum.is_composite): checksum.value for checksum in destination}
    proofs = []
    for checksum in source:
        value = others.get((checksum.algorithm, checksum.is_composite))
        if (
            value is not None
            and checksum.algorithm in _STRENGTH
            and (value == checksum.value or not checksum.is_composite)
        ):
            proofs.append((checksum.algorithm, value == checksum.value))
    return sorted(proofs, key=lambda proof: _STRENGTH.index(proof[0]))


def _known(info: ObjectInfo) -> str:
    """What an object brought to the comparison, for the reason of an unknown verdict."""
    checksums = [f"composite {c.algorithm}" if c.is_composite else c.algorithm for c in info.checksums]
    etag = "an MD5 ETag" if is_md5_etag(info) else "a multipart ETag" if "-" in info.etag else "an opaque ETag"
    return " and ".join([*checksums, etag])


def best_checksum(info: ObjectInfo) -> str | None:
    """`ALGORITHM:base64` of the strongest full-object checksum, None when there is none."""
    full = [c for c in info.checksums if not c.is_composite and c.algorithm in _STRENGTH]
    if not full:
        return None
    best = min(full, key=lambda checksum: _STRENGTH.index(checksum.algorithm))
    return f"{best.algorithm}:{best.value}"
