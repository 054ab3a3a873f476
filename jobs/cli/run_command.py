"""Run command: plan, ask, run, report. Every command that makes a run uses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from jobs.cli.console import TERMINAL, ask_to_start, emit, say
from jobs.cli.options import StartOptions
from jobs.cli.texts import plan_text, report_ended, retried_text
from jobs.config import Settings
from jobs.core.run import Plan, RunSpec
from jobs.errors import ConfigError, UsageError
from jobs.ledger.ledger import Ledger
from jobs.registry import kind_of
from jobs.reports.document import SAMPLE
from jobs.runs import launch
from jobs.runs.forecast import with_time
from jobs.runs.placement import planning_settings
from jobs.runs.request import Planned, Planner, Request, check_ledger
from jobs.runs.summaries import find_run_id
from jobs.runs.work import work

BY_TIME = ("newer_than", "older_than")
"""Filters that may leave out all that there is: nothing is new today."""


async def launch_and_report(
    request: Request,
    ledger: Ledger,
    settings: Settings,
    options: StartOptions,
    plan_run: Planner | None = None,
    *,
    max_objects: int | None = None,
    may_be_empty: bool = False,
    retried: Mapping[str, Any] | None = None,
) -> int:
    """Plan, ask, run and report one request. Returns the exit code.

    `plan_run`: None for the planner of the request's kind of work. `may_be_empty`: a plan without
    rows is a success. `retried`: what a dry run says of the rows of a retry.
    """
    request = replace(request, options=dict(request.options) | options.rates().options())
    await check_ledger(ledger)
    kind = kind_of(request)
    request = await _with_whole_run_id(request, ledger)
    plan_run = plan_run or kind.plan
    if plan_run is None:
        raise UsageError(f"no {kind.name} run can be planned here")
    settings = await planning_settings(options.executor, settings, request)
    planned = await plan_run(request, ledger, settings, TERMINAL)
    try:
        planned = await with_time(planned, ledger, is_carried=kind.carries_bytes)
        if not may_be_empty:
            _check_not_empty(request, planned)
        launch.check_limits([planned], options.max_cost, max_objects)
        if options.dry_run:
            return _report_dry_run(planned, retried, as_json=options.as_json)
        planned = await launch.try_conditions(planned, kind.writes(planned.spec))
        if not options.as_json:
            say(plan_text(planned.spec, planned.plan))
        ask_to_start(is_agreed=options.yes, as_json=options.as_json)
        await launch.publish(planned, ledger)
    finally:
        planned.discard()
    spec, plan = planned.spec, planned.plan
    return await work_and_report(spec, plan, ledger, settings, options.executor, as_json=options.as_json)


async def _with_whole_run_id(request: Request, ledger: Ledger) -> Request:
    """The request, with the whole id of the run whose rows it names as its manifest.

    Where originals are deleted, the ledger must not choose the run.
    """
    scheme, colon, named = (request.manifest or "").partition(":")
    if not colon or scheme not in ("run", "proven") or kind_of(request).deletes:
        return request
    return replace(request, manifest=f"{scheme}:{await find_run_id(ledger, named)}")


def _report_dry_run(planned: Planned, retried: Mapping[str, Any] | None, *, as_json: bool) -> int:
    """Print the plan of a dry run."""
    spec, plan = planned.spec, planned.plan
    document = {"run_id": spec.run_id, "job": spec.job, "state": "planned", "dry_run": True, **plan.to_dict()}
    document["shard_count"] = len(document.pop("shards"))  # of which there may be 10,000
    texts = [plan_text(spec, plan)]
    if retried is not None:
        document |= {"retry_of": spec.retry_of, "retried": retried}
        texts.insert(0, retried_text(str(spec.retry_of), retried))
    else:
        texts.append("  dry run   nothing was started")
    emit(document, as_json=as_json, text="\n".join(texts))
    return 0


def _check_not_empty(request: Request, planned: Planned) -> None:
    """Check that the plan has rows: a mistyped prefix would prove nothing, and end well.

    A sample, a filter by time, and a compaction of what is packed already may leave out all rows
    that there are. Raises ConfigError.
    """
    plan = planned.plan
    left_out = {**plan.excluded, **plan.savings.get("left_alone", {})}
    may_be_empty = not left_out.keys().isdisjoint({SAMPLE, *BY_TIME}) or (left_out and kind_of(request).may_be_empty)
    if plan.rows or may_be_empty:
        return
    counts = ", ".join(f"{count:,} by {name.replace('_', '-')}" for name, count in left_out.items())
    why = f" (left out: {counts})" if left_out else ""
    raise ConfigError(
        f"nothing to {request.job}: {planned.spec.manifest} has no rows{why}",
        advice="check prefix, manifest and filters",
    )


async def work_and_report(
    spec: RunSpec, plan: Plan, ledger: Ledger, settings: Settings, executor: str | None, *, as_json: bool
) -> int:
    """Work through a published plan, from where it is, and print its report. Returns the exit code."""
    from jobs.cli.worker import work_here

    here, kind = partial(work_here, spec, plan, settings, ledger.location), kind_of(spec)
    ended = await work(spec, plan, ledger, settings, executor, TERMINAL, kind, here)
    return report_ended(kind, ended, as_json=as_json)
