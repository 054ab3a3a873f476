"""What an archive rule of the policy asks of `sealift compact`, in the command line's own words."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from jobs.cli.pair_options import choose
from jobs.compact.packing import Claim
from jobs.config import Settings
from jobs.core.enums import ArchiveSide, Encryption
from jobs.core.model import Location
from jobs.errors import UsageError
from jobs.policy.model import ArchiveRule, Pair
from jobs.policy.run_options import globs

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
