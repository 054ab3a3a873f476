"""Listing of a bucket in parallel, without knowing its keys beforehand.

One worker starts with everything. Whenever a worker is idle, it looks for the place where a range
that another one is listing branches (`jobs.s3.listing_forks`): the owner keeps the nearest branch,
the others become ranges of their own. A range is a prefix: ranges are disjoint whatever the
server's order, all versions of a key stay together, and S3's limits per prefix are spread.

SeaweedFS: current objects of an unversioned bucket come completely. In a versioned bucket its own
pages lose entries at a boundary between such names as `x`, `x-1` and `x/…`, however one lists it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass

from jobs.core.model import Listed, Location
from jobs.errors import Rejected
from jobs.s3.listing_forks import Fork, edge, find_fork, is_ordered
from jobs.s3.retries import persist
from jobs.s3.store import Marker, Page, Store

MAX_BRANCHES = 64
"""Branches that become ranges of their own at one fork. What lies behind them stays one range.
Enough for digits, hex and base 64. A fork into thousands of CJK characters must not cost a request
each."""


@dataclass(eq=False, slots=True)
class _Range:
    """Keys that begin with `within` and with none of `excluded`.

    Requests ask for `prefix`, from `marker` on.
    """

    prefix: str
    within: str
    excluded: tuple[str, ...] = ()
    marker: Marker | None = None
    last_key: str | None = None
    is_fresh: bool = False  # a page has come since the last look for a fork

    def take(self, page: Page) -> list[Listed]:
        """The entries of the page that are this range's. Remembers how far the listing is."""
        self.marker = page.next_marker
        if page.entries:
            self.last_key = page.entries[-1].key
            self.is_fresh = True
        if self.within == self.prefix and not self.excluded:
            return page.entries
        return [
            entry
            for entry in page.entries
            if entry.key.startswith(self.within) and not entry.key.startswith(self.excluded)
        ]

    @property
    def is_finished(self) -> bool:
        return self.marker is None or (self.last_key is not None and not self.last_key.startswith(self.within))


async def list_folders(store: Store, bucket: str, prefix: str) -> AsyncGenerator[str, None]:
    """Yield the folders directly below a prefix, as prefixes that end in `/`."""
    after: Marker | None = None
    while True:
        page = await store.list_objects(bucket, prefix, after=after, delimiter="/")
        for folder in page.prefixes:
            yield folder
        after = page.next_marker
        if after is None:
            return


async def list_all(
    store: Store, location: Location, *, versions: bool, concurrency: int = 16
) -> AsyncGenerator[list[Listed], None]:
    """Yield every entry below `location` exactly once, in pages of at most 1,000, listed in
    parallel.

    Pages of one range come in the server's order, pages of different ranges in any. All versions of
    a key come in order. At most `2 × concurrency` pages wait in memory. Stopping early (`aclose`)
    cancels the requests. Raises the first StoreError of any request. Once the listing has begun,
    what may pass is first retried for minutes.
    """
    listing = _Listing(store, location, versions, concurrency)
    workers = [asyncio.create_task(listing.work()) for _ in range(concurrency)]
    finisher = asyncio.create_task(_finish(workers, listing.pages))
    try:
        while (found := await listing.pages.get()) is not None:
            yield found
        await finisher
    finally:
        for task in (finisher, *workers):
            task.cancel()
        await asyncio.gather(finisher, *workers, return_exceptions=True)


async def _finish(workers: list[asyncio.Task[None]], pages: asyncio.Queue[list[Listed] | None]) -> None:
    """Wait for all workers or the first error, then say that no page follows."""
    done, pending = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
    for task in pending:
        task.cancel()
    await pages.put(None)
    for task in done:
        task.result()


class _Listing:
    """State of one listing's workers: ranges waiting, ranges under way, pages ready."""

    def __init__(self, store: Store, location: Location, versions: bool, concurrency: int):
        self._request = store.list_versions if versions else store.list_objects
        self._bucket = location.bucket
        self._waiting = deque([_Range(location.key, location.key)])
        self._active: set[_Range] = set()
        self._searches = 0
        self._is_splittable = True
        self._has_answered = False
        self._changed = asyncio.Condition()
        self.pages: asyncio.Queue[list[Listed] | None] = asyncio.Queue(2 * concurrency)

    async def work(self) -> None:
        """List ranges, and split those of others when none waits, until all is listed."""
        while not self._is_done():
            if self._waiting:
                await self._list(self._waiting.popleft())
            elif candidate := self._choose():
                await self._split(candidate)
            else:
                async with self._changed:
                    await self._changed.wait_for(lambda: self._waiting or self._choose() or self._is_done())

    def _is_done(self) -> bool:
        return not (self._waiting or self._active or self._searches)

    async def _announce(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _list(self, keys: _Range) -> None:
        self._active.add(keys)
        while keys in self._active:
            page = await self._read(keys.prefix, keys.marker)
            # From here to the discard nothing waits: a split sees the range before this page or
            # after it.
            entries = keys.take(page)
            if self._is_splittable and not is_ordered([entry.key for entry in page.entries]):
                self._is_splittable = False  # split, such a listing might never end, or say things twice
            if keys.is_finished:
                self._active.discard(keys)
            await self._announce()
            if entries:
                await self.pages.put(entries)

    async def _read(self, prefix: str, after: Marker | None, max_keys: int = 1000) -> Page:
        """One page. Once the server has answered, a failure that may pass is waited out."""

        async def request() -> Page:
            return await self._request(self._bucket, prefix, after=after, max_keys=max_keys)

        page = await (persist(request) if self._has_answered else request())
        self._has_answered = True
        return page

    def _choose(self) -> _Range | None:
        """The range to split: the one with the shortest prefix is likely to be the largest."""
        fresh = [keys for keys in self._active if keys.is_fresh] if self._is_splittable else []
        return min(fresh, key=lambda keys: len(keys.within), default=None)

    async def _first_key(self, prefix: str, place: str) -> str | None:
        page = await self._read(prefix, Marker(place), max_keys=1)
        return page.entries[0].key if page.entries else None

    async def _split(self, keys: _Range) -> None:
        """Look for a fork behind the range's last key.

        Its nearest branch stays, the others become ranges.
        """
        assert keys.last_key is not None
        keys.is_fresh = False
        within = keys.within
        self._searches += 1
        try:
            fork = await self._ask(find_fork(keys.last_key, within), within)
            # The range may have been finished or split meanwhile, or have gone past the fork.
            if (
                fork
                and self._is_splittable
                and keys in self._active
                and keys.within == within
                and keys.last_key.startswith(fork.stem)
            ):
                keys.within = fork.stem
                await self._branch(fork, keys.excluded)
        finally:
            self._searches -= 1
            await self._announce()

    async def _ask(self, question: Generator[str, str | None, Fork | None], within: str) -> Fork | None:
        try:
            place = next(question)
            while True:
                place = question.send(await self._first_key(within, place))
        except StopIteration as stop:
            fork: Fork | None = stop.value
            return fork
        except Rejected:
            self._is_splittable = False  # the server minds the places that we list from: then page by page
            return None

    async def _branch(self, fork: Fork, excluded: tuple[str, ...]) -> None:
        """Make each branch behind the fork's stem a range as soon as it is found."""
        taken = (*excluded, fork.stem)
        rest = _Range(fork.shared, fork.shared, taken, Marker(edge(fork.stem)))
        key: str | None = fork.next_key
        while key is not None:
            branch = key[: len(fork.stem)]
            is_disordered = branch == fork.shared or branch.startswith(taken)
            if is_disordered:
                self._is_splittable = False
            if is_disordered or len(taken) - len(excluded) > MAX_BRANCHES:
                self._waiting.append(rest)
                return
            taken = (*taken, branch)
            rest.excluded, rest.marker = taken, Marker(edge(branch))
            self._waiting.append(_Range(branch, branch, excluded))
            await self._announce()
            key = await self._first_key(fork.shared, edge(branch))
