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
from tests.expire.scene import LEDGER, NOW, Shop, job, row_of, shop, work
from tests.expire.test_disproofs import BY_BYTES, BY_HEAD, DIFFERENT, SIDES, VERIFIED, Books, Compared, Run, write

ETAG = hashlib.md5(b"content").hexdigest()
NOTHING: Mapping[str, Seen] = {}
LATER = 300.0
"""Seconds after the plan, at which another run finds something."""


class ShopBooks(Books):
    """The ledger beside the originals."""

    def __init__(self, store: Shop) -> None:
        self.store, self.ledger = store, Ledger(store, LEDGER)

    @property
    def now(self) -> float:
        return self._shop.now

    @now.setter
    def now(self, value: float) -> None:
        self._shop.now = value

    @property
    def _shop(self) -> Shop:
        assert isinstance(self.store, Shop)
        return self.store


def _planned(store: Shop, key: str = "k", number: int = 0) -> ObjectVersion:
    ref = store.put_now("docs", f"in/{key}", b"content")
    copy = store.put_now("copies", f"out/{key}", b"content")
    return row_of(store, number, ref, Proof("run", NOW, "copies", copy.key, copy.version_id, ETAG))


def _deleting(store: Shop, seen: Mapping[str, Seen]) -> Expire:
    return replace(job(store), disproofs=LaterDisproofs(Ledger(store, LEDGER), "docs", ["copies"], seen))


def _outcome(*runs: Run | Compared, seen: Mapping[str, Seen] = NOTHING) -> Outcome:
    """What becomes of the original when these runs come after the plan, which has `seen` others."""
    store = shop()
    row = _planned(store)

    async def run_all() -> None:
        for run in runs:
            books = ShopBooks(store)
            await (run.write(books) if isinstance(run, Compared) else write(books, run))

    asyncio.run(run_all())
    store.now = NOW + 600
    (outcome,) = work(_deleting(store, seen), [row])
    assert ("in/k", row.version_id) in store.contents()
    is_hidden = "in/k" not in {each.key for each in asyncio.run(store.list_objects("docs", "")).entries}
    assert is_hidden == (outcome.status is Status.EXPIRED)
    return outcome


LATE = BY_BYTES._replace(second=LATER, etag=ETAG, copy_etag=ETAG)
SWAPPED = LATE._replace(sides=SIDES[::-1], key="out/k")


@pytest.mark.parametrize(
    "run",
    [
        LATE,
        BY_HEAD._replace(second=LATER, etag=ETAG, copy_etag=ETAG),
        LATE._replace(status=Status.DAMAGED),
        BY_HEAD._replace(second=LATER, etag=ETAG, status=Status.MISSING, copy_etag=None),
        LATE._replace(report={"state": "complete", "outcomes": {"mismatched": 1}}),
        LATE._replace(report={"state": "complete", "outcomes": {"verified": 1}}),
        SWAPPED,
        Compared(second=LATER, row={**DIFFERENT, "source_etag": ETAG, "destination_etag": ETAG}),
    ],
)
def test_a_copy_that_is_found_wrong_after_the_plan_keeps_its_original(run: Run | Compared) -> None:
    """S3 shows the copy's checksum as it was, so only the run that read the bytes knows."""
    outcome = _outcome(run)
    assert outcome.status is Status.KEPT
    assert "-verify-" in outcome.reason or "-reconcile-" in outcome.reason


@pytest.mark.parametrize(
    "run",
    [
        VERIFIED._replace(second=LATER, etag=ETAG, copy_etag=ETAG),
        LATE._replace(sides=(SIDES[0], Side(Location("copies", "else/")))),
        SWAPPED._replace(status=Status.MISSING),
        Compared(second=LATER, row={**DIFFERENT, "reason": "sizes differ"}),
    ],
)
def test_other_runs_keep_nothing(run: Run | Compared) -> None:
    assert _outcome(run).status is Status.EXPIRED


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
    assert _outcome(LATE, seen={LATE.run_id: seen}).status is status


def test_a_run_that_nobody_can_read_keeps_all_originals() -> None:
    store = shop()
    row = _planned(store)
    store.now = NOW + LATER
    name = f"runs/runs/{BY_BYTES.run_id}/spec.json"
    asyncio.run(store.put("ledger", name, b"{", Attributes(), guard=UNGUARDED))
    (outcome,) = work(_deleting(store, {}), [row])
    assert outcome.status is Status.KEPT
    assert f"run {BY_BYTES.run_id} may have found its copy wrong, and its files cannot be read" in outcome.reason
    (outcome,) = work(_deleting(store, {BY_BYTES.run_id: (1, store.now)}), [row])
    assert outcome.status is Status.EXPIRED  # the plan has weighed that


def test_a_finding_between_two_groups_keeps_the_originals_of_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    store = shop()
    rows = [_planned(store, "a", 0), _planned(store, "b", 1)]
    seconds = [0.0]
    monkeypatch.setattr("jobs.expire.later_disproofs.elapsed_seconds", lambda: seconds[0])
    expire = _deleting(store, {})
    assert [each.status for each in work(expire, rows[:1])] == [Status.EXPIRED]
    asyncio.run(write(ShopBooks(store), LATE._replace(key="in/b")))
    seconds[0] += LOOK_SECONDS + 1
    assert [each.status for each in work(expire, rows[1:])] == [Status.KEPT]


def test_the_ledger_is_listed_once_for_all_groups_of_some_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.expire.later_disproofs.elapsed_seconds", lambda: 0.0)
    store = shop()
    rows = [_planned(store, str(number), number) for number in range(3)]
    listed: list[str] = []
    real = store.list_objects

    async def list_objects(bucket: str, prefix: str, **options: Any) -> Any:
        listed.append(f"{bucket}/{prefix}")
        return await real(bucket, prefix, **options)

    store.list_objects = list_objects  # type: ignore[method-assign]
    expire = _deleting(store, {})
    for row in rows:
        work(expire, [row])
    assert listed.count("ledger/runs/runs/") == 1


def test_the_worker_knows_what_the_plan_has_read() -> None:
    store = shop()
    sides = Side(Location("docs", "in/")), Side(Location("copies", "out/"))
    spec = RunSpec(
        "20250615T150640Z-expire-aaaaaa",
        "expire",
        NOW,
        *sides,
        "m",
        {"copies": ["s3://copies/out/"], "grace_seconds": 0},
    )
    plan = Plan(1, 1, (), expiry={READ_RUNS: [[LATE.run_id, None]]})
    opened = Opened(spec, store, store, ByteBudget(1), Ledger(store, LEDGER), 1, plan=plan)
    assert KIND.open_job is not None
    expire = KIND.open_job(opened)
    assert isinstance(expire, Expire)
    assert expire.disproofs is not None
    assert expire.disproofs.seen == {LATE.run_id: None}
    assert (expire.disproofs.bucket, set(expire.disproofs.copy_buckets)) == ("docs", {"copies"})
    assert expire.removals.disproofs is expire.disproofs
