"""One look at both sides of a key: the destination first, then the source.

What is copied between the two requests is then seen at the source, and looked for again. The other
way round, a copy would count as somebody else's object.

A key that is written each second has 86,400 versions a day. So histories are read newest first, down
to the oldest version that a row names. One that is older than the pages is described by a HEAD. Its
copy was made later than the version itself, so the copies are read back to that time.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from jobs.core.histories import SKEW_SECONDS
from jobs.core.model import NULL_VERSION, Listed, ObjectVersion, is_exact
from jobs.errors import NotFound, Rejected
from jobs.s3.lookup import KeyPages
from jobs.s3.retries import gather_bounded
from jobs.sync.facts import Side
from jobs.sync.versions import Version

PAGES = 3
"""How many pages of copies are read for a few versions. One whose copy lies deeper is copied again."""
HEADS = 12
"""So many HEADs cost what a LIST costs."""
AT_ONCE = 16
PAGE_ROWS = 1_000
METHOD_NOT_ALLOWED = 405
"""What S3 says to a HEAD of a delete marker by its id."""

Histories = tuple[list[Version], list[Version]]
"""What a look saw of the source and of the copies, oldest first, as far as they were read."""


async def look_by_heads(ours: Side, theirs: Side) -> Histories:
    """See what is current at both sides. Raises StoreError."""
    there = await theirs.find()
    here = await ours.find()
    return [here] if here else [], [there] if there else []


async def look_by_lists(ours: Side, theirs: Side, copies: KeyPages, rows: Sequence[ObjectVersion]) -> Histories:
    """Read both histories as far as the rows ask for it. Raises StoreError."""
    source, most = KeyPages(ours.store, *ours.ref[:2]), PAGES + 2 * (len(rows) // PAGE_ROWS)
    if not copies.pages:
        await copies.read_page()
    await source.read_page()
    while not source.is_whole and (
        not _shows_newest(source.versions) or (source.pages < most and len(_unseen(rows, ours, source)) > HEADS)
    ):
        await source.read_page()
    described = [] if source.is_whole else await _describe(ours, _unseen(rows, ours, source))
    whole = [*sorted(described, key=_time), *map(ours.version, source.versions)]
    older = [each for each in places_of(rows, whole) if each is not None and each is not whole[-1]]
    most = PAGES + 2 * (len(older) // PAGE_ROWS)
    since = min(map(_time, older), default=float("inf")) - SKEW_SECONDS
    while not copies.is_whole and copies.pages < most:
        if min((each.last_modified for each in copies.versions), default=since) < since:
            break
        await copies.read_page()
    return whole, [*map(theirs.version, copies.versions)]


def places_of(rows: Sequence[ObjectVersion], history: Sequence[Version]) -> list[Version | None]:
    """The version of the source's history that each row means. None: it is not there.

    Without a version id the ETag identifies it. In a bucket with versions, that is the latest one
    with this ETag. A row of the null version means the latest one where no null version is: its
    event did not say which version it was about.
    """
    objects = [version for version in history if not version.is_marker]
    latest = objects[-1] if objects else None
    by_id: dict[str | None, Version | None] = {version.version_id: version for version in history}
    by_etag = {version.etag: version for version in objects}
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


def _unseen(rows: Sequence[ObjectVersion], ours: Side, pages: KeyPages) -> list[ObjectVersion]:
    """The rows of versions that the pages do not show."""
    history = [*map(ours.version, pages.versions)]
    shown = {each.version_id for each in history}
    return [
        row
        for row, version in zip(rows, places_of(rows, history), strict=True)
        if version is None or (row.version_id is not None and row.version_id not in shown)
    ]


async def _describe(ours: Side, rows: Sequence[ObjectVersion]) -> list[Version]:
    """HEAD each version that a row names. Those that are gone are left out."""

    async def describe(row: ObjectVersion) -> Version | None:
        try:
            info = await ours.store.head(ours.ref._replace(version_id=row.version_id or NULL_VERSION))
        except NotFound as error:
            if not row.is_delete_marker or error.status != METHOD_NOT_ALLOWED:
                return None
            return ours.version(
                Listed(row.key, row.version_id, False, True, None, None, row.last_modified or 0.0, None)
            )
        except Rejected:  # 400: an id that S3 has never given to a version
            return None
        if not is_exact(row.version_id) and row.etag not in (None, info.etag):
            return None
        return ours.seen(replace(info, version_id=row.version_id or NULL_VERSION))  # some servers leave the id out

    named = {row.version_id: row for row in rows}
    return [each for each in await gather_bounded(describe, named.values(), AT_ONCE) if each is not None]


def _time(version: Version) -> float:
    return version.at
