"""Queues like SQS's standard ones, in memory. Pure: times are epoch seconds.

A received message is hidden for a while. Unless it is deleted by its latest receipt, it is received
again. After `max_receives` it moves to the dead-letter queue instead.
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html
"""

from __future__ import annotations

import heapq
import itertools
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

HIDDEN_SECONDS = 30.0


@dataclass(slots=True)
class Stored:
    """A message in a queue. `receipt` is of its latest receive."""

    message_id: str
    body: str
    sent_at: float
    visible_at: float
    received_count: int = 0
    first_received_at: float = 0.0
    receipt: str = ""


class Counts(NamedTuple):
    """How many messages can be received, are hidden after a receive, and are not due yet."""

    waiting: int
    in_flight: int
    delayed: int


@dataclass(slots=True)
class MemoryQueue:
    """One queue. `dead`: where a message goes after `max_receives`.

    `changes`: how often its messages changed, for who keeps them.
    """

    name: str
    attributes: dict[str, str] = field(default_factory=dict)
    hidden_seconds: float = HIDDEN_SECONDS
    max_receives: int = 0
    dead: MemoryQueue | None = None
    changes: int = 0
    _messages: dict[str, Stored] = field(default_factory=dict)
    _due: list[tuple[float, int, str]] = field(default_factory=list)
    _order: itertools.count[int] = field(default_factory=itertools.count)

    def send(self, body: str, now: float, delay_seconds: float = 0.0) -> Stored:
        """Add a new message."""
        message = Stored(secrets.token_hex(16), body, now, now + delay_seconds)
        self._put(message)
        return message

    def receive(self, limit: int, now: float, hidden_seconds: float | None = None) -> list[Stored]:
        """Receive up to `limit` visible messages, roughly the oldest first."""
        messages: list[Stored] = []
        hidden = self.hidden_seconds if hidden_seconds is None else hidden_seconds
        while len(messages) < limit and (next_at := self.next_visible_at()) is not None and next_at <= now:
            message = self._messages[heapq.heappop(self._due)[2]]
            if self.dead is not None and message.received_count >= self.max_receives:
                self._remove(message)
                message.visible_at = now
                self.dead._put(message)
                continue
            message.received_count += 1
            message.first_received_at = message.first_received_at or now
            message.visible_at, message.receipt = now + hidden, f"{message.message_id}-{secrets.token_hex(8)}"
            messages.append(message)
        for message in messages:  # at the end: a message is in one answer only once
            self._put(message)
        return messages

    def delete(self, receipt: str) -> None:
        """Delete a message. An older receipt of it deletes nothing, as with SQS."""
        message = self._messages.get(receipt.partition("-")[0])
        if message is not None and message.receipt == receipt:
            self._remove(message)

    def hide(self, receipt: str, now: float, seconds: float) -> None:
        """Change for how long a received message stays hidden."""
        message = self._messages.get(receipt.partition("-")[0])
        if message is not None and message.receipt == receipt:
            message.visible_at = now + seconds
            self._put(message)

    def counts(self, now: float) -> Counts:
        """How many messages are in it."""
        hidden = [each for each in self._messages.values() if each.visible_at > now]
        delayed = sum(not each.received_count for each in hidden)
        return Counts(len(self._messages) - len(hidden), len(hidden) - delayed, delayed)

    def next_visible_at(self) -> float | None:
        """When the next message can be received. None if the queue is empty."""
        while self._due:
            at, _, message_id = self._due[0]
            message = self._messages.get(message_id)
            if message is not None and message.visible_at == at:
                return at
            heapq.heappop(self._due)
        return None

    def purge(self) -> None:
        """Delete everything."""
        self._messages.clear()
        self._due.clear()
        self.changes += 1

    def move_to(self, queue: MemoryQueue, now: float) -> int:
        """Send all visible messages to another queue as new ones. Returns how many."""
        moved = self.receive(len(self._messages), now)
        for message in moved:
            queue.send(message.body, now)
            self.delete(message.receipt)
        return len(moved)

    def sources(self, queues: Mapping[str, MemoryQueue]) -> list[MemoryQueue]:
        """The queues whose dead letters come here."""
        return [each for each in queues.values() if each.dead is self]

    def messages(self) -> list[Stored]:
        """All messages, whether or not they can be received."""
        return list(self._messages.values())

    def restore(self, messages: Iterable[Stored]) -> None:
        """Add messages of an earlier queue of this name, as they were."""
        for message in messages:
            self._put(message)

    def _remove(self, message: Stored) -> None:
        del self._messages[message.message_id]
        self.changes += 1

    def _put(self, message: Stored) -> None:
        self.changes += 1
        self._messages[message.message_id] = message
        heapq.heappush(self._due, (message.visible_at, next(self._order), message.message_id))
