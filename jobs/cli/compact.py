"""`sealift compact`: plan by archives and their savings, then run like any job."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import click
import msgspec

from jobs import interrupts
from jobs.cli.options import (
    FILTERS,
    OTHER,
    AccessOptions,
    Command,
    Size,
    SizeOrZero,
    StartOptions,
    command_options,
    encryption,
    flag,
    group,
    option,
    shared,
    takes,
    unguarded,
)
from jobs.cli.policy_and_ledger import choose_pair, ledger_location
from jobs.cli.run_command import launch_and_report
from jobs.compact.packing import TARGET_BYTES, EarlierRule, PackingRule
from jobs.config import Settings
from jobs.core.enums import (
    CHECK_ANNOTATIONS,
    SKIP_ANNOTATIONS,
    AnnotationRule,
    ArchiveSide,
    Encryption,
    StorageClass,
)
from jobs.core.model import Location
from jobs.core.selection import Selection
from jobs.errors import UsageError
from jobs.policy.model import Archive, ArchiveRule, Pair
from jobs.policy.run_options import globs
from jobs.runs.request import Request, open_ledger


@command_options
class CompactCommand:
    """`sealift compact`, as it was typed."""

    source: Location | None = shared("source", "What to pack: a bucket or a prefix in it.")
    manifest: str | None = shared("manifest")
    destination: Location | None = shared("destination", "Where the archives go.")
    pair: str | None = shared("pair", "What and where, from a pair of the policy. Needs --rule.")
    rule: str | None = option("Which of the pair's archive rules.", metavar="NAME")
    include: tuple[str, ...] = shared("include", heading=FILTERS)
    exclude: tuple[str, ...] = shared("exclude", heading=FILTERS)
    older_than: float | None = shared("older-than")
    max_size: int | None = option("Take only objects of at most this size: 1MiB.", type=SizeOrZero)
    versions: str = shared("versions", heading=FILTERS)
    target_size: int = option(
        "Approximate size of an archive. Default: 1GiB.", type=Size, default=TARGET_BYTES, heading=OTHER
    )
    storage_class: str = shared(
        "storage-class", "Storage class of the archives.", default=StorageClass.GLACIER_IR.value, show_default=True
    )
    sse: tuple[str, str | None] | None = shared("sse")
    annotations: str = shared(
        "annotations",
        "check: leave out objects with annotations, which no archive holds. skip: pack them without.",
        type=click.Choice([CHECK_ANNOTATIONS, SKIP_ANNOTATIONS]),
        default=CHECK_ANNOTATIONS,
    )
    unguarded: bool = shared("unguarded")
    pack_all: bool = flag("Pack groups that would not pay, too.")
    start: StartOptions = group(StartOptions)
    policy: str | None = shared("policy")
    source_access: AccessOptions = group(AccessOptions, "source")
    destination_access: AccessOptions = group(AccessOptions, "destination")


@click.command(cls=Command)
@takes(CompactCommand)
def compact(options: CompactCommand) -> int:
    """Pack small cold objects into few archives in a cold class, with an index that finds any one
    of them.

    Objects are grouped by the month in which they were written and by prefix. Archives are tar, or
    tar in zstd frames: stock tar reads both. The plan says what it saves, and groups that would not
    pay are left alone. Originals stay where they are. Each row ends as packed, left, changed,
    missing or blocked, with the reason. Rows of a manifest need size, ETag and time.

    \b
    sealift compact --source s3://docs/2024/ --destination s3://cold/docs --older-than 90d --max-size 1MiB --dry-run
    sealift compact --manifest s3://inv/docs/daily/2026-11-25T01-00Z/manifest.json --destination s3://cold/docs
    sealift compact --pair scans --rule old-pages
    """
    settings = Settings.from_environment()
    rule, earlier = PackingRule(max(options.target_size, 1)), list[EarlierRule]()
    may_be_empty = options.pair is not None
    if options.pair and options.rule:
        options, rule, earlier = _by_rule(options, options.pair, options.rule, settings)
    elif options.pair or options.rule:
        raise UsageError("--pair and --rule go together")
    place = ledger_location(options.start.ledger, settings)
    return interrupts.run(_start(options, rule, earlier, place, settings, may_be_empty=may_be_empty))


async def _start(
    options: CompactCommand,
    rule: PackingRule,
    earlier_rules: Sequence[EarlierRule],
    place: Location,
    settings: Settings,
    *,
    may_be_empty: bool,
) -> int:
    if options.source is None and options.manifest is None:
        raise UsageError(
            "nothing to pack", advice="give --source s3://bucket/prefix, --manifest URI, or --pair and --rule"
        )
    if options.destination is None:
        raise UsageError("no place for archives", advice="give --destination s3://bucket/prefix")
    request = Request(
        job="compact",
        source=options.source_access.side(options.source) if options.source else None,
        destination=options.destination_access.side(options.destination),
        manifest=options.manifest,
        selection=Selection(
            prefix=options.source.key if options.source else "",
            include=options.include,
            exclude=options.exclude,
            older_than=options.older_than,
            max_size_bytes=options.max_size,
            versions=options.versions,
        ),
        options={
            "rule": msgspec.to_builtins(rule),
            "storage_class": options.storage_class,
            "pack_all": options.pack_all,
            **encryption(options.sse),
            "annotations": options.annotations,
            "earlier_rules": msgspec.to_builtins(earlier_rules, enc_hook=dict),
            **unguarded(is_agreed=options.unguarded),
        },
    )
    return await launch_and_report(request, open_ledger(place), settings, options.start, may_be_empty=may_be_empty)


def _by_rule(
    options: CompactCommand, pair_name: str, rule_name: str, settings: Settings
) -> tuple[CompactCommand, PackingRule, list[EarlierRule]]:
    """The options with all that the policy says of the pair, its archives and the rule, and the rules before it.

    Must not be called in an event loop. Raises UsageError for a rule that the pair does not have,
    and for options that the rule replaces.
    """
    for name in ("source", "manifest", "destination", "include", "exclude", "older_than", "max_size"):
        if getattr(options, name):
            raise UsageError(f"--{name.replace('_', '-')}: with --pair the policy's rule says it")
    chosen = choose_pair(pair_name, options.policy, options.start.ledger, settings)
    pair, archive = chosen.pair, chosen.pair.archive
    rules = {str(rule.name): rule for rule in archive.rules} if archive is not None else {}
    if archive is None or rule_name not in rules:
        known = ", ".join(rules) or "none"
        raise UsageError(f"--rule {rule_name!r}: the pair {pair.name} has no such archive rule, only: {known}")
    now, rule = time.time(), rules[rule_name]
    earlier = [
        EarlierRule(_listed_prefix(pair, archive, each), now - each.older_than, int(each.smaller_than), each.tags)
        for each in list(rules.values())[: list(rules).index(rule_name)]
    ]
    is_source = archive.side is ArchiveSide.SOURCE
    inside, outside = globs(chosen.scope)
    side = pair.source if is_source else pair.destination
    is_default = archive.encryption is Encryption.S3 or archive.kms_key == "create"
    added = "" if is_source else pair.destination.prefix
    completed = replace(
        options,
        source=Location(side.bucket, _listed_prefix(pair, archive, rule)),
        source_access=options.source_access.completed(side.account),
        destination=Location(archive.bucket, archive.prefix),
        destination_access=options.destination_access.completed(archive.account),
        include=tuple(added + each for each in inside),
        exclude=tuple(added + each for each in outside),
        older_than=now - rule.older_than,
        max_size=rule.smaller_than - 1,
        storage_class=rule.storage_class.value,
        sse=None if is_default else (archive.encryption.value, archive.kms_key and str(archive.kms_key)),
        annotations=options.annotations if pair.destination.annotations is AnnotationRule.COPY else SKIP_ANNOTATIONS,
        start=replace(options.start, ledger=f"s3://{chosen.ledger.bucket}/{chosen.ledger.key}"),
    )
    return completed, PackingRule(int(rule.target_size), rule.format, rule.tags), earlier


def _listed_prefix(pair: Pair, archive: Archive, rule: ArchiveRule) -> str:
    """The prefix of the rule's keys in the bucket that is packed."""
    return rule.prefix if archive.side is ArchiveSide.SOURCE else pair.copy_key(rule.prefix)
