"""Candidates: the copies of a key, the likeliest ones of a version first. Pure.

A key may have a hundred thousand versions of one size, too many to compare a version with every
copy. The listing gives the order: the top copy, then those with the version's own ETag, then the
others. Within each group, those come first that lie as deep below the top as the version lies below
the source's newest. Events come nearly in order, and both histories grow at the top, so a copy lies
about as deep as its version.

A caller looks at the first few. A missed copy costs another copy of the version, and loses nothing.

The source's version id as metadata or a tag of the copy would not help. No listing shows either, so
finding the marked copy takes the same HEADs. A mark would also alter the copy, and a writer of the
source could forge it.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from jobs.backup.succession import can_be_copy
from jobs.core.model import Listed, is_exact

NEAREST = 64
"""The number of copies with other ETags, nearest to the version's depth, that are considered."""


class CopyIndex:
    """The copies of one key, oldest first, indexed by size and by ETag.

    New copies are added on top.
    """

    def __init__(self, copies: Iterable[Listed]):
        self.copies: list[Listed] = []
        self._by_size: dict[int | None, list[int]] = defaultdict(list)
        self._by_etag: dict[tuple[int | None, str | None], list[int]] = defaultdict(list)
        for copy in copies:
            self.add(copy)

    @property
    def top(self) -> int:
        """The place of the copy on top, -1 without copies."""
        return len(self.copies) - 1

    def add(self, copy: Listed) -> int:
        """Put a copy on top. Returns its place."""
        self.copies.append(copy)
        if not copy.is_delete_marker:
            self._by_size[copy.size_bytes].append(self.top)
            self._by_etag[copy.size_bytes, copy.etag].append(self.top)
        return self.top

    def likely(self, version: Listed, depth: int, *, is_newest: bool) -> Iterator[int]:
        """Yield the places of copies that may be of `version`, the likeliest first, none twice.

        `depth`: the number of newer versions at the source. `is_newest`: the version belongs on
        top, so a copy below the top counts only if it was surely made after the version
        (`is_made_after`).
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
    """True if a copy below the top was surely made after the version was written.

    The same content may have been written, copied, overwritten and written again. Then the first
    copy lies below the second one, and is not of the third version. Its time shows that, to the
    second. Without versions nothing does, and the newest object of such a source is copied again
    unless its copy is on top.
    """
    return is_exact(version.version_id) and copy.last_modified > version.last_modified


def _nearest(places: Sequence[int], to: int) -> Iterator[int]:
    """Yield ascending places, the nearest to `to` first. Of two as near, the higher comes first."""
    above = bisect.bisect_left(places, to)
    below = above - 1
    while below >= 0 or above < len(places):
        if below < 0 or (above < len(places) and places[above] - to <= to - places[below]):
            yield places[above]
            above += 1
        else:
            yield places[below]
            below -= 1
