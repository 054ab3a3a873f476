"""One trial of the conditions of writes, for servers whose documents do not promise them.

S3 refuses a write whose `If-None-Match` or `If-Match` does not hold. Some servers that speak its interface
ignore these headers on some operations (Ceph 18.2 on CopyObject, CompleteMultipartUpload and DeleteObject, moto on
CopyObject), others refuse an ETag even where it holds (Ceph 18.2 on PutObject). So a run that writes to a bucket tries
its operations there once, when it is planned, on objects of its own. Of a delete it also tries whether it removes the
version that it names:

    <prefix>.sealift/trial-<32 hex>

No listing of Sealift shows them (`jobs.core.selection.is_sealift_object`). The trial removes them, and its uploads,
and the objects that a killed one left an hour ago. AWS documents its conditions, so nothing
is tried there: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-requests.html
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any

from jobs.core.model import NULL_VERSION, Attributes, Listed, Location, ObjectRef
from jobs.errors import ConfigError, NotFound, PreconditionFailed, Rejected, StoreError
from jobs.s3.lookup import find
from jobs.s3.operations import Operation
from jobs.s3.retries import promptly, retry, together
from jobs.s3.store import ABSENT, UNGUARDED, CopySettings, Guard, Store, Upload

LEFT_SECONDS = 3600.0
"""What is older was left by a killed trial."""
_FOLDER = ".sealift/trial-"
_NO_ETAG = "0123456789abcdef" * 2
_WRONG = Guard(etag=_NO_ETAG)
_BODY = b"a trial of conditions"

_BROKEN: Mapping[Operation, tuple[tuple[Guard, str | None], ...]] = {
    Operation.PUT: ((ABSENT, None), (_WRONG, None)),
    Operation.COPY: ((ABSENT, None), (_WRONG, None), (UNGUARDED, _NO_ETAG)),
    Operation.COPY_PART: ((UNGUARDED, _NO_ETAG),),
    Operation.COMPLETE: ((ABSENT, None), (_WRONG, None)),
    Operation.DELETE: ((_WRONG, None),),
}
"""Conditions that do not hold, for the object and for the source of a copy: S3 refuses each."""
_ACTIONS = {Operation.GET.actions[0], Operation.PUT.actions[0], *Operation.ABORT.actions, *Operation.DELETE.actions}
OF_COPIES = (Operation.COPY, Operation.COPY_PART, Operation.COMPLETE)
OF_STREAMS = (Operation.PUT, Operation.COMPLETE)


async def find_ignored(
    store: Store, place: Location, operations: Collection[Operation], behind: AsyncExitStack | None = None
) -> list[Operation]:
    """The operations on which the server ignores a condition, or refuses one that holds.

    `behind`: its end waits until all is removed that was made here. None: this waits. Raises StoreError: then
    nothing is known of the server.
    """
    if store.heeds_conditions or not operations:
        return []
    trial = _Trial(store, place)
    try:
        tried = [each for each in _BROKEN if each in operations]
        heeded = await together(*map(trial.is_heeded, tried))
        return [each for each, is_heeded in zip(tried, heeded, strict=True) if not is_heeded]
    finally:
        async with AsyncExitStack() as here:
            sweeping = asyncio.create_task(promptly(trial.sweep, f"the trial of conditions at {place}", lambda: place))
            # What an error leaves is swept by the next trial.
            (behind or here).push_async_callback(lambda: asyncio.gather(sweeping, return_exceptions=True))


def ignored_error(place: Location, operations: Sequence[Operation]) -> ConfigError:
    """The error for a destination on whose conditions no write can rely."""
    return ConfigError(
        f"the server of {place} ignores conditions on {', '.join(operations)}, or refuses those that hold, so a write "
        "by others at the same moment could be lost",
        advice="write to a server that heeds conditions. With --unguarded, where "
        "a command has it, Sealift looks before each write instead, which leaves a moment for such a loss",
    )


def untried_error(place: Location, error: StoreError) -> ConfigError:
    """The error for a place where conditions may not be tried."""
    return ConfigError(
        f"it cannot be found out whether the server of {place} heeds conditions: {error}",
        advice=f"permit {', '.join(sorted(_ACTIONS))} for {place.join(_FOLDER)}*, and "
        f"{Operation.LIST_VERSIONS.actions[0]}",
    )


class _Trial:
    """What one condition does says nothing of another. So all objects and uploads are made at once, all conditions are
    tried at once, and all is removed at once: over a slow network the requests in a row are what takes time.

    Each operation has an object that it must replace, and one for each condition that does not hold, which it must not
    replace. They are copied onto each other. Where uploads are needed, each object has one: SeaweedFS takes a second
    to abort two of one key at once.
    """

    def __init__(self, store: Store, place: Location):
        self._store, self._bucket, self._folder = store, place.bucket, place.join(_FOLDER).key
        self._keys, self._uploads = set[str](), list[Upload]()

    async def is_heeded(self, operation: Operation) -> bool:
        """True if the server refuses each condition that does not hold, and accepts those that do.

        A refusal of what was done counts as accepted: a first try wrote it, and its answer was lost.
        """
        replaced, *kept = refs = [self._ref() for _ in [*_BROKEN[operation], None]]
        made = await together(*map(self._put, refs), *map(partial(self._begin, operation), refs))
        (etag, source_etag), uploads = made[:2], made[len(refs) :]
        broken = [(ref, replaced, *each) for ref, each in zip(kept, _BROKEN[operation], strict=True)]
        tried = zip([(replaced, kept[0], Guard(etag=etag), source_etag), *broken], uploads, strict=True)
        last, *refusals = await together(*(self._refusal(operation, upload, *each) for each, upload in tried))
        if not all(isinstance(each, PreconditionFailed) for each in refusals):
            return False  # a 404 for what is there is no sign of heed
        if last is not None and not await self._is_changed(replaced, etag):
            return False
        return operation is not Operation.DELETE or await self._removes_versions(replaced)

    def _ref(self) -> ObjectRef:
        key = self._folder + secrets.token_hex(16)
        self._keys.add(key)
        return ObjectRef(self._bucket, key)

    async def _put(self, ref: ObjectRef) -> str:
        return (await retry(partial(self._store.put, ref, _BODY, Attributes(), guard=UNGUARDED))).etag

    async def _begin(self, operation: Operation, ref: ObjectRef) -> Upload | None:
        if operation not in (Operation.COPY_PART, Operation.COMPLETE):
            return None
        upload = await retry(partial(self._store.create_multipart, ref, Attributes()))
        self._uploads.append(upload)
        return upload

    async def _refusal(
        self, operation: Operation, upload: Any, ref: ObjectRef, source: ObjectRef, guard: Guard, source_etag: Any
    ) -> StoreError | None:
        """Why the server refuses the write, None: it does not."""
        store = self._store

        async def write() -> None:
            if operation is Operation.PUT:
                await store.put(ref, _BODY, Attributes(), guard=guard)
            elif operation is Operation.COPY:
                await store.copy(source, source_etag, ref, CopySettings(), guard=guard)
            elif operation is Operation.COPY_PART:
                await store.copy_part(source, source_etag, 0, None, upload, 1)
            elif operation is Operation.COMPLETE:
                await store.complete_multipart(upload, [await store.put_part(upload, 1, _BODY)], guard=guard)
            else:
                await store.delete(ref, if_match=guard.etag)

        try:
            await retry(write)
        except (PreconditionFailed, NotFound, Rejected) as error:
            return error
        return None

    async def _is_changed(self, ref: ObjectRef, etag: str) -> bool:
        there = await retry(partial(find, self._store, ref))
        return there is None or there.etag != etag

    async def _removes_versions(self, ref: ObjectRef) -> bool:
        """Whether a delete of a version removes it. A gateway that ignores the id hides what is current, and may do so
        for HEAD as well.
        """
        listing = partial(self._store.list_versions, *ref[:2])
        for entry in (await retry(listing)).entries:
            if not entry.is_delete_marker:
                await self._remove(entry)
        return all(each.is_delete_marker for each in (await retry(listing)).entries)

    async def sweep(self) -> None:
        """Remove all of this trial, and of killed ones. Raises StoreError."""
        listing = retry(partial(self._store.list_versions, self._bucket, self._folder))
        page, *_ = await together(listing, *map(self._store.abort_multipart, self._uploads))
        await together(*(self._remove(each) for each in page.entries if self._is_left(each)))

    def _is_left(self, entry: Listed) -> bool:
        if not re.fullmatch(re.escape(self._folder) + "[0-9a-f]{32}", entry.key):
            return False
        return entry.key in self._keys or entry.last_modified < time.time() - LEFT_SECONDS

    async def _remove(self, entry: Listed) -> None:
        with suppress(NotFound):
            version = ObjectRef(self._bucket, entry.key, entry.version_id or NULL_VERSION)
            await retry(partial(self._store.delete, version))
