"""The worker log: JSON lines on a container's stderr, a few for each attempt.

    {"time": …, "level": "info", "event": "started", "run": …, "shard": 3, "attempt": …, "planned": 100000, …}
    {"time": …, "level": "info", "event": "progress", "run": …, "shard": 3, "attempt": …, "rows": 61024, …}
    {"time": …, "level": "info", "event": "ended", "run": …, "shard": 3, "attempt": …, "exit_code": 0, …}
    {"time": …, "level": "warning", "event": "errors", …, "reason": "denied", "errors": 12}

The ledger's outcomes name the same attempt. Log storage is paid by the byte. At 10⁹ objects a line
for each would cost more than their copies, so the outcome of a row is in the ledger alone.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from jobs.core.display import without_passwords
from jobs.core.outcome import GOOD, Outcome, Status
from jobs.errors import ExitCode, SealiftError
from jobs.runs.worker import Progress

PROGRESS_SECONDS = 60.0
"""The seconds between two lines of progress."""
_MESSAGE_CHARACTERS = 2_000


def nowhere(line: str) -> None:
    """No log: on a person's terminal nobody reads it."""


@dataclass(slots=True)
class WorkerLog:
    """The log of one attempt at one shard: a line when the block begins, and lines when it ends.

    It counts what this attempt did, not what earlier attempts did.
    """

    job: str
    run_id: str
    shard: int
    attempt: str
    version: str
    planned_rows: int
    write: Callable[[str], None]
    clock: Callable[[], float] = time.time
    _statuses: Counter[Status] = field(default_factory=Counter, init=False)
    _errors: Counter[str] = field(default_factory=Counter, init=False)
    _size_bytes: int = field(default=0, init=False)
    _began: float = field(default=0.0, init=False)
    _last_progress: float = field(default=0.0, init=False)

    def __enter__(self) -> Self:
        self._began = self._last_progress = self.clock()
        self._line("started", "info", {"job": self.job, "version": self.version, "planned": self.planned_rows})
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            self._end(ExitCode.DONE)
        elif isinstance(error, SealiftError):
            self._end(error.exit_code, str(error))
        else:
            self._end(ExitCode.BUG, f"{type(error).__name__}: {error}")

    def count(self, outcomes: Sequence[Outcome]) -> None:
        """Count outcomes that this attempt has written to the ledger."""
        self._statuses.update(outcome.status for outcome in outcomes)
        self._errors.update(each.reason or each.status.value for each in outcomes if each.status not in GOOD)
        self._size_bytes += sum(outcome.size_bytes for outcome in outcomes)

    def progress(self, progress: Progress) -> None:
        """How far the shard is: a line each `PROGRESS_SECONDS`."""
        now = self.clock()
        if now - self._last_progress >= PROGRESS_SECONDS:
            self._last_progress = now
            self._line("progress", "info", progress._asdict())

    def _end(self, exit_code: ExitCode, message: str = "") -> None:
        """Write the result, and a line for each code of rows that ended badly."""
        level = {ExitCode.DONE: "info", ExitCode.TRANSIENT: "warning"}.get(exit_code, "error")
        details = {
            "job": self.job,
            "exit_code": int(exit_code),
            "outcomes": {status.value: rows for status, rows in sorted(self._statuses.items())},
            "objects": self._statuses.total(),
            "bytes": self._size_bytes,
            "errors": self._errors.total(),
            "seconds": round(self.clock() - self._began, 3),
        }
        self._line("ended", level, details | ({"message": _short(message)} if message else {}))
        for reason, rows in sorted(self._errors.items()):
            self._line("errors", "warning", {"reason": reason, "errors": rows})

    def _line(self, event: str, level: str, details: dict[str, Any]) -> None:
        document: dict[str, Any] = {
            "time": datetime.fromtimestamp(self.clock(), UTC).isoformat(timespec="milliseconds"),
            "level": level,
            "event": event,
            "run": self.run_id,
            "shard": self.shard,
            "attempt": self.attempt,
            **details,
        }
        self.write(json.dumps(document, separators=(",", ":")))


def _short(message: str) -> str:
    line = without_passwords(" ".join(message.split()))
    return line if len(line) <= _MESSAGE_CHARACTERS else line[: _MESSAGE_CHARACTERS - 1] + "…"
