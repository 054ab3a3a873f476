"""`sealift reconcile`: compares two inventories and repairs the differences."""

from __future__ import annotations

import contextlib
import shlex
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs import interrupts
from jobs.cli.console import TERMINAL, confirm, display, emit, say
from jobs.cli.options import (
    AccessOptions,
    AgeType,
    ChecksumsOptions,
    LocationType,
    RunType,
    SectionedCommand,
    SizeType,
    TextType,
    command_options,
    executor_option,
    flag,
    group,
    json_option,
    ledger_option,
    max_cost_option,
    max_objects_option,
    option,
    takes,
    unguarded,
    unguarded_option,
    versions_option,
)
from jobs.cli.policy_and_ledger import ledger_location
from jobs.cli.start_options import WorkerOptions
from jobs.cli.texts import repair_text, report_text
from jobs.config import Settings
from jobs.core.model import Location
from jobs.core.prefix_map import PrefixMap
from jobs.core.selection import parse_age
from jobs.errors import ExitCode, SealiftError, UsageError
from jobs.ledger.ledger import Ledger
from jobs.reconcile.repair_advice import findings_by_category, next_steps, repair_hint
from jobs.reconcile.repair_result import publish_result
from jobs.reconcile.run import (
    ComparedSide,
    CompareRequest,
    compare,
    make_spec,
    publish_run,
    write_result_page,
)
from jobs.registry import kind_named, kind_of
from jobs.reports.document import exit_code, is_empty, is_unjudged
from jobs.reports.figures import plural
from jobs.runs.request import new_run_id, open_ledger
from jobs.runs.summaries import find_run_id
from jobs.s3.sessions import open_store

if TYPE_CHECKING:
    from jobs.core.run import RunSpec
    from jobs.inventory.report import Inventory
    from jobs.reconcile.reconcile import Reconciliation
    from jobs.reconcile.repair import Repaired
    from jobs.s3.store import Store


@command_options
class ReconcileCommand:
    """`sealift reconcile`, as it was typed."""

    source_inventory: str | None = option(
        "manifest.json, or a folder: its latest complete report.", type=TextType(), metavar="URI"
    )
    destination_inventory: str | None = option("The same for the destination.", type=TextType(), metavar="URI")
    day: str | None = option("In folders, take the reports of that day (UTC).", metavar="YYYY-MM-DD")
    source: Location | None = option(
        "Which bucket and prefix. Without inventories it is listed now.", type=LocationType()
    )
    destination: Location | None = option("The same for the destination.", type=LocationType())
    versions: str = versions_option()
    maps: tuple[str, ...] = option(
        "A source prefix and its destination prefix (a `=` of its own is `\\=`). May be repeated. "
        "All other keys are excluded.",
        name="--map",
        multiple=True,
        metavar="FROM=TO",
    )
    version_map: tuple[str, ...] = option(
        "A replicate run whose copies have version ids of their own.", multiple=True, type=RunType(), metavar="RUN"
    )
    checksums: ChecksumsOptions = group(ChecksumsOptions)
    margin: str = option(
        "A difference is in flight, and no finding, if it is younger than a report less this: 15m, 2h. "
        "Equal objects are the same at any age.",
        default="15m",
        show_default=True,
        type=AgeType(),
    )
    confirm: bool = flag("HEAD each suspected row on both sides before it becomes a finding.")
    confirm_limit: int = option(
        "Confirm so many rows at most.", type=click.IntRange(min=1), default=100_000, show_default=True
    )
    repair: bool = flag("Copy what is missing or stale, then verify it.")
    repair_different: bool = flag("Also overwrite what differs, but only the exact objects of the report.")
    unguarded: bool = unguarded_option()
    join_memory: int = option("Above it the join spills to disk.", default="640MiB", show_default=True, type=SizeType())
    ledger: str | None = ledger_option()
    max_cost: float | None = max_cost_option("a repair")
    max_objects: int | None = max_objects_option("a repair")
    allow_empty: bool = flag(
        "Nothing to compare (two empty inventories, or all is excluded) is a success. Default: exit code 3."
    )
    yes: bool = flag("Repair without asking (on a terminal it asks).")
    executor: str | None = executor_option("Of the repair.")
    batch: WorkerOptions = group(WorkerOptions)
    as_json: bool = json_option()
    source_access: AccessOptions = group(AccessOptions, "source")
    destination_access: AccessOptions = group(AccessOptions, "destination")

    def request(self) -> CompareRequest:
        """What to compare, and how."""
        return CompareRequest(
            _compared(self.source, self.source_access, self.checksums.source_checksums),
            _compared(self.destination, self.destination_access, self.checksums.destination_checksums),
            versions=self.versions,
            maps=self.maps,
            margin=self.margin,
            confirm=self.confirm,
            confirm_limit=self.confirm_limit,
            version_map=self.version_map,
        )


@click.command(cls=SectionedCommand)
@takes(ReconcileCommand)
def reconcile(options: ReconcileCommand) -> int:
    """Report what is missing, extra, different or stale at the destination, from two inventories.

    The reports of S3 Inventory, or of `sealift inventory`, are joined, without a request per
    object. Differences that are too young for the older report are in flight: if all rows are, the
    exit code is 3.
    Objects that cannot be compared are unverifiable, and never count as the same. The answer is in
    the ledger: report.html for people, report.json, the differences as Parquet and CSV.

    \b
    sealift reconcile --source-inventory s3://inv/docs/daily/ --destination-inventory s3://inv/copies/daily/
    sealift reconcile --source s3://docs --destination s3://copies --confirm --repair
    """
    settings = Settings.from_environment()
    return interrupts.run(_reconcile(options, ledger_location(options.ledger, settings), settings))


async def _reconcile(options: ReconcileCommand, place: Location, settings: Settings) -> int:
    maps, command = _maps(options), ["sealift", *sys.argv[1:]]
    _check(options, maps)
    ledger = open_ledger(place)
    with tempfile.TemporaryDirectory(prefix="sealift-reconcile-") as folder:
        spec, result = await _compare(options, maps, ledger, Path(folder))
        repairs = options.repair and bool(result.repairable_rows)
        found = findings_by_category(result.categories, result.findings)
        steps = next_steps(found, result.unparsed_rows, command)
        margin_seconds = parse_age(options.margin)
        report = await publish_run(ledger, spec, margin_seconds, result, [] if repairs else steps, has_page=not repairs)
        text = report_text(report, kind_of(spec), [] if options.repair else repair_hint(report, shlex.join(command)))
        code = int(exit_code(report))
        if (is_empty(report) and not options.allow_empty) or is_unjudged(report):
            code = code or int(ExitCode.FINDINGS)
        if repairs:
            if not options.as_json:
                say(text)
            report_with_steps = report | {"next_steps": steps}
            repaired = await _repair(options, spec, maps, ledger, settings, report_with_steps, result)
            if repaired is None:
                return code
            report |= repaired.document | await _after(repaired, ledger, spec, report, result, command, Path(folder))
            texts = [report_text(each, kind_named(each["job"])) for each in repaired.reports]
            text = "\n".join([*texts, repair_text(report)])
            is_all = result.repairable_rows == result.findings and not result.unparsed_rows
            code = code if repaired.code == 0 and not is_all else repaired.code
    emit(report, as_json=options.as_json, text=text)
    return code


def _check(options: ReconcileCommand, maps: PrefixMap) -> None:
    """Check, before anything is listed, that the options go together. Raises UsageError."""
    if options.repair_different and not options.repair:
        raise UsageError("--repair-different needs --repair")
    if options.unguarded and not options.repair:
        raise UsageError("--unguarded is about a repair's writes", advice="give it with --repair, or leave it out")
    source, destination = options.source, options.destination
    if source is not None and destination is not None and source.bucket == destination.bucket:
        raise UsageError(
            f"--source and --destination are both in the bucket {source.bucket}, and reconcile compares two buckets",
            advice=f"compare two prefixes of one with  sealift verify --source {source} --destination {destination}",
        )
    for number, (name, place) in enumerate((("source", source), ("destination", destination))):
        for prefix in (pair[number] for pair in maps.pairs):
            if place is not None and not prefix.startswith(place.key):
                raise UsageError(
                    f"--map has {prefix!r} at the {name}, and --{name} {place} does not hold that: what is outside of "
                    "it is not compared. A prefix of --map is that of whole keys",
                    advice=f"write --{name} s3://{place.bucket}",
                )


async def _compare(
    options: ReconcileCommand, maps: PrefixMap, ledger: Ledger, scratch: Path
) -> tuple[RunSpec, Reconciliation]:
    """Compare the two inventories, as a run that begins now. `scratch`: a folder for the differences."""
    from jobs.reconcile.reconcile import ReconcileOptions
    from jobs.reconcile.repair import check_places

    request = options.request()
    ours, theirs = (
        each.side(each.location.bucket) if each.location else None for each in (request.source, request.destination)
    )
    check_places(ours, theirs, maps, ledger.location)
    began = time.time()
    await ledger.check_bucket()
    run_id = new_run_id("reconcile", began)
    version_map = [await find_run_id(ledger, each) for each in request.version_map]
    request = replace(request, version_map=tuple(version_map))
    (source, destination), stores = await _inventories(options, request, ledger, run_id, began)
    sides = request.source.side(source.source_bucket), request.destination.side(destination.source_bucket)
    check_places(*sides, maps, ledger.location)
    join_options = ReconcileOptions(
        now=time.time(),
        versions=options.versions,
        prefixes=maps,
        margin_seconds=parse_age(options.margin),
        source_bucket=options.source.bucket if options.source else None,
        destination_bucket=options.destination.bucket if options.destination else None,
        memory_limit_bytes=options.join_memory,
        repairs_different=options.repair_different,
    )
    result = await compare(request, source, destination, join_options, ledger, scratch, TERMINAL, stores)
    return make_spec(request, run_id, began, source, destination), result


async def _repair(
    options: ReconcileCommand,
    spec: RunSpec,
    maps: PrefixMap,
    ledger: Ledger,
    settings: Settings,
    report: dict[str, Any],
    result: Reconciliation,
) -> Repaired | None:
    """Copy what is missing or stale. None if the user does not agree.

    Then, or if the repair fails, the page of the comparison says how to go on: `report`.
    """
    from jobs.reconcile.repair import Limits, repair

    try:
        question = f"Copy {plural(result.repairable_rows, 'object')}?"
        if not confirm(question, is_agreed=options.yes, as_json=options.as_json):
            await write_result_page(ledger, spec, report, result)
            say("nothing was copied, as you said")
            return None
        limits = Limits(options.max_cost, options.max_objects)
        batch = options.batch.placed(options.executor)
        agreed = unguarded(is_agreed=options.unguarded)
        return await repair(spec, maps, ledger, settings, limits, batch, display(options.as_json), agreed)
    except BaseException:
        with contextlib.suppress(SealiftError):  # what ended the repair is the error that counts
            await write_result_page(ledger, spec, report, result)
        raise


async def _after(
    repaired: Repaired,
    ledger: Ledger,
    spec: RunSpec,
    report: dict[str, Any],
    result: Reconciliation,
    command: list[str],
    scratch: Path,
) -> dict[str, Any]:
    """The state after the repair, which page and ledger get: what was repaired, and what is left."""

    def steps(left: Mapping[str, int]) -> list[str]:
        return next_steps(left, result.unparsed_rows, command, repaired.reports)

    return await publish_result(ledger, spec, report, repaired.reports, result.differences_parquet, scratch, steps)


def _compared(location: Location | None, access: AccessOptions, checksums: str | None) -> ComparedSide:
    return ComparedSide(
        location, access.endpoint, access.region, access.profile, checksums, access.expected_bucket_owner
    )


async def _inventories(
    options: ReconcileCommand, request: CompareRequest, ledger: Ledger, run_id: str, began: float
) -> tuple[tuple[Inventory, Inventory], tuple[Store, Store] | None]:
    """The two reports that the user names, or two that are made now, in the ledger.

    And where they are: S3 delivers within a region, so each is read in that of its side. None for
    the ledger's.
    """
    from jobs.inventory.find import find_inventory

    uris = options.source_inventory, options.destination_inventory
    if uris[0] and uris[1]:
        stores = open_store(None, request.source.region, None), open_store(None, request.destination.region, None)
        found = (
            await find_inventory(stores[0], uris[0], day=options.day),
            await find_inventory(stores[1], uris[1], day=options.day),
        )
        return found, stores
    if any(uris):
        raise UsageError(
            "one inventory cannot be compared alone", advice="give both --source-inventory and --destination-inventory"
        )
    if options.source is None or options.destination is None:
        raise UsageError(
            "nothing to compare",
            advice="give --source-inventory and --destination-inventory, or --source and --destination",
        )
    from jobs.inventory.report import open_inventory
    from jobs.inventory.write import write_inventory

    listings = []
    sides = (options.source, request.source), (options.destination, request.destination)
    for name, (place, side) in zip(("source", "destination"), sides, strict=True):
        written = await write_inventory(
            side.open(place.bucket),
            place,
            ledger.store,
            ledger.location.join(f"inventories/{run_id}/{name}"),
            versions=options.versions == "all",
            file_format="parquet",
            now=began,
            on_progress=None,
        )
        listings.append(await open_inventory(ledger.store, Location.parse(written.manifest)))
    return (listings[0], listings[1]), None


def _maps(options: ReconcileCommand) -> PrefixMap:
    if options.maps:
        return PrefixMap.parse(options.maps)
    source, destination = options.source, options.destination
    if source is None and destination is None:
        return PrefixMap()
    return PrefixMap(((source.key if source else "", destination.key if destination else ""),))
