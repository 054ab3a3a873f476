"""`sealift reconcile`: compares two inventories and repairs the differences."""

from __future__ import annotations

import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from jobs.cli import console
from jobs.cli.command import Answer, ChecksumsOptions, LedgerCommand, SidesAccess, Work, ledger_location
from jobs.cli.console import confirm, say
from jobs.cli.options import choice, flag, option, rare, shared
from jobs.cli.texts import repair_text, report_text
from jobs.config import Settings
from jobs.core.category import REPAIRABLE
from jobs.core.model import Location
from jobs.core.prefix_map import PrefixMap
from jobs.core.run import WITHOUT_CONDITIONS
from jobs.errors import UsageError
from jobs.ledger.ledger import Ledger
from jobs.reports.document import exit_code
from jobs.reports.figures import plural
from jobs.runs.request import check_apart, new_run_id, open_ledger

_FLAGS = ("--repair", "--repair-different")


class Reconcile(SidesAccess, ChecksumsOptions, LedgerCommand):
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

    source: Location | None = shared("source", "Which bucket and prefix. Without inventories it is listed now.")
    destination: Location | None = shared("destination", "The same for the destination.")
    source_inventory: str | None = option("manifest.json, or a folder: its latest complete report.", metavar="URI")
    destination_inventory: str | None = option("The same for the destination.", metavar="URI")
    versions: str = shared("versions")
    maps: tuple[str, ...] = rare(
        "A source prefix and its destination prefix (a `=` of its own is `\\=`). May be repeated. "
        "All other keys are excluded.",
        name="--map",
        multiple=True,
        metavar="FROM=TO",
    )
    margin: float = shared("margin", default="15m")
    repair: bool = flag("Copy what is missing or stale, or is a copy of an older version, then verify it.")
    repair_different: bool = flag("Also overwrite what differs, but only the exact objects of the report.")
    unguarded: bool = shared("unguarded")
    max_cost: float | None = shared("max-cost", "Refuse a repair that costs more.")
    max_objects: int | None = shared("max-objects", "Refuse a repair with more objects.")
    executor: str | None = shared("executor", "Of the repair.", type=choice("local", "batch"))
    yes: bool = shared("yes", "Repair without asking (on a terminal it asks).")

    def run(self) -> Work:
        """Compare, and repair."""
        return _reconcile(self, ledger_location(self.ledger), Settings.from_environment())


async def _reconcile(options: Reconcile, place: Location, settings: Settings) -> Answer:
    from jobs.reconcile.advice import next_steps  # DuckDB and pyarrow load here
    from jobs.reconcile.repair import await_later_second, repair
    from jobs.reconcile.since_then import find_repaired

    _check(options)
    source, destination, ledger = options.source, options.destination, open_ledger(place)
    roots = source.key if source else "", destination.key if destination else ""
    maps = PrefixMap.parse(options.maps) if options.maps else PrefixMap((roots,))
    _check_maps(options, maps)
    report = await _compare(options, maps, ledger)
    text, code = report_text(report), int(exit_code(report))
    if options.repair and report["repair_manifest"]:
        if not options.as_json:
            say(report_text(report | {"next_steps": ()}))
        question = f"Copy {plural(sum(report['categories'][name]['rows'] for name in REPAIRABLE), 'object')}?"
        if not confirm(question, is_agreed=options.yes, as_json=options.as_json):
            return Answer(report, "nothing was copied, as you said", code)
        await await_later_second(ledger, report)
        spec = await ledger.spec(report["run_id"])
        agreed = {WITHOUT_CONDITIONS: True} if options.unguarded else {}
        limits = options.max_cost, options.max_objects
        runs, code = await repair(spec, maps, ledger, settings, limits, options.executor, console, agreed)
        with tempfile.TemporaryDirectory(prefix="sealift-reconcile-") as folder:
            repaired, _ = await find_repaired(ledger, spec, report, Path(folder))
        left = {name: each["left"] for name, each in repaired["categories"].items()}
        for name, job in (("repair", "replicate"), ("verification", "verify")):
            report[name] = [each for each in runs if each["job"] == job]
        report |= {"repaired": repaired, "next_steps": next_steps(left, *_commands())}
        own = {"next_steps": ()} if report["next_steps"] else {}
        text = "\n".join([*(report_text(each | own) for each in runs), repair_text(report)])
        code = code or int(exit_code(report))
    return Answer(report, text, code)


def _commands() -> list[str]:
    """The command as it was typed, with flags that repair, and that overwrite what differs."""
    words = [word for word in ("sealift", *sys.argv[1:]) if word not in ("--json", "--yes", *_FLAGS)]
    return [shlex.join([*words, *flags]) for flags in (_FLAGS[:1], _FLAGS)]


def _check(options: Reconcile) -> None:
    """Check, before anything is listed, that the options go together. Raises UsageError."""
    source, destination = options.source, options.destination
    uris = options.source_inventory, options.destination_inventory
    if not all(uris) and (any(uris) or source is None or destination is None):
        raise UsageError("nothing to compare", advice="give both inventories, or --source and --destination")
    if (options.repair_different or options.unguarded) and not options.repair:
        raise UsageError("--repair-different and --unguarded are about a repair", advice="add --repair")
    if options.repair and not options.yes and (options.as_json or not sys.stdin.isatty()):
        raise UsageError("--repair asks before it copies, and nobody can answer here", advice="add --yes")
    if source is not None and destination is not None and source.bucket == destination.bucket:
        raise UsageError(
            f"--source and --destination are both in the bucket {source.bucket}, and reconcile compares two buckets",
            advice=f"compare two prefixes of one with  sealift verify --source {source} --destination {destination}",
        )


def _check_maps(options: Reconcile, maps: PrefixMap) -> None:
    """Check that what is mapped is below the places that are listed. Raises UsageError."""
    for number, (name, place) in enumerate((("source", options.source), ("destination", options.destination))):
        for prefix in [pair[number] for pair in maps.pairs]:
            if place and not prefix.startswith(place.key):
                raise UsageError(
                    f"--map has {prefix!r} at the {name}, which is not below --{name} {place}: a prefix of --map is "
                    "that of whole keys",
                    advice=f"write --{name} s3://{place.bucket}",
                )


async def _compare(options: Reconcile, maps: PrefixMap, ledger: Ledger) -> dict[str, Any]:
    """Compare the two sides, by inventories or by listings of now. Returns the report."""
    from jobs.checksum_reports.evidence import write_evidence
    from jobs.inventory.find import find_inventory
    from jobs.ledger.state import COMPLETE
    from jobs.reconcile.run import Report, compare, list_side

    began, all_versions, reports = time.time(), options.versions == "all", []
    run_id = new_run_id("reconcile", began)
    await ledger.run_ids(run_id)  # its bucket is there
    uris = options.source_inventory, options.destination_inventory
    inventories = [await find_inventory(ledger.store, uri) if uri else None for uri in uris]
    named = (options.source, options.source_side), (options.destination, options.destination_side)
    sides = [
        side_at(place or Location(inventory.source_bucket if inventory else ""))
        for (place, side_at), inventory in zip(named, inventories, strict=True)
    ]
    for pair in maps.pairs:  # the ledger, to which each run writes, is in nothing that is compared
        below = [replace(side, location=side.location._replace(key=key)) for side, key in zip(sides, pair, strict=True)]
        check_apart(below[0], below[1], ledger.location)
    checksums = {name: getattr(options, name) for name in ("source_checksums", "destination_checksums")}
    is_complete = not all_versions and not options.source_inventory  # S3's may be of a part
    with tempfile.TemporaryDirectory(prefix="sealift-evidence-") as folder:
        for number, (side, inventory, uri) in enumerate(zip(sides, inventories, checksums.values(), strict=True)):
            report = Report(side, inventory, ledger.store) if inventory else None
            report = report or await list_side(side, side.location, ledger, run_id, versions=all_versions)
            if uri is not None:
                path = Path(folder) / f"{number}.parquet"
                summary = await write_evidence(ledger.store, uri, path, bucket=side.location.bucket)
                if summary.rejected:
                    say(f"{uri}: {summary.rejected:,} lines are unusable; their objects stay unproven")
                report = replace(report, evidence=[path])
            reports.append(report)
        return await compare(
            ledger,
            run_id,
            began,
            reports,
            maps=maps,
            margin_seconds=options.margin,
            options={"versions": options.versions, COMPLETE: is_complete, **checksums},
            commands=_commands(),
            repairs_different=options.repair_different,
        )
