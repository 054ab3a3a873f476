"""`sealift runs`: shows the runs in the ledger, and continues them."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from jobs import interrupts
from jobs.aws.batch import Batch
from jobs.cli.console import TERMINAL, emit, meter, say, table
from jobs.cli.options import Group, Run, StartOptions, argument, command_options, flag, group, option, shared, takes
from jobs.cli.policy_and_ledger import ledger_location
from jobs.cli.run_command import launch_and_report, work_and_report
from jobs.cli.texts import plan_text, report_ended, report_text
from jobs.config import Settings
from jobs.core.run import UNSIZED_ROWS, Plan, RunSpec, RunState, continuation
from jobs.core.selection import Selection
from jobs.errors import ConfigError, ExitCode, LedgerError, UsageError
from jobs.ledger.ledger import Ledger
from jobs.registry import kind_of
from jobs.reports.document import exit_code
from jobs.reports.figures import UNKNOWN, human_dollars
from jobs.reports.publish import make_page
from jobs.runs import batch_executor
from jobs.runs.progress import find_progress, has_stopped, unfinished_shards
from jobs.runs.request import Request, open_ledger, open_prompt_ledger
from jobs.runs.summaries import counted, find_run_id, summarize_run, summarize_runs
from jobs.runs.work import end, follow

WATCH_SECONDS = 2.0
_OF_THE_FIRST_RUN = frozenset((
    "streamed", "apart", "cross_region", "endpoint_hops", "sample", "deep", "source_checksums", "destination_checksums",
    "filters", "night", "look", UNSIZED_ROWS,
))  # fmt: skip
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
    start: StartOptions = group(StartOptions)


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
    return interrupts.run(_retry(_open(options.start.ledger), options.run_id, options.start))


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
    rows = [
        [
            run["run_id"],
            run["state"],
            f"{run['rows']:,}",
            f"{run['failures']:,}" + (f", {run['unread']:,} unread" if run["unread"] else ""),
            UNKNOWN if run["planned_dollars"] is None else human_dollars(run["planned_dollars"]),
            run["source"] or UNKNOWN,
            run["destination"] or UNKNOWN,
        ]
        for run in runs
    ]
    return table(["run", "state", "rows", "failures", "cost", "source", "destination"], rows, is_cut=True)


async def _show(ledger: Ledger, options: ShowCommand) -> int:
    run_id, as_json = await find_run_id(ledger, options.run.run_id), options.run.as_json
    spec, plan = await ledger.spec(run_id), await ledger.plan(run_id)
    if options.follow:
        patient = open_ledger(ledger.location)  # it outlasts a server that is away
        if (submitted := await batch_executor.BatchExecutor(patient, Batch()).latest(run_id)) is not None:
            ended_there = await follow(submitted, spec, plan, patient, TERMINAL, kind_of(spec))
            code = report_ended(kind_of(spec), ended_there, as_json=as_json)
            return await _write_page(ledger, spec, options.html) if options.html else code
        await _await_end(patient, spec, plan)
    ended = await ledger.report(run_id)
    if ended is None and not await unfinished_shards(ledger, run_id, plan):
        ended = (await end(spec, plan, ledger, kind_of(spec))).report
    if ended is not None and ended["state"] == RunState.COMPLETE:
        document, text, _ = await _with_since(ledger, spec, ended)
        document = {"accounted": plan.rows, "outcomes": counted(document)["outcomes"], **document}
        code = exit_code(document)
    else:
        document = await summarize_run(ledger, run_id)
        text = _under_way_text(spec, document)
        code = ExitCode.TRANSIENT if options.follow else ExitCode.DONE
    document |= {"spec": spec.to_dict(), "plan": plan.to_dict()}
    text = f"{plan_text(spec, plan)}\n{text}"
    if (known := await batch_executor.describe(ledger, run_id)) is not None:
        document["batch"] = known[0]
        text += f"\n{known[1]}"
    emit(document, as_json=as_json, text=text)
    return await _write_page(ledger, spec, options.html) if options.html else int(code)


def _under_way_text(spec: RunSpec, run: Mapping[str, Any]) -> str:
    """How far a run without a report is."""
    text = f"{run['state']}: {run['accounted']:,} of {run['rows']:,} rows done, no report yet"
    not_resumed = kind_of(spec).not_resumed
    step = str(not_resumed(spec)) if not_resumed else f"continue with  {continuation(spec.run_id)}"
    return f"{text}\n{step}" if run["state"] == "stopped" else text


async def _await_end(ledger: Ledger, spec: RunSpec, plan: Plan) -> None:
    """Show the progress of a run on this or another machine, until it has a report or its command has ended."""
    with meter(spec.job, plan.rows) as shown:
        while True:
            has_ended = await has_stopped(ledger, spec.run_id)
            if await ledger.report(spec.run_id) is not None or has_ended:
                return
            shown.update(*await find_progress(ledger, spec.run_id, plan))
            await asyncio.sleep(WATCH_SECONDS)


async def _cancel(ledger: Ledger, run_id: str, as_json: bool) -> int:
    run_id = await find_run_id(ledger, run_id)
    spec = await ledger.spec(run_id)
    if (ended := await ledger.report(run_id)) is not None:
        return await _emit_nothing_to_do(ledger, spec, ended, "cancel", as_json)
    submitted = await batch_executor.cancel(ledger, run_id)
    document = {"run_id": run_id, "state": "cancelled", "jobs": dict(submitted.job_ids)}
    text = f"Cancelled {run_id}: its workers write a checkpoint and end.\n  continue with  {continuation(run_id)}"
    emit(document, as_json=as_json, text=text)
    return 0


async def _emit_nothing_to_do(ledger: Ledger, spec: RunSpec, ended: dict[str, Any], what: str, as_json: bool) -> int:
    document, text, _ = await _with_since(ledger, spec, ended)
    emit(document, as_json=as_json, text=f"Nothing to {what}: {text}")
    return 0


async def _with_since(
    ledger: Ledger, spec: RunSpec, report: dict[str, Any]
) -> tuple[dict[str, Any], str, Sequence[Any]]:
    """The report of a run with what is left of its bad rows by now, as document and text, and the first of these."""
    from jobs.reconcile.since_then import since_lines, since_then  # DuckDB loads here

    more, left = await since_then(ledger, spec, report)
    document = report | more
    is_repaired = document.get("since_then", {}).get("is_repaired", False)
    shown = document if "categories" in report else report
    return document, report_text(shown, kind_of(spec), since_lines(document), is_repaired=is_repaired), left


async def _write_page(ledger: Ledger, spec: RunSpec, file: Path) -> int:
    """Write the page of a run as it is now to a file."""
    if (report := await ledger.report(spec.run_id)) is None:
        raise LedgerError(f"run {spec.run_id} has no page: it has not ended", advice=continuation(spec.run_id))
    document, _, left = await _with_since(ledger, spec, report)
    page = await make_page(document, left)
    try:
        file.write_bytes(page)
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}", advice="name another --html") from error
    say(f"the page is in {file}")
    return int(ExitCode.DONE)


async def _retry(ledger: Ledger, named: str, start: StartOptions) -> int:
    settings, as_json = Settings.from_environment(), start.as_json
    run_id = await find_run_id(ledger, named)
    spec, plan, ended = await ledger.spec(run_id), await ledger.plan(run_id), await ledger.report(run_id)
    ledger = open_ledger(ledger.location)  # what follows is work, which has patience
    if start.executor is None and await ledger.names(run_id, "batch/"):
        start = replace(start, executor="batch")
    kind = kind_of(spec)
    if ended is None:
        if kind.not_resumed is not None:
            raise kind.not_resumed(spec)
        if start.dry_run:
            return await _plan_continuation(ledger, spec, as_json=as_json)
        return await work_and_report(spec, plan, ledger, settings, start.executor, as_json=as_json)
    if "failures" in ended and not ended["failures"]:
        await _emit_nothing_to_do(ledger, spec, ended, "retry", as_json)
        return int(exit_code(ended))
    from jobs.runs.standing import standing_rows

    request = retry_request(spec)
    with tempfile.TemporaryDirectory(prefix="sealift-retry-") as folder:
        standing = await standing_rows(ledger, spec, ended["finished_at"], Path(folder))
        if not standing.rows:
            return await _emit_nothing_to_do(ledger, spec, ended, "retry", as_json)
        tried = {"rows": standing.rows, "outcomes": standing.outcomes, "first_keys": standing.first_keys}
        request = replace(request, rows=standing.file)
        retried = tried if start.dry_run else None
        return await launch_and_report(request, ledger, settings, start, may_be_empty=True, retried=retried)


async def _plan_continuation(ledger: Ledger, spec: RunSpec, *, as_json: bool) -> int:
    """Say how many rows a retry of an unfinished run would do."""
    run = await summarize_run(ledger, spec.run_id)
    rows = run["rows"] - run["accounted"]
    text = f"Dry run: a retry of {spec.run_id} would go on with {rows:,} of {run['rows']:,} rows, by its own plan."
    emit(run | {"dry_run": True, "retried": {"rows": rows}}, as_json=as_json, text=text)
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
