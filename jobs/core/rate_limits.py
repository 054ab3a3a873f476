"""Rate limits: how many requests and bytes a second a run may take. Pure.

A run has them as options, `max_rate` and `bandwidth_bytes`. Its workers share them.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

from jobs.core.run import RunSpec

SAVED_SECONDS = 1.0
"""What was not used within so long may be used later: a worker that waits for its ledger loses
nothing."""


class RateLimits(NamedTuple):
    """Requests a second, and bytes a second that are read or written. None: no limit."""

    requests: float | None = None
    size_bytes: float | None = None

    @classmethod
    def of(cls, spec: RunSpec) -> RateLimits:
        """Those of a run. What is no limit limits nothing."""
        named = spec.options.get("max_rate"), spec.options.get("bandwidth_bytes")
        return cls(*(value if isinstance(value, int | float) and value > 0 else None for value in named))

    def shared_by(self, workers: int) -> RateLimits:
        """The share of one of so many workers."""
        return RateLimits(*(None if limit is None else limit / workers for limit in self))

    def seconds(self, requests: int, size_bytes: int) -> float:
        """How long so many requests and bytes take at least."""
        pairs = (requests, self.requests), (size_bytes, self.size_bytes)
        return max((count / limit for count, limit in pairs if limit is not None), default=0.0)


class TokenBucket(Struct):
    """Tokens that come at a steady rate, and are saved for `SAVED_SECONDS`.

    Taking more than there are is a debt, for which the next caller waits.
    """

    per_second: float
    _paid_until: float = float("-inf")

    def take(self, tokens: float, now: float) -> float:
        """Take tokens at `now`, in seconds of a clock that is never set back.

        Returns how many seconds to wait before using them.
        """
        start = max(self._paid_until, now - SAVED_SECONDS)
        self._paid_until = start + tokens / self.per_second
        return max(0.0, start - now)
