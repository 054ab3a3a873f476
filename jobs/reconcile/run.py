"""The middle of a reconciliation: two reports compared, and what was found made a run of the ledger.

`given` are the words of `sealift reconcile`'s options; a night gives the same.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs import __version__
from jobs.core.display import Display
from jobs.core.model import Location
from jobs.core.run import Plan, RunSpec, Side
from jobs.ledger.ledger import Ledger
from jobs.reports.document import summarize_reconcile
from jobs.reports.publish import PAGE, write_page
from jobs.s3.sessions import open_store
from jobs.s3.store import Store

if TYPE_CHECKING:
    from jobs.inventory.report import Inventory
    from jobs.reconcile.reconcile import Freshness, Reconciliation

SHOWN_FINDINGS = 1_000
PARQUET, CSV = "application/vnd.apache.parquet", "text/csv; charset=utf-8"


async def compare(
    given: Mapping[str, Any],
    source: Inventory,
    destination: Inventory,
    options: Any,
    ledger: Ledger,
    scratch: Path,
    display: Display,
    stores: tuple[Store, Store] | None = None,
) -> Reconciliation:
    """Join the two reports, as `jobs.reconcile.reconcile.reconcile` says, with all that the options name.

    `stores`: where the reports' data files are read from; None: as boto3 finds them.
    """
    from jobs.reconcile.reconcile import Evidence, reconcile

    suspects = None
    if given["confirm"]:
        from jobs.reconcile.confirm import Suspects

        suspects = Suspects(
            side_store(given, "source"),
            source.source_bucket,
            side_store(given, "destination"),
            destination.source_bucket,
            given["confirm_limit"],
        )
    store = open_store(None, None, None)
    return await reconcile(
        source,
        destination,
        options,
        source_store=stores[0] if stores else store,
        destination_store=stores[1] if stores else store,
        scratch=scratch / "join",
        evidence=Evidence(
            source=await _evidence(
                given["source_checksums"], source.source_bucket, store, scratch / "ours.parquet", display
            ),
            destination=await _evidence(
                given["destination_checksums"], destination.source_bucket, store, scratch / "theirs.parquet", display
            ),
        ),
        version_map=await _version_map(given["version_map"], ledger, scratch),
        suspects=suspects,
    )


async def _evidence(uri: str | None, bucket: str, store: Any, path: Path, display: Display) -> list[Path]:
    if uri is None:
        return []
    from jobs.checksum_reports.evidence import write_evidence

    summary = await write_evidence(store, uri, path, bucket=bucket)
    if summary.rejected:
        display.say(f"{uri}: {summary.rejected:,} lines are of no use; what they are about stays unproven")
    return [path]


async def _version_map(run_ids: tuple[str, ...], ledger: Ledger, scratch: Path) -> list[Path]:
    """The outcome files of the runs that made the copies: they know which version became which."""
    paths: list[Path] = []
    for run_id in run_ids:
        await ledger.spec(run_id)
        plan = await ledger.plan(run_id)
        numbers = plan.row_numbers()
        for checkpoint in await ledger.checkpoints(run_id, plan=plan):
            path = scratch / f"outcomes-{len(paths):06d}.parquet"
            path.write_bytes(await ledger.checkpoint_data(run_id, checkpoint, numbers[checkpoint.shard]))
            paths.append(path)
    return paths


def side_store(given: Mapping[str, Any], name: str) -> Any:
    """The store of the `source` or the `destination`."""
    return open_store(given[f"{name}_endpoint"], given[f"{name}_region"], given[f"{name}_profile"])


def make_spec(
    given: Mapping[str, Any], run_id: str, began: float, source: Inventory, destination: Inventory
) -> RunSpec:
    """What the ledger says was asked."""

    def place(name: str, inventory: Inventory) -> Side:
        location = given[name] or Location(inventory.source_bucket)
        return Side(location, given[f"{name}_endpoint"], given[f"{name}_region"], given[f"{name}_profile"])

    names = ("versions", "maps", "margin", "confirm", "source_checksums", "destination_checksums", "version_map")
    return RunSpec(
        run_id=run_id,
        job="reconcile",
        created_at=began,
        source=place("source", source),
        destination=place("destination", destination),
        manifest=str(source.manifest),
        options={name: given[name] for name in names} | {"destination_manifest": str(destination.manifest)},
        sealift_version=__version__,
    )


async def record(ledger: Ledger, spec: RunSpec, margin_seconds: float, found: Reconciliation) -> dict[str, Any]:
    """Write the run into the ledger, its plan and its report last: one that is killed before was never planned."""
    import pyarrow.parquet as pq

    run_id = spec.run_id
    await ledger.create(spec)
    differences = {
        "parquet": await ledger.write_path(run_id, "differences/00000.parquet", found.differences_parquet, PARQUET),
        "csv": await ledger.write_path(run_id, "differences.csv", found.differences_csv, CSV),
    }
    manifest = None
    if found.repairable_rows:
        manifest = await ledger.write_path(run_id, "repair.parquet", found.manifest_parquet, PARQUET)
    unparsed = None
    if found.unparsed_parquet:
        unparsed = await ledger.write_path(run_id, "unparsed.parquet", found.unparsed_parquet, PARQUET)
    report = summarize_reconcile(
        run_id,
        created_at=spec.created_at,
        finished_at=time.time(),
        categories={category.value: counts for category, counts in found.categories.items()},
        findings=found.findings,
        source=_side(found.source),
        destination=_side(found.destination),
        margin_seconds=margin_seconds,
        differences=differences,
        prefixes=[(line.label, None, line.rows, line.size_bytes) for line in found.by_prefix],
        ages=[(line.label, line.rows, line.size_bytes) for line in found.by_age],
        sizes=[(line.label, line.rows, line.size_bytes) for line in found.by_size],
        unjudged=found.unjudged,
        limits=found.limits,
        unparsed=found.unparsed_rows,
        unparsed_examples=[asdict(each) for each in found.unparsed[:20]],
        report=ledger.uri(run_id, "report.json"),
        report_html=ledger.uri(run_id, PAGE),
        ledger=str(ledger.location),
        repair_manifest=manifest,
        unparsed_rows=unparsed,
        confirmed=found.confirmed._asdict() if found.confirmed else None,
    )
    batches = pq.ParquetFile(found.differences_parquet).iter_batches(SHOWN_FINDINGS)
    shown: list[dict[str, Any]] = []
    for batch in batches:
        shown += [row for row in batch.to_pylist() if row["is_finding"]]
        if len(shown) >= SHOWN_FINDINGS:
            break
    await write_page(ledger, spec, report, shown[:SHOWN_FINDINGS])
    await ledger.publish_plan(run_id, Plan(report["rows"], report["bytes"], ()))
    await ledger.publish_report(run_id, report)
    return report


def _side(freshness: Freshness) -> dict[str, Any]:
    return {
        "bucket": freshness.bucket,
        "manifest": freshness.manifest,
        "created_at": freshness.created_at,
        "format": freshness.file_format,
        "rows": freshness.rows,
        "repeated_rows": freshness.repeated_rows,
    }
