"""The runtime of a function: event loop, connections and policy between calls."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from functools import lru_cache
from typing import Any, TypeVar

from jobs.core.model import Attributes, Location, ObjectRef
from jobs.core.pace import backoff_seconds
from jobs.errors import Conflict, PreconditionFailed, Unavailable
from jobs.ledger.guard import ledger_guard
from jobs.policy.model import Policy
from jobs.policy.reader import load_policy, read_policy
from jobs.s3.conditional_writes import look_first
from jobs.s3.sessions import open_store
from jobs.s3.store import Store
from scheduler.settings import Settings

T = TypeVar("T")

POLICY_SECONDS = 60.0
"""How long a policy is used before it is read again."""
CONNECTIONS = 64
WRITE_TRIES = 5


class Runtime:
    """What a handler works with. `open_region` opens the store of a region. None is the function's
    own region.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        open_region: Callable[[str | None], Store] | None = None,
        clock: Callable[[], float] = time.time,
    ):
        self.settings, self.clock = settings, clock
        self._open = open_region or (
            lambda region: open_store(None, region, None, max_in_flight=CONNECTIONS, is_paced=True)
        )
        self._stores: dict[str | None, Store] = {}
        self._destinations: dict[str | None, Store] = {}
        self._policy: tuple[float, Policy] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run work to its end on the runtime's own loop, which its connections belong to."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(work)

    def store(self, region: str | None = None) -> Store:
        """The store of a region. Raises ConfigError if there are no credentials."""
        if region not in self._stores:
            self._stores[region] = self._open(region)
        return self._stores[region]

    def destination(self, region: str | None = None) -> Store:
        """The store of a region for guarded writes of objects, safe where a server ignores
        conditions.
        """
        if region not in self._destinations:
            self._destinations[region] = look_first(self.store(region))
        return self._destinations[region]

    async def policy(self) -> Policy:
        """The policy, at most a minute old. Raises PolicyError, StoreError. Callers then do
        nothing.
        """
        now = self.clock()
        if self._policy is None or now - self._policy[0] > POLICY_SECONDS:
            where = self.settings.policy
            policy = await load_policy(where, self.store()) if where.startswith("s3://") else read_policy(where)
            self._policy = (now, policy)
        return self._policy[1]

    def place(self, name: str) -> Location:
        """Where an object of the ledger is."""
        return self.settings.ledger.join(name)

    async def read(self, name: str) -> bytes:
        """An object of the ledger. Raises NotFound, StoreError."""
        return (await self.store().get(ObjectRef(*self.place(name)))).data

    async def names(self, prefix: str) -> list[str]:
        """The names of the ledger's objects below a prefix, without it, in order."""
        place, names, after = self.place(prefix), [], None
        while True:
            page = await self.store().list_objects(place.bucket, place.key, after=after)
            names += [entry.key[len(place.key) :] for entry in page.entries]
            if page.next_marker is None:
                return names
            after = page.next_marker

    async def write_once(self, name: str, data: bytes) -> bool:
        """Write an object of the ledger. Returns False if another one has that name already. Raises
        StoreError.
        """
        place = self.place(name)
        attributes = Attributes(headers={"content-type": "application/json"})
        for attempt in range(1, WRITE_TRIES + 1):
            try:
                await self.store().put(place.bucket, place.key, data, attributes, guard=ledger_guard(name))
            except PreconditionFailed:  # the same bytes are ours: an answer was lost
                return await self.read(name) == data
            except (Unavailable, Conflict):
                if attempt == WRITE_TRIES:
                    raise
                await asyncio.sleep(backoff_seconds(attempt, random.random()))
            else:
                return True
        raise AssertionError("the last try returns or raises")


@lru_cache(maxsize=1)
def current_runtime() -> Runtime:
    """The runtime of this process. Raises ConfigError if the environment lacks something."""
    return Runtime(Settings.from_environment())
