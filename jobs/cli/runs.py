"""`sealift runs`: shows the runs in the ledger, and continues them."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from jobs import interrupts
from jobs.aws.batch import Batch
from jobs.cli.closing_report import end_and_report
from jobs.cli.console import display, emit, meter, say, table
from jobs.cli.options import (
    Group,
    Run,
    StartOptions,
    argument,
    command_options,
    flag,
    group,
    option,
    shared,
    takes,
)
from jobs.cli.policy_and_ledger import ledger_location
from jobs.cli.run_command import follow_and_report, launch_and_report, run_and_report
from jobs.cli.texts import continued_text, plan_text, report_text
from jobs.config import Settings
from jobs.core.model import Location, ObjectRef
from jobs.core.run import UNSIZED_ROWS, Plan, RunSpec, RunState, continuation
from jobs.core.selection import Selection
from jobs.errors import ConfigError, ExitCode, LedgerError, NotFound, UsageError
from jobs.ledger.ledger import Ledger
from jobs.reconcile.since_then import read_findings, since_lines, since_then
from jobs.registry import kind_of
from jobs.reports.document import exit_code, iso_time, verdict
from jobs.reports.figures import UNKNOWN, human_bytes, human_dollars, human_time
from jobs.reports.publish import PAGE, make_page, write_page
from jobs.runs import batch_follow, launch
from jobs.runs.batch_executor import BatchExecutor
from jobs.runs.placement import DETACHED, is_batch
from jobs.runs.progress import (
    RunProgress,
    find_command,
    find_progress,
    first_open_keys,
    silent_since,
)
from jobs.runs.prompt_ledger import open_prompt_ledger
from jobs.runs.request import Request, open_ledger
from jobs.runs.standing import standing_rows
from jobs.runs.summaries import counted, find_run_id, summarize_runs

WATCH_SECONDS = 2.0
WITHOUT_OUTCOME = "without an outcome"
STILL_SECONDS = 60.0
"""After so long without a new checkpoint, `--follow` says whose command it waits for."""
_OF_THE_FIRST_RUN = frozenset(
    (
        "streamed",
        "apart",
        "cross_region",
        "endpoint_hops",
        "sample",
        "deep",
        "source_checksums",
        "destination_checksums",
        "filters",
        "night",
        "look",
        UNSIZED_ROWS,
    )
)
"""Options of a run's spec that its retry leaves out: it finds them again, or has no use for them.
"""


@command_options
class ListRunsCommand:
    """`sealift runs list`, as it was typed."""

    limit: int = shared("limit")
    as_json: bool = shared("json")
    ledger: str | None = shared("ledger")


@command_options
class RunOptions:
    """Which run of which ledger."""

    run_id: str = argument(type=Run, metavar="RUN")
    as_json: bool = shared("json")
    ledger: str | None = shared("ledger")


@command_options
class ShowCommand:
    """`sealift runs show`, as it was typed."""

    run: RunOptions = group(RunOptions)
    follow: bool = flag("Wait until the run has ended, and show its progress.")
    html: Path | None = option("Write the page to this file.", type=click.Path(dir_okay=False, path_type=Path))


@command_options
class RetryCommand:
    """`sealift runs retry`, as it was typed."""

    run_id: str = argument(type=Run, metavar="RUN")
    executor: str | None = shared("executor", "Where the work runs. Default: where the run was before.", heading="")
    dry_run: bool = shared("dry-run")
    yes: bool = shared("yes")
    as_json: bool = shared("json")
    ledger: str | None = shared("ledger")


@click.group(cls=Group)
def runs() -> None:
    """List, show, follow, cancel and retry runs, from the ledger (and AWS Batch)."""


@runs.command("list")
@takes(ListRunsCommand)
def list_runs(options: ListRunsCommand) -> int:
    """List the runs of a ledger, the latest first.

    \b
    sealift query "SELECT * FROM runs WHERE job = 'verify' AND failures > 0"
    """
    return interrupts.run(_list(_open(options.ledger), options))


@runs.command()
@takes(ShowCommand)
def show(options: ShowCommand) -> int:
    """Show a run: its request, its plan, how far it is, and its report once it has ended.

    If all rows are accounted for and it has no report, make it now. The exit code of a run that has
    ended is the run's, and 0 with --html.

    \b
    sealift runs show latest
    sealift runs show latest --follow
    sealift runs show 20261125T003345Z-verify-1f3a02 --html report.html
    """
    return interrupts.run(_show(_open(options.run.ledger), options))


@runs.command()
@takes(RunOptions)
def cancel(options: RunOptions) -> int:
    """End a run in AWS Batch.

    Its workers write a checkpoint, and `runs retry` continues from there.
    """
    return interrupts.run(_cancel(_open(options.ledger), options.run_id, options.as_json))


@runs.command()
@takes(RetryCommand)
def retry(options: RetryCommand) -> int:
    """Continue a run that stopped, or act on its failed rows, and nothing else.

    A run with rows that have no outcome continues where it was. An expire run does not: start the
    same `sealift expire` again. It plans with the places that you name, and leaves out what is
    deleted already. The failed rows of a replicate, compact or restore run become a new run of that
    kind. The failed rows of a verify run are copied again. This may overwrite exactly the objects
    that verify proved wrong, and nothing else that is newer.

    RUN is a whole id, the unique beginning or end of one, or `latest`.

    \b
    sealift runs retry latest --dry-run
    sealift runs retry latest
    """
    return interrupts.run(_retry(_open(options.ledger), options))


def _open(ledger: str | None) -> Ledger:
    return open_prompt_ledger(ledger_location(ledger, Settings.from_environment()))


async def _list(ledger: Ledger, options: ListRunsCommand) -> int:
    run_ids = await ledger.run_ids()
    runs = await summarize_runs(ledger, run_ids[: -options.limit - 1 : -1])
    text = _runs_table(runs)
    if not runs:
        text = f"no runs in {ledger.location}: if there should be some, check --ledger or SEALIFT_LEDGER"
    has_more = len(run_ids) > len(runs)
    if has_more:
        text += f"\nthe latest {len(runs):,} of {len(run_ids):,}, --limit N shows more"
    for run in runs:
        if "error" in run:
            say(f"{run['run_id']} cannot be read: {run['error']}")
    document = {"ledger": str(ledger.location), "runs": runs, "has_more": has_more, "total": len(run_ids)}
    emit(document, as_json=options.as_json, text=text)
    return 0


def _runs_table(runs: Sequence[Mapping[str, Any]]) -> str:
    """Summaries of runs as a table."""
    retried = {run["retry_of"] for run in runs if run["state"] == "complete" and not run["failures"]}
    rows = [
        [
            run["run_id"],
            run["state"],
            f"{run['rows']:,}",
            f"{run['failures']:,}{' retried' if run['run_id'] in retried else ''}"
            + (f", {run['unread']:,} unread" if run["unread"] else ""),
            UNKNOWN if run["planned_dollars"] is None else human_dollars(run["planned_dollars"]),
            run["source"] or UNKNOWN,
            run["destination"] or UNKNOWN,
        ]
        for run in runs
    ]
    return table(["run", "state", "rows", "failures", "cost", "source", "destination"], rows, is_cut=True)


async def _show(ledger: Ledger, options: ShowCommand) -> int:
    run_id = await find_run_id(ledger, options.run.run_id)
    spec, plan = await ledger.spec(run_id), await ledger.plan(run_id)
    if options.follow:
        return await _follow(open_ledger(ledger.location), spec, plan, options)  # which outlasts a server that is away
    ended, progress = await ledger.report(run_id), await find_progress(ledger, run_id, plan)
    if ended is None and progress.rows == plan.rows:
        ended = (await launch.end(spec, plan, ledger, kind_of(spec))).report
    if ended is not None and ended["state"] == RunState.COMPLETE:
        report, text = await _ended(ledger, spec, ended, options)
        document = {"accounted": progress.rows, "outcomes": counted(report)["outcomes"], **report}
    else:
        if options.html is not None:
            raise LedgerError(
                f"run {run_id} has no page: it has not ended", advice=f"continue it with: {continuation(run_id)}"
            )
        ended = None
        document, text = await _under_way(ledger, spec, plan, progress)
    document |= {"spec": spec.to_dict(), "plan": plan.to_dict()}
    text = f"{plan_text(spec, plan)}\n{text}"
    if (known := await batch_follow.describe(ledger, run_id)) is not None:
        document["batch"] = known
        text += "\n" + batch_follow.batch_text(known)
    emit(document, as_json=options.run.as_json, text=text)
    return int(ExitCode.DONE if ended is None or options.html is not None else exit_code(document))


async def _under_way(ledger: Ledger, spec: RunSpec, plan: Plan, progress: RunProgress) -> tuple[dict[str, Any], str]:
    """How far a run without a report is, as a document and as text."""
    run_id = spec.run_id
    document = {
        "run_id": run_id,
        "job": spec.job,
        "state": "incomplete",
        "rows": plan.rows,
        "accounted": progress.rows,
        "outcomes": {},
        "bytes": progress.size_bytes,
        "seconds": round(time.time() - spec.created_at, 3),
        "report": None,
    }
    lines = [f"{progress.rows:,} of {plan.rows:,} rows done, {human_bytes(progress.size_bytes)}, no report yet"]
    command = await find_command(ledger, run_id)
    if command is not None and command.is_over:
        document["state"] = "stopped"
        lines.append(f"stopped: its command ({command.text}) has ended; {_next_step(spec)}")
    elif (silent := await silent_since(ledger, run_id, command)) is not None:
        document["silent_since"] = iso_time(silent)
        lines.append(f"nobody has written to it since {human_time(silent)}: if no worker lives, {_next_step(spec)}")
    return document, "\n".join(lines)


async def _ended(
    ledger: Ledger, spec: RunSpec, report: dict[str, Any], options: ShowCommand
) -> tuple[dict[str, Any], str]:
    """The report of a run as it is now, as a document and as text. Writes the page if one is wanted."""
    document, text, left = await _with_since(ledger, spec, report)
    if options.html is not None:
        await _write_page(ledger, spec, document, options.html, left)
    return document, text


async def _follow(ledger: Ledger, spec: RunSpec, plan: Plan, options: ShowCommand) -> int:
    run_id, as_json = spec.run_id, options.run.as_json
    if (submitted := await BatchExecutor(ledger, Batch()).latest(run_id)) is not None:
        code = await follow_and_report(submitted, spec, plan, ledger, as_json=as_json)
        if options.html is not None and (report := await ledger.report(run_id)) is not None:
            await _ended(ledger, spec, report, options)
        return code
    rows, moved_at = -1, time.monotonic()
    with meter(spec.job, plan.rows) as shown:
        while True:
            command = await find_command(ledger, run_id)
            if (ended := await ledger.report(run_id)) is not None:
                break
            progress = await find_progress(ledger, run_id, plan)
            shown.update(progress.rows, progress.bad_rows, progress.size_bytes)
            if command is not None and command.is_over:
                break
            if progress.rows != rows:
                rows, moved_at = progress.rows, time.monotonic()
            elif command is not None and time.monotonic() - moved_at > STILL_SECONDS:
                say(f"no progress since {STILL_SECONDS:.0f} s. If {command.text} has ended, {_next_step(spec)}")
                moved_at = float("inf")
            await asyncio.sleep(WATCH_SECONDS)
    if ended is None:
        document, text = await _under_way(ledger, spec, plan, progress)
        emit(document, as_json=as_json, text=f"Run {run_id}: {text}")
        return int(ExitCode.TRANSIENT)
    document, text = await _ended(ledger, spec, ended, options)
    emit(document, as_json=as_json, text=text)
    return int(exit_code(ended))


def _next_step(spec: RunSpec) -> str:
    """How to go on with a run that has no report."""
    not_resumed = kind_of(spec).not_resumed
    return str(not_resumed(spec)) if not_resumed else f"continue with  sealift runs retry {spec.run_id}"


async def _cancel(ledger: Ledger, run_id: str, as_json: bool) -> int:
    run_id = await find_run_id(ledger, run_id)
    spec = await ledger.spec(run_id)
    ended = await ledger.report(run_id)
    if ended is not None:
        document, _, _ = await _with_since(ledger, spec, ended)
        emit(document, as_json=as_json, text=f"Nothing to cancel: {verdict(ended)}")
        return 0
    submitted = await batch_follow.cancel(ledger, run_id)
    document = {"run_id": run_id, "state": "cancelled", "jobs": dict(submitted.job_ids)}
    text = f"Cancelled {run_id}: its workers write a checkpoint and end.\n  continue with  {continuation(run_id)}"
    emit(document, as_json=as_json, text=text)
    return 0


async def _with_since(
    ledger: Ledger, spec: RunSpec, report: dict[str, Any]
) -> tuple[dict[str, Any], str, Sequence[Any]]:
    """The report of a run with what is left of its bad rows by now, as document and text, and the first of these."""
    more, left = await since_then(ledger, spec, report)
    document = report | more
    is_repaired = document.get("since_then", {}).get("is_repaired", False)
    shown = document if "categories" in report else report
    return document, report_text(shown, kind_of(spec), since_lines(document), is_repaired=is_repaired), left


async def _write_page(ledger: Ledger, spec: RunSpec, report: dict[str, Any], file: Path, left: Sequence[Any]) -> None:
    """Write the run's page to a file, also if a killed command has not written it to the ledger.

    The page in the ledger is written once. `left`: the findings that are left of a comparison. Where
    something is better since, the file gets a new page.
    """
    run_id = spec.run_id
    page_ref = ObjectRef(*Location.parse(ledger.uri(run_id, PAGE)))
    try:
        page = (await ledger.store.get(page_ref)).data
    except NotFound:
        await write_page(ledger, spec, report, [])
        page = (await ledger.store.get(page_ref)).data
    if report.keys() & {"repaired", "since_then", "undone"}:
        page = await make_page(report, left if "repaired" in report else await read_findings(ledger, spec, report))
    try:
        file.write_bytes(page)
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}", advice="name another --html") from error
    say(f"the page is in {file}")


async def _retry(ledger: Ledger, options: RetryCommand) -> int:
    settings, as_json = Settings.from_environment(), options.as_json
    run_id = await find_run_id(ledger, options.run_id)
    spec, plan, ended = await ledger.spec(run_id), await ledger.plan(run_id), await ledger.report(run_id)
    ledger = open_ledger(ledger.location)  # what follows is work, which has patience
    executor = options.executor
    if executor is None and await ledger.names(run_id, "batch/"):
        executor = "batch"
    in_batch, is_detached, kind = is_batch(executor, settings), executor == DETACHED, kind_of(spec)
    if ended is None:
        if kind.not_resumed is not None:
            raise kind.not_resumed(spec)
        if options.dry_run:
            return await _plan_continuation(ledger, spec, plan, as_json=as_json)
        if not in_batch:
            return await run_and_report(spec, plan, ledger, settings, as_json=as_json)
        submitted = await batch_follow.resubmit(ledger, spec, plan, settings, display(as_json))
        if submitted is None:
            return await end_and_report(spec, plan, ledger, as_json=as_json)
        return await follow_and_report(submitted, spec, plan, ledger, as_json=as_json, detach=is_detached)
    if "failures" in ended and not ended["failures"]:
        document, _, _ = await _with_since(ledger, spec, ended)
        emit(document, as_json=as_json, text=f"Nothing to retry: {verdict(ended)}")
        return int(exit_code(ended))
    request = retry_request(spec)
    start = StartOptions(executor=executor, as_json=as_json, yes=options.yes, dry_run=options.dry_run)
    with tempfile.TemporaryDirectory(prefix="sealift-retry-") as folder:
        standing = await standing_rows(ledger, spec, ended["finished_at"], Path(folder))
        if not standing.rows:
            document, text, _ = await _with_since(ledger, spec, ended)
            emit(document, as_json=as_json, text=f"Nothing to retry: no bad row is bad any more.\n{text}")
            return int(ExitCode.DONE)
        tried = {"rows": standing.rows, "outcomes": standing.outcomes, "first_keys": standing.first_keys}
        request = replace(request, rows=standing.file)
        retried = tried if options.dry_run else None
        return await launch_and_report(request, ledger, settings, start, may_be_empty=True, retried=retried)


async def _plan_continuation(ledger: Ledger, spec: RunSpec, plan: Plan, *, as_json: bool) -> int:
    """Say what a retry of an unfinished run would do: its rows, and their share of its forecast."""
    progress = await find_progress(ledger, spec.run_id, plan)
    rows = plan.rows - progress.rows
    if not rows:
        document = {"run_id": spec.run_id, "job": spec.job, "state": "unreported", "dry_run": True, "rows": 0}
        emit(
            document,
            as_json=as_json,
            text=f"Dry run: all {plan.rows:,} rows of {spec.run_id} have an outcome. A retry only makes its report.",
        )
        return 0
    keys = await first_open_keys(ledger, spec.run_id, plan)
    share = rows / plan.rows
    document = {
        "run_id": spec.run_id,
        "job": spec.job,
        "state": "incomplete",
        "dry_run": True,
        "rows": rows,
        "requests": {kind: round(count * share) for kind, count in plan.requests.items()},
        "total_dollars": plan.total_dollars * share,
        "price_table": plan.price_table,
        "seconds": plan.seconds * share,
        "seconds_most": plan.seconds_most * share,
        "retried": {"rows": rows, "outcomes": {WITHOUT_OUTCOME: rows}, "first_keys": {WITHOUT_OUTCOME: keys}},
    }
    text = continued_text(document)
    command = await find_command(ledger, spec.run_id)
    if command is not None and not command.is_over:
        text += f"\n  careful   {command.text} may be at work at it: a retry takes the run over"
    emit(document, as_json=as_json, text=text)
    return 0


def retry_request(spec: RunSpec) -> Request:
    """The request that acts on a run's failed rows as the run would have.

    Raises UsageError for a run that nothing retries.
    """
    kind = kind_of(spec)
    if kind.retried_as is None:
        raise kind.not_retried(spec) if kind.not_retried else UsageError(f"no run retries a {kind.name} run")
    return Request(
        job=kind.retried_as,
        source=spec.source,
        destination=spec.destination,
        manifest=f"run:{spec.run_id}",
        selection=Selection(versions="all"),  # the rows were selected when the first run was planned
        options={name: value for name, value in spec.options.items() if name not in _OF_THE_FIRST_RUN},
        retry_of=spec.run_id,
    )
