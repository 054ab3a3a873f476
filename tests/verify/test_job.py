"""The verify job against the in-memory store: what goes wrong while it reads."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobs.core.model import Attributes, Location, ObjectRef, ObjectVersion, Route
from jobs.core.outcome import Status
from jobs.errors import ArchivedObject, Denied, NotFound, PreconditionFailed, StoreError
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.store import UNGUARDED
from jobs.verify.job import Verify, VerifyOptions
from tests.doubles.memory_store import MemoryStore


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (NotFound, Status.CHANGED),
        (PreconditionFailed, Status.CHANGED),
        (Denied, Status.DENIED),
        (ArchivedObject, Status.UNVERIFIABLE),
    ],
)
def test_what_happens_while_reading_is_the_rows_outcome(kind: type[StoreError], status: Status) -> None:
    class Failing(MemoryStore):
        async def get(self, *arguments: Any, **named: Any) -> Any:
            raise kind("GetObject", "s3://there/k", "Sorry")

    async def scene() -> None:
        store = Failing()
        for bucket in ("here", "there"):
            store.create_bucket(bucket)
            await store.put(bucket, "k", b"body", Attributes(), guard=UNGUARDED)
        route = Route(Location("here"), Location("there"))
        job = Verify(store, store, route, VerifyOptions(deep=True), ByteBudget(1000))
        [outcome] = await job.process([ObjectVersion(0, "k")])
        assert outcome.status is status
        assert outcome.reason

    asyncio.run(scene())


def test_a_source_that_is_overwritten_and_copied_between_the_two_looks_has_changed() -> None:
    class Busy(MemoryStore):
        async def head(self, ref: ObjectRef, **named: Any) -> Any:
            if ref.bucket == "there":
                for bucket in ("here", "there"):
                    await self.put(bucket, "k", b"newer", Attributes(), guard=UNGUARDED)
            return await super().head(ref, **named)

    async def scene() -> None:
        store = Busy()
        for bucket in ("here", "there"):
            store.create_bucket(bucket)
            await store.put(bucket, "k", b"older", Attributes(), guard=UNGUARDED)
        route = Route(Location("here"), Location("there"))
        job = Verify(store, store, route, VerifyOptions(), ByteBudget(1000))
        [outcome] = await job.process([ObjectVersion(0, "k")])
        assert outcome.status is Status.CHANGED

    asyncio.run(scene())
