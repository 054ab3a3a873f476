"""`sealift reconcile`: compares two inventories and repairs the differences."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs.cli import batch_options as placement
from jobs.cli.batch_options import batch_options
from jobs.cli.console import TERMINAL, display, emit, say
from jobs.cli.options import (
    LocationType,
    RunType,
    TextType,
    checksums_options,
    json_option,
    ledger_location,
    ledger_option,
    side_options,
    stack,
)
from jobs.cli.texts import report_text
from jobs.config import Settings
from jobs.core.model import Location
from jobs.core.prefix_map import PrefixMap
from jobs.core.selection import parse_age, parse_size
from jobs.errors import UsageError
from jobs.ledger.ledger import Ledger
from jobs.reconcile.run import ComparedSide, CompareRequest, compare, make_spec, record
from jobs.reports.document import exit_code
from jobs.runs.request import new_run_id, open_ledger
from jobs.s3.sessions import open_store

if TYPE_CHECKING:
    from jobs.inventory.report import Inventory


@click.command()
@click.option(
    "--source-inventory", type=TextType(), metavar="URI", help="manifest.json, or a folder: its latest complete report."
)
@click.option("--destination-inventory", type=TextType(), metavar="URI", help="The same for the destination.")
@click.option("--day", metavar="YYYY-MM-DD", help="In folders, take the reports of that day (UTC).")
@click.option("--source", type=LocationType(), help="Which bucket and prefix. Without inventories it is listed now.")
@click.option("--destination", type=LocationType(), help="The same for the destination.")
@click.option("--versions", type=click.Choice(["current", "all"]), default="current", show_default=True)
@click.option(
    "--map",
    "maps",
    multiple=True,
    metavar="FROM=TO",
    help="A source prefix and its destination prefix. May be repeated. All other keys are excluded.",
)
@click.option(
    "--version-map",
    multiple=True,
    type=RunType(),
    metavar="RUN",
    help="A replicate run whose copies have version ids of their own.",
)
@checksums_options()
@click.option(
    "--margin",
    default="15m",
    show_default=True,
    help="Compare only objects that are so much older than a report: 15m, 2h.",
)
@click.option("--confirm", is_flag=True, help="HEAD each suspected row on both sides before it becomes a finding.")
@click.option("--confirm-limit", default=100_000, show_default=True, help="Confirm so many rows at most.")
@click.option("--repair", is_flag=True, help="Copy what is missing or stale, then verify it.")
@click.option(
    "--repair-different", is_flag=True, help="Also overwrite what differs, but only the exact objects of the report."
)
@click.option("--join-memory", default="640MiB", show_default=True, help="Above it the join spills to disk.")
@ledger_option()
@stack(
    click.option(
        "--max-cost", type=click.FloatRange(min=0), metavar="DOLLARS", help="Refuse a repair that costs more."
    ),
    click.option("--max-objects", type=click.IntRange(min=0), metavar="N", help="Refuse a repair with more objects."),
    click.option("--yes", is_flag=True, help="Repair without asking (on a terminal it asks)."),
    click.option("--executor", type=click.Choice(["local", "batch"]), help="Of the repair."),
)
@batch_options()
@json_option()
@side_options("source")
@side_options("destination")
def reconcile(**options: Any) -> int:
    """Report what is missing, extra, different or stale at the destination, from two inventories.

    The reports of S3 Inventory, or of `sealift inventory`, are joined, without a request per
    object. Objects newer than the older report are in flight. Objects that cannot be compared are
    unverifiable, and never count as the same. The answer is in the ledger: report.html for people,
    report.json, the differences as Parquet and CSV.

    \b
    sealift reconcile --source-inventory s3://inv/docs/daily/ --destination-inventory s3://inv/replica/daily/
    sealift reconcile --source s3://docs --destination s3://replica --confirm --repair
    """
    settings = Settings.from_environment()
    return asyncio.run(_reconcile(options, ledger_location(options["ledger"], settings), settings))


async def _reconcile(options: dict[str, Any], place: Location, settings: Settings) -> int:
    from jobs.reconcile.reconcile import ReconcileOptions

    if options["repair_different"] and not options["repair"]:
        raise UsageError("--repair-different needs --repair")
    ledger, began = open_ledger(place), time.time()
    run_id = new_run_id("reconcile", began)
    with tempfile.TemporaryDirectory(prefix="sealift-reconcile-") as folder:
        scratch = Path(folder)
        source, destination = await _inventories(options, ledger, run_id, began)
        maps = _maps(options)
        reconcile_options = ReconcileOptions(
            now=time.time(),
            versions=options["versions"],
            prefixes=maps,
            margin_seconds=parse_age(options["margin"]),
            source_bucket=options["source"].bucket if options["source"] else None,
            destination_bucket=options["destination"].bucket if options["destination"] else None,
            memory_limit_bytes=parse_size(options["join_memory"]),
            repairs_different=options["repair_different"],
        )
        request = _request(options)
        result = await compare(request, source, destination, reconcile_options, ledger, scratch, TERMINAL)
        spec = make_spec(request, run_id, began, source, destination)
        report = await record(ledger, spec, reconcile_options.margin_seconds, result)
        texts = [report_text(report)]
        code = int(exit_code(report))
        if options["repair"] and result.repairable_rows:
            if not options["as_json"]:
                say(texts.pop())
            if sys.stdin.isatty() and sys.stderr.isatty() and not options["yes"] and not options["as_json"]:
                click.confirm(f"Copy {result.repairable_rows:,} objects?", abort=True, err=True)
            from jobs.reconcile.repair import Limits, repair

            limits = Limits(options["max_cost"], options["max_objects"])
            places = placement.chosen(options)
            repaired = await repair(spec, maps, ledger, settings, limits, places, display(options["as_json"]))
            report |= repaired.document
            texts += map(report_text, repaired.reports)
            is_all = result.repairable_rows == result.findings and not result.unparsed_rows
            code = code if repaired.code == 0 and not is_all else repaired.code
    emit(report, as_json=options["as_json"], text="\n".join(texts))
    return code


def _request(options: Mapping[str, Any]) -> CompareRequest:
    return CompareRequest(
        _compared(options, "source"),
        _compared(options, "destination"),
        versions=options["versions"],
        maps=options["maps"],
        margin=options["margin"],
        confirm=options["confirm"],
        confirm_limit=options["confirm_limit"],
        version_map=options["version_map"],
    )


def _compared(options: Mapping[str, Any], name: str) -> ComparedSide:
    return ComparedSide(
        options[name],
        options[f"{name}_endpoint"],
        options[f"{name}_region"],
        options[f"{name}_profile"],
        options[f"{name}_checksums"],
    )


async def _inventories(
    options: Mapping[str, Any], ledger: Ledger, run_id: str, began: float
) -> tuple[Inventory, Inventory]:
    """The two reports that the user names, or two that are made now, in the ledger."""
    from jobs.inventory.find import find_inventory

    uris = options["source_inventory"], options["destination_inventory"]
    if all(uris):
        store = open_store(None, None, None)
        inventories = [await find_inventory(store, uri, day=options["day"]) for uri in uris]
        return inventories[0], inventories[1]
    if any(uris):
        raise UsageError(
            "one inventory cannot be compared alone: give both --source-inventory and --destination-inventory"
        )
    if not (options["source"] and options["destination"]):
        raise UsageError(
            "nothing to compare: give --source-inventory and --destination-inventory, or --source and --destination"
        )
    from jobs.inventory.report import open_inventory
    from jobs.inventory.write import write_inventory

    listings = []
    for name in ("source", "destination"):
        written = await write_inventory(
            _compared(options, name).open(),
            options[name],
            ledger.store,
            ledger.location.join(f"inventories/{run_id}/{name}"),
            versions=options["versions"] == "all",
            file_format="parquet",
            now=began,
            on_progress=None,
        )
        listings.append(await open_inventory(ledger.store, Location.parse(written.manifest)))
    return listings[0], listings[1]


def _maps(options: Mapping[str, Any]) -> PrefixMap:
    if options["maps"]:
        return PrefixMap.parse(options["maps"])
    source, destination = options["source"], options["destination"]
    if source is None and destination is None:
        return PrefixMap()
    return PrefixMap(((source.key if source else "", destination.key if destination else ""),))
