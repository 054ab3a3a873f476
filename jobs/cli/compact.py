"""`sealift compact`: plan by archives and their savings, then run like any job."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from jobs.cli.command import PolicyOptions, Work, choose_pair
from jobs.cli.options import Size, choice, flag, option, rare, shared
from jobs.cli.run_command import RowsOptions, WriteOptions
from jobs.compact.packing import EarlierRule, PackingRule
from jobs.core.enums import SKIP_ANNOTATIONS, AnnotationRule, StorageClass
from jobs.core.model import Location
from jobs.errors import UsageError
from jobs.policy.coverage import scope
from jobs.policy.run_options import encryption_options, globs, packed_side


class Compact(RowsOptions, WriteOptions, PolicyOptions):
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

    destination: Location | None = shared("destination", "Where the archives go.")
    pair: str | None = shared("pair", "What and where, from a pair of the policy. Needs --rule.")
    rule: str | None = option("Which of the pair's archive rules.", metavar="NAME")
    max_size: int | None = option("Take only objects of at most this size: 1MiB.", type=Size)
    target_size: int = rare("Approximate size of an archive.", type=Size, default="1GiB")
    storage_class: str = rare(
        "Storage class of the archives.", type=choice(*StorageClass), default=StorageClass.GLACIER_IR.value
    )
    annotations: str = shared(
        "annotations", "check: leave out objects with annotations, which no archive holds. skip: pack them without."
    )
    pack_all: bool = flag("Pack groups that would not pay, too.")

    def run(self) -> Work:
        """Pack what the options choose, or a rule of a pair."""
        if bool(self.pair) != bool(self.rule):
            raise UsageError("--pair and --rule go together", advice="give both, or neither")
        if self.pair and self.rule:
            return self._run_rule(self.pair, self.rule)
        return self._pack(PackingRule(max(self.target_size, 1)))

    def _pack(self, rule: PackingRule, earlier_rules: Sequence[EarlierRule] = ()) -> Work:
        options = {
            **self.values("storage_class", "pack_all", "annotations"),
            "rule": msgspec.to_builtins(rule),
            "earlier_rules": msgspec.to_builtins(earlier_rules, enc_hook=dict),
            **self.written(),
        }
        request = self.request("compact", options, max_size_bytes=self.max_size)
        return self.launch(request, self.open_ledger(), may_be_empty=self.pair is not None)

    def _run_rule(self, pair_name: str, rule_name: str) -> Work:
        """Pack by all that the policy says of the pair, its archives and the rule, and the rules before it.

        Raises UsageError for a rule that the pair does not have, and for options that the rule replaces.
        """
        policy, pair, ledger = choose_pair(pair_name, self.policy, self.ledger)
        archive = pair.archive
        rules = {str(rule.name): rule for rule in archive.rules} if archive is not None else {}
        if archive is None or rule_name not in rules:
            known = ", ".join(rules) or "none"
            raise UsageError(f"--rule {rule_name!r}: the pair {pair.name} has no such archive rule, only: {known}")
        now, rule = time.time(), rules[rule_name]
        side, added = packed_side(pair, archive)
        earlier = [
            EarlierRule(added + each.prefix, now - each.older_than, int(each.smaller_than), each.tags)
            for each in list(rules.values())[: list(rules).index(rule_name)]
        ]
        inside, outside = globs(scope(policy, pair))
        completed = self.replaced(
            "with --pair the policy's rule says it",
            manifest=None,
            source=Location(side.bucket, added + rule.prefix),
            source_owner=self.source_owner or side.account,
            destination=Location(archive.bucket, archive.prefix),
            destination_owner=self.destination_owner or archive.account,
            include=tuple(added + each for each in inside),
            exclude=tuple(added + each for each in outside),
            older_than=now - rule.older_than,
            max_size=rule.smaller_than - 1,
            target_size=int(rule.target_size),
            storage_class=rule.storage_class.value,
            sse=encryption_options(archive),
            annotations=self.annotations if pair.destination.annotations is AnnotationRule.COPY else SKIP_ANNOTATIONS,
            ledger=ledger,
        )
        return completed._pack(PackingRule(completed.target_size, rule.format, rule.tags), earlier)
