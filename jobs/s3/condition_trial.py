"""One trial of the conditions of writes, for servers whose documents do not promise them.

S3 refuses a write whose `If-None-Match` or `If-Match` does not hold. Some servers that speak its interface
ignore these headers on some operations (Ceph 18.2 on CopyObject, CompleteMultipartUpload and DeleteObject, moto on
CopyObject), others refuse an ETag even where it holds (Ceph 18.2 on PutObject). So a run that writes to a bucket tries
its operations there once, when it is planned, on two objects of its own:

    <prefix>.sealift/trial-<32 hex>

No listing of Sealift shows them (`jobs.core.selection.is_sealift_object`). The trial removes them, and its one upload,
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

from jobs.core.model import NULL_VERSION, Attributes, Listed, Location, ObjectRef
from jobs.errors import ConfigError, NotFound, PreconditionFailed, Rejected, StoreError
from jobs.s3.operations import Operation
from jobs.s3.retries import retry
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
CONDITIONAL = tuple(_BROKEN)
"""The operations that are sent under a condition, in the order of their trials: the upload ends with the first COMPLETE
that is accepted."""
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
        await trial.begin(operations)
        return [each for each in CONDITIONAL if each in operations and not await trial.is_heeded(each)]
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
    def __init__(self, store: Store, place: Location):
        self._store, self._bucket, self._folder = store, place.bucket, place.join(_FOLDER).key
        self._source, self._key = (self._folder + secrets.token_hex(16) for _ in range(2))
        self._upload = Upload(self._bucket, self._key, "")

    async def begin(self, operations: Collection[Operation]) -> None:
        """Make what the operations need."""
        store, bucket = self._store, self._bucket
        if Operation.COMPLETE in operations or Operation.COPY_PART in operations:
            self._upload = await retry(partial(store.create_multipart, bucket, self._key, Attributes()))
        for key in (self._source, self._key):
            await retry(partial(store.put, bucket, key, _BODY, Attributes(), guard=UNGUARDED))

    async def is_heeded(self, operation: Operation) -> bool:
        """True if the server refuses each condition that does not hold, and accepts the ETag that is there."""
        for guard, source_etag in _BROKEN[operation]:
            refusal = await self._refusal(partial(self._write, operation, guard, source_etag))
            if not isinstance(refusal, PreconditionFailed):  # a 404 for what is there is no sign of heed
                return False
        return operation is Operation.COPY_PART or await self._refusal(partial(self._replace, operation)) is None

    async def _refusal(self, request: Callable[[], Awaitable[None]]) -> StoreError | None:
        try:
            await retry(request)
        except (PreconditionFailed, NotFound, Rejected) as error:
            return error
        return None

    async def _replace(self, operation: Operation) -> None:
        """Write under the ETag that the object has now."""
        info = await self._store.head(ObjectRef(self._bucket, self._key))
        await self._write(operation, Guard(etag=info.etag), None)

    async def _write(self, operation: Operation, guard: Guard, source_etag: str | None) -> None:
        store, bucket, key, source = self._store, self._bucket, self._key, ObjectRef(self._bucket, self._source)
        match operation:
            case Operation.PUT:
                await store.put(bucket, key, _BODY, Attributes(), guard=guard)
            case Operation.COPY:
                await store.copy(source, source_etag, bucket, key, CopySettings(), guard=guard)
            case Operation.COMPLETE:
                part = await store.put_part(self._upload, 1, _BODY)
                await store.complete_multipart(self._upload, [part], guard=guard)
            case Operation.COPY_PART:
                await store.copy_part(source, str(source_etag), 0, len(_BODY), self._upload, 2)
            case Operation.DELETE:
                await store.delete(bucket, key, if_match=guard.etag)

    async def sweep(self) -> None:
        """Remove all of this trial, and of killed ones. Raises StoreError."""
        store, bucket = self._store, self._bucket
        page = await retry(partial(store.list_versions, bucket, self._folder))
        left = [each for each in page.entries if self._is_left(each)]
        if self._upload.upload_id:
            await store.abort_multipart(self._upload)
        if left:
            named = [(each.key, each.version_id or NULL_VERSION) for each in left]
            await retry(partial(store.delete_versions, bucket, named))

    def _is_left(self, entry: Listed) -> bool:
        if not re.fullmatch(re.escape(self._folder) + "[0-9a-f]{32}", entry.key):
            return False
        return entry.key in (self._key, self._source) or entry.last_modified < time.time() - LEFT_SECONDS
