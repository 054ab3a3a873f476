"""Two buckets and one key, as values: each write makes a new world.

`run` is the least driver that the table needs. What it compares is immutable, so it compares at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from jobs.core.evidence import Verdict
from jobs.core.outcome import Status
from jobs.core.reasons import Reason
from jobs.sync import edges
from jobs.sync.edges import NOBODY, End, Look
from jobs.sync.table import Act, Overwrite, Rules, next_step

MARKER = "M"


class Version(NamedTuple):
    """`content`: the bytes; capitals have MD5 ETags, other ETags are opaque. `M` is a delete marker.

    `of`: the id of the source version that a copy was made from, for the judge alone. 0: of none.
    """

    id: int
    content: str
    at: int
    is_readable: bool = True
    of: int = 0

    @property
    def is_marker(self) -> bool:
        return self.content == MARKER

    @property
    def etag(self) -> str | None:
        if self.is_marker:
            return None
        return self.content.lower() * 32 if self.content in "ABC" else f"{self.content}{self.id}"

    @property
    def item(self) -> edges.Version:
        """As a look has it."""
        item = edges.Version(str(self.id), self.is_marker, None if self.is_marker else 1, self.etag, self.at)
        if not self.is_readable:
            item.blocked = End(Status.BLOCKED, Reason.ARCHIVED)
        return item


class World(NamedTuple):
    source: tuple[Version, ...]
    copies: tuple[Version, ...]
    keeps_versions: bool = True
    now: int = 10
    last_id: int = 100
    lost: tuple[tuple[Version, Version | None], ...] = ()
    """Where no versions are kept: objects that are gone, each with the source version that replaced it."""

    def put_copy(self, version: Version, source: Version | None = None) -> World:
        lost, copies = self.lost, self.copies
        if not self.keeps_versions:
            lost = (*lost, *((each, source) for each in copies if not each.is_marker))
            copies = ()
        return self._replace(copies=(*copies, version), last_id=version.id, lost=lost)

    @property
    def next_id(self) -> int:
        return self.last_id + 1


class Ended(NamedTuple):
    top: End
    versions: tuple[tuple[int, End], ...]

    @property
    def ends(self) -> dict[int, End]:
        """By the ids of source versions."""
        return dict(self.versions)


class Decided(NamedTuple):
    """A step, by places in the histories."""

    act: Act
    place: int
    top: End | None
    ends: tuple[tuple[int, End], ...]


def run(world: World, rules: Rules) -> tuple[World, Ended]:
    """Do all that the table says, for a run that names each source version."""
    named, own = frozenset(each.id for each in world.source), frozenset[tuple[int, int]]()
    for _ in range(60):
        step = decide(rules, named, world.source, world.copies, own)
        if step.act is Act.DONE:
            assert step.top is not None
            return world, Ended(step.top, tuple((world.source[place].id, end) for place, end in step.ends))
        if step.act is Act.MARK:
            world = world.put_copy(Version(world.next_id, MARKER, world.now))
            continue
        version = world.source[step.place]
        copy = Version(world.next_id, version.content, world.now, version.is_readable, version.id)
        own |= {(copy.id, copy.of)}
        world = world.put_copy(copy, version)
    raise AssertionError("it does not end")


@cache
def decide(
    rules: Rules,
    named: frozenset[int],
    source: tuple[Version, ...],
    copies: tuple[Version, ...],
    own: frozenset[tuple[int, int]],
) -> Decided:
    """Ask the table, and compare what it asks for."""
    ours, theirs, writes = {each.id: each.item for each in source}, [each.item for each in copies], dict(own)
    for each, item in zip(copies, theirs, strict=True):
        if each.id in writes:
            item.owner = ours.get(writes[each.id], NOBODY)
    meant = [ours[each] for each in named if each in ours]
    look = Look([*ours.values()], theirs, meant, trusts_etags=rules.keeps_versions)
    while (step := next_step(look, rules)).act is Act.ASK:
        for version, copy in step.ask:
            assert copy not in version.compared, "asked twice"
            version.compared = {**version.compared, copy: Verdict(compare(source[version.place], copies[copy.place]))}
    ends = tuple((version.place, end) for version, end in step.ends.items())
    return Decided(step.act, step.version.place if step.version else -1, step.top, ends)


def compare(source: Version, copy: Version) -> bool | None:
    if source.content not in "ABC" and not (source.is_readable and copy.is_readable):
        return None
    return source.content == copy.content


def faults(world: World, ended: Ended, rules: Rules) -> Iterator[str]:
    """Yield what is wrong with the buckets after a run, which names each source version, has ended.

    Judged by what is stored and by what the rules promise, not by the table.
    """
    yield from _missing(world, ended, rules)
    yield from _wrong_top(world, ended, rules)
    for old, source in world.lost:
        if source is None:
            yield f"{old} was deleted for good"
            continue
        is_removed = old.of > 0 and all(each.id != old.of for each in world.source)
        is_older = old.at < source.at or 0 < old.of < source.id or old.content in _older(world, source) or is_removed
        if rules.overwrite is Overwrite.NEVER or (rules.overwrite is Overwrite.OLDER and not is_older):
            yield f"{old} was replaced by {source}"


def _older(world: World, source: Version) -> list[str]:
    return [each.content for each in world.source if each.id < source.id]


def _missing(world: World, ended: Ended, rules: Rules) -> Iterator[str]:
    """Each wanted version has a copy of its own, or a code that says why not."""
    stored = [each.content for each in world.copies if not each.is_marker]
    is_same = {number for number, end in ended.versions if end == End(Status.SAME)}
    same = [each.content for each in world.source if each.id in is_same and each.is_readable and not each.is_marker]
    is_deep = rules.all_versions and rules.keeps_versions
    unproven = sum(not each.is_readable for each in world.copies)
    for content in set(same):
        wanted = same.count(content) if is_deep and rules.overwrite is not Overwrite.NEVER else 1
        if stored.count(content) + unproven < wanted:
            yield f"{content} is said to be stored {wanted} times"
    for version in world.source if is_deep else ():
        end = ended.ends[version.id]
        is_excused = rules.overwrite is Overwrite.NEVER or end.status in (Status.UNKNOWN, Status.SAME)
        if not version.is_marker and version.is_readable and version.content not in stored and not is_excused:
            newest = next(each for each in reversed(world.source) if not each.is_marker)
            if not unproven and (newest.is_readable or end.reason is not Reason.NEWEST_ARCHIVED):
                yield f"{version} has no copy and ended as {end}"


def _wrong_top(world: World, ended: Ended, rules: Rules) -> Iterator[str]:
    end = ended.top
    top = world.copies[-1] if world.copies and not world.copies[-1].is_marker else None
    newest = [each for each in world.source if not each.is_marker or rules.follows_markers][-1:]
    if not newest or newest[0].is_marker:
        is_kept = not rules.keeps_versions or rules.overwrite is Overwrite.NEVER
        is_newer = rules.is_replay and top is not None and bool(newest) and top.at > newest[0].at
        is_left = end.status is Status.CHANGED and (is_kept or is_newer)
        if (newest or rules.mirrors_deletes) and top is not None and not is_left:
            yield f"{top} is on top of a deleted key, and it ended as {end}"
        return
    target = newest[0]
    if top is not None and top.content == target.content:
        return
    if not target.is_readable:
        if ended.ends[target.id].status is Status.SAME:
            yield f"{top} is on top instead of {target}, and it ended as {end}"
        return
    if end.status is Status.UNKNOWN and top is not None and not top.is_readable:
        return
    is_hidden_again = end.reason is Reason.HIDDEN_AGAIN and rules.overwrite is not Overwrite.ALWAYS
    if top is None and is_hidden_again and not rules.mirrors_deletes:
        return
    may_stay = rules.overwrite is Overwrite.NEVER
    if top is not None and rules.overwrite is Overwrite.OLDER:
        may_stay = top.at > target.at and not rules.mirrors_deletes
        if not rules.keeps_versions:
            is_older_copy = top.is_readable and top.content in _older(world, target)
            may_stay = top.at >= target.at and not is_older_copy
    if end.status not in (Status.CHANGED, Status.LEFT) or not may_stay:
        yield f"{top} is on top instead of {target}, and it ended as {end}"
