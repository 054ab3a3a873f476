"""The next step for one key, from what a look saw of both sides. Pure: no requests, no clock.

The table decides as if UNASKED edges (`jobs.sync.edges`) were UNKNOWN. Where a decision used one, the
step is `ASK` with these edges instead. So only what decides is compared.

T       Newest source item; skips markers that are not followed, and blocked versions without a match: it
        asks for their copies first, since an older version of their size may have taken one. A version
        that waits is T if the top stays UNKNOWN to it, and is not surely another's.
        A marker that is followed, or an empty history if deletes are mirrored: DELETED. Followed:
        deletes are mirrored, or it is a replay of all versions. Such a replay also skips what is neither
        named nor at the destination.
FLOOR   The oldest version that is matched to a copy by a SAME, UNKNOWN or equal-ETag edge. Without one,
        above all.
WANTED  Current only, or no versions kept: T. Else named versions, and of the others those from the
        floor upwards that have no UNASKED edge: an open edge of an unnamed version counts as a copy. A
        replay wants no others.
STEP    First line that fits.

|    | versions are kept or not                                            | step                     |
|----|---------------------------------------------------------------------|--------------------------|
|  0 | the source's newest object is damaged                               | done: damaged            |
|    | **versions are kept**                                               |                          |
|  1 | wanted object below T, unmatched, not blocked                       | append it, oldest first  |
|    | but T is blocked                                                    | it waits: blocked        |
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
|    | T is blocked, and has a copy that cannot be compared                | done: blocked            |
|    | otherwise                                                           | done: changed            |
|    | **no versions are kept**                                            |                          |
| 12 | T is DELETED, an object is on top                                   | done: changed            |
|    | T is DELETED otherwise; no T                                        | done                     |
| 13 | top SAME / UNKNOWN to T                                             | done: same / unknown     |
| 14 | no object on top                                                    | append T                 |
| 15 | agreed; this call's; `always`; `older` and (older than T by more    |                          |
|    | than the skew, SAME as an older version)                            | append T                 |
|    | but what is replaced has to be kept                                 | done: blocked            |
| 16 | otherwise, ties included                                            | done: changed            |

"Older" in 10 and 15 counts whole seconds, since HEAD knows no others. "Unknown" on top: an object
that is neither T's nor an older version's copy, this call's, or agreed; current only and by `never`
also an older version's copy. "Append T" of a blocked T: it is done as it is blocked. 15 replaces no copy
as an older version's that was listed and not compared. Nor does 9, current only, where a comparison was
refused. A damaged version ends as damaged, also where it has a copy. If T is blocked for good and each
named version ends well, these end as T: an older one may be on top, and nothing else would say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import islice
from typing import NamedTuple

from jobs.core.evidence import is_multipart
from jobs.core.outcome import GOOD, Status
from jobs.core.reasons import Reason, Why
from jobs.sync.edges import Edge, End, Look, Version, align

WAITING = (Reason.ARCHIVED, Reason.NEWEST_ARCHIVED, Reason.TOO_LARGE, Reason.TOO_SLOW)
"""The reasons of versions that another worker, or a later one, copies, compares or puts on top."""
ASKED_AT_ONCE = 8
"""How many comparisons one decision asks for where any of several may decide it."""


class Overwrite(StrEnum):
    """When an existing destination object that differs may be replaced."""

    OLDER = "older"
    ALWAYS = "always"
    NEVER = "never"


class Rules(NamedTuple):
    """What is wanted. `keeps_versions`: of the destination.

    `keeps_replaced`: an object that is replaced has to stay, as a version. `is_replay`: no policy says
    what a delete means. With all versions delete markers are made as well. What it does not name is not
    copied, and what the source has not is left on top, as `changed`.
    """

    all_versions: bool = False
    mirrors_deletes: bool = False
    overwrite: Overwrite = Overwrite.OLDER
    keeps_versions: bool = True
    keeps_replaced: bool = False
    is_replay: bool = False

    @property
    def follows_markers(self) -> bool:
        """Return True if a delete marker of the source is made at the destination."""
        return self.mirrors_deletes or (self.is_replay and self.all_versions)


class Act(StrEnum):
    """APPEND: copy a source version on top. MARK: put a delete marker on top. ASK: compare, then look at the table
    again.
    """

    APPEND = "append"
    MARK = "mark"
    ASK = "ask"
    DONE = "done"


class Step(NamedTuple):
    """What to do next.

    APPEND: `version` is the source's; `then` are versions to append after it without another step, as
    long as nothing fails. MARK: it is the source's newest item, or the marker in the middle. ASK: `ask`
    has (source version, copy), most important first. DONE: `target` is T, `top` how it ended, `ends` how
    each named version did. `match`: the alignment, but for ASK.
    """

    act: Act
    version: Version | None = None
    top: End | None = None
    ends: Mapping[Version, End] = {}
    ask: Sequence[tuple[Version, Version]] = ()
    then: Sequence[Version] = ()
    target: Version | None = None
    match: Mapping[Version, Version] = {}


def next_step(look: Look, rules: Rules) -> Step:
    """Return what comes next for the key, by the table above."""
    newest = look.newest(follows_markers=rules.follows_markers)
    if newest is not None and newest.blocked is not None and newest.blocked.status is Status.DAMAGED:
        return Step(Act.DONE, top=newest.blocked, match=align(look))  # nobody knows what belongs on top
    decision = _Decision(look, rules)
    step = (decision.below_target() if decision.is_deep else None) or decision.topmost()
    if decision.asks:
        return Step(Act.ASK, ask=tuple(decision.asks))
    return step._replace(match=decision.match)


class _Decision:
    """One pass through the table. `asks` gets the UNASKED edges that it used."""

    def __init__(self, look: Look, rules: Rules):
        self.look, self.rules = look, rules
        self.source, self.copies, self.on_top = look.source, look.copies, look.on_top
        self.asks: dict[tuple[Version, Version], None] = {}
        self.waits: dict[Version, End] = {}
        self.match = align(look)
        self.version_of = {copy: version for version, copy in self.match.items()}
        self.held = {copy for version, copy in self.match.items() if look.is_firm(version, copy)}
        self.is_deep = rules.all_versions and rules.keeps_versions
        self.margin_seconds = 0 if rules.keeps_versions else look.skew_seconds + 1
        self.is_deleted = False
        self.target = self._target()
        self.below = self.source if self.target is None else self.source[: self.target.place]
        self.wanted = dict.fromkeys(each for each in self.source if each in look.named or each is self.target)
        self.edge = self._look(self.target, self.on_top) if self.target and self.on_top else Edge.NO

    def _look(self, version: Version, copy: Version) -> Edge:
        edge = self.look.edge(version, copy)
        if edge is Edge.UNASKED:
            self.asks[version, copy] = None
        return edge

    def _target(self) -> Version | None:
        # A marker that was reproduced is meant, too: the copies have as many. A version that comes late, above that
        # one, must not bring the key back.
        markers, made = (sum(item.is_marker for item in items) for items in (self.source, self.copies))
        for version in reversed(self.source):
            is_meant = (version.is_marker and made >= markers) or version in self.look.named or version in self.match
            markers -= version.is_marker
            if self.rules.is_replay and self.is_deep and not is_meant:
                continue
            if version.is_marker:
                if self.rules.follows_markers:
                    self.is_deleted = True
                    return None
            elif version.blocked is None or version in self.match:
                return version
            else:
                self._ask_nearest(version)
                is_open = self.on_top not in self.held and version.blocked.reason in WAITING
                if is_open and self.on_top and self.look.edge(version, self.on_top) is Edge.UNKNOWN:
                    return version  # nothing may cover what may be its copy, until another worker has compared them
                self.waits[version] = version.blocked
        self.is_deleted = self.rules.mirrors_deletes and not self.waits
        return None

    def _ask(self, pairs: Iterable[tuple[Version, Version]]) -> None:
        """Ask for the first of these that have not been compared."""
        unasked = (pair for pair in pairs if self.look.edge(*pair) is Edge.UNASKED)
        self.asks.update(dict.fromkeys(islice(unasked, ASKED_AT_ONCE)))

    def _ask_nearest(self, version: Version) -> None:
        """Ask for the copies that are the likeliest by order: as far from the top as the version is. None that is
        surely another version's. Where they stay open, ask whether they are of the versions that have them by size.
        """
        near = [*self.look.near(version, self.held)]
        above = sum(item.size_bytes == version.size_bytes for item in self.source[version.place + 1 :]) if near else 0
        expected = max(0, len(near) - 1 - above)
        places = sorted(range(len(near)), key=lambda place: abs(place - expected))
        self._ask((version, near[place]) for place in places)
        if not self.asks:
            self._ask((self.version_of[copy], copy) for copy in near if copy in self.version_of)

    def _ask_wanted(self) -> None:
        """Ask whether the matches of wanted versions are right, then for copies of the unmatched ones."""
        for version in self.wanted:
            copy = self.match.get(version)
            if copy is not None and self._look(version, copy) is Edge.UNKNOWN:  # it may be that of one without a match
                self._ask((other, copy) for other in self.source if other not in self.match)
        if self.asks:
            return
        for version in (each for each in self.wanted if each not in self.match):
            self._ask_nearest(version)

    def _floor(self) -> int:
        """The place of the oldest version that has a copy, or by its ETag may have one. Without one, above all."""
        edge, is_firm = self.look.edge, self.look.is_firm
        known = (each for each in self.match.items() if edge(*each) is Edge.UNKNOWN or is_firm(*each))
        return min((version.place for version, _ in known), default=len(self.source))

    def _is_wanted(self, version: Version, floor: int) -> bool:
        if version in self.wanted or version.place < floor or self.rules.is_replay:
            return version in self.wanted
        return all(self.look.edge(version, copy) is not Edge.UNASKED for copy in self.look.near(version))

    def below_target(self) -> Step | None:
        """Lines 1 and 2. Versions that no copy is like which may be theirs can be appended one after the other."""
        self._ask_wanted()
        floor, newest_matched = self._floor(), max((version.place for version in self.match), default=-1)
        due: list[Version] = []
        for version in self.source[: len(self.below) + 1]:
            if version.is_marker:
                if due and self.rules.follows_markers:
                    break
                if not due and version.place > newest_matched and self._is_mark_due(version):
                    return Step(Act.MARK, version)
            elif version in self.match or not self._is_wanted(version, floor) or (version is self.target and not due):
                continue
            elif (end := self._hindrance(version)) is not None:
                self.waits[version] = end
            else:
                is_open = next(self.look.near(version, self.held), None) is not None
                is_clear = self.rules.overwrite is not Overwrite.NEVER and not is_open
                if is_clear or not due:
                    due.append(version)
                if not is_clear:
                    break
        return Step(Act.APPEND, due[0], then=tuple(due[1:])) if due else None

    def _hindrance(self, version: Version) -> End | None:
        """Why a version below T is not copied now. It would cover a T that cannot be put on top again."""
        if version.blocked is not None:
            return version.blocked
        if self.rules.overwrite is Overwrite.NEVER and self._is_unknown_on_top():
            return End(Status.CHANGED, Reason.DESTINATION_DIFFERS)
        if self.target is None or self.target.blocked is None:
            return None
        return End(self.target.blocked.status, Reason.NEWEST_ARCHIVED)

    def _is_mark_due(self, marker: Version) -> bool:
        """True for a marker in the middle whose place is on top now."""
        newer = self.source[marker.place + 1 :]
        follows = any(not version.is_marker and version.blocked is None for version in newer)
        return self.rules.follows_markers and self.on_top is not None and follows and self._is_older_copy(self.on_top)

    def _is_unknown_on_top(self) -> bool:
        """True if an object is on top that is no copy of T or of an older version, nor this call's, nor agreed."""
        on_top = self.on_top
        if on_top is None or self.edge or on_top.owner is not None or on_top.etag in self.look.agreed_etags:
            return False
        is_kept = self.rules.overwrite is Overwrite.NEVER and not self.is_deep
        return is_kept or not self._is_older_copy(on_top)

    def _is_older_copy(self, on_top: Version) -> bool:
        """True if the top is an older version's copy. It has to be proven where the top would be lost, and, current
        only, where S3 refuses the comparison. Asks for the newest versions that it may be of.
        """
        if self.edge is Edge.SAME:
            return False
        edges = {version: edge for version in self.below if (edge := self.look.edge(version, on_top))}
        owner = self.version_of.get(on_top)
        is_refused = owner is not None and owner.refusal is not None and not self.is_deep
        least = Edge.UNKNOWN if self.rules.keeps_versions and not is_refused else Edge.SAME
        if Edge.SAME in edges.values() or (owner in edges and edges[owner] >= least):
            return True
        newest_first = sorted(edges, key=lambda version: (version is not owner, -version.place))
        self._ask((version, on_top) for version in newest_first)
        return False

    def topmost(self) -> Step:
        """Lines 3 to 16."""
        rules, target, on_top, edge = self.rules, self.target, self.on_top, self.edge
        if self.is_deleted:
            if on_top is None:
                return self._done(Status.SAME)
            if not rules.keeps_versions:
                return self._done(Status.CHANGED, Reason.ONLY_COPY)
            if not self._may_replace(on_top) and self._is_unknown_on_top():
                return self._done(Status.CHANGED, self._why_kept())
            return Step(Act.MARK, self.source[-1] if self.source else None)
        if target is None:
            return self._done(*next(iter(self.waits.values()), End(Status.SAME)))
        copy = self.match.get(target)
        is_left = rules.overwrite is Overwrite.NEVER and self._is_unknown_on_top()
        if self.is_deep and copy is None and target.blocked is None and not is_left:
            return Step(Act.APPEND, target)
        if edge is Edge.SAME:
            return self._done(Status.SAME)
        if edge and on_top and (not self.is_deep or self.version_of.get(on_top, target) is target):
            return self._done(*_unproven(target, on_top))
        if on_top is None and self._is_hidden_again(target):
            return self._done(Status.CHANGED, Reason.HIDDEN_AGAIN)
        if on_top is None or edge or self._may_replace(on_top) or not self._is_unknown_on_top():
            return self._append_target(target)
        if copy is not None and not rules.mirrors_deletes and self._look(target, copy) is Edge.SAME:
            if rules.is_replay:
                return self._done(Status.CHANGED, Reason.COPY_COVERED)
            return self._done(Status.LEFT, Reason.DELETE_RETAINED)
        if copy is not None and target.blocked is not None:
            return self._done(*target.blocked)
        return self._done(Status.CHANGED, self._why_kept())

    def _may_replace(self, on_top: Version) -> bool:
        """Lines 10 and 15, by what the rules say. An object that would be lost has to be older by both clocks."""
        if self.rules.overwrite is not Overwrite.OLDER or (self.rules.mirrors_deletes and self.rules.keeps_versions):
            return self.rules.overwrite is not Overwrite.NEVER
        return int(on_top.at) <= int((self.target or self.source[-1]).at) - self.margin_seconds

    def _is_hidden_again(self, target: Version) -> bool:
        """Line 8: a lifecycle rule or a person hides each copy of T that is put on top."""
        if self.rules.mirrors_deletes or self.rules.overwrite is Overwrite.ALWAYS or target not in self.match:
            return False
        runs = zip(self.copies, self.copies[1:], strict=False)
        hidden = [below for below, above in runs if above.is_marker and not below.is_marker]
        return len(hidden) > 1 and all(self._look(target, copy) for copy in hidden[-2:])

    def _why_kept(self) -> Reason:
        if self.rules.overwrite is Overwrite.NEVER:
            return Reason.DESTINATION_DIFFERS
        target, on_top, margin = self.target, self.on_top, self.margin_seconds
        # S3 dates an object in parts by the beginning of its upload.
        is_open = target and on_top and (is_multipart(target.etag) or int(on_top.at) < int(target.at) + margin)
        return Reason.ORDER_UNKNOWN if is_open else Reason.DESTINATION_NEWER

    def _append_target(self, target: Version) -> Step:
        if target.blocked is not None:
            return self._done(*target.blocked)
        if self.rules.keeps_replaced and not self.rules.keeps_versions and self.on_top and self.on_top.owner is None:
            return self._done(Status.BLOCKED, Reason.ONLY_COPY)
        return Step(Act.APPEND, target)

    def _done(self, status: Status, reason: Why = "", detail: str = "") -> Step:
        top = End(status, reason, detail)
        ends = {version: self._end_of(version, top) for version in self.source if version in self.look.named}
        is_lost = status is Status.BLOCKED and reason not in WAITING
        if is_lost and None not in self.look.meant and all(end.status in GOOD for end in ends.values()):
            ends = dict.fromkeys(ends, top)
        return Step(Act.DONE, top=top, ends=self.waits | ends, target=self.target)

    def _end_of(self, version: Version, top: End) -> End:
        if version.copied is not None:
            return End(Status.DONE)
        if version is self.target:
            return top
        if version in self.waits:
            return self.waits[version]
        if version.is_marker:
            return self._marker_end(version, top)
        if version.blocked is not None and version.blocked.status is Status.DAMAGED:
            return version.blocked
        if not self.is_deep:
            return top._replace(reason=Reason.NEWER_COPIED) if top.status is Status.SAME else top
        copy = self.match[version]
        is_same = self.look.edge(version, copy) is Edge.SAME
        return End(Status.SAME) if is_same else _unproven(version, copy)

    def _marker_end(self, marker: Version, top: End) -> End:
        if not self.rules.follows_markers:
            return End(Status.LEFT, Reason.IS_MARKER)
        if marker is self.source[-1]:
            return top
        is_there = any(copy.is_marker for copy in around(marker, self.match, self.copies)[0])
        return End(Status.SAME) if is_there else End(Status.LEFT, Reason.MARKER_LATE)


def _unproven(version: Version, copy: Version) -> End:
    """How a version ends whose copy nothing proves. What is too large to be compared here waits."""
    is_large = (verdict := version.compared.get(copy)) is not None and verdict.reason == Reason.TOO_LARGE
    return End(Status.UNKNOWN, Reason.TOO_LARGE if is_large else Reason.NOTHING_COMPARABLE)


def around(
    marker: Version, match: Mapping[Version, Version], copies: Sequence[Version]
) -> tuple[Sequence[Version], bool]:
    """Return the copies where a marker's own would be: between those of older and newer versions. Also whether there
    are newer ones.
    """
    older = [copy.place for version, copy in match.items() if version.place < marker.place]
    newer = [copy.place for version, copy in match.items() if version.place > marker.place]
    return copies[max(older, default=-1) + 1 : min(newer, default=len(copies))], bool(newer)
