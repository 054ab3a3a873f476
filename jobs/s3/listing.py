"""Listing of a bucket in parallel, without knowing its keys beforehand.

One range starts with everything. While fewer requests are under way than may be, a range that has
got a page also looks for the place where the keys behind it branch (`jobs.s3.listing_forks`): it keeps
the nearest branch, the others become ranges of their own. A range is a prefix: ranges are disjoint whatever the
server's order, all versions of a key stay together, and S3's limits per prefix are spread.

SeaweedFS: current objects of an unversioned bucket come completely. In a versioned bucket its own
pages lose entries at a boundary between such names as `x`, `x-1` and `x/…`, however one lists it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from functools import partial
from typing import Any

from msgspec import Struct

from jobs.core.model import Listed, Location
from jobs.errors import Rejected
from jobs.s3.listing_forks import Fork, edge, find_fork, is_ordered
from jobs.s3.retries import persist
from jobs.s3.store import Marker, Page, Store

MAX_BRANCHES = 64
"""Branches that become ranges of their own at one fork. What lies behind them stays one range.
Enough for digits, hex and base 64. A fork into thousands of CJK characters must not cost a request
each."""


class _Range(Struct):
    """Keys that begin with `within` and with none of `excluded`.

    Requests ask for `prefix`, from `marker` on.
    """

    prefix: str
    within: str
    excluded: tuple[str, ...] = ()
    marker: Marker | None = None
    last_key: str = ""
    is_searched: bool = False  # for a fork, now
    is_finished: bool = False

    def take(self, page: Page) -> list[Listed]:
        """The entries of the page that are this range's. Remembers how far the listing is."""
        self.marker = page.next_marker
        if page.entries:
            self.last_key = page.entries[-1].key
        is_past = bool(self.last_key) and not self.last_key.startswith(self.within)
        self.is_finished = self.marker is None or is_past
        if self.within == self.prefix and not self.excluded:
            return page.entries
        return [
            entry
            for entry in page.entries
            if entry.key.startswith(self.within) and not entry.key.startswith(self.excluded)
        ]


async def list_pages(
    store: Store, location: Location, *, after: Marker | None = None, delimiter: str = ""
) -> AsyncGenerator[Page, None]:
    """Yield pages of current objects below `location`, from `after` on, one after the other. Raises StoreError."""
    while True:
        page = await store.list_objects(location.bucket, location.key, after=after, delimiter=delimiter)
        yield page
        if (after := page.next_marker) is None:
            return


async def list_all(
    store: Store, location: Location, *, versions: bool, concurrency: int = 16
) -> AsyncGenerator[list[Listed], None]:
    """Yield every entry below `location` exactly once, in pages of at most 1,000, listed in
    parallel.

    Pages of one range come in the server's order, pages of different ranges in any. All versions of
    a key come in order. At most `3 × concurrency` pages wait in memory. Stopping early (`aclose`)
    cancels the requests. Raises the first StoreError of any request. Once the listing has begun,
    what may pass is first retried for minutes.
    """
    listing = _Listing(store, location.bucket, versions, concurrency)
    work = asyncio.create_task(listing.run(location.key))
    try:
        while (entries := await listing.pages.get()) is not None:
            yield entries
        await work
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


class _Listing:
    """One listing: a task for each range, and one for each search for a fork, `concurrency` requests at once."""

    def __init__(self, store: Store, bucket: str, versions: bool, concurrency: int):
        self._request = store.list_versions if versions else store.list_objects
        self._bucket, self._concurrency = bucket, concurrency
        self._turns, self._tasks, self._under_way = asyncio.Semaphore(concurrency), asyncio.TaskGroup(), 0
        self._is_splittable, self._has_answered = True, False
        self.pages: asyncio.Queue[list[Listed] | None] = asyncio.Queue(2 * concurrency)
        """None: no page follows."""

    async def run(self, prefix: str) -> None:
        """List all. Raises the first error."""
        error: BaseException | None = None
        try:
            async with self._tasks:
                self._start(self._list(_Range(prefix, prefix)))
        except BaseExceptionGroup as errors:
            error = errors.exceptions[0]
        await self.pages.put(None)
        if error is not None:
            raise error

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._under_way += 1
        self._tasks.create_task(work).add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._under_way -= 1

    async def _list(self, keys: _Range) -> None:
        while not keys.is_finished:
            async with self._turns:
                page = await self._read(keys.prefix, keys.marker)
                entries = keys.take(page)
                if self._is_splittable and not is_ordered([entry.key for entry in page.entries]):
                    self._is_splittable = False  # split, such a listing might never end, or say things twice
                can_split = self._is_splittable and not (keys.is_searched or keys.is_finished)
                if can_split and page.entries and self._under_way < self._concurrency:
                    keys.is_searched = True
                    self._start(self._split(keys))
                if entries:
                    await self.pages.put(entries)

    async def _read(self, prefix: str, after: Marker | None, max_keys: int = 1000) -> Page:
        """One page. Once the server has answered, a failure that may pass is waited out."""
        request = partial(self._request, self._bucket, prefix, after=after, max_keys=max_keys)
        page = await (persist(request) if self._has_answered else request())
        self._has_answered = True
        return page

    async def _first_key(self, prefix: str, place: str) -> str | None:
        async with self._turns:
            page = await self._read(prefix, Marker(place), max_keys=1)
        return page.entries[0].key if page.entries else None

    async def _split(self, keys: _Range) -> None:
        """Look for a fork behind the range's last key. Its nearest branch stays, the others become ranges."""
        try:
            fork = await find_fork(keys.last_key, keys.within, partial(self._first_key, keys.within))
        except Rejected:
            self._is_splittable = False  # the server minds the places that we list from: then page by page
            return
        # Meanwhile the range may have been finished, or have gone past the fork.
        if fork and self._is_splittable and not keys.is_finished and keys.last_key.startswith(fork.stem):
            keys.within = fork.stem
            await self._branch(fork, keys.excluded)
        keys.is_searched = False

    async def _branch(self, fork: Fork, excluded: tuple[str, ...]) -> None:
        """Make each branch behind the fork's stem a range as soon as it is found."""
        taken = (*excluded, fork.stem)
        key: str | None = fork.next_key
        while key is not None:
            branch = key[: len(fork.stem)]
            if branch == fork.shared or branch.startswith(taken):
                self._is_splittable = False
            if not self._is_splittable or len(taken) - len(excluded) > MAX_BRANCHES:
                self._start(self._list(_Range(fork.shared, fork.shared, taken, Marker(edge(taken[-1])))))
                return
            taken = (*taken, branch)
            self._start(self._list(_Range(branch, branch, excluded)))
            key = await self._first_key(fork.shared, edge(branch))
