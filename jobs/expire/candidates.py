"""Candidates of an expire run: proven rows, the places of copies, and the shares.

The rows are the proven rows of one run, or those of a manifest with the latest proof that any run
has of each. The caller says where originals and copies are, and the ledger's rows and proofs of
other places are left out. Each row carries its proof (`jobs.expire.rules.Proof`). Members of one
archive come together, in the archive's order, so that they are read together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.core.model import Location
from jobs.core.pricing import RANGE_BYTES
from jobs.core.run import RunSpec, ShardSummary
from jobs.core.spelling import one_spelling, one_spelling_sql
from jobs.expire.disproofs import object_to_disproved
from jobs.expire.proofs import PROVEN, add_proofs
from jobs.expire.rules import EXPIRED_BEFORE, Proof
from jobs.expire.runs_with_findings import Seen
from jobs.expire.shares import NOTHING, Share, drop_expired, span_of_listed, span_of_proven, weigh
from jobs.ledger.ledger import Ledger
from jobs.runs import sharding as shards
from jobs.tables.duck import Database, in_thread, parquet, quoted, scratch_folder
from jobs.tables.rows import expiry_schema, manifest_schema, write_parquet

MEMORY_LIMIT = "256MB"
BATCH_ROWS = 10_000

WriteShard = Callable[[int, bytes], Awaitable[None]]

_MEMBER = ("sha256", "offset", "frame_start", "frame_offset", "frame_length")
OWN_PLACE = "its copy lies where this run deletes: name a narrower --source, or another copy in --copies"
"""Why a proof does not count: the copy is itself a row of the run, or could be one."""

_ROW = ("key", "version_id", "is_latest", "size_bytes", "etag", "last_modified", "storage_class")


class Scope(NamedTuple):
    """Where originals and copies are.

    `is_apart`: they are on different services, so equal bucket names are different buckets.
    `is_own`: which keys of the source belong to the pair of the run. None: all keys, there is no
    pair. `is_ours`: which runs worked with these services. Only their proofs count after a
    finding.
    """

    source: Location
    copies: Sequence[Location]
    is_apart: bool = False
    is_own: Callable[[str], bool] | None = None
    is_ours: Callable[[RunSpec], bool] = lambda spec: True


class ClassCount(NamedTuple):
    """Rows of one storage class, those of them in archives, and the GETs and bytes that compare
    them.
    """

    rows: int
    packed: int
    gets: int
    read_bytes: int


@dataclass(slots=True)
class Candidates:
    """The rows of an expire run, and their shares.

    `current` and `versions`: of the current objects, and of all versions, those that would go and
    those that `prefix` holds.
    `by_class` counts all rows by storage class, and what is read for them.
    `excluded` counts what was left out, by reason.
    `read_runs`: how much was read of each run that may have found copies wrong, by run id.
    """

    prefix: Location
    rows: int = 0
    size_bytes: int = 0
    current: Share = NOTHING
    versions: Share = NOTHING
    excluded: dict[str, int] = field(default_factory=dict)
    shards: list[ShardSummary] = field(default_factory=list)
    by_class: dict[str, ClassCount] = field(default_factory=dict)
    read_runs: dict[str, Seen] = field(default_factory=dict)


async def plan_candidates(  # noqa: PLR0913  what a plan of expiry takes; each is named
    ledger: Ledger,
    runs: Sequence[RunSpec],
    wanted: AsyncIterator[pa.RecordBatch] | None,
    *,
    scope: Scope,
    list_prefix: Callable[[Location], AsyncIterator[pa.RecordBatch]],
    write_shard: WriteShard,
    scratch_directory: Path,
    older_than: float,
    rows_per_shard: int,
    processes: int,
) -> Candidates:
    """The rows that `runs` have proven, written as shards in `expiry_schema()`.

    `wanted`: rows in `manifest_schema()`, None for all. A wanted row that no run has proven is a
    row without a proof. `older_than`: epoch seconds before which a row must be written and proven
    to count for a share. The shares are those of the scope's source. For wanted rows they are those
    of the folder in it that holds all rows with a proof that are there: `list_prefix` lists it.
    `write_shard(number, parquet)` is awaited for each shard, in order. Raises ConfigError when the
    scratch directory cannot hold the rows.
    """
    prefix = scope.source
    with scratch_folder(scratch_directory, "expiring-", "sort the rows") as folder:
        database = Database(folder, memory_limit=MEMORY_LIMIT)
        with closing(database.connection) as connection:
            connection.execute(f"CREATE TABLE proven ({PROVEN})")
            for number, spec in enumerate(runs):
                await add_proofs(ledger, spec, folder / str(number), connection)
            foreign = await in_thread(connection, _drop_foreign, connection, scope.is_own, folder / "foreign.parquet")
            if wanted is not None:
                foreign = await _spool(wanted, folder / "wanted.parquet", scope.is_own)
            rows = folder / "wanted.parquet" if wanted is not None else None
            excluded = {"--pair": foreign} | await in_thread(connection, _narrow, connection, scope, rows)
            read_runs = await object_to_disproved(
                ledger, runs, scope.source.bucket, folder / "disproofs", connection, scope.is_ours
            )
            await in_thread(connection, _choose, connection, scope.source, rows)
            if wanted is not None:
                prefix = _narrowed(prefix, span_of_proven(connection))
            await _spool(list_prefix(prefix), folder / "listed.parquet", scope.is_own)
            connection.execute(f"CREATE VIEW there AS FROM {parquet(folder / 'listed.parquet')}")
            if rows is not None:
                await in_thread(connection, _name_newest, connection, rows, folder / "listed.parquet")
                await in_thread(connection, _choose, connection, scope.source, rows)
            excluded[EXPIRED_BEFORE] = await drop_expired(connection, ledger, prefix, folder)
            if wanted is not None:
                prefix = _narrowed(prefix, span_of_listed(connection))
                there = f"FROM {parquet(folder / 'listed.parquet')}"
                below = f"starts_with(key, {quoted(prefix.key)})"
                connection.execute(f"CREATE OR REPLACE VIEW there AS {there} WHERE {below}")
            left_out = {why: count for why, count in excluded.items() if count}
            candidates = Candidates(prefix, excluded=left_out, read_runs=read_runs)
            candidates.current, candidates.versions = await in_thread(connection, weigh, connection, older_than)
            candidates.by_class = await in_thread(connection, _count_classes, connection)
            await _write(connection, write_shard, rows_per_shard, processes, candidates)
            return candidates


def _narrow(connection: duckdb.DuckDBPyConnection, scope: Scope, wanted: Path | None) -> dict[str, int]:
    """Leave out rows and copies outside the scope. Returns the number of rows, by reason.

    A proof whose copy is in the scope's source, in whatever spelling, gets an objection: the copy
    may be the original of another row, and each would prove the other. The ledger's records of runs
    are not asked, because chains of runs would lead to the same. A copy whose key is another
    spelling of the original's gets none: the run finds out whether they are one object.
    """
    source = scope.source
    is_inside = f"starts_with(key, {quoted(source.key)})"
    outside = f"FROM {parquet(wanted)}" if wanted is not None else "FROM proven"
    (elsewhere,) = _one(connection, f"SELECT count(*) {outside} WHERE NOT {is_inside}")
    connection.execute(f"DELETE FROM proven WHERE NOT {is_inside}")
    if wanted is not None:
        connection.execute(f"DELETE FROM proven WHERE key NOT IN (SELECT key FROM {parquet(wanted)})")
    is_copy = " OR ".join(_lies_in("copy_bucket", "copy_key", place) for place in scope.copies) or "false"
    (unnamed,) = _one(
        connection, f"SELECT count(DISTINCT (key, version_id, etag)) FROM proven WHERE NOT coalesce({is_copy}, false)"
    )
    connection.execute(f"DELETE FROM proven WHERE NOT coalesce({is_copy}, false)")
    spelled = source._replace(key=one_spelling(source.key))
    own = f"""{_lies_in("copy_bucket", "copy_key", source)}
        OR {_lies_in("copy_bucket", one_spelling_sql("copy_key"), spelled)}
            AND {one_spelling_sql("copy_key")} <> {one_spelling_sql("key")}"""
    own = "false" if scope.is_apart else own
    connection.execute("ALTER TABLE proven ADD COLUMN objection VARCHAR")
    connection.execute(f"UPDATE proven SET objection = {quoted(OWN_PLACE)} WHERE {own}")
    return {"--source": elsewhere, "--copies": unnamed}


def _lies_in(bucket: str, key: str, place: Location) -> str:
    return f"({bucket} = {quoted(place.bucket)} AND starts_with({key}, {quoted(place.key)}))"


async def _spool(rows: AsyncIterator[pa.RecordBatch], path: Path, is_own: Callable[[str], bool] | None = None) -> int:
    """Write the rows whose keys are the run's own. Returns the number of the others."""
    foreign = 0
    with pq.ParquetWriter(path, manifest_schema(), compression="lz4") as writer:
        async for batch in rows:
            keys: list[Any] = batch["key"].to_pylist()
            own = batch if is_own is None else batch.filter(pa.array([is_own(key) for key in keys], pa.bool_()))
            foreign += batch.num_rows - own.num_rows
            writer.write_batch(own)
    return foreign


def _drop_foreign(connection: duckdb.DuckDBPyConnection, is_own: Callable[[str], bool] | None, path: Path) -> int:
    """Remove the proofs of keys that are not the run's own from `proven`. Returns their number."""
    if is_own is None:
        return 0
    schema = pa.schema([pa.field("key", pa.string())])
    with pq.ParquetWriter(path, schema, compression="lz4") as writer:
        for batch in connection.sql("SELECT DISTINCT key FROM proven").to_arrow_reader(BATCH_ROWS):
            keys = [key for key in batch["key"].to_pylist() if not is_own(key)]
            writer.write_batch(pa.RecordBatch.from_pydict({"key": keys}, schema))
    (count,) = connection.execute(f"DELETE FROM proven WHERE key IN (SELECT key FROM {parquet(path)})").fetchone() or (
        0,
    )
    return int(count)


def _choose(connection: duckdb.DuckDBPyConnection, source: Location, wanted: Path | None) -> None:
    """The table `chosen`: each version once, with its latest proof, as old as the first proof of
    the same copy that counts.

    A proof without an objection comes first. Of wanted rows it also has those without a proof. A
    row without an id that matches a version which another row names is that row once more.
    """
    connection.execute(
        """
        CREATE OR REPLACE TABLE latest AS
        SELECT * REPLACE (coalesce(min(proven_at) FILTER (objection IS NULL) OVER (
                   PARTITION BY key, version_id, etag, copy_bucket, copy_key, copy_version_id, copy_etag),
                   proven_at) AS proven_at)
        FROM proven
        QUALIFY row_number() OVER (PARTITION BY key, version_id, etag
            ORDER BY objection IS NULL DESC, proven.proven_at DESC, run_id DESC) = 1
        """
    )
    if wanted is None:
        connection.execute("CREATE OR REPLACE TABLE chosen AS FROM latest")
        return
    names = ", ".join(f'latest."{name}"' for name in (*_names(), "objection") if name not in _ROW)
    connection.execute(
        f"""
        CREATE OR REPLACE TABLE chosen AS WITH wanted AS (
        SELECT rows.key, coalesce(rows.version_id, latest.version_id) AS version_id, rows.is_latest,
               coalesce(rows.size_bytes, latest.size_bytes) AS size_bytes, coalesce(rows.etag, latest.etag) AS etag,
               coalesce(epoch(rows.last_modified), latest.last_modified) AS last_modified,
               coalesce(rows.storage_class, latest.storage_class) AS storage_class, {names}
        FROM {parquet(wanted, "file_row_number = true")} AS rows
        LEFT JOIN latest ON latest.key = rows.key
            AND (rows.version_id IS NULL OR latest.version_id IS NULL OR latest.version_id = rows.version_id)
            AND (rows.etag IS NULL OR latest.etag = rows.etag)
        WHERE NOT rows.is_delete_marker AND starts_with(rows.key, {quoted(source.key)})
        QUALIFY row_number() OVER (PARTITION BY rows.key, rows.version_id
            ORDER BY latest.version_id = rows.version_id DESC NULLS LAST, latest.objection IS NULL DESC,
                     latest.proven_at DESC NULLS LAST) = 1)
        FROM wanted
        QUALIFY row_number() OVER (PARTITION BY key, version_id ORDER BY is_latest DESC NULLS LAST) = 1
            AND (version_id IS NOT NULL OR count(version_id) OVER (PARTITION BY key, etag) = 0)
        """
    )


def _name_newest(connection: duckdb.DuckDBPyConnection, wanted: Path, listed: Path) -> None:
    """Give each wanted row without a version id the id and the ETag of the version that it means:
    the newest one of its key, and of its ETag if it has one.

    Any proof of the key would fit such a row, also that of an older version, which nobody asked
    for. Where the bucket keeps no versions, there is no older one.
    """
    named = wanted.with_name("named.parquet")
    connection.execute(
        f"""
        COPY (
            SELECT rows.* EXCLUDE (file_row_number) REPLACE (
                coalesce(rows.version_id, there.version_id) AS version_id, coalesce(rows.etag, there.etag) AS etag)
            FROM {parquet(wanted, "file_row_number = true")} AS rows
            LEFT JOIN {parquet(listed, "file_row_number = true")} AS there
                ON rows.version_id IS NULL AND there.key = rows.key AND there.version_id IS NOT NULL
                AND NOT there.is_delete_marker AND (rows.etag IS NULL OR there.etag = rows.etag)
            QUALIFY row_number() OVER (PARTITION BY rows.file_row_number
                ORDER BY there.is_latest DESC, there.last_modified DESC, there.file_row_number) = 1
            ORDER BY rows.file_row_number
        ) TO {quoted(str(named))} (FORMAT parquet)
        """
    )
    named.replace(wanted)


def _names() -> list[str]:
    return [line.split()[0].strip('"') for line in PROVEN.replace("\n", " ").split(",")]


def _count_classes(connection: duckdb.DuckDBPyConnection) -> dict[str, ClassCount]:
    """All rows by storage class.

    Each copy is read. So is its original where its ETag is of an upload in parts: S3 may keep no
    SHA or MD5 of it.
    """
    size, sides = "coalesce(size_bytes, 0)", "(1 + contains(coalesce(etag, ''), '-')::INT)"
    counted = f"""
        SELECT coalesce(storage_class, 'STANDARD'), count(*), count(*) FILTER (in_archive),
               sum({sides} * greatest(1, ceil({size} / {RANGE_BYTES})))::BIGINT, sum({sides} * {size})::BIGINT
        FROM chosen GROUP BY 1"""
    return {name: ClassCount(*counts) for name, *counts in connection.execute(counted).fetchall()}


async def _write(
    connection: duckdb.DuckDBPyConnection,
    write_shard: WriteShard,
    rows_per_shard: int,
    processes: int,
    candidates: Candidates,
) -> None:
    rows, size_bytes = _one(connection, "SELECT count(*), coalesce(sum(size_bytes), 0)::BIGINT FROM chosen")
    wanted = shards.count_shards(rows, size_bytes, rows_per_shard=rows_per_shard, processes=processes)
    tables = _tables(connection, max(1, -(-rows // max(wanted, 1))))
    while (table := await in_thread(connection, next, tables, None)) is not None:
        data = write_parquet(table)
        await write_shard(len(candidates.shards), data)
        own_bytes = sum(size or 0 for size in table["size_bytes"].to_pylist())
        candidates.shards.append(ShardSummary(table.num_rows, own_bytes, hashlib.sha256(data).hexdigest()))
        candidates.rows += table.num_rows
        candidates.size_bytes += own_bytes


def _tables(connection: duckdb.DuckDBPyConnection, rows_each: int) -> Iterator[pa.Table]:
    """The chosen rows as shards of `rows_each` rows, numbered from 0."""
    reader: Any = connection.sql(
        "FROM chosen ORDER BY in_archive NULLS FIRST, CASE WHEN in_archive THEN copy_key END, "
        'coalesce(frame_offset, "offset"), "offset", key, version_id'
    ).to_arrow_reader(BATCH_ROWS)
    pending: list[pa.RecordBatch] = []
    number = waiting = 0
    for found in reader:
        rows = [_row(number + place, values) for place, values in enumerate(found.to_pylist())]
        batch = pa.RecordBatch.from_pylist(rows, expiry_schema())
        number += batch.num_rows
        while waiting + batch.num_rows >= rows_each:
            head, batch = batch.slice(0, rows_each - waiting), batch.slice(rows_each - waiting)
            yield pa.Table.from_batches([*pending, head])
            pending, waiting = [], 0
        if batch.num_rows:
            pending.append(batch)
            waiting += batch.num_rows
    if pending:
        yield pa.Table.from_batches(pending)


def _row(number: int, values: dict[str, Any]) -> dict[str, Any]:
    modified = values["last_modified"]
    row = {name: values[name] for name in _ROW} | {"row": number, "is_delete_marker": False}
    row["last_modified"] = None if modified is None else int(modified * 1e6)
    if values["copy_etag"] is None:
        return row
    member = None
    if values["in_archive"]:
        member = {name: values[name] for name in _MEMBER} | {"key": values["key"], "size_bytes": values["size_bytes"]}
        member |= {"etag": values["etag"], "last_modified": values["packed_modified"]}
        member["checksums"] = [
            [name, value, "-" in value] for name, value in json.loads(values["checksums"] or "{}").items()
        ]
    proof = Proof(
        values["run_id"],
        values["proven_at"],
        values["copy_bucket"],
        values["copy_key"],
        values["copy_version_id"],
        values["copy_etag"],
        member,
        values["objection"] or "",
    )
    return row | {"proof": proof.encode()}


def _one(connection: duckdb.DuckDBPyConnection, sql: str) -> Any:
    rows: Any = connection.execute(sql).fetchall()
    return rows[0]


def _narrowed(prefix: Location, span: tuple[str | None, str | None]) -> Location:
    """The folder below the prefix that all keys share. The prefix itself if there are no keys."""
    first, last = span
    if first is None or last is None:
        return prefix
    return prefix._replace(key=max(_shared_folder(first, last), prefix.key, key=len))


def _shared_folder(first_key: str, last_key: str) -> str:
    """The folder, with its `/`, that all keys between the two share. May be empty."""
    shared = 0
    while shared < min(len(first_key), len(last_key)) and first_key[shared] == last_key[shared]:
        shared += 1
    return first_key[: first_key.rfind("/", 0, shared) + 1]
