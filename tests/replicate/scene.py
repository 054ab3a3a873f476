"""A key in two buckets in memory, its rows, and the jobs over them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from jobs.core.model import Attributes, Location, ObjectRef, ObjectVersion, Route
from jobs.core.outcome import Outcome, Status
from jobs.errors import Conflict
from jobs.ledger.uploads import ShardUploads
from jobs.runs.failure_count import TRIES
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.lookup import key_history
from jobs.s3.store import UNGUARDED
from jobs.s3.uploads import NO_RECORDS
from jobs.sync.job import SyncJob
from jobs.sync.key import SyncOptions
from jobs.verify.job import Verify, VerifyOptions
from tests.doubles.memory_store import MemoryStore

KIB = 1024
SOURCE, COPY = ObjectRef("source", "in/k"), ObjectRef("destination", "out/k")
ROUTE = Route(Location("source", "in/"), Location("destination", "out/"))
PARTS: dict[str, Any] = {"multipart_threshold_bytes": 6 * KIB, "part_size_bytes": 5 * KIB}
"""See conftest.py: a part has 5 KiB at least."""


def ticking() -> Callable[[], float]:
    """A clock that is a second later at each look."""
    seconds = itertools.count(1)
    return lambda: float(next(seconds))


def make_store(*, versioned: bool = True, object_lock: bool = False, **options: Any) -> MemoryStore:
    store = MemoryStore(**{"minimum_part_bytes": 1} | options)
    for bucket in ("source", "destination", "ledger"):
        store.create_bucket(bucket, versioned, object_lock)
    return store


async def put(store: MemoryStore, body: bytes, ref: ObjectRef = SOURCE, **attributes: Any) -> ObjectVersion:
    """Write an object. Returns the manifest row that an inventory would have of it."""
    await MemoryStore.put(store, *ref[:2], body, Attributes(**attributes), guard=UNGUARDED)
    return await row_of(store, ref)


async def put_in_parts(store: MemoryStore, *pieces: bytes, ref: ObjectRef = SOURCE, **sums: Any) -> ObjectVersion:
    upload = await store.create_multipart(*ref[:2], Attributes(), **sums)
    parts = [await store.put_part(*ref[:2], upload, number, piece) for number, piece in enumerate(pieces, 1)]
    await store.complete_multipart(*ref[:2], upload, parts, guard=UNGUARDED)
    return await row_of(store, ref)


async def row_of(store: MemoryStore, ref: ObjectRef = SOURCE) -> ObjectVersion:
    info = await MemoryStore.head(store, ref)
    about = (info.size_bytes, info.etag, info.last_modified, info.storage_class)
    return ObjectVersion(0, ref.key, info.version_id, True, False, *about)


async def rows_of(store: MemoryStore) -> list[ObjectVersion]:
    """All that the source has now, as a listing names it, oldest first."""
    return [ObjectVersion(row, *each[:8]) for row, each in enumerate(await key_history(store, *SOURCE[:2]))]


def bodies(store: MemoryStore, ref: ObjectRef = COPY) -> list[bytes | None]:
    """The versions, oldest first. None: a delete marker."""
    return [None if each.is_delete_marker else each.data for each in store.stored(*ref[:2])]


def job(store: MemoryStore, records: ShardUploads | None = None, **options: Any) -> SyncJob:
    chosen = SyncOptions.from_dict({"is_replay": True, **options})
    return SyncJob(store, store, ROUTE, chosen, ByteBudget(64 * KIB), records or NO_RECORDS)


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


def verifier(store: MemoryStore, copied: Any = None, **options: Any) -> Verify:
    return Verify(store, store, ROUTE, VerifyOptions(**options), ByteBudget(1 << 20), copied)


async def verify(store: MemoryStore, row: ObjectVersion, copied: Any = None, **options: Any) -> Outcome:
    [outcome] = await verifier(store, copied, **options).process([row])
    return outcome


def statuses(outcomes: Sequence[Outcome]) -> list[Status]:
    return [each.status for each in outcomes]


async def finish(store: MemoryStore, rows: Sequence[ObjectVersion], **options: Any) -> list[Outcome]:
    """As a worker does: again after a race, with the same job."""
    worker = job(store, **{"all_versions": True, **options})
    rows = numbered(rows)
    for _ in range(TRIES):
        try:
            return await worker.process(rows)
        except Conflict:
            continue
    raise AssertionError("it does not come to an end")
