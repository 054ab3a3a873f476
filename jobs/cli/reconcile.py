"""`sealift reconcile`: two inventories in, an answer out, and the repair of what it found."""

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
@click.option("--destination-inventory", type=TextType(), metavar="URI", help="The same of the destination.")
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
@click.option(
    "--version-map",
    multiple=True,
    type=RunType(),
    metavar="RUN",
    help="A replicate run whose copies have own version ids.",
)
@checksums_options()
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
    from jobs.reconcile.reconcile import ReconcileOptions

    if given["repair_different"] and not given["repair"]:
        raise UsageError("--repair-different needs --repair")
    ledger, began = open_ledger(place), time.time()
    run_id = new_run_id("reconcile", began)
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
        request = _request(given)
        found = await compare(request, source, destination, options, ledger, scratch, TERMINAL)
        spec = make_spec(request, run_id, began, source, destination)
        report = await record(ledger, spec, options.margin_seconds, found)
        texts = [report_text(report)]
        code = int(exit_code(report))
        if given["repair"] and found.repairable_rows:
            if not given["as_json"]:
                say(texts.pop())
            if sys.stdin.isatty() and sys.stderr.isatty() and not given["yes"] and not given["as_json"]:
                click.confirm(f"Copy {found.repairable_rows:,} objects?", abort=True, err=True)
            from jobs.reconcile.repair import Limits, repair

            limits = Limits(given["max_cost"], given["max_objects"])
            places = placement.chosen(given)
            repaired = await repair(spec, maps, ledger, settings, limits, places, display(given["as_json"]))
            report |= repaired.document
            texts += map(report_text, repaired.reports)
            is_all = found.repairable_rows == found.findings and not found.unparsed_rows
            code = code if repaired.code == 0 and not is_all else repaired.code
    emit(report, as_json=given["as_json"], text="\n".join(texts))
    return code


def _request(given: Mapping[str, Any]) -> CompareRequest:
    return CompareRequest(
        _compared(given, "source"),
        _compared(given, "destination"),
        versions=given["versions"],
        maps=given["maps"],
        margin=given["margin"],
        confirm=given["confirm"],
        confirm_limit=given["confirm_limit"],
        version_map=given["version_map"],
    )


def _compared(given: Mapping[str, Any], name: str) -> ComparedSide:
    return ComparedSide(
        given[name],
        given[f"{name}_endpoint"],
        given[f"{name}_region"],
        given[f"{name}_profile"],
        given[f"{name}_checksums"],
    )


async def _inventories(
    given: Mapping[str, Any], ledger: Ledger, run_id: str, began: float
) -> tuple[Inventory, Inventory]:
    """The two reports: found where the user says, or made now, in the ledger."""
    from jobs.inventory.find import find_inventory

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
    from jobs.inventory.report import open_inventory
    from jobs.inventory.write import write_inventory

    made = []
    for name in ("source", "destination"):
        written = await write_inventory(
            _compared(given, name).open(),
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


def _maps(given: Mapping[str, Any]) -> PrefixMap:
    if given["maps"]:
        return PrefixMap.parse(given["maps"])
    source, destination = given["source"], given["destination"]
    if source is None and destination is None:
        return PrefixMap()
    return PrefixMap(((source.key if source else "", destination.key if destination else ""),))
