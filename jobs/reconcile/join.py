"""The full join of two inventory reports in DuckDB, with a category for each row.

It takes one pass. Rows that are the same, or excluded, fold into their counts. Every other row is
kept with what both sides say. So the memory is that of the join, which DuckDB spills to disk above
its limit.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import duckdb

from jobs.core.category import Category
from jobs.core.selection import OWN_OBJECT
from jobs.errors import ConfigError, ManifestError
from jobs.reconcile.join_side import JoinOptions, JoinSide, SideTotals
from jobs.reconcile.rules import CIRCUMSTANCE
from jobs.reconcile.rules_sql import AGE_STEP, SIDE_COLUMNS, judgements
from jobs.reconcile.stage import StagedReport
from jobs.tables import duck

MEMORY_LIMIT_BYTES = 640 << 20


def connect(scratch: Path, *, memory_limit_bytes: int = MEMORY_LIMIT_BYTES) -> duckdb.DuckDBPyConnection:
    """Open a connection that spills to `scratch` above the limit.

    The process itself needs about 100 MiB more.
    """
    return duck.connect(
        scratch,
        memory_limit=f"{memory_limit_bytes >> 20}MiB",
        threads=len(os.sched_getaffinity(0)),
        preserve_insertion_order=False,
    )


def join_reports(
    connection: duckdb.DuckDBPyConnection, source: StagedReport, destination: StagedReport, options: JoinOptions
) -> tuple[SideTotals, SideTotals]:
    """Fill the table `judged`, and `verdicts` (code, and the fields of a `Judgement`) that explains
    its codes.

    `judged` has the columns code, at_source, at_destination, rows, size_bytes, and those that
    `_judge` keeps (null for the categories same and excluded). A key (or version) that a report
    lists twice counts once, as the latest of its rows.

    Raises ManifestError for a report that cannot be read, or lacks columns that the comparison
    needs. Raises ConfigError when the memory limit is too low even with spilling.
    """
    for report in (source, destination):
        _check_fields(report, options)
    try:
        return _join(connection, source, destination, options)
    except duckdb.OutOfMemoryException as error:
        raise ConfigError("the join does not fit into its memory limit", advice=f"raise it ({error})") from error
    except duckdb.IOException as error:
        raise ConfigError("the join cannot use its scratch folder", advice=f"make room there ({error})") from error
    except (duckdb.InvalidInputException, duckdb.ConversionException) as error:
        raise ManifestError(
            f"the data files of {source.inventory.manifest} or {destination.inventory.manifest} cannot be read: "
            f"{' '.join(str(error).split())[:300]}",
            advice="have the inventories delivered again",
        ) from error


def _join(
    connection: duckdb.DuckDBPyConnection, source: StagedReport, destination: StagedReport, options: JoinOptions
) -> tuple[SideTotals, SideTotals]:
    codes = judgements()
    # As lists: hundreds of rows of constants take DuckDB ten times as long to plan.
    connection.execute(
        "CREATE TABLE verdicts AS SELECT unnest(?::USMALLINT[]) AS code, unnest(?::VARCHAR[]) AS category, "
        "unnest(?::VARCHAR[]) AS reason, unnest(?::VARCHAR[]) AS detail, unnest(?::BOOLEAN[]) AS is_finding, "
        "unnest(?::BOOLEAN[]) AS is_undated",
        [
            list(codes),
            [str(each.category) for each in codes.values()],
            [str(each.reason) for each in codes.values()],
            [each.detail for each in codes.values()],
            [each.is_finding for each in codes.values()],
            [each.is_undated for each in codes.values()],
        ],
    )
    sides = JoinSide(source, options, is_source=True), JoinSide(destination, options, is_source=False)
    totals = sides[0].totals(connection), sides[1].totals(connection)
    _judge(connection, sides[0], sides[1], options)
    if _has_repeats(connection, totals[0], totals[1], all_versions=options.rules.all_versions):
        connection.execute("DROP TABLE judged")
        unique = replace(sides[0], is_unique=True), replace(sides[1], is_unique=True)
        _judge(connection, unique[0], unique[1], options)
        kept = unique[0].totals(connection).rows, unique[1].totals(connection).rows
        totals = totals[0].without_repeats(kept[0]), totals[1].without_repeats(kept[1])
    own = _drop_own(connection)
    return totals[0].without_own(*own[0]), totals[1].without_own(*own[1])


def _judge(
    connection: duckdb.DuckDBPyConnection, source: JoinSide, destination: JoinSide, options: JoinOptions
) -> None:
    """Make the table `judged`.

    Its `joined` is the destination's key. The other columns are the source's, unless their names
    say otherwise. Of a row that is only at the destination, `version_id` is null and
    `is_delete_marker` is the destination's.
    """
    ours, theirs = source.joined("s"), destination.joined("d")

    def s(name: str) -> str:
        return ours.get(name, f"NULL::{_TYPES[name]}")

    def d(name: str) -> str:
        return theirs.get(name, f"NULL::{_TYPES[name]}")

    keep = {
        "at_source": "s.joined IS NOT NULL",
        "at_destination": "d.joined IS NOT NULL",
        "bytes": f"coalesce({s('size_bytes')}, {d('size_bytes')}, 0)",
        "joined": "coalesce(s.joined, d.joined)",
        "version_id": s("version_id"),
        "destination_version_id": d("version_id"),
        "is_latest": s("is_latest"),
        # Never one side's marker for the other's object: reports of current objects list none.
        "is_delete_marker": f"coalesce(CASE WHEN s.joined IS NOT NULL THEN {s('is_delete_marker')} "
        f"ELSE {d('is_delete_marker')} END, false)",
        **{f"source_{name}": s(name) for name in ("size_bytes", "etag", "modified_us")},
        **{f"destination_{name}": d(name) for name in ("size_bytes", "etag", "modified_us")},
        **{name: s(name) for name in ("storage_class", "replication", "checksum_kind", "checksum_value")},
    }
    versioned = " AND s.matched = d.matched" if options.rules.all_versions else ""
    join = f"({source.select()}) s FULL JOIN ({destination.select()}) d ON s.joined = d.joined{versioned}"
    # Columns that no side has need no GROUP BY.
    unknown = {name: value for name, value in keep.items() if value.startswith("NULL::")}
    known = {name: value for name, value in keep.items() if name not in unknown}
    judged = options.rules.select(join, ours, theirs, known)
    # Rows that are the same or excluded fold into one, since all that tells them apart is null. The
    # rules for them come first, and a row's code has the number of the rule that fits it.
    folded = {Category.SAME.value, Category.EXCLUDED.value}
    last_folded = max(number for number, rule in enumerate(CIRCUMSTANCE) if set(rule.when) & folded)
    kept = [
        f"CASE WHEN is_kept THEN {name} END AS {name}" if name not in _COUNTED else name
        for name in known
        if name != "bytes"
    ]
    columns = ", ".join([*kept, *(f"{value} AS {name}" for name, value in unknown.items())])
    connection.execute(
        f"CREATE TABLE judged AS SELECT code, {columns}, count(*) AS rows, sum(bytes)::BIGINT AS size_bytes "
        f"FROM (SELECT *, code % {AGE_STEP} > {last_folded} OR {_MAY_BE_OWN} AS is_kept FROM ({judged})) GROUP BY ALL"
    )


def _drop_own(connection: duckdb.DuckDBPyConnection) -> tuple[tuple[int, int], tuple[int, int]]:
    """Take Sealift's own objects out of `judged`. Returns their rows and bytes, of each side."""
    is_own = f"{_MAY_BE_OWN} AND regexp_matches(joined, {duck.quoted(OWN_OBJECT)})"
    [(ours, our_bytes, theirs, their_bytes)] = connection.execute(
        "SELECT count(*) FILTER (at_source), coalesce(sum(size_bytes) FILTER (at_source), 0), "
        "count(*) FILTER (at_destination), coalesce(sum(size_bytes) FILTER (at_destination), 0) "
        f"FROM judged WHERE {is_own}"
    ).fetchall()
    if ours or theirs:
        connection.execute(f"DELETE FROM judged WHERE {is_own}")
    return (ours, int(our_bytes)), (theirs, int(their_bytes))


_MAY_BE_OWN = "contains(joined, '.sealift/')"
_COUNTED = ("at_source", "at_destination")
_TYPES = {**SIDE_COLUMNS, "version_id": "VARCHAR", "is_latest": "BOOLEAN", "storage_class": "VARCHAR"}


def _has_repeats(
    connection: duckdb.DuckDBPyConnection, source: SideTotals, destination: SideTotals, *, all_versions: bool
) -> bool:
    """True if a report lists a key (or version) twice: then the join has more rows of a side, or a
    row twice.
    """
    counts = connection.execute(
        "SELECT sum(rows) FILTER (at_source), sum(rows) FILTER (at_destination), "
        "coalesce(max(rows) FILTER (joined IS NOT NULL), 1) FROM judged"
    ).fetchone()
    if counts is None or ((counts[0] or 0), (counts[1] or 0), counts[2]) != (source.rows, destination.rows, 1):
        return True
    twice = "SELECT 1 FROM judged WHERE joined IS NOT NULL GROUP BY joined, {} HAVING count(*) > 1 LIMIT 1"
    version = "coalesce(version_id, destination_version_id)" if all_versions else "NULL"
    return connection.execute(twice.format(version)).fetchone() is not None


def _check_fields(report: StagedReport, options: JoinOptions) -> None:
    needed = ["versionid"] if options.rules.all_versions else []
    if options.rules.all_versions or report.column("versionid"):
        needed += ["isdeletemarker", "islatest"]
    if missing := [field for field in needed if report.column(field) is None]:
        purpose = "--versions all" if options.rules.all_versions else "telling which version is current"
        raise ManifestError(
            f"{report.inventory.manifest} lacks the fields {', '.join(missing)}, which {purpose} needs",
            advice="use an inventory of all versions",
        )
