"""Work of a planned run, from where it is, on this machine or in AWS Batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.config import Settings
from jobs.core.display import Display
from jobs.core.run import Plan, RunSpec
from jobs.ledger.ledger import Ledger
from jobs.runs import batch_follow, launch
from jobs.runs.kind import Kind
from jobs.runs.placement import is_batch


async def work(
    spec: RunSpec, plan: Plan, ledger: Ledger, settings: Settings, executor: str | None, display: Display, kind: Kind
) -> tuple[dict[str, Any], int]:
    """Work through a published plan where it belongs, from where it is.

    Returns the report and the exit code.
    """
    codes: Mapping[int, int] = {}
    report = await ledger.report(spec.run_id)
    if report is None and plan.shards:
        if not is_batch(executor, settings):
            codes = await launch.execute(spec, plan, ledger, settings, display)
        elif (submitted := await batch_follow.resubmit(ledger, spec, plan, settings, display)) is not None:
            followed = await batch_follow.follow(submitted, spec, plan, ledger, display, kind)
            return followed.report, launch.run_exit_code(followed.report, followed.codes)
    report = report or await launch.conclude(spec, plan, ledger, codes, kind)
    return report, launch.run_exit_code(report, codes)
