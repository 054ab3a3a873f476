"""Many schedules: played one after the other or in processes, counted, and a violation made as short as it gets."""

from __future__ import annotations

import gc
import itertools
import math
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from tests.simulation.bugs import BUGS, Bug
from tests.simulation.course import Course
from tests.simulation.event_course import EventCourse
from tests.simulation.event_schedule import EventSchedule, make_event_schedule
from tests.simulation.schedule import Schedule, make_schedule, without
from tests.simulation.tables import FAST, replaced

CHUNK = 250
EVENTS_EVERY = 4
T = TypeVar("T", Schedule, EventSchedule)


@dataclass(slots=True)
class Tally:
    """What some schedules came to. `violations`: seed, promise, what."""

    schedules: int = 0
    full: int = 0
    of_events: int = 0
    requests: int = 0
    steps: int = 0
    cpu_seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    branches: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    known_limits: Counter[str] = field(default_factory=Counter)
    violations: list[tuple[int, str, str]] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add another one's counts."""
        for name in ("schedules", "full", "of_events", "requests", "steps", "cpu_seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("faults", "branches", "answers", "known_limits"):
            getattr(self, name).update(getattr(other, name))
        self.violations += other.violations


def make(seed: int) -> Any:
    """The schedule of a seed: of commands, or (each fourth) of events."""
    return make_event_schedule(seed) if seed % EVENTS_EVERY == EVENTS_EVERY - 1 else make_schedule(seed)


def play(schedule: Schedule | EventSchedule) -> Course | EventCourse:
    """One schedule, played."""
    course = EventCourse(schedule) if isinstance(schedule, EventSchedule) else Course(schedule)
    course.play()
    return course


def run_seeds(seeds: Iterable[int]) -> Tally:
    """Play the schedules of some seeds."""
    tally, began = Tally(), time.process_time()
    for seed in seeds:
        course = play(make(seed))
        model, network = course.model, course.world.network
        tally.schedules += 1
        tally.of_events += isinstance(course, EventCourse)
        tally.full += isinstance(course, Course) and course.schedule.is_full
        tally.requests += network.requests
        tally.steps += course.world.loop.steps
        tally.faults.update({kind.value: count for kind, count in network.fired.items()})
        tally.branches.update(model.branches)
        tally.answers.update(network.answers)
        tally.known_limits.update(model.known_limits)
        tally.violations += [(seed, *each) for each in model.violations[:1]]
    gc.collect()
    tally.cpu_seconds = time.process_time() - began
    return tally


def run_campaign(first_seed: int, count: int | None, processes: int, seconds: float = math.inf) -> Tally:
    """Play `count` schedules in so many processes; no more are begun when the seconds are over, or one has failed."""
    total, ends_at = Tally(), time.monotonic() + seconds
    chunks = (first_seed + CHUNK * number for number in itertools.count())
    last = math.inf if count is None else first_seed + count

    def next_chunk() -> range | None:
        first = next(chunks)
        is_over = first >= last or time.monotonic() > ends_at or bool(total.violations)
        return None if is_over else range(first, int(min(first + CHUNK, last)))

    if processes == 1:
        while (chunk := next_chunk()) is not None:
            total.add(run_seeds(chunk))
        return total
    with ProcessPoolExecutor(processes) as pool:
        running: set[Future[Tally]] = set()
        while True:
            while len(running) < 2 * processes and (chunk := next_chunk()) is not None:
                running.add(pool.submit(run_seeds, chunk))
            if not running:
                return total
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for each in done:
                total.add(each.result())


def shrink(schedule: T, promise: str) -> T:
    """A schedule with fewer faults, objects and steps, and the shortest course found that breaks the same promise."""

    def breaks(candidate: T) -> bool:
        return any(each == promise for each, _ in play(candidate).model.violations)

    is_smaller = True
    while is_smaller:
        is_smaller = False
        for candidate in _smaller(schedule):
            if breaks(candidate):
                schedule, is_smaller = candidate, True
                break
    return schedule


def _smaller(schedule: Any) -> Iterable[Any]:
    for index in range(len(schedule.faults)):
        yield without(schedule, index)
    yield from _fewer_acts(schedule) if isinstance(schedule, EventSchedule) else _fewer_objects(schedule)
    if not schedule.is_in_order:
        yield replace(schedule, is_in_order=True)


def _fewer_objects(schedule: Schedule) -> Iterable[Schedule]:
    if len(schedule.steps) > 1:
        yield replace(schedule, steps=schedule.steps[:-1])
    if schedule.is_full:
        yield replace(schedule, is_full=False)
    for key in schedule.keys:
        source = tuple(put for put in schedule.source if put.key != key)
        if source:
            destination = tuple(put for put in schedule.destination if put.key != key)
            yield replace(schedule, source=source, destination=destination)
    if schedule.in_flight > 1:
        yield replace(schedule, in_flight=1)


def _fewer_acts(schedule: EventSchedule) -> Iterable[EventSchedule]:
    for index in range(len(schedule.acts)):
        if len(schedule.acts) > 1:
            yield replace(schedule, acts=schedule.acts[:index] + schedule.acts[index + 1 :])
    for plain in ({"source": ()}, {"pollers": 1}, {"batch_messages": 1}, {"lateness": 0.0}, {"doubles": 0.0}):
        smaller = replace(schedule, **plain)
        if smaller != schedule:
            yield smaller


def find_bug(bug: Bug, seeds: Iterable[int]) -> tuple[int, str, str] | None:
    """The first seed that shows the planted bug, the promise that it broke and how; None when none does."""
    patches = bug.plant()
    kept = [each for each in FAST if (each[0], each[1]) not in {(owner, name) for owner, name, _ in patches}]
    before, FAST[:] = list(FAST), kept
    try:
        with replaced(patches):
            for seed in seeds:
                violations = play(_sample(bug, seed)).model.violations
                if violations:
                    return (seed, *violations[0])
    finally:
        FAST[:] = before
    return None


def _sample(bug: Bug, seed: int) -> Schedule | EventSchedule:
    return make_event_schedule(seed) if bug.is_of_events else make_schedule(seed, is_full=False)


def find_named(name: str, seeds: Sequence[int] | None = None) -> tuple[str, tuple[int, str, str] | None]:
    """`find_bug` by the bug's name."""
    bug = next(each for each in BUGS if each.name == name)
    return name, find_bug(bug, seeds or range(1, bug.seeds + 1))
