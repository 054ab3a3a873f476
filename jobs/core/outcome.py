"""Outcomes: what became of each manifest row, and which of several counts."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from jobs.core.model import ObjectVersion
from jobs.core.reasons import FAILURES, Reason, Why
from jobs.errors import (
    Conflict,
    Denied,
    Interrupted,
    PreconditionFailed,
    Redirected,
    SealiftError,
    StoreError,
    Unavailable,
)


class Status(StrEnum):
    """How a row ended, for all jobs. The code (`Reason`) says the rest.

    `done`: copied, packed, restored, deleted, as the job is. `same`: it was there already. `left`:
    left alone, and nobody has to do anything. `changed`: not what the manifest named, or in the way
    of it. `missing`: the object is not there. `different`: the copy is proven different. `damaged`: the
    source's bytes are not those that S3 keeps checksums of. `unknown`: nothing at hand proves it
    equal or different. `blocked`: it could not be done.
    """

    DONE = "done"
    SAME = "same"
    VERIFIED = "verified"
    LEFT = "left"
    CHANGED = "changed"
    MISSING = "missing"
    DIFFERENT = "different"
    DAMAGED = "damaged"
    UNKNOWN = "unknown"
    BLOCKED = "blocked"


GOOD = frozenset({Status.DONE, Status.SAME, Status.VERIFIED, Status.LEFT})
"""The statuses of rows that need nobody's attention."""


class Evidence(StrEnum):
    """How a copy was proven, strongest first. NONE proves nothing."""

    CONTENT = "content"
    CHECKSUM = "checksum"
    MD5_ETAG = "md5_etag"
    NONE = "none"


class Depth(StrEnum):
    """What a look has compared: a listing, what S3 keeps of the objects, or their bytes."""

    LISTED = "listed"
    STORED = "stored"
    BYTES = "bytes"


class Outcome(NamedTuple):
    """What became of one manifest row.

    `row` is the row's number in the run's manifest. `reason` is a `Reason`, empty when all went as
    asked, `detail` the one fact of it (`jobs.core.words` says which). `size_bytes` counts the
    object's bytes that were handled. `etag` is the source's, `destination_etag` and
    `destination_version_id` are what the destination answered. `checksum` is `ALGORITHM:base64` of
    the content when it is known. `source_modified` and `copy_modified` are S3's dates of both
    objects in epoch seconds, None where they are not known. `at`: S3's Date of the look in epoch
    seconds: of a good outcome before the first answer that it relies on, of another one after the
    last. `attempt` names the worker process.
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
    depth: Depth = Depth.STORED
    source_modified: float | None = None
    copy_modified: float | None = None
    at: float = 0.0
    attempt: str = ""

    @classmethod
    def of(cls, row: ObjectVersion, status: Status, reason: Why = "", detail: str = "") -> Outcome:
        """The outcome of a row of which nothing but the manifest's own words is known."""
        return cls(row.row, row.key, row.version_id, status, reason, etag=row.etag, detail=detail)

    @classmethod
    def refused(cls, row: ObjectVersion, error: StoreError) -> Outcome:
        """The outcome of a row for which S3 refused a request, or which was given up."""
        return cls.of(row, Status.BLOCKED, reason_of(error), error.fact)

    def ended(self, at: float, attempt: str) -> Outcome:
        """This outcome with the time and the name of the attempt. Where contents were compared, they were read."""
        depth = Depth.BYTES if self.evidence is Evidence.CONTENT else self.depth
        return Outcome(*self[:-5], depth, self.source_modified, self.copy_modified, at, attempt)


def reason_of(error: StoreError) -> Reason:
    """Why a row is blocked for which S3 refused a request, or which was given up."""
    if isinstance(error, Unavailable | Conflict | PreconditionFailed):
        return Reason.GIVEN_UP
    return Reason.DENIED if isinstance(error, Denied | Redirected) else Reason.REFUSED


# Which outcome counts when several attempts at a shard reported on one row. What was found
# wrong outweighs what was found right (a verify that saw a mismatch once has seen one), and a
# damaged source outweighs a wrong copy, which a retry would copy over. What was done outweighs
# what a later attempt saw (a copy made, then its source deleted, is a copy). Last come two codes:
# an original in its grace period, and what an attempt could not do, which says less than any other.
_ORDER = (
    Status.DAMAGED,
    Status.DIFFERENT,
    Status.DONE,
    Status.SAME,
    Status.LEFT,
    Status.CHANGED,
    Status.MISSING,
    Status.VERIFIED,
    Status.UNKNOWN,
    Status.BLOCKED,
)


def precedence_sql() -> str:
    """What decides which of several outcomes of a row counts, as SQL over outcomes in files: the first one.

    It is a total order. Runs fold by it, in DuckDB, since their outcomes are larger than memory.
    """
    failures = ", ".join(f"'{reason.value}'" for reason in sorted(FAILURES))
    order = ", ".join(f"'{status.value}'" for status in _ORDER)
    return f"""CASE WHEN status = '{Status.LEFT}' AND reason = '{Reason.TOO_NEW}' THEN {len(_ORDER) + 1}
        WHEN status = '{Status.BLOCKED}' AND reason IN ({failures}) THEN {len(_ORDER) + 2}
        ELSE list_position([{order}], status) END,
        "at", attempt, filename"""


class PartlyDone(Interrupted):
    """A job had to end in the middle of its rows, by a stop or another error. `outcomes` are of those that it
    has done.
    """

    def __init__(self, error: SealiftError, outcomes: Sequence[Outcome]):
        super().__init__(str(error))
        self.error, self.outcomes = error, tuple(outcomes)
