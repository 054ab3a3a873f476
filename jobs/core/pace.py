"""Pace: how many requests may be in flight, and how long to wait before a retry.

Up slowly, down fast (AIMD, as TCP does it).
"""

from __future__ import annotations

from msgspec import Struct

MINIMUM_IN_FLIGHT = 1.0
START_IN_FLIGHT = 36
"""A hundred rows take two rounds: 36, then 72."""
CUT_FACTOR = 0.5
QUEUEING_FACTOR = 2.5
SMOOTHING_ROWS = 16
WATCH_SECONDS_MIN, WATCH_SECONDS_MAX = 0.1, 10.0
COOL_DOWN_SECONDS = 1.0
"""One storm of SlowDown answers is one signal: requests already in flight will fail with it."""
UNHEARD_SECONDS = 60.0
"""Who has asked a server for so long without a word in answer does not ask again."""


class Pace(Struct):
    """The limit of rows in flight for one worker.

    It starts low and doubles with each full round of successes (TCP's slow start) until S3
    throttles or answers take `QUEUEING_FACTOR` times as long as the quickest did: then more in
    flight would only wait in line. From there on a round gains one while answers are quick, and
    loses one while they wait in line (as TCP Vegas does), though never below the start: large
    objects take long as well. A throttled request halves the limit, at most once a
    `COOL_DOWN_SECONDS`.
    """

    maximum: int
    limit: float = 0.0
    throttled: int = 0
    _is_slow_start: bool = True
    _usual_seconds: float = 0.0
    _quickest_seconds: float = float("inf")
    _last_cut: float | None = None

    def __post_init__(self) -> None:
        self.limit = float(min(START_IN_FLIGHT, self.maximum))

    @property
    def in_flight(self) -> int:
        """The limit as a whole number, at least one."""
        return int(self.limit)

    def succeed(self, seconds: float) -> None:
        """A row took so many seconds. After a round of rows, adjust the limit.

        No time, or less, comes from a clock that is coarse or was set back: nothing was measured.
        """
        if seconds > 0:
            self._usual_seconds += (seconds - self._usual_seconds) / SMOOTHING_ROWS if self._usual_seconds else seconds
            self._quickest_seconds = min(self._quickest_seconds, self._usual_seconds)
        if self._usual_seconds > QUEUEING_FACTOR * self._quickest_seconds:
            self._is_slow_start = False
            if self.limit > START_IN_FLIGHT:
                self.limit = max(float(START_IN_FLIGHT), self.limit - 1 / self.limit)
                return
        self.limit = min(float(self.maximum), self.limit + (1.0 if self._is_slow_start else 1 / self.limit))

    def throttle(self, now: float) -> None:
        """S3 said slow down at `now` (seconds on any clock).

        A clock that was set back cuts at once: nobody knows how long ago the last cut was.
        """
        self.throttled += 1
        self._is_slow_start = False
        if self._last_cut is None or not 0 <= now - self._last_cut < COOL_DOWN_SECONDS:
            self.limit = max(MINIMUM_IN_FLIGHT, self.limit * CUT_FACTOR)
            self._last_cut = now


def backoff_seconds(attempt: int, jitter: float) -> float:
    """How long to wait before try number `attempt` (from 1). `jitter` is a random number in [0, 1).

    Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    return min(20.0, 0.1 * 2.0**attempt) * jitter


def watch_seconds(since_turn: float, share: float) -> float:
    """How long to wait before the next look at work of others: a share of the time since things
    took their last turn, for what has taken long will take longer. Bounded at both ends.
    """
    return min(WATCH_SECONDS_MAX, max(WATCH_SECONDS_MIN, share * since_turn))
