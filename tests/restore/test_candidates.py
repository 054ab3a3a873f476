"""What a restore is asked for, and what it knows of the archives."""

from __future__ import annotations

import asyncio
import shutil
from typing import Any

import pytest

from jobs.archives.index import ArchiveIndex
from jobs.core.model import Attributes, Location
from jobs.core.run import Side
from jobs.core.selection import Selection
from jobs.ledger.journal import Ending, Entry, file_name, to_lines
from jobs.ledger.ledger import Ledger
from jobs.restore import candidates
from jobs.restore.candidates import RestoreQuery
from jobs.restore.plan import plan_restore
from jobs.runs.request import Request, drafting
from jobs.s3.store import UNGUARDED
from tests.doubles.memory_store import MemoryStore

OPTIONS: dict[str, Any] = {
    "archives": Side(Location("cold", "packed")).to_dict(),
    "is_history": True,
    "in_place": False,
    "bucket": None,
}


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
            await store.put("copies", key, b"x", Attributes(), guard=UNGUARDED)
        copies = {each.key: each for each in (await store.list_versions("copies", "")).entries}
        copy: Any = {"destination_key": "event", "destination_version_id": copies["event"].version_id}
        about = "ObjectCreated:Put", "source", "event", "v", "1", Ending.COPIED
        entry = Entry(1_000.0, *about, event_at=900.0, destination_bucket="copies", **copy)
        name = file_name(1_000.0, "x")
        await store.put("ledger", name, to_lines([entry]), Attributes(), guard=UNGUARDED)
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
