"""Gate for many small requests at once.

It lets through as many as S3 bears, fewer after SlowDown, and retries each.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from jobs.core.pace import Pace
from jobs.errors import StoreError, Throttled
from jobs.s3.retries import retry

T = TypeVar("T")


@dataclass(slots=True)
class PacedGate:
    """Lets so much work run at once as `pace` says, first come, first served.

    Work inside must not ask for more.
    """

    pace: Pace
    clock: Callable[[], float] = time.monotonic
    _running: int = 0
    _waiting: deque[asyncio.Future[None]] = field(default_factory=deque)

    async def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """What the work gives. Raises what it raises, the passing failures after several tries."""
        while self._running >= self.pace.in_flight:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                self._wake()  # the turn may have been given to it already
                raise
        self._running += 1
        began = self.clock()
        try:
            result = await retry(work, self._heed)
            self.pace.succeed(self.clock() - began)
            return result
        finally:
            self._running -= 1
            self._wake()

    def _wake(self) -> None:
        """As many as there is room for look again."""
        room = self.pace.in_flight - self._running
        while self._waiting and room > 0:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                room -= 1

    def _heed(self, error: StoreError) -> None:
        if isinstance(error, Throttled):
            self.pace.throttle(self.clock())
