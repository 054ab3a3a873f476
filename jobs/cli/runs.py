"""List, show, follow, cancel and retry runs, from the ledger (and AWS Batch)."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import click
from msgspec import structs

from jobs.cli import console
from jobs.cli.command import Answer, PromptCommand
from jobs.cli.console import meter, say, table
from jobs.cli.options import Options, Run, argument, flag, option, shared
from jobs.cli.run_command import StartOptions
from jobs.cli.texts import plan_text, report_ended, report_text, retried
from jobs.config import Settings
from jobs.core.run import UNSIZED_ROWS, Plan, RunSpec, RunState, continuation
from jobs.core.selection import Selection
from jobs.errors import ExitCode, LedgerError, UsageError
from jobs.ledger.ledger import Ledger
from jobs.registry import kind_of
from jobs.reports.document import exit_code
from jobs.reports.publish import make_page
from jobs.runs import batch_executor
from jobs.runs.progress import find_progress, has_stopped, unfinished_shards
from jobs.runs.request import Request, open_ledger
from jobs.runs.summaries import counted, find_run_id, summarize_run, summarize_runs
from jobs.runs.work import Ended, end, follow

WATCH_SECONDS = 2.0
_COLUMNS = ("run_id", "state", "rows", "failures", "planned_dollars", "source", "destination")
_OF_THE_FIRST_RUN = frozenset((
    "streamed", "apart", "cross_region", "endpoint_hops", "sample", "deep", "source_checksums", "destination_checksums",
    "filters", "night", "look", UNSIZED_ROWS,
))  # fmt: skip
"""Options of a run's spec that its retry leaves out: it finds them again, or has no use for them.
"""


class ListRuns(PromptCommand):
    """List the runs of a ledger, the latest first.

    \b
    sealift query "SELECT * FROM runs WHERE job = 'verify' AND failures > 0"
    """

    limit: int = shared("limit")

    async def ask(self, ledger: Ledger) -> Answer:
        """The latest runs."""
        run_ids = await ledger.run_ids()
        runs = await summarize_runs(ledger, run_ids[: -self.limit - 1 : -1])
        unread = [f", {run['unread']:,} unread" * bool(run["unread"]) for run in runs]
        rows = [{**run, "failures": f"{run['failures']:,}{more}"} for run, more in zip(runs, unread, strict=True)]
        text = table(rows, _COLUMNS, is_cut=True)
        if not runs:
            text = f"no runs in {ledger.location}: if there should be some, check --ledger or SEALIFT_LEDGER"
        has_more = len(run_ids) > len(runs)
        if has_more:
            text += f"\nthe latest {len(runs):,} of {len(run_ids):,}, --limit N shows more"
        for run in runs:
            if "error" in run:
                say(f"{run['run_id']} cannot be read: {run['error']}")
        document = {"ledger": str(ledger.location), "runs": runs, "has_more": has_more, "total": len(run_ids)}
        return Answer(document, text)


class _Run(Options):
    run_id: str = argument(type=Run, metavar="RUN")


class Show(_Run, PromptCommand):
    """Show a run: its request, its plan, how far it is, and its report once it has ended.

    If all rows are accounted for and it has no report, make it now. The exit code of a run that has
    ended is the run's, and 0 with --html.

    \b
    sealift runs show latest
    sealift runs show latest --follow
    sealift runs show 20261125T003345Z-verify-1f3a02 --html report.html
    """

    follow: bool = flag("Wait until the run has ended, and show its progress.")
    html: IO[bytes] | None = option("Write the page to this file.", type=click.File("wb"), metavar="FILE")

    async def ask(self, ledger: Ledger) -> Answer:
        """The run, and its page if that is asked."""
        run_id, code = await find_run_id(ledger, self.run_id), int(ExitCode.DONE)
        spec, plan = await ledger.spec(run_id), await ledger.plan(run_id)
        if self.follow:
            followed = await _follow(open_ledger(ledger.location), spec, plan)  # it outlasts a server that is away
            if followed is not None and self.html is None:
                return report_ended(followed)
            code = int(ExitCode.TRANSIENT)
        ended = await ledger.report(run_id)
        if ended is None and not await unfinished_shards(ledger, run_id, plan):
            ended = (await end(spec, plan, ledger, kind_of(spec))).report
        if ended is not None and ended["state"] == RunState.COMPLETE:
            from jobs.reconcile.since_then import since_then  # DuckDB loads here

            document, left = await since_then(ledger, spec, ended)
            text, code = report_text(document), int(exit_code(document))
            if self.html is not None:
                self.html.write(await make_page(document, left))
                code = int(ExitCode.DONE)
            document = {"accounted": plan.rows, "outcomes": counted(document)["outcomes"], **document}
        elif self.html is not None:
            raise LedgerError(f"run {run_id} has no page: it has not ended", advice=continuation(run_id))
        else:
            document = await summarize_run(ledger, run_id)
            text = _under_way_text(spec, document)
        document |= {"spec": spec.to_dict(), "plan": plan.to_dict()}
        text = f"{plan_text(spec, plan)}\n{text}"
        if (known := await batch_executor.describe(ledger, run_id)) is not None:
            document["batch"] = known[0]
            text += f"\n{known[1]}"
        return Answer(document, text, code)


class Cancel(_Run, PromptCommand):
    """End a run in AWS Batch.

    Its workers write a checkpoint, and `runs retry` continues from there.
    """

    async def ask(self, ledger: Ledger) -> Answer:
        """Cancel it, if it has not ended."""
        run_id = await find_run_id(ledger, self.run_id)
        if (ended := await ledger.report(run_id)) is not None:
            return Answer(ended, f"Nothing to cancel: {report_text(ended)}")
        jobs = await batch_executor.cancel(ledger, run_id)
        document = {"run_id": run_id, "state": "cancelled", "jobs": jobs}
        text = f"Cancelled {run_id}: its workers write a checkpoint and end.\n  continue with  {continuation(run_id)}"
        return Answer(document, text)


class Retry(_Run, PromptCommand, StartOptions):
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

    async def ask(self, ledger: Ledger) -> Answer:
        """Continue the run, or start one over its bad rows."""
        run_id = await find_run_id(ledger, self.run_id)
        spec, plan, ended = await ledger.spec(run_id), await ledger.plan(run_id), await ledger.report(run_id)
        ledger = open_ledger(ledger.location)  # what follows is work, which has patience
        start = self
        if self.executor is None and await ledger.names(run_id, "batch/"):
            start = replace(self, executor="batch")
        kind = kind_of(spec)
        if ended is None:
            if kind.not_resumed is not None:
                raise kind.not_resumed(spec)
            if start.dry_run:
                run = await summarize_run(ledger, run_id)
                document = run | {"dry_run": True, "retried": {"rows": run["rows"] - run["accounted"]}}
                return Answer(document, _under_way_text(spec, run))
            return await start.work_through(spec, plan, ledger, Settings.from_environment())
        if "failures" in ended and not ended["failures"]:
            return Answer(ended, f"Nothing to retry: {report_text(ended)}", exit_code(ended))
        from jobs.reconcile.since_then import since_then, standing_rows

        request = retry_request(spec)
        with tempfile.TemporaryDirectory(prefix="sealift-retry-") as folder:
            file, tried = await standing_rows(ledger, spec, ended["finished_at"], Path(folder))
            if not tried["rows"]:
                document, _ = await since_then(ledger, spec, ended)
                return Answer(document, f"Nothing to retry: {report_text(document)}")
            answer = await start.launch(structs.replace(request, rows=file), ledger, may_be_empty=True)
            return retried(answer, run_id, tried) if self.dry_run else answer


def _under_way_text(spec: RunSpec, run: Mapping[str, Any]) -> str:
    """How far a run without a report is."""
    text = f"{run['state']}: {run['accounted']:,} of {run['rows']:,} rows done, no report yet"
    not_resumed = kind_of(spec).not_resumed
    step = str(not_resumed(spec)) if not_resumed else f"continue with  {continuation(spec.run_id)}"
    return f"{text}\n{step}" if run["state"] == "stopped" else text


async def _follow(ledger: Ledger, spec: RunSpec, plan: Plan) -> Ended | None:
    """Show the progress of a run on this or another machine, until it has a report or no process works at it.

    Returns how a run in AWS Batch ended.
    """
    if (submission := await batch_executor.last_submission(ledger, spec.run_id)) is not None:
        return await follow(submission, spec, plan, ledger, console, kind_of(spec))
    with meter(spec.job, plan.rows) as shown:
        while not (await has_stopped(ledger, spec.run_id) or await ledger.report(spec.run_id) is not None):
            shown.update(*await find_progress(ledger, spec.run_id, plan))
            await asyncio.sleep(WATCH_SECONDS)
    return None


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


COMMANDS = {"list": ListRuns, "show": Show, "cancel": Cancel, "retry": Retry}
