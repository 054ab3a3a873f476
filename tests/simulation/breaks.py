"""Breaks, planted where any design of Sealift meets the world: the store, the command's end, a few decisions, clocks.

Each shows that the oracle would notice. `make promises` may use them as well: `find(name)` plays until one is noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from tests.doubles.changes import Change, answering, sending
from tests.simulation.adapter import UNGUARDED, Program, compare, store_error
from tests.simulation.play import Play
from tests.simulation.schedule import COPIES, DESTINATION, SOURCE, Schedule, Verb, make_schedule
from tests.simulation.surface import PLACE


def _server(**changes: Change) -> Callable[[Any], Any]:
    """Stands before a store as a server that answers some operations in another way."""

    class Server:
        def __init__(self, store: Any):
            self._store = store

        def __getattr__(self, name: str) -> Any:
            own = getattr(self._store, name)
            return partial(changes[name], own) if name in changes else own

    return Server


def _writes(change: Change) -> dict[str, Change]:
    return dict.fromkeys(("put", "copy", "complete_multipart"), change)


def _current(ref: Any) -> Any:
    return ref._replace(version_id=None) if ref.bucket == SOURCE else ref


async def _no_copy(own: Any, ref: Any, **named: Any) -> Any:
    if ref.bucket == DESTINATION and ref.key.startswith(COPIES):
        raise store_error("HeadObject", ref.key, "NotFound", "", 404)
    return await own(ref, **named)


async def _shorter(own: Any, bucket: str, *given: Any, **named: Any) -> Any:
    """A page of the source's listing lacks its last entry."""
    page = await own(bucket, *given, **named)
    return page._replace(entries=page.entries[:-1]) if bucket == SOURCE and len(page.entries) > 1 else page


async def _other_bytes(own: Any, ref: Any, **named: Any) -> Any:
    body = await own(ref, **named)
    return body if ref.bucket != SOURCE else body._replace(data=bytes(len(body.data)))


async def _originals_bytes(own: Any, ref: Any, **named: Any) -> Any:
    """A copy that is read answers the bytes of its original, so what rotted at rest does not show."""
    body = await own(ref, **named)
    if ref.bucket != DESTINATION or not ref.key.startswith(COPIES) or PLACE in ref.key:
        return body
    original = ref._replace(bucket=SOURCE, key=ref.key.removeprefix(COPIES), version_id=None)
    return body._replace(data=(await own(original, **named | {"if_match": None})).data)


_any_guard = _writes(sending(guard=lambda guard: UNGUARDED if guard.absent else guard))
WITHOUT_IF_NONE_MATCH = _server(**_any_guard)
WITHOUT_IF_MATCH = _server(**_writes(sending(guard=lambda guard: guard._replace(etag=None))))
WITHOUT_SOURCE_PINS = _server(copy=sending(source=_current, source_etag=None))
"""A copy is made of the source's current version, whatever version and ETag were named."""
WITHOUT_VERSION_ID = _server(head=sending(ref=_current), get=sending(ref=_current), copy=sending(source=_current))
"""Of the source the current version is read, whichever was named."""


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


class Agreeing(Program):
    """The comparison finds every pair the same."""

    _same = answering(lambda verdict: verdict._replace(same=True, evidence=type(verdict.evidence)("checksum")))
    extra = ((compare, partial(_same, compare)),)


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
    Break("no If-None-Match", "guarded", 60, WITHOUT_IF_NONE_MATCH),
    Break("no If-Match of deletes", "nothing destroyed", 100, _server(delete=sending(if_match=None)), verb=Verb.EXPIRE),
    Break(
        "no tags",
        "pinned",
        20,
        _server(head=answering(lambda info: replace(info, tag_count=0)), get_tags=answering(lambda _: {})),
    ),
    Break("nothing is ever there", "idempotent", 20, _server(**_any_guard, head=_no_copy)),
    Break("another version is copied", "proven", 200, WITHOUT_SOURCE_PINS),
    Break("a short listing", "accounted", 20, _server(list_objects=_shorter, list_versions=_shorter)),
    Break("other bytes", "pinned", 20, _server(get=_other_bytes)),
    Break("a copy that reads as its original", "nothing destroyed", 60, _server(get=_originals_bytes), verb=Verb.ROT),
    Break("a forgotten backlog", "newest on top", 30, program=Forgetful, events=True),
    Break("exit 0 whatever happens", "honest", 20, program=Cheerful),
    Break("no run is continued", "resumable", 60, program=Stubborn),
    Break("verify writes", "left alone", 20, program=Eager, verb=Verb.VERIFY),
    Break("an idle undo", "nothing destroyed", 30, program=Idle, verb=Verb.UNDO),
    Break("all is the same", "proven", 30, program=Agreeing),
)


def find(broken: Break) -> tuple[int, str] | None:
    """The seed of the first schedule that shows the break by its promise, and how."""
    for schedule in broken.schedules():
        played = Play(schedule, broken.store, broken.program).play()
        how = next((what for promise, what in played.oracle.violations if promise == broken.promise), None)
        if how is not None:
            return schedule.seed, how
    return None
