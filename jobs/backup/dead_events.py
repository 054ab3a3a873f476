"""Dead events: what the dead letters are about, and why they failed, by the journal.

Each attempt at an event left a line in the journal. The last one says why it failed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple

from jobs.aws.queues import Message
from jobs.backup.events import ObjectEvent, parse_message
from jobs.errors import UsageError
from jobs.ledger.files import list_files, read_file
from jobs.ledger.journal import SETTLED, Entry, file_name, from_document
from jobs.ledger.ledger import Ledger
from jobs.s3.retries import gather_bounded
from jobs.s3.store import Marker

DELIVERED_SECONDS = 6 * 3600.0
"""How long after it was sent a message is delivered again, at most: eight times, within hours
(`scheduler.redelivery`)."""
FILES_MAX = 2_000
"""How many files of the journal are read. A busy day has more: then some reasons stay unknown."""
READS = 32
UNKNOWN = "the journal has no line of it: the function ended before it wrote one, or many events came since"

_Identity = tuple[str, str, str | None, str | None]


class DeadEvent(NamedTuple):
    """One event of a dead letter. `status` is its last ending, None if unknown. Times are epoch
    seconds.

    A message that cannot be read has no bucket and no key, and `reason` says why.
    """

    message_id: str
    sent_at: float
    received_count: int
    event: str | None
    bucket: str | None
    key: str | None
    version_id: str | None
    status: str | None
    reason: str
    detail: str = ""


async def explain(messages: Iterable[Message], ledger: Ledger) -> list[DeadEvent]:
    """Return the events of dead letters with the reasons of their last attempts, the oldest letter
    first.

    Raises StoreError.
    """
    letters = [(message, *_events(message)) for message in sorted(messages, key=lambda each: each.sent_at)]
    wanted = {_identity(event) for _, events, _ in letters for event in events}
    found = await _last_lines(ledger, wanted, [message.sent_at for message, events, _ in letters if events])
    dead = []
    for message, events, defect in letters:
        common = message.message_id, message.sent_at, message.received_count
        if defect:
            dead.append(DeadEvent(*common, None, None, None, None, None, defect))
        for event in events:
            entry = found.get(_identity(event))
            end = (entry.status.value, entry.reason or entry.status.value, entry.detail) if entry else (None, UNKNOWN)
            dead.append(DeadEvent(*common, event.name, event.bucket, event.key, event.version_id, *end))
    return dead


def _events(message: Message) -> tuple[list[ObjectEvent], str]:
    try:
        return parse_message(message.body), ""
    except UsageError as error:
        return [], str(error)


def _identity(event: ObjectEvent) -> _Identity:
    return event.bucket, event.key, event.version_id, event.sequencer


async def _last_lines(ledger: Ledger, wanted: set[_Identity], sent: Sequence[float]) -> Mapping[_Identity, Entry]:
    """The last line of each event, among the journal's files of the hours after it was sent."""
    found: dict[_Identity, Entry] = {}
    if not wanted:
        return found
    names = await _names(ledger, min(sent), max(sent) + DELIVERED_SECONDS)
    names = names[-FILES_MAX:][::-1]
    for start in range(0, len(names), READS):
        chunk = names[start : start + READS]
        for data in await gather_bounded(lambda name: read_file(ledger.store, ledger.location, name), chunk, READS):
            for entry in _entries(data):
                identity = entry.source_bucket, entry.key, entry.version_id, entry.sequencer
                is_later = identity not in found or found[identity].recorded_at < entry.recorded_at
                if identity in wanted and is_later and entry.status not in SETTLED:
                    found[identity] = entry
        if found.keys() == wanted:
            break
    return found


async def _names(ledger: Ledger, begin: float, end: float) -> list[str]:
    """The journal's files of a time, oldest first, by their names below the ledger."""
    first, last = (ledger.location.join(file_name(at_seconds, "")).key for at_seconds in (begin, end))
    root, names = len(ledger.location.join("").key), list[str]()
    async with aclosing(list_files(ledger.store, ledger.location.join("journal/"), after=Marker(first))) as files:
        async for entry in files:
            if entry.key > last:
                break
            names.append(entry.key[root:])
    return names


def _entries(data: bytes) -> Iterable[Entry]:
    """The lines of a file. What is no line of the journal is left out: it explains nothing."""
    for line in data.splitlines():
        try:
            document: Any = json.loads(line)
            yield from_document(document)
        except (ValueError, RecursionError):
            continue
