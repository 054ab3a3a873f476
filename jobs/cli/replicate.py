"""`sealift replicate`."""

from __future__ import annotations

import math

from jobs.cli.command import PolicyOptions, Work, choose_pair
from jobs.cli.options import choice, flag, option, rare, refuse, shared
from jobs.cli.run_command import CopiesOptions, WriteOptions
from jobs.core.enums import AnnotationRule, StorageClass
from jobs.core.run import FROM_EVENTS
from jobs.core.selection import Selection
from jobs.errors import UsageError
from jobs.runs.request import Request, open_ledger
from jobs.s3.copying import KEEP
from jobs.sync.table import Overwrite

_WITH_PAIR = ("pair", "source", "manifest", "newer_than", "older_than", "unguarded", "max_cost", "max_rate")
"""The options that go with --pair. All others say what the policy says."""


class Replicate(CopiesOptions, WriteOptions, PolicyOptions):
    """Copy the objects of a manifest or a listing, guarded on both sides, and prove each copy.

    An object that is already there, and proven the same, is skipped. Nothing newer is overwritten.
    With --versions all, missing versions come above it, and it stays as a version.
    Each row ends as copied, same, left, changed, missing, damaged, unknown or blocked, with the reason.

    \b
    sealift replicate --source s3://docs/2026/ --destination s3://copies/2026/ --dry-run
    sealift replicate --manifest s3://inv/docs/daily/2026-11-25T01-00Z/manifest.json --destination s3://copies
    sealift replicate --manifest run:20261125T003345Z-verify-1f3a --destination s3://copies
    sealift replicate --pair scans --source s3://scans/2026/ --newer-than 2026-11-01
    """

    pair: str | None = shared("pair", "Copy what is in this pair's source, or in the part that --source names.")
    overwrite: str = option(
        "Which differing objects at the destination may be replaced.",
        type=choice(*Overwrite),
        default=Overwrite.OLDER.value,
    )
    storage_class: str = rare("Class of the copies. keep: the source's.", default=KEEP)
    object_lock: bool = flag("Copy retention and legal hold, too (one more request each).", is_rare=True)
    annotations: str = rare(
        "Whether annotations are carried or looked at. skip: as if there were none.",
        type=choice(*AnnotationRule),
        default=AnnotationRule.COPY.value,
    )
    stream: bool = flag("Read and write the bytes here, even where S3 could copy them itself.", is_rare=True)

    def run(self) -> Work:
        """Copy rows that the options choose, or those of a pair."""
        if self.pair is not None:
            refuse(lambda name: name not in _WITH_PAIR, "--pair takes places and copies as the policy says")
            return self._run_pair(self.pair)
        known = [KEEP, *StorageClass]
        if self.storage_class not in known and not self.destination_endpoint:
            raise UsageError(
                f"--storage-class {self.storage_class!r} is no class of S3",
                advice=f"choose {', '.join(known)}, or name the service that has others with --destination-endpoint",
            )
        options = self.values("storage_class", "object_lock", "annotations", "overwrite", "stream") | self.written()
        return self.launch(self.copies("replicate", options), self.open_ledger())

    def _run_pair(self, name: str) -> Work:
        """Copy what a pair's source holds: all of it, below a prefix, between two dates, or a manifest's rows.

        The policy's limits hold, and options can only be tighter. Rows that the functions left behind are
        events: an older version is stored below a newer one (`jobs.backup`). Their dollars are bounded
        when their manifest is made, and here no more: else they would be taken and not copied.
        """
        from jobs.policy.coverage import scope
        from jobs.policy.run_options import copy_options, globs, prefixes_below, sides

        policy, pair, ledger = choose_pair(name, self.policy, self.ledger)
        keys, manifest, prefix = scope(policy, pair), self.manifest, self.source.key if self.source else ""
        if self.source and self.source.bucket != pair.source.bucket:
            raise UsageError(f"--source {self.source} is not the pair's", advice=f"name s3://{pair.source.bucket}")
        source, destination = sides(policy, pair)
        include, exclude = globs(keys)
        options, max_cost = self.written() | copy_options(pair) | {"pair": pair.name}, pair.limits.max_cost
        is_of_events = manifest is not None and manifest.startswith(str(ledger.join("manifests/")))
        if is_of_events:
            options |= {FROM_EVENTS: True, "mirrors_deletes": pair.deletes == "mirror"}
            max_cost = math.inf
        selection = Selection(prefix, include, exclude, newer_than=self.newer_than, older_than=self.older_than)
        prefixes = prefixes_below(keys, prefix)
        request = Request("replicate", source, destination, manifest, selection, options, prefixes=prefixes)
        may_be_empty = is_of_events or not (prefix or manifest)
        limits = max_cost, pair.limits.max_objects
        return self.launch(request, open_ledger(ledger), pair_limits=limits, may_be_empty=may_be_empty)
