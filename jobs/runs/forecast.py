"""Forecasts of time: a range, since a table knows no server, no network and no other work.

The least is what the tables say, and the limits of the user. The most is what the last run of the same
kind and place says of as much work, else many times the least.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace

from jobs.core.rate_limits import RateLimits
from jobs.core.run import Plan, RunSpec, RunState
from jobs.errors import LedgerError
from jobs.ledger.ledger import Ledger
from jobs.ledger.run_ids import run_job
from jobs.runs.request import Planned

UNKNOWN_TIMES = 10.0
"""How many times the least a run may take where no earlier one says it: 6 s became 62 s on a slow server."""
MARGIN_TIMES = 1.5
"""How many times as slow as the earlier run it may be."""
START_SECONDS = 3.0
"""What processes take to start, and a report to be made, however few the rows."""
RECENT_SECONDS = 35 * 86_400.0
LOOKS = 5
"""How far back, and at how many runs of the kind, one of the place is looked for."""


async def timed(planned: Planned, ledger: Ledger, *, is_carried: bool) -> Plan:
    """The plan with the time that it takes: at least, and at most.

    `is_carried`: bytes pass through workers, whatever the run's options say.
    """
    spec, plan, limits = planned.spec, planned.plan, RateLimits.of(planned.spec)
    is_carried = bool(is_carried or spec.options.get("streamed") or spec.options.get("deep"))
    size_bytes = 2 * plan.size_bytes if is_carried else 0  # read and written, or read at both sides
    least = max(plan.seconds, limits.seconds(sum(plan.requests.values()), size_bytes))
    timed_by, times = await _last_run(ledger, spec)
    most = max(least, START_SECONDS + times * plan.seconds)
    return replace(plan, seconds=least, seconds_most=most, timed_by=timed_by)


async def _last_run(ledger: Ledger, spec: RunSpec) -> tuple[str, float]:
    """The last complete run of the same kind, between the same places, and how many times its forecast
    as much work takes by it.
    """
    since = time.strftime("%Y%m%d", time.gmtime(spec.created_at - RECENT_SECONDS))
    run_ids = [run_id for run_id in await ledger.run_ids(since) if run_job(run_id) == spec.job]
    for run_id in reversed(run_ids[-LOOKS:]):
        with suppress(LedgerError, KeyError, TypeError, ValueError):  # an altered run forecasts nothing
            other = await ledger.spec(run_id)
            if (other.source.location, other.destination.location) == (spec.source.location, spec.destination.location):
                report = await ledger.report(run_id)
                if report is not None and report["state"] == RunState.COMPLETE and report["planned"]["seconds"]:
                    took = float(report["worked_seconds"]) - START_SECONDS
                    return run_id, max(1.0, took / float(report["planned"]["seconds"])) * MARGIN_TIMES
    return "", UNKNOWN_TIMES
