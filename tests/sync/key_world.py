"""One key with everything that may happen to it, and an oracle that sees the buckets alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from msgspec import Struct

from jobs.core.model import Attributes, Location, ObjectRef, ObjectVersion, Route
from jobs.core.outcome import GOOD, Status
from jobs.core.reasons import Reason
from jobs.errors import Conflict, PreconditionFailed, Unavailable
from jobs.s3.store import UNGUARDED
from jobs.sync.key import KeyResult, sync_key
from tests.doubles.hooks import Killed
from tests.doubles.memory_buckets import Version
from tests.doubles.memory_store import MemoryStore, Request
from tests.doubles.served_store import WRITES
from tests.sync.scene import COPY, SOURCE, sides

TRIES = 8


class Moment(Struct):
    """A hook: before, or after, the n-th request from now on something happens. A dead process sends nothing."""

    left: int = 0
    act: Callable[[], Awaitable[None]] | None = None
    is_after: bool = False
    kills: bool = False
    is_dead: bool = False

    async def __call__(self, request: Request) -> Any:
        if self.is_dead:
            raise Killed
        self.left -= 1
        if self.left != 0:
            return await request()
        answer = await request() if self.is_after else None
        if self.act is not None:
            await self.act()
        if self.kills:
            self.is_dead = True
            raise Killed
        return answer if self.is_after else await request()


class KeyWorld(Struct, dict=True):
    """`ever`: all that the source had. `foreign`: what others wrote at the destination. `placed`: all that it had."""

    options: dict[str, Any]
    is_versioned: bool
    keeps_versions: bool
    store: MemoryStore
    is_opaque: bool = False
    ever: list[Version] = []
    foreign: list[Version] = []
    placed: dict[int, Version] = {}
    pending: list[ObjectVersion | None] = []
    done: list[ObjectVersion | None] = []
    here: ObjectRef = SOURCE
    there: ObjectRef = COPY

    def __post_init__(self) -> None:
        if self.is_opaque:
            self.options["sse"] = "aws:kms"
        self.moment = Moment()
        self.store.hook(every=self.moment, **dict.fromkeys(WRITES, self._watch))
        self.writes = 0

    @property
    def source(self) -> list[Version]:
        return self.store.stored(*self.here[:2])

    @property
    def copies(self) -> list[Version]:
        return self.store.stored(*self.there[:2])

    async def _bare(self, operation: str, *args: Any, **named: Any) -> None:
        """A request of others, which no hook sees."""
        await getattr(type(self.store), operation)(self.store, *args, **named)

    # What others do

    async def put(self, body: bytes, metadata: dict[str, str]) -> None:
        await self._bare("put", self.here, body, self._attributes(metadata), guard=UNGUARDED)
        version = self.source[-1]
        self._hide(version)
        self.ever.append(version)
        named = version.version_id if self.is_versioned else None
        self.pending.append(ObjectVersion(0, self.here.key, named, size_bytes=len(body), etag=version.etag))

    async def mark(self) -> None:
        await self._bare("delete", self.here)
        self.pending.append(None)

    async def remove(self, place: int) -> None:
        if self.source:
            version = self.source[place % len(self.source)]
            await self._bare("delete", self.here._replace(version_id=version.version_id))
            self.pending.append(None)

    async def put_foreign(self, body: bytes) -> None:
        await self._bare("put", self.there, body, self._attributes({}), guard=UNGUARDED)
        self._hide(self.copies[-1])
        self.foreign.append(self.copies[-1])
        self._note_placed()

    async def mark_foreign(self) -> None:
        await self._bare("delete", self.there)
        self._note_placed()

    def _attributes(self, metadata: dict[str, str]) -> Attributes:
        return Attributes(metadata=metadata, sse="aws:kms" if self.is_opaque else None)

    def _hide(self, version: Version) -> None:
        """Under a KMS key an ETag says nothing of the bytes."""
        if self.is_opaque:
            version.etag = f"{version.order:032x}"

    # What we do

    async def handle(self, rows: Sequence[ObjectVersion]) -> KeyResult | None:
        """As a function or a worker does: again after what may pass. None: it was killed."""
        route = Route(Location(self.here.bucket, "in/"), Location(self.there.bucket, "out/"))
        both = sides(self.store, route, **self.options)
        numbered = [row._replace(row=number) for number, row in enumerate(rows)]
        try:
            for _ in range(TRIES):
                try:
                    result = await sync_key(both, self.here.key, numbered, is_event=True)
                except (Unavailable, Conflict, PreconditionFailed):
                    continue
                return result
        except Killed:
            return None
        raise AssertionError("it does not come to an end")

    async def deliver(self, pick: int, moment: Moment | None = None) -> None:
        """Handle one of the events. It comes again if the process was killed."""
        event = self.pending[pick % len(self.pending)]
        self.moment = moment or Moment()
        self.store.hook(every=self.moment)
        rows = [event] if event is not None else []
        is_done = await self.handle(rows) is not None
        self.moment = Moment()
        self.store.hook(every=self.moment)
        if is_done and event in self.pending:
            self.pending.remove(event)
            self.done.append(event)

    async def _watch(self, request: Request) -> Any:
        if request.place.bucket != self.there.bucket:
            return await request()
        before = list(self.copies)
        answer = await request()
        self.writes += 1
        new = [each for each in self.copies if all(each is not other for other in before)]
        for each in new:
            if self.is_opaque and not each.is_delete_marker:
                self._hide(each)
                answer = answer._replace(etag=each.etag)
            self._check_write(before, each)
        self._note_placed()
        return answer

    # The oracle

    def _note_placed(self) -> None:
        self.placed |= {id(each): each for each in self.copies}
        if self.keeps_versions:
            assert len(self.placed) == len(self.copies), "the destination has lost a version"

    def _check_write(self, before: Sequence[Version], made: Version) -> None:
        """A write is of something that the source had, and loses nothing that is newer."""
        if made.is_delete_marker:
            assert self.options["mirrors_deletes"], "a marker that nobody asked for"
            assert self.keeps_versions, "a delete where no versions are kept"
            return
        origins = [each for each in self.ever if alike(each, made)]
        assert origins, "nobody wrote that"
        if self.keeps_versions or not before or self.options["overwrite"] == "always":
            return
        top = before[-1]
        is_foreign = any(top is each for each in self.foreign)
        is_old = any(alike(each, top) for each in self.ever)
        newest = max(each.last_modified for each in origins)
        assert not is_foreign or is_old or int(top.last_modified) <= int(newest), "a newer object was overwritten"

    async def check(self) -> None:
        """All events are delivered undisturbed, twice. Then all is as it should be, and stays so."""
        while self.pending:
            await self.deliver(0)
        for event in [*self.done, None]:
            await self.handle([event] if event is not None else [])
        named = [event for event in self.done if event is not None]
        if not self.options["all_versions"]:
            named = named[-1:]
        result = await self.handle(named)
        assert result is not None
        writes = self.writes
        again = await self.handle(named)
        assert again is not None
        assert self.writes == writes, "a second look writes"
        assert again.top == result.top or {again.top.status, result.top.status} <= GOOD
        self._check_versions(named, result)
        self._check_top(result)

    def _check_versions(self, named: Sequence[ObjectVersion], result: KeyResult) -> None:
        for number, row in enumerate(named):
            version = next((each for each in self.source if each.version_id == row.version_id), None)
            status = result.outcomes[number].status
            if version is None or result.outcomes[number].reason == Reason.NEWER_COPIED:
                continue
            assert status is not Status.MISSING, "what is there is called missing"
            if status in (Status.SAME, Status.DONE):
                has_copy = self._is_mistaken(version) or any(alike(version, each) for each in self.copies)
                assert has_copy, f"{row.version_id} is {status} and has no copy"
            else:
                assert status in (Status.CHANGED, Status.UNKNOWN, Status.LEFT, Status.BLOCKED, Status.DAMAGED), status

    def _is_mistaken(self, version: Version) -> bool:
        """A listing shows no metadata: an object of the same bytes that somebody put there, or the copy of a version
        that is gone, passes for the copy.
        """
        gone = [each for each in self.ever if all(each is not other for other in self.source)]
        return any(each.data == version.data for each in (*self.foreign, *gone))

    def _check_top(self, result: KeyResult) -> None:
        top = self.copies[-1] if self.copies and not self.copies[-1].is_delete_marker else None
        source, mirrors = self.source, self.options["mirrors_deletes"]
        objects = [each for each in source if not each.is_delete_marker]
        is_deleted = not objects or source[-1].is_delete_marker
        is_right = (
            top is None if mirrors and is_deleted else not objects or (top is not None and alike(objects[-1], top))
        )
        codes = (Status.CHANGED, Status.LEFT, Status.UNKNOWN)
        is_right = is_right or (
            top is not None and bool(objects) and top.data == objects[-1].data and self._is_mistaken(top)
        )
        assert is_right or result.top.status in codes, f"{result.top}: {top and top.data!r} is on top"


def alike(source: Version, copy: Version) -> bool:
    if copy.is_delete_marker or source.is_delete_marker:
        return False
    return (source.data, dict(source.attributes.metadata)) == (copy.data, dict(copy.attributes.metadata))


RUNNER = asyncio.Runner()


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """All in one loop: a server's connections belong to theirs."""
    return RUNNER.run(work)
