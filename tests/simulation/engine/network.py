"""The network between processes and S3: requests that are late, lost, refused, or answered twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.simulation.adapter import StoreError, refuse_late, store_error
from tests.simulation.engine.loop import run_at_once
from tests.simulation.schedule import DESTINATION, OTHERS, SOURCE, Fault, Kind, Where

if TYPE_CHECKING:
    from tests.simulation.engine.world import Process, World

JUMPS_SECONDS = (-3600.0, -20.0, 30.0, 70.0, 3600.0, 90 * 86400.0)
EXPIRED_SECONDS_MAX = 15.0
WRITES = frozenset({"put", "copy", "complete_multipart", "delete"})
_PLACE = {"copy": 2, "copy_part": 4}
_BEFORE = {Kind.REFUSED: ("InternalError", 500), Kind.BROKEN: ("ConnectionLost", 0), Kind.DENIED: ("AccessDenied", 403)}
_AFTER = {Kind.LOST: ("TimedOut", 0), Kind.HALF: ("InternalError", 500)}


class Gone(BaseException):
    """A request of a process that is being buried."""


@dataclass(slots=True)
class Request:
    """One request on its way. `error`: what is answered; `is_done`: it takes effect all the same.

    `is_late`: it takes effect when nobody waits for it any more, or for the second time.
    """

    number: int
    process: Process
    name: str
    bucket: str
    key: str
    arguments: tuple[Any, ...]
    named: Mapping[str, Any]
    answer: asyncio.Future[Any]
    delay_seconds: float
    error: StoreError | None = None
    is_done: bool = True
    kills: Kind | None = None
    is_repeated: bool = False
    is_unsent: bool = False
    is_late: bool = False


class Network:
    """Lets the schedule's faults happen at the requests that they name. `fired` and `answers` count."""

    def __init__(self, world: World):
        self._world = world
        self.requests = self.troubles = 0
        self.fired: Counter[Kind] = Counter()
        self.hits: set[tuple[str, str]] = set()
        """Bucket and key of each request that a fault has hit."""
        self.answers: Counter[str] = Counter()
        self._storm_ends = self._renewed_at = 0.0
        self._later = partial(world.loop.call_later, context=world.outside)
        self._faults: dict[Where, dict[int, list[Fault]]] = {}
        self._counts: Counter[Where] = Counter()
        for fault in world.schedule.faults:
            self._faults.setdefault(fault.where, {}).setdefault(fault.at, []).append(fault)

    def ask(self, process: Any, name: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Send a request; the future of its answer."""
        world = self._world
        loop = world.loop
        if process.is_dead or loop.is_over:
            raise Gone
        place: Any = arguments
        refuse_late(name, place, named.pop("send_by", None))  # of the client: S3 does what comes late
        bucket, key = _target(name, arguments)
        self.requests += 1
        roll = world.chance()
        request = Request(
            self.requests, process, name, bucket, key, arguments, named, loop.create_future(), 0.03 * (roll * 977 % 1)
        )
        world.note(request.number, process.name, name, bucket, key)
        sent = 0.03 * roll
        if not world.is_quiet:
            held = world.schedule.held_writes
            if held and name in WRITES and bucket == DESTINATION and world.chance() < held:
                sent += 2 * world.chance()
            for where, faults in self._faults.items():
                if where.name in ("", name) and where.bucket in ("", bucket):
                    self._counts[where] += 1
                    for fault in faults.pop(self._counts[where], ()):
                        sent += self._strike(fault, request)
            self._refuse(request)
        if not request.is_unsent:
            self._later(sent, self._apply if request.is_done else self._answer, request)
        return request.answer

    def _refuse(self, request: Request) -> None:
        """While credentials have expired, or S3 is busy, nothing is done."""
        for ends, code, status in ((self._renewed_at, "ExpiredToken", 400), (self._storm_ends, "SlowDown", 503)):
            if self._world.loop.now < ends and request.error is None:
                request.error = store_error(request.name, request.key, code, "", status)
                request.is_done = False
                self.troubles += 1
                self.hits.add((request.bucket, request.key))

    def _strike(self, fault: Fault, request: Request) -> float:
        """Let the fault happen to the request, or at its moment; how much later it arrives, in seconds."""
        kind, pick, process, world = fault.kind, fault.pick, request.process, self._world
        self.fired[kind] += 1
        self.troubles += 1
        self.hits.add((request.bucket, request.key))
        world.note("fault", kind.name, pick)
        if kind in _BEFORE or kind in _AFTER:
            code, status = (_BEFORE | _AFTER)[kind]
            request.error = store_error(request.name, request.key, code, "", status)
            request.is_done = kind in _AFTER
        elif kind is Kind.LATE:
            early = replace(request, error=store_error(request.name, request.key, "TimedOut", "", 0))
            self._later(0.02, self._answer, early)
            return 0.05 + pick % 4000 / 100
        elif kind is Kind.SLOW:
            return 1 + pick % 9000 / 100
        elif kind is Kind.SLOW_ANSWER:
            request.delay_seconds += 1 + pick % 9000 / 100
        elif kind is Kind.BURST:
            self._storm_ends = world.loop.now + pick % 800 / 100
        elif kind is Kind.EXPIRED:
            self._renewed_at = world.loop.now + 1 + pick % 100 / 100 * (EXPIRED_SECONDS_MAX - 1)
        elif kind is Kind.REPEAT:
            request.is_repeated = True
        elif kind is Kind.KILL:
            world.kill(process)
            request.is_unsent = True
        elif kind in (Kind.KILL_AFTER, Kind.KILL_ALL):
            request.kills = kind
        elif kind is Kind.STOP:
            for each in world.processes if pick % 2 else [process]:
                if each.stop is not None and not each.is_dead and each.code is None:
                    world.note("sigterm", each.name)
                    each.stop()
        elif kind is Kind.TWIN:
            world.outside.copy().run(process.again)
        elif kind is Kind.JUMP:
            process.skew_seconds += JUMPS_SECONDS[pick % len(JUMPS_SECONDS)]
        elif kind in OTHERS:
            world.meddle(kind, pick, request.key)
        else:
            world.rot(DESTINATION if kind is Kind.ROT else SOURCE, pick)
        return 0.0

    def _apply(self, request: Request) -> None:
        """The request takes effect."""
        world = self._world
        if world.loop.is_over:
            return
        request.is_late |= request.answer.done() or request.process.is_dead
        before = {request.key: list(world.versions(request.bucket, request.key))} if request.name in WRITES else {}
        result: Any
        try:
            result = run_at_once(getattr(world.server, request.name)(*request.arguments, **request.named))
        except StoreError as error:
            error.was_sent_once, result = not request.is_late, error
        for key, versions in before.items():
            world.compare(request.bucket, key, versions, request.process)
        world.observer.effect(request, result)
        if request.is_repeated:
            request.is_repeated, request.is_late = False, True
            self._later(0.03, self._apply, request)
            return
        if request.kills is not None:
            for process in list(world.processes) if request.kills is Kind.KILL_ALL else [request.process]:
                world.kill(process)
        self._later(request.delay_seconds, self._answer, request, result)

    def _answer(self, request: Request, result: Any = None) -> None:
        result = request.error or result
        process = request.process
        code = result.code if isinstance(result, StoreError) else "ok"
        self.answers[f"{request.name} {code}"] += 1
        if process.is_dead or self._world.loop.is_over or request.answer.done():
            return
        self._world.note("answer", request.number, process.name, code)
        if isinstance(result, StoreError):
            request.answer.set_exception(result)
        else:
            request.answer.set_result(result)


def _target(name: str, arguments: tuple[Any, ...]) -> tuple[str, str]:
    """Bucket and key that a request is about; without a key the latter is empty."""
    first, *rest = arguments[_PLACE.get(name, 0) :]
    if hasattr(first, "bucket"):
        return first.bucket, first.key
    return first, rest[0] if rest and isinstance(rest[0], str) else ""
