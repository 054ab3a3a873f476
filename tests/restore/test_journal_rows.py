"""The journal as rows: whoever has gathered its lines, and only what concerns the bucket and the days asked for."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from jobs.core.model import Attributes, Location, ObjectRef
from jobs.errors import ManifestError
from jobs.ledger.journal import Ending, Entry, file_name, to_lines
from jobs.restore.journal_rows import LATE_DAYS, journal_rows
from jobs.s3.store import UNGUARDED
from tests.doubles.memory_store import MemoryStore

DAY_SECONDS = 86_400.0
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
LEDGER = Location("ledger", "l/")


def entry(key: str, at: float, *, bucket: str = "hot") -> Entry:
    made = Entry(at + 2, "ObjectCreated:Put", "source", key, f"v-{key}", "1", Ending.COPIED, size_bytes=3, etag="e")
    return replace(
        made, destination_bucket=bucket, destination_key=f"copies/{key}", destination_version_id="c", event_at=at
    )


def read(files: dict[str, bytes], prefix: str = "", until: float = NOON) -> list[tuple[str, str, float]]:
    async def run() -> list[tuple[str, str, float]]:
        store = MemoryStore()
        store.create_bucket("ledger")
        for name, data in files.items():
            await store.put(ObjectRef("ledger", f"l/{name}"), data, Attributes(), guard=UNGUARDED)
        rows = []
        async for batch in journal_rows(store, LEDGER, "hot", prefix, until):
            for row in batch.to_pylist():
                rows.append((row["key"], f"{row['event_order']}:{row['event_copy']}", row["last_modified"].timestamp()))
        return sorted(rows)

    return asyncio.run(run())


def file(at: float, *entries: Entry) -> dict[str, bytes]:
    return {file_name(at, "x"): to_lines(entries)}


def test_lines_are_rows_of_the_copies() -> None:
    entries = [entry("a", NOON), entry("b", NOON + 0.25)]
    expected = [("copies/a", "1:c", NOON), ("copies/b", "1:c", NOON + 0.25)]
    assert read(file(NOON, *entries)) == expected


def test_a_restore_to_the_end_of_time_reads_the_journal_up_to_today() -> None:
    last_second = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()
    assert [key for key, _, _ in read(file(NOON, entry("a", NOON)), until=last_second)] == ["copies/a"]


def test_other_buckets_prefixes_and_days_are_left_out() -> None:
    files = {
        **file(NOON, entry("a", NOON), entry("other", NOON, bucket="elsewhere")),
        **file(NOON - 900 * DAY_SECONDS, entry("old", NOON)),
        **file(NOON + LATE_DAYS * DAY_SECONDS, entry("late", NOON)),
        **file(NOON + (LATE_DAYS + 1) * DAY_SECONDS, entry("too-late", NOON)),
        "journal/dt=2026-03-01/notes.txt": b"no journal",
    }
    assert [key for key, _, _ in read(files)] == ["copies/a", "copies/late", "copies/old"]
    assert [key for key, _, _ in read(files, "copies/l")] == ["copies/late"]


@pytest.mark.parametrize("name", ["x.json", "x.parquet"])
def test_what_is_no_journal_is_named(name: str) -> None:
    with pytest.raises(ManifestError, match=rf"s3://ledger/l/journal/dt=2026-03-01/{name} is not a journal"):
        read({f"journal/dt=2026-03-01/{name}": b"PAR1 or not\n"})
