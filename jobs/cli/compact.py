"""`sealift compact`: plan by archives and what they save, then run like any other job."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import click

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
from jobs.cli.pair_options import choose
from jobs.cli.run_command import launch_and_report
from jobs.compact.packing import MEMBERS_MAX, TARGET_BYTES, Claim, PackingRule
from jobs.config import Settings
from jobs.core.enums import ArchiveFormat, ArchiveSide, Encryption, StorageClass
from jobs.core.model import Location
from jobs.core.selection import Selection
from jobs.errors import UsageError
from jobs.policy.model import ArchiveRule, Pair
from jobs.policy.run_options import globs
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


REPLACED = ("source", "manifest", "archives", "include", "exclude", "newer_than", "older_than", "min_size", "max_size")
"""What a rule says, so that the command line may not."""


def by_rule(given: Mapping[str, Any], settings: Settings) -> tuple[dict[str, Any], tuple[Claim, ...]]:
    """(the options of a compaction by the pair's rule, what its earlier rules claim). Not for an event loop.

    Raises UsageError for a rule that the pair does not have, and for options that the rule replaces.
    """
    if doubled := [name for name in REPLACED if given[name]]:
        raise UsageError(f"--{doubled[0].replace('_', '-')}: with --pair the policy's rule says it")
    chosen = choose(given, settings)
    pair, archive = chosen.pair, chosen.pair.archive
    rules = {str(rule.name): rule for rule in archive.rules} if archive is not None else {}
    if archive is None or given["rule"] not in rules:
        known = ", ".join(rules) or "none"
        raise UsageError(f"--rule {given['rule']!r}: the pair {pair.name} has no such archive rule, only: {known}")
    rule = rules[given["rule"]]
    now = time.time()
    is_source = archive.side is ArchiveSide.SOURCE
    inside, outside = globs(chosen.scope)
    side = pair.source if is_source else pair.destination
    is_default = archive.encryption is Encryption.S3 or archive.kms_key == "create"
    options = {
        "source": Location(side.bucket, _key(pair, rule.prefix, is_source=is_source)),
        "source_region": given["source_region"] or side.region,
        "archives": Location(archive.bucket, archive.prefix),
        "archives_region": given["archives_region"] or archive.region,
        "include": inside if is_source else tuple(pair.destination.prefix + each for each in inside),
        "exclude": outside if is_source else tuple(pair.destination.prefix + each for each in outside),
        "older_than": now - rule.older_than,
        "max_size": rule.smaller_than - 1,
        "tags": tuple(f"{name}={value}" for name, value in rule.tags.items()),
        "storage_class": rule.storage_class.value,
        "kind": rule.format.value,
        "target_size": int(rule.target_size),
        "sse": None if is_default else archive.encryption.value,
        "kms_key_id": None if is_default or archive.kms_key is None else str(archive.kms_key),
        "ledger": f"s3://{chosen.ledger.bucket}/{chosen.ledger.key}",
    }
    earlier = list(rules.values())[: list(rules).index(given["rule"])]
    claims = tuple(_claim(pair, each, now, is_source=is_source) for each in earlier if not each.tags)
    return {**given, **options}, claims


def _claim(pair: Pair, rule: ArchiveRule, now: float, *, is_source: bool) -> Claim:
    return Claim(_key(pair, rule.prefix, is_source=is_source), now - rule.older_than, int(rule.smaller_than))


def _key(pair: Pair, prefix: str, *, is_source: bool) -> str:
    return prefix if is_source else pair.copy_key(prefix)
