"""Both sides of one key as S3 shows them: its versions, facts that are asked for once, and a look at both histories.

A look reads the destination first, then the source. What is copied between the two requests is then seen
at the source, and looked for again. The other way round, a copy would count as somebody else's object.

A key that is written each second has 86,400 versions a day. So histories are read newest first, down
to the oldest version that a row names. One that is older than the pages is described by a HEAD. Its
copy was made later than the version itself, so the copies are read back to that time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from jobs.core.evidence import Verdict, best_checksum, compare
from jobs.core.histories import SKEW_SECONDS
from jobs.core.model import NULL_VERSION, SIZE_LIMIT, Listed, ObjectInfo, ObjectRef, ObjectVersion, is_exact
from jobs.core.outcome import Evidence, Status, reason_of
from jobs.core.reasons import Reason
from jobs.errors import ArchivedObject, Conflict, NotFound, PreconditionFailed, Rejected, StoreError, Unavailable
from jobs.s3.byte_ranges import ByteBudget, ContentSide
from jobs.s3.compare_bytes import compare_bytes
from jobs.s3.lookup import KeyPages, find
from jobs.s3.retries import gather_bounded
from jobs.s3.store import Store
from jobs.sync.edges import End, Version

PAGES = 3
"""How many pages of copies are read for a few versions. One whose copy lies deeper is copied again."""
HEADS = 12
"""So many HEADs cost what a LIST costs."""
AT_ONCE = 16
PAGE_ROWS = 1_000
CHANGED = (Conflict, NotFound, PreconditionFailed)
"""The errors of a side that is another one by now: another look shows what it is."""
_OWN_REFUSALS = ("BufferTooSmall", "EntityTooLarge")
"""Codes of requests that the client does not send. Their messages say what to set."""


class Side(Struct):
    """One key at one side. `is_current`: only its current object counts, which requests need not name."""

    store: Store
    ref: ObjectRef
    is_current: bool = False
    versions: dict[tuple[str, str | None], Version] = {}

    def version(self, listed: Listed) -> Version:
        """The version that a listing shows, always the same object. Without versions, the ETag identifies it."""
        identity = listed.version_id or NULL_VERSION, listed.etag
        if identity not in self.versions:
            self.versions[identity] = Version(listed.version_id, False, None, listed.etag, 0.0)
        known = self.versions[identity]
        known.version_id = listed.version_id or known.version_id
        known.is_marker, known.size_bytes = listed.is_delete_marker, listed.size_bytes
        known.at, known.storage_class = listed.last_modified, listed.storage_class
        return known

    def named(self, row: ObjectVersion) -> Version:
        """The version that a row describes."""
        return self.version(Listed(*row[1:7], row.last_modified or 0.0, row.storage_class))

    def seen(self, info: ObjectInfo) -> Version:
        """The version that HEAD has described."""
        about = info.size_bytes, info.etag, info.last_modified, info.storage_class
        version = self.version(Listed(self.ref.key, info.version_id, True, False, *about))
        version.info = info
        return version

    async def find(self, version_id: str | None = None) -> Version | None:
        """What HEAD shows, of the current object unless another one is asked for. None: it is not there."""
        info = await find(self.store, ObjectRef(*self.ref[:2], version_id))
        if info is not None and info.version_id is None and version_id is not None:
            info = replace(info, version_id=version_id)  # some servers leave it out
        return None if info is None else self.seen(info)

    def ref_of(self, version: Version) -> ObjectRef:
        """The address of a version."""
        return self.ref if self.is_current else self.ref._replace(version_id=version.version_id)

    def row_of(self, version: Version) -> ObjectVersion:
        """A row that names a version."""
        about = version.is_marker, version.size_bytes, version.etag, version.at or None, version.storage_class
        return ObjectVersion(-1, self.ref.key, version.version_id, True, *about)

    async def describe(self, version: Version) -> ObjectInfo:
        """What HEAD says or said. Raises Conflict if the version is gone, or was overwritten."""
        if version.info is None:
            ref = self.ref_of(version)
            info = await find(self.store, ref)
            if info is None or (not is_exact(version.version_id) and info.etag != version.etag):
                what = "it was overwritten or removed after it was listed"
                raise Conflict("HeadObject", str(ref), Reason.RACED, what)
            version.info = info
        return version.info

    async def tags(self, version: Version) -> Mapping[str, str]:
        """The tags of a version."""
        if version.tags is None:
            version.tags = await self.store.get_tags(self.ref_of(version))
        return version.tags

    async def content(self, version: Version) -> ContentSide:
        """A version, to read it."""
        return ContentSide(self.store, self.ref_of(version), await self.describe(version))


def refusal_end(error: StoreError, *, is_last: bool) -> End:
    """How a version ends when its request failed. Raises the error where another look, or a retry, may help.

    `is_last`: no retry follows, so what still fails is given up.
    """
    may_pass = isinstance(error, Unavailable) and not (is_last and error.is_of_object)
    if may_pass or isinstance(error, CHANGED):
        raise error
    if isinstance(error, ArchivedObject):
        return End(Status.BLOCKED, Reason.ARCHIVED)
    return End(Status.BLOCKED, reason_of(error), error.detail if error.code in _OWN_REFUSALS else error.fact)


async def compare_versions(
    ours: tuple[Side, Version],
    theirs: tuple[Side, Version],
    budget: ByteBudget,
    *,
    must_read: bool = False,
    may_read: bool = True,
    has_tags: bool = False,
    limit_bytes: int = SIZE_LIMIT,
) -> Verdict:
    """Compare two versions by HEADs, by their tags (`has_tags`), and by their bytes if nothing else
    decides.

    `must_read`: only the bytes prove that they are the same. Not `may_read`, above `limit_bytes` and in
    archives nothing is read. Raises StoreError.
    """
    source, copy = await asyncio.gather(*(side.describe(version) for side, version in (ours, theirs)))
    verdict = compare(source, copy)
    if verdict.same is False:
        return verdict
    if has_tags and source.tag_count:
        here, there = await asyncio.gather(*(side.tags(version) for side, version in (ours, theirs)))
        if not here.items() <= there.items():
            return Verdict(False, Evidence.NONE, Reason.METADATA_DIFFERS, "tags")
    if verdict.same and not must_read:
        return verdict._replace(checksum=best_checksum(source))
    if not may_read:
        return verdict
    if source.is_archived or copy.is_archived:
        return Verdict(None, Evidence.NONE, Reason.ARCHIVED, "source" if source.is_archived else "copy")
    if source.size_bytes > limit_bytes:
        return Verdict(None, Evidence.NONE, Reason.TOO_LARGE)
    return await compare_bytes(await ours[0].content(ours[1]), await theirs[0].content(theirs[1]), budget)


async def look_by_lists(
    ours: Side, theirs: Side, rows: Sequence[ObjectVersion], copies: KeyPages | None = None
) -> tuple[list[Version], list[Version]]:
    """The source's history and that of the copies, oldest first, as far as the rows ask for them. Raises StoreError.

    `copies`: the destination's, if they were just read.
    """
    source, most = KeyPages(ours.store, *ours.ref[:2]), PAGES + 2 * (len(rows) // PAGE_ROWS)
    if copies is None:
        copies = KeyPages(theirs.store, *theirs.ref[:2])
        await copies.read_page()
    await source.read_page()
    while not source.is_whole and (
        len(rows) > source.pages * PAGE_ROWS + HEADS  # so many are surely not among them
        # some stores list a null version last, though it is the latest
        or not any(each.is_latest for each in source.versions)
        or all(each.is_delete_marker for each in source.versions)
        or (source.pages < most and len(_unseen(rows, ours, source)) > HEADS)
    ):
        await source.read_page()
    described = [] if source.is_whole else await _describe(ours, _unseen(rows, ours, source))
    whole = [*sorted(described, key=lambda each: each.at), *map(ours.version, source.versions)]
    older = [each for each in places_of(rows, whole) if each is not None and each is not whole[-1]]
    most = PAGES + 2 * (len(older) // PAGE_ROWS)
    since = min((each.at for each in older), default=float("inf")) - SKEW_SECONDS
    while not copies.is_whole and copies.pages < most:
        if any(each.last_modified < since for each in copies.newest_first[-PAGE_ROWS:]):
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
        ref = ours.ref._replace(version_id=row.version_id or NULL_VERSION)
        try:
            if row.is_delete_marker:
                return ours.named(row) if await _is_marker(ours.store, ref) else None
            version = await ours.find(ref.version_id)
        except Rejected:  # 400: an id that S3 has never given to a version
            return None
        is_meant = version is not None and (is_exact(row.version_id) or row.etag in (None, version.etag))
        return version if is_meant else None

    named = {row.version_id: row for row in rows}
    return [each for each in await gather_bounded(describe, named.values(), AT_ONCE) if each is not None]


async def _is_marker(store: Store, ref: ObjectRef) -> bool:
    try:
        await store.head(ref)
    except NotFound as error:
        return error.status == 405  # what S3 says to a HEAD of a delete marker by its id
    return False
