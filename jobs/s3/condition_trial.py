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

import re
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from jobs.core.model import NULL_VERSION, Attributes, Listed, Location, ObjectRef
from jobs.errors import ConfigError, NotFound, PreconditionFailed, Rejected, StoreError
from jobs.s3.operations import Operation
from jobs.s3.retries import gather_bounded, retry
from jobs.s3.store import ABSENT, UNGUARDED, CopySettings, Guard, Store, Upload, Written

LEFT_SECONDS = 3600.0
"""What is older was left by a killed trial."""
_FOLDER = ".sealift/trial-"
_NO_ETAG = "0123456789abcdef" * 2
_WRONG = Guard(etag=_NO_ETAG)
_BODY = b"a trial of conditions"
Write = Callable[[Guard, str | None], Awaitable[Any]]

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


async def find_ignored(store: Store, place: Location, operations: Collection[Operation]) -> list[Operation]:
    """The operations on which the server ignores a condition, or refuses one that holds.

    Raises StoreError: then nothing is known of the server.
    """
    if store.heeds_conditions or not operations:
        return []
    trial = _Trial(store, place)
    try:
        tried = [each for each in _BROKEN if each in operations]
        heeded = await gather_bounded(trial.is_heeded, tried, len(tried))
        return [each for each, is_heeded in zip(tried, heeded, strict=True) if not is_heeded]
    finally:
        with suppress(StoreError):  # the next trial sweeps
            await trial.sweep()


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
    """The operations are tried at once, each on an object of its own: what one ignores says nothing of another."""

    def __init__(self, store: Store, place: Location):
        self._store, self._bucket, self._folder = store, place.bucket, place.join(_FOLDER).key
        self._keys, self._uploads = set[str](), list[Upload]()

    async def is_heeded(self, operation: Operation) -> bool:
        """True if the server refuses each condition that does not hold, and accepts the ETag that is there.

        A refusal of what was done counts as accepted: a first try wrote it, and its answer was lost.
        """
        key = await self._make()
        write = await self._write_of(operation, key)
        for guard, source_etag in _BROKEN[operation]:
            refusal = await _refusal(partial(write, guard, source_etag))
            if not isinstance(refusal, PreconditionFailed):  # a 404 for what is there is no sign of heed
                return False
        if operation is Operation.COPY_PART:
            return True
        before = await retry(partial(self._store.head, key))
        refusal = await _refusal(partial(write, Guard(etag=before.etag), None))
        if refusal is not None and not await self._is_changed(key, before.etag):
            return False
        return operation is not Operation.DELETE or await self._removes_version(key, before.version_id)

    async def _make(self) -> ObjectRef:
        """An object of the trial."""
        ref = ObjectRef(self._bucket, self._folder + secrets.token_hex(16))
        self._keys.add(ref.key)
        await retry(partial(self._store.put, *ref[:2], _BODY, Attributes(), guard=UNGUARDED))
        return ref

    async def _removes_version(self, key: ObjectRef, version_id: str | None) -> bool:
        """Whether a delete of this version removes it. A gateway that ignores the id hides what is current, and may do
        so for HEAD as well.
        """
        if version_id is None:
            return True
        with suppress(NotFound):
            await retry(partial(self._store.delete, *key[:2], version_id=version_id))
        left = await retry(partial(self._store.list_versions, *key[:2]))
        return all(each.version_id != version_id for each in left.entries)

    async def _is_changed(self, key: ObjectRef, etag: str | None) -> bool:
        try:
            return (await retry(partial(self._store.head, key))).etag != etag
        except NotFound:
            return True

    async def _begin(self, key: ObjectRef) -> Upload:
        self._uploads.append(await retry(partial(self._store.create_multipart, *key[:2], Attributes())))
        return self._uploads[-1]

    async def _write_of(self, operation: Operation, key: ObjectRef) -> Write:
        """The write that is tried at this object, by its condition and the ETag of what is copied."""
        store = self._store
        if operation is Operation.PUT:
            return lambda guard, _: store.put(*key[:2], _BODY, Attributes(), guard=guard)
        if operation is Operation.DELETE:
            return lambda guard, _: store.delete(*key[:2], if_match=guard.etag)
        if operation is Operation.COMPLETE:
            upload = await self._begin(key)

            async def complete(guard: Guard, _: str | None) -> Written:
                return await store.complete_multipart(upload, [await store.put_part(upload, 1, _BODY)], guard=guard)

            return complete
        source = await self._make()
        if operation is Operation.COPY:
            return lambda guard, etag: store.copy(source, etag, *key[:2], CopySettings(), guard=guard)
        upload = await self._begin(key)
        return lambda _, etag: store.copy_part(source, str(etag), 0, len(_BODY), upload, 2)

    async def sweep(self) -> None:
        """Remove all of this trial, and of killed ones. Raises StoreError."""
        page = await retry(partial(self._store.list_versions, self._bucket, self._folder))
        left = [(each.key, each.version_id or NULL_VERSION) for each in page.entries if self._is_left(each)]
        for upload in self._uploads:
            await self._store.abort_multipart(upload)
        for key, version_id in left:
            with suppress(NotFound):
                await retry(partial(self._store.delete, self._bucket, key, version_id=version_id))

    def _is_left(self, entry: Listed) -> bool:
        if not re.fullmatch(re.escape(self._folder) + "[0-9a-f]{32}", entry.key):
            return False
        return entry.key in self._keys or entry.last_modified < time.time() - LEFT_SECONDS


async def _refusal(request: Callable[[], Awaitable[Any]]) -> StoreError | None:
    try:
        await retry(request)
    except (PreconditionFailed, NotFound, Rejected) as error:
        return error
    return None
