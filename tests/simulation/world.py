"""The world of a schedule: S3 in memory behind a network that fails, processes that die, others who write as well."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, cast

from jobs.core.model import Attributes, ObjectRef
from jobs.errors import ExitCode, Interrupted, SealiftError, StoreError, store_error
from jobs.s3.memory import MemoryStore
from jobs.s3.memory_buckets import Version
from jobs.s3.store import UNGUARDED, Store
from tests.simulation.loop import LABEL, Loop, Mortal
from tests.simulation.schedule import Fault, Kind, Put, Schedule, content
from tests.simulation.tables import PART_BYTES

EPOCH = 1_700_000_000.0
SOURCE, DESTINATION, LEDGER = "source", "destination", "ledger"
PREFIX = "copy/"
"""Where the destination's keys lie."""
KILLED = -9
JUMPS_SECONDS = (-3600.0, -20.0, 30.0, 70.0, 3600.0, 90 * 86400.0)
_PLACE = {"copy": 2, "copy_part": 4}
_WRITES = {"put", "copy", "complete_multipart", "delete"}
_BEFORE = {Kind.REFUSED: ("InternalError", 500), Kind.BROKEN: ("ConnectionLost", 0), Kind.DENIED: ("AccessDenied", 403)}
_AFTER = {Kind.LOST: ("TimedOut", 0), Kind.HALF: ("InternalError", 500)}


class Gone(BaseException):
    """A request of a process that is being buried."""


@dataclass(eq=False)
class Process(Mortal):
    """One process: the command, or a worker at a shard. `skew_seconds`: how wrong its clock is."""

    world: World
    name: str
    run_id: str = ""
    shard: int = -1
    skew_seconds: float = 0.0
    stop: Callable[[], None] | None = None
    is_dead: bool = False
    code: int | None = None
    asked: list[Request] = field(default_factory=list)
    had_ledger_errors: bool = False
    ended: asyncio.Future[int] = field(init=False)

    def __post_init__(self) -> None:
        self.ended = self.world.loop.create_future()

    @property
    def bytes_asked(self) -> int:
        """How many bytes of objects it waits for; what it cancelled does not count."""
        self.asked = [request for request in self.asked if not request.answer.done()]
        return sum(request.size_bytes for request in self.asked)

    def clock(self) -> float:
        """Its wall clock, epoch seconds."""
        return EPOCH + self.world.loop.time() + self.skew_seconds

    def connect(self) -> Store:
        """A Store whose requests are this process's."""
        return cast(Store, Connection(self))


class Connection:
    """The Store protocol, each request sent through the world's network."""

    def __init__(self, process: Process):
        self._process = process

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def ask(*arguments: Any, **named: Any) -> Any:
            return await self._process.world.ask(self._process, name, arguments, named)

        return ask


@dataclass(slots=True)
class Request:
    """One request on its way. `error`: what is answered whatever comes of it."""

    number: int
    process: Process
    name: str
    bucket: str
    key: str
    arguments: tuple[Any, ...]
    named: Mapping[str, Any]
    answer: asyncio.Future[Any]
    delay_seconds: float
    size_bytes: int = 0
    error: StoreError | None = None
    kills: Kind | None = None
    is_repeated: bool = False
    is_unsent: bool = False


class Observer:
    """Is told of everything that happens to the world; the reference model is one."""

    def original(self, key: str, version: Version) -> None: ...
    def placed(self, key: str, version: Version | None, run_id: str) -> None: ...
    def touched(self, bucket: str, key: str) -> None: ...
    def effect(self, request: Request, before: Version | None, result: Any) -> None: ...
    def asked(self, request: Request) -> None: ...
    def answered(self, request: Request, result: Any) -> None: ...
    def broke(self, process: Process, error: BaseException) -> None: ...
    def twin(self, process: Process) -> None: ...


class World:
    """Everything outside Sealift's own code. `trace`: what happened, for people."""

    def __init__(self, schedule: Schedule, observer: Observer):
        self.schedule, self.observer = schedule, observer
        self._random = random.Random(schedule.seed ^ 0x5EA11F7)
        self.chance = self._random.random
        self.loop = Loop(None if schedule.is_in_order else self.chance)
        self.trace: list[tuple[Any, ...]] = []
        self.requests = 0
        self.fired: Counter[Kind] = Counter()
        self.answers: Counter[str] = Counter()
        self.processes: list[Process] = []
        self._faults: dict[int, list[Fault]] = {}
        for fault in schedule.faults:
            self._faults.setdefault(fault.at, []).append(fault)
        self._storm_ends = 0.0
        self._setup_clock: float | None = EPOCH - 10_000
        self._ids = 0
        self._contents = 20_000
        self._network = copy_context()
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
        return EPOCH + self.loop.time() if self._setup_clock is None else self._setup_clock

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
                self.put(bucket, put)
        self._setup_clock = None

    def put(self, bucket: str, put: Put) -> None:
        """Somebody else writes an object (or deletes it), without the network."""
        key, memory, attributes = put.key if bucket == SOURCE else PREFIX + put.key, self.memory, attributes_of(put)
        data = content(put.content, put.size_bytes)
        if put.is_marker:
            _now(memory.delete(bucket, key))
        elif put.parts > 1:
            upload = _now(memory.create_multipart(
                bucket, key, attributes, checksum_algorithm=put.algorithm, is_composite=put.algorithm == "SHA256"
            ))  # fmt: skip
            size = max(len(data) // put.parts, PART_BYTES)
            cuts = [*range(0, len(data) - size + 1, size)][: put.parts]
            pieces = [data[start:end] for start, end in pairwise([*cuts, len(data)])]
            parts = [_now(memory.put_part(bucket, key, upload, n, piece)) for n, piece in enumerate(pieces, 1)]
            _now(memory.complete_multipart(bucket, key, upload, parts, guard=UNGUARDED))
        else:
            _now(memory.put(bucket, key, data, attributes, guard=UNGUARDED))
        self._tell(bucket, put.key)

    def _tell(self, bucket: str, key: str) -> None:
        """Tell the observer of the version that somebody else has put on top (or of the one that is gone)."""
        versions = self.versions(bucket, key if bucket == SOURCE else PREFIX + key)
        if bucket == SOURCE and versions:
            self.observer.original(key, versions[-1])
        elif bucket == DESTINATION:
            self.observer.placed(key, versions[-1] if versions else None, "")

    def versions(self, bucket: str, key: str) -> list[Version]:
        """The versions of a key, oldest first."""
        return self.memory._buckets.named[bucket].versions.get(key, [])

    def keys(self, bucket: str) -> list[str]:
        """All keys that have versions, in order."""
        return sorted(self.memory._buckets.named[bucket].versions)

    def note(self, *what: Any) -> None:
        """A line of the trace."""
        self.trace.append((self.loop.time(), *what))

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
        self.loop.call_later(0.01, self._report_death, process, context=self._network)

    def _report_death(self, process: Process) -> None:
        if not process.ended.done():
            process.ended.set_result(KILLED)

    # The network.

    def ask(self, process: Process, name: str, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        """Send a request; the future of its answer."""
        if process.is_dead or self.loop.is_over:
            raise Gone
        place = _PLACE.get(name, 0)
        first = arguments[place]
        bucket, key = (first.bucket, first.key) if isinstance(first, ObjectRef) else (first, arguments[place + 1])
        self.requests += 1
        number, roll = self.requests, self.chance()
        request = Request(
            number, process, name, bucket, key, arguments, named, self.loop.create_future(), 0.03 * (roll * 977 % 1)
        )
        self.note(number, process.name, name, bucket, key)
        sent = 0.03 * roll
        if name == "get" and bucket != LEDGER:
            request.size_bytes = self._size_bytes(arguments[0], named)
            process.asked.append(request)
        self.observer.asked(request)
        for fault in self._faults.pop(number, ()):
            sent += self._strike(fault, request)
        if request.is_unsent:
            return request.answer
        if self.loop.time() < self._storm_ends and request.error is None:
            request.error = store_error(name, key, "SlowDown", "reduce your request rate", 503)
            self.loop.call_later(sent, self._answer, request, None, context=self._network)
        elif request.error is not None and request.error.code not in ("TimedOut", "Half"):
            self.loop.call_later(sent, self._answer, request, None, context=self._network)
        else:
            self.loop.call_later(sent, self._apply, request, context=self._network)
        return request.answer

    def _strike(self, fault: Fault, request: Request) -> float:
        """Let the fault happen to the request, or at its moment; how much later it arrives, in seconds."""
        kind, pick, process = fault.kind, fault.pick, request.process
        self.fired[kind] += 1
        self.note("fault", kind.name, pick)
        name, key = request.name, request.key
        if kind in _BEFORE:
            code, status = _BEFORE[kind]
            request.error = store_error(name, key, code, "", status)
        elif kind in _AFTER:
            code, status = _AFTER[kind]
            request.error = store_error(name, key, "TimedOut" if status == 0 else "Half", code, status)
        elif kind is Kind.LATE:
            early = replace(request, error=store_error(name, key, "TimedOut", "", 0))
            self.loop.call_later(0.02, self._answer, early, None, context=self._network)
            return 0.05 + pick % 4000 / 100
        elif kind is Kind.SLOW:
            return 1 + pick % 9000 / 100
        elif kind is Kind.SLOW_ANSWER:
            request.delay_seconds += 1 + pick % 9000 / 100
        elif kind is Kind.BURST:
            self._storm_ends = max(self._storm_ends, self.loop.time() + pick % 800 / 100)
        elif kind is Kind.REPEAT:
            request.is_repeated = True
        elif kind is Kind.KILL:
            self.kill(process)
            request.is_unsent = True
        elif kind in (Kind.KILL_AFTER, Kind.KILL_ALL):
            request.kills = kind
        elif kind is Kind.STOP:
            for each in self.processes if pick % 2 else [process]:
                if each.stop is not None and not each.is_dead and each.code is None:
                    self.note("sigterm", each.name)
                    each.stop()
        elif kind is Kind.TWIN:
            self.observer.twin(process)
        elif kind is Kind.JUMP:
            process.skew_seconds += JUMPS_SECONDS[pick % len(JUMPS_SECONDS)]
        elif kind is Kind.FLIP:
            self._flip(pick)
        else:
            self._meddle(kind, pick, request)
        return 0.0

    def _apply(self, request: Request) -> None:
        """The request takes effect."""
        if self.loop.is_over:
            return
        writes = request.name in _WRITES
        before = None
        if writes:
            there = self.versions(request.bucket, request.key)
            before = there[-1] if there else None
        result: Any
        try:
            result = _now(getattr(self.memory, request.name)(*request.arguments, **request.named))
        except StoreError as error:
            result = error
        self.observer.effect(request, before, result)
        if request.is_repeated:
            request.is_repeated = False
            self.loop.call_later(0.03, self._apply, request, context=self._network)
            return
        if request.kills is Kind.KILL_ALL:
            for process in list(self.processes):
                self.kill(process)
        elif request.kills is Kind.KILL_AFTER:
            self.kill(request.process)
        self.loop.call_later(request.delay_seconds, self._answer, request, result, context=self._network)

    def _answer(self, request: Request, result: Any) -> None:
        if request.error is not None:
            result = request.error
        process = request.process
        code = result.code if isinstance(result, StoreError) else "ok"
        self.answers[f"{request.name} {code}"] += 1
        if process.is_dead or self.loop.is_over or request.answer.done():
            return
        self.note("answer", request.number, process.name, code)
        self.observer.answered(request, result)
        if isinstance(result, StoreError):
            process.had_ledger_errors |= request.bucket == LEDGER and request.name == "put"
            request.answer.set_exception(result)
        else:
            request.answer.set_result(result)

    def _size_bytes(self, ref: ObjectRef, named: Mapping[str, Any]) -> int:
        if named.get("end") is not None:
            return int(named["end"] - named["start"])
        found = [v for v in self.versions(ref.bucket, ref.key) if ref.version_id in (None, v.version_id)]
        return len(found[-1].data) if found else 0

    # Others.

    def _flip(self, pick: int) -> None:
        """A bit at rest at the destination changes; nothing that S3 says of the object does."""
        found = [
            (key, version)
            for key in self.keys(DESTINATION)
            for version in self.versions(DESTINATION, key)
            if version.data
        ]
        if found:
            key, version = found[pick % len(found)]
            at = pick // 64 % len(version.data)
            version.data = version.data[:at] + bytes([version.data[at] ^ 1 << pick % 8]) + version.data[at + 1 :]
            self.note("flipped", key, version.version_id, at)

    def _meddle(self, kind: Kind, pick: int, request: Request) -> None:
        """Others write or delete, half of the time the object that the request is about."""
        side = SOURCE if kind in (Kind.SOURCE_PUT, Kind.SOURCE_MARK, Kind.SOURCE_REMOVE) else DESTINATION
        keys = sorted({put.key for put in self.schedule.source})
        key = request.key.removeprefix(PREFIX)
        if pick % 2 or key not in keys:
            key = keys[pick // 2 % len(keys)]
        place = key if side == SOURCE else PREFIX + key
        self.note("others", kind.name, key)
        self.observer.touched(side, key)
        if kind in (Kind.SOURCE_PUT, Kind.TARGET_PUT):
            self._contents += 1
            self.put(side, Put(key, (3, 9, 17, 24)[pick // 4 % 4], self._contents))
        elif kind is Kind.SOURCE_REMOVE:
            versions = self.versions(side, place)
            if versions:
                doomed = versions[pick // 8 % len(versions)]
                _now(self.memory.delete(side, place, version_id=doomed.version_id))
        else:
            there = self.versions(side, place)
            if there and not there[-1].is_delete_marker:
                _now(self.memory.delete(side, place))
                self._tell(side, key)

    def trace_text(self) -> str:
        """The trace, a line for each thing that happened."""
        return "\n".join(f"{line[0]:10.4f} " + " ".join(map(str, line[1:])) for line in self.trace) + "\n"


def _now(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the store in memory never waits")


def attributes_of(put: Put) -> Attributes:
    """What an object of the schedule carries."""
    return Attributes(
        headers={"content-type": "text/plain"} if put.content % 3 else {},
        metadata={"number": str(put.content)},
        tags={"tag": str(put.content)} if put.content % 2 else {},
        storage_class=put.storage_class,
    )
