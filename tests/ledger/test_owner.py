"""The owner of a run, with a clock that a test moves: who works, who stops, and when a delete may be sent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from jobs.core.model import Location, ObjectRef
from jobs.errors import ExitCode, Interrupted, TakenOver, Unavailable
from jobs.ledger.ledger import Ledger
from jobs.ledger.owner import FRESH_SECONDS, Owner, claim_run, last_owner
from jobs.s3.gated_store import checked
from tests.doubles.hooks import refuse
from tests.doubles.memory_store import MemoryStore, Request

BATCH = {"run_id": "run", "what": "submission 0 to Batch", "owner_id": "batch-000"}
SILENT = Unavailable("HeadObject", "ledger", "TimedOut")


@dataclass
class Site:
    store: MemoryStore
    ledger: Ledger
    now: float = 0.0

    async def own(self, what: str = "a command") -> Owner:
        owner = await claim_run(self.ledger, "run", what)
        owner.clock = lambda: self.now
        return owner

    def looks(self) -> list[float]:
        """When each look begins from now on. An answer takes no time."""
        times = list[float]()

        async def note(request: Request) -> Any:
            times.append(self.now)
            return await request()

        self.store.hook(head=note)
        return times


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr("jobs.s3.retries.backoff_seconds", lambda attempt, jitter: 0.0)
    store = MemoryStore()
    for bucket in ("ledger", "data"):
        store.create_bucket(bucket)
    return Site(store, Ledger(store, Location("ledger")))


async def test_the_last_owner_has_the_run(site: Site) -> None:
    first = await site.own()
    await first.look()
    second = await site.own("another command")
    assert (first.number, second.number) == (1, 2)
    for _ in range(2):
        with pytest.raises(TakenOver, match=r"run run: another command \(process \d+ on .*\) took over") as raised:
            await first.look()
    assert (raised.value.exit_code, first.lost) == (ExitCode.TAKEN_OVER, raised.value)
    await second.look()
    number, document = await last_owner(site.ledger, "run")
    assert (number, document["what"][:15]) == (2, "another command")


async def test_nobody_owns_a_run_at_first(site: Site) -> None:
    assert await last_owner(site.ledger, "run") == (0, {})
    by_hand = Owner(site.ledger, "run", 0)
    await by_hand.look()
    await site.own()
    with pytest.raises(TakenOver):
        await by_hand.look()


async def test_commands_at_once_have_numbers_of_their_own(site: Site) -> None:
    owners = await asyncio.gather(*(site.own() for _ in range(5)))
    assert sorted(owner.number for owner in owners) == [1, 2, 3, 4, 5]
    looked = await asyncio.gather(*(owner.look() for owner in owners), return_exceptions=True)
    assert [owner.number for owner, lost in zip(owners, looked, strict=True) if lost is None] == [5]


async def test_a_submission_that_several_callers_make_is_one_owner_and_stays_cancelled(site: Site) -> None:
    owners = await asyncio.gather(*(claim_run(site.ledger, **BATCH) for _ in range(4)))
    assert {owner.number for owner in owners} == {1}
    await site.own("sealift runs cancel")
    late = await claim_run(site.ledger, **BATCH)
    assert late.number == 1
    with pytest.raises(TakenOver, match="sealift runs cancel"):
        await late.look()


async def test_a_forged_owner_further_on_does_not_hide_the_next_one(site: Site) -> None:
    owner = await site.own()
    await site.ledger.write_document("run", "owner/000009.json", {"id": "x", "what": "x"})
    assert (await last_owner(site.ledger, "run"))[0] == 1
    await site.own()
    with pytest.raises(TakenOver):
        await owner.look()


async def test_deletes_share_looks_and_none_is_sent_later_than_a_look_is_fresh(site: Site) -> None:
    owner, looks = await site.own(), site.looks()
    assert set(await asyncio.gather(*(owner.check() for _ in range(64)))) == {FRESH_SECONDS}
    assert looks == [0.0]
    site.now = FRESH_SECONDS / 2
    assert await owner.check() == FRESH_SECONDS
    site.now += 0.1
    assert await owner.check() == site.now + FRESH_SECONDS
    assert looks == [0.0, site.now]


async def test_a_look_that_ends_late_does_not_make_a_later_one_old(site: Site) -> None:
    owner, held = await site.own(), asyncio.Event()

    async def hold(request: Request) -> Any:
        answer = request()
        site.store.hook(head=None)
        await held.wait()
        return await answer

    site.store.hook(head=hold)
    late = asyncio.create_task(owner.look())
    await asyncio.sleep(0)
    site.now = 10.0
    await owner.look()
    held.set()
    await late
    assert owner.looked_at == 10.0


async def test_no_delete_is_sent_without_an_answer_and_its_error_is_not_the_deletes(site: Site) -> None:
    owner = await site.own()
    site.store.hook(head=refuse(SILENT))
    with pytest.raises(Interrupted, match="does not say who owns it") as raised:
        await checked(site.store, owner.check).delete(ObjectRef("data", "k"))
    assert raised.value.exit_code == ExitCode.TRANSIENT


async def test_only_deletes_are_checked_and_each_says_until_when_it_may_be_sent(site: Site) -> None:
    owner, asked = await site.own(), list[Any]()

    async def note(request: Request) -> Any:
        asked.append(request.arguments["send_by"])

    site.store.hook(delete=note)
    store = checked(site.store, owner.check)
    await store.delete(ObjectRef("data", "k"))
    await store.delete(ObjectRef("data", "k"), send_by=1.0)
    await store.delete(ObjectRef("data", "k"), send_by=99.0)
    assert asked == [FRESH_SECONDS, 1.0, FRESH_SECONDS]
    await site.own()
    site.now = FRESH_SECONDS
    with pytest.raises(TakenOver):
        await store.delete(ObjectRef("data", "k"))
    await store.list_objects("data", "")
    assert len(asked) == 3
