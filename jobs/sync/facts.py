"""What is known of one key's versions beside the listings, each fact asked for once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from jobs.core.evidence import Verdict, best_checksum, compare
from jobs.core.model import Listed, ObjectInfo, ObjectRef, is_exact
from jobs.core.outcome import Evidence
from jobs.core.reasons import Reason
from jobs.errors import Conflict
from jobs.s3.byte_ranges import ByteBudget, ContentSide
from jobs.s3.compare_bytes import compare_bytes
from jobs.s3.lookup import find
from jobs.s3.store import Store
from jobs.sync.look import Identity, identity


@dataclass(slots=True)
class Side:
    """The versions of one key at one side. `is_current`: only the current one, which requests need not name."""

    store: Store
    ref: ObjectRef
    is_current: bool = False
    _infos: dict[Identity, ObjectInfo] = field(default_factory=dict)
    _tags: dict[Identity, dict[str, str]] = field(default_factory=dict)

    def record(self, info: ObjectInfo) -> None:
        """Keep what HEAD said of a version."""
        self._infos[identity(info)] = info

    def known(self, version: Listed) -> ObjectInfo | None:
        """What HEAD said, without a request."""
        return self._infos.get(identity(version))

    async def describe(self, version: Listed) -> ObjectInfo:
        """What HEAD says or said. Raises Conflict if the version is gone, or was overwritten."""
        info = self.known(version)
        if info is None:
            ref = self.ref_of(version)
            info = await find(self.store, ref)
            if info is None or (not is_exact(version.version_id) and info.etag != version.etag):
                raise Conflict(
                    "HeadObject", str(ref), Reason.RACED, "it was overwritten or removed after it was listed"
                )
            self._infos[identity(version)] = info
        return info

    async def tags(self, version: Listed) -> dict[str, str]:
        """The tags of a version."""
        known = identity(version)
        if known not in self._tags:
            self._tags[known] = dict(await self.store.get_tags(self.ref_of(version)))
        return self._tags[known]

    def ref_of(self, version: Listed) -> ObjectRef:
        """The address of a version. One without an id of its own is the current object."""
        return self.ref if self.is_current else self.ref._replace(version_id=version.version_id)

    def content(self, version: Listed, info: ObjectInfo) -> ContentSide:
        """A version, to read it."""
        return ContentSide(self.store, self.ref_of(version), info)


async def compare_versions(
    ours: tuple[Side, Listed],
    theirs: tuple[Side, Listed],
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
    source, copy = ours[0].known(ours[1]), theirs[0].known(theirs[1])
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
    return await compare_bytes(ours[0].content(ours[1], source), theirs[0].content(theirs[1], copy), budget)
