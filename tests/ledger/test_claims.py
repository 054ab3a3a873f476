"""Claims by several at once, by one again, and over the dead."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from jobs.core.model import Location
from jobs.ledger.claims import CLAIM_SECONDS, claim
from tests.doubles.lost_answers import LostAnswers
from tests.doubles.memory_store import MemoryStore

PLACE = Location("ledger", "x/")


@dataclass
class Scene:
    now: float = 1_000.0
    dead: bool = False
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = MemoryStore(clock=lambda: self.now)
        self.store.create_bucket("ledger")

    async def claim(self, who: str, name: str = "nights/pair/claims") -> bool:
        async def is_dead() -> bool:
            self.asked.append(who)
            return self.dead

        return await claim(self.store, PLACE, name, {"job": who}, is_dead=is_dead)


async def test_the_first_one_has_it_also_when_it_asks_again() -> None:
    scene = Scene()
    assert [await scene.claim(who) for who in ("a", "b", "a")] == [True, False, True]
    assert await scene.claim("b", name="nights/other/claims")
    assert scene.asked == []


async def test_of_many_at_once_one_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.s3.retries.backoff_seconds", lambda attempt, jitter: 0.0)
    scene = Scene()
    scene.store.hook(put=LostAnswers(3))
    assert sum(await asyncio.gather(*(scene.claim(str(number)) for number in range(8)))) == 1


@pytest.mark.parametrize(
    ("age_seconds", "dead", "is_ours"),
    [(CLAIM_SECONDS - 1, True, False), (CLAIM_SECONDS, False, False), (CLAIM_SECONDS, True, True)],
)
async def test_it_is_taken_over_after_a_while_from_the_dead_alone(
    age_seconds: float, dead: bool, is_ours: bool
) -> None:
    scene = Scene(dead=dead)
    assert await scene.claim("a")
    scene.now += age_seconds
    assert await scene.claim("b") is is_ours
    assert bool(scene.asked) is (age_seconds >= CLAIM_SECONDS)
    assert await scene.claim("a") is not is_ours  # the dead one comes back


async def test_of_many_who_take_over_one_has_it() -> None:
    scene = Scene(dead=True)
    await scene.claim("a")
    scene.now += CLAIM_SECONDS
    assert sum(await asyncio.gather(*(scene.claim(str(number)) for number in range(8)))) == 1
