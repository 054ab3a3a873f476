"""`sealift expire`: deletes originals that are proven elsewhere.

Only this command deletes originals, and only with --yes-delete.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from posixpath import commonprefix
from typing import Any

import click
from click.core import ParameterSource

from jobs import interrupts
from jobs.cli.console import emit, say
from jobs.cli.options import (
    AccessOptions,
    AgeType,
    LocationType,
    RunType,
    SectionedCommand,
    command_options,
    executor_option,
    flag,
    group,
    json_option,
    ledger_option,
    manifest_option,
    max_cost_option,
    max_objects_option,
    option,
    policy_option,
    takes,
)
from jobs.cli.policy_and_ledger import ChosenPair, choose_pair, ledger_location, read_policy
from jobs.cli.run_command import launch_and_report
from jobs.cli.start_options import StartOptions, WorkerOptions
from jobs.config import Settings
from jobs.core.display import Display, shown
from jobs.core.enums import CHECK_ANNOTATIONS, SKIP_ANNOTATIONS, AnnotationRule, ArchiveSide
from jobs.core.model import Location
from jobs.core.run import RunSpec
from jobs.core.selection import Selection, parse_age
from jobs.errors import ConfigError, ExitCode, UsageError
from jobs.expire.kind import KIND
from jobs.expire.place_checks import find_policy, refuse_lifecycle, refuse_mirrors
from jobs.expire.places import Places, claimed_by, claimed_by_run, command_line, reach
from jobs.expire.plan import is_proof, open_manifest, plan_run, proving_runs
from jobs.expire.rules import EXPIRED_BEFORE, PROOFS
from jobs.ledger.ledger import Ledger
from jobs.policy.coverage import match
from jobs.policy.model import Policy
from jobs.registry import kind_of
from jobs.runs.request import Planned, Planner, Request, open_ledger
from jobs.runs.run_claim import stop_workers
from jobs.runs.summaries import find_run_id
from jobs.s3.sessions import open_side

REPLACED = ("source", "copies", "grace", "max_share")
"""Options that --pair replaces by the policy's values."""


GRACE = "30d"
MAX_SHARE = "50%"


@command_options
class ExpireCommand:
    """`sealift expire`, as it was typed. `source` and `copies` say where originals and copies are."""

    run_id: str | None = option(
        "The rows that this replicate, verify or compact run has proven.", name="--run", type=RunType(), metavar="RUN"
    )
    manifest: str | None = manifest_option("These rows, by the latest proof that the ledger has of each.")
    source: Location | None = option("Where the originals are: only these are deleted.", type=LocationType())
    copies: tuple[Location, ...] = option(
        "Where copies or archives are. May be repeated.", type=LocationType(), multiple=True
    )
    pair: str | None = option("Take both places, grace and share from the policy.", metavar="NAME")
    policy: str | None = policy_option(
        "For --pair, and where deletes are mirrored: a path or s3://. Default: SEALIFT_POLICY."
    )
    source_access: AccessOptions = group(AccessOptions, "source")
    copies_access: AccessOptions = group(AccessOptions, "copies")
    grace: str = option(
        "Keep what was written, proven or hidden less than this ago.",
        default=GRACE,
        show_default=True,
        type=AgeType(),
        metavar="AGE",
    )
    max_share: str = option(
        "Refuse to delete a larger share of the current objects, or of all versions, in one run.",
        default=MAX_SHARE,
        show_default=True,
        metavar="PERCENT",
    )
    annotations: str = option(
        "check: keep an original with annotations that its copy lacks. skip: do not check.",
        type=click.Choice([CHECK_ANNOTATIONS, SKIP_ANNOTATIONS]),
        default=CHECK_ANNOTATIONS,
        show_default=True,
    )
    undo: str | None = option("Remove the delete markers of this expire run.", type=RunType(), metavar="RUN")
    yes_delete: bool = flag("Delete. Without it nothing is deleted.")
    max_objects: int | None = max_objects_option()
    max_cost: float | None = max_cost_option()
    price_table: Path | None = option("Prices as JSON, like jobs/core/prices/*.json.", type=click.Path(path_type=Path))
    executor: str | None = executor_option()
    ledger: str | None = ledger_option()
    batch: WorkerOptions = group(WorkerOptions)
    as_json: bool = json_option()

    def start(self) -> StartOptions:
        """How the run starts: --yes-delete is the consent."""
        return StartOptions.of_few(
            executor=self.executor,
            batch=self.batch,
            as_json=self.as_json,
            yes=True,
            max_cost=self.max_cost,
            max_objects=self.max_objects,
            price_table=self.price_table,
        )

    def named_places(self) -> Places | None:
        """Where the command line, or the policy, says that originals and copies are.

        None: it does not name both.
        """
        if self.source is None or not self.copies:
            return None
        destination = self.copies_access.side(self.copies[0])
        return Places(self.source_access.side(self.source), self.copies, destination)

    def complete(self, claims: Places) -> Places:
        """The places of the command line. For those that it does not name, the ledger's claims."""
        copies = self.copies or claims.copies
        source = self.source_access.side(self.source or claims.source.location)
        destination = self.copies_access.side(copies[0])
        if not self.source and not any(reach(source)):
            source = claims.source
        if not self.copies and not any(reach(destination)):
            destination = claims.destination
        return Places(source, copies, destination)


def by_pair(options: ExpireCommand, pair_name: str, settings: Settings) -> tuple[ExpireCommand, Callable[[str], bool]]:
    """The options, with the places, the grace period and the share of a pair's archive.

    Must not be called in an event loop. `source` is only as narrow as one prefix can be, so the
    second value says which keys below it are the pair's. Raises UsageError for a pair whose policy
    lets nothing expire, and for options that --pair replaces.
    """
    context = click.get_current_context()
    for name in REPLACED:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UsageError(f"--{name.replace('_', '-')}: with --pair the policy says it")
    chosen = choose_pair(pair_name, options.policy, options.ledger, settings)
    pair, archive = chosen.pair, chosen.pair.archive
    if archive is None or archive.expire is None:
        raise UsageError(f"--pair {pair.name}: the policy lets nothing of it expire: write archive.expire there")
    is_source = archive.side is ArchiveSide.SOURCE
    shared = commonprefix(pair.source.prefixes)
    side = pair.source if is_source else pair.destination
    source_access, copies_access = options.source_access, options.copies_access
    by_policy = replace(
        options,
        source=Location(side.bucket, shared if is_source else pair.copy_key(shared)),
        source_access=source_access.completed(side.region, side.account),
        copies=(Location(archive.bucket, archive.prefix),),
        copies_access=copies_access.completed(archive.region, archive.account),
        grace=f"{archive.expire.grace:.0f}s",
        max_share=f"{float(archive.expire.max_share) * 100:g}%",
        annotations=options.annotations if pair.destination.annotations is AnnotationRule.COPY else SKIP_ANNOTATIONS,
        ledger=f"s3://{chosen.ledger.bucket}/{chosen.ledger.key}",
    )
    return by_policy, _is_own(chosen, pair.copy_key("") if not is_source else "")


def _is_own(chosen: ChosenPair, added: str) -> Callable[[str], bool]:
    """A test for the pair's keys, as the policy decides.

    `added`: the prefix of its copies' keys.
    """
    bucket = chosen.pair.source.bucket

    def is_own(key: str) -> bool:
        return key.startswith(added) and match(chosen.policy, bucket, key[len(added) :]) is chosen.pair

    return is_own


def same_command(places: Places, run_id: str | None, **flags: bool) -> str:
    """The command as the user typed it, with these places and flags, and the whole run id."""
    context = click.get_current_context()
    typed: dict[str, Any] = {}
    for parameter in context.command.params:
        if context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE:
            typed[parameter.opts[0]] = context.params[parameter.name]
    typed |= {"--run": run_id} if run_id else {}
    return command_line("expire", typed | places.options() | {f"--{name}": flag for name, flag in flags.items()})


@click.command(cls=SectionedCommand)
@takes(ExpireCommand)
def expire(options: ExpireCommand) -> int:
    """Delete originals whose copy or archive member is proven.

    Without --yes-delete this is a dry run. You say where originals and copies are: --source and
    --copies, or --pair. A dry run takes places that you do not name from the ledger, says so, and
    prints the complete command. Originals and copies in other places are left out. A copy within
    --source proves nothing, because it may be deleted itself.

    Each copy is read before its original is deleted, a replica as well as an archive's member. A
    place is refused if a pair of the policy mirrors deletes there, or if a lifecycle rule removes
    objects there. An original is deleted only if it is still the version that was proven, and under
    no lock or hold. In a bucket that keeps versions, a delete marker hides the
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
        --source s3://docs/2024/ --copies s3://copies/2024/ --copies s3://cold/docs --yes-delete
    sealift expire --undo 20261225T004105Z-expire-9b02 --source s3://docs/2024/
    """
    if sum(each is not None for each in (options.run_id, options.manifest, options.undo)) != 1:
        raise UsageError("nothing to expire: give --run RUN or --manifest URI (or --undo RUN), one of them")
    if options.manifest is not None and (scheme := options.manifest.partition(":")[0]) in ("run", "proven"):
        raise UsageError(
            f"--manifest {options.manifest}: name the run whose proven rows may go with --run "
            f"{options.manifest.removeprefix(f'{scheme}:')}"
        )
    settings = Settings.from_environment()
    is_own: Callable[[str], bool] | None = None
    if options.pair is not None:
        options, is_own = by_pair(options, options.pair, settings)
    ledger = open_ledger(ledger_location(options.ledger, settings))
    if options.undo:
        return interrupts.run(_undo(ledger, options.undo, options))
    policy = read_policy(options.policy) if options.policy or settings.policy else None
    return interrupts.run(_start(options, ledger, settings, partial(_plan_rows, is_own, policy)))


async def _start(options: ExpireCommand, ledger: Ledger, settings: Settings, planner: Planner) -> int:
    grace_seconds, max_share = parse_age(options.grace), _share(options.max_share)
    run_id = await _whole_id(ledger, options.run_id, "--run", acts=options.yes_delete) if options.run_id else None
    proving = await _proving_run(ledger, run_id) if run_id else None
    places = named = options.named_places()
    if places is None:
        proven = claimed_by([proving]) if proving else None
        places = options.complete(proven or await _claims(ledger, options.manifest or "", options.source))
        command = same_command(places, run_id, **{"yes-delete": True})
        if options.yes_delete:
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
        manifest=options.manifest,
        selection=Selection(versions="all"),
        options={
            "grace_seconds": grace_seconds,
            "max_share": max_share,
            "delete": options.yes_delete,
            "annotations": options.annotations,
            "proofs": [proving.run_id] if proving else [],
            "copies": [str(each) for each in places.copies],
            "claimed": named is None,
        },
        price_table=options.price_table,
    )
    return await launch_and_report(request, ledger, settings, options.start(), planner)


async def _plan_rows(
    is_own: Callable[[str], bool] | None,
    policy: Policy | None,
    request: Request,
    ledger: Ledger,
    settings: Settings,
    display: Display,
) -> Planned:
    """The plan. Raises ConfigError for a plan without rows, unless an earlier run expired them
    all, and for places whose copies something removes.
    """
    copies = [Location.parse(uri) for uri in request.options["copies"]]
    for each in (policy, await find_policy(ledger)):
        if each is not None:
            refuse_mirrors(each, copies)
    await refuse_lifecycle(copies, request.destination, display.say)
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


async def _claims(ledger: Ledger, uri: str, source: Location | None) -> Places:
    """Where the ledger claims that the originals and copies of a manifest's rows are."""
    manifest = await open_manifest(uri, ledger)
    bucket = manifest.bucket or (source.bucket if source else None)
    if bucket is None:
        raise UsageError(f"{uri} does not say which bucket its keys are in: add --source s3://bucket")
    return claimed_by(await proving_runs(ledger, bucket), bucket)


async def _undo(ledger: Ledger, run_id: str, options: ExpireCommand) -> int:
    from jobs.expire.undo import unhide
    from jobs.ledger.tombstones import Tombstones

    run_id = await _whole_id(ledger, run_id, "--undo", acts=options.source is not None)
    spec = await ledger.spec(run_id)
    if kind_of(spec) is not KIND:
        raise UsageError(
            f"run {run_id} is a {spec.job} run: it hid nothing. Name an expire run: sealift runs list --job expire"
        )
    if options.source is None:
        run_options = {"--undo": run_id} | {
            name: value for name, value in claimed_by_run(spec).options().items() if name.startswith("--source")
        }
        raise UsageError(
            "--undo needs --source from you: where it removes delete markers, the ledger must not say. "
            f"This is what it claims: check it, then start  {command_line('expire', run_options)}"
        )
    if options.source.bucket != spec.source.location.bucket:
        raise UsageError(
            f"run {run_id} deleted in {spec.source.location}, --source says {options.source}: name one bucket"
        )
    source = options.source_access.side(options.source)
    store = open_side(source, max_in_flight=16)
    bucket, prefix = source.location
    try:
        await stop_workers(ledger, run_id, "sealift expire --undo", say)  # else they hide more after it
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
    emit(document, as_json=options.as_json, text="\n".join(lines))
    return int(ExitCode.FINDINGS) if problems else 0


async def _whole_id(ledger: Ledger, typed: str, option: str, *, acts: bool) -> str:
    """The whole id of the run that the user named by `typed`.

    `acts`: the command changes the bucket. Then only a whole id is accepted, since the ledger
    decides what `latest` and a part of an id mean. Raises UsageError, LedgerError.
    """
    run_id = await find_run_id(ledger, typed)
    if acts and run_id != typed:
        raise UsageError(
            f"{option} {typed} is {run_id} by the ledger, which must not choose what is deleted or put back: check "
            f"that this is the run, then give its whole id, {option} {run_id}"
        )
    return run_id


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
