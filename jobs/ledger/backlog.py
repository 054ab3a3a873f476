"""Backlog of a pair, read from the ledger: what waits, and what the latest manifest has taken.

`scheduler.backlog` writes it and documents its files. Nothing here writes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jobs.core.model import LATEST_SECONDS, Location
from jobs.errors import LedgerError
from jobs.ledger.files import list_names, read_file
from jobs.s3.store import Marker, Store

MANIFEST_VERSION = 1
COUNT_LIMIT = 1 << 63
PAGES_MAX = 20
"""How many LISTs of a backlog are enough, since the oldest objects come first."""
_MANIFEST = re.compile(r"[0-9]{6,18}\.json")
_STAMP = re.compile(r"([0-9]{1,15})-([0-9]{1,18})-([0-9]{1,18})-[^-]*")


class Waiting(NamedTuple):
    """One object of the backlog, described by its name alone."""

    name: str
    since: float
    rows: int
    size_bytes: int


class Backlog(NamedTuple):
    """What waits, the oldest first.

    `strays`: how many names Sealift did not write. `is_whole`: False if not all of it was listed.
    """

    waiting: list[Waiting]
    strays: int
    is_whole: bool


class Manifest(NamedTuple):
    """A published manifest. `uri`: its rows, None if it has only prefixes. `created_at`: epoch
    seconds.
    """

    number: int
    uri: str | None
    rows: int
    created_at: float


def parse_waiting(name: str) -> Waiting | None:
    """Parse a name of the backlog. None for a name that Sealift did not write."""
    stamp = _STAMP.fullmatch(name.removesuffix(".json"))
    return Waiting(name, int(stamp[1]) / 1000, int(stamp[2]), int(stamp[3])) if stamp else None


async def read_backlog(store: Store, ledger: Location, pair: str) -> Backlog:
    """Read what no manifest has taken, by at most `PAGES_MAX` LISTs. Raises StoreError, LedgerError."""
    _, taken = await latest_manifest(store, ledger, pair)
    place = ledger.join(f"backlog/pair={pair}/")
    waiting: list[Waiting] = []
    strays, after = 0, None
    for _ in range(PAGES_MAX):
        page = await store.list_objects(place.bucket, place.key, after=after)
        for entry in page.entries:
            if (name := entry.key[len(place.key) :]) in taken:
                continue
            if (found := parse_waiting(name)) is None:
                strays += 1
            else:
                waiting.append(found)
        if (after := page.next_marker) is None:
            break
    return Backlog(sorted(waiting, key=lambda each: each.since), strays, after is None)


async def backlog_pairs(store: Store, ledger: Location) -> list[str]:
    """The names of pairs that have a backlog, in the policy or not. One LIST for each 1,000."""
    place, names = ledger.join("backlog/pair="), list[str]()
    after: Marker | None = None
    while True:
        page = await store.list_objects(place.bucket, place.key, after=after, delimiter="/")
        names += [prefix[len(place.key) : -1] for prefix in page.prefixes]
        if page.next_marker is None:
            return names
        after = page.next_marker


async def manifest_numbers(store: Store, ledger: Location, pair: str) -> list[int]:
    """The numbers of all manifests of a pair, in order."""
    names = await list_names(store, ledger.join(f"manifests/pair={pair}/"))
    return [int(name.removesuffix(".json")) for name in names if _MANIFEST.fullmatch(name)]


async def latest_manifest(store: Store, ledger: Location, pair: str) -> tuple[int, set[str]]:
    """The number of the latest manifest (0: none), and the names in the backlog that are taken."""
    last = max(await manifest_numbers(store, ledger, pair), default=0)
    if not last:
        return 0, set()
    document = manifest_document(await read_file(store, ledger, f"manifests/pair={pair}/{last:06d}.json"), pair)
    if document["number"] != last or document.get("taken") is None:
        raise LedgerError(f"manifest {last} of {pair} does not say what it has taken: the ledger was altered")
    return last, set(document["taken"])


async def read_manifests(store: Store, ledger: Location, pair: str, limit: int) -> list[Manifest]:
    """Read the latest manifests of a pair, at most `limit`. Raises StoreError, LedgerError."""
    manifests = []
    for number in (await manifest_numbers(store, ledger, pair))[-limit:]:
        document = manifest_document(await read_file(store, ledger, f"manifests/pair={pair}/{number:06d}.json"), pair)
        if not isinstance(at := document.get("created_at"), int | float) or not 0 <= at <= LATEST_SECONDS:
            raise LedgerError(f"manifest {number} of {pair} has the created_at {at!r}: the ledger was altered")
        manifests.append(Manifest(number, document["manifest"], document["rows"], float(at)))
    return manifests


def manifest_document(data: bytes, pair: str) -> dict[str, Any]:
    """The document that publishes a manifest. Raises LedgerError for an altered one."""
    try:
        document: dict[str, Any] = json.loads(data)
        version = document.get("version")
    except (ValueError, AttributeError, RecursionError) as error:
        raise LedgerError(f"a manifest of {pair} cannot be read ({error}): the ledger was altered") from error
    if version != MANIFEST_VERSION:
        raise LedgerError(f"a manifest of {pair} is of version {version}: this Sealift reads {MANIFEST_VERSION}")
    if odd := [name for name, is_fit in _FIELDS.items() if not is_fit(document.get(name))]:
        raise LedgerError(f"a manifest of {pair} has the {odd[0]} {document.get(odd[0])!r}: the ledger was altered")
    return document


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def is_count(value: object) -> bool:
    """True for a number of rows or bytes that a document may hold."""
    return type(value) is int and 0 <= value < COUNT_LIMIT


def _is_list(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


_FIELDS: Mapping[str, Callable[[object], bool]] = {
    "pair": _is_text,
    "number": is_count,
    "manifest": lambda value: value is None or _is_text(value),
    "prefixes": _is_list,
    "rows": is_count,
    "size_bytes": is_count,
    "taken": lambda value: value is None or _is_list(value),
}
"""What the fields of a manifest's document may hold."""
