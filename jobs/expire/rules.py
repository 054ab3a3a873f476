"""Rules of expiry: which originals may be deleted, and how. A truth table. Pure.

A listing, or an archive's index, only makes a version a candidate. What S3 says now decides whether
it may go: the original is the one of the row, its copy is there, and the bytes of both are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jobs.archives.model import Member
from jobs.core.enums import Step
from jobs.core.evidence import Verdict
from jobs.core.model import NULL_VERSION, Listed, Location, ObjectInfo, ObjectLock, ObjectVersion, is_exact, parse_time
from jobs.core.outcome import Evidence
from jobs.core.reasons import Reason, Why

CLOCKS_SECONDS = 300.0
"""The tolerated difference between our clock and S3's, when an undo looks for a marker."""
ATTEMPT_SECONDS = 3600.0
"""How long after its announcement a delete may have been sent. A group takes minutes."""


@dataclass(frozen=True, slots=True)
class CopyAt:
    """Where a listing, or an archive's index, says that a copy is: a row's `proof`, as JSON.

    `bucket`, `key`: the copy's, or its archive's. `etag`: the archive's, to which the member's place
    belongs. A replica has none: what is at its key now counts. `member`: as the archive's index has
    it. `checksum`: that of the archive by its index (`jobs.archives.model.ArchiveRecord.checksum`).
    """

    bucket: str
    key: str
    etag: str | None = None
    member: Member | None = None
    checksum: str | None = None

    @property
    def place(self) -> str:
        """The URI of the copy or its archive, for messages."""
        return f"s3://{self.bucket}/{self.key}"


class Original(NamedTuple):
    """The version of a row as S3 has it now.

    `hidden_at`: since when a newer version or a marker surely lies on top of it. Of uploads in
    parts alone only their beginning is known.

    `markers_above`: all delete markers above it, the lowest first. S3 orders versions by the
    beginning of their uploads, so an upload in parts may come to lie between.

    `newest_etag`: the ETag of the newest version above it, also where a marker hides that. None:
    only markers are above.

    `is_folder`: its key ends with `/`, and HEAD names no version of it.
    """

    version_id: str | None
    etag: str
    size_bytes: int
    last_modified: float
    lock: ObjectLock | None = None
    is_current: bool = True
    hidden_at: float | None = None
    markers_above: tuple[Listed, ...] = ()
    newest_etag: str | None = None
    is_folder: bool = False

    def marker_of(self, marker_version_id: str | None, announced_at: float) -> Listed | None:
        """Return the marker above it that an announced delete has set. None: there is no such marker.

        That is the one of this id, else the lowest that was set within `ATTEMPT_SECONDS`. A later
        one is that of somebody else's delete.
        """
        named = [each for each in self.markers_above if each.version_id == marker_version_id]
        in_time = (each for each in self.markers_above if each.last_modified <= announced_at + ATTEMPT_SECONDS)
        return named[0] if named and marker_version_id is not None else next(in_time, None)


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


class Decision(NamedTuple):
    """The step, or the reason why the version is kept. `compare`: first compare copy and original."""

    step: Step | None = None
    reason: Why = ""
    detail: str = ""
    compare: bool = False


def decide(
    row: ObjectVersion,
    copy: CopyAt,
    original: Original,
    verdict: Verdict | None,
    current: ObjectInfo | None,
    terms: Terms,
) -> Decision:
    """Decide what happens to a version that is there. The first line that applies decides.

    `verdict`: of the comparison of now. None: not compared yet. A verdict that both are the same
    also means that the copy lacks no metadata, tags and annotations of the original. `current`:
    what the comparison found at the key of the copy, or of its archive.

    | the row, its copy and the original                           | decision                       |
    |--------------------------------------------------------------|--------------------------------|
    | a delete marker                                              | is_marker                      |
    | another version, ETag or size than the row's                 | source_replaced                |
    | no version id, and it was written again since it was packed  | source_replaced (packed)       |
    | its key, or the copy, is not in one of the places            | refused (outside, copies)     |
    | legal hold, or retention that has not ended                  | refused (the lock)            |
    | written or hidden within the grace period                    | too_new                        |
    | a folder of a server that keeps no versions of folders       | refused (folder)              |
    | it is current, in a bucket whose versioning is suspended     | refused (suspended)           |
    | a null version below others, in such a bucket                | refused (null)                |
    | other content is newest at its key, and no archive holds it  | copy_covered (next)            |
    | copy and original not compared yet                           | compare them, and decide again |
    | they differ, or nothing proves that they are the same        | the verdict's reason           |
    | the copy was written within the grace period                 | too_new                        |
    | it is current, in a bucket that keeps versions               | HIDE                           |
    | any other                                                    | REMOVE                         |
    """
    if reason := _reason_to_keep(row, copy, original, terms):
        return Decision(None, *reason)
    if verdict is None:
        return Decision(compare=True)
    if not verdict.same or current is None or verdict.evidence is Evidence.NONE:
        return Decision(None, verdict.reason or Reason.NOTHING_COMPARABLE, verdict.detail)
    if terms.now - current.last_modified < terms.grace_seconds:
        return Decision(None, Reason.TOO_NEW, "copied")
    return Decision(Step.HIDE if original.is_current and terms.is_versioned else Step.REMOVE)


def _reason_to_keep(row: ObjectVersion, copy: CopyAt, original: Original, terms: Terms) -> tuple[Reason, str] | None:
    is_named = row.version_id in (None, original.version_id or NULL_VERSION) and row.etag == original.etag
    is_packed_before = copy.member is not None and original.last_modified >= copy.member.last_modified + 1.0
    is_null = not is_exact(original.version_id)
    if row.is_delete_marker:
        return Reason.IS_MARKER, ""
    if not is_named or row.size_bytes not in (None, original.size_bytes):
        return Reason.SOURCE_REPLACED, ""
    if is_null and is_packed_before:  # S3 dates by milliseconds in listings, and by seconds in HEAD
        return Reason.SOURCE_REPLACED, "packed"
    if not row.key.startswith(terms.prefix):
        return Reason.REFUSED, "outside"
    if not any(copy.bucket == each.bucket and copy.key.startswith(each.key) for each in terms.places):
        return Reason.REFUSED, "copies"
    if held := _hold(original.lock or ObjectLock(), terms.now):
        return Reason.REFUSED, held
    since, how = max((original.last_modified, "written"), (original.hidden_at or 0.0, "hidden"))
    if terms.now - since < terms.grace_seconds:
        return Reason.TOO_NEW, how
    if inexact := _inexact(original, terms, is_null):
        return Reason.REFUSED, inexact
    if copy.member is None and original.newest_etag not in (None, original.etag):
        # A replica has the key of its original, so the next replication puts the newer version there,
        # also one that a delete marker hides now: the marker may be taken back.
        return Reason.COPY_COVERED, "next"
    return None


def _hold(lock: ObjectLock, now: float) -> str:
    """What holds it. A time that cannot be read holds it as well."""
    if lock.legal_hold or lock.mode is None:
        return "legal hold" if lock.legal_hold else ""
    try:
        is_over = parse_time(lock.retain_until or "") <= now
    except ValueError:
        is_over = False
    return "" if is_over else f"{lock.mode} until {lock.retain_until}"


def _inexact(original: Original, terms: Terms, is_null: bool) -> str:
    """Return why no delete would be exact.

    Where versioning is suspended, no condition reaches a version below others, and the version on
    top hides others. SeaweedFS keeps no versions of objects whose keys end with `/`.
    """
    if terms.is_versioned:
        return "folder" if original.is_folder else ""
    if original.is_current:
        return "suspended" if original.version_id is not None else ""
    return "null" if is_null else ""
