"""Version matching: which destination version is a copy of which source version."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from jobs.backup.copy_candidates import CopyIndex
from jobs.backup.succession import can_be_copy
from jobs.core.evidence import Verdict, compare, is_md5, is_md5_etag
from jobs.core.model import NULL_VERSION, Listed, ObjectInfo, ObjectRef, is_exact
from jobs.core.outcome import Evidence, Outcome
from jobs.errors import Conflict
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.compare_bytes import ContentSide, compare_content, is_damaged
from jobs.s3.lookup import find
from jobs.s3.store import Store

NEWEST_LOOKS = 2
"""With so many copies the source's newest version is compared: the one on top, and one more."""
LOOKS = 6
"""The same for an older version, which an event names late."""

_ARCHIVED = "only the bytes could tell, and one of the two is archived"
_DIFFERENT = Verdict(False, Evidence.NONE)

Identity = tuple[str | None, str | None]


class TooLargeToCompare(Exception):
    """Raised when only a byte comparison could decide and the object exceeds the limit.

    Callers here catch it.
    """


def identity(version: Listed | ObjectInfo) -> Identity:
    """Return what identifies a version among those of its key. Without versions, the ETag does."""
    return version.version_id or NULL_VERSION, version.etag


@dataclass(slots=True)
class VersionMatcher:
    """Matches one key's versions at both sides, and asks for each fact once.

    Two versions match when content, content headers, metadata and tags are the same, since a new
    version may differ in one of these only. Tags change without a new version as well. The next
    event of such a version copies it again. Objects above `limit_bytes` are not read. A version is
    compared with a few copies, however many there are.
    """

    source: Store
    at_source: ObjectRef
    destination: Store
    at_destination: ObjectRef
    budget: ByteBudget
    limit_bytes: int | None = None
    _verdicts: dict[tuple[Identity, Identity], Verdict] = field(default_factory=dict)
    _infos: dict[tuple[bool, Identity], ObjectInfo] = field(default_factory=dict)
    _tags: dict[tuple[bool, Identity], dict[str, str]] = field(default_factory=dict)
    _has_md5_copies: bool = False
    _differing: set[Identity] = field(default_factory=set)
    """Source versions whose bytes are not those of a likely copy, or of their checksum: they may be damaged."""

    async def find_copy(
        self, version: Listed, copies: CopyIndex, depth: int, *, is_newest: bool = False, is_only: bool = False
    ) -> int | None:
        """Return the place of a copy of the version, preferably the top one.

        None when no likely copy matches.

        `depth` and `is_newest` are those of `CopyIndex.likely`. `is_only`: no other version of the
        source has this size. Then an archived copy that cannot be compared counts, if it is not
        older than the version, to the second. Another one would be billed for its minimum stay, and
        prove as little. Raises TooLargeToCompare. Raises Conflict where a version without an id was
        overwritten after the listing.
        """
        looks = NEWEST_LOOKS if is_newest else LOOKS
        archived: int | None = None
        for place in copies.likely(version, depth, is_newest=is_newest):
            copy = copies.copies[place]
            if (identity(version), identity(copy)) not in self._verdicts:
                if looks == 0 or self._differ_by_etag(version, copy):
                    continue
                looks -= 1
            if await self._is_copy(version, copy, may_read=not is_newest or place == copies.top):
                return place
            is_unknown = self._is_unknown(version, copy)
            is_possible = is_only and is_exact(version.version_id) and copy.last_modified >= version.last_modified
            if archived is None and is_unknown and is_possible:
                archived = place
        return archived

    async def has_rival(self, version: Listed, copies: Sequence[Listed], place: int) -> bool:
        """Return True if the copy at `place` was found by its size alone, and another one, of other
        bytes, can be the version's as well.

        Then one of the two is of a version that is gone. ETags that are no MD5s do not tell.
        """
        found = copies[place]
        if not self._is_unknown(version, found) or not is_md5(found.etag):
            return False
        others = [each for each in copies if each.etag != found.etag and is_md5(each.etag)]
        others = [each for each in others if can_be_copy(version, each) and not self._differs(version, each)]
        if not others:
            return False
        looks = await asyncio.gather(self._find(found, False), self._find(others[-1], False))
        return all(info is not None and is_md5_etag(info) for info in looks)

    async def is_older_on_top(self, older: Sequence[Listed], top: Listed) -> bool:
        """Return True if the top copy may be of one of the source's `older` versions (oldest
        first).

        The answer is also True where too many versions would have to be compared, and where an
        archived copy or a damaged version cannot be: the newest on top once more is a small price.
        Raises what `find_copy` raises.
        """
        possible = [version for version in reversed(older) if can_be_copy(version, top)]
        possible.sort(key=lambda version: version.etag != top.etag)
        for version in possible[:LOOKS]:
            if await self._is_copy(version, top) or self._is_unknown(version, top) or await self.is_damaged(version):
                return True
        return len(possible) > LOOKS

    async def is_damaged(self, version: Listed) -> bool:
        """True if the bytes of a source version contradict what S3 keeps of them.

        Only one whose bytes differ from those of a likely copy is read. That copy may be the last
        good one. Raises what `describe` raises.
        """
        if identity(version) not in self._differing:
            return False
        side = ContentSide(self.source, self._ref(version, True), await self.describe(version))
        return await is_damaged(side, self.budget)

    async def differs_by_etag(self, etag: str | None, beside: Listed, copy: Listed) -> bool:
        """Return True if a source version of this ETag, which is gone, is not what the copy is of.

        HEAD says whether ETags are MD5s: those of the copy, and of a version `beside` it, since it
        can say nothing of one that is gone.
        """
        if not is_md5(etag) or not is_md5(copy.etag) or etag == copy.etag:
            return False
        source, destination = await asyncio.gather(self._find(beside, True), self._find(copy, False))
        return source is not None and destination is not None and is_md5_etag(source) and is_md5_etag(destination)

    def _is_unknown(self, version: Listed, copy: Listed) -> bool:
        """True if the two were compared, and an archived one did not let itself be compared."""
        return self._verdicts.get((identity(version), identity(copy)), _DIFFERENT).same is None

    def _differs(self, version: Listed, copy: Listed) -> bool:
        """True if the two were compared and differ."""
        verdict = self._verdicts.get((identity(version), identity(copy)))
        return verdict is not None and verdict.same is False

    async def describe(self, version: Listed) -> ObjectInfo:
        """Return what HEAD says of the source's version.

        Raises StoreError, and Conflict where it was overwritten.
        """
        info = self._infos.get((True, identity(version)))
        if info is None:
            ref = self._ref(version, True)
            info = await self.source.head(ref)
            _check_listed(version, info, ref)
            self.record_source(info)
        return info

    def record_source(self, info: ObjectInfo) -> None:
        """Keep what HEAD said of a version of the source."""
        self._infos[True, identity(info)] = info

    def verdict(self, version: Listed, copy: Listed) -> Verdict:
        """Return what is known of two that were compared. `same` is None for an archived copy that
        cannot be compared.
        """
        return self._verdicts[identity(version), identity(copy)]

    def record_copy(self, version: Identity, outcome: Outcome) -> None:
        """Keep that a version was just copied."""
        copy = (outcome.destination_version_id or NULL_VERSION, outcome.destination_etag)
        self._verdicts[version, copy] = Verdict(True, outcome.evidence)

    def record_recopy(self, copy: Listed, outcome: Outcome) -> None:
        """Keep that a destination version was just copied on top: it matches what the copied one
        matches, and is unknown where that is. What stored checksums have shown of the copied one is
        shown of the new one only if the answer has them.
        """
        recopy = (outcome.destination_version_id or NULL_VERSION, outcome.destination_etag)
        is_proven = outcome.evidence is not Evidence.NONE
        for (version, other), verdict in list(self._verdicts.items()):
            is_kept = is_proven or verdict.evidence in (Evidence.NONE, Evidence.CONTENT)
            if other == identity(copy) and verdict.same is not False and is_kept:
                self._verdicts[version, recopy] = verdict

    async def differs_from_recopy(self, version: Listed, recopy: Listed) -> bool:
        """Return True if a destination version that was just copied on top is not the version's
        copy. Both are looked at if the answer to the copy did not show it.
        """
        return not await self._is_copy(version, recopy) and not self._is_unknown(version, recopy)

    def record_doubt(self, version: Listed) -> None:
        """Keep that S3 read other bytes of a source version than those of its checksum."""
        self._differing.add(identity(version))

    def _differ_by_etag(self, version: Listed, copy: Listed) -> bool:
        """True if both ETags are MD5s and differ.

        At the destination, the last HEAD says whether ETags are MD5s.

        A copy that is encrypted with KMS nevertheless is missed, and made again.
        """
        info = self._infos.get((True, identity(version)))
        are_md5 = self._has_md5_copies and info is not None and is_md5_etag(info) and is_md5(copy.etag)
        return are_md5 and version.etag != copy.etag

    async def _is_copy(self, version: Listed, copy: Listed, *, may_read: bool = True) -> bool:
        both = (identity(version), identity(copy))
        if both not in self._verdicts:
            verdict = await self._compare(version, copy, may_read=may_read)
            if verdict.same is None and verdict.reason != _ARCHIVED:
                return False
            self._verdicts[both] = verdict
        return bool(self._verdicts[both].same)

    async def _compare(self, version: Listed, copy: Listed, *, may_read: bool) -> Verdict:
        source, destination = await asyncio.gather(self._find(version, True), self._find(copy, False))
        if destination is not None:
            self._has_md5_copies = is_md5_etag(destination)
        if source is None or destination is None:
            return Verdict(False, Evidence.NONE, "one of them is gone")
        verdict = compare(source, destination)
        if verdict.same is False or (verdict.same is None and not may_read):
            return verdict
        if not await self._have_same_tags((version, source), (copy, destination)):
            return Verdict(False, Evidence.NONE, "tags differ")
        if verdict.same is not None:
            return verdict
        if source.is_archived or destination.is_archived:
            return Verdict(None, Evidence.NONE, _ARCHIVED)
        if self.limit_bytes is not None and source.size_bytes > self.limit_bytes:
            raise TooLargeToCompare
        here, there = self._ref(version, True), self._ref(copy, False)
        sides = ContentSide(self.source, here, source), ContentSide(self.destination, there, destination)
        verdict, _ = await compare_content(*sides, self.budget)
        if verdict.same is False:
            self._differing.add(identity(version))
        return verdict

    async def _have_same_tags(self, ours: tuple[Listed, ObjectInfo], theirs: tuple[Listed, ObjectInfo]) -> bool:
        """True if both have the same tags. HEAD says how many, so objects without tags cost no
        request.
        """
        if ours[1].tag_count != theirs[1].tag_count:
            return False
        if not ours[1].tag_count:
            return True
        here, there = await asyncio.gather(self._tags_of(ours[0], True), self._tags_of(theirs[0], False))
        return here == there

    async def _tags_of(self, listed: Listed, is_source: bool) -> dict[str, str]:
        known = (is_source, identity(listed))
        if known not in self._tags:
            store = self.source if is_source else self.destination
            self._tags[known] = dict(await store.get_tags(self._ref(listed, is_source)))
        return self._tags[known]

    async def _find(self, listed: Listed, is_source: bool) -> ObjectInfo | None:
        """Return what HEAD says of a listed version, asked once. None when it is gone."""
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
    """Raise Conflict where a version without an id of its own was overwritten after the listing."""
    if listed.version_id in (None, NULL_VERSION) and info.etag != listed.etag:
        raise Conflict("HeadObject", str(ref), "Raced", "it was overwritten after it was listed")
