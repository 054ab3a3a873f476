"""Bounded exhaustive play of what decides about one key: every history, two actors, a crash at each request.

The bound. A side has at most `VERSIONS_MAX` versions, of two contents or delete markers. The first content of the
source is `A`, since names do not matter. The destination's are newer or older than all of the source's. Buckets keep
versions, or never did, or the destination's were suspended. A worker does the key. At each of its requests, before it
is sent, one of these happens, once in a play:

- it dies, and another worker does the key (so a crash at each request; after the last one as well);
- another worker does the key from beginning to end, or up to any of its requests, and the rest of it after the first;
- a writer puts a new object at the source or at the destination, deletes one, or removes the source's current version.

Then a worker does the key twice more, alone. Every play is checked against the promises.

Two requests commute where neither writes, or where they are about different sides. So a play in which something
happens before a read is left out where it could as well have happened after that read: another one is that play.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from jobs.core.model import ObjectRef
from tests.doubles.memory_buckets import Version
from tests.doubles.memory_store import MemoryStore
from tests.simulation.adapter import UNGUARDED, Attributes, StoreError, key_rows, sync_key
from tests.simulation.engine.loop import Loop, run_at_once
from tests.simulation.row import Row
from tests.simulation.schedule import COPIES, DESTINATION, SOURCE

VERSIONS_MAX = 3
KEY = "k"
MARKER = "-"
WRITES = frozenset({"put", "copy", "complete_multipart", "delete"})


@dataclass(frozen=True, slots=True)
class Scene:
    """What is there at the beginning: a letter for each version, the oldest first. `is_newer`: the destination.

    `is_versioned`: both buckets. `is_suspended`: the destination's versioning, after these versions.
    """

    source: str
    destination: str
    is_newer: bool
    all_versions: bool
    overwrite: str = "older"
    is_versioned: bool = True
    is_suspended: bool = False

    @property
    def keeps_versions(self) -> bool:
        """Whether the destination keeps what is written over."""
        return self.is_versioned and not self.is_suspended


@dataclass(frozen=True, slots=True)
class Twist:
    """`what` happens before request number `at` of the first worker. `until`: how far the second one gets before."""

    what: str
    at: int
    until: int = 0


WRITERS = ("put source", "mark source", "remove source", "put destination", "mark destination")


def histories(longest: int) -> list[str]:
    """All histories, without those that are another one with the names of contents changed."""
    found = ["".join(each) for size in range(longest + 1) for each in itertools.product("AB" + MARKER, repeat=size)]
    return [each for each in found if not each.replace(MARKER, "").startswith("B")]


def scenes(longest: int = VERSIONS_MAX, *, all_versions: bool) -> Iterator[Scene]:
    """All pairs of histories, of which the source's has an object."""
    others = ["".join(each) for size in range(longest + 1) for each in itertools.product("AB" + MARKER, repeat=size)]
    for source, destination, is_newer in itertools.product(histories(longest), others, (False, True)):
        if source.strip(MARKER) and (destination or not is_newer):
            yield Scene(source, destination, is_newer, all_versions)


class Actor:
    """A Store of one worker, whose requests wait for their turn: a generator that yields before each of them."""

    def __init__(self, world: KeyWorld, name: str):
        self.world, self.name = world, name

    heeds_conditions = keeps_annotations = True

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def ask(*arguments: Any, **named: Any) -> Any:
            place = (*arguments, *named.values())[0]
            await self.world.turn(self, (name, getattr(place, "bucket", place)))
            return self.world.apply(self.name, name, arguments, named)

        return ask


class KeyWorld:
    """One key at both sides, and what was wrong in it."""

    def __init__(self, scene: Scene, broken: Callable[[Any], Any] = lambda store: store):
        self.scene, self.broken = scene, broken
        self._now, self._ids = 1_700_000_000.0, 0
        self.trace: list[str] = []
        self.others: list[Version] = []
        """What others wrote at the destination."""
        self._ended: set[str] = set()
        """What was there when the last workers of a play began: in another play they say and leave the same."""
        self._begin(None)
        for bucket in (SOURCE, DESTINATION):
            self.memory.create_bucket(bucket, scene.is_versioned)
        sides = [(SOURCE, scene.source), (DESTINATION, scene.destination)]
        for bucket, letters in sides if scene.is_newer else reversed(sides):
            for letter in letters:
                self._now += 10
                self.put(bucket, letter)
        self._now += 100
        if scene.is_suspended:
            self.memory.suspend_versioning(DESTINATION)

    def _begin(self, twist: Twist | None) -> None:
        self.twist = twist
        self.memory = MemoryStore(clock=lambda: self._now, new_id=self._new_id)
        self.server = self.broken(self.memory)
        self.violations: list[tuple[str, str]] = []
        self.made: list[Version] = []
        """What workers wrote. Where no versions are kept, others may have replaced it since."""
        self.sent: dict[str, list[tuple[str, str]]] = defaultdict(list)
        """The requests of each worker: operation and bucket."""
        self.writes = 0
        self.loop = Loop(None)
        self._turns: dict[str, Any] = {}

    def with_twist(self, twist: Twist | None) -> KeyWorld:
        """The same beginning, for a play in which something else happens."""
        world = copy(self)
        world._begin(twist)
        world.trace, world.others = list(self.trace), list(self.others)
        ours, theirs = self.memory._buckets, world.memory._buckets
        theirs._orders = ours._orders
        for name, bucket in ours.named.items():
            versions = {key: list(each) for key, each in bucket.versions.items()}
            theirs.named[name] = replace(bucket, versions=versions, order=None)
        return world

    def _new_id(self) -> str:
        self._ids += 1
        return f"id{self._ids}"

    def place(self, bucket: str) -> str:
        return KEY if bucket == SOURCE else COPIES + KEY

    def versions(self, bucket: str) -> list[Version]:
        return self.memory._buckets.named[bucket].versions.get(self.place(bucket), [])

    def put(self, bucket: str, letter: str) -> None:
        """Somebody writes; `-` deletes."""
        key = self.place(bucket)
        if letter == MARKER:
            run_at_once(self.memory.delete(ObjectRef(bucket, key)))
        else:
            attributes = Attributes(metadata={"of": letter})
            run_at_once(self.memory.put(ObjectRef(bucket, key), letter.encode() * 3, attributes, guard=UNGUARDED))
            if bucket == DESTINATION:
                self.others.append(self.versions(bucket)[-1])
        self.trace.append(f"others: {bucket} {letter}")

    def act(self, what: str) -> None:
        """What a writer does."""
        self._now += 10
        verb, bucket = what.split()
        if verb == "remove":
            if there := self.versions(bucket):
                run_at_once(self.memory.delete(ObjectRef(bucket, self.place(bucket), there[-1].version_id)))
                self.trace.append(f"others: removed {there[-1].version_id}")
        else:
            self.put(bucket, MARKER if verb == "mark" else "C")
        self._now += 10

    async def turn(self, actor: Actor, request: tuple[str, str]) -> None:
        """Wait until it is this worker's turn to send a request, and let happen what happens before it."""
        self.sent[actor.name].append(request)
        twist = self.twist
        if twist is None:
            return
        if actor.name == "first" and len(self.sent["first"]) == twist.at:
            if twist.what == "crash":
                self._turns["first"] = "dead"
                await self.loop.create_future()
            elif twist.what == "second":
                await self._second(twist.until)
            else:
                self.act(twist.what)
        elif actor.name == "second" and twist.until and len(self.sent["second"]) == twist.until:
            self._turns["paused"].set_result(None)
            await self._turns["go on"]

    async def _second(self, until: int) -> None:
        """The second worker does the key: all of it, or up to a request."""
        paused = self._turns["paused"] = self.loop.create_future()
        self._turns["go on"] = self.loop.create_future()
        task = self._turns["second"] = self.loop.create_task(self.do("second"))
        if until:
            task.add_done_callback(partial(_release, paused))
            await paused
        else:
            await task

    def apply(self, who: str, name: str, arguments: Any, named: Any) -> Any:
        """The request takes effect."""
        self._now += 1
        before = list(self.versions(DESTINATION))
        source = list(self.versions(SOURCE))
        try:
            result = run_at_once(getattr(self.server, name)(*arguments, **named))
        except StoreError as error:
            self.trace.append(f"{who}: {name}: {error.code}")
            raise
        self.trace.append(f"{who}: {name}")
        if self.versions(SOURCE) != source:
            self.violate("left alone", f"{name} changed the source")
        if name in WRITES:
            self.writes += 1
            self._check(name, before)
        return result

    def _check(self, name: str, before: list[Version]) -> None:
        after = self.versions(DESTINATION)
        gone = [each for each in before if all(each is not other for other in after)]
        if any(self.scene.keeps_versions or each.version_id != "null" for each in gone):
            self.violate("nothing destroyed", f"{name} removed {gone[0].version_id}")
        made = [each for each in after if all(each is not other for other in before)]
        self.made += made
        for each in made:
            if each.is_delete_marker:
                if not self.scene.all_versions or MARKER not in self.scene.source + "-" * ("mark" in str(self.twist)):
                    self.violate("nothing destroyed", "a marker that nobody asked for")
            elif each.data not in self.contents:
                self.violate("pinned", f"{each.data!r} was never at the source")
            elif before and not self.scene.all_versions:
                self._check_guard(before[-1], each)

    def _check_guard(self, top: Version, made: Version) -> None:
        """What others wrote is written over only where it is not newer than the source's version (or older, where no
        versions are kept), or is the copy of an older version.
        """
        if top.is_delete_marker or all(top is not each for each in self.others) or top.data == made.data:
            return
        if self.scene.overwrite != "older":
            if self.scene.overwrite == "never":
                self.violate("guarded", f"{top.version_id} was written over")
            return
        source = self.removed + [each for each in self.versions(SOURCE) if all(each is not one for one in self.removed)]
        tie_seconds = 0 if self.scene.keeps_versions else 1
        copied = [place for place, each in enumerate(source) if each.data == made.data]
        is_older = any(int(top.last_modified) + tie_seconds <= int(source[place].last_modified) for place in copied)
        if not is_older and all(each.data != top.data for each in source[: max(copied, default=0)]):
            self.violate("guarded", f"{top.version_id}, which is not older, was written over")

    @property
    def contents(self) -> set[bytes]:
        """What was ever at the source."""
        letters = {*self.scene.source.replace(MARKER, ""), "C"}
        return {letter.encode() * 3 for letter in letters}

    removed: list[Version]

    def violate(self, promise: str, what: str) -> None:
        self.violations.append((promise, f"{self.scene} {self.twist}: {what}"))

    async def do(self, name: str) -> list[Row]:
        """A worker does the key, by the rows of its plan. What may pass is tried again, as a worker does."""
        rows: list[Row] = []
        for _ in range(8):
            store = Actor(self, name)
            try:
                scene = self.scene
                rows = await sync_key(store, self._planned, all_versions=scene.all_versions, overwrite=scene.overwrite)
                break
            except StoreError as error:
                self.trace.append(f"{name}: again, {error.code}")
        else:
            self.violate("resumable", f"{name} has no end")
        for row in rows:
            self._check_row(row)
        return rows

    def _check_row(self, row: Row) -> None:
        """What is said of a row is true of the versions that were there."""
        self.trace.append(f"says: {row.version_id} {row.status} {row.reason}")
        meant = [
            each
            for each in (*self.everything, *self.versions(SOURCE))
            if row.version_id in (None, each.version_id) and row.etag in (None, each.etag)
        ]
        if row.status in ("done", "same") and not row.is_marker:
            copies = [each for each in self.all_copies() if each.version_id == (row.copy_version_id or "null")]
            if not any(one.data == other.data for one in meant for other in copies):
                self.violate("proven", f"{row.version_id} is not {row.status}")

    def all_copies(self) -> list[Version]:
        return [*self.versions(DESTINATION), *self.made, *self.others]

    def play(self) -> KeyWorld:
        """The whole play."""
        self.removed = self.everything = list(self.versions(SOURCE))
        self._planned = key_rows(self.memory, all_versions=self.scene.all_versions)
        if not self._planned:
            return self
        self.loop.run(self._play())
        return self

    async def _play(self) -> None:
        first = self.loop.create_task(self.do("first"))
        while not first.done() and self._turns.get("first") != "dead":
            await self.loop.create_task(_pause(self.loop))
        if "go on" in self._turns and self.twist and self.twist.until:
            self._turns["go on"].set_result(None)
            await self._turns["second"]
        self._planned = key_rows(self.memory, all_versions=self.scene.all_versions)
        if not self._planned:
            return
        self.everything = self.everything + self.versions(SOURCE)
        if (state := self._state()) in self._ended:
            return
        self._ended.add(state)
        await self.do("third")
        writes = self.writes
        again = await self.do("fourth")
        if self.writes > writes:
            self.violate("idempotent", "a second worker wrote as well")
        self._check_end(again)

    def _state(self) -> str:
        """All that the last workers decide by, and all that is asked of them. Of times only the order."""
        sides = self.versions(SOURCE), self.versions(DESTINATION)
        times = sorted({int(each.last_modified) for side in sides for each in side})
        told = [
            (each.data, each.is_delete_marker, times.index(int(each.last_modified))) for side in sides for each in side
        ]
        others = [any(each is other for other in self.others) for each in sides[1]]
        return repr((told, others, "mark" in str(self.twist)))

    def _check_end(self, rows: Sequence[Row]) -> None:
        """Where all rows ended well, what the source has on top, the destination has on top."""
        current, top = self.versions(SOURCE)[-1:], self.versions(DESTINATION)[-1:]
        if not current or not all(row.is_settled for row in rows):
            return
        if not current[0].is_delete_marker and (not top or top[0].data != current[0].data):
            self.violate("honest", "all is well, and the current copy is another one")


def _release(paused: Any, _: Any) -> None:
    if not paused.done():
        paused.set_result(None)


async def _pause(loop: Loop) -> None:
    future = loop.create_future()
    loop.call_soon(future.set_result, None)
    await future


def plays(scene: Scene, broken: Callable[[Any], Any] = lambda store: store) -> Iterator[KeyWorld]:
    """Every play of a scene, but for those that are another one."""
    beginning = KeyWorld(scene, broken)
    plain = beginning.with_twist(None).play()
    yield plain
    if not plain._planned:
        return
    requests = plain.sent["first"]
    others: list[tuple[str, str]] = []
    for at, (operation, bucket) in reversed(list(enumerate(requests, start=1))):
        reads = operation not in WRITES
        if at == 1 or requests[at - 2][0] in WRITES:
            yield beginning.with_twist(Twist("crash", at)).play()
        for what in WRITERS:
            if not reads or at == len(requests) or what.endswith(bucket):
                yield beginning.with_twist(Twist(what, at)).play()
        if not reads or at == len(requests) or _writes(others):
            whole = beginning.with_twist(Twist("second", at)).play()
            others = whole.sent["second"]
            yield whole
        for until in range(2, len(others) + 1):
            if not reads or _writes(others[: until - 1]):
                yield beginning.with_twist(Twist("second", at, until)).play()


def _writes(requests: Sequence[tuple[str, str]]) -> bool:
    return any(operation in WRITES for operation, _ in requests)
