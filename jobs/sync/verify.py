"""Verification of one key's versions: which copy is each one's, compared until the alignment holds.

It looks and aligns as `sync_key` does, and writes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

from jobs.core.histories import SKEW_SECONDS
from jobs.core.model import Listed, ObjectVersion
from jobs.core.outcome import Outcome, Status
from jobs.core.reasons import Reason
from jobs.s3.retries import gather_bounded
from jobs.sync.table import Edge, Edges, Item, View, align

AT_ONCE = 8
_EDGES = {Status.VERIFIED: Edge.SAME, Status.DIFFERENT: Edge.NO, Status.MISSING: Edge.NO}
"""What an outcome says of two versions. All others leave it unknown."""


class Comparison(Protocol):
    """How versions of one key are compared."""

    async def compare(self, version: ObjectVersion, copy: Listed) -> Outcome:
        """Compare two objects. Raises StoreError where a retry may help."""
        ...

    async def claims(self, version: ObjectVersion, copy: Listed, outcome: Outcome) -> bool:
        """True if a copy that differs is this version's all the same, by what S3 keeps beside its bytes."""
        ...

    async def is_current(self, version: ObjectVersion) -> bool:
        """True if the version is the source's current one."""
        ...


async def verify_key(
    source: Sequence[ObjectVersion], copies: Sequence[Listed], comparison: Comparison, *, is_listed: bool
) -> dict[str | None, Outcome]:
    """Return version id → outcome, for the versions of `source` that rows name.

    Both histories are oldest first. `is_listed`: `source` is all that the source has. Else what is
    wrong is not known to be a damaged copy. The first line that fits decides:

    | version                                                          | outcome                  |
    |------------------------------------------------------------------|--------------------------|
    | a marker, newest: no object is on top of the copies              | verified                 |
    | a marker: there is one between the copies around it              | verified                 |
    | a marker, a newer version has a copy                             | left: marker_late        |
    | a marker                                                         | missing                  |
    | matched, current, below a delete marker                          | missing: copy_hidden     |
    | matched, current, below an object that differs                   | different: copy_covered  |
    | matched                                                          | as the two compare       |
    | unmatched, a free copy differs, and is its copy by ETag and such | different                |
    | unmatched, a comparison ended otherwise                          | as that one              |
    | unmatched, as many copies as versions, a free one in its place   | different                |
    | unmatched                                                        | missing                  |
    """
    return await _Verification(source, copies, comparison, is_listed=is_listed).outcomes()


class _Verification:
    def __init__(
        self, source: Sequence[ObjectVersion], copies: Sequence[Listed], comparison: Comparison, *, is_listed: bool
    ):
        self.source, self.copies, self.comparison, self.is_listed = source, copies, comparison, is_listed
        self.edges = Edges([*map(_item, source)], [*map(_item, copies)], skew_seconds=SKEW_SECONDS)
        self.view = View(self.edges)
        self.named = [index for index, version in enumerate(source) if version.row >= 0]
        self.found: dict[int, int] = {}
        self.compared: dict[tuple[int, int], Outcome] = {}

    async def outcomes(self) -> dict[str | None, Outcome]:
        await self._align()
        ends: dict[str | None, Outcome] = {}
        for index in self.named:
            if self.source[index].is_delete_marker:
                end = self._marker(index)
            elif index in self.found:
                end = await self._matched(index)
            else:
                end = await self._unmatched(index)
            ends[self.source[index].version_id] = end
        return ends

    async def _align(self) -> None:
        """Compare what the alignment rests on, and align again, until nothing is left to compare."""
        objects = [index for index in self.named if not self.source[index].is_delete_marker]
        while True:
            self.found = align(self.view)
            pairs = [(i, self.found[i]) for i in objects if i in self.found and (i, self.found[i]) not in self.compared]
            if not pairs:
                pairs = self._by_distance(objects)
            if not pairs:
                held = {copy for i, copy in self.found.items() if self.edges[i, copy] is Edge.SAME}
                likely = {i: self._likely(i, held) for i in objects if i not in self.found}
                pairs = [(i, copy) for i, copy in likely.items() if copy is not None]
            if not pairs:
                return
            await gather_bounded(self._compare, pairs, AT_ONCE)

    def _by_distance(self, objects: Sequence[int]) -> list[tuple[int, int]]:
        """Versions without a proven copy, each with the copy that is as far from the top as it is.

        Most copies are in the order of their versions, and some of the oldest are not there.
        """
        by_size = defaultdict[int | None, list[int]](list)
        for place, item in enumerate(self.edges.copies):
            if not item.is_marker:
                by_size[item.size_bytes].append(place)
        pairs = []
        for index in reversed(range(len(self.source))):
            item = self.edges.source[index]
            copy = by_size[item.size_bytes].pop() if not item.is_marker and by_size[item.size_bytes] else None
            if copy is None or index not in objects or (index, copy) in self.compared:
                continue
            is_proven = index in self.found and self.edges[index, self.found[index]] is Edge.SAME
            if not is_proven and self.edges[index, copy]:
                pairs.append((index, copy))
        return pairs

    def _likely(self, index: int, held: set[int]) -> int | None:
        """The next copy to compare an unmatched version with."""
        near = self.view.near(index)
        return next((copy for copy in near if copy not in held and (index, copy) not in self.compared), None)

    async def _compare(self, pair: tuple[int, int]) -> Outcome:
        """Compare a version and a copy once."""
        if pair not in self.compared:
            outcome = await self.comparison.compare(self.source[pair[0]], self.copies[pair[1]])
            self.compared[pair] = outcome
            self.edges.learn(*pair, _EDGES.get(outcome.status, Edge.UNKNOWN))
        return self.compared[pair]

    async def _matched(self, index: int) -> Outcome:
        version, copy, top = self.source[index], self.found[index], len(self.copies) - 1
        end = await self._compare((index, copy))
        if copy == top or index != len(self.source) - 1 or not await self.comparison.is_current(version):
            return end
        if self.copies[top].is_delete_marker:
            return Outcome.of(version, Status.MISSING, Reason.COPY_HIDDEN)
        on_top = await self._compare((index, top))
        if on_top.status is not Status.DIFFERENT:
            return on_top
        covered = Outcome.of(version, Status.DIFFERENT, Reason.COPY_COVERED)
        return covered._replace(
            size_bytes=on_top.size_bytes,
            destination_version_id=self.copies[top].version_id,
            destination_etag=self.copies[top].etag,
            source_modified=version.last_modified,
            copy_modified=self.copies[top].last_modified,
        )

    async def _unmatched(self, index: int) -> Outcome:
        version, free = self.source[index], {*range(len(self.copies))} - {*self.found.values()}
        ends = {copy: end for (i, copy), end in self.compared.items() if i == index}
        if not any(end.status in (Status.CHANGED, Status.DAMAGED) for end in ends.values()):
            for copy, end in ends.items():
                is_wrong = end.status is Status.DIFFERENT and copy in free
                if is_wrong and await self.comparison.claims(version, self.copies[copy], end):
                    return end
        for end in ends.values():
            if end.status not in (Status.VERIFIED, Status.DIFFERENT, Status.MISSING):
                return end
        if self.is_listed and len(self.source) == len(self.copies) and index in free:
            end = await self._compare((index, index))
            if end.status is Status.DIFFERENT:
                return end
        return Outcome.of(version, Status.MISSING, Reason.COPY_MISSING)

    def _marker(self, index: int) -> Outcome:
        version = self.source[index]
        older = max((copy for i, copy in self.found.items() if i < index), default=-1)
        newer = min((copy for i, copy in self.found.items() if i > index), default=None)
        between = [each for each in self.copies[older + 1 : newer] if each.is_delete_marker]
        is_hidden = index == len(self.source) - 1 and (not self.copies or self.copies[-1].is_delete_marker)
        if between or is_hidden:
            version_id = between[-1].version_id if between else None
            return Outcome.of(version, Status.VERIFIED)._replace(destination_version_id=version_id)
        if newer is not None:
            return Outcome.of(version, Status.LEFT, Reason.MARKER_LATE)
        return Outcome.of(version, Status.MISSING, Reason.COPY_MISSING)


def _item(version: ObjectVersion | Listed) -> Item:
    return Item(
        version.version_id, version.is_delete_marker, version.size_bytes, version.etag, version.last_modified or 0.0
    )
