"""Findings of a join: the differences, and manifests for the repair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb

from jobs.core.category import REPAIRABLE, Category
from jobs.core.prefix_map import PrefixMap
from jobs.core.words import explained_sql
from jobs.reconcile.rules import COMPOSITE
from jobs.tables.duck import harmless_columns, parquet, quoted
from jobs.tables.rows import manifest_schema

WORST_PREFIXES = 20
PREFIX_DEPTH = 3
"""The number of folders of a key that make the prefix by which findings are counted."""


def write_findings(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    rows: str,
    repairs_different: bool,
    excluded: tuple[int, int],
) -> dict[str, Any]:
    """Write `differences.parquet`, `differences.csv`, `repair.parquet` and `different.parquet` into
    the folder, and count.

    `connection` has the tables of `join.join_reports`, `rows` is `rows_sql`. Differences have a row
    for each key (or version) that is neither the same nor excluded, by key. In the CSV a key that a
    spreadsheet would take for a formula begins with `'`, control characters are escapes, and the
    column `escaped` says so. The Parquet file has keys as they are. The repair looks at all that a
    copy may mend. It overwrites what is different and newer if it `repairs_different`. `excluded`:
    rows and bytes that the join left out. Returns what a report says of the findings.
    """
    file = folder / "differences.parquet"
    order = "ORDER BY key, version_id, destination_version_id"
    connection.execute(
        f"COPY (SELECT * EXCLUDE (evidence) FROM {rows} WHERE category <> '{Category.SAME}' {order}) "
        f"TO {quoted(file)} (FORMAT parquet, COMPRESSION zstd)"
    )
    safe, escaped = harmless_columns("key", "destination_key")
    connection.execute(
        "COPY (SELECT * EXCLUDE (detail, checksum_kind, checksum_value, is_latest) "
        f"REPLACE ({safe}, {explained_sql()} AS reason), {escaped} AS escaped FROM {parquet(file)} {order}) "
        f"TO {quoted(folder / 'differences.csv')} (FORMAT csv, HEADER, FORCE_QUOTE (key, destination_key, reason))"
    )
    manifests = {"repair.parquet": (REPAIRABLE, repairs_different), "different.parquet": ({Category.DIFFERENT}, True)}
    for name, (chosen, overwrites) in manifests.items():
        categories = ", ".join(map(quoted, sorted(chosen)))
        connection.execute(
            f"COPY (SELECT {_manifest_columns(overwrites)} FROM {parquet(file)} WHERE category IN ({categories}) "
            f"ORDER BY key, last_modified, version_id) TO {quoted(folder / name)} (FORMAT parquet, COMPRESSION zstd)"
        )
    return _counted(connection, file, excluded)


def rows_sql(prefixes: PrefixMap, *, all_versions: bool, table: str = "joined") -> str:
    """Return the rows of a table of the join but excluded ones as a relation.

    `evidence`: what proves the category. It is at rest where it is a checksum.
    """
    return f"""(
        SELECT {prefixes.source_sql("joined")} AS key, joined AS destination_key, version_id, destination_version_id,
               category, reason, detail, is_finding, source_size_bytes, destination_size_bytes, source_etag,
               destination_etag, make_timestamptz(source_modified_us) AS source_last_modified,
               make_timestamptz(destination_modified_us) AS destination_last_modified, storage_class,
               is_delete_marker, {"is_latest" if all_versions else "true"} AS is_latest,
               replication AS replication_status, checksum_kind, checksum_value, evidence
        FROM {table} JOIN verdicts USING (code) WHERE category <> '{Category.EXCLUDED}')"""


def _manifest_columns(overwrites: bool) -> str:
    """The columns of a manifest for a replicate run. `overwrites`: different rows have their
    destination condemned.
    """
    condemned = f"CASE WHEN category = '{Category.DIFFERENT}' THEN destination_etag END"
    columns = {
        "size_bytes": "source_size_bytes",
        "etag": "source_etag",
        "last_modified": "source_last_modified",
        "is_latest": "coalesce(is_latest, true)",
        "condemned_etag": condemned if overwrites else "NULL::VARCHAR",
        **dict.fromkeys(("damaged_etag", "source_attested", "destination_attested", "archive"), "NULL::VARCHAR"),
        "known_checksum": f"CASE WHEN NOT starts_with(checksum_kind, '{COMPOSITE}') "
        "THEN checksum_kind || ':' || checksum_value END",
    }
    return ", ".join(f"{columns.get(name, name)} AS {name}" for name in manifest_schema().names)


def _counted(connection: duckdb.DuckDBPyConnection, differences: Path, excluded: tuple[int, int]) -> dict[str, Any]:
    counts = connection.execute(
        "SELECT category, reason, detail, is_finding, sum(rows)::BIGINT AS rows, sum(size_bytes)::BIGINT, "
        "coalesce(sum(rows) FILTER (at_source AND NOT is_delete_marker), 0)::BIGINT "
        "FROM joined JOIN verdicts USING (code) GROUP BY ALL ORDER BY 5 DESC, 1, 2, 3"
    ).fetchall()
    categories = {str(name): {"rows": 0, "bytes": 0} for name in Category}
    for name, rows, size_bytes in [(Category.EXCLUDED, *excluded), *((each[0], *each[4:6]) for each in counts)]:
        categories[name]["rows"] += rows
        categories[name]["bytes"] += size_bytes
    shown = {Category.UNVERIFIABLE, Category.IN_FLIGHT, Category.SAME}
    folders = f"regexp_extract(key, '^(?:[^/]*/){{0,{PREFIX_DEPTH}}}')"
    prefixes = connection.execute(
        f"SELECT {folders}, count(*), sum(coalesce(source_size_bytes, destination_size_bytes, 0))::BIGINT "
        f"FROM {parquet(differences)} WHERE is_finding GROUP BY 1 ORDER BY 2 DESC, 3 DESC, 1 LIMIT {WORST_PREFIXES}"
    ).fetchall()
    return {
        "categories": categories,
        "findings": sum(rows for _, _, _, is_finding, rows, _, _ in counts if is_finding),
        # Not by category: what is only at the destination and young is in flight as well.
        "source_rows": sum(each[-1] for each in counts if each[0] != Category.EXCLUDED),
        "unjudged": [
            {"reason": reason, "detail": detail, "rows": rows}
            for name, reason, detail, _, rows, *_ in counts
            if reason and name in shown
        ],
        "prefixes": [{"prefix": p, "category": None, "rows": rows, "bytes": size} for p, rows, size in prefixes],
    }
