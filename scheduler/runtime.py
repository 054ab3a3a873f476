"""The runtime of a function: event loop, connections and policy between calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import lru_cache
from typing import Any, TypeVar

from jobs.config import Settings
from jobs.core.model import Location
from jobs.core.run import Side
from jobs.errors import ConfigError
from jobs.ledger.files import list_names, read_file, write_once
from jobs.policy.model import Policy
from jobs.policy.resolved import decode_policy, load_bytes
from jobs.s3.condition_trial import OF_COPIES, find_ignored, ignored_error
from jobs.s3.retries import Tries
from jobs.s3.sessions import open_store
from jobs.s3.store import Store

T = TypeVar("T")

POLICY_SECONDS = 60.0
"""How long a policy is used before it is read again."""
CONNECTIONS = 64
WRITE_TRIES = Tries(5)


class Runtime:
    """What a handler works with, by what Terraform sets: `SEALIFT_POLICY` (a policy.json), `SEALIFT_LEDGER` and
    `SEALIFT_TOPIC` beside the variables of `jobs.config`.

    `open_region` opens the store of a region (None: the function's own), with the owners of buckets.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        open_region: Callable[[str | None, Mapping[str, str]], Store] | None = None,
        clock: Callable[[], float] = time.time,
    ):
        self.settings, self.clock = settings, clock
        self.policy_file, self.ledger = self.setting("policy"), Location.parse(self.setting("ledger"))
        self._open = open_region or _open_region
        self._stores: dict[tuple[object, ...], Store] = {}
        self._tried: set[Location] = set()
        self._trial = asyncio.Lock()
        self._policy: tuple[float, Policy] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def setting(self, name: str) -> str:
        """A setting that this function needs. Raises ConfigError."""
        value: str | None = getattr(self.settings, name)
        if value is None:
            raise ConfigError(f"SEALIFT_{name.upper()} is not set: this function needs it in its environment")
        return value

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run work to its end on the runtime's own loop, which its connections belong to."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(work)

    def store(self, region: str | None = None) -> Store:
        """The store of a region. Raises ConfigError if there are no credentials."""
        return self._reach(region, {})

    def pair(self, source: Side, destination: Side) -> tuple[Store, Store]:
        """The stores of both sides of a pair, which name the buckets' owners to S3."""
        owners = {side.location.bucket: side.owner for side in (source, destination) if side.owner}
        return self._reach(source.region, owners), self._reach(destination.region, owners)

    async def try_conditions(self, destination: Store, place: Location) -> None:
        """Try the conditions of copies, once a process for each place that is not AWS's.

        Raises ConfigError for a server that ignores one. Raises StoreError.
        """
        async with self._trial:
            if place not in self._tried and (ignored := await find_ignored(destination, place, OF_COPIES)):
                raise ignored_error(place, ignored)
            self._tried.add(place)

    def _reach(self, region: str | None, owners: Mapping[str, str]) -> Store:
        key = (region, *sorted(owners.items()))
        if key not in self._stores:
            self._stores[key] = self._open(region, owners)
        return self._stores[key]

    async def policy(self) -> Policy:
        """The policy, at most a minute old. Raises PolicyError, StoreError. Callers then do
        nothing.
        """
        now = self.clock()
        if self._policy is None or now - self._policy[0] > POLICY_SECONDS:
            policy = decode_policy(await load_bytes(self.policy_file, self.store()), self.policy_file)
            self._policy = (now, policy.called(self.settings.system))
        return self._policy[1]

    def place(self, name: str) -> Location:
        """Where an object of the ledger is."""
        return self.ledger.join(name)

    async def read(self, name: str) -> bytes:
        """An object of the ledger. Raises NotFound, StoreError."""
        return await read_file(self.store(), self.ledger, name)

    async def names(self, prefix: str) -> list[str]:
        """The names of the ledger's objects below a prefix, without it, in order."""
        return await list_names(self.store(), self.place(prefix))

    async def write_once(self, name: str, data: bytes) -> bool:
        """Write an object of the ledger. Returns False if another one has that name already. Raises
        StoreError.
        """
        return await write_once(self.store(), self.ledger, name, data, tries=WRITE_TRIES)


def _open_region(region: str | None, owners: Mapping[str, str]) -> Store:
    return open_store(None, region, None, max_in_flight=CONNECTIONS, is_paced=True, owners=owners)


@lru_cache(maxsize=1)
def current_runtime() -> Runtime:
    """The runtime of this process. Raises ConfigError if the environment lacks something."""
    return Runtime(Settings.from_environment())
