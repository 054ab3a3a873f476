"""Rows of a restore, some of them from the ledger's journal: a manifest's, with the columns that events have."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.core.model import Location, ObjectRef, ObjectVersion
from jobs.errors import ManifestError
from jobs.ledger.journal import Entry, from_document
from jobs.restore.as_of_journal import Event, row_from_entry
from jobs.s3.listing import list_all
from jobs.s3.retries import gather_bounded, retry
from jobs.s3.store import Store
from jobs.tables.rows import manifest_schema, shard_schema, version_batch

FILES_AT_ONCE = 64
LATE_DAYS = 15
"""How long after an event its line may come: SQS keeps a message for 14 days at most."""


SCHEMA = pa.schema([*manifest_schema(), pa.field("event_order", pa.string()), pa.field("event_copy", pa.string())])
SHARD_SCHEMA = pa.schema([shard_schema().field("row"), *SCHEMA])


def restore_batch(rows: Sequence[ObjectVersion]) -> pa.RecordBatch:
    """Rows in `SCHEMA`."""
    events = [row.beside if isinstance(row.beside, Event) else (None, None) for row in rows]
    columns = [pa.array(column, pa.string()) for column in zip(*events, strict=True)]
    return pa.RecordBatch.from_arrays([*version_batch(rows).columns, *columns], schema=SCHEMA)


def read_events(batch: pa.RecordBatch) -> Iterator[Event | None]:
    """What the rows of a batch have beside a version's columns. None: a row is about no event."""
    for order, copy_id in zip(*(batch[name].to_pylist() for name in SCHEMA.names[-2:]), strict=True):
        yield None if order is None else Event(order, copy_id or "")


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
            # S3's names are UTF-8, whatever a message said
            if kept := [row for row in rows if _is_text(row)]:
                yield restore_batch(kept)


async def _read(store: Store, ref: ObjectRef) -> list[Entry]:
    return parse_journal(ref, (await retry(lambda: store.get(ref))).data)


def parse_journal(ref: ObjectRef, data: bytes) -> list[Entry]:
    """The entries of one object of the journal. Raises ManifestError for an invalid one, with its
    name.
    """
    try:
        return [from_document(document) for document in _documents(ref.key, data)]
    except (ValueError, OverflowError, RecursionError, OSError, pa.ArrowException) as error:
        message = str(error).partition("\n")[0]
        raise ManifestError(f"{ref} is not a journal: {message}", advice="put back an earlier version of it") from error


def _documents(name: str, data: bytes) -> Iterable[Any]:
    if name.endswith(".parquet"):
        return (_in_text(row) for row in pq.read_table(io.BytesIO(data)).to_pylist())
    return (json.loads(line) for line in data.splitlines() if line.strip())


def _in_text(row: dict[str, Any]) -> dict[str, Any]:
    """A row of Parquet with the values of a line of JSON."""
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}


def _is_text(row: ObjectVersion) -> bool:
    try:
        values = (*row, *row.beside) if isinstance(row.beside, Event) else row
        "".join(value for value in values if isinstance(value, str)).encode()
    except UnicodeEncodeError:
        return False
    return True
