"""Commands that make a run: plan, ask, run, report. Each derives from `StartOptions`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from msgspec.structs import replace

from jobs.cli import console
from jobs.cli.command import Answer, LedgerCommand, SidesAccess
from jobs.cli.console import asks, confirm, say
from jobs.cli.options import Options, When, flag, option, shared
from jobs.cli.texts import plan_text, report_ended
from jobs.config import Settings
from jobs.core.model import Location
from jobs.core.run import PROVEN_BEFORE, WITHOUT_CONDITIONS, Plan, RunSpec
from jobs.core.sampling import Sample
from jobs.core.selection import Selection
from jobs.errors import ConfigError, UsageError
from jobs.ledger.ledger import Ledger
from jobs.registry import kind_of
from jobs.reports.document import SAMPLE
from jobs.runs import launch
from jobs.runs.batch_executor import planning_settings
from jobs.runs.request import Planned, Planner, Request, check_ledger
from jobs.runs.summaries import find_run_id
from jobs.runs.work import work
from jobs.s3.retries import together

BY_TIME = ("newer_than", "older_than")
"""Filters that may leave out all that there is: nothing is new today."""


class StartOptions(LedgerCommand):
    """How a run is planned, limited, placed and reported."""

    max_cost: float | None = shared("max-cost", default=None)
    max_rate: tuple[tuple[str, float], ...] = shared("max-rate", default=())
    executor: str | None = shared("executor", default=None)
    dry_run: bool = shared("dry-run", default=False)
    yes: bool = shared("yes", default=False)

    async def launch(
        self,
        request: Request,
        ledger: Ledger,
        plan_run: Planner | None = None,
        *,
        max_objects: int | None = None,
        pair_limits: tuple[float | None, int | None] = (None, None),
        may_be_empty: bool = False,
    ) -> Answer:
        """Plan, ask, run and report one request.

        `plan_run`: None for the planner of the request's kind of work. `pair_limits`: those of
        a pair. `may_be_empty`: a plan without rows is a success.
        """
        rates = dict(self.max_rate)
        if len(rates) < len(self.max_rate):
            raise UsageError("--max-rate is given twice of one kind", advice="give one: 200, or 50MiB, or both")
        request = await _with_whole_run_id(request, ledger)
        request = replace(request, options=dict(request.options) | rates)
        kind = kind_of(request)
        plan_run = plan_run or kind.plan
        assert plan_run is not None  # `expire` has its own, and nothing retries a kind without one
        settings = await planning_settings(self.executor, Settings.from_environment(), request)
        planning = plan_run(request, ledger, settings, console)
        _, planned = await together(check_ledger(ledger), planning, ends_early=True)
        async with AsyncExitStack() as behind:
            behind.callback(planned.discard)
            trial = await behind.enter_async_context(AsyncExitStack())
            if not may_be_empty:
                _check_not_empty(request, planned)
            launch.check_limits([planned], self.max_cost, max_objects)
            launch.check_limits([planned], *pair_limits, launch.OF_PAIR)
            writes = () if self.dry_run else kind.writes(planned.spec)
            plan = launch.timed(planned, ledger, is_carried=kind.carries_bytes)
            planned, plan = await together(launch.try_conditions(planned, writes, trial), plan)
            planned = replace(planned, plan=plan)
            if self.dry_run:
                return _planned(planned)
            if not self.as_json:
                say(plan_text(planned.spec, planned.plan))
            if asks(is_agreed=self.yes, as_json=self.as_json):
                await trial.aclose()  # what it removes would wait for the answer, and give up
            if not confirm("Start?", is_agreed=self.yes, as_json=self.as_json):
                raise UsageError("nothing was started, as you said", advice="--yes does not ask")
            await launch.publish(planned, ledger)
            planned.discard()  # work may take days
            return await self.work_through(planned.spec, planned.plan, ledger, settings)

    async def work_through(self, spec: RunSpec, plan: Plan, ledger: Ledger, settings: Settings) -> Answer:
        """Work through a published plan, from where it is, and report."""
        from jobs.cli.worker import work_here

        here, kind = partial(work_here, spec, plan, settings, ledger), kind_of(spec)
        return report_ended(await work(spec, plan, ledger, settings, self.executor, console, kind, here))


class WriteOptions(Options):
    """How objects are written."""

    sse: Mapping[str, str | None] | None = shared("sse")
    unguarded: bool = shared("unguarded")

    def written(self) -> dict[str, Any]:
        """Options of a request."""
        bucket_default = {"sse": None, "kms_key_id": None}
        return {**bucket_default, **(self.sse or {}), **({WITHOUT_CONDITIONS: True} if self.unguarded else {})}


class RowsOptions(SidesAccess, StartOptions):
    """Which rows, and where what is made of them goes."""

    source: Location | None = shared("source")
    destination: Location | None = shared("destination")
    manifest: str | None = shared("manifest")

    include: tuple[str, ...] = shared("include")
    exclude: tuple[str, ...] = shared("exclude")
    older_than: float | None = option("Take only objects modified before.", type=When)
    versions: str = shared("versions")

    def request(self, job: str, options: Mapping[str, Any], **filters: Any) -> Request:
        """The request. `filters`: more of its `Selection`. Raises UsageError for a missing side."""
        if self.source is None and self.manifest is None:
            raise UsageError("nothing to work on", advice="give --source s3://bucket/prefix or --manifest URI")
        if self.destination is None:
            raise UsageError("no destination", advice="give --destination s3://bucket/prefix")
        source = self.source_side(self.source) if self.source else None
        selection = Selection(
            prefix=self.source.key if self.source else "",
            include=self.include,
            exclude=self.exclude,
            older_than=self.older_than,
            versions=self.versions,
            **filters,
        )
        return Request(job, source, self.destination_side(self.destination), self.manifest, selection, options)


class CopiesOptions(RowsOptions):
    """Which rows, and where their copies are. What `replicate` and `verify` share."""

    newer_than: float | None = option("Take only objects modified after: 30d, 12h, 2026-11-01.", type=When)
    requester_pays: bool = flag("Agree to pay for requests to the source's bucket.", is_rare=True)

    def copies(self, job: str, options: Mapping[str, Any], sample: Sample | None = None) -> Request:
        """The request."""
        of_rows = {
            "all_versions": self.versions == "all",
            "requester_pays": self.requester_pays,
            "sample": sample,
        }
        return self.request(job, {**options, **of_rows}, newer_than=self.newer_than, sample=sample)


async def _with_whole_run_id(request: Request, ledger: Ledger) -> Request:
    """The request, with the whole id of the run whose rows it names as its manifest.

    Where originals are deleted, the ledger must not choose the run.
    """
    scheme, colon, named = (request.manifest or "").partition(":")
    if not colon or scheme not in ("run", "proven") or kind_of(request).deletes:
        return request
    return replace(request, manifest=f"{scheme}:{await find_run_id(ledger, named)}")


def _planned(planned: Planned) -> Answer:
    """The answer of a dry run."""
    spec, plan = planned.spec, planned.plan
    document = {"run_id": spec.run_id, "job": spec.job, "state": "planned", "dry_run": True, **plan.to_dict()}
    document["shard_count"] = len(document.pop("shards"))  # of which there may be 10,000
    return Answer(document, f"{plan_text(spec, plan)}\n  dry run   nothing was started")


def _check_not_empty(request: Request, planned: Planned) -> None:
    """Check that the plan has rows: a mistyped prefix would prove nothing, and end well.

    A sample, a filter by time, and a compaction of what is packed already may leave out all rows
    that there are. Raises ConfigError.
    """
    plan = planned.plan
    left_out = {**plan.excluded, **plan.savings.get("left_alone", {})}
    may_be_empty = not left_out.keys().isdisjoint({SAMPLE, PROVEN_BEFORE, *BY_TIME}) or (
        left_out and kind_of(request).may_be_empty
    )
    if plan.rows or may_be_empty:
        return
    counts = ", ".join(f"{count:,} by {name.replace('_', '-')}" for name, count in left_out.items())
    why = f" (left out: {counts})" if left_out else ""
    raise ConfigError(
        f"nothing to {request.job}: {planned.spec.manifest} has no rows{why}",
        advice="check prefix, manifest, time and filters",
    )
