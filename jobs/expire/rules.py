"""Rules of expiry: which originals may be deleted, and how. A truth table. Pure.

What the ledger says only makes a version a candidate. What S3 says now decides whether it may go:
the original is the one that was proven, its copy is there, and the bytes of both are the same.

| job of the run | outcome             | what is read of the copy now                                           |
|----------------|---------------------|------------------------------------------------------------------------|
| compact        | packed              | the member's bytes, out of the archive that the outcome's ETag pins    |
| replicate      | copied, same        | its bytes, against the original's SHA or MD5, else its bytes           |
| verify         | verified            | the same                                                               |
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from jobs.core.enums import Step
from jobs.core.evidence import Verdict
from jobs.core.model import NULL_VERSION, Location, ObjectInfo, ObjectLock, ObjectVersion, is_exact, parse_time
from jobs.core.outcome import Evidence, Status

PROOFS: Mapping[str, frozenset[Status]] = {
    "compact": frozenset({Status.PACKED}),
    "replicate": frozenset({Status.COPIED, Status.SAME}),
    "verify": frozenset({Status.VERIFIED}),
}
"""Job → the outcomes that say that there is a copy."""
CLOCKS_SECONDS = 300.0
"""The tolerated difference between our clock and S3's."""
ATTEMPT_SECONDS = 3600.0
"""How long after its announcement a delete may have been sent. A group takes minutes."""
EXPIRED_BEFORE = "earlier expire runs"
"""The reason for which a plan leaves out rows that are gone already."""


MEMBER_FIELDS = frozenset(
    (
        "key",
        "size_bytes",
        "etag",
        "last_modified",
        "checksums",
        "sha256",
        "offset",
        "frame_start",
        "frame_offset",
        "frame_length",
    )
)
"""The fields of an archive's member that a proof has: no more than it takes to find, date and read
it."""


@dataclass(frozen=True, slots=True)
class Proof:
    """The place of a copy, as the ledger says.

    `member`: its row in the archive's index, when it is in an archive.

    `bucket`, `key`, `version_id` and `etag` are the copy's, or its archive's. `proven_at` is epoch
    seconds. `objection`: the plan's reason why the proof does not count.
    """

    run_id: str
    proven_at: float
    bucket: str
    key: str
    version_id: str | None
    etag: str | None
    member: Mapping[str, Any] | None = None
    objection: str = ""

    @property
    def place(self) -> str:
        """The URI of the copy or its archive, for messages."""
        return f"s3://{self.bucket}/{self.key}"

    def encode(self) -> str:
        """Return the text that a row of the run's shard carries."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return json.dumps(values, separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> Proof:
        """Read a text of `encode`. Raises ValueError for an invalid one."""
        try:
            proof = cls(**json.loads(text))
            proof = replace(proof, proven_at=float(proof.proven_at))
            is_place = set(proof.member or ()) <= MEMBER_FIELDS
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ValueError(f"no proof: {error}") from error
        texts = (proof.run_id, proof.bucket, proof.key, proof.objection, proof.version_id or "", proof.etag or "")
        if (
            not is_place
            or not isinstance(proof.member, dict | None)
            or not all(isinstance(each, str) for each in texts)
        ):
            raise ValueError("no proof: it says other things than where a copy is")
        if not math.isfinite(proof.proven_at):
            raise ValueError(f"no proof: its time is {proof.proven_at}")
        return proof


class MarkerAbove(NamedTuple):
    """A delete marker that lies above a version. `made_at`: epoch seconds, by S3's clock."""

    version_id: str | None
    made_at: float


class Original(NamedTuple):
    """The version of a row as S3 has it now.

    `hidden_at`: since when a newer version or a marker surely lies on top of it. Of uploads in
    parts alone only their beginning is known.

    `marker_version_id`: the id of a delete marker directly above it.

    `markers_above`: all delete markers above it, the lowest first. S3 orders versions by the
    beginning of their uploads, so an upload in parts may come to lie between.

    `current_etag`: the ETag of the current version, if that is another one. None below a marker.

    `is_folder`: its key ends with `/`, and HEAD names no version of it.
    """

    version_id: str | None
    etag: str
    size_bytes: int
    last_modified: float
    lock: ObjectLock | None = None
    is_current: bool = True
    hidden_at: float | None = None
    marker_version_id: str | None = None
    markers_above: tuple[MarkerAbove, ...] = ()
    current_etag: str | None = None
    is_folder: bool = False

    def marker_of(self, marker_version_id: str | None, announced_at: float) -> MarkerAbove | None:
        """Return the marker above it that an announced delete has set. None: there is no such marker.

        That is the one of this id, else the lowest that was set within `ATTEMPT_SECONDS`. A later
        one is that of somebody else's delete.
        """
        named = [each for each in self.markers_above if each.version_id == marker_version_id]
        in_time = (each for each in self.markers_above if each.made_at <= announced_at + ATTEMPT_SECONDS)
        return named[0] if named and marker_version_id is not None else next(in_time, None)


class Terms(NamedTuple):
    """The terms of a run: `now` (epoch seconds), the grace period, and whether the bucket keeps
    versions now.

    `places`: where the operator says that copies are. A copy elsewhere does not count. `prefix`:
    the prefix of the keys that the run may delete.
    """

    now: float
    grace_seconds: float
    is_versioned: bool
    places: Sequence[Location]
    prefix: str = ""

    def by_clock_of_s3(self, now: float) -> Terms:
        """The terms by S3's clock, if ours is ahead of it: grace and retention do not end early."""
        return self._replace(now=now) if self.now > now + CLOCKS_SECONDS else self


class Decision(NamedTuple):
    """The step, or the reason why the version is kept. `prove`: first compare copy and original.

    `waits`: only the grace period keeps it, so nobody has to act.
    """

    step: Step | None = None
    reason: str = ""
    prove: bool = False
    waits: bool = False


def decide(
    row: ObjectVersion, proof: Proof | None, original: Original, verdict: Verdict | None, terms: Terms
) -> Decision:
    """Decide what happens to a version that is there. The first line that applies decides.

    A verdict that copy and original are the same also means that the copy lacks no annotations of
    the original, unless the run skips them.

    | the row, its proof and the original                          | decision                                   |
    |--------------------------------------------------------------|--------------------------------------------|
    | no proof, one that the plan objects to, or a delete marker   | kept                                       |
    | another version, ETag or size than the proven one            | kept                                       |
    | no version id, and it was written again since it was packed  | kept                                       |
    | the key is outside of what the run is about                  | kept                                       |
    | the copy is not in one of the places that are named          | kept                                       |
    | legal hold, or retention that has not ended                  | kept                                       |
    | written, proven or hidden within the grace period            | waiting                                    |
    | it lies below others, and no version id names it alone       | kept                                       |
    | it is current, in a bucket whose versioning is suspended     | kept                                       |
    | a folder of a server that keeps no versions of folders       | kept                                       |
    | other content is current at its key, and no archive holds it | kept                                       |
    | copy and original not compared yet                           | compare them, and decide again             |
    | they differ, or nothing proves that they are the same        | kept                                       |
    | it is current, in a bucket that keeps versions               | HIDE                                       |
    | any other                                                    | REMOVE                                     |
    """
    if proof is None:
        return Decision(reason="the ledger has no proof of a copy")
    reason = _reason_to_keep(row, proof, original, terms)
    if reason:
        return Decision(reason=reason)
    if grace := _in_grace(proof, original, terms):
        return Decision(reason=grace, waits=True)
    if unnamed := _unnamed(original, terms):
        return Decision(reason=unnamed)
    if proof.member is None and original.current_etag not in (None, original.etag):
        return Decision(reason=_SUPERSEDED)
    if verdict is None:
        return Decision(prove=True)
    if verdict.same is None or (verdict.same and verdict.evidence is Evidence.NONE):
        return Decision(reason=f"nothing proves now that its copy is the same: {verdict.reason}")
    if not verdict.same:
        return Decision(reason=f"its copy is not the same: {verdict.reason}")
    return Decision(Step.HIDE if original.is_current and terms.is_versioned else Step.REMOVE)


def _reason_to_keep(row: ObjectVersion, proof: Proof, original: Original, terms: Terms) -> str:
    if proof.objection:
        return str(proof.objection)
    if row.is_delete_marker:
        return "a delete marker has no copy"
    if row.etag is None or proof.etag is None:
        return "the proof does not say of which object it is"
    if row.version_id not in (None, original.version_id or NULL_VERSION):
        return "another version was proven than this one"
    if row.etag != original.etag:
        return "the object proven had another ETag than this one"
    if row.size_bytes not in (None, original.size_bytes):
        return "the object proven had another size than this one"
    if _is_written_again(proof, original):
        return (
            "it was written again after it was packed, and a restore would take what was packed in between for newer: "
            "compact it again"
        )
    if not row.key.startswith(terms.prefix):
        return f"this run is about keys that begin with {terms.prefix!r} alone"
    if not any(proof.bucket == each.bucket and proof.key.startswith(each.key) for each in terms.places):
        return f"{_the_copy(proof)} is not in {' or '.join(map(str, terms.places))}, where this run looks for copies"
    return _locked(original.lock, terms.now)


def _is_written_again(proof: Proof, original: Original) -> bool:
    """True if no version id tells the original from the packed one, which is older.

    S3 dates by milliseconds in listings, and by seconds in HEAD.
    """
    packed = (proof.member or {}).get("last_modified")
    if not isinstance(packed, int | float) or is_exact(original.version_id):
        return False
    return original.last_modified >= packed + 1.0


def _locked(lock: ObjectLock | None, now: float) -> str:
    if lock is None:
        return ""
    if lock.legal_hold:
        return "it is under legal hold"
    if lock.mode is None:
        return ""
    try:
        until = parse_time(lock.retain_until or "")
    except ValueError:
        return f"it is under {lock.mode} retention, until a time that cannot be read: {lock.retain_until!r}"
    return f"it is under {lock.mode} retention until {lock.retain_until}" if until > now else ""


def _in_grace(proof: Proof, original: Original, terms: Terms) -> str:
    since = {
        "written": original.last_modified,
        "proven": proof.proven_at,
        "hidden below a newer version or a delete marker": original.hidden_at or 0.0,
    }
    latest = max(since, key=lambda what: since[what])
    if terms.now - since[latest] >= terms.grace_seconds:
        return ""
    return f"in the grace period: {latest} less than {terms.grace_seconds / 86400:g} days ago"


def _unnamed(original: Original, terms: Terms) -> str:
    """Return why no delete would be exact. Where versioning is suspended, no condition reaches a
    version below others, and the version on top hides others. SeaweedFS keeps no versions of
    objects whose keys end with `/`.
    """
    if original.is_folder and terms.is_versioned:
        return (
            "its bucket keeps versions, but this server keeps none of a key that ends with a slash: a delete would not "
            "hide it, but remove it for good"
        )
    if original.is_current and original.version_id is not None and not terms.is_versioned:
        return (
            "the versioning of its bucket is suspended: a delete marker would replace it, and removing it would bring "
            "an older version back. Enable versioning first"
        )
    if original.is_current or is_exact(original.version_id) or terms.is_versioned:
        return ""
    return (
        "it is a null version below others in a bucket whose versioning is suspended: S3 cannot delete it by its ETag"
    )


_SUPERSEDED = (
    "a newer version is current at its key, whose copy takes the place of its copy: pack old versions with sealift "
    "compact --versions all"
)
"""A replica has the key of its original. So the next replication puts the newer version there."""


def refuse_copy(proof: Proof, current: ObjectInfo | None) -> str:
    """Return why the object does not count as a copy, else an empty text.

    `current`: what its key has now.

    | what the key of the copy, or of its archive, has now                          | a copy |
    |-------------------------------------------------------------------------------|--------|
    | nothing, or a delete marker                                                   | no     |
    | another ETag, or another version than the proven one                          | no     |
    | a date on which a lifecycle rule removes it (`x-amz-expiration`)              | no     |
    | an archived object, of which no restored copy is there                        | no     |
    | any other                                                                     | yes    |

    A version below others is no copy. Nobody reads it, and a lifecycle rule for noncurrent
    versions, of which HEAD says nothing, may remove it any day.
    """
    if current is None:
        where = proof.place if proof.member else "the key of its copy"
        return f"nothing is at {where}, or a delete marker is: copy it again"
    if current.etag != proof.etag:
        return f"{_the_copy(proof)} is another object now: copy it again"
    if proof.version_id not in (None, current.version_id or NULL_VERSION):
        return f"{_the_copy(proof)} is not the version now that was proven: verify it"
    if current.expiration is not None:
        return f"a lifecycle rule will remove {_the_copy(proof)} ({current.expiration}): exclude it from that rule"
    return f"{_the_copy(proof)} must be restored before its bytes can be compared" if current.is_archived else ""


def _the_copy(proof: Proof) -> str:
    """The words for the copy in a reason. An archive is named, since it holds many copies."""
    return f"its archive {proof.place}" if proof.member else "its copy"
