"""What makes an object a copy that an original may go for: somebody reads it, and it stays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from jobs.core.model import Location, ObjectInfo, ObjectRef
from jobs.core.outcome import Status
from jobs.expire.rules import Proof
from jobs.s3.store import Body, Written
from tests.expire.scene import Shop, job, one, packed, replica, row_of, shop, work

CONTENT = b"content"
Change = Callable[[Shop, Proof], None]


def _hidden(store: Shop, proof: Proof) -> None:
    asyncio.run(store.delete(proof.bucket, proof.key))


def _written_over(store: Shop, proof: Proof) -> None:
    store.put_now(proof.bucket, proof.key, b"newer content")


def _written_again(store: Shop, proof: Proof) -> None:
    """The same bytes: there is a copy, but it is not the one that was proven, which may go any day."""
    data = asyncio.run(store.get(ObjectRef(proof.bucket, proof.key))).data
    store.put_now(proof.bucket, proof.key, data)


CHANGES = [
    pytest.param(_hidden, "nothing is at", id="beneath a delete marker"),
    pytest.param(_written_over, "another object now", id="beneath other content"),
    pytest.param(_written_again, "not the version now that was proven", id="noncurrent"),
]


def _proof(store: Shop, ref: ObjectRef, is_packed: bool) -> Proof:
    return packed(store, [ref])[0] if is_packed else replica(store, ref)


@pytest.mark.parametrize("is_packed", [False, True], ids=["replica", "archive"])
@pytest.mark.parametrize(("change", "reason"), CHANGES)
@pytest.mark.parametrize("content", [CONTENT, b""], ids=["bytes", "empty"])
def test_a_version_that_nobody_reads_is_no_copy(change: Change, reason: str, is_packed: bool, content: bytes) -> None:
    store = shop()
    ref = store.put_now("docs", "k", content)
    proof = _proof(store, ref, is_packed)
    change(store, proof)
    outcome = one(store, row_of(store, 0, ref, proof))
    assert (outcome.status, reason in outcome.reason) == (Status.KEPT, True), outcome
    assert store.contents() == {("k", ref.version_id): content}


@pytest.mark.parametrize("is_packed", [False, True], ids=["replica", "archive"])
def test_a_copy_that_a_lifecycle_rule_will_remove_is_none(is_packed: bool) -> None:
    class Tidied(Shop):
        async def head(self, ref: ObjectRef, **more: Any) -> ObjectInfo:
            info = await super().head(ref, **more)
            if ref.bucket == "docs":
                return info
            return replace(info, expiration='expiry-date="Fri, 25 Dec 2026 00:00:00 GMT", rule-id="tidy"')

    store = Tidied()
    store.create_bucket("docs")
    ref = store.put_now("docs", "k", CONTENT)
    outcome = one(store, row_of(store, 0, ref, _proof(store, ref, is_packed)))
    assert (outcome.status, 'rule-id="tidy"' in outcome.reason) == (Status.KEPT, True), outcome


def test_an_archived_replica_is_no_copy_until_it_can_be_read() -> None:
    store = shop()
    ref = store.put_now("docs", "k", CONTENT)
    frozen = store.put_now("copies", "k", CONTENT, storage_class="DEEP_ARCHIVE")
    row = row_of(store, 0, ref, Proof("run", store.now, *frozen, asyncio.run(store.head(frozen)).etag))
    outcome = one(store, row)
    assert (outcome.status, "must be restored" in outcome.reason) == (Status.KEPT, True), outcome
    store.restore(frozen)
    assert one(store, row).status is Status.EXPIRED


class Slow(Shop):
    """While the run announces what goes, something happens; reading has taken `seconds` by then."""

    seconds = 0.0

    def __init__(self) -> None:
        super().__init__(default_checksum=None)
        self.meanwhile: Callable[[], None] = lambda: None

    def time(self) -> float:
        return self.seconds

    async def get(self, ref: ObjectRef, **more: Any) -> Body:
        self.seconds += 6.0
        return await super().get(ref, **more)

    async def put(self, bucket: str, key: str, *given: Any, **more: Any) -> Written:
        if key.endswith("-intent.parquet"):
            self.meanwhile()
        return await super().put(bucket, key, *given, **more)


@pytest.mark.parametrize("is_packed", [False, True], ids=["replica", "archive"])
def test_a_copy_that_went_while_bytes_were_read_is_looked_at_once_more(
    is_packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Slow()
    store.create_bucket("docs")
    for module in ("jobs.expire.job", "jobs.expire.removals"):
        monkeypatch.setattr(f"{module}.elapsed_seconds", store.time)
    refs = [store.put_now("docs", key, CONTENT, sse="aws:kms") for key in ("k", "l")]
    proofs = packed(store, refs) if is_packed else [replica(store, ref) for ref in refs]
    home = store._buckets

    def lose() -> None:
        home.remove(ObjectRef(proofs[0].bucket, proofs[0].key))

    store.meanwhile = lose
    rows = [row_of(store, number, ref, proof) for number, (ref, proof) in enumerate(zip(refs, proofs, strict=True))]
    outcomes = work(job(store), rows)
    assert (outcomes[0].status, "nothing is at" in outcomes[0].reason) == (Status.KEPT, True), outcomes
    assert outcomes[1].status is (Status.KEPT if is_packed else Status.EXPIRED)
    stones = asyncio.run(job(store).tombstones.announced(0, 1))
    assert sorted(stones) == ([] if is_packed else [1])  # what was kept is announced no more


def test_a_copy_counts_only_in_the_places_that_are_named() -> None:
    """A forged proof may name any object that has the right bytes: another copy in a bucket of somebody else's."""
    store = shop()
    store.create_bucket("others")
    ref = store.put_now("docs", "k", CONTENT)
    proofs = [
        Proof("run", store.now, *made, asyncio.run(store.head(made)).etag)
        for made in (store.put_now("others", "k", CONTENT), store.put_now("copies", "k", CONTENT))
    ]
    made = replace(job(store), places=[Location("copies", "backup/")])
    for proof in proofs:
        outcome = asyncio.run(made.process([row_of(store, 0, ref, proof)]))[0]
        assert (outcome.status, "not in s3://copies/backup/" in outcome.reason) == (Status.KEPT, True), outcome
    named = replace(made, places=[Location("elsewhere"), Location("copies")])
    assert asyncio.run(named.process([row_of(store, 0, ref, proofs[0])]))[0].status is Status.KEPT
    assert asyncio.run(named.process([row_of(store, 0, ref, proofs[1])]))[0].status is Status.EXPIRED
