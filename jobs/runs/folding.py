"""Folding of a run's outcomes: one per row, whatever attempts wrote them.

It works out of core, in DuckDB.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct, field

from jobs.core.outcome import GOOD, Evidence, precedence_sql
from jobs.core.run import Plan, RunSpec
from jobs.core.words import explained_sql
from jobs.ledger.ledger import Checkpoint, Ledger
from jobs.ledger.state import has_verdicts, run_verdicts_sql
from jobs.ledger.state_files import copy_verdicts, write_delta
from jobs.runs.scratch import scratch_folder
from jobs.s3.retries import gather_bounded
from jobs.tables.duck import connect, harmless, in_thread, parquet, quoted
from jobs.tables.rows import fill_batch, unaltered, write_parquet

MEMORY_LIMIT = "256MB"
TOP_REASONS = 20
FAILURES = "failures.parquet"
LISTED_FAILURES, LISTED_PER_REASON = 200, 20
"""How many failures the page lists, and how many of them of one reason: it stays short."""
DETAILS = 5
"""So many details of a reason are counted one by one."""
KEYS_PER_REASON = 5
"""How many keys the report names for each reason. A terminal has room for them."""
DOWNLOADS = 32


class Folded(Struct, frozen=True):
    """The outcomes of a run. `sums`: what its report says of them (`jobs.reports.document.summarize`).
    `began_at`: when the first attempt began. `finished_at`: when S3 got the last outcome.

    `listed`: the first failures, for the report's page. `checkpoints`: those that were folded.
    """

    rows: int = 0
    sums: Mapping[str, Any] = field(
        default_factory=lambda: (
            {"outcomes": {}, "outcome_bytes": {}, "evidence": {}, "reasons": []} | {"attempts": 0, "size_bytes": 0}
        )
    )
    finished_at: float = 0.0
    failures_parquet: bytes = b""
    failures_csv: bytes = b""
    began_at: float = 0.0
    checkpoints: frozenset[Checkpoint] = frozenset()
    listed: Sequence[Mapping[str, Any]] = ()


async def fold_run(
    ledger: Ledger, run_id: str, plan: Plan, checkpoints: Sequence[Checkpoint], spec: RunSpec | None = None
) -> Folded:
    """Choose one outcome per row of the run's checkpoints (`jobs.core.outcome.precedence_sql` says which) and count.

    The failures hold, for each row that ended badly, the manifest's columns (so that the file is
    itself a manifest), the status, the reason and its detail. What a complete run says of copies is
    added to the ledger's state, if its `spec` is given.
    """
    if not checkpoints:
        return Folded()
    with scratch_folder("fold") as folder:
        connection = await _fold(ledger, run_id, checkpoints, folder)
        shards = [row[0] for row in connection.execute("SELECT DISTINCT shard FROM folded WHERE bad").fetchall()]
        await _download_shards(ledger, run_id, plan, folder, shards)
        folded = _sum_up(connection, checkpoints, folder)
        if spec is not None and folded.rows == plan.rows:
            await _write_verdicts(ledger, spec, connection, folder, run_id)
        return folded


async def write_late_verdicts(ledger: Ledger, spec: RunSpec, late: Sequence[Checkpoint]) -> None:
    """Add what checkpoints say that came after the fold to the state."""
    with scratch_folder("fold") as folder:
        if late:
            connection = await _fold(ledger, spec.run_id, late, folder)
            await _write_verdicts(ledger, spec, connection, folder, f"{spec.run_id}-late")


async def _write_verdicts(
    ledger: Ledger, spec: RunSpec, connection: duckdb.DuckDBPyConnection, folder: Path, name: str
) -> None:
    if has_verdicts(spec):
        path, sql = folder / "verdicts.parquet", run_verdicts_sql(spec, "folded")
        if await in_thread(connection, copy_verdicts, connection, sql, path):
            await write_delta(ledger, name, path)


async def proven_rows(ledger: Ledger, run_id: str, plan: Plan) -> AsyncIterator[pa.RecordBatch]:
    """The rows of a run that ended well, as a manifest with the known checksums of their content.

    A checksum that was not compared with anything is left out: it is that of the copy alone, and
    would prove the copy by itself.
    """
    with scratch_folder("fold") as scratch:
        connection = await open_fold(ledger, run_id, plan, scratch)
        if connection is None:
            return
        rows = connection.sql(
            f"""
            SELECT manifest.* EXCLUDE (row)
                   REPLACE (CASE WHEN evidence <> {quoted(Evidence.NONE.value)} THEN checksum END AS known_checksum)
            FROM folded JOIN manifest USING (row)
            WHERE NOT bad ORDER BY row
            """
        ).to_arrow_reader()
        for batch in rows:
            yield fill_batch({name: batch[name] for name in batch.schema.names}, batch.num_rows)


async def open_fold(ledger: Ledger, run_id: str, plan: Plan, folder: Path) -> duckdb.DuckDBPyConnection | None:
    """A database in `folder` with `folded`, one outcome for each row, and `manifest`, the rows of
    the run's shards.

    `folded` has the columns of an outcome, `bad` and `shard`. None: no row has an outcome yet.
    """
    if not (checkpoints := await ledger.checkpoints(run_id, plan=plan)):
        return None
    connection = await _fold(ledger, run_id, checkpoints, folder)
    await _download_shards(ledger, run_id, plan, folder, range(len(plan.shards)))
    connection.execute(f"CREATE VIEW manifest AS FROM {parquet(folder, below='shard-*.parquet')}")
    return connection


async def _fold(
    ledger: Ledger, run_id: str, checkpoints: Sequence[Checkpoint], folder: Path
) -> duckdb.DuckDBPyConnection:
    """Fetch checkpoints, and choose among their outcomes."""

    async def download(checkpoint: Checkpoint) -> None:
        data = await ledger.checkpoint_data(run_id, checkpoint)
        with unaltered(f"the outcomes {checkpoint.name} of run {run_id}"):
            pq.read_metadata(BytesIO(data))
        (folder / f"outcomes-{checkpoint.shard:05d}-{checkpoint.name}").write_bytes(data)

    await gather_bounded(download, checkpoints, DOWNLOADS)
    connection = connect(folder, memory_limit=MEMORY_LIMIT, database=str(folder / "fold.duckdb"), threads=2)
    good = ", ".join(quoted(status.value) for status in sorted(GOOD))
    files = parquet(folder, "filename = true", below="outcomes-*.parquet")
    # To rank every row costs far more than to find those that several attempts reported on.
    connection.execute(f"CREATE TABLE repeated AS SELECT row FROM {files} GROUP BY row HAVING count(*) > 1")
    has_repeated = connection.execute("FROM repeated LIMIT 1").fetchone() is not None
    chosen = f"FROM {files}"
    if has_repeated:
        chosen = f"""
            FROM {files} ANTI JOIN repeated USING (row)
            UNION ALL
            (FROM {files} SEMI JOIN repeated USING (row)
            QUALIFY row_number() OVER (PARTITION BY row ORDER BY {precedence_sql()}) = 1)"""
    # To read some columns of the files a few times costs far less than to copy all of them.
    connection.execute(
        f"""
        CREATE {"TABLE" if has_repeated else "VIEW"} folded AS
        SELECT * EXCLUDE (filename), status NOT IN ({good}) AS bad,
               regexp_extract(parse_filename(filename), 'outcomes-(\\d+)-', 1)::INTEGER AS shard
        FROM ({chosen})
        """
    )
    return connection


async def _download_shards(ledger: Ledger, run_id: str, plan: Plan, folder: Path, shards: Iterable[int]) -> None:
    async def download(shard: int) -> None:
        (folder / f"shard-{shard:05d}.parquet").write_bytes(await ledger.shard(run_id, shard, plan))

    await gather_bounded(download, shards, DOWNLOADS)


def _reason_counts(connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """How many rows have a reason and a detail, as the report has it. `keys`: of the first rows that ended badly.

    The detail is empty where a reason has many.
    """
    connection.execute(
        f"""
        CREATE TABLE various AS SELECT status, reason FROM folded WHERE reason <> ''
        GROUP BY ALL HAVING count(DISTINCT detail) > {DETAILS};
        CREATE VIEW told AS
        SELECT *, CASE WHEN (status, reason) IN (SELECT (status, reason) FROM various) THEN '' ELSE detail END AS told
        FROM folded
        """
    )
    groups = connection.execute(
        "SELECT status, reason, if(count(DISTINCT detail) = 1, min(detail), told), count(*), "
        f"arg_min(key, row, {KEYS_PER_REASON}) FILTER (bad) FROM told "
        "WHERE bad OR status = 'left' OR (status IN ('verified', 'done') AND reason <> '') "
        f"GROUP BY status, reason, told ORDER BY 4 DESC, 1, 2, 3 LIMIT {TOP_REASONS}"
    ).fetchall()
    return [
        {"status": status, "reason": reason, "rows": rows}
        | ({"detail": detail} if detail else {})
        | ({"keys": list(dict.fromkeys(keys))} if keys else {})  # versions of a key are one key
        for status, reason, detail, rows, keys in groups
    ]


def _sum_up(connection: duckdb.DuckDBPyConnection, checkpoints: Sequence[Checkpoint], folder: Path) -> Folded:
    def query(sql: str) -> list[tuple[Any, ...]]:
        return connection.execute(sql).fetchall()

    rows, size_bytes, failures, attempts = query(
        "SELECT count(*), coalesce(sum(size_bytes), 0), count(*) FILTER (bad), count(DISTINCT attempt) FROM folded"
    )[0]
    statuses = query("SELECT status, count(*), sum(size_bytes)::BIGINT FROM folded GROUP BY 1 ORDER BY 1")
    rows_file, csv = _failure_files(connection, folder) if failures else (b"", b"")
    finished_at = max(each.written_at for each in checkpoints)
    return Folded(
        rows=rows,
        sums={
            "outcomes": {status: count for status, count, _ in statuses},
            "outcome_bytes": {status: size_bytes for status, _, size_bytes in statuses},
            "size_bytes": int(size_bytes),
            "evidence": dict(query("SELECT evidence, count(*) FROM folded WHERE NOT bad GROUP BY 1 ORDER BY 1")),
            "reasons": _reason_counts(connection),
            "attempts": attempts,
        },
        began_at=min((each.began_at for each in checkpoints if each.began_at), default=finished_at),
        finished_at=finished_at,
        checkpoints=frozenset(checkpoints),
        failures_parquet=rows_file,
        failures_csv=csv,
        listed=first_failures(folder / FAILURES) if failures else (),
    )


def first_failures(path: Path) -> list[dict[str, Any]]:
    """The first rows of each reason in a file of failed rows, in its order, with the columns of the report's page."""
    names = ["key", "version_id", "status", "reason", "detail", "etag", "condemned_etag", "size_bytes", "last_modified"]
    rows, listed = list[dict[str, Any]](), Counter[tuple[str, str]]()
    for batch in pq.ParquetFile(path).iter_batches(columns=names):
        for row in batch.to_pylist():
            kind = row["status"], row["reason"]
            if listed[kind] < LISTED_PER_REASON and len(rows) < LISTED_FAILURES:
                listed[kind] += 1
                source = {f"source_{name}": row.pop(name) for name in ("etag", "size_bytes", "last_modified")}
                rows.append(row | source | {"destination_etag": row.pop("condemned_etag")})
    return rows


def _failure_files(connection: duckdb.DuckDBPyConnection, folder: Path) -> tuple[bytes, bytes]:
    """The rows that ended badly, as a manifest (Parquet) and for people (CSV).

    A destination that verify proved wrong is condemned by its ETag. A source that is damaged is
    named by its ETag, so that a retry does not copy it. The newest version of a key
    comes first, as in a listing, which orders versions of equal times.
    """
    etag = "coalesce(folded.etag, manifest.etag)"
    reader = connection.sql(
        f"""
        SELECT manifest.* EXCLUDE (row, condemned_etag) REPLACE (
                   CASE WHEN status = 'damaged' THEN {etag} ELSE manifest.etag END AS etag,
                   CASE WHEN status = 'damaged' THEN {etag} ELSE damaged_etag END AS damaged_etag),
               CASE WHEN status = 'different' THEN destination_etag ELSE condemned_etag END AS condemned_etag,
               status, reason, detail
        FROM folded JOIN {parquet(folder, below="shard-*.parquet")} AS manifest USING (row)
        WHERE bad ORDER BY min(row) OVER (PARTITION BY manifest.key), row DESC
        """
    ).to_arrow_reader()
    file, csv = folder / FAILURES, folder / "failures.csv"
    file.write_bytes(write_parquet(reader.read_all()))
    write_csv(connection, parquet(file), csv, "key")
    return file.read_bytes(), csv.read_bytes()


def write_csv(connection: duckdb.DuckDBPyConnection, rows: str, csv: Path, *texts: str) -> None:
    """Write rows that have `reason` and `detail` as a CSV file for people: words in place of the codes.

    In these, and in the columns `texts`, formulas and control characters are made plain text
    (`jobs.tables.duck.harmless`). `escaped` says where.
    """
    columns = {name: harmless(name) for name in (*texts, "reason")}
    safe = ", ".join(f"{text} AS {name}" for name, text in columns.items())
    escaped = " OR ".join(f"{name} IS DISTINCT FROM {text}" for name, text in columns.items())
    connection.execute(
        f"COPY (SELECT * REPLACE ({safe}), {escaped} AS escaped FROM (SELECT * EXCLUDE (detail) "
        f"REPLACE ({explained_sql()} AS reason) FROM {rows})) "
        f"TO {quoted(csv)} (FORMAT csv, HEADER, FORCE_QUOTE ({', '.join(texts)}, reason))"
    )
