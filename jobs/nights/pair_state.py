"""What the state says of a pair: the objects that need somebody, and how much of it is proven."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.core.category import Category
from jobs.core.reasons import FAILURES, Reason
from jobs.ledger.ledger import Ledger
from jobs.nights.documents import Known, StageResult
from jobs.policy.coverage import Scope
from jobs.policy.model import Pair
from jobs.reconcile.run import fetch_differences

if TYPE_CHECKING:
    import duckdb

FIRST_KEYS, FIRST_RUNS = 10, 3
"""How many of the objects that are left, and of the runs that found them, a night names."""
BLOCKED = (*sorted(FAILURES), Reason.ARCHIVED, Reason.TOO_LARGE)
"""Why an object was not looked at or not copied, where somebody has to do something. What S3 refused
counts until a look gets it, the rest in the night that met it."""


async def ask_state(
    ledger: Ledger, pair: Pair, services: tuple[str, str], scope: Scope, since: float, days: int, compared: StageResult
) -> Known:
    """Ask the state, which has no objects that comparisons only found to be the same.

    `services`: those of source and destination now, as verdicts name them. `since`: when the night
    began, in epoch seconds. `days`: how long a read counts. `compared`: what the night's comparison
    came to.
    """
    from jobs.ledger.state_files import open_state
    from jobs.tables.duck import in_thread, parquet

    async with open_state(ledger) as database:
        differing = None
        if compared.run_id:
            differing = parquet(await fetch_differences(ledger, compared.run_id, database.files))
        at_source = "bool_or(source_last_modified IS NOT NULL AND NOT is_delete_marker) AS at_source"
        columns = {"key": "VARCHAR", "at_source": "BOOLEAN"}
        database.define("differing", columns, differing and f"(SELECT key, {at_source} FROM {differing} GROUP BY 1)")
        connection = database.connection
        return await in_thread(connection, _ask, connection, pair, services, scope, since, days, compared)


def _ask(
    connection: duckdb.DuckDBPyConnection,
    pair: Pair,
    services: tuple[str, str],
    scope: Scope,
    since: float,
    days: int,
    compared: StageResult,
) -> Known:
    from jobs.ledger.state import OVER

    is_due = f"(blocked IN ({_quoted(*FAILURES)}) OR epoch(blocked_at) >= {since:f})"
    is_blocked = f"coalesce(blocked IN ({_quoted(*BLOCKED)}) AND {is_due}, false)"
    connection.execute(
        "CREATE TEMP TABLE bad AS SELECT key, found_by, accepted_at IS NOT NULL AS is_accepted "
        f"FROM ({_rows(pair, services, scope, 'findings')}) "
        f"WHERE (finding IS NOT NULL AND NOT {OVER}) OR ({is_blocked})"
    )
    left, accepted = (
        connection.execute(f"SELECT count(DISTINCT key) FROM bad WHERE {condition}").fetchall()[0][0]
        for condition in ("NOT is_accepted", "is_accepted")
    )
    keys = f"SELECT DISTINCT key FROM bad WHERE NOT is_accepted ORDER BY key LIMIT {FIRST_KEYS}"
    runs = "SELECT found_by FROM bad WHERE NOT is_accepted AND found_by IS NOT NULL GROUP BY 1"
    runs += f" ORDER BY count(*) DESC, 1 LIMIT {FIRST_RUNS}"
    first, found_by = ([str(value) for (value,) in connection.execute(each).fetchall()] for each in (keys, runs))
    is_read = f"epoch(looked.read_at) >= {since - days * 86_400:f}"
    [(mended, wrong, read)] = connection.execute(
        f"""
        SELECT count(looked.checked_at) FILTER (NOT is_bad AND differs AND NOT is_deleted),
               count(*) FILTER (is_bad AND NOT differs), count(*) FILTER (NOT is_bad AND NOT is_deleted AND {is_read})
        FROM (
            SELECT bool_or(finding IS NOT NULL) AS is_bad, key IN (SELECT key FROM differing) AS differs,
                   key IN (SELECT key FROM differing WHERE NOT at_source) AS is_deleted,
                   arg_max(struct_pack(checked_at := coalesce(checked_at, read_at), read_at := read_at),
                           coalesce(modified, make_timestamptz(0))) AS looked
            FROM ({_rows(pair, services, scope, "state")}) WHERE NOT is_of_replica AND etag IS NOT NULL GROUP BY key
        )"""
    ).fetchall()
    checked = compared.counts.get(Category.SAME, 0) + mended - wrong
    objects = compared.source_objects
    checked, read = (min(max(count, 0), objects) for count in (checked, read))
    return Known(left, first, found_by, accepted, objects, checked, read, days)


def _rows(pair: Pair, services: tuple[str, str], scope: Scope, table: str) -> str:
    """SQL for the rows that a night judges. Those of the replica have the keys of their originals.

    What is known of a server with another address no look of this pair can end.
    """
    hot, replica = pair.destination, pair.replica
    ours, theirs = services
    places: list[tuple[str, str, str, str, str]] = [(ours, pair.source.bucket, hot.bucket, "", hot.prefix)]
    places += [(theirs, hot.bucket, replica.bucket, hot.prefix, "")] if replica else []
    rows = " UNION ALL ".join(
        f"SELECT * REPLACE (substr(key, {len(below) + 1}) AS key), {number == 1} AS is_of_replica FROM {table} "
        f"WHERE source_service = {_quoted(service)} AND source_bucket = {_quoted(source)} "
        f"AND copy_service = {_quoted(theirs)} AND copy_bucket = {_quoted(copy)} "
        f"AND starts_with(key, {_quoted(below)}) AND copy_key = {_quoted(before)} || key"
        for number, (service, source, copy, below, before) in enumerate(places)
    )
    inside, outside = (
        " OR ".join(f"starts_with(key, {_quoted(prefix)})" for prefix in prefixes) or "false"
        for prefixes in (scope.prefixes, scope.excluded)
    )
    return f"FROM ({rows}) WHERE ({inside}) AND NOT ({outside})"


def _quoted(*values: str) -> str:
    from jobs.tables.duck import quoted

    return ", ".join(quoted(str(value)) for value in values)
