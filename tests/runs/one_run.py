"""Bounded exhaustive play of who works at a run: its owners, its workers, its fold, with their own code.

The bound. A run has one shard of a few rows, and a worker does one row at a time. A first process is at work, a command
or a worker that AWS Batch or a dead command has left. At each of its requests it stops: it dies, the machine sleeps for
90 s before the request or after it, or others are only quicker. Then a second one comes, and at each of *its* requests
it stops as well, while the first one goes on to its end. Then the second one does, and commands, until the run ends.

What a process does is what `jobs.cli.worker` and `jobs.runs.work` do, but for Parquet and DuckDB. Time is a number.
"""

from __future__ import annotations

import contextlib
import itertools
import pickle
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from jobs.cli import fail
from jobs.cli import worker as processes
from jobs.config import Settings
from jobs.core.histories import keys_of
from jobs.core.model import Attributes, Location, ObjectRef, ObjectVersion
from jobs.core.outcome import GOOD, Outcome, Status
from jobs.core.run import Plan, RunSpec, ShardSummary, Side
from jobs.errors import ExitCode, NotFound, SealiftError, StoreError
from jobs.ledger.ledger import Checkpoint, Ledger
from jobs.ledger.owner import FRESH_SECONDS, Owner, claim_run
from jobs.ledger.uploads import unfinished_uploads
from jobs.registry import kind_of
from jobs.runs import folding, local_executor, work
from jobs.runs.kind import Kind, Opened
from jobs.runs.local_executor import ATTEMPTS, WorkHere
from jobs.runs.worker import Stops
from jobs.s3.sessions import open_store
from jobs.s3.store import UNGUARDED
from jobs.s3.uploads import abort_unfinished
from tests.doubles import few_rows
from tests.doubles.memory_store import OPERATIONS, MemoryStore
from tests.doubles.plain_fold import fold
from tests.simulation.engine.determinism import EPOCH, replaced, swaps_of
from tests.simulation.engine.loop import LABEL, Loop, Mortal, run_at_once

RUN = "20261125T003345Z-replicate-aaaaaa"
LEDGER, SOURCE, DESTINATION = Location("ledger"), Location("source", "in/"), Location("destination", "out/")
KIB = 1024
BODIES = {"a": b"a", "large": b"L" * (11 * KIB), "z": b"z"}
PARTS = {"multipart_threshold_bytes": 6 * KIB, "part_size_bytes": 5 * KIB}
NEWER = b"somebody else's"
SLEEP_SECONDS = 90.0
SETTINGS = replace(Settings.from_environment({}), in_flight=1, checkpoint_rows=1)
FIRST, THEN = ("command", "worker"), ("command", "worker", "cancel", "writer")
FATES = ("quicker", "asleep before", "asleep after", "dead")


BEGINNINGS: dict[tuple[str, str], bytes] = {}
"""Scene and first process → the buckets when a play begins."""


class Case(Struct, frozen=True):
    """One play. `at`, `until`: before which of its requests the first and the second process stop (0: nowhere)."""

    scene: str
    first: str = "command"
    at: int = 0
    fate: str = "quicker"
    second: str = "command"
    until: int = 0
    second_fate: str = "quicker"


class Deletes:
    """A job whose rows are deletes of originals, behind the store's own look at the owner."""

    chains = staticmethod(keys_of)

    def __init__(self, opened: Opened):
        self._store = opened.source

    async def process(self, rows: Sequence[ObjectVersion]) -> list[Outcome]:
        [row] = rows
        try:
            there = await self._store.head(ObjectRef(SOURCE.bucket, row.key))
            await self._store.delete(ObjectRef(SOURCE.bucket, row.key), if_match=there.etag)
        except NotFound:
            return [Outcome(row.row, row.key, None, Status.SAME)]
        return [Outcome(row.row, row.key, None, Status.DONE)]


SCENES = {"copies": True, "copies without versions": False, "deletes": True}
"""Whether the destination keeps versions."""


class Process(Mortal):
    """A process, and the Store that it has: each request takes a moment, and is where it may stop."""

    heeds_conditions = keeps_annotations = True

    def __init__(self, world: World, name: str, owner: int, stops_at: int = 0, is_after: bool = False):
        self.world, self.name, self.owner, self.stops_at, self.is_after = world, name, owner, stops_at, is_after
        self.requests, self.writes = 0, 0
        self.is_killed = False
        self.stopped = world.loop.create_future()
        """Resolved when it stops, or has ended."""
        self.gate = world.loop.create_future()
        self.task: Any = None

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.world.memory, name)
        if name not in OPERATIONS:
            return value

        async def send(*arguments: Any, **named: Any) -> Any:
            self.requests += 1
            is_here = self.requests == self.stops_at
            await self.world.sleep(self.world.request_seconds)
            if is_here and not self.is_after:
                await self._stop()
            try:
                return self.world.apply(self, name, arguments, named)
            finally:
                if is_here and self.is_after:
                    await self._stop()

        setattr(self, name, send)
        return send

    def clock(self) -> float:
        return EPOCH + self.world.loop.now

    async def _stop(self) -> None:
        """None of its tasks takes another step until it goes on."""
        self.is_dead = True
        self.stopped.set_result(None)
        await self.gate

    def go_on(self) -> None:
        self.is_dead = False
        self.world.loop.thaw()
        self.gate.set_result(None)


class World:
    """A run that is planned, and all that works at it."""

    def __init__(self, case: Case):
        playing.world = self
        self.case, self.loop = case, Loop(None)
        self._ids, self.outside = itertools.count(1), copy_context()
        self.memory = MemoryStore(
            clock=lambda: EPOCH + self.loop.now, new_id=lambda: f"id{next(self._ids)}", minimum_part_bytes=1
        )
        is_kept, self.is_delete = SCENES[case.scene], case.scene == "deletes"
        self.request_seconds = 0.9 if self.is_delete else 0.4
        for bucket, is_versioned in (("source", True), ("destination", is_kept), ("ledger", True)):
            self.memory.create_bucket(bucket, is_versioned)
        self.kind = Kind("replicate", Deletes, deletes=True) if self.is_delete else kind_of(self._spec({}))
        self.violations: list[str] = []
        self.trace: list[Any] = []
        self.told: set[str] = set()
        """The checkpoints that a fold has counted, or whose worker has told the state of."""
        self.killed: list[str] = []
        self.claimed_at: list[float] = []
        self.spec = self._spec({} if self.is_delete else PARTS)
        self.plan = Plan(len(BODIES), 0, (ShardSummary(len(BODIES), 0),))

    def _spec(self, options: dict[str, Any]) -> RunSpec:
        return RunSpec(RUN, "replicate", EPOCH, Side(SOURCE), Side(DESTINATION), "", options)

    async def _begin(self) -> None:
        """Plan the run, or take what an earlier play of this scene has planned."""
        if (beginning := BEGINNINGS.get((self.case.scene, self.case.first))) is None:
            await self._plan()
            beginning = BEGINNINGS[self.case.scene, self.case.first] = pickle.dumps(self.memory._buckets.named)
        self.memory._buckets.named = pickle.loads(beginning)
        self.memory._buckets._orders = 100
        self.claimed_at = [0.0] * (self.case.first == "worker")
        self.loop.now = 10.0  # what others write is newer than the source, by a second that S3 can tell apart

    async def _plan(self) -> None:
        rows = []
        for number, (key, body) in enumerate(BODIES.items()):
            ref = ObjectRef("source", f"in/{key}")
            await self.memory.put(ref, body, Attributes(), guard=UNGUARDED)
            info = await self.memory.head(ref)
            about = (info.size_bytes, info.etag, info.last_modified, info.storage_class)
            rows.append(ObjectVersion(number, ref.key, info.version_id, True, False, *about))
        ledger = Ledger(self.memory, LEDGER)
        await ledger.create(self.spec)
        await ledger.write_shard(RUN, 0, pickle.dumps(rows))
        await ledger.publish_plan(RUN, self.plan)
        if self.case.first == "worker":
            await claim_run(ledger, RUN, "a command that is dead")

    async def sleep(self, seconds: float) -> None:
        timers = self.loop._timers
        if not timers or timers[0][0] > self.loop.now + seconds:  # nothing else happens meanwhile
            self.loop.now += seconds
            return
        future = self.loop.create_future()
        self.loop.call_later(seconds, _resolve, future)
        await future

    def apply(self, process: Process, name: str, arguments: Any, named: Any) -> Any:
        """The request takes effect."""
        place = arguments[2] if name == "copy" else arguments[0]
        place = place if isinstance(place, str) else place.bucket
        step = [process.name, name, place]
        self.trace.append(step)
        is_owner = name == "put" and place == "ledger" and "/owner/" in arguments[0].key
        try:
            answer = run_at_once(getattr(self.memory, name)(*arguments, **named))
        except StoreError as error:
            step.append(error.code)
            raise
        if is_owner:
            self.claimed_at.append(self.loop.now)
            process.owner = len(self.claimed_at)
        process.writes += place == "destination" and name in ("put", "copy", "complete_multipart", "delete")
        if name == "delete" and place == "source":
            later = self.claimed_at[process.owner :]
            if later and self.loop.now - later[0] > FRESH_SECONDS:
                self.violate(f"{process.name} deleted {self.loop.now - later[0]:.1f} s after another one took over")
        return answer

    def violate(self, what: str) -> None:
        self.violations.append(f"{self.case}: {what}")

    # What processes do.

    async def command(self, process: Process) -> int:
        """A command that works at the run from where it is."""
        run = self.spec, self.plan, (ledger := Ledger(process, LEDGER))
        here = partial(processes.work_here, self.spec, self.plan, SETTINGS, ledger)
        display: Any = Quiet
        if await ledger.report(RUN) is not None:
            return (await work.end(*run, self.kind)).code
        return (await work.work(*run, SETTINGS, "local", display, self.kind, here)).code

    async def worker(self, process: Process) -> int:
        """An attempt for the run's first owner."""
        owner = Owner(Ledger(process, LEDGER), RUN, process.owner)
        try:
            await processes.work_apart(
                processes.open_attempt(SETTINGS, self.spec, self.plan, 0, owner, Stops()), self.spec
            )
        except Exception as error:  # noqa: BLE001  its process ends so
            return _fail(error)
        return int(ExitCode.DONE)

    async def cancel(self, process: Process) -> int:
        await claim_run(Ledger(process, LEDGER), RUN, "sealift runs cancel")
        return 0

    async def writer(self, process: Process) -> int:
        """Others write where a copy belongs."""
        await process.put(ObjectRef("destination", "out/z"), NEWER, Attributes(), guard=UNGUARDED)
        return 0

    def start(self, name: str, what: str, stops_at: int = 0, fate: str = "quicker") -> Process:
        process = Process(self, name, 1, stops_at, fate == "asleep after")
        act: Callable[[Process], Coroutine[Any, Any, int]] = getattr(self, what)

        async def run() -> None:
            try:
                code = await act(process)
                if code in (ExitCode.BUG, ExitCode.USAGE, ExitCode.CONFIG):
                    self.violate(f"{name} ended with {code}")
                self.trace.append((name, code))
            except SealiftError as error:
                self.trace.append((name, type(error).__name__))
                if error.exit_code not in (ExitCode.TRANSIENT, ExitCode.TAKEN_OVER):
                    self.violate(f"{name}: {error!r}")
            except Exception as error:  # noqa: BLE001  what a play is for
                self.violate(f"{name}: {error!r}")
            finally:
                if not process.stopped.done():
                    process.stopped.set_result(None)

        context = self.outside.copy()
        context.run(LABEL.set, process)
        process.task = self.loop.create_task(run(), context=context)
        return process

    async def finish(self, process: Process, fate: str) -> None:
        """A process that has stopped goes on to its end, unless it is dead."""
        if process.is_dead and fate == "dead":
            process.is_killed = True
            self.killed.append(process.name)
            return
        if process.is_dead:
            if fate.startswith("asleep"):
                await self.sleep(SLEEP_SECONDS)
            process.go_on()
        await process.task

    def play(self) -> World:
        """The whole play."""
        self.loop.run(self._play())
        return self

    async def _play(self) -> None:
        case = self.case
        await self._begin()
        first = self.start("first", case.first, case.at, case.fate)
        await first.stopped
        self.requests = first.requests
        if first.is_dead:
            second = self.start("second", case.second, case.until, case.second_fate)
            await second.stopped
            writes = first.writes
            await self.finish(first, case.fate)
            is_taken = case.second == "cancel" and first.owner < len(self.claimed_at)
            if is_taken and first.writes - writes > 2:  # of the row in flight, and of one that began meanwhile
                self.violate("the first one went on")
            await self.finish(second, case.second_fate)
        for number in range(4):
            last = self.start(f"last {number}", "command")
            await self.finish(last, "")
            if (last.name, 0) in self.trace or (last.name, int(ExitCode.FINDINGS)) in self.trace:
                break
        else:
            self.violate("the run has no end")
        await self._check()

    async def _check(self) -> None:
        """What is promised of a run, whatever happened to it."""
        memory, ledger = self.memory, Ledger(self.memory, LEDGER)
        for key, versions in memory._buckets.named["ledger"].versions.items():
            if len(versions) > 1:
                self.violate(f"{key} was written twice")
        report = await ledger.report(RUN) or {}
        if (report.get("state"), report.get("rows"), report.get("accounted")) != ("complete", 3, 3):
            self.violate(f"the report is {report}")
        checkpoints = await ledger.checkpoints(RUN)
        outcomes = await _chosen(ledger, checkpoints)
        if sorted(outcomes) != [0, 1, 2] or sum(report.get("outcomes", {}).values()) != 3:
            self.violate(f"rows have {outcomes}")
        has_writer = any(
            name == "second" and what == "put" and at == "destination" for name, what, at, *_ in self._sent()
        )
        for row, (key, body) in enumerate(BODIES.items()):
            there = [each.data for each in memory.stored("destination", f"out/{key}")]
            if self.is_delete:
                if memory.stored("source", f"in/{key}")[-1].is_delete_marker is False:
                    self.violate(f"{key} is not deleted")
            elif key == "z" and has_writer:
                if there[-1:] != [NEWER]:
                    self.violate("what others wrote was written over")
            elif there != [body] or outcomes[row].status not in GOOD:
                self.violate(f"{key} has {len(there)} copies, {outcomes[row].status}")
        untold = {each.name for each in checkpoints} - self.told
        if untold and not self.killed:
            self.violate(f"nobody tells the state of {untold}")
        await abort_unfinished(memory, await unfinished_uploads(ledger, RUN), DESTINATION)
        if len(memory.uploads("destination")) > len(self.killed):  # before it was recorded
            self.violate("an upload is left")

    def _sent(self) -> Iterable[Any]:
        return [each for each in self.trace if isinstance(each, list)]

    @property
    def schedule(self) -> int:
        """All that happened, as a number."""
        return hash((self.case.scene, self.case.first, tuple(tuple(each) for each in self.trace)))


class Quiet:
    """A display that nobody looks at."""

    say = staticmethod(lambda *_: None)


class Playing:
    """The world that is played, for what stands in for clocks and libraries. Its only time is the loop's."""

    world: World
    loop = property(lambda self: self)
    now = property(lambda self: self.world.loop.now)
    chance = staticmethod(lambda: 0.5)

    def time(self) -> float:
        return self.world.loop.now


playing = Playing()


def _resolve(future: Any) -> None:
    if not future.done():
        future.set_result(None)


async def _execute(
    spec: RunSpec, plan: Plan, ledger: Ledger, settings: Settings, display: Any, work_here: WorkHere
) -> dict[int, int]:
    """The local executor, without its threads and signals."""
    owner, code = (await claim_run(ledger, spec.run_id, "another command")).number, int(ExitCode.TRANSIENT)
    for _ in range(ATTEMPTS):
        if (code := await work_here(owner, Stops())) != ExitCode.TRANSIENT:
            break
    return {0: code}


async def _chosen(ledger: Ledger, checkpoints: Sequence[Checkpoint]) -> dict[int, Outcome]:
    """The outcome of each row that counts."""
    files = [few_rows.outcomes_of(await ledger.checkpoint_data(RUN, each)) for each in checkpoints]
    return fold(outcome for file in files for outcome in file)


async def _fold_run(ledger: Ledger, run_id: str, plan: Plan, checkpoints: Sequence[Checkpoint], *_: Any) -> Any:
    """`fold_run` without DuckDB. A complete run's goes into the state."""
    folded = await few_rows.fold_run(ledger, run_id, plan, checkpoints)
    if folded.rows == plan.rows:
        playing.world.told |= {each.name for each in checkpoints}
    return folded


async def _write_late(ledger: Ledger, spec: RunSpec, late: Sequence[Checkpoint]) -> None:
    playing.world.told |= {each.name for each in late}


def _fail(error: Exception) -> int:
    if not isinstance(error, SealiftError):
        playing.world.violate(f"a worker: {error!r}")
    return int(getattr(error, "exit_code", ExitCode.BUG))


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """What stands in for clocks, dice, connections and libraries."""
    swaps: list[Any] = [
        *swaps_of(playing), *few_rows.QUICK, *few_rows.CACHED,  # type: ignore[arg-type]  # what it asks of a world
        (folding.fold_run, _fold_run), (folding.write_late_verdicts, _write_late),
        (open_store, lambda *_, **__: LABEL.get()), (fail, _fail), (local_executor.execute, _execute),
        (kind_of, lambda run: playing.world.kind),
    ]  # fmt: skip
    with replaced(swaps, {"MIN_PART_BYTES": 5 * KIB, "STREAM_PART_BYTES": 8 * KIB}):
        yield


def cases() -> Iterator[Case]:
    """Every play, the most that a process sends taken from one that nothing happens to."""
    for scene, first in itertools.product(SCENES, FIRST):
        most = World(Case(scene, first)).play().requests
        yield Case(scene, first)
        for at, fate, second in itertools.product(range(1, most + 1), FATES, THEN):
            plain = Case(scene, first, at, fate, second)
            yield plain
            if second in ("command", "worker"):
                # it also finds what the first one has left, and looks at that
                stops = itertools.product(range(1, most + 8), FATES)
                yield from (replace(plain, until=until, second_fate=ends) for until, ends in stops)
