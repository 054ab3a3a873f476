"""Rows are read ahead, but not while a large object is in use."""

from __future__ import annotations

import pytest

from jobs.compact.member_reader import MemberSource
from jobs.core.model import Attributes, ObjectVersion
from jobs.core.pace import Pace
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.store import UNGUARDED
from tests.doubles.hooks import watch
from tests.doubles.memory_store import MemoryStore

SIZES = {"a": 1, "b": 2, "large": 9_000, "y": 1, "z": 2}


async def test_what_follows_a_large_object_is_read_when_it_has_been_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.compact.member_reader.SMALL_BYTES", 8_000)
    store, budget = MemoryStore(), ByteBudget(10_000)
    store.create_bucket("source")
    rows = []
    for number, (key, size_bytes) in enumerate(SIZES.items()):
        etag = (await store.put("source", key, bytes(size_bytes), Attributes(), guard=UNGUARDED)).etag
        rows.append(ObjectVersion(number, key, size_bytes=size_bytes, etag=etag))
    requests, read = watch(store), []
    async for each in MemberSource(store, "source", budget, Pace(8), {}).read(rows):
        read.append(each.row.key)
        if each.row.key == "large":
            assert {request.place.key for request in requests} == {"a", "b", "large"}
            assert budget.try_acquire(10_000) == 10_000, "its use has all of the memory"
            budget.release(10_000)
    assert read == list(SIZES)
    assert budget.try_acquire(10_000) == 10_000
