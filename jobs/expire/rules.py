"""Rules of expiry: which originals may be deleted, and how. A truth table. Pure.

A listing, or an archive's index, only makes a version a candidate. What S3 says now decides whether
it may go: the original is the one of the row, its copy is there, and the bytes of both are the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from jobs.core.enums import Step
from jobs.core.evidence import Verdict
from jobs.core.model import NULL_VERSION, Location, ObjectInfo, ObjectLock, ObjectVersion, is_exact, parse_time
from jobs.core.outcome import Evidence

CLOCKS_SECONDS = 300.0
"""The tolerated difference between our clock and S3's, when an undo looks for a marker."""
ATTEMPT_SECONDS = 3600.0
"""How long after its announcement a delete may have been sent. A group takes minutes."""

MEMBER_FIELDS = {"key", "size_bytes", "etag", "last_modified", "checksums", "sha256", "headers", "metadata", "tags"}
MEMBER_FIELDS |= {"offset", "frame_start", "frame_offset", "frame_length"}
"""The fields of an archive's member that a row has: what it takes to find, date, read and compare it."""


@dataclass(frozen=True, slots=True)
class CopyAt:
    """Where a listing, or an archive's index, says that a copy is.

    `bucket`, `key`: the copy's, or its archive's. `etag`: the archive's, to which the member's place
    belongs. A replica has none: what is at its key now counts. `member`: its row in the archive's
    index, with times as epoch seconds. `checksum`: that of the archive by its index
    (`jobs.archives.model.ArchiveRecord.checksum`).
    """

    bucket: str
    key: str
    etag: str | None = None
    member: Mapping[str, Any] | None = None
    checksum: str | None = None

    @property
    def place(self) -> str:
        """The URI of the copy or its archive, for messages."""
        return f"s3://{self.bucket}/{self.key}"

    @property
    def name(self) -> str:
        """The words for the copy in a reason. An archive is named, since it holds many copies."""
        return f"its archive {self.place}" if self.member else "its copy"

    def encode(self) -> str:
        """Return the text that a row of the run's shard carries."""
        return json.dumps({name: getattr(self, name) for name in self.__dataclass_fields__}, separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> CopyAt:
        """Read a text of `encode`. Raises ValueError for an invalid one."""
        try:
            copy = cls(**json.loads(text))
            is_member = copy.member is None or (isinstance(copy.member, dict) and set(copy.member) <= MEMBER_FIELDS)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"no place of a copy: {error}") from error
        texts = (copy.bucket, copy.key, copy.etag or "", copy.checksum or "")
        if not is_member or not all(isinstance(each, str) for each in texts) or (copy.member and not copy.etag):
            raise ValueError("no place of a copy: it says other things than where a copy is")
        return copy


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
    marker_version_id: str | None = None
    markers_above: tuple[MarkerAbove, ...] = ()
    newest_etag: str | None = None
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
    """The step, or the reason why the version is kept. `compare`: first compare copy and original.

    `waits`: only the grace period keeps it, so nobody has to act.
    """

    step: Step | None = None
    reason: str = ""
    compare: bool = False
    waits: bool = False


def decide(
    row: ObjectVersion,
    copy: CopyAt | None,
    original: Original,
    verdict: Verdict | None,
    current: ObjectInfo | None,
    terms: Terms,
) -> Decision:
    """Decide what happens to a version that is there. The first line that applies decides.

    `verdict`: of the comparison of now. None: not compared yet. A verdict that both are the same
    also means that the copy lacks no metadata, tags and annotations of the original. `current`:
    what the comparison found at the key of the copy, or of its archive.

    | the row, its copy and the original                           | decision                                   |
    |--------------------------------------------------------------|--------------------------------------------|
    | no copy in any listing, or a delete marker                   | kept                                       |
    | another version, ETag or size than the row's                 | kept                                       |
    | no version id, and it was written again since it was packed  | kept                                       |
    | the key is outside of what the run is about                  | kept                                       |
    | the copy is not in one of the places                         | kept                                       |
    | legal hold, or retention that has not ended                  | kept                                       |
    | written or hidden within the grace period                    | waiting                                    |
    | it lies below others, and no version id names it alone       | kept                                       |
    | it is current, in a bucket whose versioning is suspended     | kept                                       |
    | a folder of a server that keeps no versions of folders       | kept                                       |
    | other content is newest at its key, and no archive holds it  | kept                                       |
    | copy and original not compared yet                           | compare them, and decide again             |
    | they differ, or nothing proves that they are the same        | kept                                       |
    | the copy was written within the grace period                 | waiting                                    |
    | it is current, in a bucket that keeps versions               | HIDE                                       |
    | any other                                                    | REMOVE                                     |
    """
    if copy is None:
        return Decision(reason="no copy of it was listed")
    if reason := _reason_to_keep(row, copy, original, terms):
        return Decision(reason=reason)
    if waits := _in_grace({"written": original.last_modified, "hidden": original.hidden_at or 0.0}, terms):
        return Decision(reason=waits, waits=True)
    if unnamed := _unnamed(original, terms):
        return Decision(reason=unnamed)
    if copy.member is None and original.newest_etag not in (None, original.etag):
        return Decision(reason=_SUPERSEDED)
    if verdict is None:
        return Decision(compare=True)
    if verdict.same is None or current is None or (verdict.same and verdict.evidence is Evidence.NONE):
        return Decision(reason=f"nothing proves now that its copy is the same: {verdict.reason}")
    if not verdict.same:
        return Decision(reason=f"its copy is not the same: {verdict.reason}")
    if waits := _in_grace({"copied": current.last_modified}, terms):
        return Decision(reason=waits, waits=True)
    return Decision(Step.HIDE if original.is_current and terms.is_versioned else Step.REMOVE)


def _reason_to_keep(row: ObjectVersion, copy: CopyAt, original: Original, terms: Terms) -> str:
    if row.is_delete_marker:
        return "a delete marker has no copy"
    if row.version_id not in (None, original.version_id or NULL_VERSION):
        return "another version is there than the one that was listed"
    if row.etag != original.etag:
        return "it has another ETag than the object that was listed"
    if row.size_bytes not in (None, original.size_bytes):
        return "it has another size than the object that was listed"
    if _is_written_again(copy, original):
        return (
            "it was written again after it was packed, and a restore would take what was packed in between for newer: "
            "compact it again"
        )
    if not row.key.startswith(terms.prefix):
        return f"this run is about keys that begin with {terms.prefix!r} alone"
    if not any(copy.bucket == each.bucket and copy.key.startswith(each.key) for each in terms.places):
        return f"{copy.name} is not in {' or '.join(map(str, terms.places))}, where this run looks for copies"
    return _locked(original.lock, terms.now)


def _is_written_again(copy: CopyAt, original: Original) -> bool:
    """True if no version id tells the original from the packed one, which is older.

    S3 dates by milliseconds in listings, and by seconds in HEAD.
    """
    packed = (copy.member or {}).get("last_modified")
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


def _in_grace(since: Mapping[str, float], terms: Terms) -> str:
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
    "a newer version is at its key, whose copy takes the place of its copy: pack old versions with sealift compact "
    "--versions all"
)
"""A replica has the key of its original. So the next replication puts the newer version there, also
one that a delete marker hides now: the marker may be taken back."""
