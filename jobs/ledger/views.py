"""SQL views of the ledger's tables.

Only the files of the tables that are asked for are downloaded, to a scratch folder.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.core.model import Location, ObjectRef
from jobs.core.outcome import precedence_sql
from jobs.core.run import SPEC_VERSION
from jobs.errors import ConfigError, LedgerError, NotFound, SealiftError
from jobs.ledger.agreement import is_comparison
from jobs.ledger.damage import DamagedFiles, find_damaged, find_misfit, read_journal
from jobs.ledger.files import list_files, list_names, read_file
from jobs.ledger.ledger import Ledger
from jobs.ledger.state import findings_sql
from jobs.ledger.state_files import state_relation
from jobs.ledger.table_docs import TABLES
from jobs.s3.downloads import download
from jobs.s3.retries import gather_bounded
from jobs.tables.duck import Database, file_list, in_thread, may_be_damage, parquet

DOWNLOADS = 8

_RESTORE = "restore an earlier version"

_RUN, _SHARD, _DT = "run_id: VARCHAR", "shard: INTEGER", "dt: VARCHAR"
_DAY = re.compile(r"dt=([\w-]{1,40})/")


@dataclass(frozen=True, slots=True)
class _File:
    """One object of the ledger and its path in the scratch folder."""

    key: str
    path: Path


@dataclass(frozen=True, slots=True)
class _Downloads:
    """What comes down for a database. `origins`: where in the ledger each file comes from."""

    database: Database
    origins: dict[Path, Location] = field(default_factory=dict)


@asynccontextmanager
async def open_views(ledger: Ledger, names: Sequence[str], run_id: str | None = None) -> AsyncIterator[Database]:
    """A database with the named tables of the ledger, or of one run.

    `names` are keys of `jobs.ledger.table_docs.TABLES`. State, findings and journal belong to the
    whole ledger. Raises LedgerError when the run is missing, ConfigError when the scratch folder is
    full, and StoreError. Raises DamagedFiles where a file cannot be read, also if a query of the
    caller finds it.
    """
    run_ids = await ledger.run_ids()
    if run_id is not None:
        if run_id not in run_ids:
            raise LedgerError(f"the ledger {ledger.location} has no run {run_id}", advice="see `sealift runs list`")
        run_ids = [run_id]
    with TemporaryDirectory(prefix="sealift-views-") as scratch:
        with usable(scratch):
            database = Database(Path(scratch))
        downloads = _Downloads(database)
        try:
            for name in names:
                with usable(scratch):
                    relation = await _RELATIONS[name](ledger, run_ids, database.files / name, downloads)
                with _readable(ledger, name):
                    await in_thread(database.connection, database.define, name, TABLES[name].types, relation)
            yield database  # not in `usable`: an OSError of the caller is about something else
        except (SealiftError, duckdb.Error) as error:
            if misfit := find_misfit(error, downloads.origins):
                raise DamagedFiles([misfit], ledger.location) from error
            if may_be_damage(error) and (damaged := await find_damaged(downloads.origins, Path(scratch))):
                raise DamagedFiles(damaged, ledger.location) from error
            raise
        finally:
            database.connection.close()


@contextmanager
def usable(scratch: str | Path) -> Iterator[None]:
    """A context that writes into a scratch folder. Raises ConfigError when that fails."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"cannot use the scratch folder {scratch}: {error}", advice="free space or set TMPDIR"
        ) from error


async def _runs(ledger: Ledger, run_ids: Sequence[str], folder: Path, downloads: _Downloads) -> str | None:
    kinds = {"VARCHAR": pa.string(), "BIGINT": pa.int64(), "DOUBLE": pa.float64()}
    fields: list[pa.Field[Any]] = [
        pa.field(name, kinds.get(kind, pa.timestamp("us", tz="UTC"))) for name, kind in TABLES["runs"].types.items()
    ]
    schema = pa.schema(fields)
    rows = await gather_bounded(lambda run_id: _run(ledger, run_id, schema), run_ids, DOWNLOADS)
    folder.mkdir()
    pq.write_table(pa.Table.from_batches(rows, schema), folder / "runs.parquet")
    return _parquet(folder)


async def _run(ledger: Ledger, run_id: str, schema: pa.Schema) -> pa.RecordBatch:
    """A run's row, from the documents that it has. Raises LedgerError if they hold something else."""
    spec, plan, report = [await _document(ledger, run_id, name) for name in ("spec.json", "plan.json", "report.json")]
    if not report and is_comparison(run_id):
        plan = {}  # a comparison that did not finish, whose plan is about nothing (`Ledger.plan`)
    try:
        return pa.RecordBatch.from_pylist([_run_row(run_id, spec, plan, report)], schema)
    except (pa.ArrowException, AttributeError, KeyError, OSError, OverflowError, TypeError, ValueError) as error:
        place, why = ledger.uri(run_id), f"{type(error).__name__}: {error}"
        raise LedgerError(
            f"the documents in {place} are not what Sealift writes ({why}): they were altered; {_RESTORE} of them"
        ) from error


def _run_row(
    run_id: str, spec: Mapping[str, Any], plan: Mapping[str, Any], report: Mapping[str, Any]
) -> dict[str, Any]:
    created = spec.get("created_at")
    source, destination = spec.get("source") or {}, spec.get("destination") or {}
    return {
        "run_id": run_id,
        "job": spec.get("job") or report.get("job"),
        "state": report.get("state") or ("planned" if plan else "unplanned"),
        "created_at": None if created is None else datetime.fromtimestamp(created, UTC),
        "source": source.get("uri") or report.get("source"),
        "destination": destination.get("uri") or report.get("destination"),
        "manifest": spec.get("manifest"),
        "retry_of": spec.get("retry_of"),
        "rows": plan.get("rows", report.get("rows")),
        "size_bytes": plan.get("size_bytes"),
        "shards": len(plan["shards"]) if plan else None,
        "planned_dollars": plan.get("total_dollars"),
        "failures": report.get("findings", report.get("failures")),
        "seconds": report.get("seconds"),
        "sealift_version": spec.get("sealift_version"),
    }


async def _keys(ledger: Ledger, folder: str) -> list[str]:
    return [entry.key async for entry in list_files(ledger.store, ledger.location.join(folder))]


async def _document(ledger: Ledger, run_id: str, name: str) -> dict[str, Any]:
    path = f"runs/{run_id}/{name}"
    try:
        document = json.loads(await read_file(ledger.store, ledger.location, path))
    except NotFound:
        return {}
    except (ValueError, RecursionError) as error:
        raise LedgerError(
            f"{ledger.location.join(path)} is not JSON ({error}): it was altered; {_RESTORE} of it"
        ) from error
    if not isinstance(document, dict):
        raise LedgerError(f"{ledger.location.join(path)} is no document: it was altered; {_RESTORE} of it")
    ledger.check_version(run_id, name, document.get("spec_version", SPEC_VERSION))
    return document


async def _manifest(ledger: Ledger, run_ids: Sequence[str], folder: Path, downloads: _Downloads) -> str | None:
    def place(run_id: str, name: str) -> Path | None:
        shard = name.removesuffix(".parquet")
        return Path(_hive(run_id, shard), name) if _is_shard(shard) else None

    fetched = await _fetch_runs(ledger, run_ids, "shards/", folder, place, downloads)
    return _parquet(folder, _RUN, _SHARD) if fetched else None


async def _outcomes(ledger: Ledger, run_ids: Sequence[str], folder: Path, downloads: _Downloads) -> str | None:
    """One outcome for each row. Only shards of several attempts need a choice."""
    attempts: dict[tuple[str, str], set[str]] = defaultdict(set)

    def place(run_id: str, name: str) -> Path | None:
        shard, _, checkpoint = name.partition("/")
        if not _is_shard(shard) or not checkpoint.endswith(".parquet") or "/" in checkpoint:
            return None
        attempts[run_id, shard].add(checkpoint.partition("-")[0])
        return Path(_hive(run_id, shard), checkpoint)

    if not await _fetch_runs(ledger, run_ids, "outcomes/", folder / "sole", place, downloads):
        return None
    contested = [shard for shard, ids in attempts.items() if len(ids) > 1]
    for run_id, shard in contested:
        target = folder / "contested" / _hive(run_id, shard)
        target.parent.mkdir(parents=True, exist_ok=True)
        sole = folder / "sole" / _hive(run_id, shard)
        sole.rename(target)
        for path in [path for path in downloads.origins if path.parent == sole]:
            downloads.origins[target / path.name] = downloads.origins.pop(path)
    parts = []
    if len(contested) < len(attempts):
        parts.append(f"SELECT * FROM {_parquet(folder / 'sole', _RUN, _SHARD)}")
    if contested:
        relation = _parquet(folder / "contested", _RUN, _SHARD, keeps_filename=True)
        parts.append(
            f"SELECT * EXCLUDE (filename) FROM {relation} "
            f"QUALIFY row_number() OVER (PARTITION BY run_id, row ORDER BY {precedence_sql()}) = 1"
        )
    return f"({' UNION ALL BY NAME '.join(parts)})"


async def _differences(ledger: Ledger, run_ids: Sequence[str], folder: Path, downloads: _Downloads) -> str | None:
    def place(run_id: str, name: str) -> Path | None:
        return Path(f"run_id={run_id}", name.replace("/", "-")) if name.endswith(".parquet") else None

    fetched = await _fetch_runs(ledger, run_ids, "differences", folder, place, downloads)
    return _parquet(folder, _RUN) if fetched else None


async def _state(ledger: Ledger, run_ids: Sequence[str], folder: Path, downloads: _Downloads) -> str | None:
    return await state_relation(ledger, downloads.database, downloads.origins, only_open=False)


async def _findings(ledger: Ledger, run_ids: Sequence[str], folder: Path, downloads: _Downloads) -> str | None:
    known = await state_relation(ledger, downloads.database, downloads.origins, only_open=True)
    return known and f"({findings_sql(known)})"


async def _tombstones(ledger: Ledger, run_ids: Sequence[str], folder: Path, downloads: _Downloads) -> str | None:
    files = []
    for number, key in enumerate(await _keys(ledger, "tombstones/")):
        if key.endswith("-done.parquet") and key.split("/")[-2] in run_ids:
            files.append(_File(key, folder / f"{number:06d}.parquet"))
    await _download(ledger, files, downloads)
    return _parquet(folder) if files else None


async def _journal(ledger: Ledger, run_ids: Sequence[str], folder: Path, downloads: _Downloads) -> str | None:
    files = []
    for number, key in enumerate(await _keys(ledger, "journal/")):
        day = _DAY.search(key)
        suffix = "parquet" if key.endswith(".parquet") else "json"
        if day and key.endswith((".parquet", ".json", ".jsonl")):
            files.append(_File(key, folder / suffix / f"dt={day[1]}" / f"{number}.{suffix}"))
    await _download(ledger, files, downloads)
    parts = []
    if any(file.path.suffix == ".parquet" for file in files):
        parts.append(f"SELECT * FROM {_parquet(folder / 'parquet', _DT)}")
    if any(file.path.suffix == ".json" for file in files):
        rows = read_journal(file_list(folder / "json", below="**/*.json"), "filename = true")
        parts.append(f"SELECT * FROM {_with_partitions(rows, folder / 'json', [_DT])}")
    return f"({' UNION ALL BY NAME '.join(parts)})" if parts else None


@contextmanager
def _readable(ledger: Ledger, name: str) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        first = str(error).partition("\n")[0]
        raise LedgerError(
            f"{TABLES[name].files} in {ledger.location} cannot be read ({first}): {_RESTORE} of the damaged ones"
        ) from error


_RELATIONS: dict[str, Callable[[Ledger, Sequence[str], Path, _Downloads], Awaitable[str | None]]] = {
    "runs": _runs,
    "manifest": _manifest,
    "outcomes": _outcomes,
    "differences": _differences,
    "state": _state,
    "findings": _findings,
    "tombstones": _tombstones,
    "journal": _journal,
}


def _is_shard(name: str) -> bool:
    """Whether a shard's files are under this name. Two names of one number would be one path."""
    return name.isascii() and name.isdigit() and name == f"{int(name):05d}" and len(name) < 10


def _hive(run_id: str, shard: str) -> str:
    """The folder whose name is the columns of its files' rows."""
    return f"run_id={run_id}/shard={int(shard)}"


def _parquet(folder: Path, *partitions: str, keeps_filename: bool = False) -> str:
    """The files below a folder as a relation. `partitions` (name: type) are in folder names.

    `keeps_filename`: the rows have the column `filename`, too.
    """
    options = "union_by_name = true" + ", filename = true" * bool(partitions)
    files = parquet(folder, options, below="**/*.parquet")
    return _with_partitions(files, folder, partitions, keeps_filename=keeps_filename) if partitions else files


def _with_partitions(files: str, folder: Path, partitions: Iterable[str], *, keeps_filename: bool = False) -> str:
    """The rows of `files`, which name their file, with the columns that are in their folders' names.

    Only folders below `folder` count: the name of the scratch folder may look like a column, too.
    """
    below = f"substr(filename, {len(str(folder)) + 1})"
    columns = [
        f"regexp_extract({below}, '/{name}=([^/]*)/', 1)::{kind} AS {name}"
        for name, _, kind in (partition.partition(": ") for partition in partitions)
    ]
    everything = "*" if keeps_filename else "* EXCLUDE (filename)"
    return f"(SELECT {everything}, {', '.join(columns)} FROM {files})"


async def _fetch_runs(
    ledger: Ledger,
    run_ids: Sequence[str],
    prefix: str,
    folder: Path,
    place: Callable[[str, str], Path | None],
    downloads: _Downloads,
) -> int:
    """Fetch the files below a prefix of each run that `place` gives a path → their number."""

    async def fetch(run_id: str) -> int:
        location = ledger.location.join(f"runs/{run_id}/{prefix}")
        files = []
        for name in await list_names(ledger.store, location):
            path = place(run_id, name)
            if path is not None:
                files.append(_File(location.key + name, folder / path))
        await _download(ledger, files, downloads)
        return len(files)

    return sum([await fetch(run_id) for run_id in run_ids])


async def _download(ledger: Ledger, files: Sequence[_File], downloads: _Downloads) -> None:
    """Download files, and say where they come from."""

    async def fetch(file: _File) -> None:
        await download(ledger.store, ObjectRef(ledger.location.bucket, file.key), file.path)

    await gather_bounded(fetch, files, DOWNLOADS)
    downloads.origins.update({file.path: ledger.location._replace(key=file.key) for file in files})
