"""Leases with a clock that a test moves: who may write, who waits, and how long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from jobs.core.model import Attributes, Location, ObjectRef
from jobs.errors import Interrupted, LedgerError, NotFound, Unavailable
from jobs.ledger.ledger import Ledger
from jobs.runs import leases
from jobs.runs.leases import LEASE_SECONDS, Lease, launch_ids, open_leases, write_launch
from jobs.s3 import retries
from jobs.s3.fenced_store import fenced
from jobs.s3.store import UNGUARDED, Store
from tests.doubles.memory_store import MemoryStore

WHO = {"host": "box", "pid": 7, "since": "1970-01-01T00:00:00Z"}


class Counting:
    """A store that counts requests by name, does not answer while `is_silent`, and takes `seconds` for an answer."""

    def __init__(self, store: Store):
        self._store = store
        self.requests: list[str] = []
        self.is_silent = False
        self.seconds = 0.0
        self.answers: asyncio.Event | None = None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def ask(*arguments: Any, **named: Any) -> Any:
            self.requests.append(name)
            if self.is_silent:
                raise Unavailable(name, "ledger", "TimedOut")
            if self.answers is not None:
                await self.answers.wait()
            if self.seconds:
                await asyncio.sleep(self.seconds)
            return await getattr(self._store, name)(*arguments, **named)

        return ask


@dataclass
class Site:
    """A ledger, and the time of all who work with it."""

    ledger: Ledger
    store: Any
    now: float = 0.0

    def lease(self, launch_id: str | None = None) -> Lease:
        return Lease(self.ledger, "run", 0, launch_id, WHO, lambda: self.now)

    async def claimed(self, launch_id: str | None = None) -> Lease:
        """A lease, with as much time spent as its claim waits for."""
        lease = self.lease(launch_id)
        await lease.claim(lambda: False)
        return lease


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    memory = MemoryStore()
    memory.create_bucket("ledger")
    memory.create_bucket("data")
    store: Any = Counting(memory)
    made = Site(Ledger(store, Location("ledger")), store)
    real_sleep = asyncio.sleep

    async def sleep(seconds: float) -> None:
        made.now += seconds
        await real_sleep(0)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return made


def test_a_first_attempt_waits_for_nobody_and_costs_five_requests(site: Site) -> None:
    async def scene() -> None:
        started = await write_launch(site.ledger, "run", "local-a", WHO, "a command")
        site.store.requests.clear()
        lease = await site.claimed(started.id)
        for _ in range(100):
            await lease.hold()
        await lease.end()
        assert site.now == 0.0
        assert sorted(site.store.requests) == ["get", "list_objects", "list_objects", "put", "put"]

    asyncio.run(scene())


def test_the_next_attempt_waits_for_one_that_has_not_ended_and_then_has_the_shard_alone(site: Site) -> None:
    async def scene() -> None:
        old = await site.claimed()
        await site.claimed()
        assert LEASE_SECONDS <= site.now < LEASE_SECONDS + 2
        with pytest.raises(Interrupted, match="process 7 on box took over"):
            await old.hold()

    asyncio.run(scene())


def test_a_dead_attempt_is_waited_for_once(site: Site) -> None:
    async def scene() -> None:
        await site.claimed()
        second = await site.claimed()
        await second.end()
        waited = site.now
        await site.claimed()
        assert site.now == waited >= LEASE_SECONDS

    asyncio.run(scene())


def test_the_next_attempt_does_not_wait_for_one_that_has_ended(site: Site) -> None:
    async def scene() -> None:
        old = await site.claimed()
        await old.end()
        await site.claimed()
        assert site.now == 0.0

    asyncio.run(scene())


def test_the_local_executor_need_not_wait_for_its_own_dead_worker_but_for_others(site: Site) -> None:
    async def scene() -> None:
        await write_launch(site.ledger, "run", "local-a", WHO, "a command")
        await site.claimed("local-a")
        await site.claimed("local-a")
        assert site.now == 0.0
        await write_launch(site.ledger, "run", "local-b", WHO, "a command")
        await site.claimed("local-b")
        assert site.now >= LEASE_SECONDS

    asyncio.run(scene())


def test_a_child_that_batch_starts_twice_waits_for_its_twin(site: Site) -> None:
    async def scene() -> None:
        await write_launch(site.ledger, "run", "batch-000", WHO, "submission 0 to Batch")
        twin = await site.claimed("batch-000")
        await site.claimed("batch-000")
        assert site.now >= LEASE_SECONDS
        with pytest.raises(Interrupted):
            await twin.hold(deletes=True)

    asyncio.run(scene())


def test_a_wait_ends_when_the_attempt_before_ends(site: Site) -> None:
    async def scene() -> None:
        old = await site.claimed()

        async def end_soon() -> None:
            while site.now < 3:
                await asyncio.sleep(0)
            await old.end()

        await asyncio.gather(site.claimed(), end_soon())
        assert 3 <= site.now < 6

    asyncio.run(scene())


def test_a_wait_ends_when_the_attempt_is_to_end(site: Site) -> None:
    async def scene() -> None:
        await site.claimed()
        lease = site.lease()
        await lease.claim(lambda: site.now > 2)
        assert site.now < 5

    asyncio.run(scene())


def test_no_write_is_sent_after_another_launch_later_than_the_last_look_is_fresh(site: Site) -> None:
    async def scene() -> None:
        data = MemoryStore()
        data.create_bucket("data")
        await write_launch(site.ledger, "run", "local-a", WHO, "a command")
        lease = await site.claimed("local-a")
        store = fenced(data, lease.hold)
        await write_launch(site.ledger, "run", "cancel-1", WHO, "sealift runs cancel")
        await store.put("data", "a", b"", Attributes(), guard=UNGUARDED)  # within the time that the next one waits
        site.now += leases.DELETE_FRESH_SECONDS + 0.1
        for write in (
            lambda: store.delete("data", "a"),
            lambda: store.delete_versions("data", [("a", "b")]),
            lambda: store.put("data", "b", b"", Attributes(), guard=UNGUARDED),
            lambda: store.create_multipart("data", "c", Attributes()),
        ):
            with pytest.raises(Interrupted, match="sealift runs cancel"):
                await write()
        assert lease.superseded_by.startswith("sealift runs cancel")
        await store.head(ObjectRef("data", "a"))
        with pytest.raises(NotFound):
            await store.head(ObjectRef("data", "b"))

    asyncio.run(scene())


def test_a_worker_of_a_launch_that_is_not_the_last_one_does_not_begin(site: Site) -> None:
    async def scene() -> None:
        await write_launch(site.ledger, "run", "batch-000", WHO, "submission 0 to Batch")
        await write_launch(site.ledger, "run", "cancel-1", WHO, "sealift runs cancel")
        with pytest.raises(Interrupted, match="sealift runs cancel"):
            await site.claimed("batch-000")
        await write_launch(site.ledger, "run", "batch-001", WHO, "submission 1 to Batch")
        with pytest.raises(Interrupted):
            await site.claimed("batch-000")
        await site.claimed("batch-001")

    asyncio.run(scene())


def test_a_submission_that_two_callers_make_is_one_launch(site: Site) -> None:
    async def scene() -> None:
        await write_launch(site.ledger, "run", "batch-000", WHO, "submission 0 to Batch")
        lease = await site.claimed("batch-000")
        again = await write_launch(site.ledger, "run", "batch-000", WHO, "submission 0 to Batch")
        assert again.number == 0
        await site.ledger.write_document(
            "run", "launches/000001.json", {**WHO, "id": "batch-000"}
        )  # a race's other one
        site.now += 100
        await lease.hold(deletes=True)
        assert await launch_ids(site.ledger, "run") == {"batch-000"}

    asyncio.run(scene())


def test_without_an_answer_from_the_ledger_nothing_is_sent(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "backoff_seconds", lambda attempt, jitter: 0.0)

    async def scene() -> None:
        lease = await site.claimed()
        site.store.is_silent = True
        await lease.hold()
        site.now += leases.FRESH_SECONDS + 0.1
        with pytest.raises(Interrupted, match="cannot read from the ledger"):
            await lease.hold()
        site.store.is_silent = False
        with pytest.raises(Interrupted):
            await lease.hold()

    asyncio.run(scene())


def test_many_who_ask_at_once_look_once(site: Site) -> None:
    async def scene() -> None:
        lease = await site.claimed()
        site.now += 100
        site.store.requests.clear()
        await asyncio.gather(*(lease.hold(deletes=True) for _ in range(64)))
        assert site.store.requests == ["head", "head"]

    asyncio.run(scene())


@pytest.mark.parametrize("deletes", [False, True])
def test_a_write_is_sent_though_the_ledger_answers_more_slowly_than_a_look_is_fresh(site: Site, deletes: bool) -> None:
    async def scene() -> None:
        lease = await site.claimed()
        site.now += 100
        site.store.seconds = 3.5  # for each of the two requests of a look, on the clock of both
        async with asyncio.timeout(10):
            await lease.hold(deletes=deletes)
        assert site.store.requests.count("head") == 2

    asyncio.run(scene())


def test_many_who_wait_for_a_slow_look_share_it(site: Site) -> None:
    async def scene() -> None:
        lease = await site.claimed()
        site.now += 100
        site.store.requests.clear()
        site.store.seconds = 3.5
        async with asyncio.timeout(10):
            await asyncio.gather(*(lease.hold(deletes=True) for _ in range(64)))
        assert site.store.requests == ["head", "head"]

    asyncio.run(scene())


def test_a_slow_look_that_finds_a_newer_attempt_sends_nothing(site: Site) -> None:
    async def scene() -> None:
        old = await site.claimed()
        claiming = asyncio.create_task(site.claimed())
        await asyncio.sleep(1)
        site.now += 100
        site.store.seconds = 3.5
        with pytest.raises(Interrupted, match="took over"):
            async with asyncio.timeout(10):
                await old.hold()
        await claiming

    asyncio.run(scene())


@pytest.mark.parametrize("deletes", [False, True])
def test_a_ledger_that_answers_too_slowly_to_be_relied_on_ends_the_attempt_with_a_reason(
    site: Site, monkeypatch: pytest.MonkeyPatch, deletes: bool
) -> None:
    monkeypatch.setattr(retries, "backoff_seconds", lambda attempt, jitter: 0.0)

    async def scene() -> None:
        lease = await site.claimed()
        site.now += 100
        site.store.seconds = leases.OLDEST_LOOK_SECONDS  # both requests of a look take it, on one clock
        with pytest.raises(Interrupted, match=r"s3://ledger/.*takes too long to answer, 20\.0 s"):
            async with asyncio.timeout(10):
                await lease.hold(deletes=deletes)

    asyncio.run(scene())


def test_a_ledger_that_is_slow_for_a_while_is_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "backoff_seconds", lambda attempt, jitter: 0.0)

    async def scene() -> None:
        lease = await site.claimed()
        site.now += 100
        site.store.seconds = leases.OLDEST_LOOK_SECONDS
        holding = asyncio.create_task(lease.hold())
        while site.now < 130:
            await asyncio.sleep(0)
        site.store.seconds = 0.0
        async with asyncio.timeout(10):
            await holding

    asyncio.run(scene())


def test_a_look_that_ends_late_does_not_make_a_later_one_old(site: Site) -> None:
    async def scene() -> None:
        lease = await site.claimed()
        site.now += 100
        site.store.answers = asyncio.Event()
        late = asyncio.create_task(lease.look())
        while "head" not in site.store.requests:
            await asyncio.sleep(0)
        late_answers, site.store.answers = site.store.answers, None
        site.now += leases.FRESH_SECONDS + 0.1
        await lease.look()
        late_answers.set()
        await late
        site.store.requests.clear()
        await lease.hold()
        assert site.store.requests == []

    asyncio.run(scene())


def test_the_last_request_of_an_old_attempt_has_time_to_end() -> None:
    assert leases.FRESH_SECONDS <= leases.OLDEST_LOOK_SECONDS <= LEASE_SECONDS / 2


def test_after_a_stop_deletes_end_and_writes_in_flight_may_go_on(site: Site) -> None:
    async def scene() -> None:
        lease = await site.claimed()
        lease.end_deletes()
        await lease.hold()
        with pytest.raises(Interrupted, match="before a delete"):
            await lease.hold(deletes=True)
        lease.end_writes("nobody is there")
        with pytest.raises(Interrupted, match="nobody is there"):
            await lease.hold()

    asyncio.run(scene())


def test_open_leases_name_who_has_them(site: Site) -> None:
    async def scene() -> None:
        ended = await site.claimed()
        await ended.end()
        await site.claimed()
        [found] = await open_leases(site.ledger, "run", 8)
        assert str(found) == "shard 0 by process 7 on box since 1970-01-01T00:00:00Z"

    asyncio.run(scene())


@pytest.mark.parametrize("name", ["launches/last.json", "leases/00000/x.json"])
def test_a_name_that_is_not_ours_is_an_error_not_a_guess(site: Site, name: str) -> None:
    async def scene() -> None:
        await site.ledger.write_document("run", name, {"id": "x"})
        with pytest.raises(LedgerError, match="remove it"):
            await site.claimed()

    asyncio.run(scene())


def test_a_forged_launch_further_on_does_not_hide_the_next_one(site: Site) -> None:
    async def scene() -> None:
        started = await write_launch(site.ledger, "run", "batch-000", WHO, "submission 0 to Batch")
        lease = await site.claimed(started.id)
        await site.ledger.write_document("run", "launches/000009.json", {"id": "batch-000"})
        await site.ledger.write_document("run", "leases/00000/000009.json", {})
        assert (await write_launch(site.ledger, "run", "cancel-1", WHO, "sealift runs cancel")).number == 1
        site.now += 100
        with pytest.raises(Interrupted, match="sealift runs cancel"):
            await lease.hold()

    asyncio.run(scene())
