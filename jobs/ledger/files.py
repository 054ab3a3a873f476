"""Files of the ledger: one write, one read and one listing for all of them.

A name is relative to the ledger's location and decides whether the file may ever change:

| files                    | may change                                                           |
|--------------------------|----------------------------------------------------------------------|
| archives/….parquet       | a damaged index, by who names the ETag of the one that it replaces   |
| archives/….directory.json| always: it repeats what the indexes say                              |
| policy.json              | by Terraform only, no role of Sealift's may write it                 |
| all others               | never                                                                |

The bucket's policy has the same table (terraform/bucket_policies.tf), and tests/terraform compares the
two. No decision depends on a file that may change. A numbered document is written once, under the number
after the last one. The Lambdas use this module, so it imports nothing heavy.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeVar

import msgspec

from jobs.core.model import Attributes, Listed, Location, ObjectRef
from jobs.errors import LedgerError, PreconditionFailed
from jobs.s3.listing import list_pages
from jobs.s3.retries import Tries, once, retry
from jobs.s3.store import ABSENT, UNGUARDED, Guard, Marker, Store
from jobs.s3.uploads import upload_file

JSON = Attributes(headers={"content-type": "application/json"})
PARQUET = Attributes(headers={"content-type": "application/vnd.apache.parquet"})
REPLACED_BY_ETAG, REPLACED_ALWAYS = "archives/*.parquet", ("archives/*.directory.json", "policy.json")
"""The files that may change, as patterns."""
T = TypeVar("T")


def ledger_guard(name: str, replaced_etag: str | None = None) -> Guard:
    """The condition of a write of the file `name`, relative to the ledger.

    `replaced_etag`: the ETag of the file to replace. Raises ValueError when the table forbids that.
    """
    if replaced_etag is not None:
        if not fnmatchcase(name, REPLACED_BY_ETAG):
            raise ValueError(f"{name} is never replaced")
        return Guard(etag=replaced_etag)
    return UNGUARDED if any(fnmatchcase(name, each) for each in REPLACED_ALWAYS) else ABSENT


async def write_file(
    store: Store, ledger: Location, name: str, data: bytes | Path, attributes: Attributes = JSON, tries: Tries = retry
) -> None:
    """Write a file under the guard of its name. The same bytes there are those of an earlier try.

    `data`: a Path where a local file of any size has it. Raises PreconditionFailed when other bytes are there, and may
    not change, and when anything is there in place of a local file.
    """
    ref, guard = ObjectRef(*ledger.join(name)), ledger_guard(name)
    if isinstance(data, Path):
        await upload_file(store, data, ref, attributes, guard=guard)
        return
    try:
        await tries(lambda: store.put(ref, data, attributes, guard=guard))
    except PreconditionFailed:
        if await read_file(store, ledger, name, tries=tries) != data:
            raise


async def write_once(
    store: Store, ledger: Location, name: str, data: bytes | Path, attributes: Attributes = JSON, tries: Tries = retry
) -> bool:
    """`write_file`. False if another one has that name already: the first one counts."""
    try:
        await write_file(store, ledger, name, data, attributes, tries)
    except PreconditionFailed:
        return False
    return True


async def read_file(store: Store, ledger: Location, name: str, *, tries: Tries = once) -> bytes:
    """The bytes of a file. Raises NotFound."""
    return (await tries(lambda: store.get(ObjectRef(*ledger.join(name))))).data


async def read_document(
    store: Store, ledger: Location, name: str, kind: type[T], advice: str, is_own: Callable[[T], bool] = bool
) -> T:
    """A JSON document: decoding is the check. `is_own`: whether it is the one that its name says.

    Raises NotFound, and LedgerError with this advice for a document that was altered, or is of another release.
    """
    data = await read_file(store, ledger, name)
    try:
        document = msgspec.json.decode(data, type=kind)
        if not is_own(document):
            raise ValueError("it is another one")
    except (ValueError, RecursionError) as error:  # msgspec's are ValueErrors
        why = f"{ledger.join(name)} is not what this Sealift writes ({error}): another one wrote it, or it was altered"
        raise LedgerError(why, advice=advice) from error
    return document


async def list_files(store: Store, place: Location, *, after: Marker | None = None) -> AsyncGenerator[Listed, None]:
    """All objects whose keys begin with the key of `place`, in order, a page at a time.

    `after`: where to begin.
    """
    async for page in list_pages(store, place, after=after):
        for entry in page.entries:
            yield entry


async def list_names(store: Store, place: Location) -> list[str]:
    """The names of the objects that `list_files` lists, without the key of `place`."""
    return [entry.key[len(place.key) :] async for entry in list_files(store, place)]


async def list_folders(store: Store, place: Location, *, after: Marker | None = None) -> list[str]:
    """The parts up to the next `/` of the keys that begin with the key of `place`, without it. One LIST for 1,000."""
    pages = list_pages(store, place, after=after, delimiter="/")
    return [name[len(place.key) : -1] async for page in pages for name in page.prefixes]


def numbered(number: int) -> str:
    """The name of a numbered document in its folder."""
    return f"{number:06d}.json"


async def last_number(store: Store, folder: Location) -> int:
    """The last number in a folder. 0: none. A gap ends them: a document that is forged behind one hides no next one."""
    names = {*await list_names(store, folder)}
    return next(number for number in itertools.count() if numbered(number + 1) not in names)
