"""Planted in the leases of runs and shards: attempts that work beside each other."""

from __future__ import annotations

from jobs.runs.leases import Lease
from tests.simulation.bugs.bug import Bug, Replacements


def _no_wait() -> Replacements:
    async def rivals(self: Lease) -> list[int]:
        return []

    return [(Lease, "_rivals", rivals)]


BUGS = [
    Bug("no wait", "a worker begins while the attempt before it may be at work", 200, _no_wait),
    Bug("no-wait-to-delete", "an attempt deletes with an earlier lease", 4_000, _no_wait, "last copies"),
]
