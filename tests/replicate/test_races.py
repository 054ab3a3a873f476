"""Writers between a look and a copy: the copy is of what the row names, and replaces nothing that it has not seen."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.core.model import Attributes, Location, ObjectRef, ObjectVersion, Route
from jobs.core.outcome import Outcome, Status
from jobs.errors import Conflict, PreconditionFailed
from jobs.replicate.job import Replicate, ReplicateOptions
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.store import UNGUARDED
from tests.doubles.memory_store import MemoryStore, Request

MIB = 1024 * 1024
SMALL: dict[str, Any] = {}
LARGE: dict[str, Any] = {"multipart_threshold_bytes": 6 * MIB, "part_size_bytes": 5 * MIB}
STREAMED: dict[str, Any] = LARGE | {"streamed": True}


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.s3.retries.backoff_seconds", lambda attempt, jitter: 0.0)


async def replicate_while(operation: str, bucket: str, size_bytes: int, **options: Any) -> tuple[Outcome, MemoryStore]:
    """Copy an object of a bucket without versions, in which somebody writes before the last of such requests."""
    store, asked = MemoryStore(), 0
    for name in ("source", "destination"):
        store.create_bucket(name, versioned=False)
    written = await store.put("source", "k", b"a" * size_bytes, Attributes(), guard=UNGUARDED)

    async def write_first(request: Request) -> Any:
        nonlocal asked
        asked += 1
        if asked == (2 if size_bytes > 6 * MIB and operation in ("copy_part", "get") else 1):
            await MemoryStore.put(store, bucket, "k", b"b" * size_bytes, Attributes(), guard=UNGUARDED)
        return await request()

    store.hook(**{operation: write_first})
    route = Route(Location("source"), Location("destination"))
    job = Replicate(store, store, route, ReplicateOptions(**options), ByteBudget(64 * MIB))
    row = ObjectVersion(0, "k", None, etag=written.etag, size_bytes=size_bytes)
    try:
        [outcome] = await job.process([row])
    except (PreconditionFailed, Conflict):  # the worker calls it again
        [outcome] = await job.process([row])
    assert asked > 0
    return outcome, store


@pytest.mark.parametrize(
    ("operation", "size_bytes", "options"),
    [("copy", 3, SMALL), ("copy_part", 7 * MIB, LARGE), ("get", 17 * MIB, STREAMED)],
)
async def test_a_source_that_was_overwritten_is_not_copied(
    operation: str, size_bytes: int, options: dict[str, Any]
) -> None:
    outcome, store = await replicate_while(operation, "source", size_bytes, **options)
    assert outcome.status is Status.CHANGED
    assert (await store.list_objects("destination", "")).entries == []


@pytest.mark.parametrize(
    ("operation", "size_bytes", "options"), [("copy", 3, SMALL), ("create_multipart", 7 * MIB, LARGE)]
)
async def test_what_others_wrote_meanwhile_is_not_replaced(
    operation: str, size_bytes: int, options: dict[str, Any]
) -> None:
    outcome, store = await replicate_while(operation, "destination", size_bytes, **options)
    assert outcome.status is Status.CHANGED
    assert (await store.get(ObjectRef("destination", "k"), end=1)).data == b"b"


@pytest.mark.parametrize(("size_bytes", "options"), [(3, SMALL), (7 * MIB, LARGE), (7 * MIB, STREAMED)])
async def test_the_version_that_the_row_names_is_copied(size_bytes: int, options: dict[str, Any]) -> None:
    store = MemoryStore()
    for name in ("source", "destination"):
        store.create_bucket(name)
    old = await store.put("source", "k", b"a" * size_bytes, Attributes(), guard=UNGUARDED)
    await store.put("source", "k", b"b" * size_bytes, Attributes(), guard=UNGUARDED)
    route = Route(Location("source"), Location("destination"))
    job = Replicate(store, store, route, ReplicateOptions(**options), ByteBudget(64 * MIB))
    row = ObjectVersion(0, "k", old.version_id, etag=old.etag, size_bytes=size_bytes)
    [outcome] = await job.process([row])
    assert outcome.status is Status.COPIED
    assert (await store.get(ObjectRef("destination", "k"), end=1)).data == b"a"
