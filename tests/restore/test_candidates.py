"""What a restore is asked for, and what it knows of the archives."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from typing import Any

import pytest

from jobs.archives import unindexed
from jobs.archives.index import ArchiveIndex
from jobs.core.enums import ArchiveFormat
from jobs.core.model import Attributes, Location, ObjectRef
from jobs.core.run import Side
from jobs.core.selection import Selection
from jobs.errors import DamagedArchive
from jobs.ledger.journal import Ending, Entry, file_name, to_lines
from jobs.ledger.ledger import Ledger
from jobs.restore import candidates
from jobs.restore.candidates import RestoreQuery
from jobs.restore.plan import plan_restore
from jobs.runs.request import Request, drafting
from jobs.s3.store import UNGUARDED
from tests.archives.samples import member, packed
from tests.doubles.memory_store import MemoryStore

OPTIONS: dict[str, Any] = {
    "archives": Side(Location("cold", "packed")).to_dict(),
    "is_history": True,
    "in_place": False,
    "bucket": None,
}


@pytest.mark.parametrize("of", ["docs", "", "other"])
def test_damage_refuses_a_restore_unless_it_is_known_to_be_of_another_bucket(
    monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    """An archive without an index, `of` a bucket as its metadata says, beside an indexed one of `docs`."""
    made = packed([(member("a"), b"")], ArchiveFormat.TAR)
    monkeypatch.setattr(unindexed, "open_side", lambda *_, **__: made.store)
    source, back = Side(Location("cold", "packed")), Side(Location("back"))
    options = {**OPTIONS, "is_history": False, "at": None, "bucket": "docs"}
    request = Request("restore", source, back, None, Selection(versions="all"), options)
    index = ArchiveIndex(made.store, Location("ledger"))

    async def look() -> None:
        made.store.create_bucket("ledger")
        await index.adopt(made.store, made.record.location)
        attributes = Attributes(metadata={"sealift-source": of})
        await made.store.put(ObjectRef("cold", "packed/two.tar"), b"", attributes, guard=UNGUARDED)
        with drafting(request) as draft:
            query = RestoreQuery(request, source, Ledger(made.store, Location("ledger")), index, ("a",), draft)
            assert [*await query.records()] == [str(made.record.location)]
            assert query.damage == []

    with contextlib.nullcontext() if of == "other" else pytest.raises(DamagedArchive):
        asyncio.run(look())


def test_copies_without_an_event_in_the_journal_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy of `event` is dated by its event, and that of `night`, which has none, by its own date."""
    store = MemoryStore(clock=lambda: 1_000.0)
    for bucket in ("copies", "ledger"):
        store.create_bucket(bucket)
    monkeypatch.setattr(candidates, "open_side", lambda *_, **__: store)
    source, back = Side(Location("copies")), Side(Location("back"))
    options = {**OPTIONS, "archives": None, "at": 1_100.0}
    request = Request("restore", source, back, None, Selection(versions="all"), options)
    ledger = Ledger(store, Location("ledger"))

    async def counted() -> int:
        for key in ("event", "night"):
            await store.put(ObjectRef("copies", key), b"x", Attributes(), guard=UNGUARDED)
        copies = {each.key: each for each in (await store.list_versions("copies", "")).entries}
        copy: Any = {"destination_key": "event", "destination_version_id": copies["event"].version_id}
        about = "ObjectCreated:Put", "source", "event", "v", "1", Ending.COPIED
        entry = Entry(1_000.0, *about, event_at=900.0, destination_bucket="copies", **copy)
        name = file_name(1_000.0, "x")
        await store.put(ObjectRef("ledger", name), to_lines([entry]), Attributes(), guard=UNGUARDED)
        with drafting(request) as draft:
            query = RestoreQuery(request, source, ledger, ArchiveIndex(store, ledger.location), (), draft)
            chosen = await plan_restore(
                query.candidates([]),
                request.selection,
                query.choose(),
                write_shard=drop,
                scratch_directory=draft.scratch,
            )
            shutil.rmtree(draft.scratch)
        assert chosen.rows == 2
        return query.without_event

    async def drop(number: int, data: bytes) -> None: ...

    assert asyncio.run(counted()) == 1
