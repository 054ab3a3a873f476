"""Rows of a manifest from tombstones: what expire runs have hidden or removed.

A restore to a time adds them to what the bucket still has.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs.core.enums import Step
from jobs.core.model import Location, ObjectRef
from jobs.ledger.tombstones import DONE, FOLDER, INTENT, read_tombstones
from jobs.s3.listing import list_all
from jobs.s3.retries import retry
from jobs.s3.store import Store
from jobs.tables.rows import fill_batch, unaltered

FILES_AT_ONCE = 16


async def expired_rows(
    store: Store, ledger: Location, bucket: str, prefix: str = ""
) -> AsyncGenerator[pa.RecordBatch, None]:
    """Removed versions, and delete markers that hide others, as rows in `manifest_schema()`.

    Both were made by expire runs, so the bucket's users still had these objects. `archive` is where
    the copy is. Intents without a confirmation yield versions only, because their marker ids are
    unknown. Rows of another run or bucket than the file's folder names are left out. Raises
    LedgerError for a file that Sealift did not write.
    """
    folder = ledger.join(f"{FOLDER}{bucket}/")
    names: set[str] = set()
    async with aclosing(list_all(store, folder, versions=False)) as pages:
        async for page in pages:
            names |= {entry.key for entry in page}
    latest = sorted(name for name in names if name.endswith(DONE) or name.removesuffix(INTENT) + DONE not in names)
    for start in range(0, len(latest), FILES_AT_ONCE):
        keys = latest[start : start + FILES_AT_ONCE]
        contents = await asyncio.gather(*(_read(store, ObjectRef(ledger.bucket, key)) for key in keys))
        for key, data in zip(keys, contents, strict=True):
            run_id = key[len(folder.key) :].partition("/")[0]
            with unaltered(f"the tombstones {Location(ledger.bucket, key)}"):
                batch = _as_rows(_own(read_tombstones(data), run_id, bucket, prefix))
            if batch.num_rows:
                yield batch


def _own(table: pa.Table, run_id: str, bucket: str, prefix: str) -> pa.Table:
    """The rows of this run, bucket and prefix."""
    own: Any = pc.and_(
        pc.equal(table["run_id"], pa.scalar(run_id)), pc.equal(table["source_bucket"], pa.scalar(bucket))
    )
    return table.filter(pc.and_(own, pc.starts_with(table["key"], prefix)))


async def _read(store: Store, ref: ObjectRef) -> bytes:
    return (await retry(lambda: store.get(ref))).data


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
