"""Hooks for MemoryStore: requests that are refused, seen, or preceded by what others do; and processes that die."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jobs.s3.store import UNGUARDED
from tests.doubles.memory_store import Hook, MemoryStore, Request


class Killed(BaseException):
    """The process is gone: no request goes out, and nothing is cleaned up."""


def watch(store: MemoryStore) -> list[Request]:
    """The requests from now on, also those that other hooks refuse."""
    requests: list[Request] = []

    async def see(request: Request) -> Any:
        requests.append(request)
        return await request()

    store.hook(every=see)
    return requests


def names(requests: list[Request]) -> list[str]:
    return [request.operation for request in requests]


def refuse(error: BaseException, where: Callable[[Request], bool] = lambda request: True) -> Hook:
    """The requests `where` says so fail."""

    async def fail(request: Request) -> Any:
        if where(request):
            raise error
        return await request()

    return fail


async def hang(request: Request) -> Any:
    """A server that never answers."""
    await asyncio.Event().wait()


async def ignore_guards(request: Request) -> Any:
    """A server that ignores conditions on what a write replaces."""
    request.arguments["guard"] = UNGUARDED
    return await request()


def once(act: Callable[[], Awaitable[Any]], where: Callable[[Request], bool] = lambda request: True) -> Hook:
    """`act` happens just before the first of the requests `where` says so. It may raise."""
    left = [act]

    async def meddle(request: Request) -> Any:
        if left and where(request):
            await left.pop()()
        return await request()

    return meddle


async def kill(store: MemoryStore, operation: str, number: int, work: Awaitable[Any]) -> None:
    """Do the work of a process that is gone when it sends its request `number` of this operation, and ever after."""
    left = number

    async def die(request: Request) -> Any:
        nonlocal left
        left -= request.operation == operation
        if left <= 0:
            raise Killed
        return await request()

    store.hook(every=die)
    with pytest.raises(Killed):
        await work
    store.hook(every=None)


def nth(number: int) -> Callable[[Request], bool]:
    """True of the request that is asked about as number `number`, from 1."""
    count = itertools.count(1)
    return lambda request: next(count) == number
