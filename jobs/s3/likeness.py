"""Which versions of a key at the destination are copies of which versions at the source."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jobs.core.evidence import Verdict, compare
from jobs.core.model import NULL_VERSION, Listed, ObjectInfo, ObjectRef
from jobs.core.outcome import Evidence, Outcome
from jobs.core.succession import can_be_copy
from jobs.errors import Conflict
from jobs.s3.content import Side, compare_content
from jobs.s3.lookup import find
from jobs.s3.store import Store
from jobs.s3.streams import ByteBudget

_NOT_COMPARED = "x-amz-website-redirect-location"
"""CopyObject leaves it behind: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html"""

Identity = tuple[str | None, str | None]


class Unread(Exception):
    """Only the bytes could tell, and the object is above the limit. Never leaves whoever asked."""


def identity(version: Listed) -> Identity:
    """What tells a version of a key from the others; without versions, the ETag does."""
    return version.version_id, version.etag


@dataclass(slots=True)
class Likeness:
    """What is known of one key's versions at both sides; everything is asked once.

    Two versions are alike when content, content headers and metadata are the same: a new version may differ in
    metadata only. Tags are not compared, since they change without a new version.
    Objects above `limit_bytes` are not read.
    """

    source: Store
    at_source: ObjectRef
    destination: Store
    at_destination: ObjectRef
    budget: ByteBudget
    limit_bytes: int | None = None
    _verdicts: dict[tuple[Identity, Identity], Verdict] = field(default_factory=dict)

    async def find_copy(self, version: Listed, copies: Sequence[Listed]) -> int | None:
        """The place of the version's latest copy.

        Raises Unread, and Conflict where something without a version id has been overwritten since it was listed.
        """
        for place in range(len(copies) - 1, -1, -1):
            if can_be_copy(version, copies[place]) and await self._is_copy(version, copies[place]):
                return place
        return None

    async def is_older_on_top(
        self, history: Sequence[Listed], copies: Sequence[Listed], newest: int | None, found: Mapping[int, int]
    ) -> bool:
        """Whether the newest version's copy lies beneath the copy of an older one. Raises what `find_copy` does."""
        if newest is None or found.get(newest) in (None, len(copies) - 1):
            return False
        for version in history[:newest]:
            if can_be_copy(version, copies[-1]) and await self._is_copy(version, copies[-1]):
                return True
        return False

    def evidence(self, version: Listed, copy: Listed) -> Evidence:
        """What proved that they are alike."""
        return self._verdicts[identity(version), identity(copy)].evidence

    def remember(self, version: Listed, outcome: Outcome) -> None:
        """A copy that was just made."""
        there = (outcome.destination_version_id, outcome.destination_etag)
        self._verdicts[identity(version), there] = Verdict(True, outcome.evidence)

    def remember_twin(self, copy: Listed, outcome: Outcome) -> None:
        """A copy of a copy that was just made at the destination."""
        there = (outcome.destination_version_id, outcome.destination_etag)
        for (version, known), verdict in list(self._verdicts.items()):
            if known == identity(copy) and verdict.same:
                self._verdicts[version, there] = verdict

    async def _is_copy(self, version: Listed, copy: Listed) -> bool:
        both = (identity(version), identity(copy))
        if both not in self._verdicts:
            self._verdicts[both] = await self._compare(version, copy)
        return bool(self._verdicts[both].same)

    async def _compare(self, version: Listed, copy: Listed) -> Verdict:
        here = self.at_source._replace(version_id=version.version_id)
        there = self.at_destination._replace(version_id=copy.version_id)
        source, destination = await asyncio.gather(find(self.source, here), find(self.destination, there))
        if source is None or destination is None:
            return Verdict(False, Evidence.NONE, "one of them is gone")
        for listed, info, ref in ((version, source, here), (copy, destination, there)):
            if listed.version_id in (None, NULL_VERSION) and info.etag != listed.etag:
                raise Conflict("HeadObject", str(ref), "Raced", "it was overwritten after it was listed")
        if _carried(source) != _carried(destination):
            return Verdict(False, Evidence.NONE, "headers or metadata differ")
        verdict = compare(source, destination)
        if verdict.same is not None:
            return verdict
        if source.is_archived or destination.is_archived:
            return Verdict(False, Evidence.NONE, "only the bytes could tell, and one of them is archived")
        if self.limit_bytes is not None and source.size_bytes > self.limit_bytes:
            raise Unread
        sides = Side(self.source, here, source), Side(self.destination, there, destination)
        verdict, _ = await compare_content(*sides, self.budget)
        return verdict


def _carried(info: ObjectInfo) -> tuple[dict[str, str], dict[str, str]]:
    headers = {name: value for name, value in info.attributes.headers.items() if name != _NOT_COMPARED}
    return headers, dict(info.attributes.metadata)
