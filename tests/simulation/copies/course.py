"""The course of a schedule: what an operator does until each step has ended, with the product's own code.

Real: the replicate and verify jobs, the worker, the ledger, publishing a plan, concluding a run; in full schedules the
listing, the planner, the fold and the page as well. Stand-ins: the local executor's processes, and who types commands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from functools import partial
from types import SimpleNamespace
from typing import Any

import jobs.s3.retries
from jobs import __version__
from jobs.core.model import Location, ObjectRef, ObjectVersion, Route
from jobs.core.outcome import Outcome
from jobs.core.run import RunSpec, Side
from jobs.errors import ExitCode, LedgerError
from jobs.ledger.ledger import Ledger
from jobs.replicate.job import Replicate, ReplicateOptions
from jobs.reports.document import exit_code
from jobs.runs import launch, leases
from jobs.runs.leases import Lease
from jobs.runs.local_executor import ATTEMPTS
from jobs.runs.request import Planned
from jobs.runs.worker import Job, Worker, WorkerLimits
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.fenced_store import fenced
from jobs.s3.listing import list_all
from jobs.s3.store import Store
from jobs.verify.job import Verify, VerifyOptions
from tests.simulation.copies import tables
from tests.simulation.copies.model import Model
from tests.simulation.copies.schedule import DESTINATION, LEDGER, PREFIX, SOURCE, Kind, Schedule, Step
from tests.simulation.engine.processes import KILLED, Process, second_of
from tests.simulation.engine.world import World

PLACE = Location(LEDGER, "x")
ROUTE = Route(Location(SOURCE), Location(DESTINATION, PREFIX))
DOUBLING = {Kind.TWIN, Kind.KILL, Kind.KILL_AFTER, Kind.KILL_ALL}
"""Faults that may leave a worker beside which another one begins."""
AGAIN = (KILLED, int(ExitCode.TRANSIENT))


class Watching:
    """A job whose every call the model sees."""

    def __init__(self, job: Job, worker: Process, model: Model):
        self._job, self._worker, self._model = job, worker, model
        self.chains = job.chains

    async def process(self, rows: Sequence[ObjectVersion]) -> list[Outcome]:
        self._model.working(self._worker, rows)
        try:
            outcomes = await self._job.process(rows)
            self._model.returned(self._worker, rows, outcomes)
            return outcomes
        finally:
            self._model.rested(self._worker)


class Course:
    """Plays one schedule; what was wrong is in `model.violations`."""

    def __init__(self, schedule: Schedule):
        self.schedule = schedule
        self.model = self._make_model()
        self.world = World(schedule, self.model)
        self.model.world = self.world
        self.model.start_twin = self._start_twin
        self._numbers = iter(range(1, 10_000))

    def _make_model(self) -> Model:
        return Model(self.schedule)

    def play(self) -> Model:
        """Run the schedule to its end."""
        self.world.fill()
        self.world.run_to_end(self._operate(), self._replacements(), self.model)
        return self.model

    def _replacements(self) -> list[tuple[Any, str, Any]]:
        chance = (jobs.s3.retries, "random", SimpleNamespace(random=self.world.chance))
        return [*(tables.FULL if self.schedule.is_full else tables.FAST), chance]

    async def _operate(self) -> None:
        earlier = ""
        for step in self.schedule.steps:
            if step is Step.RETRY:
                report = self.model.reports.get(earlier)
                if not report or not report["failures"]:
                    return
            ended = await self._finish(step, earlier)
            if ended is None:
                return
            earlier = ended
        while any(process.code is None and not process.is_dead for process in self.world.processes):
            await asyncio.sleep(1.0)

    async def _finish(self, step: Step, earlier: str) -> str | None:
        """Give the command, then `runs retry`, until the run has a report; its id. None: it cannot have one."""
        run_id = ""
        for _ in range(4 + 2 * len(self.schedule.faults)):
            if run_id not in self.model.rows:  # planning did not come to an end: anew
                run_id = f"20231114T2213{next(self._numbers):02d}Z-{_job(step)}-aaaaaa"
                self.model.began(run_id, self.world.loop.time())
            command = self.world.spawn(f"command {run_id[13:15]}", self._command(step, run_id, earlier), run_id=run_id)
            await command.ended
            if run_id in self.model.reports:
                return run_id
            if command.code not in (None, int(ExitCode.TRANSIENT)) and not self.schedule.faults:
                break
            await asyncio.sleep(10.0)
            await self._retry(command)
            if command.code == ExitCode.USAGE and not self._is_possible(step):
                return None
        self.model.violate("a run ends", f"{run_id} has no report, whatever one does")
        return None

    def _is_possible(self, step: Step) -> bool:
        """Else the command says at once that there is nothing of the kind."""
        return True

    async def _retry(self, command: Process) -> None:
        """What else somebody does before a command is given again."""

    def _command(self, step: Step, run_id: str, earlier: str) -> Callable[[Process], Coroutine[Any, Any, int]]:
        async def command(process: Process) -> int:
            ledger = self._ledger(process)
            if run_id not in self.model.rows:
                await launch.publish(await self._plan(process, ledger, step, run_id, earlier), ledger)
            spec, plan = await ledger.spec(run_id), await ledger.plan(run_id)
            shards = range(len(plan.shards))
            launch_id = None
            if self._has_leases():
                name = f"local-{next(self._numbers)}"
                launch_id = (await leases.write_launch(ledger, run_id, name, {}, "a command")).id
            codes = await asyncio.gather(*(self._run_shard(run_id, shard, launch_id) for shard in shards))
            report = await launch.conclude(spec, plan, ledger, dict(zip(shards, codes, strict=True)))
            return int(exit_code(report))

        return command

    async def _plan(self, process: Process, ledger: Ledger, step: Step, run_id: str, earlier: str) -> Planned:
        spec, rows = await self._request(process, ledger, step, run_id, earlier)
        return await tables.plan(spec, rows, rows_per_shard=self.schedule.rows_per_shard, is_full=self.schedule.is_full)

    async def _request(
        self, process: Process, ledger: Ledger, step: Step, run_id: str, earlier: str
    ) -> tuple[RunSpec, list[ObjectVersion]]:
        """What the run is to do, and its manifest: a listing, or the failed rows of the run before."""
        schedule = self.schedule
        options: dict[str, Any] = {"all_versions": schedule.all_versions, "streamed": schedule.streamed}
        if step is Step.REPLICATE:
            options |= {
                "overwrite": schedule.overwrite.value,
                "multipart_threshold_bytes": 16,
                "part_size_bytes": 8,
            }
        elif step is Step.VERIFY:
            options["deep"] = schedule.deep
        manifest, rows = "listing", []
        if step is Step.RETRY:
            before, report = await ledger.spec(earlier), await ledger.report(earlier)
            assert report is not None
            options = {name: value for name, value in before.options.items() if name != "deep"}
            manifest = report["failures_manifest"]
            place = Location.parse(manifest)
            rows = tables.read_failures((await process.connect().get(ObjectRef(place.bucket, place.key))).data)
        else:
            listing = list_all(process.connect(), ROUTE.source, versions=schedule.all_versions, concurrency=2)
            async with aclosing(listing) as pages:
                async for page in pages:
                    rows += [_row(*each) for each in page]
        sides = Side(ROUTE.source), Side(ROUTE.destination)
        job, retry_of = _job(step), earlier if step is Step.RETRY else None
        return RunSpec(run_id, job, second_of(run_id), *sides, manifest, options, retry_of, __version__), rows

    async def _run_shard(self, run_id: str, shard: int, launch_id: str | None) -> int:
        """As the local executor does: three attempts while they are killed or end with 75."""
        code = int(ExitCode.TRANSIENT)
        for _ in range(ATTEMPTS):
            worker = self._start(run_id, shard, launch_id)
            code = await worker.ended
            if code not in AGAIN:
                break
        return code

    def _start(self, run_id: str, shard: int, launch_id: str | None = None) -> Process:
        """A worker of a launch, or one that a person starts by hand."""
        number = next(self._numbers)
        work = partial(self._work, number=number, launch_id=launch_id)
        return self.world.spawn(f"worker {number} shard {shard}", work, run_id=run_id, shard=shard)

    def _start_twin(self, process: Process) -> None:
        """Another attempt at the worker's shard; beside a command, a second operator who says `runs retry`."""
        if process.shard >= 0:
            self._start(process.run_id, process.shard)
        elif process.run_id in self.model.rows:
            name = f"command {next(self._numbers)} of a second operator"
            self.world.spawn(name, self._command(Step.RETRY, process.run_id, ""), run_id=process.run_id)

    async def _work(self, process: Process, number: int, launch_id: str | None) -> int:
        """What `sealift worker` does."""
        schedule, ledger = self.schedule, self._ledger(process)
        spec = await ledger.spec(process.run_id)
        plan = await ledger.plan(process.run_id)
        if process.shard >= len(plan.shards):
            raise LedgerError(f"no shard {process.shard}")
        budget = ByteBudget(self.model.budget_bytes(spec.job))
        lease, store = None, self._connect(process)
        if self._has_leases():
            lease = Lease(ledger, process.run_id, process.shard, launch_id, clock=self.world.loop.time)
            store = fenced(store, lease.hold)
        job = self._make_job(process, store, spec, ledger, budget)
        in_flight = self.model.rows_at_once(spec.job)
        limits = WorkerLimits(in_flight, schedule.checkpoint_rows, 2.0, 60.0, 20.0)
        worker = Worker(
            ledger,
            process.run_id,
            process.shard,
            Watching(job, process, self.model),
            limits,
            clock=process.clock,
            elapsed=self.world.loop.time,
            chance=self.world.chance,
            lease=lease,
            clean_up=self._clean_up(process, store, ledger),
            attempt=f"{number:016x}",
        )
        process.stop = worker.stop
        try:
            await worker.run()
        finally:
            self.model.rests(process, budget)
        self.model.finished(process)
        return 0

    def _has_leases(self) -> bool:
        """Only where two attempts can be at work at once, as leases cost a third of the requests, and in half of these:
        without leases, all else must hold as well.
        """
        return self.schedule.has_leases and any(fault.kind in DOUBLING for fault in self.schedule.faults)

    def _connect(self, process: Process) -> Store:
        """How a worker reaches the buckets."""
        return process.connect()

    def _clean_up(self, process: Process, store: Store, ledger: Ledger) -> Callable[[], Awaitable[None]] | None:
        """What a worker does when all rows of its shard have outcomes."""
        return None

    def _make_job(self, process: Process, store: Store, spec: RunSpec, ledger: Ledger, budget: ByteBudget) -> Job:
        if spec.job == "replicate":
            return Replicate(store, store, ROUTE, ReplicateOptions.from_dict(spec.options), budget)
        return Verify(store, store, ROUTE, VerifyOptions.from_dict(spec.options), budget)

    def _ledger(self, process: Process) -> Ledger:
        return Ledger(process.connect(), PLACE)


def _row(key: str, version_id: str | None, latest: bool, marker: bool, size: int | None, *rest: Any) -> ObjectVersion:
    """An entry of a listing as a manifest's row; its time in whole microseconds, as in Parquet."""
    etag, modified, storage_class, _ = rest
    return ObjectVersion(0, key, version_id, latest, marker, size, etag, int(modified * 1e6) / 1e6, storage_class)


def _job(step: Step) -> str:
    """The job of the run that a step makes, as its id names it."""
    if step is Step.RETRY:
        return Step.REPLICATE.value
    return step.value.partition(" ")[0]
