"""The worker log: JSON lines on a container's stderr, two for each attempt.

    {"time": …, "level": "info", "event": "started", "run": …, "shard": 3, "attempt": …, "planned": 100000, …}
    {"time": …, "level": "info", "event": "ended", "run": …, "shard": 3, "attempt": …, "exit_code": 0, …}

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
from jobs.core.run import RunSpec
from jobs.errors import ExitCode, SealiftError

_MESSAGE_CHARACTERS = 2_000


def nowhere(line: str) -> None:
    """No log: on a person's terminal nobody reads it."""


@dataclass(slots=True)
class WorkerLog:
    """The log of one attempt at one shard: a line when the block begins, and one when it ends.

    It counts what this attempt did, not what earlier attempts did.
    """

    spec: RunSpec
    shard: int
    attempt: str
    planned_rows: int
    write: Callable[[str], None]
    clock: Callable[[], float] = time.time
    _statuses: Counter[Status] = field(default_factory=Counter, init=False)
    _errors: Counter[str] = field(default_factory=Counter, init=False)
    _size_bytes: int = field(default=0, init=False)
    _began: float = field(default=0.0, init=False)

    def __enter__(self) -> Self:
        self._began = self.clock()
        self._line("started", "info", {"version": self.spec.sealift_version, "planned": self.planned_rows})
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        code, text = ExitCode.DONE, ""
        if error is not None:
            code = error.exit_code if isinstance(error, SealiftError) else ExitCode.BUG
            text = str(error) if isinstance(error, SealiftError) else f"{type(error).__name__}: {error}"
        details: dict[str, Any] = {
            "exit_code": int(code),
            "outcomes": {status.value: rows for status, rows in sorted(self._statuses.items())},
            "bytes": self._size_bytes,
            "errors": dict(sorted(self._errors.items())),
            "seconds": round(self.clock() - self._began, 3),
        }
        if text:
            details["message"] = without_passwords(" ".join(text.split()))[:_MESSAGE_CHARACTERS]
        self._line("ended", {ExitCode.DONE: "info", ExitCode.TRANSIENT: "warning"}.get(code, "error"), details)

    def count(self, outcomes: Sequence[Outcome]) -> None:
        """Count outcomes that this attempt has written to the ledger."""
        self._statuses.update(outcome.status for outcome in outcomes)
        self._errors.update(each.reason or each.status.value for each in outcomes if each.status not in GOOD)
        self._size_bytes += sum(outcome.size_bytes for outcome in outcomes)

    def _line(self, event: str, level: str, details: dict[str, Any]) -> None:
        document = {
            "time": datetime.fromtimestamp(self.clock(), UTC).isoformat(timespec="milliseconds"),
            "level": level,
            "event": event,
            "job": self.spec.job,
            "run": self.spec.run_id,
            "shard": self.shard,
            "attempt": self.attempt,
            **details,
        }
        self.write(json.dumps(document, separators=(",", ":")))
