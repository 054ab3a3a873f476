"""Rows of a manifest from tombstones: what expire runs have hidden or removed.

A restore to a time adds them to what the bucket still has.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs.core.enums import Step
from jobs.core.model import Location
from jobs.ledger.files import read_file
from jobs.ledger.tombstones import FOLDER, latest_files, read_tombstones
from jobs.s3.listing import list_all
from jobs.s3.retries import gather_bounded, retry
from jobs.s3.store import Store
from jobs.tables.rows import fill_batch, unaltered

FILES_AT_ONCE = 16


async def expired_rows(
    store: Store, ledger: Location, bucket: str, prefix: str = ""
) -> AsyncGenerator[pa.RecordBatch, None]:
    """Removed versions, and delete markers that hide others, as rows in `manifest_schema()`.

    Both were made by expire runs, so the bucket's users still had these objects. `archive` is where
    the copy is. Intents without a confirmation yield versions only, because their marker ids are
    unknown. Raises LedgerError for a file that Sealift did not write there.
    """
    folder = ledger.join(f"{FOLDER}{bucket}/")
    async with aclosing(list_all(store, folder, versions=False)) as pages:
        names = {entry.key[len(folder.key) :] async for page in pages for entry in page}

    async def read(name: str) -> pa.RecordBatch:
        data = await read_file(store, folder, name, tries=retry)
        with unaltered(f"the tombstones {folder.join(name)}"):
            table = read_tombstones(data, name.partition("/")[0], bucket)
            below: Any = pc.starts_with(table["key"], prefix)
            return _as_rows(table.filter(below))

    latest = sorted(latest_files(names))
    for start in range(0, len(latest), FILES_AT_ONCE):
        for batch in await gather_bounded(read, latest[start : start + FILES_AT_ONCE], FILES_AT_ONCE):
            if batch.num_rows:
                yield batch


def _as_rows(table: pa.Table) -> pa.RecordBatch:
    step: Any = table["step"]
    has_version: Any = pc.or_(pc.equal(step, pa.scalar(Step.REMOVE.value)), pc.is_valid(table["marker_version_id"]))
    known = table.filter(has_version)
    step = known["step"]
    is_removal: Any = pc.equal(step, pa.scalar(Step.REMOVE.value))
    columns: dict[str, Any] = {
        "key": known["key"],
        "version_id": pc.if_else(is_removal, known["version_id"], known["marker_version_id"]),
        "is_latest": pa.repeat(pa.scalar(False), known.num_rows),
        "is_delete_marker": pc.invert(is_removal),
        "size_bytes": known["size_bytes"],
        "etag": known["etag"],
        "last_modified": known["last_modified"],
        "archive": known["copy"],
    }
    return fill_batch(columns, known.num_rows)
