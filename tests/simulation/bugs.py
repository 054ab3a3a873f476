"""Planted bugs: each a small patch in memory that breaks a promise, so that one sees whether the simulator notices.

`seeds` is the bound within which it must be found, about four times what was needed when it was written.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jobs.core.evidence
import jobs.core.outcome
import jobs.replicate
import jobs.report
import jobs.runs.folding
import jobs.runs.worker
import jobs.s3.content
import jobs.s3.copier
import jobs.s3.transfer
import jobs.verify
from jobs.cli import launch
from jobs.core.decision import Overwrite
from jobs.core.evidence import Verdict
from jobs.core.model import Attributes, ObjectRef
from jobs.core.outcome import Evidence, Outcome, Status
from jobs.core.pace import Pace
from jobs.errors import NotFound, PreconditionFailed, Unavailable
from jobs.runs.ledger import Checkpoint, Ledger
from jobs.runs.worker import Worker
from jobs.s3.copier import Copier
from jobs.s3.store import ABSENT, UNGUARDED
from jobs.s3.streams import ByteBudget
from tests.simulation import tables
from tests.simulation.world import Connection

Replacements = list[tuple[Any, str, Any]]


@dataclass(frozen=True, slots=True)
class Bug:
    """`plant` gives the patches (attributes and their values); the real ones are what they wrap."""

    name: str
    what: str
    seeds: int
    plant: Callable[[], Replacements]


def _client(name: str, change: Callable[..., Awaitable[Any]]) -> Replacements:
    """A request of the client's, done otherwise: `change(ask, *arguments, **named)`."""
    real = Connection.__getattr__

    def get(self: Connection, asked: str) -> Any:
        ask = real(self, asked)
        if asked != name:
            return ask

        async def changed(*arguments: Any, **named: Any) -> Any:
            return await change(ask, *arguments, **named)

        return changed

    return [(Connection, "__getattr__", get)]


def _no_write_precondition() -> Replacements:
    real = Copier.copy_simply

    async def copy_simply(self: Copier, row: Any, guard: Any, source: Any = None) -> Outcome:
        return await real(self, row, UNGUARDED if guard == ABSENT else guard, source)

    return [(Copier, "copy_simply", copy_simply)]


def _no_replace_precondition() -> Replacements:
    real = Copier.copy

    async def copy(self: Copier, row: Any, source: Any, guard: Any) -> Outcome:
        return await real(self, row, source, UNGUARDED if guard.etag else guard)

    return [(Copier, "copy", copy)]


def _no_copy_source_guard() -> Replacements:
    async def copy(ask: Any, source: Any, etag: Any, *rest: Any, **named: Any) -> Any:
        return await ask(source, None, *rest, **named)

    return _client("copy", copy)


def _no_part_guard() -> Replacements:
    async def get(ask: Any, ref: Any, **named: Any) -> Any:
        return await ask(ref, **named | {"if_match": None})

    return _client("get", get)


def _complete_unguarded() -> Replacements:
    async def complete(ask: Any, *arguments: Any, **named: Any) -> Any:
        return await ask(*arguments, **named | {"guard": UNGUARDED})

    return _client("complete_multipart", complete)


def _no_tags() -> Replacements:
    async def get_tags(ask: Any, ref: Any) -> Any:
        return {}

    return _client("get_tags", get_tags)


def _publish_too_early() -> Replacements:
    async def fold_run(ledger: Any, run_id: str, plan: Any) -> Any:
        return replace(await tables.fold_purely(ledger, run_id, plan), rows=plan.rows)

    return [(jobs.runs.folding, "fold_run", fold_run)]


def _trust_a_lost_answer() -> Replacements:
    real = Copier.copy_simply

    async def copy_simply(self: Copier, row: Any, guard: Any, source: Any = None) -> Outcome:
        try:
            return await real(self, row, guard, source)
        except Unavailable:
            return Outcome(row.row, row.key, row.version_id, Status.COPIED, etag=row.etag, destination_etag=row.etag)

    return [(Copier, "copy_simply", copy_simply)]


def _ignore_412() -> Replacements:
    real = Copier.copy_simply

    async def copy_simply(self: Copier, row: Any, guard: Any, source: Any = None) -> Outcome:
        try:
            return await real(self, row, guard, source)
        except PreconditionFailed:
            return Outcome(row.row, row.key, row.version_id, Status.COPIED, etag=row.etag, destination_etag=row.etag)

    return [(Copier, "copy_simply", copy_simply)]


def _same_without_looking() -> Replacements:
    real = Copier.copy_simply

    async def copy_simply(self: Copier, row: Any, guard: Any, source: Any = None) -> Outcome:
        try:
            return await real(self, row, guard, source)
        except PreconditionFailed:
            return Outcome(
                row.row, row.key, row.version_id, Status.SAME, "", Evidence.MD5_ETAG, etag=row.etag,
                destination_etag=row.etag,
            )  # fmt: skip

    return [(Copier, "copy_simply", copy_simply)]


def _fold_by_last_attempt() -> Replacements:
    def prefer(one: Outcome, other: Outcome) -> Outcome:
        return max(one, other, key=lambda each: (each.finished_at, each.attempt))

    return [(jobs.core.outcome, "prefer", prefer)]


def _compare_multipart_etags() -> Replacements:
    return [(jobs.core.evidence, "is_md5", bool), (jobs.replicate, "is_md5", bool)]


def _equal_size_is_equal() -> Replacements:
    def compare(source: Any, destination: Any) -> Verdict:
        equal = source.size_bytes == destination.size_bytes
        return Verdict(equal, Evidence.CHECKSUM if equal else Evidence.NONE)

    return [(jobs.replicate, "compare", compare), (jobs.core.attestation, "compare", compare)]


def _composite_differs() -> Replacements:
    real = jobs.core.evidence._comparable

    def comparable(source: Any, destination: Any) -> list[tuple[str, bool]]:
        others = {each.algorithm: each.value for each in destination}
        composite = [(c.algorithm, others[c.algorithm] == c.value) for c in source if c.algorithm in others]
        return composite or real(source, destination)

    return [(jobs.core.evidence, "_comparable", comparable)]


def _deep_reads_nothing() -> Replacements:
    async def compare_content(source: Any, destination: Any, budget: Any) -> tuple[Verdict, None]:
        return Verdict(True, Evidence.CONTENT), None

    return [(jobs.verify, "compare_content", compare_content)]


def _forget_the_abort() -> Replacements:
    async def abort(ask: Any, *arguments: Any) -> None:
        return None

    return _client("abort_multipart", abort)


def _error_is_success() -> Replacements:
    def failed(self: Worker, rows: Sequence[Any], error: Any) -> list[Outcome]:
        return [Outcome(row.row, row.key, row.version_id, Status.COPIED, etag=row.etag) for row in rows]

    return [(Worker, "_failed", failed)]


def _report_counts_no_failures() -> Replacements:
    return [(jobs.report, "_GOOD", {status.value for status in Status})]


def _resume_from_a_wrong_row() -> Replacements:
    real = Worker._count_settled

    async def count_settled(self: Worker) -> None:
        await real(self)
        self._settled = {row + 1 for row in self._settled}

    return [(Worker, "_count_settled", count_settled)]


def _resume_from_the_start() -> Replacements:
    async def count_settled(self: Worker) -> None:
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


def _checkpoints_of_one_name() -> Replacements:
    def name(self: Checkpoint) -> str:
        return f"{self.attempt}-000000-{self.rows}-{self.bad_rows}-{self.size_bytes}.parquet"

    async def write(self: Ledger, run_id: str, checkpoint: Checkpoint, data: bytes) -> None:
        try:
            await self._write(run_id, f"outcomes/{checkpoint.shard:05d}/{checkpoint.name}", data, Attributes())
        except PreconditionFailed:
            return  # must be our own

    return [(Checkpoint, "name", property(name)), (Ledger, "write_checkpoint", write)]


def _overwrite_what_is_newer() -> Replacements:
    from jobs.core.decision import decide as real

    def decide(row: Any, source: Any, destination: Any, verdict: Any, overwrite: Any) -> Any:
        return real(row, source, destination, verdict, Overwrite.ALWAYS)

    return [(jobs.replicate, "decide", decide)]


def _older_on_top() -> Replacements:
    return [(jobs.replicate, "first_missing", lambda alignment: 0)]


def _gone_versions_first() -> Replacements:
    return [(jobs.replicate, "_place_of", lambda gone, rows, versions: 0)]


def _destination_gone() -> Replacements:
    return [(jobs.s3.copier, "_raced", lambda error: error)]


def _no_budget() -> Replacements:
    def try_acquire(self: ByteBudget, size_bytes: int) -> int:
        return 0

    return [(ByteBudget, "try_acquire", try_acquire)]


def _budget_leaks() -> Replacements:
    real = ByteBudget.release

    def release(self: ByteBudget, size_bytes: int) -> None:
        real(self, size_bytes - 1 if size_bytes > 8 else size_bytes)

    return [(ByteBudget, "release", release)]


def _no_pace() -> Replacements:
    return [(Pace, "in_flight", property(lambda self: 1_000))]


def _copy_the_current_version() -> Replacements:
    async def copy(ask: Any, source: ObjectRef, etag: Any, *rest: Any, **named: Any) -> Any:
        return await ask(source._replace(version_id=None), None, *rest, **named)

    return _client("copy", copy)


def _report_is_rewritten() -> Replacements:
    async def publish_report(self: Ledger, run_id: str, report: dict[str, Any]) -> None:
        place = self._at(run_id, "report.json")
        data = json.dumps(report).encode()
        await self.store.put(place.bucket, place.key, data, Attributes(), guard=UNGUARDED)

    return [(Ledger, "publish_report", publish_report)]


def _missing_is_same() -> Replacements:
    real = jobs.replicate.Replicate._refused

    def refused(self: Any, row: Any, error: Any) -> Outcome:
        outcome = real(self, row, error)
        return outcome._replace(status=Status.SAME) if isinstance(error, NotFound) else outcome

    return [(jobs.replicate.Replicate, "_refused", refused)]


BUGS = [
    Bug("no-write-precondition", "CopyObject without If-None-Match", 400, _no_write_precondition),
    Bug("no-replace-precondition", "an overwrite without If-Match", 4_000, _no_replace_precondition),
    Bug("no-copy-source-guard", "CopyObject without x-amz-copy-source-if-match", 1_000, _no_copy_source_guard),
    Bug("no-read-guard", "ranged GET without If-Match", 4_000, _no_part_guard),
    Bug("complete-unguarded", "CompleteMultipartUpload without its condition", 1_000, _complete_unguarded),
    Bug("copy-the-current-version", "CopyObject of whatever is current", 400, _copy_the_current_version),
    Bug("no-tags", "multipart copies lose their tags", 400, _no_tags),
    Bug("publish-too-early", "the report is published before all rows have outcomes", 400, _publish_too_early),
    Bug("trust-a-lost-answer", "a copy whose answer was lost is called copied", 400, _trust_a_lost_answer),
    Bug("ignore-412", "a refused copy is called copied", 400, _ignore_412),
    Bug("same-without-looking", "a refused copy is called the same", 400, _same_without_looking),
    Bug("fold-by-last-attempt", "the latest outcome of a row stands", 8_000, _fold_by_last_attempt),
    Bug("compare-multipart-etags", "ETags of parts are compared as if they were MD5s", 400, _compare_multipart_etags),
    Bug("equal-size-is-equal", "objects of one size are the same", 400, _equal_size_is_equal),
    Bug("composite-checksums-differ", "composite checksums of other parts differ", 1_000, _composite_differs),
    Bug("deep-reads-nothing", "verify --deep believes without reading", 400, _deep_reads_nothing),
    Bug("forget-the-abort", "a failed multipart upload is left", 400, _forget_the_abort),
    Bug("error-is-success", "a row that failed eight times is called copied", 4_000, _error_is_success),
    Bug("report-counts-no-failures", "the report's failures are always 0", 400, _report_counts_no_failures),
    Bug("resume-from-a-wrong-row", "an attempt takes up one row too late", 400, _resume_from_a_wrong_row),
    Bug("resume-from-the-start", "an attempt does what the ledger has already", 400, _resume_from_the_start),
    Bug("drop-rows-on-stop", "no checkpoint after SIGTERM", 1_000, _drop_rows_on_stop),
    Bug("swallow-what-fails", "a row whose request failed gets no outcome", 400, _swallow_what_fails),
    Bug("plan-first", "the plan is published before its shards", 400, _plan_first),
    Bug("ledger-unguarded", "ledger files are written without If-None-Match", 1_000, _ledger_unguarded),
    Bug("report-is-rewritten", "a second conclusion replaces the first report", 8_000, _report_is_rewritten),
    Bug("checkpoints-of-one-name", "checkpoints of one attempt share a name", 1_000, _checkpoints_of_one_name),
    Bug("overwrite-what-is-newer", "a newer destination is replaced", 400, _overwrite_what_is_newer),
    Bug("older-on-top", "a missing version is put over newer ones", 400, _older_on_top),
    Bug("gone-versions-first", "versions gone from the source count as the oldest", 8_000, _gone_versions_first),
    Bug("404-is-the-source", "a 404 for the destination is taken for the source's", 2_000, _destination_gone),
    Bug("missing-is-same", "a source that is gone is called the same", 400, _missing_is_same),
    Bug("no-budget", "reads do not wait for the byte budget", 1_000, _no_budget),
    Bug("budget-leaks", "bytes are not given back", 400, _budget_leaks),
    Bug("no-pace", "no limit of rows in flight", 400, _no_pace),
]  # fmt: skip
