"""What is too slow for hundreds of schedules a second, in pure Python: planning, the fold, the tables' files.

A full schedule uses the real ones (DuckDB, Parquet, the page) and demands that these come to the same.
"""

from __future__ import annotations

import contextlib
import pickle
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import msgspec

import jobs.core.part_sizes
import jobs.ledger.ledger
import jobs.runs.folding
import jobs.runs.worker
import jobs.s3.compare_bytes
import jobs.s3.copying
import jobs.s3.multipart_copy
from jobs.core.model import FOUND_DAMAGED, ObjectVersion
from jobs.core.outcome import GOOD, Outcome, Status, fold
from jobs.core.pricing import PricedWork, part_rule
from jobs.core.run import Plan, RunSpec
from jobs.ledger.ledger import Ledger
from jobs.runs import launch
from jobs.runs.folding import Folded, ReasonCount
from jobs.runs.request import Planned
from jobs.tables import rows as tables
from tests.doubles import one_duckdb
from tests.simulation.copies.cutting import Cut, cut

PART_BYTES = 4
RANGE_BYTES = 8
"""The world is to scale: objects have tens of bytes, parts 4, ranges 8, where S3 and Sealift have 5 and 8 MiB."""

FILES_KEPT = 64
"""Whose rows are remembered: those of a schedule."""

_real_fold = jobs.runs.folding.fold_run


class Scratch:
    """A folder of shards in memory, as `launch.publish` reads one."""

    def __init__(self, files: Sequence[bytes]):
        self._files = files

    def __truediv__(self, name: str) -> Scratch:
        return Scratch([self._files[int(name.partition(".")[0])]])

    def read_bytes(self) -> bytes:
        return self._files[0]


async def plan(spec: RunSpec, rows: Sequence[ObjectVersion], *, rows_per_shard: int, is_full: bool) -> Planned:
    """Planned shards that wait to be published. Full: by the real planner, whose plan must be the pure one's."""
    is_selected = spec.retry_of is not None or spec.options["all_versions"]
    work = PricedWork.of(spec, is_copying=spec.job != "verify")
    rule = part_rule(work)
    cut_rows = partial(
        cut,
        rows,
        all_versions=is_selected,
        rows_per_shard=rows_per_shard,
        threshold_bytes=rule.multipart_threshold_bytes,
    )
    if not is_full:
        pure = cut_rows()
        files: Any = Scratch([pickle.dumps(some) for some in pure.slices])
        return Planned(spec, Plan(pure.rows, pure.size_bytes, pure.shards, pure.excluded), files)
    from jobs.core.selection import Selection
    from jobs.runs.planning import forecast, plan_rows
    from tests.runs.key_shards import hashes_of

    pure = cut_rows(hashes_of=hashes_of)
    written: list[bytes] = []

    async def write_shard(number: int, data: bytes) -> None:
        written.append(data)

    async def batches() -> AsyncIterator[Any]:
        for start in range(0, len(rows), 5):
            yield _manifest(rows[start : start + 5])

    selection = Selection(versions="all" if is_selected else "current")
    with tempfile.TemporaryDirectory() as scratch:
        planned = await plan_rows(
            batches(),
            selection,
            write_shard=write_shard,
            scratch_directory=Path(scratch),
            rows_per_shard=rows_per_shard,
            **rule._asdict(),
        )
    real = Cut(planned.rows, planned.size_bytes, planned.shards, dict(planned.excluded), list(map(read_slice, written)))
    if real != pure:
        raise Unequal(f"planning differs:\n  real {real}\n  pure {pure}")
    files = Scratch(written)
    return Planned(spec, forecast(planned, work, 1), files)


class Unequal(Exception):
    """A pure equivalent does not do what the real one does."""


@lru_cache(FILES_KEPT)
def _unpickled(data: bytes) -> tuple[Any, ...]:
    """A file's rows. Attempts, the fold and the model read the same files, one after the other."""
    return tuple(pickle.loads(data))


def read_slice(data: bytes) -> list[ObjectVersion]:
    """A shard's rows, whichever codec wrote it."""
    if data[:4] == b"PAR1":
        return [row for some in tables.read_shard(data) for row in some]
    return list(_unpickled(data))


def read_outcomes(data: bytes) -> list[Outcome]:
    """A checkpoint's outcomes, whichever codec wrote it."""
    if data[:4] == b"PAR1":
        return list(tables.read_outcomes(data))
    return list(_unpickled(data))


def read_failures(data: bytes) -> list[ObjectVersion]:
    """The rows of a failures file as a manifest."""
    if data[:4] != b"PAR1":
        return list(_unpickled(data))
    import io

    import pyarrow.parquet as pq

    found = []
    for each in pq.read_table(io.BytesIO(data)).to_pylist():
        known = {name: each[name] for name in ObjectVersion._fields if name in each}
        modified = known["last_modified"]
        found.append(ObjectVersion(row=0, **known | {"last_modified": modified and modified.timestamp()}))
    return found


def _write_outcomes(outcomes: Sequence[Outcome]) -> bytes:
    return pickle.dumps([each._replace(finished_at=int(each.finished_at * 1e6) / 1e6) for each in outcomes])


def _read_shard(data: bytes) -> Iterator[list[ObjectVersion]]:
    yield read_slice(data)


def _read_row_numbers(data: bytes) -> list[int]:
    return [row.row for row in read_slice(data)]


def _read_outcome_numbers(data: bytes) -> tuple[list[int], int]:
    outcomes = read_outcomes(data)
    return [each.row for each in outcomes], sum(each.status not in GOOD for each in outcomes)


def _manifest(rows: Sequence[ObjectVersion]) -> Any:
    import pyarrow as pa

    columns = []
    for field in tables.manifest_schema():
        values = [getattr(row, field.name) for row in rows]
        if field.name == "last_modified":
            columns.append(pa.array([v and int(v * 1e6) for v in values], pa.int64()).cast(field.type))
        else:
            columns.append(pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=tables.manifest_schema())


async def fold_purely(ledger: Ledger, run_id: str, plan: Plan, source_prefix: str = "") -> Folded:
    """What `jobs.runs.folding.fold_run` does, for few rows; the failures as a pickle."""
    checkpoints, numbers = await ledger.checkpoints(run_id, plan=plan), plan.row_numbers()
    outcomes = [
        outcome
        for checkpoint in checkpoints
        for outcome in read_outcomes(await ledger.checkpoint_data(run_id, checkpoint, numbers[checkpoint.shard]))
    ]
    if not checkpoints:
        return Folded(0, 0, {}, {}, [], 0, 0.0, 0, b"", b"")
    chosen = fold(outcomes)
    bad = {row for row, outcome in chosen.items() if outcome.status not in GOOD}
    rows: dict[int, ObjectVersion] = {}
    for shard in range(len(plan.shards)) if bad else ():
        rows |= {
            row.row: row for row in read_slice(await ledger.shard(run_id, shard, numbers[shard])) if row.row in bad
        }
    return count(chosen, rows)


def count(chosen: dict[int, Outcome], rows: dict[int, ObjectVersion]) -> Folded:
    """Outcomes, one per row, added up; `rows`: those that ended badly, as the shards have them."""
    good = [each for each in chosen.values() if each.status in GOOD]
    reasons = Counter(
        (str(each.status), each.reason)
        for each in chosen.values()
        if each.status not in GOOD
        or each.status in (Status.SKIPPED, Status.WAITING)
        or (each.status in (Status.VERIFIED, Status.COPIED, Status.RESTORED) and each.reason)
    )
    sizes: Counter[str] = Counter()
    for each in chosen.values():
        sizes[str(each.status)] += each.size_bytes
    places: dict[str, int] = {}
    for row in sorted(rows):
        places.setdefault(rows[row].key, row)
    condemned = [
        _as_failure(rows[row], chosen[row])
        for row in sorted(rows, key=lambda row: (places[rows[row].key], -row))  # of a key the newest first
    ]
    return Folded(
        rows=len(chosen),
        size_bytes=sum(sizes.values()),
        outcomes=dict(sorted(Counter(str(each.status) for each in chosen.values()).items())),
        evidence=dict(sorted(Counter(str(each.evidence) for each in good).items())),
        reasons=[
            ReasonCount(*why, found) for why, found in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
        ],
        attempts=len({each.attempt for each in chosen.values()}),
        finished_at=max(each.finished_at for each in chosen.values()),
        failures=len(rows),
        failures_parquet=pickle.dumps(condemned) if rows else b"",
        failures_csv=b"csv" if rows else b"",
        outcome_bytes=dict(sorted(sizes.items())),
    )


def _as_failure(row: ObjectVersion, outcome: Outcome) -> ObjectVersion:
    """The row as a manifest of failures names it: with the copy that is wrong, or the source that is damaged."""
    if outcome.status is Status.MISMATCHED:
        return row._replace(row=0, condemned_etag=outcome.destination_etag)
    if outcome.status is Status.DAMAGED:
        etag = outcome.etag or row.etag
        words = [*(row.source_attested or "").split(), f"{FOUND_DAMAGED}{etag}"]
        return row._replace(row=0, etag=etag, source_attested=" ".join(words))
    return row._replace(row=0)


async def fold_fully(ledger: Ledger, run_id: str, plan: Plan, source_prefix: str = "") -> Folded:
    """The real fold, which must come to what the pure one makes of the same checkpoints."""
    seen: list[Outcome] = []
    rows: dict[int, ObjectVersion] = {}

    class Watched(Ledger):
        async def checkpoint_data(self, run_id: str, checkpoint: Any, rows: range) -> bytes:
            data = await Ledger.checkpoint_data(self, run_id, checkpoint, rows)
            seen.extend(read_outcomes(data))
            return data

        async def shard(self, run_id: str, shard: int, numbers: range) -> bytes:
            data = await Ledger.shard(self, run_id, shard, numbers)
            rows.update({row.row: row for row in read_slice(data)})
            return data

    real = await _real_fold(Watched(ledger.store, ledger.location), run_id, plan, source_prefix)
    if not seen:
        return real
    chosen = fold(seen)
    pure = count(chosen, {row: rows[row] for row, each in chosen.items() if each.status not in GOOD})
    for name in ("rows", "size_bytes", "outcomes", "evidence", "attempts", "failures", "outcome_bytes"):
        if getattr(real, name) != getattr(pure, name):
            raise Unequal(f"fold differs in {name}: real {getattr(real, name)}, pure {getattr(pure, name)}")
    if _rows_with_reasons(real) != _rows_with_reasons(pure):
        raise Unequal(f"fold differs in reasons: real {real.reasons}, pure {pure.reasons}")
    if real.failures and read_failures(real.failures_parquet) != read_failures(pure.failures_parquet):
        raise Unequal("fold differs in its failures")
    return real


def _rows_with_reasons(folded: Folded) -> Counter[str]:
    rows: Counter[str] = Counter()
    for each in folded.reasons:
        rows[each.status] += each.rows
    return rows


def _dumps(document: Any, *, indent: int, ensure_ascii: bool) -> str:
    """On one line, and written in C."""
    return msgspec.json.encode(document).decode()


async def _publish_report(ledger: Ledger, spec: RunSpec, report: dict[str, Any], findings: Any) -> dict[str, Any]:
    """Without the page."""
    return await ledger.publish_report(spec.run_id, report)


SCALE: list[tuple[Any, str, Any]] = [
    (jobs.core.part_sizes, "MIN_PART_BYTES", PART_BYTES),
    (jobs.s3.multipart_copy, "STREAM_PART_BYTES", RANGE_BYTES),
    (jobs.s3.copying, "STREAM_PART_BYTES", RANGE_BYTES),
    (jobs.s3.compare_bytes, "RANGE_BYTES", RANGE_BYTES),
]
FAST: list[tuple[Any, str, Any]] = [
    *SCALE,
    (jobs.ledger.ledger, "read_row_numbers", _read_row_numbers),
    (jobs.ledger.ledger, "read_outcome_numbers", _read_outcome_numbers),
    (jobs.runs.worker, "read_shard", _read_shard),
    (jobs.runs.worker, "read_outcomes", read_outcomes),
    (jobs.runs.worker, "write_outcomes", _write_outcomes),
    (jobs.runs.folding, "fold_run", fold_purely),
    (jobs.ledger.ledger, "json", SimpleNamespace(loads=msgspec.json.decode, dumps=_dumps)),
    (launch, "publish_report", _publish_report),
]
FULL: list[tuple[Any, str, Any]] = [
    *SCALE,
    (duckdb, "connect", one_duckdb.connect),
    (jobs.runs.folding, "fold_run", fold_fully),
]


@contextlib.contextmanager
def replaced(replacements: Sequence[tuple[Any, str, Any]]) -> Iterator[None]:
    """Attributes of modules and classes, put back afterwards."""
    before: list[tuple[Any, str, Any]] = []
    try:
        for owner, name, value in replacements:
            before.append((owner, name, owner.__dict__[name]))
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in reversed(before):
            setattr(owner, name, value)


Patch = Callable[[], contextlib.AbstractContextManager[None]]
