"""The world of a schedule: S3 in memory behind a network that fails, processes that die, others who write as well."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Sequence
from contextvars import copy_context
from typing import Any, Protocol

from jobs.errors import ExitCode, Interrupted, SealiftError
from tests.doubles.memory_buckets import Version
from tests.doubles.memory_store import MemoryStore
from tests.simulation.copies.others import Others
from tests.simulation.copies.schedule import DESTINATION, LEDGER, SOURCE, Conditions
from tests.simulation.copies.tables import PART_BYTES, Unequal, replaced
from tests.simulation.engine.loop import LABEL, Loop, Stuck
from tests.simulation.engine.network import Network
from tests.simulation.engine.processes import EPOCH, KILLED, Gone, Observer, Process, Request


class Judgement(Protocol):
    """The side of a model that says what was wrong."""

    def violate(self, promise: str, what: str) -> None: ...

    def check_end(self) -> None: ...


class World:
    """Everything outside Sealift's own code. `trace`: what happened, for people."""

    def __init__(self, schedule: Conditions, observer: Observer):
        self.schedule, self.observer = schedule, observer
        self._random = random.Random(schedule.seed ^ 0x5EA11F7)
        self.chance = self._random.random
        self.loop = Loop(None if schedule.is_in_order else schedule.seed)
        self.trace: list[tuple[Any, ...]] = []
        self.processes: list[Process] = []
        self.outside = copy_context()
        """The context of what is no process's."""
        self.network, self.others = Network(self), Others(self)
        self._setup_clock: float | None = EPOCH - 10_000
        self._ids = 0
        self.memory = MemoryStore(
            clock=self._server_clock,
            new_id=self._new_id,
            default_checksum=schedule.default_checksum,
            minimum_part_bytes=PART_BYTES,
        )
        self.memory.create_bucket(SOURCE, schedule.is_source_versioned)
        self.memory.create_bucket(DESTINATION, schedule.is_destination_versioned)
        self.memory.create_bucket(LEDGER)

    def _server_clock(self) -> float:
        return EPOCH + self.loop.now if self._setup_clock is None else self._setup_clock

    def _new_id(self) -> str:
        self._ids += 1
        return f"id{self._ids:04d}"

    def fill(self) -> None:
        """Put what is there at the beginning."""
        sides = [(SOURCE, self.schedule.source), (DESTINATION, self.schedule.destination)]
        for bucket, puts in sides if self.schedule.is_destination_newer else reversed(sides):
            for put in puts:
                assert self._setup_clock is not None
                self._setup_clock += 7.0
                self.others.put(bucket, put)
        self._setup_clock = None

    def versions(self, bucket: str, key: str) -> list[Version]:
        """The versions of a key, oldest first."""
        return self.memory._buckets.named[bucket].versions.get(key, [])

    def made(self, request: Request, result: Any) -> Version | None:
        """The version that a write has made: the one on top, unless it was an upload that began before another write.

        None: nothing is there, or not what the request has written.
        """
        versions = self.versions(request.bucket, request.key)
        if request.name != "complete_multipart" or not versions:
            return versions[-1] if versions else None
        made = [each for each in versions if each.etag == result.etag and result.version_id in (None, each.version_id)]
        return made[-1] if made else None

    def keys(self, bucket: str) -> list[str]:
        """All keys that have versions, in order."""
        return sorted(self.memory._buckets.named[bucket].versions)

    def note(self, *what: Any) -> None:
        """A line of the trace."""
        self.trace.append((self.loop.now, *what))

    def run_to_end(
        self, main: Coroutine[Any, Any, None], replacements: Sequence[tuple[Any, str, Any]], model: Judgement
    ) -> None:
        """Run a course's program with some attributes replaced; what keeps it from an end is a violation."""
        try:
            with replaced(replacements):
                self.loop.run(main)
        except Stuck as error:
            model.violate("it comes to an end", str(error))
        except Unequal as error:
            model.violate("the pure equivalents are equal", str(error))
        model.check_end()

    # Processes.

    def spawn(self, name: str, work: Callable[[Process], Coroutine[Any, Any, int]], **known: Any) -> Process:
        """Start a process; `work` gives its exit code."""
        process = Process(self, name, **known)
        self.processes.append(process)
        self.note("start", name)
        context = copy_context()
        context.run(LABEL.set, process)
        self.loop.create_task(self._live(process, work), context=context)
        return process

    async def _live(self, process: Process, work: Callable[[Process], Coroutine[Any, Any, int]]) -> None:
        try:
            code = await work(process)
        except Interrupted as error:
            code = int(error.exit_code)
        except SealiftError as error:
            self.note("error", process.name, str(error))
            code = int(error.exit_code)
        except Gone:
            raise
        except Exception as error:  # a bug of the product: the model says so
            if self.loop.is_over:
                raise
            self.observer.broke(process, error)
            code = int(ExitCode.BUG)
        process.code = code
        self.note("exit", process.name, code)
        if not process.ended.done():
            process.ended.set_result(code)

    def kill(self, process: Process) -> None:
        """The process takes no other step."""
        if process.is_dead or process.code is not None:
            return
        process.is_dead = True
        self.note("killed", process.name)
        self.loop.call_later(0.01, self._report_death, process, context=self.outside)

    def _report_death(self, process: Process) -> None:
        if not process.ended.done():
            process.ended.set_result(KILLED)

    def trace_text(self) -> str:
        """The trace, a line for each thing that happened."""
        return "\n".join(f"{line[0]:10.4f} " + " ".join(map(str, line[1:])) for line in self.trace) + "\n"
