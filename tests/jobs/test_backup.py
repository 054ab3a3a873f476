"""The backup job: whatever the order, however often, however many at once, the end is the same."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.backup import Backup, BackupOptions, Progress, Settled
from jobs.core.model import Attributes, Listed, Location, ObjectRef, ObjectVersion, Route
from jobs.core.outcome import Status
from jobs.errors import ConfigError, Conflict, StoreError, Unavailable
from jobs.s3.memory import MemoryStore
from jobs.s3.store import UNGUARDED
from jobs.s3.streams import ByteBudget

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

    async def handle(self, event: Event) -> Settled | None:
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


ACTS = st.one_of(
    st.builds(Put, st.sampled_from([b"a", b"b", b"longer"]), st.sampled_from(["red", "green"])),
    st.builds(Delete),
    st.builds(Remove, st.integers(0, 5)),
)
STEPS = st.sampled_from([400.0, 0.001])


@settings(max_examples=400, deadline=None)
@given(st.lists(ACTS, max_size=7), st.booleans(), STEPS, st.data())
def test_any_order_of_events_with_duplicates_ends_alike(acts, mirrors, step_seconds, data):
    """Events are handled at any time after what they tell of, while the source goes on changing."""

    async def main() -> None:
        world = World(Ticking(step_seconds=step_seconds), mirrors)
        times = [
            sorted(data.draw(st.lists(st.integers(place, 2 * len(acts)), min_size=1, max_size=2)))
            for place in range(len(acts))
        ]
        waiting: list[tuple[int, float, Event]] = []
        missing: set[str] = set()
        removed = any(isinstance(act, Remove) for act in acts)
        for now in range(2 * len(acts) + 1):
            if now < len(acts):
                event = await world.do(acts[now])
                assert event is not None
                waiting += [(time, data.draw(st.floats(0, 1)), event) for time in times[now]]
            for _, _, event in sorted((each for each in waiting if each[0] == now), key=lambda each: each[1]):
                settled = await world.handle(event)
                if settled and event.row and settled.outcomes[0].status is Status.MISSING:
                    assert event.row.version_id is not None
                    missing.add(event.row.version_id)
        first = {event.row.version_id for _, _, event in waiting if event.row} - missing
        await world.check(set(world.rows) - first, removed=removed)

    asyncio.run(main())


@settings(max_examples=300, deadline=None)
@given(st.lists(ACTS, min_size=1, max_size=6), st.booleans(), STEPS, st.integers(0, 2**32), st.sampled_from([0, 0.1]))
def test_any_number_of_handlers_at_once_end_alike(acts, mirrors, step_seconds, seed, failing):
    """All events twice and at once, every request delayed by chance, some lost before or after they were done."""

    async def main() -> None:
        world = World(Ticking(step_seconds=step_seconds), mirrors)
        chance = random.Random(seed)
        tasks: list[asyncio.Task[Settled | None]] = []
        events: list[Event] = []
        world.store.random, world.store.failing = chance, failing
        for act in acts:
            event = await world.do(act)
            assert event is not None
            events += [event, event]
            tasks += [asyncio.create_task(world.handle(event)) for _ in range(2)]
            for _ in range(chance.randrange(30)):
                await asyncio.sleep(0)
        ended = await asyncio.gather(*tasks)
        gone: dict[str, set[bool]] = {}
        for event, settled in zip(events, ended, strict=True):
            if event.row and settled:
                assert event.row.version_id is not None
                gone.setdefault(event.row.version_id, set()).add(settled.outcomes[0].status is Status.MISSING)
        missing = {version_id for version_id, seen in gone.items() if seen == {True}}
        world.store.random = None
        await world.check(missing, removed=any(isinstance(act, Remove) for act in acts))

    asyncio.run(main())


@settings(max_examples=150, deadline=None)
@given(st.lists(st.builds(Put, st.sampled_from([b"a", b"b", b"c"]), st.just("red")), min_size=1, max_size=5), st.data())
def test_a_source_without_versions_ends_with_its_last_object_on_top(puts, data):
    async def main() -> None:
        store = Ticking(versioned=False)
        rows = []
        for put in puts:
            written = await MemoryStore.put(
                store, "source", KEY, put.body, Attributes(metadata={"colour": put.colour}), guard=UNGUARDED
            )
            rows.append(ObjectVersion(0, KEY, None, size_bytes=1, etag=written.etag))
            for row in data.draw(st.lists(st.sampled_from(rows), max_size=2)):
                await backup(store).settle(KEY, [row])
        ended = [(await backup(store).settle(KEY, [row])).outcomes[0] for row in data.draw(st.permutations(rows))]
        current = await store.body("source", KEY)
        assert await store.body("hot", COPY) == current
        for row, outcome in zip(rows, ended, strict=False):
            assert outcome.status in (Status.COPIED, Status.SAME, Status.MISSING), row

    asyncio.run(main())


async def put(store: MemoryStore, body: bytes, **attributes: Any) -> ObjectVersion:
    written = await store.put("source", KEY, body, Attributes(**attributes), guard=UNGUARDED)
    return ObjectVersion(0, KEY, written.version_id, size_bytes=len(body), etag=written.etag)


def run(work: Any) -> Any:
    return asyncio.run(work)


def test_a_new_key_costs_three_requests_and_is_proven():
    store = Ticking()
    row = run(put(store, b"body", tags={"team": "blue"}))
    store.requests.clear()
    (outcome,) = run(backup(store).process([row]))
    assert (outcome.status, outcome.evidence.value) == (Status.COPIED, "checksum")
    assert store.requests == ["head", "copy", "head"]
    assert run(store.get_tags(ObjectRef("hot", COPY))) == {"team": "blue"}


def test_a_duplicate_writes_nothing():
    store = Ticking()
    row = run(put(store, b"body"))
    run(backup(store).process([row]))
    store.requests.clear()
    (outcome,) = run(backup(store).process([row]))
    assert outcome.status is Status.SAME
    assert "copy" not in store.requests[2:]  # the bet, which S3 refused
    assert len(run(store.copies())) == 1


def test_a_late_older_version_is_stored_beneath_the_newest():
    store = Ticking()
    old, new = run(put(store, b"old")), run(put(store, b"new"))
    run(backup(store).process([new]))
    (outcome,) = run(backup(store).process([old]))
    assert outcome.status is Status.COPIED
    assert [copy[0] for copy in run(store.copies())] == [b"new", b"old", b"new"]


def test_a_version_that_only_changes_metadata_is_copied_as_well():
    store = Ticking()
    first = run(put(store, b"body", metadata={"colour": "red"}))
    run(backup(store).process([first]))
    second = run(put(store, b"body", metadata={"colour": "green"}))
    (outcome,) = run(backup(store).process([second]))
    assert outcome.status is Status.COPIED
    assert run(store.body("hot", COPY)) == (b"body", {"colour": "green"})


def test_above_the_limit_a_row_is_left_and_nothing_is_written():
    store = Ticking()
    row = run(put(store, b"large body"))
    settled = run(backup(store, limit_bytes=5).settle(KEY, [row]))
    assert (settled.outcomes, settled.left) == ({}, {0})
    assert run(store.copies()) == []
    assert run(backup(store, limit_bytes=5).process([row]))[0].status is Status.FAILED


def test_an_older_version_is_left_when_putting_the_newest_back_would_take_too_long():
    store = Ticking()
    old, new = run(put(store, b"old")), run(put(store, b"new and large"))
    run(backup(store).process([new]))
    settled = run(backup(store, limit_bytes=5).settle(KEY, [old]))
    assert settled.left == {0}
    assert [copy[0] for copy in run(store.copies())] == [b"new and large"]


def test_an_older_version_stays_beneath_a_newer_one_while_the_newest_waits_for_a_larger_worker():
    store = Ticking()
    old, middle, large = run(put(store, b"old")), run(put(store, b"mid")), run(put(store, b"new and large"))
    assert run(backup(store, limit_bytes=5).settle(KEY, [middle])).left == frozenset()
    run(backup(store, limit_bytes=5).settle(KEY, [old]))
    assert run(store.body("hot", COPY)) == (b"mid", {})
    run(backup(store).process([large]))
    assert [copy[0] for copy in run(store.copies())] == [b"mid", b"old", b"mid", b"new and large"]


def test_an_archived_version_ends_as_such():
    store = Ticking()
    row = run(put(store, b"cold", storage_class="GLACIER"))
    (outcome,) = run(backup(store).process([row]))
    assert outcome.status is Status.ARCHIVED
    store.restore(ObjectRef("source", KEY, row.version_id))
    assert run(backup(store).process([row]))[0].status is Status.COPIED


def test_a_destination_without_versions_is_refused():
    store = MemoryStore()
    for bucket in ("source", "hot"):
        store.create_bucket(bucket, versioned=False)
    row = run(put(store, b"body"))
    with pytest.raises(ConfigError, match="keeps no versions"):
        run(backup(store).process([row]))


def test_a_removed_version_stays_at_the_destination():
    store = Ticking()
    row = run(put(store, b"body"))
    run(backup(store, mirrors_deletes=True).process([row]))
    run(store.delete("source", KEY, version_id=row.version_id))
    settled = run(backup(store, mirrors_deletes=True).settle(KEY))
    assert settled.is_marked
    assert run(store.copies()) == [(b"body", {}), None]


def test_a_writer_that_is_stopped_in_between_says_what_it_owes():
    """Between the older version's append and the newest one's return there is a moment that must not be forgotten."""
    store = Ticking()
    old, new = run(put(store, b"old")), run(put(store, b"new"))
    run(backup(store).process([new]))
    progress = Progress()

    async def fail() -> None:  # with the second copy, which is to bring the newest back
        async def fail_again() -> None:
            raise Unavailable("CopyObject", COPY, "InternalError", "injected", 500)

        store.meanwhile = fail_again

    store.meanwhile = fail
    bet_lost = backup(store).settle(KEY, [old, old._replace(row=1)], progress)  # two rows: nothing is betted
    with pytest.raises(Unavailable):
        run(bet_lost)
    assert [progress.owes_newest] == [True]
    assert run(store.body("hot", COPY)) == (b"old", {})
    run(backup(store).settle(KEY, [old], progress))
    assert [progress.owes_newest] == [False]
    assert run(store.body("hot", COPY)) == (b"new", {})


def test_a_delete_that_is_handled_while_its_object_is_being_copied_is_not_forgotten():
    """The delete's handler finds nothing to mark; then the copy arrives."""
    store = Ticking()
    row = run(put(store, b"body"))

    async def delete() -> None:
        await store.delete("source", KEY)
        assert not (await backup(store, mirrors_deletes=True).settle(KEY)).is_marked

    store.meanwhile = delete
    settled = run(backup(store, mirrors_deletes=True).settle(KEY, [row]))
    assert settled.outcomes[0].status is Status.COPIED
    assert run(store.copies()) == [(b"body", {}), None]


def test_one_of_two_handlers_of_one_event_copies():
    store = Ticking()
    run(backup(store).process([run(put(store, b"first"))]))
    row = run(put(store, b"second"))

    async def other() -> None:
        assert (await backup(store).settle(KEY, [row])).outcomes[0].status is Status.COPIED

    async def once_the_bet_is_lost() -> None:
        store.meanwhile = other

    store.meanwhile = once_the_bet_is_lost
    assert run(backup(store).settle(KEY, [row])).outcomes[0].status is Status.SAME
    assert [copy[0] for copy in run(store.copies())] == [b"first", b"second"]


def test_where_deletes_are_retained_a_removed_newest_version_stays_on_top_of_its_copies():
    store = Ticking()
    old = run(put(store, b"old"))
    run(backup(store).process([old]))
    new = run(put(store, b"new"))
    run(backup(store).process([new]))
    run(store.delete("source", KEY, version_id=new.version_id))
    assert run(backup(store).process([old]))[0].status is Status.SAME
    assert run(store.body("hot", COPY)) == (b"new", {})


def test_contents_that_only_reading_can_tell_apart_are_read_below_the_limit_only():
    """A composite checksum proves nothing about a copy in one part."""
    store = Ticking()

    async def main() -> tuple[Sequence[ObjectVersion], Settled, Settled]:
        upload = await store.create_multipart(
            "source", KEY, Attributes(), checksum_algorithm="SHA256", is_composite=True
        )
        parts = [
            await store.put_part("source", KEY, upload, number, body) for number, body in ((1, b"abc"), (2, b"def"))
        ]
        written = await store.complete_multipart("source", KEY, upload, parts, guard=UNGUARDED)
        row = ObjectVersion(0, KEY, written.version_id, size_bytes=6, etag=written.etag)
        await backup(store).settle(KEY, [row])
        return [row], await backup(store, limit_bytes=5).settle(KEY, [row]), await backup(store).settle(KEY, [row])

    _, left, read = run(main())
    assert left.left == {0}
    assert (read.outcomes[0].status, read.outcomes[0].evidence.value) == (Status.SAME, "content")
    assert len(run(store.copies())) == 1
