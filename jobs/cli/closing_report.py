"""The report of a run whose workers have ended: made, and printed."""

from __future__ import annotations

from jobs.cli.console import emit
from jobs.cli.texts import report_text
from jobs.core.run import Plan, RunSpec
from jobs.ledger.ledger import Ledger
from jobs.registry import kind_of
from jobs.reports.document import exit_code
from jobs.runs import launch


async def conclude_and_report(spec: RunSpec, plan: Plan, ledger: Ledger, *, as_json: bool) -> int:
    """Make the report of a run whose workers have ended, and print it. Returns the exit code."""
    kind = kind_of(spec)
    report = await ledger.report(spec.run_id) or await launch.conclude(spec, plan, ledger, {}, kind)
    emit(report, as_json=as_json, text=report_text(report, kind))
    return int(exit_code(report))
