"""`python -m tests.simulation`: play schedules, or one of them, or plant bugs and see them found."""

from __future__ import annotations

import argparse
import gc
import math
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from jobs.cli import leave
from tests.simulation.bugs import BUGS
from tests.simulation.bugs.bug import note_seeds
from tests.simulation.engine.campaign import Tally, find_named, play, run_campaign, shrink
from tests.simulation.engine.courses import make

PROGRESS_SECONDS = 60.0
EXPLAINED = 3
"""Of so many violations the shortest trace is looked for, which takes a while."""


def main() -> int:
    """0 when no promise was broken and every planted bug was found, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, metavar="N", help="how many schedules (default 1,000)")
    parser.add_argument("--seconds", type=float, metavar="T", help="instead: as many as begin within this time")
    parser.add_argument("--first", type=int, metavar="S", help="the first seed (default 1; with --seconds the time)")
    parser.add_argument("--seed", type=int, metavar="S", help="one schedule alone: print its trace")
    parser.add_argument("--processes", type=int, default=2, help="processes to play them in (default 2)")
    parser.add_argument("--branches", action="store_true", help="list every outcome, with its reason, that was seen")
    parser.add_argument("--keep-going", action="store_true", help="play all of them, whatever is violated on the way")
    parser.add_argument(
        "--bugs", nargs="*", metavar="NAME", help="plant each bug, or these, and say which seed found it"
    )
    given = parser.parse_args()
    gc.freeze()  # what was imported stays: no collection, here or in a forked process, looks at it again
    if given.seed is not None:
        return show(given.seed)
    if given.bugs is not None:
        return show_bugs(given.bugs or [bug.name for bug in BUGS], given.processes)
    began, first, seeds, seconds = time.monotonic(), given.first or 1, given.seeds or 1_000, math.inf
    if given.seconds is not None:  # other seeds each time, so that the nights add up
        first, seeds, seconds = given.first or int(time.time()) * 100, given.seeds, given.seconds
    print(f"seeds from {first}", flush=True)
    tally = run_campaign(first, seeds, given.processes, seconds, keeps_going=given.keep_going, hear=Progress())
    print(summary(tally, time.monotonic() - began, is_long=given.branches))
    for seed, promise, what in tally.violations[:EXPLAINED]:
        explain(seed, promise, what)
    return 1 if tally.violations else 0


class Progress:
    """Says what is violated when it is, and now and then how far a campaign is."""

    def __init__(self) -> None:
        self._began = self._said = time.monotonic()

    def __call__(self, total: Tally, part: Tally) -> None:
        for seed, promise, what in part.violations:
            print(f"VIOLATED by seed {seed}: {promise}: {what}", flush=True)
        now = time.monotonic()
        if now - self._said >= PROGRESS_SECONDS:
            self._said = now
            speed = total.schedules / (now - self._began)
            print(
                f"{total.schedules:,} schedules, {speed:.0f} a second, {len(total.violations)} violations", flush=True
            )


def show(seed: int) -> int:
    """Print the trace of one schedule."""
    course = play(make(seed))
    sys.stdout.write(course.world.trace_text())
    for promise, what in course.model.violations:
        print(f"VIOLATED: {promise}: {what}")
    return 1 if course.model.violations else 0


def explain(seed: int, promise: str, what: str) -> None:
    """Print the shortest trace found that breaks the promise as the seed does."""
    print(f"\nVIOLATED by seed {seed}: {promise}: {what}")
    small = shrink(make(seed), promise)
    course = play(small)
    print(f"shortest schedule found ({course.world.network.requests} requests): {small}")
    print(course.world.trace_text())


def summary(tally: Tally, seconds: float, *, is_long: bool) -> str:
    """The figures of a campaign."""
    speed, by_cpu = tally.schedules / seconds, tally.schedules / tally.cpu_seconds
    worlds = Counter({name: count for name, count in tally.branches.items() if name.startswith("world ")})
    outcomes = tally.branches - worlds
    lines = [
        f"{tally.schedules:,} schedules in {seconds:.1f} s: {speed:.0f} a second "
        f"({by_cpu:.0f} a second of CPU, {tally.cpu_seconds:.1f} s of CPU in all)",
        f"{tally.full:,} of them ({tally.full / tally.schedules:.2%}) with the real DuckDB planner and fold, Parquet "
        "and the page, each held equal to the pure stand-ins",
        "courses: " + ", ".join(f"{count:,} of {name}" for name, count in sorted(tally.courses.items())),
        f"{tally.requests:,} requests, {tally.steps:,} steps, {len(outcomes):,} kinds of outcome, "
        f"{len(tally.answers):,} kinds of answer",
        f"violations: {len(tally.violations)}",
        "faults:",
        *_counts(tally.faults),
        "accepted limits that showed:",
        *_counts(tally.known_limits),
        "worlds of last copies, and what came of them:",
        *(f"  {count:>9,}  {name}" for name, count in sorted(worlds.items())),
    ]
    if is_long:
        lines += ["outcomes:", *_counts(outcomes), "answers:", *_counts(tally.answers)]
    return "\n".join(lines)


def _counts(counts: Counter[str]) -> list[str]:
    return [f"  {count:>9,}  {name}" for name, count in counts.most_common()]


def show_bugs(names: list[str], processes: int) -> int:
    """The table of planted bugs: bound, seed that found it, promise. The seeds are noted for the tests."""
    known = {bug.name: bug for bug in BUGS if bug.name in names}
    seeds: dict[str, int] = {}
    print(f"{'bug':28} {'within':>7} {'found':>7}  broken promise")
    with ProcessPoolExecutor(processes) as pool:
        for name, found in pool.map(find_named, known):
            seeds |= {name: found[0]} if found else {}
            seed = seeds.get(name, "NEVER")
            print(f"{name:28} {known[name].seeds:>7,} {seed:>7}  {known[name].breaks}", flush=True)
    note_seeds(seeds)
    print(f"{len(seeds)} of {len(known)} planted bugs found")
    return 0 if len(seeds) == len(known) else 1


if __name__ == "__main__":
    leave(main())
