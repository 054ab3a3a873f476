"""Bytes in bounded pieces: a budget that every reader shares, and ranges read ahead in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

READ_AHEAD = 4
"""Ranges of one object in flight: enough to hide the latency, few enough to be fair to others."""


class ByteBudget:
    """At most `size_bytes` of object data in a worker's memory, first come, first served.

    A reader waits only while it holds nothing (`read_ranges`): whoever holds bytes can go on, use
    them and give them back, so that nobody waits for ever.
    """

    def __init__(self, size_bytes: int):
        self.size_bytes = size_bytes
        self._free = size_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def acquire(self, size_bytes: int) -> int:
        """Wait for the bytes; returns what to release (never more than the whole budget)."""
        wanted = min(size_bytes, self.size_bytes)
        if self.try_acquire(size_bytes) is None:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((wanted, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.release(wanted)
                raise
        return wanted

    def try_acquire(self, size_bytes: int) -> int | None:
        """The same without waiting: None when the bytes are not free or others were first."""
        wanted = min(size_bytes, self.size_bytes)
        if self._waiting or wanted > self._free:
            return None
        self._free -= wanted
        return wanted

    def release(self, size_bytes: int) -> None:
        """Give bytes back and let the next in line go."""
        self._free += size_bytes
        while self._waiting and (self._waiting[0][1].done() or self._waiting[0][0] <= self._free):
            wanted, turn = self._waiting.popleft()
            if not turn.done():
                self._free -= wanted
                turn.set_result(None)


async def read_ranges(
    size_bytes: int,
    range_bytes: int,
    fetch: Callable[[int, int], Awaitable[T]],
    budget: ByteBudget,
    *,
    copies: int = 1,
    read_ahead: int = READ_AHEAD,
) -> AsyncGenerator[T, None]:
    """Yield `fetch(start, end)` for each range of the object, in order, a few of them ahead.

    Whoever may stop early closes it (`aclosing`): an exception that is kept would keep its bytes as well.

    `copies`: how many times a range's bytes are held at once (2 when two objects are compared).
    """
    ranges = deque((start, min(start + range_bytes, size_bytes)) for start in range(0, size_bytes, range_bytes))
    running: deque[tuple[int, asyncio.Task[T]]] = deque()

    async def run(start: int, end: int) -> T:
        return await fetch(start, end)

    try:
        while ranges or running:
            while ranges and len(running) < read_ahead:
                start, end = ranges[0]
                wanted = (end - start) * copies
                granted = budget.try_acquire(wanted)
                if granted is None and running:
                    break  # first use what is there, then ask again
                held = await budget.acquire(wanted) if granted is None else granted
                ranges.popleft()
                running.append((held, asyncio.create_task(run(start, end))))
            held, task = running[0]
            result = await task
            running.popleft()
            try:
                yield result
            finally:
                budget.release(held)
    finally:
        for _, task in running:
            task.cancel()
        await asyncio.gather(*(task for _, task in running), return_exceptions=True)
        for held, _ in running:
            budget.release(held)
