"""Random histories, rolled back and taken back, with writers, lost answers and kills between any two requests."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.core.model import Attributes, ObjectLock, ObjectVersion
from jobs.core.outcome import Status
from tests.doubles.examples import examples
from tests.doubles.memory_buckets import Version
from tests.rollback.scene import CONTENT, KEYS, World, back, state

ATTRIBUTES = st.builds(
    Attributes,
    metadata=st.sampled_from([{}, {"who": "me"}]),
    tags=st.sampled_from([{}, {"class": "scan"}]),
    storage_class=st.sampled_from([None, None, "STANDARD_IA", "GLACIER"]),
    sse=st.sampled_from([None, "aws:kms"]),
    lock=st.sampled_from([None, None, ObjectLock(legal_hold=True)]),
)
WRITES = st.lists(
    st.tuples(
        st.sampled_from(KEYS),
        st.sampled_from([b"one", b"two", b"three", None, None]),
        ATTRIBUTES,
        st.sampled_from([0.0, 0.0, 1.0, 2.0]),
        st.sampled_from([False] * 9 + [True]),
    ),
    min_size=1,
    max_size=9,
)
HARM = ["killed before", "killed after", "lost", "busy"]
OTHERS = ["others", "others delete", "others the same"]
FAULTS = st.dictionaries(st.integers(1, 40), st.sampled_from(HARM), max_size=4)
ALL_FAULTS = st.dictionaries(st.integers(1, 40), st.sampled_from(HARM + OTHERS), max_size=4)


def begin(
    writes: list[Any], faults: dict[int, str], *, denies_markers: bool = False
) -> tuple[World, dict[str, list[Version]]]:
    world = World(faults, denies_markers=denies_markers)

    async def fill() -> None:
        for key, data, attributes, seconds, is_null in writes:
            await world.write(key, data, attributes, is_null=is_null)
            world.time += seconds

    asyncio.run(fill())
    world.time += 1
    return world, world.versions()


def check_nothing_is_gone(world: World, first: dict[str, list[Version]], removable: set[str]) -> None:
    """All that was there before, or came from others, is there. `removable`: delete markers that the plan names."""
    there = {(key, each.version_id): state(each) for key, versions in world.versions().items() for each in versions}
    for key, versions in first.items():
        for was in versions:
            if was.version_id not in removable:
                assert there.get((key, was.version_id)) == state(was), "what was there is gone or changed"
    contents = set(there.values())
    for version_id, written in world.others.items():
        if not any(version_id == each for _, each in there):
            assert world.may_be_taken, "others' write is gone"
            assert written[0] or written in contents, "the only copy of others' bytes is gone"


def check_order(world: World, first: dict[str, list[Version]], rows: Sequence[ObjectVersion]) -> None:
    """What the worker has put on top lies directly above what was planned there, or the same bytes: S3's condition
    knows only these.
    """
    before = {each.version_id for versions in first.values() for each in versions}
    for row in rows:
        versions = world.versions()[row.key]
        for below, each in itertools.pairwise(versions):
            if each.version_id not in before and each.version_id not in world.others:
                planned = row.beside.top_id, row.beside.top_etag is None  # type: ignore[attr-defined]
                is_planned = below.version_id == planned[0] or below.etag == row.beside.top_etag  # type: ignore[attr-defined]
                assert is_planned or (planned[1] and below.is_delete_marker), "a newer write is covered"


def at_that_time(versions: list[Version], at: float) -> tuple[Any, ...] | None:
    before = [each for each in versions if each.last_modified <= at]
    return None if not before or before[-1].is_delete_marker else state(before[-1])


@settings(max_examples=examples(300), deadline=None)
@given(writes=WRITES, back_seconds=st.integers(0, 12), faults=FAULTS, undo_faults=FAULTS, denies_markers=st.booleans())
def test_a_rollback_gives_the_state_of_then_and_its_undo_the_first_one_version_by_version(
    writes: list[Any], back_seconds: int, faults: dict[int, str], undo_faults: dict[int, str], denies_markers: bool
) -> None:
    world, first = begin(writes, faults, denies_markers=denies_markers)
    at = world.time - back_seconds
    rows = asyncio.run(world.plan(at))
    outcomes = world.work("run", rows)
    removed = {each.destination_version_id or "" for each in outcomes if each.detail == "removed"}
    check_nothing_is_gone(world, first, removed)
    check_order(world, first, rows)
    changed = {each.key: each for each in outcomes}
    for key, versions in world.versions().items():
        outcome = changed.get(key)
        if versions and (outcome is None or outcome.status in (Status.DONE, Status.SAME)):
            now = None if versions[-1].is_delete_marker else state(versions[-1])
            of_then = at_that_time(first[key], at)
            if outcome is not None and outcome.status is Status.SAME and now and of_then:
                now, of_then = now[:CONTENT], of_then[:CONTENT]  # it has the class and encryption of a later write
            assert now == of_then
    assert {each.status for each in outcomes} <= {Status.DONE, Status.SAME, Status.BLOCKED}, outcomes

    world.faults = {}
    again = world.work("again", asyncio.run(world.plan(at)))
    assert {each.status for each in again} <= {Status.SAME, Status.BLOCKED}, "a second run finds nothing to do"
    world.faults, world.requests, world.denies_markers = undo_faults, 0, False
    undone = world.work("undo", back(outcomes), undo="run")
    assert {each.status for each in undone} <= {Status.DONE}, undone
    for key, versions in world.versions().items():
        assert len(versions) == len(first[key])
        for left, was in zip(versions, first[key], strict=True):
            assert state(left) == state(was)
            assert left.version_id == was.version_id or (was.version_id in removed and left.is_delete_marker)


@settings(max_examples=examples(300), deadline=None)
@given(writes=WRITES, back_seconds=st.integers(0, 12), faults=ALL_FAULTS, undo_faults=ALL_FAULTS)
def test_nothing_of_others_is_covered_or_removed_while_they_write(
    writes: list[Any], back_seconds: int, faults: dict[int, str], undo_faults: dict[int, str]
) -> None:
    world, first = begin(writes, faults)
    rows = asyncio.run(world.plan(world.time - back_seconds))
    outcomes = world.work("run", rows)
    removed = {each.destination_version_id or "" for each in outcomes if each.detail == "removed"}
    check_nothing_is_gone(world, first, removed)
    check_order(world, first, rows)
    world.faults, world.requests = undo_faults, 0
    world.work("undo", back(outcomes), undo="run")
    check_nothing_is_gone(world, first, removed)
    assert Counter(each.key for each in outcomes) == Counter(row.key for row in rows)
