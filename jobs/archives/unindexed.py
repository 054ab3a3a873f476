"""Archives without an index: their names by a listing, and their metadata.

The index knows nothing of such an archive. A reader that asks the index alone would say that its
members are in no archive. An archive gets its index last, so one that was killed before that has
none.
"""

from __future__ import annotations

from collections.abc import Iterable

from jobs.archives.files import SOURCE_METADATA, list_archives
from jobs.archives.index import ArchiveIndex, DamagedIndex
from jobs.core.model import Location, ObjectRef
from jobs.core.run import Side
from jobs.errors import Denied, NotFound, Redirected, StoreError
from jobs.s3.retries import gather_bounded, retry
from jobs.s3.sessions import open_side

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


async def find_unindexed(side: Side, index: ArchiveIndex, names: Iterable[Location]) -> list[DamagedIndex]:
    """Return those of the objects that have no index, and are archives of Sealift's by their metadata.

    An object that cannot be looked at may be one.
    """
    if not (names := list(names)):
        return []
    store = open_side(side, max_in_flight=LOOKS_AT_ONCE)

    async def look(archive: Location) -> DamagedIndex | None:
        try:
            metadata = (await retry(lambda: store.head(ObjectRef(*archive)))).attributes.metadata
        except NotFound:
            return None
        except StoreError:
            metadata = {SOURCE_METADATA: ""}
        if SOURCE_METADATA not in metadata or await index.etag(archive) is not None:
            return None
        return DamagedIndex(archive, "it has no index", metadata[SOURCE_METADATA] or None)

    try:
        return [each for each in await gather_bounded(look, names, LOOKS_AT_ONCE) if each is not None]
    finally:
        await store.close()
