"""The status line: counts from the functions' metrics, and ages of open events.

The functions write log lines and metrics to stdout, as CloudWatch gets them. `FunctionLog` is that
stdout: it keeps the lines in a file and adds up the metrics.
"""

from __future__ import annotations

import io
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TextIO

from jobs.backup.events import parse_message
from jobs.errors import UsageError

COUNTS = ("BackedUp", "Duplicates", "Deleted", "Superseded", "HandedOver", "Skipped", "Failed")
FORGET_SECONDS = 10.0


class FunctionLog(io.TextIOBase):
    """A stdout for functions: lines go to `file`, counts and the backlog's rows are added up."""

    def __init__(self, file: TextIO):
        self._file, self._lock = file, threading.Lock()
        self.counts: Counter[str] = Counter()
        self.backlog_rows: dict[str, int] = {}
        self.size_bytes = 0

    def write(self, text: str) -> int:
        """Write whole lines, as `scheduler.log` does."""
        with self._lock:
            for line in text.splitlines():
                self._add(json.loads(line) if line.startswith('{"') and '"_aws"' in line else {})
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        """Make the lines visible to readers of the file."""
        self._file.flush()

    def _add(self, document: Mapping[str, Any]) -> None:
        if document.get("Function") == "backup":
            self.counts.update({name: document[name] for name in COUNTS})
            self.size_bytes += document["BytesBackedUp"]
        elif document.get("Function") == "enqueue":
            self.backlog_rows[document["Pair"]] = document["BacklogRows"]


class Ages(NamedTuple):
    """How many events are unhandled, and the ages of the oldest and the newest."""

    events: int
    oldest_seconds: float
    newest_seconds: float


class Unhandled:
    """Events that are sent and not handled yet, dead letters included, each by its own name.

    An event counts from the moment it is sent. One that comes from elsewhere (a redrive, a person)
    counts from its first receipt. Safe to share between threads.
    """

    def __init__(self, clock: Callable[[], float] = time.time):
        self._clock, self._lock = clock, threading.Lock()
        self._known: dict[str, tuple[float, float]] = {}

    def add(self, bodies: Iterable[str]) -> None:
        """Add messages that are about to be sent, or were received."""
        now = self._clock()
        with self._lock:
            for body in bodies:
                for name, at in _events(body):
                    self._known.setdefault(name, (now if at is None else at, now))

    def remove(self, bodies: Iterable[str]) -> None:
        """Remove messages that are done."""
        with self._lock:
            for body in bodies:
                for name, _ in _events(body):
                    self._known.pop(name, None)

    def forget_old(self) -> None:
        """Drop old events. Call it if every queue is empty: others removed their messages."""
        before = self._clock() - FORGET_SECONDS
        with self._lock:
            self._known = {name: each for name, each in self._known.items() if each[1] > before}

    def __len__(self) -> int:
        return len(self._known)

    def ages(self) -> Ages | None:
        """How old they are. None without events."""
        with self._lock:
            times = [at for at, _ in self._known.values()]
        now = self._clock()
        return Ages(len(times), max(0.0, now - min(times)), max(0.0, now - max(times))) if times else None


def _events(body: str) -> Iterator[tuple[str, float | None]]:
    """(name, time) of each event of a message. An unreadable message is its own name."""
    try:
        for event in parse_message(body):
            name = f"{event.bucket}\0{event.key}\0{event.version_id}\0{event.sequencer}\0{event.name}"
            yield name, event.event_time
    except UsageError:
        yield body, None
