"""AWS's services beside S3, behind the same network: what boto3's clients send, and what threads do meanwhile.

A thread is played again from its beginning with the answers known so far until it needs no other: so each of its
calls is a request like S3's, which may be late, lost or never sent, while others go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

import jobs.aws.batch
import jobs.aws.clients
import scheduler.batch_starts
import scheduler.enqueue
import scheduler.follow
from jobs.errors import StoreError
from tests.simulation.copies.schedule import Fault, Kind
from tests.simulation.engine.loop import LABEL
from tests.simulation.engine.network import Network
from tests.simulation.engine.processes import Process, Request
from tests.simulation.engine.world import World

_TARGETS = ("jobName", "jobId", "jobQueue", "FunctionName", "TopicArn")
_MEMBERS = {"SubmitJob": "batch", "ListJobs": "batch", "TerminateJob": "batch", "Invoke": "lambda", "Publish": "sns"}


class Region:
    """S3 in memory and the services beside it, as one thing to send requests to."""

    def __init__(self, memory: Any, services: Mapping[str, Any]):
        self._memory, self._services = memory, services

    def __getattr__(self, name: str) -> Any:
        if name not in _MEMBERS:
            return getattr(self._memory, name)
        answer = getattr(self._services[_MEMBERS[name]], name)

        async def call(service: str, target: str, request: Mapping[str, Any], process: Process) -> Any:
            return answer(request, process)

        return call


class StrictNetwork(Network):
    """`struck`: the processes to which something has happened that is nobody's fault but the network's."""

    def __init__(self, world: World):
        super().__init__(world)
        self.struck: set[Process] = set()

    def _strike(self, fault: Fault, request: Request) -> float:
        if fault.kind is Kind.REPEAT and request.name == "SubmitJob":
            fault = fault._replace(kind=Kind.LOST)  # the client that submits tries once, and never sends again
        if fault.kind is Kind.KILL_ALL:
            self.struck.update(self._world.processes)
        elif fault.kind not in (Kind.TWIN, Kind.JUMP):
            self.struck.add(request.process)
        return super()._strike(fault, request)

    def _answer(self, request: Request, result: Any) -> None:
        if request.error is not None or request.server is not None:
            self.struck.add(request.process)
        super()._answer(request, result)


class Unanswered(BaseException):
    """A thread has come to a call whose answer is not known yet."""

    def __init__(self, tries: int, operation: str, arguments: tuple[Any, ...]):
        self.tries, self.operation, self.arguments = tries, operation, arguments


@dataclass(slots=True)
class Script:
    """What a thread was answered, and how far it has come in that."""

    answers: list[Any]
    at: int = 0


class Threads:
    """`asyncio.to_thread`, `time.sleep`, random numbers and boto3's clients for the product's threads."""

    def __init__(self, world: World):
        self._world = world
        self._script = Script([])

    def replacements(self) -> list[tuple[Any, str, Any]]:
        """What stands in the product for the real ones."""
        threaded = SimpleNamespace(**vars(asyncio) | {"to_thread": self.to_thread})
        return [
            *(
                (module, "asyncio", threaded)
                for module in (scheduler.enqueue, scheduler.follow, scheduler.batch_starts)
            ),
            (jobs.aws.batch, "time", SimpleNamespace(sleep=lambda seconds: self._next(0, "", (seconds,)))),
            (jobs.aws.batch, "random", SimpleNamespace(random=self._draw)),
            (jobs.aws.batch.Batch, "_client", lambda edge, tries: self._client("batch", tries)),
            (jobs.aws.clients, "open_client", lambda service, region=None, tries=6: self._client(service, tries)),
        ]

    async def to_thread(self, work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Run `work` in a thread of the calling process."""
        process = cast(Process, LABEL.get())
        await asyncio.sleep(0)
        answers: list[Any] = []
        while True:
            self._script = Script(answers)
            try:
                return work(*arguments, **named)
            except Unanswered as call:
                missing = call
            answers.append(await self._ask(process, missing))

    def _client(self, service: str, tries: int) -> Any:
        return Client(lambda operation, request: self._next(tries, operation, (service, _target(request), request)))

    def _draw(self) -> float:
        script = self._script
        if script.at == len(script.answers):
            script.answers.append(self._world.chance())
        return cast(float, self._next(0, "", ()))

    def _next(self, tries: int, operation: str, arguments: tuple[Any, ...]) -> Any:
        script = self._script
        if script.at == len(script.answers):
            raise Unanswered(tries, operation, arguments)
        script.at += 1
        answer = script.answers[script.at - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _ask(self, process: Process, call: Unanswered) -> Any:
        """The answer, or the exception that boto3 makes of it; again after what may pass, as its standard mode does."""
        if not call.operation:
            await asyncio.sleep(call.arguments[0])
            return None
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._world.network.ask(process, call.operation, (*call.arguments, process), {})
            except StoreError as error:
                if attempt >= call.tries or not (error.status in (0, 429) or error.status >= 500):
                    return _as_boto(call.operation, error)
            await asyncio.sleep(min(20.0, 0.5 * 2.0**attempt) * self._world.chance())


class Client:
    """A client of boto3: `client.list_jobs(jobQueue=…)` sends `ListJobs`."""

    def __init__(self, send: Callable[[str, dict[str, Any]], Any]):
        self._send = send
        self.meta = SimpleNamespace(endpoint_url="https://aws")

    def __getattr__(self, method: str) -> Callable[..., Any]:
        operation = "".join(word.capitalize() for word in method.split("_"))
        return lambda **request: self._send(operation, request)


def _target(request: Mapping[str, Any]) -> str:
    return str(next(request[name] for name in _TARGETS if name in request))


def _as_boto(operation: str, error: StoreError) -> Exception:
    if error.code == "TimedOut":
        return ReadTimeoutError(endpoint_url="https://aws", error="timed out")
    if error.code == "ConnectionLost":
        return ConnectionClosedError(endpoint_url="https://aws")
    code, status = {
        "SlowDown": ("TooManyRequestsException", 429),
        "AccessDenied": ("AccessDeniedException", 403),
    }.get(error.code, (error.code, error.status))
    said = {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(cast(Any, said), operation)
