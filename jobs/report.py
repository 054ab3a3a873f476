"""report: what a run came to, as the one document that people and programs read."""

from __future__ import annotations

from typing import Any

from jobs.core.outcome import GOOD, Status
from jobs.core.run import SPEC_VERSION, Plan, RunSpec, RunState
from jobs.errors import ExitCode

_GOOD = {status.value for status in GOOD}


def summarize(
    spec: RunSpec,
    plan: Plan,
    state: RunState,
    outcomes: dict[str, int],
    size_bytes: int,
    finished_at: float,
    **details: Any,
) -> dict[str, Any]:
    """The run's report. Keys that scripts rely on: run_id, job, state, rows, outcomes, bytes, seconds, report.

    `rows` counts the manifest's rows, `accounted` those with an outcome, `failures` those that
    ended badly; `details` come at the end as they are.
    """
    return {
        "spec_version": SPEC_VERSION,
        "run_id": spec.run_id,
        "job": spec.job,
        "state": state.value,
        "rows": plan.rows,
        "accounted": sum(outcomes.values()),
        "outcomes": outcomes,
        "failures": sum(count for status, count in outcomes.items() if status not in _GOOD),
        "bytes": size_bytes,
        "seconds": round(max(0.0, finished_at - spec.created_at), 3),
        "source": str(spec.source.location),
        "destination": str(spec.destination.location),
        "manifest": spec.manifest,
        "retry_of": spec.retry_of,
        "excluded": dict(plan.excluded),
        "planned_dollars": round(plan.total_dollars, 6),
        **details,
    }


def exit_code(report: dict[str, Any]) -> ExitCode:
    """0 when every row ended well, 3 when one did not, 75 when rows are left to do."""
    if report["state"] != RunState.COMPLETE:
        return ExitCode.TRANSIENT
    return ExitCode.FINDINGS if report["failures"] else ExitCode.DONE


def verdict(report: dict[str, Any]) -> str:
    """The report in one sentence."""
    rows, job = report["rows"], report["job"]
    if report["state"] != RunState.COMPLETE:
        left = rows - report["accounted"]
        return f"The {job} run is {report['state']}: {left:,} of {rows:,} rows have no outcome yet."
    if not report["failures"]:
        return f"All {rows:,} rows ended well: {counts(report['outcomes'])}."
    bad = {status: count for status, count in report["outcomes"].items() if status not in _GOOD}
    return f"{report['failures']:,} of {rows:,} rows need attention: {counts(bad)}."


def counts(outcomes: dict[str, int]) -> str:
    """`1,000 copied, 2 failed`, in the order of the statuses."""
    order = [status.value for status in Status]
    named = sorted(outcomes.items(), key=lambda item: order.index(item[0]))
    return ", ".join(f"{count:,} {status}" for status, count in named) or "nothing"
