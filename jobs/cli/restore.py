"""`sealift restore`: plan what to thaw and read, then run like any other job."""

from __future__ import annotations

import time
from functools import partial

import click

from jobs import interrupts
from jobs.cli.options import (
    AccessOptions,
    LocationType,
    SectionedCommand,
    TextType,
    WhenType,
    check_encryption,
    command_options,
    flag,
    group,
    ledger_option,
    manifest_option,
    option,
    prefix_option,
    requester_pays_option,
    sse_option,
    takes,
    unguarded,
    unguarded_option,
)
from jobs.cli.policy_and_ledger import ledger_location
from jobs.cli.run_command import launch_and_report
from jobs.cli.start_options import StartOptions
from jobs.config import Settings
from jobs.core.enums import StorageClass
from jobs.core.model import Location
from jobs.core.selection import Selection
from jobs.errors import UsageError
from jobs.restore.thawing import DAYS, Tier
from jobs.runs.request import Request, open_ledger
from jobs.s3.copying import KEEP

DAY_SECONDS = 86_400
"""A date begins at another moment elsewhere."""


@command_options
class RestoreCommand:
    """`sealift restore`, as it was typed."""

    archives: Location | None = option("Where the archives are.", type=LocationType())
    source: Location | None = option("With --as-of: the versioned bucket, or a prefix in it.", type=LocationType())
    at: float | None = option(
        "As it was at: 30d (ago), 2026-11-01, 2026-11-01T06:00:00Z.", name="--as-of", type=WhenType()
    )
    keys: tuple[str, ...] = option(
        "This key. May be repeated.", name="--key", type=TextType(), multiple=True, metavar="KEY"
    )
    prefix: str = prefix_option("Keys that begin with this.")
    include: tuple[str, ...] = option("Keys that match. May be repeated.", multiple=True, metavar="GLOB")
    exclude: tuple[str, ...] = option("Leave out keys that match. May be repeated.", multiple=True, metavar="GLOB")
    manifest: str | None = manifest_option("Which rows: manifest.json, .csv, .parquet, run:ID (its failed rows).")
    bucket: str | None = option(
        "Only what was in this bucket, where archives are of several.", type=TextType(), metavar="NAME"
    )
    skip_damaged: bool = flag(
        "Also restore keys of which an archive with a damaged index may hold a newer version. The exit code stays 3."
    )
    destination: Location = option("Where the objects go.", type=LocationType(), required=True)
    in_place: bool = flag("Allow the original bucket as destination. Nothing is overwritten there.")
    tier: str = option(
        "How fast to thaw archived objects.",
        type=click.Choice([each.value for each in Tier]),
        default=Tier.BULK.value,
        show_default=True,
    )
    days: int = option("How many days they stay thawed.", type=click.IntRange(min=1), default=DAYS, show_default=True)
    storage_class: str = option(
        "Class of the restored objects. keep: the class that they had.",
        type=click.Choice([KEEP, *(each.value for each in StorageClass)]),
        default="STANDARD",
        show_default=True,
    )
    sse: str | None = sse_option("Encryption. Default: the bucket's.")
    kms_key_id: str | None = option("With --sse aws:kms or aws:kms:dsse.", metavar="ARN")
    unguarded: bool = unguarded_option()
    ledger: str | None = ledger_option()
    start: StartOptions = group(StartOptions)
    source_access: AccessOptions = group(AccessOptions, "source")
    archives_access: AccessOptions = group(AccessOptions, "archives")
    destination_access: AccessOptions = group(AccessOptions, "destination")
    requester_pays: bool = requester_pays_option()


@click.command(cls=SectionedCommand)
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
    return interrupts.run(_start(options, ledger_location(options.ledger, settings), settings))


def _check(options: RestoreCommand) -> None:
    """Raises UsageError for options that contradict each other."""
    check_encryption(options.sse, options.kms_key_id)
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
    if options.at is not None and options.at > time.time() + DAY_SECONDS:
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
    archives = options.archives_access.side(options.archives) if options.archives else None
    source = options.source_access.side(options.source) if options.source else archives
    prefix = options.source.key if options.source else ""
    request = Request(
        job="restore",
        source=source,
        destination=options.destination_access.side(_destination(options.destination, prefix)),
        manifest=options.manifest,
        selection=Selection(
            prefix=prefix + options.prefix,
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
            "days": options.days,
            "storage_class": options.storage_class,
            "sse": options.sse,
            "kms_key_id": options.kms_key_id,
            "requester_pays": options.requester_pays,
            **unguarded(is_agreed=options.unguarded),
            **({"skip_damaged": True} if options.skip_damaged else {}),
        },
        price_table=options.start.price_table,
    )
    from jobs.restore.plan import plan_run

    return await launch_and_report(request, ledger, settings, options.start, partial(plan_run, keys=options.keys))
