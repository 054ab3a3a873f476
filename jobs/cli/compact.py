"""`sealift compact`: plan by archives and their savings, then run like any job."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from functools import partial

import click
import msgspec

from jobs import interrupts
from jobs.cli.options import (
    AccessOptions,
    FilterOptions,
    LocationType,
    SectionedCommand,
    SizeType,
    TagType,
    check_encryption,
    command_options,
    flag,
    group,
    ledger_option,
    manifest_option,
    option,
    policy_option,
    requester_pays_option,
    sse_option,
    tags_of,
    takes,
    unguarded,
    unguarded_option,
    versions_option,
)
from jobs.cli.policy_and_ledger import ChosenPair, choose_pair, ledger_location
from jobs.cli.run_command import launch_and_report
from jobs.cli.start_options import StartOptions
from jobs.compact.packing import MEMBERS_MAX, TARGET_BYTES, EarlierRule, PackingRule
from jobs.config import Settings
from jobs.core.enums import (
    CHECK_ANNOTATIONS,
    SKIP_ANNOTATIONS,
    AnnotationRule,
    ArchiveFormat,
    ArchiveSide,
    Encryption,
    StorageClass,
)
from jobs.core.model import Location
from jobs.errors import UsageError
from jobs.policy.model import Archive, ArchiveRule, Pair
from jobs.policy.run_options import globs
from jobs.runs.request import Request, open_ledger


@command_options
class CompactCommand:
    """`sealift compact`, as it was typed."""

    source: Location | None = option("What to pack: a bucket or a prefix in it.", type=LocationType())
    manifest: str | None = manifest_option("Which rows: manifest.json, .csv, .parquet, run:ID (its failed rows).")
    archives: Location | None = option("Where the archives go.", type=LocationType())
    pair: str | None = option("What and where, from a pair of the policy. Needs --rule.", metavar="NAME")
    rule: str | None = option("Which of the pair's archive rules.", metavar="NAME")
    policy: str | None = policy_option("With --pair: a path or s3://. Default: SEALIFT_POLICY.")
    target_size: int = option("Approximate size of an archive. Default: 1GiB.", type=SizeType(), default=TARGET_BYTES)
    storage_class: str = option(
        "Storage class of the archives.",
        type=click.Choice([each.value for each in StorageClass]),
        default=StorageClass.GLACIER_IR.value,
        show_default=True,
    )
    sse: str | None = sse_option("Encryption of the archives.")
    kms_key_id: str | None = option("With --sse aws:kms or aws:kms:dsse.", metavar="ARN")
    annotations: str = option(
        "check: leave out objects with annotations, which no archive holds. skip: pack them without.",
        type=click.Choice([CHECK_ANNOTATIONS, SKIP_ANNOTATIONS]),
        default=CHECK_ANNOTATIONS,
        show_default=True,
    )
    with_tag: tuple[tuple[str, str], ...] = option(
        "Pack only objects with this tag. May be repeated: with all of them.", multiple=True, type=TagType()
    )
    unguarded: bool = unguarded_option()
    pack_all: bool = flag("Pack groups that would not pay, too.")
    versions: str = versions_option()
    ledger: str | None = ledger_option()
    filters: FilterOptions = group(FilterOptions)
    start: StartOptions = group(StartOptions)
    source_access: AccessOptions = group(AccessOptions, "source")
    archives_access: AccessOptions = group(AccessOptions, "archives")
    requester_pays: bool = requester_pays_option()


@click.command(cls=SectionedCommand)
@takes(CompactCommand)
def compact(options: CompactCommand) -> int:
    """Pack small cold objects into few archives in a cold class, with an index that finds any one
    of them.

    Objects are grouped by the month in which they were written and by prefix. Archives are tar, or
    tar in zstd frames: stock tar reads both. The plan says what it saves, and groups that would not
    pay are left alone. Originals stay where they are. Each row ends as packed, left, changed,
    missing or blocked, with the reason.

    \b
    sealift compact --source s3://docs/2024/ --archives s3://cold/docs --older-than 90d --max-size 1MiB --dry-run
    sealift compact --manifest s3://inv/docs/daily/2026-11-25T01-00Z/manifest.json --archives s3://cold/docs
    sealift compact --pair scans --rule old-pages
    """
    settings = Settings.from_environment()
    earlier_rules: tuple[EarlierRule, ...] = ()
    kind = ArchiveFormat.TAR_ZST
    if options.pair or options.rule:
        if not options.pair or not options.rule:
            raise UsageError("--pair and --rule go together")
        options, kind, earlier_rules = by_rule(options, options.pair, options.rule, settings)
        options = replace(options, start=replace(options.start, allow_empty=True))  # a pair may be empty
    place = ledger_location(options.ledger, settings)
    return interrupts.run(_start(options, kind, earlier_rules, place, settings))


async def _start(
    options: CompactCommand,
    kind: ArchiveFormat,
    earlier_rules: tuple[EarlierRule, ...],
    place: Location,
    settings: Settings,
) -> int:
    from jobs.compact.plan import plan_run
    from jobs.compact.savings import PAYBACK_MONTHS

    if options.source is None and options.manifest is None:
        raise UsageError(
            "nothing to pack", advice="give --source s3://bucket/prefix, --manifest URI, or --pair and --rule"
        )
    check_encryption(options.sse, options.kms_key_id)
    if options.archives is None:
        raise UsageError("no place for archives", advice="give --archives s3://bucket/prefix")
    source = options.source_access.side(options.source) if options.source else None
    rule = PackingRule(
        max(options.target_size, 1),
        kind,
        tags_of("--with-tag", options.with_tag),
        MEMBERS_MAX,
    )
    request = Request(
        job="compact",
        source=source,
        destination=options.archives_access.side(options.archives),
        manifest=options.manifest,
        selection=options.filters.selection(source, options.versions),
        options={
            "rule": msgspec.to_builtins(rule),
            "storage_class": options.storage_class,
            "payback_months": None if options.pack_all else PAYBACK_MONTHS,
            "sse": options.sse,
            "kms_key_id": options.kms_key_id,
            "annotations": options.annotations,
            "requester_pays": options.requester_pays,
            "earlier_rules": msgspec.to_builtins([rule for rule in earlier_rules if rule.tags], enc_hook=dict),
            **unguarded(is_agreed=options.unguarded),
        },
        price_table=options.start.price_table,
    )
    # Tags show when an object is read.
    planner = partial(plan_run, earlier_rules=tuple(rule for rule in earlier_rules if not rule.tags))
    return await launch_and_report(request, open_ledger(place), settings, options.start, planner)


def by_rule(
    options: CompactCommand, pair_name: str, rule_name: str, settings: Settings
) -> tuple[CompactCommand, ArchiveFormat, tuple[EarlierRule, ...]]:
    """(the options of a compaction by the pair's rule, its format, the pair's rules before it).

    Must not be called in an event loop. Raises UsageError for a rule that the pair does not have,
    and for options that the rule replaces.
    """
    _refuse_what_a_rule_says(options)
    chosen = choose_pair(pair_name, options.policy, options.ledger, settings)
    pair, archive = chosen.pair, chosen.pair.archive
    rules = {str(rule.name): rule for rule in archive.rules} if archive is not None else {}
    if archive is None or rule_name not in rules:
        known = ", ".join(rules) or "none"
        raise UsageError(f"--rule {rule_name!r}: the pair {pair.name} has no such archive rule, only: {known}")
    now = time.time()
    before = list(rules.values())[: list(rules).index(rule_name)]
    earlier = tuple(
        EarlierRule(_listed_prefix(pair, archive, rule), now - rule.older_than, int(rule.smaller_than), rule.tags)
        for rule in before
    )
    rule = rules[rule_name]
    return _completed(options, chosen, archive, rule, now), rule.format, earlier


def _refuse_what_a_rule_says(options: CompactCommand) -> None:
    replaced = {"source": options.source, "manifest": options.manifest, "archives": options.archives}
    replaced |= asdict(options.filters) | {"include_class": None}  # a class narrows what the rule takes
    if doubled := [name for name, value in replaced.items() if value]:
        raise UsageError(f"--{doubled[0].replace('_', '-')}: with --pair the policy's rule says it")


def _completed(
    options: CompactCommand, chosen: ChosenPair, archive: Archive, rule: ArchiveRule, now: float
) -> CompactCommand:
    """The options with all that the policy says of the pair, its archives, and the rule."""
    pair, is_source = chosen.pair, archive.side is ArchiveSide.SOURCE
    inside, outside = globs(chosen.scope)
    side = pair.source if is_source else pair.destination
    is_default = archive.encryption is Encryption.S3 or archive.kms_key == "create"
    return replace(
        options,
        source=Location(side.bucket, _listed_prefix(pair, archive, rule)),
        source_access=options.source_access.completed(side.region, side.account),
        archives=Location(archive.bucket, archive.prefix),
        archives_access=options.archives_access.completed(archive.region, archive.account),
        filters=replace(
            options.filters,
            include=inside if is_source else tuple(pair.destination.prefix + each for each in inside),
            exclude=outside if is_source else tuple(pair.destination.prefix + each for each in outside),
            older_than=now - rule.older_than,
            max_size=rule.smaller_than - 1,
        ),
        with_tag=tuple(rule.tags.items()),
        storage_class=rule.storage_class.value,
        target_size=int(rule.target_size),
        sse=None if is_default else archive.encryption.value,
        kms_key_id=None if is_default or archive.kms_key is None else str(archive.kms_key),
        annotations=options.annotations if pair.destination.annotations is AnnotationRule.COPY else SKIP_ANNOTATIONS,
        ledger=f"s3://{chosen.ledger.bucket}/{chosen.ledger.key}",
    )


def _listed_prefix(pair: Pair, archive: Archive, rule: ArchiveRule) -> str:
    """The prefix of the rule's keys in the bucket that is packed."""
    return rule.prefix if archive.side is ArchiveSide.SOURCE else pair.copy_key(rule.prefix)
