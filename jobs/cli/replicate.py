"""`sealift replicate`."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from jobs.cli.copies_options import copies_options, copies_request, copies_sides
from jobs.cli.options import SizeType, ledger_location
from jobs.cli.run_command import launch_and_report
from jobs.config import Settings
from jobs.errors import UsageError
from jobs.replicate.decision import Overwrite
from jobs.runs.request import open_ledger
from jobs.s3.copying import COPY_LIMIT_BYTES, KEEP


@click.command()
@copies_options()
@click.option("--storage-class", default=KEEP, show_default=True, help="Class of the copies. keep: the source's class.")
@click.option(
    "--sse", type=click.Choice(["AES256", "aws:kms"]), help="Encryption of the copies. Default: the bucket's."
)
@click.option("--kms-key-id", metavar="ARN", help="With --sse aws:kms.")
@click.option("--object-lock", is_flag=True, help="Copy retention and legal hold, too (one more request each).")
@click.option(
    "--overwrite",
    type=click.Choice([each.value for each in Overwrite]),
    default=Overwrite.OLDER.value,
    show_default=True,
    help="Which differing objects at the destination may be replaced.",
)
@click.option(
    "--multipart-threshold",
    type=SizeType(),
    default=COPY_LIMIT_BYTES,
    help="Copy larger objects in parts. Default: 5 GB.",
)
@click.option(
    "--part-size", type=SizeType(), default=64 * 1024 * 1024, help="Preferred size of a part. Default: 64MiB."
)
@click.option(
    "--then-verify", is_flag=True, help="Batch: a verify run follows, for each shard as soon as it is copied."
)
def replicate(**options: Any) -> int:
    """Copy the objects of a manifest or a listing, guarded on both sides, and prove each copy.

    An object that is already there, and proven the same, is skipped. Nothing newer is overwritten.
    Each row ends as copied, same, deleted, changed, missing, denied, archived or failed.

    \b
    sealift replicate --source s3://docs/2026/ --destination s3://replica/2026/ --dry-run
    sealift replicate --manifest s3://inv/docs/daily/2026-11-25T01-00Z/manifest.json --destination s3://replica
    sealift replicate --manifest run:20261125T003345Z-verify-1f3a --destination s3://replica
    """
    if options["multipart_threshold"] > COPY_LIMIT_BYTES:
        raise UsageError("--multipart-threshold: CopyObject takes at most 5 GB (5000000000 bytes)")
    run_options = {
        "storage_class": options["storage_class"],
        "sse": options["sse"],
        "kms_key_id": options["kms_key_id"],
        "object_lock": options["object_lock"],
        "overwrite": options["overwrite"],
        "multipart_threshold_bytes": options["multipart_threshold"],
        "part_size_bytes": options["part_size"],
    }
    settings = Settings.from_environment()
    ledger = open_ledger(ledger_location(options["ledger"], settings))
    request = copies_request("replicate", options, copies_sides(options), run_options)
    return asyncio.run(launch_and_report(request, ledger, settings, options))
