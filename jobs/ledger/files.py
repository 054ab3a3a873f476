"""Files of the ledger: one write, one read and one listing for all of them.

A name is relative to the ledger's location and decides, by the table of `jobs.ledger.write_rules`,
whether the file may ever be replaced. A numbered document is written once, under the number after the
last one. The Lambdas use this module, so it imports nothing heavy.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator

from jobs.core.model import Attributes, Listed, Location, ObjectRef
from jobs.errors import PreconditionFailed
from jobs.ledger.write_rules import Change, change_of
from jobs.s3.retries import Tries, once, retry
from jobs.s3.store import ABSENT, UNGUARDED, Guard, Marker, Page, Store

JSON = Attributes(headers={"content-type": "application/json"})
PARQUET = Attributes(headers={"content-type": "application/vnd.apache.parquet"})


def ledger_guard(name: str, replaced_etag: str | None = None) -> Guard:
    """The condition of a write of the file `name`, relative to the ledger.

    `replaced_etag`: the ETag of the file to replace. Raises ValueError when the table forbids that.
    """
    change = change_of(name)
    if replaced_etag is not None:
        if change is not Change.KNOWN:
            raise ValueError(f"{name} is never replaced")
        return Guard(etag=replaced_etag)
    return UNGUARDED if change is Change.ALWAYS else ABSENT


async def write_file(
    store: Store, ledger: Location, name: str, data: bytes, attributes: Attributes = JSON, *, tries: Tries = retry
) -> None:
    """Write a file under the guard of its name. The same bytes there are those of an earlier try.

    Raises PreconditionFailed when other bytes are there, and may not change.
    """
    ref, guard = ObjectRef(*ledger.join(name)), ledger_guard(name)
    try:
        await tries(lambda: store.put(ref, data, attributes, guard=guard))
    except PreconditionFailed:
        if await read_file(store, ledger, name, tries=tries) != data:
            raise


async def read_file(store: Store, ledger: Location, name: str, *, tries: Tries = once) -> bytes:
    """The bytes of a file. Raises NotFound."""
    place = ObjectRef(*ledger.join(name))
    return (await tries(lambda: store.get(place))).data


async def list_files(store: Store, place: Location, *, after: Marker | None = None) -> AsyncGenerator[Listed, None]:
    """All objects whose keys begin with the key of `place`, in order, a page at a time.

    `after`: where to begin.
    """
    async for page in _pages(store, place, after):
        for entry in page.entries:
            yield entry


async def list_names(store: Store, place: Location) -> list[str]:
    """The names of the objects that `list_files` lists, without the key of `place`."""
    return [entry.key[len(place.key) :] async for entry in list_files(store, place)]


async def list_folders(store: Store, place: Location, *, after: Marker | None = None) -> list[str]:
    """The parts up to the next `/` of the keys that begin with the key of `place`, without it. One LIST for 1,000."""
    return [name[len(place.key) : -1] async for page in _pages(store, place, after, "/") for name in page.prefixes]


async def _pages(
    store: Store, place: Location, after: Marker | None, delimiter: str = ""
) -> AsyncGenerator[Page, None]:
    while True:
        page = await store.list_objects(place.bucket, place.key, after=after, delimiter=delimiter)
        yield page
        if page.next_marker is None:
            return
        after = page.next_marker


def numbered(number: int) -> str:
    """The name of a numbered document in its folder."""
    return f"{number:06d}.json"


async def last_number(store: Store, folder: Location) -> int:
    """The last number in a folder. 0: none. A gap ends them: a document that is forged behind one hides no next one."""
    names = {*await list_names(store, folder)}
    return next(number for number in itertools.count() if numbered(number + 1) not in names)
