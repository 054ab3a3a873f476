"""`sealift expire`: deletes originals that are proven elsewhere.

Only this command deletes originals, and only with --yes-delete.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from posixpath import commonprefix
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from jobs.cli.batch_options import batch_options
from jobs.cli.console import emit, say
from jobs.cli.options import (
    LocationType,
    RunType,
    json_option,
    ledger_location,
    ledger_option,
    manifest_option,
    side_options,
    stack,
)
from jobs.cli.pair_options import ChosenPair, choose
from jobs.cli.run_command import launch_and_report
from jobs.config import Settings
from jobs.core.display import Display, shown
from jobs.core.enums import ArchiveSide
from jobs.core.model import Location
from jobs.core.run import RunSpec, Side
from jobs.core.selection import Selection, parse_age
from jobs.errors import ConfigError, ExitCode, UsageError
from jobs.expire.places import Places, claimed_by, claimed_by_run, command_line, reach
from jobs.expire.plan import is_proof, open_manifest, plan_run, proving_runs
from jobs.expire.rules import EXPIRED_BEFORE, PROOFS
from jobs.ledger.ledger import Ledger
from jobs.policy.coverage import match
from jobs.registry import kind_of
from jobs.runs.request import Planned, Request, open_ledger
from jobs.s3.sessions import open_store

F = TypeVar("F", bound=Callable[..., Any])

REPLACED = ("source", "copies", "grace", "max_share")
"""Options that --pair replaces by the policy's values."""


def places_options() -> Callable[[F], F]:
    """--source, --copies, --pair, and how both sides are reached."""
    return stack(
        click.option("--source", type=LocationType(), help="Where the originals are: only these are deleted."),
        click.option(
            "--copies", type=LocationType(), multiple=True, help="Where copies or archives are. May be repeated."
        ),
        click.option("--pair", "pair_name", metavar="NAME", help="Take both places, grace and share from the policy."),
        click.option("--policy", "file", metavar="FILE", help="With --pair: a path or s3://. Default: SEALIFT_POLICY."),
        side_options("source"),
        side_options("copies"),
    )


def by_pair(options: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """The options, with the places, the grace period and the share of a pair's archive.

    Must not be called in an event loop. `source` is only as narrow as one prefix can be, and
    `is_own` says which keys below it are the pair's. Raises UsageError for a pair whose policy lets
    nothing expire, and for options that --pair replaces.
    """
    context = click.get_current_context()
    for name in REPLACED:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UsageError(f"--{name.replace('_', '-')}: with --pair the policy says it")
    chosen = choose(options, settings)
    pair, archive = chosen.pair, chosen.pair.archive
    if archive is None or archive.expire is None:
        raise UsageError(f"--pair {pair.name}: the policy lets nothing of it expire: write archive.expire there")
    is_source = archive.side is ArchiveSide.SOURCE
    shared = commonprefix(pair.source.prefixes)
    side = pair.source if is_source else pair.destination
    return {
        **options,
        "source": Location(side.bucket, shared if is_source else pair.copy_key(shared)),
        "is_own": _is_own(chosen, pair.copy_key("") if not is_source else ""),
        "source_region": options["source_region"] or side.region,
        "copies": (Location(archive.bucket, archive.prefix),),
        "copies_region": options["copies_region"] or archive.region,
        "grace": f"{archive.expire.grace:.0f}s",
        "max_share": f"{float(archive.expire.max_share) * 100:g}%",
        "ledger": f"s3://{chosen.ledger.bucket}/{chosen.ledger.key}",
    }


def _is_own(chosen: ChosenPair, added: str) -> Callable[[str], bool]:
    """A test for the pair's keys, as the policy decides.

    `added`: the prefix of its copies' keys.
    """
    bucket = chosen.pair.source.bucket

    def is_own(key: str) -> bool:
        return key.startswith(added) and match(chosen.policy, bucket, key[len(added) :]) is chosen.pair

    return is_own


def named_side(options: Mapping[str, Any], name: str, location: Location) -> Side:
    """A side, reached as the command line says."""
    return Side(location, options[f"{name}_endpoint"], options[f"{name}_region"], options[f"{name}_profile"])


def complete(options: Mapping[str, Any], claims: Places) -> Places:
    """The places of the command line. For those that it does not name, the ledger's claims."""
    copies = options["copies"] or claims.copies
    source = named_side(options, "source", options["source"] or claims.source.location)
    destination = named_side(options, "copies", copies[0])
    if not options["source"] and not any(reach(source)):
        source = claims.source
    if not options["copies"] and not any(reach(destination)):
        destination = claims.destination
    return Places(source, copies, destination)


def is_named(options: Mapping[str, Any]) -> bool:
    """True if the command line, or the policy, says where originals and copies are."""
    return bool(options["source"] and options["copies"])


def same_command(places: Places, **flags: bool) -> str:
    """This command as the user typed it, with these places and flags."""
    context = click.get_current_context()
    typed: dict[str, Any] = {}
    for option in context.command.params:
        if context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
            typed[option.opts[0]] = context.params[option.name]
    return command_line("expire", typed | places.options() | {f"--{name}": flag for name, flag in flags.items()})


GRACE = "30d"
MAX_SHARE = "50%"


@click.command()
@click.option(
    "--run",
    "run_id",
    type=RunType(),
    metavar="RUN",
    help="The rows that this replicate, verify or compact run has proven.",
)
@manifest_option("These rows, by the latest proof that the ledger has of each.")
@places_options()
@click.option(
    "--grace",
    default=GRACE,
    show_default=True,
    metavar="AGE",
    help="Keep what was written, proven or hidden less than this ago.",
)
@click.option(
    "--max-share",
    default=MAX_SHARE,
    show_default=True,
    metavar="PERCENT",
    help="Refuse to delete a larger share of the current objects, or of all versions, in one run.",
)
@click.option("--undo", type=RunType(), metavar="RUN", help="Remove the delete markers of this expire run.")
@click.option("--yes-delete", is_flag=True, help="Delete. Without it nothing is deleted.")
@click.option("--max-objects", type=click.IntRange(min=0), metavar="N", help="Refuse a plan with more objects.")
@click.option("--max-cost", type=click.FloatRange(min=0), metavar="DOLLARS", help="Refuse a plan that costs more.")
@click.option("--price-table", type=click.Path(path_type=Path), help="Prices as JSON, like jobs/core/prices/*.json.")
@click.option("--executor", type=click.Choice(["local", "batch"]), help="Default: SEALIFT_EXECUTOR or local.")
@ledger_option()
@batch_options()
@json_option()
def expire(**options: Any) -> int:
    """Delete originals whose copy or archive member is proven.

    Without --yes-delete this is a dry run. You say where originals and copies are: --source and
    --copies, or --pair. A dry run takes places that you do not name from the ledger, says so, and
    prints the complete command. Originals and copies in other places are left out. A copy within
    --source proves nothing, because it may be deleted itself.

    Each copy is proven once more before its original is deleted: an archive's member is read and
    hashed, a replica is compared. An original is deleted only if it is still the version that was
    proven, and under no lock or hold. In a bucket that keeps versions, a delete marker hides the
    current version first. The same command, a grace period later, removes the version behind it. To
    continue a run that was stopped, start the same command again: it leaves out what is deleted
    already. Each row ends as expired, kept (with the reason), missing, denied or failed. In a dry
    run a row that would expire ends as skipped. deletions.parquet and .csv list each deletion with
    its proof.

    --max-share limits one run: a command that runs each day may delete that share of the rest each
    day.

    \b
    sealift expire --run 20261125T003345Z-compact-1f3a
    sealift expire --run 20261125T003345Z-compact-1f3a --pair scans --yes-delete
    sealift expire --manifest s3://inv/docs/daily/2026-11-25T01-00Z/manifest.json --grace 90d --max-share 100% \
        --source s3://docs/2024/ --copies s3://replica/2024/ --copies s3://cold/docs --yes-delete
    sealift expire --undo 20261225T004105Z-expire-9b02 --source s3://docs/2024/
    """
    if sum(options[name] is not None for name in ("run_id", "manifest", "undo")) != 1:
        raise UsageError("nothing to expire: give --run RUN or --manifest URI (or --undo RUN), one of them")
    settings = Settings.from_environment()
    if options["pair_name"] is not None:
        options = by_pair(options, settings)
    ledger = open_ledger(ledger_location(options["ledger"], settings))
    if options["undo"]:
        return asyncio.run(_undo(ledger, options["undo"], options))
    run_options = {
        "grace_seconds": parse_age(options["grace"]),
        "max_share": _share(options["max_share"]),
        "delete": options["yes_delete"],
    }
    return asyncio.run(_start(options, run_options, ledger, settings))


async def _start(options: dict[str, Any], run_options: dict[str, Any], ledger: Ledger, settings: Settings) -> int:
    proving = await _proving_run(ledger, options["run_id"]) if options["run_id"] else None
    if is_named(options):
        places = Places(
            named_side(options, "source", options["source"]),
            options["copies"],
            named_side(options, "copies", options["copies"][0]),
        )
    else:
        places = complete(options, await _claims(ledger, options, proving))
        command = same_command(places, **{"yes-delete": True})
        if options["yes_delete"]:
            raise UsageError(
                "--yes-delete needs --source and --copies (or --pair) from you: the ledger must not decide where they "
                f"are. These are its claims: check each place, then start  {command}"
            )
        say(f"Where originals and copies are, only the ledger says. If it is right, this deletes:\n  {command}")
    if proving is not None and proving.source.location.bucket != places.source.location.bucket:
        raise UsageError(
            f"run {proving.run_id} is about {proving.source.location}, --source says {places.source.location}: "
            "name one bucket"
        )
    request = Request(
        job="expire",
        source=places.source,
        destination=places.destination,
        manifest=options["manifest"],
        selection=Selection(versions="all"),
        options=run_options
        | {
            "proofs": [proving.run_id] if proving else [],
            "copies": [str(each) for each in places.copies],
            "claimed": not is_named(options),
        },
        price_table=options["price_table"],
    )
    planner = partial(_plan_rows, options.get("is_own"))
    return await launch_and_report(request, ledger, settings, options | {"dry_run": False, "yes": True}, planner)


async def _plan_rows(
    is_own: Callable[[str], bool] | None,
    request: Request,
    ledger: Ledger,
    settings: Settings,
    display: Display,
) -> Planned:
    """The plan. Raises ConfigError for a plan without rows, unless an earlier run expired them
    all.
    """
    planned = await plan_run(request, ledger, settings, display, is_own)
    left_out = planned.plan.excluded
    if planned.plan.rows or EXPIRED_BEFORE in left_out:
        return planned
    planned.discard()
    why = ", ".join(f"{count:,} by {name}" for name, count in left_out.items())
    raise ConfigError(
        f"nothing to expire: {planned.spec.manifest} has no rows in {planned.spec.source.location} with copies in "
        f"{', '.join(request.options['copies'])}{f' (left out: {why})' if why else ''}"
    )


async def _claims(ledger: Ledger, options: Mapping[str, Any], proving: RunSpec | None) -> Places:
    """Where the ledger claims that originals and copies are."""
    if proving is not None:
        return claimed_by([proving])
    manifest = await open_manifest(options["manifest"], ledger)
    bucket = manifest.bucket or (options["source"].bucket if options["source"] else None)
    if bucket is None:
        raise UsageError(f"{options['manifest']} does not say which bucket its keys are in: add --source s3://bucket")
    return claimed_by(await proving_runs(ledger, bucket), bucket)


async def _undo(ledger: Ledger, run_id: str, options: Mapping[str, Any]) -> int:
    from jobs.expire.undo import unhide
    from jobs.ledger.tombstones import Tombstones

    spec = await ledger.spec(run_id)
    if kind_of(spec).name != "expire":
        raise UsageError(f"run {run_id} is a {spec.job} run: it hid nothing")
    if options["source"] is None:
        run_options = {"--undo": run_id} | {
            name: value for name, value in claimed_by_run(spec).options().items() if name.startswith("--source")
        }
        raise UsageError(
            "--undo needs --source from you: where it removes delete markers, the ledger must not say. "
            f"This is what it claims: check it, then start  {command_line('expire', run_options)}"
        )
    source = named_side(options, "source", options["source"])
    store = open_store(source.endpoint, source.region, source.profile, max_in_flight=16)
    bucket, prefix = source.location
    try:
        undone = await unhide(store, Tombstones(ledger.store, ledger.location, bucket, run_id), prefix)
    finally:
        await store.close()
    problems = [each._asdict() for each in undone.problems]
    lines = [f"{undone.markers:,} delete markers of {run_id} are gone from {source.location}."]
    if undone.lost:
        lines.append(
            f"{undone.lost:,} versions that it hid or removed are gone for good and cannot come back: "
            "restore them from their copies."
        )
    lines += [f"  {shown(each.key)}: {each.problem}" for each in undone.problems[:20]]
    document = {"run_id": run_id, "undone": undone.markers, "lost": undone.lost, "problems": problems}
    emit(document, as_json=options["as_json"], text="\n".join(lines))
    return int(ExitCode.FINDINGS) if problems else 0


async def _proving_run(ledger: Ledger, run_id: str) -> RunSpec:
    """The run, if it can prove copies. Raises UsageError, LedgerError."""
    spec = await ledger.spec(run_id)
    if not is_proof(spec):
        raise UsageError(f"run {run_id} proves no copies of originals: name one of these jobs: {', '.join(PROOFS)}")
    if await ledger.report(run_id) is None:
        raise ConfigError(f"run {run_id} has not ended: finish it with `sealift runs retry {run_id}` first")
    return spec


def _share(text: str) -> float:
    """`50%` → 0.5."""
    match = re.fullmatch(r"(\d{1,3}(?:\.\d+)?)%", text)
    if match is None or float(match[1]) > 100:
        raise UsageError(f"--max-share {text!r}: write a percentage from 0% to 100%, for example 50%")
    return float(match[1]) / 100
