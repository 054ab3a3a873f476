"""`sealift expire`: what is proven elsewhere may go; only this verb deletes, and only when it is told to."""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs import __version__
from jobs.cli import launch
from jobs.cli.console import emit, say, shown
from jobs.cli.options import json_option, ledger_location, ledger_option
from jobs.cli.placement import batch_options
from jobs.cli.transfer import launch_and_report
from jobs.config import Settings
from jobs.core import price
from jobs.core.expiry import PROOFS
from jobs.core.model import Location
from jobs.core.price import PriceTable
from jobs.core.run import Plan, RunSpec, Side
from jobs.core.selection import Selection, parse_age
from jobs.errors import ConfigError, ExitCode, LedgerError, LimitExceeded, UsageError
from jobs.runs.ledger import Ledger
from jobs.s3.sessions import boto_client, open_store

if TYPE_CHECKING:
    import pyarrow as pa

    from jobs.runs.expiring import Candidates

GRACE = "30d"
MAX_SHARE = "50%"


@click.command()
@click.option("--run", "run_id", metavar="RUN", help="What this replicate, verify or compact run has proven.")
@click.option("--manifest", metavar="URI", help="These rows, by the latest proof that the ledger has of each.")
@click.option(
    "--grace", default=GRACE, show_default=True, metavar="AGE", help="Keep what was written, proven or hidden since."
)
@click.option(
    "--max-share", default=MAX_SHARE, show_default=True, metavar="PERCENT", help="Refuse to delete more of the prefix."
)
@click.option("--undo", metavar="RUN", help="Remove the delete markers of this expire run.")
@click.option("--yes-delete", is_flag=True, help="Delete. Without it nothing is deleted.")
@click.option("--max-objects", type=click.IntRange(min=0), metavar="N", help="Refuse a larger plan.")
@click.option("--max-cost", type=click.FloatRange(min=0), metavar="DOLLARS", help="Refuse a dearer plan.")
@click.option("--price-table", type=click.Path(path_type=Path), help="Prices as JSON, like jobs/core/prices/*.json.")
@click.option("--executor", type=click.Choice(["local", "batch"]), help="Default: SEALIFT_EXECUTOR or local.")
@ledger_option()
@batch_options()
@json_option()
def expire(**given: Any) -> int:
    """Delete originals whose copy or archive member is proven. A dry run, unless --yes-delete is given.

    Each copy is proven once more before its original goes: an archive's member is read and hashed, a replica is
    compared. An original goes only if it is still the version that was proven, and under no lock or hold. A current
    version in a bucket that keeps versions is hidden by a delete marker first; the same command, a grace period
    later, removes the version behind it. Each row ends as expired, kept (with the reason), missing, denied or failed;
    in a dry run as skipped where it would be expired. What goes, and its proof, stands in deletions.parquet and .csv.

    \b
    sealift expire --run 20261125T003345Z-compact-1f3a
    sealift expire --run 20261125T003345Z-compact-1f3a --grace 90d --max-share 100% --yes-delete
    sealift expire --manifest s3://inv/docs/daily/2026-11-25T01-00Z/manifest.json --yes-delete
    sealift expire --undo 20261225T004105Z-expire-9b02
    """
    if sum(given[name] is not None for name in ("run_id", "manifest", "undo")) != 1:
        raise UsageError("nothing to expire: give --run RUN or --manifest URI (or --undo RUN), one of them")
    settings = Settings.from_environment()
    ledger = launch.open_ledger(ledger_location(given["ledger"], settings))
    if given["undo"]:
        return asyncio.run(_undo(ledger, given["undo"], as_json=given["as_json"]))
    options = {
        "grace_seconds": parse_age(given["grace"]),
        "max_share": _share(given["max_share"]),
        "delete": given["yes_delete"],
    }
    return asyncio.run(_start(given, options, ledger, settings))


async def _start(given: dict[str, Any], options: dict[str, Any], ledger: Ledger, settings: Settings) -> int:
    runs = [await _proving_run(ledger, given["run_id"])] if given["run_id"] else []
    request = launch.Request(
        job="expire",
        source=runs[0].source if runs else None,
        destination=runs[0].destination if runs else Side(ledger.location),
        manifest=given["manifest"],
        selection=Selection(versions="all"),
        options=options | {"proofs": [spec.run_id for spec in runs]},
        price_table=given["price_table"],
    )
    return await launch_and_report(request, ledger, settings, given | {"dry_run": False, "yes": True}, plan_run)


async def _undo(ledger: Ledger, run_id: str, *, as_json: bool) -> int:
    from jobs.s3.tombstones import Tombstones
    from jobs.s3.unhiding import unhide

    spec = await ledger.spec(run_id)
    if spec.job != "expire":
        raise UsageError(f"run {run_id} is a {spec.job} run: it hid nothing")
    source = spec.source
    store = open_store(source.endpoint, source.region, source.profile, max_in_flight=16)
    bucket = source.location.bucket
    try:
        undone = await unhide(store, Tombstones(ledger.store, ledger.location, bucket, run_id))
    finally:
        await store.close()
    problems = [each._asdict() for each in undone.problems]
    lines = [f"{undone.markers:,} delete markers of {run_id} are gone from {bucket}."]
    lines += [f"  {shown(each.key)}: {each.problem}" for each in undone.problems[:20]]
    emit({"run_id": run_id, "undone": undone.markers, "problems": problems}, as_json=as_json, text="\n".join(lines))
    return int(ExitCode.FINDINGS) if problems else 0


async def plan_run(request: launch.Request, ledger: Ledger, settings: Settings) -> launch.Planned:
    """Find what is proven, weigh it against its prefix, cut it into shards. Raises LimitExceeded, LedgerError, …"""
    from jobs.runs.expiring import plan_candidates
    from jobs.runs.planning import read_price_table

    started = time.time()
    scratch = Path(tempfile.mkdtemp(prefix="sealift-plan-"))
    try:
        wanted, bucket = None, ""
        if request.manifest is not None:
            from jobs.s3.manifests import open_manifest

            manifest = await open_manifest(request.manifest, ledger.store, lambda: boto_client(None, None, None))
            if manifest.bucket is None:
                raise UsageError(f"{request.manifest} does not say which bucket its keys are in: add a bucket column")
            wanted, bucket = manifest.batches, manifest.bucket
            runs = await _proving_runs(ledger, bucket)
        else:
            runs = [await ledger.spec(run_id) for run_id in request.options["proofs"]]

        async def write_shard(number: int, data: bytes) -> None:
            (scratch / f"{number:05d}.parquet").write_bytes(data)

        found = await plan_candidates(
            ledger,
            runs,
            wanted,
            prefix=Location(bucket) if bucket else runs[-1].source.location,
            list_prefix=partial(_listed, runs[-1].source),
            write_shard=write_shard,
            scratch_directory=scratch,
            older_than=started - request.options["grace_seconds"],
            rows_per_shard=settings.rows_per_shard,
            processes=settings.processes,
        )
        source, destination = runs[-1].source, runs[-1].destination
        _check_share(found, request.options)
        spec = RunSpec(
            run_id=launch.new_run_id(request.job, started),
            job=request.job,
            created_at=started,
            source=Side(found.prefix, source.endpoint, source.region, source.profile),
            destination=destination,
            manifest=request.manifest or f"proven by {runs[0].run_id}",
            options=dict(request.options)
            | {
                "proofs": [each.run_id for each in runs],
                "streamed": launch.is_streamed(source, destination),
                "eligible": found.eligible,
                "listed": found.listed,
            },
            sealift_version=__version__,
        )
        return launch.Planned(spec, _forecast(found, settings, read_price_table(request.price_table)), scratch)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


async def _proving_run(ledger: Ledger, run_id: str) -> RunSpec:
    """The run, if it can prove anything. Raises UsageError, LedgerError."""
    spec = await ledger.spec(run_id)
    if not _is_proof(spec):
        raise UsageError(f"run {run_id} proves no copies of originals: name one of these jobs: {', '.join(PROOFS)}")
    if await ledger.report(run_id) is None:
        raise ConfigError(f"run {run_id} has not ended: finish it with `sealift runs retry {run_id}` first")
    return spec


async def _proving_runs(ledger: Ledger, bucket: str) -> list[RunSpec]:
    """All ended runs that may have proven copies of this bucket's objects, as far as they are reached like the last."""
    found: list[RunSpec] = []
    for run_id in await ledger.run_ids():
        try:
            spec = await ledger.spec(run_id)
        except LedgerError:  # a run that was never planned
            continue
        if _is_proof(spec) and spec.source.location.bucket == bucket and await ledger.report(run_id) is not None:
            found.append(spec)
    if not found:
        raise ConfigError(f"no run of {ledger.location} has proven a copy of anything in {bucket}: nothing may go")
    alike = [spec for spec in found if _reached(spec) == _reached(found[-1])]
    if len(alike) < len(found):
        say(f"{len(found) - len(alike)} runs whose copies are on another service are left out: name them with --run")
    return alike


def _is_proof(spec: RunSpec) -> bool:
    return spec.job in PROOFS and spec.source.location != spec.destination.location


def _reached(spec: RunSpec) -> tuple[Any, ...]:
    return tuple(
        each for side in (spec.source, spec.destination) for each in (side.endpoint, side.region, side.profile)
    )


async def _listed(source: Side, prefix: Location) -> AsyncIterator[pa.RecordBatch]:
    """All versions beneath the prefix, as a manifest has them."""
    from jobs.s3.listing import list_all
    from jobs.s3.tables import manifest_batch

    store = open_store(source.endpoint, source.region, source.profile, max_in_flight=16)
    try:
        versions = await store.is_versioned(prefix.bucket)
        async with aclosing(list_all(store, prefix, versions=versions)) as pages:
            async for page in pages:
                yield manifest_batch(page)
    finally:
        await store.close()


def _check_share(found: Candidates, options: Mapping[str, Any]) -> None:
    """Raises LimitExceeded when too large a share of what the prefix holds would go; a dry run only says so."""
    if found.eligible <= options["max_share"] * found.listed:
        return
    what = (
        f"{found.eligible:,} of the {found.listed:,} object versions in {found.prefix} would go, "
        f"more than {options['max_share']:.0%} of them"
    )
    if options["delete"]:
        raise LimitExceeded(f"{what}: if that is meant, raise --max-share")
    say(f"{what}: --yes-delete will refuse that without a larger --max-share")


def _forecast(found: Candidates, settings: Settings, prices: PriceTable) -> Plan:
    """Two looks at each original, one at each copy, or a read of it; deletes are free of charge."""
    packed = sum(of_class[1] for of_class in found.by_class.values())
    requests = {
        "head": found.rows + (found.rows - packed),
        "get": packed,
        "delete": found.rows,
        "list": -(-found.listed // 1000),
    }
    dollars = {
        "gets": sum(2 * rows * prices.of_class(name).get_per_1000 / 1000 for name, (rows, _) in found.by_class.items()),
        "deletes": requests["delete"] * prices.delete_per_1000 / 1000,
        "lists": requests["list"] * prices.list_per_1000 / 1000,
    }
    return Plan(
        rows=found.rows,
        size_bytes=found.size_bytes,
        shards=tuple(found.shards),
        requests={kind: count for kind, count in requests.items() if count},
        dollars={item: amount for item, amount in dollars.items() if amount},
        price_table=prices.name,
        seconds=price.estimate_seconds(requests, found.size_bytes, settings.processes),
    )


def _share(text: str) -> float:
    """`50%` → 0.5."""
    match = re.fullmatch(r"(\d{1,3}(?:\.\d+)?)%", text)
    if match is None or float(match[1]) > 100:
        raise UsageError(f"--max-share {text!r}: write a percentage from 0% to 100%, for example 50%")
    return float(match[1]) / 100
