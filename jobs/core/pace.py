"""How many requests may be in flight: up slowly, down fast (AIMD, as TCP does it)."""

from __future__ import annotations

from dataclasses import dataclass, field

MINIMUM_IN_FLIGHT = 1.0
START_IN_FLIGHT = 32
CUT_FACTOR = 0.5
COOL_DOWN_SECONDS = 1.0
"""One storm of SlowDown answers is one signal: requests already in flight will fail with it."""


@dataclass(slots=True)
class Pace:
    """The limit of rows in flight for one worker.

    It starts low and doubles with each full round of successes until S3 throttles for the first
    time (TCP's slow start); from then on a round gains one. A throttled request halves it, at most
    once a `COOL_DOWN_SECONDS`.
    """

    maximum: int
    limit: float = field(init=False)
    throttled: int = field(default=0, init=False)
    _last_cut: float = field(default=float("-inf"), init=False)

    def __post_init__(self) -> None:
        self.limit = float(min(START_IN_FLIGHT, self.maximum))

    @property
    def in_flight(self) -> int:
        """The limit as a whole number, at least one."""
        return int(self.limit)

    def succeed(self) -> None:
        """A row went through: after `limit` of them the limit has doubled, or grown by one."""
        gain = 1 / self.limit if self.throttled else 1.0
        self.limit = min(float(self.maximum), self.limit + gain)

    def throttle(self, now: float) -> None:
        """S3 said slow down at `now` (seconds on any clock that only moves forward)."""
        self.throttled += 1
        if now - self._last_cut >= COOL_DOWN_SECONDS:
            self.limit = max(MINIMUM_IN_FLIGHT, self.limit * CUT_FACTOR)
            self._last_cut = now


def backoff_seconds(attempt: int, jitter: float) -> float:
    """How long to wait before try number `attempt` (from 1); `jitter` is a random number in [0, 1).

    Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    return min(20.0, 0.1 * 2.0**attempt) * jitter
