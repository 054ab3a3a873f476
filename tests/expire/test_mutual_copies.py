"""Objects that are each other's copies, in one run or in several, at once or one after the other: one of them stays."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from jobs.core.enums import Step
from jobs.core.model import Location, ObjectRef, ObjectVersion
from jobs.core.outcome import Outcome, Status
from jobs.core.run import RunSpec, Side
from jobs.errors import LedgerError
from jobs.expire.announcements import Announcement, Announcements
from jobs.expire.announcers import Announcers
from jobs.expire.job import Expire
from jobs.expire.rules import Proof
from jobs.ledger.ledger import Ledger
from jobs.ledger.tombstones import Tombstone, Tombstones
from jobs.s3.store import Body, Page
from tests.expire.scene import LEDGER, Shop, job, row_of, shop, work

CONTENT = b"content"


def proof_of(store: Shop, ref: ObjectRef) -> Proof:
    return Proof("verify", store.now, *ref, asyncio.run(store.head(ref)).etag)


def mutual(store: Shop, names: Sequence[str], bucket: str = "docs") -> list[ObjectVersion]:
    """Objects of one content, each of which is proven by the one behind it, and the last by the first."""
    refs = [store.put_now(bucket, name, CONTENT) for name in names]
    copies = [*refs[1:], refs[0]]
    pairs = zip(refs, copies, strict=True)
    return [row_of(store, number, ref, proof_of(store, copy)) for number, (ref, copy) in enumerate(pairs)]


def job_of(store: Shop, run_id: str, bucket: str = "docs") -> Expire:
    tombstones = Tombstones(store, LEDGER, bucket, run_id)
    made = replace(job(store), tombstones=tombstones, bucket=bucket)
    return replace(made, announcements=Announcements(store, LEDGER, made.places))


@pytest.mark.parametrize("versioned", [True, False])
def test_of_originals_that_prove_each_other_in_one_run_none_goes_and_later_one_may(versioned: bool) -> None:
    store = shop(versioned=versioned)
    rows = mutual(store, ["x/k", "y/k"])
    outcomes = work(job_of(store, "run-1"), rows)
    assert [each.status for each in outcomes] == [Status.KEPT, Status.KEPT], outcomes
    assert "the expire run run-1 has announced" in outcomes[0].reason
    assert len(store.contents()) == 2
    alone = work(job_of(store, "run-2"), [rows[0]])  # what the first run has kept is announced no more
    assert [each.status for each in alone] == [Status.EXPIRED], alone
    assert asyncio.run(store.get(ObjectRef("docs", "y/k"))).data == CONTENT


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_of_originals_that_prove_each_other_one_after_the_other_one_stays(versioned: bool, count: int) -> None:
    store = shop(versioned=versioned)
    rows = mutual(store, [f"{number}/k" for number in range(count)])
    outcomes = [work(job_of(store, f"run-{number}"), [row])[0] for number, row in enumerate(rows)]
    assert [each.status for each in outcomes] == [Status.EXPIRED] * (count - 1) + [Status.KEPT], outcomes
    assert asyncio.run(store.get(ObjectRef("docs", rows[-1].key))).data == CONTENT


def test_what_a_killed_run_has_announced_proves_nothing() -> None:
    """It may go on at any moment: there is nothing that would stop it."""
    store = shop()
    rows = mutual(store, ["x/k", "y/k"])
    stone = Tombstone(
        0, "x/k", rows[0].version_id, rows[0].etag or "", 7, 0.0, Step.HIDE, "s3://d/y", None, None, "md5"
    )
    asyncio.run(Tombstones(store, LEDGER, "docs", "killed").announce([stone]))
    outcome = work(job_of(store, "run-2"), [rows[1]._replace(row=0)])[0]
    assert (outcome.status, "the expire run killed has announced" in outcome.reason) == (Status.KEPT, True), outcome


def test_a_copy_that_was_hidden_and_brought_back_proves_nothing_as_long_as_its_run_says_that_it_went() -> None:
    store = shop()
    rows = mutual(store, ["x/k", "y/k"])
    hidden = work(job_of(store, "run-1"), [rows[0]])[0]
    marker_id = hidden.reason.split()[5].rstrip(":")
    asyncio.run(store.delete("docs", "x/k", version_id=marker_id))
    outcome = work(job_of(store, "run-2"), [rows[1]])[0]
    assert (outcome.status, "the expire run run-1 has announced" in outcome.reason) == (Status.KEPT, True), outcome


class Jittery(Shop):
    """Requests take their time, so that two runs interleave in some way that `chance` chooses."""

    chance = random.Random(0)

    async def _wait(self) -> None:
        for _ in range(self.chance.randrange(6)):
            await asyncio.sleep(0)

    async def head(self, ref: ObjectRef, **more: Any) -> Any:
        await self._wait()
        return await super().head(ref, **more)

    async def get(self, ref: ObjectRef, **more: Any) -> Body:
        await self._wait()
        return await super().get(ref, **more)

    async def put(self, *given: Any, **more: Any) -> Any:
        await self._wait()
        return await super().put(*given, **more)

    async def delete(self, *given: Any, **more: Any) -> Any:
        await self._wait()
        return await super().delete(*given, **more)

    async def list_objects(self, *given: Any, **more: Any) -> Page:
        await self._wait()
        return await super().list_objects(*given, **more)


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("seed", range(60))
def test_of_originals_that_prove_each_other_in_runs_at_once_one_stays(versioned: bool, seed: int) -> None:
    store = Jittery()
    store.create_bucket("docs", versioned=versioned)
    store.chance = random.Random(seed)
    rows = mutual(store, ["x/k", "y/k", "z/k"])

    async def both() -> list[list[Outcome]]:
        return await asyncio.gather(*(job_of(store, f"run-{each.row}").process([each]) for each in rows))

    gone = [outcomes[0].status is Status.EXPIRED for outcomes in asyncio.run(both())]
    there = asyncio.run(store.list_objects("docs", ""))
    assert len(there.entries) == 3 - sum(gone) >= 1


@pytest.mark.parametrize(
    ("announced", "is_of"),
    [
        (Announcement("r", "k", "v1", "e", "remove"), True),
        (Announcement("r", "k", "v1", "f", "remove"), True),
        (Announcement("r", "l", "v1", "e", "remove"), False),
        (Announcement("r", "k", "v2", "e", "remove"), False),
        (Announcement("r", "k", "v2", "f", "hide"), False),
        (
            Announcement("r", "k", "v2", "e", "hide"),
            True,
        ),  # its marker hides what has the ETag, whichever version it is
        (Announcement("r", "k", None, "e", "remove"), True),
        (Announcement("r", "k", None, "f", "remove"), False),
        (Announcement("r", "k", "null", "e", "remove"), True),
        (Announcement("r", "k", "null", "f", "remove"), False),
    ],
)
def test_which_announcement_is_of_a_copy(announced: Announcement, is_of: bool) -> None:
    copy = Proof("run", 0.0, "b", "k", "v1", "e")
    assert announced.is_of(copy) is is_of
    by_etag = replace(copy, version_id=None)
    assert announced.is_of(by_etag) is (announced.key == "k" and announced.etag == "e")


class Counting(Shop):
    """`asked`: the requests for tombstones."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, str]] = []

    async def get(self, ref: ObjectRef, **more: Any) -> Body:
        if "/tombstones/" in ref.key:
            self.asked.append(("get", ref.key))
        return await super().get(ref, **more)

    async def list_objects(self, bucket: str, prefix: str, **more: Any) -> Page:
        self.asked.append(("list", prefix))
        return await super().list_objects(bucket, prefix, **more)


def _stone(key: str, row: int = 0) -> Tombstone:
    return Tombstone(row, key, "v", "e", 7, 0.0, Step.REMOVE, "s3://c/k", None, None, "md5")


def test_announcements_are_listed_each_time_and_read_once() -> None:
    store = Counting()
    asyncio.run(Tombstones(store, LEDGER, "b", "old").announce([_stone("x/k"), _stone("elsewhere")]))
    announcements = Announcements(store, LEDGER, [Location("b", "x/")])
    copies = [Proof("run", 0.0, "b", key, "v", "e") for key in ("x/k", "x/l", "elsewhere")]
    for _ in range(3):
        assert asyncio.run(announcements.find(copies)) == ["old", "", ""]  # the third is in no place of this run
    assert [kind for kind, _ in store.asked] == ["list", "list", "get", "list", "list", "list", "list"]
    open_intent = Tombstones(store, LEDGER, "b", "new")
    name = asyncio.run(open_intent.announce([_stone("x/l")]))
    assert asyncio.run(announcements.find(copies)) == ["old", "new", ""]
    asyncio.run(open_intent.confirm(name, []))
    assert asyncio.run(announcements.find(copies)) == ["old", "", ""]
    store.asked.clear()
    assert asyncio.run(announcements.find([replace(copies[0], bucket="other")])) == [""]
    assert store.asked == [("list", "runs/tombstones/other/")]


def test_what_is_no_tombstone_ends_the_run() -> None:
    store = shop()
    store.put_now("ledger", "runs/tombstones/b/run/0-0-x-intent.parquet", b"PAR1 or something")
    with pytest.raises(LedgerError, match=r"0-0-x-intent[.]parquet cannot be read"):
        asyncio.run(Announcements(store, LEDGER, []).find([Proof("run", 0.0, "b", "k", "v", "e")]))


def test_an_announcement_is_found_under_each_spelling_of_its_key_and_place() -> None:
    """Some servers take `x//k` and `/x/k` for `x/k`: one of two objects would prove the other, and both would go."""
    store = shop()
    asyncio.run(Tombstones(store, LEDGER, "bbb", "run").announce([_stone("x/k"), _stone("x/j", 1)]))
    announcements = Announcements(store, LEDGER, [Location("bbb", "/x//")])
    names = ["x/k", "x//k", "/x/k", "x/jj"]
    copies = [Proof("verify", 0.0, "bbb", name, "v", "e") for name in names]
    assert asyncio.run(announcements.find(copies)) == ["run", "run", "run", ""]
    itself = _stone("x/l")._replace(copy="s3://bbb//x/l")  # S3 keeps both, as the mark of its run has shown
    asyncio.run(Tombstones(store, LEDGER, "bbb", "other").announce([itself]))
    assert asyncio.run(announcements.find([Proof("verify", 0.0, "bbb", "/x/l", "v", "e")])) == [""]


OTHER = "19700101T000000Z-expire-aaaaaa"


def _spec(run_id: str, source: Side, *, streamed: bool = False) -> RunSpec:
    options = {"streamed": streamed}
    return RunSpec(run_id, "expire", 0.0, source, Side(Location("copies"), "https://other"), "rows", options)


@pytest.mark.parametrize(
    ("source", "streamed", "is_concerned"),
    [
        (Side(Location("bbb", "x/")), False, True),
        (Side(Location("bbb", "")), False, True),
        (Side(Location("bbb", "x/deep/")), False, True),
        (Side(Location("bbb", "/x//deep/")), False, True),
        (Side(Location("bbb", "y/")), False, False),
        (Side(Location("ccc", "x/")), False, True),  # its tombstones are not where its spec says: believe nothing
        (Side(Location("bbb", "x/")), True, False),  # this run's own source, which is not where its copies are
        (Side(Location("bbb", "x/"), "https://alias"), True, True),
        (None, False, True),
    ],
)
def test_which_runs_announcements_are_read(source: Side | None, streamed: bool, is_concerned: bool) -> None:
    store = shop()
    ledger = Ledger(store, LEDGER)
    if source is not None:
        asyncio.run(ledger.create(_spec(OTHER, source)))
    own = _spec("own", Side(Location("bbb", "x/")), streamed=streamed)
    announcers = Announcers(ledger, own, [Location("bbb", "x/"), Location("copies")])
    for _ in range(2):
        assert asyncio.run(announcers.concern("bbb", OTHER)) is is_concerned


def test_a_row_outside_of_what_the_run_is_about_is_kept() -> None:
    """Others rely on it: what such a run announces, they need not read."""
    store = shop()
    (row, _) = mutual(store, ["x/k", "y/k"])
    outcome = work(replace(job(store), prefix="docs/"), [row])[0]
    assert (outcome.status, "keys that begin with 'docs/'" in outcome.reason) == (Status.KEPT, True), outcome
