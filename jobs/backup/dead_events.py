"""Dead events: what the dead letters are about. Pure. The journal has a line of each attempt at each of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from jobs.aws.queues import Message
from jobs.backup.events import EventKind, ObjectEvent, parse_message
from jobs.errors import UsageError


class DeadEvent(NamedTuple):
    """One event of a dead letter. `sent_at`: epoch seconds.

    A message that cannot be read has no bucket and no key, and `problem` says why.
    """

    message_id: str
    sent_at: float
    received_count: int
    event: str
    bucket: str
    key: str
    version_id: str | None
    problem: str = ""


def dead_events(messages: Iterable[Message]) -> list[DeadEvent]:
    """The events of dead letters, those of the oldest letter first."""
    dead = []
    for message in sorted(messages, key=lambda each: each.sent_at):
        common, problem = (message.message_id, message.sent_at, message.received_count), ""
        try:
            events = parse_message(message.body)
        except UsageError as error:
            events, problem = [ObjectEvent(EventKind.OTHER, "", "")], str(error)
        dead += [DeadEvent(*common, each.name, each.bucket, each.key, each.version_id, problem) for each in events]
    return dead
