"""Writes that hold only where nothing, or one object, is in their place."""

from __future__ import annotations

import asyncio

import pytest

from jobs.errors import NotFound, PreconditionFailed, StoreError
from jobs.s3.store import ABSENT, UNGUARDED, CopySettings, Guard
from tests.s3.contract.checks import PLAIN, Subject, contract, md5_of


@contract()
async def test_put_absent_refuses_an_existing_key(s: Subject) -> None:
    await s.store.put(s.bucket, "k", b"first", PLAIN, guard=ABSENT)
    with pytest.raises(PreconditionFailed):
        await s.store.put(s.bucket, "k", b"second", PLAIN, guard=ABSENT)
    assert await s.read("k") == b"first"


@contract()
async def test_put_absent_lets_one_of_many_win(s: Subject) -> None:
    bodies = [f"writer {n}".encode() for n in range(8)]
    puts = [s.store.put(s.bucket, "k", body, PLAIN, guard=ABSENT) for body in bodies]
    results = await asyncio.gather(*puts, return_exceptions=True)
    winners = [body for body, result in zip(bodies, results, strict=True) if not isinstance(result, BaseException)]
    assert len(winners) == 1
    assert await s.read("k") == winners[0]
    assert all(isinstance(r, StoreError) for r in results if isinstance(r, BaseException))


@contract(versioned=True)
async def test_put_absent_succeeds_over_a_delete_marker(s: Subject) -> None:
    await s.put("k", b"old")
    await s.store.delete(s.bucket, "k")
    await s.store.put(s.bucket, "k", b"new", PLAIN, guard=ABSENT)
    assert await s.read("k") == b"new"


@contract()
async def test_put_with_an_etag_replaces_that_object_only(s: Subject) -> None:
    first = await s.store.put(s.bucket, "k", b"first", PLAIN, guard=UNGUARDED)
    second = await s.store.put(s.bucket, "k", b"second", PLAIN, guard=Guard(etag=first.etag))
    with pytest.raises(PreconditionFailed):
        await s.store.put(s.bucket, "k", b"third", PLAIN, guard=Guard(etag=first.etag))
    assert (await s.store.head(s.ref("k"))).etag == second.etag == md5_of(b"second")


@contract()
async def test_put_with_an_etag_finds_no_key(s: Subject) -> None:
    with pytest.raises(NotFound):
        await s.store.put(s.bucket, "k", b"x", PLAIN, guard=Guard(etag=md5_of(b"x")))


@contract()
async def test_copy_absent_refuses_an_existing_key(s: Subject) -> None:
    source = await s.put("source", b"new")
    await s.put("k", b"old")
    with pytest.raises(PreconditionFailed):
        await s.store.copy(source, None, s.bucket, "k", CopySettings(), guard=ABSENT)
    assert await s.read("k") == b"old"
    await s.store.copy(source, None, s.bucket, "other", CopySettings(), guard=ABSENT)
    assert await s.read("other") == b"new"


@contract()
async def test_copy_with_an_etag_replaces_that_object_only(s: Subject) -> None:
    source = await s.put("source", b"new")
    await s.put("k", b"old")
    with pytest.raises(PreconditionFailed):
        await s.store.copy(source, None, s.bucket, "k", CopySettings(), guard=Guard(etag=md5_of(b"other")))
    assert await s.read("k") == b"old"
    await s.store.copy(source, None, s.bucket, "k", CopySettings(), guard=Guard(etag=md5_of(b"old")))
    assert await s.read("k") == b"new"


@contract()
async def test_complete_absent_refuses_an_existing_key(s: Subject) -> None:
    upload_id, parts = await s.upload("k", [b"multipart"])
    await s.put("k", b"first")
    with pytest.raises(PreconditionFailed):
        await s.store.complete_multipart(upload_id, parts, guard=ABSENT)
    assert await s.read("k") == b"first"


@contract()
async def test_complete_with_an_etag_replaces_that_object_only(s: Subject) -> None:
    await s.put("k", b"old")
    upload_id, parts = await s.upload("k", [b"new"])
    with pytest.raises(PreconditionFailed):
        await s.store.complete_multipart(upload_id, parts, guard=Guard(etag=md5_of(b"x")))
    upload_id, parts = await s.upload("k", [b"new"])
    await s.store.complete_multipart(upload_id, parts, guard=Guard(etag=md5_of(b"old")))
    assert await s.read("k") == b"new"
