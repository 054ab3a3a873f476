"""`jobs.sync.table`: single decisions, each beside the wrong rule that would decide otherwise."""

import time

import pytest

from jobs.core.outcome import Status
from jobs.core.reasons import Reason
from jobs.sync.edges import Look, align, is_likely, rivals
from jobs.sync.table import Act, Rules, next_step
from jobs.sync.versions import Compared, Edge, End, Version

ALL = Rules(all_versions=True)
MIRROR = Rules(all_versions=True, mirrors_deletes=True)
CURRENT = Rules()
NOT_KEPT = Rules(keeps_versions=False)
A, B, C = (letter * 32 for letter in "abc")


def item(etag, at, *, size_bytes=10):
    return Version(f"v{at}", False, size_bytes, etag, at)


def marker(at):
    return Version(f"v{at}", True, None, None, at)


def opaque(name, at):
    return item(f"{name}-2", at)


def look(source, copies, *, named=(), agreed_etags=frozenset()):
    return Look(source, copies, [source[place] for place in named], agreed_etags=agreed_etags)


def learn(looked, s, c, edge):
    looked.source[s].compared[looked.copies[c]] = Compared(edge)


def view(source, copies, *, unknown=(), named=(), blocked=(), unreadable=()):
    """All that the listings leave open has been compared: `unknown` pairs and likely ones, others differ."""
    looked = look(source, copies, named=named)
    for s, version in enumerate(source):
        for c, copy in enumerate(copies):
            if looked.edge(version, copy) is Edge.UNASKED:
                is_same = is_likely(version, copy)
                learn(looked, s, c, Edge.UNKNOWN if (s, c) in unknown else Edge.SAME if is_same else Edge.NO)
    for version in (*(source[place] for place in blocked), *(copies[place] for place in unreadable)):
        version.blocked = End(Status.BLOCKED, Reason.ARCHIVED)
    return looked


def first(source, copies, rules=ALL, **known):
    step = next_step(view(source, copies, **known), rules)
    return (step.act, step.version.place) if step.version else (step.act, step.top)


def asked(looked, rules=ALL):
    """The pairs that are to be compared, by their places."""
    step = next_step(looked, rules)
    assert step.act is Act.ASK
    return [(version.place, copy.place) for version, copy in step.ask]


SAME = (Act.DONE, End(Status.SAME))
UNVERIFIABLE = (Act.DONE, End(Status.UNKNOWN, Reason.NOTHING_COMPARABLE))
ARCHIVED = (Act.DONE, End(Status.BLOCKED, Reason.ARCHIVED))
NEWER = (Act.DONE, End(Status.CHANGED, Reason.DESTINATION_NEWER))


def append(place):
    return Act.APPEND, place


def test_a_late_older_copy_is_no_reason_to_copy_in_order_again():
    source, copies = [item(A, 1), item(B, 2), item(C, 3)], [item(B, 4), item(C, 5), item(A, 6), item(C, 7)]
    assert first(source, copies) == SAME


def test_a_version_between_two_of_the_same_bytes_is_wanted():
    assert first([item(A, 1), item(B, 2), item(A, 3)], [item(A, 3)]) == append(1)


def test_a_copy_is_of_one_version_only():
    assert first([item(A, 1), item(A, 2)], [item(A, 3)]) == append(1)


def test_an_unprovable_copy_counts_once():
    assert first([opaque("x", 1)], [opaque("y", 2)], unknown={(0, 0)}) == UNVERIFIABLE


def test_an_unprovable_copy_is_not_older_than_its_version():
    assert first([opaque("x", 5)], [opaque("y", 2)]) == append(0)


def test_the_newest_readable_version_belongs_on_top():
    source = [item(A, 1), item(B, 2)]
    assert first(source, [item(C, 0)], CURRENT, blocked={1}) == append(0)


def test_nothing_covers_a_version_that_cannot_be_put_back():
    looked = view([item(A, 1), item(B, 2)], [item(B, 3)], blocked={1}, unreadable={0}, named={0})
    assert next_step(looked, ALL).ends == {looked.source[0]: End(Status.BLOCKED, Reason.NEWEST_ARCHIVED)}


def test_an_unprovable_copy_is_not_put_on_top_again():
    assert first([opaque("x", 1)], [opaque("y", 2), marker(3)], unknown={(0, 0)}, blocked={0}) == ARCHIVED


def test_a_proven_copy_is_put_on_top_again():
    looked = view([item(A, 1)], [item(A, 2), marker(3)], blocked={0})
    assert asked(looked) == [(0, 0)]  # an ETag does not show the metadata
    learn(looked, 0, 0, Edge.SAME)
    assert next_step(looked, ALL)[:2] == (Act.AGAIN, looked.copies[0])


def test_a_source_overwritten_in_the_second_of_its_copy_is_copied():
    assert first([item(B, 3)], [item(A, 3)], CURRENT) == append(0)


def test_an_oldest_copy_that_expired_is_not_made_again():
    assert first([item(A, 1), item(B, 2), item(C, 3)], [item(B, 4), item(C, 5)]) == SAME


def test_a_named_version_is_wanted_below_the_floor():
    assert first([item(A, 1), item(B, 2)], [item(B, 4)], named={0}) == append(0)


def test_an_older_copy_is_replaced_whatever_its_date():
    looked = view([item(A, 1), item(B, 2)], [item(A, 9)])
    assert asked(looked, NOT_KEPT) == [(0, 0)]
    learn(looked, 0, 0, Edge.SAME)
    assert next_step(looked, NOT_KEPT)[:2] == (Act.APPEND, looked.source[1])
    learn(looked, 0, 0, Edge.NO)
    assert next_step(looked, NOT_KEPT).top == End(Status.CHANGED, Reason.DESTINATION_NEWER)


def test_an_unprovable_older_copy_is_not_overwritten_where_nothing_is_kept():
    source = [opaque("x", 1), item(B, 2)]
    looked = view(source, [item(C, 9)], unknown={(0, 0)}, blocked={0})
    assert next_step(looked, NOT_KEPT).top == End(Status.CHANGED, Reason.DESTINATION_NEWER)


def test_an_agreed_etag_proves_nothing():
    looked = look([item(A, 1)], [item(A, 2)], agreed_etags={A})
    assert looked.edge(looked.source[0], looked.copies[0]) is Edge.UNASKED


def test_versions_that_nothing_resembles_are_appended_in_one_go():
    source = [item(A, 1), item(B, 2), marker(3), item(C, 4)]
    for rules, then in ((ALL, [1, 3]), (MIRROR, [1])):
        step = next_step(view(source, [], named={0, 1}), rules)
        assert (step.version, [*step.then]) == (source[0], [source[place] for place in then])


def test_an_unprovable_copy_of_two_versions_puts_both_in_doubt():
    looked = view([opaque("x", 1), opaque("y", 2)], [opaque("z", 3)], unknown={(0, 0), (1, 0)}, named={0, 1})
    assert first(looked.source, looked.copies, unknown={(0, 0), (1, 0)}) == append(1)
    older, newer = looked.source
    assert rivals(looked, newer) == {older}
    made = opaque("y'", 4)
    made.owner, older.is_doubted = newer, True
    looked.add_copy(made)
    assert next_step(looked, ALL)[:2] == (Act.APPEND, older)


# What is asked


def test_the_top_is_asked_for_where_no_etag_tells():
    assert asked(look([opaque("x", 1)], [opaque("y", 2)]), CURRENT) == [(0, 0)]


def test_an_unnamed_version_with_an_open_edge_counts_as_copied():
    looked = look([opaque("x", 1), opaque("y", 2), item(C, 3)], [opaque("z", 4), item(C, 5)])
    assert next_step(looked, ALL).top == End(Status.SAME)


def test_named_versions_are_asked_for_in_one_step():
    looked = look([opaque("x", 1), opaque("y", 2)], [opaque("z", 3), opaque("w", 4)], named=(0, 1))
    assert asked(looked) == [(1, 1), (0, 0)]


def test_a_new_version_asks_for_nothing():
    source = [opaque(str(at), at) for at in range(100)]
    copies = [opaque(f"c{at}", at + 0.5) for at in range(99)]
    assert next_step(look(source, copies, named={99}), ALL)[:2] == (Act.APPEND, source[99])


@pytest.mark.parametrize("form", ["opaque", "md5", "one"])
def test_a_look_of_thousands_of_versions_of_one_size_is_quick(form):
    def etag(side, at):
        return {"opaque": f"{side}{at}-2", "md5": f"{at:032x}", "one": A}[form]

    source = [item(etag("s", at), at) for at in range(3000)]
    looked = look(source, [item(etag("d", at), 10_000 + at) for at in range(3000)], named={2999})
    began = time.process_time()
    found = align(looked)
    next_step(looked, ALL)
    assert [(version.place, copy.place) for version, copy in found.items()] == [(at, at) for at in range(3000)]
    assert time.process_time() - began < 0.4
