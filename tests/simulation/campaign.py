"""Many schedules: played one after the other or in processes, counted, and a violation made as short as it gets."""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace

from tests.simulation.bugs import BUGS, Bug
from tests.simulation.course import Course
from tests.simulation.schedule import Schedule, make_schedule, without
from tests.simulation.tables import FAST, replaced

CHUNK = 250


@dataclass(slots=True)
class Tally:
    """What some schedules came to. `violations`: seed, promise, what."""

    schedules: int = 0
    full: int = 0
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
        for name in ("schedules", "full", "requests", "steps", "cpu_seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("faults", "branches", "answers", "known_limits"):
            getattr(self, name).update(getattr(other, name))
        self.violations += other.violations


def run_seeds(seeds: Iterable[int]) -> Tally:
    """Play the schedules of some seeds."""
    tally, began = Tally(), time.process_time()
    for seed in seeds:
        schedule = make_schedule(seed)
        course = Course(schedule)
        model = course.play()
        tally.schedules += 1
        tally.full += schedule.is_full
        tally.requests += course.world.requests
        tally.steps += course.world.loop.steps
        tally.faults.update({kind.value: count for kind, count in course.world.fired.items()})
        tally.branches.update(model.branches)
        tally.answers.update(course.world.answers)
        tally.known_limits.update(model.known_limits)
        tally.violations += [(seed, *each) for each in model.violations[:1]]
    gc.collect()
    tally.cpu_seconds = time.process_time() - began
    return tally


def run_campaign(first_seed: int, count: int, processes: int) -> Tally:
    """Play `count` schedules in so many processes."""
    chunks = [range(at, min(at + CHUNK, first_seed + count)) for at in range(first_seed, first_seed + count, CHUNK)]
    total = Tally()
    if processes == 1:
        for chunk in chunks:
            total.add(run_seeds(chunk))
        return total
    with ProcessPoolExecutor(processes) as pool:
        for tally in pool.map(run_seeds, chunks):
            total.add(tally)
    return total


def play(schedule: Schedule) -> Course:
    """One schedule, played."""
    course = Course(schedule)
    course.play()
    return course


def shrink(schedule: Schedule, promise: str) -> Schedule:
    """A schedule with fewer faults, objects and steps, and the shortest course found that breaks the same promise."""

    def breaks(candidate: Schedule) -> bool:
        return any(each == promise for each, _ in play(candidate).model.violations)

    is_smaller = True
    while is_smaller:
        is_smaller = False
        for candidate in _smaller(schedule):
            if breaks(candidate):
                schedule, is_smaller = candidate, True
                break
    return schedule


def _smaller(schedule: Schedule) -> Iterable[Schedule]:
    if len(schedule.steps) > 1:
        yield replace(schedule, steps=schedule.steps[:-1])
    if schedule.is_full:
        yield replace(schedule, is_full=False)
    for index in range(len(schedule.faults)):
        yield without(schedule, index)
    for key in sorted({put.key for put in schedule.source}):
        source = tuple(put for put in schedule.source if put.key != key)
        if source:
            destination = tuple(put for put in schedule.destination if put.key != key)
            yield replace(schedule, source=source, destination=destination)
    if not schedule.is_in_order:
        yield replace(schedule, is_in_order=True)
    if schedule.in_flight > 1:
        yield replace(schedule, in_flight=1)


def find_bug(bug: Bug, seeds: Iterable[int]) -> tuple[int, str, str] | None:
    """The first seed that shows the planted bug, the promise that it broke and how; None when none does."""
    patches = bug.plant()
    kept = [each for each in FAST if (each[0], each[1]) not in {(owner, name) for owner, name, _ in patches}]
    before, FAST[:] = list(FAST), kept
    try:
        with replaced(patches):
            for seed in seeds:
                violations = play(make_schedule(seed, is_full=False)).model.violations
                if violations:
                    return (seed, *violations[0])
    finally:
        FAST[:] = before
    return None


def find_named(name: str, seeds: Sequence[int] | None = None) -> tuple[str, tuple[int, str, str] | None]:
    """`find_bug` by the bug's name."""
    bug = next(each for each in BUGS if each.name == name)
    return name, find_bug(bug, seeds or range(1, bug.seeds + 1))
