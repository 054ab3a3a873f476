"""Planted in how a run is kept: worker, checkpoints, ledger, fold, report."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jobs.core.outcome
import jobs.reports.document
import jobs.runs.folding
from jobs.core.model import Attributes, ObjectVersion
from jobs.core.outcome import Outcome, Status
from jobs.errors import PreconditionFailed, Unavailable
from jobs.ledger.ledger import Checkpoint, Ledger
from jobs.runs import launch
from jobs.runs.failure_count import GAVE_UP
from jobs.runs.worker import Worker
from jobs.s3.store import UNGUARDED
from tests.simulation.bugs.bug import Bug, Replacements
from tests.simulation.copies import tables


def _publish_too_early() -> Replacements:
    async def fold_run(ledger: Any, run_id: str, plan: Any, source_prefix: str = "") -> Any:
        return replace(await tables.fold_purely(ledger, run_id, plan, source_prefix), rows=plan.rows)

    return [(jobs.runs.folding, "fold_run", fold_run)]


def _fold_by_last_attempt() -> Replacements:
    def prefer(one: Outcome, other: Outcome) -> Outcome:
        return max(one, other, key=lambda each: (each.finished_at, each.attempt))

    return [(jobs.core.outcome, "prefer", prefer)]


def _error_is_success() -> Replacements:
    real = Worker._process

    async def process(self: Worker, rows: list[ObjectVersion]) -> list[Outcome]:
        return [
            Outcome.of(row, Status.COPIED) if outcome.reason.startswith(GAVE_UP) else outcome
            for row, outcome in zip(rows, await real(self, rows), strict=True)
        ]

    return [(Worker, "_process", process)]


def _report_counts_no_failures() -> Replacements:
    return [(jobs.reports.document, "_GOOD", {status.value for status in Status})]


def _resume_from_a_wrong_row() -> Replacements:
    real = Worker._count_settled

    async def count_settled(self: Worker, numbers: range) -> None:
        await real(self, numbers)
        self._settled = {row + 1 for row in self._settled}

    return [(Worker, "_count_settled", count_settled)]


def _resume_from_the_start() -> Replacements:
    async def count_settled(self: Worker, numbers: range) -> None:
        await self.ledger.checkpoints(self.run_id, self.shard)

    return [(Worker, "_count_settled", count_settled)]


def _drop_rows_on_stop() -> Replacements:
    real = Worker._checkpoint

    async def checkpoint(self: Worker) -> None:
        if not self._stopping:
            await real(self)

    return [(Worker, "_checkpoint", checkpoint)]


def _swallow_what_fails() -> Replacements:
    async def process(self: Worker, rows: list[Any]) -> list[Outcome]:
        try:
            return await self.job.process(rows)
        except Unavailable:
            return []

    return [(Worker, "_process", process)]


def _plan_first() -> Replacements:
    async def publish(planned: Any, ledger: Ledger) -> None:
        await ledger.create(planned.spec)
        await ledger.publish_plan(planned.spec.run_id, planned.plan)
        for number in range(len(planned.plan.shards)):
            await ledger.write_shard(planned.spec.run_id, number, (planned.scratch / f"{number}.x").read_bytes())

    return [(launch, "publish", publish)]


def _ledger_unguarded() -> Replacements:
    async def write(self: Ledger, run_id: str, name: str, data: bytes, attributes: Attributes) -> None:
        place = self._at(run_id, name)
        for _ in range(6):
            try:
                await self.store.put(place.bucket, place.key, data, attributes, guard=UNGUARDED)
                return
            except Unavailable:
                continue

    return [(Ledger, "_write", write)]


def _report_is_rewritten() -> Replacements:
    async def publish_report(self: Ledger, run_id: str, report: dict[str, Any]) -> dict[str, Any]:
        place = self._at(run_id, "report.json")
        data = json.dumps(report).encode()
        await self.store.put(place.bucket, place.key, data, Attributes(), guard=UNGUARDED)
        return report

    return [(Ledger, "publish_report", publish_report)]


def _checkpoints_of_one_name() -> Replacements:
    def name(self: Checkpoint) -> str:
        return f"{self.attempt}-000000-{self.rows}-{self.bad_rows}-{self.size_bytes}.parquet"

    async def write(self: Ledger, run_id: str, checkpoint: Checkpoint, data: bytes) -> None:
        try:
            await self._write(run_id, f"outcomes/{checkpoint.shard:05d}/{checkpoint.name}", data, Attributes())
        except PreconditionFailed:
            return  # must be our own

    return [(Checkpoint, "name", property(name)), (Ledger, "write_checkpoint", write)]


def _failure_spreads() -> Replacements:
    real = Worker._process

    async def process(self: Worker, rows: list[Any]) -> list[Outcome]:
        if "InternalError" in self._done.last_error or "TimedOut" in self._done.last_error:
            return [Outcome.of(row, Status.FAILED, f"S3 fails: {self._done.last_error}") for row in rows]
        return await real(self, rows)

    return [(Worker, "_process", process)]


BUGS = [
    Bug("failure-spreads", "a row fails for another row's trouble", 400, _failure_spreads),
    Bug("failure-spreads-to-archives", "the same, where rows are of archives", 400, _failure_spreads, "archives"),
    Bug("publish-too-early", "the report is published before all rows have outcomes", 400, _publish_too_early),
    Bug("fold-by-last-attempt", "the latest outcome of a row stands", 4_000, _fold_by_last_attempt),
    Bug("error-is-success", "a row that failed eight times is called copied", 4_000, _error_is_success),
    Bug("report-counts-no-failures", "the report's failures are always 0", 400, _report_counts_no_failures),
    Bug("resume-from-a-wrong-row", "an attempt takes up one row too late", 400, _resume_from_a_wrong_row),
    Bug("resume-from-the-start", "an attempt does what the ledger has already", 400, _resume_from_the_start),
    Bug("drop-rows-on-stop", "no checkpoint after SIGTERM", 1_000, _drop_rows_on_stop),
    Bug("swallow-what-fails", "a row whose request failed gets no outcome", 400, _swallow_what_fails),
    Bug("plan-first", "the plan is published before its shards", 400, _plan_first),
    Bug("ledger-unguarded", "ledger files are written without If-None-Match", 1_000, _ledger_unguarded),
    Bug("report-is-rewritten", "a second conclusion replaces the first report", 4_000, _report_is_rewritten),
    Bug("checkpoints-of-one-name", "checkpoints of one attempt share a name", 1_000, _checkpoints_of_one_name),
]
