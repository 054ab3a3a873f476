"""The journal: what the backup function did with each event, a line of JSON each.

Each batch of events becomes one small object:

    <ledger>/journal/dt=2026-11-25/<milliseconds>-<request>.json

The columns are those of the table `journal` in `jobs.ledger.table_docs`. `sealift query` reads
the lines as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from jobs.core.model import format_time, parse_time
from jobs.core.outcome import Outcome


class Ending(StrEnum):
    """How an event ended. From `changed` on it ended badly: the queue delivers it again, at last as
    a dead letter.

    `retained`: a delete that the pair's policy keeps off the copy. `superseded`: gone before its
    copy was made. `handed_over`: too large, too slow or archived, and now a
    row of the backlog. `skipped`: not for this pair. `unverifiable`: an archived copy is there that
    only a restore could compare.
    """

    COPIED = "copied"
    SAME = "same"
    UNVERIFIABLE = "unverifiable"
    DELETED = "deleted"
    RETAINED = "retained"
    SUPERSEDED = "superseded"
    HANDED_OVER = "handed_over"
    SKIPPED = "skipped"
    CHANGED = "changed"
    DENIED = "denied"
    FAILED = "failed"


SETTLED = frozenset(list(Ending)[: list(Ending).index(Ending.CHANGED)])
"""The endings after which a message is finished."""


class Entry(NamedTuple):
    """A line of the journal: an event, how it ended, and the copy. Times are epoch seconds.

    `event_at`: when it happened at the source. None where the event does not say, and in lines of
    earlier versions.
    """

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
    event_at: float | None = None
    detail: str = ""

    def with_outcome(self, outcome: Outcome) -> Entry:
        """The entry with what an outcome says of the copy."""
        return self._replace(
            reason=outcome.reason,
            detail=outcome.detail,
            evidence=outcome.evidence.value,
            size_bytes=outcome.size_bytes or self.size_bytes,
            etag=outcome.etag or self.etag,
            destination_version_id=outcome.destination_version_id,
            destination_etag=outcome.destination_etag,
            checksum=outcome.checksum,
        )


_REQUIRED = ("recorded_at", "event", "source_bucket", "key", "status")
_SIZE_LIMIT = 1 << 63


def to_lines(entries: Iterable[Entry]) -> bytes:
    """The entries as lines of JSON."""
    lines = []
    for entry in entries:
        document = entry._asdict() | {"recorded_at": _shown(entry.recorded_at), "event_at": _shown(entry.event_at)}
        lines.append(json.dumps(_encodable(document), ensure_ascii=False).encode() + b"\n")
    return b"".join(lines)


def _encodable(document: dict[str, Any]) -> dict[str, Any]:
    r"""The document without lone surrogates, which no reader of JSON accepts: `\udcff` as six
    characters.
    """
    return {name: _written(value) if isinstance(value, str) else value for name, value in document.items()}


def _written(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def from_document(document: object) -> Entry:
    """The entry of a line's JSON. Fields that this version does not know are ignored. Raises
    ValueError.
    """
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    values: dict[str, Any] = {name: document[name] for name in Entry._fields if document.get(name) is not None}
    if lacking := [name for name in _REQUIRED if name not in values]:
        raise ValueError(f"it has no {lacking[0]}")
    status, size_bytes = Ending(values.pop("status")), values.pop("size_bytes", None)
    if not (size_bytes is None or (isinstance(size_bytes, int) and 0 <= size_bytes < _SIZE_LIMIT)):
        raise ValueError(f"size_bytes is {size_bytes!r}")
    if wrong := [name for name, value in values.items() if not isinstance(value, str)]:
        raise ValueError(f"{wrong[0]} is not a text")
    values |= {name: parse_time(values[name]) for name in ("recorded_at", "event_at") if name in values}
    fields: dict[str, Any] = {"version_id": None, "sequencer": None, **values}
    return Entry(**fields, status=status, size_bytes=size_bytes)


def _shown(at_seconds: float | None) -> str | None:
    return None if at_seconds is None else format_time(at_seconds)


def file_name(at_seconds: float, unique: str) -> str:
    """Where a batch's object lies below the ledger. Names of a day sort by time."""
    day = datetime.fromtimestamp(at_seconds, UTC).strftime("%Y-%m-%d")
    return f"journal/dt={day}/{int(at_seconds * 1000):013d}-{unique}.json"
