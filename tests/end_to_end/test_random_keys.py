"""Random histories of one key on a real server: writers, others, kills between two requests, late and doubled events.

The oracle sees the buckets alone. `tests.sync.test_random_keys` plays many more, and more options, in memory.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.core.model import Attributes, Listed, Location, ObjectRef, ObjectVersion, Route
from jobs.core.outcome import Status
from jobs.core.reasons import Reason
from jobs.errors import Conflict, PreconditionFailed, Unavailable
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.lookup import key_history
from jobs.s3.sessions import open_store
from jobs.s3.store import UNGUARDED, Store
from jobs.sync.key import KeyResult, Sides, SyncOptions, sync_key
from jobs.sync.table import Rules
from tests.doubles.examples import examples
from tests.doubles.hooks import Killed
from tests.end_to_end.conftest import World

Content = tuple[str | None, tuple[tuple[str, str], ...]]
"""ETag and metadata. An ETag of None: a delete marker."""
CODES = (Status.CHANGED, Status.UNKNOWN, Status.LEFT, Status.BLOCKED)
_numbers = itertools.count()
_bodies, _picks = st.sampled_from([b"aaa", b"bbb", b"longer"]), st.integers(0, 5)
ACTS = st.one_of(
    st.tuples(st.just("put"), _bodies, st.sampled_from([{}, {}, {"colour": "red"}])),
    st.tuples(st.just("put"), _bodies, st.just({})),
    st.tuples(st.sampled_from(["mark", "mark_foreign"])),
    st.tuples(st.just("remove"), _picks),
    st.tuples(st.just("put_foreign"), _bodies),
    st.tuples(st.just("deliver"), _picks),
    st.tuples(st.just("deliver_again"), _picks),
    st.tuples(st.just("deliver_and_die"), _picks, st.integers(1, 8), st.booleans()),
)


class Mortal:
    """A store whose process dies before, or after, the n-th request."""

    def __init__(self, store: Store, left: list[int], *, is_after: bool):
        self._store, self._left, self._is_after = store, left, is_after

    def __getattr__(self, name: str) -> Any:
        send = getattr(self._store, name)
        if not asyncio.iscoroutinefunction(send):
            return send

        async def request(*arguments: Any, **named: Any) -> Any:
            self._left[0] -= 1
            if self._left[0] < 0 or (self._left[0] == 0 and not self._is_after):
                raise Killed
            answer = await send(*arguments, **named)
            if self._left[0] == 0:
                raise Killed
            return answer

        return request


class Key:
    """One key at both sides. `ever`: all that the source had. `foreign`: what others put to the copies."""

    def __init__(self, world: World, store: Store, *, mirrors_deletes: bool):
        self.store, self.key = store, f"random/{next(_numbers)}"
        self.ours, self.theirs = ObjectRef(world.source, self.key), ObjectRef(world.destination, self.key)
        self.route = Route(Location(world.source), Location(world.destination))
        self.options = SyncOptions(rules=Rules(True, mirrors_deletes), storage_class="STANDARD")
        self.pending: list[ObjectVersion | None] = []
        self.done: list[ObjectVersion | None] = []
        self.ever, self.foreign, self.placed = list[Content](), list[Content](), set[str | None]()

    async def put(self, body: bytes, metadata: dict[str, str]) -> None:
        written = await self.store.put(self.ours, body, Attributes(metadata=metadata), guard=UNGUARDED)
        self.ever.append((written.etag, tuple(metadata.items())))
        row = ObjectVersion(0, self.key, written.version_id, size_bytes=len(body), etag=written.etag)
        self.pending.append(row)

    async def mark(self) -> None:
        await self.store.delete(self.ours)
        self.pending.append(None)

    async def remove(self, pick: int) -> None:
        if versions := await key_history(self.store, *self.ours[:2]):
            await self.store.delete(self.ours._replace(version_id=versions[pick % len(versions)].version_id))
            self.pending.append(None)

    async def put_foreign(self, body: bytes) -> None:
        written = await self.store.put(self.theirs, body, Attributes(), guard=UNGUARDED)
        self.foreign.append((written.etag, ()))

    async def mark_foreign(self) -> None:
        await self.store.delete(self.theirs)

    async def deliver(self, pick: int) -> None:
        await self._deliver(self.pending, pick, self.store)

    async def deliver_again(self, pick: int) -> None:
        await self._deliver(self.done, pick, self.store)

    async def deliver_and_die(self, pick: int, left: int, is_after: bool) -> None:
        await self._deliver(self.pending, pick, cast(Store, Mortal(self.store, [left], is_after=is_after)))

    async def _deliver(self, events: list[ObjectVersion | None], pick: int, store: Store) -> None:
        if not events:
            return
        event = events[pick % len(events)]
        if await self.handle([event] if event else [], store) and events is self.pending:
            self.pending.remove(event)
            self.done.append(event)

    async def handle(self, rows: list[ObjectVersion], store: Store) -> KeyResult | None:
        """As the function does: again after what may pass. None: it was killed."""
        both = Sides(store, store, self.route, self.options, ByteBudget(1 << 20))
        try:
            for _ in range(8):
                try:
                    return await sync_key(both, self.key, rows, is_event=True)
                except (Unavailable, Conflict, PreconditionFailed):
                    continue
        except Killed:
            return None
        raise AssertionError("it does not come to an end")

    # The oracle

    async def history(self, ref: ObjectRef) -> list[tuple[Listed, Content]]:
        return [(each, await self._content(ref, each)) for each in await key_history(self.store, *ref[:2])]

    async def _content(self, ref: ObjectRef, version: Listed) -> Content:
        if version.is_delete_marker:
            return None, ()
        info = await self.store.head(ref._replace(version_id=version.version_id))
        return info.etag, tuple(info.attributes.metadata.items())

    async def look(self) -> list[tuple[Listed, Content]]:
        """The copies. None is lost, and each is of something that the source had, or of others."""
        copies = await self.history(self.theirs)
        ids = {each.version_id for each, _ in copies}
        assert self.placed <= ids, "the destination has lost a version"
        self.placed = ids
        assert {content for _, content in copies} <= {(None, ()), *self.ever, *self.foreign}, "nobody wrote that"
        return copies

    async def check(self) -> None:
        """All events are delivered, twice. Then all is as it should be, and stays so."""
        while self.pending:
            await self.deliver(0)
        for place in range(len(self.done)):
            await self.deliver_again(place)
        rows = [row._replace(row=number) for number, row in enumerate(filter(None, self.done))]
        result = await self.handle(rows, self.store)
        before = await self.look()
        assert await self.handle(rows, self.store) is not None
        copies, source = await self.look(), await self.history(self.ours)
        assert result is not None
        assert copies == before, "a second look writes"
        gone = [each for each in self.ever if each not in [content for _, content in source]]
        mistaken = {etag for etag, _ in (*self.foreign, *gone)}
        for row in rows:
            outcome = result.outcomes[row.row]
            content = next((content for each, content in source if each.version_id == row.version_id), None)
            if content is None or outcome.reason == Reason.NEWER_COPIED or content[0] in mistaken:
                continue
            is_good = outcome.status in (Status.SAME, Status.DONE)
            assert outcome.status in CODES or (is_good and content in [there for _, there in copies]), outcome
        objects = [content for each, content in source if not each.is_delete_marker]
        is_deleted = not objects or source[-1][0].is_delete_marker
        top = copies[-1][1] if copies else (None, ())
        if is_deleted and self.options.rules.mirrors_deletes:
            assert top[0] is None or result.top.status in CODES, "an object is on top of a deleted key"
        elif objects and objects[-1] != top:
            assert result.top.status in CODES or (top[0] == objects[-1][0] and top[0] in mistaken), result.top


@pytest.fixture
def play(versioned: World) -> Iterator[Callable[[Callable[[Store], Awaitable[None]]], None]]:
    """Plays a scene with a store of its own event loop."""
    server = versioned.server
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment().items():
            patch.setenv(name, value)

        def run(scene: Callable[[Store], Awaitable[None]]) -> None:
            async def whole() -> None:
                store = open_store(server.endpoint, None, None)
                try:
                    await scene(store)
                finally:
                    await store.close()

            asyncio.run(whole())

        yield run


@pytest.mark.slow
@pytest.mark.hypothesis
def test_any_history_ends_as_its_source_or_with_a_code(versioned: World, play: Any) -> None:
    @settings(max_examples=examples(200), deadline=None)
    @given(acts=st.lists(ACTS, min_size=2, max_size=12), mirrors_deletes=st.booleans())
    def histories(acts: list[tuple[Any, ...]], mirrors_deletes: bool) -> None:
        async def scene(store: Store) -> None:
            key = Key(versioned, store, mirrors_deletes=mirrors_deletes)
            for name, *arguments in acts:
                await getattr(key, name)(*arguments)
                await key.look()
            await key.check()

        play(scene)

    histories()
