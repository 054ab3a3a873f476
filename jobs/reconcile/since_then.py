"""What is left by now of the bad rows of a run, or of a comparison's findings, by the ledger's state.

The terminal, `--json` and the page that a person asks for now show the same. A page in the ledger
is written once, when its run ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from jobs.core.category import Category
from jobs.core.run import RunSpec
from jobs.errors import NotFound
from jobs.ledger.ledger import UNDONE, Ledger
from jobs.ledger.state import BAD, OPEN, OVER
from jobs.ledger.state_files import is_known
from jobs.ledger.views import open_views
from jobs.reconcile.findings import FIRST_ROWS
from jobs.reconcile.run import fetch_differences
from jobs.reports.document import findings_count
from jobs.reports.figures import human_time, plural
from jobs.runs.folding import first_failures
from jobs.runs.standing import standing_rows, stands_sql
from jobs.tables.duck import in_thread, parquet, quoted


async def since_then(ledger: Ledger, spec: RunSpec, report: Mapping[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """The keys that are added to the report of a run by now, and the first of its bad rows that are left.

    No keys where nothing is better than the report says.
    """
    names, more = await ledger.names(spec.run_id, UNDONE), dict[str, Any]()
    if undone := [await ledger.document(spec.run_id, UNDONE + name) for name in names]:
        more = {"undone": undone, "next_steps": list(map(_undone_text, undone))}
    if not findings_count(report):
        return more, []
    with tempfile.TemporaryDirectory(prefix="sealift-since-") as folder, contextlib.suppress(NotFound):
        if "categories" in report:
            repaired, rows = await find_repaired(ledger, spec, report["finished_at"], Path(folder))
            left, since = repaired["left"], {"repaired": repaired}
        else:
            file, counted = await standing_rows(ledger, spec, report["finished_at"], Path(folder), OPEN)
            left, rows = counted["rows"], await asyncio.to_thread(first_failures, file)
            since = {"since_then": {"left": left, "is_repaired": not left}}
        if undone or left >= findings_count(report):
            return more, rows
        return since | ({} if left else {"next_steps": []}), rows  # they would be out of date
    return more, []  # the file of bad rows has expired


def since_lines(document: Mapping[str, Any]) -> list[str]:
    """What `since_then` has added to a report of a run, for a terminal."""
    lines = [_undone_text(each) for each in document.get("undone", ())]
    if since := document.get("since_then"):
        lines.append(f"{since['left']:,} of {document['failures']:,} are left" if since["left"] else "none is left")
    return [f"  since then   {line}" for line in lines]


def _undone_text(undone: Mapping[str, Any]) -> str:
    return f"An undo removed {plural(undone['markers'], 'delete marker')} at {human_time(undone['at'])}"


async def find_repaired(ledger: Ledger, spec: RunSpec, ended_at: str, folder: Path) -> tuple[dict[str, Any], list[Any]]:
    """The key `repaired` of a comparison's report, and the first findings that are left.

    A finding is left if the state has one of its objects by now. Else it is repaired, or its source
    object is gone. All are left if the state does not know the comparison. `ended_at`: the report's
    `finished_at`.
    """
    differences = await fetch_differences(ledger, spec.run_id, folder)
    knows = await is_known(ledger, spec.run_id, datetime.fromisoformat(ended_at).timestamp())
    async with open_views(ledger, ["findings"]) as database:
        return await in_thread(database.connection, _repaired, database.connection, spec, differences, knows)


def _repaired(
    connection: duckdb.DuckDBPyConnection, spec: RunSpec, differences: Path, knows: bool
) -> tuple[dict[str, Any], list[Any]]:
    stands = stands_sql(spec, f"{BAD} AND NOT {OVER}", "failed.destination_key")
    is_kept = f"{bool(spec.options.get('keeps_extra'))} AND category = {quoted(Category.EXTRA)}"
    connection.execute(
        f"CREATE TEMP TABLE compared AS SELECT *, {not knows} OR {stands} OR ({is_kept}) AS is_left "
        f"FROM {parquet(differences)} AS failed WHERE is_finding"
    )
    states = "count(*) FILTER (NOT is_left), count(*) FILTER (is_left)"
    counted = connection.execute(f"SELECT category, {states} FROM compared GROUP BY 1 ORDER BY 1").fetchall()
    left = f"SELECT * EXCLUDE (is_left) FROM compared WHERE is_left ORDER BY key, version_id LIMIT {FIRST_ROWS}"
    return {
        "rows": sum(each[1] for each in counted),
        "left": sum(each[2] for each in counted),
        "categories": {name: {"repaired": repaired, "left": rest} for name, repaired, rest in counted},
    }, connection.sql(left).to_arrow_table().to_pylist()
