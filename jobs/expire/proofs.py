"""Proofs of runs: each version, its copy or archive member, and since when."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.archives.index import ArchiveIndex, Damage, collecting
from jobs.archives.index_tables import INDEX_SCHEMA
from jobs.core.model import Location
from jobs.core.outcome import Status
from jobs.core.run import RunSpec
from jobs.expire.rules import PROOFS
from jobs.ledger.ledger import Ledger
from jobs.runs.folding import open_fold
from jobs.s3.listing import list_all
from jobs.tables.duck import in_thread, parquet, quoted

PROVEN = """
    key VARCHAR, version_id VARCHAR, is_latest BOOLEAN, size_bytes BIGINT, etag VARCHAR, last_modified DOUBLE,
    storage_class VARCHAR, run_id VARCHAR, proven_at DOUBLE, copy_bucket VARCHAR, copy_key VARCHAR,
    copy_version_id VARCHAR, copy_etag VARCHAR, in_archive BOOLEAN, sha256 VARCHAR, checksums VARCHAR,
    "offset" BIGINT, frame_start BIGINT, frame_offset BIGINT, frame_length BIGINT, packed_modified DOUBLE
"""
"""The columns of a table of proofs. The last eight are those of an archive's member."""
_WRITTEN_FIELDS: list[pa.Field[Any]] = [pa.field("file", pa.string()), pa.field("written_at", pa.float64())]


async def add_proofs(ledger: Ledger, spec: RunSpec, folder: Path, connection: duckdb.DuckDBPyConnection) -> None:
    """Add the objects that a run has proven to the connection's table `proven`, in the columns of
    `PROVEN`.

    A proof dates from its outcome's time, or from when S3 received its checkpoint, if that is
    later. A time in the ledger may be forged, and a grace period begins with it.
    """
    folder.mkdir()
    fold = await open_fold(ledger, spec.run_id, await ledger.plan(spec.run_id), folder)
    if fold is None:
        return
    written = folder / "written.parquet"
    await write_times(ledger, spec.run_id, written)
    statuses = ", ".join(quoted(status.value) for status in sorted(PROOFS[spec.job]))
    rows = folder / "proven.parquet"
    with closing(fold):
        await in_thread(
            fold,
            fold.execute,
            f"""
            COPY (
                SELECT manifest.key, manifest.version_id, is_latest,
                       coalesce(manifest.size_bytes, folded.size_bytes) AS size_bytes,
                       coalesce(folded.etag, manifest.etag) AS etag, epoch(last_modified) AS last_modified,
                       storage_class, greatest(epoch(finished_at), written_at) AS proven_at, destination_version_id,
                       destination_etag
                FROM folded JOIN manifest USING (row) JOIN {parquet(written)} USING (file)
                WHERE status IN ({statuses}) AND NOT is_delete_marker
            ) TO {quoted(str(rows))} (FORMAT parquet)
            """,
        )
    if Status.PACKED in PROOFS[spec.job]:
        etags = {
            str(found)
            for (found,) in connection.execute(f"SELECT DISTINCT destination_etag FROM {parquet(rows)}").fetchall()
        }
        members = folder / "members.parquet"
        await _write_members(ArchiveIndex(ledger.store, ledger.location), spec.destination.location, etags, members)
        sql = _members_sql(spec, rows, members)
    else:
        sql = _replicas_sql(spec, rows)
    await in_thread(connection, connection.execute, f"INSERT INTO proven BY NAME {sql}")


async def write_times(ledger: Ledger, run_id: str, path: Path) -> None:
    """Write when S3 received each checkpoint of a run, by the file's name in a fold."""
    folder = ledger.location.join(f"runs/{run_id}/outcomes/")
    times: dict[str, float] = {}
    async with aclosing(list_all(ledger.store, folder, versions=False)) as pages:
        async for page in pages:
            for entry in page:
                shard, _, name = entry.key[len(folder.key) :].partition("/")
                times[f"outcomes-{shard:0>5}-{name}"] = entry.last_modified
    table = pa.table({"file": list(times), "written_at": list(times.values())}, pa.schema(_WRITTEN_FIELDS))
    pq.write_table(table, path)


def copy_key_sql(spec: RunSpec) -> str:
    """SQL for the key of a run's copy of `key`."""
    source, destination = spec.source.location, spec.destination.location
    return f"""{quoted(destination.key)} || CASE WHEN starts_with(key, {quoted(source.key)})
        THEN substr(key, length({quoted(source.key)}) + 1) ELSE key END"""


def _replicas_sql(spec: RunSpec, rows: Path) -> str:
    return f"""
        SELECT key, version_id, is_latest, size_bytes, etag, last_modified, storage_class, proven_at,
               {quoted(spec.run_id)} AS run_id, {quoted(spec.destination.location.bucket)} AS copy_bucket,
               {copy_key_sql(spec)} AS copy_key,
               destination_version_id AS copy_version_id, destination_etag AS copy_etag, false AS in_archive
        FROM {parquet(rows)}
        """


def _members_sql(spec: RunSpec, rows: Path, members: Path) -> str:
    """Select each row with its member: of the same version, in the archive of the outcome's ETag."""
    return f"""
        SELECT rows.key, coalesce(rows.version_id, m.version_id) AS version_id, rows.is_latest, rows.size_bytes,
               rows.etag, rows.last_modified, rows.storage_class, proven_at, {quoted(spec.run_id)} AS run_id,
               copy_bucket, copy_key, copy_version_id, copy_etag, true AS in_archive, m.sha256, m.checksums, m."offset",
               m.frame_start, m.frame_offset, m.frame_length, epoch(m.last_modified) AS packed_modified
        FROM {parquet(rows)} AS rows
        JOIN {parquet(members)} AS m
            ON m.key = rows.key AND m.copy_etag = destination_etag AND m.etag = rows.etag
            AND (rows.version_id IS NULL OR m.version_id = rows.version_id)
        QUALIFY row_number() OVER (PARTITION BY rows.key, rows.version_id, rows.etag ORDER BY copy_key) = 1
        """


async def _write_members(index: ArchiveIndex, archives: Location, etags: Iterable[str], path: Path) -> None:
    """Write the members of the archives with one of these ETags, with their archive's place and
    pins.

    What an archive with a damaged index holds has no proof, so it is kept.
    """
    damage: Damage = []
    columns = ("copy_bucket", "copy_key", "copy_version_id", "copy_etag")
    schema = pa.schema([*INDEX_SCHEMA, *(pa.field(name, pa.string()) for name in columns)])
    with pq.ParquetWriter(path, schema, compression="lz4") as writer:
        for record in await index.records(archives, damage):
            if record.etag not in etags:
                continue
            values = record.location.bucket, record.location.key, record.version_id, record.etag
            with collecting(damage, record.location):
                async with aclosing(index.tables(record.location)) as tables:
                    async for table in tables:
                        members = table
                        for name, value in zip(columns, values, strict=True):
                            members = members.append_column(name, pa.array([value] * table.num_rows, pa.string()))
                        writer.write_table(members.cast(schema))
