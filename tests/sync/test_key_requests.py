"""What a key costs in requests."""

from __future__ import annotations

from collections import Counter

import pytest

from jobs.core.model import ObjectVersion
from tests.doubles.hooks import watch
from tests.doubles.memory_store import MemoryStore
from tests.sync.scene import COPY, EVENT, bodies, count, event_of, finish, make_store, put, rows_of, sides, sync

MANY = 400


async def copied(store: MemoryStore, *contents: bytes) -> ObjectVersion:
    """Versions that are at both sides. Returns the row of the newest one."""
    for each in contents:
        row = await put(store, each)
    await sync(store, *await rows_of(store), all_versions=True)
    return row


def requests(**counts: int) -> Counter[str]:
    return Counter(counts)


async def test_new_key() -> None:
    store = make_store()
    row = await put(store, b"one")
    assert await count(store, sides(store), row) == requests(copy=1)
    assert bodies(store) == [b"one"]


async def test_new_key_of_an_event() -> None:
    store = make_store()
    row = event_of(await put(store, b"one"))
    assert await count(store, sides(store, **EVENT), row, is_event=True) == requests(copy=1, head=1)


@pytest.mark.parametrize(("mirrors", "heads"), [(False, 1), (True, 2)])
async def test_new_key_of_an_event_whose_class_is_kept(mirrors: bool, heads: int) -> None:
    store = make_store()
    row = event_of(await put(store, b"one"))
    both = sides(store, all_versions=True, mirrors_deletes=mirrors)
    assert await count(store, both, row, is_event=True) == requests(copy=1, head=heads)


async def test_key_that_was_copied() -> None:
    store = make_store()
    row = await copied(store, b"one")
    both = sides(store)
    assert await count(store, both, row) == requests(copy=1, head=2)
    for _ in range(8):
        both.note_bet(is_new=False)
    assert await count(store, both, row) == requests(head=2)
    assert await count(store, sides(store, all_versions=True), row) == requests(list_versions=2)


async def test_event_of_a_version_that_was_copied() -> None:
    store = make_store()
    row = event_of(await copied(store, b"one"))
    assert await count(store, sides(store, **EVENT), row, is_event=True) == requests(copy=1, list_versions=2)


async def test_changed_key() -> None:
    store = make_store()
    await copied(store, b"one")
    row = await put(store, b"two")
    assert (await count(store, sides(store), row)).total() == 4
    assert bodies(store) == [b"one", b"two"]


async def test_changed_keys_where_no_versions_are_kept_ask_for_that_once() -> None:
    store = make_store(kept=False)
    both, asked = sides(store), watch(store)
    for number in range(3):
        await finish(both, [await put(store, b"%d" % number)])
    assert [each.operation for each in asked].count("is_versioned") == 1
    assert bodies(store) == [b"2"]


async def test_event_of_a_new_version() -> None:
    store = make_store()
    await copied(store, b"one")
    row = event_of(await put(store, b"two"))
    seen = await count(store, sides(store, **EVENT), row, is_event=True)
    assert seen == requests(copy=2, list_versions=2, head=1)


@pytest.mark.parametrize("size", [1, 2, 20])
async def test_versions_of_a_run(size: int) -> None:
    store = make_store()
    for number in range(size):
        await put(store, b"%d" % number)
    seen = await count(store, sides(store, all_versions=True), *await rows_of(store))
    assert seen.total() <= 2 + size + 1
    assert len(bodies(store)) == size


async def test_event_of_a_key_with_many_versions_of_one_size() -> None:
    store = make_store()
    await copied(store, *(b"%04d" % number for number in range(MANY)))
    row = event_of(await put(store, b"last"))
    seen = await count(store, sides(store, **EVENT), row, is_event=True)
    assert seen == requests(copy=2, list_versions=2, head=1)
    assert len(store.stored(*COPY[:2])) == MANY + 1


async def test_event_of_bytes_that_came_often_compares_a_few_copies() -> None:
    """A listing does not tell the versions apart: only their metadata differs."""
    store = make_store()
    for number in range(60):
        await put(store, b"same", metadata={"number": str(number)})
    await sync(store, *await rows_of(store), all_versions=True)
    row = event_of(await put(store, b"same", metadata={"number": "last"}))
    assert (await count(store, sides(store, **EVENT), row, is_event=True)).total() <= 8
    assert store.stored(*COPY[:2])[-1].attributes.metadata == {"number": "last"}
    late, newest = [event_of(await put(store, b"same", metadata={"number": each})) for each in ("late", "newest")]
    await sync(store, newest, is_event=True, **EVENT)
    assert (await count(store, sides(store, **EVENT), late, is_event=True)).total() <= 16
    assert store.stored(*COPY[:2])[-1].attributes.metadata == {"number": "newest"}


async def test_event_of_an_old_version_finds_its_copy_by_a_few_looks() -> None:
    store = make_store()
    for number in range(60):
        await put(store, b"same", metadata={"number": str(number)})
    rows = await rows_of(store)
    await sync(store, *rows, all_versions=True)
    assert (await count(store, sides(store, **EVENT), event_of(rows[20]), is_event=True)).total() <= 8
    assert len(store.stored(*COPY[:2])) == 60
