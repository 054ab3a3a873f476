"""The course of an event schedule: writers at the source, a queue, the backup function, and runs over its backlog.

Real: the backup function with all beneath it, journal, removals, backlog and its manifests, the backup job. Stand-ins:
SQS, Lambda's event source mapping (`scheduler.polling` is a loop around this), and the run that takes a manifest.
"""

from __future__ import annotations

import asyncio
import dataclasses
from functools import cache
from types import SimpleNamespace
from typing import Any

import jobs.s3.retries
import scheduler.backlog
import scheduler.backup
import scheduler.log
from jobs.aws import queues
from jobs.backup.job import Backup, BackupOptions
from jobs.core.enums import Deletes, StorageClass
from jobs.core.model import Location, ObjectVersion, Route
from jobs.core.outcome import Status
from jobs.errors import Conflict, ExitCode, PreconditionFailed, SealiftError, Unavailable
from jobs.policy.model import Policy, Thresholds
from jobs.policy.reader import parse_policy
from jobs.policy.words import Size
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.copying import KEEP
from scheduler.polling import to_event
from scheduler.runtime import Runtime
from scheduler.settings import FunctionSettings
from tests.doubles.manifest_rows import rows_of_csv
from tests.simulation.copies import tables
from tests.simulation.copies.schedule import DESTINATION, LEDGER, PREFIX, SOURCE
from tests.simulation.engine.processes import Process
from tests.simulation.engine.world import World
from tests.simulation.events.model import BUFFER_BYTES, EventModel
from tests.simulation.events.queue import Queue
from tests.simulation.events.schedule import EventSchedule

INVOCATION_SECONDS = 60.0
TRIES = 8
SETTLED_SECONDS = 300.0
"""After this nothing is under way any more, however slow."""
POLICY = f"""
version: 1
name: sealift
ledger: {{bucket: {LEDGER}, region: us-east-1, prefix: l/}}
pairs:
  - name: pair
    source: {{bucket: {SOURCE}, region: us-east-1}}
    destination: {{bucket: {DESTINATION}, region: us-east-1, prefix: {PREFIX}}}
"""


@cache
def _policy(mirrors_deletes: bool, limit_bytes: int, storage_class: str | None) -> Policy:
    policy = parse_policy(POLICY.encode(), "policy.yaml")
    destination = policy.pairs[0].destination
    if storage_class is not None:
        destination = dataclasses.replace(destination, storage_class=StorageClass(storage_class))
    pair = dataclasses.replace(
        policy.pairs[0],
        destination=destination,
        deletes=Deletes.MIRROR if mirrors_deletes else Deletes.RETAIN,
        thresholds=Thresholds(lambda_max_size=Size(limit_bytes)),
    )
    return dataclasses.replace(policy, pairs=(pair,))


class Warm(Runtime):
    """A runtime whose policy was read."""

    def __init__(self, process: Process, policy: Policy):
        settings = FunctionSettings("", Location(LEDGER, "l/"))
        super().__init__(settings, open_region=lambda *_: process.connect(), clock=process.clock)
        self._read = policy

    async def policy(self) -> Policy:
        return self._read


class EventCourse:
    """Plays one schedule; what was wrong is in `model.violations`."""

    def __init__(self, schedule: EventSchedule):
        self.schedule = schedule
        self.model = EventModel(schedule)
        self.world = World(schedule, self.model)
        self.queue = Queue(self.world.loop, self.world.chance)
        self.model.world, self.model.queue, self.model.chance = self.world, self.queue, self.world.chance
        self._is_over = False
        self._tokens = 0
        self._is_running = asyncio.Lock()
        self._finished: set[int] = set()
        """The manifests whose run is over. A run happens once."""
        self._failed: dict[int, list[ObjectVersion]] = {}
        """Of other manifests the rows that a run with a report left to a retry."""

    def play(self) -> EventModel:
        """Run the schedule to its end."""
        self.world.fill()
        self.model.is_told = True
        self.world.run_to_end(self._operate(), [*tables.SCALE, *self._chances()], self.model)
        return self.model

    def _chances(self) -> list[tuple[Any, str, Any]]:
        """What the functions take from the world around them, taken from the seed instead."""
        random = SimpleNamespace(random=self.world.chance)
        secrets = SimpleNamespace(token_hex=self._token)
        return [
            (jobs.s3.retries, "random", random),
            (scheduler.backup, "random", random),
            (scheduler.backup, "secrets", secrets),
            (scheduler.backlog, "secrets", secrets),
            (scheduler.backup, "BUFFER_BYTES", BUFFER_BYTES),
            (scheduler.log, "_write", lambda document: None),
        ]

    def _token(self, size: int) -> str:
        self._tokens += 1
        return f"{self._tokens:0{2 * size}x}"

    async def _operate(self) -> None:
        pollers = [asyncio.ensure_future(self._keep_polling(number)) for number in range(self.schedule.pollers)]
        runs = [asyncio.ensure_future(self._run_at(at_seconds)) for at_seconds in self.schedule.runs_at]
        for act in self.schedule.acts:
            await asyncio.sleep(max(0.0, act.at_seconds - self.world.loop.time()))
            if act.removes is None:
                self.world.others.put(SOURCE, act.put)
            else:
                self.world.others.remove(SOURCE, act.put.key, act.removes)
        await asyncio.gather(*runs)
        for _ in range(12):
            while not self.queue.is_empty:
                await asyncio.sleep(10.0)
            known = len(self.queue.messages)
            if not self.queue.redrive():
                await self._empty_backlog()
                await asyncio.sleep(SETTLED_SECONDS)
                if len(self.queue.messages) == known:  # nobody has written anything meanwhile
                    break
        self._is_over = True
        await asyncio.gather(*pollers)

    # The function.

    async def _keep_polling(self, number: int) -> None:
        """A killed runtime is replaced by a cold one."""
        life = 0
        while not self._is_over:
            life += 1
            await self.world.spawn(f"function {number}.{life}", self._poll).ended
            await asyncio.sleep(1.0)

    async def _poll(self, process: Process) -> int:
        runtime, loop = self._runtime(process), self.world.loop
        while not self._is_over:
            batch = self.queue.receive(self.schedule.batch_messages)
            if not batch:
                await asyncio.sleep(self._idle_seconds())
                continue
            event = to_event([queues.Message(str(each.number), "", each.body, each.receives, 0.0) for each in batch])
            death = loop.call_later(INVOCATION_SECONDS, self.world.kill, process, context=self.world.outside)
            self.world.note(process.name, "invoked with", *(each.number for each in batch))
            try:
                answer = await scheduler.backup.handle(runtime, event, INVOCATION_SECONDS, process.name)
            except SealiftError as error:
                self.world.note("error", process.name, str(error))
                answer = {"batchItemFailures": [{"itemIdentifier": str(each.number)} for each in batch]}
            death.cancel()
            failed = {each["itemIdentifier"] for each in answer["batchItemFailures"]}
            done = [each for each in batch if str(each.number) not in failed]
            self.model.acknowledged(done)
            for message in done:
                message.is_done = self.world.chance() > 0.03  # else the answer was lost: it comes again
        return 0

    def _idle_seconds(self) -> float:
        """Until the next look at an empty queue: soon while somebody writes, later when the next message is known."""
        now = self.world.loop.time()
        if now < 3.0 and self.schedule.is_hurried:
            return 0.05
        if now < self.schedule.acts[-1].at_seconds + 10.0:
            return 3.0
        return min(max(3.0, self.queue.next_at - now), 30.0)

    def _runtime(self, process: Process) -> Runtime:
        return Warm(process, self._policy())

    def _policy(self) -> Policy:
        schedule = self.schedule
        return _policy(schedule.mirrors_deletes, schedule.limit_bytes, schedule.storage_class)

    # The backlog.

    async def _run_at(self, at_seconds: float) -> None:
        await asyncio.sleep(at_seconds)
        await self._empty_backlog()

    async def _empty_backlog(self) -> None:
        """Publish what waits and run it, until somebody has come to the end."""
        async with self._is_running:
            for life in range(3 + len(self.schedule.faults)):
                run = self.world.spawn(f"run {life}", self._run_backlog)
                if await run.ended == 0:
                    return
                await asyncio.sleep(10.0)
        self.model.violate("a run ends", "the backlog stays, whatever one does")

    async def _run_backlog(self, process: Process) -> int:
        runtime = self._runtime(process)
        waiting = await scheduler.backlog.waiting(runtime, "pair")
        if waiting:
            await scheduler.backlog.publish(runtime, "pair", waiting, "due")
            if await scheduler.backlog.waiting(runtime, "pair"):
                raise Unavailable("publish", "pair", "Left", "some of it could not be read: enqueue looks again")
        options = BackupOptions(
            storage_class=self.schedule.storage_class or KEEP,
            mirrors_deletes=self.schedule.mirrors_deletes,
            multipart_threshold_bytes=16,
            part_size_bytes=8,
        )
        route = Route(Location(SOURCE), Location(DESTINATION, PREFIX))
        job = Backup(process.connect(), process.connect(), route, options, ByteBudget(BUFFER_BYTES))
        for number in await scheduler.backlog.numbers(runtime, "pair"):
            if number in self._finished:
                continue
            published = await scheduler.backlog.read_manifest(runtime, "pair", number)
            assert published.manifest is not None
            rows = self._failed.get(number) or await self._rows(runtime, published.manifest)
            self._failed[number] = [row for row in rows if not await self._settle(job, row)]
            if not self._failed[number]:
                self._finished.add(number)
        # Of a run with failures a person starts `runs retry`, which has these rows alone.
        return int(ExitCode.FINDINGS if any(self._failed.values()) else ExitCode.DONE)

    async def _rows(self, runtime: Runtime, manifest: str) -> list[ObjectVersion]:
        rows = rows_of_csv(await runtime.read(manifest.removeprefix(f"s3://{LEDGER}/l/")))
        return [row._replace(row=0) for row in rows]

    async def _settle(self, job: Backup, row: ObjectVersion) -> bool:
        """As a worker does: again after what may pass. False: S3 refused the row, and a fault explains it."""
        for attempt in range(1, TRIES + 1):
            try:
                [outcome] = await job.process([row])
            except (Unavailable, Conflict, PreconditionFailed):
                if attempt == TRIES:
                    raise
                await asyncio.sleep(attempt)
            else:
                self.model.branches[f"backlog {outcome.status} {outcome.evidence}"] += 1
                if outcome.status is Status.ARCHIVED:
                    self.model.left_archived.add((row.key, row.version_id))
                is_good = outcome.status in (
                    Status.COPIED,
                    Status.SAME,
                    Status.ARCHIVED,
                    Status.MISSING,
                    Status.UNVERIFIABLE,
                )
                is_refused = outcome.status in (Status.DENIED, Status.FAILED) and self.model.was_hindered(row.key)
                what = f"{row.key}: {outcome.status} {outcome.reason}"
                self.model.demand(is_good or is_refused, "the backlog is worked off", what)
                return is_good
        raise AssertionError("the last try returns or raises")
