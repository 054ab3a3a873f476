"""Many schedules: played one after the other or in processes, counted, and a violation made as short as it gets."""

from __future__ import annotations

import contextlib
import gc
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from tests.simulation.play import Play, play
from tests.simulation.schedule import Schedule, make_schedule, smaller

CHUNK = 100


@dataclass(slots=True)
class Tally:
    """What some schedules came to. `violations`: seed, promise, what."""

    schedules: int = 0
    full: int = 0
    requests: int = 0
    cpu_seconds: float = 0.0
    verbs: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    limits: Counter[str] = field(default_factory=Counter)
    violations: list[tuple[int, str, str]] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add another one's counts."""
        for name in ("schedules", "full", "requests", "cpu_seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("verbs", "faults", "outcomes", "answers", "limits"):
            getattr(self, name).update(getattr(other, name))
        self.violations += other.violations


def run_seeds(seeds: Iterable[int]) -> Tally:
    """Play the schedules of some seeds."""
    tally, began = Tally(), time.process_time()
    gc.disable()  # what a schedule leaves is collected once, when it is over: among what is new there is nothing else
    for seed in seeds:
        played = play(make_schedule(seed))
        oracle, network = played.oracle, played.world.network
        tally.schedules += 1
        tally.full += played.schedule.is_full
        tally.requests += network.requests
        tally.verbs.update(act.verb.value for act in played.schedule.acts)
        tally.verbs["events"] += played.schedule.has_events
        tally.faults.update({kind.value: count for kind, count in network.fired.items()})
        tally.outcomes.update(oracle.seen)
        tally.answers.update(network.answers)
        tally.limits.update(oracle.limits)
        tally.violations += [(seed, *each) for each in oracle.violations[:1]]
        del played, oracle, network
        gc.collect(0)
    gc.enable()
    gc.collect()
    tally.cpu_seconds = time.process_time() - began
    return tally


def run_campaign(
    first_seed: int, count: int, processes: int, hear: Callable[[Tally], None] = lambda part: None
) -> Tally:
    """Play `count` schedules in so many processes. `hear` is told of each part that is done."""
    total, seeds = Tally(), range(first_seed, first_seed + count)
    chunks = [seeds[start : start + CHUNK] for start in range(0, count, CHUNK)]
    with ProcessPoolExecutor(processes) if processes > 1 else contextlib.nullcontext() as pool:
        for part in pool.map(run_seeds, chunks) if pool else map(run_seeds, chunks):
            total.add(part)
            hear(part)
    return total


def shrink(schedule: Schedule, promise: str, play: Callable[[Schedule], Play] = play) -> Schedule:
    """A schedule with fewer faults, objects and acts, and the simplest settings found that breaks the same promise."""

    def breaks(candidate: Schedule) -> bool:
        return any(each == promise for each, _ in play(candidate).oracle.violations)

    while (simpler := next(filter(breaks, smaller(schedule)), None)) is not None:
        schedule = simpler
    return schedule
