"""`jobs.sync.table`: single decisions, each beside the wrong rule that would decide otherwise."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from jobs.core.outcome import Status
from jobs.core.reasons import Reason
from jobs.sync.edges import Edge, End, Look, Version, align
from jobs.sync.table import Act, Overwrite, Rules, next_step
from tests.sync.looks import ALL, CURRENT, MIRROR, UNKEPT, A, learn, look

SAME, HIDDEN = End(Status.SAME), End(Status.CHANGED, Reason.HIDDEN_AGAIN)
UNPROVEN, ARCHIVED = End(Status.UNKNOWN, Reason.NOTHING_COMPARABLE), End(Status.BLOCKED, Reason.ARCHIVED)
NEWER, ONLY_COPY = End(Status.CHANGED, Reason.DESTINATION_NEWER), End(Status.CHANGED, Reason.ONLY_COPY)
RETAINED, TIE = End(Status.LEFT, Reason.DELETE_RETAINED), End(Status.CHANGED, Reason.ORDER_UNKNOWN)
OPEN: dict[str, Any] = {"unknown": ((0, 0),)}
BOTH: dict[str, Any] = {"unknown": ((0, 0), (2, 0)), "different": ((1, 0),), "blocked": {2}, "named": {1}}

FIRST_STEPS = {
    "a late older copy is no reason to copy in order again": ("A1 B2 C3", "B4 C5 A6 C7", ALL, {}, SAME),
    "a version between two of the same bytes is wanted": ("A1 B2 A3", "A3", ALL, {}, 1),
    "a copy is of one version only": ("A1 A2", "A3", ALL, {}, 1),
    "an unprovable copy counts once": ("?1", "?2", ALL, OPEN, UNPROVEN),
    "an unprovable copy is not older than its version": ("?5", "?2", ALL, {}, 0),
    "an equal copy is one, whatever its date": ("A5", "A2", ALL, {}, SAME),
    "the newest readable version belongs on top": ("A1 B2", "C0", CURRENT, {"blocked": {1}}, 0),
    "a copy of what cannot be read is not put on top again": ("A1", "A2 M3", ALL, {"blocked": {0}}, ARCHIVED),
    "a source overwritten in the second of its copy is copied": ("B3", "A3", CURRENT, {}, 0),
    "not where the copy would be lost": ("B3", "A3", UNKEPT, {}, TIE),
    "a copy that is hidden twice is not made a third time": ("A1", "A2 M3 A4 M5", ALL, {}, HIDDEN),
    "no delete is mirrored where nothing is kept": ("M5", "A2", UNKEPT._replace(mirrors_deletes=True), {}, ONLY_COPY),
    "an oldest copy that expired is not made again": ("A1 B2 C3", "B4 C5", ALL, {}, SAME),
    "an unnamed version with an open edge counts as copied": ("?1 ?2 C3", "?4 C5", ALL, {}, SAME),
    "a named version is wanted below the floor": ("A1 B2", "B4", ALL, {"named": {0}}, 0),
    "a marker in the middle is not made afterwards": ("A1 M2 B3", "A4 B5", MIRROR, {}, SAME),
    "the copy of a removed version stays on top": ("A1", "A2 B4", ALL, {}, RETAINED),
    "a copy that cannot be compared waits below another object": (
        "?1",
        "?2 B4",
        ALL,
        {**OPEN, "different": ((0, 1),), "blocked": {0}},
        ARCHIVED,
    ),
    "what may be the copy of a version that waits is not covered": ("?1 B2 ?3", "?4", ALL, BOTH, ARCHIVED),
    "nor by a delete marker": ("?1 M2 ?3", "?4", MIRROR, BOTH, ARCHIVED),
    "an unprovable older copy is not replaced where nothing is kept": (
        "?1 B2",
        "C9",
        UNKEPT,
        {**OPEN, "blocked": {0}},
        NEWER,
    ),
}


@pytest.mark.parametrize("what", FIRST_STEPS)
def test_first_step(what: str) -> None:
    source, copies, rules, known, expected = FIRST_STEPS[what]
    step = next_step(look(source, copies, **{"named": (), **known}), rules)
    assert (step.version.place if step.version else step.top) == expected


def asked(looked: Look, rules: Rules = ALL) -> list[tuple[int, int]]:
    """The pairs that are to be compared, by their places."""
    step = next_step(looked, rules)
    assert step.act is Act.ASK
    return [(version.place, copy.place) for version, copy in step.ask]


def test_nothing_covers_a_version_that_cannot_be_put_back() -> None:
    looked = look("A1 B2", "B3", blocked={1}, named={0})
    assert next_step(looked, ALL).ends == {looked.source[0]: End(Status.BLOCKED, Reason.NEWEST_ARCHIVED)}


@pytest.mark.parametrize(("reason", "is_said"), [(Reason.DENIED, True), (Reason.ARCHIVED, False)])
def test_a_newest_that_is_refused_for_good_is_said_of_versions_that_ended_well(reason: Reason, is_said: bool) -> None:
    """Else nobody would say that an older one is on top."""
    looked = look("A1 B2", "B2 A3", named={0})
    top = looked.source[1].blocked = End(Status.BLOCKED, reason)
    step = next_step(looked, ALL)
    assert (step.top, step.ends[looked.source[0]]) == (top, top if is_said else SAME)


def test_an_older_copy_that_would_be_lost_is_compared() -> None:
    looked = look("A1 B2", "A9", is_compared=False, trusts_etags=False)
    learn(looked, 1, 0, False)
    assert asked(looked, UNKEPT) == [(0, 0)]
    learn(looked, 0, 0, False)
    assert next_step(looked, UNKEPT).top == NEWER


def test_an_object_that_nobody_may_compare_is_no_older_copy() -> None:
    looked = look("?1 B2", "C9", named=(), **OPEN)
    assert next_step(looked, CURRENT).act is Act.APPEND
    looked.source[0].refusal = End(Status.BLOCKED, Reason.DENIED)
    assert next_step(looked, CURRENT).top == NEWER


@pytest.mark.parametrize(("rules", "then"), [(ALL, [1, 3]), (MIRROR, [1])])
def test_versions_that_nothing_resembles_are_appended_in_one_go(rules: Rules, then: list[int]) -> None:
    step = next_step(look("A1 B2 M3 C4", "", named={0, 1}), rules)
    assert step.version is not None
    assert [each.place for each in (step.version, *step.then)] == [0, *then]


@pytest.mark.parametrize(
    ("source", "copies", "rules", "known", "pairs"),
    [
        ("?1", "?2", CURRENT, {"named": ()}, [(0, 0)]),  # the top, where no ETag tells
        ("?1 ?2", "?3 ?4", ALL, {}, [(1, 1), (0, 0)]),  # named versions in one step
        ("?1 B2 ?3", "?4", ALL, {"blocked": {2}, "named": {1}}, [(2, 0), (1, 0)]),  # before one is passed over
        ("?1 B2 ?3", "?4", UNKEPT._replace(overwrite=Overwrite.ALWAYS), {"blocked": {2}}, [(2, 0), (1, 0)]),
        ("?1 M2 ?3", "?4", MIRROR, {"blocked": {2}, "named": (), "unknown": ((2, 0),)}, [(0, 0)]),  # is it another's?
        ("A1", "A2", ALL, {"agreed": A, "is_compared": False}, [(0, 0)]),  # an agreed ETag proves nothing
    ],
)
def test_what_is_asked(source: str, copies: str, rules: Rules, known: dict[str, Any], pairs: list[Any]) -> None:
    assert asked(look(source, copies, **known), rules) == pairs


def test_a_new_version_asks_for_nothing() -> None:
    source, copies = (" ".join(f"?{at}{end}" for at in range(count)) for count, end in ((100, ""), (99, ".5")))
    looked = look(source, copies, named={99})
    assert next_step(looked, ALL)[:2] == (Act.APPEND, looked.source[99])


@pytest.mark.parametrize("form", ["opaque", "md5", "one"])
def test_of_thousands_of_versions_of_one_size_each_is_compared_with_few(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Counter[Version]()
    edge = Look.edge

    def counted(self: Look, source: Version, copy: Version) -> Edge:
        asked[source] += 1
        return edge(self, source, copy)

    monkeypatch.setattr(Look, "edge", counted)

    def version(side: str, at: int, since: int) -> Version:
        etag = {"opaque": f"{side}{at}-2", "md5": f"{at:032x}", "one": A}[form]
        return Version(f"{side}{at}", False, 10, etag, float(since + at))

    source = [version("s", at, 0) for at in range(3000)]
    looked = Look(source, [version("d", at, 10_000) for at in range(3000)], [source[2999]])
    found = align(looked)
    next_step(looked, ALL)
    assert [(version.place, copy.place) for version, copy in found.items()] == [(at, at) for at in range(3000)]
    assert asked.total() < 10 * len(source)
