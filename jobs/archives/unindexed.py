"""Archives without an index: their names by a listing, and what they say of themselves.

The index knows nothing of such an archive. A reader that asks the index alone would say that its
members are in no archive.
"""

from __future__ import annotations

from collections.abc import Sequence

from jobs.archives.files import SOURCE_METADATA, list_archives, read_own_index
from jobs.archives.index import ArchiveIndex, DamagedIndex, completed
from jobs.archives.model import ArchiveRecord
from jobs.core.model import Location, ObjectRef
from jobs.core.run import Side
from jobs.errors import DamagedArchive, Denied, NotFound, Redirected, StoreError
from jobs.s3.retries import gather_bounded, retry
from jobs.s3.sessions import open_side
from jobs.s3.store import Store

LOOKS_AT_ONCE = 64
UNREADABLE = (NotFound, Denied, Redirected)


async def etags_of_archives(side: Side) -> dict[Location, str] | None:
    """Return the ETags of a place's objects that have an archive's name. None if nobody may list it."""
    store = open_side(side)
    try:
        return {archive: etag async for archive, etag in list_archives(store, side.location)}
    except UNREADABLE:
        return None
    finally:
        await store.close()


async def find_unindexed(
    side: Side, index: ArchiveIndex, names: Sequence[Location], source_bucket: str | None
) -> list[DamagedIndex]:
    """Return those of the archives that have no index, as far as they hold objects of this bucket.

    `source_bucket`: None for any. An archive gets its index last, so one that was killed before
    that has none either.
    """
    if not names:
        return []
    store = open_side(side, max_in_flight=LOOKS_AT_ONCE)
    try:
        found = await gather_bounded(lambda each: look_inside(store, each, source_bucket), names, LOOKS_AT_ONCE)
    finally:
        await store.close()
    unindexed = [each for each in found if each is not None]
    etags = await gather_bounded(lambda each: index.etag(each.archive), unindexed, LOOKS_AT_ONCE)
    return [each for each, etag in zip(unindexed, etags, strict=True) if etag is None]  # else it came meanwhile


async def look_inside(store: Store, archive: Location, source_bucket: str | None) -> DamagedIndex | None:
    """Return what an archive says of itself. None for another bucket's, and for another program's."""
    try:
        record, own_index = await retry(lambda: read_own_index(store, archive))
        record = completed(record, own_index)
        return _unindexed(archive, record) if source_bucket in (None, record.source_bucket) else None
    except NotFound:
        return None
    except (DamagedArchive, StoreError):  # cold, cut, or not to be read
        pass
    try:
        metadata = (await retry(lambda: store.head(ObjectRef(*archive)))).attributes.metadata
    except NotFound:
        return None
    except StoreError:
        return _unindexed(archive)
    packed_from = metadata.get(SOURCE_METADATA)
    is_wanted = packed_from is not None and source_bucket in (None, packed_from)
    return _unindexed(archive) if is_wanted else None


def _unindexed(archive: Location, record: ArchiveRecord | None = None) -> DamagedIndex:
    return DamagedIndex(archive, "it has no index", record, is_missing=True)
