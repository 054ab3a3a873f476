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

A comparison replaces that. A copy that this call wrote is SAME as its version, and of no other one
that only UNKNOWN or UNASKED connects to it, but for equal ETags.

ALIGN   SAME edges and UNASKED ones of equal ETags first, then other UNKNOWN and UNASKED ones. Each
        source version, oldest first, takes the oldest free copy.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from enum import IntEnum
from operator import attrgetter
from types import MappingProxyType
from typing import NamedTuple

from msgspec import Struct

from jobs.core.evidence import Verdict, is_md5
from jobs.core.model import ObjectInfo, is_exact
from jobs.core.outcome import Outcome, Status
from jobs.core.reasons import Why

_place = attrgetter("place")


class End(NamedTuple):
    """How a version ended, or why it cannot be copied. `detail`: the one fact of the reason."""

    status: Status
    reason: Why = ""
    detail: str = ""


class Edge(IntEnum):
    """Whether a copy is of a source version. UNASKED: nobody has compared the two yet."""

    NO = 0
    UNASKED = 1
    UNKNOWN = 2
    SAME = 3


_COMPARED = {False: Edge.NO, None: Edge.UNKNOWN, True: Edge.SAME}


class Version(Struct, eq=False, gc=False):
    """One version or delete marker of one side. All looks of a call show it as this one object.

    `at`: S3's date, epoch seconds. `place`: in its history. `info`, `tags`: as S3 said them.
    Of a source version: `compared`: copy → what a comparison showed. `blocked`: why it cannot be copied
    now. `copied`: the outcome of this call's copy of it. `refusal`: why a comparison failed.
    Of a copy that this call made: `owner`: the version that it was made of, `NOBODY` if this is not known.
    Garbage collection need not go through a long history: versions hardly ever refer to one another in a circle.
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
    compared: Mapping[Version, Verdict] = MappingProxyType({})
    blocked: End | None = None
    copied: Outcome | None = None
    refusal: End | None = None
    owner: Version | None = None


NOBODY = Version(None, False, None, None, 0.0)
"""The source version of a copy that this call made, and that is no version's copy."""


class Look(Struct, dict=True, eq=False):
    """Both histories, oldest first, as far as they were read. The edges are found when they are asked for.

    `meant`: the version of each row. `is_listed`: False if two HEADs showed what is current, and no
    more. `agreed_etags`: a copy of one of these may be replaced although it is newer, so its ETag
    proves nothing. Nor does any ETag unless `trusts_etags`, since a listing shows no metadata.
    """

    source: Sequence[Version]
    copies: list[Version]
    meant: Sequence[Version | None] = ()
    skew_seconds: float = 0.0
    agreed_etags: Collection[str] = frozenset()
    trusts_etags: bool = True
    is_listed: bool = True

    def __post_init__(self) -> None:
        self.named = {version for version in self.meant if version is not None}
        self._groups: defaultdict[str | tuple[int | None] | None, list[Version]] = defaultdict(list)
        self._times = Counter(version.etag for version in self.source if not version.is_marker)
        self._latest: list[float] = []
        """The latest date up to each copy: it rises even where the dates do not."""
        for place, version in enumerate(self.source):
            version.place = place
        copies, self.copies = self.copies, []
        for copy in copies:
            self.add_copy(copy)

    def add_copy(self, copy: Version) -> None:
        """Add a copy on top, e.g. one that was just written."""
        copy.place = len(self.copies)
        self.copies.append(copy)
        self._latest.append(max([copy.at, *self._latest[-1:]]))
        if not copy.is_marker:
            for group in {copy.etag, (copy.owner or copy).etag, (copy.size_bytes,)}:
                self._groups[group].append(copy)

    @property
    def on_top(self) -> Version | None:
        """The object on top of the copies. None: nothing is there, or a delete marker is on top."""
        return self.copies[-1] if self.copies and not self.copies[-1].is_marker else None

    def newest(self, *, follows_markers: bool) -> Version | None:
        """The source's newest object. None: it has none, or a marker hides it that counts."""
        newest = next((item for item in reversed(self.source) if follows_markers or not item.is_marker), None)
        return None if newest is None or newest.is_marker else newest

    def edge(self, version: Version, copy: Version) -> Edge:
        """Return the edge, with what this call knows of its own writes."""
        compared = Verdict(True) if copy.owner is version else version.compared.get(copy)
        edge = self._listed_edge(version, copy) if compared is None else _COMPARED[compared.same]
        return edge if copy.owner is None or _is_firm(edge, version, copy) else Edge.NO

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
        return _is_firm(self.edge(version, copy), version, copy)

    def known(self, version: Version) -> list[Version]:
        """Return the copies that were compared with a version, oldest first."""
        return sorted(
            (copy for copy in version.compared if self.copies[copy.place : copy.place + 1] == [copy]), key=_place
        )

    def by_etag(self, version: Version) -> tuple[Sequence[Version], int]:
        """Return the copies of a source version's ETag, and those made of it, from the first one on."""
        return self._groups.get(version.etag, ()), 0

    def by_size(self, version: Version) -> tuple[Sequence[Version], int]:
        """Return the copies that a source version may have by its size, and the first place that its date allows."""
        copies = () if version.is_marker else self._groups.get((version.size_bytes,), ())
        since = version.at - self.skew_seconds
        return copies, bisect_left(copies, since, key=lambda copy: self._latest[copy.place])

    def near(self, version: Version, held: Collection[Version] = frozenset()) -> Iterator[Version]:
        """Yield the copies that a source version has an edge to, those of equal ETags first. None of `held`."""
        known = dict.fromkeys(copy for copy in (*self.by_etag(version)[0], *self.known(version)) if copy not in held)
        yield from (copy for copy in known if self.edge(version, copy))
        copies, start = self.by_size(version)
        others = map(copies.__getitem__, range(start, len(copies)))
        yield from (copy for copy in others if copy not in held and copy not in known and self.edge(version, copy))


def is_likely(version: Version, copy: Version) -> bool:
    """Return True for equal ETags of one size: they differ in metadata at most, as a rule."""
    return version.etag is not None and (version.size_bytes, version.etag) == (copy.size_bytes, copy.etag)


def _is_firm(edge: Edge, version: Version, copy: Version) -> bool:
    return edge is Edge.SAME or (edge is Edge.UNASKED and is_likely(version, copy))


def align(look: Look) -> dict[Version, Version]:
    """Return source version → its copy. Each copy is of one version only."""
    found, taken, passed = dict[Version, Version](), set[Version](), Counter[int]()
    for candidates, holds in ((look.by_etag, look.is_firm), (look.by_size, look.edge)):
        for version in look.source:
            if version.is_marker or version in found:
                continue
            copies, start = candidates(version)
            first = max(start, passed[id(copies)])
            while first < len(copies) and copies[first] in taken:
                first += 1
            if start <= passed[id(copies)]:
                passed[id(copies)] = first  # a beginning that is taken is passed once
            rest = map(copies.__getitem__, range(first, len(copies)))  # islice walks through what it leaves out
            nearest = heapq.merge(look.known(version), rest, key=_place)
            copy = next((copy for copy in nearest if copy not in taken and holds(version, copy)), None)
            if copy is not None:
                found[version] = copy
                taken.add(copy)
    return found
