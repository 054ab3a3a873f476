"""`sealift compact`: plan by archives and their savings, then run like any job."""

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
from jobs.compact.packing import MEMBERS_MAX, TARGET_BYTES, EarlierRule, PackingRule
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
@click.option("--pair", "pair_name", metavar="NAME", help="What and where, from a pair of the policy. Needs --rule.")
@click.option("--rule", metavar="NAME", help="Which of the pair's archive rules.")
@click.option("--policy", "file", metavar="FILE", help="With --pair: a path or s3://. Default: SEALIFT_POLICY.")
@click.option(
    "--format",
    "kind",
    type=click.Choice([each.value for each in ArchiveFormat]),
    default=ArchiveFormat.TAR_ZST.value,
    show_default=True,
)
@click.option(
    "--target-size", type=SizeType(), default=TARGET_BYTES, help="Approximate size of an archive. Default: 1GiB."
)
@click.option(
    "--storage-class",
    type=click.Choice([each.value for each in StorageClass]),
    default=StorageClass.GLACIER_IR.value,
    show_default=True,
    help="Storage class of the archives.",
)
@click.option("--sse", type=click.Choice(["AES256", "aws:kms"]), help="Encryption of the archives.")
@click.option("--kms-key-id", metavar="ARN", help="With --sse aws:kms.")
@click.option("--with-tag", "tags", multiple=True, metavar="NAME=VALUE", help="Pack only objects with this tag.")
@click.option(
    "--payback-months",
    type=click.FloatRange(min=0),
    default=PAYBACK_MONTHS,
    show_default=True,
    help="Leave out groups that take longer to pay.",
)
@click.option("--pack-all", is_flag=True, help="Pack groups that would not pay, too.")
@click.option("--versions", type=click.Choice(["current", "all"]), default="current", show_default=True)
@ledger_option()
@filter_options()
@plan_options()
@batch_options()
@json_option()
@side_options("source")
@side_options("archives")
@click.option("--requester-pays", is_flag=True, help="Agree to pay for requests to the source's bucket.")
def compact(**options: Any) -> int:
    """Pack small cold objects into few archives in a cold class, with an index that finds any one
    of them.

    Objects are grouped by the month in which they were written and by prefix. Archives are tar, or
    tar in zstd frames: stock tar reads both. The plan says what it saves, and groups that would not
    pay are left alone. Originals stay where they are. Each row ends as packed, skipped, changed,
    missing, denied, archived or failed.

    \b
    sealift compact --source s3://docs/2024/ --archives s3://cold/docs --older-than 90d --max-size 1MiB --dry-run
    sealift compact --manifest s3://inv/docs/daily/2026-11-25T01-00Z/manifest.json --archives s3://cold/docs
    sealift compact --pair scans --rule old-pages
    """
    settings = Settings.from_environment()
    claims: tuple[EarlierRule, ...] = ()
    if options["pair_name"] or options["rule"]:
        if not options["pair_name"] or not options["rule"]:
            raise UsageError("--pair and --rule go together")
        options, claims = by_rule(options, settings)
    return asyncio.run(_start(options, claims, ledger_location(options["ledger"], settings), settings))


async def _start(options: dict[str, Any], claims: tuple[EarlierRule, ...], place: Location, settings: Settings) -> int:
    if options["source"] is None and options["manifest"] is None:
        raise UsageError("nothing to pack: give --source s3://bucket/prefix, --manifest URI, or --pair and --rule")
    if options["archives"] is None:
        raise UsageError("no place for archives: give --archives s3://bucket/prefix")
    source = side(options["source"], options, "source") if options["source"] else None
    request = Request(
        job="compact",
        source=source,
        destination=side(options["archives"], options, "archives"),
        manifest=options["manifest"],
        selection=Selection(
            prefix=source.location.key if source else "",
            include=tuple(options["include"]),
            exclude=tuple(options["exclude"]),
            min_size_bytes=options["min_size"],
            max_size_bytes=options["max_size"],
            newer_than=options["newer_than"],
            older_than=options["older_than"],
            storage_classes=tuple(options["include_class"]),
            versions=options["versions"],
        ),
        options={
            "rule": PackingRule(
                max(options["target_size"], 1), ArchiveFormat(options["kind"]), _tags(options["tags"]), MEMBERS_MAX
            ).to_dict(),
            "storage_class": options["storage_class"],
            "payback_months": None if options["pack_all"] else options["payback_months"],
            "sse": options["sse"],
            "kms_key_id": options["kms_key_id"],
            "requester_pays": options["requester_pays"],
        },
        price_table=options["price_table"],
    )
    from jobs.compact.plan import plan_run

    planner = partial(plan_run, claims=claims)
    return await launch_and_report(request, open_ledger(place), settings, options, planner)


def _tags(texts: tuple[str, ...]) -> dict[str, str]:
    tags = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise UsageError(f"--with-tag {text!r}: write NAME=VALUE")
        tags[name] = value
    return tags


REPLACED = ("source", "manifest", "archives", "include", "exclude", "newer_than", "older_than", "min_size", "max_size")
"""Options that --rule replaces by the policy's values."""


def by_rule(options: Mapping[str, Any], settings: Settings) -> tuple[dict[str, Any], tuple[EarlierRule, ...]]:
    """(the options of a compaction by the pair's rule, the claims of its earlier rules).

    Must not be called in an event loop. Raises UsageError for a rule that the pair does not have,
    and for options that the rule replaces.
    """
    if doubled := [name for name in REPLACED if options[name]]:
        raise UsageError(f"--{doubled[0].replace('_', '-')}: with --pair the policy's rule says it")
    chosen = choose(options, settings)
    pair, archive = chosen.pair, chosen.pair.archive
    rules = {str(rule.name): rule for rule in archive.rules} if archive is not None else {}
    if archive is None or options["rule"] not in rules:
        known = ", ".join(rules) or "none"
        raise UsageError(f"--rule {options['rule']!r}: the pair {pair.name} has no such archive rule, only: {known}")
    rule = rules[options["rule"]]
    now = time.time()
    is_source = archive.side is ArchiveSide.SOURCE
    inside, outside = globs(chosen.scope)
    side = pair.source if is_source else pair.destination
    is_default = archive.encryption is Encryption.S3 or archive.kms_key == "create"
    rule_options = {
        "source": Location(side.bucket, _key(pair, rule.prefix, is_source=is_source)),
        "source_region": options["source_region"] or side.region,
        "archives": Location(archive.bucket, archive.prefix),
        "archives_region": options["archives_region"] or archive.region,
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
    earlier = list(rules.values())[: list(rules).index(options["rule"])]
    claims = tuple(_claim(pair, each, now, is_source=is_source) for each in earlier if not each.tags)
    return {**options, **rule_options}, claims


def _claim(pair: Pair, rule: ArchiveRule, now: float, *, is_source: bool) -> EarlierRule:
    return EarlierRule(_key(pair, rule.prefix, is_source=is_source), now - rule.older_than, int(rule.smaller_than))


def _key(pair: Pair, prefix: str, *, is_source: bool) -> str:
    return prefix if is_source else pair.copy_key(prefix)
