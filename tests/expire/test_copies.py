"""What makes an object a copy that an original may go for: somebody reads it, and it stays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from jobs.core.model import Location, ObjectRef
from jobs.core.outcome import Status
from jobs.expire.rules import Proof
from tests.doubles.memory_store import Request
from tests.expire.scene import Shop, job, one, packed, replica, row_of, shop, work

Change = Callable[[Shop, Proof], Any]
PACKED = pytest.mark.parametrize("is_packed", [False, True], ids=["replica", "archive"])


def _hidden(store: Shop, proof: Proof) -> None:
    asyncio.run(store.delete(proof.bucket, proof.key))


def _written_over(store: Shop, proof: Proof) -> None:
    store.put_now(proof.bucket, proof.key, b"newer content")


def _written_again(store: Shop, proof: Proof) -> None:
    """The same bytes: there is a copy, but it is not the one that was proven, which may go any day."""
    data = asyncio.run(store.get(ObjectRef(proof.bucket, proof.key))).data
    store.put_now(proof.bucket, proof.key, data)


def _tidied(store: Shop, proof: Proof) -> None:
    """A lifecycle rule will remove it."""

    async def head(request: Request) -> Any:
        info = await request()
        return info if request.place.bucket == "docs" else replace(info, expiration='expiry-date="…", rule-id="tidy"')

    store.hook(head=head)


def proof_of(store: Shop, ref: ObjectRef, is_packed: bool) -> Proof:
    return packed(store, [ref])[0] if is_packed else replica(store, ref)


@PACKED
@pytest.mark.parametrize("change", [_hidden, _written_over, _written_again, _tidied])
@pytest.mark.parametrize("content", [b"content", b""], ids=["bytes", "empty"])
def test_a_version_that_nobody_reads_or_that_goes_is_no_copy(change: Change, is_packed: bool, content: bytes) -> None:
    store = shop()
    ref = store.put_now("docs", "k", content)
    proof = proof_of(store, ref, is_packed)
    row = row_of(store, 0, ref, proof)
    change(store, proof)
    assert one(store, row).status is Status.KEPT
    assert store.contents() == {("k", ref.version_id): content}


def test_an_archived_replica_is_no_copy_until_it_can_be_read() -> None:
    store = shop()
    ref = store.put_now("docs", "k", b"content")
    frozen = store.put_now("copies", "k", b"content", storage_class="DEEP_ARCHIVE")
    row = row_of(store, 0, ref, Proof("run", store.now, *frozen, asyncio.run(store.head(frozen)).etag))
    assert one(store, row).status is Status.KEPT
    store.restore(frozen)
    assert one(store, row).status is Status.EXPIRED


@PACKED
def test_a_copy_that_went_while_bytes_were_read_is_looked_at_once_more(
    is_packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes while the run announces what it deletes."""
    store = shop()
    seconds = [0.0]
    for module in ("jobs.expire.job", "jobs.expire.removals"):
        monkeypatch.setattr(f"{module}.elapsed_seconds", lambda: seconds[0])
    refs = [store.put_now("docs", key, b"content", sse="aws:kms") for key in ("k", "l")]
    proofs = packed(store, refs) if is_packed else [replica(store, ref) for ref in refs]
    rows = [row_of(store, number, ref, proof) for number, (ref, proof) in enumerate(zip(refs, proofs, strict=True))]

    async def slow(request: Request) -> Any:
        seconds[0] += 6.0
        return await request()

    async def lose(request: Request) -> Any:
        if request.place.key.endswith("-intent.parquet"):
            store._buckets.remove(ObjectRef(proofs[0].bucket, proofs[0].key))
        return await request()

    store.hook(get=slow, put=lose)
    first, second = work(job(store), rows)
    assert (first.status, second.status) == (Status.KEPT, Status.KEPT if is_packed else Status.EXPIRED)
    stones = asyncio.run(job(store).tombstones.announced(0, 1))
    assert sorted(stones) == ([] if is_packed else [1])  # what was kept is announced no more


def test_a_copy_counts_only_in_the_places_that_are_named() -> None:
    """A forged proof may name any object that has the right bytes: another copy in a bucket of somebody else's."""
    store = shop()
    store.create_bucket("others")
    row = store.original()
    other = store.put_now("others", "k", b"content")
    elsewhere = row._replace(proof=Proof("run", store.now, *other, row.etag).encode())
    for places in ([Location("copies", "backup/")], [Location("elsewhere"), Location("copies")]):
        assert work(replace(job(store), places=places), [elsewhere])[0].status is Status.KEPT
    assert work(replace(job(store), places=places), [row])[0].status is Status.EXPIRED
