"""Bounded exhaustive play of what decides about one key: every history, two actors, a crash at each request.

The bound. A side has at most `VERSIONS_MAX` versions, of two contents or delete markers. The first content of the
source is `A`, since names do not matter. The destination's are newer or older than all of the source's. Buckets keep
versions, or never did, or the destination's were suspended. A worker does the key. Before each of its requests one of
these happens, once in a play:

- it dies, and another worker does the key;
- another worker does the key from beginning to end, or up to any of its requests, and the rest of it after the first;
- a writer puts a new object at the source or at the destination, deletes one, or removes the source's current version.

Then a worker does the key twice more, alone. Every play is checked against the promises.

Plays share most of what happens, so none is played from its beginning. A worker decides by nothing but the answers that
it gets: a `Node` is a worker after some answers, whatever the scene. A `World` is what is at both sides, and was. A
request takes a node and a world to the next ones, the same ones in each play, and is sent once.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jobs.core.model import ObjectRef
from tests.doubles.memory_buckets import Version
from tests.doubles.memory_store import MemoryStore
from tests.simulation.adapter import UNGUARDED, Attributes, StoreError, key_rows, sync_key
from tests.simulation.engine.loop import Loop, run_at_once
from tests.simulation.row import Row
from tests.simulation.schedule import COPIES, DESTINATION, SOURCE

VERSIONS_MAX = 3
ATTEMPTS_MAX = 8
KEYS = {SOURCE: "k", DESTINATION: COPIES + "k"}
MARKER = "-"
WRITES = frozenset({"put", "copy", "complete_multipart", "delete"})
WRITERS = ("put source", "mark source", "remove source", "put destination", "mark destination")
SOURCE_AT, NEWER_AT, OLDER_AT, BEGIN_AT = (1_700_000_000.0 + each for each in (200, 300, 100, 400))
"""When the newest versions were written, ten seconds after the ones before, and when the workers begin."""


class Scene(NamedTuple):
    """What is there at the beginning: a letter for each version, the oldest first. `is_newer`: the destination."""

    source: str
    destination: str
    is_newer: bool


def scenes(longest: int = VERSIONS_MAX) -> list[Scene]:
    """All pairs of histories, of which the source's has an object."""
    histories = ["".join(each) for size in range(longest + 1) for each in itertools.product("AB" + MARKER, repeat=size)]
    return [
        Scene(source, destination, is_newer)
        for source, destination, is_newer in itertools.product(histories, histories, (False, True))
        if source.replace(MARKER, "").startswith("A") and (destination or not is_newer)
    ]


@dataclass(frozen=True, slots=True)
class Setting:
    """Of workers and buckets. `is_versioned`: both buckets. `is_suspended`: the destination, since the beginning."""

    all_versions: bool
    overwrite: str = "older"
    is_versioned: bool = True
    is_suspended: bool = False

    @property
    def keeps_versions(self) -> bool:
        """Whether the destination keeps what is written over."""
        return self.is_versioned and not self.is_suspended


class Request(NamedTuple):
    """A call of a Store. `text` tells it from others."""

    name: str
    arguments: tuple[Any, ...]
    named: dict[str, Any]
    text: str

    @property
    def bucket(self) -> str:
        place = (*self.arguments, *self.named.values())[0]
        return str(getattr(place, "bucket", place))


class Answer(NamedTuple):
    """What a Store returns, or the StoreError that it raises. `text` tells it from others."""

    value: Any
    text: str


@dataclass(eq=False, slots=True)
class Node:
    """A worker after some answers: its next request or, at its end, what it says of its rows (None: it has no end)."""

    planned: Sequence[Any]
    root: Node | None = None
    answers: tuple[Answer, ...] = ()
    request: Request | None = None
    rows: list[Row] | None = None
    next: dict[str, Node] = field(default_factory=dict)
    """By text of the answer."""


@dataclass(eq=False, slots=True)
class World:
    """Both sides at a moment, oldest first. `ever`: at the source, `others` and `made` (by workers): at the other."""

    now: float
    ids: dict[str, tuple[int, ...]]
    """By bucket: which versions are there."""
    source: list[Version]
    copies: list[Version]
    ever: list[Version]
    others: list[Version]
    made: list[Version]


class Explorer:
    """All plays of a setting, and what was wrong in them: promise, and what broke it."""

    def __init__(self, setting: Setting, broken: Callable[[Any], Any] = lambda store: store):
        self.setting = setting
        self.violations: list[tuple[str, str]] = []
        self.plays = 0
        self._now, self._id, self._where = 0.0, "", ""
        self.memory = MemoryStore(clock=lambda: self._now, new_id=lambda: self._id)
        self.server = broken(self.memory)
        for bucket in KEYS:
            self.memory.create_bucket(bucket, setting.is_versioned)
        self._versions: dict[tuple[Any, ...], Version] = {}
        self._roots: dict[tuple[int, ...], Node] = {}
        self._reads: dict[tuple[Any, ...], Answer] = {}
        self._worlds: dict[tuple[Any, ...], World] = {}
        self._writes: dict[tuple[str, World], tuple[Answer, World]] = {}
        self._ends: dict[tuple[Node, World], tuple[Node, World]] = {}
        self._concluded: set[World] = set()

    def explore(self, scenes: Iterable[Scene]) -> Explorer:
        """Every play of these scenes."""
        for scene in scenes:
            for each in (self._worlds, self._writes, self._ends, self._concluded):  # no other scene has such a world
                each.clear()
            self._explore(scene)
        return self

    def _explore(self, scene: Scene) -> None:
        self._where = str(scene)
        beginning = self._begin(scene)
        worker = self._worker(beginning)
        if not worker.planned:
            return
        first = list(self._steps(worker, beginning))
        for at, (node, world) in enumerate(first, start=1):
            self._where = f"{scene}, before request {at}"
            self._conclude(world)  # the first worker has died, or is done
            if node.request is None:
                return
            for what in WRITERS:
                self._conclude(self._finish(node, self._act(world, what))[1])
            for second, between in self._steps(worker, world):
                self._conclude(self._finish(second, self._finish(node, between)[1])[1])

    # What happens

    def _begin(self, scene: Scene) -> World:
        """Both sides at the beginning."""
        for bucket, letters, newest_at in (
            (SOURCE, scene.source, SOURCE_AT),
            (DESTINATION, scene.destination, NEWER_AT if scene.is_newer else OLDER_AT),
        ):
            self._store(bucket, [])
            self.memory._buckets.named[bucket].is_versioned = self.setting.is_versioned
            self.memory._buckets.named[bucket].is_suspended = False
            for age, letter in reversed(list(enumerate(reversed(letters)))):
                self._put(bucket, letter, newest_at - 10 * age, f"{bucket} {age}")
        if self.setting.is_suspended:
            self.memory.suspend_versioning(DESTINATION)
        source, copies = map(self._stored, KEYS)
        return self._world(BEGIN_AT, source, copies, source, copies, [])

    def _act(self, world: World, what: str) -> World:
        """What a writer does."""
        verb, bucket = what.split()
        self._load(world)
        if verb != "remove":
            self._put(bucket, MARKER if verb == "mark" else "C", world.now + 10, f"id{world.now + 10:.0f}")
        elif world.source:
            run_at_once(self.memory.delete(ObjectRef(bucket, KEYS[bucket], world.source[-1].version_id)))
        source, copies = map(self._stored, KEYS)
        others = _more(world.others, [each for each in copies if not _has(world.copies, each)])
        return self._world(world.now + 20, source, copies, _more(world.ever, source), others, world.made)

    def _put(self, bucket: str, letter: str, now: float, version_id: str) -> None:
        """Somebody writes; `-` deletes."""
        self._now, self._id, ref = now, version_id, ObjectRef(bucket, KEYS[bucket])
        self.memory._buckets._orders = int(now)
        if letter == MARKER:
            run_at_once(self.memory.delete(ref))
        else:
            attributes = Attributes(metadata={"of": letter})
            run_at_once(self.memory.put(ref, letter.encode() * 3, attributes, guard=UNGUARDED))

    def _apply(self, request: Request, world: World) -> tuple[Answer, World]:
        """The request takes effect."""
        if request.name not in WRITES:
            known = request.text, world.now, world.ids[request.bucket]
            if known not in self._reads:
                self._reads[known] = self._send(request, world)
            return self._reads[known], world
        if (request.text, world) not in self._writes:
            answer, after = self._send(request, world), world
            if not isinstance(answer.value, StoreError):
                source, copies = map(self._stored, KEYS)
                made = _more(world.made, [each for each in copies if not _has(world.copies, each)])
                after = self._world(world.now + 1, source, copies, _more(world.ever, source), world.others, made)
                self._check(request.name, world, after)
            self._writes[request.text, world] = answer, after
        return self._writes[request.text, world]

    def _send(self, request: Request, world: World) -> Answer:
        self._load(world)
        self._now, self._id = world.now + 1, f"id{world.now + 1:.0f}"
        try:
            value = run_at_once(getattr(self.server, request.name)(*request.arguments, **request.named))
        except StoreError as error:
            value = error
        return Answer(value, repr(value))

    # Workers

    def _worker(self, world: World) -> Node:
        """A worker that begins, by the rows of a plan of now."""
        ids = world.ids[SOURCE]
        if ids not in self._roots:
            self._load(world)
            root = self._roots[ids] = Node(key_rows(self.memory, all_versions=self.setting.all_versions))
            if root.planned:
                self._run(root, (), world)
        return self._roots[ids]

    def _run(self, root: Node, answers: tuple[Answer, ...], world: World) -> None:
        """Let a worker do the key with these answers, and from then on in this world. What may pass is tried again."""
        node = root

        async def ask(name: str, arguments: Any, named: Any) -> Any:
            nonlocal node, world
            text = repr((name, arguments, named))
            assert node.request is None or node.request.text == text, "the same answers, and another request"
            node.request = node.request or Request(name, arguments, named, text)
            if len(node.answers) < len(answers):
                answer = answers[len(node.answers)]
            else:
                answer, world = self._apply(node.request, world)
            if answer.text not in node.next:
                node.next[answer.text] = Node(root.planned, root, (*node.answers, answer))
            node = node.next[answer.text]
            if isinstance(answer.value, StoreError):
                raise answer.value.with_traceback(None)
            return answer.value

        async def work() -> list[Row] | None:
            options = {"all_versions": self.setting.all_versions, "overwrite": self.setting.overwrite}
            for _ in range(ATTEMPTS_MAX):
                try:
                    return await sync_key(Actor(ask), root.planned, **options)  # type: ignore[arg-type]
                except StoreError:
                    continue
            return None

        node.rows = Loop(None).run(work())

    def _step(self, node: Node, world: World) -> tuple[Node, World]:
        """The worker's next request is answered."""
        assert node.request is not None
        answer, after = self._apply(node.request, world)
        if answer.text not in node.next:
            self._run(node.root or node, (*node.answers, answer), after)
        return node.next[answer.text], after

    def _steps(self, node: Node, world: World) -> Iterator[tuple[Node, World]]:
        """The worker before each of its requests, and at its end, if nobody else does anything."""
        while True:
            yield node, world
            if node.request is None:
                self._finish(node, world)
                return
            node, world = self._step(node, world)

    def _finish(self, node: Node, world: World) -> tuple[Node, World]:
        """The worker does the rest."""
        passed = []
        while (end := self._ends.get((node, world))) is None:
            passed.append((node, world))
            if node.request is None:
                end = node, world
                self._check_rows(node, world)
                break
            node, world = self._step(node, world)
        self._ends.update(dict.fromkeys(passed, end))
        return end

    def _conclude(self, world: World) -> None:
        """A worker does the key twice more, alone."""
        self.plays += 1
        if world in self._concluded:
            return
        self._concluded.add(world)
        worker = self._worker(world)
        if worker.planned:
            _, third = self._finish(worker, world)
            end, fourth = self._finish(worker, third)
            if third is not fourth:
                self.violate("idempotent", "a second worker wrote as well")
            self._check_end(fourth, end.rows or [])

    # Promises

    def violate(self, promise: str, what: str) -> None:
        self.violations.append((promise, f"{self.setting} {self._where}: {what}"))

    def _check(self, name: str, before: World, after: World) -> None:
        """What a worker wrote."""
        if after.source != before.source:
            self.violate("left alone", f"{name} changed the source")
        gone = [each for each in before.copies if not _has(after.copies, each)]
        if any(self.setting.keeps_versions or each.version_id != "null" for each in gone):
            self.violate("nothing destroyed", f"{name} removed {gone[0].version_id}")
        for each in after.copies:
            if _has(before.copies, each):
                continue
            if each.is_delete_marker:
                if not self.setting.all_versions or not any(one.is_delete_marker for one in before.ever):
                    self.violate("nothing destroyed", "a marker that nobody asked for")
            elif all(each.data != one.data for one in before.ever):
                self.violate("pinned", f"{each.data!r} was never at the source")
            elif before.copies and not self.setting.all_versions:
                self._check_guard(before, before.copies[-1], each)

    def _check_guard(self, before: World, top: Version, made: Version) -> None:
        """What others wrote is written over only where it is not newer than the source's version (or older, where no
        versions are kept), or is the copy of an older version.
        """
        if top.is_delete_marker or not _has(before.others, top) or top.data == made.data:
            return
        if self.setting.overwrite != "older":
            if self.setting.overwrite == "never":
                self.violate("guarded", f"{top.version_id} was written over")
            return
        tie_seconds = 0 if self.setting.keeps_versions else 1
        copied = [place for place, each in enumerate(before.ever) if each.data == made.data]
        is_older = any(int(top.last_modified) + tie_seconds <= int(before.ever[at].last_modified) for at in copied)
        if not is_older and all(each.data != top.data for each in before.ever[: max(copied, default=0)]):
            self.violate("guarded", f"{top.version_id}, which is not older, was written over")

    def _check_rows(self, end: Node, world: World) -> None:
        """What is said of a row is true of the versions that were there."""
        if end.rows is None:
            self.violate("resumable", "a worker has no end")
        for row in end.rows or ():
            if row.status not in ("done", "same") or row.is_marker:
                continue
            meant = [
                each.data
                for each in world.ever
                if row.version_id in (None, each.version_id) and row.etag in (None, each.etag)
            ]
            copies = [each for each in world.others + world.made if each.version_id == (row.copy_version_id or "null")]
            if not any(each.data in meant for each in copies):
                self.violate("proven", f"{row.version_id} is not {row.status}")

    def _check_end(self, world: World, rows: Sequence[Row]) -> None:
        """Where all rows ended well, what the source has on top, the destination has on top."""
        current, top = world.source[-1:], world.copies[-1:]
        if not current or not all(row.is_settled for row in rows):
            return
        if not current[0].is_delete_marker and (not top or top[0].data != current[0].data):
            self.violate("honest", "all is well, and the current copy is another one")

    # Worlds

    def _world(self, now: float, *versions: list[Version]) -> World:
        """The world of these versions: the same one for the same versions."""
        ids = [tuple(map(id, each)) for each in versions]
        known = self._worlds.get((now, *ids))
        if known is None:
            known = World(now, {SOURCE: ids[0], DESTINATION: ids[1]}, *versions)
            self._worlds[now, *ids] = known
        return known

    def _load(self, world: World) -> None:
        """Bring the store to this world."""
        self._store(SOURCE, world.source)
        self._store(DESTINATION, world.copies)
        self.memory._buckets._orders = int(world.now)

    def _store(self, bucket: str, versions: list[Version]) -> None:
        home = self.memory._buckets.named[bucket]
        home.versions, home.order = {KEYS[bucket]: list(versions)} if versions else {}, None

    def _stored(self, bucket: str) -> list[Version]:
        """What the store has now: the same objects for the same versions."""
        return [
            self._versions.setdefault((each.version_id, each.data, each.last_modified, each.is_delete_marker), each)
            for each in self.memory.stored(bucket, KEYS[bucket])
        ]


class Actor:
    """The Store of one worker."""

    heeds_conditions = keeps_annotations = True

    def __init__(self, ask: Callable[[str, Any, Any], Awaitable[Any]]):
        self._ask = ask

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        return lambda *arguments, **named: self._ask(name, arguments, named)


def _has(versions: Iterable[Version], version: Version) -> bool:
    return any(each is version for each in versions)


def _more(versions: list[Version], others: Iterable[Version]) -> list[Version]:
    return versions + [each for each in others if not _has(versions, each)]
