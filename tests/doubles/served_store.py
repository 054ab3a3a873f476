"""A real server's Store within the hooks of a MemoryStore."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from functools import wraps
from typing import Any

from jobs.core.model import Attributes, Listed, ObjectRef, is_exact
from jobs.s3.store import Store
from tests.doubles.memory_buckets import Version
from tests.doubles.memory_store import OPERATIONS, MemoryStore

WRITES = ("put", "copy", "complete_multipart", "delete")


class ServedStore(MemoryStore):
    """Requests go to a server. `stored` is what it lists, and what it gives of each version, after the latest write.

    `places`: bucket and key of what is looked at.
    """

    def __init__(self, server: Store, places: Collection[tuple[str, str]]):
        super().__init__()
        self.server, self.places = server, places
        self.heeds_conditions, self.keeps_annotations = server.heeds_conditions, server.keeps_annotations
        self._lists = {place: list[Version]() for place in places}
        self._seen: dict[ObjectRef, Version] = {}

    def stored(self, bucket: str, key: str) -> list[Version]:
        return list(self._lists[bucket, key])

    async def look(self) -> None:
        """List both places, and read what is new there."""
        for bucket, key in self.places:
            page = await self.server.list_versions(bucket, key)
            self._lists[bucket, key] = [await self._read(bucket, each) for each in reversed(page.entries)]

    async def _read(self, bucket: str, listed: Listed) -> Version:
        """A null version may have been written over in the same second."""
        ref = ObjectRef(bucket, listed.key, listed.version_id)
        if ref not in self._seen or not is_exact(listed.version_id):
            data, attributes = b"", Attributes()
            if not listed.is_delete_marker:
                body = await self.server.get(ref)
                data, attributes = body.data, body.info.attributes
            version = Version(listed.version_id or "null", data, listed.etag or "", listed.last_modified, attributes)
            version.is_delete_marker = listed.is_delete_marker
            if version != self._seen.get(ref):
                self._seen[ref] = version
        return self._seen[ref]


def _sent(name: str) -> Callable[..., Awaitable[Any]]:
    @wraps(getattr(MemoryStore, name))
    async def send(self: ServedStore, *args: Any, **named: Any) -> Any:
        answer = await getattr(self.server, name)(*args, **named)
        if name in WRITES:
            await self.look()
        return answer

    return send


for _name in OPERATIONS:
    setattr(ServedStore, _name, _sent(_name))
