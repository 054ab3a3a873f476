"""A report's data files as Parquet on disk, for DuckDB to join: verified, and every row accounted for.

Parquet files stay as they are. CSV is read by DuckDB and ORC by pyarrow, both into Parquet files in the scratch
folder. Rows that cannot be understood are listed in the table `unparsed` of the connection.

Imports duckdb: import this module where it is used.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from jobs.errors import ManifestError
from jobs.s3.inventories import Inventory
from jobs.s3.report_statistics import has_no_key, scanned, statistics
from jobs.s3.reports import fold_name
from jobs.s3.sql import quoted
from jobs.s3.store import Store

FETCHES = 4
"""Data files that are downloaded and checked at once."""

UNPARSED = (
    "CREATE TABLE IF NOT EXISTS unparsed (report VARCHAR, file VARCHAR, line BIGINT, problem VARCHAR, row VARCHAR)"
)

_TEXT, _NUMBER, _FLAG, _TIME = "VARCHAR", "BIGINT", "BOOLEAN", "TIMESTAMP"
FIELDS: dict[str, str] = {
    "bucket": _TEXT,
    "key": _TEXT,
    "versionid": _TEXT,
    "islatest": _FLAG,
    "isdeletemarker": _FLAG,
    "size": _NUMBER,
    "lastmodifieddate": _TIME,
    "etag": _TEXT,
    "storageclass": _TEXT,
    "ismultipartuploaded": _FLAG,
    "replicationstatus": _TEXT,
    "encryptionstatus": _TEXT,
}
"""The fields of a report that a reconciliation reads, by their folded names, and their types in DuckDB."""


@dataclass(frozen=True, slots=True)
class StagedReport:
    """A verified report as a relation: `relation` is SQL, `columns` maps folded field names to its columns.

    `constants`: the fields that say the same in all rows, as SQL literals. `has_keys`: no row lacks its key.
    """

    inventory: Inventory
    relation: str
    columns: Mapping[str, str]
    rows: int = 0
    constants: Mapping[str, str] = field(default_factory=dict)
    has_keys: bool = False

    def column(self, name: str) -> str | None:
        """The quoted column of a field, None where the report does not have it."""
        found = self.columns.get(name)
        return None if found is None else _identifier(found)


async def fetch_reports(reports: Sequence[tuple[Inventory, Store, Path]]) -> list[dict[str, str]]:
    """Bring every data file of the reports into their folders, verified → for each report, local path → where from.

    Raises ManifestError for a report without files, or a file that is missing or tampered with; a StoreError when
    S3 refuses.
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


def stage_report(
    inventory: Inventory, places: Mapping[str, str], folder: Path, connection: duckdb.DuckDBPyConnection
) -> StagedReport:
    """Make the fetched files readable. Blocks: call it in a thread.

    Raises ManifestError for a report without rows, a file that is unreadable or lacks a promised column, and rows of
    another bucket.
    """
    connection.execute(UNPARSED)
    with refusals(inventory, places):
        if not places:
            names = [name for name in map(fold_name, inventory.columns) if name in FIELDS]
            nothing = ", ".join(f"NULL::{FIELDS[name]} AS {name}" for name in names)
            return StagedReport(inventory, f"(SELECT {nothing} WHERE false)", {name: name for name in names})
        if inventory.file_format == "Parquet":
            paths, columns = list(places), {fold_name(name): name for name in inventory.columns}
            _check_columns(connection, inventory, places)
        elif inventory.file_format == "ORC":
            paths, columns = _convert_orc(inventory, places, folder)
        else:
            paths, columns = _convert_csv(connection, inventory, places, folder)
        relation = f"read_parquet({paths}, binary_as_string = true)"
        read = {name: column for name, column in columns.items() if name in FIELDS}
        return _measure(connection, StagedReport(inventory, relation, read))


def _empty(inventory: Inventory) -> ManifestError:
    return ManifestError(
        f"{inventory.manifest} lists no object of the bucket {inventory.source_bucket}: an empty report proves "
        "nothing; check the inventory's configuration and prefix"
    )


@contextlib.contextmanager
def refusals(inventory: Inventory, places: Mapping[str, str]) -> Iterator[None]:
    """What DuckDB or pyarrow cannot read, as a ManifestError that names the data file, not its copy."""
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
            f"it gives them: {message[:400]}; have the inventory delivered again"
        ) from error


def _check_columns(connection: duckdb.DuckDBPyConnection, inventory: Inventory, places: Mapping[str, str]) -> None:
    for path, place in places.items():
        found = {row[0] for row in connection.execute(f"DESCRIBE FROM read_parquet({quoted(path)})").fetchall()}
        if missing := [name for name in inventory.columns if name not in found]:
            raise ManifestError(
                f"{place} lacks {', '.join(missing)}, which {inventory.manifest} promises: "
                "have the inventory delivered again"
            )


def _convert_orc(inventory: Inventory, places: Mapping[str, str], folder: Path) -> tuple[list[str], dict[str, str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from jobs.s3.report_rows import read_orc

    wanted = [name for name in inventory.columns if fold_name(name) in FIELDS]
    paths = []
    for number, (path, place) in enumerate(places.items()):
        writer: Any = None
        paths.append(str(folder / f"{number:06d}.parquet"))
        try:
            for batch in read_orc(Path(path), wanted, inventory.columns):
                if writer is None:
                    writer = pq.ParquetWriter(paths[-1], batch.schema, compression="lz4")
                writer.write_batch(batch)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{place}: {error}") from error
        finally:
            if writer is not None:
                writer.close()
        if writer is None:
            paths.pop()  # a file without rows
    if not paths:
        raise _empty(inventory)
    return paths, {fold_name(name): name for name in wanted}


def _convert_csv(
    connection: duckdb.DuckDBPyConnection, inventory: Inventory, places: Mapping[str, str], folder: Path
) -> tuple[list[str], dict[str, str]]:
    """Typed columns under their folded names, and `problem` where a row's value could not be understood.

    Such a row stays in with what could be read of it. Lines that are no rows at all DuckDB lists itself.
    """
    names = [fold_name(name) for name in inventory.columns]
    raw = [f"raw {name}" for name in names]
    types = ", ".join(f"{quoted(name)}: 'VARCHAR'" for name in raw)
    values, problems = [], []
    for name in names:
        if name in FIELDS:
            value, problem = _csv_value(name)
            values.append(f"{value} AS {name}")
            problems += problem
    target = folder / "rows.parquet"
    text = " || ',' || ".join(f"coalesce({_identifier(name)}, '')" for name in raw)
    connection.execute("DROP TABLE IF EXISTS reject_errors; DROP TABLE IF EXISTS reject_scans")
    connection.execute(
        f"""
        COPY (
            SELECT * EXCLUDE (filename, {", ".join(map(_identifier, raw))}),
                   CASE WHEN problem IS NOT NULL THEN filename END AS file,
                   CASE WHEN problem IS NOT NULL THEN {text} END AS text
            FROM (SELECT *, CASE {" ".join(problems)} END AS problem
                  FROM (SELECT {", ".join(values)}, filename, {", ".join(map(_identifier, raw))}
                        FROM read_csv({list(places)}, columns = {{{types}}}, header = false, auto_detect = false,
                                      delim = ',', quote = '"', escape = '"', compression = 'gzip', filename = true,
                                      store_rejects = true, max_line_size = 16777216)))
        ) TO {quoted(target)} (FORMAT parquet, COMPRESSION lz4, DICTIONARY_SIZE_LIMIT 1000, ROW_GROUP_SIZE 30720)
        """  # large dictionaries and groups cost more time than they save: keys and ETags are all different
    )
    renamed = "CASE file " + " ".join(f"WHEN {quoted(p)} THEN {quoted(q)}" for p, q in places.items()) + " END"
    report = quoted(inventory.manifest)
    connection.execute(
        f"INSERT INTO unparsed SELECT {report}, {renamed}, NULL, problem, text "
        f"FROM read_parquet({quoted(target)}) WHERE problem IS NOT NULL"
    )
    connection.execute(
        f"INSERT INTO unparsed SELECT DISTINCT ON (file, line) {report}, "
        f"{renamed.replace('file', 'file_path', 1)} AS file, line, "
        "lower(replace(error_type::VARCHAR, '_', ' ')), csv_line "
        "FROM reject_errors JOIN reject_scans USING (scan_id, file_id)"
    )
    return [str(target)], {name: name for name in names}


def _csv_value(name: str) -> tuple[str, list[str]]:
    """A field as a typed expression, and the WHEN clauses that say what is wrong with it."""
    column = _identifier(f"raw {name}")
    if name == "key":
        rest = f"replace({column}, '%2F', '')"  # what S3 encodes most often, and by far the quickest to decode
        value = (
            f"CASE WHEN contains({rest}, '%') OR contains({column}, '+') "
            f"THEN TRY(url_decode(replace({column}, '+', ' '))) ELSE nullif(replace({column}, '%2F', '/'), '') END"
        )
        return value, [
            f"WHEN coalesce({column}, '') = '' THEN 'the row has no key'",
            "WHEN key IS NULL THEN 'the key is no UTF-8'",
        ]
    if FIELDS[name] == _TEXT:
        return f"nullif({column}, '')", []
    kind = {_NUMBER: "number", _FLAG: "true or false", _TIME: "time"}[FIELDS[name]]
    return (
        f"TRY_CAST(nullif({column}, '') AS {FIELDS[name]})",
        [f"WHEN {name} IS NULL AND {column} <> '' THEN '{name} is no {kind}'"],
    )


def _measure(connection: duckdb.DuckDBPyConnection, staged: StagedReport) -> StagedReport:
    """Count the rows, and find the fields that say the same in all of them; rows without a key are listed.

    Raises ManifestError where there is no row, or one names another bucket.
    """
    inventory, key = staged.inventory, staged.column("key")
    rows, told = statistics(connection, staged)
    if not rows:
        raise _empty(inventory)
    constants = {}
    for name in filter(staged.column, _CONSTANTS):
        low, high, known = told.get(staged.columns[name]) or scanned(connection, staged, name)
        if known == rows and low == high:
            constants[name] = f"{quoted(low)}::{FIELDS[name]}"
        elif not known:
            constants[name] = f"NULL::{FIELDS[name]}"
    if (bucket := staged.column("bucket")) and constants.get("bucket") != f"{quoted(inventory.source_bucket)}::{_TEXT}":
        other = connection.execute(
            f"SELECT {bucket} FROM {staged.relation} WHERE {bucket} IS DISTINCT FROM ? LIMIT 1",
            [inventory.source_bucket],
        ).fetchone()
        raise ManifestError(
            f"a row of {inventory.manifest} names the bucket {other[0] if other else None!r}, the report is of "
            f"{inventory.source_bucket!r}: use another inventory"
        )
    has_keys = not has_no_key(connection, staged)
    if inventory.file_format != "CSV" and not has_keys:  # of CSV's they are listed already
        connection.execute(
            f"INSERT INTO unparsed SELECT {quoted(inventory.manifest)}, NULL, NULL, 'the row has no key', "
            f"t::VARCHAR FROM {staged.relation} AS t WHERE {key} IS NULL"
        )
    return StagedReport(inventory, staged.relation, staged.columns, rows, constants, has_keys)


_CONSTANTS = (
    "bucket",
    "islatest",
    "isdeletemarker",
    "storageclass",
    "ismultipartuploaded",
    "replicationstatus",
    "encryptionstatus",
)
"""Fields of few values: quick to look through, and often one value in all rows."""


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
