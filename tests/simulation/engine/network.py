"""The network between processes and S3: requests that are late, lost, refused, or answered twice."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from jobs.core.model import ObjectRef
from jobs.errors import StoreError, store_error
from tests.simulation.copies.schedule import (
    DESTINATION,
    EXPIRED_SECONDS_MAX,
    LEDGER,
    PREFIX,
    SOURCE,
    Fault,
    Kind,
    Where,
)
from tests.simulation.engine import error_documents
from tests.simulation.engine.loop import run_at_once
from tests.simulation.engine.processes import Gone, Process, Request

if TYPE_CHECKING:
    from tests.simulation.engine.world import World

VERSIONING = "?versioning"
"""What a question whether a bucket keeps versions is about, in place of a key."""
JUMPS_SECONDS = (-3600.0, -20.0, 30.0, 70.0, 3600.0, 90 * 86400.0)
_PLACE = {"copy": 2, "copy_part": 4}
_WRITES = {"put", "copy", "complete_multipart", "delete"}
_BEFORE = {Kind.REFUSED: ("InternalError", 500), Kind.BROKEN: ("ConnectionLost", 0), Kind.DENIED: ("AccessDenied", 403)}
_EXPIRING = ((SOURCE,), (DESTINATION,), (SOURCE, DESTINATION, LEDGER))
"""Whose credentials expire together."""
HITTING = frozenset({
    Kind.REFUSED, Kind.BROKEN, Kind.LOST, Kind.HALF, Kind.LATE, Kind.REPEAT, Kind.SLOW, Kind.SLOW_ANSWER, Kind.BURST,
    Kind.DENIED, Kind.ERROR_IN_200,
})  # fmt: skip
"""What happens to the request itself, and may excuse a row. Credentials that have expired excuse none."""
_UNDOCUMENTED = frozenset({"get", "head"})
_AFTER = {Kind.LOST: ("TimedOut", 0), Kind.HALF: ("InternalError", 500)}
_CLEANUP = ("abort_multipart", "list_parts")
"""Requests that clean up after an error, and look whether that is done: the next request is refused as well."""


class Network:
    """Lets the schedule's faults happen at the requests that they name. `fired` and `answers` count.

    `hits`: by kind, bucket and key of each request that such a fault hit.
    """

    def __init__(self, world: World):
        self._world = world
        self.requests = 0
        self.fired: Counter[Kind] = Counter()
        self.hits: defaultdict[Kind, set[tuple[str, str]]] = defaultdict(set)
        self.answers: Counter[str] = Counter()
        self._storm_ends = 0.0
        self._renewals: dict[str, float] = {}
        """By bucket, when the credentials are renewed that have expired."""
        self._later = partial(world.loop.call_later, context=world.outside)
        self._faults: dict[Where, dict[int, list[Fault]]] = {}
        self._counts: Counter[Where] = Counter()
        for fault in world.schedule.faults:
            self._faults.setdefault(fault.where, {}).setdefault(fault.at, []).append(fault)

    def ask(self, process: Process, name: str, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        """Send a request; the future of its answer."""
        world = self._world
        loop, schedule = world.loop, world.schedule
        if process.is_dead or loop.is_over:
            raise Gone
        bucket, key = _target(name, arguments)
        self.requests += 1
        number, roll = self.requests, world.chance()
        request = Request(
            number,
            process,
            name,
            bucket,
            key,
            arguments,
            named,
            loop.create_future(),
            0.03 * (roll * 977 % 1),
            loop.now,
        )
        process.sent[loop.now, _original(key)] += 1
        world.note(number, process.name, name, bucket, key)
        sent = 0.03 * roll
        if name == "get" and bucket != LEDGER:
            request.size_bytes = self._size_bytes(arguments[0], named)
            process.asked.append(request)
        world.observer.asked(request)
        held = schedule.held_writes
        if held and name in _WRITES and bucket == DESTINATION and world.chance() < held:
            sent += 2 * world.chance()
        for where, faults in self._faults.items():
            if where.has(name, bucket, key):
                self._counts[where] += 1
                for fault in faults.pop(self._counts[where], ()):
                    sent += self._strike(fault, request)
        if request.is_unsent:
            return request.answer
        if loop.now < self._renewals.get(bucket, 0.0) and request.error is None:
            request.server = error_documents.EXPIRED
            self._hit(Kind.EXPIRED, request)
            self._later(sent, self._answer, request, None)
        elif request.server is not None and request.is_refused:
            self._later(sent, self._answer, request, None)
        elif loop.now < self._storm_ends and request.error is None:
            request.error = store_error(name, key, "SlowDown", "reduce your request rate", 503)
            self._hit(Kind.BURST, request)
            self._later(sent, self._answer, request, None)
        elif request.error is not None and request.error.code not in ("TimedOut", "Half"):
            self._later(sent, self._answer, request, None)
        else:
            self._later(sent, self._apply, request)
        return request.answer

    def _strike(self, fault: Fault, request: Request) -> float:
        """Let the fault happen to the request, or at its moment; how much later it arrives, in seconds."""
        kind, pick, process = fault.kind, fault.pick, request.process
        self.fired[kind] += 1
        if kind in HITTING:
            self._hit(kind, request)
        self._world.note("fault", kind.name, pick)
        name, key = request.name, request.key
        if kind in _BEFORE:
            code, status = _BEFORE[kind]
            request.error = store_error(name, key, code, "", status)
        elif kind in _AFTER:
            code, status = _AFTER[kind]
            request.error = store_error(name, key, "TimedOut" if status == 0 else "Half", code, status)
        elif kind is Kind.LATE:
            early = replace(request, error=store_error(name, key, "TimedOut", "", 0))
            self._later(0.02, self._answer, early, None)
            return 0.05 + pick % 4000 / 100
        elif kind is Kind.SLOW:
            return 1 + pick % 9000 / 100
        elif kind is Kind.SLOW_ANSWER:
            request.delay_seconds += 1 + pick % 9000 / 100
        elif kind is Kind.BURST:
            self._storm_ends = max(self._storm_ends, self._world.loop.time() + pick % 800 / 100)
        elif kind is Kind.EXPIRED:
            seconds = 1 + pick // 8 % 100 / 100 * (EXPIRED_SECONDS_MAX - 1)
            self._renewals |= dict.fromkeys(_EXPIRING[pick % 3], self._world.loop.time() + seconds)
        elif kind is Kind.ERROR_IN_200:
            if name not in _UNDOCUMENTED:
                request.server, request.is_refused = error_documents.IN_200, pick % 4 > 0
        elif kind is Kind.REPEAT:
            request.is_repeated = True
        elif kind is Kind.KILL:
            self._world.kill(process)
            request.is_unsent = True
        elif kind in (Kind.KILL_AFTER, Kind.KILL_ALL):
            request.kills = kind
        elif kind is Kind.STOP:
            for each in self._world.processes if pick % 2 else [process]:
                if each.stop is not None and not each.is_dead and each.code is None:
                    self._world.note("sigterm", each.name)
                    each.stop()
        elif kind is Kind.TWIN:
            self._world.observer.twin(process)
        elif kind is Kind.JUMP:
            process.skew_seconds += JUMPS_SECONDS[pick % len(JUMPS_SECONDS)]
        elif kind is Kind.FLIP:
            self._world.others.flip(pick)
        elif kind is Kind.SOURCE_FLIP:
            self._world.others.flip_in(SOURCE, pick)
        else:
            self._world.others.meddle(kind, pick, request)
        return 0.0

    def _hit(self, kind: Kind, request: Request) -> None:
        key = VERSIONING if request.name == "is_versioned" else request.key
        many = request.arguments[1] if request.name == "delete_versions" else ((key, None),)
        self.hits[kind].update((request.bucket, key) for key, _ in many)

    def has_hit(self, key: str, kinds: Iterable[Kind] = HITTING) -> bool:
        """Whether such a fault hit a request about the key: at either side, or the record of its upload."""
        return any(
            (bucket, at) == (SOURCE, key)
            or (bucket == DESTINATION and at.startswith(PREFIX + key))  # a trial's key is longer
            or (bucket == DESTINATION and at == VERSIONING)  # which each history needs
            or (bucket == LEDGER and "/uploads/" in at)
            for kind in kinds
            for bucket, at in self.hits.get(kind, ())
        )

    def _apply(self, request: Request) -> None:
        """The request takes effect."""
        world = self._world
        if world.loop.is_over:
            return
        request.is_late |= request.answer.done() or request.process.is_dead
        before = None
        if request.name in _WRITES:
            there = world.versions(request.bucket, request.key)
            before = there[-1] if there else None
        world.observer.applies(request)
        result: Any
        try:
            result = run_at_once(getattr(world.memory, request.name)(*request.arguments, **request.named))
        except StoreError as error:
            result = error
        world.observer.effect(request, before, result)
        if request.is_repeated:
            request.is_repeated, request.is_late = False, True
            self._later(0.03, self._apply, request)
            return
        if request.kills is Kind.KILL_ALL:
            for process in list(world.processes):
                world.kill(process)
        elif request.kills is Kind.KILL_AFTER:
            world.kill(request.process)
        self._later(request.delay_seconds, self._answer, request, result)

    def _answer(self, request: Request, result: Any) -> None:
        if request.error is not None:
            result = request.error
        elif request.server is not None:
            result = error_documents.read(request.server, request)
        process = request.process
        code = result.code if isinstance(result, StoreError) else "ok"
        self.answers[f"{request.name} {code}"] += 1
        if process.is_dead or self._world.loop.is_over or request.answer.done():
            return
        self._world.note("answer", request.number, process.name, code)
        self._world.observer.answered(request, result)
        is_expired = request.server is error_documents.EXPIRED
        is_alone = process.sent[request.sent_at, _original(request.key)] == 1
        process.is_refused |= is_expired and is_alone and request.bucket != LEDGER and request.name not in _CLEANUP
        if isinstance(result, StoreError):
            process.had_ledger_errors |= request.bucket == LEDGER and request.name == "put"
            request.answer.set_exception(result)
        else:
            request.answer.set_result(result)

    def _size_bytes(self, ref: ObjectRef, named: Mapping[str, Any]) -> int:
        if named.get("end") is not None:
            return int(named["end"] - named["start"])
        found = [v for v in self._world.versions(ref.bucket, ref.key) if ref.version_id in (None, v.version_id)]
        is_refused = not found or named.get("if_match") not in (None, found[-1].etag)
        return 0 if is_refused else len(found[-1].data)


def _original(key: str | list[str]) -> str:
    """The key of the original, also for its copy. Empty for a request that names many keys."""
    return key.removeprefix(PREFIX) if isinstance(key, str) else ""


def _target(name: str, arguments: tuple[Any, ...]) -> tuple[str, str]:
    """Bucket and key that a request is about; without a key the latter is empty."""
    first, *rest = arguments[_PLACE.get(name, 0) :]
    if isinstance(first, ObjectRef):
        return first.bucket, first.key
    return first, rest[0] if rest else ""
