"""Rules of expiry: which originals may be deleted, and how. A truth table. Pure.

A listing, or an archive's index, only makes a version a candidate. What S3 says now decides whether
it may go: the original is the one of the row, its copy is there, and the bytes of both are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct

from jobs.archives.model import Member
from jobs.core.enums import Step
from jobs.core.evidence import Verdict, is_multipart
from jobs.core.model import (
    NULL_VERSION,
    Listed,
    Location,
    ObjectInfo,
    ObjectLock,
    ObjectRef,
    ObjectVersion,
    is_exact,
    parse_time,
)
from jobs.core.outcome import Evidence
from jobs.core.reasons import Cause, Reason

ATTEMPT_SECONDS = 3600.0
"""How long after its announcement a delete may have been sent. A group takes minutes."""


class CopyAt(Struct, frozen=True):
    """Where a listing, or an archive's index, says that a copy is: what an expire row has `beside`.

    `bucket`, `key`: the copy's, or its archive's. What is at its key now counts. `member`: as the
    ledger's index of the archive has it. A replica has none. `checksum`: that of the archive by its
    index (`jobs.archives.model.ArchiveRecord.checksum`).
    """

    bucket: str
    key: str
    member: Member | None = None
    checksum: str | None = None

    @property
    def place(self) -> str:
        """The URI of the copy or its archive, for messages."""
        return f"s3://{self.bucket}/{self.key}"


class Candidate(NamedTuple):
    """The version of a row as S3 has it now, where its copy was listed, and what a comparison of now found.

    `ref` has the version id that names it, `info` is what HEAD said. `above`: all newer versions and
    delete markers, the oldest first. S3 orders versions by the beginning of their uploads, so an
    upload in parts may come to lie between.

    `verdict`: also whether the copy lacks metadata, tags or annotations. None: not compared yet.
    `copy`: what is current at the key of the copy, or of its archive. None: nothing, or unknown.
    `step`: how it goes, once that is decided.
    """

    row: ObjectVersion
    at: CopyAt
    ref: ObjectRef
    info: ObjectInfo
    above: tuple[Listed, ...] = ()
    verdict: Verdict | None = None
    copy: ObjectInfo | None = None
    step: Step = Step.HIDE

    @property
    def is_replaced(self) -> bool:
        """True if another object is in its place."""
        return self.row.etag != self.info.etag

    @property
    def marker(self) -> Listed | None:
        """The delete marker that hides it: the first one above it."""
        return next((each for each in self.above if each.is_delete_marker), None)

    @property
    def hidden_at(self) -> float:
        """Since when something surely lies on top. Of uploads in parts, only their beginning is known."""
        dated = [each.last_modified for each in self.above if not is_multipart(each.etag)]
        return min(dated, default=self.above[0].last_modified if self.above else 0.0)

    @property
    def deleted_id(self) -> str | None:
        """The id that alone names what is deleted. None: what is current goes, if it has the ETag.

        While a bucket keeps versions, no write makes a null version, so its id is exact directly after a look:
        https://docs.aws.amazon.com/AmazonS3/latest/userguide/AddingObjectstoVersioningEnabledBuckets.html
        """
        if self.step is Step.HIDE or (not self.above and not is_exact(self.ref.version_id)):
            return None
        return self.ref.version_id or NULL_VERSION

    def ended(self, answered_id: str | None) -> tuple[Step, str | None]:
        """What its delete has done, and the marker that hides it. `answered_id`: the version id in the answer.

        The bucket may have begun to keep versions since the last look, or have ended that:

        | the delete named | answered    | the original was | so it is                                  |
        |------------------|-------------|------------------|-------------------------------------------|
        | its version      | any         | any              | removed                                   |
        | no version       | no id       | any              | as decided: some servers leave the id out |
        | no version       | null marker | null             | removed: the marker has taken its place   |
        | no version       | any marker  | any other        | hidden                                    |

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/DeletingObjectVersions.html
        """
        if self.deleted_id is not None or answered_id is None:
            return self.step, None
        if not is_exact(answered_id) and not is_exact(self.ref.version_id):
            return Step.REMOVE, None
        return Step.HIDE, answered_id


class Terms(NamedTuple):
    """The terms of a run: `now` (epoch seconds, by S3), the grace period, and whether the bucket
    keeps versions now.

    `places`: where copies count. `prefix`: the prefix of the keys that the run may delete.
    """

    now: float
    grace_seconds: float
    is_versioned: bool
    places: Sequence[Location]
    prefix: str = ""


def decide(candidate: Candidate, terms: Terms) -> Step | Cause | None:
    """Return how a version that is there goes, or why it stays. None: compare it with its copy first.

    The first line that applies decides:

    | the row, its copy and the original                           | decision                       |
    |--------------------------------------------------------------|--------------------------------|
    | a delete marker                                              | is_marker                      |
    | another version, ETag or size than the row's                 | source_replaced                |
    | no version id, and it was written again since it was packed  | source_replaced (packed)       |
    | old when it was planned, and current now                     | source_changed (current again) |
    | its key, or the copy, is not in one of the places            | kept (outside, copies)         |
    | legal hold, or retention that has not ended                  | kept (the lock)                |
    | metadata that S3 cannot say in headers                       | kept (metadata)                |
    | written or hidden within the grace period                    | too_new                        |
    | a folder of a server that keeps no versions of folders       | kept (folder)                  |
    | it is current, in a bucket whose versioning is suspended     | kept (suspended)               |
    | a null version below others, in such a bucket                | kept (null)                    |
    | below another version, and no archive holds it               | copy_covered (next)            |
    | copy and original not compared yet                           | none                           |
    | they differ, or nothing proves that they are the same        | the verdict's reason           |
    | the copy was written within the grace period                 | too_new (copied)               |
    | it is current, in a bucket that keeps versions               | HIDE                           |
    | any other                                                    | REMOVE                         |
    """
    verdict, copy = candidate.verdict, candidate.copy
    if (cause := _cause_to_keep(candidate, terms)) or verdict is None:
        return cause
    if not verdict.same or copy is None or verdict.evidence is Evidence.NONE:
        return Cause(verdict.reason or Reason.NOTHING_COMPARABLE, verdict.detail)
    if terms.now - copy.last_modified < terms.grace_seconds:
        return Cause(Reason.TOO_NEW, "copied")
    return Step.REMOVE if candidate.above or not terms.is_versioned else Step.HIDE


def refuse_copy(at: CopyAt, copy: ObjectInfo | None, *, by_checksum: bool = False) -> Cause | None:
    """Return why what is current at a copy's key, or at its archive's, does not count. Pure.

    | at the key                                       | refused                       |
    |--------------------------------------------------|-------------------------------|
    | nothing, or a delete marker                      | copy_missing                  |
    | an object that a lifecycle rule will remove      | kept (expires)                |
    | a replica with metadata that no header can say   | kept (metadata)               |
    | an archived object that is not restored          | archived, but for by_checksum |
    | any other                                        | no                            |
    """
    archive = at.place if at.member else ""
    if copy is None:
        return Cause(Reason.COPY_MISSING, archive)
    if copy.expiration is not None:
        return Cause(Reason.KEPT, "expires")
    if copy.unsent_metadata and not archive:
        return Cause(Reason.KEPT, "metadata")
    return Cause(Reason.ARCHIVED, archive or "copy") if copy.is_archived and not by_checksum else None


def _cause_to_keep(candidate: Candidate, terms: Terms) -> Cause | None:
    """What needs no comparison. S3 dates by milliseconds in listings, and by seconds in HEAD.

    Where versioning is suspended, no condition reaches a version below others, and the version on
    top hides others. SeaweedFS keeps no versions of objects whose keys end with `/`. A replica has
    the key of its original, so the next replication puts the newest version there, also one that a
    delete marker hides now: the marker may be taken back. Of the same bytes it may have other metadata.
    What an undo or a rollback has made current was in no share of current objects.
    """
    row, at, (_, _, version_id), info, above, *_ = candidate
    is_null, is_current, member = not is_exact(version_id), not above, at.member
    is_named = row.version_id in (None, version_id or NULL_VERSION) and not candidate.is_replaced
    is_placed = any(at.bucket == each.bucket and at.key.startswith(each.key) for each in terms.places)
    is_covered = member is None and not all(each.is_delete_marker for each in above)
    is_folder = is_current and info.version_id is None and row.key.endswith("/")
    held = _hold(info.attributes.lock or ObjectLock(), terms.now)
    since, how = max((info.last_modified, "written"), (candidate.hidden_at, "hidden"))
    table = (
        (row.is_delete_marker, Reason.IS_MARKER, ""),
        (not is_named or row.size_bytes not in (None, info.size_bytes), Reason.SOURCE_REPLACED, ""),
        (is_null and member and info.last_modified >= member.last_modified + 1.0, Reason.SOURCE_REPLACED, "packed"),
        (is_current and not row.is_latest, Reason.SOURCE_CHANGED, "current again"),
        (not row.key.startswith(terms.prefix), Reason.KEPT, "outside"),
        (not is_placed, Reason.KEPT, "copies"),
        (held, Reason.KEPT, held),
        (info.unsent_metadata, Reason.KEPT, "metadata"),
        (terms.now - since < terms.grace_seconds, Reason.TOO_NEW, how),
        (terms.is_versioned and is_folder, Reason.KEPT, "folder"),
        (not terms.is_versioned and is_current and version_id is not None, Reason.KEPT, "suspended"),
        (not terms.is_versioned and not is_current and is_null, Reason.KEPT, "null"),
        (is_covered, Reason.COPY_COVERED, "next"),
    )
    return next((Cause(reason, detail) for applies, reason, detail in table if applies), None)


def _hold(lock: ObjectLock, now: float) -> str:
    """What holds it. A time that cannot be read holds it as well."""
    if lock.legal_hold or lock.event_hold or lock.mode is None:
        return "legal hold" if lock.legal_hold else "event hold" * lock.event_hold
    try:
        is_over = parse_time(lock.retain_until or "") <= now
    except ValueError:
        is_over = False
    return "" if is_over else f"{lock.mode} until {lock.retain_until}"
