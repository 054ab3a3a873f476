"""A source that changes while its events are handled, at any time, and what must be true at the end."""

from __future__ import annotations

import asyncio
import itertools
import random
from dataclasses import dataclass, field
from typing import Any

from jobs.core.model import Attributes, Location, ObjectVersion, Route
from jobs.errors import Conflict, StoreError, Unavailable
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.store import UNGUARDED
from jobs.sync.key import KeyResult, Sides, SyncOptions, sync_key
from tests.doubles.memory_store import MemoryStore, Request

KEY = "k"
ROUTE = Route(Location("source"), Location("hot", "copies/"))
COPY = "copies/k"


Content = tuple[bytes, dict[str, str]] | None
"""Bytes and metadata of a version. None: a delete marker."""


def make_store(*, versioned: bool = True, step_seconds: float = 400.0, **options: Any) -> MemoryStore:
    """Each look at the clock moves it on by minutes, so that time says what it can."""
    seconds = itertools.count(1e9, step_seconds)
    store = MemoryStore(clock=lambda: next(seconds), minimum_part_bytes=1, **options)
    store.create_bucket("source", versioned)
    store.create_bucket("hot")
    return store


def disturb(store: MemoryStore, chance: random.Random, failing: float) -> None:
    """Requests are delayed by chance, and some are lost before or after they were done."""

    async def pause(lost: StoreError) -> None:
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        if chance.random() < failing:
            raise lost

    async def trouble(request: Request) -> Any:
        await pause(Unavailable(request.operation, KEY, "InternalError", "injected", 500))
        answer = await request()
        await pause(Unavailable(request.operation, KEY, "ConnectionClosed", "injected", 0))
        return answer

    store.hook(every=trouble)


def contents(store: MemoryStore, bucket: str = "hot", key: str = COPY) -> list[Content]:
    """Of all versions, the oldest first."""
    return [
        None if each.is_delete_marker else (each.data, dict(each.attributes.metadata))
        for each in store.stored(bucket, key)
    ]


def current(store: MemoryStore, bucket: str = "hot", key: str = COPY) -> Content:
    return (contents(store, bucket, key) or [None])[-1]


async def settle(store: MemoryStore, *rows: ObjectVersion, **options: Any) -> KeyResult:
    """Do what the function does with the events of a key."""
    chosen = SyncOptions(**{"all_versions": True, "compares_tags": True, **options})
    return await sync_key(Sides(store, store, ROUTE, chosen, ByteBudget(1 << 20)), KEY, rows, is_event=True)


@dataclass(frozen=True)
class Put:
    body: bytes
    colour: str


@dataclass(frozen=True)
class Delete:
    pass


@dataclass(frozen=True)
class Remove:
    """Remove the n-th version that is there, for good."""

    place: int


@dataclass
class Event:
    """`row` None: the key was deleted in some way."""

    row: ObjectVersion | None


@dataclass
class World:
    store: MemoryStore
    mirrors: bool
    rows: dict[str, tuple[bytes, dict[str, str]]] = field(default_factory=dict)

    async def do(self, act: Put | Delete | Remove) -> Event | None:
        store = self.store
        if isinstance(act, Put):
            metadata = {"colour": act.colour}
            written = await MemoryStore.put(
                store, "source", KEY, act.body, Attributes(metadata=metadata), guard=UNGUARDED
            )
            assert written.version_id is not None
            self.rows[written.version_id] = (act.body, metadata)
            return Event(ObjectVersion(0, KEY, written.version_id, size_bytes=len(act.body), etag=written.etag))
        versions = store.stored("source", KEY)
        if isinstance(act, Delete):
            await MemoryStore.delete(store, "source", KEY)
        elif versions:
            await MemoryStore.delete(store, "source", KEY, version_id=versions[act.place % len(versions)].version_id)
        return Event(None)

    async def handle(self, event: Event) -> KeyResult | None:
        """As the handler does: tried again after what may pass, and a delete is nothing where deletes are retained."""
        if event.row is None and not self.mirrors:
            return None
        while True:
            try:
                rows = [event.row] if event.row else []
                return await settle(self.store, *rows, mirrors_deletes=self.mirrors)
            except (Unavailable, Conflict):
                continue

    def check(self, missing: set[str], *, removed: bool) -> None:
        stored = contents(self.store)
        there = {each.version_id for each in self.store.stored("source", KEY)}
        # The copy of a removed version of equal bytes passes for it, with other metadata, until a verification.
        removed_versions = [content for version_id, content in self.rows.items() if version_id not in there]
        passing = {content[0] for content in removed_versions}
        for version_id, content in self.rows.items():
            if version_id not in missing:
                has_bytes = content[0] in passing and content[0] in [each[0] for each in stored if each]
                assert content in stored or has_bytes, f"{content} is lost: {stored}"
        assert not missing & there, "what is there was called missing"
        if self.mirrors:
            on_top, newest = current(self.store), current(self.store, "source", KEY)
            is_passing = on_top and newest and on_top[0] == newest[0] and on_top in removed_versions
            assert on_top == newest or is_passing
        elif not removed:
            newest = list(self.rows.values())[-1] if self.rows else None
            assert current(self.store) == newest
