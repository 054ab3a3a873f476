"""Reconciliation run: compares two reports and writes the findings into the ledger."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jobs import __version__
from jobs.core.bucket_names import is_second_name
from jobs.core.category import Category
from jobs.core.display import Display
from jobs.core.model import Location, ObjectVersion, Route, overlap
from jobs.core.prefix_map import PrefixMap
from jobs.core.run import Plan, RunSpec, Side
from jobs.errors import UsageError
from jobs.ledger.ledger import DIFFERENCES, Ledger
from jobs.reconcile.repair_advice import DIFFERENT, REPAIR
from jobs.reports.document import Comparison, summarize_reconcile
from jobs.reports.publish import PAGE, write_page
from jobs.s3.sessions import open_side, open_store
from jobs.s3.store import Store

if TYPE_CHECKING:
    from jobs.inventory.report import Inventory
    from jobs.reconcile.reconcile import ComparedReport, Reconciliation

SHOWN_FINDINGS = 1_000
"""How many findings the page of a comparison lists."""
PARQUET, CSV = "application/vnd.apache.parquet", "text/csv; charset=utf-8"


@dataclass(frozen=True, slots=True)
class ComparedSide:
    """One side of a comparison, and how to reach it.

    `location`: None for the whole bucket of its inventory. `checksums`: URI of a report of
    checksums at rest.
    """

    location: Location | None = None
    endpoint: str | None = None
    region: str | None = None
    profile: str | None = None
    checksums: str | None = None
    owner: str | None = None

    def side(self, bucket: str) -> Side:
        """The side. `bucket`: that of its inventory."""
        return Side(self.location or Location(bucket), self.endpoint, self.region, self.profile, self.owner)

    def open(self, bucket: str) -> Store:
        """The store of the side. `bucket`: that of its inventory."""
        return open_side(self.side(bucket))


class NightStage(NamedTuple):
    """The night that compares: its pair, its date, and whether it looks at the pair's replica."""

    pair: str
    night: str
    of_replica: bool


@dataclass(frozen=True, slots=True)
class CompareRequest:
    """What to compare, and how.

    `maps`: FROM=TO prefixes. `margin`: an age such as 15m. `confirm`: ask S3 about each suspected
    row, `confirm_limit` at most. `version_map`: ids of replicate runs whose copies have version ids
    of their own. `night`: None unless a night compares.
    """

    source: ComparedSide
    destination: ComparedSide
    versions: str = "current"
    maps: Sequence[str] = ()
    margin: str = "15m"
    confirm: bool = False
    confirm_limit: int = 100_000
    version_map: tuple[str, ...] = ()
    night: NightStage | None = None

    def options(self) -> dict[str, Any]:
        """The options of the run's spec."""
        names = ("versions", "maps", "margin", "confirm", "version_map")
        checksums = {"source_checksums": self.source.checksums, "destination_checksums": self.destination.checksums}
        night = {} if self.night is None else self.night._asdict()
        return {name: getattr(self, name) for name in names} | checksums | night


async def compare(
    request: CompareRequest,
    source: Inventory,
    destination: Inventory,
    options: Any,
    ledger: Ledger,
    scratch: Path,
    display: Display,
    stores: tuple[Store, Store] | None = None,
) -> Reconciliation:
    """Join the two reports with the evidence, version map and confirmation of the request.

    See `jobs.reconcile.reconcile.reconcile`. `stores`: where the reports' data files are. None:
    where boto3 finds them.
    """
    from jobs.reconcile.reconcile import EvidenceFiles, reconcile

    suspects = None
    if request.confirm:
        from jobs.reconcile.confirm import Suspects

        suspects = Suspects(
            request.source.open(source.source_bucket),
            source.source_bucket,
            request.destination.open(destination.source_bucket),
            destination.source_bucket,
            request.confirm_limit,
        )
    store = open_store(None, None, None)
    return await reconcile(
        source,
        destination,
        options,
        source_store=stores[0] if stores else store,
        destination_store=stores[1] if stores else store,
        scratch=scratch / "join",
        evidence=EvidenceFiles(
            source=await _evidence(
                request.source.checksums, source.source_bucket, store, scratch / "ours.parquet", display
            ),
            destination=await _evidence(
                request.destination.checksums, destination.source_bucket, store, scratch / "theirs.parquet", display
            ),
        ),
        version_map=await _version_map(
            request.version_map, (source.source_bucket, destination.source_bucket), options.prefixes, ledger, scratch
        ),
        suspects=suspects,
    )


async def _evidence(uri: str | None, bucket: str, store: Any, path: Path, display: Display) -> list[Path]:
    if uri is None:
        return []
    from jobs.checksum_reports.evidence import write_evidence

    summary = await write_evidence(store, uri, path, bucket=bucket)
    if summary.rejected:
        display.say(f"{uri}: {summary.rejected:,} lines are unusable; their objects stay unproven")
    return [path]


async def _version_map(
    run_ids: tuple[str, ...], buckets: tuple[str, str], maps: PrefixMap, ledger: Ledger, scratch: Path
) -> list[Path]:
    """The outcome files of the runs that made the copies: they say which version became which.

    Raises UsageError for a run whose copies are elsewhere. Of these nothing is known here.
    """
    paths: list[Path] = []
    for run_id in run_ids:
        spec = await ledger.spec(run_id)
        if not _is_between(spec, buckets, maps):
            raise UsageError(
                f"--version-map: run {run_id} made its copies at {spec.destination.location}, of "
                f"{spec.source.location}, and these are other places",
                advice="name the run that made these copies",
            )
        plan = await ledger.plan(run_id)
        numbers = plan.row_numbers()
        for checkpoint in await ledger.checkpoints(run_id, plan=plan):
            path = scratch / f"outcomes-{len(paths):06d}.parquet"
            path.write_bytes(await ledger.checkpoint_data(run_id, checkpoint, numbers[checkpoint.shard]))
            paths.append(path)
    return paths


def _is_between(spec: RunSpec, buckets: tuple[str, str], maps: PrefixMap) -> bool:
    """True if a run made copies between two buckets, some of them at the keys of the map.

    The names of access points say nothing of their buckets.
    """
    route = Route(spec.source.location, spec.destination.location)
    for place, bucket in zip((route.source, route.destination), buckets, strict=True):
        if place.bucket != bucket and not is_second_name(place.bucket):
            return False
    for prefix, _ in maps.pairs:
        key = max(prefix, route.source.key, key=len)
        if overlap(prefix, route.source.key) and (
            maps.destination_of(key) == route.target_of(ObjectVersion(0, key)).key
        ):
            return True
    return False


def make_spec(request: CompareRequest, run_id: str, began: float, source: Inventory, destination: Inventory) -> RunSpec:
    """The run's spec: the request as the ledger records it."""
    return RunSpec(
        run_id=run_id,
        job="reconcile",
        created_at=began,
        source=request.source.side(source.source_bucket),
        destination=request.destination.side(destination.source_bucket),
        manifest=str(source.manifest),
        options=request.options() | {"destination_manifest": str(destination.manifest)},
        sealift_version=__version__,
    )


async def publish_run(
    ledger: Ledger,
    spec: RunSpec,
    margin_seconds: float,
    result: Reconciliation,
    next_steps: Sequence[str] = (),
    *,
    has_page: bool = True,
) -> dict[str, Any]:
    """Write the run of a comparison into the ledger, its plan and its report last.

    A run that is killed before that was never planned. `has_page`: False if a repair follows, after
    which `write_result_page` writes the page.
    """
    run_id = spec.run_id
    await ledger.create(spec)
    differences = {
        "parquet": await ledger.write_path(run_id, DIFFERENCES, result.differences_parquet, PARQUET),
        "csv": await ledger.write_path(run_id, "differences.csv", result.differences_csv, CSV),
    }
    manifest = None
    if result.repairable_rows:
        manifest = await ledger.write_path(run_id, REPAIR, result.manifest_parquet, PARQUET)
    different = None
    if result.categories[Category.DIFFERENT][0]:
        different = await ledger.write_path(run_id, DIFFERENT, result.different_parquet, PARQUET)
    unparsed = None
    if result.unparsed_parquet:
        unparsed = await ledger.write_path(run_id, "unparsed.parquet", result.unparsed_parquet, PARQUET)
    comparison = Comparison(
        categories={category.value: counts for category, counts in result.categories.items()},
        findings=result.findings,
        source=_report_document(result.source) | {"location": str(spec.source.location)},
        destination=_report_document(result.destination) | {"location": str(spec.destination.location)},
        margin_seconds=margin_seconds,
        differences=differences,
        prefixes=[(line.label, None, line.rows, line.size_bytes) for line in result.by_prefix],
        ages=[(line.label, line.rows, line.size_bytes) for line in result.by_age],
        sizes=[(line.label, line.rows, line.size_bytes) for line in result.by_size],
        unjudged=result.unjudged,
        limits=result.limits,
        unparsed=result.unparsed_rows,
        unparsed_examples=[asdict(each) for each in result.unparsed[:20]],
    )
    report = summarize_reconcile(
        run_id,
        comparison,
        spec.created_at,
        time.time(),
        report=ledger.uri(run_id, "report.json"),
        report_html=ledger.uri(run_id, PAGE),
        ledger=str(ledger.location),
        repair_manifest=manifest,
        different_manifest=different,
        unparsed_rows=unparsed,
        confirmed=result.confirmed._asdict() if result.confirmed else None,
        next_steps=list(next_steps),
    )
    if has_page:
        await write_result_page(ledger, spec, report, result)
    await ledger.publish_plan(run_id, Plan(report["rows"], report["bytes"], ()))
    await ledger.publish_report(run_id, report)
    return report


async def write_result_page(
    ledger: Ledger,
    spec: RunSpec,
    report: dict[str, Any],
    result: Reconciliation,
    findings: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Write the run's page. `findings`: what a repair left. None: all that the run found."""
    if findings is None:
        findings = await asyncio.to_thread(first_findings, result.differences_parquet)
    await write_page(ledger, spec, report, findings)


def first_findings(differences: Path) -> list[dict[str, Any]]:
    """The first findings of a file of differences, as its page lists them."""
    import pyarrow.parquet as pq

    shown: list[dict[str, Any]] = []
    for batch in pq.ParquetFile(differences).iter_batches(SHOWN_FINDINGS):
        shown += [row for row in batch.to_pylist() if row["is_finding"]]
        if len(shown) >= SHOWN_FINDINGS:
            break
    return shown[:SHOWN_FINDINGS]


def _report_document(report: ComparedReport) -> dict[str, Any]:
    return {
        "bucket": report.bucket,
        "manifest": report.manifest,
        "created_at": report.created_at,
        "format": report.file_format,
        "rows": report.rows,
        "repeated_rows": report.repeated_rows,
    }
