"""Looking at one key: the object if it is there, and all its versions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from jobs.core.history import in_order
from jobs.core.model import Listed, ObjectInfo, ObjectRef
from jobs.errors import NotFound
from jobs.s3.store import Marker, Store
from jobs.s3.tries import try_often

T = TypeVar("T")


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


@dataclass(frozen=True, slots=True)
class KeyLooks:
    """Looks at the keys of one bucket, each key at most once, however many of its versions are asked for.

    What was seen stays as it was: make another one to look again.
    """

    store: Store
    bucket: str
    _currents: dict[str, asyncio.Future[ObjectInfo | None]] = field(default_factory=dict)
    _histories: dict[str, asyncio.Future[list[Listed]]] = field(default_factory=dict)

    async def current(self, key: str) -> ObjectInfo | None:
        """What is current at the key."""
        return await _once(self._currents, key, lambda: find(self.store, ObjectRef(self.bucket, key)))

    async def history(self, key: str) -> list[Listed]:
        """All versions of the key, oldest first."""
        return await _once(self._histories, key, lambda: key_history(self.store, self.bucket, key))


async def _once(known: dict[str, asyncio.Future[T]], key: str, look: Callable[[], Awaitable[T]]) -> T:
    if key not in known:
        known[key] = asyncio.ensure_future(try_often(look))
    return await known[key]
