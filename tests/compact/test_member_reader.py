"""Rows are read ahead, but not while a large object is in use."""

from __future__ import annotations

from typing import Any
from unittest.mock import ANY

import pytest
from msgspec.structs import replace

from jobs.compact.member_reader import MemberSource
from jobs.compact.packing import CompactOptions, PackingRule
from jobs.core.model import Attributes, ObjectRef, ObjectVersion
from jobs.core.outcome import Outcome, Status
from jobs.core.pace import Pace
from jobs.core.reasons import Reason
from jobs.errors import Conflict
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.retries import once
from jobs.s3.store import UNGUARDED
from tests.doubles.hooks import watch
from tests.doubles.memory_store import MemoryStore, Request

SIZES = {"a": 1, "b": 2, "large": 9_000, "y": 1, "z": 2}


async def test_what_follows_a_large_object_is_read_when_it_has_been_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.compact.member_reader.SMALL_BYTES", 8_000)
    store, budget = MemoryStore(buckets=["source"]), ByteBudget(10_000)
    rows = []
    for number, (key, size_bytes) in enumerate(SIZES.items()):
        etag = (await store.put(ObjectRef("source", key), bytes(size_bytes), Attributes(), guard=UNGUARDED)).etag
        rows.append(ObjectVersion(number, key, size_bytes=size_bytes, etag=etag))
    requests, read = watch(store), []
    async for each in MemberSource(store, "source", budget, Pace(8), CompactOptions(PackingRule())).read(rows):
        read.append(each.row.key)
        if each.row.key == "large":
            assert {request.place.key for request in requests} == {"a", "b", "large"}
            assert budget.try_acquire(10_000) == 10_000, "its use has all of the memory"
            budget.release(10_000)
    assert read == list(SIZES)
    assert budget.try_acquire(10_000) == 10_000


async def test_bytes_that_are_not_the_object_s_are_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a small one a part comes, whose ETag cannot tell. A large one is altered, and only its ETag is an MD5."""
    monkeypatch.setattr("jobs.compact.member_reader.SMALL_BYTES", 8_000)
    monkeypatch.setattr("jobs.compact.member_reader.retry", once)

    async def alter(request: Request) -> Any:
        body = await request()
        if request.place.key == "large":
            return body._replace(data=bytes([1]) + body.data[1:])
        info = replace(body.info, etag="0" * 32 + "-2", size_bytes=2, checksums=())
        return body._replace(data=body.data[:2], info=info)

    store = MemoryStore(default_checksum=None, on={"get": alter}, buckets=["source"])
    large, small = [
        ObjectVersion(0, key, size_bytes=size_bytes, etag=written.etag)
        for key, size_bytes in (("large", 9_000), ("small", 3))
        for written in [await store.put(ObjectRef("source", key), bytes(size_bytes), Attributes(), guard=UNGUARDED)]
    ]
    source = MemberSource(store, "source", ByteBudget(10_000), Pace(8), CompactOptions(PackingRule()))
    assert (await source.fetch(small)).outcome == Outcome.of(small, Status.BLOCKED, Reason.GIVEN_UP, ANY)
    with pytest.raises(Conflict):
        async for _ in source.pieces(await source.fetch(large)):
            pass
