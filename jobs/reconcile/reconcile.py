"""The reconciliation of two inventory reports: what differs, and how.

It makes no request per object. Missing, extra, different and stale keys (or versions) are findings.
So is a key whose replication FAILED, says S3, unless its content is proven to be the same. What is
in flight is judged by the next reports, and what is unverifiable is shown with its reason. Neither
is a finding. `jobs.reconcile.rules` has the rules.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.core.category import REPAIRABLE
from jobs.core.model import LATEST_SECONDS
from jobs.core.prefix_map import PrefixMap
from jobs.core.run import RunSpec, Side
from jobs.errors import ManifestError
from jobs.inventory.report import Inventory
from jobs.reports.document import Comparison
from jobs.s3.store import Store

if TYPE_CHECKING:
    from jobs.ledger.ledger import Ledger
    from jobs.reconcile.join import SideTotals
    from jobs.reconcile.stage import StagedReport
    from jobs.runs.packed import PackedCopies

CLOCK_SECONDS = 2 * 86_400
"""A report's objects may be this much newer than its creationTimestamp: listing a huge bucket takes
that long."""

FUTURE_SECONDS = 3600
VERDICTS = "verdicts.parquet"

_LIMITS = {
    "Size": "sizes were not compared",
    "ETag": "ETags were not compared",
    "LastModifiedDate": "what is in flight or stale is unknown",
    "IsMultipartUploaded": "uploads in parts were recognised by their ETag's form",
    "EncryptionStatus": "an ETag was taken for an MD5 if it looks like one",
}
"""Field → the limit of a comparison with a report that lacks it."""


@dataclass(frozen=True, slots=True)
class ReconcileOptions:
    """How to compare.

    `now`: epoch seconds. `versions`: `current`, or `all` to compare version by version.

    `margin_seconds`: what is newer than the older report's creationTimestamp less this is in
    flight. `repairs_different`: the repair overwrites what differs and is newer. `packed`: archives whose
    members are not missing, for a comparison of current objects. `is_complete`: the reports are of all
    current objects, so what neither has is gone.
    """

    now: float
    versions: str = "current"
    prefixes: PrefixMap = field(default_factory=PrefixMap)
    margin_seconds: float = 900.0
    repairs_different: bool = False
    packed: PackedCopies | None = None
    is_complete: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """The report of a side: its inventory, and the store of its data files.

    `evidence`: known checksums, as Parquet files of the columns key, version_id (empty, null or
    `null`: unversioned), etag, algorithm, value (base64), is_composite, computed_at (UTC). Where no
    version id pins the object, its ETag must be the same, and it must not be newer. `checksums`: the
    URI that they come from. `doubted`: the store of its bucket, of which a few pages are listed, if
    the report has to cover the prefixes.
    """

    side: Side
    inventory: Inventory
    store: Store
    evidence: Sequence[Path] = ()
    checksums: str | None = None
    doubted: Store | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation(Comparison):
    """The result.

    `folder` has `differences.parquet` and `.csv`, two manifests for a replicate run (`repair.parquet`,
    what a copy may mend, with `repairable_rows`, and `different.parquet`, to be overwritten), and
    `verdicts.parquet`, what it says to the ledger's state. `source_rows`: objects (or
    versions) that the source has, in the prefix map.
    """

    folder: Path
    repairable_rows: int
    source_rows: int


async def reconcile(
    source: Report,
    destination: Report,
    options: ReconcileOptions,
    scratch: Path,
    run: tuple[Ledger, RunSpec] | None = None,
) -> Reconciliation:
    """Join the two reports by key (or version) and write what differs into `scratch`/result.

    `run`: the ledger, and the run whose verdicts its state gets.

    Raises ManifestError for reports that cannot be compared or trusted, and a StoreError when S3
    refuses. Then the result folder does not exist.
    """
    from jobs.reconcile.findings import rows_sql, write_findings
    from jobs.reconcile.join import connect, join_reports, problems
    from jobs.reconcile.partial_reports import check_coverage
    from jobs.reconcile.stage import fetch_report, newest_modified, stage_report
    from jobs.tables.duck import in_thread

    _check_pair(source, destination, options)
    horizon = min(each.inventory.created_at for each in (source, destination)) - options.margin_seconds
    maps = options.prefixes
    scratch.mkdir(parents=True, exist_ok=True)
    connection = connect(scratch)
    sides: list[tuple[Report, int, Callable[[str], str | None]]] = [
        (source, 0, maps.destination_of),
        (destination, 1, maps.source_of),
    ]
    try:
        staged = []
        for report, side, other_key in sides:
            places = await fetch_report(report.inventory, report.store, scratch / f"report-{side}")
            each = await in_thread(connection, stage_report, connection, report.inventory, places)
            if report.doubted is not None:
                prefixes = [pair[side] for pair in maps.pairs]
                oldest = report.inventory.created_at - options.margin_seconds
                await check_coverage(connection, each, report.doubted, prefixes, other_key, oldest)
            _check_clock(each.inventory, await in_thread(connection, newest_modified, connection, each))
            staged.append(each)
        evidence = source.evidence, destination.evidence
        how = {"horizon_us": int(horizon * 1_000_000), "all_versions": options.versions == "all"}
        totals, joined = await in_thread(connection, join_reports, connection, staged, evidence, maps, **how)
        if options.packed is not None:
            from jobs.reconcile.packed_copies import judge_packed

            await judge_packed(connection, options.packed, destination.inventory.source_bucket)
        partial, folder = scratch / "result.partial", scratch / "result"
        partial.mkdir()
        if run is not None:
            from jobs.reconcile.verdicts import load_known, write_verdicts

            ledger, spec = run
            await load_known(connection, ledger, spec, maps, scratch / "known", is_complete=options.is_complete)
            how = {"horizon_us": how["horizon_us"], "is_complete": options.is_complete}
            listed_at = source.inventory.created_at, destination.inventory.created_at
            with problems(staged):
                await in_thread(
                    connection, write_verdicts, connection, joined, spec, maps, listed_at, partial / VERDICTS, **how
                )
        with problems(staged):
            rows = rows_sql(maps, all_versions=options.versions == "all")
            outside = sum(each.excluded_rows for each in totals), sum(each.excluded_bytes for each in totals)
            repairs = {"repairs_different": options.repairs_different, "excluded": outside}
            found = await in_thread(connection, write_findings, connection, partial, rows, **repairs)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        connection.close()
        for name in ("report-0", "report-1", "spill", "result.partial", "known"):
            await asyncio.to_thread(shutil.rmtree, scratch / name, ignore_errors=True)
    ours, theirs = map(_described, staged, totals)
    return Reconciliation(
        **found,
        source=ours,
        destination=theirs,
        margin_seconds=options.margin_seconds,
        limits=[limit for report in staged for limit in _limits(report)],
        folder=folder,
        repairable_rows=sum(rows for name, (rows, _) in found["categories"].items() if name in REPAIRABLE),
    )


def _check_pair(source: Report, destination: Report, options: ReconcileOptions) -> None:
    for report, side in ((source, "source"), (destination, "destination")):
        inventory = report.inventory
        if (bucket := report.side.location.bucket) != inventory.source_bucket:
            raise ManifestError(
                f"{inventory.manifest} is of the bucket {inventory.source_bucket}, the {side} is {bucket}",
                advice="give the report of that bucket",
            )
        if inventory.created_at > options.now + FUTURE_SECONDS:
            raise ManifestError(
                f"{inventory.manifest} says that it was made on {_time(inventory.created_at)}, here it is "
                f"{_time(options.now)}: clocks disagree, so what is in flight is unknown",
                advice="set them",
            )
    one, other = source.inventory, destination.inventory
    if one.source_bucket == other.source_bucket:
        raise ManifestError(
            f"{one.manifest} and {other.manifest} are both of the bucket {one.source_bucket}",
            advice="give one report of the source and one of the destination",
        )


def _check_clock(inventory: Inventory, newest: float | None) -> None:
    if newest is not None and newest > inventory.created_at + CLOCK_SECONDS:
        raise ManifestError(
            f"{inventory.manifest} says that it was made on {_time(inventory.created_at)}, but lists an object of "
            f"{_time(newest)}: clocks disagree, so what is in flight is unknown",
            advice="use another inventory",
        )


def _limits(staged: StagedReport) -> list[str]:
    bucket = staged.inventory.source_bucket
    return [
        f"the report of {bucket} has no {name}: {limit}"
        for name, limit in _LIMITS.items()
        if name.lower() not in staged.columns
    ]


def _described(staged: StagedReport, totals: SideTotals) -> dict[str, Any]:
    """What a report document says of a report."""
    inventory = staged.inventory
    return {
        "bucket": inventory.source_bucket,
        "manifest": str(inventory.manifest),
        "created_at": inventory.created_at,
        "format": inventory.file_format,
        "rows": staged.rows,
        "repeated_rows": totals.repeated_rows,
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(min(max(seconds, 0.0), LATEST_SECONDS), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
