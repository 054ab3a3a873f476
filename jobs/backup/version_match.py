"""Which versions of a key at the destination are copies of which versions at the source."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from jobs.backup.copy_candidates import CopyIndex
from jobs.backup.succession import can_be_copy
from jobs.core.evidence import Verdict, compare, is_md5, is_md5_etag
from jobs.core.model import NULL_VERSION, Listed, ObjectInfo, ObjectRef
from jobs.core.outcome import Evidence, Outcome
from jobs.errors import Conflict
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.compare_bytes import Side, compare_content
from jobs.s3.lookup import find
from jobs.s3.store import Store

_NOT_COMPARED = "x-amz-website-redirect-location"
"""CopyObject leaves it behind: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html"""

NEWEST_LOOKS = 2
"""With so many copies the source's newest version is compared: the one on top, and one more."""
LOOKS = 6
"""The same for an older version, which an event names late."""

Identity = tuple[str | None, str | None]


class Unread(Exception):
    """Only the bytes could tell, and the object is above the limit. Never leaves whoever asked."""


def identity(version: Listed | ObjectInfo) -> Identity:
    """What tells a version of a key from the others; without versions, the ETag does."""
    return version.version_id or NULL_VERSION, version.etag


@dataclass(slots=True)
class Likeness:
    """What is known of one key's versions at both sides; everything is asked once.

    Two versions are alike when content, content headers and metadata are the same: a new version may differ in
    metadata only. Tags are not compared, since they change without a new version.
    Objects above `limit_bytes` are not read. However many copies there are, a version is compared with a few.
    """

    source: Store
    at_source: ObjectRef
    destination: Store
    at_destination: ObjectRef
    budget: ByteBudget
    limit_bytes: int | None = None
    _verdicts: dict[tuple[Identity, Identity], Verdict] = field(default_factory=dict)
    _infos: dict[tuple[bool, Identity], ObjectInfo] = field(default_factory=dict)
    _has_md5_copies: bool = False

    async def find_copy(self, version: Listed, copies: CopyIndex, depth: int, *, is_newest: bool = False) -> int | None:
        """The place of a copy of the version, the one on top if that is one. None when no likely copy is one.

        `depth` and `is_newest`: as `CopyIndex.likely` takes them.
        Raises Unread, and Conflict where something without a version id has been overwritten since it was listed.
        """
        looks = NEWEST_LOOKS if is_newest else LOOKS
        for place in copies.likely(version, depth, is_newest=is_newest):
            copy = copies.copies[place]
            if (identity(version), identity(copy)) not in self._verdicts:
                if looks == 0 or self._differ_by_etag(version, copy):
                    continue
                looks -= 1
            if await self._is_copy(version, copy, may_read=not is_newest or place == copies.top):
                return place
        return None

    async def is_older_on_top(self, older: Sequence[Listed], top: Listed) -> bool:
        """Whether the top copy may be of one of the source's `older` versions, the oldest first.

        Where too many would have to be compared it may be. Raises what `find_copy` does.
        """
        possible = [version for version in reversed(older) if can_be_copy(version, top)]
        possible.sort(key=lambda version: version.etag != top.etag)
        for version in possible[:LOOKS]:
            if await self._is_copy(version, top):
                return True
        return len(possible) > LOOKS

    async def describe(self, version: Listed) -> ObjectInfo:
        """What HEAD says of the source's version. Raises StoreError, Conflict where it has been overwritten."""
        info = self._infos.get((True, identity(version)))
        if info is None:
            ref = self._ref(version, True)
            info = await self.source.head(ref)
            _check_listed(version, info, ref)
            self.remember_source(info)
        return info

    def remember_source(self, info: ObjectInfo) -> None:
        """What HEAD said of a version of the source."""
        self._infos[True, identity(info)] = info

    def evidence(self, version: Listed, copy: Listed) -> Evidence:
        """What proved that they are alike."""
        return self._verdicts[identity(version), identity(copy)].evidence

    def remember(self, version: Identity, outcome: Outcome) -> None:
        """A copy that was just made."""
        there = (outcome.destination_version_id or NULL_VERSION, outcome.destination_etag)
        self._verdicts[version, there] = Verdict(True, outcome.evidence)

    def remember_twin(self, copy: Listed, outcome: Outcome) -> None:
        """A copy of a copy that was just made at the destination."""
        there = (outcome.destination_version_id or NULL_VERSION, outcome.destination_etag)
        for (version, known), verdict in list(self._verdicts.items()):
            if known == identity(copy) and verdict.same:
                self._verdicts[version, there] = verdict

    def _differ_by_etag(self, version: Listed, copy: Listed) -> bool:
        """Whether two MD5s differ. An ETag is one if HEAD says so, and at the destination if the last HEAD said so.

        Should the copy be encrypted with KMS nevertheless, it is missed, and made again.
        """
        info = self._infos.get((True, identity(version)))
        are_md5 = self._has_md5_copies and info is not None and is_md5_etag(info) and is_md5(copy.etag)
        return are_md5 and version.etag != copy.etag

    async def _is_copy(self, version: Listed, copy: Listed, *, may_read: bool = True) -> bool:
        both = (identity(version), identity(copy))
        if both not in self._verdicts:
            verdict = await self._compare(version, copy, may_read=may_read)
            if verdict.same is None:
                return False
            self._verdicts[both] = verdict
        return bool(self._verdicts[both].same)

    async def _compare(self, version: Listed, copy: Listed, *, may_read: bool) -> Verdict:
        source, destination = await asyncio.gather(self._find(version, True), self._find(copy, False))
        if destination is not None:
            self._has_md5_copies = is_md5_etag(destination)
        if source is None or destination is None:
            return Verdict(False, Evidence.NONE, "one of them is gone")
        if _carried(source) != _carried(destination):
            return Verdict(False, Evidence.NONE, "headers or metadata differ")
        verdict = compare(source, destination)
        if verdict.same is not None or not may_read:
            return verdict
        if source.is_archived or destination.is_archived:
            return Verdict(False, Evidence.NONE, "only the bytes could tell, and one of them is archived")
        if self.limit_bytes is not None and source.size_bytes > self.limit_bytes:
            raise Unread
        here, there = self._ref(version, True), self._ref(copy, False)
        sides = Side(self.source, here, source), Side(self.destination, there, destination)
        verdict, _ = await compare_content(*sides, self.budget)
        return verdict

    async def _find(self, listed: Listed, is_source: bool) -> ObjectInfo | None:
        """What HEAD says of a listed version, asked once. None when it is gone."""
        known = (is_source, identity(listed))
        if known not in self._infos:
            ref = self._ref(listed, is_source)
            info = await find(self.source if is_source else self.destination, ref)
            if info is None:
                return None
            _check_listed(listed, info, ref)
            self._infos[known] = info
        return self._infos[known]

    def _ref(self, listed: Listed, is_source: bool) -> ObjectRef:
        return (self.at_source if is_source else self.at_destination)._replace(version_id=listed.version_id)


def _check_listed(listed: Listed, info: ObjectInfo, ref: ObjectRef) -> None:
    """Raise Conflict where something without a version id of its own has been overwritten since it was listed."""
    if listed.version_id in (None, NULL_VERSION) and info.etag != listed.etag:
        raise Conflict("HeadObject", str(ref), "Raced", "it was overwritten after it was listed")


def _carried(info: ObjectInfo) -> tuple[dict[str, str], dict[str, str]]:
    headers = {name: value for name, value in info.attributes.headers.items() if name != _NOT_COMPARED}
    return headers, dict(info.attributes.metadata)
