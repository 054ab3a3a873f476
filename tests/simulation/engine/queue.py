"""The queue of events: SQS with its late, doubled and reordered messages, and a dead-letter queue behind it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from tests.simulation.engine.loop import Loop

VISIBILITY_SECONDS = 120.0
RECEIVES_MAX = 5


@dataclass(slots=True, eq=False)
class Message:
    """`visible_at`: loop time from which it can be received."""

    number: int
    key: str
    body: str
    visible_at: float
    receives: int = 0
    is_done: bool = False
    is_dead: bool = False


class Queue:
    """At least once, in no order. What was received too often is dead until it is redriven."""

    def __init__(self, loop: Loop, chance: Callable[[], float]):
        self._loop, self._chance = loop, chance
        self.messages: list[Message] = []

    def send(self, record: dict[str, Any], delay_seconds: float) -> None:
        """An event becomes a message."""
        visible_at = self._loop.time() + delay_seconds
        key = unquote_plus(record["s3"]["object"]["key"])
        self.messages.append(Message(len(self.messages), key, json.dumps({"Records": [record]}), visible_at))

    def receive(self, limit: int) -> list[Message]:
        """Some of the visible messages; nobody else sees them for a while."""
        now, received = self._loop.time(), list[Message]()
        visible = [each for each in self.messages if not each.is_done and not each.is_dead and each.visible_at <= now]
        while visible and len(received) < limit:
            message = visible.pop(int(self._chance() * len(visible)))
            message.receives += 1
            if message.receives > RECEIVES_MAX:
                message.is_dead = True
            else:
                message.visible_at = now + VISIBILITY_SECONDS
                received.append(message)
        return received

    def redrive(self, is_lost: Callable[[str], bool]) -> bool:
        """What is dead is tried again, but for keys of which S3 has lost bytes; whether there was something."""
        dead = [each for each in self.messages if each.is_dead and not is_lost(each.key)]
        for message in dead:
            message.receives, message.is_dead = 0, False
        return bool(dead)

    @property
    def next_at(self) -> float:
        """When a message is visible next; never, where there is none."""
        waiting = (each.visible_at for each in self.messages if not each.is_done and not each.is_dead)
        return min(waiting, default=math.inf)
