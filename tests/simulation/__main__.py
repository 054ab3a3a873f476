"""`python -m tests.simulation`: play schedules, or one of them."""

from __future__ import annotations

import argparse
import gc
import math
import sys
import time
from collections import Counter

from tests.simulation.campaign import Tally, run_campaign, shrink
from tests.simulation.play import play
from tests.simulation.schedule import make_schedule

PROGRESS_SECONDS = 60.0
EXPLAINED = 3
"""Of so many violations the shortest trace is looked for, which takes a while."""


def main() -> int:
    """0 when no promise was broken, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, metavar="N", help="how many schedules (default 1,000)")
    parser.add_argument("--seconds", type=float, metavar="T", help="instead: as many as begin within this time")
    parser.add_argument("--first", type=int, metavar="S", help="the first seed (default 1; with --seconds the time)")
    parser.add_argument("--seed", type=int, metavar="S", help="one schedule alone: print its trace")
    parser.add_argument("--processes", type=int, default=2, help="processes to play them in (default 2)")
    parser.add_argument("--keep-going", action="store_true", help="play all of them, whatever is violated on the way")
    options = parser.parse_args()
    gc.freeze()  # what was imported stays: no collection, here or in a forked process, looks at it again
    if options.seed is not None:
        return show(options.seed)
    began, first, seeds, seconds = time.monotonic(), options.first or 1, options.seeds or 1_000, math.inf
    if options.seconds is not None:  # other seeds each time, so that the nights add up
        first, seeds, seconds = options.first or int(time.time()) * 100, options.seeds, options.seconds
    print(f"seeds from {first}", flush=True)
    tally = run_campaign(first, seeds, options.processes, seconds, keeps_going=options.keep_going, hear=Progress())
    print(summary(tally, time.monotonic() - began))
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
            self._said, speed = now, total.schedules / (now - self._began)
            print(
                f"{total.schedules:,} schedules, {speed:.0f} a second, {len(total.violations)} violations", flush=True
            )


def show(seed: int) -> int:
    """Print the trace of one schedule."""
    played = play(make_schedule(seed))
    sys.stdout.write(played.world.trace_text())
    for promise, what in played.oracle.violations:
        print(f"VIOLATED: {promise}: {what}")
    return 1 if played.oracle.violations else 0


def explain(seed: int, promise: str, what: str) -> None:
    """Print the shortest schedule found that breaks the promise as the seed does, and its trace."""
    print(f"\nVIOLATED by seed {seed}: {promise}: {what}")
    small = shrink(make_schedule(seed), promise)
    played = play(small)
    print(f"shortest schedule found ({played.world.network.requests} requests): {small}")
    print(played.world.trace_text())


def summary(tally: Tally, seconds: float) -> str:
    """The figures of a campaign."""
    speed, by_cpu = tally.schedules / seconds, tally.schedules / tally.cpu_seconds
    lines = [
        f"{tally.schedules:,} schedules in {seconds:.1f} s: {speed:.0f} a second "
        f"({by_cpu:.0f} a second of CPU, {tally.cpu_seconds:.1f} s of CPU in all), {tally.requests:,} requests",
        f"{tally.full:,} of them with the real planner and fold by DuckDB, and the page",
        f"violations: {len(tally.violations)}",
    ]
    counts = {"verbs": tally.verbs, "faults": tally.faults, "outcomes": tally.outcomes, "answers": tally.answers}
    for name, some in (counts | {"accepted limits": tally.limits}).items():
        lines += [f"{name}:", *_counts(some)]
    return "\n".join(lines)


def _counts(counts: Counter[str]) -> list[str]:
    return [f"  {count:>9,}  {name}" for name, count in counts.most_common()]


if __name__ == "__main__":
    sys.exit(main())
