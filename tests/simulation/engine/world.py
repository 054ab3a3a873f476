"""The world of a schedule: S3 in memory behind a network that fails, processes that die, others who write as well."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from jobs.core.model import ObjectRef
from tests.doubles.memory_buckets import Version
from tests.doubles.memory_store import MemoryStore
from tests.simulation.adapter import PART_BYTES, UNGUARDED, Attributes, Checksum, SealiftError
from tests.simulation.engine.determinism import EPOCH
from tests.simulation.engine.loop import LABEL, Loop, Mortal, run_at_once
from tests.simulation.engine.network import Network, Request
from tests.simulation.schedule import COPIES, DESTINATION, LEDGER, SOURCE, Kind, Put, Schedule, content
from tests.simulation.surface import PLACE, PLACES

KILLED = -9
BUG = 1


class Observer:
    """Is told of everything that happens to the world. The oracle is one."""

    def placed(self, bucket: str, key: str, version: Version, maker: Process | None, before: list[Version]) -> None: ...
    def lost(
        self, bucket: str, key: str, versions: list[Version], maker: Process | None, after: list[Version]
    ) -> None: ...
    def rotted(self, bucket: str, key: str, version: Version, before: bytes) -> None: ...
    def effect(self, request: Request, result: Any) -> None: ...
    def broke(self, process: Process, error: BaseException) -> None: ...


@dataclass(eq=False)
class Process(Mortal):
    """A command, one of its workers, or a function. `verb`: what it was started for.

    `skew_seconds`: how wrong its clock is. `again` starts the same once more.
    """

    world: World
    name: str
    verb: str
    again: Callable[[], Process]
    parent: Process | None = None
    skew_seconds: float = 0.0
    stop: Callable[[], None] | None = None
    is_dead: bool = False
    code: int | None = None
    run_id: str = ""
    began: float = 0.0
    ended: asyncio.Future[int] = field(init=False)

    @property
    def is_twin(self) -> bool:
        return self.name.endswith(" again")

    def __post_init__(self) -> None:
        self.ended = self.world.loop.create_future()
        self.began = self.world.loop.now

    def clock(self) -> float:
        """Its wall clock, epoch seconds."""
        return EPOCH + self.world.loop.now + self.skew_seconds


class Connection:
    """The Store protocol. Each request is sent through the world's network by the process that is at work."""

    def __init__(self, world: World):
        self._world = world

    heeds_conditions = property(lambda self: self._world.memory.heeds_conditions)
    keeps_annotations = property(lambda self: self._world.memory.keeps_annotations)
    server_clock = property(lambda self: self._world.memory.server_clock)

    def region_of(self, bucket: str) -> None:
        """No server here has regions."""

    async def close(self) -> None:
        """Nothing to release."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def ask(*arguments: Any, **named: Any) -> Any:
            return await self._world.network.ask(LABEL.get(), name, arguments, named)

        return ask


class World:
    """Everything outside Sealift's own code. `trace`: what happened, for people."""

    def __init__(self, schedule: Schedule, observer: Observer, broken: Callable[[Any], Any] = lambda store: store):
        """`broken`: what stands before the store, for servers that are not as S3 is."""
        self.schedule, self.observer = schedule, observer
        self._random = random.Random(schedule.seed ^ 0x5EA11F7)
        self.chance = self._random.random
        self.loop = Loop(None if schedule.is_in_order else schedule.seed)
        self.trace: list[tuple[Any, ...]] = []
        self.processes: list[Process] = []
        self.outside = copy_context()
        """The context of what is no process's."""
        self.is_quiet = False
        """Nothing goes wrong any more."""
        self.tell: Callable[[str, Version, bool], None] = lambda key, version, is_removed: None
        """Is told of what others do at the source: key, version, and whether it was removed for good."""
        self._setup_clock: float | None = EPOCH - 10_000
        self._ids = self.contents = 0
        self.memory = MemoryStore(
            clock=self._server_clock,
            new_id=self._new_id,
            default_checksum=schedule.default_checksum,
            minimum_part_bytes=PART_BYTES,
        )
        self.server = broken(self.memory)
        self.network = Network(self)
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
        for bucket, key, data in PLACES:
            run_at_once(self.memory.put(ObjectRef(bucket, key), data, Attributes(), guard=UNGUARDED))
        sides = [(SOURCE, self.schedule.source), (DESTINATION, self.schedule.destination)]
        for bucket, puts in sides if self.schedule.is_destination_newer else reversed(sides):
            for put in puts:
                assert self._setup_clock is not None
                self._setup_clock += 7.0
                self.put(bucket, put)
        self._setup_clock = None

    def versions(self, bucket: str, key: str) -> list[Version]:
        """The versions of a key, oldest first."""
        return self.memory._buckets.named[bucket].versions.get(key, [])

    def top(self, bucket: str, key: str) -> Version | None:
        """The current object; None where there is none, or a delete marker."""
        versions = self.versions(bucket, key)
        return versions[-1] if versions and not versions[-1].is_delete_marker else None

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        """All keys that have versions, in order, but the documents of places."""
        keys = self.memory._buckets.named[bucket].versions
        return sorted(key for key in keys if key.startswith(prefix) and PLACE not in key)

    def note(self, *what: Any) -> None:
        """A line of the trace."""
        self.trace.append((self.loop.now, *what))

    def trace_text(self) -> str:
        """The trace, a line for each thing that happened."""
        return "\n".join(f"{line[0]:10.4f} " + " ".join(map(str, line[1:])) for line in self.trace) + "\n"

    # Processes.

    def spawn(
        self, name: str, verb: str, work: Callable[[], Coroutine[Any, Any, int]], parent: Process | None = None
    ) -> Process:
        """Start a process; `work` gives its exit code. `parent`: its command, unless that starts it itself."""
        starting = LABEL.get()
        parent = starting if isinstance(starting, Process) else parent
        process = Process(self, name, verb, lambda: self.spawn(f"{name} again", verb, work, parent), parent)
        process.run_id = parent.run_id if parent else ""
        self.processes.append(process)
        self.note("start", name)
        context = copy_context()
        context.run(LABEL.set, process)
        self.loop.create_task(self._live(process, work), context=context)
        return process

    async def _live(self, process: Process, work: Callable[[], Coroutine[Any, Any, int]]) -> None:
        try:
            code = await work()
        except SealiftError as error:
            self.note("error", process.name, str(error))
            code = int(error.exit_code)
        except Exception as error:  # a bug of the product
            if self.loop.is_over:
                raise
            self.observer.broke(process, error)
            code = BUG
        process.code = code
        self.note("exit", process.name, code)
        if not process.ended.done():
            process.ended.set_result(code)

    def kill(self, process: Process) -> None:
        """The process takes no other step. Its workers notice that, as they do."""
        if process.is_dead or process.code is not None:
            return
        process.is_dead = True
        self.note("killed", process.name)
        for each in self.processes:
            if each.parent is process and each.stop is not None and each.code is None:
                each.stop()
        self.loop.call_later(0.01, self._report_death, process, context=self.outside)

    def _report_death(self, process: Process) -> None:
        if not process.ended.done():
            process.ended.set_result(KILLED)

    # Everybody but Sealift.

    def put(self, bucket: str, put: Put) -> None:
        """Somebody else writes an object (or deletes it), without the network."""
        if put.is_marker:
            self.mark(bucket, put.key)
        elif put.parts > 1:
            self.begin_upload(bucket, put)()
        else:
            key = put.key if bucket == SOURCE else COPIES + put.key
            data, attributes = content(put.content, put.size_bytes), self._attributes(put)
            before = list(self.versions(bucket, key))
            run_at_once(self.memory.put(ObjectRef(bucket, key), data, attributes, guard=UNGUARDED))
            self.compare(bucket, key, before, None)

    def begin_upload(self, bucket: str, put: Put) -> Callable[[], None]:
        """Somebody else begins an upload in parts. Call the result to complete it: now, or long after."""
        key, memory = put.key if bucket == SOURCE else COPIES + put.key, self.memory
        data, attributes = content(put.content, put.size_bytes), self._attributes(put)
        checksum = Checksum(put.algorithm, "", put.algorithm == "SHA256") if put.algorithm else None
        upload = run_at_once(memory.create_multipart(ObjectRef(bucket, key), attributes, checksum=checksum))
        size = max(len(data) // put.parts, PART_BYTES)
        cuts = [*range(0, len(data) - size + 1, size)][: put.parts]
        pieces = [data[start:end] for start, end in pairwise([*cuts, len(data)])]
        parts = [run_at_once(memory.put_part(upload, n, piece)) for n, piece in enumerate(pieces, 1)]

        def complete() -> None:
            before = list(self.versions(bucket, key))
            run_at_once(memory.complete_multipart(upload, parts, guard=UNGUARDED))
            self.note("completed", bucket, key)
            self.compare(bucket, key, before, None)

        return complete

    def mark(self, bucket: str, key: str) -> None:
        """Somebody else deletes an object: a delete marker is made or, without versions, it is gone."""
        place = key if bucket == SOURCE else COPIES + key
        if self.top(bucket, place) is not None:
            before = list(self.versions(bucket, place))
            run_at_once(self.memory.delete(ObjectRef(bucket, place)))
            self.compare(bucket, place, before, None)

    def remove(self, bucket: str, place: str, pick: int) -> None:
        """Somebody else removes a version for good."""
        before = list(self.versions(bucket, place))
        if before:
            doomed = before[pick % len(before)]
            run_at_once(self.memory.delete(ObjectRef(bucket, place, doomed.version_id)))
            self.compare(bucket, place, before, None)

    def compare(self, bucket: str, key: str, before: list[Version], maker: Process | None) -> None:
        """Tell the observer which versions have come and gone."""
        after = self.versions(bucket, key)
        gone = [each for each in before if all(each is not other for other in after)]
        for version in after:
            if all(version is not other for other in before):
                self.observer.placed(bucket, key, version, maker, before)
                if bucket == SOURCE:
                    self.tell(key, version, False)
        if bucket == SOURCE and not self.schedule.is_source_versioned and after:
            pass  # S3 says nothing of what was written over
        elif bucket == SOURCE:
            for version in gone:
                self.tell(key, version, True)
        if gone:
            self.observer.lost(bucket, key, gone, maker, after)

    def rot(self, bucket: str, pick: int, prefix: str = "") -> None:
        """A bit at rest changes; nothing that S3 says of the object does."""
        found = [
            (key, version)
            for key in self.keys(bucket, prefix)
            for version in self.versions(bucket, key)
            if version.data
        ]
        if found:
            key, version = found[pick % len(found)]
            at, before = pick // 64 % len(version.data), version.data
            version.data = before[:at] + bytes([before[at] ^ 1 << pick % 8]) + before[at + 1 :]
            self.note("rotted", bucket, key, version.version_id, at)
            self.observer.rotted(bucket, key, version, before)

    def meddle(self, kind: Kind, pick: int, about: str = "") -> None:
        """Others write or delete, half of the time the object that a request is about."""
        side = SOURCE if kind in (Kind.SOURCE_PUT, Kind.SOURCE_MARK, Kind.SOURCE_REMOVE) else DESTINATION
        keys, key = self.schedule.keys, about.removeprefix(COPIES)
        if pick % 2 or key not in keys:
            key = keys[pick // 2 % len(keys)]
        place = key if side == SOURCE else COPIES + key
        self.note("others", kind.name, key)
        if kind in (Kind.SOURCE_PUT, Kind.TARGET_PUT):
            put = Put(key, (3, 9, 17, 24)[pick // 4 % 4], 20_000 + self.contents)
            if kind is Kind.SOURCE_PUT and put.size_bytes > 8 and pick // 16 % 2:
                complete = self.begin_upload(side, put._replace(parts=2))
                self.loop.call_later(0.1 * 2.0 ** (pick // 32 % 10), complete, context=self.outside)
            else:
                self.put(side, put)
        elif kind is Kind.SOURCE_REMOVE:
            self.remove(side, place, pick // 8)
        else:
            self.mark(side, key)

    def _attributes(self, put: Put) -> Attributes:
        """What an object carries. Its number in the metadata is its own: it says which version a copy is of."""
        self.contents += 1
        return Attributes(
            headers={"content-type": "text/plain"} if put.content % 3 else {},
            metadata={"number": str(self.contents)},
            tags={"tag": str(put.content)} if put.content % 2 else {},
            storage_class=put.storage_class,
        )
