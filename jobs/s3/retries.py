"""Tries: how often a request is sent, how long a person waits, and how many run at once."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from msgspec import Struct

from jobs.config import Settings
from jobs.core.pace import UNHEARD_SECONDS, Pace, backoff_seconds
from jobs.errors import Conflict, StoreError, Throttled, Unavailable
from jobs.s3.byte_ranges import Turns

PATIENCE_SECONDS = 30.0
"""So long a person waits for a server that does not answer."""
PAUSE_SECONDS_MAX = 20.0
"""The longest wait that a server may ask for (Retry-After)."""
T = TypeVar("T")
U = TypeVar("U")


def pause_seconds(attempt: int, error: StoreError, jitter: float) -> float:
    """How long to wait after a failed try: as `backoff_seconds` says, and as long as the server asks, up to half as
    long again. So those that were refused together do not come back together.
    """
    return max(min(error.retry_after * (1 + jitter / 2), PAUSE_SECONDS_MAX), backoff_seconds(attempt, jitter))


class Tries(Struct, frozen=True):
    """How often what may pass (5xx, SlowDown, no answer, 409) is asked for again: `count` times or, with `seconds`,
    until the first failure after them. A server whose answers are invalid is asked `count` times: it will hardly learn.
    With `count`, one that has been silent for `UNHEARD_SECONDS` is not asked again.
    """

    count: int = 8
    seconds: float = 0.0
    passing: tuple[type[StoreError], ...] = (Unavailable, Conflict)

    async def __call__(
        self, request: Callable[[], Awaitable[T]], on_error: Callable[[StoreError], None] = lambda error: None
    ) -> T:
        """The request's answer. Raises the last StoreError that may pass, or any other at once.

        `on_error` hears of each failure that is tried again.
        """
        loop = asyncio.get_running_loop()
        began, attempt, invalid = loop.time(), 0, 0
        while True:
            attempt += 1
            try:
                return await request()
            except self.passing as error:
                invalid += error.code == "MalformedAnswer"
                waited = loop.time() - began
                is_silent = isinstance(error, Unavailable) and not error.status and waited >= UNHEARD_SECONDS
                is_over = waited >= self.seconds if self.seconds else is_silent or attempt >= self.count
                if is_over or invalid >= self.count:
                    raise
                on_error(error)
                pause = pause_seconds(attempt, error, random.random())
            await asyncio.sleep(pause)


once = Tries(1)
retry = Tries()
"""For callers whose own retry would repeat much more."""
persist = Tries(seconds=300.0)
"""For callers that would lose the work of hours."""


@dataclass(slots=True)
class PacedGate:
    """Lets so much work run at once as `pace` says, fewer after SlowDown, first come, first served, and retries it.

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


async def gather_bounded(
    work: Callable[[U], Awaitable[T]], items: Iterable[U], at_once: int = 32, *, ends_early: bool = False
) -> list[T]:
    """`work` of each item, so many at once, in order.

    All are waited for. Then the first error is raised, if any. `ends_early`: the first error cancels the rest.
    """
    gate = asyncio.Semaphore(at_once)

    async def one(item: U) -> T:
        async with gate:
            return await work(item)

    return await together(*map(one, items), ends_early=ends_early)


async def together(*work: Awaitable[Any], ends_early: bool = False) -> list[Any]:
    """What all of these return, done at once, as `gather_bounded`."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        if not ends_early:
            await asyncio.gather(*tasks, return_exceptions=True)
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def promptly(work: Callable[[], Awaitable[T]], what: str, address: Callable[[], object]) -> T:
    """Wait for work that needs an answer of `what`, at most `PATIENCE_SECONDS`.

    `address`: where its requests go, for the message. In AWS Batch, where no person waits, there is
    no limit. Raises Unavailable.
    """
    if Settings.from_environment().batch_job_id:
        return await work()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await work()
    except TimeoutError:
        silence = f"nothing came from {address()} within {PATIENCE_SECONDS:.0f} s"
        raise Unavailable("read", what, "NoAnswer", silence) from None
