"""Shares: how much of a prefix an expire run would delete.

Current objects and all versions are weighed separately, since many noncurrent versions would hide
that every current object goes. The times are those of S3's own listing, since a manifest or the
ledger may be wrong. A row that the listing does not have counts as well, unless an expire run has
deleted it.

Both tables are in the connection: `chosen`, the rows with their proofs, and `there`, the listing of
the prefix.
"""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow.parquet as pq

from jobs.core.model import NULL_VERSION, Location
from jobs.ledger.expired_rows import expired_rows
from jobs.ledger.ledger import Ledger
from jobs.tables.duck import parquet, quoted
from jobs.tables.rows import manifest_schema


class Share(NamedTuple):
    """The number of versions that would go, and the number that is listed."""

    eligible: int = 0
    listed: int = 0

    def exceeds(self, limit: float) -> bool:
        """Return True if it is more than this part of all. 1.0 allows everything."""
        return limit < 1.0 and self.eligible > limit * self.listed


NOTHING = Share()


COUNTS = "(copy_etag IS NOT NULL AND objection IS NULL)"
"""SQL that is true for a chosen row whose proof counts."""


def _is_same(row: str, other: str) -> str:
    """Return SQL that is true if a row names that version.

    A missing id names any version, or the null version.
    """
    return f"""{other}.key = {row}.key AND {other}.etag = {row}.etag AND ({row}.version_id IS NULL
        OR coalesce({other}.version_id, {quoted(NULL_VERSION)}) = {row}.version_id)"""


async def drop_expired(connection: duckdb.DuckDBPyConnection, ledger: Ledger, prefix: Location, folder: Path) -> int:
    """Remove the rows from `chosen` that an earlier expire run has deleted and S3 no longer lists.

    Returns how many.

    So the same command continues where a killed one stopped. Tombstones are read only where rows
    are missing.
    """
    missing = f"NOT EXISTS (FROM there WHERE {_is_same('chosen', 'there')})"
    (count,) = _one(connection, f"SELECT count(*) FROM chosen WHERE {missing}")
    if not count:
        return 0
    path = folder / "gone.parquet"
    with pq.ParquetWriter(path, manifest_schema(), compression="lz4") as writer:
        async with aclosing(expired_rows(ledger.store, ledger.location, prefix.bucket, prefix.key)) as batches:
            async for batch in batches:
                writer.write_batch(batch)
    gone = f"(FROM {parquet(path)} AS gone WHERE NOT is_delete_marker AND {_is_same('chosen', 'gone')})"
    (count,) = _one(connection, f"DELETE FROM chosen WHERE {missing} AND EXISTS {gone}")
    return int(count)


def span_of_proven(connection: duckdb.DuckDBPyConnection) -> tuple[str | None, str | None]:
    """Return the first and the last key of the rows whose proof counts, else of all rows."""
    counting = f"FILTER (WHERE {COUNTS})"
    first, last = _one(
        connection,
        f"SELECT coalesce(min(key) {counting}, min(key)), coalesce(max(key) {counting}, max(key)) FROM chosen",
    )
    return first, last


def span_of_listed(connection: duckdb.DuckDBPyConnection) -> tuple[str | None, str | None]:
    """Return the first and the last key of the listed rows whose proof counts.

    None without such rows.
    """
    first, last = _one(
        connection,
        f"""
        SELECT min(key), max(key) FROM chosen
        WHERE {COUNTS} AND EXISTS (FROM there WHERE {_is_same("chosen", "there")} AND NOT there.is_delete_marker)
        """,
    )
    return first, last


def weigh(connection: duckdb.DuckDBPyConnection, older_than: float) -> tuple[Share, Share]:
    """Return the shares of (current objects, all versions) that would go.

    A row would go if its proof counts, and if both the proof and the listed original are older than
    `older_than`.
    """
    listed = _one(connection, "SELECT count(*) FILTER (is_latest), count(*) FROM there WHERE NOT is_delete_marker")
    eligible = _one(
        connection,
        f"""
        SELECT count(*) FILTER (coalesce(is_current, true)), count(*)
        FROM chosen LEFT JOIN (
            SELECT chosen.key, chosen.version_id, chosen.etag, bool_or(there.is_latest) AS is_current,
                   min(epoch(there.last_modified)) AS modified
            FROM chosen JOIN there ON {_is_same("chosen", "there")} AND NOT there.is_delete_marker
            GROUP BY ALL
        ) AS found ON found.key = chosen.key AND found.etag = chosen.etag
            AND found.version_id IS NOT DISTINCT FROM chosen.version_id
        WHERE {COUNTS} AND greatest(proven_at, coalesce(modified, 0)) <= {older_than!r}
        """,
    )
    return Share(eligible[0], listed[0]), Share(eligible[1], listed[1])


def _one(connection: duckdb.DuckDBPyConnection, sql: str) -> Any:
    found: Any = connection.execute(sql).fetchall()
    return found[0]
