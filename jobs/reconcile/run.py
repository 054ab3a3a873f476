"""Reconciliation run: joins two inventory reports, and writes what differs into the ledger.

It makes no request per object. Missing, extra, different and stale keys (or versions) are findings.
So is a key whose replication FAILED, says S3, unless its content is proven to be the same. What is
in flight is judged by the next reports, and what is unverifiable is shown with its reason. Neither
is a finding. `jobs.reconcile.rules` has the rules.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from msgspec import Struct

from jobs import __version__
from jobs.core.category import REPAIRABLE, Category
from jobs.core.model import Location
from jobs.core.prefix_map import PrefixMap
from jobs.core.run import Plan, RunSpec, Side
from jobs.errors import ManifestError
from jobs.inventory.report import Inventory, open_inventory
from jobs.inventory.write import write_inventory
from jobs.ledger.ledger import DIFFERENCES, Ledger
from jobs.ledger.state_files import write_delta
from jobs.reconcile.advice import DIFFERENT, REPAIR, first_steps
from jobs.reconcile.findings import first_findings, load_known, write_findings, write_verdicts
from jobs.reconcile.join import JoinSide, join_reports
from jobs.reconcile.packed_copies import judge_packed
from jobs.reconcile.partial_reports import check_coverage
from jobs.reconcile.stage import fetch_report, stage_report, usable
from jobs.reports.document import iso_time, summarize_reconcile
from jobs.reports.publish import PAGE, publish
from jobs.runs.there import PackedCopies
from jobs.s3.sessions import open_side
from jobs.s3.store import Store
from jobs.tables import duck
from jobs.tables.duck import in_thread

MEMORY_LIMIT = "640MiB"
"""Of the join. The process itself needs about 100 MiB more."""
FUTURE_SECONDS = 3600
VERDICTS = "verdicts.parquet"
PARQUET, CSV = "application/vnd.apache.parquet", "text/csv; charset=utf-8"
_USED = ("Size", "ETag", "LastModifiedDate", "IsMultipartUploaded", "EncryptionStatus")
"""The fields without which a comparison knows less."""


class Report(Struct, frozen=True):
    """The report of a side: its inventory, and the store of its data files.

    `evidence`: known checksums, as Parquet files of the columns key, version_id (empty, null or
    `null`: unversioned), etag, algorithm, value (base64), is_composite, computed_at (UTC). Where no
    version id pins the object, its ETag must be the same, and it must not be newer. `doubted`: the store
    of its bucket, if it must be tried whether the report covers the prefixes: a few pages are listed there.
    """

    side: Side
    inventory: Inventory
    store: Store
    evidence: Sequence[Path] = ()
    doubted: Store | None = None


async def list_side(side: Side, place: Location, ledger: Ledger, run_id: str, *, versions: bool = False) -> Report:
    """A side's report by a listing of now, which stays in the ledger."""
    target = open_side(side), place, ledger.store, ledger.location.join(f"inventories/{run_id}")
    written = await write_inventory(*target, versions=versions, now=time.time(), on_progress=None)
    return Report(side, await open_inventory(ledger.store, Location.parse(written.manifest)), ledger.store)


async def compare(
    ledger: Ledger,
    run_id: str,
    began: float,
    reports: Sequence[Report],
    *,
    maps: PrefixMap,
    margin_seconds: float,
    options: Mapping[str, Any],
    commands: Sequence[str] = (),
    **how: Any,
) -> dict[str, Any]:
    """Compare the reports of source and destination, as a run of the ledger. Returns its report.

    `began`: epoch seconds. `options`: of its spec. `commands`: those that repair, and that overwrite
    what differs, where no night says. `how`: see `reconcile`. A run that is killed before its end was never planned.
    """
    source, destination = reports
    spec = RunSpec(
        run_id=run_id,
        job="reconcile",
        created_at=began,
        source=source.side,
        destination=destination.side,
        manifest=str(source.inventory.manifest),
        options={
            "versions": "current",
            "maps": maps.texts(),
            "margin": f"{margin_seconds:g}s",
            **options,
            "destination_manifest": str(destination.inventory.manifest),
        },
        sealift_version=__version__,
    )
    with TemporaryDirectory(prefix="sealift-reconcile-") as name:
        folder = Path(name)
        found = await reconcile(ledger, spec, reports, folder, maps=maps, margin_seconds=margin_seconds, **how)
        seen = ledger, spec, found, maps, folder / "differences.parquet", commands
        return await _publish(ledger, spec, found, folder, await asyncio.to_thread(first_steps, *seen))


async def reconcile(
    ledger: Ledger,
    spec: RunSpec,
    reports: Sequence[Report],
    folder: Path,
    *,
    maps: PrefixMap,
    margin_seconds: float,
    repairs_different: bool = False,
    packed: PackedCopies | None = None,
) -> dict[str, Any]:
    """Join the reports of source and destination by key, or version by version, and write into `folder`:

    `differences.parquet` and `.csv`, two manifests for a replicate run (`repair.parquet`, what a copy may
    mend, and `different.parquet`, to be overwritten), and `verdicts.parquet`, what it says to the
    ledger's state. Returns what the run's report says of it.

    `margin_seconds`: what is newer than the older report's creationTimestamp less this is in flight.
    `repairs_different`: the repair overwrites what differs and is newer. `packed`: archives whose
    members are not missing, for a comparison of current objects.

    Raises ManifestError for reports that cannot be compared or trusted, and a StoreError when S3
    refuses.
    """
    _check_pair(*reports)
    all_versions, sides, fetched = spec.options["versions"] == "all", list[JoinSide](), list[dict[str, str]]()
    inventories = [report.inventory for report in reports]
    listed_at = inventories[0].created_at, inventories[1].created_at
    horizon_us = int((min(listed_at) - margin_seconds) * 1_000_000)
    with (
        TemporaryDirectory(dir=folder) as name,
        duck.connect(work := Path(name), memory_limit=MEMORY_LIMIT, preserve_insertion_order=False) as connection,
    ):
        for number, (report, other) in enumerate(zip(reports, (maps.destination_of, maps.source_of), strict=True)):
            fetched.append(await fetch_report(report.inventory, report.store, work / f"report-{number}"))
            staged = await in_thread(connection, stage_report, connection, report.inventory, fetched[-1])
            if report.doubted is not None:
                below, oldest = [pair[number] for pair in maps.pairs], listed_at[number] - margin_seconds
                await check_coverage(connection, staged, report.doubted, below, other, oldest)
            sides.append(JoinSide(staged, report.evidence, maps, all_versions, is_source=not number))
        with usable(*zip(inventories, fetched, strict=True)):
            await load_known(connection, ledger, spec, sides, work / "known")
            outside = await in_thread(connection, join_reports, connection, sides, horizon_us)
            if packed is not None:
                await judge_packed(connection, packed, inventories[1].source_bucket)
            await in_thread(connection, write_verdicts, connection, spec, listed_at, folder / VERDICTS)
            found = await in_thread(connection, write_findings, connection, folder, repairs_different, outside)
    described = zip(("source", "destination"), map(_described, reports, sides), strict=True)
    return {**found, **dict(described), "margin_seconds": margin_seconds, "limits": [*_limits(sides)]}


async def _publish(
    ledger: Ledger, spec: RunSpec, found: Mapping[str, Any], folder: Path, next_steps: Sequence[str]
) -> dict[str, Any]:
    """Write the run of a comparison into the ledger: its files, its report, and at last its plan."""
    run_id = spec.run_id
    await ledger.create(spec)

    async def write(file: str, kind: str, *categories: Category, name: str = "") -> str | None:
        is_wanted = not categories or any(found["categories"][each]["rows"] for each in categories)
        return await ledger.write_file(run_id, name or file, folder / file, kind) if is_wanted else None

    report = summarize_reconcile(
        run_id,
        found,
        spec.created_at,
        time.time(),
        report=ledger.uri(run_id, "report.json"),
        report_html=ledger.uri(run_id, PAGE),
        ledger=str(ledger.location),
        next_steps=next_steps,
        differences={
            "parquet": await write("differences.parquet", PARQUET, name=DIFFERENCES),
            "csv": await write("differences.csv", CSV),
        },
        repair_manifest=await write(REPAIR, PARQUET, *REPAIRABLE),
        different_manifest=await write(DIFFERENT, PARQUET, Category.DIFFERENT),
    )
    if (folder / VERDICTS).exists():
        await write_delta(ledger, run_id, folder / VERDICTS)
    findings = await asyncio.to_thread(first_findings, folder / "differences.parquet")
    report = await publish(ledger, spec, report, findings)
    await ledger.publish_plan(run_id, Plan(report["rows"], report["bytes"], ()))
    return report


def _check_pair(source: Report, destination: Report) -> None:
    for report, side in ((source, "source"), (destination, "destination")):
        inventory, bucket = report.inventory, report.side.location.bucket
        if bucket != inventory.source_bucket:
            raise ManifestError(
                f"{inventory.manifest} is of the bucket {inventory.source_bucket}, the {side} is {bucket}",
                advice="give the report of that bucket",
            )
        if inventory.created_at > time.time() + FUTURE_SECONDS:  # its verdicts would outdate later ones
            raise ManifestError(
                f"{inventory.manifest} says that it was made on {iso_time(inventory.created_at)}, which is not yet",
                advice="set the clock of this machine, or have the inventory delivered again",
            )
    if source.inventory.source_bucket == destination.inventory.source_bucket:
        raise ManifestError(
            f"{source.inventory.manifest} and {destination.inventory.manifest} are both of the bucket {bucket}",
            advice="give one report of the source and one of the destination",
        )


def _limits(sides: Sequence[JoinSide]) -> Iterator[str]:
    for each in sides:
        if absent := [name for name in _USED if name.lower() not in each.report.columns]:
            bucket = each.report.inventory.source_bucket
            yield f"The report of {bucket} has no {', '.join(absent)}: what these would tell was not compared."


def _described(report: Report, side: JoinSide) -> dict[str, Any]:
    """What a report document says of a report."""
    inventory = report.inventory
    return {
        "bucket": inventory.source_bucket,
        "location": str(report.side.location),
        "manifest": str(inventory.manifest),
        "created_at": iso_time(inventory.created_at),
        "format": inventory.file_format,
        "rows": side.report.rows,
    }
