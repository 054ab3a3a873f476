"""Events of a key: whatever the order, however often, however many at once, the end is the same."""

from __future__ import annotations

import asyncio
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.core.model import Attributes, ObjectVersion
from jobs.core.outcome import Status
from jobs.s3.store import UNGUARDED
from jobs.sync.key import KeyResult
from tests.doubles.examples import examples
from tests.doubles.memory_store import MemoryStore
from tests.sync.orders import KEY, Delete, Event, Put, Remove, World, current, disturb, make_store, settle

ACTS = st.one_of(
    st.builds(Put, st.sampled_from([b"a", b"b", b"longer"]), st.sampled_from(["red", "green"])),
    st.builds(Delete),
    st.builds(Remove, st.integers(0, 5)),
)
STEPS = st.sampled_from([400.0, 0.001])


@settings(max_examples=examples(400), deadline=None)
@given(st.lists(ACTS, max_size=7), st.booleans(), STEPS, st.data())
def test_any_order_of_events_with_duplicates_ends_alike(acts, mirrors, step_seconds, data):
    """Events are handled at any time after what they tell of, while the source goes on changing."""

    async def main() -> None:
        world = World(make_store(step_seconds=step_seconds), mirrors)
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
        world.check(set(world.rows) - first, removed=removed)

    asyncio.run(main())


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(ACTS, min_size=1, max_size=6), st.booleans(), STEPS, st.integers(0, 2**32), st.sampled_from([0, 0.1]))
def test_any_number_of_handlers_at_once_end_alike(acts, mirrors, step_seconds, seed, failing):
    """All events twice and at once, every request delayed by chance, some lost before or after they were done."""

    async def main() -> None:
        world = World(make_store(step_seconds=step_seconds), mirrors)
        chance = random.Random(seed)
        tasks: list[asyncio.Task[KeyResult | None]] = []
        events: list[Event] = []
        disturb(world.store, chance, failing)
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
        world.check(missing, removed=any(isinstance(act, Remove) for act in acts))

    asyncio.run(main())


@settings(max_examples=examples(150), deadline=None)
@given(st.lists(st.builds(Put, st.sampled_from([b"a", b"b", b"c"]), st.just("red")), min_size=1, max_size=5), st.data())
def test_a_source_without_versions_ends_with_its_last_object_on_top(puts, data):
    async def main() -> None:
        store = make_store(versioned=False)
        rows = []
        for each in puts:
            written = await MemoryStore.put(
                store, "source", KEY, each.body, Attributes(metadata={"colour": each.colour}), guard=UNGUARDED
            )
            rows.append(ObjectVersion(0, KEY, None, size_bytes=1, etag=written.etag))
            for row in data.draw(st.lists(st.sampled_from(rows), max_size=2)):
                await settle(store, row)
        ended = [(await settle(store, row)).outcomes[0] for row in data.draw(st.permutations(rows))]
        assert current(store) == current(store, "source", KEY)
        for row, outcome in zip(rows, ended, strict=False):
            assert outcome.status in (Status.DONE, Status.SAME, Status.MISSING), row

    asyncio.run(main())
