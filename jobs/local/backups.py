"""Events on their way to the function `backup`, which is called in this process.

Events of a key wait until nothing has happened to it for `SETTLE_SECONDS`: SeaweedFS announces a
version before it is the current one. What fails is tried again, and given up after `TRIES`.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from msgspec import Struct

from jobs.errors import SealiftError
from jobs.local.filer_events import Change, read_change, to_record
from jobs.policy.coverage import match
from jobs.policy.model import Policy
from scheduler.log import say

SETTLE_SECONDS = 0.1
TRIES, RETRY_SECONDS = 5, 1.0
BATCH_MESSAGES = 100

Handler = Callable[[Mapping[str, Any], Any], Mapping[str, Any]]


CONTEXT = SimpleNamespace(aws_request_id="local", get_remaining_time_in_millis=lambda: 60_000)
"""The context of an invocation, as far as our handlers read it."""


class _Message(Struct):
    change: Change
    due: float
    tries: int = 0


class Backups:
    """Takes SeaweedFS's notifications (`add`, from any thread) and hands them on (`step`)."""

    def __init__(self, policy: Policy, handler: Handler, clock: Callable[[], float] = time.time) -> None:
        self.policy, self.handler, self._clock = policy, handler, clock
        self._lock = threading.Lock()
        self.messages: dict[str, _Message] = {}  # what waits, or is tried again
        self.handled = self.given_up = 0

    def add(self, document: Mapping[str, Any]) -> None:
        """Keep what a notification says of an object that a pair protects."""
        now = self._clock()
        change = read_change(document, int(now * 1e9))
        if change is None or match(self.policy, change.bucket, change.key) is None:
            return
        with self._lock:
            for each in self.messages.values():
                if (each.change.bucket, each.change.key) == (change.bucket, change.key) and not each.tries:
                    each.due = now + SETTLE_SECONDS
            if change.name:
                self.messages[secrets.token_hex(8)] = _Message(change, now + SETTLE_SECONDS)

    def step(self) -> None:
        """Hand on a batch of what is due."""
        now = self._clock()
        with self._lock:
            due = {name: each for name, each in self.messages.items() if each.due <= now}
        due = dict(list(due.items())[:BATCH_MESSAGES])
        if not due:
            return
        failed = self._invoke(due)
        with self._lock:
            for name, each in due.items():
                each.tries += 1
                if name in failed and each.tries < TRIES:
                    each.due = self._clock() + RETRY_SECONDS
                    continue
                del self.messages[name]
                self.given_up += name in failed
                self.handled += name not in failed

    def _invoke(self, due: Mapping[str, _Message]) -> set[str]:
        """Call the function. Returns which messages failed: all, whatever it raises."""
        bodies = {name: json.dumps({"Records": [to_record(each.change)]}) for name, each in due.items()}
        records = [{"messageId": name, "body": body} for name, body in bodies.items()]
        try:
            answer = self.handler({"Records": records}, CONTEXT)
            return {each["itemIdentifier"] for each in answer.get("batchItemFailures", ())}
        except Exception as error:  # noqa: BLE001  the next batch is independent of it
            reason = str(error) if isinstance(error, SealiftError) else f"{type(error).__name__}: {error}"
            say("error", "batch failed", error=reason, messages=len(due))
            return set(due)
