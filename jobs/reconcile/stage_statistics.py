"""What the files of a staged report say of themselves, so that nobody has to read them for it.

Imports duckdb: import this module where it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb

if TYPE_CHECKING:
    from jobs.reconcile.stage import StagedReport


def statistics(
    connection: duckdb.DuckDBPyConnection, staged: StagedReport
) -> tuple[int, dict[str, tuple[str, str, int]]]:
    """(rows, column → (min, max, values that are not null)), for the columns that have statistics.

    Reading a column of all rows would take a good part of the time that the join takes.
    """
    paths = _paths(staged)
    row = connection.execute(f"SELECT sum(num_rows) FROM parquet_file_metadata({paths})").fetchone()
    told = connection.execute(
        f"""
        SELECT path_in_schema, min(stats_min_value), max(stats_max_value),
               sum(num_values - stats_null_count)::BIGINT
        FROM parquet_metadata({paths}) GROUP BY 1
        HAVING bool_and(stats_null_count IS NOT NULL
                        AND (stats_null_count = num_values OR stats_min_value IS NOT NULL))
        """
    ).fetchall()
    return int(row[0] or 0) if row else 0, {name: (low, high, known) for name, low, high, known in told}


def scanned(connection: duckdb.DuckDBPyConnection, staged: StagedReport, name: str) -> tuple[str, str, int]:
    """The same of one column, read."""
    column = staged.column(name)
    row = connection.execute(f"SELECT min({column}), max({column}), count({column}) FROM {staged.relation}").fetchone()
    return row or ("", "", 0)


def has_no_key(connection: duckdb.DuckDBPyConnection, staged: StagedReport) -> bool:
    """Whether a row may have no key, by the files' own statistics."""
    row = connection.execute(
        f"SELECT sum(coalesce(stats_null_count, 1)) FROM parquet_metadata({_paths(staged)}) WHERE path_in_schema = ?",
        [staged.columns["key"]],
    ).fetchone()
    return bool(row and row[0])


def _paths(staged: StagedReport) -> str:
    return staged.relation.removeprefix("read_parquet(").rpartition(", ")[0]


def newest_modified(connection: duckdb.DuckDBPyConnection, staged: StagedReport) -> float | None:
    """When the newest object of the report was modified (epoch seconds); None where it does not say."""
    column = staged.column("lastmodifieddate")
    if column is None:
        return None
    row = connection.execute(f"SELECT epoch(max({column})) FROM {staged.relation}").fetchone()
    return None if row is None else row[0]
