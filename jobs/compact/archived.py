"""Archived versions: what the index holds already, so that a compaction packs only what is new.

Without this, one new object of a month would move the borders of all later groups, and their
members would be packed again. Each of them would be billed for the minimum stay of its class.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pyarrow as pa

from jobs.archives.files import find_archive, list_archives
from jobs.archives.index import ArchiveIndex, Damage, DamagedIndex, collecting
from jobs.archives.model import ArchiveRecord
from jobs.archives.unindexed import look_inside
from jobs.compact.packing import ArchiveStorage
from jobs.core.model import Attributes, Location
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


async def renew_indexes(index: ArchiveIndex, archives: Location, store: Store, source_bucket: str) -> Damage:
    """Index the archives below `archives` that have no index, or a damaged one, from the index
    inside.

    An attempt that was killed before its last write leaves such an archive. Its members would be
    packed again as soon as their group has grown. Returns the archives of this source bucket that
    have no index and cannot be read now. None are found where the caller may not list them.
    """
    damage: Damage = []
    unread: Damage = []
    known = {record.location for record in await index.records(archives, damage)}
    damaged = {each.archive for each in damage}
    with contextlib.suppress(Denied):
        async for location, _ in list_archives(store, archives):
            if location in known:
                continue
            etag = await index.etag(location) if location in damaged else None
            try:
                await index.adopt(store, location, etag)
            except (DamagedArchive, *REFUSALS):
                found = None if location in damaged else await look_inside(store, location, source_bucket)
                unread += [] if found is None else [found]
    return unread


async def archived_versions(
    index: ArchiveIndex,
    archives: Location,
    source: Location,
    storage: ArchiveStorage,
    damage: Damage,
    *,
    store: Store,
) -> AsyncIterator[pa.Table]:
    """Members, in `SCHEMA`, of the source's archives below `archives` that are stored as asked.

    Archives with another class or encryption do not count: a caller that asks for another wants the
    objects packed again. Where the index does not say the encryption, the archive itself shows it.
    Neither do archives that are gone, of which `store` knows. Damaged indexes are added to
    `damage`, and their members count as not archived.
    """
    begins = overlaps(source.key)
    for record in await index.records(archives, damage):
        if record.source_bucket != source.bucket or not _may_be_stored_as(record, storage):
            continue
        if not begins(KeyRange(0, 0, 0, record.first_key, record.last_key)):
            continue
        try:
            info = await find_archive(store, record)
        except Rejected as error:  # this one archive, for instance since its key is disabled
            damage.append(DamagedIndex(record.location, str(error)))
            continue
        if info is None or (record.encryption != storage.encryption and not _is_shown(storage, info.attributes)):
            continue
        with collecting(damage, record.location):
            async with aclosing(index.tables(record.location, source.key)) as tables:
                async for table in tables:
                    yield _narrowed(table)


def _may_be_stored_as(record: ArchiveRecord, storage: ArchiveStorage) -> bool:
    if record.storage_class != storage.storage_class:
        return False
    return storage.encryption is None or record.encryption in (None, storage.encryption)


def _is_shown(storage: ArchiveStorage, has: Attributes) -> bool:
    """True if an archive shows the encryption that is asked for, if any. No alias of a key is
    shown.
    """
    return not (storage.missing(has) or "alias/" in (storage.kms_key_id or ""))


def _narrowed(table: pa.Table) -> pa.Table:
    return table.select(SCHEMA.names).cast(SCHEMA)


def archived_rows_sql(rows: str, members: str) -> str:
    """SQL for the `place` of the rows (a relation) that are among the members (a Parquet file).

    A version id names the same bytes for ever. A row without one, or with the null version that
    can be overwritten, has to agree in ETag, size and time. Listings have whole seconds. Without a
    time it has to agree with what was archived last of its key: other content may have come in
    between, and a restore takes the newest.
    """
    members = parquet(Path(members))
    undated = f"SELECT * FROM {rows} WHERE last_modified IS NULL AND (version_id IS NULL OR version_id = 'null')"
    return f"""
        SELECT place FROM {rows} AS r SEMI JOIN {members} AS m
            ON r.key = m.key AND r.version_id = m.version_id
        WHERE r.version_id <> 'null'
        UNION ALL
        SELECT place FROM {rows} AS r SEMI JOIN {members} AS m
            ON r.key = m.key AND r.etag = m.etag AND r.size_bytes = m.size_bytes
            AND r.last_modified // 1000000 = m.last_modified // 1000000
        WHERE r.version_id IS NULL OR r.version_id = 'null'
        UNION ALL
        SELECT place FROM ({undated}) AS r SEMI JOIN (
            SELECT key, any_value(etag) AS etag, any_value(size_bytes) AS size_bytes FROM (
                SELECT *, max(last_modified // 1000000) OVER (PARTITION BY key) AS last FROM {members}
                SEMI JOIN ({undated}) USING (key))
            WHERE last_modified // 1000000 = last
            GROUP BY key HAVING count(DISTINCT (etag, size_bytes)) = 1) AS m
            ON r.key = m.key AND r.etag = m.etag AND r.size_bytes = m.size_bytes
        """
