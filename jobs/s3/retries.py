"""Retries of single requests, for callers whose own retry would repeat much more."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from jobs.config import Settings
from jobs.core.pace import backoff_seconds
from jobs.errors import Conflict, StoreError, Unavailable

PATIENCE_SECONDS = 30.0
"""So long a person waits for a server that does not answer."""
T = TypeVar("T")
U = TypeVar("U")

TRIES = 8
PERSIST_SECONDS = 300.0


async def retry(
    request: Callable[[], Awaitable[T]], on_error: Callable[[StoreError], None] = lambda error: None, tries: int = TRIES
) -> T:
    """The request's answer.

    What may pass (5xx, SlowDown, no answer, 409) is asked for again, with full jitter.

    `on_error` hears of each failure that is tried again. Raises the last StoreError, or any other
    at once.
    """
    for attempt in range(1, tries):
        try:
            return await request()
        except (Unavailable, Conflict) as error:
            on_error(error)
            await asyncio.sleep(backoff_seconds(attempt, random.random()))
    return await request()


async def persist(request: Callable[[], Awaitable[T]]) -> T:
    """The request's answer, for callers that would lose the work of hours.

    What may pass is asked for again for minutes, with full jitter. A server whose answers are
    invalid is asked `TRIES` times: it will hardly learn.
    """
    loop = asyncio.get_running_loop()
    ends_at, attempt, invalid = loop.time() + PERSIST_SECONDS, 0, 0
    while True:
        attempt += 1
        try:
            return await request()
        except (Unavailable, Conflict) as error:
            invalid += error.code == "MalformedAnswer"
            if loop.time() >= ends_at or invalid >= TRIES:
                raise
        await asyncio.sleep(backoff_seconds(attempt, random.random()))


async def gather_bounded(work: Callable[[U], Awaitable[T]], items: Iterable[U], at_once: int) -> list[T]:
    """`work` of each item, so many at once, in order.

    All are waited for. Then the first error is raised, if any.
    """
    gate = asyncio.Semaphore(at_once)

    async def one(item: U) -> T:
        async with gate:
            return await work(item)

    results = await asyncio.gather(*map(one, items), return_exceptions=True)
    done: list[T] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        done.append(result)
    return done


async def promptly(work: Callable[[], Awaitable[T]], what: str, address: Callable[[], str]) -> T:
    """Wait for work that needs an answer of `what`, at most `PATIENCE_SECONDS`.

    `address`: where its requests go, for the message. In AWS Batch, where no person waits, there is
    no limit. Raises Unavailable.
    """
    if Settings.from_environment().in_batch:
        return await work()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await work()
    except TimeoutError:
        raise Unavailable(
            "read",
            what,
            "NoAnswer",
            f"nothing came from {address()} within {PATIENCE_SECONDS:.0f} s",
            advice="check the endpoint and the network, then try again",
        ) from None
