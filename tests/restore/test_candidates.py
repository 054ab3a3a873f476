"""What a restore is asked for, and what it knows of the archives."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from jobs.archives.index import ArchiveIndex
from jobs.config import Settings
from jobs.core.enums import ArchiveFormat
from jobs.core.model import Attributes, Location, ObjectRef
from jobs.core.run import Plan, Side
from jobs.core.selection import Selection
from jobs.errors import DamagedArchive, ManifestError
from jobs.ledger.journal import Ending, Entry, file_name, to_lines
from jobs.ledger.ledger import Ledger
from jobs.restore import candidates
from jobs.restore.candidates import LATE_DAYS, RestoreQuery, journal_rows
from jobs.restore.plan import plan_restore
from jobs.runs.request import Request, drafting
from jobs.s3.store import UNGUARDED
from tests.archives.samples import member, pack
from tests.doubles.memory_store import MemoryStore

OPTIONS: dict[str, Any] = {
    "archives": Side(Location("cold", "packed")).to_dict(),
    "is_history": True,
    "in_place": False,
    "bucket": None,
}


@pytest.mark.parametrize("of", ["docs", "", "other"])
async def test_damage_refuses_a_restore_unless_it_is_known_to_be_of_another_bucket(
    monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    """An archive without an index, `of` a bucket as its metadata says, beside an indexed one of `docs`."""
    made = await pack([(member("a"), b"")], ArchiveFormat.TAR)
    made.store.create_bucket("ledger")
    monkeypatch.setattr("jobs.s3.sessions.open_side", lambda *_, **__: made.store)
    options = {**OPTIONS, "is_history": False, "at": None, "bucket": "docs"}
    source = Side(Location("cold", "packed"))
    request = Request("restore", source, Side(Location("back")), None, Selection(versions="all"), options)
    await ArchiveIndex(made.store, Location("ledger")).adopt(made.store, made.record.location)
    attributes = Attributes(metadata={"sealift-source": of})
    await made.store.put(ObjectRef("cold", "packed/two.tar"), b"", attributes, guard=UNGUARDED)
    with contextlib.nullcontext() if of == "other" else pytest.raises(DamagedArchive), drafting(request) as draft:
        query = RestoreQuery(request, Ledger(made.store, Location("ledger")), draft)
        assert [*await query.records()] == [str(made.record.location)]
        assert query.damage == []


async def test_copies_without_an_event_in_the_journal_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy of `event` is dated by its event, and that of `night`, which has none, by its own date."""
    store = MemoryStore(clock=lambda: 1_000.0, buckets=("copies", "ledger"))
    monkeypatch.setattr(candidates, "open_side", lambda *_, **__: store)
    options = {**OPTIONS, "archives": None, "at": 1_100.0}
    source = Side(Location("copies"))
    request = Request("restore", source, Side(Location("back")), None, Selection(versions="all"), options)
    for key in ("event", "night"):
        await store.put(ObjectRef("copies", key), b"x", Attributes(), guard=UNGUARDED)
    copies = {each.key: each for each in (await store.list_versions("copies", "")).entries}
    copy: Any = {"destination_key": "event", "destination_version_id": copies["event"].version_id}
    about = "ObjectCreated:Put", "source", "event", "v", "1", Ending.COPIED
    entry = Entry(1_000.0, *about, event_at=900.0, destination_bucket="copies", **copy)
    name = file_name(1_000.0, "x")
    await store.put(ObjectRef("ledger", name), to_lines([entry]), Attributes(), guard=UNGUARDED)
    with drafting(request) as draft:
        query = RestoreQuery(request, Ledger(store, Location("ledger")), draft)
        rows, shards = query.candidates([]), draft.shards(Settings.from_environment({}))
        chosen = await plan_restore(rows, request.selection, query.choose, shards)
        draft.planned(draft.spec("rows", {}, source), Plan(2, 0, ())).discard()
    assert (sum(each.rows for each in chosen.shards), query.without_event) == (2, 1)


DAY_SECONDS = 86_400.0
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()


def entry(key: str, at: float, *, bucket: str = "hot") -> Entry:
    made = Entry(at + 2, "ObjectCreated:Put", "source", key, f"v-{key}", "1", Ending.COPIED, size_bytes=3, etag="e")
    return replace(
        made, destination_bucket=bucket, destination_key=f"copies/{key}", destination_version_id="c", event_at=at
    )


async def read(files: dict[str, bytes], prefix: str = "", until: float = NOON) -> list[tuple[str, str, float]]:
    store = MemoryStore(buckets=["ledger"])
    for name, data in files.items():
        await store.put(ObjectRef("ledger", f"l/{name}"), data, Attributes(), guard=UNGUARDED)
    batches = journal_rows(store, Location("ledger", "l/"), "hot", prefix, until)
    rows = [row async for batch in batches for row in batch.to_pylist()]
    return sorted(
        (row["key"], f"{row['event_order']}:{row['event_copy']}", row["last_modified"].timestamp()) for row in rows
    )


def file(at: float, *entries: Entry) -> dict[str, bytes]:
    return {file_name(at, "x"): to_lines(entries)}


@pytest.mark.parametrize("until", [NOON, datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()])
async def test_lines_are_rows_of_the_copies(until: float) -> None:
    entries = [entry("a", NOON), entry("b", NOON + 0.25)]
    expected = [("copies/a", "1:c", NOON), ("copies/b", "1:c", NOON + 0.25)]
    assert await read(file(NOON, *entries), until=until) == expected


async def test_other_buckets_prefixes_and_days_are_left_out() -> None:
    files = {
        **file(NOON, entry("a", NOON), entry("other", NOON, bucket="elsewhere")),
        **file(NOON - 900 * DAY_SECONDS, entry("old", NOON)),
        **file(NOON + LATE_DAYS * DAY_SECONDS, entry("late", NOON)),
        **file(NOON + (LATE_DAYS + 1) * DAY_SECONDS, entry("too-late", NOON)),
        "journal/dt=2026-03-01/notes.txt": b"no journal",
    }
    assert [key for key, _, _ in await read(files)] == ["copies/a", "copies/late", "copies/old"]
    assert [key for key, _, _ in await read(files, "copies/l")] == ["copies/late"]


@pytest.mark.parametrize("name", ["x.json", "x.parquet"])
async def test_what_is_no_journal_is_named(name: str) -> None:
    with pytest.raises(ManifestError, match=rf"s3://ledger/l/journal/dt=2026-03-01/{name} is not a journal"):
        await read({f"journal/dt=2026-03-01/{name}": b"PAR1 or not\n"})
