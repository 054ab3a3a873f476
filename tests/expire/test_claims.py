"""Two expire runs whose originals are each other's copies: by whatever name, and in whatever ledger, one copy stays."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Any

import pytest

from jobs.core.model import Attributes, Location
from jobs.core.outcome import Outcome, Status
from jobs.errors import Conflict
from jobs.expire.announcements import Announcements
from jobs.expire.job import Expire
from jobs.expire.marks import CLAIM, CLAIM_SECONDS
from jobs.expire.rules import Proof
from jobs.ledger.tombstones import Tombstones
from jobs.reports.document import iso_time
from jobs.s3.store import UNGUARDED
from tests.doubles.memory_store import MemoryStore, Request
from tests.expire.scene import Shop, job, row_of, shop, work

SEEDS = [pytest.param(seed, marks=pytest.mark.slow if seed >= 8 else ()) for seed in range(40)]


def expiry(store: Shop, bucket: str, place: str, run_id: str, ledger: str) -> Expire:
    where = Location(ledger, "x/")
    return replace(
        job(store),
        bucket=bucket,
        places=[Location(place)],
        tombstones=Tombstones(store, where, bucket, run_id),
        announcements=Announcements(store, where, [Location(place)]),
    )


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("second_ledger", ["ledger", "other-ledger"])
@pytest.mark.parametrize("seed", SEEDS)
def test_of_two_runs_at_once_one_at_least_keeps_its_object(versioned: bool, second_ledger: str, seed: int) -> None:
    """One object in `docs` and in `twin`, each the copy of the other; `docs` is also called `docs-too`."""
    store = shop(versioned=versioned)
    store.create_bucket("twin", versioned=versioned)
    store.create_bucket("other-ledger")
    named = store._buckets.named
    named["docs-too"] = named["docs"]
    here, there = (store.put_now(bucket, "k", b"content") for bucket in ("docs", "twin"))
    etag = asyncio.run(store.head(here)).etag
    ours = row_of(store, 0, here, Proof("run", store.now, *there, etag))
    theirs = row_of(store, 0, there, Proof("run", store.now, "docs-too", "k", here.version_id, etag))
    pick = random.Random(seed).random

    async def turn(request: Request) -> Any:
        for _ in range(int(pick() * 4)):
            await asyncio.sleep(0)
        return await request()

    store.hook(list_versions=turn, list_objects=turn, head=turn, get=turn, delete=turn)

    async def both() -> list[list[Outcome]]:
        first = expiry(store, "docs", "twin", "20250615T000000Z-expire-aaaaaa", "ledger")
        second = expiry(store, "twin", "docs-too", "20250615T000000Z-expire-bbbbbb", second_ledger)
        return list(await asyncio.gather(first.process([ours]), second.process([theirs])))

    outcomes = asyncio.run(both())
    left = [key for bucket in ("docs", "twin") for key in store.current(bucket)]
    assert "k" in left, outcomes
    assert not [key for key in left if key.startswith(CLAIM)]


def claim(store: Shop, run_id: str, number: int = 0) -> None:
    """Somebody's claim, which stays."""
    store.put_now("copies", f"{CLAIM}{run_id}.sealift-{number:016x}", b"")


def test_an_original_stays_while_another_run_deletes_where_its_copy_is() -> None:
    """A worker that was killed leaves its claim. The reason names the run, and when its last claim ends."""
    store = shop()
    row = store.original()
    for number in range(1_001):  # more than a page
        claim(store, "killed-run", number)
    store.now += CLAIM_SECONDS + 1
    claim(store, "other-run")
    ends_at = iso_time(store.now + CLAIM_SECONDS)
    (outcome,) = work(job(store), [row])
    assert (outcome.status, "other-run" in outcome.reason, ends_at in outcome.reason) == (Status.KEPT, True, True)
    store.now += CLAIM_SECONDS + 1
    (outcome,) = work(job(store), [row])
    assert outcome.status is Status.EXPIRED


@pytest.mark.parametrize("versioned", [True, False])
def test_an_original_stays_where_its_proof_took_longer_than_its_claim_counts(
    versioned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other run takes the claim for that of a killed worker, and deletes the copy."""
    store = shop(versioned=versioned)
    for module in ("jobs.expire.job", "jobs.expire.removals"):
        monkeypatch.setattr(f"{module}.elapsed_seconds", lambda: store.now)
    row = store.original()
    read: list[str] = []

    async def slow(request: Request) -> Any:
        if request.place.bucket == "copies" and not read:
            read.append(request.place.key)
            store.now += CLAIM_SECONDS + 60
            name = f"{CLAIM}other-run.sealift-{'0' * 16}"
            await MemoryStore.put(store, "copies", name, b"", Attributes(), guard=UNGUARDED)
        return await request()

    store.hook(get=slow)
    assert work(job(store), [row])[0].status is Status.KEPT
    assert list(store.current()) == ["k"]
    store.now += 2 * CLAIM_SECONDS
    assert work(job(store), [row])[0].status is Status.EXPIRED


def test_what_is_due_only_since_the_plan_was_made_stays() -> None:
    """Its share was weighed without it."""
    store = shop()
    row = store.original()
    planned = replace(job(store, grace_days=1.0), planned_at=store.now + 5)
    store.now += 2 * 86_400
    assert work(planned, [row])[0].status is Status.WAITING


def test_versioning_that_is_suspended_meanwhile_loses_nothing() -> None:
    store = shop()
    row = store.original()
    looks: list[str] = []

    async def suspend(request: Request) -> Any:
        if request.place.bucket == "docs":
            looks.append("docs")
        return await request() and len(looks) < 3

    store.hook(is_versioned=suspend)
    with pytest.raises(Conflict, match="suspended"):
        work(job(store), [row])
    assert store.current()["k"] == b"content"
