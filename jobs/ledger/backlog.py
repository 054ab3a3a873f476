"""Backlog of a pair, read from the ledger: what waits, and what the latest manifest has taken.

`scheduler.backlog` writes it and documents its files. Nothing here writes.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Annotated, Literal, NamedTuple, TypeAlias

from msgspec import Meta, Struct

from jobs.core.model import LATEST_SECONDS, Listed, Location
from jobs.errors import LedgerError
from jobs.ledger.files import list_files, list_names, read_document
from jobs.s3.store import Marker, Store

SETTLED_SECONDS = 86_400
"""So much later, no object comes to the backlog under an earlier stamp. A function has a quarter of
an hour for it."""
Count: TypeAlias = Annotated[int, Meta(ge=0)]
OBJECTS_MAX = 20_000
"""How many objects of a backlog are enough, since the oldest come first: 20 LISTs."""
_MANIFEST = re.compile(r"[0-9]{6,18}\.json")
NAMED_BYTES_MAX = 10**18 - 1
"""What a name of the backlog can say of bytes. Forged events may name more."""
_STAMP = re.compile(r"([0-9]{1,15})-([0-9]{1,18})-([0-9]{1,18})-[^-]*")


class Waiting(NamedTuple):
    """One object of the backlog, described by its name alone."""

    name: str
    since: float
    rows: int
    size_bytes: int


class Taken(NamedTuple):
    """What manifests have taken of a backlog.

    `before`: the names of earlier stamps, in milliseconds, are all taken. `names`: the later ones.
    So a manifest names the objects of a day, not all that the ledger keeps, and a listing begins
    there.
    """

    before: int = 0
    names: frozenset[str] = frozenset()

    @property
    def start(self) -> str:
        """What the names of all later objects are greater than."""
        return f"{self.before:013d}"

    def has(self, name: str) -> bool:
        """Whether an object is taken."""
        return name in self.names or name < self.start

    def with_these(self, own: Iterable[str], present: Sequence[Listed], now: float) -> Taken:
        """These and `own`. `present`: the objects from `start` on, by their names.

        Lifecycle removes old objects: names that are gone need not be remembered. `before` passes
        nothing that waits. It follows the slower of two clocks, ours and the store's.
        """
        taken = {*own} | {each.key for each in present if self.has(each.key)}
        newest = min(now, max((each.last_modified for each in present), default=0.0))
        left = [found for each in present if each.key not in taken and (found := parse_waiting(each.key))]
        before = int(min([newest - SETTLED_SECONDS, *(each.since for each in left)]) * 1000)
        settled = Taken(max(self.before, before))
        return Taken(settled.before, frozenset(name for name in taken if not settled.has(name)))


class Manifest(Struct, frozen=True):
    """The document that publishes a manifest. Keys that a newer Sealift has added are ignored.

    `manifest`: the URI of its rows. `created_at`: epoch seconds. `taken_before`, `taken`: what is taken
    of the backlog by then (`Taken`). `token` makes each writer's document another one.
    """

    pair: str
    number: Count
    manifest: str
    rows: Count
    size_bytes: Count
    created_at: Annotated[float, Meta(ge=0, le=LATEST_SECONDS)]
    taken_before: Count
    taken: list[str]
    reason: str = ""
    token: str = ""
    version: Literal[2] = 2


def parse_waiting(name: str) -> Waiting | None:
    """Parse a name of the backlog. None for a name that Sealift did not write."""
    stamp = _STAMP.fullmatch(name.removesuffix(".json"))
    return Waiting(name, int(stamp[1]) / 1000, int(stamp[2]), int(stamp[3])) if stamp else None


async def read_backlog(store: Store, ledger: Location, pair: str, objects_max: int = OBJECTS_MAX) -> list[Waiting]:
    """What no manifest has taken, the oldest first, of at most `objects_max`. Raises StoreError, LedgerError."""
    _, taken = await latest_manifest(store, ledger, pair)
    names = list[str]()
    async for each in list_backlog(store, ledger, pair, taken):
        names.append(each.key)
        if len(names) >= objects_max:
            break
    return [found for name in names if not taken.has(name) and (found := parse_waiting(name))]


async def list_backlog(store: Store, ledger: Location, pair: str, taken: Taken) -> AsyncGenerator[Listed, None]:
    """The objects of a backlog from `taken.start` on, by their names, oldest first."""
    place = ledger.join(f"backlog/pair={pair}/")
    async for each in list_files(store, place, after=Marker(place.key + taken.start) if taken.before else None):
        yield each._replace(key=each.key[len(place.key) :])


async def manifest_numbers(store: Store, ledger: Location, pair: str) -> list[int]:
    """The numbers of all manifests of a pair, in order."""
    names = await list_names(store, ledger.join(f"manifests/pair={pair}/"))
    return [int(name.removesuffix(".json")) for name in names if _MANIFEST.fullmatch(name)]


async def latest_manifest(store: Store, ledger: Location, pair: str) -> tuple[int, Taken]:
    """The number of the latest manifest (0: none), and what is taken of the backlog."""
    last = max(await manifest_numbers(store, ledger, pair), default=0)
    if not last:
        return 0, Taken()
    manifest = await read_manifest(store, ledger, pair, last)
    if manifest.taken_before > time.time() * 1000:  # one number would hide all that ever comes
        raise LedgerError(f"manifest {last} of {pair} has taken what is yet to come: the ledger was altered")
    return last, Taken(manifest.taken_before, frozenset(manifest.taken))


async def read_manifests(store: Store, ledger: Location, pair: str, limit: int) -> list[Manifest]:
    """Read the latest manifests of a pair, at most `limit`. Raises StoreError, LedgerError."""
    numbers = (await manifest_numbers(store, ledger, pair))[-limit:]
    return [await read_manifest(store, ledger, pair, number) for number in numbers]


async def read_manifest(store: Store, ledger: Location, pair: str, number: int) -> Manifest:
    """Read a published manifest. Raises NotFound, LedgerError for an altered one."""
    name = f"manifests/pair={pair}/{number:06d}"
    rows = re.compile(re.escape(str(ledger.join(name))) + r"-[0-9a-f]{12}\.csv")

    def is_own(manifest: Manifest) -> bool:
        return (manifest.pair, manifest.number) == (pair, number) and bool(rows.fullmatch(manifest.manifest))

    advice = f"remove {ledger.join(name)}.json, and copy its keys by `sealift replicate --pair`"
    return await read_document(store, ledger, f"{name}.json", Manifest, advice, is_own)
