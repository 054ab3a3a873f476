"""What a key costs in requests."""

from __future__ import annotations

from collections import Counter
from typing import Any
from unittest.mock import Mock

import pytest

from jobs.core.model import ObjectVersion
from jobs.sync.table import next_step
from tests.doubles.hooks import watch
from tests.doubles.memory_store import MemoryStore
from tests.sync.scene import COPY, EVENT, bodies, count, event_of, finish, make_store, put, rows_of, sides, sync


async def copied(store: MemoryStore, *contents: bytes) -> ObjectVersion:
    """Versions that are at both sides. Returns the row of the newest one."""
    for each in contents:
        row = await put(store, each)
    await sync(store, *await rows_of(store), all_versions=True)
    return row


RUN: dict[str, Any] = {"all_versions": True}


@pytest.mark.parametrize(
    ("there", "new", "options", "is_event", "seen"),
    [
        ([], b"one", {}, False, {"copy": 1}),
        ([], b"one", {"mirrors_deletes": True}, False, {"copy": 1, "head": 1}),
        ([], b"one", EVENT, True, {"copy": 1}),
        ([], b"one", EVENT | {"mirrors_deletes": True}, True, {"copy": 1, "head": 1}),
        ([], b"one", RUN, True, {"copy": 1, "head": 1}),  # its class is kept
        ([b"one"], None, {}, False, {"copy": 1, "head": 2}),
        ([b"one"], None, RUN, False, {"list_versions": 2}),
        ([b"one"], None, EVENT, True, {"copy": 1, "list_versions": 2}),
        ([b"one"], b"two", {}, False, {"copy": 2, "head": 2}),
        ([b"one"], b"two", EVENT, True, {"copy": 2, "list_versions": 2}),
        ([b"%04d" % number for number in range(400)], b"last", EVENT, True, {"copy": 2, "list_versions": 2}),
    ],
)
async def test_key(there: list[bytes], new: bytes | None, options: Any, is_event: bool, seen: dict[str, int]) -> None:
    store = make_store()
    row = await copied(store, *there) if there else None
    row = row if new is None else await put(store, new)
    assert row is not None
    row = event_of(row) if is_event else row
    assert await count(store, sides(store, **options), row, is_event=is_event) == Counter(seen)
    assert bodies(store) == [*there, *([new] if new else [])]


async def test_key_that_is_probably_there_is_looked_at_first() -> None:
    store = make_store()
    row, both = await copied(store, b"one"), sides(store)
    both.share_new = 0.3
    assert await count(store, both, row) == Counter(head=2)


async def test_changed_keys_where_no_versions_are_kept_ask_for_that_once() -> None:
    store = make_store(kept=False)
    both, asked = sides(store), watch(store)
    for number in range(3):
        await finish(both, [await put(store, b"%d" % number)])
    assert [each.operation for each in asked].count("is_versioned") == 1
    assert bodies(store) == [b"2"]


@pytest.mark.parametrize(("size", "there"), [(1, 0), (2, 1), (20, 0), (20, 10)])
async def test_versions_of_a_run(size: int, there: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those without a copy are appended by one decision, also where a run was interrupted: a decision looks at all."""
    store, decide, options = make_store(), Mock(wraps=next_step), RUN | {"is_replay": True}
    rows = [(await put(store, b"%02d" % number))._replace(row=number) for number in range(size)]
    await sync(store, *rows[:there], **options)
    monkeypatch.setattr("jobs.sync.key.next_step", decide)
    assert (await count(store, sides(store, **options), *rows)).total() <= 2 + size - there + (3 if there else 1)
    assert len(bodies(store)) == size
    assert decide.call_count <= 3


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
