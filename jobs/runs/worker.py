"""The worker: works through one shard of a run, whatever the job.

It does what no job knows of: it reads the shard, limits the rows in flight, retries, writes
checkpoints, and stops on a signal. The checkpoints are all that it says of its progress. It ends
early where rows fail, as S3 Batch Operations does: where more than half of the tasks failed, once a
thousand have been tried (https://docs.aws.amazon.com/AmazonS3/latest/userguide/batch-ops-job-status.html).
"""

from __future__ import annotations

import asyncio
import itertools
import random
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from jobs.config import Settings
from jobs.core.elapsed import elapsed_seconds
from jobs.core.model import ObjectVersion
from jobs.core.outcome import GOOD, Outcome, PartlyDone, Status
from jobs.core.pace import Pace
from jobs.core.reasons import FAILURES, Reason
from jobs.core.run import Plan, continuation
from jobs.core.words import sentence
from jobs.errors import (
    AuthenticationFailed,
    Conflict,
    Interrupted,
    PreconditionFailed,
    StoreError,
    Throttled,
    TooManyFailures,
    Unavailable,
)
from jobs.ledger.ledger import Checkpoint
from jobs.ledger.owner import LOOK_SECONDS, SILENT_SECONDS, Owner
from jobs.runs import parent_pipe
from jobs.s3.retries import pause_seconds, retry, together
from jobs.s3.store import Store
from jobs.tables.rows import ReadBeside, read_repairs, read_row_numbers, read_shard, write_outcomes

GRACE_SECONDS = 20.0
"""How long rows in flight may continue after a signal: Batch kills a container 30 seconds after it."""
LOST_GRACE_SECONDS = 5.0
"""How long requests in flight may continue when the run has another owner."""
ALONE_GRACE_SECONDS = 1.0
"""How long requests in flight may continue when the parent is gone."""
WAIT_SECONDS = 0.5
TRIES = 8
"""How often the worker tries one row before it fails."""
SHARE_ROWS = 1_000
"""The share of failed rows counts once so many have ended."""


class Job(Protocol):
    """A kind of work.

    `process` gets what `chains` cuts out of a shard (one key's rows, oldest first), which loses no
    row. It raises Unavailable (or Throttled), Conflict or PreconditionFailed where a retry may
    help. The worker may call it again at any time, so it must be safe to repeat.

    `process_last`, where a job has it, does the same at the last try for a chain of several rows: a
    row that could not be done ends as failed, and the others get their own outcomes.
    """

    def chains(self, rows: Iterable[ObjectVersion]) -> Iterable[list[ObjectVersion]]:
        """Cut the rows of a shard, in order, into what is processed together: see
        `histories.keys_of`.
        """
        ...

    async def process(self, rows: Sequence[ObjectVersion]) -> list[Outcome]:
        """One outcome for each row, in order."""
        ...


def new_attempt() -> str:
    """The id of an attempt. Ids sort by time."""
    return f"{time.time_ns() // 1_000_000:013x}{secrets.token_hex(3)}"


@dataclass(slots=True)
class Worker:
    """One attempt at one shard.

    `settings`: how much at once and how long. It gives up after `patience_seconds` without an answer from S3.
    `owner`: the run's, for whom the worker works. When the run has another one, the attempt ends. `plan`:
    the run's. The shard's file must have the rows that it says. `beside`: see `jobs.runs.kind.Kind`.
    `stores`: what the job asks, for the time of the outcomes. `clock`: epoch seconds, for outcomes
    where none has answered. `elapsed`: a clock that nobody sets, for all waiting.
    `on_stop`: called when the worker begins to stop, for what its rows wait for.
    """

    owner: Owner
    plan: Plan
    shard: int
    job: Job
    settings: Settings
    stores: Sequence[Store] = ()
    beside: ReadBeside = read_repairs
    clock: Callable[[], float] = time.time
    elapsed: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random
    on_stop: Callable[[], None] = lambda: None
    attempt: str = field(default_factory=new_attempt)
    is_silent: bool = field(default=False, init=False)
    """The ledger gave no answer for so long that the attempt ends. It is not waited for again."""
    _pace: Pace = field(init=False)
    _pending: list[Outcome] = field(default_factory=list, init=False)
    _checkpoints: int = field(default=0, init=False)
    _last_checkpoint: float = field(default=0.0, init=False)
    _last_answer: float = field(default=0.0, init=False)
    _ending: BaseException | None = field(default=None, init=False)
    """Why nothing new begins any more: what `run` raises."""
    _must_end_at: float = field(default=float("inf"), init=False)
    _settled: set[int] = field(default_factory=set, init=False)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set, init=False)
    _chains: Iterator[list[ObjectVersion]] = field(default_factory=lambda: iter(()), init=False)
    """Those that have not begun."""
    _rows: int = field(default=0, init=False)
    _failures: int = field(default=0, init=False)
    """How many rows of this attempt have ended, and how many of them S3 refused or did not answer. What else ends
    badly is a finding about a row."""
    _wake: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def __post_init__(self) -> None:
        self._pace = Pace(self.settings.in_flight)

    def stop(self, grace_seconds: float = GRACE_SECONDS, error: BaseException | None = None) -> None:
        """Begin nothing new, let requests in flight end, and write a checkpoint.

        Then `run` raises the `error`, or Interrupted: that of the first call. No further delete begins.
        """
        what = f"run {self.owner.run_id}, shard {self.shard}"
        stopped = Interrupted(f"{what}: stopped after a checkpoint: its finished rows are recorded")
        self._ending = self._ending or error or stopped
        self._must_end_at = min(self._must_end_at, self.elapsed() + grace_seconds)
        self.owner.end_deletes()
        self.on_stop()
        self._wake.set()

    async def run(self) -> None:
        """Work until each row of the shard has an outcome in the ledger.

        Raises Interrupted after `stop`, TakenOver when the run has another owner. Raises Unavailable
        when S3 no longer answers, AuthenticationFailed when it no longer accepts the credentials,
        TooManyFailures when the rows fail. A checkpoint has been written by then, and another
        attempt continues from there.
        """
        settled, shard = self._count_settled(), self.owner.ledger.shard(self.owner.run_id, self.shard, self.plan)
        _, _, rows = await together(retry(self.owner.look), settled, shard)
        keeper = asyncio.create_task(self._watch())
        try:
            await self._run(rows)
        finally:
            keeper.cancel()

    async def _watch(self) -> None:
        while self._ending is None:
            await asyncio.sleep(LOOK_SECONDS)
            await self._look()

    async def _look(self) -> None:
        """Stop if the run has another owner, or if the ledger does not say."""
        try:
            async with asyncio.timeout(max(LOOK_SECONDS, SILENT_SECONDS + 1 - self.owner.age_seconds)):
                await self.owner.look()
        except (TimeoutError, Unavailable, Conflict):
            if self.owner.age_seconds >= SILENT_SECONDS:
                self.is_silent = True
                silence = f"the ledger has not said for {SILENT_SECONDS:.0f} s who owns the run"
                self.stop(error=Interrupted(f"run {self.owner.run_id}: {silence}"))
        except Exception as error:  # noqa: BLE001  another owner, or what nobody foresaw
            self.stop(LOST_GRACE_SECONDS, error)

    async def _run(self, shard: bytes) -> None:
        self._last_answer = self._last_checkpoint = self.elapsed()
        rows, tasks = itertools.chain.from_iterable(read_shard(shard, self.beside)), self._tasks
        chains, settled = self.job.chains(rows), self._settled
        open_chains = (each for each in chains if not settled.issuperset(row.row for row in each))
        self._chains = open_chains if settled else iter(chains)
        try:
            self._begin()
            while tasks and self.elapsed() < self._must_end_at:
                self._wake.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(WAIT_SECONDS):
                        await self._wake.wait()
                await self._checkpoint_if_due()
        finally:
            self._chains = iter(())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._checkpoint()
        # Rows that fail too often do not matter where all have an outcome.
        is_complete = len(self._settled) + self._rows == self.plan.shards[self.shard].rows
        if self._ending is not None and not (isinstance(self._ending, TooManyFailures) and is_complete):
            raise self.owner.lost or self._ending

    def _begin(self) -> None:
        """Begin as many chains as may be in flight."""
        try:
            while self._ending is None and len(self._tasks) < self._pace.in_flight:
                if (rows := next(self._chains, None)) is None:
                    break
                self._tasks.add(asyncio.create_task(self._work_on(rows)))
        except Exception as error:  # noqa: BLE001  `run` raises it
            self._end_by(error)
        if not self._tasks:
            self._wake.set()

    async def _count_settled(self) -> None:
        """Find the rows that earlier attempts at this shard have accounted for."""
        for checkpoint in await self.owner.ledger.checkpoints(self.owner.run_id, self.shard):
            data = await self.owner.ledger.checkpoint_data(self.owner.run_id, checkpoint)
            self._settled.update(read_row_numbers(data))

    async def _work_on(self, rows: list[ObjectVersion]) -> None:
        """Work at one chain, and begin others in its place. A task that goes on with the next one costs more."""
        began = elapsed_seconds()
        try:
            self._add(await self._process(rows))
            await self._checkpoint_if_due()
        except asyncio.CancelledError:
            raise
        except PartlyDone as done:  # the other rows have no outcome
            self._add(self._dated(done.outcomes, began))
            self._end_by(done.error)
        except BaseException as error:  # noqa: BLE001  `run` raises it
            self._end_by(error)
        finally:
            self._tasks.discard(asyncio.current_task())
            self._begin()

    def _end_by(self, error: BaseException) -> None:
        """Stop. What is sent, as deletes, ends and is recorded."""
        if isinstance(error, AuthenticationFailed):  # no row's outcome: every other row would fail alike
            advice = f"{error.detail}; then continue with: {continuation(self.owner.run_id)}"
            error = error.recast(AuthenticationFailed, detail=advice)
        if self._ending is None:
            self.stop(LOST_GRACE_SECONDS, error)

    def _add(self, outcomes: Iterable[Outcome]) -> None:
        """Add outcomes to the next checkpoint, but none of a row that an earlier attempt settled."""
        for outcome in outcomes:
            if outcome.row not in self._settled:
                self._pending.append(outcome)
                self._rows += 1
                if outcome.status is Status.BLOCKED and outcome.reason in FAILURES:
                    self._failures += 1
                    self._check_failures(outcome)

    def _check_failures(self, last: Outcome) -> None:
        """End where more rows fail than are allowed. 100 %: go on whatever fails."""
        limit_percent, run_id = self.settings.max_failed_percent, self.owner.run_id
        if self._rows < SHARE_ROWS or 100 * self._failures <= limit_percent * self._rows:
            return
        error = TooManyFailures(
            f"run {run_id}, shard {self.shard} ended early: {self._failures:,} of {self._rows:,} rows failed, more "
            f"than {limit_percent:g}%; the last one: {sentence(last.reason, last.detail)}. What was done is recorded",
            advice="mend the cause (SEALIFT_TUNING=max_failed_percent=100 goes on whatever fails), then continue with: "
            f"{continuation(run_id)}",
            may_pass=last.reason == Reason.GIVEN_UP,
        )
        self._end_by(error)

    async def _process(self, rows: list[ObjectVersion]) -> list[Outcome]:
        for attempt in range(1, TRIES + 1):
            began, looked_at = self.elapsed(), elapsed_seconds()
            try:
                is_last = attempt == TRIES and len(rows) > 1
                process = getattr(self.job, "process_last", self.job.process) if is_last else self.job.process
                outcomes = await process(rows)
            except (Unavailable, Conflict, PreconditionFailed, PartlyDone) as ended:
                error, done = (ended.error, ended.outcomes) if isinstance(ended, PartlyDone) else (ended, ())
                if not isinstance(error, Unavailable | Conflict | PreconditionFailed):
                    raise
                self._heed(error, done)
                if attempt == TRIES and self._ending is None:
                    ended_rows = {each.row for each in done}
                    left = (Outcome.refused(row, error) for row in rows if row.row not in ended_rows)
                    return self._dated([*done, *left], looked_at)
                if self._ending is None:
                    await asyncio.sleep(pause_seconds(attempt, error, self.chance()))
                if self._ending is not None:  # another attempt does the rows without an outcome
                    raise PartlyDone(Interrupted("stopped between two tries"), done) from error
            else:
                self._last_answer = self.elapsed()
                self._pace.succeed(self._last_answer - began)
                return self._dated(outcomes, looked_at)
        raise AssertionError("the last try returns")

    def _dated(self, outcomes: Iterable[Outcome], began: float) -> list[Outcome]:
        """The outcomes of work that began then, with S3's time: before good ones, and after the others."""
        clocks = [clock for store in self.stores if (clock := store.server_clock) is not None]
        if clocks:
            first, last = min(clocks) + began, max(clocks) + elapsed_seconds()
        else:
            first = last = self.clock()
        return [each.ended(first if each.status in GOOD else last, self.attempt) for each in outcomes]

    def _heed(self, error: StoreError, done: Sequence[Outcome]) -> None:
        """Slow down when S3 throttles. Give up with what is done when nothing has answered for long."""
        if isinstance(error, Throttled):
            self._pace.throttle(self.elapsed())
        if error.status or not isinstance(error, Unavailable):
            self._last_answer = self.elapsed()
        elif self.elapsed() - self._last_answer > self.settings.patience_seconds:
            advice = f"is the endpoint reachable? Continue later with: {continuation(self.owner.run_id)}"
            silence = f"no answer for {self.settings.patience_seconds:.0f} s"
            silent = Unavailable(error.operation, error.target, error.code, silence, advice=advice)
            raise PartlyDone(silent, done) from error

    async def _checkpoint_if_due(self) -> None:
        rows = len(self._pending)
        late = self.elapsed() - self._last_checkpoint >= self.settings.checkpoint_seconds
        if rows >= self.settings.checkpoint_rows or (rows > 0 and late):
            await self._checkpoint()
            await self._look()

    async def _checkpoint(self) -> None:
        """Write the outcomes since the last checkpoint."""
        outcomes, self._pending = self._pending, []
        self._last_checkpoint = self.elapsed()
        if not outcomes:
            return
        bad_rows = sum(outcome.status not in GOOD for outcome in outcomes)
        size_bytes = sum(outcome.size_bytes for outcome in outcomes)
        checkpoint = Checkpoint(self.shard, self.attempt, self._checkpoints, len(outcomes), bad_rows, size_bytes)
        self._checkpoints += 1
        seconds = LOST_GRACE_SECONDS if self.is_silent else SILENT_SECONDS
        try:
            async with asyncio.timeout(seconds):
                await self.owner.ledger.write_checkpoint(self.owner.run_id, checkpoint, write_outcomes(outcomes))
        except TimeoutError:
            silence = f"the ledger took no checkpoint within {seconds:.0f} s"
            raise Unavailable("PutObject", str(self.owner.ledger.location), "NoAnswer", silence) from None


class Stops:
    """What stops the attempt of this process that is at work or next."""

    def __init__(self) -> None:
        self._attempt: Worker | None = None
        self.is_stopped = False

    def listen(self, attempt: Worker) -> None:
        """Stop this attempt from now on, and at once if `stop` came before it."""
        self._attempt = attempt
        if self.is_stopped:
            self.stop()

    def stop(self) -> None:
        """Stop the attempt, at once where the parent is gone."""
        self.is_stopped = True
        if self._attempt is not None:
            self._attempt.stop(ALONE_GRACE_SECONDS if parent_pipe.IS_GONE.is_set() else GRACE_SECONDS)
