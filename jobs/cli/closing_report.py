"""The report of a run whose workers have ended: made, and printed."""

from __future__ import annotations

from dataclasses import asdict

from jobs.cli.console import emit
from jobs.cli.texts import report_text
from jobs.core.run import Plan, RunSpec
from jobs.ledger.ledger import Ledger
from jobs.registry import kind_of
from jobs.runs import batch_follow, launch
from jobs.runs.kind import Kind
from jobs.runs.launch import Ended


async def end_and_report(spec: RunSpec, plan: Plan, ledger: Ledger, *, as_json: bool) -> int:
    """Print the report of a run whose workers have ended. Returns the exit code."""
    kind = kind_of(spec)
    return report_ended(kind, await launch.end(spec, plan, ledger, kind), as_json=as_json)


def report_ended(kind: Kind, ended: Ended, *, as_json: bool) -> int:
    """Print the report of a run. Returns its exit code."""
    children = [asdict(failure) for failure in ended.failures]
    texts = [report_text(ended.report, kind), *map(batch_follow.failure_text, children[: batch_follow.SHOWN_FAILURES])]
    report = ended.report | ({"failed_children": children} if children else {})
    emit(report, as_json=as_json, text="\n".join(texts))
    return ended.code
