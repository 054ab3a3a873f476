"""Work of a planned run, from where it is, on this machine or in AWS Batch."""

from __future__ import annotations

from collections.abc import Mapping

from jobs.config import Settings
from jobs.core.display import Display
from jobs.core.run import Plan, RunSpec
from jobs.ledger.ledger import Ledger
from jobs.runs import batch_follow, launch
from jobs.runs.kind import Kind
from jobs.runs.placement import is_batch


async def work(
    spec: RunSpec, plan: Plan, ledger: Ledger, settings: Settings, executor: str | None, display: Display, kind: Kind
) -> launch.Ended:
    """Work through a published plan where it belongs, from where it is, to its end."""
    codes: Mapping[int, int] = {}
    if plan.shards and await ledger.report(spec.run_id) is None:
        if not is_batch(executor, settings):
            codes = await launch.execute(spec, plan, ledger, settings, display)
        elif (submitted := await batch_follow.submit(ledger, spec, plan, settings, display)) is not None:
            return await batch_follow.follow(submitted, spec, plan, ledger, display, kind)
    return await launch.end(spec, plan, ledger, kind, codes)
