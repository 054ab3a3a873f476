"""Runs in a ledger in memory that prove a copy, or find one wrong: what disproofs are read from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from jobs.core.model import Location, ObjectVersion
from jobs.core.outcome import GOOD, Evidence, Outcome, Status
from jobs.core.run import Plan, RunSpec, ShardSummary, Side
from jobs.ledger.ledger import DIFFERENCES, Checkpoint, Ledger
from jobs.tables.rows import shard_schema, version_batch, write_outcomes, write_parquet
from tests.expire.scene import LEDGER, NOW, Shop

SIDES = Side(Location("docs", "in/")), Side(Location("copies", "out/"))


async def write_run(ledger: Ledger, spec: RunSpec, *shards: Sequence[tuple[ObjectVersion, Outcome]]) -> None:
    """Put a run into the ledger: its rows with their outcomes, one checkpoint a shard."""
    await ledger.create(spec)
    number = 0
    for shard, pairs in enumerate(shards):
        numbers = range(number, number + len(pairs))
        batch = pa.Table.from_batches([version_batch([row for row, _ in pairs])])
        table = batch.add_column(0, "row", pa.array(numbers, pa.int64())).cast(shard_schema())
        await ledger.write_shard(spec.run_id, shard, write_parquet(table))
        outcomes = [outcome._replace(row=row, attempt="a") for row, (_, outcome) in zip(numbers, pairs, strict=True)]
        checkpoint = Checkpoint(shard, "a", 0, len(pairs), sum(each.status not in GOOD for each in outcomes), 1)
        await ledger.write_checkpoint(spec.run_id, checkpoint, write_outcomes(outcomes))
        number += len(pairs)
    await ledger.publish_plan(
        spec.run_id, Plan(number, len(shards), tuple(ShardSummary(len(pairs), 1) for pairs in shards))
    )


class Run(NamedTuple):
    """A run over one key. `second`: when S3 received its outcome, after `NOW`. `said`: when its worker says it was."""

    name: str
    second: float
    status: Status
    evidence: Evidence = Evidence.MD5_ETAG
    reason: str = ""
    job: str = "verify"
    options: Mapping[str, Any] = {}
    version_id: str | None = None
    etag: str | None = "e"
    copy_version_id: str | None = None
    copy_etag: str | None = "e"
    said: float | None = None
    report: Mapping[str, Any] | None = None
    sides: tuple[Side, Side] = SIDES
    key: str = "in/k"

    @property
    def run_id(self) -> str:
        return f"20250615T150640Z-{self.job}-{hashlib.sha256(self.name.encode()).hexdigest()[:6]}"

    async def write(self, store: Shop) -> RunSpec:
        """Put the run into the ledger, at its second."""
        store.now, ledger = NOW + self.second, Ledger(store, LEDGER)
        spec = RunSpec(self.run_id, self.job, NOW, *self.sides, "m", dict(self.options))
        row = ObjectVersion(0, self.key, self.version_id, etag=self.etag, size_bytes=1, last_modified=1.0)
        outcome = Outcome.of(row, self.status, self.reason)._replace(
            evidence=self.evidence,
            destination_version_id=self.copy_version_id,
            destination_etag=self.copy_etag,
            finished_at=NOW + (self.second if self.said is None else self.said),
        )
        await write_run(ledger, spec, [(row, outcome)])
        if self.report is not None:
            await ledger.publish_report(self.run_id, dict(self.report))
        return spec


COPIED = Run("1-copy", 10, Status.COPIED, job="replicate")
BY_BYTES = Run("2-deep", 20, Status.MISMATCHED, Evidence.CONTENT, "content differs at byte 3", options={"deep": True})
BY_HEAD = Run("2-head", 20, Status.MISMATCHED, reason="MD5 differs")
VERIFIED = Run("3-head", 30, Status.VERIFIED)
DEEP = Run("3-deep", 30, Status.VERIFIED, Evidence.CONTENT, options={"deep": True})
DIFFERENT = {"key": "in/k", "category": "different", "reason": "checksums differ"}
COUNTED = {"categories": {"different": {"rows": 1, "bytes": 1}, "stale": {"rows": 0, "bytes": 0}}}


class Compared(NamedTuple):
    """A reconciliation whose only difference is `row`. `second`: when it was written, after `NOW`."""

    second: float = 20
    row: Mapping[str, Any] = DIFFERENT
    report: Mapping[str, Any] | None = COUNTED
    has_differences: bool = True
    sides: tuple[Side, Side] = SIDES

    @property
    def run_id(self) -> str:
        return "20250615T150640Z-reconcile-abcdef"

    async def write(self, store: Shop) -> RunSpec:
        """Put the run into the ledger, at its second."""
        store.now, ledger = NOW + self.second, Ledger(store, LEDGER)
        spec = RunSpec(self.run_id, "reconcile", NOW, *self.sides, "m", {})
        await ledger.create(spec)
        versions = {"version_id": None, "destination_version_id": None}
        etags = {"source_etag": "e", "destination_etag": "e"}
        columns = {"destination_key": "out/k", **versions, **etags, **self.row}
        table = pa.table({name: pa.array([value], pa.string()) for name, value in columns.items()})
        if self.has_differences:
            await ledger.write_file(self.run_id, DIFFERENCES, write_parquet(table), "application/octet-stream")
        if self.report is not None:
            await ledger.publish_report(self.run_id, dict(self.report))
        return spec
