"""Random histories of both sides, writers, kills between any two requests, late and doubled events."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.doubles.examples import examples
from tests.sync.key_world import KeyWorld, Moment, run

bodies = st.sampled_from([b"aaa", b"bbb", b"ccc", b"longer"])
metadata = st.sampled_from([{}, {}, {"colour": "red"}])
places = st.integers(0, 5)
moments = st.integers(1, 12)
others = st.sampled_from(["put", "put same", "mark", "remove", "foreign", "foreign mark", "second"])


class Keys(RuleBasedStateMachine):
    @initialize(
        is_versioned=st.sampled_from([True, True, False]),
        keeps_versions=st.sampled_from([True, True, True, False]),
        all_versions=st.booleans(),
        mirrors_deletes=st.booleans(),
        overwrite=st.sampled_from(["older", "older", "always", "never"]),
        storage_class=st.sampled_from(["keep", "STANDARD"]),
        default_checksum=st.sampled_from(["CRC64NVME", None]),
        is_opaque=st.sampled_from([False, False, True]),
        step_seconds=st.sampled_from([10.0, 0.2]),
        parts=st.sampled_from([0, 0, 4]),
    )
    def begin(self, all_versions: bool, keeps_versions: bool, parts: int, **world: Any) -> None:
        names = ("mirrors_deletes", "overwrite", "storage_class")
        options = {name: world.pop(name) for name in names} | {"all_versions": all_versions and keeps_versions}
        if parts:
            options["multipart_threshold_bytes"] = parts
        self.world = KeyWorld(options, keeps_versions=keeps_versions, **world)

    @rule(body=bodies, metadata=metadata)
    def put(self, body: bytes, metadata: dict[str, str]) -> None:
        run(self.world.put(body, metadata))

    @rule()
    def mark(self) -> None:
        run(self.world.mark())

    @rule(place=places)
    def remove(self, place: int) -> None:
        run(self.world.remove(place))

    @rule(body=bodies)
    def put_foreign(self, body: bytes) -> None:
        run(self.world.put_foreign(body))

    @rule()
    def mark_foreign(self) -> None:
        run(self.world.mark_foreign())

    @precondition(lambda self: self.world.pending)
    @rule(pick=places)
    def deliver(self, pick: int) -> None:
        run(self.world.deliver(pick))

    @precondition(lambda self: self.world.done)
    @rule(pick=places)
    def deliver_again(self, pick: int) -> None:
        event = self.world.done[pick % len(self.world.done)]
        run(self.world.handle([event] if event is not None else []))

    @precondition(lambda self: self.world.pending)
    @rule(pick=places, left=moments, is_after=st.booleans())
    def deliver_and_die(self, pick: int, left: int, is_after: bool) -> None:
        run(self.world.deliver(pick, Moment(left, is_after=is_after, kills=True)))

    @precondition(lambda self: self.world.pending)
    @rule(pick=places, left=moments, what=others, body=bodies, place=places)
    def deliver_beside(self, pick: int, left: int, what: str, body: bytes, place: int) -> None:
        world = self.world

        async def act() -> None:
            if what.startswith("put"):
                await world.put(world.source[-1].data if "same" in what and world.source else body, {})
            elif what == "mark":
                await world.mark()
            elif what == "remove":
                await world.remove(place)
            elif what == "foreign":
                await world.put_foreign(body)
            elif what == "foreign mark":
                await world.mark_foreign()
            else:
                other = world.pending[place % len(world.pending)]
                await world.handle([other] if other is not None else [])

        run(world.deliver(pick, Moment(left, act)))

    def teardown(self) -> None:
        if hasattr(self, "world"):
            run(self.world.check())


alike = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from([b"aaa", b"bbb"]), metadata),
        st.tuples(st.just("put"), st.sampled_from([b"aaa", b"bbb"]), metadata),
        st.tuples(st.just("deliver"), places),
        st.tuples(st.just("deliver_again"), places),
    ),
    min_size=12,
    max_size=24,
)


async def play_alike(world: KeyWorld, acts: list[tuple[Any, ...]]) -> None:
    for name, *arguments in acts:
        if name == "put":
            await world.put(*arguments)
        elif name == "deliver" and world.pending:
            await world.deliver(*arguments)
        elif name == "deliver_again" and world.done:
            event = world.done[arguments[0] % len(world.done)]
            await world.handle([event] if event is not None else [])
    await world.check(are_alike=True)


@settings(max_examples=examples(25), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    acts=alike,
    mirrors_deletes=st.booleans(),
    storage_class=st.sampled_from(["keep", "STANDARD"]),
    default_checksum=st.sampled_from(["CRC64NVME", None]),
    is_opaque=st.booleans(),
    step_seconds=st.sampled_from([10.0, 0.2]),
)
def test_many_versions_that_are_alike_come_to_rest(
    acts: list[tuple[Any, ...]], mirrors_deletes: bool, storage_class: str, **world: Any
) -> None:
    """More than the comparisons of an event tell apart."""
    options = {"all_versions": True, "mirrors_deletes": mirrors_deletes, "storage_class": storage_class}
    key = KeyWorld(options | {"overwrite": "older"}, is_versioned=True, keeps_versions=True, **world)
    run(play_alike(key, acts))


def play(count: int) -> None:
    how = settings(max_examples=count, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Keys, settings=how)


def test_any_history_ends_as_its_source_or_with_a_code() -> None:
    play(examples(60))


@pytest.mark.slow
@pytest.mark.hypothesis
def test_any_history_ends_as_its_source_or_with_a_code_at_length() -> None:
    play(examples(10_000))
