"""Both sides of one key: the newest page, and the versions that the rows name.

A key that is written each second has 86,400 versions a day, 87 LISTs on each side. The first page
shows the newest version and the copy on top. A row's version that is older than the first page
costs a HEAD. Its copy was made later than the version itself, so the copies are read back to that
time, and at most `PAGES` pages. A version whose copy lies deeper is stored a second time, which
costs less than to look for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from jobs.backup.copy_candidates import CopyIndex
from jobs.core.histories import SKEW_SECONDS
from jobs.core.model import NULL_VERSION, Listed, ObjectInfo, ObjectRef, ObjectVersion
from jobs.errors import Rejected
from jobs.s3.lookup import KeyPages, find
from jobs.s3.store import Store

PAGES = 3


@dataclass(slots=True)
class KeySides:
    """The result of one look.

    `whole`: the source's versions, oldest first. With `is_whole` these are all.

    `described`: what HEAD said of versions that are older than the source's pages.
    """

    whole: list[Listed]
    copies: CopyIndex
    is_whole: bool
    described: list[ObjectInfo] = field(default_factory=list)


async def look_at(
    source: Store, at_source: ObjectRef, destination: Store, target: ObjectRef, rows: Sequence[ObjectVersion]
) -> KeySides:
    """Read both sides of a key. Raises StoreError."""
    ours = KeyPages(source, at_source.bucket, at_source.key)
    theirs = KeyPages(destination, target.bucket, target.key)
    await asyncio.gather(ours.read_page(), theirs.read_page())
    while not ours.is_whole and not _shows_newest(ours.versions):
        await ours.read_page()
    whole = ours.versions
    described = [] if ours.is_whole else await _describe(source, at_source, whole, rows)
    whole = sorted((_listed(at_source.key, info) for info in described), key=_time) + whole
    older = (place for place in places_of(rows, whole) if place is not None and place < len(whole) - 1)
    since = min((whole[place].last_modified for place in older), default=None)
    while since is not None and not theirs.is_whole and theirs.pages < PAGES:
        if min(map(_time, theirs.versions), default=since) < since - SKEW_SECONDS:
            break
        await theirs.read_page()
    return KeySides(whole, CopyIndex(theirs.versions), ours.is_whole, described)


def places_of(rows: Sequence[ObjectVersion], history: Sequence[Listed]) -> list[int | None]:
    """Return the index of each row's version in the source's history.

    Without a version id the ETag identifies it. In a bucket with versions, that is the latest one
    with this ETag. A row of the null version means the latest one where no null version is: its
    event did not say which version it was about.
    """
    objects = [place for place, version in enumerate(history) if not version.is_delete_marker]
    by_id: dict[str | None, int | None] = {history[place].version_id: place for place in objects}
    by_etag = {history[place].etag: place for place in objects}
    latest = objects[-1] if objects else None
    by_id.setdefault(NULL_VERSION, latest)
    return [
        by_id.get(row.version_id) if row.version_id is not None else by_etag.get(row.etag) if row.etag else latest
        for row in rows
    ]


def _shows_newest(versions: Sequence[Listed]) -> bool:
    """True if the newest object is among them.

    Some stores list a null version last, though it is the latest.
    """
    return any(each.is_latest for each in versions) and not all(each.is_delete_marker for each in versions)


async def _describe(
    source: Store, at_source: ObjectRef, whole: Sequence[Listed], rows: Sequence[ObjectVersion]
) -> list[ObjectInfo]:
    """HEAD each version that a row names and the pages do not show.

    Versions that are gone are left out.
    """
    shown = {each.version_id for each in whole}
    named = [(row, row.version_id or NULL_VERSION) for row in rows]
    places = zip(named, places_of(rows, whole), strict=True)
    absent = {
        version_id: row
        for (row, version_id), place in places
        if place is None or (row.version_id is not None and version_id not in shown)
    }
    answers = await asyncio.gather(*(_find(source, at_source._replace(version_id=version_id)) for version_id in absent))
    return [
        info
        for row, info in zip(absent.values(), answers, strict=True)
        if info is not None and (row.version_id is not None or row.etag in (None, info.etag))
    ]


async def _find(source: Store, ref: ObjectRef) -> ObjectInfo | None:
    try:
        return await find(source, ref)
    except Rejected:  # 400: an id that S3 has never given to a version
        return None


def _listed(key: str, info: ObjectInfo) -> Listed:
    version_id = info.version_id or NULL_VERSION
    return Listed(key, version_id, False, False, info.size_bytes, info.etag, info.last_modified, info.storage_class)


def _time(version: Listed) -> float:
    return version.last_modified
