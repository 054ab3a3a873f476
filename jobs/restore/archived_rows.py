"""Rows of a manifest from the index of archives.

Only the row groups that can hold a requested key are read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing

import pyarrow as pa
import pyarrow.compute as pc

from jobs.archives.index import ArchiveIndex, Damage, collecting
from jobs.archives.model import ArchiveRecord
from jobs.core.enums import ARCHIVE_CLASSES
from jobs.core.model import Location
from jobs.tables.ranged_parquet import holds_any
from jobs.tables.rows import fill_batch


async def archived_rows(
    index: ArchiveIndex,
    records: Sequence[ArchiveRecord],
    prefix: str,
    keys: Sequence[str] | None = None,
    damage: Damage | None = None,
    etags: Mapping[Location, str] | None = None,
) -> AsyncIterator[pa.RecordBatch]:
    """Members of these archives as rows in `manifest_schema()`.

    Their keys begin with the prefix and are among `keys` (None: all). `damage`: as for
    `ArchiveIndex.records`. `etags`: the archives that a listing has (None: it was refused).

    A version that several archives hold is restored from the first of them. Archives that are as
    they were written come first, then those that were replaced, then those that are gone. Of each
    kind, those that need no thawing come first.
    """

    def preference(record: ArchiveRecord) -> tuple[int, bool, Location]:
        return _loss(record, etags), record.storage_class in ARCHIVE_CLASSES, record.location

    known = None if keys is None else sorted(set(keys))
    for record in sorted(records, key=preference):
        if not holds_any(known, record.first_key, record.last_key):
            continue
        with collecting(damage, record.location):
            async with aclosing(index.tables(record.location, prefix, known)) as tables:
                async for table in tables:
                    taken = table
                    if known is not None:
                        taken = table.filter(pc.is_in(table["key"], pa.array(known, pa.string())))
                    if taken.num_rows:
                        yield fill_batch({name: taken[name] for name in taken.column_names}, taken.num_rows)


def _loss(record: ArchiveRecord, etags: Mapping[Location, str] | None) -> int:
    """0 for an archive that is as it was written, 1 if it was replaced, 2 if it is gone."""
    if etags is None:
        return 0
    etag = etags.get(record.location)
    return 2 if etag is None else int(etag != record.etag)
