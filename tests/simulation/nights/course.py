"""The course of a schedule of nights: the functions enqueue, submit and follow, and all that calls them.

Real: the three handlers, starting, backlog, the edge to Batch, and those to Lambda and SNS, down to boto3's clients.
Stand-ins: Batch and what its jobs do, EventBridge and its Scheduler, Lambda's asynchronous invocations, SNS, people,
lifecycle rules, and the backup function, of which only `backlog.add` is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import jobs.s3.retries
import scheduler.backlog
import scheduler.batch_starts
import scheduler.enqueue
import scheduler.follow
import scheduler.log
import scheduler.submit
from jobs.core.model import Attributes
from jobs.errors import ExitCode
from jobs.restore.thawing import waiting_name
from jobs.s3.store import UNGUARDED
from scheduler.backlog import BacklogRow
from tests.simulation.copies.schedule import LEDGER, Kind
from tests.simulation.engine.loop import run_at_once
from tests.simulation.engine.processes import EPOCH, Process
from tests.simulation.engine.world import World
from tests.simulation.events.course import Warm
from tests.simulation.nights.batch_double import QUEUE, Batch
from tests.simulation.nights.inputs import NONSENSE, read_policy, s3_event
from tests.simulation.nights.lambda_double import TIMEOUT_SECONDS, Functions, Topic
from tests.simulation.nights.model import NightModel
from tests.simulation.nights.schedule import DAY_SECONDS, NIGHT_SECONDS, PAIRS, Act, NightSchedule, What
from tests.simulation.nights.services import Region, StrictNetwork, Threads
from tests.simulation.nights.work import Work

ARN = "arn:aws:lambda:us-east-1:123456789012:function:sealift-follow"
SETTLED_SECONDS = 150.0
"""After this no request is on its way any more, however slow."""
TRIES = 25


class NightCourse:
    """Plays one schedule; what was wrong is in `model.violations`."""

    def __init__(self, schedule: NightSchedule):
        self.schedule = schedule
        self.model = NightModel(schedule)
        self.world = World(schedule, self.model)
        self.world.network = StrictNetwork(self.world)
        self.batch = Batch(self.world, schedule.listing_seconds)
        self.functions = Functions(self.world, self._handle, lateness=schedule.lateness, doubles=schedule.doubles)
        self.topic = Topic(self.world)
        self.work = Work(self.world, self.batch, schedule.failures)
        self.batch.begin, self.batch.work = self.work.begin, self.work.perform
        self.batch.tell = lambda event: self.functions.send("follow", event)
        services = {"batch": self.batch, "lambda": self.functions, "sns": self.topic}
        self.world.memory = Region(self.world.memory, services)  # type: ignore[assignment]  # it answers for S3 and the services
        self.threads = Threads(self.world)
        self.model.watch(self.world, self.batch, self.topic, self.work, self.functions)
        self._asked: list[Awaitable[Any]] = []
        self._tokens = 0

    def play(self) -> NightModel:
        """Run the schedule to its end."""
        self.world.fill()
        self.world.run_to_end(self._operate(), [*self._chances(), *self.threads.replacements()], self.model)
        return self.model

    def _chances(self) -> list[tuple[Any, str, Any]]:
        """What the functions take from the world around them, taken from the seed instead."""
        secrets = SimpleNamespace(token_hex=self._token)
        return [
            (jobs.s3.retries, "random", SimpleNamespace(random=self.world.chance)),
            (scheduler.batch_starts, "secrets", secrets),
            (scheduler.backlog, "secrets", secrets),
            (scheduler.follow, "secrets", secrets),
            (scheduler.log, "_write", lambda document: None),
        ]

    def _token(self, size: int) -> str:
        self._tokens += 1
        return f"{self._tokens:0{2 * size}x}"

    async def _handle(self, process: Process, function: str, payload: Mapping[str, Any], request_id: str) -> int:
        """What the functions' entry points do."""
        runtime = Warm(process, read_policy())
        if function == "enqueue":
            enqueued = await scheduler.enqueue.handle(runtime, payload, TIMEOUT_SECONDS[function])
            await scheduler.enqueue._call_submit(enqueued.manifests, "sealift-submit", request_id)
            enqueued.check()
        elif function == "submit":
            answer = await scheduler.submit.handle(runtime, payload, request_id)
            self.model.answered_start(process, answer["started"])
        else:
            done = await scheduler.follow.handle(runtime, payload, ARN)
            self.model.branches[f"follow {done['action']}"] += 1
        return 0

    async def _operate(self) -> None:
        name = "SEALIFT-EAST-NIGHTLY-2023-11-15"  # somebody else's, to Batch's filter the same
        self.batch.submit(
            {"jobName": name, "jobQueue": QUEUE, "containerOverrides": {"command": ["worker", "theirs", "--report"]}}
        )
        for number, act in enumerate(self.schedule.acts):
            await asyncio.sleep(max(0.0, act.at_seconds - self.world.loop.time()))
            self.world.note("act", act.what.name, act.pair, act.pick)
            self._perform(number, act)
        for life in range(12):
            await self._settle()
            has_dead = self.functions.redrive()
            if life < 3 and any(act.what is What.RETRY for act in self.schedule.acts):
                self._retry_runs()
            await self._settle()
            known = self._state()
            for pair in PAIRS:
                await self._ask("enqueue", {"action": "backlog", "pair": pair, "now": True})
            await self._settle()
            if not has_dead and not self.functions.dead and known == self._state():
                return
        self.model.violate("it comes to an end", "there is always more to do")

    def _state(self) -> tuple[int, ...]:
        return len(self.batch.jobs), len(self.topic.mails), len(self.world.keys(LEDGER))

    async def _settle(self) -> None:
        """Wait until nobody does anything."""
        while self._asked or self.functions.under_way or self.batch.at_work:
            asked, self._asked = self._asked, []
            await asyncio.gather(*asked)
            await asyncio.sleep(20.0)
        await asyncio.sleep(SETTLED_SECONDS)

    def _retry_runs(self) -> None:
        """A person retries runs that ended without a report, as the mail says."""
        for run_id in [each for each in self.work.runs if self.work.read(f"runs/{each}/report.json") is None][:1]:
            if self.model.ends_of(run_id):
                self.work.go_on(run_id)

    # What others do.

    def _perform(self, number: int, act: Act) -> None:
        pair, pick = act.pair, act.pick
        if act.what is What.NIGHT:
            self._night(pair, pick)
        elif act.what is What.TICK:
            self.functions.send("enqueue", {"action": "backlog", "scheduled_at": "2023-11-15T00:00:00Z"})
        elif act.what is What.ADD:
            keys = [f"a/{number if pick % 4 else 'same'}-{index}" for index in range(1 + pick % 3)]
            rows = [BacklogRow(f"{pair}-source", key, "v1" if pick % 2 else None, 10, None, "large") for key in keys]
            self._asked.append(asyncio.ensure_future(self._hand_over(pair, rows)))
        elif act.what is What.NOW:
            self._ask_soon("enqueue", {"action": "backlog", "pair": pair, "now": True})
        elif act.what is What.LIST:
            listed = {
                "keys": [f"a/listed {number}"],
                "prefixes": [f"a/{number}/", f"a/{number}+/"][: 1 + (pick % 4 == 0)],
            }
            wanted = (
                listed if pick % 3 == 1 else {"keys": listed["keys"]} if pick % 2 else {"prefixes": listed["prefixes"]}
            )
            self._ask_soon("enqueue", {"pair": pair, **wanted})
        elif act.what is What.BACKFILL:
            self._backfill(pair, pick)
        elif act.what is What.INVENTORY:
            for side in (pick, pick ^ 1) if pick % 8 < 5 else (pick,):  # often the other side's comes as well
                self._asked.append(asyncio.ensure_future(self._deliver_report(pair, side)))
        elif act.what is What.RESTORED:
            bucket = f"{pair}-source" if pick % 4 else "somebody-elses"
            self.model.restored(bucket, f"a/cold {number}")
            self.functions.send("follow", s3_event("Object Restore Completed", bucket, f"a/cold {number}"))
        elif act.what is What.THAWED:
            self._thaw(pick)
        elif act.what is What.BAD:
            self._asked.append(asyncio.ensure_future(self._send_nonsense(*NONSENSE[pick % len(NONSENSE)])))
        elif act.what is What.EXPIRE:
            self._expire(pair)

    def _night(self, pair: str, pick: int) -> None:
        """The scheduled time is the night's, or (a person's choice) some hours later."""
        day = int(self.world.loop.time() // DAY_SECONDS) if self.world.loop.time() > DAY_SECONDS else 0
        if self.world.loop.time() < NIGHT_SECONDS:
            return
        began = NIGHT_SECONDS + day * DAY_SECONDS
        if pick % 5 == 0 and all(fault.kind is not Kind.JUMP for fault in self.schedule.faults):
            self.model.night(pair, self.world.loop.time())
            self._ask_soon("submit", {"action": "nightly", "pair": pair})
            return
        at_seconds = began if pick % 3 else began + pick % 23 * 3600
        self.model.night(pair, at_seconds)
        stamp = datetime.fromtimestamp(EPOCH + at_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.functions.send("submit", {"action": "nightly", "pair": pair, "scheduled_at": stamp})

    def _backfill(self, pair: str, pick: int) -> None:
        payload = {"action": "backfill", "pair": pair, "prefix": "a/b/"}
        if pick % 3 == 0:  # once for each invocation, which Lambda may make more often
            self.functions.send("submit", payload)
            return
        payload["id"] = f"mine-{pick % 2}" if pick % 3 == 1 else f"{1 + pick % 2:06d}"  # as manifests are called
        self.model.backfill(pair, payload["id"])
        self._ask_soon("submit", payload)

    def _thaw(self, pick: int) -> None:
        key = f"packed/{pick % 2}.tar.zst"
        for number in range(1 + pick % 2):
            run_id = f"20231101T000000Z-restore-{pick % 3 + number:06x}"
            self._put(f"l/{waiting_name('cold', key)}{run_id}.json")
            self.model.thawed(run_id)
        self.functions.send("follow", s3_event("Object Restore Completed", "cold", key))

    def _expire(self, pair: str) -> None:
        """What is a day old and was taken goes."""
        for name in self.model.taken(pair) if self.world.loop.time() > DAY_SECONDS else ():
            if int(name.partition("-")[0]) < 1000 * (EPOCH + DAY_SECONDS / 2):
                run_at_once(self.world.memory.delete(LEDGER, f"l/backlog/pair={pair}/{name}"))

    async def _deliver_report(self, pair: str, pick: int) -> None:
        """S3 Inventory writes a report, its checksum last."""
        bucket = f"{pair}-{'source' if pick % 2 else 'hot'}"
        stamp = f"2023-11-{14 + pick // 2 % 2}T0{pick // 4 % 2}-00Z"
        folder = f"inventory/{bucket}/daily/{stamp}/"
        self._put(f"{folder}manifest.json")
        await asyncio.sleep(pick % 7 * 20.0)
        self._put(f"{folder}manifest.checksum")
        self.functions.send("submit", s3_event("Object Created", LEDGER, f"{folder}manifest.checksum"))

    def _put(self, key: str) -> None:
        run_at_once(self.world.memory.put(LEDGER, key, b"x", Attributes(), guard=UNGUARDED))

    async def _hand_over(self, pair: str, rows: list[BacklogRow]) -> None:
        """The backup function puts rows into the backlog; when it fails, its message comes again."""

        async def work(process: Process) -> int:
            await scheduler.backlog.add(Warm(process, read_policy()), pair, rows)
            self.model.handed_over(pair, rows)
            return 0

        for life in range(TRIES):
            if await self.world.spawn(f"backup {rows[0].key} {life}", work).ended == 0:
                return
            await asyncio.sleep(120.0)

    def _ask_soon(self, function: str, payload: Mapping[str, Any]) -> None:
        self._asked.append(asyncio.ensure_future(self._ask(function, payload)))

    async def _ask(self, function: str, payload: Mapping[str, Any]) -> None:
        """A person calls a function, and again until it has worked."""
        for _ in range(TRIES):
            if await self.functions.person(function, payload).ended == 0:
                self.model.asked_for(payload)
                return
            await asyncio.sleep(30.0)
        self.model.violate("what is asked for is done", f"{function} {payload}")

    async def _send_nonsense(self, function: str, payload: Mapping[str, Any]) -> None:
        for _ in range(TRIES):
            process = self.functions.person(function, payload)
            self.model.nonsense.add(process)
            code = await process.ended
            if code in (ExitCode.DONE, ExitCode.USAGE, ExitCode.BUG):
                self.model.demand(code == ExitCode.USAGE, "nonsense is refused", f"{function} {payload}: {code}")
                return
            await asyncio.sleep(30.0)
