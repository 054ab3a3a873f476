"""The journal: what the event-driven path did with each event, a line of JSON each, one small object a batch.

    <ledger>/journal/dt=2026-11-25/<milliseconds>-<request>.json

The columns are those of the table `journal` in `jobs.s3.columns`; `sealift query` and Athena read the lines as
they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple

from jobs.core.outcome import Outcome


class Ending(StrEnum):
    """How an event ended. The lower half ends badly: the message is tried again, and dead-lettered at last.

    `retained`: a delete that the pair's policy keeps off the copy. `superseded`: gone before its copy, and it is known
    by what. `handed_over`: too large, too slow or archived, and now a row of the backlog. `skipped`: not for this pair.
    """

    COPIED = "copied"
    SAME = "same"
    DELETED = "deleted"
    RETAINED = "retained"
    SUPERSEDED = "superseded"
    HANDED_OVER = "handed_over"
    SKIPPED = "skipped"
    CHANGED = "changed"
    MISSING = "missing"
    DENIED = "denied"
    ARCHIVED = "archived"
    FAILED = "failed"


SETTLED = frozenset(list(Ending)[: list(Ending).index(Ending.CHANGED)])
"""The endings after which a message is done with."""


class Entry(NamedTuple):
    """A line of the journal: an event, how it ended, and the copy. Times are epoch seconds."""

    recorded_at: float
    event: str
    source_bucket: str
    key: str
    version_id: str | None
    sequencer: str | None
    status: Ending
    reason: str = ""
    evidence: str = "none"
    size_bytes: int | None = None
    etag: str | None = None
    destination_bucket: str | None = None
    destination_key: str | None = None
    destination_version_id: str | None = None
    destination_etag: str | None = None
    checksum: str | None = None

    def told(self, outcome: Outcome) -> Entry:
        """With what an outcome says of the copy."""
        return self._replace(
            reason=outcome.reason,
            evidence=outcome.evidence.value,
            size_bytes=outcome.size_bytes or self.size_bytes,
            etag=outcome.etag or self.etag,
            destination_version_id=outcome.destination_version_id,
            destination_etag=outcome.destination_etag,
            checksum=outcome.checksum,
        )


def to_lines(entries: Iterable[Entry]) -> bytes:
    """The entries as lines of JSON."""
    lines = []
    for entry in entries:
        recorded_at = datetime.fromtimestamp(entry.recorded_at, UTC).isoformat(timespec="milliseconds")
        document = entry._asdict() | {"recorded_at": recorded_at}
        # a key that is no UTF-8 (S3 lets none in, a proxy might) has to get through as well
        lines.append(json.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
    return b"".join(lines)


def file_name(at_seconds: float, unique: str) -> str:
    """Where the batch's object lies below the ledger; names of a day sort by time."""
    day = datetime.fromtimestamp(at_seconds, UTC).strftime("%Y-%m-%d")
    return f"journal/dt={day}/{int(at_seconds * 1000):013d}-{unique}.json"
