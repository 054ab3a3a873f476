"""Guarded writes on servers that may ignore S3's conditional headers.

S3 refuses a write whose `If-None-Match` or `If-Match` does not hold. Some servers that speak its
interface ignore these headers on some operations (Ceph 18.2 on CopyObject and
CompleteMultipartUpload, moto on CopyObject), and then a guarded write replaces whatever is there.
Others refuse an ETag even where it holds (Ceph 18.2 on PutObject), so nothing can be replaced. So
each operation is tried once for each bucket, on objects of our own beside the first key, before a
write relies on it. AWS's own endpoints are not tried: their conditions are documented
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-requests.html).

Where a condition is ignored, the destination is checked by a HEAD directly before the write. A
write by others between the check and the write can then be lost, and every such outcome says so. A
write that would replace an object for good, in a bucket without versions, is refused. A source is
checked before it is copied and again afterwards, parts before they are published. Where conditions
are required (`--require-conditions`), every write whose condition is ignored is refused, and the
worker stops. An ETag that is refused although it holds counts as ignored, and the write is sent
without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple, TypeVar, cast

from jobs.core.model import Attributes, Checksum, ObjectRef, is_exact
from jobs.core.pace import backoff_seconds
from jobs.errors import ConfigError, Conflict, Denied, NoSuchBucket, NotFound, PreconditionFailed, Rejected, StoreError
from jobs.s3.lookup import find
from jobs.s3.retries import TRIES, retry
from jobs.s3.store import ABSENT, UNGUARDED, CopySettings, Guard, PartDone, Store, Written

T = TypeVar("T")

LOOKED_FIRST = (
    "the server ignores conditions on {operation}: Sealift looked before it wrote, "
    "but a write by others in between may have been replaced"
)
REFUSED_AND_LOOKED = (
    "the server refuses If-Match on {operation} even where it holds: Sealift looked before it wrote, "
    "but a write by others in between may have been replaced"
)
_NO_ETAG = "0" * 32
_BODY = b"Sealift tries whether this server heeds conditions. This object can be deleted."


class Condition(StrEnum):
    """A write's condition: no object in its place, one with an ETag, or a source with an ETag."""

    ABSENT = "absent"
    ETAG = "etag"
    SOURCE = "source"


class Operation(StrEnum):
    """An operation of S3 that writes under conditions."""

    PUT = "PutObject"
    COPY = "CopyObject"
    COMPLETE = "CompleteMultipartUpload"
    COPY_PART = "UploadPartCopy"


class HonouredConditions(NamedTuple):
    """The conditions that a server heeds on one operation in one bucket.

    `refuses_current`: it refuses an ETag even where the object has it.
    """

    operation: Operation
    conditions: frozenset[Condition]
    refuses_current: bool = False

    def covers(self, guard: Guard) -> bool:
        """Whether the server itself keeps this guard."""
        if guard.etag is not None and self.refuses_current:
            return False
        wanted = {Condition.ABSENT} if guard.absent else {Condition.ETAG} if guard.etag is not None else set()
        return self.conditions >= wanted


def look_first(store: Store, *, is_required: bool = False) -> Store:
    """The store, made safe for guarded writes on a server that may ignore their conditions.

    A store that says that its server heeds them (`heeds_conditions`) is returned as it is.
    `is_required`: raise ConfigError for a write whose condition the server ignores.
    """
    if store.heeds_conditions:
        return store
    return cast("Store", ConditionalWrites(store, is_required=is_required))


async def try_conditions(
    store: Store, bucket: str, beside: str, operations: Sequence[Operation] = tuple(Operation)
) -> list[HonouredConditions]:
    """What the server heeds on each operation, tried on two objects beside a key.

    They are removed, where that is allowed. Raises StoreError.
    """
    async with _trial_objects(store, bucket, beside) as objects:
        return [await _TRIALS[each](objects) for each in Operation if each in operations]


async def find_ignored(store: Store, bucket: str, beside: str, operations: Sequence[Operation]) -> list[Operation]:
    """The `operations` on which the server ignores a condition.

    `store`: from `look_first`. `beside`: a key below whose folder the trials write. AWS's own
    endpoints are not tried. Raises StoreError.
    """
    if not isinstance(store, ConditionalWrites):
        return []
    tried = await try_conditions(store.bare, bucket, beside, operations)
    return [each.operation for each in tried if each.refuses_current or each.conditions < CONDITIONS_OF[each.operation]]


def ignored_error(bucket: str, operations: Sequence[str]) -> ConfigError:
    """The error for required conditions that a server ignores."""
    return ConfigError(
        f"the server of s3://{bucket} ignores conditions on {', '.join(operations)}, so a write by others at the same "
        "time could be replaced, and --require-conditions refuses that: write to a server that heeds conditions, or "
        "leave the option out, and Sealift checks before each write"
    )


class ConditionalWrites:
    """A Store around another one.

    See the module. What is not defined here is passed on as it is.
    """

    def __init__(self, store: Store, *, is_required: bool = False):
        self._store, self._is_required = store, is_required
        self._tried: dict[tuple[str, Operation], asyncio.Task[HonouredConditions]] = {}
        self._sources: dict[str, dict[ObjectRef, str]] = {}
        """By upload: the sources of its parts, each with its ETag."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @property
    def bare(self) -> Store:
        """The store without the checks."""
        return self._store

    async def put(
        self,
        bucket: str,
        key: str,
        data: bytes,
        attributes: Attributes,
        *,
        guard: Guard,
        checksum: Checksum | None = None,
    ) -> Written:
        """PutObject. Raises Rejected for a write that would replace an object unguarded."""

        async def write(sent: Guard) -> Written:
            return await self._store.put(bucket, key, data, attributes, guard=sent, checksum=checksum)

        if guard == UNGUARDED:
            return await write(guard)
        return await self._guarded(await self._heeded(bucket, key, Operation.PUT), bucket, key, guard, write)

    async def copy(
        self, source: ObjectRef, source_etag: str | None, bucket: str, key: str, settings: CopySettings, *, guard: Guard
    ) -> Written:
        """CopyObject. Raises Rejected for a write that would replace an object unguarded."""

        async def write(sent: Guard) -> Written:
            return await self._store.copy(source, source_etag, bucket, key, settings, guard=sent)

        heeded = await self._heeded(bucket, key, Operation.COPY)
        await self._check_source(heeded, source, source_etag, bucket)
        written = await self._guarded(heeded, bucket, key, guard, write)
        if source[:2] != (bucket, key):
            await self._check_source(heeded, source, source_etag, bucket, is_again=True)
        return written

    async def copy_part(
        self,
        source: ObjectRef,
        source_etag: str,
        start: int,
        end: int,
        bucket: str,
        key: str,
        upload_id: str,
        number: int,
    ) -> PartDone:
        """UploadPartCopy."""
        heeded = await self._heeded(bucket, key, Operation.COPY_PART)
        await self._check_source(heeded, source, source_etag, bucket)
        self._sources.setdefault(upload_id, {})[source] = source_etag
        return await self._store.copy_part(source, source_etag, start, end, bucket, key, upload_id, number)

    async def complete_multipart(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[PartDone],
        *,
        guard: Guard,
        checksum: Checksum | None = None,
    ) -> Written:
        """CompleteMultipartUpload.

        Raises Rejected for a write that would replace an object unguarded, and PreconditionFailed
        where a source of its parts has changed since.
        """

        async def write(sent: Guard) -> Written:
            return await self._store.complete_multipart(bucket, key, upload_id, parts, guard=sent, checksum=checksum)

        for source, etag in self._sources.get(upload_id, {}).items():
            heeded = await self._heeded(bucket, key, Operation.COPY_PART)
            await self._check_source(heeded, source, etag, bucket, is_again=True)
        if guard == UNGUARDED:
            written = await write(guard)
        else:
            heeded = await self._heeded(bucket, key, Operation.COMPLETE)
            written = await self._guarded(heeded, bucket, key, guard, write)
        self._sources.pop(upload_id, None)
        return written

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """AbortMultipartUpload."""
        self._sources.pop(upload_id, None)
        await self._store.abort_multipart(bucket, key, upload_id)

    async def _heeded(self, bucket: str, key: str, operation: Operation) -> HonouredConditions:
        """What the server heeds, tried once.

        A trial that failed is made again by the next write.
        """
        task = self._tried.get((bucket, operation))
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = asyncio.ensure_future(self._try(bucket, key, operation))
            self._tried[bucket, operation] = task
        return await asyncio.shield(task)

    async def _try(self, bucket: str, key: str, operation: Operation) -> HonouredConditions:
        async with _trial_objects(self._store, bucket, key) as objects:
            return await _TRIALS[operation](objects)

    async def _guarded(
        self,
        heeded: HonouredConditions,
        bucket: str,
        key: str,
        guard: Guard,
        write: Callable[[Guard], Coroutine[Any, Any, Written]],
    ) -> Written:
        if heeded.covers(guard):
            return await write(guard)
        self._check_required(heeded.operation, bucket)
        is_refused = guard.etag is not None and heeded.refuses_current
        await self._look(heeded.operation, ObjectRef(bucket, key), guard, is_refused=is_refused)
        note = (REFUSED_AND_LOOKED if is_refused else LOOKED_FIRST).format(operation=heeded.operation)
        return (await write(UNGUARDED if is_refused else guard))._replace(note=note)

    def _check_required(self, operation: Operation, bucket: str) -> None:
        if self._is_required:
            raise ignored_error(bucket, [operation])

    async def _look(self, operation: str, place: ObjectRef, guard: Guard, *, is_refused: bool) -> None:
        """Refuse the write in the server's stead if the place is not as the guard demands."""
        there = await find(self._store, place)
        etag = there.etag if there else None
        if etag != guard.etag:
            what = f"it has the ETag {etag}" if there else "nothing is there"
            raise PreconditionFailed(operation, str(place), "PreconditionFailed", what, 412)
        if there is not None and not await self._store.is_versioned(place.bucket):
            raise Rejected(
                operation,
                str(place),
                "ConditionsIgnored",
                f"this server {'refuses If-Match even where it holds' if is_refused else 'ignores If-Match'}, and the "
                "bucket keeps no versions: a newer object could be lost. "
                "Enable versioning at the destination, or remove the object there first",
                400,
            )

    async def _check_source(
        self,
        heeded: HonouredConditions,
        source: ObjectRef,
        etag: str | None,
        bucket: str,
        *,
        is_again: bool = False,
    ) -> None:
        """Look at the source in the server's stead, before it is copied and, `is_again`, after that.

        Others may have overwritten it in between, unless a version id names it. `bucket`: where the
        copy goes.
        """
        if etag is None or Condition.SOURCE in heeded.conditions or (is_again and is_exact(source.version_id)):
            return
        if not is_exact(source.version_id):
            self._check_required(heeded.operation, bucket)
        there = await self._store.head(source)
        if there.etag != etag:
            what = f"the source has the ETag {there.etag}"
            raise PreconditionFailed(heeded.operation, str(source), "PreconditionFailed", what, 412)


class _TrialObjects(NamedTuple):
    """Two objects of our own, the ETags that they have now, and what has to be removed after the
    trial: (key, version id).
    """

    store: Store
    bucket: str
    keys: tuple[str, str]
    etags: dict[str, str]
    made: list[tuple[str, str | None]]

    def note(self, key: str, written: Written) -> None:
        """Keep what a write has made."""
        self.etags[key] = written.etag
        self.made.append((key, written.version_id))

    async def note_unanswered(self) -> None:
        """Find what writes have made whose answers were lost.

        Nobody else writes objects of these names.
        """
        with contextlib.suppress(StoreError):
            for key in self.keys:
                self.made.extend(await self._listed(key))

    async def all_made(self) -> list[tuple[str, str | None]]:
        """What has to be removed.

        Ceph names the versions that PutObject makes, and not those of copies. Without its id, a
        delete would only hide a version.
        """
        made = set(self.made)
        has_versions = any(version_id is not None for _, version_id in made)
        for key in {key for key, version_id in self.made if version_id is None and has_versions}:
            with contextlib.suppress(StoreError):
                made = {each for each in made if each != (key, None)} | set(await self._listed(key))
        return sorted(made, key=str)

    async def _listed(self, key: str) -> list[tuple[str, str | None]]:
        page = await retry(partial(self.store.list_versions, self.bucket, key))
        ids = [each.version_id for each in page.entries if each.key == key]
        return [(key, each if is_exact(each) else None) for each in ids]

    async def is_refused(self, key: str, write: Callable[[], Coroutine[Any, Any, Written]]) -> bool:
        """Whether the server refuses a write whose condition does not hold.

        A 404 for what is there does not count. A 409 says nothing of the condition: the write is
        sent again. Raises Conflict where no other answer comes.
        """
        try:
            written = await _without_conflict(write)
        except PreconditionFailed:
            return True
        except NoSuchBucket:
            raise
        except NotFound:
            return False
        self.note(key, written)
        return False


async def _without_conflict(request: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """The request's answer. A 409 is asked for again, some times.

    Nothing else is: a write whose answer was lost may have left an object that nobody removes.
    """
    for attempt in range(1, TRIES):
        try:
            return await request()
        except Conflict:
            await asyncio.sleep(backoff_seconds(attempt, random.random()))
    return await request()


_Trial = Callable[[_TrialObjects], Coroutine[Any, Any, HonouredConditions]]


@contextlib.asynccontextmanager
async def _trial_objects(store: Store, bucket: str, beside: str) -> AsyncIterator[_TrialObjects]:
    """Put the objects beside a key, so that a policy that allows the key allows them, and remove
    all that was made.

    Where the credentials may not delete, the two objects stay.
    """
    name = f"{beside[:200]}.sealift-{secrets.token_hex(8)}"
    objects = _TrialObjects(store, bucket, (f"{name}-a", f"{name}-b"), {}, [])
    try:
        for key in objects.keys:
            objects.note(key, await store.put(bucket, key, _BODY, Attributes(), guard=UNGUARDED))
        yield objects
    except BaseException:
        await objects.note_unanswered()
        raise
    finally:
        with contextlib.suppress(Denied, NotFound):
            for key, version_id in await objects.all_made():
                await retry(partial(store.delete, bucket, key, version_id=version_id))


async def _try_put(objects: _TrialObjects) -> HonouredConditions:
    key = objects.keys[0]

    def put(guard: Guard) -> Coroutine[Any, Any, Written]:
        return objects.store.put(objects.bucket, key, _BODY, Attributes(), guard=guard)

    return await _try_guards(Operation.PUT, objects, key, put)


async def _try_copy(objects: _TrialObjects) -> HonouredConditions:
    source, key = ObjectRef(objects.bucket, objects.keys[0]), objects.keys[1]

    def copy(guard: Guard, source_etag: str | None = None) -> Coroutine[Any, Any, Written]:
        return objects.store.copy(source, source_etag, objects.bucket, key, CopySettings(), guard=guard)

    heeded = await _try_guards(Operation.COPY, objects, key, copy)
    if await objects.is_refused(key, partial(copy, UNGUARDED, _NO_ETAG)):
        heeded = heeded._replace(conditions=heeded.conditions | {Condition.SOURCE})
    return heeded


async def _try_complete(objects: _TrialObjects) -> HonouredConditions:
    store, bucket, key = objects.store, objects.bucket, objects.keys[0]

    async def complete(guard: Guard) -> Written:
        async with _trial_upload(objects, key) as upload_id:
            part = await store.put_part(bucket, key, upload_id, 1, _BODY)
            return await store.complete_multipart(bucket, key, upload_id, [part], guard=guard)

    return await _try_guards(Operation.COMPLETE, objects, key, complete)


async def _try_copy_part(objects: _TrialObjects) -> HonouredConditions:
    source, key = ObjectRef(objects.bucket, objects.keys[0]), objects.keys[1]
    async with _trial_upload(objects, key) as upload_id:
        send = partial(objects.store.copy_part, source, _NO_ETAG, 0, len(_BODY), objects.bucket, key, upload_id, 1)
        try:
            await _without_conflict(send)
        except PreconditionFailed:
            return HonouredConditions(Operation.COPY_PART, frozenset({Condition.SOURCE}))
    return HonouredConditions(Operation.COPY_PART, frozenset())


_TRIALS: Mapping[Operation, _Trial] = {
    Operation.PUT: _try_put,
    Operation.COPY: _try_copy,
    Operation.COMPLETE: _try_complete,
    Operation.COPY_PART: _try_copy_part,
}
CONDITIONS_OF: Mapping[Operation, frozenset[Condition]] = {
    Operation.PUT: frozenset({Condition.ABSENT, Condition.ETAG}),
    Operation.COPY: frozenset(Condition),
    Operation.COMPLETE: frozenset({Condition.ABSENT, Condition.ETAG}),
    Operation.COPY_PART: frozenset({Condition.SOURCE}),
}
"""The conditions that S3 heeds on each operation."""


async def _try_guards(
    operation: Operation, objects: _TrialObjects, key: str, write: Callable[[Guard], Coroutine[Any, Any, Written]]
) -> HonouredConditions:
    """Write over an object of ours under conditions that do not hold.

    Where the server refuses another ETag, also write under the object's own.
    """
    guards = {Condition.ABSENT: ABSENT, Condition.ETAG: Guard(etag=_NO_ETAG)}
    refused = [name for name, guard in guards.items() if await objects.is_refused(key, partial(write, guard))]
    refuses_current = Condition.ETAG in refused and await objects.is_refused(
        key, partial(write, Guard(etag=objects.etags[key]))
    )
    return HonouredConditions(operation, frozenset(refused), refuses_current)


@contextlib.asynccontextmanager
async def _trial_upload(objects: _TrialObjects, key: str) -> AsyncIterator[str]:
    """A multipart upload that is aborted in the end. One that was completed is gone already."""
    upload_id = await objects.store.create_multipart(objects.bucket, key, Attributes())
    try:
        yield upload_id
    finally:
        with contextlib.suppress(StoreError):
            await objects.store.abort_multipart(objects.bucket, key, upload_id)
