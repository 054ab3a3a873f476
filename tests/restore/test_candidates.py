"""What a restore is asked for, and what it knows of the archives."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from typing import Any, cast

import pytest

from jobs.archives.index import ArchiveIndex
from jobs.core.model import Attributes, Location, ObjectVersion
from jobs.core.run import Side
from jobs.core.selection import Selection
from jobs.ledger.journal import Ending, Entry, file_name, to_lines
from jobs.ledger.ledger import Ledger
from jobs.restore import candidates
from jobs.restore.as_of import OVERWRITTEN
from jobs.restore.candidates import RestoreQuery
from jobs.restore.plan import plan_restore
from jobs.runs.request import Request, drafting
from jobs.s3.store import UNGUARDED
from tests.archives.samples import TAR, member, packed
from tests.doubles.memory_store import MemoryStore

OPTIONS: dict[str, Any] = {
    "archives": Side(Location("cold", "packed")).to_dict(),
    "is_history": True,
    "in_place": False,
    "bucket": None,
}


@pytest.mark.parametrize(
    ("run_id", "archive"),
    [
        ("20260301T000000Z-compact-000000", "s3://cold/packed/one.tar"),
        ("20260101T000000Z-compact-000000", OVERWRITTEN),
        ("something-else", OVERWRITTEN),
    ],
)
def test_a_run_that_packed_a_null_version_later_shows_that_it_was_there(
    run_id: str, archive: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The date of the archive says nothing: it may be that of a copy of the archive."""
    record = replace(packed([(member("k"), b"")], TAR).record, run_id=run_id, created_at=1_780_000_000.0)

    class Index:
        async def records(self, *_: object) -> list[object]:
            return [record]

    async def etags(_: object) -> dict[Location, str]:
        return {}

    monkeypatch.setattr(candidates, "etags_of_archives", etags)
    at = 1_770_000_000.0  # 2026-02-02
    source, back = Side(Location("docs")), Side(Location("back"))
    request = Request("restore", source, back, None, Selection(versions="all"), {**OPTIONS, "at": at})
    ledger = Ledger(MemoryStore(), Location("ledger"))
    with drafting(request) as draft:
        query = RestoreQuery(request, source, ledger, cast("ArchiveIndex", Index()), (), draft)
        asyncio.run(query.records())
        shutil.rmtree(draft.scratch)
    old = ObjectVersion(0, "k", "null", True, False, 1, "a", at - 9e6, archive=str(record.location))
    new = ObjectVersion(0, "k", "null", True, False, 1, "b", at + 9e6)
    assert [each.archive for each in query.choose()([new], [old])] == [archive]


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
