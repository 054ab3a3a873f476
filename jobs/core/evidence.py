"""Evidence that two objects are the same. Pure.

Sources: https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html and
https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html (when an ETag is an MD5).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from jobs.core.algorithms import ALGORITHMS, STRENGTH, Protection, protects
from jobs.core.model import Checksum, ObjectInfo, ObjectVersion
from jobs.core.outcome import Evidence

_MD5 = re.compile(r"[0-9a-f]{32}")
_IN_PARTS = re.compile(r"-\d{1,5}\Z", re.ASCII)


SIZE_DIFFERS = "size differs"
NOT_THE_ONE_NAMED = "the source is not the object that the manifest names"
"""Reasons name no value of a single row, so that equal failures are one line of a report. Sizes and
ETags have columns."""


def is_named(row: ObjectVersion, source: ObjectInfo) -> bool:
    """Whether the source is the object that a row names: by the ETag, else by the size."""
    if row.etag is not None:
        return source.etag == row.etag
    return row.size_bytes in (None, source.size_bytes)


class Verdict(NamedTuple):
    """`same` is True or False when proven, None when nothing comparable was at hand.

    `is_source_damaged`: the source's bytes are not those that S3 keeps checksums of.
    `is_copy_intact`: the copy's bytes are those, and S3 keeps nothing of the source's, so that
    either of the two may have rotted.
    """

    same: bool | None
    evidence: Evidence
    reason: str = ""
    is_source_damaged: bool = False
    is_copy_intact: bool = False


def is_md5(etag: str | None) -> bool:
    """Whether the ETag has the form of an MD5.

    A KMS-encrypted object's has it too, but equals no other.
    """
    return etag is not None and _MD5.fullmatch(etag) is not None


def is_multipart(etag: str | None) -> bool:
    """Whether the ETag is one of an upload in parts (`…-N`).

    S3 dates such an object by the beginning of its upload.
    """
    return etag is not None and _IN_PARTS.search(etag) is not None


def is_md5_etag(info: ObjectInfo) -> bool:
    """Whether the ETag is the content's MD5: one part, no KMS and no customer's key."""
    return is_md5(info.etag) and info.attributes.sse in (None, "", "AES256")


def compare(source: ObjectInfo, destination: ObjectInfo, against: Protection = Protection.ACCIDENT) -> Verdict:
    """What stored sizes, checksums and ETags prove. All that is comparable has to agree.

    | sizes  | comparable checksums and MD5 ETags              | verdict                         |
    |--------|-------------------------------------------------|---------------------------------|
    | differ |                                                 | different                       |
    | equal  | one differs                                     | different, by that one          |
    | equal  | all equal, one of them protects `against` that  | same, by the strongest of these |
    | equal  | all equal, none of them protects `against` that | unknown, with the reason        |
    | equal  | none                                            | unknown, with the reason        |

    Full-object checksums of one algorithm are always comparable. Composite ones depend on where the
    parts were cut, so that only equal ones say something. ETags are comparable where both are MD5s.
    """
    if source.size_bytes != destination.size_bytes:
        return Verdict(False, Evidence.NONE, SIZE_DIFFERS)
    proofs = _comparable(source.checksums, destination.checksums)
    if is_md5_etag(source) and is_md5_etag(destination):
        proofs.append(_Proof("MD5", source.etag == destination.etag, Evidence.MD5_ETAG))
    for proof in proofs:
        if not proof.is_equal:
            return Verdict(False, proof.evidence, f"{proof.algorithm} differs")
    for proof in proofs:
        if protects(proof.algorithm, against):
            return Verdict(True, proof.evidence)
    if proofs:
        names = " and ".join(proof.algorithm for proof in proofs)
        return Verdict(None, Evidence.NONE, f"only {names} agree, and other content can be made to have the same")
    return Verdict(
        None, Evidence.NONE, f"nothing comparable: source {_known(source)}, destination {_known(destination)}"
    )


class Carried(Protocol):
    """What an object, or a member of an archive, carries beside its bytes."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The content headers, in lower case."""
        ...

    @property
    def metadata(self) -> Mapping[str, str]:
        """The user's metadata."""
        ...


NO_TYPE = frozenset({"binary/octet-stream", "application/octet-stream"})
"""The types that servers give an object that was written without one."""


def difference(source: Carried, copy: Carried) -> str:
    """Return what differs of user metadata or content headers. Empty: nothing."""
    if dict(source.metadata) != dict(copy.metadata):
        return "user metadata differs"
    ours, theirs = (
        {name: value for name, value in each.headers.items() if name != "content-type" or value not in NO_TYPE}
        for each in (source, copy)
    )
    differing = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    return f"{differing[0]} differs" if differing else ""


class _Proof(NamedTuple):
    """Two values of one algorithm, and whether they are equal."""

    algorithm: str
    is_equal: bool
    evidence: Evidence


def _comparable(source: Sequence[Checksum], destination: Sequence[Checksum]) -> list[_Proof]:
    """Each pair of checksums that proves something, the strongest algorithm first."""
    proofs = [
        _Proof(ours.algorithm, ours.value == theirs.value, Evidence.CHECKSUM)
        for ours in source
        for theirs in destination
        if (ours.algorithm, ours.is_composite) == (theirs.algorithm, theirs.is_composite)
        and ours.algorithm in ALGORITHMS
        and (ours.value == theirs.value or not ours.is_composite)
    ]
    return sorted(proofs, key=lambda proof: STRENGTH[proof.algorithm])


def _known(info: ObjectInfo) -> str:
    """What an object brought to the comparison, for the reason of an unknown verdict."""
    checksums = [f"composite {c.algorithm}" if c.is_composite else c.algorithm for c in info.checksums]
    etag = "an MD5 ETag" if is_md5_etag(info) else "a multipart ETag" if "-" in info.etag else "an opaque ETag"
    return " and ".join([*checksums, etag])


def best_checksum(info: ObjectInfo) -> str | None:
    """`ALGORITHM:base64` of the strongest full-object checksum. None without one."""
    full = [c for c in info.checksums if not c.is_composite and c.algorithm in ALGORITHMS]
    if not full:
        return None
    best = min(full, key=lambda checksum: STRENGTH[checksum.algorithm])
    return f"{best.algorithm}:{best.value}"
