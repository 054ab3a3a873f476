"""Stores that look or wait before a request (at what it would replace, for the permission to delete, for their turn),
or do not wait long for its answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Set
from contextlib import suppress
from functools import partial
from typing import Any, cast

from jobs.core.model import ObjectInfo, ObjectRef
from jobs.core.rate_limits import RateLimits, TokenBucket
from jobs.errors import Conflict, Interrupted, PreconditionFailed, Rejected, StoreError, Unavailable
from jobs.s3.lookup import find
from jobs.s3.operations import BY_CALL, Effect, Operation
from jobs.s3.retries import once, retry
from jobs.s3.store import UNGUARDED, Body, Store

Send = Callable[..., Awaitable[Any]]
_DELETES = frozenset(each for each in Operation if each.effect is Effect.DELETES)
_ALL = frozenset(BY_CALL.values())
_CONDITIONAL = frozenset({Operation.PUT, Operation.COPY, Operation.COPY_PART, Operation.COMPLETE, Operation.DELETE})
_UNVERSIONED = (
    "the server ignores conditions, and the bucket keeps no versions: a newer object could be lost. "
    "Enable versioning at the destination, or remove the object there first"
)


def checked(store: Store, check: Callable[[], Awaitable[float]]) -> Store:
    """The store, with `check` before each delete. It returns the moment by which the delete has to be sent."""

    async def delete(_: Operation, send: Send, *arguments: Any, send_by: float | None = None, **named: Any) -> Any:
        checked_by = await check()
        return await send(*arguments, **named, send_by=checked_by if send_by is None else min(send_by, checked_by))

    return cast(Store, _Gated(store, _DELETES, delete))


def looking_first(store: Store, ignored: Collection[str]) -> Store:
    """The store, with a look before each write by an operation whose conditions the server ignores, where the user
    agreed to that (`--unguarded`). What others write between look and write can be lost, or copied in part.

    A source that has its ETag before and after a copy is what was copied. Runs that copy make delete markers, and
    their plans do not try the condition of that, so what a delete expects is always looked at.
    """

    async def write(operation: Operation, send: Send, *arguments: Any, **named: Any) -> Any:
        look, is_ignored = partial(_demand, store, operation), operation in ignored
        is_copy, is_part = operation is Operation.COPY, operation is Operation.COPY_PART
        source, source_etag = arguments[:2] if is_ignored and (is_copy or is_part) else (None, None)
        ref = arguments[2] if is_copy else getattr(arguments[0], "place", arguments[0])
        if operation is Operation.DELETE and named.get("if_match") is not None:
            await look(ref, named["if_match"])
        if is_copy and source_etag is not None:
            await look(source, source_etag)
        if is_ignored and (guard := named.get("guard", UNGUARDED)) != UNGUARDED:
            if await look(ref, guard.etag) and not await store.is_versioned(ref.bucket):
                raise Rejected(operation, str(ref), "ConditionsIgnored", _UNVERSIONED, 400)
            named["guard"] = UNGUARDED
        answer = await send(*arguments, **named)
        if source_etag is not None and (is_part or source[:2] != ref[:2]):
            await look(source, source_etag)
        return answer

    return cast(Store, _Gated(store, _CONDITIONAL, write))


async def _demand(store: Store, operation: Operation, ref: ObjectRef, etag: str | None) -> ObjectInfo | None:
    """What is there. Raises what the server would answer to a condition that does not hold."""
    there = await find(store, ref)
    if (there.etag if there else None) != etag:
        what = f"it has the ETag {there.etag}" if there else "nothing is there"
        raise PreconditionFailed(operation, str(ref), "PreconditionFailed", what, 412)
    return there


class NoAnswer(StoreError):
    """No answer came in time, however often a request was sent. Nobody sends it again."""

    advice = Unavailable.advice


def patient(store: Store, seconds: float) -> Store:
    """The store, for reads. Each ends within `seconds` with all its tries, else raises NoAnswer."""

    async def read(operation: Operation, send: Send, *arguments: Any, **named: Any) -> Any:
        tries = once if operation is Operation.GET_ANNOTATION else retry  # its callers learn from its errors
        try:
            async with asyncio.timeout(seconds):
                return await tries(lambda: send(*arguments, **named))
        except (Unavailable, Conflict) as error:
            raise (error if tries is once else error.recast(NoAnswer)) from None
        except TimeoutError:
            target = str(next(iter((*arguments, *named.values())), ""))
            raise NoAnswer(operation, target, "NoAnswer", f"nothing came within {seconds:g} s") from None

    return cast(Store, _Gated(store, _ALL, read))


class _Gated:
    """The Store protocol, where `around` sends the requests of these operations."""

    def __init__(self, store: Store, gated: Set[Operation], around: Callable[..., Awaitable[Any]]):
        self._store, self._gated, self._around = store, gated, around

    def __getattr__(self, name: str) -> Any:
        value, operation = getattr(self._store, name), BY_CALL.get(name)
        if operation in self._gated:
            return partial(self._around, operation, value)
        if operation is not None:
            setattr(self, name, value)  # found once
        return value


class Throttle:
    """The turns of one worker's requests, within its rate limits."""

    def __init__(
        self,
        limits: RateLimits,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ):
        self._clock, self._sleep = clock, sleep
        self._requests, self._bytes = (None if limit is None else TokenBucket(limit) for limit in limits)
        self._waiting = set[asyncio.Timeout]()
        self._is_stopped = False

    def stop(self) -> None:
        """Refuse each turn that does not come at once: the worker stops before that.

        What cleans up waits no longer either, but is sent.
        """
        if not self._is_stopped:
            self._is_stopped = True
            for turn in self._waiting:
                turn.reschedule(0.0)

    async def wait(self, requests: int, size_bytes: int) -> None:
        """Return when so many requests may be sent, and so many bytes written or read.

        Raises Interrupted after `stop`.
        """
        now = self._clock()
        waits = [
            bucket.take(count, now)
            for bucket, count in ((self._requests, requests), (self._bytes, size_bytes))
            if bucket is not None and count
        ]
        if (seconds := max(waits, default=0.0)) > 0:
            await self._wait_for_turn(seconds)

    async def _wait_for_turn(self, seconds: float) -> None:
        why = f"the worker stops, and a request would have waited {seconds:.1f} s for its turn"
        if self._is_stopped:
            raise Interrupted(why)
        turn = asyncio.timeout(None)
        self._waiting.add(turn)
        try:
            async with turn:
                await self._sleep(seconds)
        except TimeoutError as error:
            raise Interrupted(why) from error
        finally:
            self._waiting.discard(turn)

    def throttled(self, store: Store) -> Store:
        """The store, each of whose requests waits for its turn. It goes around `checked`: a delete
        is sent at once after its check.

        What a store adds by itself is not counted: retries, and looks before conditional writes.
        """
        if self._requests is None and self._bytes is None:
            return store
        return cast(Store, _Gated(store, _ALL, self._send))

    async def _send(self, operation: Operation, send: Send, *arguments: Any, **named: Any) -> Any:
        if operation.effect is Effect.CLEANS:
            with suppress(Interrupted):  # it waits no longer after `stop`, but is sent
                await self.wait(1, 0)
            return await send(*arguments, **named)
        values = (*arguments, *named.values())
        written = sum(len(value) for value in values if isinstance(value, bytes | bytearray | memoryview))
        asked = max(0, (named.get("end") or 0) - named.get("start", 0))  # of a ranged read
        await self.wait(1, written + asked)
        answer = await send(*arguments, **named)
        if isinstance(answer, Body) and self._bytes is not None:  # the next request waits for what is beyond
            self._bytes.take(len(answer.data) - asked, self._clock())
        return answer
