"""Questions about what the ledger says of the work: when the last night of each pair ended, and how."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from jobs.doctor.model import Finding, Question, failure, ok, warning
from jobs.doctor.system import System
from jobs.nights.documents import last_summaries
from jobs.policy.model import Pair


def questions(system: System) -> Iterator[Question]:
    """Of each pair that has nights."""
    for pair in system.pairs:
        if pair.nightly.enabled:
            yield Question("last-night", f"pair {pair.name}", partial(_night, system, pair), needs_aws=False)


def _night(system: System, pair: Pair) -> Finding:
    nights = system.in_ledger(lambda ledger: last_summaries(ledger, pair.name, 1))
    if not nights:
        return warning("no night has ended yet", f"sealift nightly --pair {pair.name} plays one by hand")
    last, wanted = nights[0], system.policy.alarms.night_hours
    hours = (time.time() - last.finished_at.timestamp()) / 3600
    if hours > wanted:
        says = f"the last night ended {hours:,.0f} hours ago, the policy wants one within {wanted}"
        return failure(says, "look at its schedule, then at sealift runs list")
    if last.exit_code:
        return warning(f"the last night ended with {last.exit_code}: {last.verdict}", "read its report")
    return ok(f"the last night ended {hours:,.0f} hours ago: {last.verdict.partition(': ')[0]}")
