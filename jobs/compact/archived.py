"""Archived versions: what the index holds already, so that a compaction packs only what is new.

Without this, one new object of a month would move the borders of all later groups, and their
members would be packed again. Each of them would be billed for the minimum stay of its class.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import pyarrow as pa

from jobs.archives.files import find_archive, list_archives
from jobs.archives.index import ArchiveIndex, Damage
from jobs.archives.model import ArchiveRecord, DamagedIndex
from jobs.compact.packing import CompactOptions
from jobs.core.model import Location
from jobs.errors import REFUSALS, DamagedArchive, Denied, Rejected
from jobs.s3.store import Store
from jobs.tables.duck import parquet
from jobs.tables.ranged_parquet import KeyRange, overlaps

_FIELDS: list[pa.Field[pa.DataType]] = [
    pa.field("key", pa.string()),
    pa.field("version_id", pa.string()),
    pa.field("size_bytes", pa.int64()),
    pa.field("etag", pa.string()),
    pa.field("last_modified", pa.int64()),
]
SCHEMA = pa.schema(_FIELDS)
"""`last_modified` is in microseconds since the epoch, as in the spooled rows of a plan."""


async def renew_indexes(index: ArchiveIndex, archives: Location, store: Store) -> Damage:
    """Index the archives below `archives` that have no index, or a damaged one, from the index
    inside.

    An attempt that was killed before its last write leaves such an archive. Its members would be
    packed again as soon as their group has grown. Returns those that cannot be indexed now. None
    are found where the caller may not list them.
    """
    damage: Damage = []
    unread: Damage = []
    known = {record.location for record in await index.records(archives, damage)}
    damaged = {each.archive for each in damage}
    with contextlib.suppress(Denied):
        async for location, _ in list_archives(store, archives):
            if location in known:
                continue
            try:
                await index.adopt(store, location, await index.etag(location) if location in damaged else None)
            except (DamagedArchive, *REFUSALS) as error:
                unread.append(DamagedIndex(location, str(error)))
    return unread


async def archived_versions(
    index: ArchiveIndex, archives: Location, source: Location, options: CompactOptions, store: Store, damage: Damage
) -> AsyncIterator[pa.Table]:
    """Members, in `SCHEMA`, of the source's archives below `archives` that are stored as asked.

    Archives with another class or encryption do not count: a caller that asks for another wants the
    objects packed again. Where the index does not say the encryption, the archive itself shows it.
    Neither do archives that are gone, of which `store` knows. Damaged indexes are added to
    `damage`, and their members count as not archived.
    """
    begins, stored = overlaps(source.key), list[ArchiveRecord]()
    for record in await index.records(archives, damage):
        is_of_source = record.source_bucket == source.bucket and record.storage_class == options.storage_class
        if is_of_source and begins(KeyRange(0, 0, 0, record.first_key, record.last_key)):
            try:
                if await _is_stored_as(store, record, options):
                    stored.append(record)
            except Rejected as error:  # this one archive, for instance since its key is disabled
                damage.append(DamagedIndex(record.location, str(error)))
    async with aclosing(index.tables_of(stored, damage, source.key)) as tables:
        async for _, table in tables:
            yield table.select(SCHEMA.names).cast(SCHEMA)


async def _is_stored_as(store: Store, record: ArchiveRecord, options: CompactOptions) -> bool:
    if options.encryption is not None and record.encryption not in (None, options.encryption):
        return False
    info = await find_archive(store, record)
    return info is not None and (record.encryption == options.encryption or not options.missing(info.attributes))


def archived_rows_sql(rows: str, members: str) -> Iterator[str]:
    """SQL for the `place` of the rows (a relation) that are among the members (a Parquet file), in two statements.

    A version id names the same bytes for ever. A row without one, or with the null version that
    can be overwritten, has to agree in ETag, size and time. Listings have whole seconds. Rows are
    joined by a SHA-256: joins of long texts spill too late for a small limit of memory.
    """
    members, alike = parquet(Path(members)), "size_bytes || ':' || (last_modified // 1000000) || ':' || etag"
    for which, of in (("version_id <> 'null'", "version_id"), ("coalesce(version_id, 'null') = 'null'", alike)):
        digest = f"unhex(sha256(strlen(key) || ':' || key || ':' || {of})) AS digest"
        yield f"""
            SELECT place, 'already_archived' AS name FROM (SELECT place, {digest} FROM {rows} WHERE {which})
            SEMI JOIN (SELECT {digest} FROM {members}) USING (digest)"""
