"""`sealift reconcile`: compares two inventories and repairs the differences."""

from __future__ import annotations

import contextlib
import shlex
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs import interrupts
from jobs.cli.console import TERMINAL, confirm, display, emit, say
from jobs.cli.options import (
    FILTERS,
    AccessOptions,
    Age,
    ChecksumsOptions,
    Command,
    command_options,
    flag,
    group,
    option,
    shared,
    takes,
    unguarded,
)
from jobs.cli.policy_and_ledger import ledger_location
from jobs.cli.texts import repair_text, report_text
from jobs.config import Settings
from jobs.core.model import Location
from jobs.core.prefix_map import PrefixMap
from jobs.core.run import RunSpec, RunState
from jobs.core.selection import parse_age
from jobs.errors import ExitCode, SealiftError, UsageError
from jobs.ledger.ledger import Ledger
from jobs.reconcile.advice import are_disjoint, disjoint_step, findings_by_category, forgotten_prefix, next_steps
from jobs.reconcile.run import first_keys, make_spec, publish_run, read_checksums, write_result_page
from jobs.reconcile.since_then import publish_repaired
from jobs.registry import kind_named, kind_of
from jobs.reports.document import exit_code, is_empty, is_unjudged, is_unproven
from jobs.reports.figures import plural
from jobs.runs.request import new_run_id, open_ledger

if TYPE_CHECKING:
    from jobs.reconcile.reconcile import Reconciliation, Report
    from jobs.reconcile.repair import Repaired


@command_options
class ReconcileCommand:
    """`sealift reconcile`, as it was typed."""

    source: Location | None = shared("source", "Which bucket and prefix. Without inventories it is listed now.")
    destination: Location | None = shared("destination", "The same for the destination.")
    source_inventory: str | None = option("manifest.json, or a folder: its latest complete report.", metavar="URI")
    destination_inventory: str | None = option("The same for the destination.", metavar="URI")
    versions: str = shared("versions")
    maps: tuple[str, ...] = option(
        "A source prefix and its destination prefix (a `=` of its own is `\\=`). May be repeated. "
        "All other keys are excluded.",
        name="--map",
        multiple=True,
        metavar="FROM=TO",
        heading=FILTERS,
    )
    checksums: ChecksumsOptions = group(ChecksumsOptions)
    margin: str = option(
        "A difference is in flight, and no finding, if it is younger than a report less this: 15m, 2h. "
        "Equal objects are the same at any age.",
        default="15m",
        show_default=True,
        type=Age,
    )
    repair: bool = flag("Copy what is missing or stale, or is a copy of an older version, then verify it.")
    repair_different: bool = flag("Also overwrite what differs, but only the exact objects of the report.")
    unguarded: bool = shared("unguarded")
    max_cost: float | None = shared("max-cost", "Refuse a repair that costs more.")
    max_objects: int | None = shared("max-objects", "Refuse a repair with more objects.")
    executor: str | None = shared("executor", "Of the repair.", type=click.Choice(["local", "batch"]))
    yes: bool = shared("yes", "Repair without asking (on a terminal it asks).")
    as_json: bool = shared("json")
    ledger: str | None = shared("ledger")
    source_access: AccessOptions = group(AccessOptions, "source")
    destination_access: AccessOptions = group(AccessOptions, "destination")


@click.command(cls=Command)
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
    sealift reconcile --source s3://docs --destination s3://copies --repair
    """
    settings = Settings.from_environment()
    return interrupts.run(_reconcile(options, ledger_location(options.ledger, settings), settings))


async def _reconcile(options: ReconcileCommand, place: Location, settings: Settings) -> int:
    maps = _maps(options)
    _check(options, maps)
    ledger = open_ledger(place)
    with tempfile.TemporaryDirectory(prefix="sealift-reconcile-") as folder:
        spec, result = await _compare(options, maps, ledger, Path(folder))
        repairs = options.repair and bool(result.repairable_rows)
        found = findings_by_category(result.categories, result.findings)
        steps = next_steps(found, _again("--repair"), _again("--repair", "--repair-different"))
        if are_disjoint(result.categories):
            prefixes = maps.pairs[0] if len(maps.pairs) == 1 else ("", "")
            sides = {"source": spec.source, "destination": spec.destination}
            places = {name: sides[name].location._replace(key=prefixes[n]) for n, name in enumerate(sides)}
            forgotten = forgotten_prefix(*first_keys(result.folder / "differences.parquet", *prefixes))
            steps = [disjoint_step(forgotten, places)]
        report = await publish_run(ledger, spec, result, [] if repairs else steps, has_page=not repairs)
        text = report_text(report, kind_of(spec))
        code = int(exit_code(report))
        if is_empty(report) or is_unjudged(report) or is_unproven(report):
            code = code or int(ExitCode.FINDINGS)
        if repairs:
            if not options.as_json:
                say(text)
            repaired = await _repair(options, spec, maps, ledger, settings, report | {"next_steps": steps}, result)
            if repaired is None:
                return code

            def left_steps(left: Mapping[str, int]) -> list[str]:
                different = None if options.repair_different else _again("--repair", "--repair-different")
                runs = [step for each in repaired.reports for step in _run_steps(each)]
                return [*runs, *next_steps(left, None, different)]

            report |= repaired.document | await publish_repaired(ledger, spec, report, Path(folder), left_steps)
            texts = [report_text(each, kind_named(each["job"])) for each in repaired.reports]
            text = "\n".join([*texts, repair_text(report)])
            is_all = result.repairable_rows == result.findings
            code = code if repaired.code == 0 and not is_all else repaired.code
    emit(report, as_json=options.as_json, text=text)
    return code


def _again(*flags: str) -> str:
    """The command as it was typed, with these flags, for a person who reads the answer and is asked."""
    command = [word for word in ("sealift", *sys.argv[1:]) if word not in ("--json", "--yes")]
    return shlex.join([*command, *(flag for flag in flags if flag not in command)])


def _run_steps(report: Mapping[str, Any]) -> list[str]:
    """What a person does about a run of the repair that did not end well."""
    if report["state"] != RunState.COMPLETE:
        return [
            f"Go on with the repair's {report['job']} run: sealift runs retry {report['run_id']}",
            f"Then repair what is left, and verify it: {_again('--repair')}",
        ]
    failed = f"See why rows of the {report['job']} run failed: sealift runs show {report['run_id']}"
    return [failed] if report["failures"] else []


def _check(options: ReconcileCommand, maps: PrefixMap) -> None:
    """Check, before anything is listed, that the options go together. Raises UsageError."""
    if options.repair_different and not options.repair:
        raise UsageError("--repair-different needs --repair")
    if options.repair and not options.yes and (options.as_json or not sys.stdin.isatty()):
        raise UsageError("--repair asks before it copies, and nobody can answer here", advice="add --yes")
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
    from jobs.reconcile.reconcile import ReconcileOptions, reconcile
    from jobs.reconcile.repair import check_places

    check_places(
        options.source_access.side(options.source) if options.source else None,
        options.destination_access.side(options.destination) if options.destination else None,
        maps,
        ledger.location,
    )
    began = time.time()
    run_id = new_run_id("reconcile", began)
    await ledger.run_ids(run_id)  # its bucket is there
    source, destination = await _reports(options, ledger, run_id, began, scratch)
    check_places(source.side, destination.side, maps, ledger.location)
    join_options = ReconcileOptions(
        now=time.time(),
        versions=options.versions,
        prefixes=maps,
        margin_seconds=parse_age(options.margin),
        repairs_different=options.repair_different,
        is_complete=options.versions == "current" and not options.source_inventory,  # S3's may be of a part
    )
    named = {"versions": options.versions, "maps": options.maps, "margin": options.margin}
    spec = make_spec(run_id, began, source, destination, named)
    return spec, await reconcile(source, destination, join_options, scratch / "join", (ledger, spec))


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
    from jobs.reconcile.repair import Limits, await_later_second, repair

    try:
        question = f"Copy {plural(result.repairable_rows, 'object')}?"
        if not confirm(question, is_agreed=options.yes, as_json=options.as_json):
            await write_result_page(ledger, spec, report, result)
            say("nothing was copied, as you said")
            return None
        await await_later_second(ledger, report)
        limits = Limits(options.max_cost, options.max_objects)
        agreed = unguarded(is_agreed=options.unguarded)
        return await repair(spec, maps, ledger, settings, limits, options.executor, display(options.as_json), agreed)
    except BaseException:
        with contextlib.suppress(SealiftError):  # what ended the repair is the error that counts
            await write_result_page(ledger, spec, report, result)
        raise


async def _reports(
    options: ReconcileCommand, ledger: Ledger, run_id: str, began: float, scratch: Path
) -> tuple[Report, Report]:
    """The reports that the user names, or two that are made now, in the ledger."""
    from jobs.inventory.find import find_inventory
    from jobs.inventory.report import open_inventory
    from jobs.inventory.write import write_inventory
    from jobs.reconcile.reconcile import Report

    uris = options.source_inventory, options.destination_inventory
    places = options.source, options.destination
    accesses = options.source_access, options.destination_access
    if any(uris) and not all(uris):
        raise UsageError(
            "one inventory cannot be compared alone", advice="give both --source-inventory and --destination-inventory"
        )
    reports = []
    for number, name in enumerate(("source", "destination")):
        uri, place, access, store = uris[number], places[number], accesses[number], ledger.store
        if uri is not None:
            inventory = await find_inventory(store, uri)
        elif place is not None:
            folder = ledger.location.join(f"inventories/{run_id}/{name}")
            how: Any = {"versions": options.versions == "all", "on_progress": None}
            written = await write_inventory(access.open(place), place, store, folder, now=began, **how)
            inventory = await open_inventory(store, Location.parse(written.manifest))
        else:
            raise UsageError(
                "nothing to compare",
                advice="give --source-inventory and --destination-inventory, or --source and --destination",
            )
        evidence, checksums = [], getattr(options.checksums, f"{name}_checksums")
        if checksums is not None:
            bucket = inventory.source_bucket
            evidence = await read_checksums(checksums, bucket, scratch / f"{name}.parquet", TERMINAL)
        side = access.side(place or Location(inventory.source_bucket))
        reports.append(Report(side, inventory, store, evidence, checksums))
    return reports[0], reports[1]


def _maps(options: ReconcileCommand) -> PrefixMap:
    if options.maps:
        return PrefixMap.parse(options.maps)
    source, destination = options.source, options.destination
    if source is None and destination is None:
        return PrefixMap()
    return PrefixMap(((source.key if source else "", destination.key if destination else ""),))
