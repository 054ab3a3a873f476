"""Writes to a server that ignores conditions, where the user agreed to that (`--unguarded`): a look before each.

What others write between look and write can be lost, or copied in part.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

from jobs.core.model import ObjectInfo, ObjectRef
from jobs.errors import PreconditionFailed, Rejected
from jobs.s3.lookup import find
from jobs.s3.operations import Operation
from jobs.s3.store import UNGUARDED, Deleted, Guard, PartDone, Store, Upload, Written


def looking_first(store: Store, ignored: Collection[str]) -> Store:
    """The store, with a look before each write by an operation whose conditions are `ignored`."""
    return cast("Store", _LookingFirst(store, ignored))


class _LookingFirst:
    def __init__(self, store: Store, ignored: Collection[str]):
        self._store, self._ignored = store, ignored

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def put(self, bucket: str, key: str, *rest: Any, guard: Guard, **more: Any) -> Written:
        guard = await self._look(Operation.PUT, ObjectRef(bucket, key), guard)
        return await self._store.put(bucket, key, *rest, guard=guard, **more)

    async def complete_multipart(self, upload: Upload, *rest: Any, guard: Guard, **more: Any) -> Written:
        guard = await self._look(Operation.COMPLETE, upload.place, guard)
        return await self._store.complete_multipart(upload, *rest, guard=guard, **more)

    async def copy(
        self, source: ObjectRef, source_etag: str | None, bucket: str, key: str, *rest: Any, guard: Guard
    ) -> Written:
        await self._check_source(Operation.COPY, source, source_etag)
        guard = await self._look(Operation.COPY, ObjectRef(bucket, key), guard)
        written = await self._store.copy(source, source_etag, bucket, key, *rest, guard=guard)
        if source[:2] != (bucket, key):
            await self._check_source(Operation.COPY, source, source_etag)
        return written

    async def copy_part(self, source: ObjectRef, source_etag: str, *rest: Any) -> PartDone:
        part = await self._store.copy_part(source, source_etag, *rest)
        await self._check_source(Operation.COPY_PART, source, source_etag)
        return part

    async def delete(self, bucket: str, key: str, *, if_match: str | None = None, **more: Any) -> Deleted:
        """Runs that copy make delete markers, and their plans do not try the condition of that."""
        if if_match is not None:
            await self._demand(Operation.DELETE, ObjectRef(bucket, key), if_match)
        return await self._store.delete(bucket, key, if_match=if_match, **more)

    async def _look(self, operation: Operation, place: ObjectRef, guard: Guard) -> Guard:
        """The guard that the server gets. Raises what it would answer to the one that was asked for."""
        if operation not in self._ignored or guard == UNGUARDED:
            return guard
        if await self._demand(operation, place, guard.etag) and not await self._store.is_versioned(place.bucket):
            what = (
                "the server ignores conditions, and the bucket keeps no versions: a newer object could be lost. "
                "Enable versioning at the destination, or remove the object there first"
            )
            raise Rejected(operation, str(place), "ConditionsIgnored", what, 400)
        return UNGUARDED

    async def _check_source(self, operation: Operation, source: ObjectRef, etag: str | None) -> None:
        """A source that has this ETag before and after a copy is what was copied."""
        if operation in self._ignored and etag is not None:
            await self._demand(operation, source, etag)

    async def _demand(self, operation: Operation, ref: ObjectRef, etag: str | None) -> ObjectInfo | None:
        there = await find(self._store, ref)
        if (there.etag if there else None) != etag:
            what = f"it has the ETag {there.etag}" if there else "nothing is there"
            raise PreconditionFailed(operation, str(ref), "PreconditionFailed", what, 412)
        return there
