"""Bounded reading: in order, within the budget, and never stuck however small it is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.core.model import Attributes, ObjectRef
from jobs.errors import PreconditionFailed, Unavailable
from jobs.s3.byte_ranges import ByteBudget, ContentSide, read_ranges
from jobs.s3.store import ABSENT, UNGUARDED
from tests.doubles.memory_store import MemoryStore, Request


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(0, 100), max_size=8),
    range_bytes=st.integers(1, 30),
    budget_bytes=st.integers(1, 60),
    copies=st.integers(1, 2),
)
def test_any_number_of_readers_finish_in_order_and_within_the_budget(
    sizes: list[int], range_bytes: int, budget_bytes: int, copies: int
) -> None:
    held = [0, 0]

    async def read(size: int, budget: ByteBudget) -> bytes:
        async def fetch(start: int, end: int) -> tuple[int, int]:
            held[0] += min((end - start) * copies, budget_bytes)
            held[1] = max(held[1], held[0])
            await asyncio.sleep(0)
            return start, end

        whole = bytearray()
        async for start, end in read_ranges(size, range_bytes, fetch, budget, copies=copies):
            assert start == len(whole)
            whole += bytes(end - start)
            await asyncio.sleep(0)
            held[0] -= min((end - start) * copies, budget_bytes)
        return bytes(whole)

    async def scene() -> None:
        budget = ByteBudget(budget_bytes)
        async with asyncio.timeout(20):
            found = await asyncio.gather(*(read(size, budget) for size in sizes))
        assert [len(whole) for whole in found] == sizes
        assert held[1] <= budget_bytes
        assert budget.try_acquire(budget_bytes) == budget_bytes, "all was given back"

    asyncio.run(scene())


async def test_a_failed_or_abandoned_read_gives_everything_back() -> None:
    async def fetch(start: int, end: int) -> int:
        if start >= 40:
            raise ConnectionError
        return start

    budget = ByteBudget(50)
    with pytest.raises(ConnectionError):
        async for _ in read_ranges(100, 10, fetch, budget):
            pass
    assert budget.try_acquire(50) == 50
    budget.release(50)
    reading = read_ranges(100, 10, fetch, budget)
    await anext(reading)
    await reading.aclose()
    assert budget.try_acquire(50) == 50


async def test_a_cancelled_wait_does_not_keep_others_waiting() -> None:
    budget = ByteBudget(10)
    await budget.acquire(10)
    first, second = (asyncio.create_task(budget.acquire(8)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    budget.release(10)
    async with asyncio.timeout(5):
        assert await second == 8


async def test_no_range_is_of_an_object_that_replaced_the_one_that_was_described() -> None:
    store, ref = MemoryStore(buckets=["b"]), ObjectRef("b", "k")
    await store.put(ObjectRef("b", "k"), b"old", Attributes(), guard=ABSENT)
    side = ContentSide(store, ref, await store.head(ref))
    assert await side.read(1, 3) == b"ld"
    await store.put(ObjectRef("b", "k"), b"new", Attributes(), guard=UNGUARDED)
    with pytest.raises(PreconditionFailed):
        await side.read(1, 3)


async def test_a_part_of_a_range_is_no_range() -> None:
    """A cache before the server may have kept a part of the object, and say so in its heads."""

    async def cut(request: Request) -> Any:
        body = await request()
        return body._replace(data=body.data[:2])

    store, ref = MemoryStore(on={"get": cut}, buckets=["b"]), ObjectRef("b", "k")
    await store.put(ObjectRef("b", "k"), b"abcdef", Attributes(), guard=ABSENT)
    side = ContentSide(store, ref, await store.head(ref))
    assert await side.read(3, 5) == b"de"
    with pytest.raises(Unavailable, match="2 of 4 came"):
        await side.read(1, 5)
