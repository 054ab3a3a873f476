"""A store within rate limits, on a clock that only waiting moves."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from typing import Any, cast

import pytest

from jobs.core.model import Attributes, ObjectRef
from jobs.core.rate_limits import RateLimits
from jobs.errors import Interrupted
from jobs.s3.gated_store import Throttle, checked
from jobs.s3.store import ABSENT, Store
from tests.doubles.memory_store import MemoryStore, Request


class Clock:
    """Seconds that pass only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def make(limits: RateLimits) -> tuple[Clock, MemoryStore, Store]:
    clock, memory = Clock(), MemoryStore(buckets=["bucket"])
    return clock, memory, Throttle(limits, clock, clock.sleep).throttled(memory)


async def test_each_request_waits_for_its_turn() -> None:
    clock, _, store = make(RateLimits(requests=10))
    for number in range(30):
        await store.put(ObjectRef("bucket", f"k{number}"), b"x", Attributes(), guard=ABSENT)
        await store.head(ObjectRef("bucket", f"k{number}"))
    assert clock.now == pytest.approx(5.0, abs=0.2)  # 60 requests, of which a second's were saved


async def test_bytes_count_that_are_written_and_read() -> None:
    clock, _, store = make(RateLimits(size_bytes=1000))
    await store.put(ObjectRef("bucket", "k"), bytes(4000), Attributes(), guard=ABSENT)
    assert (await store.get(ObjectRef("bucket", "k"), start=0, end=3000)).data == bytes(3000)
    await store.head(ObjectRef("bucket", "k"))  # has no bytes
    buffer = cast("bytes", bytearray(2000))  # as a stream sends its parts
    await store.put(ObjectRef("bucket", "m"), buffer, Attributes(), guard=ABSENT)
    await store.put(ObjectRef("bucket", "l"), b"last", Attributes(), guard=ABSENT)
    assert clock.now == pytest.approx(8.0)


async def test_ranges_that_are_read_at_once_are_sent_one_after_the_other() -> None:
    """Their bytes were counted when they had come, so that all of them came at once."""
    clock, memory, _ = make(RateLimits())
    sent = list[float]()

    def note(request: Request) -> Awaitable[Any]:
        sent.append(clock.now)
        return request()

    memory.hook(get=note)
    store = Throttle(RateLimits(size_bytes=1000), clock, clock.sleep).throttled(memory)

    await memory.put(ObjectRef("bucket", "k"), bytes(1000), Attributes(), guard=ABSENT)
    reads = (store.get(ObjectRef("bucket", "k"), start=0, end=1000) for _ in range(4))
    await asyncio.gather(*reads)
    assert sent == sorted(sent)
    assert len({round(each) for each in sent}) >= 3


async def test_a_range_beyond_the_end_costs_what_came() -> None:
    clock, _, store = make(RateLimits(size_bytes=1000))
    await store.put(ObjectRef("bucket", "k"), b"x", Attributes(), guard=ABSENT)
    for _ in range(100):
        assert (await store.get(ObjectRef("bucket", "k"), start=0, end=900)).data == b"x"
    assert clock.now < 2.0


async def test_a_permission_to_delete_is_asked_for_after_the_wait_and_no_limit_is_no_layer() -> None:
    clock, memory, _ = make(RateLimits())
    asked = list[float]()

    async def check() -> float:
        asked.append(clock.now)
        return math.inf

    throttle = Throttle(RateLimits(requests=1), clock, clock.sleep)
    store = throttle.throttled(checked(memory, check))

    sent = list[float]()
    for number in range(4):
        await store.delete(ObjectRef("bucket", f"k{number}"))
        sent.append(clock.now)
    assert asked == sent == pytest.approx([0, 0, 1, 2])
    assert Throttle(RateLimits()).throttled(memory) is memory


@pytest.mark.parametrize("heeds", [True, False])
def test_what_a_store_says_of_its_server_passes_both_layers(heeds: bool) -> None:
    memory = MemoryStore()
    memory.heeds_conditions = heeds

    async def check() -> float:
        raise AssertionError("nothing is deleted")

    assert checked(memory, check).heeds_conditions is heeds
    assert Throttle(RateLimits(requests=1)).throttled(memory).heeds_conditions is heeds


async def test_what_cleans_up_is_sent_after_a_stop_and_what_has_its_turn_as_well() -> None:
    clock, memory, _ = make(RateLimits())
    throttle = Throttle(RateLimits(requests=2), clock, clock.sleep)
    store = throttle.throttled(memory)

    await memory.put(ObjectRef("bucket", "k"), b"x", Attributes(), guard=ABSENT)
    upload = await store.create_multipart(ObjectRef("bucket", "large"), Attributes())
    throttle.stop()
    await store.head(ObjectRef("bucket", "k"))  # its turn comes at once
    await store.head(ObjectRef("bucket", "k"))
    for _ in range(2):
        with pytest.raises(Interrupted, match="turn"):
            await store.head(ObjectRef("bucket", "k"))
    await store.abort_multipart(upload)
    assert memory.uploads("bucket") == []
    assert clock.now == 0.0
