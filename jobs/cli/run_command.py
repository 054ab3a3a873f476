"""Run command: plan, ask, run, report. Every command that makes a run uses it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from jobs.aws.batch_arrays import WORK, Placement
from jobs.cli.console import TERMINAL, ask_to_start, emit, say
from jobs.cli.start_options import StartOptions
from jobs.cli.texts import assumptions, plan_text, report_text, retried_text
from jobs.config import Settings
from jobs.core.enums import StorageClass
from jobs.core.rate_limits import RateLimits
from jobs.core.run import Plan, RunSpec, Side, continuation
from jobs.errors import ConfigError, Conflict, Interrupted, Unavailable, UsageError
from jobs.ledger.ledger import Ledger
from jobs.registry import kind_of
from jobs.reports.document import SAMPLES
from jobs.runs import batch_follow, launch
from jobs.runs.batch_executor import Submitted, describe_failure
from jobs.runs.placement import batch_placement, check_placement, planning_settings, refuse_profiles
from jobs.runs.request import Planned, Planner, Request
from jobs.runs.summaries import find_run_id
from jobs.s3.retries import promptly
from jobs.s3.sessions import address_of

OPTION_FILTERS = ("include", "exclude", "sample", "min_size", "max_size", "newer_than", "older_than")
"""The filters that have an option of their name."""


async def launch_and_report(
    request: Request,
    ledger: Ledger,
    settings: Settings,
    options: StartOptions,
    plan_run: Planner | None = None,
    *,
    then_verify: bool = False,
    retried: Mapping[str, Any] | None = None,
) -> int:
    """Plan, ask, run and report one request. Returns the exit code.

    `plan_run`: None for the planner of the request's kind of work. `then_verify`: a verify run
    follows in AWS Batch. `retried`: what a dry run says of the rows of a retry.
    """
    request = replace(request, options=dict(request.options) | options.run_limits())
    await promptly(ledger.check_bucket, f"the ledger {ledger.location}", partial(address_of, Side(ledger.location)))
    kind = kind_of(request)
    request = await _with_whole_run_id(request, ledger)
    plan_run = plan_run or kind.plan
    if plan_run is None:
        raise UsageError(f"no {kind.name} run can be planned here")
    batch = options.batch.placed(options.executor, then_verify=then_verify)
    place = batch_placement(batch, settings, request.job)
    if place is None:
        planned = await plan_run(request, ledger, settings, TERMINAL)
    else:
        refuse_profiles(request.source, request.destination)
        planning = plan_run(request, ledger, planning_settings(settings, batch), TERMINAL)
        planned = await _checked(planning, check_placement(place))
    planned = _within_limits(planned)
    runs = [planned]
    if then_verify and planned.plan.open_shards:
        from jobs.runs.planning import read_price_table

        verifying = batch_follow.plan_verification(planned, read_price_table(request.price_table))
        runs.append(_within_limits(verifying))
    try:
        if not options.allow_empty:
            _check_not_empty(request, planned)
        launch.check_limits(runs, options.max_cost, options.max_objects)
        if options.dry_run:
            return _report_dry_run(runs, retried, as_json=options.as_json)
        runs[0] = await launch.try_conditions(planned, kind.writes(planned.spec))
        if not options.as_json:
            say("\n".join(_plan_texts(runs)))
        elif lacking := launch.unpriced(runs, options.max_cost):
            say(lacking)  # the plan says it, and nobody sees it
        ask_to_start(is_agreed=options.yes, as_json=options.as_json)
        for each in runs:
            await launch.publish(each, ledger)
    finally:
        planned.discard()
    published = [(each.spec, each.plan) for each in runs]
    return await _start(published, place, ledger, settings, as_json=options.as_json, detach=options.batch.detach)


async def _with_whole_run_id(request: Request, ledger: Ledger) -> Request:
    """The request, with the whole id of the run whose rows it names as its manifest.

    Where originals are deleted, the ledger must not choose the run.
    """
    scheme, colon, named = (request.manifest or "").partition(":")
    if not colon or scheme not in ("run", "proven") or kind_of(request).deletes:
        return request
    return replace(request, manifest=f"{scheme}:{await find_run_id(ledger, named)}")


def _report_dry_run(runs: Sequence[Planned], retried: Mapping[str, Any] | None, *, as_json: bool) -> int:
    """Print the plans of a dry run."""
    spec, kind = runs[0].spec, kind_of(runs[0].spec)
    document, *following = (_plan_document(each.spec, each.plan) for each in runs)
    untried = launch.untried(spec, kind.writes(spec))
    document["assumes"] += untried
    texts = [*_plan_texts(runs), *(f"  assumes   {each}" for each in untried)]
    if following:
        document["then"] = following[0]
    if retried is not None:
        document |= {"retry_of": spec.retry_of, "retried": retried}
        texts.insert(0, retried_text(str(spec.retry_of), retried))
    else:
        texts.append("  dry run   nothing was started")
    emit(document, as_json=as_json, text="\n".join(texts))
    return 0


async def _start(
    published: Sequence[tuple[RunSpec, Plan]],
    place: Placement | None,
    ledger: Ledger,
    settings: Settings,
    *,
    as_json: bool,
    detach: bool,
) -> int:
    """Work through published plans, here (the first one) or in Batch, and print their reports."""
    spec, plan = published[0]
    if place is None or not plan.open_shards:
        return await run_and_report(spec, plan, ledger, settings, as_json=as_json)
    submitted: list[tuple[Submitted, RunSpec, Plan]] = []
    # a waiting parent must not be its child's dependency (deadlock)
    after = settings.batch_job_id if detach else None
    for spec, plan in published:
        follows = submitted[-1][0].job_ids[WORK] if submitted else None
        jobs = await batch_follow.submit(spec, plan, ledger, place, after=after, follows=follows)
        submitted.append((jobs, spec, plan))
    return await follow_and_report(submitted, ledger, as_json=as_json, detach=detach)


def _within_limits(planned: Planned) -> Planned:
    """The plan with the time that it takes within its rate limits."""
    spec, plan, limits = planned.spec, planned.plan, RateLimits.of(planned.spec)
    is_carried = spec.options.get("streamed") or spec.options.get("deep") or kind_of(spec).carries_bytes
    size_bytes = 2 * plan.size_bytes if is_carried else 0  # read and written, or read at both sides
    seconds = max(plan.seconds, limits.seconds(sum(plan.requests.values()), size_bytes))
    return replace(planned, plan=replace(plan, seconds=seconds))


def _plan_texts(runs: Sequence[Planned]) -> list[str]:
    return [plan_text(each.spec, each.plan) for each in runs]


def _check_not_empty(request: Request, planned: Planned) -> None:
    """Check that the plan has rows: a mistyped prefix would prove nothing, and end well.

    A sample, and a compaction of what is packed already, may leave out all rows that there are.
    Raises ConfigError.
    """
    plan = planned.plan
    left_out = {**plan.excluded, **plan.savings.get("left_alone", {})}
    is_sample = not SAMPLES.isdisjoint(left_out)
    may_be_empty = is_sample or (bool(left_out) and kind_of(request).may_be_empty)
    if plan.rows or may_be_empty:
        return
    why = f" (left out: {', '.join(map(_left_out, left_out.items()))})" if left_out else ""
    unknown = set(request.selection.storage_classes) - set(StorageClass)
    if unknown:
        why += f". S3's own classes are {', '.join(StorageClass)}, and not {', '.join(sorted(unknown))}"
    raise ConfigError(
        f"nothing to {request.job}: {planned.spec.manifest} has no rows{why}",
        advice="check prefix, manifest and filters, or say --allow-empty",
    )


def _left_out(counted: tuple[str, int]) -> str:
    """`6 by --min-size`."""
    name, count = counted
    if name == "storage_class":
        return f"{count:,} by --include-class"
    return f"{count:,} by {f'--{name}'.replace('_', '-') if name in OPTION_FILTERS else name}"


async def _checked(planning: Coroutine[Any, Any, Planned], check: Coroutine[Any, Any, None]) -> Planned:
    """Plan while a check runs. The first failure of either ends the other."""
    try:
        async with asyncio.TaskGroup() as both:
            plan = both.create_task(planning)
            both.create_task(check)
    except BaseExceptionGroup as failed:
        if not plan.cancelled() and plan.exception() is None:
            plan.result().discard()
        raise failed.exceptions[0] from failed
    return plan.result()


async def follow_and_report(
    submitted: Sequence[tuple[Submitted, RunSpec, Plan]], ledger: Ledger, *, as_json: bool, detach: bool = False
) -> int:
    """Follow runs in Batch to their ends, and print their reports.

    Returns the exit code of the first bad one.
    """
    if detach:
        known = [{"run_id": spec.run_id, "job": spec.job, "jobs": dict(jobs.job_ids)} for jobs, spec, _ in submitted]
        document = known[0] | {"state": "submitted"} | ({"then": known[1]} if len(known) > 1 else {})
        text = "\n".join(
            f"Submitted {each['run_id']}; follow it with  sealift runs show {each['run_id']} --follow" for each in known
        )
        emit(document, as_json=as_json, text=text)
        return 0
    reports, texts, code = [], [], 0
    for jobs, spec, plan in submitted:
        followed = await batch_follow.follow(jobs, spec, plan, ledger, TERMINAL, kind_of(spec))
        children = [describe_failure(failure) for failure in followed.failures]
        reports.append(followed.report | ({"failed_children": children} if children else {}))
        texts += [report_text(followed.report, kind_of(spec)), *map(batch_follow.failure_text, children[:10])]
        code = code or launch.run_exit_code(followed.report, followed.codes)
    emit(reports[0] | ({"then": reports[1]} if len(reports) > 1 else {}), as_json=as_json, text="\n".join(texts))
    return code


async def run_and_report(spec: RunSpec, plan: Plan, ledger: Ledger, settings: Settings, *, as_json: bool) -> int:
    """Work through a published plan and print its report. Returns the exit code."""
    from jobs.cli.worker import open_worker

    began, kind = time.time(), kind_of(spec)
    open_here = open_worker(spec, plan, ledger.location, settings)
    codes = await launch.execute(spec, plan, ledger, settings, TERMINAL, open_here)
    try:
        report = await launch.conclude(spec, plan, ledger, codes, kind, errors_since=began)
    except (Unavailable, Conflict) as error:
        again = f"when it answers again, continue with: {continuation(spec.run_id)}"
        raise Interrupted(error.what, advice=again) from error
    emit(report, as_json=as_json, text=report_text(report, kind))
    return launch.run_exit_code(report, codes)


def _plan_document(spec: RunSpec, plan: Plan) -> dict[str, Any]:
    """The plan, JSON-ready, without its shards, of which there may be 10,000."""
    document = {"run_id": spec.run_id, "job": spec.job, "state": "planned", "dry_run": True, **plan.to_dict()}
    del document["shards"]
    return document | {"shard_count": len(plan.open_shards), "assumes": assumptions(spec, plan)}
