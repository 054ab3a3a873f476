"""The system of a policy, as questions ask it: clients of each region, stores, and names that Terraform gives."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property
from threading import Lock
from typing import Any, TypeVar

from jobs.aws.clients import Clients, call
from jobs.core.model import Location
from jobs.ledger.ledger import Ledger
from jobs.policy.model import Pair, Policy
from jobs.s3.sessions import open_store
from jobs.s3.store import Store

T = TypeVar("T")

FUNCTIONS = ("backup", "enqueue", "submit", "follow")


def region_in(answer: Mapping[str, Any]) -> str | None:
    """The region that an answer to HeadBucket names."""
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    region: str | None = answer.get("BucketRegion") or headers.get("x-amz-bucket-region")
    return region


class System:
    """A policy's system. `pairs`: those that are looked at. Safe to share between threads."""

    def __init__(self, policy: Policy, pairs: tuple[Pair, ...]):
        self.policy, self.pairs = policy, pairs
        self.name, self.home = policy.name, policy.ledger.region
        self._clients: dict[str, Clients] = {}
        self._ledger_lock = Lock()

    def call(self, service: str, operation: str, target: str, region: str | None = None, **request: Any) -> Any:
        """AWS's answer. Raises StoreError, ConfigError."""
        clients = self._clients.setdefault(region or self.home, Clients(region or self.home))
        return call(clients[service], operation, target, **request)

    def stored(self, region: str, work: Callable[[Store], Awaitable[T]]) -> T:
        """What S3 says. Must not be called in an event loop. Raises StoreError, ConfigError."""

        async def run() -> T:
            store = open_store(None, region, None, max_in_flight=16)
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(run())

    def in_ledger(self, work: Callable[[Ledger], Awaitable[T]]) -> T:
        """What the ledger says, likewise."""
        place = Location.parse(self.policy.ledger.uri)
        with self._ledger_lock:  # two threads that decode one msgspec type for the first time crash the interpreter
            return self.stored(self.home, lambda store: work(Ledger(store, place)))

    @cached_property
    def identity(self) -> Mapping[str, str]:
        """Whom the credentials belong to: `Account` and `Arn`."""
        answer: Mapping[str, str] = self.call("sts", "GetCallerIdentity", "the caller")
        return answer

    def arn(self, service: str, name: str) -> str:
        """The ARN of a thing in the ledger's region."""
        return f"arn:aws:{service}:{self.home}:{self.identity['Account']}:{name}"

    @property
    def topic(self) -> str:
        """The topic of alarms."""
        return self.policy.alarms.topic or self.arn("sns", f"{self.name}-alarms")

    @property
    def jobs(self) -> tuple[str, ...]:
        """The jobs that have a definition (batch.tf)."""
        archives = [pair.archive for pair in self.policy.pairs if pair.archive]
        return (
            *("replicate", "verify", "nightly", "backfill"),
            *["compact", "restore"] * bool(archives),
            *["expire"] * any(archive.expire for archive in archives),
            *["drill"] * bool(self.policy.drill),
        )

    def function(self, function: str) -> Mapping[str, Any]:
        """The configuration of a function. Raises NotFound."""
        name = f"{self.name}-{function}"
        answer: Mapping[str, Any] = self.call("lambda", "GetFunctionConfiguration", name, FunctionName=name)
        return answer

    def definition(self, job: str) -> Mapping[str, Any] | None:
        """The container of the latest revision of a job definition. Terraform leaves one that is active."""
        name = f"{self.name}-{job}"
        asked = {"jobDefinitionName": name, "status": "ACTIVE"}
        found = self.call("batch", "DescribeJobDefinitions", name, **asked)["jobDefinitions"]
        latest = max(found, key=lambda each: each["revision"], default=None)
        return latest and latest["containerProperties"]
