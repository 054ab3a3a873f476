"""Two expire runs whose originals are each other's copies: by whatever name, and in whatever ledger, one copy stays."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from jobs.core.model import Attributes, Location, ObjectRef, ObjectVersion
from jobs.core.outcome import Outcome, PartlyDone, Status
from jobs.errors import Conflict, Interrupted
from jobs.expire.announcements import Announcements
from jobs.expire.job import Expire
from jobs.expire.marks import CLAIM, CLAIM_SECONDS
from jobs.expire.rules import Proof
from jobs.ledger.tombstones import Tombstones
from jobs.reports.document import iso_time
from jobs.s3.store import UNGUARDED, Deleted
from tests.expire.scene import Shop, job, replica, row_of, shop, work

VERSIONED = pytest.mark.parametrize("versioned", [True, False])


class Turns(Shop):
    """Everything that both runs ask waits for its turn, which `pick` gives."""

    pick: Callable[[], float] = staticmethod(lambda: 0.0)

    async def _turn(self) -> None:
        for _ in range(int(self.pick() * 4)):
            await asyncio.sleep(0)

    async def list_versions(self, *given: Any, **more: Any) -> Any:
        await self._turn()
        return await super().list_versions(*given, **more)

    async def list_objects(self, *given: Any, **more: Any) -> Any:
        await self._turn()
        return await super().list_objects(*given, **more)

    async def head(self, *given: Any, **more: Any) -> Any:
        await self._turn()
        return await super().head(*given, **more)

    async def delete(self, *given: Any, **more: Any) -> Deleted:
        await self._turn()
        return await super().delete(*given, **more)


def mutual(store: Shop, versioned: bool) -> tuple[ObjectVersion, ObjectVersion]:
    """One object in `docs` and in `twin`, each the copy of the other; `docs` is also called `docs-too`."""
    store.create_bucket("docs", versioned=versioned)
    store.create_bucket("twin", versioned=versioned)
    store.create_bucket("other-ledger")
    named = store._buckets.named
    named["docs-too"] = named["docs"]
    here, there = (store.put_now(bucket, "k", b"content") for bucket in ("docs", "twin"))
    etag = asyncio.run(store.head(here)).etag
    return (
        row_of(store, 0, here, Proof("run", store.now, *there, etag)),
        row_of(store, 0, there, Proof("run", store.now, "docs-too", "k", here.version_id, etag)),
    )


def expiry(store: Shop, bucket: str, place: str, run_id: str, ledger: str) -> Expire:
    made = replace(job(store), bucket=bucket, places=[Location(place)])
    where = Location(ledger, "x/")
    return replace(
        made,
        tombstones=Tombstones(store, where, bucket, run_id),
        announcements=Announcements(store, where, [Location(place)]),
    )


@VERSIONED
@pytest.mark.parametrize("second_ledger", ["ledger", "other-ledger"])
@pytest.mark.parametrize("seed", range(40))
def test_of_two_runs_at_once_one_at_least_keeps_its_object(versioned: bool, second_ledger: str, seed: int) -> None:
    store = Turns()
    ours, theirs = mutual(store, versioned)
    store.pick = random.Random(seed).random

    async def both() -> list[list[Outcome]]:
        first = expiry(store, "docs", "twin", "20250615T000000Z-expire-aaaaaa", "ledger")
        second = expiry(store, "twin", "docs-too", "20250615T000000Z-expire-bbbbbb", second_ledger)
        return list(await asyncio.gather(first.process([ours]), second.process([theirs])))

    outcomes = asyncio.run(both())
    left = [(bucket, key) for bucket in ("docs", "twin") for key in current(store, bucket)]
    assert ("docs", "k") in left or ("twin", "k") in left, outcomes
    assert not [key for _, key in left if key.startswith(CLAIM)]


def current(store: Shop, bucket: str) -> list[str]:
    return [each.key for each in asyncio.run(store.list_objects(bucket, "")).entries]


def claimed(store: Shop, bucket: str) -> None:
    """Somebody's claim, which stays."""
    asyncio.run(store.put(bucket, f"{CLAIM}other-run.sealift-{'0' * 16}", b"", Attributes(), guard=UNGUARDED))


def test_an_original_stays_while_another_run_deletes_where_its_copy_is() -> None:
    store = shop()
    ref = store.put_now("docs", "k", b"content")
    row = row_of(store, 0, ref, replica(store, ref))
    claimed(store, "copies")
    (outcome,) = work(job(store), [row])
    assert (outcome.status, "expire run other-run deletes where its copy is" in outcome.reason) == (Status.KEPT, True)
    store.now += CLAIM_SECONDS + 1  # whoever made it was killed
    (outcome,) = work(job(store), [row])
    assert outcome.status is Status.EXPIRED


def test_the_reason_names_the_run_and_the_time_when_its_last_claim_ends() -> None:
    """A worker that was killed leaves its claim, and the run may be in no ledger of ours."""
    store = shop()
    ref = store.put_now("docs", "k", b"content")
    row = row_of(store, 0, ref, replica(store, ref))
    store.put_now("copies", f"{CLAIM}zz-first.sealift-{'0' * 16}", b"")
    store.now += 60
    claimed(store, "copies")
    ends_at = iso_time(store.now + CLAIM_SECONDS)
    store.now += 60
    (outcome,) = work(job(store), [row])
    assert outcome.status is Status.KEPT
    assert outcome.reason.startswith("the expire run other-run deletes where its copy is")
    assert f"after {ends_at}, when its claim ends" in outcome.reason


def test_an_original_stays_behind_more_old_claims_than_a_page_holds() -> None:
    store = shop()
    ref = store.put_now("docs", "k", b"content")
    row = row_of(store, 0, ref, replica(store, ref))
    for number in range(1_001):
        store.put_now("copies", f"{CLAIM}killed-run.sealift-{number:016x}", b"")
    store.now += CLAIM_SECONDS + 1
    claimed(store, "copies")
    (outcome,) = work(job(store), [row])
    assert (outcome.status, "expire run other-run deletes where its copy is" in outcome.reason) == (Status.KEPT, True)


class Lengthy(Shop):
    """The first look at a copy takes longer than a claim counts. Meanwhile another run claims the copies' bucket."""

    is_slow = True

    async def head(self, ref: ObjectRef, **more: Any) -> Any:
        if ref.bucket == "copies" and self.is_slow:
            self.is_slow = False
            self.now += CLAIM_SECONDS + 60
            await self.put("copies", f"{CLAIM}other-run.sealift-{'0' * 16}", b"", Attributes(), guard=UNGUARDED)
        return await super().head(ref, **more)


@VERSIONED
def test_an_original_stays_where_its_proof_took_longer_than_its_claim_counts(
    versioned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other run takes the claim for that of a killed worker, and deletes the copy."""
    store = Lengthy()
    store.create_bucket("docs", versioned=versioned)
    for module in ("jobs.expire.job", "jobs.expire.removals"):
        monkeypatch.setattr(f"{module}.elapsed_seconds", lambda: store.now)
    store.is_slow = False
    ref = store.put_now("docs", "k", b"content")
    row = row_of(store, 0, ref, replica(store, ref))
    store.is_slow = True
    (outcome,) = work(job(store), [row])
    assert (outcome.status, "expire run other-run deletes where its copy is" in outcome.reason) == (Status.KEPT, True)
    assert [key for key in current(store, "docs") if key.startswith(CLAIM)] == []
    store.now += 2 * CLAIM_SECONDS
    (outcome,) = work(job(store), [row])
    assert outcome.status is Status.EXPIRED


def test_what_is_due_only_since_the_plan_was_made_stays() -> None:
    """Its share was weighed without it."""
    store = shop()
    ref = store.put_now("docs", "k", b"content")
    row = row_of(store, 0, ref, replica(store, ref))
    planned = replace(job(store, grace_days=1.0), planned_at=store.now + 5)
    store.now += 2 * 86_400
    (outcome,) = work(planned, [row])
    assert (outcome.status, "grace period" in outcome.reason) == (Status.WAITING, True)


class Stopped(Shop):
    """After some deletes, no more may be sent."""

    left = 2

    async def delete(self, bucket: str, key: str, **more: Any) -> Deleted:
        if more.get("if_match") and key.startswith("k") and ".sealift-" not in key:
            if not self.left:
                raise Interrupted("stopped before a delete")
            self.left -= more["if_match"] == self.etag
        return await super().delete(bucket, key, **more)

    etag = ""


@VERSIONED
def test_a_worker_that_has_to_stop_accounts_for_what_it_has_deleted(versioned: bool) -> None:
    store = Stopped()
    store.create_bucket("docs", versioned=versioned)
    refs = [store.put_now("docs", f"k{number}", b"content") for number in range(5)]
    store.etag = asyncio.run(store.head(refs[0])).etag
    rows = [row_of(store, number, ref, replica(store, ref)) for number, ref in enumerate(refs)]
    with pytest.raises(PartlyDone) as stop:
        work(job(store), rows)
    gone = {f"k{number}" for number in range(5)} - set(current(store, "docs"))
    assert len(gone) == 2
    assert {each.key for each in stop.value.outcomes if each.status is Status.EXPIRED} == gone
    assert len(stop.value.outcomes) == 2
    names = [each.key for each in asyncio.run(store.list_objects("ledger", "")).entries]
    assert [name for name in names if name.endswith("-done.parquet")]


def test_versioning_that_is_suspended_meanwhile_loses_nothing() -> None:
    store = shop()
    ref = store.put_now("docs", "k", b"content")
    row = row_of(store, 0, ref, replica(store, ref))

    class Suspending(type(store)):  # type: ignore[misc]  # whichever the shop has
        looks = 0

        async def is_versioned(self, bucket: str) -> bool:
            if bucket == "docs":
                self.looks += 1
            return await super().is_versioned(bucket) and self.looks < 3

    store.__class__ = Suspending
    with pytest.raises(Conflict, match="suspended"):
        work(job(store), [row])
    assert asyncio.run(store.get(ObjectRef("docs", "k"))).data == b"content"
