"""One look at both sides of a key: the destination first, then the source.

What is copied between the two requests is then seen at the source, and looked for again. The other
way round, a copy would count as somebody else's object.

A key that is written each second has 86,400 versions a day. So histories are read newest first, down
to the oldest version that a row names. One that is older than the pages is described by a HEAD. Its
copy was made later than the version itself, so the copies are read back to that time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.core.histories import SKEW_SECONDS
from jobs.core.model import NULL_VERSION, Listed, ObjectInfo, ObjectRef, ObjectVersion, is_exact
from jobs.errors import NoSuchBucket, NotFound, Rejected
from jobs.s3.lookup import KeyPages, find
from jobs.s3.retries import gather_bounded
from jobs.s3.store import Store

PAGES = 3
"""How many pages of copies are read for a few versions. One whose copy lies deeper is copied again."""
HEADS = 12
"""So many HEADs cost what a LIST costs."""
AT_ONCE = 16
PAGE_ROWS = 1_000
METHOD_NOT_ALLOWED = 405
"""What S3 says to a HEAD of a delete marker by its id."""

Identity = tuple[str | None, str | None]


@dataclass(slots=True)
class Look:
    """Both histories, oldest first, as far as they were read.

    `is_listed`: False if two HEADs showed what is current, and no more. `heads`: what HEAD said of
    versions of the source, and of the copy.
    """

    source: list[Listed]
    copies: list[Listed]
    is_listed: bool = True
    heads: tuple[Sequence[ObjectInfo], Sequence[ObjectInfo]] = ((), ())

    @property
    def top(self) -> Listed | None:
        """The object on top of the copies. None: nothing is there, or a delete marker is on top."""
        return self.copies[-1] if self.copies and not self.copies[-1].is_delete_marker else None

    def newest(self, *, follows_markers: bool) -> int | None:
        """The place of the source's newest object. None: it has none, or a marker hides it that counts."""
        for place in range(len(self.source) - 1, -1, -1):
            if not self.source[place].is_delete_marker:
                return place
            if follows_markers:
                return None
        return None


def identity(version: Listed | ObjectInfo) -> Identity:
    """What identifies a version among those of its key. Without versions, the ETag does."""
    return version.version_id or NULL_VERSION, version.etag


def as_listed(key: str, info: ObjectInfo, *, is_latest: bool = True) -> Listed:
    """What a listing shows of an object that HEAD has described."""
    version_id = info.version_id or NULL_VERSION
    return Listed(key, version_id, is_latest, False, info.size_bytes, info.etag, info.last_modified, info.storage_class)


async def look_by_heads(source: Store, at_source: ObjectRef, destination: Store, target: ObjectRef) -> Look:
    """See what is current at both sides. Raises StoreError."""
    there = await find(destination, target)
    here = await find(source, at_source)
    heads = [here] if here else [], [there] if there else []
    ours, theirs = ([as_listed(at_source.key, info) for info in infos] for infos in heads)
    return Look(ours, theirs, is_listed=False, heads=heads)


async def look_by_lists(source: Store, at_source: ObjectRef, theirs: KeyPages, rows: Sequence[ObjectVersion]) -> Look:
    """Read both histories as far as the rows ask for it. `theirs`: the copies. Raises StoreError."""
    ours, pages = KeyPages(source, *at_source[:2]), PAGES + 2 * (len(rows) // PAGE_ROWS)
    if not theirs.pages:
        await theirs.read_page()
    await ours.read_page()
    while not ours.is_whole and (
        not _shows_newest(ours.versions) or (ours.pages < pages and len(_unseen(rows, ours.versions)) > HEADS)
    ):
        await ours.read_page()
    whole = ours.versions
    described = [] if ours.is_whole else await _describe(source, at_source, _unseen(rows, whole))
    whole = sorted((version for version, _ in described), key=_time) + whole
    newest = len(whole) - 1
    named = [whole[place].last_modified for place in places_of(rows, whole) if place not in (None, newest)]
    pages = PAGES + 2 * (len(named) // PAGE_ROWS)
    since = min(named, default=float("inf")) - SKEW_SECONDS
    while not theirs.is_whole and theirs.pages < pages and min(map(_time, theirs.versions), default=since) >= since:
        await theirs.read_page()
    return Look(whole, theirs.versions, heads=([info for _, info in described if info is not None], ()))


def places_of(rows: Sequence[ObjectVersion], history: Sequence[Listed]) -> list[int | None]:
    """The place of each row's version in the source's history. None: it is not there.

    Without a version id the ETag identifies it. In a bucket with versions, that is the latest one
    with this ETag. A row of the null version means the latest one where no null version is: its
    event did not say which version it was about.
    """
    objects = [place for place, version in enumerate(history) if not version.is_delete_marker]
    by_id: dict[str | None, int | None] = {version.version_id: place for place, version in enumerate(history)}
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


def _unseen(rows: Sequence[ObjectVersion], versions: Sequence[Listed]) -> list[ObjectVersion]:
    """The rows of versions that the pages do not show."""
    shown = {each.version_id for each in versions}
    return [
        row
        for row, place in zip(rows, places_of(rows, versions), strict=True)
        if place is None or (row.version_id is not None and row.version_id not in shown)
    ]


async def _describe(
    source: Store, at_source: ObjectRef, rows: Sequence[ObjectVersion]
) -> list[tuple[Listed, ObjectInfo | None]]:
    """HEAD each version that a row names. Those that are gone are left out."""

    async def describe(row: ObjectVersion) -> tuple[Listed, ObjectInfo | None] | None:
        try:
            info = await source.head(at_source._replace(version_id=row.version_id or NULL_VERSION))
        except NoSuchBucket:
            raise
        except NotFound as error:
            is_marker = row.is_delete_marker and error.status == METHOD_NOT_ALLOWED
            at = row.last_modified or 0.0
            return (Listed(row.key, row.version_id, False, True, None, None, at, None), None) if is_marker else None
        except Rejected:  # 400: an id that S3 has never given to a version
            return None
        if not is_exact(row.version_id) and row.etag not in (None, info.etag):
            return None
        return as_listed(at_source.key, info, is_latest=False), info

    named = {row.version_id: row for row in rows}
    return [each for each in await gather_bounded(describe, named.values(), AT_ONCE) if each is not None]


def _time(version: Listed) -> float:
    return version.last_modified
