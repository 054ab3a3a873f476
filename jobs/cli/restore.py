"""`sealift restore`: plan what must be thawed and read, then run like any other job."""

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
    help="With --as-of, for a bucket that events fill: how its source was, by the journal's events since then.",
)
@click.option("--key", "keys", type=TextType(), multiple=True, metavar="KEY", help="This key. May be repeated.")
@prefix_option("Keys that begin with this.")
@click.option("--include", multiple=True, metavar="GLOB", help="Keys that match. May be repeated.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Leave out keys that match. May be repeated.")
@manifest_option("Which rows: manifest.json, .csv, .parquet, run:ID (its failed rows).")
@click.option(
    "--bucket", type=TextType(), metavar="NAME", help="Only what was in this bucket, where archives are of several."
)
@click.option("--destination", type=LocationType(), required=True, help="Where the objects go.")
@click.option("--in-place", is_flag=True, help="Allow the original bucket as destination. Nothing is replaced there.")
@click.option(
    "--tier",
    type=click.Choice([each.value for each in Tier]),
    default=Tier.BULK.value,
    show_default=True,
    help="How quickly archived objects are thawed.",
)
@click.option("--days", type=click.IntRange(min=1), default=DAYS, show_default=True, help="How long they stay thawed.")
@click.option(
    "--storage-class",
    type=click.Choice([KEEP, *(each.value for each in StorageClass)]),
    default="STANDARD",
    show_default=True,
    help="The class of what is restored; keep: the one that it had.",
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
def restore(**given: Any) -> int:
    """Bring back objects out of archives, or a versioned bucket as it was at a time.

    Each byte is proven before it is written, and nothing is ever written over an object. Keys keep their names below
    the destination; with --source its prefix is replaced. Archives that are cold are asked for by --tier; their rows
    end as thawing, and `sealift runs retry` goes on once S3 has thawed them. Rows end as restored, same, thawing,
    unrestorable, denied or failed.

    A backup's copies are dated when they were made, and may outlive what was deleted at the source; with
    --journal-since the ledger's journal says when each thing happened there.

    \b
    sealift restore --archives s3://cold/docs --key 2024/a.json --destination s3://back
    sealift restore --archives s3://cold/docs --prefix 2024/ --destination s3://back/docs/ --tier Standard --dry-run
    sealift restore --source s3://docs/2026/ --as-of 2026-11-01 --archives s3://cold/docs --destination s3://back
    """
    settings = Settings.from_environment()
    _check(given)
    return asyncio.run(_start(given, ledger_location(given["ledger"], settings), settings))


def _check(given: dict[str, Any]) -> None:
    """Raises UsageError for a question that makes no sense."""
    if given["source"] is None and given["archives"] is None:
        raise UsageError("nothing to restore from: give --archives s3://bucket/prefix, or --source and --as-of TIME")
    if given["source"] is not None and given["at"] is None:
        raise UsageError("--source needs --as-of TIME: as it was when? (To copy it as it is: sealift replicate)")
    asked = [name for name in ("keys", "prefix", "include", "manifest") if given[name]]
    if given["source"] is None and given["at"] is None and not asked:
        raise UsageError("restore what? Give --key, --prefix, --include or --manifest (everything: --include '*')")
    if given["at"] is not None and (given["keys"] or given["manifest"]):
        raise UsageError("--as-of goes with --prefix, --include and --exclude: --key and --manifest name versions")
    if given["journal_since"] is not None and given["source"] is None:
        raise UsageError("--journal-since goes with --source and --as-of: the journal tells how a bucket's source was")
    if given["journal_since"] is not None and given["journal_since"] > given["at"]:
        raise UsageError("--journal-since is later than --as-of: no event between them can tell how it was")
    if given["keys"] and (given["manifest"] or given["prefix"] or given["include"]):
        raise UsageError("--key names all that is restored: leave out --manifest, --prefix and --include")


async def _start(given: dict[str, Any], place: Location, settings: Settings) -> int:
    ledger = open_ledger(place)
    archives = side(given["archives"], given, "archives") if given["archives"] else None
    source = side(given["source"], given, "source") if given["source"] else archives
    prefix = given["source"].key if given["source"] else ""
    request = Request(
        job="restore",
        source=source,
        destination=side(given["destination"], given, "destination"),
        manifest=given["manifest"],
        selection=Selection(
            prefix=prefix + given["prefix"],
            include=tuple(given["include"]),
            exclude=tuple(given["exclude"]),
            versions="all",
        ),
        options={
            "archives": archives.to_dict() if archives else None,
            "is_history": given["source"] is not None,
            "at": given["at"],
            "journal_since": given["journal_since"],
            "bucket": given["bucket"],
            "in_place": given["in_place"],
            "source_prefix": prefix,
            "tier": given["tier"],
            "days": given["days"],
            "storage_class": given["storage_class"],
            "sse": given["sse"],
            "kms_key_id": given["kms_key_id"],
            "multipart_threshold_bytes": COPY_LIMIT_BYTES,
            "requester_pays": given["requester_pays"],
        },
        price_table=given["price_table"],
    )
    from jobs.restore.plan import plan_run

    return await launch_and_report(request, ledger, settings, given, partial(plan_run, keys=given["keys"]))
