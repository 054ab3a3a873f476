"""Later disproofs: what a run finds between an expire run's plan and its deletes keeps the original."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from jobs.core.model import Attributes, Location, ObjectVersion
from jobs.core.outcome import Outcome, Status
from jobs.core.run import Plan, RunSpec, Side
from jobs.expire.job import Expire
from jobs.expire.kind import KIND
from jobs.expire.later_disproofs import LOOK_SECONDS, LaterDisproofs
from jobs.expire.places import READ_RUNS
from jobs.expire.rules import Proof
from jobs.expire.runs_with_findings import Seen
from jobs.ledger.ledger import Ledger
from jobs.runs.kind import Opened
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.store import UNGUARDED
from tests.doubles.memory_store import Request
from tests.expire.ledger_runs import BY_BYTES, DIFFERENT, SIDES, VERIFIED, Compared, Run
from tests.expire.scene import LEDGER, NOW, Shop, job, row_of, shop, work

ETAG = hashlib.md5(b"content").hexdigest()
LATER = 300.0
"""Seconds after the plan, at which another run finds something."""
LATE = BY_BYTES._replace(second=LATER, etag=ETAG, copy_etag=ETAG)


def planned(store: Shop, key: str = "k", number: int = 0) -> ObjectVersion:
    ref = store.put_now("docs", f"in/{key}", b"content")
    copy = store.put_now("copies", f"out/{key}", b"content")
    return row_of(store, number, ref, Proof("run", NOW, *copy, ETAG))


def deleting(store: Shop, seen: Mapping[str, Seen]) -> Expire:
    return replace(job(store), disproofs=LaterDisproofs(Ledger(store, LEDGER), "docs", ["copies"], seen))


def outcome_after(run: Run | Compared, seen: Mapping[str, Seen] | None = None) -> Outcome:
    """What becomes of the original when this run comes after the plan, which has `seen` others."""
    store = shop()
    row = planned(store)
    asyncio.run(run.write(store))
    store.now = NOW + 600
    (outcome,) = work(deleting(store, seen or {}), [row])
    assert ("in/k" in store.current()) == (outcome.status is Status.KEPT)
    return outcome


@pytest.mark.parametrize(
    "run",
    [
        LATE,
        LATE._replace(report={"state": "complete", "outcomes": {"verified": 1}}),
        LATE._replace(sides=SIDES[::-1], key="out/k"),
        Compared(second=LATER, row={**DIFFERENT, "source_etag": ETAG, "destination_etag": ETAG}),
    ],
)
def test_a_copy_that_is_found_wrong_after_the_plan_keeps_its_original(run: Run | Compared) -> None:
    outcome = outcome_after(run)
    assert (outcome.status, run.run_id in outcome.reason) == (Status.KEPT, True)


@pytest.mark.parametrize(
    "run",
    [
        VERIFIED._replace(second=LATER, etag=ETAG, copy_etag=ETAG),
        LATE._replace(sides=(SIDES[0], Side(Location("copies", "else/")))),
    ],
)
def test_other_runs_keep_nothing(run: Run) -> None:
    assert outcome_after(run).status is Status.EXPIRED


@pytest.mark.parametrize(
    ("seen", "status"),
    [
        (None, Status.EXPIRED),  # it had ended, and the plan has weighed what came after it
        ((4, NOW + LATER), Status.EXPIRED),  # it was at work, and has written nothing since
        ((3, NOW + LATER), Status.KEPT),  # it has written once more within that second
        ((3, NOW), Status.KEPT),
    ],
)
def test_what_the_plan_has_seen_of_a_run_is_not_read_again(seen: Seen, status: Status) -> None:
    """A plan has seen a spec, a plan and a shard before the run's first outcome."""
    assert outcome_after(LATE, seen={LATE.run_id: seen}).status is status


def test_a_run_that_nobody_can_read_keeps_all_originals() -> None:
    store = shop()
    row = planned(store)
    store.now = NOW + LATER
    name = f"runs/runs/{BY_BYTES.run_id}/spec.json"
    asyncio.run(store.put("ledger", name, b"{", Attributes(), guard=UNGUARDED))
    (outcome,) = work(deleting(store, {}), [row])
    assert (outcome.status, BY_BYTES.run_id in outcome.reason) == (Status.KEPT, True)
    (outcome,) = work(deleting(store, {BY_BYTES.run_id: (1, store.now)}), [row])
    assert outcome.status is Status.EXPIRED  # the plan has weighed that


def test_findings_between_two_groups_count_and_the_ledger_is_listed_once_in_some_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = shop()
    rows = [planned(store, key, number) for number, key in enumerate("abc")]
    seconds, listed = [0.0], list[str]()

    async def note(request: Request) -> Any:
        listed.append(f"{request.arguments['bucket']}/{request.arguments['prefix']}")
        return await request()

    monkeypatch.setattr("jobs.expire.later_disproofs.elapsed_seconds", lambda: seconds[0])
    store.hook(list_objects=note)
    expire = deleting(store, {})
    for row in rows[:2]:
        assert work(expire, [row])[0].status is Status.EXPIRED
    assert listed.count("ledger/runs/runs/") == 1
    asyncio.run(LATE._replace(key="in/c").write(store))
    seconds[0] += LOOK_SECONDS + 1
    assert work(expire, rows[2:])[0].status is Status.KEPT


def test_the_worker_knows_what_the_plan_has_read() -> None:
    store = shop()
    options = {"copies": ["s3://copies/out/"], "grace_seconds": 0}
    spec = RunSpec("20250615T150640Z-expire-aaaaaa", "expire", NOW, *SIDES, "m", options)
    plan = Plan(1, 1, (), expiry={READ_RUNS: [[LATE.run_id, None]]})
    opened = Opened(spec, store, store, ByteBudget(1), Ledger(store, LEDGER), 1, plan=plan)
    assert KIND.open_job is not None
    expire = KIND.open_job(opened)
    assert isinstance(expire, Expire)
    assert expire.disproofs is not None
    assert expire.disproofs.seen == {LATE.run_id: None}
    assert (expire.disproofs.bucket, set(expire.disproofs.copy_buckets)) == ("docs", {"copies"})
    assert expire.removals.disproofs is expire.disproofs
