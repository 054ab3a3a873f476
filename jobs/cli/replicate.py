"""`sealift replicate`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from jobs import interrupts
from jobs.cli.copies import CopiesOptions
from jobs.cli.options import (
    COPIES,
    OTHER,
    Command,
    Text,
    command_options,
    encryption,
    flag,
    group,
    option,
    refuse_others,
    shared,
    takes,
    unguarded,
)
from jobs.cli.policy_and_ledger import ChosenPair, choose_pair, ledger_location
from jobs.cli.run_command import launch_and_report
from jobs.config import Settings
from jobs.core.enums import Deletes, StorageClass
from jobs.core.run import FROM_EVENTS
from jobs.core.selection import Selection
from jobs.errors import LimitExceeded, UsageError
from jobs.policy.model import Pair
from jobs.runs.request import Request, open_ledger
from jobs.s3.copying import KEEP
from jobs.sync.table import Overwrite

_WITH_PAIR = (
    "pair", "source", "manifest", "newer_than", "older_than", "unguarded", "max_cost", "max_rate"
)  # fmt: skip
"""The options that go with --pair. All others say what the policy says."""


@command_options
class ReplicateCommand:
    """`sealift replicate`, as it was typed."""

    pair: str | None = shared("pair", "Copy what is in this pair's source, or in the part that --source names.")
    copies: CopiesOptions = group(CopiesOptions)
    overwrite: str = option(
        "Which differing objects at the destination may be replaced.",
        type=click.Choice([each.value for each in Overwrite]),
        default=Overwrite.OLDER.value,
        show_default=True,
    )
    storage_class: str = shared(
        "storage-class", "Class of the copies. Default: the source's class.", type=Text, default=KEEP
    )
    sse: tuple[str, str | None] | None = shared("sse")
    object_lock: bool = flag("Copy retention and legal hold, too (one more request each).", heading=COPIES)
    annotations: str = shared("annotations")
    stream: bool = flag("Read and write the bytes here, even where S3 could copy them itself.", heading=OTHER)
    unguarded: bool = shared("unguarded")
    policy: str | None = shared("policy")


@click.command(cls=Command)
@takes(ReplicateCommand)
def replicate(options: ReplicateCommand) -> int:
    """Copy the objects of a manifest or a listing, guarded on both sides, and prove each copy.

    An object that is already there, and proven the same, is skipped. Nothing newer is overwritten.
    With --versions all, missing versions come above it, and it stays as a version.
    Each row ends as copied, same, left, changed, missing, damaged, unknown or blocked, with the reason.

    \b
    sealift replicate --source s3://docs/2026/ --destination s3://copies/2026/ --dry-run
    sealift replicate --manifest s3://inv/docs/daily/2026-11-25T01-00Z/manifest.json --destination s3://copies
    sealift replicate --manifest run:20261125T003345Z-verify-1f3a --destination s3://copies
    sealift replicate --pair scans --source s3://scans/2026/ --newer-than 2026-11-01
    """
    settings, copies = Settings.from_environment(), options.copies
    if options.pair is not None:
        refuse_others(_WITH_PAIR, "--pair takes places and copies as the policy says")
        chosen = choose_pair(options.pair, options.policy, copies.start.ledger, settings)
        return interrupts.run(_replicate_pair(options, chosen, settings))
    if options.policy is not None:
        raise UsageError("--policy is for --pair", advice="name a pair, or leave it out")
    _check(options)
    run_options: dict[str, Any] = {
        "storage_class": options.storage_class,
        **encryption(options.sse),
        "object_lock": options.object_lock,
        "annotations": options.annotations,
        "overwrite": options.overwrite,
        "stream": options.stream,
        **unguarded(is_agreed=options.unguarded),
    }
    ledger = open_ledger(ledger_location(copies.start.ledger, settings))
    return interrupts.run(launch_and_report(copies.request("replicate", run_options), ledger, settings, copies.start))


async def _replicate_pair(options: ReplicateCommand, chosen: ChosenPair, settings: Settings) -> int:
    """Copy what a pair's source holds: all of it, below a prefix, between two dates, or a manifest's rows.

    The policy's limits hold, and options can only be tighter.
    """
    from jobs.policy.run_options import Ceiling, copy_options, globs, prefixes_below, sides

    pair, scope, copies, start = chosen.pair, chosen.scope, options.copies, options.copies.start
    source, destination = sides(chosen.policy, pair)
    from_events = _from_events(chosen, copies.manifest)
    include, exclude = globs(scope)
    asked, prefix = unguarded(is_agreed=options.unguarded), _prefix_of(options, pair)
    request = Request(
        job="replicate",
        source=source,
        destination=destination,
        manifest=copies.manifest,
        selection=Selection(
            prefix=prefix,
            include=include,
            exclude=exclude,
            newer_than=copies.filters.newer_than,
            older_than=copies.filters.older_than,
        ),
        options=copy_options(pair) | {"pair": pair.name} | from_events | asked,
        prefixes=prefixes_below(scope, prefix),
    )
    ceiling = Ceiling.of(pair, start.max_cost)
    if not from_events:  # enqueue bounds these by an estimate: a plan above it would leave them taken and not copied
        start = replace(start, max_cost=ceiling.max_cost)
    may_be_empty = bool(from_events) or not (prefix or copies.manifest)
    try:
        ledger = open_ledger(chosen.ledger)
        return await launch_and_report(
            request, ledger, settings, start, max_objects=ceiling.max_objects, may_be_empty=may_be_empty
        )
    except LimitExceeded as error:
        limits = Ceiling.of(pair)
        raise LimitExceeded(
            f"{error.what} (options cannot exceed the limits of the pair {pair.name} in the policy, "
            f"${limits.max_cost:,.2f} and {limits.max_objects:,} objects)",
            advice=error.own_advice,
        ) from error


def _prefix_of(options: ReplicateCommand, pair: Pair) -> str:
    """The prefix that --source names in the pair's source. Raises UsageError for another bucket."""
    place = options.copies.source
    if place is None:
        return ""
    if place.bucket != pair.source.bucket:
        raise UsageError(f"--source {place}: the pair {pair.name} copies s3://{pair.source.bucket}")
    return place.key


def _from_events(chosen: ChosenPair, manifest: str | None) -> dict[str, Any]:
    """Options for rows that the Lambdas left behind, which are events.

    Of those an older version is stored below a newer one (`jobs.backup`).
    """
    if manifest is None or not manifest.startswith(f"{chosen.ledger.join('manifests/')}"):
        return {}
    return {FROM_EVENTS: True, "mirrors_deletes": chosen.pair.deletes is Deletes.MIRROR}


def _check(options: ReplicateCommand) -> None:
    """Refuse what S3 would refuse for each object. Raises UsageError."""
    known = [KEEP, *StorageClass]
    if options.storage_class not in known and not options.copies.destination_access.endpoint:
        raise UsageError(
            f"--storage-class {options.storage_class!r} is no class of S3",
            advice=f"choose {', '.join(known)}, or name the service that has others with --destination-endpoint",
        )
