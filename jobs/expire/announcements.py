"""Announcements of expire runs: an object that a run deletes is no copy.

Two objects may each be the copy of the other, in one run, in two runs at once or one after the
other. So a run first announces what it is about to delete (`ledger.tombstones`). Then it looks here
whether a run has announced the copies, and only then it deletes. Whatever the order of events, one
of the objects stays:

Suppose that all objects of one content went. Each went because of a copy that went as well. Take
the one that was announced last. Its copy was announced before it, and it was announced before its
run looked. S3 lists what was written before the listing began
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/Welcome.html#ConsistencyModel). So its run
saw the announcement of its copy, and kept it. (For two objects, this is Dekker's algorithm.)

A run withdraws an announcement by a `done` that does not name the object. It does so only when it
has kept it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from jobs.core.enums import Step
from jobs.core.model import Location, is_exact
from jobs.core.spelling import one_spelling
from jobs.expire.rules import Proof
from jobs.ledger.tombstones import FOLDER, Tombstones
from jobs.s3.retries import gather_bounded, retry
from jobs.s3.store import Marker, Store

FILES_AT_ONCE = 16


class Announcement(NamedTuple):
    """One object that a run has announced. `copy`: the URI of its own copy."""

    run_id: str
    key: str
    version_id: str | None
    etag: str
    step: str
    copy: str = ""

    def is_of(self, copy: Proof) -> bool:
        """True if the object may be the copy, in whatever spelling of its key.

        A marker hides any object that has the ETag and is current by then. An object is not its own
        copy: its run has left a mark to see that (`jobs.expire.marks`).
        """
        if one_spelling(self.key) != one_spelling(copy.key) or (self.key != copy.key and self.copy == copy.place):
            return False
        if is_exact(self.version_id) and self.version_id == copy.version_id:
            return True
        is_by_etag = self.step == Step.HIDE or not is_exact(self.version_id) or not is_exact(copy.version_id)
        return is_by_etag and self.etag == copy.etag


async def every_run(bucket: str, run_id: str) -> bool:
    """Return True: the announcements of every run count."""
    return True


@dataclass(frozen=True, slots=True)
class Announcements:
    """The announcements in one ledger that may be of copies in `places`.

    `concerns`: True if a run's announcements in a bucket may be of a copy here. Each file is read
    once, since files never change. Only rows in `places` are kept.
    """

    store: Store
    ledger: Location
    places: Sequence[Location]
    concerns: Callable[[str, str], Awaitable[bool]] = every_run
    _read: dict[str, list[Announcement]] = field(default_factory=dict)

    async def find(self, copies: Sequence[Proof]) -> list[str]:
        """Return for each copy the run that has announced it, else an empty text.

        Lists the ledger each time.
        """
        found = {bucket: await self._look(bucket) for bucket in sorted({copy.bucket for copy in copies})}
        near = [found[copy.bucket][one_spelling(copy.key)] for copy in copies]
        return [
            next((each.run_id for each in each_near if each.is_of(copy)), "")
            for each_near, copy in zip(near, copies, strict=True)
        ]

    async def _look(self, bucket: str) -> defaultdict[str, list[Announcement]]:
        """Return the announcements in a bucket, by the one spelling of their keys."""
        runs = [run_id for run_id in await self._run_ids(bucket) if await self.concerns(bucket, run_id)]
        folders = [Tombstones(self.store, self.ledger, bucket, run_id) for run_id in runs]
        named = await gather_bounded(lambda folder: folder.latest(), folders, FILES_AT_ONCE)
        files = [(folder, name) for folder, names in zip(folders, named, strict=True) for name in names]
        found: defaultdict[str, list[Announcement]] = defaultdict(list)
        for rows in await gather_bounded(self._kept, files, FILES_AT_ONCE):
            for each in rows:
                found[one_spelling(each.key)].append(each)
        return found

    async def _run_ids(self, bucket: str) -> list[str]:
        folder = self.ledger.join(f"{FOLDER}{bucket}/")
        found: list[str] = []
        after: Marker | None = None
        while True:
            page = await retry(partial(self.store.list_objects, *folder, after=after, delimiter="/"))
            found += [name[len(folder.key) :].rstrip("/") for name in page.prefixes]
            if page.next_marker is None:
                return found
            after = page.next_marker

    async def _kept(self, file: tuple[Tombstones, str]) -> list[Announcement]:
        folder, name = file
        place = f"{folder.bucket}/{folder.run_id}/{name}"
        if place not in self._read:
            self._read[place] = [
                Announcement(folder.run_id, each.key, each.version_id, each.etag, each.step, each.copy)
                for each in await folder.read(name)
                if self._is_inside(folder.bucket, each.key)
            ]
        return self._read[place]

    def _is_inside(self, bucket: str, key: str) -> bool:
        spelled = one_spelling(key)
        return any(place.bucket == bucket and spelled.startswith(one_spelling(place.key)) for place in self.places)
