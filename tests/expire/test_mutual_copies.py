"""Objects that are each other's copies, in one run or in several, at once or one after the other: one of them stays."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from jobs.core.enums import Step
from jobs.core.model import Location, ObjectVersion
from jobs.core.outcome import Outcome, Status
from jobs.core.run import RunSpec, Side
from jobs.errors import LedgerError
from jobs.expire.announcements import Announcement, Announcements
from jobs.expire.announcers import Announcers
from jobs.expire.job import Expire
from jobs.expire.rules import Proof
from jobs.ledger.ledger import Ledger
from jobs.ledger.tombstones import Tombstone, Tombstones
from tests.doubles.memory_store import Request
from tests.expire.scene import LEDGER, Shop, job, row_of, shop, work

VERSIONED = pytest.mark.parametrize("versioned", [True, False])


def mutual(store: Shop, names: Sequence[str]) -> list[ObjectVersion]:
    """Objects of one content, each of which is proven by the one behind it, and the last by the first."""
    refs = [store.put_now("docs", name, b"content") for name in names]
    etag = asyncio.run(store.head(refs[0])).etag
    pairs = zip(refs, [*refs[1:], refs[0]], strict=True)
    return [row_of(store, n, ref, Proof("verify", store.now, *copy, etag)) for n, (ref, copy) in enumerate(pairs)]


def job_of(store: Shop, run_id: str) -> Expire:
    made = replace(job(store), tombstones=Tombstones(store, LEDGER, "docs", run_id))
    return replace(made, announcements=Announcements(store, LEDGER, made.places))


@VERSIONED
def test_of_originals_that_prove_each_other_in_one_run_none_goes_and_later_one_may(versioned: bool) -> None:
    store = shop(versioned=versioned)
    rows = mutual(store, ["x/k", "y/k"])
    assert [each.status for each in work(job_of(store, "run-1"), rows)] == [Status.KEPT, Status.KEPT]
    assert set(store.current()) == {"x/k", "y/k"}
    alone = work(job_of(store, "run-2"), [rows[0]])  # what the first run has kept is announced no more
    assert [each.status for each in alone] == [Status.EXPIRED]
    assert set(store.current()) == {"y/k"}


@VERSIONED
@pytest.mark.parametrize("count", [2, 3, 5])
def test_of_originals_that_prove_each_other_one_after_the_other_one_stays(versioned: bool, count: int) -> None:
    store = shop(versioned=versioned)
    rows = mutual(store, [f"{number}/k" for number in range(count)])
    outcomes = [work(job_of(store, f"run-{number}"), [row])[0] for number, row in enumerate(rows)]
    assert [each.status for each in outcomes] == [Status.EXPIRED] * (count - 1) + [Status.KEPT]
    assert set(store.current()) == {rows[-1].key}


def stone(key: str, row: int = 0, **more: Any) -> Tombstone:
    made = Tombstone(row, key, "v", "e", 7, 0.0, Step.REMOVE, "s3://c/k", None, None, "md5")
    return made._replace(**more)


def test_what_a_run_has_announced_proves_nothing_killed_or_brought_back() -> None:
    """A killed run may go on at any moment: there is nothing that would stop it."""
    store = shop()
    rows = mutual(store, ["x/k", "y/k"])
    announced = stone("x/k", version_id=rows[0].version_id, etag=rows[0].etag, step=Step.HIDE)
    asyncio.run(Tombstones(store, LEDGER, "docs", "killed").announce([announced]))
    outcome = work(job_of(store, "run-2"), [rows[1]._replace(row=0)])[0]
    assert (outcome.status, "killed" in outcome.reason) == (Status.KEPT, True)
    other = shop()
    rows = mutual(other, ["x/k", "y/k"])
    assert work(job_of(other, "run-1"), [rows[0]])[0].status is Status.EXPIRED
    marker = asyncio.run(other.list_versions("docs", "x/k")).entries[0]
    asyncio.run(other.delete("docs", "x/k", version_id=marker.version_id))
    assert work(job_of(other, "run-2"), [rows[1]])[0].status is Status.KEPT


@VERSIONED
@pytest.mark.parametrize("seed", [pytest.param(n, marks=pytest.mark.slow if n >= 12 else ()) for n in range(60)])
def test_of_originals_that_prove_each_other_in_runs_at_once_one_stays(versioned: bool, seed: int) -> None:
    store = shop(versioned=versioned)
    rows = mutual(store, ["x/k", "y/k", "z/k"])
    chance = random.Random(seed)

    async def wait(request: Request) -> Any:
        for _ in range(chance.randrange(6)):
            await asyncio.sleep(0)
        return await request()

    store.hook(head=wait, get=wait, put=wait, delete=wait, list_objects=wait)

    async def together() -> list[list[Outcome]]:
        return await asyncio.gather(*(job_of(store, f"run-{each.row}").process([each]) for each in rows))

    gone = [outcomes[0].status is Status.EXPIRED for outcomes in asyncio.run(together())]
    assert len(store.current()) == 3 - sum(gone) >= 1


@pytest.mark.parametrize(
    ("announced", "is_of"),
    [
        (Announcement("r", "k", "v1", "f", "remove"), True),
        (Announcement("r", "l", "v1", "e", "remove"), False),
        (Announcement("r", "k", "v2", "e", "remove"), False),
        (Announcement("r", "k", "v2", "e", "hide"), True),  # its marker hides what has the ETag, in any version
        (Announcement("r", "k", "v2", "f", "hide"), False),
        (Announcement("r", "k", None, "e", "remove"), True),
        (Announcement("r", "k", "null", "e", "remove"), True),
        (Announcement("r", "k", "null", "f", "remove"), False),
    ],
)
def test_which_announcement_is_of_a_copy(announced: Announcement, is_of: bool) -> None:
    copy = Proof("run", 0.0, "b", "k", "v1", "e")
    assert announced.is_of(copy) is is_of
    assert announced.is_of(replace(copy, version_id=None)) is (announced.key == "k" and announced.etag == "e")


def test_what_is_no_tombstone_ends_the_run() -> None:
    store = shop()
    store.put_now("ledger", "runs/tombstones/b/run/0-0-x-intent.parquet", b"PAR1 or something")
    with pytest.raises(LedgerError, match=r"0-0-x-intent[.]parquet cannot be read"):
        asyncio.run(Announcements(store, LEDGER, []).find([Proof("run", 0.0, "b", "k", "v", "e")]))


def test_an_announcement_is_found_under_each_spelling_of_its_key_and_place() -> None:
    """Some servers take `x//k` and `/x/k` for `x/k`: one of two objects would prove the other, and both would go."""
    store = shop()
    asyncio.run(Tombstones(store, LEDGER, "bbb", "run").announce([stone("x/k"), stone("x/j", 1)]))
    announcements = Announcements(store, LEDGER, [Location("bbb", "/x//")])
    copies = [Proof("verify", 0.0, "bbb", name, "v", "e") for name in ("x/k", "x//k", "/x/k", "x/jj")]
    assert asyncio.run(announcements.find(copies)) == ["run", "run", "run", ""]


OTHER = "19700101T000000Z-expire-aaaaaa"


def expiring(run_id: str, source: Side, *, streamed: bool = False) -> RunSpec:
    copies = Side(Location("copies"), "https://other")
    return RunSpec(run_id, "expire", 0.0, source, copies, "rows", {"streamed": streamed})


@pytest.mark.parametrize(
    ("source", "streamed", "is_concerned"),
    [
        (Side(Location("bbb", "")), False, True),
        (Side(Location("bbb", "/x//deep/")), False, True),
        (Side(Location("bbb", "y/")), False, False),
        (Side(Location("ccc", "x/")), False, True),  # its tombstones are not where its spec says: believe nothing
        (Side(Location("bbb", "x/")), True, False),  # this run's own source, which is not where its copies are
        (Side(Location("bbb", "x/"), "https://alias"), True, True),
        (None, False, True),
    ],
)
def test_which_runs_announcements_are_read(source: Side | None, streamed: bool, is_concerned: bool) -> None:
    ledger = Ledger(shop(), LEDGER)
    if source is not None:
        asyncio.run(ledger.create(expiring(OTHER, source)))
    own = expiring("own", Side(Location("bbb", "x/")), streamed=streamed)
    announcers = Announcers(ledger, own, [Location("bbb", "x/"), Location("copies")])
    assert asyncio.run(announcers.concern("bbb", OTHER)) is is_concerned
