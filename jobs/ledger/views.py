"""The ledger's tables for `sealift query`.

Only the files of the tables that are asked for are downloaded, to a scratch folder. Columns of a
file that are not listed here come after those that are. A column that a file lacks is null.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import unquote

import duckdb
import pyarrow as pa

from jobs.core.outcome import precedence_sql
from jobs.errors import LedgerError, SealiftError, UsageError
from jobs.ledger.files import list_names
from jobs.ledger.journal import Entry
from jobs.ledger.ledger import Ledger
from jobs.ledger.state import STATE_TYPES, findings_sql
from jobs.ledger.state_files import RESTORE, fetch_files, find_damage, local_path, state_relation
from jobs.ledger.tombstones import SCHEMA as TOMBSTONES
from jobs.s3.retries import gather_bounded
from jobs.tables.duck import Database, file_list, in_thread, parquet, quoted
from jobs.tables.rows import outcome_schema, shard_schema

READS = 8
_OF_SQL = tuple(f"{kind} Error" for kind in ("Parser", "Binder", "Catalog", "Conversion", "Out of Memory"))
"""What DuckDB says of a query, never of a damaged file."""
_TEXT, _COUNT, _TIME, _FLAG = "VARCHAR", "BIGINT", "TIMESTAMP WITH TIME ZONE", "BOOLEAN"


def _types(schema: pa.Schema) -> dict[str, str]:
    kinds: dict[Any, str] = {pa.string(): _TEXT, pa.int64(): _COUNT, pa.bool_(): _FLAG}
    return {field.name: kinds.get(field.type, _TIME) for field in schema}


def _all(kind: str, names: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), kind)


_SHARD = {"run_id": _TEXT, "shard": "INTEGER"}
TABLES: dict[str, dict[str, str]] = {
    "runs": _all(_TEXT, "run_id job state source destination manifest retry_of sealift_version")
    | _all(_COUNT, "rows size_bytes shards failures")
    | _all("DOUBLE", "planned_dollars seconds")
    | _all(_TIME, "created_at"),
    "manifest": _SHARD | _types(shard_schema()),
    "outcomes": _SHARD | _types(outcome_schema()),
    "differences": _all(_TEXT, "run_id key destination_key version_id destination_version_id category reason detail")
    | _all(_FLAG, "is_finding")
    | _all(_COUNT, "source_size_bytes destination_size_bytes")
    | _all(_TEXT, "source_etag destination_etag")
    | _all(_TIME, "source_last_modified destination_last_modified"),
    "state": STATE_TYPES,
    "findings": {name: kind for name, kind in STATE_TYPES.items() if name not in ("checked_at", "read_at")},
    "tombstones": _types(TOMBSTONES),
    "journal": _all(_TEXT, " ".join(("dt", *Entry.__struct_fields__)))
    | _all(_TIME, "recorded_at event_at")
    | _all(_COUNT, "size_bytes"),
}
"""Table → column → DuckDB type."""
_FILES = {
    "manifest": ("runs/{}/shards/", r"\d{5,9}\.parquet"),
    "outcomes": ("runs/{}/outcomes/", r"\d{5,9}/[\w-]+\.parquet"),
    "differences": ("runs/{}/differences/", r"[\w-]+\.parquet"),
    "tombstones": ("tombstones/", r"[a-z0-9][a-z0-9.-]+/[\w-]+/[\w-]+-done\.parquet"),
    "journal": ("journal/", r"dt=\d{4}-\d\d-\d\d/[\w-]+\.json"),
}
"""Table → the folder of its files ({}: for each run), and their names there."""


@asynccontextmanager
async def open_views(ledger: Ledger, names: Sequence[str], run_id: str | None = None) -> AsyncIterator[Database]:
    """A database with the named `TABLES` of the ledger, or of one run.

    State, findings and journal belong to the whole ledger. Raises LedgerError when the run is
    missing or a file cannot be read, also if a query of the caller finds it. Raises ConfigError when
    the scratch folder is full, and StoreError.
    """
    run_ids = await ledger.run_ids()
    if run_id is not None:
        if run_id not in run_ids:
            raise LedgerError(f"the ledger {ledger.location} has no run {run_id}", advice="see `sealift runs list`")
        run_ids = [run_id]
    with TemporaryDirectory(prefix="sealift-views-") as scratch:
        database = Database(Path(scratch))
        try:
            for name in names:
                relation = await _relation(ledger, name, run_ids, database)
                if relation and name == "tombstones" and run_id is not None:
                    relation = f"(FROM {relation} WHERE run_id = {quoted(run_id)})"
                await in_thread(database.connection, database.define, name, TABLES[name], relation)
            yield database
        except (SealiftError, duckdb.Error) as error:
            if named := find_damage(error, ledger, database.files) or await _find_unreadable(error, ledger, database):
                raise named from error
            raise
        finally:
            database.connection.close()


async def _find_unreadable(error: BaseException, ledger: Ledger, database: Database) -> LedgerError | None:
    """The error about a Parquet file that cannot be read, where DuckDB's own does not name it."""
    cause = error.__cause__ if isinstance(error, UsageError) else error
    if isinstance(cause, SealiftError) or str(cause).startswith(_OF_SQL):
        return None

    def read() -> LedgerError | None:
        for path in sorted(database.files.glob("*%2F*.parquet")):
            try:
                database.connection.execute(f"SELECT max(hash(COLUMNS(*))) FROM {parquet(path)}").fetchall()
            except duckdb.Error:
                return LedgerError(f"{ledger.location.join(unquote(path.name))} cannot be read", advice=RESTORE)
        return None

    return await in_thread(database.connection, read)


async def _relation(ledger: Ledger, table: str, run_ids: Sequence[str], database: Database) -> str | None:
    if table == "runs":
        rows = await gather_bounded(lambda run_id: _run(ledger, run_id), run_ids, READS)
        database.connection.register("run_rows", pa.Table.from_pylist(rows) if rows else pa.table({"run_id": [""]}))
        return "(FROM run_rows)" if rows else None
    if table in ("state", "findings"):
        is_only_open = table == "findings"
        known = await state_relation(ledger, database, only_open=is_only_open)
        return f"({findings_sql(known)})" if known and is_only_open else known
    place, pattern = _FILES[table]
    names = list[str]()
    for folder in map(place.format, run_ids) if "{}" in place else [place]:
        there = await list_names(ledger.store, ledger.location.join(folder))
        names += [folder + name for name in there if re.fullmatch(pattern, name, re.ASCII)]
    await fetch_files(ledger, names, database.files)
    if not names:
        return None
    if table == "outcomes":
        return _outcomes(names, database.files)
    return _rows(names, database.files)


def _rows(names: Sequence[str], folder: Path, choice: str = "") -> str:
    """Files of one table as a relation, with what their names say. `choice`: of which rows."""
    paths = [local_path(folder, name) for name in names]
    table = re.split("/", names[0])
    if table[0] == "journal":
        columns = ", ".join(f"{name}: '{kind}'" for name, kind in TABLES["journal"].items() if name != "dt")
        options = f"columns = {{{columns}}}, filename = true, hive_partitioning = false"
        files, named = f"read_json({file_list(paths)}, {options})", {"dt": "'.*%2Fdt=(.*?)%2F', 1"}
    else:
        files, named = parquet(paths, "union_by_name = true, filename = true"), dict[str, str]()
    if table[0] == "runs":
        named["run_id"] = "'.*/runs%2F(.*?)%2F', 1"
    if table[2] in ("shards", "outcomes"):
        named["shard"] = rf"'.*%2F{table[2]}%2F(\d+)', 1"
    kinds = {"shard": "INTEGER"}
    columns = "".join(
        f", regexp_extract(filename, {pattern})::{kinds.get(name, _TEXT)} AS {name}" for name, pattern in named.items()
    )
    return f"(SELECT * EXCLUDE (filename) FROM (SELECT *{columns} FROM {files}) {choice})"


def _outcomes(names: Sequence[str], folder: Path) -> str:
    """One outcome for each row. Only shards of several attempts need a choice."""
    attempts: dict[str, set[str]] = defaultdict(set)
    for name in names:
        shard, _, checkpoint = name.rpartition("/")
        attempts[shard].add(checkpoint.partition("-")[0])
    contested = [name for name in names if len(attempts[name.rpartition("/")[0]]) > 1]
    sole = sorted({*names} - {*contested})
    choice = f"QUALIFY row_number() OVER (PARTITION BY run_id, row ORDER BY {precedence_sql()}) = 1"
    parts = [_rows(each, folder, how) for each, how in ((sole, ""), (contested, choice)) if each]
    return f"({' UNION ALL BY NAME '.join(f'FROM {part}' for part in parts)})"


async def _run(ledger: Ledger, run_id: str) -> dict[str, Any]:
    """A run's row, from the documents that it has."""
    spec, plan, report = [
        await ledger.find_document(run_id, f"{name}.json") or {} for name in ("spec", "plan", "report")
    ]
    known, created = {**report, **plan, **spec}, spec.get("created_at")
    sides = {side: (spec.get(side) or {}).get("uri") or report.get(side) for side in ("source", "destination")}
    return {
        **{name: known.get(name) for name in TABLES["runs"]},
        **sides,
        "run_id": run_id,
        "state": report.get("state") or ("planned" if plan else "unplanned"),
        "created_at": None if created is None else datetime.fromtimestamp(created, UTC),
        "shards": len(plan["shards"]) if plan else None,
        "planned_dollars": plan.get("total_dollars"),
        "failures": report.get("findings", report.get("failures")),
    }
