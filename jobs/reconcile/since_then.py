"""What is left by now of the bad rows of a run, or of a comparison's findings, by the ledger's state.

The terminal, `--json` and the page that a person asks for now show the same, and a retry takes it. A page
in the ledger is written once, when its run ends.
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
from jobs.core.model import NULL_VERSION
from jobs.core.outcome import Status
from jobs.core.run import RunSpec
from jobs.errors import LedgerError, NotFound
from jobs.ledger.ledger import DIFFERENCES, UNDONE, Ledger
from jobs.ledger.state import BAD, OPEN, OVER, copy_key_sql, has_verdicts
from jobs.ledger.state_files import fetch_files, is_known, readable
from jobs.ledger.views import open_views
from jobs.reconcile.findings import first_findings
from jobs.reports.document import findings_count, findings_of
from jobs.reports.figures import human_time, plural
from jobs.runs.folding import first_failures
from jobs.runs.progress import FIRST_KEYS
from jobs.runs.request import failures_of
from jobs.tables.duck import MEMORY_LIMIT, connect, in_thread, parquet, quoted

NUMBERED = "file_row_number = true"


async def since_then(ledger: Ledger, spec: RunSpec, report: Mapping[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """The report of a run with what is left of its bad rows by now, and the first of these.

    The report as it is where nothing is better than it says.
    """
    names, now = await ledger.names(spec.run_id, UNDONE), dict(report)
    if undone := [await ledger.read(spec.run_id, UNDONE + name, dict) for name in names]:
        now |= {"undone": undone, "next_steps": list(map(_undone_text, undone))}
    if not findings_count(report):
        return now, []
    with tempfile.TemporaryDirectory(prefix="sealift-since-") as folder, contextlib.suppress(NotFound):
        if "categories" in report:
            repaired, file = await find_repaired(ledger, spec, report, Path(folder))
            left, since = repaired["left"], {"repaired": repaired}
            rows = await asyncio.to_thread(first_findings, file)
        else:
            file, counted = await standing_rows(ledger, spec, report["finished_at"], Path(folder), OPEN)
            left, rows = counted["rows"], await asyncio.to_thread(first_failures, file)
            since = {"since_then": {"left": left, "is_repaired": not left}}
        if undone or left >= findings_count(report):
            return now, rows
        return now | since | ({} if left else {"next_steps": []}), rows  # they would be out of date
    return now, []  # the file of bad rows has expired


def _undone_text(undone: Mapping[str, Any]) -> str:
    return f"An undo removed {plural(undone['markers'], 'delete marker')} at {human_time(undone['at'])}"


async def find_repaired(
    ledger: Ledger, spec: RunSpec, report: Mapping[str, Any], folder: Path
) -> tuple[dict[str, Any], Path]:
    """The key `repaired` of a comparison's report, and the file of the findings that are left.

    What is not left is repaired, or its source object is gone.
    """
    file, left = await standing_rows(ledger, spec, report["finished_at"], folder, f"{BAD} AND NOT {OVER}")
    rest = {name: (rows, left["outcomes"].get(name, 0)) for name, rows in findings_of(report).items()}
    categories = {name: {"repaired": rows - count, "left": count} for name, (rows, count) in rest.items()}
    return {"rows": report["findings"] - left["rows"], "left": left["rows"], "categories": categories}, file


async def standing_rows(
    ledger: Ledger, spec: RunSpec, ended_at: str, folder: Path, which: str = BAD
) -> tuple[Path, dict[str, Any]]:
    """The bad rows of a run, or a comparison's findings, that still count: their keys have a finding now, or could not
    be looked at or compared.

    Returns a file of them, and how many `rows` that are, their `outcomes` by status or category, and the `first_keys`
    of each.

    `ended_at`: the report's `finished_at`. `which`: a condition for the rows of `findings`. Raises as `failures_of`
    does, LedgerError for a damaged file of rows, ConfigError without room on disk, and StoreError.
    """
    if is_comparison := spec.job == "reconcile":
        name, column, copy_key, is_bad = DIFFERENCES, "category", "destination_key", "is_finding"
        stays = f"{bool(spec.options.get('keeps_extra'))} AND category = {quoted(Category.EXTRA)}"
    else:
        name = (await failures_of(ledger, spec.run_id)).removeprefix(ledger.uri(spec.run_id))
        column, copy_key, is_bad, stays = "status", copy_key_sql(spec), "true", f"status = {quoted(Status.UNKNOWN)}"
    [file] = await fetch_files(ledger, [f"runs/{spec.run_id}/{name}"], folder)
    if is_comparison or has_verdicts(spec):
        looked = f"SELECT *, {copy_key} AS copy_key, {stays} AS stays FROM {parquet(file, NUMBERED)} WHERE {is_bad}"
        file = await _standing(ledger, spec, ended_at, file, looked, which)
    with readable(ledger, folder):
        return file, await asyncio.to_thread(_counted, file, column, is_bad)


async def _standing(ledger: Ledger, spec: RunSpec, ended_at: str, file: Path, looked: str, which: str) -> Path:
    """The rows of a file of a run that the state has a finding of by now. The whole file if the state does not know the
    run, or cannot be read.

    `looked`: a SELECT of the rows with `copy_key`, and whether a row `stays` whatever the state says. `which`: a
    condition for the rows of `findings`. Places are compared, but no services: one may have several names.
    """
    left, source, copies = file.with_name("left.parquet"), spec.source.location.bucket, spec.destination.location.bucket
    sql = f"""
        SELECT * EXCLUDE (copy_key, stays, file_row_number) FROM ({looked}) AS failed WHERE stays OR EXISTS (
            FROM findings WHERE ({which}) AND findings.key = failed.key AND findings.copy_key = failed.copy_key
            AND source_bucket = {quoted(source)} AND copy_bucket = {quoted(copies)}
            AND coalesce(findings.version_id = nullif(failed.version_id, {quoted(NULL_VERSION)}), true))
        ORDER BY file_row_number"""
    with contextlib.suppress(LedgerError, duckdb.Error):
        if await is_known(ledger, spec.run_id, datetime.fromisoformat(ended_at).timestamp()):
            async with open_views(ledger, ["findings"]) as database:
                connection = database.connection
                await in_thread(connection, connection.execute, f"COPY ({sql}) TO {quoted(left)} (FORMAT parquet)")
            return left
    return file


def _counted(file: Path, column: str, condition: str) -> dict[str, Any]:
    """How many rows a file has, how many of each kind, and the first keys of each."""
    with contextlib.closing(connect(file.parent, memory_limit=MEMORY_LIMIT)) as connection:
        rows = connection.execute(
            f"SELECT {column}, count(*), arg_min(key, file_row_number, {FIRST_KEYS}) "
            f"FROM {parquet(file, NUMBERED)} WHERE {condition} GROUP BY 1 ORDER BY 1"
        ).fetchall()
    outcomes = {kind: count for kind, count, _ in rows}
    keys = {kind: list(dict.fromkeys(first)) for kind, _, first in rows}  # versions of a key are one key
    return {"rows": sum(outcomes.values()), "outcomes": outcomes, "first_keys": keys}
