"""Expiry beside one other actor: at each request of a run, everything that can happen to its two objects happens once.

It happens at once, during a nap of a minute, or the worker is killed and the run goes on after it. Whatever came before
the look that a delete relies on, the bytes were in a copy at that look, and no object's last bytes go.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any

import pytest

from jobs.core import elapsed
from jobs.core.enums import Step
from jobs.core.model import Attributes, Location, ObjectRef, ObjectVersion
from jobs.core.outcome import Status
from jobs.core.run import Side
from jobs.errors import SealiftError
from jobs.expire import job
from jobs.expire.job import FRESH_SECONDS, Expire
from jobs.expire.places import PlaceDocument, look_again, read_places
from jobs.expire.rules import CopyAt, Terms
from jobs.expire.undo import unhide
from jobs.ledger.tombstones import Tombstone, Tombstones
from tests.doubles.hooks import Killed
from tests.doubles.memory_store import Request
from tests.expire.scene import DAY, LEDGER, PLACES, opened, replica, row_of, shop

KEYS = ("a", "b")
PLACE = PlaceDocument(id=f"{1:032x}", rank=1).key("")
NAP_SECONDS = 60.0
STEPS = ("at once", "nap", "kill")


class World:
    """Originals in `docs`, copies in `copies`, and copies of those in `cold`. A run expires either of the first two."""

    def __init__(self, versioned: bool, hidden: bool) -> None:
        self.store = shop(versioned=versioned)
        self.buckets = self.store._buckets
        for key in KEYS:
            replica(self.store, self.store.put_now("docs", key, key.encode() * 3))
            self.store.put_now("cold", key, key.encode() * 3)
        self.rows = {bucket: self._rows(bucket) for bucket in ("docs", "copies")}
        if hidden:
            for key in KEYS:
                asyncio.run(self.store.delete(ObjectRef("docs", key)))
        self.store.now += 31 * DAY
        self.seconds, self.requests, self.stops_at = 0.0, 0, 0
        self.event: Callable[[World], Awaitable[Any]] = EVENTS["nothing"]
        self.step = STEPS[0]
        self.looks: list[tuple[float, dict[tuple[str, str], set[bytes]]]] = []
        """When, and what readers got then, by bucket and key."""
        self.problems: list[str] = []
        self.store.hook(every=self._request)

    def _rows(self, bucket: str) -> list[ObjectVersion]:
        following = PLACES[PLACES.index(bucket) + 1]
        refs = [ObjectRef(bucket, key, self.buckets.named[bucket].versions[key][0].version_id) for key in KEYS]
        return [row_of(self.store, place, ref, CopyAt(following, ref.key)) for place, ref in enumerate(refs)]

    def _all(self, bucket: str, key: str) -> list[Any]:
        return [each for each in self.buckets.named[bucket].versions.get(key, []) if not each.is_delete_marker]

    def _top(self, bucket: str, key: str) -> set[bytes]:
        tops = self.buckets.named[bucket].versions.get(key, [])[-1:]
        return {each.data for each in tops if not each.is_delete_marker}

    async def _request(self, request: Request) -> Any:
        self.requests += 1
        self.seconds += 0.01
        if self.requests == self.stops_at:
            if self.step == "nap":
                self.seconds += NAP_SECONDS
            await self.event(self)
            if self.step == "kill":
                raise Killed
        self.looks.append((self.seconds, {(each, key): self._top(each, key) for each in PLACES for key in KEYS}))
        if not request.operation.startswith("delete") or request.place.bucket not in self.rows:
            return await request()
        bucket = request.place.bucket
        before = {key: (self._all(bucket, key), self._top(bucket, key)) for key in KEYS}
        answer = await request()
        for key, (versions, top) in before.items():
            gone = {each.data for each in versions if all(each is not other for other in self._all(bucket, key))}
            for data in gone | (top - self._top(bucket, key)):
                self._demand_copy(bucket, key, data)
        return answer

    def _demand_copy(self, bucket: str, key: str, data: bytes) -> None:
        following, since = PLACES[PLACES.index(bucket) + 1], self.seconds - FRESH_SECONDS - 0.05
        if self.event is EVENTS["copy rots"]:  # only a read shows that, and a HEAD is the later look
            since = 0.0
        if not any(data in there[following, key] for at, there in self.looks if at >= since):
            self.problems.append(f"{bucket}/{key} went, and {following} had no copy of it in these {FRESH_SECONDS} s")

    async def expire(self, bucket: str, grace_days: float = 30) -> list[Status]:
        """One attempt of the run over a bucket."""

        store, following = self.store, Location(PLACES[PLACES.index(bucket) + 1])
        sides = Side(Location(bucket)), Side(following)
        origin, others = await read_places(store, store, *sides, [following], 0.0, lambda: store.now)
        terms = Terms(math.inf, grace_days * DAY, await store.is_versioned(bucket), [following])
        look = partial(look_again, store, store, [origin, *others], False)
        run = Expire(opened(store, bucket, 1 << 20), look, self.tombstones(bucket), terms, lambda: store.now)
        return [each.status for each in await run.process(self.rows[bucket])]

    async def end(self) -> list[Status]:
        """All attempts of the run, until one ends."""
        for _ in range(5):
            try:
                return await self.expire("docs")
            except (Killed, SealiftError):
                continue
        return []

    async def forge(self) -> None:
        """Somebody writes into the ledger that the run has hidden all, and names versions as its markers."""
        self.stops_at = 0
        stones = [
            Tombstone(
                *(row.row, row.key, row.version_id, str(row.etag), 3, self.store.now, Step.HIDE, "s3://cold/no"),
                *(None, None, "sha256", row.version_id, self.store.now),
            )
            for row in self.rows["docs"]
        ]
        forged = self.tombstones("docs")
        await forged.confirm(await forged.announce(stones), stones)

    def lose(self, *, count: int) -> None:
        """So many of the newest objects of the ledger are gone."""
        there = self.buckets.named["ledger"].versions
        for key in list(there)[-count:]:
            del there[key]

    def alter(self) -> None:
        """The ledger's objects are whatever."""
        for versions in self.buckets.named["ledger"].versions.values():
            versions[-1].data = b"PAR1"

    def tombstones(self, bucket: str) -> Tombstones:
        return Tombstones(self.store, LEDGER, bucket, f"run-{bucket}")

    def undo(self) -> None:
        """It takes no version away."""
        before = [len(self._all("docs", key)) for key in KEYS]
        self.stops_at = 0
        asyncio.run(unhide(self.store, self.tombstones("docs")))
        assert before == [len(self._all("docs", key)) for key in KEYS]

    def write(self, bucket: str, data: bytes) -> None:
        """Somebody writes `a`."""
        etag = hashlib.md5(data).hexdigest()
        self.buckets.write(ObjectRef(bucket, "a"), data, etag, Attributes(), ())

    def remove(self, bucket: str, *, for_good: bool) -> None:
        """Somebody removes `a`."""
        versions = self._all(bucket, "a")
        if versions:
            self.buckets.remove(ObjectRef(bucket, "a", versions[-1].version_id if for_good else None))

    async def beside(self, bucket: str) -> None:
        """Another attempt, or another run, from its beginning to its end."""
        self.stops_at = 0
        with suppress(SealiftError):  # it refuses what it finds
            await self.expire(bucket)


def _does(act: Callable[[World], Any]) -> Callable[[World], Awaitable[Any]]:
    async def do(world: World) -> None:
        act(world)

    return do


EVENTS: dict[str, Callable[[World], Awaitable[Any]]] = {
    "nothing": _does(lambda world: None),
    "copy removed": _does(lambda world: world.remove("copies", for_good=True)),
    "copy hidden": _does(lambda world: world.remove("copies", for_good=False)),
    "copy rots": _does(lambda world: world.store.rot("copies", "a", b"???") if world._top("copies", "a") else None),
    "copy written over": _does(lambda world: world.write("copies", b"other")),
    "original written again": _does(lambda world: world.write("docs", b"aaa")),
    "original written over": _does(lambda world: world.write("docs", b"newer")),
    "original removed": _does(lambda world: world.remove("docs", for_good=True)),
    "original hidden": _does(lambda world: world.remove("docs", for_good=False)),
    "place removed": _does(lambda world: world.buckets.remove(ObjectRef("copies", PLACE))),
    "copies expire": lambda world: world.beside("copies"),
    "another attempt": lambda world: world.beside("docs"),
    "ledger absent": _does(lambda world: world.lose(count=99)),
    "ledger rolled back": _does(lambda world: world.lose(count=1)),
    "ledger altered": _does(lambda world: world.alter()),
    "ledger forged": lambda world: world.forge(),
}


def play(world: World, event: str, step: str, stops_at: int, monkeypatch: pytest.MonkeyPatch) -> list[Status]:
    world.event, world.step, world.stops_at = EVENTS[event], step, stops_at
    for module in (elapsed, job):
        monkeypatch.setattr(module, "elapsed_seconds", lambda: world.seconds)
    return asyncio.run(world.end())


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(each, marks=pytest.mark.slow) if each in ("ledger absent", "ledger rolled back") else each
        for each in EVENTS
    ],
)
@pytest.mark.parametrize(
    ("versioned", "hidden"),
    [(True, False), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((True, True), (False, False)))],
)
def test_no_last_copy_goes_whatever_happens_beside_a_run(
    event: str, versioned: bool, hidden: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = 0
    for step in STEPS:
        for stops_at in count(1):
            world = World(versioned, hidden)
            statuses = play(world, event, step, stops_at, monkeypatch)
            assert not world.problems, (step, stops_at, world.problems)
            is_over = world.stops_at and world.requests < stops_at
            everywhere = {each.data for bucket in PLACES for each in world._all(bucket, "b")}
            assert b"bbb" in everywhere, (step, stops_at)
            if event.startswith("ledger"):
                world.undo()
            if event in ("nothing", "another attempt"):  # what is proven goes, once
                assert not world._top("docs", "a")
            if event == "nothing":
                assert statuses == [Status.DONE, Status.DONE], (step, stops_at)
            if is_over:
                break
            played += 1
    assert played > 3 * 20
