"""Random worlds of events, through the functions' own entrances.

What must hold: when all events were delivered and the backlog was worked at, the source's newest
version is on top at the destination, or the journal or the backlog says that it is not. Nothing of
the destination is lost. `same` is said of what is equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.doubles.examples import examples
from tests.scheduler.event_world import World

keys = st.sampled_from(["k", "k", "a b+é"])
contents = st.sampled_from([b"", b"OK", b"NO", b"OK", b"more than ten", b"MORE THAN TEN"])
absences = st.sampled_from(
    [frozenset()] * 6
    + [frozenset({each}) for each in ("sequencer", "eTag", "size", "versionId", "eventTime")]
    + [frozenset({"eTag", "versionId"}), frozenset({"sequencer", "size", "eventTime", "eTag"})]
)
forms = st.sampled_from(["records", "records", "eventbridge"])
troubles = st.sampled_from(["killed before", "killed after", "unavailable", "throttled", "denied", "slow"])
steps = st.integers(0, 9)
pauses = st.sampled_from([0.0, 0.0, 0.3, 2.0])
handled = st.sampled_from(["later", "alone", "by two", "while it is overwritten", "while it is deleted"])
"""How the event of a new object is handled."""
moments = st.sampled_from([1, 2, 3, 3, 3, 4, 5, 6, 7])
"""The requests of an event. The third one copies a new key."""


class Events(RuleBasedStateMachine):
    """Writers, a queue, interrupted functions and runs."""

    @initialize(
        is_versioned=st.sampled_from([True, True, False]),
        deletes=st.sampled_from(["mirror", "retain"]),
        storage_class=st.sampled_from([None, None, "GLACIER_IR", "DEEP_ARCHIVE"]),
        default_checksum=st.sampled_from(["CRC64NVME", None]),
        is_opaque=st.sampled_from([False, False, False, True]),
        has_troubles=st.booleans(),
    )
    def begin(self, has_troubles: bool, **world: Any) -> None:
        self.world, self.has_troubles = World(**world), has_troubles

    @rule(
        key=keys, data=contents, absent=absences, form=forms,
        metadata=st.sampled_from([{}] * 4 + [{"m": "1"}]), tags=st.sampled_from([{}] * 4 + [{"t": "1"}]),
        storage_class=st.sampled_from([None] * 7 + ["GLACIER"]), handled=handled, requests=moments,
    )  # fmt: skip
    def put(
        self, key: str, data: bytes, absent: frozenset[str], form: str, handled: str, requests: int, **attributes: Any
    ) -> None:
        world = self.world
        world.put(key, data, absent, form, **attributes)
        message = world.pending[-1:]
        if handled == "later":
            return

        async def meddle() -> None:
            if handled == "by two":
                await world.deliver_beside(message)
            elif handled == "while it is overwritten":
                world.put(key, b"other", frozenset(), "records")
            else:  # another function is through with that before
                world.delete(key, frozenset(), "records")
                await world.deliver_beside(world.pending[-1:])

        is_alone = handled == "alone"
        world.troubles.meddle, world.troubles.requests_left = None if is_alone else meddle, requests
        world.deliver(message, is_disturbed=not is_alone)

    @rule(
        key=keys, data=contents, large=st.sampled_from([b"more than ten", b"MORE THAN TEN"]), seconds=pauses,
        has_twin=st.booleans(),
    )  # fmt: skip
    def put_late(self, key: str, data: bytes, large: bytes, seconds: float, has_twin: bool) -> None:
        """A version's event comes when a run has copied the next version, which is too large for a function.

        A twin has that one's size: an archived copy may be of either.
        """
        if has_twin:
            self._put(key, large.swapcase(), seconds)
            self.world.deliver(self.world.pending[-1:], is_disturbed=False)
        self._put(key, data, seconds)
        late = self.world.pending[-1:]
        self._put(key, large, seconds)
        self.world.deliver(self.world.pending[-1:], is_disturbed=False)
        self.world.work_backlog(is_disturbed=False)
        self.world.deliver(late, is_disturbed=False)

    @rule(key=keys, data=contents, other=contents, is_removed=st.booleans(), seconds=pauses)
    def put_again(self, key: str, data: bytes, other: bytes, is_removed: bool, seconds: float) -> None:
        """The same content comes again, above another one that may be gone by then."""
        for each in (data, other):
            self._put(key, each, seconds)
            self.world.deliver(self.world.pending[-1:], is_disturbed=False)
        if is_removed:
            self.world.remove(key, -1, frozenset(), "records")
        self._put(key, data, seconds)

    def _put(self, key: str, data: bytes, seconds: float) -> None:
        self.world.now += seconds
        self.world.put(key, data, frozenset(), "records")

    @rule(key=keys, absent=absences, form=forms)
    def delete(self, key: str, absent: frozenset[str], form: str) -> None:
        self.world.delete(key, absent, form)

    @rule(key=keys, place=steps, absent=absences, form=forms)
    def remove(self, key: str, place: int, absent: frozenset[str], form: str) -> None:
        self.world.remove(key, place, absent, form)

    @rule(key=keys, place=steps)
    def restore(self, key: str, place: int) -> None:
        self.world.restore(key, place)

    @rule(seconds=st.sampled_from([0.3, 1.0, 2.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.now += seconds

    @precondition(lambda self: self.world.pending)
    @rule(picks=st.lists(steps, min_size=1, max_size=3), repeats=st.lists(steps, max_size=2))
    def deliver(self, picks: list[int], repeats: list[int]) -> None:
        self.world.deliver(self._messages(picks, repeats), is_disturbed=False)

    @precondition(lambda self: self.has_troubles and self.world.pending)
    @rule(picks=st.lists(steps, min_size=1, max_size=3), trouble=troubles, requests=st.integers(1, 20))
    def deliver_in_trouble(self, picks: list[int], trouble: Any, requests: int) -> None:
        self.world.trouble(trouble, requests)
        self.world.deliver(self._messages(picks, []), is_disturbed=True)

    @precondition(lambda self: self.world.pending)
    @rule(
        picks=st.lists(steps, min_size=1, max_size=3), requests=st.integers(1, 14), key=st.none() | keys, data=contents,
        act=steps, is_handled=st.booleans(),
    )  # fmt: skip
    def deliver_while_others_write(
        self, picks: list[int], requests: int, key: str | None, data: bytes, act: int, is_handled: bool
    ) -> None:
        """Somebody writes or deletes: the first message's key (None), or any. Another function may handle that."""
        messages = self._messages(picks, [])
        wanted = messages[0].key if key is None else key

        async def meddle() -> None:
            known = len(self.world.pending)
            if act < 5:
                self.world.put(wanted, data, frozenset(), "records")
            elif act < 8:
                self.world.delete(wanted, frozenset(), "records")
            else:
                self.world.remove(wanted, act, frozenset(), "records")
            if is_handled and len(self.world.pending) > known:
                await self.world.deliver_beside(self.world.pending[known:])

        self.world.troubles.meddle, self.world.troubles.requests_left = meddle, requests
        self.world.deliver(messages, is_disturbed=True)

    @precondition(lambda self: self.world.pending)
    @rule(pick=steps, other=steps, requests=st.integers(1, 10))
    def deliver_side_by_side(self, pick: int, other: int, requests: int) -> None:
        """Two functions have a message each, perhaps the same. The second is done within one request of the first."""
        first, second = self._messages([pick], []), self._messages([other], [])
        self.world.troubles.meddle = lambda: self.world.deliver_beside(second)
        self.world.troubles.requests_left = requests
        self.world.deliver(first, is_disturbed=True)

    @rule(trouble=st.none() | troubles.filter(lambda each: each != "slow"), requests=st.integers(1, 30))
    def work_backlog(self, trouble: Any, requests: int) -> None:
        trouble = trouble if self.has_troubles else None
        self.world.trouble(trouble, requests)
        self.world.work_backlog(is_disturbed=trouble is not None)

    @rule()
    def drain(self) -> None:
        self.world.drain()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            try:
                self.world.drain()
            finally:
                self.world.close()

    def _messages(self, picks: list[int], repeats: list[int]) -> list[Any]:
        pending, done = self.world.pending, self.world.done
        chosen = [pending[each % len(pending)] for each in picks]
        chosen += [done[-1 - each % len(done)] for each in repeats if done]
        return list(dict.fromkeys(chosen))


def play(count: int, phases: Sequence[Phase] = tuple(Phase)) -> None:
    how = settings(
        max_examples=count,
        stateful_step_count=20,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=phases,
    )
    run_state_machine_as_test(Events, settings=how)


def test_the_newest_is_on_top_or_somebody_says_that_it_is_not() -> None:
    play(25)


def test_an_archived_newest_version_that_no_copy_can_be_told_to_be_of_is_handed_over() -> None:
    """Its own event was done with. A late older version was left on top, and nobody was told."""
    events = Events()
    events.begin(
        is_versioned=True, deletes="retain", storage_class="DEEP_ARCHIVE", default_checksum="CRC64NVME",
        is_opaque=True, has_troubles=False,
    )  # fmt: skip
    events.put_late("k", b"OK", b"MORE THAN TEN", 0.3, has_twin=True)
    events.teardown()


@pytest.mark.slow
@pytest.mark.hypothesis
def test_the_newest_is_on_top_or_somebody_says_that_it_is_not_at_length() -> None:
    play(examples(300))
