"""`sealift restore`: plan what to thaw and read, then run like any other job."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import click

from jobs.cli.batch_options import batch_options
from jobs.cli.options import (
    LocationType,
    TextType,
    WhenType,
    json_option,
    ledger_location,
    ledger_option,
    manifest_option,
    plan_options,
    prefix_option,
    side,
    side_options,
)
from jobs.cli.run_command import launch_and_report
from jobs.config import Settings
from jobs.core.enums import StorageClass
from jobs.core.model import Location
from jobs.core.selection import Selection
from jobs.errors import UsageError
from jobs.restore.thawing import DAYS, Tier
from jobs.runs.request import Request, open_ledger
from jobs.s3.copying import COPY_LIMIT_BYTES, KEEP


@click.command()
@click.option("--archives", type=LocationType(), help="Where the archives are.")
@click.option("--source", type=LocationType(), help="With --as-of: the versioned bucket, or a prefix in it.")
@click.option("--as-of", "at", type=WhenType(), help="As it was at: 30d (ago), 2026-11-01, 2026-11-01T06:00:00Z.")
@click.option(
    "--journal-since",
    type=WhenType(),
    help="With --as-of, for a bucket that events fill: restore its source's state, by the journal since then.",
)
@click.option("--key", "keys", type=TextType(), multiple=True, metavar="KEY", help="This key. May be repeated.")
@prefix_option("Keys that begin with this.")
@click.option("--include", multiple=True, metavar="GLOB", help="Keys that match. May be repeated.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Leave out keys that match. May be repeated.")
@manifest_option("Which rows: manifest.json, .csv, .parquet, run:ID (its failed rows).")
@click.option(
    "--bucket", type=TextType(), metavar="NAME", help="Only what was in this bucket, where archives are of several."
)
@click.option("--skip-damaged", is_flag=True, help="Restore without archives whose index is damaged. They are named.")
@click.option("--destination", type=LocationType(), required=True, help="Where the objects go.")
@click.option(
    "--in-place", is_flag=True, help="Allow the original bucket as destination. Nothing is overwritten there."
)
@click.option(
    "--tier",
    type=click.Choice([each.value for each in Tier]),
    default=Tier.BULK.value,
    show_default=True,
    help="How fast to thaw archived objects.",
)
@click.option(
    "--days", type=click.IntRange(min=1), default=DAYS, show_default=True, help="How many days they stay thawed."
)
@click.option(
    "--storage-class",
    type=click.Choice([KEEP, *(each.value for each in StorageClass)]),
    default="STANDARD",
    show_default=True,
    help="Class of the restored objects. keep: the class that they had.",
)
@click.option("--sse", type=click.Choice(["AES256", "aws:kms"]), help="Encryption. Default: the bucket's.")
@click.option("--kms-key-id", metavar="ARN", help="With --sse aws:kms.")
@ledger_option()
@plan_options()
@batch_options()
@json_option()
@side_options("source")
@side_options("archives")
@side_options("destination")
@click.option("--requester-pays", is_flag=True, help="Agree to pay for requests to the source's bucket.")
def restore(**options: Any) -> int:
    """Bring back objects from archives, or a versioned bucket as it was at a time.

    Each byte is proven before it is written, and no object is ever overwritten. Keys keep their
    names below the destination. With --source the destination replaces its prefix. Cold archives
    are thawed by --tier. Their rows end as thawing, and `sealift runs retry` continues once S3 has
    thawed them. Rows end as restored, same, thawing, unrestorable, denied or failed.

    The copies of a backup are dated by their making, and may outlive objects that were deleted at
    the source. With --journal-since the ledger's journal says when each event happened there.

    \b
    sealift restore --archives s3://cold/docs --key 2024/a.json --destination s3://back
    sealift restore --archives s3://cold/docs --prefix 2024/ --destination s3://back/docs/ --tier Standard --dry-run
    sealift restore --source s3://docs/2026/ --as-of 2026-11-01 --archives s3://cold/docs --destination s3://back
    """
    settings = Settings.from_environment()
    _check(options)
    return asyncio.run(_start(options, ledger_location(options["ledger"], settings), settings))


def _check(options: dict[str, Any]) -> None:
    """Raises UsageError for options that contradict each other."""
    if options["source"] is None and options["archives"] is None:
        raise UsageError("nothing to restore from: give --archives s3://bucket/prefix, or --source and --as-of TIME")
    if options["source"] is not None and options["at"] is None:
        raise UsageError("--source needs --as-of TIME: as it was when? (To copy it as it is: sealift replicate)")
    asked = [name for name in ("keys", "prefix", "include", "manifest") if options[name]]
    if options["source"] is None and options["at"] is None and not asked:
        raise UsageError("restore what? Give --key, --prefix, --include or --manifest (everything: --include '*')")
    if options["at"] is not None and (options["keys"] or options["manifest"]):
        raise UsageError("--as-of goes with --prefix, --include and --exclude: --key and --manifest name versions")
    if options["journal_since"] is not None and options["source"] is None:
        raise UsageError("--journal-since goes with --source and --as-of: the journal tells how a bucket's source was")
    if options["journal_since"] is not None and options["journal_since"] > options["at"]:
        raise UsageError("--journal-since is later than --as-of: no event between them can tell how it was")
    if options["keys"] and (options["manifest"] or options["prefix"] or options["include"]):
        raise UsageError("--key names all that is restored: leave out --manifest, --prefix and --include")


async def _start(options: dict[str, Any], place: Location, settings: Settings) -> int:
    ledger = open_ledger(place)
    archives = side(options["archives"], options, "archives") if options["archives"] else None
    source = side(options["source"], options, "source") if options["source"] else archives
    prefix = options["source"].key if options["source"] else ""
    request = Request(
        job="restore",
        source=source,
        destination=side(options["destination"], options, "destination"),
        manifest=options["manifest"],
        selection=Selection(
            prefix=prefix + options["prefix"],
            include=tuple(options["include"]),
            exclude=tuple(options["exclude"]),
            versions="all",
        ),
        options={
            "archives": archives.to_dict() if archives else None,
            "is_history": options["source"] is not None,
            "at": options["at"],
            "journal_since": options["journal_since"],
            "bucket": options["bucket"],
            "in_place": options["in_place"],
            "source_prefix": prefix,
            "tier": options["tier"],
            "days": options["days"],
            "storage_class": options["storage_class"],
            "sse": options["sse"],
            "kms_key_id": options["kms_key_id"],
            "multipart_threshold_bytes": COPY_LIMIT_BYTES,
            "requester_pays": options["requester_pays"],
            **({"skip_damaged": True} if options["skip_damaged"] else {}),
        },
        price_table=options["price_table"],
    )
    from jobs.restore.plan import plan_run

    return await launch_and_report(request, ledger, settings, options, partial(plan_run, keys=options["keys"]))
