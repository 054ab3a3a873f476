"""Lambda's asynchronous invocations, the dead letters behind them, and the SNS topic."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.engine.processes import Process
from tests.simulation.engine.world import World

TRIES = 3
TIMEOUT_SECONDS = {"enqueue": 300.0, "submit": 60.0, "follow": 60.0}
LATE_SECONDS = 900.0
PROMPT_SECONDS = 1.5

Handler = Callable[[Process, str, Mapping[str, Any], str], Coroutine[Any, Any, int]]


@dataclass(slots=True, eq=False)
class Invocation:
    """A payload on its way to a function: one request id, however often it is tried."""

    function: str
    payload: Mapping[str, Any]
    request_id: str
    tries: int = 0
    is_done: bool = False


class Functions:
    """At least once: three tries a minute or two apart, some twice; what fails each time is a dead letter."""

    def __init__(self, world: World, handle: Handler, *, lateness: float, doubles: float):
        self._world, self._handle, self._lateness, self._doubles = world, handle, lateness, doubles
        self.under_way = 0
        self.dead: list[Invocation] = []
        self._seen: list[tuple[str, Mapping[str, Any]]] = []
        self._count = 0

    def Invoke(self, request: Mapping[str, Any], process: Process) -> dict[str, Any]:
        """What boto3's client asks."""
        self.send(request["FunctionName"].removeprefix("sealift-"), json.loads(request["Payload"]))
        return {"StatusCode": 202}

    def send(self, function: str, payload: Mapping[str, Any]) -> None:
        """Somebody hands a payload over; who delivers it may do so twice."""
        chance = self._world.chance
        self._seen.append((function, payload))
        for _ in range(1 + (chance() < self._doubles)):
            spread = LATE_SECONDS if chance() < self._lateness else PROMPT_SECONDS
            self._deliver(Invocation(function, payload, self._next_id()), chance() * spread)

    def repeat(self) -> None:
        """Something that was handed over comes once more."""
        if self._seen:
            function, payload = self._seen[int(self._world.chance() * len(self._seen))]
            self._deliver(Invocation(function, payload, self._next_id()), 0.0)

    def redrive(self) -> bool:
        """What is dead is tried again, but for manifests, which enqueue tells again; whether there was something."""
        dead, self.dead = [each for each in self.dead if each.payload.get("action") != "manifest"], []
        for each in dead:
            each.tries = 0
            self._deliver(each, 0.0)
        return bool(dead)

    def begin(self, invocation: Invocation) -> Process:
        """Start a runtime for one try."""
        self._count += 1
        invocation.tries += 1

        async def work(process: Process) -> int:
            code = await self._handle(process, invocation.function, invocation.payload, invocation.request_id)
            invocation.is_done = True
            return code

        process = self._world.spawn(f"{invocation.function} {self._count}", work)
        seconds = TIMEOUT_SECONDS[invocation.function]
        self._world.loop.call_later(seconds, self._world.kill, process, context=self._world.outside)
        return process

    def person(self, function: str, payload: Mapping[str, Any]) -> Process:
        """A synchronous call: who makes it sees what came of it."""
        return self.begin(Invocation(function, payload, self._next_id()))

    def _next_id(self) -> str:
        self._count += 1
        return f"request-{self._count}"

    def _deliver(self, invocation: Invocation, seconds: float) -> None:
        self.under_way += 1
        self._world.loop.call_later(seconds, self._try, invocation, context=self._world.outside)

    def _try(self, invocation: Invocation) -> None:
        if self._world.loop.is_over:
            return
        process = self.begin(invocation)
        process.ended.add_done_callback(lambda _: self._tried(invocation), context=self._world.outside)

    def _tried(self, invocation: Invocation) -> None:
        self.under_way -= 1
        if invocation.is_done or self._world.loop.is_over:
            return
        if invocation.tries < TRIES:
            self._deliver(invocation, (60 if invocation.tries == 1 else 120) + 10 * self._world.chance())
        else:
            self._world.note("dead letter", invocation.function, invocation.request_id)
            self.dead.append(invocation)


@dataclass(slots=True)
class Mail:
    """What the topic has taken."""

    subject: str
    body: str
    process: Process
    at_seconds: float


@dataclass(slots=True)
class Topic:
    """SNS: what is published is mail."""

    world: World
    mails: list[Mail] = field(default_factory=list)

    def Publish(self, request: Mapping[str, Any], process: Process) -> dict[str, Any]:
        """What boto3's client asks."""
        self.world.note("mail", request["Subject"])
        mail = Mail(request["Subject"], request["Message"], process, self.world.loop.time())
        self.mails.append(mail)
        return {"MessageId": str(len(self.mails))}
