"""A worker beside others of its run: at each of its requests, everything that others can do happens once.

It happens at once, while the worker sleeps for a minute, or the worker is killed there. Whatever it is, each row has
one good outcome, each key one copy with the source's bytes, what somebody else wrote stays, and no upload is left.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from itertools import count
from typing import Any

import pyarrow as pa
import pytest

from jobs.core.model import Location, ObjectRef
from jobs.core.outcome import GOOD, Outcome
from jobs.core.run import Plan, ShardSummary
from jobs.errors import Interrupted, TakenOver
from jobs.ledger.ledger import Ledger
from jobs.ledger.owner import Owner, claim_run
from jobs.ledger.uploads import ShardUploads, unfinished_uploads
from jobs.runs.worker import Worker, WorkerLimits, new_attempt
from jobs.s3.uploads import abort_unfinished
from jobs.tables.rows import read_outcomes, shard_schema, write_parquet
from tests.doubles.hooks import Killed
from tests.doubles.memory_store import Request
from tests.doubles.plain_fold import fold
from tests.sync.scene import KIB, PARTS, ROUTE, bodies, job, make_store, put, ticking

RUN = "20261125T003345Z-replicate-aaaaaa"
BODIES = {"a": b"a", "large": b"L" * (11 * KIB), "z": b"z"}
NEWER = b"somebody else's"
LIMITS = WorkerLimits(in_flight=1, checkpoint_rows=1)
IS_FIRST: ContextVar[bool] = ContextVar("is_first", default=False)
WRITES = ("put", "copy", "complete_multipart", "delete")


class World:
    def __init__(self, event: str, step: str, stops_at: int) -> None:
        self.store = make_store(clock=ticking())
        self.ledger = Ledger(self.store, Location("ledger"))
        self.event, self.step, self.stops_at = event, step, stops_at
        self.seconds, self.requests, self.is_dead = 0.0, 0, False
        self.writes_after = 0
        """Writes of the first worker to the destination, since something happened."""
        self.folded: dict[int, Outcome] | None = None

    async def plan(self) -> None:
        rows = [
            (await put(self.store, body, ObjectRef("source", f"in/{key}")))._replace(row=row)
            for row, (key, body) in enumerate(BODIES.items())
        ]
        columns = {name: [getattr(row, name) for row in rows] for name in shard_schema().names}
        await self.ledger.write_shard(RUN, 0, write_parquet(pa.table(columns, schema=shard_schema())))
        await self.ledger.publish_plan(RUN, Plan(len(rows), 0, (ShardSummary(len(rows), 0),)))
        self.store.hook(every=self._request)

    async def _request(self, request: Request) -> Any:
        if not IS_FIRST.get():
            return await request()
        if self.is_dead:
            raise Killed
        self.requests += 1
        if self.requests == self.stops_at:
            IS_FIRST.set(False)
            await EVENTS[self.event](self)
            IS_FIRST.set(True)
            self.seconds += 60.0 * (self.step == "asleep")
            if self.step == "killed":
                self.is_dead = True
                raise Killed
        is_after = 0 < self.stops_at <= self.requests
        self.writes_after += is_after and request.operation in WRITES and request.place.bucket == "destination"
        return await request()

    async def work(self, owner: Owner) -> None:
        """One attempt at the shard."""
        owner.clock, attempt = lambda: self.seconds, new_attempt()
        records = ShardUploads(self.ledger, RUN, 0, attempt)
        doing, plan = job(self.store, records, **PARTS), await self.ledger.plan(RUN)
        await Worker(owner, plan, 0, doing, LIMITS, elapsed=lambda: self.seconds, attempt=attempt).run()

    async def written(self) -> dict[int, Outcome]:
        """What all checkpoints say."""
        files = [await self.ledger.checkpoint_data(RUN, each) for each in await self.ledger.checkpoints(RUN)]
        return fold(outcome for file in files for outcome in read_outcomes(file))

    async def own(self) -> Owner:
        return await claim_run(self.ledger, RUN, "a command")

    async def play(self) -> type[BaseException] | None:
        """Returns how the first worker ended."""
        await self.plan()
        owner, ended = await self.own(), None
        IS_FIRST.set(True)
        try:
            await self.work(owner)
        except (Killed, Interrupted) as error:
            ended = type(error)
        IS_FIRST.set(False)
        if len(await self.written()) < len(BODIES):
            await self.work(await self.own())
        return ended


async def another_command(world: World) -> None:
    await world.work(await world.own())


async def another_command_with_its_fold(world: World) -> None:
    await another_command(world)
    world.folded = await world.written()
    await abort_unfinished(world.store, await unfinished_uploads(world.ledger, RUN), ROUTE.destination)


async def the_same_attempt_again(world: World) -> None:
    """Batch has given the host up, and starts the child again."""
    await world.work(Owner(world.ledger, RUN, 1))


async def cancel(world: World) -> None:
    await claim_run(world.ledger, RUN, "sealift runs cancel")


async def nothing(world: World) -> None: ...


async def a_write_of_others(world: World) -> None:
    await put(world.store, NEWER, ObjectRef("destination", "out/z"))


EVENTS: dict[str, Callable[[World], Awaitable[None]]] = {
    each.__name__: each
    for each in (
        nothing, cancel, another_command, another_command_with_its_fold, the_same_attempt_again, a_write_of_others
    )
}  # fmt: skip
PLAYS = {
    "nothing": ("killed",),
    "cancel": ("at once",),
    "another_command": ("at once", "killed"),
    "another_command_with_its_fold": ("asleep",),
    "the_same_attempt_again": ("at once", "asleep"),
    "a_write_of_others": ("at once",),
}
LOSES = ("cancel", "another_command", "another_command_with_its_fold")


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.s3.retries.backoff_seconds", lambda attempt, jitter: 0.0)


@pytest.mark.parametrize(("event", "step"), [(event, step) for event, steps in PLAYS.items() for step in steps])
async def test_whatever_others_do_at_a_request_each_row_is_done_once_and_nothing_is_lost(event: str, step: str) -> None:
    for stops_at in count(1):
        world = World(event, step, stops_at)
        ended = await world.play()
        case = (step, stops_at, ended)
        outcomes = await world.written()
        assert sorted(outcomes) == [0, 1, 2], case
        is_over = world.requests < stops_at  # nothing happened to it
        is_others = event == "a_write_of_others" and not is_over
        for row, (key, body) in enumerate(BODIES.items()):
            there = bodies(world.store, ObjectRef("destination", f"out/{key}"))
            if is_others and key == "z":
                assert there[-1] == NEWER, case
                continue
            assert there == [body], case
            assert outcomes[row].status in GOOD, case
        if world.folded is not None:
            assert sorted(world.folded) == [0, 1, 2], case
            assert all(each.status in GOOD for each in world.folded.values()), case
        if event in LOSES and ended is TakenOver:
            assert world.writes_after <= 2, case  # of the row in flight, and of one that began meanwhile
        await abort_unfinished(world.store, await unfinished_uploads(world.ledger, RUN), ROUTE.destination)
        assert len(world.store.uploads("destination")) <= (step == "killed"), case  # before it was recorded
        if is_over:
            break
    assert stops_at > 15


async def test_a_worker_whose_run_was_taken_over_before_its_last_row_ends_so() -> None:
    world = World("cancel", "at once", 3)
    assert await world.play() is TakenOver
