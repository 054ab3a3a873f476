"""What the state says of a pair: the objects that need somebody, and how much of it is proven."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.core.reasons import FAILURES, Reason
from jobs.ledger.ledger import Ledger
from jobs.nights.documents import Known
from jobs.policy.coverage import Scope
from jobs.policy.model import Pair

if TYPE_CHECKING:
    import duckdb

FIRST_KEYS, FIRST_RUNS = 10, 3
"""How many of the objects that are left, and of the runs that found them, a night names."""
BLOCKED = (*sorted(FAILURES), Reason.ARCHIVED, Reason.TOO_LARGE)
"""Why an object was not looked at or not copied, where somebody has to do something. What S3 refused
counts until a look gets it, the rest in the night that met it."""


async def ask_state(
    ledger: Ledger, pair: Pair, services: tuple[str, str], scope: Scope, since: float, days: int
) -> Known:
    """Ask the state.

    `services`: those of source and destination now, as verdicts name them. `since`: when the night
    began, in epoch seconds. `days`: how long a read counts.
    """
    from jobs.ledger.state_files import open_state
    from jobs.tables.duck import in_thread

    async with open_state(ledger) as database:
        return await in_thread(database.connection, _ask, database.connection, pair, services, scope, since, days)


def _ask(
    connection: duckdb.DuckDBPyConnection,
    pair: Pair,
    services: tuple[str, str],
    scope: Scope,
    since: float,
    days: int,
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
    is_read = f"epoch(read_at) >= {since - days * 86_400:f}"
    [(objects, checked, read)] = connection.execute(
        "SELECT count(*), count(coalesce(checked_at, read_at)) FILTER (finding IS NULL), "
        f"count(*) FILTER (finding IS NULL AND {is_read}) "
        f"FROM ({_rows(pair, services, scope, 'state')}) WHERE NOT is_of_replica AND etag IS NOT NULL"
    ).fetchall()
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
