"""An object's content in pinned ranges, the byte budget of a worker's readers, and reading ahead in order within it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import NamedTuple, TypeVar

from jobs.core.model import ObjectInfo, ObjectRef
from jobs.errors import Unavailable
from jobs.s3.store import Store

T = TypeVar("T")
Item = TypeVar("Item")

READ_AHEAD = 4
"""Ranges of one object in flight: enough to hide the latency, few enough to be fair to others."""


class ContentSide(NamedTuple):
    """One object, as HEAD described it, and the store that has it."""

    store: Store
    ref: ObjectRef
    info: ObjectInfo

    async def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`, which is exclusive. Raises PreconditionFailed when it has changed,
        and Unavailable for an answer that ends before: a cache may have kept a part of the object.
        """
        data = (await self.store.get(self.ref, start=start, end=end, if_match=self.info.etag)).data
        if len(data) != end - start:
            what = f"of an object of {self.info.size_bytes} bytes, {len(data)} of {end - start} came"
            raise Unavailable("GetObject", str(self.ref), "MalformedAnswer", what, 200)
        return data


class Turns:
    """Room for at most `size` at once, first come, first served."""

    def __init__(self, size: int):
        self.size = self._free = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def resize(self, size: int) -> None:
        """Have room for so much from the next release on. What is in use stays."""
        self._free += size - self.size
        self.size = size

    async def acquire(self, count: int) -> int:
        """Wait for so much. Returns what to release (never more than all)."""
        wanted = min(count, self.size)
        if self.try_acquire(count) is None:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((wanted, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.release(wanted)
                raise
        return wanted

    def try_acquire(self, count: int) -> int | None:
        """The same without waiting: None when it is not free or others were first."""
        wanted = min(count, self.size)
        if self._waiting or wanted > self._free:
            return None
        self._free -= wanted
        return wanted

    def release(self, count: int) -> None:
        """Give it back and let the next in line go."""
        self._free += count
        while self._waiting and (self._waiting[0][1].done() or self._waiting[0][0] <= self._free):
            wanted, turn = self._waiting.popleft()
            if not turn.done():
                self._free -= wanted
                turn.set_result(None)


class ByteBudget(Turns):
    """Room for so many bytes of object data in a worker's memory.

    A reader waits only while it holds nothing (`read_ahead`). One that holds bytes can go on, use
    them and give them back, so no reader waits for ever.
    """


async def read_ahead(
    items: Iterable[Item],
    fetch: Callable[[Item], Awaitable[T]],
    budget: ByteBudget,
    *,
    size_bytes: Callable[[Item], int],
    at_once: Callable[[], int],
) -> AsyncGenerator[T, None]:
    """Yield `fetch(item)` of each item in order, `at_once()` of them in flight as far as the budget
    allows.

    Each item holds its `size_bytes` of the budget until the caller asks for the next result.

    A caller that may stop early closes the generator (`aclosing`): an exception that is kept would
    keep its bytes too.
    """
    waiting = deque(items)
    running: deque[tuple[int, asyncio.Future[T]]] = deque()
    try:
        while waiting or running:
            while waiting and len(running) < at_once():
                wanted = size_bytes(waiting[0])
                held = budget.try_acquire(wanted)
                if held is None and running:
                    break  # the caller first uses what is there, then this asks again
                held = await budget.acquire(wanted) if held is None else held
                running.append((held, asyncio.ensure_future(fetch(waiting.popleft()))))
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


def read_ranges(
    size_bytes: int,
    range_bytes: int,
    fetch: Callable[[int, int], Awaitable[T]],
    budget: ByteBudget,
    *,
    first: int = 0,
    copies: int = 1,
) -> AsyncGenerator[T, None]:
    """Yield `fetch(start, end)` for each range of the object from the byte `first` on, in order, a few of them ahead
    (`read_ahead`).

    `copies`: how many times a range's bytes are held at once (2 when two objects are compared).
    """
    return read_ahead(
        ((start, min(start + range_bytes, size_bytes)) for start in range(first, size_bytes, range_bytes)),
        lambda span: fetch(*span),
        budget,
        size_bytes=lambda span: (span[1] - span[0]) * copies,
        at_once=lambda: READ_AHEAD,
    )
