"""Count of failures, which says when an attempt ends because its rows fail. No I/O.

S3 Batch Operations ends a job when more than half of its tasks fail, once a thousand have been
tried (https://docs.aws.amazon.com/AmazonS3/latest/userguide/batch-ops-job-status.html).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from jobs.core.model import ObjectVersion
from jobs.core.outcome import Outcome, Status
from jobs.core.reasons import FAILURES, Reason
from jobs.core.run import continuation
from jobs.core.words import sentence
from jobs.errors import StoreError, TooManyFailures

SHARE_ROWS = 1_000
"""The share counts once so many rows have ended."""
TRIES = 8
"""How often the worker tries one row before it fails."""


@dataclass(slots=True)
class FailureCount:
    """The rows of one attempt that have ended, and those of them that failed.

    Only what S3 refused or did not answer is a failure (`jobs.core.reasons.FAILURES`). What else
    ends badly is a finding about a row. With a limit of 100 % the attempt goes on whatever fails.
    """

    limit_percent: float
    rows: int = field(default=0, init=False)
    failed: int = field(default=0, init=False)
    _last: Outcome | None = field(default=None, init=False)

    def count(self, outcome: Outcome) -> None:
        """Count a row of this attempt."""
        self.rows += 1
        if outcome.status is Status.BLOCKED and outcome.reason in FAILURES:
            self.failed += 1
            self._last = outcome

    def check(self, run_id: str, shard: int) -> TooManyFailures | None:
        """Return the error that ends the attempt, None while it goes on."""
        if self._last is None or self.rows < SHARE_ROWS or 100 * self.failed <= self.limit_percent * self.rows:
            return None
        return TooManyFailures(
            f"run {run_id}, shard {shard} ended early: {self.failed:,} of {self.rows:,} rows failed, more than "
            f"{self.limit_percent:g}%; the last one: {sentence(self._last.reason, self._last.detail)}. What was done "
            "is recorded",
            advice="mend the cause (SEALIFT_TUNING=max_failed_percent=100 goes on whatever fails), then continue with: "
            f"{continuation(run_id)}",
            may_pass=self._last.reason == Reason.GIVEN_UP,
        )


def gave_up(row: ObjectVersion, error: StoreError) -> Outcome:
    """Return the outcome of a row whose every try failed."""
    return Outcome.of(row, Status.BLOCKED, Reason.GIVEN_UP, error.fact)
