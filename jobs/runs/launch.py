"""From a request to a report: plan, spread, work, fold. Introduces the verbs to the runs."""

from __future__ import annotations

import asyncio
import importlib
import re
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs import __version__
from jobs.config import Settings
from jobs.core.display import Display
from jobs.core.model import Location, Route
from jobs.core.pricing import part_rule
from jobs.core.run import Plan, RunSpec, RunState, Side, worker_pins
from jobs.core.selection import Selection
from jobs.errors import ConfigError, ExitCode, LedgerError, LimitExceeded, NotFound, StoreError, UsageError
from jobs.ledger.ledger import Ledger
from jobs.reports.document import exit_code, summarize
from jobs.reports.publish import PAGE
from jobs.reports.publish import publish as publish_report
from jobs.runs.run_claim import claim_run, say_superseded
from jobs.s3.sessions import boto_client, open_store
from jobs.s3.store import Store
from jobs.verify.attest import attest

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for. Without a manifest, the source is listed; only its `prefixes`, where they are given."""

    job: str
    source: Side | None
    destination: Side
    manifest: str | None
    selection: Selection
    options: Mapping[str, Any] = field(default_factory=dict)
    retry_of: str | None = None
    price_table: Path | None = None
    prefixes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan that waits for a yes: its shards lie in a scratch folder, nothing is in the ledger yet."""

    spec: RunSpec
    plan: Plan
    scratch: Path

    def discard(self) -> None:
        """Remove the scratch folder."""
        shutil.rmtree(self.scratch, ignore_errors=True)


Planner = Callable[[Request, Ledger, Settings, Display], Coroutine[Any, Any, Planned]]
"""Reads, filters, spreads and prices what was asked for."""


async def plan_run(request: Request, ledger: Ledger, settings: Settings, display: Display) -> Planned:
    """Read and filter the manifest, cut it into shards, price it. Raises ManifestError, ConfigError, …"""
    from jobs.runs.planning import forecast, plan_rows, read_price_table

    started = time.time()
    scratch = Path(tempfile.mkdtemp(prefix="sealift-plan-"))
    try:
        source, description, batches = await manifest_rows(request, ledger)
        await check_sides(source, request.destination, dict(request.options))
        route = Route(source.location, request.destination.location)
        batches, reports = await attest(batches, route, request.options, ledger.store, scratch, started, display)
        spec = RunSpec(
            run_id=new_run_id(request.job, started),
            job=request.job,
            created_at=started,
            source=source,
            destination=request.destination,
            manifest=description,
            options=dict(request.options)
            | reports
            | {
                "streamed": is_streamed(source, request.destination),
                "cross_region": (source.region or "") != (request.destination.region or ""),
            },
            retry_of=request.retry_of,
            sealift_version=__version__,
        )

        async def write_shard(number: int, data: bytes) -> None:
            (scratch / f"{number:05d}.parquet").write_bytes(data)

        planned = await plan_rows(
            batches,
            request.selection,
            write_shard=write_shard,
            scratch_directory=scratch,
            rows_per_shard=settings.rows_per_shard,
            processes=settings.processes,
            **part_rule(spec.job, spec.options)._asdict(),
        )
        prices = read_price_table(request.price_table)
        return Planned(spec, forecast(planned, spec.job, spec.options, settings.processes, prices), scratch)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def check_limits(plan: Plan, max_cost: float | None, max_objects: int | None) -> None:
    """Raises LimitExceeded when the plan is larger or dearer than allowed."""
    if max_objects is not None and plan.rows > max_objects:
        raise LimitExceeded(
            f"the plan has {plan.rows:,} objects, --max-objects allows {max_objects:,}: filter or raise it"
        )
    if max_cost is not None and plan.total_dollars > max_cost:
        raise LimitExceeded(
            f"the plan costs about ${plan.total_dollars:,.4f}, --max-cost allows ${max_cost:,.4f}: filter or raise it"
        )


async def publish(planned: Planned, ledger: Ledger) -> None:
    """Write spec, shards and, last, the plan into the ledger: from then on the run exists."""
    await ledger.create(planned.spec)
    gate = asyncio.Semaphore(8)

    async def upload(number: int) -> None:
        async with gate:
            data = (planned.scratch / f"{number:05d}.parquet").read_bytes()
            await ledger.write_shard(planned.spec.run_id, number, data)

    await asyncio.gather(*(upload(number) for number in range(len(planned.plan.shards))))
    await ledger.publish_plan(planned.spec.run_id, planned.plan)


async def execute(
    spec: RunSpec, plan: Plan, ledger_location: Location, settings: Settings, display: Display
) -> dict[int, int]:
    """Run the shards on this machine and show progress. Shard → exit code. Workers of earlier launches stop."""
    from jobs.runs.local_executor import LocalExecutor

    launch_id = await claim_run(spec.run_id, ledger_location, settings, display) if plan.shards else ""
    pins = worker_pins(spec, plan)

    def command(shard: int) -> Sequence[str]:
        # -P: not the `jobs` of the folder that the command was called in
        program = [sys.executable, "-P", "-m", "jobs", "worker", spec.run_id]
        return [*program, "--shard", str(shard), "--launch", launch_id, "--ledger", str(ledger_location), *pins]

    processes = min(settings.processes, len(plan.shards)) or 1
    executor = LocalExecutor(command, processes, on_superseded=say_superseded(spec.run_id, display))
    with display.meter(spec.job, plan.rows) as shown, _stopped_by_signals(executor.stop):
        lock = threading.Lock()

        def on_progress(progress: Mapping[int, Any]) -> None:
            with lock:
                each = list(progress.values())
                shown.update(sum(p.rows for p in each), sum(p.bad_rows for p in each), sum(p.size_bytes for p in each))

        executor.on_progress = on_progress
        working = asyncio.get_running_loop().run_in_executor(None, executor.run, range(len(plan.shards)))
        load_reporting()
        return await working


def load_reporting() -> None:
    """Load what `conclude` needs, while others work."""
    for name in ("duckdb", "jobs.runs.folding", "jobs.reports.html.page"):
        importlib.import_module(name)


async def conclude(spec: RunSpec, plan: Plan, ledger: Ledger, codes: Mapping[int, int]) -> dict[str, Any]:
    """Fold the outcomes into the run's report; publish it (the first stands) when every row is accounted for."""
    from jobs.runs.folding import fold_run

    folded = await fold_run(ledger, spec.run_id, plan)
    broken = [code for code in codes.values() if code not in (ExitCode.DONE, ExitCode.TRANSIENT)]
    state = RunState.FAILED if broken else RunState.INCOMPLETE
    if folded.rows == plan.rows:
        state = RunState.COMPLETE
    is_complete = state is RunState.COMPLETE
    failures = None
    if is_complete and folded.failures:
        failures = await ledger.write_failures(spec.run_id, folded.failures_parquet, folded.failures_csv)
    details: dict[str, Any] = {}
    if is_complete and spec.job == "expire":
        from jobs.expire.deletions_table import write_deletions

        deletions = await write_deletions(ledger, spec.run_id, plan)
        details = {"dry_run": not spec.options["delete"], "deletions": deletions, "expiry": dict(plan.expiry)}
    report = summarize(
        spec,
        plan,
        state,
        folded.outcomes,
        folded.size_bytes,
        folded.finished_at or time.time(),
        outcome_bytes=folded.outcome_bytes,
        evidence=folded.evidence,
        reasons=[{"status": status, "reason": reason, "rows": rows} for status, reason, rows in folded.reasons],
        attempts=folded.attempts,
        exit_codes=sorted(set(codes.values())),
        failures_manifest=failures,
        report=ledger.uri(spec.run_id, "report.json") if is_complete else None,
        report_html=ledger.uri(spec.run_id, PAGE) if is_complete else None,
        ledger=str(ledger.location),
        **details,
    )
    if is_complete:
        return await publish_report(ledger, spec, report, folded.listed)
    return report


def run_exit_code(report: Mapping[str, Any], codes: Mapping[int, int]) -> int:
    """The report's exit code; that of the worst worker where workers broke and rows are left."""
    worst = max((code for code in codes.values() if code in (1, 2, 10)), default=0)
    return worst if report["state"] == "failed" and worst else int(exit_code(report))


def open_ledger(location: Location) -> Ledger:
    """The ledger at a location, reached as boto3's defaults say."""
    return Ledger(open_store(None, None, None, max_in_flight=16), location)


def new_run_id(job: str, now: float) -> str:
    """An id that sorts by time, also within a second: `20261125T003345Z-replicate-1f3a02`."""
    fraction = int(now % 1 * 4096)
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}-{job}-{fraction:03x}{secrets.token_hex(2)[1:]}"


def is_streamed(source: Side, destination: Side) -> bool:
    """Whether the sides are different services, so that bytes must pass through the worker."""
    return (source.endpoint or "") != (destination.endpoint or "")


async def manifest_rows(request: Request, ledger: Ledger) -> tuple[Side, str, AsyncIterator[pa.RecordBatch]]:
    """(the source, where the rows come from, the rows) of a request. Rows of an earlier run keep its source."""
    source = request.source
    if request.manifest is None:
        if source is None:
            raise UsageError("nothing to work on: give --source s3://bucket/prefix or --manifest URI")
        store = open_store(source.endpoint, source.region, source.profile)
        versions = request.selection.versions == "all"
        places = [source.location._replace(key=prefix) for prefix in request.prefixes] or [source.location]
        return source, f"listing of {', '.join(map(str, places))}", _listed(store, places, versions)
    from jobs.manifests import open_manifest

    uri = request.manifest
    if uri.startswith("proven:"):
        from jobs.runs.folding import proven_rows

        spec, plan = await ledger.spec(uri[7:]), await ledger.plan(uri[7:])
        _check_has_outcomes(spec)
        return source or spec.source, uri, proven_rows(ledger, spec.run_id, plan)
    if uri.startswith("run:"):
        source = source or (await ledger.spec(uri[4:])).source
        uri = await failures_of(ledger, uri[4:])
    manifest = await open_manifest(uri, ledger.store, lambda: boto_client(None, None, None))
    bucket = manifest.bucket or (source.location.bucket if source else None)
    if bucket is None:
        raise UsageError(f"{uri} does not say which bucket its keys are in: add --source s3://bucket")
    if source is not None and bucket != source.location.bucket:
        raise ConfigError(f"{uri} is about bucket {bucket}, --source says {source.location.bucket}: name one bucket")
    return source or Side(Location(bucket)), request.manifest, manifest.batches


async def failures_of(ledger: Ledger, run_id: str) -> str:
    """The URI of the failed rows of a run. Raises ConfigError when it has none, or has not ended.

    Raises UsageError for a run that only compares.
    """
    _check_has_outcomes(await ledger.spec(run_id))
    earlier = await ledger.report(run_id)
    if earlier is None:
        raise ConfigError(f"run {run_id} has not ended: finish it with `sealift runs retry {run_id}` first")
    if not earlier["failures_manifest"]:
        raise ConfigError(f"run {run_id} has no failed rows: there is nothing to do")
    uri, folder = str(earlier["failures_manifest"]), ledger.uri(run_id)
    if not re.fullmatch(r"failures(-[0-9a-f]{16})?\.parquet", uri.removeprefix(folder)):
        raise LedgerError(
            f"{ledger.uri(run_id, 'report.json')} names {uri} as the failed rows, which is no file of the run's: "
            "the report was altered. Verify again"
        )
    return uri


def _check_has_outcomes(spec: RunSpec) -> None:
    """Raises UsageError for a reconcile run: it finds differences and works at no row."""
    if spec.job == "reconcile":
        raise UsageError(
            f"run {spec.run_id} is a reconcile run: it only compared, so it has no failed or proven rows. "
            "Start the comparison again with `sealift reconcile --repair` to copy and verify what differs"
        )


async def _listed(store: Store, places: Sequence[Location], versions: bool) -> AsyncIterator[pa.RecordBatch]:
    from jobs.s3.listing import list_all
    from jobs.tables.rows import manifest_batch

    for place in places:
        async with aclosing(list_all(store, place, versions=versions)) as pages:
            async for page in pages:
                yield manifest_batch(page)


async def check_sides(source: Side, destination: Side, options: dict[str, Any]) -> None:
    """Both buckets must be there and readable before anything is planned."""
    for name, side in (("source", source), ("destination", destination)):
        store = open_store(side.endpoint, side.region, side.profile, max_in_flight=4)
        try:
            await store.list_objects(side.location.bucket, side.location.key, max_keys=1)
            if (
                name == "destination"
                and options.get("all_versions")
                and not await store.is_versioned(side.location.bucket)
            ):
                raise ConfigError(
                    f"the destination bucket {side.location.bucket} keeps no versions: --versions all needs it to"
                )
        except NotFound as error:
            raise ConfigError(
                f"the {name} bucket {side.location.bucket} does not exist: check --{name} and its region"
            ) from error
        except StoreError as error:
            raise type(error)(
                error.operation, f"{name} {side.location}", error.code, error.detail, error.status
            ) from error
        finally:
            await store.close()
    is_same = source.location == destination.location and not is_streamed(source, destination)
    if is_same and not options.get("in_place"):
        raise UsageError(f"source and destination are both {source.location}: name two places")


@contextmanager
def _stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on SIGTERM or Ctrl-C while the block runs."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
