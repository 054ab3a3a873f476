"""The ledger's tables in SQL, for `sealift query` and all who ask the state.

Only the files of the tables that are asked for are downloaded, to a scratch folder. Columns of a
file that are not listed here come after those that are. A column that a file lacks is null.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import pyarrow as pa

from jobs.core.outcome import Outcome, precedence_sql
from jobs.errors import LedgerError, UsageError
from jobs.ledger.files import list_names
from jobs.ledger.journal import Entry
from jobs.ledger.ledger import Ledger
from jobs.ledger.state import BAD, STATE_TYPES, VERDICT_TYPES
from jobs.ledger.state_files import copy_verdicts, fetch_files, local_path, readable, state_relation, write_delta
from jobs.ledger.tombstones import SCHEMA as TOMBSTONES
from jobs.tables.duck import Database, check_select, file_list, in_thread, parquet, quoted, refusals
from jobs.tables.rows import schema_of, shard_schema

_TEXT, _COUNT, _TIME, _FLAG = "VARCHAR", "BIGINT", "TIMESTAMP WITH TIME ZONE", "BOOLEAN"


def _types(schema: pa.Schema) -> dict[str, str]:
    kinds: dict[Any, str] = {pa.string(): _TEXT, pa.int64(): _COUNT, pa.bool_(): _FLAG}
    return {field.name: kinds.get(field.type, _TIME) for field in schema}


def _all(kind: str, names: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), kind)


Summarize: TypeAlias = Callable[[Ledger, Sequence[str]], Awaitable[Sequence[Mapping[str, Any]]]]
LOOKS = ("checked_at", "read_at", "compared_at")
"""Columns of the state that findings lack: a file of findings alone does not have all looks."""
_SHARD = {"run_id": _TEXT, "shard": "INTEGER"}
TABLES: dict[str, dict[str, str]] = {
    "runs": _all(_TEXT, "run_id job state pair source destination manifest retry_of")
    | _all(_COUNT, "rows size_bytes accounted failures unread")
    | _all("DOUBLE", "planned_dollars seconds")
    | _all(_TIME, "created_at"),
    "manifest": _SHARD | _types(shard_schema()),
    "outcomes": _SHARD | _types(schema_of(Outcome)),
    "differences": _all(_TEXT, "run_id key destination_key version_id destination_version_id category reason detail")
    | _all(_FLAG, "is_finding")
    | _all(_COUNT, "source_size_bytes destination_size_bytes")
    | _all(_TEXT, "source_etag destination_etag")
    | _all(_TIME, "source_last_modified destination_last_modified"),
    "state": STATE_TYPES,
    "findings": {name: kind for name, kind in STATE_TYPES.items() if name not in LOOKS},
    "tombstones": _types(TOMBSTONES),
    "journal": {"dt": _TEXT} | _types(schema_of(Entry)),
}
"""Table → column → DuckDB type."""
_ACCEPTED = ", ".join([
    *[name for name in VERDICT_TYPES if name in STATE_TYPES],
    'now() AS "at"',
    "found_depth AS depth",
    "'accepted' AS verdict, coalesce(finding, blocked) AS code, {why} AS detail, {who} AS run_id",
])  # fmt: skip
_FILES = {
    "manifest": ("runs/{}/shards/", r"\d{5,9}\.parquet", ("run_id", "shard")),
    "outcomes": ("runs/{}/outcomes/", r"\d{5,9}/[\w-]+\.parquet", ("run_id", "shard")),
    "differences": ("runs/{}/differences/", r"[\w-]+\.parquet", ("run_id",)),
    "tombstones": ("tombstones/", r"[a-z0-9][a-z0-9.-]+/[\w-]+/[\w-]+-done\.parquet", ()),
    "journal": ("journal/", r"dt=\d{4}-\d\d-\d\d/[\w-]+\.json", ("dt",)),
}
"""Table → the folder of its files ({}: for each run), their names there, and the columns that these say."""
_NAMED = {
    "run_id": ".*/runs%2F(.*?)%2F",
    "shard": r".*%2F(?:shards|outcomes)%2F(\d+)",
    "dt": ".*%2Fdt=(.*?)%2F",
}


@contextlib.asynccontextmanager
async def open_views(
    ledger: Ledger, names: Sequence[str], run_id: str | None = None, summarize: Summarize | None = None
) -> AsyncIterator[Database]:
    """A database with the named `TABLES` of the ledger, or of one run.

    State, findings and journal belong to the whole ledger. Of findings alone little is downloaded. `summarize`
    gives the table of runs (`jobs.runs.summaries`), which is empty without it. Raises LedgerError when the run is
    missing or a file cannot be read, also if a query of the caller finds it. Raises ConfigError when the scratch
    folder is full, and StoreError.
    """
    run_ids = await ledger.run_ids() if run_id or {*names} - {"state", "findings"} else []
    if run_id is not None:
        if run_id not in run_ids:
            raise LedgerError(f"the ledger {ledger.location} has no run {run_id}", advice="see `sealift runs list`")
        run_ids = [run_id]
    with TemporaryDirectory(prefix="sealift-views-") as scratch:
        database = Database(Path(scratch))
        with contextlib.closing(database.connection), readable(ledger, database.files):
            for name in names:
                if name == "runs":
                    relation = _runs(await summarize(ledger, run_ids) if summarize else (), database)
                else:
                    relation = await _relation(ledger, name, run_ids, database)
                if relation and name == "tombstones" and run_id is not None:
                    relation = f"(FROM {relation} WHERE run_id = {quoted(run_id)})"
                await in_thread(database.connection, database.define, name, TABLES[name], relation)
            yield database


async def accept(ledger: Ledger, where: str, reason: str, by: str) -> int:
    """Accept the findings that a condition names, as they are now. Returns how many.

    Raises UsageError for an empty reason and for SQL that is no condition.
    """
    if not (reason := " ".join(reason.split())):
        raise UsageError("--reason is empty", advice="write why nobody has to act, for those who ask later")
    chosen = f"SELECT * FROM findings WHERE accepted_at IS NULL AND ({where}\n)"
    check_select(chosen)
    async with open_views(ledger, ["findings"]) as database:
        path, connection = database.files / "accepted.parquet", database.connection
        database.lock()
        with refusals(["findings"]):
            sql = f"SELECT {_ACCEPTED.format(why=quoted(reason), who=quoted(by))} FROM ({chosen})"
            rows = await in_thread(connection, copy_verdicts, connection, sql, path)
        if rows:
            await write_delta(ledger, f"accepted-{int(time.time())}-{secrets.token_hex(4)}", path)
        return rows


def _runs(runs: Sequence[Mapping[str, Any]], database: Database) -> str | None:
    rows = pa.Table.from_pylist([{name: run[name] for name in TABLES["runs"]} for run in runs])
    database.connection.register("run_rows", rows)
    return "(SELECT * REPLACE (created_at::TIMESTAMPTZ AS created_at) FROM run_rows)" if runs else None


async def _relation(ledger: Ledger, table: str, run_ids: Sequence[str], database: Database) -> str | None:
    if table in ("state", "findings"):
        is_only_open = table == "findings"
        known = await state_relation(ledger, database, only_open=is_only_open)
        return f"(SELECT * EXCLUDE ({', '.join(LOOKS)}) FROM {known} WHERE {BAD})" if known and is_only_open else known
    place, pattern, _ = _FILES[table]
    names = list[str]()
    for folder in map(place.format, run_ids) if "{}" in place else [place]:
        there = await list_names(ledger.store, ledger.location.join(folder))
        names += [folder + name for name in there if re.fullmatch(pattern, name, re.ASCII)]
    await fetch_files(ledger, names, database.files)
    parts = {"": names} if table != "outcomes" else _by_choice(names)
    selects = [_rows(table, each, database.files, choice) for choice, each in parts.items() if each]
    return f"({' UNION ALL BY NAME '.join(selects)})" if selects else None


def _rows(table: str, names: Sequence[str], folder: Path, choice: str) -> str:
    """Files of one table as a SELECT, with columns from their names. `choice`: of the rows."""
    paths, types = [local_path(folder, name) for name in names], TABLES[table]
    if table == "journal":
        columns = ", ".join(f"{name}: '{kind}'" for name, kind in types.items() if name != "dt")
        options = f"columns = {{{columns}}}, filename = true, hive_partitioning = false"
        files = f"read_json({file_list(paths)}, {options})"
    else:
        files = parquet(paths, "union_by_name = true, filename = true")
    said = [f"regexp_extract(filename, '{_NAMED[name]}', 1)::{types[name]} AS {name}" for name in _FILES[table][2]]
    return f"SELECT * EXCLUDE (filename) FROM (SELECT {', '.join(['*', *said])} FROM {files}) {choice}"


def _by_choice(names: Sequence[str]) -> dict[str, list[str]]:
    """Checkpoints by how one outcome for each row is chosen. Only shards of several attempts need a choice."""
    shards = {name: name.rpartition("/")[0] for name in names}
    attempts = Counter(attempt.rpartition("/")[0] for attempt in {name.rsplit("-", 4)[0] for name in names})
    choice = f"QUALIFY row_number() OVER (PARTITION BY run_id, row ORDER BY {precedence_sql()}) = 1"
    return {how: [name for name in names if (attempts[shards[name]] > 1) is bool(how)] for how in ("", choice)}
