"""Gate for many small requests at once.

It lets through as many as S3 bears, fewer after SlowDown, and retries each.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from jobs.core.pace import Pace
from jobs.errors import StoreError, Throttled
from jobs.s3.byte_ranges import Turns
from jobs.s3.retries import retry

T = TypeVar("T")


@dataclass(slots=True)
class PacedGate:
    """Lets so much work run at once as `pace` says, first come, first served.

    Work inside must not ask for more.
    """

    pace: Pace
    clock: Callable[[], float] = time.monotonic
    _turns: Turns = field(init=False)

    def __post_init__(self) -> None:
        self._turns = Turns(self.pace.in_flight)

    async def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """What the work gives. Raises what it raises, the passing failures after several tries."""
        await self._turns.acquire(1)
        began = self.clock()
        try:
            result = await retry(work, self._heed)
            self.pace.succeed(self.clock() - began)
            return result
        finally:
            self._turns.resize(self.pace.in_flight)
            self._turns.release(1)

    def _heed(self, error: StoreError) -> None:
        if isinstance(error, Throttled):
            self.pace.throttle(self.clock())
