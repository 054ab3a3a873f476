"""The histories of a key that is longer than the pages that are read."""

from __future__ import annotations

from msgspec.structs import replace

from jobs.core.model import NULL_VERSION, Attributes, ObjectInfo, ObjectRef, ObjectVersion
from jobs.s3.store import UNGUARDED, Marker, Page
from jobs.sync.look import Side, look_by_lists, places_of
from tests.doubles.memory_store import MemoryStore

REF = ObjectRef("b", "k")


class _Terse(MemoryStore):
    """Lists one version a page, and says no id in the answer to HEAD."""

    async def head(self, ref: ObjectRef, *, part_number: int | None = None) -> ObjectInfo:
        return replace(await super().head(ref, part_number=part_number), version_id=None)

    async def list_versions(
        self, bucket: str, prefix: str, *, after: Marker | None = None, delimiter: str = "", max_keys: int = 1
    ) -> Page:
        return await super().list_versions(bucket, prefix, after=after, delimiter=delimiter, max_keys=max_keys)


async def test_a_null_version_below_the_pages_is_not_the_latest_one() -> None:
    """The row was judged by the latest version, and the null version had no copy."""
    store = _Terse()
    store.create_bucket("b", versioned=False)
    await store.put(REF, b"old", Attributes(), guard=UNGUARDED)
    store._buckets.named["b"].is_versioned = True
    await store.put(REF, b"new", Attributes(), guard=UNGUARDED)
    row = ObjectVersion(0, "k", NULL_VERSION)
    source, _ = await look_by_lists(Side(store, REF), Side(store, REF), [row])
    [meant] = places_of([row], source)
    assert meant is source[0]
    assert [each.version_id == NULL_VERSION for each in source] == [True, False]
