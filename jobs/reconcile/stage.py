"""Staging of reports: verified data files as Parquet on disk, for DuckDB.

No row is lost. Parquet files stay as they are. CSV and ORC become Parquet files in the scratch
folder. Rows that cannot be parsed are listed in the table `unparsed` of the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import duckdb

from jobs.errors import ManifestError
from jobs.inventory.data_files import fold_name
from jobs.inventory.fields import FEW_VALUED, FIELDS, TEXT
from jobs.inventory.report import Inventory
from jobs.s3.store import Store
from jobs.tables.duck import file_list, identifier, parquet, quoted

FETCHES = 4
"""Data files that are downloaded and checked at once."""

UNPARSED = (
    "CREATE TABLE IF NOT EXISTS unparsed (report VARCHAR, file VARCHAR, line BIGINT, problem VARCHAR, row VARCHAR)"
)


@dataclass(frozen=True, slots=True)
class StagedReport:
    """A verified report as a relation.

    `relation` is SQL over the Parquet `files`, `columns` maps folded field names to its columns.
    `constants`: the fields with one value in all rows, as SQL literals. `has_keys`: no row lacks
    its key.
    """

    inventory: Inventory
    relation: str
    columns: Mapping[str, str]
    rows: int = 0
    constants: Mapping[str, str] = field(default_factory=dict)
    has_keys: bool = False
    files: Sequence[Path] = ()

    def column(self, name: str) -> str | None:
        """Return the quoted column of a field, None where the report does not have it."""
        column = self.columns.get(name)
        return None if column is None else identifier(column)


async def fetch_reports(reports: Sequence[tuple[Inventory, Store, Path]]) -> list[dict[str, str]]:
    """Download every data file of the reports into their folders, verified.

    Returns for each report: local path → its place. Raises ManifestError for a report without
    files, and for a file that is missing or was altered. Raises StoreError when S3 refuses.
    """
    limit = asyncio.Semaphore(FETCHES)

    async def fetch(inventory: Inventory, store: Store, folder: Path, number: int) -> tuple[str, str]:
        async with limit:
            place, path = await inventory.fetch(store, inventory.files[number], folder / f"{number:06d}.data")
            return str(path), str(place)

    for inventory, _, folder in reports:
        if not inventory.files and not inventory.is_listing:
            raise _empty(inventory)
        folder.mkdir(parents=True, exist_ok=True)
    tasks = [
        [asyncio.create_task(fetch(inventory, store, folder, number)) for number in range(len(inventory.files))]
        for inventory, store, folder in reports
    ]
    try:
        return [dict(await asyncio.gather(*files)) for files in tasks]
    finally:
        everything = [task for files in tasks for task in files]
        for task in everything:
            task.cancel()
        await asyncio.gather(*everything, return_exceptions=True)


def stage_reports(
    reports: Sequence[tuple[Inventory, Mapping[str, str], Path]], connection: duckdb.DuckDBPyConnection
) -> list[StagedReport]:
    """Make fetched files readable. `reports`: for each, local path → its place, and its folder.

    This blocks: call it in a thread.

    Raises ManifestError for a report without rows, a file that is unreadable or lacks a promised
    column, and rows of another bucket.
    """
    connection.execute(UNPARSED)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        try:
            typed = [_write_typed(pool, inventory, places) for inventory, places, _ in reports]
            return [
                _stage(inventory, places, written, folder, connection)
                for (inventory, places, folder), written in zip(reports, typed, strict=True)
            ]
        finally:
            pool.shutdown(cancel_futures=True)


def newest_modified(connection: duckdb.DuckDBPyConnection, staged: StagedReport) -> float | None:
    """Return when the newest object of the report was modified (epoch seconds), None if unknown."""
    column = staged.column("lastmodifieddate")
    if column is None:
        return None
    row = connection.execute(f"SELECT epoch(max({column})) FROM {staged.relation}").fetchone()
    return None if row is None else row[0]


_Written: TypeAlias = Mapping[str, "Future[Path | None]"]
"""Path of a data file → the Parquet file that it becomes."""


def _write_typed(pool: Executor, inventory: Inventory, places: Mapping[str, str]) -> _Written:
    if inventory.file_format == "Parquet":
        return {}
    from jobs.reconcile.stage_typed import write_typed

    return {path: pool.submit(write_typed, Path(path), inventory.file_format, inventory.columns) for path in places}


def _stage(
    inventory: Inventory,
    places: Mapping[str, str],
    written: _Written,
    folder: Path,
    connection: duckdb.DuckDBPyConnection,
) -> StagedReport:
    with _manifest_errors(inventory, places):
        if not places:
            names = [name for name in map(fold_name, inventory.columns) if name in FIELDS]
            nothing = ", ".join(f"NULL::{FIELDS[name]} AS {name}" for name in names)
            return StagedReport(inventory, f"(SELECT {nothing} WHERE false)", {name: name for name in names})
        columns = {fold_name(name): name for name in inventory.columns}
        if inventory.file_format == "Parquet":
            paths = list(places)
            _check_columns(connection, inventory, places)
        elif inventory.file_format == "ORC":
            paths = _orc_files(places, written)
        else:
            paths = _csv_files(connection, inventory, places, written, folder)
            columns = {name: name for name in columns}
        if not paths:
            raise _empty(inventory)
        files = [Path(path) for path in paths]
        read = {name: column for name, column in columns.items() if name in FIELDS}
        return _measure(
            connection, StagedReport(inventory, parquet(files, "binary_as_string = true"), read, files=files)
        )


def _orc_files(places: Mapping[str, str], written: _Written) -> list[str]:
    from jobs.reconcile.stage_typed import TypeMismatch

    paths = []
    for path, place in places.items():
        try:
            paths.append(written[path].result())
        except TypeMismatch as error:
            raise ValueError(f"{place}: {error}") from error
    return [str(path) for path in paths if path is not None]


def _csv_files(
    connection: duckdb.DuckDBPyConnection,
    inventory: Inventory,
    places: Mapping[str, str],
    written: _Written,
    folder: Path,
) -> list[str]:
    """Return the paths of typed files.

    A file with a value that does not fit is read again, row by row.
    """
    from jobs.reconcile.stage_csv_rejects import convert_csv
    from jobs.reconcile.stage_typed import TypeMismatch

    paths, doubtful = [], {}
    for path, place in places.items():
        try:
            paths.append(written[path].result())
        except TypeMismatch:
            doubtful[path] = place
    found = [str(path) for path in paths if path is not None]
    return [*found, convert_csv(connection, inventory, doubtful, folder)] if doubtful else found


class UnusableReport(ManifestError):
    """Raised for an inventory that proves nothing: it lists nothing, or only a part.

    Its `manifest` says which one of two it is.
    """

    def __init__(self, what: str, manifest: str, *, advice: str = ""):
        super().__init__(what, advice=advice)
        self.manifest = manifest

    def __reduce__(self) -> tuple[object, ...]:
        return partial(type(self), advice=self.own_advice), (self.what, self.manifest)


def _empty(inventory: Inventory) -> UnusableReport:
    return UnusableReport(
        f"{inventory.manifest} lists no object of the bucket {inventory.source_bucket}: an empty report proves nothing",
        str(inventory.manifest),
        advice="check the inventory's configuration and prefix",
    )


@contextlib.contextmanager
def _manifest_errors(inventory: Inventory, places: Mapping[str, str]) -> Iterator[None]:
    """Raise what DuckDB or pyarrow cannot read as a ManifestError that names the data file, not its
    copy.
    """
    try:
        yield
    except (duckdb.OutOfMemoryException, duckdb.FatalException, duckdb.InternalException, MemoryError):
        raise
    except (duckdb.Error, ValueError, EOFError) as error:
        message = " ".join(str(error).split())
        for path, place in places.items():
            message = message.replace(path, place)
        raise ManifestError(
            f"the data files of {inventory.manifest} cannot be read as {inventory.file_format} with the columns that "
            f"it gives them: {message[:400]}",
            advice="have the inventory delivered again",
        ) from error


def _check_columns(connection: duckdb.DuckDBPyConnection, inventory: Inventory, places: Mapping[str, str]) -> None:
    for path, place in places.items():
        found = {row[0] for row in connection.execute(f"DESCRIBE FROM {parquet(Path(path))}").fetchall()}
        if missing := [name for name in inventory.columns if name not in found]:
            raise ManifestError(
                f"{place} lacks {', '.join(missing)}, which {inventory.manifest} promises",
                advice="have the inventory delivered again",
            )


def _measure(connection: duckdb.DuckDBPyConnection, staged: StagedReport) -> StagedReport:
    """Count the rows, find the fields with one value, and list rows without a key.

    Raises ManifestError where there is no row, or one names another bucket.
    """
    inventory, key = staged.inventory, staged.column("key")
    rows, values = _statistics(connection, staged)
    if not rows:
        raise _empty(inventory)
    constants = {}
    for name in filter(staged.column, FEW_VALUED):
        low, high, known = values.get(staged.columns[name]) or _scanned(connection, staged, name)
        if known == rows and low == high:
            constants[name] = f"{quoted(low)}::{FIELDS[name]}"
        elif not known:
            constants[name] = f"NULL::{FIELDS[name]}"
    if (bucket := staged.column("bucket")) and constants.get("bucket") != f"{quoted(inventory.source_bucket)}::{TEXT}":
        other = connection.execute(
            f"SELECT {bucket} FROM {staged.relation} WHERE {bucket} IS DISTINCT FROM ? LIMIT 1",
            [inventory.source_bucket],
        ).fetchone()
        raise ManifestError(
            f"a row of {inventory.manifest} names the bucket {other[0] if other else None!r}, the report is of "
            f"{inventory.source_bucket!r}",
            advice="use another inventory",
        )
    has_keys = not _has_no_key(connection, staged)
    if inventory.file_format != "CSV" and not has_keys:  # of CSV's they are listed already
        connection.execute(
            f"INSERT INTO unparsed SELECT {quoted(inventory.manifest)}, NULL, NULL, 'the row has no key', "
            f"t::VARCHAR FROM {staged.relation} AS t WHERE {key} IS NULL"
        )
    return replace(staged, rows=rows, constants=constants, has_keys=has_keys)


def _statistics(
    connection: duckdb.DuckDBPyConnection, staged: StagedReport
) -> tuple[int, dict[str, tuple[str, str, int]]]:
    """Return (rows, column → (min, max, values that are not null)), for the columns that have
    statistics.

    Reading a column of all rows would take a good part of the time that the join takes.
    """
    files = file_list(staged.files)
    row = connection.execute(f"SELECT sum(num_rows) FROM parquet_file_metadata({files})").fetchone()
    columns = connection.execute(
        f"""
        SELECT path_in_schema, min(stats_min_value), max(stats_max_value),
               sum(num_values - stats_null_count)::BIGINT
        FROM parquet_metadata({files}) GROUP BY 1
        HAVING bool_and(stats_null_count IS NOT NULL
                        AND (stats_null_count = num_values OR stats_min_value IS NOT NULL))
        """
    ).fetchall()
    return int(row[0] or 0) if row else 0, {name: (low, high, known) for name, low, high, known in columns}


def _scanned(connection: duckdb.DuckDBPyConnection, staged: StagedReport, name: str) -> tuple[str, str, int]:
    """Return (min, max, values that are not null) of one column, by reading it."""
    column = staged.column(name)
    row = connection.execute(f"SELECT min({column}), max({column}), count({column}) FROM {staged.relation}").fetchone()
    return row or ("", "", 0)


def _has_no_key(connection: duckdb.DuckDBPyConnection, staged: StagedReport) -> bool:
    """True if a row may have no key, by the files' own statistics."""
    row = connection.execute(
        "SELECT sum(coalesce(stats_null_count, 1)) "
        f"FROM parquet_metadata({file_list(staged.files)}) WHERE path_in_schema = ?",
        [staged.columns["key"]],
    ).fetchone()
    return bool(row and row[0])
