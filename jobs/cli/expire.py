"""`sealift expire`: deletes originals whose copies are there and the same.

Only this command deletes originals, and only with --yes-delete.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from posixpath import commonprefix

import click
from click.core import ParameterSource

from jobs import interrupts
from jobs.cli.console import emit, say
from jobs.cli.options import (
    OTHER,
    AccessOptions,
    Age,
    Command,
    ParsedType,
    Run,
    StartOptions,
    command_options,
    flag,
    group,
    option,
    shared,
    takes,
)
from jobs.cli.policy_and_ledger import choose_pair, ledger_location, read_policy
from jobs.cli.run_command import launch_and_report
from jobs.config import Settings
from jobs.core.display import shown_key
from jobs.core.enums import CHECK_ANNOTATIONS, SKIP_ANNOTATIONS, AnnotationRule, ArchiveSide
from jobs.core.model import Location
from jobs.core.run import Side
from jobs.core.selection import Selection, parse_age
from jobs.errors import ExitCode, UsageError
from jobs.expire.kind import KIND
from jobs.ledger.ledger import Ledger
from jobs.policy.coverage import match
from jobs.registry import kind_of
from jobs.runs.request import Planner, Request, open_ledger

REPLACED = ("source", "destination", "grace", "max_share")
"""Options that --pair replaces by the policy's values."""


def _parse_share(text: str) -> float:
    """`50%` → 0.5."""
    match = re.fullmatch(r"(\d{1,3}(?:\.\d+)?)%", text)
    if match is None or float(match[1]) > 100:
        raise UsageError(f"{text!r} is no share", advice="write a percentage from 0% to 100%, for example 50%")
    return float(match[1]) / 100


@command_options
class ExpireCommand:
    """`sealift expire`, as it was typed. `source` and `destination` say where originals and copies are."""

    source: Location | None = shared("source", "The place of the originals: only these are deleted.")
    destination: tuple[Location, ...] = shared(
        "destination", "A place of copies or archives. May be repeated.", multiple=True
    )
    pair: str | None = shared("pair", "Take the places, grace and share from the policy.")
    declare: bool = flag("Declare the places, with a document in each. Nothing else is done.")
    replace: bool = flag("With --declare: replace documents whose ranks do not fit.", heading=OTHER)
    manifest: str | None = shared("manifest", "Only these rows. Default: all that is listed and has a copy.")
    grace: str = option(
        "Keep what was written, copied, hidden or declared less than this ago.",
        default="30d",
        show_default=True,
        type=Age,
        metavar="AGE",
    )
    max_share: float = option(
        "Refuse to delete a larger share of the current objects, or of all versions, in one run.",
        default="50%",
        show_default=True,
        type=ParsedType("PERCENT", _parse_share),
    )
    annotations: str = shared(
        "annotations",
        "check: keep an original with annotations that its copy lacks. skip: do not check.",
        type=click.Choice([CHECK_ANNOTATIONS, SKIP_ANNOTATIONS]),
        default=CHECK_ANNOTATIONS,
    )
    by_checksum: bool = flag(
        "Compare what S3 keeps (SHA or MD5) of both sides instead of bytes. Cold copies can be compared no other way.",
        heading=OTHER,
    )
    undo: str | None = option("Remove the delete markers of this expire run.", type=Run, metavar="RUN")
    yes_delete: bool = flag("Delete. Without it nothing is deleted.")
    max_objects: int | None = shared("max-objects")
    max_cost: float | None = shared("max-cost")
    executor: str | None = shared("executor")
    as_json: bool = shared("json")
    ledger: str | None = shared("ledger")
    policy: str | None = shared("policy", "For --pair, and where deletes are mirrored: a path or s3://.")
    source_access: AccessOptions = group(AccessOptions, "source")
    destination_access: AccessOptions = group(AccessOptions, "destination")

    def sides(self) -> tuple[Side, Side]:
        """The originals, and the way to all copies. Raises UsageError if the places are not named."""
        if self.source is None or not self.destination:
            raise UsageError(
                "name both places: --source s3://bucket/prefix/ and --destination s3://bucket/prefix/, or --pair"
            )
        return self.source_access.side(self.source), self.destination_access.side(self.destination[0])


def by_pair(options: ExpireCommand, pair_name: str, settings: Settings) -> tuple[ExpireCommand, Callable[[str], bool]]:
    """The options, with the places, the grace period and the share of a pair's archive.

    Must not be called in an event loop. The place of the originals is the folder that holds all
    prefixes of the pair, so the second value says which keys in it are the pair's. Raises
    UsageError for a pair whose policy lets nothing expire, and for options that --pair replaces.
    """
    context = click.get_current_context()
    for name in REPLACED:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UsageError(f"--{name.replace('_', '-')}: with --pair the policy says it")
    chosen = choose_pair(pair_name, options.policy, options.ledger, settings)
    pair, archive = chosen.pair, chosen.pair.archive
    if archive is None or archive.expire is None:
        raise UsageError(
            f"--pair {pair.name}: the policy lets nothing of it expire", advice="write archive.expire there"
        )
    is_source = archive.side is ArchiveSide.SOURCE
    shared = commonprefix(pair.source.prefixes) if is_source else pair.copy_key(commonprefix(pair.source.prefixes))
    side = pair.source if is_source else pair.destination
    by_policy = replace(
        options,
        source=Location(side.bucket, shared[: shared.rfind("/") + 1]),
        source_access=options.source_access.completed(side.account),
        destination=(Location(archive.bucket, archive.prefix),),
        destination_access=options.destination_access.completed(archive.account),
        grace=f"{archive.expire.grace:.0f}s",
        max_share=float(archive.expire.max_share),
        annotations=options.annotations if pair.destination.annotations is AnnotationRule.COPY else SKIP_ANNOTATIONS,
        ledger=f"s3://{chosen.ledger.bucket}/{chosen.ledger.key}",
    )
    added = "" if is_source else pair.copy_key("")  # the prefix of its copies' keys

    def is_own(key: str) -> bool:
        return key.startswith(added) and match(chosen.policy, pair.source.bucket, key[len(added) :]) is pair

    return by_policy, is_own


@click.command(cls=Command)
@takes(ExpireCommand)
def expire(options: ExpireCommand) -> int:
    """Delete originals whose copy is there, and has the same bytes now.

    Without --yes-delete this is a dry run. --source and --destination are places, each with a document
    of its own, which --declare writes. A place of copies has a higher rank than that of its
    originals. Both documents must be as old as the grace period.

    Originals are those that a listing shows now. Their copies are the objects at the same names in
    a place of copies, or members of archives there. Before each delete the copy's bytes are read
    and compared with the original, and so are metadata, tags and annotations. An original under a
    lock or hold is kept. In a bucket that keeps versions, a delete marker hides the current version
    first. The same command, a grace period later, removes the version behind it. To continue a run
    that was stopped, start the same command again. Each row ends as expired, left, missing or
    blocked, with the reason. In a dry run a row that would expire is left.
    deletions.parquet and .csv list each deletion with its copy.

    --max-share limits one run: a command that runs each day may delete that share of the rest each
    day.

    \b
    sealift expire --source s3://docs/2024/ --destination s3://copies/2024/ --declare
    sealift expire --source s3://docs/2024/ --destination s3://copies/2024/ --destination s3://cold/docs/
    sealift expire --pair scans --yes-delete
    sealift expire --manifest s3://inv/docs/daily/2026-11-25T01-00Z/manifest.json --grace 90d --max-share 100% \
        --source s3://docs/2024/ --destination s3://copies/2024/ --yes-delete
    sealift expire --undo 20261225T004105Z-expire-9b02 --source s3://docs/2024/
    """
    if options.manifest is not None and options.manifest.partition(":")[0] in ("run", "proven"):
        raise UsageError(
            f"--manifest {options.manifest}: no run's word decides what is deleted", advice="name a file of rows"
        )
    if options.replace and not options.declare:
        raise UsageError("--replace belongs to --declare")
    if sum(map(bool, (options.manifest or options.yes_delete, options.undo, options.declare))) > 1:
        raise UsageError("--declare, --undo RUN and a deletion are commands of their own", advice="give one of them")
    settings = Settings.from_environment()
    is_own = None
    if options.pair is not None:
        options, is_own = by_pair(options, options.pair, settings)
    if options.declare:
        return interrupts.run(_declare(options))
    ledger = open_ledger(ledger_location(options.ledger, settings))
    if options.undo:
        return interrupts.run(_undo(ledger, options.undo, options))
    from jobs.expire.plan import plan_run  # duckdb and pyarrow load here

    policy = read_policy(options.policy) if options.policy or settings.policy else None
    return interrupts.run(_start(options, ledger, settings, partial(plan_run, is_own=is_own, policy=policy)))


async def _declare(options: ExpireCommand) -> int:
    from jobs.expire.places import declare, told

    places = await declare(*options.sides(), options.destination, replaces=options.replace)
    emit({"places": places}, as_json=options.as_json, text="\n".join(map(told, places)))
    return int(ExitCode.FINDINGS) if any(each["command"] for each in places) else 0


async def _start(options: ExpireCommand, ledger: Ledger, settings: Settings, planner: Planner) -> int:
    source, destination = options.sides()
    request = Request(
        job="expire",
        source=source,
        destination=destination,
        manifest=options.manifest,
        selection=Selection(versions="all"),
        options={
            "grace_seconds": parse_age(options.grace),
            "max_share": options.max_share,
            "delete": options.yes_delete,
            "annotations": options.annotations,
            "by_checksum": options.by_checksum,
            "copies": [str(each) for each in options.destination],
        },
    )
    start = StartOptions(
        max_cost=options.max_cost, executor=options.executor, as_json=options.as_json, yes=True
    )  # --yes-delete is the consent
    return await launch_and_report(
        request, ledger, settings, start, planner, max_objects=options.max_objects, may_be_empty=True
    )


async def _undo(ledger: Ledger, run_id: str, options: ExpireCommand) -> int:
    from jobs.expire.undo import undo_run
    from jobs.ledger.tombstones import Tombstones

    if options.source is None:
        raise UsageError("--undo needs --source from you: where it removes delete markers, the ledger must not say")
    spec = await ledger.spec(run_id)
    if kind_of(spec) is not KIND or spec.source.location.bucket != options.source.bucket:
        raise UsageError(
            f"--source is {options.source}, and {run_id} is the {spec.job} run of {spec.source.location}",
            advice="name an expire run, see `sealift runs list`, and its bucket",
        )
    store = options.source_access.open(options.source)
    try:
        stones = Tombstones(ledger.store, ledger.location, options.source.bucket, run_id)
        undone = await undo_run(ledger, store, stones, options.source.key, say)
    finally:
        await store.close()
    lines = [f"{undone.markers:,} delete markers of {run_id} are gone from {options.source}."]
    if undone.lost:
        lines.append(f"{undone.lost:,} versions are gone for good: restore them from their copies.")
    lines += [f"  {shown_key(each.key)}: {each.problem}" for each in undone.problems[:20]]
    problems = [each._asdict() for each in undone.problems]
    document = {"run_id": run_id, "undone": undone.markers, "lost": undone.lost, "problems": problems}
    emit(document, as_json=options.as_json, text="\n".join(lines))
    return int(ExitCode.FINDINGS) if problems else 0
