"""Evidence that two objects are the same. Pure.

Sources: https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html and
https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html (when an ETag is an MD5).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from jobs.core.algorithms import ALGORITHMS, STRENGTH, Protection, protects
from jobs.core.model import Attributes, Checksum, ObjectInfo, ObjectVersion
from jobs.core.outcome import Evidence
from jobs.core.reasons import Reason, Why

_MD5 = re.compile(r"[0-9a-f]{32}")
_IN_PARTS = re.compile(r"-\d{1,5}\Z", re.ASCII)


def is_named(row: ObjectVersion, source: ObjectInfo) -> bool:
    """Whether the source is the object that a row names: by the ETag, else by the size."""
    return row.etag == source.etag if row.etag is not None else row.size_bytes in (None, source.size_bytes)


class Verdict(NamedTuple):
    """`same` is True or False when proven, None when nothing comparable was at hand.

    `reason` is empty where the two are the same, `detail` its one fact. `is_source_damaged`: the
    source's bytes are not those that S3 keeps checksums of. `checksum`: `ALGORITHM:base64` of content
    that is the same, if the comparison knows it.
    """

    same: bool | None
    evidence: Evidence = Evidence.NONE
    reason: Why = ""
    detail: str = ""
    is_source_damaged: bool = False
    checksum: str | None = None


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


def compare(source: ObjectInfo, copy: ObjectInfo, against: Protection = Protection.ACCIDENT) -> Verdict:
    """What sizes, checksums, ETags, metadata and headers prove: all that is comparable has to agree.

    The first line that fits decides:

    | what S3 says of both                                 | same | reason             | evidence      |
    |------------------------------------------------------|------|--------------------|---------------|
    | two checksums of the source contradict each other    | no   | damaged            | checksum      |
    | two checksums of the copy contradict each other      | no   | checksum_differs   | checksum      |
    | the sizes differ                                     | no   | size_differs       | none          |
    | a comparable checksum or MD5 ETag differs            | no   | checksum_differs   | that one      |
    | user metadata or a content header differs            | no   | metadata_differs   | none          |
    | a comparable one that protects `against` that agrees | yes  |                    | the strongest |
    | another comparable one agrees                        | ?    | evidence_weak      | none          |
    | nothing is comparable                                | ?    | nothing_comparable | none          |

    Full-object checksums of one algorithm are always comparable. Composite ones depend on where the
    parts were cut, so that only equal ones say something. ETags are comparable where both are MD5s.
    An algorithm that is not in `jobs.core.algorithms` says nothing. Who guards against intent deletes
    the source, so that the copy has to have what CopyObject leaves behind, too.
    """
    if algorithm := contradiction(source):
        return Verdict(False, Evidence.CHECKSUM, Reason.DAMAGED, algorithm, is_source_damaged=True)
    if algorithm := contradiction(copy):
        return Verdict(False, Evidence.CHECKSUM, Reason.CHECKSUM_DIFFERS, algorithm)
    if source.size_bytes != copy.size_bytes:
        return Verdict(False, Evidence.NONE, Reason.SIZE_DIFFERS)
    proofs = _comparable(source.checksums, copy.checksums)
    if is_md5_etag(source) and is_md5_etag(copy):
        proofs.append(_Proof("MD5", source.etag == copy.etag, Evidence.MD5_ETAG))
    for proof in proofs:
        if not proof.is_equal:
            return Verdict(False, proof.evidence, Reason.CHECKSUM_DIFFERS, proof.algorithm)
    if differing := difference(source.attributes, copy.attributes, is_excused=against is Protection.ACCIDENT):
        return Verdict(False, Evidence.NONE, Reason.METADATA_DIFFERS, differing)
    for proof in proofs:
        if protects(proof.algorithm, against):
            return Verdict(True, proof.evidence)
    if proofs:
        return Verdict(None, Evidence.NONE, Reason.EVIDENCE_WEAK, ", ".join(proof.algorithm for proof in proofs))
    return Verdict(None, Evidence.NONE, Reason.NOTHING_COMPARABLE, f"{_known(source)}; {_known(copy)}")


def contradiction(info: ObjectInfo) -> str:
    """The algorithm of which S3 keeps two values for the one content of an object, else an empty text.

    So it is where S3 has read other bytes at rest (`with_checksums`) than those that were written.
    """
    known: dict[str, str] = {}
    for each in info.checksums:
        is_full = each.algorithm in ALGORITHMS and not each.is_composite
        if is_full and known.setdefault(each.algorithm, each.value) != each.value:
            return each.algorithm
    return ""


def with_checksums(info: ObjectInfo, checksums: tuple[Checksum, ...]) -> ObjectInfo:
    """Return what HEAD said, with these checksums before the stored ones."""
    if not checksums:
        return info
    stored = tuple(each for each in info.checksums if each not in checksums)
    return replace(info, checksums=(*checksums, *stored))


NEVER_COPIED = frozenset({"x-amz-website-redirect-location"})
"""CopyObject leaves it behind: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html"""
NO_TYPE = frozenset({"binary/octet-stream", "application/octet-stream"})
"""The types that servers give an object that was written without one."""


def difference(source: Attributes, copy: Attributes, *, is_excused: bool = True) -> str:
    """The name of what differs of user metadata or content headers. Empty: nothing.

    `is_excused`: a copy may lack, or have of its own, what CopyObject leaves behind.
    """
    if source.metadata != copy.metadata:
        return "user metadata"
    if source.headers == copy.headers:
        return ""
    ours, theirs = (
        {name: value for name, value in each.headers.items() if name != "content-type" or value not in NO_TYPE}
        for each in (source, copy)
    )
    differing = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    return next((name for name in differing if not is_excused or name not in NEVER_COPIED), "")


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
    full = [each for each in info.checksums if not each.is_composite and each.algorithm in ALGORITHMS]
    best = min(full, key=lambda checksum: STRENGTH[checksum.algorithm], default=None)
    return best and str(best)
