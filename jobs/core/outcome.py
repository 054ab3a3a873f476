"""Outcomes: what became of each manifest row, and which of several counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

from jobs.core.model import ObjectVersion
from jobs.core.reasons import Reason, Why
from jobs.errors import Denied, Interrupted, NotFound, Redirected, Rejected, StoreError


class Status(StrEnum):
    """How a row ended. The first of each job end well (see `GOOD`).

    `skipped` was left alone, for a reason. `waiting` is an original within its grace period.
    `damaged` is a source whose bytes are not those that S3 keeps checksums of: nobody copies it.
    """

    COPIED = "copied"
    SAME = "same"
    DELETED = "deleted"
    VERIFIED = "verified"
    PACKED = "packed"
    RESTORED = "restored"
    EXPIRED = "expired"
    SKIPPED = "skipped"
    CHANGED = "changed"
    MISSING = "missing"
    DENIED = "denied"
    ARCHIVED = "archived"
    THAWING = "thawing"
    UNRESTORABLE = "unrestorable"
    KEPT = "kept"
    WAITING = "waiting"
    MISMATCHED = "mismatched"
    DAMAGED = "damaged"
    UNVERIFIABLE = "unverifiable"
    FAILED = "failed"


GOOD = frozenset(
    {
        Status.COPIED,
        Status.SAME,
        Status.DELETED,
        Status.VERIFIED,
        Status.PACKED,
        Status.RESTORED,
        Status.EXPIRED,
        Status.SKIPPED,
        Status.WAITING,
    }
)
"""The statuses of rows that need nobody's attention."""


class Evidence(StrEnum):
    """How a copy was proven, strongest first. NONE proves nothing."""

    CONTENT = "content"
    CHECKSUM = "checksum"
    MD5_ETAG = "md5_etag"
    NONE = "none"


class Outcome(NamedTuple):
    """What became of one manifest row.

    `row` is the row's number in the run's manifest. `reason` is a `Reason`, empty when all went as
    asked, `detail` the one fact of it (`jobs.core.words` says which). `size_bytes` counts the
    object's bytes that were handled. `etag` is the source's, `destination_etag` and
    `destination_version_id` are what the destination answered. `checksum` is `ALGORITHM:base64` of
    the content when it is known. `finished_at` is epoch seconds. `attempt` names the worker process.
    """

    row: int
    key: str
    version_id: str | None
    status: Status
    reason: Why = ""
    evidence: Evidence = Evidence.NONE
    size_bytes: int = 0
    etag: str | None = None
    destination_version_id: str | None = None
    destination_etag: str | None = None
    checksum: str | None = None
    detail: str = ""
    finished_at: float = 0.0
    attempt: str = ""

    @classmethod
    def of(cls, row: ObjectVersion, status: Status, reason: Why = "", detail: str = "") -> Outcome:
        """The outcome of a row of which nothing but the manifest's own words is known."""
        return cls(row.row, row.key, row.version_id, status, reason, etag=row.etag, detail=detail)

    @classmethod
    def refused(cls, row: ObjectVersion, error: StoreError) -> Outcome:
        """The outcome of a row for which S3 refused a request, or which was given up."""
        if isinstance(error, Denied | Redirected):
            return cls.of(row, Status.DENIED, Reason.DENIED, error.fact)
        reason = Reason.REFUSED if isinstance(error, NotFound | Rejected) else Reason.GIVEN_UP
        return cls.of(row, Status.FAILED, reason, error.fact)

    def ended(self, at: float, attempt: str) -> Outcome:
        """This outcome with the time when an attempt had it. The two fields are the last ones."""
        return Outcome(*self[:-2], at, attempt)


# Which outcome counts when several attempts at a shard reported on one row. What was found
# wrong outweighs what was found right (a verify that saw a mismatch once has seen one), and a
# damaged source outweighs a wrong copy, which a retry would copy over. What was done outweighs
# what a later attempt saw (a copy made, then its source deleted, is a copy).
_ORDER = (
    Status.DAMAGED,
    Status.MISMATCHED,
    Status.COPIED,
    Status.PACKED,
    Status.RESTORED,
    Status.EXPIRED,
    Status.DELETED,
    Status.SAME,
    Status.SKIPPED,
    Status.CHANGED,
    Status.MISSING,
    Status.KEPT,
    Status.WAITING,
    Status.VERIFIED,
    Status.UNVERIFIABLE,
    Status.UNRESTORABLE,
    Status.THAWING,
    Status.ARCHIVED,
    Status.DENIED,
    Status.FAILED,
)
_WEIGHT = {status: place for place, status in enumerate(_ORDER)}


def prefer(one: Outcome, other: Outcome) -> Outcome:
    """The outcome that counts of two for the same row. A total order decides."""
    return min(one, other, key=_precedence)


def _precedence(outcome: Outcome) -> tuple[object, ...]:
    return (_WEIGHT[outcome.status], outcome.finished_at, outcome.attempt, repr(outcome))


def fold(outcomes: Iterable[Outcome]) -> dict[int, Outcome]:
    """Row number → the one outcome that counts, however many attempts wrote and in any order."""
    chosen: dict[int, Outcome] = {}
    for outcome in outcomes:
        known = chosen.get(outcome.row)
        chosen[outcome.row] = outcome if known is None else prefer(known, outcome)
    return chosen


def precedence_sql() -> str:
    """What `prefer` orders by, as SQL over outcomes in files: the first one counts.

    Runs fold by this, in DuckDB, since their outcomes are larger than memory. `prefer` and `fold`
    say the same of outcomes in memory: tests compare the two.
    """
    cases = " ".join(f"WHEN '{status.value}' THEN {weight}" for status, weight in _WEIGHT.items())
    return f"CASE status {cases} END, finished_at, attempt, filename"


class PartlyDone(Interrupted):
    """A job had to stop in the middle of its rows. `outcomes` are of those that it has done."""

    def __init__(self, message: str, outcomes: Sequence[Outcome]):
        super().__init__(message)
        self.outcomes = tuple(outcomes)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.outcomes)
