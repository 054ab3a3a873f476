"""`sealift reconcile`: compares two inventories and repairs the differences."""

from __future__ import annotations

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
from jobs.cli.console import TERMINAL, confirm, emit, say
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
from jobs.core.run import RunSpec, Side
from jobs.core.selection import parse_age
from jobs.errors import UsageError
from jobs.ledger.ledger import Ledger
from jobs.reconcile.advice import are_disjoint, disjoint_step, findings_by_category, forgotten_prefix, next_steps
from jobs.reconcile.run import first_keys, make_spec, publish_run, read_checksums
from jobs.reconcile.since_then import find_repaired
from jobs.registry import kind_named, kind_of
from jobs.reports.document import exit_code
from jobs.reports.figures import plural
from jobs.runs.request import check_apart, new_run_id, open_ledger

if TYPE_CHECKING:
    from jobs.reconcile.reconcile import Reconciliation, Report

SIDES = ("source", "destination")
_REPAIRS = {"repair": "replicate", "verification": "verify"}
_FLAGS = ("--repair", "--repair-different")


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
        report = await publish_run(ledger, spec, result, [] if repairs else _steps(spec, maps, result))
        text, code = report_text(report, kind_of(spec)), int(exit_code(report))
        if repairs:
            from jobs.reconcile.repair import await_later_second, repair

            if not options.as_json:
                say(text)
            question = f"Copy {plural(result.repairable_rows, 'object')}?"
            if not confirm(question, is_agreed=options.yes, as_json=options.as_json):
                say("nothing was copied, as you said")
                return code
            await await_later_second(ledger, report)
            limits, agreed = (options.max_cost, options.max_objects), unguarded(is_agreed=options.unguarded)
            how = limits, options.executor, TERMINAL, agreed
            runs, code = await repair(spec, maps, ledger, settings, *how)
            repaired, _ = await find_repaired(ledger, spec, report["finished_at"], Path(folder))
            left = {name: each["left"] for name, each in repaired["categories"].items()}
            report |= {name: [each for each in runs if each["job"] == job] for name, job in _REPAIRS.items()}
            report |= {"repaired": repaired, "next_steps": _commands(left)}
            text = "\n".join([*(report_text(each, kind_named(each["job"])) for each in runs), repair_text(report)])
            code = code or int(exit_code(report))
    emit(report, as_json=options.as_json, text=text)
    return code


def _steps(spec: RunSpec, maps: PrefixMap, result: Reconciliation) -> list[str]:
    """What a person does after the comparison."""
    if not are_disjoint(result.categories):
        return _commands(findings_by_category(result.categories, result.findings))
    prefixes = maps.pairs[0] if len(maps.pairs) == 1 else ("", "")
    sides = {"source": spec.source, "destination": spec.destination}
    places = {name: sides[name].location._replace(key=prefixes[n]) for n, name in enumerate(sides)}
    return [disjoint_step(forgotten_prefix(*first_keys(result.folder / "differences.parquet", *prefixes)), places)]


def _commands(left: Mapping[str, int]) -> list[str]:
    """What a person does about findings, by category: the command as it was typed, with other flags."""
    words = [word for word in ("sealift", *sys.argv[1:]) if word not in ("--json", "--yes", *_FLAGS)]
    repair, overwrite = (shlex.join([*words, *flags]) for flags in (_FLAGS[:1], _FLAGS))
    return next_steps(left, repair, overwrite)


def _check(options: ReconcileCommand, maps: PrefixMap) -> None:
    """Check, before anything is listed, that the options go together. Raises UsageError."""
    uris, places = (options.source_inventory, options.destination_inventory), (options.source, options.destination)
    if any(uris) and not all(uris):
        raise UsageError("one inventory cannot be compared alone", advice="give both")
    if not all(uris) and not all(places):
        raise UsageError("nothing to compare", advice="give both inventories, or --source and --destination")
    if options.repair_different and not options.repair:
        raise UsageError("--repair-different needs --repair")
    if options.repair and not options.yes and (options.as_json or not sys.stdin.isatty()):
        raise UsageError("--repair asks before it copies, and nobody can answer here", advice="add --yes")
    if options.unguarded and not options.repair:
        raise UsageError("--unguarded is about a repair's writes", advice="give it with --repair, or leave it out")
    source, destination = places
    if source is not None and destination is not None and source.bucket == destination.bucket:
        raise UsageError(
            f"--source and --destination are both in the bucket {source.bucket}, and reconcile compares two buckets",
            advice=f"compare two prefixes of one with  sealift verify --source {source} --destination {destination}",
        )
    for number, (name, place) in enumerate(zip(SIDES, places, strict=True)):
        outside = [pair[number] for pair in maps.pairs if place and not pair[number].startswith(place.key)]
        if place and outside:
            raise UsageError(
                f"--map has {outside[0]!r} at the {name}, which is not below --{name} {place}: a prefix of --map is "
                "that of whole keys",
                advice=f"write --{name} s3://{place.bucket}",
            )


async def _compare(
    options: ReconcileCommand, maps: PrefixMap, ledger: Ledger, scratch: Path
) -> tuple[RunSpec, Reconciliation]:
    """Compare the two inventories, as a run that begins now. `scratch`: a folder for the differences."""
    from jobs.reconcile.reconcile import reconcile

    for number, place in enumerate((options.source, options.destination)):
        if place is not None:  # before anything is listed into the ledger
            _check_place(getattr(options, f"{SIDES[number]}_access").side(place), number, maps, ledger)
    began = time.time()
    run_id = new_run_id("reconcile", began)
    await ledger.run_ids(run_id)  # its bucket is there
    source, destination = [
        await _report(options, number, maps, ledger, f"inventories/{run_id}/{name}", scratch)
        for number, name in enumerate(SIDES)
    ]
    named = {"versions": options.versions, "maps": options.maps, "margin": options.margin}
    spec = make_spec(run_id, began, source, destination, named)
    return spec, await reconcile(
        (source, destination),
        scratch,
        (ledger, spec),
        all_versions=options.versions == "all",
        prefixes=maps,
        margin_seconds=parse_age(options.margin),
        repairs_different=options.repair_different,
        is_complete=options.versions == "current" and not options.source_inventory,  # S3's may be of a part
    )


def _check_place(side: Side, number: int, maps: PrefixMap, ledger: Ledger) -> None:
    """Check that the ledger, to which each run writes, is in nothing that is compared. Raises UsageError."""
    for prefixes in maps.pairs:
        below = replace(side, location=side.location._replace(key=prefixes[number]))
        check_apart(below if number == 0 else None, below if number == 1 else None, ledger.location)


async def _report(
    options: ReconcileCommand, number: int, maps: PrefixMap, ledger: Ledger, target: str, scratch: Path
) -> Report:
    """The report of a side that the user names, or one that is made now, in the ledger."""
    from jobs.inventory.find import find_inventory
    from jobs.inventory.report import open_inventory
    from jobs.inventory.write import write_inventory
    from jobs.reconcile.reconcile import Report

    name, store = SIDES[number], ledger.store
    uri: str | None = getattr(options, f"{name}_inventory")
    place: Location | None = getattr(options, name)
    checksums: str | None = getattr(options.checksums, f"{name}_checksums")
    access: AccessOptions = getattr(options, f"{name}_access")
    inventory = await find_inventory(store, uri) if uri else None
    side = access.side(place or Location(inventory.source_bucket if inventory else ""))
    _check_place(side, number, maps, ledger)
    if inventory is None and place is not None:
        how: Any = {"versions": options.versions == "all", "on_progress": None, "now": time.time()}
        written = await write_inventory(access.open(place), place, store, ledger.location.join(target), **how)
        inventory = await open_inventory(store, Location.parse(written.manifest))
    assert inventory is not None, "`_check` wants one of both"
    evidence = []
    if checksums is not None:
        evidence = await read_checksums(checksums, inventory.source_bucket, scratch / f"{name}.parquet", TERMINAL)
    return Report(side, inventory, store, evidence, checksums)


def _maps(options: ReconcileCommand) -> PrefixMap:
    if options.maps:
        return PrefixMap.parse(options.maps)
    source, destination = options.source, options.destination
    if source is None and destination is None:
        return PrefixMap()
    return PrefixMap(((source.key if source else "", destination.key if destination else ""),))
