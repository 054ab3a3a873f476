"""Claims by several at once, by one again, and later."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Generator
from typing import Any

import pytest

from jobs.core.model import Location
from jobs.ledger.claims import CLAIM_SECONDS, claim
from tests.doubles.lost_answers import LostAnswers
from tests.doubles.memory_store import MemoryStore, Request


class Scene:
    def __init__(self) -> None:
        self.now = 1_000.0
        self.store = MemoryStore(clock=lambda: self.now)
        self.store.create_bucket("ledger")

    async def claim(self, who: str, name: str = "nights/pair/claims") -> bool:
        return await claim(self.store, Location("ledger", "x/"), name, {"job": who})


async def test_the_first_one_has_it_also_when_it_asks_again() -> None:
    scene = Scene()
    assert [await scene.claim(who) for who in ("a", "b", "a")] == [True, False, True]
    assert await scene.claim("b", name="nights/other/claims")


@pytest.mark.parametrize("is_old", [False, True])
async def test_of_many_at_once_one_has_it(monkeypatch: pytest.MonkeyPatch, *, is_old: bool) -> None:
    monkeypatch.setattr("jobs.s3.retries.backoff_seconds", lambda attempt, jitter: 0.0)
    scene = Scene()
    if is_old:
        await scene.claim("a")
        scene.now += CLAIM_SECONDS
    scene.store.hook(put=LostAnswers(3))
    assert sum(await asyncio.gather(*(scene.claim(str(number)) for number in range(8)))) == 1


@pytest.mark.parametrize(("age_seconds", "is_ours"), [(CLAIM_SECONDS - 1, False), (CLAIM_SECONDS, True)])
async def test_it_is_taken_over_after_a_while(age_seconds: float, is_ours: bool) -> None:
    scene = Scene()
    assert await scene.claim("a")
    scene.now += age_seconds
    assert await scene.claim("b") is is_ours
    assert await scene.claim("a") is not is_ours  # the one before comes back


class Turn:
    """A request that waits for its turn."""

    def __await__(self) -> Generator[None, None, None]:
        yield


@pytest.mark.parametrize("is_old", [False, True], ids=["nobody had it", "the dead had it"])
@pytest.mark.parametrize("sleeps_at", [None, 1, 3, 5])
async def test_in_whatever_order_two_ask_one_has_it_at_a_time(is_old: bool, sleeps_at: int | None) -> None:
    """Each order of the requests of two deliveries of one event, each of which ends at any of its requests. Before one
    request a quarter of an hour passes, in which the first one's job may have ended.
    """

    async def wait(request: Request) -> Any:
        await Turn()
        return await request()

    orders = sorted(set(itertools.permutations("aaaabbbb")))
    ends = [(requests, 4) for requests in range(5)] + [(4, requests) for requests in range(4)]
    for order, lives in itertools.product(orders, ends):
        scene, had = Scene(), list[tuple[str, float]]()
        if is_old:
            await scene.claim("the dead")
            scene.now += CLAIM_SECONDS
        scene.store.hook(every=wait)
        steps, left = {who: scene.claim(who) for who in "ab"}, dict(zip("ab", lives, strict=True))
        for at, who in enumerate(order):
            scene.now += CLAIM_SECONDS if at == sleeps_at else 1.0
            if who in steps and left[who]:
                left[who] -= 1
                try:
                    steps[who].send(None)
                except StopIteration as ended:
                    del steps[who]
                    if ended.value:
                        had.append((who, scene.now))
        for other in steps.values():
            other.close()
        files = scene.store._buckets.named["ledger"].versions.values()
        claims = sorted(versions[0].last_modified for versions in files)
        apart = [later - earlier for earlier, later in itertools.pairwise(claims)]
        assert all(seconds >= CLAIM_SECONDS for seconds in apart), (order, lives, claims)
        assert len(had) <= len(claims) - is_old, (order, lives, had)
        if sleeps_at is None and lives == (4, 4):
            assert len(had) == 1, (order, had)
