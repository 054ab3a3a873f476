"""Verdicts of a comparison for the ledger's state: what is wrong, and what the state does not have yet.

What is the same and known already adds nothing. Of keys that the state doubts, or of which it has
other objects than the lists, all that the lists say is added, and which of its objects are gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.core.category import Category
from jobs.core.model import NULL_VERSION
from jobs.core.prefix_map import PrefixMap
from jobs.core.reasons import Reason
from jobs.core.run import RunSpec
from jobs.ledger.ledger import Ledger
from jobs.ledger.state import DOUBTS, comparison_verdicts_sql, gone_sql, verdict_places
from jobs.ledger.state_files import copy_verdicts, load_verdicts
from jobs.reconcile.findings import rows_sql
from jobs.reconcile.join import JoinSide, joined_sql
from jobs.tables.duck import quoted

if TYPE_CHECKING:
    import duckdb

_KNOWN = f"""copy_key AS joined, nullif(nullif(version_id, ''), {quoted(NULL_VERSION)}) AS version_id, etag,
    epoch_us(modified) // 1000000 AS modified_s, copy_version_id, copy_etag,
    epoch_us(copy_modified) // 1000000 AS copy_modified_s,
    {DOUBTS} AS is_doubted, CASE verdict WHEN 'accepted' THEN copy_etag IS NOT NULL
        ELSE verdict = 'bad' AND depth <> 'listed' AND code <> {quoted(Reason.COPY_MISSING)} END AS is_of_copy"""


async def load_known(
    connection: duckdb.DuckDBPyConnection,
    ledger: Ledger,
    spec: RunSpec,
    maps: PrefixMap,
    folder: Path,
    *,
    is_complete: bool,
) -> None:
    """Make the table `known` of what the state has of the objects of a comparison.

    `is_complete`: all of it, else what it has of keys with findings. Raises LedgerError and StoreError.
    """
    scope = [f"{name} = {value}" for name, value in verdict_places(spec).items()]
    scope += [maps.source_scope_sql("key"), f"copy_key = {maps.destination_sql('key')}"]
    made = "known", _KNOWN, " AND ".join(scope)
    await load_verdicts(ledger, connection, made, folder, only_open=not is_complete)


def write_verdicts(
    connection: duckdb.DuckDBPyConnection,
    sides: Sequence[JoinSide],
    spec: RunSpec,
    maps: PrefixMap,
    listed_at: tuple[float, float],
    path: Path,
    horizon_us: int,
    is_complete: bool,
) -> None:
    """Write the verdicts, if there are any. `connection` has the tables of `join_reports` and `load_known`.

    `listed_at`: when each list was made, in epoch seconds. `is_complete`: they list all objects, so what
    neither has is gone.
    """
    all_versions = sides[0].all_versions
    is_kept = f"({bool(spec.options.get('keeps_extra'))} AND category = '{Category.EXTRA}')"
    said = f"is_finding AND NOT {is_kept}"
    listed = rows_sql(maps, all_versions=all_versions)
    rows, gone = f"(FROM {listed} WHERE {said})", None
    if connection.execute("FROM known LIMIT 1").fetchone():
        _find_odd(connection, sides, is_complete=is_complete)
        odd = [replace(side, keys="odd") for side in sides]
        connection.execute(f"CREATE TABLE again AS {joined_sql(odd, horizon_us)}")
        again = rows_sql(maps, all_versions=all_versions, table="again")
        in_archive = f"category = '{Category.SAME}' AND destination_key IN (FROM odd)"
        rows = f"""(
            FROM {listed} WHERE ({said}) OR ({in_archive})
            UNION ALL BY NAME FROM {again} WHERE NOT is_finding)"""
        gone = gone_sql(spec, _gone_sql(maps, odd), min(listed_at)) if is_complete else None
    parts = [
        comparison_verdicts_sql(spec, rows, listed_at, all_versions=all_versions),
        *([gone] if gone else []),
    ]
    union = " UNION ALL BY NAME ".join(f"({part})" for part in parts)
    if not copy_verdicts(connection, union, path):
        path.unlink()


def _find_odd(connection: duckdb.DuckDBPyConnection, sides: Sequence[JoinSide], *, is_complete: bool) -> None:
    """Make the table `odd` of the keys of which the lists may say something new."""
    relation, is_new = "known k", "true"
    if is_complete:
        ours, theirs = map(_objects, sides)
        relation += f"""
            LEFT JOIN {ours} s ON s.joined = k.joined AND s.etag = k.etag AND s.modified_s = k.modified_s
            LEFT JOIN {theirs} d ON d.joined = k.joined AND d.etag = k.copy_etag AND d.modified_s = k.copy_modified_s"""
        is_new = "bool_and(s.joined IS NULL OR (k.copy_etag IS NOT NULL AND d.joined IS NULL))"
    connection.execute(
        f"CREATE TABLE odd AS SELECT k.joined FROM {relation} GROUP BY 1 HAVING bool_or(is_doubted) OR {is_new}"
    )


def _gone_sql(maps: PrefixMap, sides: Sequence[JoinSide]) -> str:
    """The objects of the state that the source does not list, but for what is about a copy that is still listed.

    That is what looks found, and what was accepted. Of an object whose content or time is not known any may be it.
    """
    ours, theirs = map(_objects, sides)
    return f"""(
        SELECT {maps.source_sql("joined")} AS key, joined AS copy_key, version_id, etag,
               make_timestamptz(modified_s * 1000000) AS modified, any_value(copy_version_id) AS copy_version_id,
               any_value(copy_etag) AS copy_etag, NULL AS copy_modified
        FROM (
            SELECT *, EXISTS (FROM {ours} s WHERE s.joined = k.joined AND coalesce(s.etag = k.etag, k.etag IS NOT NULL)
                              AND coalesce(s.modified_s = k.modified_s, true))
                   OR (is_of_copy AND EXISTS (
                           FROM {theirs} d WHERE d.joined = k.joined AND coalesce(d.etag = k.copy_etag, true)))
                   AS is_listed
            FROM (FROM known SEMI JOIN odd USING (joined)) k
        ) GROUP BY joined, version_id, etag, modified_s,
                   CASE WHEN etag IS NULL THEN coalesce(copy_version_id, copy_etag) END
        HAVING NOT bool_or(is_listed))"""


def _objects(side: JoinSide) -> str:
    """The objects of a list, without delete markers."""
    has = side.joined("o")
    return f"""(SELECT o.joined, {has["etag"]} AS etag, {has["modified_us"]} // 1000000 AS modified_s
                FROM ({side.select()}) o WHERE NOT coalesce({has["is_delete_marker"]}, false))"""
