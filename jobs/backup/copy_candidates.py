"""Copies of one key, ordered for one source version by how likely each is its copy. Pure.

A key may have a hundred thousand versions of one size, so that nobody can compare a version with every copy. What a
listing says puts the likely ones first: the top copy, then those with the version's own ETag, then the others, and
in each group those that lie as deep below the top as the version lies below the source's newest. Events come nearly
in order, and both histories grow at the top, so a copy lies about as deep as its version.

A caller looks at the first few. To miss a copy costs another copy of the version, and loses nothing.

The source's version id as metadata or a tag of the copy would not help: no listing shows either, so that finding the
marked copy takes the same HEADs. A mark would also be in the way of the faithful copy, and whoever writes the source
could forge it.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from jobs.backup.succession import can_be_copy
from jobs.core.model import Listed, is_exact

NEAREST = 64
"""So many copies of other ETags, around the version's depth, are likely enough to be weighed at all."""


class CopyIndex:
    """The copies of one key, oldest first, found by size and by ETag. A copy that was just made is added on top."""

    def __init__(self, copies: Iterable[Listed]):
        self.copies: list[Listed] = []
        self._by_size: dict[int | None, list[int]] = defaultdict(list)
        self._by_etag: dict[tuple[int | None, str | None], list[int]] = defaultdict(list)
        for copy in copies:
            self.add(copy)

    @property
    def top(self) -> int:
        """The place of the copy on top; -1 when there is none."""
        return len(self.copies) - 1

    def add(self, copy: Listed) -> int:
        """Put a copy on top. Returns its place."""
        self.copies.append(copy)
        if not copy.is_delete_marker:
            self._by_size[copy.size_bytes].append(self.top)
            self._by_etag[copy.size_bytes, copy.etag].append(self.top)
        return self.top

    def likely(self, version: Listed, depth: int, *, is_newest: bool) -> Iterator[int]:
        """The places of copies that may be of `version`, the likeliest first, none twice.

        `depth`: how many versions of the source are newer. `is_newest`: it has to be on top, so that what lies below
        the top counts only if it was surely made after the version (`is_made_after`).
        """
        done = set()
        size_bytes, depth_place = version.size_bytes, self.top - depth
        equal = _nearest(self._by_etag.get((size_bytes, version.etag), ()), depth_place)
        others = zip(range(NEAREST), _nearest(self._by_size.get(size_bytes, ()), depth_place), strict=False)
        for place in (*[self.top][: len(self.copies)], *equal, *(place for _, place in others)):
            copy = self.copies[place]
            is_possible = place == self.top or not is_newest or is_made_after(version, copy)
            if place not in done and is_possible and can_be_copy(version, copy):
                done.add(place)
                yield place


def is_made_after(version: Listed, copy: Listed) -> bool:
    """Whether a copy below the top was surely made after the version was written.

    The same content may have been written, copied, overwritten and written again. Then the first copy lies below the
    second one, and is none of the third version. Its time tells, to the second; without versions, nothing does, and
    the newest object of such a source is copied again unless its copy is on top.
    """
    return is_exact(version.version_id) and copy.last_modified > version.last_modified


def _nearest(places: Sequence[int], to: int) -> Iterator[int]:
    """Ascending places, the nearest to `to` first. Of two as near, the higher."""
    above = bisect.bisect_left(places, to)
    below = above - 1
    while below >= 0 or above < len(places):
        if below < 0 or (above < len(places) and places[above] - to <= to - places[below]):
            yield places[above]
            above += 1
        else:
            yield places[below]
            below -= 1
