"""`sealift compact`: plan by archives and what they save, then run like any other job."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import click

from jobs.cli.archive_rules import by_rule
from jobs.cli.batch_options import batch_options
from jobs.cli.options import (
    LocationType,
    SizeType,
    filter_options,
    json_option,
    ledger_location,
    ledger_option,
    manifest_option,
    plan_options,
    side,
    side_options,
)
from jobs.cli.run_command import launch_and_report
from jobs.compact.packing import MEMBERS_MAX, TARGET_BYTES, Claim, PackingRule
from jobs.config import Settings
from jobs.core.enums import ArchiveFormat, StorageClass
from jobs.core.model import Location
from jobs.core.selection import Selection
from jobs.errors import UsageError
from jobs.runs.request import Request, open_ledger

PAYBACK_MONTHS = 24.0


@click.command()
@click.option("--source", type=LocationType(), help="What to pack: a bucket or a prefix in it.")
@manifest_option("Which rows: manifest.json, .csv, .parquet, run:ID (its failed rows).")
@click.option("--archives", type=LocationType(), help="Where the archives go.")
@click.option("--pair", "pair_name", metavar="NAME", help="What and where as a pair of the policy says; needs --rule.")
@click.option("--rule", metavar="NAME", help="Which of the pair's archive rules.")
@click.option("--policy", "file", metavar="FILE", help="With --pair: a path or s3://. Default: SEALIFT_POLICY.")
@click.option(
    "--format",
    "kind",
    type=click.Choice([each.value for each in ArchiveFormat]),
    default=ArchiveFormat.TAR_ZST.value,
    show_default=True,
)
@click.option("--target-size", type=SizeType(), default=TARGET_BYTES, help="About how large. Default: 1GiB.")
@click.option(
    "--storage-class",
    type=click.Choice([each.value for each in StorageClass]),
    default=StorageClass.GLACIER_IR.value,
    show_default=True,
    help="The class of the archives.",
)
@click.option("--sse", type=click.Choice(["AES256", "aws:kms"]), help="Encryption of the archives.")
@click.option("--kms-key-id", metavar="ARN", help="With --sse aws:kms.")
@click.option("--with-tag", "tags", multiple=True, metavar="NAME=VALUE", help="Pack only objects with this tag.")
@click.option(
    "--payback-months",
    type=click.FloatRange(min=0),
    default=PAYBACK_MONTHS,
    show_default=True,
    help="Leave alone what takes longer to pay.",
)
@click.option("--pack-all", is_flag=True, help="Pack also what would not pay.")
@click.option("--versions", type=click.Choice(["current", "all"]), default="current", show_default=True)
@ledger_option()
@filter_options()
@plan_options()
@batch_options()
@json_option()
@side_options("source")
@side_options("archives")
@click.option("--requester-pays", is_flag=True, help="Agree to pay for requests to the source's bucket.")
def compact(**given: Any) -> int:
    """Pack small cold objects into few archives in a cold class, with an index that finds any one of them.

    Objects are grouped by the month in which they were written and by prefix. Archives are tar, or tar in zstd frames:
    stock tar reads either. The plan says what it saves; groups that would not pay are left alone. Originals stay
    where they are. Each row ends as packed, skipped, changed, missing, denied, archived or failed.

    \b
    sealift compact --source s3://docs/2024/ --archives s3://cold/docs --older-than 90d --max-size 1MiB --dry-run
    sealift compact --manifest s3://inv/docs/daily/2026-11-25T01-00Z/manifest.json --archives s3://cold/docs
    sealift compact --pair scans --rule old-pages
    """
    settings = Settings.from_environment()
    claims: tuple[Claim, ...] = ()
    if given["pair_name"] or given["rule"]:
        if not given["pair_name"] or not given["rule"]:
            raise UsageError("--pair and --rule go together")
        given, claims = by_rule(given, settings)
    return asyncio.run(_start(given, claims, ledger_location(given["ledger"], settings), settings))


async def _start(given: dict[str, Any], claims: tuple[Claim, ...], place: Location, settings: Settings) -> int:
    if given["source"] is None and given["manifest"] is None:
        raise UsageError("nothing to pack: give --source s3://bucket/prefix, --manifest URI, or --pair and --rule")
    if given["archives"] is None:
        raise UsageError("no place for archives: give --archives s3://bucket/prefix")
    source = side(given["source"], given, "source") if given["source"] else None
    request = Request(
        job="compact",
        source=source,
        destination=side(given["archives"], given, "archives"),
        manifest=given["manifest"],
        selection=Selection(
            prefix=source.location.key if source else "",
            include=tuple(given["include"]),
            exclude=tuple(given["exclude"]),
            min_size_bytes=given["min_size"],
            max_size_bytes=given["max_size"],
            newer_than=given["newer_than"],
            older_than=given["older_than"],
            storage_classes=tuple(given["include_class"]),
            versions=given["versions"],
        ),
        options={
            "rule": PackingRule(
                max(given["target_size"], 1), ArchiveFormat(given["kind"]), _tags(given["tags"]), MEMBERS_MAX
            ).to_dict(),
            "storage_class": given["storage_class"],
            "payback_months": None if given["pack_all"] else given["payback_months"],
            "sse": given["sse"],
            "kms_key_id": given["kms_key_id"],
            "requester_pays": given["requester_pays"],
        },
        price_table=given["price_table"],
    )
    from jobs.compact.plan import plan_run

    planner = partial(plan_run, claims=claims)
    return await launch_and_report(request, open_ledger(place), settings, given, planner)


def _tags(words: tuple[str, ...]) -> dict[str, str]:
    tags = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise UsageError(f"--with-tag {word!r}: write NAME=VALUE")
        tags[name] = value
    return tags
