"""Looking at one key: the object if it is there, and all its versions."""

from __future__ import annotations

from jobs.core.history import in_order
from jobs.core.model import Listed, ObjectInfo, ObjectRef
from jobs.errors import NotFound
from jobs.s3.store import Marker, Store


async def find(store: Store, ref: ObjectRef) -> ObjectInfo | None:
    """What HEAD says, None when the object is not there. A missing bucket is still an error."""
    try:
        return await store.head(ref)
    except NotFound as error:
        if error.code == "NoSuchBucket":
            raise
        return None


async def key_history(store: Store, bucket: str, key: str) -> list[Listed]:
    """All versions and delete markers of exactly this key, oldest first."""
    found: list[Listed] = []
    after: Marker | None = None
    while True:
        page = await store.list_versions(bucket, key, after=after)
        found += [entry for entry in page.entries if entry.key == key]
        past = bool(page.entries) and page.entries[-1].key != key
        if page.next_marker is None or past:
            return in_order(found[::-1])
        after = page.next_marker
