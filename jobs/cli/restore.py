"""`sealift restore`: plan what to thaw and read, then run like any other job."""

from __future__ import annotations

import time
from functools import partial

import click

from jobs import interrupts
from jobs.cli.options import (
    FILTERS,
    OTHER,
    AccessOptions,
    Command,
    Place,
    StartOptions,
    Text,
    When,
    command_options,
    encryption,
    flag,
    group,
    option,
    shared,
    takes,
    unguarded,
)
from jobs.cli.policy_and_ledger import ledger_location
from jobs.cli.run_command import launch_and_report
from jobs.config import Settings
from jobs.core.enums import StorageClass
from jobs.core.model import Location
from jobs.core.selection import Selection
from jobs.errors import UsageError
from jobs.restore.thawing import Tier
from jobs.runs.request import Request, open_ledger
from jobs.s3.copying import KEEP


@command_options
class RestoreCommand:
    """`sealift restore`, as it was typed."""

    archives: Location | None = option("Where the archives are.", type=Place)
    source: Location | None = shared("source", "With --as-of: the versioned bucket, or a prefix in it.")
    at: float | None = option("As it was at: 30d (ago), 2026-11-01, 2026-11-01T06:00:00Z.", name="--as-of", type=When)
    destination: Location = shared("destination", "Where the objects go.", required=True)
    keys: tuple[str, ...] = option("This key. May be repeated.", name="--key", type=Text, multiple=True, metavar="KEY")
    prefix: str | None = shared("prefix")
    include: tuple[str, ...] = shared("include", heading=FILTERS)
    exclude: tuple[str, ...] = shared("exclude", heading=FILTERS)
    manifest: str | None = shared("manifest", heading=FILTERS)
    bucket: str | None = option(
        "Only what was in this bucket, where archives are of several.", metavar="NAME", heading=FILTERS
    )
    skip_damaged: bool = flag(
        "Also restore keys of which an archive with a damaged index may hold a newer version. The exit code stays 3.",
        heading=OTHER,
    )
    in_place: bool = flag("Allow the original bucket as destination. Nothing is overwritten there.", heading=OTHER)
    tier: str = option(
        "How fast to thaw archived objects, for a week.",
        type=click.Choice([each.value for each in Tier]),
        default=Tier.BULK.value,
        show_default=True,
    )
    storage_class: str = shared(
        "storage-class",
        "Class of the restored objects. keep: the class that they had.",
        type=click.Choice([KEEP, *(each.value for each in StorageClass)]),
        default="STANDARD",
        show_default=True,
    )
    sse: tuple[str, str | None] | None = shared("sse")
    unguarded: bool = shared("unguarded")
    start: StartOptions = group(StartOptions)
    source_access: AccessOptions = group(AccessOptions, "source")
    destination_access: AccessOptions = group(AccessOptions, "destination")


@click.command(cls=Command)
@takes(RestoreCommand)
def restore(options: RestoreCommand) -> int:
    """Bring back objects from archives, or a versioned bucket as it was at a time.

    Each byte is proven before it is written, and no object is ever overwritten. Keys keep their
    names below the destination. With --source the destination replaces its prefix. Cold archives
    are thawed by --tier. Their rows are blocked, and `sealift runs retry` continues once S3 has
    thawed them. Rows end as restored, same, missing or blocked, with the reason.

    The copies of a backup come back as their source was: the ledger's journal says when each event
    happened there. Copies without an event count by their own dates, and the plan says how many.

    \b
    sealift restore --archives s3://cold/docs --key 2024/a.json --destination s3://back
    sealift restore --archives s3://cold/docs --prefix 2024/ --destination s3://back/docs/ --tier Standard --dry-run
    sealift restore --source s3://docs/2026/ --as-of 2026-11-01 --archives s3://cold/docs --destination s3://back
    """
    settings = Settings.from_environment()
    _check(options)
    return interrupts.run(_start(options, ledger_location(options.start.ledger, settings), settings))


def _check(options: RestoreCommand) -> None:
    """Raises UsageError for options that contradict each other."""
    if options.source is None and options.archives is None:
        raise UsageError(
            "nothing to restore from", advice="give --archives s3://bucket/prefix, or --source and --as-of TIME"
        )
    if options.source is not None and options.at is None:
        as_it_is = "to copy it as it is: sealift replicate"
        raise UsageError("--source needs --as-of TIME: as it was when?", advice=as_it_is)
    asked = options.keys or options.prefix or options.include or options.manifest
    if options.source is None and options.at is None and not asked:
        raise UsageError(
            "restore what?", advice="give --key, --prefix, --include or --manifest (everything: --include '*')"
        )
    if options.at is not None and options.at > time.time() + 86_400:  # a clock may be wrong
        raise UsageError("--as-of is in the future", advice="name a time that has passed")
    if options.at is not None and (options.keys or options.manifest):
        raise UsageError("--as-of goes with --prefix, --include and --exclude: --key and --manifest name versions")
    if options.keys and (options.manifest or options.prefix or options.include):
        raise UsageError("--key names all that is restored", advice="leave out --manifest, --prefix and --include")


def _destination(place: Location, replaced: str) -> Location:
    """The destination as a folder, with or without its `/`.

    As it is where it replaces a prefix that ends within a name: `20` by `19`.
    """
    return place.join("") if not replaced or replaced.endswith("/") else place


async def _start(options: RestoreCommand, place: Location, settings: Settings) -> int:
    ledger = open_ledger(place)
    archives = options.source_access.side(options.archives) if options.archives else None
    source = options.source_access.side(options.source) if options.source else archives
    prefix = options.source.key if options.source else ""
    request = Request(
        job="restore",
        source=source,
        destination=options.destination_access.side(_destination(options.destination, prefix)),
        manifest=options.manifest,
        selection=Selection(
            prefix=prefix + (options.prefix or ""),
            include=options.include,
            exclude=options.exclude,
            versions="all",
        ),
        options={
            "archives": archives.to_dict() if archives else None,
            "is_history": options.source is not None,
            "at": options.at,
            "bucket": options.bucket,
            "in_place": options.in_place,
            "source_prefix": prefix,
            "tier": options.tier,
            "storage_class": options.storage_class,
            **encryption(options.sse),
            **unguarded(is_agreed=options.unguarded),
            **({"skip_damaged": True} if options.skip_damaged else {}),
        },
    )
    from jobs.restore.plan import plan_run

    return await launch_and_report(request, ledger, settings, options.start, partial(plan_run, keys=options.keys))
