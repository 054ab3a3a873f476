"""Bad rows of a run that are still bad, by what the ledger's state says of their keys by now."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from jobs.core.model import NULL_VERSION, Location, ObjectRef
from jobs.core.outcome import Status
from jobs.core.run import RunSpec
from jobs.errors import LedgerError
from jobs.ledger.ledger import Ledger
from jobs.ledger.state import BAD, copy_key_sql, has_verdicts
from jobs.ledger.state_files import is_known
from jobs.ledger.views import open_views
from jobs.runs.folding import MEMORY_LIMIT
from jobs.runs.progress import FIRST_KEYS
from jobs.runs.request import failures_of
from jobs.s3.downloads import download
from jobs.tables.duck import connect, in_thread, parquet, quoted


async def standing_rows(
    ledger: Ledger, spec: RunSpec, ended_at: str, folder: Path, which: str = BAD
) -> tuple[Path, dict[str, Any]]:
    """Those bad rows of a run whose keys have a finding by now, or could not be looked at or compared: a manifest,
    and how many `rows` it has, `outcomes` of them by status, and the `first_keys` of each.

    All of them if the state does not know the run, or cannot be read. Services are not compared,
    since one may have several names. `ended_at`: the report's `finished_at`. `which`: a condition for the rows
    of `findings`. Raises as `failures_of` does, LedgerError for a damaged file of rows, ConfigError
    without room on disk, and StoreError.
    """
    uri, file = await failures_of(ledger, spec.run_id), folder / "failures.parquet"
    await download(ledger.store, ObjectRef(*Location.parse(uri)), file)
    if has_verdicts(spec):
        with contextlib.suppress(LedgerError, duckdb.Error):
            file = await _known_rows(ledger, spec, ended_at, file, which)
    try:
        return file, await asyncio.to_thread(_counted, file)
    except duckdb.Error as error:
        first = str(error).partition("\n")[0]
        raise LedgerError(f"{uri} cannot be read ({first})", advice="verify again") from error


async def _known_rows(ledger: Ledger, spec: RunSpec, ended_at: str, failed: Path, which: str) -> Path:
    if not await is_known(ledger, spec.run_id, datetime.fromisoformat(ended_at).timestamp()):
        return failed
    file = failed.with_name("standing.parquet")
    sql = f"""
        SELECT * EXCLUDE (copy_key, file_row_number)
        FROM (SELECT *, {copy_key_sql(spec)} AS copy_key FROM {parquet(failed, "file_row_number = true")}) AS failed
        WHERE status = {quoted(Status.UNKNOWN)} OR {stands_sql(spec, which, "failed.copy_key")}
        ORDER BY file_row_number"""
    async with open_views(ledger, ["findings"]) as database:
        connection = database.connection
        await in_thread(connection, connection.execute, f"COPY ({sql}) TO {quoted(file)} (FORMAT parquet)")
    return file


def stands_sql(spec: RunSpec, which: str, copy_key: str) -> str:
    """SQL: whether `findings` has an object of a row of the relation `failed` of a run, by the places of both.

    `which`: a condition for the rows of `findings`. `copy_key`: the row's.
    """
    source, destination = quoted(spec.source.location.bucket), quoted(spec.destination.location.bucket)
    return f"""EXISTS (
        FROM findings WHERE ({which}) AND findings.key = failed.key AND findings.copy_key = {copy_key}
        AND source_bucket = {source} AND copy_bucket = {destination}
        AND coalesce(findings.version_id = nullif(failed.version_id, {quoted(NULL_VERSION)}), true))"""


def _counted(file: Path) -> dict[str, Any]:
    with contextlib.closing(connect(file.parent, memory_limit=MEMORY_LIMIT)) as connection:
        rows = connection.execute(
            f"SELECT status, count(*), arg_min(key, file_row_number, {FIRST_KEYS}) "
            f"FROM {parquet(file, 'file_row_number = true')} GROUP BY 1 ORDER BY 1"
        ).fetchall()
    outcomes = {status: count for status, count, _ in rows}
    keys = {status: list(dict.fromkeys(first)) for status, _, first in rows}  # versions of a key are one key
    return {"rows": sum(outcomes.values()), "outcomes": outcomes, "first_keys": keys}
