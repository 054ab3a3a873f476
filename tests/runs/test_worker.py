"""The worker, with jobs that behave badly: retries, pacing, checkpoints, stopping, never losing a row."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import pytest
from msgspec import Struct
from msgspec.structs import replace

from jobs.config import Settings
from jobs.core.histories import keys_of
from jobs.core.model import Attributes, ObjectRef, ObjectVersion
from jobs.core.outcome import Outcome, PartlyDone, Status
from jobs.core.reasons import Reason
from jobs.core.run import Plan, ShardSummary
from jobs.errors import (
    AuthenticationFailed,
    ConfigError,
    Conflict,
    ExitCode,
    Interrupted,
    SealiftError,
    StoreError,
    TakenOver,
    Throttled,
    TooManyFailures,
    Unavailable,
)
from jobs.ledger.ledger import Ledger
from jobs.ledger.owner import Owner, claim_run
from jobs.runs import worker as worker_module
from jobs.runs.worker import TRIES, Worker
from jobs.s3.gated_store import checked
from jobs.s3.store import UNGUARDED
from jobs.tables.rows import batch_of, read_outcomes, shard_schema, write_parquet
from tests.doubles.hooks import hang
from tests.doubles.ledgers import make_ledger
from tests.doubles.memory_store import MemoryStore, Request
from tests.doubles.plain_fold import fold

ROWS = 60
USUAL = Settings.from_environment({})
LIMITS = replace(USUAL, in_flight=8, checkpoint_rows=10, checkpoint_seconds=60, patience_seconds=5)
Script = Callable[[ObjectVersion], Awaitable[Status]]


class Scripted(Struct):
    """A job whose answer a test writes. `reason`: of each outcome."""

    script: Script
    reason: Any = ""
    calls: int = 0
    chains = staticmethod(keys_of)

    async def process(self, rows: Sequence[ObjectVersion]) -> list[Outcome]:
        self.calls += 1
        return [
            Outcome(row.row, row.key, row.version_id, await self.script(row), self.reason, size_bytes=1) for row in rows
        ]


async def copied(row: ObjectVersion) -> Status:
    await asyncio.sleep(0)
    return Status.DONE


async def ledger_with_a_shard(versions_per_key: int = 1, count: int = ROWS) -> Ledger:
    ledger = make_ledger()
    rows = [ObjectVersion(row, f"k{row // versions_per_key:03d}", f"v{row}") for row in range(count)]
    await ledger.write_shard("run", 0, write_parquet(batch_of(rows, ObjectVersion._fields, shard_schema())))
    await ledger.publish_plan("run", Plan(count, 0, (ShardSummary(count, 0),)))
    return ledger


async def worker_of(ledger: Ledger, job: Script | Scripted, limits: Settings = LIMITS, **more: Any) -> Worker:
    owner, plan = more.pop("owner", Owner(ledger, "run", 0)), await ledger.plan("run")
    return Worker(owner, plan, 0, job if isinstance(job, Scripted) else Scripted(job), limits, **more)


async def work(ledger: Ledger, job: Script | Scripted, limits: Settings = LIMITS, **more: Any) -> None:
    await (await worker_of(ledger, job, limits, **more)).run()


async def outcomes_of(ledger: Ledger, count: int = ROWS) -> list[Outcome]:
    """In the order of their rows."""
    outcomes = [
        outcome
        for checkpoint in await ledger.checkpoints("run")
        for outcome in read_outcomes(await ledger.checkpoint_data("run", checkpoint))
    ]
    return sorted(outcomes, key=lambda outcome: outcome.row)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.s3.retries.backoff_seconds", lambda attempt, jitter: 0.0)


async def test_every_row_gets_one_outcome_and_checkpoints_come_as_asked() -> None:
    ledger = await ledger_with_a_shard()
    await work(ledger, copied)
    assert [outcome.row for outcome in await outcomes_of(ledger)] == list(range(ROWS))
    checkpoints = await ledger.checkpoints("run")
    assert len(checkpoints) >= ROWS // (10 + 8)
    assert sum(checkpoint.rows for checkpoint in checkpoints) == ROWS


async def test_a_second_attempt_does_only_what_is_left() -> None:
    async def stop_soon(row: ObjectVersion) -> Status:
        if row.row == 25:
            first.stop()
        return await copied(row)

    ledger, told = await ledger_with_a_shard(), list[bool]()
    first = await worker_of(ledger, stop_soon, on_stop=lambda: told.append(True))
    with pytest.raises(Interrupted, match=r"shard 0.*stopped after a checkpoint: its finished rows are recorded$"):
        await first.run()
    assert told == [True]  # the throttle, so that no row waits for its turn any more
    done = len(await outcomes_of(ledger))
    assert 25 < done < ROWS
    second = Scripted(copied)
    await work(ledger, second)
    assert second.calls == ROWS - done
    assert len(fold(await outcomes_of(ledger))) == len(await outcomes_of(ledger)) == ROWS


async def test_what_may_pass_is_tried_again_and_throttling_lowers_the_pace() -> None:
    tries: dict[int, int] = {}
    limits: list[float] = []

    async def flaky(row: ObjectVersion) -> Status:
        tries[row.row] = tries.get(row.row, 0) + 1
        limits.append(worker._pace.limit)
        if tries[row.row] < 3:
            raise (Throttled, Conflict, Unavailable)[row.row % 3]("CopyObject", row.key, "Sorry", "", 503)
        return Status.DONE

    ledger = await ledger_with_a_shard()
    worker = await worker_of(ledger, flaky)
    await worker.run()
    assert {outcome.status for outcome in await outcomes_of(ledger)} == {Status.DONE}
    assert worker._pace.throttled == 2 * ROWS // 3
    assert limits[0] == LIMITS.in_flight
    assert min(limits) <= LIMITS.in_flight / 2


async def test_a_row_that_never_passes_is_failed_with_its_reason_and_others_are_done() -> None:
    async def one_fails(row: ObjectVersion) -> Status:
        if row.row == 7:
            raise Unavailable("CopyObject", row.key, "InternalError", "", 500)
        return Status.DONE

    ledger, job = await ledger_with_a_shard(), Scripted(one_fails)
    await work(ledger, job)
    [failed] = [outcome for outcome in await outcomes_of(ledger) if outcome.status is Status.BLOCKED]
    assert (failed.row, failed.reason, failed.detail) == (7, Reason.GIVEN_UP, "CopyObject: InternalError")
    assert job.calls == ROWS - 1 + TRIES


@pytest.mark.parametrize(
    ("versions", "calls", "statuses"),
    [(3, TRIES, [Status.DONE, Status.BLOCKED, Status.DONE]), (1, 3 * TRIES, [Status.BLOCKED] * 3)],
    ids=["versions of a key", "a key of one version has nothing to keep"],
)
async def test_the_versions_of_a_key_get_their_own_outcomes_at_the_last_try(
    versions: int, calls: int, statuses: list[Status]
) -> None:
    class Chained(Scripted):
        async def process_last(self, rows: Sequence[ObjectVersion]) -> list[Outcome]:
            self.calls += 1
            ends = [Status.BLOCKED if row.row == 1 else Status.DONE for row in rows]
            return [Outcome(row.row, row.key, row.version_id, end) for row, end in zip(rows, ends, strict=True)]

    async def script(row: ObjectVersion) -> Status:
        raise Unavailable("GetObject", "s3://b/k", "InternalError", "", 500)

    ledger, job = await ledger_with_a_shard(versions, 3), Chained(script)
    await work(ledger, job)
    assert (job.calls, [each.status for each in await outcomes_of(ledger, 3)]) == (calls, statuses)


@pytest.mark.parametrize("step", [86_400.0, -86_400.0], ids=["ahead", "back"])
@pytest.mark.parametrize(
    ("silent_seconds", "error", "ends"), [(0.0, Unavailable, False), (6.0, Conflict, False), (6.0, Unavailable, True)]
)
async def test_silence_ends_the_attempt_whatever_the_wall_clock_says(
    step: float, silent_seconds: float, error: type[StoreError], ends: bool
) -> None:
    """Where a job has found that it has to look again (Conflict), others answered."""
    wall, elapsed = [1e9], [0.0]

    async def process(row: ObjectVersion) -> Status:
        if row.row < 20:
            return Status.DONE
        wall[0] += step
        elapsed[0] += silent_seconds
        raise error("CopyObject", row.key, "ConnectionRefused")

    ledger, limits = await ledger_with_a_shard(), replace(LIMITS, in_flight=1)
    clocks: Any = {"clock": lambda: wall[0], "elapsed": lambda: elapsed[0], "chance": lambda: 0.0}
    if not ends:
        await work(ledger, process, limits, **clocks)
        return
    with pytest.raises(Unavailable, match=r"no answer for 5 s.*sealift runs retry run"):
        await work(ledger, process, limits, **clocks)
    assert [outcome.row for outcome in await outcomes_of(ledger)] == list(range(20))


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (AuthenticationFailed("CopyObject", "s3://b/k", "ExpiredToken", "renew them", 400), "renew them; .*runs retry"),
        (ZeroDivisionError("bug"), "bug"),
        (Interrupted("process 7 on box took over"), "took over"),
    ],
    ids=["credentials", "bug", "refused"],
)
async def test_what_ends_the_attempt_settles_no_row_and_what_was_done_is_kept(error: Exception, says: str) -> None:
    async def breaks(row: ObjectVersion) -> Status:
        if row.row >= 25:
            raise error
        return await copied(row)

    ledger, job = await ledger_with_a_shard(), Scripted(breaks)
    with pytest.raises(type(error), match=says):
        await work(ledger, job)
    assert [(each.row, each.status) for each in await outcomes_of(ledger)] == [(row, Status.DONE) for row in range(25)]
    assert job.calls <= 25 + LIMITS.in_flight


@pytest.mark.parametrize("looks", ["checkpoints", "time"])
async def test_a_worker_ends_after_a_checkpoint_when_the_run_has_another_owner(
    looks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "LOOK_SECONDS", 0.001 if looks == "time" else 60.0)
    limits = replace(LIMITS, checkpoint_rows=10 if looks == "checkpoints" else ROWS)
    ledger = await ledger_with_a_shard()
    owner = await claim_run(ledger, "run", "submission 0 to Batch", owner_id="batch-000")

    async def cancelled_soon(row: ObjectVersion) -> Status:
        if row.row == 25:
            await claim_run(ledger, "run", "sealift runs cancel")
        if row.row > 25:
            await asyncio.sleep(0.01)
        return Status.DONE

    with pytest.raises(TakenOver, match="sealift runs cancel") as raised:
        await work(ledger, cancelled_soon, limits, owner=owner)
    assert raised.value.exit_code == ExitCode.TAKEN_OVER
    assert 25 <= len(await outcomes_of(ledger)) < ROWS
    job = Scripted(copied)
    with pytest.raises(TakenOver):  # as Batch may start it
        await work(ledger, job, limits, owner=Owner(ledger, "run", owner.number))
    assert job.calls == 0


async def test_an_error_ends_the_attempt_when_what_was_sent_has_ended() -> None:
    """The work of the others was cancelled: deletes that had been sent had no outcome."""
    ledger = await ledger_with_a_shard()

    async def fail_first(row: ObjectVersion) -> Status:
        if row.row == 0:
            raise ConfigError("the bucket is another one")
        await asyncio.sleep(0.05)
        return Status.DONE

    with pytest.raises(ConfigError):
        await work(ledger, fail_first)
    assert [each.row for each in await outcomes_of(ledger)] == list(range(1, LIMITS.in_flight))


@pytest.mark.parametrize(
    ("error", "stops", "patience_seconds", "raised"),
    [
        (ConfigError("the bucket is another one"), False, 5, ConfigError),
        (Unavailable("PutObject", "the ledger", "SlowDown", status=503), True, 5, Interrupted),
        (Unavailable("PutObject", "the ledger", "SlowDown", status=503), False, 5, None),
        (Unavailable("PutObject", "the ledger", "TimedOut"), False, -1, Unavailable),
    ],
    ids=["error", "stop", "never passes", "silence"],
)
async def test_what_was_done_before_a_group_ended_is_recorded(
    error: SealiftError, stops: bool, patience_seconds: float, raised: type[Exception] | None
) -> None:
    """At a stop the outcomes of a group that was to be tried again were lost."""
    ledger = await ledger_with_a_shard(count=1)

    async def fail(row: ObjectVersion) -> Status:
        if stops:
            worker.stop()
        raise PartlyDone(error, [Outcome(0, "k000", "v0", Status.DONE)])

    worker = await worker_of(ledger, fail, replace(LIMITS, patience_seconds=patience_seconds))
    with pytest.raises(raised) if raised else contextlib.nullcontext():
        await worker.run()
    assert [(each.row, each.status) for each in await outcomes_of(ledger)] == [(0, Status.DONE)]


@pytest.mark.parametrize("takes_checkpoints", [True, False])
async def test_a_worker_without_an_answer_for_a_minute_writes_a_checkpoint_and_ends(
    takes_checkpoints: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger that takes none is not waited for once more."""
    monkeypatch.setattr(worker_module, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(worker_module, "LOST_GRACE_SECONDS", 0.05)
    now, seen = [0.0], list[float]()
    ledger = await ledger_with_a_shard()
    owner = await claim_run(ledger, "run", "a command")
    owner.clock = lambda: now[0]

    async def silent(request: Request) -> Any:
        seen.append(now[0])
        raise Unavailable("HeadObject", "ledger", "TimedOut")

    async def slowly(row: ObjectVersion) -> Status:
        if row.row == 25:
            cast(MemoryStore, ledger.store).hook(head=silent, put=None if takes_checkpoints else hang)
        if row.row > 25:
            now[0] += 5.0
            await asyncio.sleep(0.005)
        return Status.DONE

    why = "the ledger has not said for 60 s" if takes_checkpoints else "the ledger took no checkpoint"
    with pytest.raises((Interrupted, Unavailable), match=why) as raised:
        async with asyncio.timeout(5):
            await work(ledger, slowly, owner=owner)
    assert raised.value.exit_code == ExitCode.TRANSIENT
    assert 60 <= max(seen) <= 60 + 5 * LIMITS.in_flight
    assert (25 if takes_checkpoints else 0) <= len(await outcomes_of(ledger)) < ROWS


async def test_a_checkpoint_that_is_never_answered_ends_the_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "SILENT_SECONDS", 0.05)
    ledger = await ledger_with_a_shard()

    cast(MemoryStore, ledger.store).hook(put=hang)
    async with asyncio.timeout(5):
        with pytest.raises(Unavailable, match="no checkpoint"):
            await work(ledger, copied)


async def test_a_stopped_worker_sends_no_delete_and_what_it_writes_may_end() -> None:
    store, ledger = MemoryStore(buckets=["data"], versioned=False), await ledger_with_a_shard()
    owner = await claim_run(ledger, "run", "a command")
    own = checked(store, owner.check)

    async def stops(row: ObjectVersion) -> Status:
        if row.row == 25:
            worker.stop()
            with pytest.raises(Interrupted, match="before a delete"):
                await own.delete(ObjectRef("data", "x"))
            await own.put(ObjectRef("data", "x"), b"", Attributes(), guard=UNGUARDED)
        return await copied(row)

    worker = await worker_of(ledger, stops, owner=owner)
    with pytest.raises(Interrupted):
        await worker.run()
    assert len(store.stored("data", "x")) == 1


@pytest.mark.parametrize(("has_asked", "ahead"), [(True, 0.0), (False, 40 * 86_400.0)])
async def test_the_time_of_an_outcome_is_s3s_and_the_workers_only_where_no_server_answered(
    has_asked: bool, ahead: float
) -> None:
    """The worker's clock is 40 days ahead."""
    now = 1_800_000_000.0
    stores = [MemoryStore(clock=lambda: now)] if has_asked else []
    ledger = await ledger_with_a_shard()
    await work(ledger, copied, stores=stores, clock=lambda: now + 40 * 86_400.0)
    assert {round(each.at - now - ahead, -2) for each in await outcomes_of(ledger)} == {0.0}


async def test_a_good_outcome_is_dated_before_its_look_and_a_bad_one_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two servers the earlier and the later clock counts."""
    passed = [0.0]
    for module in ("jobs.runs.worker", "tests.doubles.memory_store"):
        monkeypatch.setattr(f"{module}.elapsed_seconds", lambda: passed[0])
    stores = [MemoryStore(clock=lambda: 1_000.0 + passed[0]), MemoryStore(clock=lambda: 1_003.0 + passed[0])]

    async def slow(row: ObjectVersion) -> Status:
        passed[0] += 100.0
        return Status.SAME if row.row % 2 else Status.CHANGED

    ledger = await ledger_with_a_shard()
    await work(ledger, slow, replace(USUAL, in_flight=1), stores=stores)
    assert [each.at for each in await outcomes_of(ledger)][:2] == [1_103.0, 1_100.0]


FAILED = (Status.BLOCKED, Reason.DENIED)


@pytest.mark.parametrize(
    ("end", "good", "percent", "ends"),
    [
        (FAILED, 3, 50, True),
        (FAILED, 2, 50, False),
        (FAILED, 3, 70, False),
        (FAILED, 2, 40, True),
        (FAILED, 1_500, 100, False),
        ((Status.BLOCKED, Reason.GIVEN_UP), 3, 50, True),
        ((Status.BLOCKED, Reason.ARCHIVED), 1_500, 50, False),
        ((Status.MISSING, Reason.SOURCE_GONE), 1_500, 50, False),
        ((Status.DIFFERENT, Reason.SIZE_DIFFERS), 1_500, 50, False),
    ],
)
async def test_a_share_of_failures_ends_the_attempt_once_a_thousand_rows_have_ended(
    end: tuple[Status, Reason], good: int, percent: float, ends: bool
) -> None:
    """One of `good` rows ends well. Findings about rows are no failures."""

    async def some(row: ObjectVersion) -> Status:
        return Status.DONE if row.row % good == 0 else end[0]

    ledger, limits = await ledger_with_a_shard(count=1_500), replace(USUAL, in_flight=8, max_failed_percent=percent)
    if not ends:
        await work(ledger, Scripted(some, end[1]), limits)
        assert len(await outcomes_of(ledger, 1_500)) == 1_500
        return
    with pytest.raises(TooManyFailures, match=f"more than {percent}%.*sealift runs retry run") as raised:
        await work(ledger, Scripted(some, end[1]), limits)
    may_pass = end[1] is Reason.GIVEN_UP
    assert raised.value.exit_code == (ExitCode.TRANSIENT if may_pass else ExitCode.CONFIG)
    done = len(await outcomes_of(ledger, 1_500))
    assert 1_000 <= done <= 1_000 + limits.in_flight
    healed = Scripted(copied)
    await work(ledger, healed)
    assert healed.calls == 1_500 - done


@pytest.mark.parametrize("step", [0.0, -3600.0], ids=["", "while the wall clock is set back"])
async def test_a_checkpoint_is_due_by_time(step: float) -> None:
    """Rows alone would give none before the end. Each row takes 7 of the 60 seconds."""
    ledger, now, wall, seen = await ledger_with_a_shard(), [1e6], [1e9], list[int]()

    async def slowly(row: ObjectVersion) -> Status:
        now[0] += 7.0
        wall[0] += step
        seen.append(sum(checkpoint.rows for checkpoint in await ledger.checkpoints("run")))
        return Status.DONE

    limits = replace(LIMITS, checkpoint_rows=10_000, in_flight=1)
    await work(ledger, slowly, limits, clock=lambda: wall[0], elapsed=lambda: now[0])
    assert seen[30] > 0, "nothing was written while the worker worked"
    assert len(await ledger.checkpoints("run")) == 7


async def test_a_checkpoint_is_due_by_time_while_the_last_row_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows have begun, so no other row brings the worker to a look at its clock."""
    monkeypatch.setattr(worker_module, "WAIT_SECONDS", 0.0)
    ledger, now, kept = await ledger_with_a_shard(), [1e6], [0]

    async def last_takes_long(row: ObjectVersion) -> Status:
        for _ in range(1_000 if row.row == ROWS - 1 else 0):
            await asyncio.sleep(0)
            now[0] += 1.0
            kept[0] = sum(checkpoint.rows for checkpoint in await ledger.checkpoints("run"))
            if kept[0] == ROWS - 1:
                break
        return Status.DONE

    limits = replace(LIMITS, checkpoint_rows=10_000, in_flight=ROWS)
    await work(ledger, last_takes_long, limits, elapsed=lambda: now[0])
    assert kept == [ROWS - 1], "what was done was not written while the last row was under way"
