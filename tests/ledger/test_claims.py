"""Claims by several at once, by one again, and later."""

from __future__ import annotations

import asyncio

import pytest

from jobs.core.model import Location
from jobs.ledger.claims import CLAIM_SECONDS, claim
from tests.doubles.lost_answers import LostAnswers
from tests.doubles.memory_store import MemoryStore


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


async def test_of_many_at_once_one_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.s3.retries.backoff_seconds", lambda attempt, jitter: 0.0)
    scene = Scene()
    scene.store.hook(put=LostAnswers(3))
    assert sum(await asyncio.gather(*(scene.claim(str(number)) for number in range(8)))) == 1


@pytest.mark.parametrize(("age_seconds", "is_ours"), [(CLAIM_SECONDS - 1, False), (CLAIM_SECONDS, True)])
async def test_it_is_taken_over_after_a_while(age_seconds: float, is_ours: bool) -> None:
    scene = Scene()
    assert await scene.claim("a")
    scene.now += age_seconds
    assert await scene.claim("b") is is_ours
    assert await scene.claim("a") is not is_ours  # the one before comes back


async def test_of_many_who_take_over_one_has_it() -> None:
    scene = Scene()
    await scene.claim("a")
    scene.now += CLAIM_SECONDS
    assert sum(await asyncio.gather(*(scene.claim(str(number)) for number in range(8)))) == 1
