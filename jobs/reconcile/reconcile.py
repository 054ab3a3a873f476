"""The reconciliation of two inventory reports: what differs, and how.

It makes no request per object. Missing, extra, different and stale keys (or versions) are findings.
So is a key whose replication FAILED, says S3, unless its content is proven to be the same. What is
in flight is judged by the next reports, and what is unverifiable is shown with its reason. Neither
is a finding. `jobs.reconcile.rules` has the rules.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.core.category import Category
from jobs.core.model import LATEST_SECONDS
from jobs.core.prefix_map import PrefixMap
from jobs.errors import ManifestError
from jobs.inventory.report import Inventory
from jobs.s3.store import Store

if TYPE_CHECKING:
    import duckdb

    from jobs.reconcile.confirm import Confirmation, Suspects
    from jobs.reconcile.findings import BreakdownLine, Findings
    from jobs.reconcile.join_side import SideTotals
    from jobs.reconcile.packed_copies import PackedCopies
    from jobs.reconcile.stage import StagedReport

CLOCK_SECONDS = 2 * 86_400
"""A report's objects may be this much newer than its creationTimestamp: listing a huge bucket takes
that long."""

FUTURE_SECONDS = 3600
LISTED_ROWS = 100

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

    `source_bucket` and `destination_bucket`: the pair that the reports must be of (None: any).
    `margin_seconds`: what is newer than the older report's creationTimestamp less this is in
    flight. `memory_limit_bytes` is the join's. The process needs about 100 MiB more.
    `repairs_different`: the manifest of what to repair has different rows as well, with their
    destinations condemned. `doubted`: the manifest of a report that has to cover the prefixes → the
    store of its bucket, of which a few pages are listed. `packed`: archives whose members are not
    missing, for a comparison of current objects.
    """

    now: float
    versions: str = "current"
    prefixes: PrefixMap = field(default_factory=PrefixMap)
    margin_seconds: float = 900.0
    source_bucket: str | None = None
    destination_bucket: str | None = None
    memory_limit_bytes: int = 640 << 20
    repairs_different: bool = False
    doubted: Mapping[str, Store] = field(default_factory=dict)
    packed: PackedCopies | None = None

    @property
    def repaired(self) -> frozenset[Category]:
        """The categories whose rows the manifest of what to repair has."""
        return frozenset(
            {Category.MISSING, Category.STALE} | ({Category.DIFFERENT} if self.repairs_different else set())
        )


@dataclass(frozen=True, slots=True)
class EvidenceFiles:
    """Known checksums of either side, as Parquet files.

    Columns: key, version_id (empty, null or `null`: unversioned), etag, algorithm, value (base64),
    is_composite, computed_at (UTC). Where no version id pins the object, its ETag must be the same,
    and it must not be newer.
    """

    source: Sequence[Path] = ()
    destination: Sequence[Path] = ()


@dataclass(frozen=True, slots=True)
class ComparedReport:
    """One report: its manifest, bucket, when its listing began (epoch seconds), its rows.

    `repeated_rows` were listed more than once. The latest of each counts.
    """

    manifest: str
    bucket: str
    created_at: float
    file_format: str
    rows: int
    repeated_rows: int


@dataclass(frozen=True, slots=True)
class Unparsed:
    """An unparsed row: its report and data file, its line if known, what is wrong, its text."""

    report: str
    file: str | None
    line: int | None
    problem: str
    row: str


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The result.

    `categories`: category → (keys or versions, bytes). All categories add up to the union.

    `findings` counts the rows of `differences_parquet` that have `is_finding`. `by_prefix`: the
    worst prefixes by findings. `by_age` and `by_size`: of what is missing. `unjudged`: (reason,
    detail, rows) of what is unverifiable or in flight, and of what is the same although its replication
    FAILED. `limits`: what the reports do not say. `confirmed`: the result of asking S3 itself.
    `unparsed`: the first of the `unparsed_rows`. All are in `unparsed_parquet` (None without such
    rows). `manifest_parquet`: what to repair (missing or stale), a manifest for a replicate run
    with `repairable_rows` rows. `different_parquet`: the different rows, as such a manifest.
    `source_rows`: objects (or versions) that the source has, in the
    prefix map.
    """

    categories: dict[Category, tuple[int, int]]
    findings: int
    differences_parquet: Path
    differences_csv: Path
    manifest_parquet: Path
    different_parquet: Path
    repairable_rows: int
    by_prefix: tuple[BreakdownLine, ...]
    by_age: tuple[BreakdownLine, ...]
    by_size: tuple[BreakdownLine, ...]
    unjudged: tuple[tuple[str, str, int], ...]
    limits: tuple[str, ...]
    unparsed_rows: int
    unparsed: tuple[Unparsed, ...]
    unparsed_parquet: Path | None
    source: ComparedReport
    destination: ComparedReport
    source_rows: int
    confirmed: Confirmation | None = None


async def reconcile(
    source: Inventory,
    destination: Inventory,
    options: ReconcileOptions,
    *,
    source_store: Store,
    destination_store: Store,
    scratch: Path,
    evidence: EvidenceFiles | None = None,
    version_map: Sequence[Path] = (),
    suspects: Suspects | None = None,
) -> Reconciliation:
    """Join the two reports by key (or version) and write what differs into `scratch`/result.

    The stores are those of the reports' data files. `version_map`: Parquet files with the columns
    key, version_id (the source's) and destination_version_id, as a run's outcomes have them, for a
    destination with version ids of its own. A version that they do not name keeps its id. Of
    several copies of a version, the one with the latest `finished_at` counts.
    `suspects`: ask S3 itself before a row becomes a finding.

    Raises ManifestError for reports that cannot be compared or trusted, and a StoreError when S3
    refuses. Then the result folder does not exist.
    """
    from jobs.reconcile.confirm import confirm
    from jobs.reconcile.join import connect, join_reports
    from jobs.reconcile.join_side import JoinOptions
    from jobs.reconcile.partial_reports import Bucket, check_coverage
    from jobs.reconcile.rules_sql import RuleOptions
    from jobs.reconcile.stage import fetch_reports, stage_reports
    from jobs.tables.duck import in_thread

    _check_pair(source, destination, options)
    evidence = evidence or EvidenceFiles()
    horizon = min(source.created_at, destination.created_at) - options.margin_seconds
    all_versions = options.versions == "all"
    joining = JoinOptions(
        rules=RuleOptions(int(horizon * 1_000_000), all_versions),
        prefixes=options.prefixes,
        version_map=version_map,
        source_evidence=evidence.source,
        destination_evidence=evidence.destination,
    )
    scratch.mkdir(parents=True, exist_ok=True)
    connection = connect(scratch, memory_limit_bytes=options.memory_limit_bytes)
    try:
        folders = scratch / "source", scratch / "destination"
        places = await fetch_reports([(source, source_store, folders[0]), (destination, destination_store, folders[1])])
        reports = [(source, places[0], folders[0]), (destination, places[1], folders[1])]
        ours, theirs = await in_thread(connection, stage_reports, reports, connection)

        for staged, make in ((ours, Bucket.source), (theirs, Bucket.destination)):
            if store := options.doubted.get(str(staged.inventory.manifest)):
                oldest = staged.inventory.created_at - options.margin_seconds
                await check_coverage(connection, staged, make(store, options.prefixes), oldest)

        def join() -> tuple[SideTotals, SideTotals]:
            for staged in (ours, theirs):
                _check_clock(connection, staged)
            return join_reports(connection, ours, theirs, joining)

        totals = await in_thread(connection, join)
        if options.packed is not None:
            from jobs.reconcile.packed_copies import judge_packed

            await judge_packed(connection, options.packed, destination.source_bucket)
        confirmed = None
        if suspects is not None:
            confirmed = await confirm(
                connection,
                suspects,
                options.prefixes,
                horizon,
                all_versions=all_versions,
                versions_sql=joining.versions_sql(),
            )
        found = await in_thread(connection, _write, connection, scratch, options, (ours, theirs), totals)
        return replace(found, confirmed=confirmed)
    finally:
        connection.close()
        for name in ("source", "destination", "spill"):
            await asyncio.to_thread(shutil.rmtree, scratch / name, ignore_errors=True)


def _check_pair(source: Inventory, destination: Inventory, options: ReconcileOptions) -> None:
    for inventory, bucket, side in (
        (source, options.source_bucket, "source"),
        (destination, options.destination_bucket, "destination"),
    ):
        if bucket is not None and inventory.source_bucket != bucket:
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
    if source.source_bucket == destination.source_bucket:
        raise ManifestError(
            f"{source.manifest} and {destination.manifest} are both of the bucket {source.source_bucket}",
            advice="give one report of the source and one of the destination",
        )


def _check_clock(connection: duckdb.DuckDBPyConnection, staged: StagedReport) -> None:
    from jobs.reconcile.stage import newest_modified

    inventory, newest = staged.inventory, newest_modified(connection, staged)
    if newest is not None and newest > inventory.created_at + CLOCK_SECONDS:
        raise ManifestError(
            f"{inventory.manifest} says that it was made on {_time(inventory.created_at)}, but lists an object of "
            f"{_time(newest)}: clocks disagree, so what is in flight is unknown",
            advice="use another inventory",
        )


def _write(
    connection: duckdb.DuckDBPyConnection,
    scratch: Path,
    options: ReconcileOptions,
    staged: tuple[StagedReport, StagedReport],
    totals: tuple[SideTotals, SideTotals],
) -> Reconciliation:
    """Write and count. The folder gets its name when it is complete."""
    from jobs.reconcile.findings import write_findings, write_unparsed

    partial, result = scratch / "result.partial", scratch / "result"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    found = write_findings(
        connection,
        partial,
        options.prefixes,
        all_versions=options.versions == "all",
        now=options.now,
        repaired=options.repaired,
    )
    unparsed_rows, unparsed = write_unparsed(connection, partial, limit=LISTED_ROWS)
    shutil.rmtree(result, ignore_errors=True)
    partial.rename(result)
    categories = dict(found.categories)
    rows, size_bytes = categories[Category.EXCLUDED]
    categories[Category.EXCLUDED] = (
        rows + sum(total.excluded_rows for total in totals),
        size_bytes + sum(total.excluded_bytes for total in totals),
    )
    return Reconciliation(
        categories=categories,
        findings=found.findings,
        differences_parquet=result / "differences.parquet",
        differences_csv=result / "differences.csv",
        manifest_parquet=result / "manifest.parquet",
        different_parquet=result / "different.parquet",
        repairable_rows=found.repairable_rows,
        by_prefix=found.by_prefix,
        by_age=found.by_age,
        by_size=found.by_size,
        unjudged=_unjudged(found),
        limits=tuple(limit for report in staged for limit in _limits(report)),
        unparsed_rows=unparsed_rows,
        unparsed=tuple(Unparsed(*row) for row in unparsed),
        unparsed_parquet=result / "unparsed.parquet" if unparsed_rows else None,
        source=_compared_report(staged[0], totals[0]),
        destination=_compared_report(staged[1], totals[1]),
        source_rows=found.source_rows,
    )


def _unjudged(found: Findings) -> tuple[tuple[str, str, int], ...]:
    shown = {Category.UNVERIFIABLE, Category.IN_FLIGHT, Category.SAME}
    return tuple(each[1:] for each in found.by_reason if each[0] in shown)


def _limits(staged: StagedReport) -> list[str]:
    bucket = staged.inventory.source_bucket
    return [
        f"the report of {bucket} has no {name}: {limit}"
        for name, limit in _LIMITS.items()
        if staged.column(name.lower()) is None
    ]


def _compared_report(staged: StagedReport, totals: SideTotals) -> ComparedReport:
    inventory = staged.inventory
    return ComparedReport(
        manifest=str(inventory.manifest),
        bucket=inventory.source_bucket,
        created_at=inventory.created_at,
        file_format=inventory.file_format,
        rows=staged.rows,
        repeated_rows=totals.repeated_rows,
    )


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(min(max(seconds, 0.0), LATEST_SECONDS), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
