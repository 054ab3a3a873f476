"""A look at both sides of a key: two histories, and which copy is of which version. Pure.

A history is oldest first. An *edge* says whether a copy is of a source version. `UNASKED` edges are
those that a listing leaves open and nobody has compared.

EDGE, by listings alone; the first line that fits:

| of the two                                                                | edge    |
|---------------------------------------------------------------------------|---------|
| one is a delete marker, or the sizes differ                               | NO      |
| equal ETags that are MD5s and proofs here; the source has this ETag once; |         |
| the copy is not older (of a null version: is younger)                     | SAME    |
| other equal ETags (metadata may differ, or it is no MD5)                  | UNASKED |
| the copy is older than the source by more than the skew                   | NO      |
| otherwise                                                                 | UNASKED |

A comparison replaces that.

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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from functools import cached_property
from itertools import islice
from operator import attrgetter
from typing import NamedTuple

from msgspec import Struct

from jobs.core.evidence import Verdict, is_md5
from jobs.core.model import ObjectInfo, ObjectVersion, is_exact
from jobs.core.outcome import Outcome, Status
from jobs.core.reasons import Reason

_place = attrgetter("place")


class End(NamedTuple):
    """How a version ended, or why it cannot be copied. `detail`: the one fact of the reason."""

    status: Status
    reason: Reason | None = None
    detail: str = ""


class Edge(IntEnum):
    """Whether a copy is of a source version. UNASKED: nobody has compared the two yet."""

    NO = 0
    UNASKED = 1
    UNKNOWN = 2
    SAME = 3


_COMPARED = {False: Edge.NO, None: Edge.UNKNOWN, True: Edge.SAME}


class Version(Struct, eq=False):
    """One version or delete marker of one side. All looks of a call show it as this one object.

    `at`: S3's date, epoch seconds. `place`: in its history. `info`, `tags`: as S3 said them.
    Of a source version: `compared`: copy → what a comparison showed. `blocked`: why it cannot be copied
    now. `is_doubted`: see `rivals`. `copied`: the outcome of this call's copy of it. `refusal`: why a
    comparison failed.
    Of a copy: `blocked`: why it cannot be read. `owner`: the version that this call made it of, `NOBODY` if
    that is none.
    """

    version_id: str | None
    is_marker: bool
    size_bytes: int | None
    etag: str | None
    at: float
    storage_class: str | None = None
    place: int = -1
    info: ObjectInfo | None = None
    tags: Mapping[str, str] | None = None
    compared: dict[Version, Verdict] = {}
    blocked: End | None = None
    is_doubted: bool = False
    copied: Outcome | None = None
    refusal: End | None = None
    owner: Version | None = None


NOBODY = Version(None, False, None, None, 0.0)
"""The source version of a copy that this call made, and that is no version's copy."""


_OF_SIZE, _NO_GROUP = "all of the size", "none"


class Look:
    """Both histories, oldest first, as far as they were read. The edges are found when they are asked for.

    `meant`: the version of each row. `is_listed`: False if two HEADs showed what is current, and no
    more. `bet`: the row that is copied before anything was looked at. `agreed_etags`: a copy of one of
    these may be replaced although it is newer, so its ETag proves nothing. Nor does any ETag unless
    `trusts_etags`, since a listing shows no metadata.
    """

    def __init__(
        self,
        source: Sequence[Version],
        copies: Sequence[Version],
        meant: Sequence[Version | None] = (),
        *,
        skew_seconds: float = 0.0,
        agreed_etags: Collection[str] = frozenset(),
        trusts_etags: bool = True,
        is_listed: bool = True,
        bet: ObjectVersion | None = None,
    ):
        self.source, self.copies, self.meant = source, list[Version](), meant
        self.named = {version for version in meant if version is not None}
        self.skew_seconds, self.agreed_etags, self.trusts_etags = skew_seconds, agreed_etags, trusts_etags
        self.is_listed, self.bet = is_listed, bet
        self._own: list[Version] = []
        self._groups: defaultdict[tuple[int | None, str | None], list[Version]] = defaultdict(list)
        self._latest: list[float] = []
        """The latest date up to each copy: it rises even where the dates do not."""
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
        self._latest.append(max([copy.at, *self._latest[-1:]]))
        if copy.owner is not None:
            self._own.append(copy)
        if not copy.is_marker:
            for group in (copy.etag, _OF_SIZE):
                self._groups[copy.size_bytes, group].append(copy)

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
        edge = self._listed_edge(version, copy) if compared is None else _COMPARED[compared.same]
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
            is_proven = self.trusts_etags and is_once and is_md5(copy.etag) and copy.etag not in self.agreed_etags
            is_later = copy.at >= version.at if is_exact(version.version_id) else int(copy.at) > int(version.at)
            return Edge.SAME if is_proven and is_later else Edge.UNASKED
        return Edge.NO if copy.at < version.at - self.skew_seconds else Edge.UNASKED

    def is_firm(self, version: Version, copy: Version) -> bool:
        """Return True for SAME, and for equal ETags that nobody has compared."""
        edge = self.edge(version, copy)
        return edge is Edge.SAME or (edge is Edge.UNASKED and is_likely(version, copy))

    def known(self, version: Version) -> list[Version]:
        """Return the copies that were compared with a version or made of it, oldest first."""
        compared = {copy for copy in version.compared if self.copies[copy.place : copy.place + 1] == [copy]}
        return sorted(compared.union(copy for copy in self._own if copy.owner is version), key=_place)

    def by_etag(self, version: Version) -> Sequence[Version]:
        """Return the copies of a source version's size and ETag."""
        return self._groups.get((version.size_bytes, version.etag or _NO_GROUP), ())

    def by_size(self, version: Version) -> tuple[Sequence[Version], int]:
        """Return the copies that a source version may have by its size, and the first place that its date allows."""
        copies = self._groups.get((version.size_bytes, _NO_GROUP if version.is_marker else _OF_SIZE), ())
        since = version.at - self.skew_seconds
        return copies, bisect_left(copies, since, key=lambda copy: self._latest[copy.place])

    def near(self, version: Version) -> Iterator[Version]:
        """Yield the copies that a source version has an edge to, those of equal ETags first."""
        known = dict.fromkeys([*self.by_etag(version), *self.known(version)])
        yield from (copy for copy in known if self.edge(version, copy))
        copies, start = self.by_size(version)
        yield from (copy for copy in islice(copies, start, None) if copy not in known and self.edge(version, copy))


def is_likely(version: Version, copy: Version) -> bool:
    """Return True for equal ETags of one size: they differ in metadata at most, as a rule."""
    return version.etag is not None and (version.size_bytes, version.etag) == (copy.size_bytes, copy.etag)


def align(look: Look) -> dict[Version, Version]:
    """Return source version → its copy. Each copy is of one version only."""
    found, taken, passed = dict[Version, Version](), set[Version](), Counter[int]()

    def free(copies: Sequence[Version], start: int = 0) -> Iterator[Version]:
        """The copies of a group from a place on that are not taken. A beginning that is taken is passed once."""
        first = max(start, passed[id(copies)])
        while first < len(copies) and copies[first] in taken:
            first += 1
        if start <= passed[id(copies)]:
            passed[id(copies)] = first
        return (copy for copy in islice(copies, first, None) if copy not in taken)

    def take(candidates: Callable[[Version], Iterable[Version]], holds: Callable[[Version, Version], object]) -> None:
        for version in look.source:
            if version.is_marker or version in found:
                continue
            for copy in heapq.merge(look.known(version), candidates(version), key=_place):
                if copy not in taken and holds(version, copy):
                    found[version] = copy
                    taken.add(copy)
                    break

    take(lambda version: free(look.by_etag(version)), look.is_firm)
    take(lambda version: free(*look.by_size(version)), look.edge)
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
