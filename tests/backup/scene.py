"""A source that changes while its events are handled, at any time, and what must be true at the end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from jobs.backup.job import Backup, BackupOptions, KeyResult
from jobs.core.model import Attributes, Listed, Location, ObjectRef, ObjectVersion, Route
from jobs.errors import Conflict, StoreError, Unavailable
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.store import UNGUARDED
from tests.doubles.memory_store import MemoryStore

KEY = "k"
ROUTE = Route(Location("source"), Location("hot", "copies/"))
COPY = "copies/k"


class Ticking(MemoryStore):
    """Each look at the clock moves it on by minutes, so that time says what it can. Requests may be delayed and fail.

    `meanwhile` happens just before the next copy reaches the server.
    """

    def __init__(self, *, versioned: bool = True, step_seconds: float = 400.0) -> None:
        self.now, self.step_seconds = 1e9, step_seconds
        super().__init__(clock=self._tick, minimum_part_bytes=1)
        self.create_bucket("source", versioned=versioned)
        self.create_bucket("hot")
        self.random: random.Random | None = None
        self.failing = 0.0
        self.meanwhile: Callable[[], Awaitable[Any]] | None = None
        self.requests: list[str] = []

    def _tick(self) -> float:
        self.now += self.step_seconds
        return self.now

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in ("head", "get", "copy", "delete", "list_versions", "get_tags"):
            return found

        async def call(*arguments: Any, **named: Any) -> Any:
            self.requests.append(name)
            if name == "copy" and self.meanwhile is not None:
                work, self.meanwhile = self.meanwhile, None
                await work()
            if self.random is not None:
                for _ in range(self.random.randrange(4)):
                    await asyncio.sleep(0)
                if self.random.random() < self.failing:
                    raise Unavailable(name, KEY, "InternalError", "injected", 500)
            answer = await found(*arguments, **named)
            if self.random is not None:
                for _ in range(self.random.randrange(4)):
                    await asyncio.sleep(0)
                if self.random.random() < self.failing:  # it was done, but the answer is lost
                    raise Unavailable(name, KEY, "ConnectionClosed", "injected", 0)
            return answer

        return call

    async def body(self, bucket: str, key: str, version: str | None = None) -> tuple[bytes, dict[str, str]] | None:
        try:
            body = await MemoryStore.get(self, ObjectRef(bucket, key, version))
        except StoreError:
            return None
        return body.data, dict(body.info.attributes.metadata)

    async def copies(self) -> list[tuple[bytes, dict[str, str]] | None]:
        return [await self.body("hot", COPY, entry.version_id) for entry in await history(self, "hot", COPY)]


async def history(store: MemoryStore, bucket: str, key: str) -> list[Listed]:
    found = (await MemoryStore.list_versions(store, bucket, key)).entries
    return [entry for entry in found if entry.key == key][::-1]


def backup(store: MemoryStore, **options: Any) -> Backup:
    return Backup(store, store, ROUTE, BackupOptions(**options), ByteBudget(1 << 20))


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
    store: Ticking
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
        versions = await history(store, "source", KEY)
        if isinstance(act, Delete):
            await MemoryStore.delete(store, "source", KEY)
        elif versions:
            await MemoryStore.delete(store, "source", KEY, version_id=versions[act.place % len(versions)].version_id)
        return Event(None)

    async def handle(self, event: Event) -> KeyResult | None:
        """As the handler does: tried again after what may pass, and a delete is nothing where deletes are retained."""
        job = backup(self.store, mirrors_deletes=self.mirrors)
        if event.row is None and not self.mirrors:
            return None
        while True:
            try:
                return await job.settle(KEY, [event.row] if event.row else [])
            except (Unavailable, Conflict):
                continue

    async def check(self, missing: set[str], *, removed: bool) -> None:
        stored = await self.store.copies()
        for version_id, content in self.rows.items():
            if version_id not in missing:
                assert content in stored, f"{content} is lost: {stored}"
        there = {entry.version_id for entry in await history(self.store, "source", KEY)}
        assert not missing & there, "what is there was called missing"
        current, copy = await self.store.body("source", KEY), await self.store.body("hot", COPY)
        if self.mirrors:
            assert copy == current
        elif not removed:
            newest = list(self.rows.values())[-1] if self.rows else None
            assert copy == newest


async def put(store: MemoryStore, body: bytes, **attributes: Any) -> ObjectVersion:
    written = await store.put("source", KEY, body, Attributes(**attributes), guard=UNGUARDED)
    return ObjectVersion(0, KEY, written.version_id, size_bytes=len(body), etag=written.etag)


def run(work: Any) -> Any:
    return asyncio.run(work)
