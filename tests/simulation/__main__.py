"""`python -m tests.simulation`: play schedules, or one of them."""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections import Counter

from tests.simulation.campaign import Tally, run_campaign, shrink
from tests.simulation.play import play
from tests.simulation.schedule import make_schedule

SHOWN_EVERY = 2_000
EXPLAINED = 3
"""Of so many violations the shortest trace is looked for, which takes a while."""


def main() -> int:
    """0 when no promise was broken, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, metavar="N", default=1_000, help="how many schedules (default 1,000)")
    parser.add_argument("--first", type=int, metavar="S", default=1, help="the first seed (default 1)")
    parser.add_argument("--seed", type=int, metavar="S", help="one schedule alone: print its trace")
    parser.add_argument("--processes", type=int, default=2, help="processes to play them in (default 2)")
    options = parser.parse_args()
    gc.freeze()  # what was imported stays: no collection, here or in a forked process, looks at it again
    if options.seed is not None:
        return show(options.seed)
    began, played = time.monotonic(), 0

    def hear(part: Tally) -> None:
        nonlocal played
        played += part.schedules
        for seed, promise, what in part.violations:
            print(f"VIOLATED by seed {seed}: {promise}: {what}", flush=True)
        if played % SHOWN_EVERY == 0:
            print(f"{played:,} schedules, {played / (time.monotonic() - began):.0f} a second", flush=True)

    tally = run_campaign(options.first, options.seeds, options.processes, hear)
    print(summary(tally, time.monotonic() - began))
    for seed, promise, what in tally.violations[:EXPLAINED]:
        explain(seed, promise, what)
    return 1 if tally.violations else 0


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
