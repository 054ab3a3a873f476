"""Lookup of one key: its current object, all its versions, its tags, and whether a write ended on top and
shows what it was asked to carry.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeVar

from msgspec import Struct

from jobs.core.evidence import is_multipart
from jobs.core.histories import in_order
from jobs.core.model import NULL_VERSION, Attributes, Listed, ObjectInfo, ObjectLock, ObjectRef
from jobs.errors import Conflict, Denied, NotFound, Redirected, Rejected
from jobs.s3.retries import retry
from jobs.s3.store import Marker, Store, Written
from jobs.s3.wire import epoch_seconds

T = TypeVar("T")

NOT_IMPLEMENTED = 501
"""The status of what a server does not know, or cannot do for this bucket."""
NOT_KEPT = "asked for, but not shown at the copy: {names}"
UNSEEN = "the copy could not be looked at, so whether it is current and has its tags, lock and encryption is not known"


async def find(store: Store, ref: ObjectRef) -> ObjectInfo | None:
    """What HEAD says, None when the object is not there. A missing bucket is still an error."""
    try:
        return await store.head(ref)
    except NotFound:
        return None


async def look_at_written(store: Store, target: ObjectRef, written: Written, asked: Attributes) -> str:
    """What an upload in parts was asked to carry and the new object does not show, by one HEAD.

    S3 orders versions by the beginning of their uploads, so what came while the parts were sent is on top. No condition
    prevents that for a delete marker, and it may have come later as well. Some servers drop what an upload was to carry
    at CreateMultipartUpload without a word. S3 shows a lock only to those who may read it.

    Raises Conflict when another version is current, or a delete marker.
    """
    try:
        info = await retry(lambda: store.head(target))
        ids = {written.version_id, info.version_id}  # some servers leave the version id out
        if info.etag != written.etag if ids & {None, NULL_VERSION} else len(ids) > 1:
            raise Conflict("HeadObject", str(target), "Raced", "another version came while the parts were sent")
        tags = asked.tags
        if info.tag_count != len(tags):  # some servers, and some permissions, leave the count out
            tags = await retry(lambda: store.get_tags(target._replace(version_id=written.version_id)))
    except NotFound as error:
        raise Conflict(error.operation, error.target, "Raced", "a delete came while the parts were sent") from error
    except (Denied, Redirected, Rejected):
        return UNSEEN
    names = not_kept(asked, info, tags)
    return NOT_KEPT.format(names=", ".join(names)) if names else ""


def not_kept(asked: Attributes, info: ObjectInfo, tags: Mapping[str, str]) -> list[str]:
    """The names of what an object with these `tags` does not have as it was asked for. Pure."""
    has = info.attributes
    lock, own = asked.lock or ObjectLock(), has.lock or ObjectLock()
    names = []
    if dict(asked.tags) != dict(tags):
        names.append("tags")
    until, own_until = (epoch_seconds(each.retain_until or "") for each in (lock, own))
    if lock.mode and (lock.mode, until) != (own.mode, own_until):
        names.append("retention")
    if lock.legal_hold and not own.legal_hold:
        names.append("legal hold")
    if lock.event_hold and not own.event_hold:
        names.append("event hold")
    if missing := has.missing_encryption(asked.sse, asked.kms_key_id):
        names.append(missing)
    return names


class KeyPages:
    """The versions and delete markers of exactly one key, read newest first, a page at a time.

    A page is one LIST, which costs the same however much it brings, and one HEAD for a null version
    that looks as if it came in parts. `newest_first`: what has been read, as it was listed.
    """

    def __init__(self, store: Store, bucket: str, key: str):
        self._store, self._bucket, self._key = store, bucket, key
        self.newest_first: list[Listed] = []
        self._after: Marker | None = None
        self.pages = 0
        self.is_whole = False

    async def read_page(self) -> None:
        """Read the next page. Raises StoreError."""
        page = await self._store.list_versions(self._bucket, self._key, after=self._after)
        self.newest_first += [await self._corrected(entry) for entry in page.entries if entry.key == self._key]
        past = bool(page.entries) and page.entries[-1].key != self._key
        self._after, self.is_whole = page.next_marker, page.next_marker is None or past
        self.pages += 1

    async def _corrected(self, entry: Listed) -> Listed:
        """Return a null version with the ETag that requests know.

        SeaweedFS lists a large one with another ETag, which looks like that of an upload in parts, and an
        empty one without.
        """
        is_sure = entry.etag and not is_multipart(entry.etag)
        if entry.version_id != NULL_VERSION or entry.is_delete_marker or is_sure:
            return entry
        try:
            info = await find(self._store, ObjectRef(self._bucket, self._key, NULL_VERSION))
        except (Denied, Redirected, Rejected):
            return entry
        if info is None or info.etag == entry.etag:
            return entry
        return entry._replace(etag=info.etag, size_bytes=info.size_bytes, last_modified=info.last_modified)

    @property
    def versions(self) -> list[Listed]:
        """What has been read, oldest first."""
        return in_order(self.newest_first[::-1])


async def key_history(store: Store, bucket: str, key: str) -> list[Listed]:
    """All versions and delete markers of exactly this key, oldest first."""
    pages = KeyPages(store, bucket, key)
    while not pages.is_whole:
        await pages.read_page()
    return pages.versions


class KeyLooks:
    """Looks at the keys of one bucket, each key at most once, however many of its versions are
    asked for.

    What was seen stays as it was: make another one to look again.
    """

    def __init__(self, store: Store, bucket: str):
        self.store, self.bucket = store, bucket
        self._currents = dict[str, asyncio.Future[ObjectInfo | None]]()
        self._histories = dict[str, asyncio.Future[list[Listed]]]()

    def current(self, key: str) -> Awaitable[ObjectInfo | None]:
        """What is current at the key."""
        return _once(self._currents, key, partial(find, self.store, ObjectRef(self.bucket, key)))

    def history(self, key: str) -> Awaitable[list[Listed]]:
        """All versions of the key, oldest first."""
        return _once(self._histories, key, partial(key_history, self.store, self.bucket, key))


def _once(looks: dict[str, asyncio.Future[T]], key: str, look: Callable[[], Awaitable[T]]) -> Awaitable[T]:
    if key not in looks:
        looks[key] = asyncio.ensure_future(retry(look))
    return looks[key]


class TagReader(Struct):
    """Reads the tags of objects of one bucket, few of which have some.

    S3 says how many an object has only to those who may read them:
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
    So objects that seem to have none are asked until one such request succeeds.
    """

    store: Store
    _counts_are_told: bool | None = None
    """False: one that seemed to have none has some."""

    async def read(self, ref: ObjectRef, count: int) -> Mapping[str, str]:
        """The tags of a version that seems to have `count`. Raises StoreError."""
        if self._counts_are_told and not count:
            return {}
        tags = await self.store.get_tags(ref)
        if not count and self._counts_are_told is not False:
            self._counts_are_told = not tags
        return tags

    async def read_surely(self, ref: ObjectRef, count: int) -> Mapping[str, str]:
        """As `read`, but only AWS is believed to count tags: any other server is asked each time.

        A server that does not know tags has none.
        """
        try:
            return await (self.read(ref, count) if self.store.heeds_conditions else self.store.get_tags(ref))
        except Rejected as error:
            if error.status != NOT_IMPLEMENTED or count:
                raise
            return {}
