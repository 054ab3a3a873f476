"""What is left by now of the bad rows of a run, or of a comparison's findings, by the ledger's state.

The terminal, `--json` and the page that a person asks for now show the same. A page in the ledger
is written once, when its run ends.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.core.category import Category
from jobs.core.model import NULL_VERSION, Location, ObjectRef
from jobs.core.run import RunSpec
from jobs.ledger.ledger import UNDONE, Ledger
from jobs.ledger.state import BAD, OPEN, OVER, has_verdicts
from jobs.reconcile.run import fetch_differences, first_findings
from jobs.reports.document import findings_count
from jobs.reports.figures import human_time, plural
from jobs.runs.folding import first_failures
from jobs.runs.request import failures_of
from jobs.runs.standing import standing_rows
from jobs.s3.downloads import download

if TYPE_CHECKING:
    import duckdb

SHOWN_ROWS, SHOWN_LEFT = 20, 1_000


async def since_then(ledger: Ledger, spec: RunSpec, report: Mapping[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """The keys that are added to the report of a run by now, and the first findings that are left of a comparison.

    Nothing where nothing is better than the report says.
    """
    if undone := [
        await ledger.document(spec.run_id, UNDONE + name) for name in await ledger.names(spec.run_id, UNDONE)
    ]:
        return {"undone": undone, "next_steps": list(map(_undone_text, undone))}, []
    if not findings_count(report) or not (has_verdicts(spec) or "categories" in report):
        return {}, []
    with tempfile.TemporaryDirectory(prefix="sealift-since-") as folder:
        if "categories" in report:
            repaired, rows = await find_repaired(ledger, spec, report["finished_at"], Path(folder))
            left, more = repaired["left"], {"repaired": repaired}
        else:
            left = (await standing_rows(ledger, spec, report["finished_at"], Path(folder), OPEN)).rows
            rows, more = [], {"since_then": {"left": left, "is_repaired": not left}}
    if left >= findings_count(report):
        return {}, []
    return more | ({} if left else {"next_steps": []}), rows  # they would be out of date


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
    from jobs.ledger.state_files import is_known, open_state
    from jobs.tables.duck import in_thread

    differences = await fetch_differences(ledger, spec.run_id, folder)
    knows = await is_known(ledger, spec.run_id, datetime.fromisoformat(ended_at).timestamp())
    async with open_state(ledger, only_open=True) as database:
        connection = database.connection
        return await in_thread(connection, _repaired, connection, spec, differences, knows)


def _repaired(
    connection: duckdb.DuckDBPyConnection, spec: RunSpec, differences: Path, knows: bool
) -> tuple[dict[str, Any], list[Any]]:
    from jobs.tables.duck import parquet, quoted

    buckets = quoted(spec.source.location.bucket), quoted(spec.destination.location.bucket)
    is_kept = f"({bool(spec.options.get('keeps_extra'))} AND category = {quoted(Category.EXTRA)})"
    known = f"""FROM findings AS known WHERE {BAD} AND NOT {OVER}
        AND source_bucket = {buckets[0]} AND copy_bucket = {buckets[1]}
        AND known.key = found.key AND copy_key = destination_key
        AND coalesce(known.version_id = nullif(found.version_id, {quoted(NULL_VERSION)}), true)"""
    connection.execute(
        f"""
        CREATE TEMP TABLE compared AS SELECT *, {not knows} OR {is_kept} OR EXISTS ({known}) AS is_left
        FROM {parquet(differences)} AS found WHERE is_finding"""
    )
    states = "count(*) FILTER (NOT is_left), count(*) FILTER (is_left)"
    counted = connection.execute(f"SELECT category, {states} FROM compared GROUP BY 1 ORDER BY 1").fetchall()
    first = "SELECT * EXCLUDE (is_left) FROM compared WHERE {} ORDER BY key, version_id LIMIT {}".format
    shown, left = (
        connection.sql(sql).to_arrow_table() for sql in (first("NOT is_left", SHOWN_ROWS), first("is_left", SHOWN_LEFT))
    )
    names = ["key", "destination_key", "version_id", "category", "reason", "detail"]
    return {
        "rows": sum(each[1] for each in counted),
        "left": sum(each[2] for each in counted),
        "categories": {name: {"repaired": repaired, "left": rest} for name, repaired, rest in counted},
        "shown": shown.select(names).to_pylist(),
    }, left.to_pylist()


async def read_findings(ledger: Ledger, spec: RunSpec, report: dict[str, Any]) -> list[dict[str, Any]]:
    """The first bad rows of a run that has ended, for a page that is made later."""
    with tempfile.TemporaryDirectory(prefix="sealift-findings-") as folder:
        if "categories" not in report:
            path = Path(folder) / "failures.parquet"
            await download(ledger.store, ObjectRef(*Location.parse(await failures_of(ledger, spec.run_id))), path)
            return await asyncio.to_thread(first_failures, path)
        return await asyncio.to_thread(first_findings, await fetch_differences(ledger, spec.run_id, Path(folder)))
