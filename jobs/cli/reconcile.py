"""`sealift reconcile`: two inventories in, an answer out, and the repair of what it found."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs import __version__
from jobs.cli import launch
from jobs.cli.console import emit, human_bytes, human_seconds, say, table
from jobs.cli.options import LocationType, json_option, ledger_location, ledger_option, side_options, stack
from jobs.cli.placement import batch_options
from jobs.cli.reporting import PAGE, publish
from jobs.config import Settings
from jobs.core.mapping import PrefixMap
from jobs.core.model import Location
from jobs.core.run import Plan, RunSpec, Side
from jobs.core.selection import parse_age, parse_size
from jobs.errors import UsageError
from jobs.report import exit_code, summarize_reconcile, verdict
from jobs.runs.ledger import Ledger
from jobs.s3.sessions import open_store

if TYPE_CHECKING:
    from jobs.reconcile import Freshness, Reconciliation
    from jobs.s3.inventories import Inventory

SHOWN_FINDINGS = 1_000
PARQUET, CSV = "application/vnd.apache.parquet", "text/csv; charset=utf-8"


@click.command()
@click.option("--source-inventory", metavar="URI", help="manifest.json, or a folder: its latest complete report.")
@click.option("--destination-inventory", metavar="URI", help="The same of the destination.")
@click.option("--day", metavar="YYYY-MM-DD", help="Of folders, the reports of that day (UTC).")
@click.option("--source", type=LocationType(), help="Which bucket and prefix; listed now when no inventory is given.")
@click.option("--destination", type=LocationType(), help="The same of the destination.")
@click.option("--versions", type=click.Choice(["current", "all"]), default="current", show_default=True)
@click.option(
    "--map",
    "maps",
    multiple=True,
    metavar="FROM=TO",
    help="A source prefix and the destination prefix that stands for it. May be repeated; other keys are excluded.",
)
@click.option("--version-map", multiple=True, metavar="RUN", help="A replicate run whose copies have own version ids.")
@click.option("--source-checksums", metavar="URI", help="Evidence at rest: a Compute checksum job's manifest.json.")
@click.option("--destination-checksums", metavar="URI", help="The same of the destination.")
@click.option("--margin", default="15m", show_default=True, help="How much older than a report to judge: 15m, 2h.")
@click.option("--confirm", is_flag=True, help="HEAD each suspicion on both sides before it is called a finding.")
@click.option("--confirm-limit", default=100_000, show_default=True, help="Ask for no more rows than these.")
@click.option("--repair", is_flag=True, help="Copy what is missing or stale, then verify it.")
@click.option("--repair-different", is_flag=True, help="And overwrite what differs, exactly the objects seen.")
@click.option("--join-memory", default="640MiB", show_default=True, help="Beyond it the join spills to disk.")
@ledger_option()
@stack(
    click.option("--max-cost", type=click.FloatRange(min=0), metavar="DOLLARS", help="Refuse a dearer repair."),
    click.option("--max-objects", type=click.IntRange(min=0), metavar="N", help="Refuse a larger repair."),
    click.option("--yes", is_flag=True, help="Repair without asking (on a terminal it asks)."),
    click.option("--executor", type=click.Choice(["local", "batch"]), help="Of the repair."),
)
@batch_options()
@json_option()
@side_options("source")
@side_options("destination")
def reconcile(**given: Any) -> int:
    """Say what is missing, extra, different or stale at the destination, from two inventories.

    No request per object is made: S3 Inventory's reports, or `sealift inventory`'s, are joined. What is newer than
    the older report is in flight; what cannot be compared is unverifiable, never counted as the same. The
    answer is in the ledger: report.html for people, report.json, the differences as Parquet and CSV.

    \b
    sealift reconcile --source-inventory s3://inv/docs/daily/ --destination-inventory s3://inv/replica/daily/
    sealift reconcile --source s3://docs --destination s3://replica --confirm --repair
    """
    settings = Settings.from_environment()
    return asyncio.run(_reconcile(given, ledger_location(given["ledger"], settings), settings))


async def _reconcile(given: dict[str, Any], place: Location, settings: Settings) -> int:
    from jobs.reconcile import ReconcileOptions

    if given["repair_different"] and not given["repair"]:
        raise UsageError("--repair-different needs --repair")
    ledger, began = launch.open_ledger(place), time.time()
    run_id = launch.new_run_id("reconcile", began)
    with tempfile.TemporaryDirectory(prefix="sealift-reconcile-") as folder:
        scratch = Path(folder)
        source, destination = await _inventories(given, ledger, run_id, began)
        maps = _maps(given)
        options = ReconcileOptions(
            now=time.time(),
            versions=given["versions"],
            prefixes=maps,
            margin_seconds=parse_age(given["margin"]),
            source_bucket=given["source"].bucket if given["source"] else None,
            destination_bucket=given["destination"].bucket if given["destination"] else None,
            memory_limit_bytes=parse_size(given["join_memory"]),
            repairs_different=given["repair_different"],
        )
        found = await _compare(given, source, destination, options, ledger, scratch)
        spec = _spec(given, run_id, began, source, destination)
        report = await _record(ledger, spec, options.margin_seconds, found)
        texts = [report_text(report)]
        code = int(exit_code(report))
        if given["repair"] and found.repairable_rows:
            if not given["as_json"]:
                say(texts.pop())
            if sys.stdin.isatty() and sys.stderr.isatty() and not given["yes"] and not given["as_json"]:
                click.confirm(f"Copy {found.repairable_rows:,} objects?", abort=True, err=True)
            from jobs.cli.repair import repair

            repaired = await repair(spec, maps, ledger, settings, given)
            report |= repaired.document
            texts += repaired.texts
            is_all = found.repairable_rows == found.findings and not found.unparsed_rows
            code = code if repaired.code == 0 and not is_all else repaired.code
    emit(report, as_json=given["as_json"], text="\n".join(texts))
    return code


async def _inventories(
    given: Mapping[str, Any], ledger: Ledger, run_id: str, began: float
) -> tuple[Inventory, Inventory]:
    """The two reports: found where the user says, or made now, in the ledger."""
    from jobs.s3.inventory_folders import find_inventory

    uris = given["source_inventory"], given["destination_inventory"]
    if all(uris):
        store = open_store(None, None, None)
        found = [await find_inventory(store, uri, day=given["day"]) for uri in uris]
        return found[0], found[1]
    if any(uris):
        raise UsageError("one inventory alone says nothing: give both --source-inventory and --destination-inventory")
    if not (given["source"] and given["destination"]):
        raise UsageError(
            "nothing to compare: give --source-inventory and --destination-inventory, or --source and --destination"
        )
    from jobs.inventory import write_inventory
    from jobs.s3.inventories import open_inventory

    made = []
    for name in ("source", "destination"):
        written = await write_inventory(
            _store(given, name),
            given[name],
            ledger.store,
            ledger.location.join(f"inventories/{run_id}/{name}"),
            versions=given["versions"] == "all",
            file_format="parquet",
            now=began,
            on_progress=None,
        )
        made.append(await open_inventory(ledger.store, Location.parse(written.manifest)))
    return made[0], made[1]


async def _compare(
    given: Mapping[str, Any],
    source: Inventory,
    destination: Inventory,
    options: Any,
    ledger: Ledger,
    scratch: Path,
) -> Reconciliation:
    from jobs.reconcile import Evidence, reconcile

    suspects = None
    if given["confirm"]:
        from jobs.s3.confirming import Suspects

        suspects = Suspects(
            _store(given, "source"),
            source.source_bucket,
            _store(given, "destination"),
            destination.source_bucket,
            given["confirm_limit"],
        )
    store = open_store(None, None, None)
    return await reconcile(
        source,
        destination,
        options,
        source_store=store,
        destination_store=store,
        scratch=scratch / "join",
        evidence=Evidence(
            source=await _evidence(given["source_checksums"], source.source_bucket, store, scratch / "ours.parquet"),
            destination=await _evidence(
                given["destination_checksums"], destination.source_bucket, store, scratch / "theirs.parquet"
            ),
        ),
        version_map=await _version_map(given["version_map"], ledger, scratch),
        suspects=suspects,
    )


async def _evidence(uri: str | None, bucket: str, store: Any, path: Path) -> list[Path]:
    if uri is None:
        return []
    from jobs.s3.evidence_files import write_evidence

    summary = await write_evidence(store, uri, path, bucket=bucket)
    if summary.rejected:
        say(f"{uri}: {summary.rejected:,} lines are of no use; what they are about stays unproven")
    return [path]


async def _version_map(run_ids: tuple[str, ...], ledger: Ledger, scratch: Path) -> list[Path]:
    """The outcome files of the runs that made the copies: they know which version became which."""
    paths: list[Path] = []
    for run_id in run_ids:
        await ledger.spec(run_id)
        for checkpoint in await ledger.checkpoints(run_id):
            path = scratch / f"outcomes-{len(paths):06d}.parquet"
            path.write_bytes(await ledger.checkpoint_data(run_id, checkpoint))
            paths.append(path)
    return paths


def _maps(given: Mapping[str, Any]) -> PrefixMap:
    if given["maps"]:
        return PrefixMap.parse(given["maps"])
    source, destination = given["source"], given["destination"]
    if source is None and destination is None:
        return PrefixMap()
    return PrefixMap(((source.key if source else "", destination.key if destination else ""),))


def _store(given: Mapping[str, Any], name: str) -> Any:
    return open_store(given[f"{name}_endpoint"], given[f"{name}_region"], given[f"{name}_profile"])


def _spec(given: Mapping[str, Any], run_id: str, began: float, source: Inventory, destination: Inventory) -> RunSpec:
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


async def _record(ledger: Ledger, spec: RunSpec, margin_seconds: float, found: Reconciliation) -> dict[str, Any]:
    """Write the run into the ledger, its report last."""
    import pyarrow.parquet as pq

    run_id = spec.run_id
    await ledger.create(spec)
    rows = sum(rows for rows, _ in found.categories.values())
    await ledger.publish_plan(run_id, Plan(rows, sum(size for _, size in found.categories.values()), ()))
    differences = {
        "parquet": await ledger.write_path(run_id, "differences.parquet", found.differences_parquet, PARQUET),
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
    await publish(ledger, spec, report, shown[:SHOWN_FINDINGS])
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


def report_text(report: Mapping[str, Any]) -> str:
    """The report for people."""
    lines = [
        [name, f"{counts['rows']:,}", human_bytes(counts["bytes"])]
        for name, counts in report["categories"].items()
        if counts["rows"]
    ]
    return "\n".join(
        [
            verdict(report),
            table(["category", "objects", "bytes"], lines),
            f"{report['run_id']} in {human_seconds(report['seconds'])}",
            f"  report       {report['report_html']}",
            f"  differences  {report['differences']['parquet']}",
        ]
    )
