"""A key at both sides in memory, its rows, `sync_key` over it, and the jobs of runs that copy and verify."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from jobs.core.model import Attributes, Checksum, Location, ObjectRef, ObjectVersion, Route
from jobs.core.outcome import Outcome, Status
from jobs.errors import Conflict, Unavailable
from jobs.ledger.uploads import ShardUploads
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.lookup import key_history
from jobs.s3.store import UNGUARDED
from jobs.s3.uploads import NO_RECORDS
from jobs.sync.key import KeyResult, Sides, SyncOptions, sync_key
from jobs.verify.job import Verify, VerifyOptions
from tests.doubles.hooks import names, watch
from tests.doubles.memory_store import MemoryStore

KIB = 1024
SOURCE, COPY = ObjectRef("source", "in/k"), ObjectRef("destination", "out/k")
ROUTE = Route(Location("source", "in/"), Location("destination", "out/"))
PARTS: dict[str, Any] = {"multipart_threshold_bytes": 6 * KIB, "part_size_bytes": 5 * KIB}
EVENT: dict[str, Any] = {"all_versions": True, "storage_class": "STANDARD"}
"""What an event's pair says that has a class of its own."""


def ticking(step_seconds: float = 1.0) -> Callable[[], float]:
    """A clock that is later at each look."""
    seconds = itertools.count(1_000, step_seconds)
    return lambda: float(next(seconds))


def make_store(
    *,
    versioned: bool = True,
    kept: bool | None = None,
    object_lock: bool = False,
    step_seconds: float = 10.0,
    **options: Any,
) -> MemoryStore:
    """`kept`: the destination keeps versions, as the source does if it is None. Each look at the clock moves it on."""
    settings: dict[str, Any] = {"clock": ticking(step_seconds), "minimum_part_bytes": 1} | options
    store = MemoryStore(**settings)
    store.create_bucket("source", versioned, object_lock)
    store.create_bucket("destination", versioned if kept is None else kept, object_lock)
    store.create_bucket("ledger", versioned)
    return store


async def put(store: MemoryStore, body: bytes, ref: ObjectRef = SOURCE, **attributes: Any) -> ObjectVersion:
    """Write an object. Returns the row that an inventory would have of it."""
    await MemoryStore.put(store, ref, body, Attributes(**attributes), guard=UNGUARDED)
    return await row_of(store, ref)


async def put_in_parts(
    store: MemoryStore, *pieces: bytes, ref: ObjectRef = SOURCE, algorithm: str = ""
) -> ObjectVersion:
    checksum = Checksum(algorithm, "", is_composite=algorithm != "CRC64NVME") if algorithm else None
    upload = await MemoryStore.create_multipart(store, ref, Attributes(), checksum=checksum)
    parts = [await MemoryStore.put_part(store, upload, n, piece) for n, piece in enumerate(pieces, 1)]
    await MemoryStore.complete_multipart(store, upload, parts, guard=UNGUARDED)
    return await row_of(store, ref)


async def delete(store: MemoryStore, ref: ObjectRef = SOURCE) -> None:
    await MemoryStore.delete(store, ObjectRef(ref.bucket, ref.key, ref.version_id))


async def row_of(store: MemoryStore, ref: ObjectRef = SOURCE) -> ObjectVersion:
    info = await MemoryStore.head(store, ref)
    about = (info.size_bytes, info.etag, info.last_modified, info.storage_class)
    return ObjectVersion(0, ref.key, info.version_id, True, False, *about)


async def rows_of(store: MemoryStore) -> list[ObjectVersion]:
    """All that the source has now, as a listing names it, oldest first."""
    return [ObjectVersion(row, *each[:8]) for row, each in enumerate(await key_history(store, *SOURCE[:2]))]


def event_of(row: ObjectVersion) -> ObjectVersion:
    """What an event says of a version."""
    return ObjectVersion(row.row, row.key, row.version_id, size_bytes=row.size_bytes, etag=row.etag)


def bodies(store: MemoryStore, ref: ObjectRef = COPY) -> list[bytes | None]:
    """The versions, oldest first. None: a delete marker."""
    return [None if each.is_delete_marker else each.data for each in store.stored(*ref[:2])]


def sides(store: MemoryStore, route: Route = ROUTE, **options: Any) -> Sides:
    return Sides(store, store, route, SyncOptions.from_dict(options), ByteBudget(64 * KIB))


async def sync(
    store: MemoryStore, *rows: ObjectVersion, is_event: bool = False, is_last: bool = False, **options: Any
) -> KeyResult:
    return await sync_key(sides(store, **options), SOURCE.key, rows, is_event=is_event, is_last=is_last)


async def sync_one(store: MemoryStore, row: ObjectVersion, **options: Any) -> Outcome:
    return (await sync(store, row, **options)).outcomes[row.row]


async def sync_all(store: MemoryStore, **options: Any) -> list[Outcome]:
    """All versions of the source, as a run has them."""
    result = await sync(store, *await rows_of(store), **{"all_versions": True, "mirrors_deletes": True} | options)
    return list(result.outcomes.values())


def job(store: MemoryStore, records: ShardUploads | None = None, **options: Any) -> Sides:
    chosen = SyncOptions.from_dict({"is_replay": True, **options})
    return Sides(store, store, ROUTE, chosen, ByteBudget(64 * KIB), records or NO_RECORDS)


async def replicate(store: MemoryStore, row: ObjectVersion, **options: Any) -> Outcome:
    [outcome] = await job(store, **options).process([row])
    return outcome


def numbered(rows: Sequence[ObjectVersion]) -> list[ObjectVersion]:
    """The rows of one manifest, of which each has a number of its own."""
    is_numbered = len({row.row for row in rows}) == len(rows)
    return list(rows) if is_numbered else [row._replace(row=number) for number, row in enumerate(rows)]


async def replay(store: MemoryStore, rows: Sequence[ObjectVersion], **options: Any) -> list[Outcome]:
    """As rows of one manifest, whatever their numbers were."""
    return await job(store, **{"all_versions": True, **options}).process(numbered(rows))


def verifier(store: MemoryStore, **options: Any) -> Verify:
    return Verify(store, store, ROUTE, VerifyOptions(**options), ByteBudget(1 << 20))


async def verify(store: MemoryStore, row: ObjectVersion, **options: Any) -> Outcome:
    [outcome] = await verifier(store, **options).process([row])
    return outcome


async def finish(both: Sides, rows: Sequence[ObjectVersion], *, is_event: bool = False) -> KeyResult:
    """As a worker does: again after what may pass."""
    for _ in range(8):
        try:
            return await sync_key(both, SOURCE.key, rows, is_event=is_event)
        except (Conflict, Unavailable):
            continue
    raise AssertionError("it does not come to an end")


async def count(store: MemoryStore, both: Sides, *rows: ObjectVersion, is_event: bool = False) -> Counter[str]:
    """The requests of one key, without what a worker asks once."""
    await both.keeps_versions()
    requests = watch(store)
    await sync_key(both, SOURCE.key, rows, is_event=is_event)
    store.hook(every=None)
    return Counter(names(requests))


def statuses(outcomes: Sequence[Outcome]) -> list[Status]:
    return [each.status for each in outcomes]


async def finish_rows(store: MemoryStore, rows: Sequence[ObjectVersion], **options: Any) -> list[Outcome]:
    """As a worker does with the rows of one manifest."""
    rows = numbered(rows)
    result = await finish(sides(store, **{"all_versions": True, "is_replay": True} | options), rows)
    return [result.outcomes[row.row] for row in rows]
