"""What a comparison finds: the files of its differences, and its verdicts for the ledger's state.

Verdicts say what is wrong, and what the state does not have yet. What is the same and known already
adds nothing. If the state doubts a key, or has other objects of it than the lists have, then all that
the lists say of the key is added, and which objects are gone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from jobs.core.category import REPAIRABLE, Category
from jobs.core.model import NULL_VERSION
from jobs.core.reasons import Reason
from jobs.core.run import RunSpec
from jobs.errors import LedgerError
from jobs.ledger.ledger import Ledger
from jobs.ledger.state import COMPLETE, DOUBTS, comparison_verdicts_sql, gone_sql, verdict_places
from jobs.ledger.state_files import NO_VERDICTS, copy_verdicts, known_verdicts, readable
from jobs.reconcile.join import JoinSide
from jobs.reconcile.rules import COMPOSITE
from jobs.runs.folding import write_csv
from jobs.tables.duck import MEMORY_LIMIT, connect, in_thread, parquet, quoted
from jobs.tables.rows import manifest_schema

FIRST_ROWS = 1_000
"""So many findings are looked at for a page."""
WORST_PREFIXES = 20
PREFIX_DEPTH = 3
"""The number of folders of a key that make the prefix by which findings are counted."""
_KNOWN = f"""key, copy_key AS joined, nullif(nullif(version_id, ''), {quoted(NULL_VERSION)}) AS version_id, etag,
    epoch_us(modified) // 1000000 AS modified_s, copy_version_id, copy_etag,
    epoch_us(copy_modified) // 1000000 AS copy_modified_s,
    {DOUBTS} AS is_doubted, CASE verdict WHEN 'accepted' THEN copy_etag IS NOT NULL
        ELSE verdict = 'bad' AND depth <> 'listed' AND code <> {quoted(Reason.COPY_MISSING)} END AS is_of_copy"""
_GONE = """(
    SELECT key, joined AS copy_key, version_id, etag, make_timestamptz(modified_s * 1000000) AS modified,
           any_value(copy_version_id) AS copy_version_id, any_value(copy_etag) AS copy_etag, NULL AS copy_modified
    FROM (
        SELECT *, EXISTS (FROM joined s WHERE s.joined = k.joined AND s.at_source
                          AND coalesce(s.source_etag = k.etag, k.etag IS NOT NULL)
                          AND coalesce(s.source_modified_us // 1000000 = k.modified_s, true))
               OR (is_of_copy AND EXISTS (FROM joined d WHERE d.joined = k.joined AND d.at_destination
                                          AND coalesce(d.destination_etag = k.copy_etag, true))) AS is_listed
        FROM (FROM known SEMI JOIN odd USING (joined)) k
    ) GROUP BY key, joined, version_id, etag, modified_s,
               CASE WHEN etag IS NULL THEN coalesce(copy_version_id, copy_etag) END
    HAVING NOT bool_or(is_listed))"""
"""SQL: the objects of the state that the source does not list, but for what is about a copy that is still listed.

These are findings of looks, and what was accepted. If the state has no ETag or time of an object, any object may be it.
"""


def write_findings(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    repairs_different: bool,
    excluded: tuple[int, int],
) -> dict[str, Any]:
    """Write `differences.parquet`, `differences.csv`, `repair.parquet` and `different.parquet` into
    the folder, and count.

    `connection` has the tables of `join.join_reports`. Differences have a row
    for each key (or version) that is neither the same nor excluded, by key. In the CSV a key that a
    spreadsheet would take for a formula begins with `'`, control characters are escapes, and the
    column `escaped` says so. The Parquet file has keys as they are. The repair looks at all that a
    copy may mend. It overwrites what is different and newer if it `repairs_different`. `excluded`:
    rows and bytes that the join left out. Returns what a report says of the findings.
    """
    file = folder / "differences.parquet"
    order = "ORDER BY key, version_id, destination_version_id"
    connection.execute(
        f"COPY (SELECT * EXCLUDE (evidence) FROM compared WHERE category <> '{Category.SAME}' {order}) "
        f"TO {quoted(file)} (FORMAT parquet, COMPRESSION zstd)"
    )
    shown = f"(SELECT * EXCLUDE (checksum_kind, checksum_value, is_latest) FROM {parquet(file)} {order})"
    write_csv(connection, shown, folder / "differences.csv", "key", "destination_key")
    different, repaired = Category.DIFFERENT, Category.DIFFERENT if repairs_different else ""
    manifests = ("repair.parquet", REPAIRABLE, repaired), ("different.parquet", {different}, different)
    for name, chosen, condemned in manifests:
        categories = ", ".join(map(quoted, sorted(chosen)))
        connection.execute(
            f"COPY (SELECT {_manifest_columns(condemned)} FROM {parquet(file)} WHERE category IN ({categories}) "
            f"ORDER BY key, last_modified, version_id) TO {quoted(folder / name)} (FORMAT parquet, COMPRESSION zstd)"
        )
    return _counted(connection, file, excluded)


def _manifest_columns(condemned: str) -> str:
    """The columns of a manifest for a replicate run. `condemned`: the category that condemns the destination."""
    columns = {
        "size_bytes": "source_size_bytes",
        "etag": "source_etag",
        "last_modified": "source_last_modified",
        "is_latest": "coalesce(is_latest, true)",
        "condemned_etag": f"CASE WHEN category = '{condemned}' THEN destination_etag END",
        **dict.fromkeys(("damaged_etag", "archive"), "NULL::VARCHAR"),
        "known_checksum": f"CASE WHEN NOT starts_with(checksum_kind, '{COMPOSITE}') "
        "THEN checksum_kind || ':' || checksum_value END",
    }
    return ", ".join(f"{columns.get(name, name)} AS {name}" for name in manifest_schema().names)


def _counted(connection: duckdb.DuckDBPyConnection, differences: Path, excluded: tuple[int, int]) -> dict[str, Any]:
    counts = connection.execute(
        "SELECT category, reason, detail, is_finding, sum(rows)::BIGINT AS rows, sum(size_bytes)::BIGINT, "
        "coalesce(sum(rows) FILTER (at_source), 0)::BIGINT "
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


def first_findings(differences: Path, condition: str = "is_finding") -> list[dict[str, Any]]:
    """The first findings of a file of differences, as its page lists them. `condition`: or other rows."""
    with connect(differences.parent, memory_limit=MEMORY_LIMIT) as connection:
        rows = connection.sql(f"FROM {parquet(differences)} WHERE {condition} LIMIT {FIRST_ROWS}")
        found: list[dict[str, Any]] = rows.to_arrow_table().to_pylist()
        return found


async def load_known(
    connection: duckdb.DuckDBPyConnection,
    ledger: Ledger,
    spec: RunSpec,
    sides: Sequence[JoinSide],
    folder: Path,
) -> None:
    """Make the table `known` of what the state has of the objects of a comparison, and the table `odd` of the
    keys of which the lists may say something new.

    It has all of them, or those of keys with findings where the lists are not complete (`jobs.reconcile.run`). It is
    empty where the state cannot be read. Raises StoreError, and ConfigError without room on disk.
    """
    maps, is_complete = sides[0].prefixes, spec.options.get(COMPLETE)
    scope = [f"{name} = {value}" for name, value in verdict_places(spec).items()]
    scope += [maps.scope_sql("key"), f"copy_key = {maps.destination_sql('key')}"]
    connection.execute(f"CREATE TABLE known AS SELECT {_KNOWN} FROM {NO_VERDICTS}")
    with contextlib.suppress(LedgerError), readable(ledger, folder):  # who reads the state itself says so
        verdicts, _ = await known_verdicts(ledger, connection, folder, only_open=not is_complete)
        sql = f"INSERT INTO known SELECT {_KNOWN} FROM {verdicts} WHERE {' AND '.join(scope)}"
        await in_thread(connection, connection.execute, sql)
    relation, is_new = "known k", "true"
    if is_complete and connection.execute("FROM known LIMIT 1").fetchone():
        relation += f"""
            LEFT JOIN {sides[0].objects()} s ON s.joined = k.joined AND s.etag = k.etag AND s.modified_s = k.modified_s
            LEFT JOIN {sides[1].objects()} d
                ON d.joined = k.joined AND d.etag = k.copy_etag AND d.modified_s = k.copy_modified_s"""
        is_new = "bool_and(s.joined IS NULL OR (k.copy_etag IS NOT NULL AND d.joined IS NULL))"
    odd = f"CREATE TABLE odd AS SELECT k.joined FROM {relation} GROUP BY 1 HAVING bool_or(is_doubted) OR {is_new}"
    await in_thread(connection, connection.execute, odd)


def write_verdicts(
    connection: duckdb.DuckDBPyConnection,
    spec: RunSpec,
    listed_at: tuple[float, float],
    path: Path,
) -> None:
    """Write the verdicts, if there are any. `connection` has the tables `known` and `odd`, and those of the join.

    `listed_at`: when each list was made, in epoch seconds. What neither has is gone if they are complete.
    """
    is_kept = f"({bool(spec.options.get('keeps_extra'))} AND category = '{Category.EXTRA}')"
    rows = f"(FROM compared WHERE CASE WHEN is_finding THEN NOT {is_kept} ELSE destination_key IN (FROM odd) END)"
    parts = [comparison_verdicts_sql(spec, rows, listed_at)]
    if spec.options.get(COMPLETE):
        parts.append(gone_sql(spec, _GONE, min(listed_at)))
    if not copy_verdicts(connection, " UNION ALL BY NAME ".join(f"({part})" for part in parts), path):
        path.unlink()
