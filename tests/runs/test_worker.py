"""The worker, with jobs that behave badly: retries, pacing, checkpoints, stopping, never losing a row."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import pyarrow as pa
import pytest

from jobs.core.histories import keys_of
from jobs.core.model import Attributes, Location, ObjectVersion
from jobs.core.outcome import Outcome, Status
from jobs.core.rate_limits import RateLimits
from jobs.core.reasons import Reason
from jobs.core.run import Plan, ShardSummary
from jobs.errors import (
    AuthenticationFailed,
    Conflict,
    ExitCode,
    Interrupted,
    StoreError,
    TakenOver,
    Throttled,
    TooManyFailures,
    Unavailable,
)
from jobs.ledger.ledger import Ledger
from jobs.ledger.owner import Owner, claim_run
from jobs.runs import worker as worker_module
from jobs.runs.failure_count import TRIES
from jobs.runs.worker import Worker, WorkerLimits
from jobs.s3.gated_store import Throttle, checked
from jobs.s3.store import UNGUARDED, Store
from jobs.tables.rows import read_outcomes, shard_schema, write_parquet
from tests.doubles.memory_store import MemoryStore, Request
from tests.doubles.plain_fold import fold

ROWS = 60
LIMITS = WorkerLimits(in_flight=8, checkpoint_rows=10, checkpoint_seconds=60, patience_seconds=5, grace_seconds=5)


@dataclass
class Scripted:
    """A job whose answer a test writes."""

    script: Callable[[ObjectVersion], Awaitable[Status]]
    calls: int = 0
    chains = staticmethod(keys_of)

    async def process(self, rows: Sequence[ObjectVersion]) -> list[Outcome]:
        self.calls += 1
        return [Outcome(row.row, row.key, row.version_id, await self.script(row), size_bytes=1) for row in rows]


async def copied(row: ObjectVersion) -> Status:
    await asyncio.sleep(0)
    return Status.DONE


async def ledger_with_a_shard(versions_per_key: int = 1, count: int = ROWS) -> Ledger:
    store = MemoryStore()
    store.create_bucket("ledger")
    ledger = Ledger(store, Location("ledger", ""))
    rows = [ObjectVersion(row, f"k{row // versions_per_key:03d}", f"v{row}") for row in range(count)]
    columns = {name: [getattr(row, name) for row in rows] for name in shard_schema().names}
    await ledger.write_shard("run", 0, write_parquet(pa.table(columns, schema=shard_schema())))
    await ledger.publish_plan("run", Plan(count, 0, (ShardSummary(count, 0),)))
    return ledger


async def outcomes_of(ledger: Ledger, count: int = ROWS) -> list[Outcome]:
    return [
        outcome
        for checkpoint in await ledger.checkpoints("run")
        for outcome in read_outcomes(await ledger.checkpoint_data("run", checkpoint))
    ]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.s3.retries.backoff_seconds", lambda attempt, jitter: 0.0)


def test_every_row_gets_one_outcome_and_checkpoints_come_as_asked() -> None:
    async def scene() -> None:
        ledger = await ledger_with_a_shard()
        progress = await Worker(ledger, "run", 0, Scripted(copied), LIMITS).run()
        outcomes = await outcomes_of(ledger)
        assert sorted(outcome.row for outcome in outcomes) == list(range(ROWS))
        assert (progress.rows, progress.bad_rows, progress.size_bytes) == (ROWS, 0, ROWS)
        checkpoints = await ledger.checkpoints("run")
        assert len(checkpoints) >= ROWS // (10 + 8)
        assert sum(checkpoint.rows for checkpoint in checkpoints) == ROWS

    asyncio.run(scene())


def test_a_second_attempt_does_only_what_is_left() -> None:
    async def scene() -> None:
        ledger = await ledger_with_a_shard()
        first = Worker(ledger, "run", 0, Scripted(copied), LIMITS)

        async def stop_soon(row: ObjectVersion) -> Status:
            if row.row == 25:
                first.stop()
            return await copied(row)

        first.job = Scripted(stop_soon)
        with pytest.raises(Interrupted, match="shard 0"):
            await first.run()
        done = len(await outcomes_of(ledger))
        assert 25 < done < ROWS
        second = Scripted(copied)
        progress = await Worker(ledger, "run", 0, second, LIMITS).run()
        assert second.calls == ROWS - done
        assert progress.rows == ROWS
        assert len(fold(await outcomes_of(ledger))) == ROWS

    asyncio.run(scene())


def test_what_may_pass_is_tried_again_and_throttling_lowers_the_pace() -> None:
    tries: dict[int, int] = {}
    limits: list[float] = []
    workers: list[Worker] = []

    async def flaky(row: ObjectVersion) -> Status:
        tries[row.row] = tries.get(row.row, 0) + 1
        limits.append(workers[0]._pace.limit)
        if tries[row.row] < 3:
            kinds = (Throttled, Conflict, Unavailable)
            raise kinds[row.row % 3]("CopyObject", row.key, "Sorry", "", 503)
        return Status.DONE

    async def scene() -> None:
        ledger = await ledger_with_a_shard()
        worker = Worker(ledger, "run", 0, Scripted(flaky), LIMITS)
        workers.append(worker)
        progress = await worker.run()
        assert {outcome.status for outcome in await outcomes_of(ledger)} == {Status.DONE}
        assert worker._pace.throttled == progress.throttled == 2 * ROWS // 3
        assert progress.last_error.startswith("CopyObject")
        assert limits[0] == LIMITS.in_flight
        assert min(limits) <= LIMITS.in_flight / 2

    asyncio.run(scene())


def test_a_row_that_never_passes_is_failed_with_its_reason_and_others_are_done() -> None:
    async def one_fails(row: ObjectVersion) -> Status:
        if row.row == 7:
            raise Unavailable("CopyObject", row.key, "InternalError", "", 500)
        return Status.DONE

    async def scene() -> None:
        ledger = await ledger_with_a_shard()
        job = Scripted(one_fails)
        progress = await Worker(ledger, "run", 0, job, LIMITS).run()
        assert (progress.rows, progress.bad_rows) == (ROWS, 1)
        [failed] = [outcome for outcome in await outcomes_of(ledger) if outcome.status is Status.BLOCKED]
        assert failed.row == 7
        assert (failed.reason, failed.detail) == (Reason.GIVEN_UP, "CopyObject: InternalError")
        assert job.calls == ROWS - 1 + TRIES

    asyncio.run(scene())


def test_the_versions_of_a_key_get_their_own_outcomes_at_the_last_try() -> None:
    class Chained(Scripted):
        async def process_last(self, rows: Sequence[ObjectVersion]) -> list[Outcome]:
            self.calls += 1
            return [
                Outcome(row.row, row.key, row.version_id, Status.BLOCKED if row.row == 1 else Status.DONE)
                for row in rows
            ]

    async def script(row: ObjectVersion) -> Status:
        raise Unavailable("GetObject", "s3://b/k", "InternalError", "", 500)

    async def scene(versions_per_key: int) -> tuple[int, list[Status]]:
        ledger = await ledger_with_a_shard(versions_per_key, 3)
        job = Chained(script)
        await Worker(ledger, "run", 0, job, LIMITS).run()
        return job.calls, [each.status for each in sorted(await outcomes_of(ledger, 3), key=lambda each: each.row)]

    assert asyncio.run(scene(3)) == (TRIES, [Status.DONE, Status.BLOCKED, Status.DONE])
    assert asyncio.run(scene(1)) == (3 * TRIES, [Status.BLOCKED] * 3), "a key of one version has nothing to keep"


def test_silence_ends_the_attempt_after_a_checkpoint() -> None:
    now = [0.0]

    async def silence(row: ObjectVersion) -> Status:
        if row.row < 20:
            return Status.DONE
        now[0] += 1.0
        raise Unavailable("CopyObject", row.key, "ConnectionRefused")

    async def scene() -> None:
        ledger = await ledger_with_a_shard()
        worker = Worker(ledger, "run", 0, Scripted(silence), LIMITS, elapsed=lambda: now[0])
        with pytest.raises(Unavailable, match="sealift runs retry run"):
            await worker.run()
        outcomes = await outcomes_of(ledger)
        assert sorted(outcome.row for outcome in outcomes) == list(range(20))

    asyncio.run(scene())


@pytest.mark.parametrize("step", [86_400.0, -86_400.0], ids=["ahead", "back"])
def test_a_wall_clock_that_is_set_says_nothing_of_how_long_s3_is_silent(step: float) -> None:
    """Set ahead, the first refused connection would have ended the attempt. Set back, none would have for a day."""
    wall, elapsed = [1e9], [0.0]

    async def scene(silent_seconds: float, error: type[StoreError] = Unavailable) -> None:
        async def process(row: ObjectVersion) -> Status:
            wall[0] += step
            elapsed[0] += silent_seconds
            raise error("CopyObject", row.key, "ConnectionRefused")

        worker = Worker(
            await ledger_with_a_shard(),
            "run",
            0,
            Scripted(process),
            replace(LIMITS, in_flight=1),
            clock=lambda: wall[0],
            elapsed=lambda: elapsed[0],
            chance=lambda: 0.0,
        )
        await worker.run()

    asyncio.run(scene(0.0))
    asyncio.run(scene(6.0, Conflict))  # a job has found that it has to look again: others answered
    with pytest.raises(Unavailable, match="no answer for 5 s"):
        asyncio.run(scene(6.0))


def test_credentials_that_are_refused_end_the_attempt_after_a_checkpoint_and_settle_no_row() -> None:
    async def scene() -> None:
        ledger = await ledger_with_a_shard()

        async def expires(row: ObjectVersion) -> Status:
            if row.row >= 25:
                raise AuthenticationFailed("CopyObject", "s3://b/k", "ExpiredToken", "renew them", 400)
            return await copied(row)

        with pytest.raises(AuthenticationFailed, match=r"ExpiredToken: renew them; .*sealift runs retry run"):
            await Worker(ledger, "run", 0, Scripted(expires), LIMITS).run()
        outcomes = await outcomes_of(ledger)
        assert {outcome.status for outcome in outcomes} == {Status.DONE}
        assert sorted(outcome.row for outcome in outcomes) == list(range(25))

    asyncio.run(scene())


def test_a_bug_ends_the_attempt_and_what_was_done_is_kept() -> None:
    async def bug(row: ObjectVersion) -> Status:
        if row.row == 30:
            raise ZeroDivisionError
        return await copied(row)

    async def scene() -> None:
        ledger = await ledger_with_a_shard()
        with pytest.raises(ZeroDivisionError):
            await Worker(ledger, "run", 0, Scripted(bug), LIMITS).run()
        rows = {outcome.row for outcome in await outcomes_of(ledger)}
        assert 30 not in rows
        assert len(rows) >= 20

    asyncio.run(scene())


def test_a_keys_versions_come_together_and_in_order() -> None:
    seen: list[list[int]] = []

    class Recorder(Scripted):
        async def process(self, rows: Sequence[ObjectVersion]) -> list[Outcome]:
            seen.append([row.row for row in rows])
            return await super().process(rows)

    async def scene() -> None:
        ledger = await ledger_with_a_shard(versions_per_key=3)
        await Worker(ledger, "run", 0, Recorder(copied), LIMITS).run()
        assert sorted(seen) == [[row, row + 1, row + 2] for row in range(0, ROWS, 3)]

    asyncio.run(scene())


def test_two_attempts_at_once_both_finish_and_the_fold_takes_one_outcome_a_row() -> None:
    async def scene() -> None:
        ledger = await ledger_with_a_shard()
        both = [Worker(ledger, "run", 0, Scripted(copied), LIMITS) for _ in range(2)]
        await asyncio.gather(*(worker.run() for worker in both))
        outcomes = await outcomes_of(ledger)
        assert len(outcomes) == 2 * ROWS
        assert len(fold(outcomes)) == ROWS

    asyncio.run(scene())


@pytest.mark.parametrize("looks", ["checkpoints", "time"])
def test_a_worker_ends_after_a_checkpoint_when_the_run_has_another_owner(
    looks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "LOOK_SECONDS", 0.001 if looks == "time" else 60.0)
    limits = replace(LIMITS, checkpoint_rows=10 if looks == "checkpoints" else ROWS)

    async def scene() -> None:
        ledger = await ledger_with_a_shard()
        owner = await claim_run(ledger, "run", "submission 0 to Batch", owner_id="batch-000")

        async def cancelled_soon(row: ObjectVersion) -> Status:
            if row.row == 25:
                await claim_run(ledger, "run", "sealift runs cancel")
            if row.row > 25:
                await asyncio.sleep(0.01)
            return Status.DONE

        worker = Worker(ledger, "run", 0, Scripted(cancelled_soon), limits, owner=owner)
        with pytest.raises(TakenOver, match="sealift runs cancel") as raised:
            await worker.run()
        assert raised.value.exit_code == ExitCode.TAKEN_OVER
        assert 25 <= len(await outcomes_of(ledger)) < ROWS
        job = Scripted(copied)
        with pytest.raises(TakenOver):  # as Batch may start it
            await Worker(ledger, "run", 0, job, limits, owner=Owner(ledger, "run", owner.number)).run()
        assert job.calls == 0

    asyncio.run(scene())


def test_a_worker_without_an_answer_for_a_minute_writes_a_checkpoint_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "LOOK_SECONDS", 0.001)
    now = [0.0]

    async def scene() -> None:
        ledger = await ledger_with_a_shard()
        owner = await claim_run(ledger, "run", "a command")
        owner.clock = lambda: now[0]
        seen = list[float]()

        async def silent(request: Request) -> Any:
            seen.append(now[0])
            raise Unavailable("HeadObject", "ledger", "TimedOut")

        async def work(row: ObjectVersion) -> Status:
            if row.row == 25:
                cast(MemoryStore, ledger.store).hook(head=silent)
            if row.row > 25:
                now[0] += 5.0
                await asyncio.sleep(0.005)
            return Status.DONE

        with pytest.raises(Interrupted, match="the ledger has not said for 60 s") as raised:
            await Worker(ledger, "run", 0, Scripted(work), LIMITS, owner=owner).run()
        assert raised.value.exit_code == ExitCode.TRANSIENT
        assert 60 <= max(seen) <= 60 + 5 * LIMITS.in_flight
        assert 25 <= len(await outcomes_of(ledger)) < ROWS

    asyncio.run(scene())


def test_rows_whose_write_is_refused_get_no_outcome_and_end_the_attempt() -> None:
    async def refused(row: ObjectVersion) -> Status:
        if row.row >= 30:
            raise Interrupted("process 7 on box took over")
        return await copied(row)

    async def scene() -> None:
        ledger = await ledger_with_a_shard()
        job = Scripted(refused)
        with pytest.raises(Interrupted, match="took over"):
            await Worker(ledger, "run", 0, job, LIMITS).run()
        rows = sorted(outcome.row for outcome in await outcomes_of(ledger))
        assert rows == list(range(30))
        assert job.calls <= 30 + LIMITS.in_flight

    asyncio.run(scene())


def test_a_stopped_worker_sends_no_delete_and_what_it_writes_may_end() -> None:
    store = MemoryStore()
    store.create_bucket("data", versioned=False)

    async def scene() -> None:
        ledger = await ledger_with_a_shard()
        owner = await claim_run(ledger, "run", "a command")
        own = checked(store, owner.check)

        async def work(row: ObjectVersion) -> Status:
            if row.row == 25:
                worker.stop()
                with pytest.raises(Interrupted, match="before a delete"):
                    await own.delete("data", "x")
                await own.put("data", "x", b"", Attributes(), guard=UNGUARDED)
            return await copied(row)

        worker = Worker(ledger, "run", 0, Scripted(work), LIMITS, owner=owner)
        with pytest.raises(Interrupted):
            await worker.run()

    asyncio.run(scene())
    assert len(store.stored("data", "x")) == 1


@pytest.mark.parametrize(("has_asked", "ahead"), [(True, 0.0), (False, 40 * 86_400.0)])
def test_the_time_of_an_outcome_is_s3s_and_the_workers_only_where_no_server_answered(
    has_asked: bool, ahead: float
) -> None:
    """The worker's clock is 40 days ahead."""
    now = 1_800_000_000.0
    asked = MemoryStore(clock=lambda: now)

    async def some(row: ObjectVersion) -> Status:
        return Status.DONE if row.row % 2 else Status.BLOCKED

    async def scene() -> None:
        ledger = await ledger_with_a_shard()
        stores = [asked] if has_asked else []
        await Worker(ledger, "run", 0, Scripted(some), LIMITS, stores, clock=lambda: now + 40 * 86_400.0).run()
        outcomes = await outcomes_of(ledger)
        assert {round(each.at - now - ahead, -2) for each in outcomes} == {0.0}

    asyncio.run(scene())


def test_a_good_outcome_is_dated_before_its_look_and_a_bad_one_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two servers the earlier and the later clock counts."""
    passed = [0.0]
    for module in ("jobs.runs.worker", "tests.doubles.memory_store"):
        monkeypatch.setattr(f"{module}.elapsed_seconds", lambda: passed[0])
    stores = [MemoryStore(clock=lambda: 1_000.0 + passed[0]), MemoryStore(clock=lambda: 1_003.0 + passed[0])]

    async def slow(row: ObjectVersion) -> Status:
        passed[0] += 100.0
        return Status.SAME if row.row % 2 else Status.CHANGED

    async def scene() -> None:
        ledger = await ledger_with_a_shard()
        await Worker(ledger, "run", 0, Scripted(slow), WorkerLimits(in_flight=1), stores).run()
        at = {each.row: each.at for each in await outcomes_of(ledger)}
        assert (at[0], at[1]) == (1_103.0, 1_100.0)

    asyncio.run(scene())


def refusing(status: Status) -> Callable[[ObjectVersion], Awaitable[Status]]:
    async def refuse(row: ObjectVersion) -> Status:
        await asyncio.sleep(0)
        return status

    return refuse


@dataclass
class Refused(Scripted):
    """A job whose bad rows are all blocked alike."""

    reason: Reason = Reason.DENIED

    async def process(self, rows: Sequence[ObjectVersion]) -> list[Outcome]:
        outcomes = await super().process(rows)
        return [each._replace(reason=self.reason, detail="CopyObject: AccessDenied") for each in outcomes]


def test_rows_that_all_fail_for_one_reason_end_the_attempt_early() -> None:
    async def scene() -> None:
        ledger = await ledger_with_a_shard(count=3_000)
        job = Refused(refusing(Status.BLOCKED))
        with pytest.raises(TooManyFailures, match=r"200 rows .* AccessDenied.*sealift runs retry run") as raised:
            await Worker(ledger, "run", 0, job, LIMITS).run()
        assert raised.value.exit_code == ExitCode.CONFIG
        done = len(await outcomes_of(ledger, 3_000))
        assert 200 <= done <= 200 + LIMITS.in_flight
        healed = Scripted(copied)
        progress = await Worker(ledger, "run", 0, healed, LIMITS).run()
        assert (progress.rows, healed.calls) == (3_000, 3_000 - done)

    asyncio.run(scene())


def test_retries_in_flight_end_with_the_attempt_whose_rows_all_fail() -> None:
    calls: dict[int, int] = {}

    async def broken(row: ObjectVersion) -> Status:
        calls[row.row] = calls.get(row.row, 0) + 1
        for _ in range(1 + row.row % 5):
            await asyncio.sleep(0)
        raise Unavailable("CopyObject", row.key, "NotImplemented", "", 500)

    async def scene() -> None:
        ledger = await ledger_with_a_shard(count=2_000)
        with pytest.raises(TooManyFailures, match="NotImplemented") as raised:
            await Worker(ledger, "run", 0, Scripted(broken), LIMITS).run()
        assert raised.value.exit_code == ExitCode.TRANSIENT
        assert len(calls) <= 200 + 2 * LIMITS.in_flight
        assert {outcome.row for outcome in await outcomes_of(ledger, 2_000)} < set(calls)

    asyncio.run(scene())


@pytest.mark.parametrize(("good", "percent", "ends"), [(3, 50, True), (2, 50, False), (3, 70, False), (2, 40, True)])
def test_a_share_of_failures_ends_the_attempt_once_a_thousand_rows_have_ended(
    good: int, percent: float, ends: bool
) -> None:
    async def some(row: ObjectVersion) -> Status:
        return Status.DONE if row.row % good == 0 else Status.BLOCKED

    async def scene() -> None:
        ledger = await ledger_with_a_shard(count=3_000)
        limits = WorkerLimits(in_flight=8, max_failed_percent=percent)
        worker = Worker(ledger, "run", 0, Refused(some), limits)
        if not ends:
            assert (await worker.run()).rows == 3_000
            return
        with pytest.raises(TooManyFailures, match=f"more than {percent}%.*sealift runs retry run"):
            await worker.run()
        assert 1_000 <= len(await outcomes_of(ledger, 3_000)) <= 1_000 + limits.in_flight

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (Status.CHANGED, Reason.DESTINATION_NEWER),
        (Status.MISSING, Reason.SOURCE_GONE),
        (Status.BLOCKED, Reason.ARCHIVED),
        (Status.BLOCKED, Reason.KEPT),
        (Status.DIFFERENT, Reason.SIZE_DIFFERS),
    ],
)
def test_findings_are_no_failures(status: Status, reason: Reason) -> None:
    async def scene() -> None:
        ledger = await ledger_with_a_shard(count=1_500)
        assert (
            await Worker(ledger, "run", 0, Refused(refusing(status), reason=reason), LIMITS).run()
        ).bad_rows == 1_500

    asyncio.run(scene())


def test_a_limit_of_all_rows_never_ends_an_attempt() -> None:
    async def scene() -> None:
        ledger = await ledger_with_a_shard(count=1_500)
        limits = WorkerLimits(in_flight=8, max_failed_percent=100)
        assert (await Worker(ledger, "run", 0, Refused(refusing(Status.BLOCKED)), limits).run()).bad_rows == 1_500

    asyncio.run(scene())


def test_a_good_row_of_an_earlier_attempt_counts_where_all_rows_of_this_one_fail_alike() -> None:
    """Where an attempt was interrupted does not decide how the run ends."""

    async def some(row: ObjectVersion) -> Status:
        return Status.DONE if row.row < 2_000 else Status.BLOCKED

    async def scene() -> None:
        ledger = await ledger_with_a_shard(count=2_300)
        first = Worker(ledger, "run", 0, Refused(some), WorkerLimits(in_flight=1, checkpoint_rows=100))
        first.on_progress = lambda progress: first.stop() if progress.rows >= 2_000 else None
        with pytest.raises(Interrupted):
            await first.run()
        assert (await Worker(ledger, "run", 0, Refused(some), LIMITS).run()).rows == 2_300

    asyncio.run(scene())


@pytest.mark.parametrize("step", [0.0, -3600.0], ids=["", "while the wall clock is set back"])
def test_a_checkpoint_is_due_by_time(step: float) -> None:
    """Rows alone would give none before the end. Each row takes 7 of the 60 seconds."""

    async def scene() -> None:
        ledger = await ledger_with_a_shard()
        now, wall, seen = [1e6], [1e9], list[int]()

        async def slowly(row: ObjectVersion) -> Status:
            now[0] += 7.0
            wall[0] += step
            seen.append(sum(checkpoint.rows for checkpoint in await ledger.checkpoints("run")))
            return Status.DONE

        limits = replace(LIMITS, checkpoint_rows=10_000, in_flight=1)
        clocks: dict[str, Any] = {"clock": lambda: wall[0], "elapsed": lambda: now[0]}
        await Worker(ledger, "run", 0, Scripted(slowly), limits, **clocks).run()
        sizes = [checkpoint.rows for checkpoint in await ledger.checkpoints("run")]
        assert sum(sizes) == ROWS
        assert seen[30] > 0, "nothing was written while the worker worked"
        assert len(sizes) == 7, sizes

    asyncio.run(scene())


def test_rows_that_wait_for_their_turn_go_back_as_soon_as_the_worker_stops() -> None:
    """No clock moves here: only the refusal of their turns ends the rows."""

    async def scene() -> None:
        ledger, never, memory = await ledger_with_a_shard(), asyncio.Event(), MemoryStore(clock=lambda: 0.0)
        memory.create_bucket("bucket")

        async def sleep(seconds: float) -> None:
            waiting.set()
            await never.wait()

        waiting = asyncio.Event()
        throttle = Throttle(RateLimits(requests=3), lambda: 0.0, sleep)
        store = throttle.throttled(cast(Store, memory))

        async def copy(row: ObjectVersion) -> Status:
            await store.put("bucket", row.key, b"x", Attributes(), guard=UNGUARDED)
            return Status.DONE

        worker = Worker(ledger, "run", 0, Scripted(copy), LIMITS, elapsed=lambda: 0.0, on_stop=throttle.stop)
        work = asyncio.create_task(worker.run())
        await waiting.wait()
        worker.stop()
        with pytest.raises(Interrupted, match=r"stopped after a checkpoint: its finished rows are recorded$"):
            await asyncio.wait_for(work, 30)
        assert {outcome.status for outcome in await outcomes_of(ledger)} == {Status.DONE}
        copied_rows = {outcome.key for outcome in await outcomes_of(ledger)}
        assert copied_rows == {entry.key for entry in (await memory.list_objects("bucket", "")).entries}
        assert 0 < len(copied_rows) < ROWS

    asyncio.run(scene())


def test_a_checkpoint_is_due_by_time_while_the_last_row_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows have begun, so no other row brings the worker to a look at its clock."""
    monkeypatch.setattr(worker_module, "WAIT_SECONDS", 0.0)

    async def scene() -> None:
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
        await Worker(ledger, "run", 0, Scripted(last_takes_long), limits, elapsed=lambda: now[0]).run()
        assert kept == [ROWS - 1], "what was done was not written while the last row was under way"

    asyncio.run(scene())
