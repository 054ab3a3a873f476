"""Run command: plan, ask, run, report. Every command that makes a run uses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from jobs.cli.closing_report import end_and_report, report_ended
from jobs.cli.console import TERMINAL, ask_to_start, emit, say
from jobs.cli.options import StartOptions
from jobs.cli.texts import plan_text, retried_text
from jobs.config import Settings
from jobs.core.run import Plan, RunSpec, Side
from jobs.errors import ConfigError, UsageError
from jobs.ledger.ledger import Ledger
from jobs.registry import kind_of
from jobs.reports.document import SAMPLES
from jobs.runs import batch_follow, launch
from jobs.runs.batch_executor import Submitted
from jobs.runs.forecast import with_time
from jobs.runs.placement import DETACHED, batch_placement, check_placement, planning_settings
from jobs.runs.request import Planned, Planner, Request
from jobs.runs.summaries import find_run_id
from jobs.s3.retries import promptly
from jobs.s3.sessions import address_of

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
    bucket_look = partial(ledger.run_ids, "~")  # no id comes after it
    await promptly(bucket_look, f"the ledger {ledger.location}", partial(address_of, Side(ledger.location)))
    kind = kind_of(request)
    request = await _with_whole_run_id(request, ledger)
    plan_run = plan_run or kind.plan
    if plan_run is None:
        raise UsageError(f"no {kind.name} run can be planned here")
    place = batch_placement(options.executor, settings, request.job)
    if place is not None:
        await check_placement(place, request.source, request.destination)
        settings = planning_settings(settings)
    planned = await plan_run(request, ledger, settings, TERMINAL)
    try:
        planned = await _with_time(planned, ledger)
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
    if place is None or not plan.open_shards:
        return await run_and_report(spec, plan, ledger, settings, as_json=options.as_json)
    # a waiting parent must not be its child's dependency (deadlock)
    is_detached = options.executor == DETACHED
    after = settings.batch_job_id if is_detached else None
    submitted = await batch_follow.submit(ledger, spec, plan, settings, TERMINAL, after)
    if submitted is None:
        return await end_and_report(spec, plan, ledger, as_json=options.as_json)
    return await follow_and_report(submitted, spec, plan, ledger, as_json=options.as_json, detach=is_detached)


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


async def _with_time(planned: Planned, ledger: Ledger) -> Planned:
    spec = planned.spec
    is_carried = spec.options.get("streamed") or spec.options.get("deep") or kind_of(spec).carries_bytes
    return await with_time(planned, ledger, is_carried=bool(is_carried))


def _check_not_empty(request: Request, planned: Planned) -> None:
    """Check that the plan has rows: a mistyped prefix would prove nothing, and end well.

    A sample, a filter by time, and a compaction of what is packed already may leave out all rows
    that there are. Raises ConfigError.
    """
    plan = planned.plan
    left_out = {**plan.excluded, **plan.savings.get("left_alone", {})}
    may_be_empty = not left_out.keys().isdisjoint({*SAMPLES, *BY_TIME}) or (left_out and kind_of(request).may_be_empty)
    if plan.rows or may_be_empty:
        return
    counts = ", ".join(f"{count:,} by {name.replace('_', '-')}" for name, count in left_out.items())
    why = f" (left out: {counts})" if left_out else ""
    raise ConfigError(
        f"nothing to {request.job}: {planned.spec.manifest} has no rows{why}",
        advice="check prefix, manifest and filters",
    )


async def follow_and_report(
    submitted: Submitted, spec: RunSpec, plan: Plan, ledger: Ledger, *, as_json: bool, detach: bool = False
) -> int:
    """Follow a run in Batch to its end, and print its report. Returns the exit code."""
    if detach:
        document = {"run_id": spec.run_id, "job": spec.job, "jobs": dict(submitted.job_ids), "state": "submitted"}
        text = f"Submitted {spec.run_id}; follow it with  sealift runs show {spec.run_id} --follow"
        emit(document, as_json=as_json, text=text)
        return 0
    kind = kind_of(spec)
    return report_ended(kind, await batch_follow.follow(submitted, spec, plan, ledger, TERMINAL, kind), as_json=as_json)


async def run_and_report(spec: RunSpec, plan: Plan, ledger: Ledger, settings: Settings, *, as_json: bool) -> int:
    """Work through a published plan on this machine and print its report. Returns the exit code."""
    from jobs.cli.worker import work_here

    here = partial(work_here, spec, plan, settings, ledger.location)
    codes = await launch.execute(spec, plan, ledger, settings, TERMINAL, here)
    return report_ended(kind_of(spec), await launch.end(spec, plan, ledger, kind_of(spec), codes), as_json=as_json)
