"""Writes that hold only where nothing, or one object, is in their place."""

from __future__ import annotations

import asyncio

import pytest

from jobs.errors import NotFound, PreconditionFailed, StoreError
from jobs.s3.store import ABSENT, CopySettings, Guard
from tests.s3.contract.checks import PLAIN, Subject, contract, md5_of


async def write(s: Subject, how: str, guard: Guard, key: str = "k") -> None:
    """Write `new` at the key by one of the three operations."""
    if how == "put":
        await s.store.put(s.ref(key), b"new", PLAIN, guard=guard)
    elif how == "copy":
        await s.store.copy(await s.put("source", b"new"), None, s.ref(key), CopySettings(), guard=guard)
    else:
        upload, parts = await s.upload(key, [b"new"])
        await s.store.complete_multipart(upload, parts, guard=guard)


@contract("put", "copy", "complete")
async def test_a_write_that_must_be_the_first_refuses_an_existing_key(s: Subject, how: str) -> None:
    await s.put("k", b"old")
    with pytest.raises(PreconditionFailed):
        await write(s, how, ABSENT)
    assert await s.read("k") == b"old"
    await write(s, how, ABSENT, "other")
    assert await s.read("other") == b"new"


@contract("put", "copy", "complete")
async def test_a_write_with_an_etag_replaces_that_object_only(s: Subject, how: str) -> None:
    await s.put("k", b"old")
    with pytest.raises(PreconditionFailed):
        await write(s, how, Guard(etag=md5_of(b"other")))
    assert await s.read("k") == b"old"
    await write(s, how, Guard(etag=md5_of(b"old")))
    assert await s.read("k") == b"new"


@contract()
async def test_put_absent_lets_one_of_many_win(s: Subject) -> None:
    bodies = [f"writer {n}".encode() for n in range(8)]
    puts = [s.store.put(s.ref("k"), body, PLAIN, guard=ABSENT) for body in bodies]
    results = await asyncio.gather(*puts, return_exceptions=True)
    winners = [body for body, result in zip(bodies, results, strict=True) if not isinstance(result, BaseException)]
    assert len(winners) == 1
    assert await s.read("k") == winners[0]
    assert all(isinstance(r, StoreError) for r in results if isinstance(r, BaseException))


@contract(versioned=True)
async def test_put_absent_succeeds_over_a_delete_marker(s: Subject) -> None:
    await s.put("k", b"old")
    await s.store.delete(s.ref("k"))
    await s.store.put(s.ref("k"), b"new", PLAIN, guard=ABSENT)
    assert await s.read("k") == b"new"


@contract()
async def test_put_with_an_etag_finds_no_key(s: Subject) -> None:
    with pytest.raises(NotFound):
        await s.store.put(s.ref("k"), b"x", PLAIN, guard=Guard(etag=md5_of(b"x")))
