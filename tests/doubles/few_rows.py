"""DuckDB's plan and fold of a run, and its Parquet files read, in pure Python: for a few rows, many times a second."""

from __future__ import annotations

import pickle
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import sha256
from itertools import accumulate, count, groupby, pairwise
from typing import Any

import pyarrow as pa
from msgspec.structs import astuple, replace

from jobs.core.evidence import is_md5
from jobs.core.model import Listed, ObjectVersion, Repair, Route
from jobs.core.outcome import GOOD, Depth, Evidence, Outcome, Status
from jobs.core.pricing import Histogram
from jobs.core.run import Plan, RunSpec, ShardSummary
from jobs.expire.deletions_table import write_deletions
from jobs.policy.model import Policy
from jobs.policy.resolved import decode_policy
from jobs.reports.publish import publish
from jobs.runs import folding, planning
from jobs.runs.filtering import select_rows
from jobs.runs.sharding import Shards
from jobs.s3.listing import list_all
from jobs.s3.sessions import open_side
from jobs.tables import rows as tables
from tests.doubles.plain_fold import fold

_read_outcomes, _read_shard, _encode = tables.read_outcomes, tables.read_shard, planning._encode
PARQUET = b"PAR1"
"""What a Parquet file begins with. Others are pickles."""


@lru_cache(512)
def outcomes_of(data: bytes) -> list[Outcome]:
    """The outcomes of a checkpoint. Attempts, the fold and an oracle read the same files."""
    return list(_read_outcomes(data)) if data.startswith(PARQUET) else pickle.loads(data)


def _write_outcomes(outcomes: Sequence[Outcome]) -> bytes:
    """A checkpoint: microseconds are what a file keeps of a time."""
    return pickle.dumps([each._replace(at=round(each.at * 1e6) / 1e6) for each in outcomes])


@lru_cache(512)
def rows_of(data: bytes, beside: tables.ReadBeside = tables.read_repairs) -> list[ObjectVersion]:
    """The rows of a shard."""
    if data.startswith(PARQUET):
        return [row for some in _read_shard(data, beside) for row in some]
    return pickle.loads(data)


def _rows_in(table: pa.Table) -> list[ObjectVersion]:
    """The rows of a table in the manifest's columns, numbered by their places."""
    columns = tables.column_values(table, tables.schema_of(ObjectVersion).remove(0))
    return list(map(ObjectVersion, count(), *columns, tables.read_repairs(table)))


def manifest_of(rows: Sequence[ObjectVersion]) -> pa.RecordBatch:
    """Rows as a manifest, with what is known of each."""
    names = (*ObjectVersion._fields[:-1], *Repair.__struct_fields__)
    return tables.batch_of([(*row[:-1], *astuple(row.repair)) for row in rows], names, tables.manifest_schema())


def _shard_of(rows: Iterable[ObjectVersion], first_row: int) -> tuple[bytes, ShardSummary, int]:
    """A shard of these rows, numbered from the first one on."""
    rows = [row._replace(row=number) for number, row in enumerate(rows, first_row)]
    data, size_bytes = pickle.dumps(rows), sum(row.size_bytes or 0 for row in rows)
    return data, ShardSummary(len(rows), size_bytes, sha256(data).hexdigest()), len({row.key for row in rows})


def _encode_rows(table: pa.Table, first_row: int, schema: pa.Schema | None = None) -> tuple[bytes, ShardSummary, int]:
    """`_encode`. A shard that has more than a manifest's columns stays a Parquet file."""
    return _encode(table, first_row, schema) if schema else _shard_of(_rows_in(table), first_row)


def _done_outcomes(shard: bytes, at: float) -> bytes:
    """`done_outcomes` of such a shard."""
    return _write_outcomes([
        Outcome(
            row.row, row.key, row.version_id, Status.SAME, at=at, attempt=tables.PLANNED, depth=Depth.LISTED,
            evidence=Evidence.NONE if row.is_delete_marker else Evidence.MD5_ETAG, size_bytes=row.size_bytes or 0,
            etag=row.etag, destination_etag=row.etag, source_modified=row.last_modified,
        )
        for row in rows_of(shard)
    ])  # fmt: skip


@lru_cache(8)
def _policy_of(data: bytes) -> Policy:
    return decode_policy(data, "policy.json")


def there_of(rows: Sequence[ObjectVersion], listed: Sequence[Listed], run: RunSpec) -> dict[int, str]:
    """What `jobs.runs.there` finds out by SQL: a row's place → same, alike or other, where the destination has one."""
    route, is_history = Route(run.source.location, run.destination.location), bool(run.options.get("all_versions"))
    own, theirs = (defaultdict[str, list[int]](list) for _ in range(2))
    for place, each in enumerate(rows):
        own[each.key].append(place)
    for place, there in enumerate(listed):
        theirs[there.key].append(place)
    found: dict[int, str] = {}
    for places in own.values():
        at = theirs[route.target_of(rows[places[0]]).key]
        if is_history:
            pairs = [*zip(_newest_first(places, rows), _newest_first(at, listed), strict=False)]
            pairs *= len(places) == len(at)
            for word, is_it in (("alike", _may_be_equal), ("same", _are_equal)):
                if pairs and all(is_it(rows[one], listed[other]) for one, other in pairs):
                    found |= dict.fromkeys(places, word)
            continue
        for place in places:
            if at and not rows[place].is_delete_marker:
                row, there = rows[place], listed[at[0]]
                is_same = len(places) == 1 and _are_equal(row, there)
                found[place] = "same" if is_same else "alike" if _may_be_equal(row, there) else "other"
    return found


def _newest_first(places: Sequence[int], rows: Sequence[Any]) -> list[int]:
    undated = float("-inf")
    known = {at: rows[at].last_modified for at in places}
    times = {at: undated if each is None else each for at, each in known.items()}
    return sorted(places, key=lambda at: (not rows[at].is_latest, -times[at], at))


def _are_equal(row: ObjectVersion, there: Listed) -> bool:
    is_known = is_md5(row.etag) and not (row.repair.condemned_etag or row.repair.damaged_etag)
    is_object = not row.is_delete_marker and not there.is_delete_marker and is_known
    is_copy = is_object and (row.etag, row.size_bytes) == (there.etag, there.size_bytes) and row.size_bytes is not None
    is_alike = is_copy or (row.is_delete_marker and there.is_delete_marker)
    return is_alike and row.last_modified is not None and there.last_modified >= row.last_modified


def _may_be_equal(row: ObjectVersion, there: Listed) -> bool:
    is_other = row.etag != there.etag and is_md5(row.etag) and is_md5(there.etag)
    is_size = row.size_bytes in (None, there.size_bytes)
    return row.is_delete_marker == there.is_delete_marker and is_size and not is_other


async def _plan_rows(
    batches: Any, selection: Any, to: Shards, *, copies: Any = None, **unused: Any
) -> tuple[Plan, Histogram]:
    """`plan_rows` without DuckDB."""
    excluded: Counter[str] = Counter()
    taken = [select_rows(batch, selection, excluded) async for batch in batches]
    rows = _rows_in(pa.Table.from_batches(taken, tables.manifest_schema()))
    newest: dict[Any, ObjectVersion] = {}
    for row in sorted(rows, key=lambda row: (-_time_of(row), row.row)):
        newest.setdefault((row.key, row.version_id), row)
    at, found = (
        int(copies.now()) if copies else 0,
        await _find_there(sorted(newest.values()), copies) if copies and newest else [],
    )
    done = {key for key, word in found if word == "same"}
    shards = to._replace(processes=1).number(sum(row.key not in done for row in newest.values()), 0)
    home: dict[str, int] = {key: shards if key in done else zlib.crc32(key.encode()) % shards for key, _ in newest}
    order = sorted(
        newest.values(), key=lambda row: (home[row.key], row.key.encode(), row.is_latest, _time_of(row), -row.row)
    )
    summaries: list[Any] = []
    for _, some in groupby(order, key=lambda row: home[row.key]):
        data, summary, _ = _shard_of(some, sum(each.rows for each in summaries))
        await to.write(len(summaries), data)
        summaries.append(summary)
    there = {each: sum(word == each for _, word in found) for each in ("same", "alike", "other")}
    there |= {"shards": int(bool(done)), "at": at}
    size_bytes = sum(each.size_bytes for each in summaries)
    return Plan(len(order), size_bytes, tuple(summaries), dict(excluded), there=there), Histogram((), 0)


def _time_of(row: ObjectVersion) -> float:
    return -1.0 if row.last_modified is None else row.last_modified


async def _find_there(rows: Sequence[ObjectVersion], copies: Any) -> list[tuple[str, str]]:
    """The keys of rows whose copies are there, and what `there_of` says of them."""
    side, versions = copies.run.destination, bool(copies.run.options.get("all_versions"))
    pages = [page async for page in list_all(open_side(side), side.location, versions=versions)]
    found = there_of(rows, [each for page in pages for each in page], copies.run)
    return [(rows[number].key, word) for number, word in found.items()]


async def fold_run(ledger: Any, run_id: str, plan: Any, checkpoints: Any, *_: Any) -> folding.Folded:
    """`fold_run` without DuckDB, and without the state."""
    ends = [0, *accumulate(shard.rows for shard in plan.shards)]
    numbers = [range(first, end) for first, end in pairwise(ends)]
    found = [outcomes_of(await ledger.checkpoint_data(run_id, each)) for each in checkpoints]
    chosen = fold(outcome for some in found for outcome in some)
    bad = {row: each for row, each in chosen.items() if each.status not in GOOD}
    slices = [await ledger.shard(run_id, shard, plan) for shard, some in enumerate(numbers) if bad.keys() & set(some)]
    rows = [row for data in slices for row in rows_of(data) if row.row in bad]
    reasons = Counter((str(each.status), each.reason, each.detail) for each in bad.values())
    sizes: Counter[str] = Counter()
    for each in chosen.values():
        sizes[str(each.status)] += each.size_bytes
    return folding.Folded(
        rows=len(chosen),
        sums={
            "size_bytes": sum(sizes.values()),
            "outcomes": dict(Counter(str(each.status) for each in chosen.values())),
            "outcome_bytes": dict(sizes),
            "evidence": dict(Counter(str(each.evidence) for each in chosen.values() if each.status in GOOD)),
            "reasons": [
                {"status": status, "reason": reason, "rows": count} | ({"detail": detail} if detail else {})
                for (status, reason, detail), count in reasons.most_common()
            ],
            "attempts": len({each.attempt for each in chosen.values()}),
        },
        finished_at=max((each.written_at for each in checkpoints), default=0.0),
        failures_parquet=_failures(rows, bad) if bad else b"",
        failures_csv=b"",
        checkpoints=frozenset(checkpoints),
    )


async def _write_late_verdicts(*_: Any) -> None:
    """`write_late_verdicts` without the state."""


def _failures(rows: Sequence[ObjectVersion], bad: dict[int, Outcome]) -> bytes:
    """The failed rows as a manifest: of a key the newest first."""
    first = {key: min(row.row for row in some) for key, some in groupby(rows, key=lambda row: row.key)}
    rows = sorted(rows, key=lambda row: (first[row.key], -row.row))
    failed = [_condemned(row, bad[row.row]) for row in rows]
    table = pa.Table.from_batches([manifest_of(failed)])
    for name in ("status", "reason", "detail"):
        table = table.append_column(name, pa.array([str(getattr(bad[row.row], name)) for row in rows], pa.string()))
    return tables.write_parquet(table)


def _condemned(row: ObjectVersion, outcome: Outcome) -> ObjectVersion:
    if outcome.status == "different":
        return row._replace(beside=replace(row.repair, condemned_etag=outcome.destination_etag))
    if outcome.status == "damaged":
        etag = outcome.etag or row.etag
        return row._replace(etag=etag, beside=replace(row.repair, damaged_etag=etag))
    return row


async def _publish(ledger: Any, spec: Any, report: dict[str, Any], *_: Any) -> dict[str, Any]:
    """`publish` without a page."""
    published: dict[str, Any] = await ledger.publish_report(spec.run_id, report)
    return published


async def _write_deletions(ledger: Any, run_id: str, plan: Any) -> dict[str, Any]:
    """`write_deletions` without tables."""
    return {"parquet": None, "csv": None, "rows": 0, "bytes": 0, "hidden": 0, "shown": []}


QUICK = [
    (planning.plan_rows, _plan_rows),
    (folding.fold_run, fold_run),
    (folding.write_late_verdicts, _write_late_verdicts),
    (publish, _publish),
    (write_deletions, _write_deletions),
    (tables.write_outcomes, _write_outcomes),
    (tables.done_outcomes, _done_outcomes),
    (_encode, _encode_rows),
]
"""What stands in for what, for few rows; and no page is made."""
CACHED = [
    (decode_policy, lambda data, name: _policy_of(data)),
    (_read_outcomes, outcomes_of),
    (_read_shard, lambda *shard: [rows_of(*shard)]),
    (tables.read_row_numbers, lambda data: [each.row for each in outcomes_of(data)]),
]
"""Reading what was read before."""
