"""One version of a key that cannot be read or compared: what becomes of the others, and of their order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jobs.core.model import ObjectRef, ObjectVersion
from jobs.core.outcome import Outcome, Status
from jobs.core.reasons import Reason
from jobs.errors import ArchivedObject, Denied, StoreError, Unavailable
from jobs.runs.worker import TRIES
from jobs.sync.key import Sides
from jobs.verify.job import Verify
from tests.doubles.memory_store import MemoryStore, Request
from tests.sync.scene import COPY, bodies, job, make_store, put, put_in_parts, rows_of, statuses, verifier

BODIES = [b"version 1", b"version 2", b"version 3", b"version 4"]


def fails(kind: type[StoreError], code: str, status: int) -> Callable[[ObjectRef], StoreError]:
    return lambda ref: kind("GetObject", str(ref), code, "because", status)


broken, silent = fails(Unavailable, "InternalError", 500), fails(Unavailable, "ConnectionLost", 0)
denied, archived = fails(Denied, "AccessDenied", 403), fails(ArchivedObject, "InvalidObjectState", 403)


async def make(*versions: bytes, in_parts: bool = False) -> MemoryStore:
    """`in_parts`: objects come in parts and without checksums, so that their bytes alone can be compared."""
    store = make_store(default_checksum=None if in_parts else "CRC64NVME")
    await add(store, *versions, in_parts=in_parts)
    return store


async def add(store: MemoryStore, *versions: bytes, in_parts: bool = False) -> None:
    for body in versions:
        await (put_in_parts(store, body) if in_parts else put(store, body))


def fail_reads(store: MemoryStore, version_id: str | None, how: Callable[[ObjectRef], StoreError]) -> None:
    """Each read of this version fails, by a GET or as the source of a copy."""

    async def fail(request: Request) -> Any:
        ref = request.arguments.get("source") or request.place
        if ref.version_id == version_id:
            raise how(ref)
        return await request()

    store.hook(get=fail, copy=fail)


def fail_copy(store: MemoryStore, place: int, how: Callable[[ObjectRef], StoreError]) -> None:
    fail_reads(store, store.stored(*COPY[:2])[place].version_id, how)


def replicator(store: MemoryStore, **options: Any) -> Sides:
    return job(store, all_versions=True, **options)


async def work(worker: Sides | Verify, rows: list[ObjectVersion]) -> list[Outcome]:
    """As the worker does."""
    for _ in range(TRIES - 1):
        try:
            return await worker.process(rows)
        except Unavailable:
            continue
    return await worker.process_last(rows)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("how", "first", "ended"),
    [
        (broken, "same", (Reason.GIVEN_UP, "GetObject: InternalError")),  # an earlier try copied the first
        (denied, "done", (Reason.DENIED, "GetObject: AccessDenied")),
    ],
)
async def test_an_unreadable_version_does_not_keep_newer_ones_from_being_copied(
    how: Callable[[ObjectRef], StoreError], first: str, ended: tuple[Reason, str], streamed: bool
) -> None:
    store = await make(*BODIES)
    rows = await rows_of(store)
    fail_reads(store, rows[1].version_id, how)
    outcomes = await work(replicator(store, streamed=streamed), rows)
    assert statuses(outcomes) == [first, "blocked", "done", "done"]
    assert (outcomes[1].reason, outcomes[1].detail) == ended
    assert bodies(store) == [BODIES[0], BODIES[2], BODIES[3]]
    again = await work(replicator(store, streamed=streamed), rows)
    assert statuses(again) == ["same", "blocked", "same", "same"]


@pytest.mark.parametrize(
    ("how", "reason"),
    [(broken, Reason.GIVEN_UP), (denied, Reason.DENIED), (archived, Reason.ARCHIVED)],
)
async def test_a_copy_that_cannot_be_compared_is_covered_by_newer_versions_only(
    how: Callable[[ObjectRef], StoreError], reason: Reason
) -> None:
    """Only the bytes could tell. It may be the copy of any version of its size."""

    store = await make(*BODIES[:3], in_parts=True)
    assert statuses(await work(replicator(store), await rows_of(store))) == ["done"] * 3
    fail_copy(store, 2, how)
    outcomes = await work(replicator(store), await rows_of(store))
    assert statuses(outcomes) == ["same", "same", "blocked"]
    assert outcomes[2].reason is reason
    assert bodies(store) == BODIES[:3]
    await add(store, BODIES[3] + b", longer", in_parts=True)
    assert statuses(await work(replicator(store), await rows_of(store))) == ["same", "same", "blocked", "done"]
    assert bodies(store) == [*BODIES[:3], BODIES[3] + b", longer"]


async def test_the_newest_comes_again_above_an_older_version_that_covers_a_copy_nobody_could_compare() -> None:
    store = await make(b"one", b"seven", b"fifteen", in_parts=True)
    rows = await rows_of(store)
    await work(replicator(store), [rows[0]])
    await put(store, b"fifteen", COPY)  # the second is missing
    fail_copy(store, 1, broken)
    outcomes = await work(replicator(store), rows)
    assert statuses(outcomes) == ["same", "done", "done"]
    assert bodies(store) == [b"one", b"fifteen", b"seven", b"fifteen"]


async def test_each_version_is_verified_beside_one_that_cannot_be_read() -> None:
    store = await make(*BODIES)
    rows = await rows_of(store)
    await work(replicator(store), rows)
    fail_copy(store, 1, broken)
    worker = verifier(store, all_versions=True, deep=True)
    outcomes = await work(worker, rows)
    assert statuses(outcomes) == ["verified", "blocked", "verified", "verified"]
    assert outcomes[1].status is Status.BLOCKED
    fail_copy(store, 1, silent)
    with pytest.raises(Unavailable):
        await work(worker, rows)
