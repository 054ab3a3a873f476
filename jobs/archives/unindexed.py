"""Archives without an index: their names by a listing, and their metadata.

The index knows nothing of such an archive. A reader that asks the index alone would say that its
members are in no archive. An archive gets its index last, so one that was killed before that has
none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from jobs.archives.files import SOURCE_METADATA, list_archives
from jobs.archives.model import DamagedIndex
from jobs.core.model import Location, ObjectRef
from jobs.errors import Denied, NoSuchBucket, NotFound, Redirected, StoreError
from jobs.s3.retries import gather_bounded, retry
from jobs.s3.store import Store

if TYPE_CHECKING:  # PyArrow loads there
    from jobs.archives.index import ArchiveIndex

LOOKS_AT_ONCE = 64
UNREADABLE = (NotFound, NoSuchBucket, Denied, Redirected)


async def etags_of_archives(store: Store, location: Location) -> dict[Location, str] | None:
    """Return the ETags of a place's objects that have an archive's name. None if nobody may list it."""
    try:
        return {archive: etag async for archive, etag in list_archives(store, location)}
    except UNREADABLE:
        return None


async def find_unindexed(store: Store, index: ArchiveIndex, names: Iterable[Location]) -> list[DamagedIndex]:
    """Return those of the objects that have no index, and are archives of Sealift's by their metadata.

    An object that cannot be looked at may be one.
    """

    async def look(archive: Location) -> DamagedIndex | None:
        try:
            metadata = (await retry(lambda: store.head(ObjectRef(*archive)))).attributes.metadata
        except NotFound:
            return None
        except StoreError:
            metadata = {SOURCE_METADATA: ""}
        if SOURCE_METADATA not in metadata or await index.etag(archive) is not None:
            return None
        return DamagedIndex(archive, "it has no index", metadata[SOURCE_METADATA] or None, "missing")

    found = await gather_bounded(look, list(names), LOOKS_AT_ONCE)
    return [each for each in found if each is not None]
