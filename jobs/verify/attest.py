"""Reports of checksums at rest: read, and joined to the rows of a verify run.

The join is out of core. pyarrow and duckdb are imported only there, since most verify runs have no
report.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.core.display import Display, shown
from jobs.core.model import Route
from jobs.ledger.ledger import Ledger
from jobs.runs.request import Draft, Request
from jobs.tables.rows import manifest_schema

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

MEMORY_LIMIT = "256MB"
BATCH_ROWS = 20_000
MOST_VERSIONS = 16
"""Versions of one key whose checksums a row carries where it does not say which one it is about."""

_SPELLED = (
    "algorithm || CASE WHEN is_composite THEN ':COMPOSITE:' ELSE ':FULL_OBJECT:' END || value || ':' || "
    "CASE WHEN version_id IS NOT NULL THEN 'version=' || version_id ELSE 'etag=' || etag END"
)


async def attest(
    batches: AsyncIterator[pa.RecordBatch],
    request: Request,
    route: Route,
    ledger: Ledger,
    draft: Draft,
    display: Display,
) -> tuple[AsyncIterator[pa.RecordBatch], dict[str, Any]]:
    """Return the rows with the checksums of the reports that are asked for, and the options that describe these.

    Raises ManifestError for a report that is not about the side's bucket or cannot be trusted.
    """
    from jobs.checksum_reports.evidence import write_evidence

    buckets = {"source": route.source.bucket, "destination": route.destination.bucket}
    reports = {
        side: await write_evidence(ledger.store, str(uri), draft.scratch / f"{side}-evidence.parquet", bucket=bucket)
        for side, bucket in buckets.items()
        if (uri := request.options.get(f"{side}_checksums"))
    }
    if not reports:
        return batches, {}
    for side, report in reports.items():
        lines = "".join(f"\n  {shown(bad.file)} line {bad.line}: {shown(bad.problem)}" for bad in report.examples)
        display.say(
            f"checksums at rest of the {side}: {report.evidence:,} objects; without: {report.failed:,} that S3 could "
            f"not read, {report.ambiguous:,} that contradict themselves, {report.rejected:,} unusable lines{lines}"
        )
    said = ("uri", "computed_at", "evidence", "failed", "ambiguous", "rejected")
    return attest_rows(batches, route, draft.scratch), {
        f"{side}_checksums": {name: getattr(report, name) for name in said}
        | {"age_hours": round((draft.started - report.computed_at) / 3600, 2)}
        for side, report in reports.items()
    }


async def attest_rows(
    batches: AsyncIterator[pa.RecordBatch], route: Route, folder: Path
) -> AsyncIterator[pa.RecordBatch]:
    """Yield the same rows in the same order, with both `_attested` columns from the folder's evidence.

    An attestation is spelled as in `jobs.verify.attestation`. The worker checks whether the object
    is still the one that was attested. Raises ConfigError when the folder cannot hold the rows.
    """
    import pyarrow.parquet as pq

    from jobs.tables.duck import Database, in_thread, scratch_folder

    with scratch_folder(folder, "attesting-", "join the rows") as scratch:
        spool = scratch / "rows.parquet"
        with pq.ParquetWriter(spool, manifest_schema(), compression="lz4") as writer:
            async for batch in batches:
                writer.write_batch(batch)
        connection = Database(scratch, memory_limit=MEMORY_LIMIT).connection
        with closing(connection):
            rows = iter(await in_thread(connection, _join, connection, spool, route, folder))
            while (joined := await in_thread(connection, next, rows, None)) is not None:
                yield joined.select(manifest_schema().names).cast(manifest_schema())


def _join(connection: duckdb.DuckDBPyConnection, spool: Path, route: Route, folder: Path) -> Any:
    from jobs.tables.duck import parquet, quoted

    for side in ("source", "destination"):
        _evidence(connection, side, folder / f"{side}-evidence.parquet")
    source, destination = quoted(route.source.key), quoted(route.destination.key)
    target = f"""{destination} || CASE WHEN starts_with(rows.key, {source})
        THEN substr(rows.key, length({source}) + 1) ELSE rows.key END"""
    names = ", ".join(f"rows.{name}" for name in manifest_schema().names if not name.endswith("_attested"))
    found: Any = connection.sql(
        f"""
        SELECT {names}, coalesce(exact.attested, ours.attested) AS source_attested,
               theirs.attested AS destination_attested
        FROM {parquet(spool, "file_row_number = true")} AS rows
        LEFT JOIN source_evidence AS exact ON exact.key = rows.key AND exact.version_id = rows.version_id
        LEFT JOIN source_keys AS ours ON ours.key = rows.key
        LEFT JOIN destination_keys AS theirs ON theirs.key = {target}
        ORDER BY rows.file_row_number
        """
    )
    return found.to_arrow_reader(BATCH_ROWS)


def _evidence(connection: duckdb.DuckDBPyConnection, side: str, path: Path) -> None:
    """The views `<side>_evidence` (key, version_id, attested) and `<side>_keys` (key, attested),
    each key once.
    """
    import pyarrow.parquet as pq

    from jobs.checksum_reports.evidence import evidence_schema
    from jobs.tables.duck import parquet

    if not path.exists():
        pq.write_table(evidence_schema().empty_table(), path)
    connection.execute(
        f"""
        CREATE VIEW {side}_evidence AS SELECT key, version_id, {_SPELLED} AS attested FROM {parquet(path)}
        WHERE value IS NOT NULL AND coalesce(version_id, etag) IS NOT NULL;
        CREATE TABLE {side}_shared AS
        SELECT hash(key) AS shared FROM {side}_evidence GROUP BY 1 HAVING count(*) > 1;
        CREATE VIEW {side}_keys AS
        SELECT key, attested FROM {side}_evidence WHERE hash(key) NOT IN (SELECT shared FROM {side}_shared)
        UNION ALL
        SELECT key, string_agg(attested, ' ') FROM (
            FROM {side}_evidence WHERE hash(key) IN (SELECT shared FROM {side}_shared)
            QUALIFY row_number() OVER (PARTITION BY key ORDER BY version_id NULLS FIRST) <= {MOST_VERSIONS})
        GROUP BY key
        """
    )
