"""The journal: what the backup function did with each event, a line of JSON each.

Each batch of events becomes one small object:

    <ledger>/journal/dt=2026-11-25/<milliseconds>-<request>.json

`sealift query` reads the lines as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import msgspec

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
_TIMES = ("recorded_at", "event_at")


class Entry(msgspec.Struct, frozen=True):
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
    size_bytes: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] | None = None
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
        same = ("reason", "detail", "destination_version_id", "destination_etag", "checksum")
        return msgspec.structs.replace(
            self,
            evidence=outcome.evidence.value,
            size_bytes=outcome.size_bytes or self.size_bytes,
            etag=outcome.etag or self.etag,
            **{name: getattr(outcome, name) for name in same},
        )


def to_lines(entries: Iterable[Entry]) -> bytes:
    r"""The entries as lines of JSON. Lone surrogates, which no reader accepts, are as `\udcff`: six characters."""
    return "".join(json.dumps(_document(entry), ensure_ascii=False) + "\n" for entry in entries).encode()


def _document(entry: Entry) -> dict[str, Any]:
    document = {
        name: value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
        for name, value in msgspec.structs.asdict(entry).items()
    }
    return document | {name: format_time(at) for name in _TIMES if (at := getattr(entry, name)) is not None}


def from_document(document: Any) -> Entry:
    """The entry of a line's JSON. Fields that this version does not know are ignored. Raises
    ValueError.
    """
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    times = {name: parse_time(document[name]) for name in _TIMES if document.get(name)}
    return msgspec.convert(document | times, Entry)  # whose errors are ValueErrors


def file_name(at_seconds: float, unique: str) -> str:
    """Where a batch's object lies below the ledger. Names of a day sort by time."""
    day = datetime.fromtimestamp(at_seconds, UTC).strftime("%Y-%m-%d")
    return f"journal/dt={day}/{int(at_seconds * 1000):013d}-{unique}.json"
