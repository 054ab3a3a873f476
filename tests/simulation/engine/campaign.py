"""Many schedules: played one after the other or in processes, counted, and a violation made as short as it gets."""

from __future__ import annotations

import gc
import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from tests.simulation.bugs import BUGS, Bug
from tests.simulation.copies.schedule import without
from tests.simulation.copies.tables import FAST, replaced
from tests.simulation.engine.courses import COURSES, make, name_of

CHUNK = 250
T = TypeVar("T")


@dataclass(slots=True)
class Tally:
    """What some schedules came to. `violations`: seed, promise, what."""

    schedules: int = 0
    full: int = 0
    requests: int = 0
    steps: int = 0
    cpu_seconds: float = 0.0
    courses: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    branches: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    known_limits: Counter[str] = field(default_factory=Counter)
    violations: list[tuple[int, str, str]] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add another one's counts."""
        for name in ("schedules", "full", "requests", "steps", "cpu_seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("courses", "faults", "branches", "answers", "known_limits"):
            getattr(self, name).update(getattr(other, name))
        self.violations += other.violations


def play(schedule: Any) -> Any:
    """One schedule, played: its course."""
    course = COURSES[name_of(schedule)].course(schedule)
    course.play()
    return course


def run_seeds(seeds: Iterable[int]) -> Tally:
    """Play the schedules of some seeds."""
    tally, began = Tally(), time.process_time()
    gc.disable()  # what a schedule leaves is collected once, when it is over: among what is new there is nothing else
    for seed in seeds:
        schedule = make(seed)
        course = play(schedule)
        model, network = course.model, course.world.network
        tally.schedules += 1
        tally.courses[name_of(schedule)] += 1
        tally.full += getattr(schedule, "is_full", False)
        tally.requests += network.requests
        tally.steps += course.world.loop.steps
        tally.faults.update({kind.value: count for kind, count in network.fired.items()})
        tally.branches.update(model.branches)
        tally.answers.update(network.answers)
        tally.known_limits.update(model.known_limits)
        tally.violations += [(seed, *each) for each in model.violations[:1]]
        del course, model, network
        gc.collect(0)
    gc.enable()
    gc.collect()
    tally.cpu_seconds = time.process_time() - began
    return tally


def run_campaign(
    first_seed: int,
    count: int | None,
    processes: int,
    seconds: float = math.inf,
    *,
    keeps_going: bool = False,
    hear: Callable[[Tally, Tally], None] = lambda total, part: None,
) -> Tally:
    """Play `count` schedules in so many processes; no more are begun when the seconds are over, or one has failed,
    unless it `keeps_going`. `hear(total, part)` is told of each part that is done.
    """
    total, ends_at = Tally(), time.monotonic() + seconds
    chunks = (first_seed + CHUNK * number for number in itertools.count())
    last = math.inf if count is None else first_seed + count

    def add(part: Tally) -> None:
        total.add(part)
        hear(total, part)

    def next_chunk() -> range | None:
        first = next(chunks)
        is_over = first >= last or time.monotonic() > ends_at or (bool(total.violations) and not keeps_going)
        return None if is_over else range(first, int(min(first + CHUNK, last)))

    if processes == 1:
        while (chunk := next_chunk()) is not None:
            add(run_seeds(chunk))
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
                add(each.result())


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
    yield from COURSES[name_of(schedule)].smaller(schedule)
    if not schedule.is_in_order:
        yield replace(schedule, is_in_order=True)


def find_bug(bug: Bug, seeds: Iterable[int]) -> tuple[int, str] | None:
    """The first seed that shows the planted bug by the promise that it breaks, and how. None when no seed does."""
    patches = bug.plant()
    kept = [each for each in FAST if (each[0], each[1]) not in {(owner, name) for owner, name, _ in patches}]
    before, FAST[:] = list(FAST), kept
    try:
        with replaced(patches):
            for seed in seeds:
                violations = play(COURSES[bug.course].make(seed)).model.violations
                how = next((what for promise, what in violations if promise == bug.breaks), None)
                if how is not None:
                    return seed, how
    finally:
        FAST[:] = before
    return None


def find_named(name: str) -> tuple[str, tuple[int, str] | None]:
    """`find_bug` by the bug's name, from the first seed on."""
    bug = next(each for each in BUGS if each.name == name)
    return name, find_bug(bug, range(1, bug.seeds + 1))
