"""A look at both sides of a key: two histories, and which copy is of which version. Pure.

A history is oldest first. An *edge* says whether a copy is of a source version. `UNASKED` edges are
those that a listing leaves open and nobody has compared.

EDGE, by listings alone; the first line that fits:

| of the two                                                                | edge    |
|---------------------------------------------------------------------------|---------|
| one is a delete marker, or the sizes differ                               | NO      |
| equal ETags that are MD5s, not agreed to be replaced; the source has this |         |
| ETag once; the copy is not older (of a null version: is younger)          | SAME    |
| other equal ETags (metadata may differ, or it is no MD5)                  | UNASKED |
| the copy is older than the source by more than the skew                   | NO      |
| otherwise                                                                 | UNASKED |

A comparison replaces that. Where an event has none left for two versions, the answer is NO, and the
version is open: it waits for a run. But the top counts as an older version's copy, where no row names
that and versions are kept: the newest once more above it is a small price.

A copy that this call wrote is the copy of its version; it is of no other
one that only UNKNOWN or UNASKED connects to it, but for equal ETags.

ALIGN   SAME edges and UNASKED ones of equal ETags first, then other UNKNOWN and UNASKED ones. Each
        source version, oldest first, takes the oldest free copy. Matches of doubted versions that are
        not SAME go.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from operator import attrgetter
from typing import Final

from jobs.core.evidence import is_md5
from jobs.core.model import is_exact
from jobs.sync.versions import Compared, Edge, Version

_place = attrgetter("place")


class _Places:
    """Copies, oldest first, and the first one that a date allows."""

    def __init__(self) -> None:
        self.copies: list[Version] = []
        self.latest: list[float] = []  # the latest date up to each place: rises even where the dates do not

    def add(self, copy: Version) -> None:
        self.copies.append(copy)
        self.latest.append(max(copy.at, self.latest[-1]) if self.latest else copy.at)


_NOTHING: Final = _Places()
_OF_SIZE, _NO_GROUP = "all of the size", "none"


class Look:
    """Both histories, oldest first, as far as they were read. The edges are found when they are asked for.

    `meant`: the version of each row. `is_listed`: False if two HEADs showed what is current, and no
    more. `agreed_etags`: a copy of one of these may be replaced although it is newer, so its ETag proves
    nothing.
    """

    def __init__(
        self,
        source: Sequence[Version],
        copies: Sequence[Version],
        meant: Sequence[Version | None] = (),
        *,
        skew_seconds: float = 0.0,
        agreed_etags: Collection[str] = frozenset(),
        is_listed: bool = True,
    ):
        self.source, self.copies, self.meant = source, list[Version](), meant
        self.named = {version for version in meant if version is not None}
        self.skew_seconds, self.agreed_etags, self.is_listed = skew_seconds, agreed_etags, is_listed
        self._own: list[Version] = []
        self._groups: defaultdict[tuple[int | None, str | None], _Places] = defaultdict(_Places)
        for place, version in enumerate(source):
            version.place = place
        for copy in copies:
            self.add_copy(copy)

    @cached_property
    def _times(self) -> Counter[str | None]:
        return Counter(version.etag for version in self.source if not version.is_marker)

    def add_copy(self, copy: Version) -> None:
        """Add a copy on top, e.g. one that was just written."""
        copy.place = len(self.copies)
        self.copies.append(copy)
        if copy.owner is not None:
            self._own.append(copy)
        if not copy.is_marker:
            for group in (copy.etag, _OF_SIZE):
                self._groups[copy.size_bytes, group].add(copy)

    @property
    def on_top(self) -> Version | None:
        """The object on top of the copies. None: nothing is there, or a delete marker is on top."""
        return self.copies[-1] if self.copies and not self.copies[-1].is_marker else None

    def newest(self, *, follows_markers: bool) -> Version | None:
        """The source's newest object. None: it has none, or a marker hides it that counts."""
        for version in reversed(self.source):
            if not version.is_marker:
                return version
            if follows_markers:
                return None
        return None

    def edge(self, version: Version, copy: Version) -> Edge:
        """Return the edge, with what this call knows of its own writes."""
        compared = version.compared.get(copy)
        edge = self._listed_edge(version, copy) if compared is None else compared.edge
        if copy.owner is None or edge is Edge.SAME:
            return edge
        if copy.owner is version:
            return Edge.SAME if edge or compared is None else Edge.NO
        return edge if edge is Edge.UNASKED and is_likely(version, copy) else Edge.NO

    def _listed_edge(self, version: Version, copy: Version) -> Edge:
        if version.is_marker or copy.is_marker or version.size_bytes != copy.size_bytes:
            return Edge.NO
        if version.etag == copy.etag and version.etag is not None:
            is_once = self._times[version.etag] == 1
            is_proven = is_once and is_md5(copy.etag) and copy.etag not in self.agreed_etags
            is_later = copy.at >= version.at if is_exact(version.version_id) else int(copy.at) > int(version.at)
            return Edge.SAME if is_proven and is_later else Edge.UNASKED
        return Edge.NO if copy.at < version.at - self.skew_seconds else Edge.UNASKED

    def leave_open(self, version: Version, copy: Version, *, is_deep: bool) -> None:
        """Note that this call does not compare the two."""
        is_old = version is not self.newest(follows_markers=False) and version not in self.named
        is_same = is_old and is_deep and copy is self.copies[-1]
        version.compared[copy], version.is_open = Compared(Edge.SAME if is_same else Edge.NO), True

    def is_firm(self, version: Version, copy: Version) -> bool:
        """Return True for SAME, and for equal ETags that nobody has compared."""
        edge = self.edge(version, copy)
        return edge is Edge.SAME or (edge is Edge.UNASKED and is_likely(version, copy))

    def known(self, version: Version) -> list[Version]:
        """Return the copies that were compared with a version or made of it, oldest first."""
        compared = {copy for copy in version.compared if self.copies[copy.place : copy.place + 1] == [copy]}
        return sorted(compared.union(copy for copy in self._own if copy.owner is version), key=_place)

    def by_etag(self, version: Version) -> _Places:
        """Return the copies of a source version's size and ETag."""
        return self._groups.get((version.size_bytes, version.etag or _NO_GROUP), _NOTHING)

    def by_size(self, version: Version) -> tuple[_Places, int]:
        """Return the copies that a source version may have by its size, and the first place that its date allows."""
        places = self._groups.get((version.size_bytes, _NO_GROUP if version.is_marker else _OF_SIZE), _NOTHING)
        return places, bisect_left(places.latest, version.at - self.skew_seconds)

    def near(self, version: Version) -> Iterator[Version]:
        """Yield the copies that a source version has an edge to, those of equal ETags first."""
        known = dict.fromkeys([*self.by_etag(version).copies, *self.known(version)])
        yield from (copy for copy in known if self.edge(version, copy))
        places, start = self.by_size(version)
        yield from (
            copy for copy in islice(places.copies, start, None) if copy not in known and self.edge(version, copy)
        )


def is_likely(version: Version, copy: Version) -> bool:
    """Return True for equal ETags of one size: they differ in metadata at most, as a rule."""
    return version.etag is not None and (version.size_bytes, version.etag) == (copy.size_bytes, copy.etag)


class _Free:
    """Which copies are not taken. Finds the next one of a group by skipping runs of taken ones."""

    def __init__(self) -> None:
        self.taken: set[Version] = set()
        self._next: dict[tuple[int, int], int] = {}

    def of(self, places: _Places, start: int = 0) -> Iterator[Version]:
        place, passed, group = start, list[int](), id(places)
        while place < len(places.copies):
            if places.copies[place] in self.taken:
                passed.append(place)
                place = self._next.get((group, place), place + 1)
            else:
                self._next.update(((group, each), place) for each in passed)
                passed.clear()
                yield places.copies[place]
                place += 1
        self._next.update(((group, each), place) for each in passed)


def align(look: Look) -> dict[Version, Version]:
    """Return source version → its copy. Each copy is of one version only."""
    found, free = dict[Version, Version](), _Free()
    objects = [version for version in look.source if not version.is_marker]

    def take(version: Version, candidates: Iterable[Version], *, is_firm: bool) -> None:
        for copy in heapq.merge(look.known(version), candidates, key=_place):
            if copy not in free.taken and (look.is_firm(version, copy) if is_firm else look.edge(version, copy)):
                found[version] = copy
                free.taken.add(copy)
                return

    for version in objects:
        take(version, free.of(look.by_etag(version)), is_firm=True)
    for version in objects:
        if version not in found:
            take(version, free.of(*look.by_size(version)), is_firm=False)
    return {
        version: copy
        for version, copy in found.items()
        if not version.is_doubted or look.edge(version, copy) is Edge.SAME
    }


def rivals(look: Look, version: Version) -> set[Version]:
    """Return the versions whose UNKNOWN copy might be the copy of this one.

    After it was appended, they are doubted and appended, too. Ask before the append.
    """
    shared = {copy for copy in look.near(version) if look.edge(version, copy) is Edge.UNKNOWN}
    found = align(look) if shared else {}
    if version in found:
        return set()
    return {other for other, copy in found.items() if copy in shared and look.edge(other, copy) is Edge.UNKNOWN}
