"""A world of events for the state machine: a source, a queue, the functions, and an oracle.

The oracle reads the buckets' contents and the journal's lines. It knows no type of Sealift's.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from types import SimpleNamespace
from typing import Any, Literal
from unittest.mock import patch

import scheduler.backup
import scheduler.enqueue
import scheduler.follow
import scheduler.log
from jobs.core.model import NULL_VERSION, Attributes, Location, ObjectVersion, Route
from jobs.core.outcome import Status
from jobs.core.reasons import Reason
from jobs.errors import Conflict, Denied, PreconditionFailed, StoreError, Throttled, Unavailable
from jobs.ledger.backlog import Manifest
from jobs.policy.model import Policy
from jobs.policy.reader import parse_policy
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.copying import KEEP
from jobs.s3.store import UNGUARDED
from jobs.sync.job import SyncJob
from jobs.sync.key import SyncOptions
from scheduler import backlog
from scheduler.runtime import Runtime
from scheduler.settings import FunctionSettings
from tests.doubles.hooks import Killed
from tests.doubles.manifest_rows import rows_of_csv
from tests.doubles.memory_buckets import Version
from tests.doubles.memory_store import MemoryStore, Request
from tests.scheduler.event_samples import eventbridge, record

LIMIT_BYTES = 10
BATCH_SECONDS = 30.0
TRIES = 8
ROUNDS = 14
SETTLED = {"copied", "same", "unverifiable", "deleted", "retained", "superseded", "handed_over", "skipped"}
LOOKED = {"copied", "same", "unverifiable", "deleted", "superseded"}
"""Endings of an event after which nothing is left to do for its key."""
CREATED, MARKED, REMOVED = "ObjectCreated:Put", "ObjectRemoved:DeleteMarkerCreated", "ObjectRemoved:Delete"
REQUESTS = ("head", "get", "put", "copy", "delete", "list_versions", "list_objects", "is_versioned", "get_tags")


class Hurried(asyncio.SelectorEventLoop):
    """A loop that waits for no timer: when nothing else is left, the first one is due.

    It has no threads, so that the same happens each time.
    """

    _skipped = 0.0

    def run_in_executor(  # type: ignore[override]  # the types of the arguments do not matter
        self, executor: Any, func: Callable[..., Any], *arguments: Any
    ) -> asyncio.Future[Any]:
        future = self.create_future()
        try:
            future.set_result(func(*arguments))
        except Exception as error:  # noqa: BLE001  who waits for it gets it
            future.set_exception(error)
        return future

    def time(self) -> float:
        return super().time() + self._skipped

    def _run_once(self) -> None:
        ready, timers = self.__dict__["_ready"], self.__dict__["_scheduled"]
        if not ready and timers:
            self._skipped += max(0.0, timers[0].when() - self.time())
        super()._run_once()  # type: ignore[misc]


Trouble = Literal["killed before", "killed after", "unavailable", "throttled", "denied", "slow"]


@dataclass
class Troubles:
    """A hook: the n-th request from now on is in trouble, or others write at that moment."""

    requests_left: int = -1
    trouble: Trouble | None = None
    meddle: Callable[[], Awaitable[None]] | None = None
    is_dead: bool = False

    def end(self) -> None:
        self.requests_left, self.trouble, self.meddle, self.is_dead = -1, None, None, False

    async def __call__(self, request: Request) -> Any:
        if self.is_dead:
            raise Killed
        self.requests_left -= 1
        is_now = self.requests_left == 0
        if is_now and self.meddle is not None:
            await self.meddle()
        if not is_now or self.trouble is None:
            return await request()
        name = request.operation
        if self.trouble == "unavailable":
            raise Unavailable(name, "k", "InternalError", "we encountered an internal error", 500)
        if self.trouble == "throttled":
            raise Throttled(name, "k", "SlowDown", "reduce your request rate", 503)
        if self.trouble == "denied":
            raise Denied(name, "k", "AccessDenied", "no", 403)
        if self.trouble == "slow":
            await asyncio.sleep(10 * BATCH_SECONDS)
            return await request()
        self.is_dead = True
        if self.trouble == "killed after":
            await request()
        raise Killed


@cache
def policy_of(deletes: str, storage_class: str | None) -> Policy:
    """The policy of a world."""
    hot = f"storage_class: {storage_class}" if storage_class else ""
    return parse_policy(
        f"""
version: 1
name: sealift
ledger: {{bucket: ledger, region: us-east-1, prefix: l/}}
pairs:
  - name: pair
    source: {{bucket: source, region: us-east-1}}
    destination: {{bucket: hotter, region: us-east-1, prefix: copies/, {hot}}}
    deletes: {deletes}
    thresholds: {{lambda_max_size: {LIMIT_BYTES} B}}
""".encode(),
        "policy.yaml",
    )


class Warm(Runtime):
    """A runtime whose policy was read."""

    def __init__(self, store: MemoryStore, policy: Policy, clock: Callable[[], float]):
        super().__init__(FunctionSettings("", Location("ledger", "l/")), open_region=lambda *_: store, clock=clock)
        self._read = policy

    async def policy(self) -> Policy:
        return self._read


@dataclass(eq=False)
class Message:
    """An event in the queue. `version`: what was written or removed. `number`: its place, as its sequencer says.

    `knows_version`: whether it says of which version it is. `knows_bytes`: or, without versions, of which bytes.
    `fails`: how often it failed undisturbed.
    """

    name: str
    key: str
    version: Version
    event: dict[str, Any]
    number: int
    knows_version: bool
    has_sequencer: bool
    knows_bytes: bool
    fails: int = 0

    def explains(self, other: Message, *, is_versioned: bool) -> bool:
        """Whether it says that the object of `other` was removed."""
        if (self.name, self.key) != (REMOVED, other.key):
            return False
        if is_versioned:
            return self.version is other.version and self.knows_version and other.knows_version
        return self.has_sequencer and self.number > other.number


@dataclass
class World:
    """`ever`: every version that a key had at the source, in the order of its writes.

    `placed`: every version that the destination ever had, by its id.
    """

    is_versioned: bool
    deletes: str
    storage_class: str | None
    default_checksum: str | None
    is_opaque: bool
    now: float = 1_790_000_000.0
    ever: dict[str, list[Version]] = field(default_factory=dict)
    placed: dict[str, Version] = field(default_factory=dict)
    pending: list[Message] = field(default_factory=list)
    done: list[Message] = field(default_factory=list)
    dead_letters: list[Message] = field(default_factory=list)
    archived_keys: set[tuple[str, str]] = field(default_factory=set)
    mistaken: set[tuple[str, str | None]] = field(default_factory=set)
    worked: set[str] = field(default_factory=set)
    worked_manifests: set[int] = field(default_factory=set)
    endings: Counter[str] = field(default_factory=Counter)
    events: int = 0
    tokens: int = 0
    is_calm: bool = True
    """Whether no request has been in trouble yet."""

    def __post_init__(self) -> None:
        self.store = MemoryStore(clock=lambda: self.now, default_checksum=self.default_checksum)
        self.troubles = Troubles()
        self.store.hook(**dict.fromkeys(REQUESTS, self.troubles))
        self.store.create_bucket("source", versioned=self.is_versioned)
        self.store.create_bucket("hotter")
        self.store.create_bucket("ledger")
        self.loop = Hurried()
        self.policy = policy_of(self.deletes, self.storage_class)
        self.lines_read: set[str] = set()
        self.runtime = self._cold()
        self.replaced = ExitStack()
        tokens = SimpleNamespace(token_hex=self._token)
        for module, name, value in (
            (scheduler.backup, "secrets", tokens),
            (backlog, "secrets", tokens),
            (scheduler.follow, "secrets", tokens),
            (scheduler.log, "_write", lambda document: None),
        ):
            self.replaced.enter_context(patch.object(module, name, value))

    def close(self) -> None:
        self.replaced.close()
        self.loop.close()

    def _token(self, size_bytes: int) -> str:
        """Counted: what is listed first has to be the same each time."""
        self.tokens += 1
        return f"{self.tokens:0{2 * size_bytes}x}"

    def _cold(self) -> Warm:
        return Warm(self.store, self.policy, lambda: self.now)

    # What happens at the source.

    def put(self, key: str, data: bytes, absent: frozenset[str], form: str, **attributes: Any) -> None:
        """Put an object. Its event lacks what is `absent`."""
        attributes["sse"] = "aws:kms" if self.is_opaque else None  # then an ETag says nothing of the bytes
        written = self._at_source(
            MemoryStore.put(self.store, "source", key, data, Attributes(**attributes), guard=UNGUARDED)
        )
        version = self.versions("source", key)[-1]
        if self.is_opaque:
            version.etag = f"{self.events:032x}"
            version.checksums = ()
        self.ever.setdefault(key, []).append(version)
        thing = {"versionId": written.version_id, "eTag": version.etag, "size": len(data)}
        self._tell(CREATED, key, version, thing, absent, form)

    def delete(self, key: str, absent: frozenset[str], form: str) -> None:
        """Delete without a version id: a marker, or without versions the object is gone."""
        before = self.versions("source", key)
        deleted = self._at_source(MemoryStore.delete(self.store, "source", key))
        if self.is_versioned:
            version = self.versions("source", key)[-1]
            self.ever.setdefault(key, []).append(version)
            self._tell(MARKED, key, version, {"versionId": deleted.version_id}, absent, form)
        elif before:
            self._tell(REMOVED, key, before[-1], {}, absent, form)

    def remove(self, key: str, place: int, absent: frozenset[str], form: str) -> None:
        """Remove a version or a marker for good."""
        versions = self.versions("source", key)
        if self.is_versioned and versions:
            version = versions[place % len(versions)]
            self._at_source(MemoryStore.delete(self.store, "source", key, version_id=version.version_id))
            self._tell(REMOVED, key, version, {"versionId": version.version_id}, absent, form)

    def restore(self, key: str, place: int) -> None:
        """S3 has thawed an archived version of the source, and says so."""
        archived = [each for each in self.versions("source", key) if each.is_archived]
        if archived:
            version = archived[place % len(archived)]
            version.is_restored = True
            named = {"version_id": version.version_id} if self.is_versioned else {}
            event = eventbridge(
                "source", key, "Object Restore Completed", time=self._time(), etag=version.etag, size=len(version.data),
                **named,
            )  # fmt: skip
            self._run(scheduler.follow.handle(self.runtime, event, "arn:aws:lambda:us-east-1:1:function:follow"))

    def _at_source(self, request: Coroutine[Any, Any, Any]) -> Any:
        """The answer of a request that never waits, within the functions' loop or outside of it."""
        try:
            request.send(None)
        except StopIteration as answer:
            return answer.value
        raise AssertionError("a MemoryStore waits for nothing")

    def _time(self) -> str:
        return datetime.fromtimestamp(self.now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _tell(
        self, name: str, key: str, version: Version, thing: dict[str, Any], absent: frozenset[str], form: str
    ) -> None:
        self.events += 1
        thing = {"sequencer": f"{0x660000 + self.events:016X}", **thing}
        knows_version = "versionId" not in absent or not self.is_versioned
        thing = {each: value for each, value in thing.items() if value is not None and each not in absent}
        if form == "records":
            event = {"Records": [record("source", key, name, time=self._time(), **thing)]}
            if "eventTime" in absent:
                del event["Records"][0]["eventTime"]
        else:
            spelled = {"versionId": "version_id", "eTag": "etag"}
            thing = {spelled.get(each, each): value for each, value in thing.items()}
            kind = "Object Created" if name == CREATED else "Object Deleted"
            if name != CREATED:
                thing["deletion_type"] = "Delete Marker Created" if name == MARKED else "Permanently Deleted"
            event = eventbridge("source", key, kind, time=self._time(), **thing)
        knows_bytes = knows_version and (self.is_versioned or "eTag" not in absent)
        message = Message(name, key, version, event, self.events, knows_version, "sequencer" not in absent, knows_bytes)
        self.pending.append(message)

    # The functions.

    def trouble(self, trouble: Trouble | None, requests: int) -> None:
        """Let one of the next requests be in trouble."""
        self.troubles.trouble, self.troubles.requests_left = trouble, requests
        self.is_calm = self.is_calm and trouble is None

    def deliver(self, messages: Sequence[Message], *, is_disturbed: bool) -> None:
        """One invocation with a batch of messages, some of which were done before."""
        self.now += 0.01
        self.beside: list[tuple[Sequence[Message], set[int]]] = []
        try:
            failed = self._run(self._handle(messages))
        except Killed:
            self.troubles.end()
            self.runtime = self._cold()
            self._check_kept()
            return
        except StoreError:
            assert is_disturbed, "nothing was wrong, and the function refused all"
            return
        finally:
            self.troubles.end()
        lines = self._new_lines()
        self._check_kept()
        for line in lines:
            self.endings[line["status"]] += 1
            self._check_line(line, is_disturbed=is_disturbed)
        for batch, left in [(messages, failed), *self.beside]:
            self._finish(batch, left, lines, is_disturbed=is_disturbed)
        if not is_disturbed:
            for key in sorted({each.key for each in messages}):
                endings = {line["status"] for line in lines if line["key"] == key}
                if endings <= LOOKED | {"retained"} and endings & LOOKED:
                    self.check_top(key, waits_for_events=True)

    async def deliver_beside(self, messages: Sequence[Message]) -> None:
        """Another function handles these, from beginning to end, at a moment of the first one's invocation."""
        self.beside.append((messages, await self._handle(messages)))

    async def _handle(self, messages: Sequence[Message]) -> set[int]:
        """Call the function. Returns the places of the messages that failed."""
        records = [{"messageId": str(number), "body": json.dumps(each.event)} for number, each in enumerate(messages)]
        request_id = f"request{self.events}"
        answer = await scheduler.backup.handle(self.runtime, {"Records": records}, BATCH_SECONDS, request_id)
        return {int(each["itemIdentifier"]) for each in answer["batchItemFailures"]}

    def _finish(
        self, messages: Sequence[Message], failed: set[int], lines: Sequence[dict[str, Any]], *, is_disturbed: bool
    ) -> None:
        for number, each in enumerate(messages):
            if number in failed:
                each.fails += not is_disturbed
                continue
            own = [line["status"] for line in lines if line["key"] == each.key]
            assert SETTLED & set(own), f"{each.name} of {each.key} is done with, the journal says {own}"
            if each in self.pending:
                self.pending.remove(each)
                self.done.append(each)

    def work_backlog(self, *, is_disturbed: bool) -> None:
        """Enqueue publishes what waits, and runs take the manifests."""
        self.now += 0.01
        try:
            enqueued = self._run(scheduler.enqueue.handle(self.runtime, {"now": True}, math.inf))
            for published in enqueued.manifests:
                if published.number not in self.worked_manifests:
                    taken = self._run(self._take(published))
                    self.worked_manifests.add(published.number)
                    self.worked |= taken
            assert is_disturbed or not enqueued.failures, enqueued.failures
        except Killed:
            self.runtime = self._cold()
        except StoreError:
            assert is_disturbed, "nothing was wrong, and the run failed"
        finally:
            self.troubles.end()
        self._check_kept()

    async def _take(self, published: Manifest) -> set[str]:
        """Work at a manifest, as a run does. Returns the backlog's names that it has taken."""
        options = SyncOptions(
            storage_class=self.storage_class or KEEP,
            all_versions=True,
            mirrors_deletes=self.deletes == "mirror",
            compares_tags=True,
        )
        route = Route(Location("source"), Location("hotter", "copies/"))
        job = SyncJob(self.store, self.store, route, options, ByteBudget(1 << 20))
        for row in rows_of_csv(await self.runtime.read(published.manifest.removeprefix("s3://ledger/l/"))):
            await self._settle(job, row._replace(row=0))
        document = json.loads(await self.runtime.read(f"manifests/pair=pair/{published.number:06d}.json"))
        folder = "l/backlog/pair=pair/"
        names = {name.removeprefix(folder) for name in self.store._buckets.named["ledger"].versions}
        return {*document["taken"], *(name for name in names if name < f"{document['taken_before']:013d}")}

    async def _settle(self, job: SyncJob, row: ObjectVersion) -> None:
        """As a worker does: again after what may pass."""
        for attempt in range(1, TRIES + 1):
            try:
                [outcome] = await job.process([row])
            except (Unavailable, Conflict, PreconditionFailed):
                if attempt == TRIES:
                    raise
                continue
            self.endings[f"run: {outcome.status}"] += 1
            if outcome.reason == Reason.DENIED:  # a person gives the permission, and tries the run again
                raise Denied("run", row.key, "AccessDenied", outcome.reason, 403)
            if outcome.status is Status.BLOCKED:
                assert outcome.reason == Reason.ARCHIVED, outcome
                self.archived_keys.add((row.key, row.version_id or NULL_VERSION))
            if outcome.status is Status.UNKNOWN:
                self.mistaken |= {
                    (row.key, each.version_id)
                    for each in self.versions("source", row.key)
                    if row.version_id in (None, each.version_id) and self._may_be_mistaken(row.key, each)
                }
            assert outcome.status.value in ("done", "same", "blocked", "missing", "unknown"), outcome
            return

    def drain(self) -> None:
        """Deliver everything undisturbed, and work at the backlog, until nothing is left."""
        for _ in range(ROUNDS):
            while self.pending:
                self.now += 5.0
                self.deliver(self.pending[:10], is_disturbed=False)
                for message in [each for each in self.pending if each.fails >= 3]:
                    self.pending.remove(message)
                    self.dead_letters.append(message)
                    self._check_dead(message)
            if not self._backlog():
                break
            self.work_backlog(is_disturbed=False)
        assert not self.pending, "events come again for ever"
        assert not self._backlog(), "the backlog never ends"
        for key in sorted({each.key for each in (*self.done, *self.dead_letters)}):
            self.check_top(key, waits_for_events=False)
            self._check_stored(key)

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run to the end. Of a runtime that was killed, nothing goes on."""
        try:
            return self.loop.run_until_complete(work)
        except Killed:
            self.troubles.is_dead = True
            for task in (rest := asyncio.all_tasks(self.loop)):
                task.cancel()
            if rest:
                self.loop.run_until_complete(asyncio.wait(rest))
            raise

    # The oracle.

    def versions(self, bucket: str, key: str) -> list[Version]:
        """What the bucket has of a key, the oldest first."""
        return self.store.stored(bucket, key)

    def _new_lines(self) -> list[dict[str, Any]]:
        """The journal's lines that nobody has read."""
        objects = self.store._buckets.named["ledger"].versions
        names = [name for name in objects if name.startswith("l/journal/") and name not in self.lines_read]
        self.lines_read |= set(names)
        return [json.loads(line) for name in names for line in objects[name][-1].data.splitlines()]

    def _backlog(self) -> list[dict[str, Any]]:
        """The rows that no run has worked at."""
        objects = self.store._buckets.named["ledger"].versions
        begin = "l/backlog/pair=pair/"
        names = [name for name in objects if name.startswith(begin) and name[len(begin) :] not in self.worked]
        return [json.loads(line) for name in names for line in objects[name][-1].data.splitlines()]

    def _check_kept(self) -> None:
        """Nothing of the destination is lost or altered, and what is new is of the source."""
        there = {
            each.version_id: (key, each)
            for key, versions in self.store._buckets.named["hotter"].versions.items()
            for each in versions
        }
        assert set(self.placed) <= set(there), "the destination has lost versions"
        for version_id, (name, version) in there.items():
            if version_id in self.placed:
                continue
            self.placed[version_id] = version
            key = name.removeprefix("copies/")
            if version.is_delete_marker:
                assert self.deletes == "mirror", "a marker, though deletes are retained"
            else:
                assert any(self._alike(each, version) for each in self.ever.get(key, [])), "nobody wrote that"
            wanted = self.storage_class
            assert version.is_delete_marker or wanted in (None, version.storage_class)
            if self.is_calm and self.is_versioned and not self.is_opaque and not version.is_delete_marker:
                self._check_not_duplicated(key, version)

    def _check_not_duplicated(self, key: str, version: Version) -> None:
        """What is on top is not copied again. Bytes that came twice are not told apart, nor archived ones."""
        copies = self.versions("hotter", f"copies/{key}")
        place = next(at for at, each in enumerate(copies) if each is version)
        alike = [each for each in self.ever[key] if each.data == version.data]
        if place and len(alike) == 1 and not any(each.is_archived for each in (*alike, version)):
            assert not self._alike(copies[place - 1], version), "what was on top was copied again"

    def _alike(self, one: Version, other: Version) -> bool:
        """Content and metadata of both are the same, and with versions `other` has the tags of `one`.

        No request pins tags without a version id.
        """
        mine, theirs = one.attributes, other.attributes
        same = one.data == other.data and one.is_delete_marker == other.is_delete_marker
        has_tags = not self.is_versioned or mine.tags.items() <= theirs.tags.items()
        return same and has_tags and dict(mine.metadata) == dict(theirs.metadata)

    def _check_line(self, line: dict[str, Any], *, is_disturbed: bool) -> None:
        """What the journal says is true."""
        key, status = line["key"], line["status"]
        is_created = line["event"] in (CREATED, "Object Created")
        if status in ("copied", "same", "unverifiable") and is_created:
            copy = self.placed.get(line["destination_version_id"])
            assert copy is not None, f"{status}: no such copy"
            ids = line["version_id"] if self.is_versioned else None
            originals = [
                each
                for each in self.ever[key]
                if not each.is_delete_marker and ids in (None, each.version_id) and line["etag"] in (None, each.etag)
            ]
            is_unsure = status == "unverifiable" and any(self._may_be_mistaken(key, each) for each in originals)
            if is_unsure:
                self.mistaken |= {(key, each.version_id) for each in originals}
            assert is_unsure or any(self._alike(each, copy) for each in originals), f"{status} is not true"
            for message in self._messages_of(line):
                assert is_unsure or message.version.data == copy.data, f"{status} is said of other bytes"
            assert status != "same" or line["evidence"] != "none", "the same by no evidence"
        if status == "deleted":
            assert any(each.is_delete_marker for each in self.versions("hotter", f"copies/{key}"))
        if status in ("superseded", "missing") and not is_disturbed and line["version_id"]:
            there = {each.version_id for each in self.versions("source", key)}
            assert line["version_id"] not in there, f"{status}: it is there"
        if status in ("failed", "denied"):
            assert is_disturbed, f"nothing was wrong: {line['reason']}"

    def _may_be_mistaken(self, key: str, version: Version) -> bool:
        """DESIGN.md's limit: what is archived on one side is taken for equal to a copy of its size, and called
        unverifiable.
        """
        copies = self.versions("hotter", f"copies/{key}")
        sizes = [len(each.data) for each in copies if not each.is_delete_marker]
        is_archived = self.storage_class == "DEEP_ARCHIVE" or version.is_archived
        return is_archived and self.is_versioned and len(version.data) in sizes

    def _messages_of(self, line: dict[str, Any]) -> list[Message]:
        """The message that a line is about, if it said of which bytes it is."""
        known = (*self.pending, *self.done, *self.dead_letters)
        number = int(line["sequencer"], 16) - 0x660000 if line["sequencer"] else 0
        return [each for each in known if each.number == number and each.knows_bytes]

    def _check_dead(self, message: Message) -> None:
        """Only what is gone without an explanation may end as a dead letter."""
        assert message.name == CREATED, f"{message.name} never ends"
        is_there = any(each is message.version for each in self.versions("source", message.key))
        assert not is_there, f"{message.key} {message.version.version_id} is there and is not copied"
        assert not any(each.explains(message, is_versioned=self.is_versioned) for each in self.done), "it is explained"

    def check_top(self, key: str, *, waits_for_events: bool) -> None:
        """The source's newest is on top, or the backlog or the journal says that it is not."""
        now, copies = self.versions("source", key), self.versions("hotter", f"copies/{key}")
        top = copies[-1] if copies else None
        shown = None if top is None or top.is_delete_marker else top
        if self.deletes == "mirror" and (not now or now[-1].is_delete_marker):
            if shown is not None and waits_for_events:
                assert self._is_awaited(key, now[-1] if now else None), f"{key} was deleted and is shown"
            else:
                assert shown is None, f"{key} was deleted and is shown"
            return
        objects = [each for each in now if not each.is_delete_marker]
        if not objects:
            return
        newest = objects[-1]
        written = self.ever[key]
        later = [each for each in written[written.index(newest) + 1 :] if each not in now]
        allowed = [newest] if self.deletes == "mirror" else [newest, *later]
        if shown is not None and any(self._alike(each, shown) for each in allowed):
            return
        if (key, newest.version_id) in self.mistaken:
            return
        if any(
            row["key"] == key and row["version_id"] in (None, NULL_VERSION, newest.version_id)
            for row in self._backlog()
        ):
            return
        if waits_for_events and self._is_awaited(key, newest):
            return
        assert newest.is_archived, f"{key}: {shown.data if shown else None!r} is on top, not {newest.data!r}"
        said = {(key, newest.version_id), (key, NULL_VERSION)}
        assert waits_for_events or said & self.archived_keys, f"{key} is archived, and nobody says so"

    def _is_awaited(self, key: str, version: Version | None) -> bool:
        """Whether an event of the key that tells of this version has yet to be handled."""
        return any(each.key == key and (version is None or each.version is version) for each in self.pending)

    def _check_stored(self, key: str) -> None:
        """Each version that an event named has a copy, or a run said that it is archived."""
        copies = [each for each in self.versions("hotter", f"copies/{key}") if not each.is_delete_marker]
        there = self.versions("source", key)
        for message in self.done:
            version = message.version
            is_asked = (message.name, message.key) == (CREATED, key) and message.knows_version
            if is_asked and any(each is version for each in there):
                is_stored = any(self._alike(version, each) for each in copies)
                is_said = {(key, version.version_id), (key, NULL_VERSION)} & self.archived_keys
                is_mistaken = (key, version.version_id) in self.mistaken
                assert is_stored or is_said or is_mistaken, f"{key} {version.version_id} ({version.data!r}) has no copy"
