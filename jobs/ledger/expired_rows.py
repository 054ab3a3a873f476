"""What expire runs have done to a bucket, out of their tombstones, as rows for whoever asks how the bucket was.

pyarrow loads with this module: import it where it is used.
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
from jobs.s3.retries import try_often
from jobs.s3.store import Store
from jobs.tables.rows import fill_batch, unaltered

FILES_AT_ONCE = 16


async def expired_rows(
    store: Store, ledger: Location, bucket: str, prefix: str = ""
) -> AsyncGenerator[pa.RecordBatch, None]:
    """Rows in `manifest_schema()`, `archive` being where the copy is: versions that were removed, and delete markers
    that hide others. Both are the expiry's doing: the bucket's users still had these objects.

    Of what was announced and never confirmed the versions are told, but no markers: nobody knows them. Rows of another
    run or bucket than the file's folder says are left out. Raises LedgerError for a file that Sealift did not write.
    """
    folder = ledger.join(f"{FOLDER}{bucket}/")
    names: set[str] = set()
    async with aclosing(list_all(store, folder, versions=False)) as pages:
        async for page in pages:
            names |= {entry.key for entry in page}
    told = [name for name in names if name.endswith(DONE) or name.removesuffix(INTENT) + DONE not in names]
    for start in range(0, len(told), FILES_AT_ONCE):
        keys = sorted(told)[start : start + FILES_AT_ONCE]
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
    return (await try_often(lambda: store.get(ref))).data


def _as_rows(table: pa.Table) -> pa.RecordBatch:
    step: Any = table["step"]
    is_told: Any = pc.or_(pc.equal(step, pa.scalar(Step.REMOVE.value)), pc.is_valid(table["marker_version_id"]))
    known = table.filter(is_told)
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
