"""Count of failures, which says when an attempt ends because its rows fail. No I/O.

S3 Batch Operations ends a job when more than half of its tasks fail, once a thousand have been
tried (https://docs.aws.amazon.com/AmazonS3/latest/userguide/batch-ops-job-status.html).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from jobs.core.model import ObjectVersion
from jobs.core.outcome import GOOD, Outcome, Status
from jobs.core.reasons import FAILURES, Reason
from jobs.core.run import continuation
from jobs.core.words import sentence
from jobs.errors import StoreError, TooManyFailures

LIMIT_PERCENT = 50.0
SHARE_ROWS = 1_000
"""The share counts once so many rows have ended."""
ALIKE_ROWS = 200
"""So many failures of one kind, and no good end, have one cause for all rows."""
TRIES = 8
"""How often the worker tries one row before it fails."""


@dataclass(slots=True)
class FailureCount:
    """The counts of one attempt, and its limits.

    `has_good`: a row ended well, in this attempt or an earlier one.

    Only what S3 refused or did not answer is a failure (`jobs.core.reasons.FAILURES`). What else
    ends badly is a finding about a row. The first line that fits decides, after each row of the
    attempt:

    | rows ended      | of them failed       | with               | the attempt   |
    |-----------------|----------------------|--------------------|---------------|
    | any             | any                  | a limit of 100 %   | goes on       |
    | 200 and more    | the last 200 alike   | no good end so far | ends          |
    | 1,000 and more  | more than the limit  |                    | ends          |
    |                 |                      |                    | goes on       |

    `alike`: with the same operation and the same code.
    """

    limit_percent: float = LIMIT_PERCENT
    rows: int = field(default=0, init=False)
    failed: int = field(default=0, init=False)
    has_good: bool = field(default=False, init=False)
    _alike: int = field(default=0, init=False)
    _kind: str = field(default="", init=False)
    _last: Outcome | None = field(default=None, init=False)

    def count(self, outcome: Outcome) -> None:
        """Count a row of this attempt."""
        self.rows += 1
        self.has_good |= outcome.status in GOOD
        if outcome.status is not Status.BLOCKED or outcome.reason not in FAILURES:
            self._alike = 0
            return
        self.failed += 1
        kind = failure_kind(outcome)
        self._alike = self._alike + 1 if kind == self._kind else 1
        self._kind, self._last = kind, outcome

    def check(self, run_id: str, shard: int) -> TooManyFailures | None:
        """Return the error that ends the attempt, None while it goes on."""
        if self.limit_percent >= 100 or self._last is None:
            return None
        if self._alike >= ALIKE_ROWS and not self.has_good:
            why = f"{self._alike:,} rows one after another failed alike, and none ended well"
        elif self.rows >= SHARE_ROWS and 100 * self.failed > self.limit_percent * self.rows:
            why = f"{self.failed:,} of {self.rows:,} rows failed, more than {self.limit_percent:g}%"
        else:
            return None
        return TooManyFailures(
            f"run {run_id}, shard {shard} ended early: {why}; the last one: "
            f"{sentence(self._last.reason, self._last.detail)}. What was done is recorded",
            advice="mend the cause (SEALIFT_TUNING=max_failed_percent=100 goes on whatever fails), then continue with: "
            f"{continuation(run_id)}",
            may_pass=self._last.reason == Reason.GIVEN_UP,
        )


def failure_kind(outcome: Outcome) -> str:
    """Return what tells one failure from another: reason and detail."""
    return f"{outcome.reason} {outcome.detail}"


def gave_up(row: ObjectVersion, error: StoreError) -> Outcome:
    """Return the outcome of a row whose every try failed."""
    return Outcome.of(row, Status.BLOCKED, Reason.GIVEN_UP, error.fact)
