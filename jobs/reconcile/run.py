"""Reconciliation run: compares two reports and writes the findings into the ledger."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs import __version__
from jobs.core.category import Category
from jobs.core.display import Display
from jobs.core.model import Location, ObjectRef
from jobs.core.run import Plan, RunSpec
from jobs.ledger.ledger import DIFFERENCES, Ledger
from jobs.reconcile.advice import DIFFERENT, REPAIR
from jobs.reconcile.reconcile import VERDICTS
from jobs.reports.document import summarize_reconcile
from jobs.reports.publish import PAGE, write_page
from jobs.s3.downloads import download
from jobs.s3.sessions import open_store

if TYPE_CHECKING:
    from jobs.reconcile.reconcile import Reconciliation, Report

FIRST_ROWS = 1_000
"""So many findings are looked at for a page, and keys for a forgotten prefix."""
PARQUET, CSV = "application/vnd.apache.parquet", "text/csv; charset=utf-8"


async def read_checksums(uri: str, bucket: str, path: Path, display: Display) -> list[Path]:
    """Write the checksums that a report of S3 has of a bucket into a file → the evidence for a comparison."""
    from jobs.checksum_reports.evidence import write_evidence

    summary = await write_evidence(open_store(None, None, None), uri, path, bucket=bucket)
    if summary.rejected:
        display.say(f"{uri}: {summary.rejected:,} lines are unusable; their objects stay unproven")
    return [path]


def make_spec(run_id: str, began: float, source: Report, destination: Report, options: Mapping[str, Any]) -> RunSpec:
    """The run's spec. `options`: `versions`, `maps` (FROM=TO prefixes), `margin`, and what a night adds."""
    checksums = {"source_checksums": source.checksums, "destination_checksums": destination.checksums}
    return RunSpec(
        run_id=run_id,
        job="reconcile",
        created_at=began,
        source=source.side,
        destination=destination.side,
        manifest=str(source.inventory.manifest),
        options={**options, **checksums, "destination_manifest": str(destination.inventory.manifest)},
        sealift_version=__version__,
    )


async def publish_run(
    ledger: Ledger, spec: RunSpec, result: Reconciliation, next_steps: Sequence[str] = ()
) -> dict[str, Any]:
    """Write the run of a comparison into the ledger, its plan and its report last.

    What it says to the ledger's state `reconcile` has written, if it was given the run.
    A run that is killed before that was never planned.
    """
    from jobs.ledger.state_files import write_delta

    run_id, folder = spec.run_id, result.folder
    await ledger.create(spec)

    async def write(name: str, file: str, kind: str, is_wanted: int = True) -> str | None:
        return await ledger.write_path(run_id, name, folder / file, kind) if is_wanted else None

    files = {
        "differences": {
            "parquet": await write(DIFFERENCES, "differences.parquet", PARQUET),
            "csv": await write("differences.csv", "differences.csv", CSV),
        },
        "repair_manifest": await write(REPAIR, REPAIR, PARQUET, result.repairable_rows),
        "different_manifest": await write(DIFFERENT, DIFFERENT, PARQUET, result.categories[Category.DIFFERENT][0]),
    }
    report = summarize_reconcile(
        run_id,
        result,
        spec.created_at,
        time.time(),
        report=ledger.uri(run_id, "report.json"),
        report_html=ledger.uri(run_id, PAGE),
        ledger=str(ledger.location),
        next_steps=list(next_steps),
        **files,
    )
    await write_page(ledger, spec, report, await asyncio.to_thread(first_findings, folder / "differences.parquet"))
    if (folder / VERDICTS).exists():
        await write_delta(ledger, run_id, folder / VERDICTS)
    await ledger.publish_plan(run_id, Plan(report["rows"], report["bytes"], ()))
    await ledger.publish_report(run_id, report)
    return report


def first_keys(differences: Path, source_prefix: str, destination_prefix: str) -> tuple[list[str], list[str]]:
    """The first keys that only the source has, and only the destination, without these prefixes."""
    from jobs.tables.duck import quoted

    names = {Category.MISSING: ("key", source_prefix), Category.EXTRA: ("destination_key", destination_prefix)}
    missing, extra = (
        [row[name].removeprefix(prefix) for row in _first(differences, f"category = {quoted(category.value)}")]
        for category, (name, prefix) in names.items()
    )
    return missing, extra


def first_findings(differences: Path) -> list[dict[str, Any]]:
    """The first findings of a file of differences, as its page lists them."""
    return _first(differences, "is_finding")


def _first(differences: Path, condition: str) -> list[dict[str, Any]]:
    from jobs.tables.duck import MEMORY_LIMIT, connect, parquet

    with connect(differences.parent, memory_limit=MEMORY_LIMIT) as connection:
        rows = connection.sql(f"FROM {parquet(differences)} WHERE {condition} LIMIT {FIRST_ROWS}")
        found: list[dict[str, Any]] = rows.to_arrow_table().to_pylist()
        return found


async def fetch_differences(ledger: Ledger, run_id: str, folder: Path) -> Path:
    """Download the rows in which the sides of a reconciliation differ. Raises NotFound."""
    path, place = folder / "differences.parquet", Location.parse(ledger.uri(run_id, DIFFERENCES))
    await download(ledger.store, ObjectRef(place.bucket, place.key), path)
    return path
