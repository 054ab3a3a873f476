"""The next step for one key, from what a look saw of both sides. Pure: no requests, no clock.

A history is oldest first. An *edge* says whether a copy is of a source version. `UNASKED` edges are
those that a listing leaves open and nobody has compared. The table decides as if they were
`UNKNOWN`. Where a decision used one, the step is `ASK` with these edges instead. So only what
decides is compared.

EDGE, by listings alone; the first line that fits:

| of the two                                                                | edge    |
|---------------------------------------------------------------------------|---------|
| one is a delete marker, or the sizes differ                               | NO      |
| equal ETags that are MD5s, not agreed to be replaced; the source has this |         |
| ETag once; the copy is not older (of a null version: is younger)          | SAME    |
| other equal ETags (metadata may differ, or it is no MD5)                  | UNASKED |
| the copy is older than the source by more than the skew                   | NO      |
| otherwise                                                                 | UNASKED |

A comparison (`learn`) replaces that. A copy that this call wrote is the copy of its version; it is of
no other one that only UNKNOWN or UNASKED connects to it, but for equal ETags.

ALIGN   SAME edges and UNASKED ones of equal ETags first, then other UNKNOWN and UNASKED ones. Each
        source version, oldest first, takes the oldest free copy. Matches of doubted versions that are
        not SAME go.
T       Newest source item; skips markers that are not followed, and blocked versions that have neither
        a match nor a SAME copy. A marker that is followed, or an empty history if deletes are mirrored:
        DELETED. Followed: deletes are mirrored, or it is a replay of all versions. Such a replay also
        skips what is neither named nor at the destination.
FLOOR   The oldest version with a SAME, UNKNOWN or equal-ETag edge. Without one, above all.
WANTED  Current only, or no versions kept: T. Else named and doubted versions, and of the others those
        from the floor upwards that have no UNASKED edge: an open edge of an unnamed version counts as
        a copy. A replay wants no others.
STEP    First line that fits.

|    | versions are kept                                                   | step                     |
|----|---------------------------------------------------------------------|--------------------------|
|  1 | wanted object below T, unmatched, not blocked                       | append it, oldest first  |
|    | but T is blocked and no SAME copy of it is readable                 | it waits: blocked        |
|    | but `never`, and an unknown object is on top                        | it waits: changed        |
|  2 | marker below T, followed, all versions: an older version's copy is  |                          |
|    | on top, no newer object is matched, and one that is not blocked     |                          |
|    | follows                                                             | delete marker            |
|  3 | T is DELETED, an object is on top                                   | delete marker            |
|    | but it is unknown: `never`; in a replay by `older`, newer than that | done: changed            |
|  4 | T is DELETED otherwise; no T                                        | done                     |
|  5 | T unmatched, all versions; not `never`, or no unknown object is on  |                          |
|    | top                                                                 | append T                 |
|  6 | top SAME as T                                                       | done: same               |
|  7 | top UNKNOWN to T, matched to no other (all versions)                | done: unknown            |
|  8 | top is a marker, the last two runs of markers each hide a copy of T;|                          |
|    | deletes are not mirrored, not `always`                              | done: changed            |
|  9 | nothing or a marker on top, an older version's copy, this call's,   |                          |
|    | or UNKNOWN and another's                                            | append T                 |
|    | but `never`, current only, and the object is not this call's        | done: changed            |
| 10 | top is unknown: agreed; `always`; `older` and (mirrored or not      |                          |
|    | newer than T, to the second)                                        | append T                 |
| 11 | top is unknown otherwise, T has a SAME copy, deletes are retained   | done: left (retained)    |
|    | otherwise                                                           | done: changed            |
|    | **no versions are kept**                                            |                          |
| 12 | T is DELETED, an object is on top                                   | done: changed            |
|    | T is DELETED otherwise; no T                                        | done                     |
| 13 | top SAME / UNKNOWN to T                                             | done: same / unknown     |
| 14 | no object on top                                                    | append T                 |
| 15 | agreed; `always`; `older` and (older than T by more than the skew,  |                          |
|    | SAME as an older version, this call's)                              | append T                 |
|    | but what is replaced has to be kept                                 | done: blocked            |
| 16 | otherwise, ties included                                            | done: changed            |

"Older" in 10 and 15 counts whole seconds, since HEAD knows no others. "Unknown" on top: an object
that is neither T's nor an older version's copy. "Append T" of a blocked T is `AGAIN`: a readable SAME
copy moves on top, where versions are kept; without one it is done as it is blocked. An UNKNOWN copy
never moves, nor one that was listed and not compared. Nor does 15 replace such a one as an older
version's. `rivals` says who is doubted after an append. A
damaged version ends as damaged, also where it has a copy.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from enum import IntEnum, StrEnum
from typing import Final, NamedTuple

from jobs.core.evidence import is_md5, is_multipart
from jobs.core.model import Listed, is_exact
from jobs.core.outcome import Status
from jobs.core.reasons import Reason

ASKED_AT_ONCE = 8
"""How many comparisons one decision asks for where any of several may decide it."""


class Overwrite(StrEnum):
    """When an existing destination object that differs may be replaced."""

    OLDER = "older"
    ALWAYS = "always"
    NEVER = "never"


class Item(NamedTuple):
    """One version or delete marker of one side. `at`: S3's date, epoch seconds.

    `in_parts`: S3 dates it by the beginning of its upload.
    """

    version_id: str | None
    is_marker: bool
    size_bytes: int | None
    etag: str | None
    at: float
    in_parts: bool = False

    @classmethod
    def of(cls, each: Listed) -> Item:
        """From a listing."""
        in_parts = is_multipart(each.etag)
        return cls(each.version_id, each.is_delete_marker, each.size_bytes, each.etag, each.last_modified, in_parts)


class Edge(IntEnum):
    """Whether a copy is of a source version. UNASKED: nobody has compared the two yet."""

    NO = 0
    UNASKED = 1
    UNKNOWN = 2
    SAME = 3


class _Places:
    """Indexes of copies, oldest first, and the first free one at or after a place in near constant time."""

    def __init__(self) -> None:
        self.copies: list[int] = []
        self.latest: list[float] = []  # the latest date up to each place: rises even where the dates do not

    def add(self, copy: int, at: float) -> None:
        self.copies.append(copy)
        self.latest.append(max(at, self.latest[-1]) if self.latest else at)

    def since(self, at: float) -> int:
        return bisect_left(self.latest, at)


class Edges:
    """The edges between two histories, found when they are asked for.

    `source` and `copies` are oldest first. `agreed_etags`: a copy of one of these may be replaced
    although it is newer, so its ETag proves nothing.
    """

    def __init__(
        self,
        source: Sequence[Item],
        copies: Sequence[Item],
        *,
        skew_seconds: float = 0.0,
        agreed_etags: Collection[str] = frozenset(),
    ):
        self.source, self.copies = source, list[Item]()
        self.skew_seconds, self.agreed_etags = skew_seconds, agreed_etags
        self._learned: dict[int, dict[int, Edge]] = {}
        self._times = Counter(item.etag for item in source if not item.is_marker)
        self._groups: defaultdict[tuple[int | None, str | None], _Places] = defaultdict(_Places)
        for copy in copies:
            self.add_copy(copy)

    def add_copy(self, copy: Item) -> int:
        """Add a copy on top, e.g. one that was just written. Returns its index."""
        index = len(self.copies)
        self.copies.append(copy)
        if not copy.is_marker:
            for group in (copy.etag, _OF_SIZE):
                self._groups[copy.size_bytes, group].add(index, copy.at)
        return index

    def learn(self, source: int, copy: int, edge: Edge) -> None:
        """Keep what a comparison showed."""
        self._learned.setdefault(source, {})[copy] = edge

    def learned(self, source: int) -> Mapping[int, Edge]:
        """Return copy index → what comparisons showed for a source version."""
        return self._learned.get(source, {})

    def __getitem__(self, pair: tuple[int, int]) -> Edge:
        """Return the edge of (source index, copy index)."""
        known = self._learned.get(pair[0], {}).get(pair[1])
        if known is not None:
            return known
        source, copy = self.source[pair[0]], self.copies[pair[1]]
        if source.is_marker or copy.is_marker or source.size_bytes != copy.size_bytes:
            return Edge.NO
        if source.etag == copy.etag and source.etag is not None:
            is_proven = is_md5(copy.etag) and copy.etag not in self.agreed_etags and self.is_once(pair[0])
            is_later = copy.at >= source.at if is_exact(source.version_id) else int(copy.at) > int(source.at)
            return Edge.SAME if is_proven and is_later else Edge.UNASKED
        return Edge.NO if copy.at < source.at - self.skew_seconds else Edge.UNASKED

    def is_once(self, source: int) -> bool:
        """Return True if no other source version has the ETag."""
        return self._times[self.source[source].etag] == 1

    def is_likely(self, source: int, copy: int) -> bool:
        """Return True for equal ETags of one size: they differ in metadata at most, as a rule."""
        ours, theirs = self.source[source], self.copies[copy]
        return ours.etag is not None and (ours.size_bytes, ours.etag) == (theirs.size_bytes, theirs.etag)

    def by_etag(self, source: int) -> _Places:
        """Return the copies of a source version's size and ETag."""
        item = self.source[source]
        return self._groups.get((item.size_bytes, item.etag or _NO_GROUP), _NOTHING)

    def by_size(self, source: int) -> tuple[_Places, int]:
        """Return the copies that a source version may have by its size, and the first place that its date allows."""
        item = self.source[source]
        group = _NO_GROUP if item.is_marker else _OF_SIZE
        places = self._groups.get((item.size_bytes, group), _NOTHING)
        return places, places.since(item.at - self.skew_seconds)


_NOTHING: Final = _Places()
_OF_SIZE, _NO_GROUP = "all of the size", "none"


class View(NamedTuple):
    """What one look saw, with what is known since. Indexes are those of `edges.source` and `.copies`.

    `blocked`: source index → why it cannot be copied now. `named`: source indexes that rows or events
    name. `own`: copy index → source index, of this call's writes. `doubted`: source indexes that
    `rivals` said.
    """

    edges: Edges
    named: Collection[int] = frozenset()
    blocked: Mapping[int, Reason] = {}
    unreadable_copies: Collection[int] = frozenset()
    own: Mapping[int, int] = {}
    doubted: Collection[int] = frozenset()

    def edge(self, source: int, copy: int) -> Edge:
        """Return the edge, with what this call knows of its own writes."""
        edge, owner = self.edges[source, copy], self.own.get(copy)
        if owner is None or edge is Edge.SAME:
            return edge
        if owner == source:
            return Edge.SAME if edge or copy not in self.edges.learned(source) else Edge.NO
        return edge if edge is Edge.UNASKED and self.edges.is_likely(source, copy) else Edge.NO

    def is_firm(self, source: int, copy: int) -> bool:
        """Return True for SAME, and for equal ETags that nobody has compared."""
        edge = self.edge(source, copy)
        return edge is Edge.SAME or (edge is Edge.UNASKED and self.edges.is_likely(source, copy))

    def near(self, source: int) -> Iterator[int]:
        """Yield the copies that a source version has an edge to, those of equal ETags first."""
        places, start = self.edges.by_size(source)
        own = (copy for copy, owner in self.own.items() if owner == source)
        known = dict.fromkeys([*self.edges.by_etag(source).copies, *self.edges.learned(source), *own])
        yield from (copy for copy in known if self.edge(source, copy))
        for place in range(start, len(places.copies)):
            copy = places.copies[place]
            if copy not in known and self.edge(source, copy):
                yield copy


class Rules(NamedTuple):
    """What is wanted. `keeps_versions`: of the destination.

    `agreed_etags`: these objects may be replaced although they are newer. `keeps_replaced`: an object that
    is replaced has to stay, as a version. `is_replay`: no policy says what a delete means. With all
    versions delete markers are made as well. What it does not name is not copied, and what the source
    has not is left on top, as `changed`.
    """

    all_versions: bool = False
    mirrors_deletes: bool = False
    overwrite: Overwrite = Overwrite.OLDER
    keeps_versions: bool = True
    skew_seconds: float = 0.0
    agreed_etags: Collection[str] = frozenset()
    keeps_replaced: bool = False
    is_replay: bool = False

    @property
    def follows_markers(self) -> bool:
        """Return True if a delete marker of the source is made at the destination."""
        return self.mirrors_deletes or (self.is_replay and self.all_versions)


class Act(StrEnum):
    """APPEND: copy a source version on top. AGAIN: copy a destination version on top.

    MARK: put a delete marker on top. ASK: compare, then look at the table again.
    """

    APPEND = "append"
    AGAIN = "again"
    MARK = "mark"
    ASK = "ask"
    DONE = "done"


class End(NamedTuple):
    """How a version ended. The driver says `done` of what it wrote."""

    status: Status
    reason: Reason | None = None


class Step(NamedTuple):
    """What to do next.

    APPEND: `place` is the index of the source version; `then` are versions to append after it without
    another step, as long as nothing fails. AGAIN: `place` is the index of the copy. MARK: of the
    source's marker, -1 for the newest one. ASK: `ask` has (source index, copy index), most important
    first. DONE: `target` is T, `top` how it ended, `ends` how each named version did. `match`: the
    alignment, but for ASK.
    """

    act: Act
    place: int = -1
    top: End | None = None
    ends: Mapping[int, End] = {}
    ask: Sequence[tuple[int, int]] = ()
    then: Sequence[int] = ()
    target: int | None = None
    match: Mapping[int, int] = {}


class _Free:
    """Which copies are not taken. Finds the next one of a group by skipping runs of taken ones."""

    def __init__(self) -> None:
        self.taken: set[int] = set()
        self._next: dict[tuple[int, int], int] = {}

    def of(self, places: _Places, start: int = 0) -> Iterator[int]:
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


def align(view: View) -> dict[int, int]:
    """Return source index → index of its copy. Each copy is of one version only."""
    edges, found, free = view.edges, dict[int, int](), _Free()
    objects = [index for index, item in enumerate(edges.source) if not item.is_marker]
    own = {owner: copy for copy, owner in reversed([*view.own.items()])}

    def take(index: int, candidates: Iterable[int], *, is_firm: bool) -> None:
        for copy in candidates:
            if copy not in free.taken and (view.is_firm(index, copy) if is_firm else view.edge(index, copy)):
                found[index] = copy
                free.taken.add(copy)
                return

    for index in objects:
        known = {*edges.learned(index), *([own[index]] if index in own else [])}
        take(index, heapq.merge(sorted(known), free.of(edges.by_etag(index))), is_firm=True)
    for index in objects:
        if index not in found:
            take(index, heapq.merge(sorted(edges.learned(index)), free.of(*edges.by_size(index))), is_firm=False)
    for index in view.doubted:
        if index in found and view.edge(index, found[index]) is not Edge.SAME:
            del found[index]
    return found


def rivals(view: View, index: int) -> set[int]:
    """Return the versions whose UNKNOWN copy might be the copy of the version at `index`.

    After that one was appended, they are doubted and appended, too. Ask before the append.
    """
    shared = {copy for copy in view.near(index) if view.edge(index, copy) is Edge.UNKNOWN}
    found = align(view) if shared else {}
    if index in found:
        return set()
    return {other for other, copy in found.items() if copy in shared and view.edge(other, copy) is Edge.UNKNOWN}


def next_step(view: View, rules: Rules) -> Step:
    """Return what comes next for the key, by the table above."""
    decision = _Decision(view, rules)
    step = decision.step()
    return Step(Act.ASK, ask=tuple(decision.asks)) if decision.asks else step._replace(match=decision.match)


class _Decision:
    """One pass through the table. `asks` gets the UNASKED edges that it used."""

    def __init__(self, view: View, rules: Rules):
        self.view, self.rules = view, rules
        self.source, self.copies = view.edges.source, view.edges.copies
        self.asks: dict[tuple[int, int], None] = {}
        self.waits: dict[int, End] = {}
        self.match = align(view)
        self.version_of = {copy: index for index, copy in self.match.items()}
        self.is_deep = rules.all_versions and rules.keeps_versions
        self.top = len(self.copies) - 1
        self.on_top = self.copies[-1] if self.copies and not self.copies[-1].is_marker else None
        self.is_deleted = False
        self.target = self._target()
        self.wanted = {*view.named, *view.doubted, *([] if self.target is None else [self.target])}

    def step(self) -> Step:
        edge = Edge.NO if self.target is None or self.on_top is None else self._look(self.target, self.top)
        if not self.rules.keeps_versions:
            return self._replace(edge)
        if self.is_deep:
            self._ask_wanted()
            step = self._below()
            if step is not None:
                return step
        return self._topmost(edge)

    def _look(self, index: int, copy: int) -> Edge:
        edge = self.view.edge(index, copy)
        if edge is Edge.UNASKED:
            self.asks[index, copy] = None
        return edge

    def _target(self) -> int | None:
        for index in range(len(self.source) - 1, -1, -1):
            if self.rules.is_replay and self.is_deep and not self._is_meant(index):
                continue
            if self.source[index].is_marker:
                if self.rules.follows_markers:
                    self.is_deleted = True
                    return None
            elif index not in self.view.blocked or index in self.match or self._same_copies(index):
                return index
            else:
                self.waits[index] = _blocked_end(self.view.blocked[index])
        self.is_deleted = self.rules.mirrors_deletes and not self.waits
        return None

    def _is_meant(self, index: int) -> bool:
        """True for a version that is named or has a copy, and for a marker that was reproduced: the copies have as
        many. A version that comes late, above that one, must not bring the key back.
        """
        if index in self.view.named or index in self.match:
            return True
        if not self.source[index].is_marker:
            return False
        markers = sum(item.is_marker for item in self.source[: index + 1])
        return sum(copy.is_marker for copy in self.copies) >= markers

    def _same_copies(self, index: int) -> list[int]:
        """The SAME copies of a version. Asks for likely ones if there is none."""
        near = list(self.view.near(index))
        same = [copy for copy in near if self.view.edge(index, copy) is Edge.SAME]
        if not same:
            self._ask_nearest(index, near)
        return same

    def _again(self, index: int) -> int | None:
        """The SAME copy that can be moved on top in place of a version that cannot be copied.

        Its ETag does not show its metadata, so one that nobody has compared is asked for.
        """
        same = [copy for copy in self._same_copies(index) if copy not in self.view.unreadable_copies]
        known = [copy for copy in same if copy in self.view.edges.learned(index) or copy in self.view.own]
        if same and not known:
            self.asks[index, same[0]] = None
        return next(iter([*known, *same]), None)

    def _ask_nearest(self, index: int, near: Sequence[int]) -> None:
        """Ask for the copies that are the likeliest by order: as far from the top as the version is."""
        near = [copy for copy in near if self.view.edge(index, copy) is Edge.UNASKED]
        if not near:
            return
        size_bytes = self.source[index].size_bytes
        above = sum(not item.is_marker and item.size_bytes == size_bytes for item in self.source[index + 1 :])
        expected = max(0, len(near) - 1 - above)
        places = sorted(range(len(near)), key=lambda place: (abs(place - expected), place))
        self.asks.update(dict.fromkeys((index, near[place]) for place in places[:ASKED_AT_ONCE]))

    def _ask_wanted(self) -> None:
        """Ask whether the matches of wanted versions are right, then for copies of the unmatched ones."""
        for index in sorted(self.wanted):
            if index in self.match:
                self._look(index, self.match[index])
            if index in self.match and self.view.edge(index, self.match[index]) is Edge.UNKNOWN:
                self._ask_rivals(self.match[index])
        if self.asks:
            return
        held = {copy for index, copy in self.match.items() if self.view.edge(index, copy) is Edge.SAME}
        for index in sorted(self.wanted):
            if index not in self.match and index not in self.view.doubted:
                self._ask_nearest(index, [copy for copy in self.view.near(index) if copy not in held])

    def _ask_rivals(self, copy: int) -> None:
        """Ask whether a copy that nothing proves to be of its version is that of one without a match."""
        free = (index for index in range(len(self.source)) if index not in self.match)
        rivals = [(index, copy) for index in free if self.view.edge(index, copy) is Edge.UNASKED]
        self.asks.update(dict.fromkeys(rivals[:ASKED_AT_ONCE]))

    def _floor(self) -> int:
        """The oldest version that has a copy, or by its ETag may have one. Without one, above all."""
        for index in range(len(self.source)):
            copy = next(self.view.near(index), None)  # what is proven or likely comes first
            if copy is not None and (self.view.edge(index, copy) is Edge.UNKNOWN or self.view.is_firm(index, copy)):
                return index
        return len(self.source)

    def _is_wanted(self, index: int, floor: int) -> bool:
        if index in self.wanted or index < floor or self.rules.is_replay:
            return index in self.wanted
        return all(self.view.edge(index, copy) is not Edge.UNASKED for copy in self.view.near(index))

    def _below(self) -> Step | None:
        """Lines 1 and 2."""
        floor, newest_matched = self._floor(), max(self.match, default=-1)
        end = len(self.source) if self.target is None else self.target
        stuck: End | None = None
        for index in range(end):
            if self.source[index].is_marker:
                if index > newest_matched and self._is_mark_due(index):
                    return Step(Act.MARK, index)
            elif index in self.match or not self._is_wanted(index, floor):
                continue
            elif index in self.view.blocked:
                self.waits[index] = _blocked_end(self.view.blocked[index])
            elif self.rules.overwrite is Overwrite.NEVER and self._is_unknown_on_top():
                self.waits[index] = End(Status.CHANGED, Reason.DESTINATION_DIFFERS)
            elif stuck := stuck or self._stuck():
                self.waits[index] = stuck
            else:
                return Step(Act.APPEND, index, then=tuple(self._following(index, end, floor)))
        return None

    def _stuck(self) -> End | None:
        """How a version ends that would cover a T which cannot be put on top again."""
        reason = None if self.target is None else self.view.blocked.get(self.target)
        if self.target is None or reason is None or not self.copies or self._again(self.target) is not None:
            return None
        return End(_blocked_end(reason).status, Reason.NEWEST_ARCHIVED)

    def _following(self, first: int, end: int, floor: int) -> list[int]:
        """The versions to append after `first`: nothing that this append shows can change that."""
        following: list[int] = []
        is_plain = self.target not in self.view.blocked and self.rules.overwrite is not Overwrite.NEVER
        if not is_plain or next(self.view.near(first), None) is not None:
            return following
        for index in range(first + 1, end if self.target is None else end + 1):
            if self.source[index].is_marker:
                if self.rules.follows_markers:
                    break
            elif index not in self.match and self._is_wanted(index, floor):
                if index in self.view.blocked or next(self.view.near(index), None) is not None:
                    break
                following.append(index)
        return following

    def _is_mark_due(self, index: int) -> bool:
        """True for a marker in the middle whose place is on top now."""
        follows = any(
            not self.source[later].is_marker and later not in self.view.blocked
            for later in range(index + 1, len(self.source))
        )
        return self.rules.follows_markers and self.on_top is not None and follows and self._is_older_copy()

    def _is_unknown_on_top(self) -> bool:
        """True if an object is on top that is no copy of T or of an older version, nor this call's."""
        if self.on_top is None or self.top in self.view.own:
            return False
        return (self.target is None or not self.view.edge(self.target, self.top)) and not self._is_older_copy()

    def _is_older_copy(self, least: Edge = Edge.UNKNOWN) -> bool:
        """True if the top is an older version's copy. Asks for the newest versions that it may be of."""
        end = len(self.source) if self.target is None else self.target
        if self.target is not None and self.view.edge(self.target, self.top) is Edge.SAME:
            return False
        edges = {index: edge for index in range(end) if (edge := self.view.edge(index, self.top))}
        owner = self.version_of.get(self.top)
        if Edge.SAME in edges.values() or edges.get(owner if owner is not None else -1, Edge.NO) >= least:
            return True
        unasked = [index for index, edge in edges.items() if edge is Edge.UNASKED]
        if owner in unasked:
            unasked.remove(owner)
            unasked.append(owner)
        self.asks.update(dict.fromkeys((index, self.top) for index in unasked[: -ASKED_AT_ONCE - 1 : -1]))
        return False

    def _topmost(self, edge: Edge) -> Step:
        """Lines 3 to 11. `edge`: of T and the top."""
        rules, target, on_top = self.rules, self.target, self.on_top
        if self.is_deleted:
            if on_top is None:
                return self._done(Status.SAME)
            is_kept = rules.overwrite is Overwrite.NEVER or (rules.is_replay and not self._may_replace(on_top))
            if is_kept and self._is_unknown_on_top():
                return self._done(Status.CHANGED, self._why_kept())
            return Step(Act.MARK)
        if target is None:
            return self._done_without_target()
        has_copy = target in self.match
        is_due = self.is_deep and not has_copy and target not in self.view.blocked
        if is_due and not (rules.overwrite is Overwrite.NEVER and self._is_unknown_on_top()):
            return Step(Act.APPEND, target)
        if edge is Edge.SAME:
            return self._done(Status.SAME)
        if edge and (not self.is_deep or self.version_of.get(self.top, target) == target):
            return self._done(Status.UNKNOWN, Reason.NOTHING_COMPARABLE)
        if on_top is None and self._is_hidden_again():
            return self._done(Status.CHANGED, Reason.HIDDEN_AGAIN)
        is_left = rules.overwrite is Overwrite.NEVER and not self.is_deep and self.top not in self.view.own
        if on_top is None or edge or self._may_replace(on_top) or not (is_left or self._is_unknown_on_top()):
            return self._append_target()
        if has_copy and not rules.mirrors_deletes and self._look(target, self.match[target]) is Edge.SAME:
            is_retained = not rules.is_replay
            return self._done(
                Status.LEFT if is_retained else Status.CHANGED,
                Reason.DELETE_RETAINED if is_retained else Reason.COPY_COVERED,
            )
        return self._done(Status.CHANGED, self._why_kept())

    def _may_replace(self, on_top: Item) -> bool:
        """Line 10, by what the rules say of any object."""
        if self.rules.overwrite is Overwrite.ALWAYS or on_top.etag in self.rules.agreed_etags:
            return True
        newest = self.source[-1 if self.target is None else self.target]
        is_newer = int(on_top.at) > int(newest.at)
        return self.rules.overwrite is Overwrite.OLDER and (self.rules.mirrors_deletes or not is_newer)

    def _is_hidden_again(self) -> bool:
        """Line 8: a lifecycle rule or a person hides each copy of T that is put on top."""
        target = self.target
        if self.rules.mirrors_deletes or self.rules.overwrite is Overwrite.ALWAYS:
            return False
        if target is None or target not in self.match:
            return False
        hidden = [
            copy - 1
            for copy in range(1, len(self.copies))
            if self.copies[copy].is_marker and not self.copies[copy - 1].is_marker
        ]
        return len(hidden) > 1 and all(self._look(target, copy) for copy in hidden[-2:])

    def _replace(self, edge: Edge) -> Step:
        """Lines 12 to 16: a write loses what is there. `edge`: of T and the top."""
        rules, target, on_top = self.rules, self.target, self.on_top
        if self.is_deleted:
            return self._done(Status.CHANGED, Reason.ONLY_COPY) if on_top else self._done(Status.SAME)
        if target is None:
            return self._done_without_target()
        if edge:
            is_same = edge is Edge.SAME
            return self._done(Status.SAME) if is_same else self._done(Status.UNKNOWN, Reason.NOTHING_COMPARABLE)
        if target in self.view.blocked:
            return self._done(*_blocked_end(self.view.blocked[target]))
        if on_top is None:
            return Step(Act.APPEND, target)
        is_older = int(on_top.at) < int(self.source[target].at) - rules.skew_seconds
        may = rules.overwrite is Overwrite.ALWAYS or on_top.etag in rules.agreed_etags
        if not may and rules.overwrite is Overwrite.OLDER:
            may = is_older or self.top in self.view.own or self._is_proven_older()
        if may and rules.keeps_replaced and self.top not in self.view.own:
            return self._done(Status.BLOCKED, Reason.ONLY_COPY)
        return Step(Act.APPEND, target) if may else self._done(Status.CHANGED, self._why_kept())

    def _is_proven_older(self) -> bool:
        """True if the top is an older version's copy. Asks for the metadata, which a listing does not show."""
        is_older, end = self._is_older_copy(least=Edge.SAME), self.target or 0
        same = [index for index in range(end) if self.view.edge(index, self.top) is Edge.SAME]
        if all(self.top not in self.view.edges.learned(index) for index in same):
            self.asks.update(dict.fromkeys((index, self.top) for index in same))
        return is_older

    def _why_kept(self) -> Reason:
        if self.rules.overwrite is Overwrite.NEVER:
            return Reason.DESTINATION_DIFFERS
        if self.target is None or self.on_top is None:
            return Reason.DESTINATION_NEWER
        source, skew_seconds = self.source[self.target], 0 if self.rules.keeps_versions else self.rules.skew_seconds
        is_close = int(self.on_top.at) <= int(source.at) + skew_seconds
        return Reason.ORDER_UNKNOWN if source.in_parts or is_close else Reason.DESTINATION_NEWER

    def _append_target(self) -> Step:
        assert self.target is not None
        if self.target not in self.view.blocked:
            return Step(Act.APPEND, self.target)
        copy = self._again(self.target)
        return self._done(*_blocked_end(self.view.blocked[self.target])) if copy is None else Step(Act.AGAIN, copy)

    def _done_without_target(self) -> Step:
        return self._done(*next(iter(self.waits.values()), End(Status.SAME)))

    def _done(self, status: Status, reason: Reason | None = None) -> Step:
        top = End(status, reason)
        ends = {index: self._end_of(index, top) for index in sorted(self.view.named)}
        return Step(Act.DONE, top=top, ends=self.waits | ends, target=self.target)

    def _end_of(self, index: int, top: End) -> End:
        if index == self.target:
            return top
        if index in self.waits:
            return self.waits[index]
        if self.source[index].is_marker:
            return self._marker_end(index, top)
        if (blocked := _blocked_end(self.view.blocked.get(index, Reason.REFUSED))).status is Status.DAMAGED:
            return blocked
        if not self.is_deep:
            return top._replace(reason=Reason.NEWER_COPIED) if top.status is Status.SAME else top
        if self.view.edge(index, self.match[index]) is Edge.SAME:
            return End(Status.SAME)
        return End(Status.UNKNOWN, Reason.NOTHING_COMPARABLE)

    def _marker_end(self, index: int, top: End) -> End:
        if not self.rules.follows_markers:
            return End(Status.LEFT, Reason.IS_MARKER)
        if index == len(self.source) - 1:
            return top
        older, newer = (
            [self.match[i] for i in part if i in self.match]
            for part in (range(index), range(index + 1, len(self.source)))
        )
        between = self.copies[max(older, default=-1) + 1 : min(newer, default=len(self.copies))]
        return End(Status.SAME) if any(copy.is_marker for copy in between) else End(Status.LEFT, Reason.MARKER_LATE)


def _blocked_end(reason: Reason) -> End:
    return End(Status.DAMAGED if reason in _DAMAGED else Status.BLOCKED, reason)


_DAMAGED = frozenset({Reason.DAMAGED, Reason.FOUND_DAMAGED, Reason.BOTH_DAMAGED, Reason.EITHER_DAMAGED})
