"""Findings of a join: the differences, and a manifest for the repair."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from jobs.core.category import Category
from jobs.core.prefix_map import PrefixMap
from jobs.core.reasons import Reason
from jobs.core.words import explained_sql
from jobs.reconcile.rules_sql import COMPOSITE
from jobs.tables.duck import harmless_columns, parquet, quoted
from jobs.tables.rows import manifest_schema

WORST_PREFIXES = 20
PREFIX_DEPTH = 3
"""The number of folders of a key that make the prefix by which findings are counted."""

AGES = (
    (3600, "under an hour"),
    (86_400, "under a day"),
    (7 * 86_400, "under a week"),
    (30 * 86_400, "under 30 days"),
    (365 * 86_400, "under a year"),
)
_OLDEST = "a year or more"
SIZES = (
    (1, "empty"),
    (128 << 10, "under 128 KiB"),
    (1 << 20, "under 1 MiB"),
    (16 << 20, "under 16 MiB"),
    (128 << 20, "under 128 MiB"),
    (1 << 30, "under 1 GiB"),
    (5 << 30, "under 5 GiB"),
)
_LARGEST = "5 GiB or more"
UNKNOWN = "unknown"
REPAIRED = (Category.MISSING, Category.STALE)


@dataclass(frozen=True, slots=True)
class BreakdownLine:
    """A line of a breakdown: its label, the number of keys (or versions), their bytes."""

    label: str
    rows: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Findings:
    """The counts of what was written. See `jobs.reconcile.reconcile.Reconciliation`."""

    categories: dict[Category, tuple[int, int]]
    findings: int
    repairable_rows: int
    source_rows: int
    by_reason: tuple[tuple[Category, str, str, int], ...]
    by_prefix: tuple[BreakdownLine, ...]
    by_age: tuple[BreakdownLine, ...]
    by_size: tuple[BreakdownLine, ...]


def write_findings(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    prefixes: PrefixMap,
    *,
    all_versions: bool,
    now: float,
    repaired: Collection[Category] = REPAIRED,
) -> Findings:
    """Write `differences.parquet`, `differences.csv`, `manifest.parquet` and `different.parquet`
    into the folder, and count.

    `connection` has the tables of `join.join_reports`. Differences have a row for each key (or
    version) that is neither the same nor excluded, by key. In the CSV a key that a spreadsheet
    would take for a formula begins with `'`, control characters are escapes, and the column
    `escaped` says so. The Parquet file has keys as they are.
    """
    connection.execute(_differences_sql(prefixes, all_versions=all_versions))
    connection.execute(
        "COPY (SELECT * EXCLUDE (is_undated) FROM differences ORDER BY key, version_id, destination_version_id) "
        f"TO {quoted(folder / 'differences.parquet')} (FORMAT parquet, COMPRESSION zstd)"
    )
    safe, escaped = harmless_columns("key", "destination_key")
    connection.execute(
        "COPY (SELECT * EXCLUDE (detail, checksum_kind, checksum_value, is_latest, rows) "
        f"REPLACE ({safe}, {explained_sql()} AS reason), {escaped} AS escaped "
        f"FROM {parquet(folder / 'differences.parquet')} "
        "ORDER BY key, version_id, destination_version_id) "
        f"TO {quoted(folder / 'differences.csv')} (FORMAT csv, HEADER, FORCE_QUOTE (key, destination_key, reason))"
    )
    manifests = {"manifest.parquet": repaired, "different.parquet": (Category.DIFFERENT,)}
    for name, chosen in manifests.items():
        connection.execute(
            f"COPY ({_manifest_sql(chosen)}) TO {quoted(folder / name)} (FORMAT parquet, COMPRESSION zstd)"
        )
    return _counted(connection, now, repaired)


def write_unparsed(
    connection: duckdb.DuckDBPyConnection, folder: Path, *, limit: int
) -> tuple[int, list[tuple[Any, ...]]]:
    """Write the unparsed rows, if any, to `unparsed.parquet`.

    Returns their number and the first of them.
    """
    order = "ORDER BY report, file, line, row"
    rows = int((connection.execute("SELECT count(*) FROM unparsed").fetchone() or (0,))[0])
    if rows:
        connection.execute(
            f"COPY (FROM unparsed {order}) TO {quoted(folder / 'unparsed.parquet')} (FORMAT parquet, COMPRESSION zstd)"
        )
    return rows, connection.execute(f"FROM unparsed {order} LIMIT {limit}").fetchall()


def _differences_sql(prefixes: PrefixMap, *, all_versions: bool) -> str:
    def time(name: str) -> str:
        return f"make_timestamptz({name}_modified_us) AS {name}_last_modified"

    return f"""
        CREATE TEMP VIEW differences AS
        SELECT {prefixes.source_sql("joined")} AS key, joined AS destination_key, version_id, destination_version_id,
               category, reason, detail, is_finding, is_undated, source_size_bytes, destination_size_bytes,
               source_etag, destination_etag,
               {time("source")}, {time("destination")}, storage_class, is_delete_marker,
               {"is_latest" if all_versions else "true"} AS is_latest, replication AS replication_status,
               checksum_kind, checksum_value, rows
        FROM judged JOIN verdicts USING (code)
        WHERE category NOT IN ('{Category.SAME}', '{Category.EXCLUDED}')
    """


def _manifest_sql(repaired: Collection[Category]) -> str:
    """Select what to repair, as a manifest for a replicate run.

    Different rows have their destination condemned, and so have copies of older versions on top. So
    have rows of unknown age where different ones are repaired.
    """
    condemned = f"category = '{Category.DIFFERENT}' OR reason = '{Reason.OLDER_ON_TOP}'"
    if Category.DIFFERENT in repaired:
        condemned += " OR is_undated"
    columns = {
        "size_bytes": "source_size_bytes",
        "etag": "source_etag",
        "last_modified": "source_last_modified",
        "is_latest": "coalesce(is_latest, true)",
        "condemned_etag": f"CASE WHEN {condemned} THEN destination_etag END",
        "damaged_etag": "NULL::VARCHAR",
        "source_attested": "NULL::VARCHAR",
        "destination_attested": "NULL::VARCHAR",
        "archive": "NULL::VARCHAR",
        "known_checksum": f"CASE WHEN NOT starts_with(checksum_kind, '{COMPOSITE}') "
        "THEN checksum_kind || ':' || checksum_value END",
    }
    names = ", ".join(f"{columns.get(name, name)} AS {name}" for name in manifest_schema().names)
    return f"SELECT {names} FROM differences WHERE {_is_repaired(repaired)} ORDER BY key, last_modified, version_id"


def _is_repaired(categories: Collection[Category]) -> str:
    return f"category IN ({', '.join(map(quoted, sorted(categories)))})"


def _counted(connection: duckdb.DuckDBPyConnection, now: float, repaired: Collection[Category]) -> Findings:
    def query(sql: str) -> list[tuple[Any, ...]]:
        return connection.execute(sql).fetchall()

    categories = dict.fromkeys(Category, (0, 0))
    for name, rows, size_bytes in query(
        "SELECT category, sum(rows), sum(size_bytes) FROM judged JOIN verdicts USING (code) GROUP BY 1"
    ):
        categories[Category(name)] = int(rows), int(size_bytes)
    size = "coalesce(source_size_bytes, destination_size_bytes)"
    folders = f"(regexp_extract(key, '^(?:[^/]*/){{0,{PREFIX_DEPTH}}}'))"
    missing = f"FROM differences WHERE category = '{Category.MISSING}' GROUP BY 1"
    age = f"{now} - epoch(source_last_modified)"
    return Findings(
        categories=categories,
        findings=query("SELECT count(*) FROM differences WHERE is_finding")[0][0],
        repairable_rows=query(f"SELECT count(*) FROM differences WHERE {_is_repaired(repaired)}")[0][0],
        # Not by category: what is only at the destination and young is in flight as well.
        source_rows=query(
            "SELECT coalesce(sum(rows), 0)::BIGINT FROM judged JOIN verdicts USING (code) "
            f"WHERE at_source AND NOT coalesce(is_delete_marker, false) AND category <> '{Category.EXCLUDED}'"
        )[0][0],
        by_reason=tuple(
            (Category(category), reason, detail, int(rows))
            for category, reason, detail, rows in query(
                "SELECT category, reason, detail, sum(rows) FROM judged JOIN verdicts USING (code) WHERE reason <> '' "
                "GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2, 3"
            )
        ),
        by_prefix=_lines(
            query(
                f"SELECT {folders}, count(*), sum({size}) FROM differences WHERE is_finding GROUP BY 1 "
                f"ORDER BY 2 DESC, 3 DESC NULLS LAST, 1 LIMIT {WORST_PREFIXES}"
            )
        ),
        by_age=_ordered(query(f"SELECT {_label(age, AGES, _OLDEST)}, count(*), sum({size}) {missing}"), AGES, _OLDEST),
        by_size=_ordered(
            query(f"SELECT {_label(size, SIZES, _LARGEST)}, count(*), sum({size}) {missing}"), SIZES, _LARGEST
        ),
    )


def _label(value: str, bounds: Sequence[tuple[int, str]], beyond: str) -> str:
    whens = " ".join(f"WHEN {value} < {bound} THEN '{label}'" for bound, label in bounds)
    return f"CASE WHEN {value} IS NULL THEN '{UNKNOWN}' {whens} ELSE '{beyond}' END"


def _lines(rows: Sequence[tuple[Any, ...]]) -> tuple[BreakdownLine, ...]:
    return tuple(BreakdownLine(label, int(count), int(size_bytes or 0)) for label, count, size_bytes in rows)


def _ordered(
    rows: Sequence[tuple[Any, ...]], bounds: Sequence[tuple[int, str]], beyond: str
) -> tuple[BreakdownLine, ...]:
    """Return all lines of a histogram, from small to large, also empty ones.

    `unknown` only if it has rows.
    """
    lines = {line.label: line for line in _lines(rows)}
    labels = [*(label for _, label in bounds), beyond, *([UNKNOWN] if UNKNOWN in lines else [])]
    return tuple(lines.get(label, BreakdownLine(label, 0, 0)) for label in labels)
