"""Processes, which die, and the requests that they send."""

from __future__ import annotations

import asyncio
import calendar
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from jobs.errors import StoreError
from jobs.s3.rest_store import RestStore
from jobs.s3.store import Store
from tests.doubles.memory_buckets import Version
from tests.simulation.copies.schedule import Kind
from tests.simulation.engine.loop import Mortal

if TYPE_CHECKING:
    from tests.simulation.engine.world import World

EPOCH = 1_700_000_000.0
KILLED = -9


def second_of(run_id: str) -> float:
    """When a run was planned, by its id."""
    return float(calendar.timegm(time.strptime(run_id.partition("-")[0], "%Y%m%dT%H%M%SZ")))


class Gone(BaseException):
    """A request of a process that is being buried."""


@dataclass(eq=False)
class Process(Mortal):
    """One process: the command, or a worker at a shard. `skew_seconds`: how wrong its clock is.

    `is_refused`: S3 has said that its credentials have expired, to a request that it sent alone. Of two that were sent
    at once for a key and its copy, the other one's answer may come first, and decide.

    `sent`: how many requests it sent, by moment and key.
    """

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
    is_refused: bool = False
    sent: Counter[tuple[float, str]] = field(default_factory=Counter)
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
        return EPOCH + self.world.loop.now + self.skew_seconds

    def connect(self) -> Store:
        """A Store whose requests are this process's."""
        return cast(Store, Connection(self))


class Connection:
    """The Store protocol, each request sent through the world's network."""

    def __init__(self, process: Process):
        self._process = process

    @property
    def heeds_conditions(self) -> bool:
        """What is known of the server."""
        return self._process.world.memory.heeds_conditions

    @property
    def keeps_annotations(self) -> bool:
        """What is known of the server."""
        return self._process.world.memory.keeps_annotations

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def ask(*arguments: Any, **named: Any) -> Any:
            return await self._process.world.network.ask(self._process, name, arguments, named)

        return ask


@dataclass(slots=True)
class Request:
    """One request on its way. `error`: what is answered whatever comes of it. `server`: who answers instead, with a
    document.

    `is_late`: it takes effect when nobody waits for it any more, or for the second time. `is_refused`: what `server`
    answers is true, and nothing was done.
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
    sent_at: float
    size_bytes: int = 0
    error: StoreError | None = None
    server: RestStore | None = None
    kills: Kind | None = None
    is_repeated: bool = False
    is_unsent: bool = False
    is_late: bool = False
    is_refused: bool = False


class Observer:
    """Is told of everything that happens to the world; the reference model is one."""

    def original(self, key: str, version: Version) -> None: ...
    def removed(self, key: str, version: Version) -> None: ...
    def placed(self, key: str, version: Version | None, run_id: str) -> None: ...
    def touched(self, bucket: str, key: str) -> None: ...
    def flipped(self, bucket: str, key: str, version: Version, before: bytes) -> None: ...
    def applies(self, request: Request) -> None: ...
    def effect(self, request: Request, before: Version | None, result: Any) -> None: ...
    def asked(self, request: Request) -> None: ...
    def answered(self, request: Request, result: Any) -> None: ...
    def broke(self, process: Process, error: BaseException) -> None: ...
    def twin(self, process: Process) -> None: ...
