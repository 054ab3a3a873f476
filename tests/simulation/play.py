"""A schedule played: what operators, writers and functions do until all is done, and what the oracle says of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import quote_plus

from tests.doubles.memory_buckets import Version
from tests.simulation.adapter import Program, SealiftError
from tests.simulation.engine.determinism import EPOCH
from tests.simulation.engine.loop import LABEL, Stuck
from tests.simulation.engine.queue import Queue
from tests.simulation.engine.world import BUG, Connection, World
from tests.simulation.oracle import Oracle, Run
from tests.simulation.schedule import COPIES, DESTINATION, SOURCE, Act, Kind, Schedule, Verb
from tests.simulation.surface import command_line

INVOCATION_SECONDS = 60.0
SETTLED_SECONDS = 300.0
"""After this no request is under way any more, however slow."""
MEDDLING = (Kind.TARGET_PUT, Kind.TARGET_MARK, Kind.TARGET_MARK, Kind.SOURCE_PUT, Kind.SOURCE_MARK)
ABOUT = {
    Verb.RETRY: (Verb.REPLICATE, Verb.VERIFY, Verb.RETRY),
    Verb.EXPIRE: (Verb.REPLICATE, Verb.VERIFY, Verb.COMPACT),
    Verb.UNDO: (Verb.EXPIRE,),
}
"""The runs that a verb may be about: the latest of these."""


class Play:
    """Plays one schedule. `broken` stands before the store; `program` makes Sealift. Breaks give others."""

    def __init__(
        self,
        schedule: Schedule,
        broken: Callable[[Any], Any] = lambda store: store,
        program: Callable[[World, Any], Program] = Program,
    ):
        self.schedule, self.oracle = schedule, Oracle()
        self.world = World(schedule, self.oracle, broken)
        self.program = program(self.world, Connection(self.world))
        self.oracle.world, self.oracle.program = self.world, self.program
        self.queue = Queue(self.world.loop, self.world.chance)
        self._ended: list[Run] = []
        self._manifests: set[tuple[str, ...]] = set()
        """Command lines of the backlog's runs that are over."""
        self._is_over = False

    def play(self) -> Play:
        """Run the schedule to its end."""
        self.world.fill()
        if self.schedule.has_events:
            self.world.tell = self._tell
        try:
            with self.program.installed():
                self.world.loop.run(self._operate())
        except Stuck as error:
            self.oracle.violate("no bug", str(error))
        return self

    async def _operate(self) -> None:
        pollers = [
            asyncio.ensure_future(self._poll_on()) for _ in range(self.schedule.pollers * self.schedule.has_events)
        ]
        for act in self.schedule.acts:
            await asyncio.sleep(act.pause_seconds)
            await self._do(act)
        self.world.is_quiet = True
        await asyncio.sleep(SETTLED_SECONDS)
        await self._drain()
        await self._rest()
        if self.schedule.has_events:
            self.oracle.check_events()
        if self.schedule.is_settled:
            await self._settle()
        self._is_over = True
        await asyncio.gather(*pollers)

    async def _rest(self) -> None:
        """Until no command is at work any more."""
        while any(each.code is None and not each.is_dead and each.verb != "events" for each in self.world.processes):
            await asyncio.sleep(1.0)

    async def _do(self, act: Act) -> None:
        verb = act.verb
        if verb is Verb.EDIT:
            for put in act.puts:
                self.world.put(SOURCE, put)
                await asyncio.sleep(0.2 if act.pick % 2 else 10.0)
        elif verb is Verb.MEDDLE:
            self.world.meddle(MEDDLING[act.pick % len(MEDDLING)], act.pick // 8)
        elif verb is Verb.ROT:
            self.world.rot(DESTINATION, act.pick, COPIES)
        elif verb is Verb.BACKLOG:
            await self._empty_backlog()
        else:
            about = next((each for each in reversed(self._ended) if each.verb in ABOUT.get(verb, ())), None)
            if verb in ABOUT and (about is None or (verb is Verb.RETRY and about.is_well)):
                return
            await self._finish(verb, about.run_id if about else "")

    async def _finish(self, verb: Verb, about: str = "", *options: str) -> Run | None:
        """Give the command, and give it again or retry until it has a report. None: there is nothing to do."""
        began = self.world.loop.now
        words = [*command_line(self.schedule, verb, about), *options]
        run_id = ""
        for _ in range(4 + 2 * len(self.schedule.faults)):
            troubles = self.world.network.troubles
            command = self.world.spawn(f"command {words[0]}", verb, partial(self.program.command, *words))
            code = await command.ended
            run_id = command.run_id or run_id
            if verb is Verb.UNDO and code in (0, 3):
                if code == 0:
                    self.oracle.check_undone(about, began)
                return None
            if (run := self.oracle.runs.get(run_id)) is not None:
                if command.code is not None and code in (0, 3) and command.run_id == run_id:
                    self.oracle.check_exit(run, code)
                self._ended.append(run)
                return run
            if code in (2, 10) and troubles == self.world.network.troubles:
                if self._must_work(verb, run_id):
                    break
                return None
            if code == BUG:
                return None
            if run_id and verb is not Verb.EXPIRE:
                words = command_line(self.schedule, Verb.RETRY, run_id)
            await asyncio.sleep(10.0)
        self.oracle.violate("resumable", f"{verb} has no end, whatever one does: {words}: {self.world.trace[-6:]}")
        return None

    def _must_work(self, verb: Verb, run_id: str) -> bool:
        """Whether there is something to do, which a command cannot refuse."""
        has_objects = any(self.world.top(SOURCE, key) is not None for key in self.world.keys(SOURCE))
        return bool(run_id) or (verb in (Verb.REPLICATE, Verb.VERIFY) and has_objects)

    async def _settle(self) -> None:
        """The copies are made, made again, and verified by their bytes."""
        first = await self._finish(Verb.REPLICATE)
        writes = self.oracle.writes
        again = await self._finish(Verb.REPLICATE)
        writes = self.oracle.writes - writes
        proof = await self._finish(Verb.VERIFY, "", *["--deep"] * (not self.schedule.deep))
        if first and again and proof:
            self.oracle.check_settled(first, again, proof, writes)

    # Events.

    def _tell(self, key: str, version: Version, is_removed: bool) -> None:
        """S3 sends an event, some minutes late, some twice."""
        kind = "ObjectRemoved:Delete" if is_removed else "ObjectCreated:Put"
        kind = "ObjectRemoved:DeleteMarkerCreated" if version.is_delete_marker and not is_removed else kind
        time = datetime.fromtimestamp(EPOCH + self.world.loop.now, UTC).isoformat(timespec="milliseconds")
        thing: dict[str, Any] = {"key": quote_plus(key, safe="/"), "sequencer": f"{version.order:016x}"}
        if self.schedule.is_source_versioned:
            thing["versionId"] = version.version_id
        if not version.is_delete_marker and not is_removed:
            thing |= {"eTag": version.etag, "size": len(version.data)}
        record = {
            "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "us-east-1", "eventName": kind,
            "eventTime": time.replace("+00:00", "Z"),
            "s3": {"s3SchemaVersion": "1.0", "configurationId": "sealift", "bucket": {"name": SOURCE}, "object": thing},
        }  # fmt: skip
        chance = self.world.chance
        for _ in range(1 + (chance() < self.schedule.doubles)):
            self.queue.send(record, 240.0 * chance() if chance() < self.schedule.lateness else 0.5 * chance())

    async def _poll_on(self) -> None:
        """A killed runtime is replaced by a cold one."""
        while not self._is_over:
            await self.world.spawn("function", "events", self._poll).ended
            await asyncio.sleep(1.0)

    async def _poll(self) -> int:
        runtime, loop, process = self.program.runtime(), self.world.loop, LABEL.get()
        while not self._is_over:
            batch = self.queue.receive(3)
            if not batch:
                await asyncio.sleep(min(max(1.0, self.queue.next_at - loop.now), 30.0))
                continue
            death = loop.call_later(INVOCATION_SECONDS, self.world.kill, process, context=self.world.outside)
            bodies = {str(each.number): each.body for each in batch}
            self.world.note("invoked with", *bodies)
            try:
                failed = await self.program.handle(runtime, bodies, INVOCATION_SECONDS)
            except SealiftError as error:
                self.world.note("error", str(error))
                failed = set(bodies)
            death.cancel()
            for message in batch:
                message.is_done |= str(message.number) not in failed and self.world.chance() > 0.03
        return 0

    async def _drain(self) -> None:
        """Until every event is handled, and nothing waits in the backlog."""
        for _ in range(12 * self.schedule.has_events):
            while any(not each.is_done and not each.is_dead for each in self.queue.messages):
                await asyncio.sleep(10.0)
            is_redriven = self.queue.redrive(self.oracle.has_rotten_source)
            if not await self._empty_backlog() and not is_redriven:
                return
        if self.schedule.has_events:
            self.oracle.violate("resumable", "events are never done")

    async def _empty_backlog(self) -> bool:
        """Publish what waits and run it; whether there was something."""
        lines: list[list[str]] = []

        async def publish() -> int:
            lines.extend(await self.program.publish())
            return 0

        for _ in range(4 + 2 * len(self.schedule.faults)):
            lines.clear()
            if await self.world.spawn("enqueue", Verb.BACKLOG, publish).ended == 0:
                break
            await asyncio.sleep(10.0)
        new = [words for words in lines if tuple(words) not in self._manifests]
        for words in new:
            await self._run_backlog(words)
            self._manifests.add(tuple(words))
        return bool(new)

    async def _run_backlog(self, words: list[str]) -> None:
        """A backlog's run, and retries of what failed by a fault."""
        run_id = ""
        for _ in range(6 + 2 * len(self.schedule.faults)):
            command = self.world.spawn("backlog", Verb.BACKLOG, partial(self.program.command, *words))
            await command.ended
            run_id = command.run_id or run_id
            run = self.oracle.runs.get(run_id)
            failed = (
                [row for row in run.rows if row.status == "blocked" and row.reason in ("denied", "refused", "given_up")]
                if run
                else []
            )
            if run is not None and all(self.oracle.has_rotten_source(row.key) for row in failed):
                return  # what S3 itself refuses to copy, since it no longer has the bytes of its checksum, stays
            if run_id:
                words = command_line(self.schedule, Verb.RETRY, run_id)
            await asyncio.sleep(10.0)
        self.oracle.violate("resumable", f"the backlog stays, whatever one does: {words}")


def play(schedule: Schedule) -> Play:
    """One schedule, played."""
    return Play(schedule).play()
