"""The versions of one key at one side. Each fact is asked for once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from msgspec import Struct

from jobs.core.evidence import Verdict, best_checksum, compare
from jobs.core.model import NULL_VERSION, Listed, ObjectInfo, ObjectRef, ObjectVersion, is_exact
from jobs.core.outcome import Evidence
from jobs.core.reasons import Reason
from jobs.errors import Conflict
from jobs.s3.byte_ranges import ByteBudget, ContentSide
from jobs.s3.compare_bytes import compare_bytes
from jobs.s3.lookup import find
from jobs.s3.store import Store
from jobs.sync.versions import Version


class Side(Struct):
    """One key at one side. `is_current`: only its current object counts, which requests need not name."""

    store: Store
    ref: ObjectRef
    is_current: bool = False
    versions: dict[tuple[str, str | None], Version] = {}

    def version(self, listed: Listed) -> Version:
        """The version that a listing shows, always the same object. Without versions, the ETag identifies it."""
        identity = listed.version_id or NULL_VERSION, listed.etag
        known = self.versions.get(identity)
        if known is None:
            known = self.versions[identity] = Version(listed.version_id, False, None, listed.etag, 0.0)
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
        return None if info is None else self.seen(info)

    def ref_of(self, version: Version) -> ObjectRef:
        """The address of a version."""
        return self.ref if self.is_current else self.ref._replace(version_id=version.version_id)

    def row_of(self, version: Version) -> ObjectVersion:
        """A row that names a version."""
        about = version.is_marker, version.size_bytes, version.etag, version.at, version.storage_class
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
            if (info.version_id or NULL_VERSION, info.etag) not in self.versions:  # a row may not say the ETag
                self.seen(info)
        return version.info

    async def tags(self, version: Version) -> Mapping[str, str]:
        """The tags of a version."""
        if version.tags is None:
            version.tags = await self.store.get_tags(self.ref_of(version))
        return version.tags

    async def content(self, version: Version) -> ContentSide:
        """A version, to read it."""
        return ContentSide(self.store, self.ref_of(version), await self.describe(version))


async def compare_versions(
    ours: tuple[Side, Version],
    theirs: tuple[Side, Version],
    budget: ByteBudget,
    *,
    must_read: bool = False,
    may_read: bool = True,
    has_tags: bool = False,
    limit_bytes: int | None = None,
) -> tuple[Verdict, str | None]:
    """Compare two versions by HEADs, by their tags (`has_tags`), and by their bytes if nothing else
    decides.

    `must_read`: only the bytes prove that they are the same. Not `may_read`, above `limit_bytes` and in
    archives nothing is read. Returns also the content's checksum, if it is known. Raises StoreError.
    """
    source, copy = ours[1].info, theirs[1].info
    if source is None or copy is None:
        source, copy = await asyncio.gather(*(side.describe(version) for side, version in (ours, theirs)))
    verdict = compare(source, copy)
    if verdict.same is False:
        return verdict, None
    if has_tags and source.tag_count:
        here, there = await asyncio.gather(*(side.tags(version) for side, version in (ours, theirs)))
        if not here.items() <= there.items():
            return Verdict(False, Evidence.NONE, Reason.METADATA_DIFFERS, "tags"), None
    if verdict.same and not must_read:
        return verdict, best_checksum(source)
    if not may_read:
        return verdict, None
    if source.is_archived or copy.is_archived:
        return Verdict(None, Evidence.NONE, Reason.ARCHIVED, "source" if source.is_archived else "copy"), None
    if limit_bytes is not None and source.size_bytes > limit_bytes:
        return Verdict(None, Evidence.NONE, Reason.TOO_LARGE), None
    return await compare_bytes(await ours[0].content(ours[1]), await theirs[0].content(theirs[1]), budget)
