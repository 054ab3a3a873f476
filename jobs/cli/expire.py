"""`sealift expire`: deletes originals that are proven elsewhere. Only this verb deletes, and only with --yes-delete."""

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
from jobs.cli.pair_options import Chosen, choose
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
"""What the policy says of a pair, so that the command line may not."""


def places_options() -> Callable[[F], F]:
    """--source, --copies, --pair, and how both sides are reached."""
    return stack(
        click.option("--source", type=LocationType(), help="Where the originals are: only these are deleted."),
        click.option(
            "--copies", type=LocationType(), multiple=True, help="Where copies or archives are. May be repeated."
        ),
        click.option("--pair", "pair_name", metavar="NAME", help="Both places, grace and share as the policy says."),
        click.option("--policy", "file", metavar="FILE", help="With --pair: a path or s3://. Default: SEALIFT_POLICY."),
        side_options("source"),
        side_options("copies"),
    )


def by_pair(given: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """The options with the places, the grace period and the share of a pair's archive. Not for an event loop.

    `source` is only as narrow as one prefix can be: `is_own` says which keys below it are the pair's.
    Raises UsageError for a pair that the policy lets nothing expire of, and for options that it replaces.
    """
    context = click.get_current_context()
    for name in REPLACED:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UsageError(f"--{name.replace('_', '-')}: with --pair the policy says it")
    chosen = choose(given, settings)
    pair, archive = chosen.pair, chosen.pair.archive
    if archive is None or archive.expire is None:
        raise UsageError(f"--pair {pair.name}: the policy lets nothing of it expire: write archive.expire there")
    is_source = archive.side is ArchiveSide.SOURCE
    shared = commonprefix(pair.source.prefixes)
    side = pair.source if is_source else pair.destination
    return {
        **given,
        "source": Location(side.bucket, shared if is_source else pair.copy_key(shared)),
        "is_own": _is_own(chosen, pair.copy_key("") if not is_source else ""),
        "source_region": given["source_region"] or side.region,
        "copies": (Location(archive.bucket, archive.prefix),),
        "copies_region": given["copies_region"] or archive.region,
        "grace": f"{archive.expire.grace:.0f}s",
        "max_share": f"{float(archive.expire.max_share) * 100:g}%",
        "ledger": f"s3://{chosen.ledger.bucket}/{chosen.ledger.key}",
    }


def _is_own(chosen: Chosen, added: str) -> Callable[[str], bool]:
    """Whether a key is one of the pair's, as the policy decides it. `added` is what its copies' keys begin with."""
    bucket = chosen.pair.source.bucket

    def is_own(key: str) -> bool:
        return key.startswith(added) and match(chosen.policy, bucket, key[len(added) :]) is chosen.pair

    return is_own


def named_side(given: Mapping[str, Any], name: str, location: Location) -> Side:
    """A side as the command line says it is reached."""
    return Side(location, given[f"{name}_endpoint"], given[f"{name}_region"], given[f"{name}_profile"])


def complete(given: Mapping[str, Any], claims: Places) -> Places:
    """What the command line says. Of a place that it does not name, what the ledger claims."""
    copies = given["copies"] or claims.copies
    source = named_side(given, "source", given["source"] or claims.source.location)
    destination = named_side(given, "copies", copies[0])
    if not given["source"] and not any(reach(source)):
        source = claims.source
    if not given["copies"] and not any(reach(destination)):
        destination = claims.destination
    return Places(source, copies, destination)


def is_named(given: Mapping[str, Any]) -> bool:
    """Whether the command line, or the policy, says where originals and copies are."""
    return bool(given["source"] and given["copies"])


def same_command(places: Places, **flags: bool) -> str:
    """This command as it was typed, with these places, and with flags beside them."""
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
    "--run", "run_id", type=RunType(), metavar="RUN", help="What this replicate, verify or compact run has proven."
)
@manifest_option("These rows, by the latest proof that the ledger has of each.")
@places_options()
@click.option(
    "--grace", default=GRACE, show_default=True, metavar="AGE", help="Keep what was written, proven or hidden since."
)
@click.option(
    "--max-share",
    default=MAX_SHARE,
    show_default=True,
    metavar="PERCENT",
    help="Refuse to delete more of the current objects, or of all versions, at once. Each run counts for itself.",
)
@click.option("--undo", type=RunType(), metavar="RUN", help="Remove the delete markers of this expire run.")
@click.option("--yes-delete", is_flag=True, help="Delete. Without it nothing is deleted.")
@click.option("--max-objects", type=click.IntRange(min=0), metavar="N", help="Refuse a larger plan.")
@click.option("--max-cost", type=click.FloatRange(min=0), metavar="DOLLARS", help="Refuse a dearer plan.")
@click.option("--price-table", type=click.Path(path_type=Path), help="Prices as JSON, like jobs/core/prices/*.json.")
@click.option("--executor", type=click.Choice(["local", "batch"]), help="Default: SEALIFT_EXECUTOR or local.")
@ledger_option()
@batch_options()
@json_option()
def expire(**given: Any) -> int:
    """Delete originals whose copy or archive member is proven. A dry run, unless --yes-delete is given.

    You say where originals and copies are: --source and --copies, or --pair. A dry run takes from the ledger what you
    leave out, says so, and prints the complete command. What lies elsewhere is left out. A copy within --source proves
    nothing: it may go itself.

    Each copy is proven once more before its original goes: an archive's member is read and hashed, a replica is
    compared. An original goes only if it is still the version that was proven, and under no lock or hold. A current
    version in a bucket that keeps versions is hidden by a delete marker first; the same command, a grace period
    later, removes the version behind it. A run that was stopped goes on with the same command: what has gone is left
    out. Each row ends as expired, kept (with the reason), missing, denied or failed; in a dry run as skipped where it
    would be expired. deletions.parquet and .csv list what goes, and its proof.

    --max-share is one run's: a command that runs each day may delete so much of what is left each day.

    \b
    sealift expire --run 20261125T003345Z-compact-1f3a
    sealift expire --run 20261125T003345Z-compact-1f3a --pair scans --yes-delete
    sealift expire --manifest s3://inv/docs/daily/2026-11-25T01-00Z/manifest.json --grace 90d --max-share 100% \
        --source s3://docs/2024/ --copies s3://replica/2024/ --copies s3://cold/docs --yes-delete
    sealift expire --undo 20261225T004105Z-expire-9b02 --source s3://docs/2024/
    """
    if sum(given[name] is not None for name in ("run_id", "manifest", "undo")) != 1:
        raise UsageError("nothing to expire: give --run RUN or --manifest URI (or --undo RUN), one of them")
    settings = Settings.from_environment()
    if given["pair_name"] is not None:
        given = by_pair(given, settings)
    ledger = open_ledger(ledger_location(given["ledger"], settings))
    if given["undo"]:
        return asyncio.run(_undo(ledger, given["undo"], given))
    options = {
        "grace_seconds": parse_age(given["grace"]),
        "max_share": _share(given["max_share"]),
        "delete": given["yes_delete"],
    }
    return asyncio.run(_start(given, options, ledger, settings))


async def _start(given: dict[str, Any], options: dict[str, Any], ledger: Ledger, settings: Settings) -> int:
    proving = await _proving_run(ledger, given["run_id"]) if given["run_id"] else None
    if is_named(given):
        places = Places(
            named_side(given, "source", given["source"]),
            given["copies"],
            named_side(given, "copies", given["copies"][0]),
        )
    else:
        places = complete(given, await _claims(ledger, given, proving))
        command = same_command(places, **{"yes-delete": True})
        if given["yes_delete"]:
            raise UsageError(
                "--yes-delete needs --source and --copies (or --pair) from you: where they are, the ledger must not "
                f"say. This is what it claims: check each place, then start  {command}"
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
        manifest=given["manifest"],
        selection=Selection(versions="all"),
        options=options
        | {
            "proofs": [proving.run_id] if proving else [],
            "copies": [str(each) for each in places.copies],
            "claimed": not is_named(given),
        },
        price_table=given["price_table"],
    )
    planner = partial(_plan_rows, given.get("is_own"))
    return await launch_and_report(request, ledger, settings, given | {"dry_run": False, "yes": True}, planner)


async def _plan_rows(
    is_own: Callable[[str], bool] | None,
    request: Request,
    ledger: Ledger,
    settings: Settings,
    display: Display,
) -> Planned:
    """The plan. Raises ConfigError for one without rows, unless an earlier run has expired them all."""
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


async def _claims(ledger: Ledger, given: Mapping[str, Any], proving: RunSpec | None) -> Places:
    """Where the ledger says that originals and copies are."""
    if proving is not None:
        return claimed_by([proving])
    manifest = await open_manifest(given["manifest"], ledger)
    bucket = manifest.bucket or (given["source"].bucket if given["source"] else None)
    if bucket is None:
        raise UsageError(f"{given['manifest']} does not say which bucket its keys are in: add --source s3://bucket")
    return claimed_by(await proving_runs(ledger, bucket), bucket)


async def _undo(ledger: Ledger, run_id: str, given: Mapping[str, Any]) -> int:
    from jobs.expire.undo import unhide
    from jobs.ledger.tombstones import Tombstones

    spec = await ledger.spec(run_id)
    if kind_of(spec).name != "expire":
        raise UsageError(f"run {run_id} is a {spec.job} run: it hid nothing")
    if given["source"] is None:
        claimed = {"--undo": run_id} | {
            name: value for name, value in claimed_by_run(spec).options().items() if name.startswith("--source")
        }
        raise UsageError(
            "--undo needs --source from you: where it removes delete markers, the ledger must not say. "
            f"This is what it claims: check it, then start  {command_line('expire', claimed)}"
        )
    source = named_side(given, "source", given["source"])
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
    emit(document, as_json=given["as_json"], text="\n".join(lines))
    return int(ExitCode.FINDINGS) if problems else 0


async def _proving_run(ledger: Ledger, run_id: str) -> RunSpec:
    """The run, if it can prove anything. Raises UsageError, LedgerError."""
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
