"""What the status line shows: counts from the functions' own metrics, and how old the unhandled events are.

The functions write their log to stdout, metrics among it, as CloudWatch gets them. `FunctionLog` is that stdout: it
keeps the lines in a file and adds up the metrics.
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
    """A stdout for functions: lines go to `file`; the counts of `backup` and the backlog's rows are added up."""

    def __init__(self, file: TextIO):
        self._file, self._lock = file, threading.Lock()
        self.counts: Counter[str] = Counter()
        self.backlog_rows: dict[str, int] = {}
        self.size_bytes = 0

    def write(self, text: str) -> int:
        """Lines, whole ones, as `scheduler.log` writes them."""
        with self._lock:
            for line in text.splitlines():
                self._add(json.loads(line) if line.startswith('{"') and '"_aws"' in line else {})
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        """So that whoever follows the file sees it."""
        self._file.flush()

    def _add(self, document: Mapping[str, Any]) -> None:
        if document.get("Function") == "backup":
            self.counts.update({name: document[name] for name in COUNTS})
            self.size_bytes += document["BytesBackedUp"]
        elif document.get("Function") == "enqueue":
            self.backlog_rows[document["Pair"]] = document["BacklogRows"]


class Ages(NamedTuple):
    """How many events are unhandled, and the ages of the oldest and the newest: what would be lost with the source."""

    events: int
    oldest_seconds: float
    newest_seconds: float


class Unhandled:
    """Events that were told and are not handled yet, by what tells one from another; dead letters are among them.

    An event counts from the moment it is sent, and one that comes from elsewhere (a redrive, a person) from
    its first receipt. Safe to be used by several threads.
    """

    def __init__(self, clock: Callable[[], float] = time.time):
        self._clock, self._lock = clock, threading.Lock()
        self._known: dict[str, tuple[float, float]] = {}

    def add(self, bodies: Iterable[str]) -> None:
        """Messages that are about to be sent, or were received."""
        now = self._clock()
        with self._lock:
            for body in bodies:
                for name, at in _events(body):
                    self._known.setdefault(name, (now if at is None else at, now))

    def remove(self, bodies: Iterable[str]) -> None:
        """Messages that are done with."""
        with self._lock:
            for body in bodies:
                for name, _ in _events(body):
                    self._known.pop(name, None)

    def forget_old(self) -> None:
        """To be called when every queue is empty: what is still known was removed by somebody else."""
        before = self._clock() - FORGET_SECONDS
        with self._lock:
            self._known = {name: each for name, each in self._known.items() if each[1] > before}

    def __len__(self) -> int:
        return len(self._known)

    def ages(self) -> Ages | None:
        """How old they are; None when there is none."""
        with self._lock:
            times = [at for at, _ in self._known.values()]
        now = self._clock()
        return Ages(len(times), max(0.0, now - min(times)), max(0.0, now - max(times))) if times else None


def _events(body: str) -> Iterator[tuple[str, float | None]]:
    """A name for each event of a message, and when it happened; a message that is none stands for itself."""
    try:
        for event in parse_message(body):
            name = f"{event.bucket}\0{event.key}\0{event.version_id}\0{event.sequencer}\0{event.name}"
            yield name, event.event_time
    except UsageError:
        yield body, None
