"""The worker log: JSON lines on a container's stderr, a few for each attempt.

    {"time": …, "level": "info", "event": "started", "run": …, "shard": 3, "attempt": …, "planned": 100000, …}
    {"time": …, "level": "info", "event": "progress", "run": …, "shard": 3, "attempt": …, "rows": 61024, …}
    {"time": …, "level": "info", "event": "ended", "run": …, "shard": 3, "attempt": …, "exit_code": 0, …, "_aws": …}
    {"time": …, "level": "warning", "event": "errors", …, "Reason": "denied", "Errors": 12, "_aws": …}

The ledger's outcomes name the same attempt. `_aws` makes a line a metric in CloudWatch
(`core.metrics`). Log storage is paid by the byte. At 10⁹ objects a line for each would cost more
than their copies, so the outcome of a row is in the ledger alone.
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
from jobs.core.metrics import Metric, Unit, embed
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

    `system`, the policy's name, tells its metrics from those of another system in the account.

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
    system: str | None = None
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
        """Write the result with its metrics, and a metric for each code of rows that ended badly."""
        metrics = [
            Metric("Objects", Unit.COUNT, self._statuses.total()),
            Metric("Bytes", Unit.BYTES, self._size_bytes),
            Metric("Errors", Unit.COUNT, self._errors.total()),
            Metric("Seconds", Unit.SECONDS, round(self.clock() - self._began, 3)),
        ]
        level = {ExitCode.DONE: "info", ExitCode.TRANSIENT: "warning"}.get(exit_code, "error")
        statuses = {status.value: rows for status, rows in sorted(self._statuses.items())}
        details = {"exit_code": int(exit_code), "outcomes": statuses} | (
            {"message": _short(message)} if message else {}
        )
        of_job = ({"System": self.system} if self.system else {}) | {"Job": self.job}
        self._line("ended", level, details, of_job, metrics)
        for reason, rows in sorted(self._errors.items()):
            by = of_job | {"Reason": reason}
            self._line("errors", "warning", {}, by, [Metric("Errors", Unit.COUNT, rows)])

    def _line(
        self,
        event: str,
        level: str,
        details: dict[str, Any],
        dimensions: dict[str, str] | None = None,
        metrics: Sequence[Metric] = (),
    ) -> None:
        now = self.clock()
        document: dict[str, Any] = {
            "time": datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds"),
            "level": level,
            "event": event,
            "run": self.run_id,
            "shard": self.shard,
            "attempt": self.attempt,
            **details,
        }
        if metrics:
            document = embed(metrics, dimensions or {}, document, now)
        self.write(json.dumps(document, separators=(",", ":")))


def _short(message: str) -> str:
    line = without_passwords(" ".join(message.split()))
    return line if len(line) <= _MESSAGE_CHARACTERS else line[: _MESSAGE_CHARACTERS - 1] + "…"
