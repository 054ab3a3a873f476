"""Events of the ledger's journal as rows: a manifest's, with the columns that events have."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import cast

import pyarrow as pa

from jobs.core.model import Location, ObjectRef, ObjectVersion
from jobs.errors import ManifestError
from jobs.ledger.journal import Entry, from_document
from jobs.restore.as_of_journal import Event, row_from_entry
from jobs.s3.listing import list_all
from jobs.s3.retries import gather_bounded, retry
from jobs.s3.store import Store
from jobs.tables.rows import manifest_schema, version_batch

FILES_AT_ONCE = 64
LATE_DAYS = 15
"""How long after an event its line may come: SQS keeps a message for 14 days at most."""


SCHEMA = pa.schema([*manifest_schema(), pa.field("event_order", pa.string()), pa.field("event_copy", pa.string())])


def event_batch(rows: Sequence[ObjectVersion]) -> pa.RecordBatch:
    """Events in `SCHEMA`."""
    columns = zip(*(cast(Event, row.beside) for row in rows), strict=True)
    events = [pa.array(column, pa.string()) for column in columns]
    return pa.RecordBatch.from_arrays([*version_batch(rows).columns, *events], schema=SCHEMA)


async def journal_rows(
    store: Store, ledger: Location, bucket: str, prefix: str, until: float
) -> AsyncIterator[pa.RecordBatch]:
    """Events that copied into the bucket or hid something there, as a restore's rows.

    `jobs.restore.as_of_journal` reads them. They are all of the journal's lines up to `LATE_DAYS`
    after `until` (epoch seconds). Raises ManifestError for an invalid object, with its name.
    """
    folder = ledger.join("journal/")
    latest = min(until + timedelta(LATE_DAYS).total_seconds(), datetime.now(UTC).timestamp())
    last = f"{folder.key}dt={datetime.fromtimestamp(latest, UTC).date().isoformat()}0"  # "0" sorts next to "/"
    async with aclosing(list_all(store, folder, versions=False)) as pages:
        async for page in pages:
            names = [
                each.key for each in page if each.key < last and each.key.endswith((".json", ".jsonl", ".parquet"))
            ]
            refs = [ObjectRef(ledger.bucket, name) for name in names]
            files = await gather_bounded(lambda ref: _read(store, ref), refs, FILES_AT_ONCE)
            entries = (entry for file in files for entry in file if entry.destination_bucket == bucket)
            rows = [row for row in map(row_from_entry, entries) if row is not None and row.key.startswith(prefix)]
            if rows:
                yield event_batch(rows)


async def _read(store: Store, ref: ObjectRef) -> list[Entry]:
    data = (await retry(lambda: store.get(ref))).data
    try:
        return [from_document(json.loads(line)) for line in data.splitlines() if line.strip()]
    except (ValueError, OverflowError, RecursionError) as error:
        raise ManifestError(f"{ref} is not a journal: {error}", advice="put back an earlier version of it") from error
