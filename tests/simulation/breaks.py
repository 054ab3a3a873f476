"""Breaks, planted where any design of Sealift meets the world: the store, the command's end, a few decisions, clocks.

Each shows that the oracle would notice. `make promises` may use them as well: `find(name)` plays until one is noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from tests.simulation.adapter import PLACE, SEAMS, UNGUARDED, Program, store_error
from tests.simulation.play import Play
from tests.simulation.schedule import ARCHIVES, COPIES, DESTINATION, SOURCE, Schedule, Verb, make_schedule


class Broken:
    """A store that passes everything on."""

    def __init__(self, store: Any):
        self.store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


class WithoutIfNoneMatch(Broken):
    """`If-None-Match: *` is ignored."""

    async def put(self, *given: Any, guard: Any, **named: Any) -> Any:
        return await self.store.put(*given, guard=UNGUARDED if guard.absent else guard, **named)

    async def copy(self, *given: Any, guard: Any) -> Any:
        return await self.store.copy(*given, guard=UNGUARDED if guard.absent else guard)

    async def complete_multipart(self, *given: Any, guard: Any, **named: Any) -> Any:
        return await self.store.complete_multipart(*given, guard=UNGUARDED if guard.absent else guard, **named)


class WithoutIfMatch(Broken):
    """`If-Match` of writes is ignored."""

    async def put(self, *given: Any, guard: Any, **named: Any) -> Any:
        return await self.store.put(*given, guard=guard._replace(etag=None), **named)

    async def copy(self, *given: Any, guard: Any) -> Any:
        return await self.store.copy(*given, guard=guard._replace(etag=None))

    async def complete_multipart(self, *given: Any, guard: Any, **named: Any) -> Any:
        return await self.store.complete_multipart(*given, guard=guard._replace(etag=None), **named)


class WithoutIfMatchOfDeletes(Broken):
    """`If-Match` of deletes is ignored."""

    async def delete(self, *given: Any, if_match: Any = None, **named: Any) -> Any:
        return await self.store.delete(*given, **named)


class WithoutSourcePins(Broken):
    """A copy is made of the source's current version, whatever version and ETag were named."""

    async def copy(self, source: Any, etag: Any, *given: Any, guard: Any) -> Any:
        return await self.store.copy(_current(source), None, *given, guard=guard)


class WithoutVersionId(Broken):
    """Of the source the current version is read, whichever was named, and no ETag is checked."""

    async def head(self, ref: Any, **named: Any) -> Any:
        return await self.store.head(_current(ref), **named)

    async def get(self, ref: Any, **named: Any) -> Any:
        return await self.store.get(_current(ref), **named)

    async def copy(self, source: Any, etag: Any, *given: Any, guard: Any) -> Any:
        return await self.store.copy(_current(source), etag, *given, guard=guard)


def _current(ref: Any) -> Any:
    return ref._replace(version_id=None) if ref.bucket == SOURCE else ref


class WithoutTags(Broken):
    """No object says that it has tags."""

    async def head(self, ref: Any, **named: Any) -> Any:
        return replace(await self.store.head(ref, **named), tag_count=0)

    async def get_tags(self, ref: Any) -> dict[str, str]:
        return {}


class Blind(WithoutIfNoneMatch):
    """Nothing is ever at the destination, so all is written again."""

    async def head(self, ref: Any, **named: Any) -> Any:
        if ref.bucket == DESTINATION and ref.key.startswith(COPIES):
            raise store_error("HeadObject", ref.key, "NotFound", "", 404)
        return await self.store.head(ref, **named)


class ShortListing(Broken):
    """A page of the source's listing lacks its last entry."""

    async def list_objects(self, bucket: str, *given: Any, **named: Any) -> Any:
        return self._shorter(bucket, await self.store.list_objects(bucket, *given, **named))

    async def list_versions(self, bucket: str, *given: Any, **named: Any) -> Any:
        return self._shorter(bucket, await self.store.list_versions(bucket, *given, **named))

    def _shorter(self, bucket: str, page: Any) -> Any:
        return page._replace(entries=page.entries[:-1]) if bucket == SOURCE and len(page.entries) > 1 else page


class BadDisk(Broken):
    """What is copied within S3, or put, comes as other bytes."""

    async def get(self, ref: Any, **named: Any) -> Any:
        body = await self.store.get(ref, **named)
        is_archive = ref.bucket == DESTINATION and ref.key.startswith(ARCHIVES)
        return body if is_archive or ref.bucket != SOURCE else body._replace(data=bytes(len(body.data)))


class Flattering(Broken):
    """A copy that is read answers the bytes of its original, so what rotted at rest does not show."""

    async def get(self, ref: Any, *, if_match: Any = None, **named: Any) -> Any:
        body = await self.store.get(ref, if_match=if_match, **named)
        if ref.bucket != DESTINATION or not ref.key.startswith(COPIES) or PLACE in ref.key:
            return body
        original = ref._replace(bucket=SOURCE, key=ref.key.removeprefix(COPIES), version_id=None)
        return body._replace(data=(await self.store.get(original, **named)).data)


class Forgetful(Program):
    """What the function leaves to a run is never run."""

    async def publish(self) -> list[list[str]]:
        return []


class Cheerful(Program):
    """Every command ends well."""

    async def command(self, *words: str) -> int:
        code = await super().command(*words)
        return 0 if code == 3 else code


class Idle(Program):
    """`--undo` does nothing."""

    async def command(self, *words: str) -> int:
        return 0 if "--undo" in words else await super().command(*words)


class Stubborn(Program):
    """No run is continued."""

    async def command(self, *words: str) -> int:
        return 75 if words[:2] == ("runs", "retry") else await super().command(*words)


class Eager(Program):
    """`verify` copies what it finds missing."""

    async def command(self, *words: str) -> int:
        if words[0] == "verify" and "--archives" not in words:
            words = ("replicate", *(word for word in words[1:] if word != "--deep"))
        return await super().command(*words)


def _swapping(name: str, instead: Callable[[Any], Any]) -> type[Program]:
    """Sealift with another function at one of its seams; `instead` gets its own."""

    class Swapped(Program):
        extra = ((SEAMS[name], instead(SEAMS[name])),)

    return Swapped


def _always_same(own: Any) -> Any:
    """The comparison finds every pair the same."""

    def compare(*given: Any, **named: Any) -> Any:
        verdict = own(*given, **named)
        return (
            verdict._replace(same=True, evidence=type(verdict.evidence)("checksum"))
            if hasattr(verdict, "_replace")
            else replace(verdict, same=True, evidence=type(verdict.evidence)("checksum"))
        )

    return compare


class Break(Struct, frozen=True):
    """What is broken, and the promise that the oracle then finds broken within so many schedules that have `verb`.

    `verb` None: any schedule. `events`: those of events.
    """

    name: str
    promise: str
    seeds: int
    store: Callable[[Any], Any] = lambda store: store
    program: Callable[..., Program] = Program
    verb: Verb | None = None
    events: bool = False

    def schedules(self, first: int = 1) -> Iterable[Schedule]:
        """The schedules in which it may show, by seed."""
        seed, found = first, 0
        while found < self.seeds:
            schedule = make_schedule(seed, is_full=False)
            verbs = [act.verb for act in schedule.acts]
            seed += 1
            if schedule.has_events == self.events and (self.verb is None or self.verb in verbs):
                found += 1
                yield schedule


BREAKS = (
    Break("no If-None-Match", "guarded", 60, WithoutIfNoneMatch),
    Break("no If-Match of deletes", "nothing destroyed", 100, WithoutIfMatchOfDeletes, verb=Verb.EXPIRE),
    Break("no tags", "pinned", 20, WithoutTags),
    Break("nothing is ever there", "idempotent", 20, Blind),
    Break("another version is copied", "proven", 200, WithoutSourcePins),
    Break("a short listing", "accounted", 20, ShortListing),
    Break("other bytes", "pinned", 20, BadDisk),
    Break("a copy that reads as its original", "nothing destroyed", 60, Flattering, verb=Verb.ROT),
    Break("a forgotten backlog", "newest on top", 30, program=Forgetful, events=True),
    Break("exit 0 whatever happens", "honest", 20, program=Cheerful),
    Break("no run is continued", "resumable", 60, program=Stubborn),
    Break("verify writes", "left alone", 20, program=Eager, verb=Verb.VERIFY),
    Break("an idle undo", "nothing destroyed", 30, program=Idle, verb=Verb.UNDO),
    Break("all is the same", "proven", 30, program=_swapping("compare", _always_same)),
)


def find(broken: Break) -> tuple[int, str] | None:
    """The seed of the first schedule that shows the break by its promise, and how."""
    for schedule in broken.schedules():
        played = Play(schedule, broken.store, broken.program).play()
        how = next((what for promise, what in played.oracle.violations if promise == broken.promise), None)
        if how is not None:
            return schedule.seed, how
    return None
