"""Staging of reports: verified data files as Parquet on disk, for DuckDB.

Parquet files stay as they are. CSV and ORC become Parquet files in the scratch folder. A report of
which a row cannot be read is refused: what it says of that row is unknown.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb
from msgspec import Struct

from jobs.errors import ManifestError
from jobs.inventory.data_files import fold_name
from jobs.inventory.fields import FEW_VALUED, FIELDS
from jobs.inventory.report import Inventory
from jobs.s3.retries import gather_bounded
from jobs.s3.store import Store
from jobs.tables.duck import identifier, parquet, room

FETCHES = 4
"""Data files that are downloaded and checked at once."""
ROW_GROUP_ROWS = 30_720
"""Large row groups cost more memory and time than they save."""
AGAIN = "have the inventory delivered again, or list both sides"


class StagedReport(Struct, frozen=True):
    """A verified report as a relation.

    `relation` is SQL, `columns` maps the folded names of fields to its columns.
    """

    inventory: Inventory
    relation: str
    columns: Mapping[str, str]
    rows: int = 0

    def field(self, name: str) -> str:
        """Return SQL for a field of the relation `r`, a null where the report does not have it."""
        column = self.columns.get(name)
        return f"NULL::{FIELDS[name]}" if column is None else f"r.{identifier(column)}"


class UnusableReport(ManifestError):
    """Raised for an inventory that proves nothing: it lists nothing, or only a part, or has rows that
    cannot be read.
    """


async def fetch_report(inventory: Inventory, store: Store, folder: Path) -> dict[str, str]:
    """Download every data file of a report into the folder, verified → local path → its place.

    Raises ManifestError for a report without files, and for a file that is missing or was altered.
    Raises StoreError when S3 refuses.
    """
    if not inventory.files and not inventory.is_listing:
        raise _empty(inventory)

    async def fetch(number: int) -> tuple[str, str]:
        place, path = await inventory.fetch(store, inventory.files[number], folder / f"{number:06d}.data")
        return str(path), str(place)

    return dict(await gather_bounded(fetch, range(len(inventory.files)), FETCHES))


def stage_report(
    connection: duckdb.DuckDBPyConnection, inventory: Inventory, places: Mapping[str, str]
) -> StagedReport:
    """Make fetched files readable. This blocks: call it in a thread.

    Raises UnusableReport for a report without rows, a file that is unreadable or lacks a promised
    column, and rows of another bucket or without a key.
    """
    columns = {fold_name(name): name for name in inventory.columns if fold_name(name) in FIELDS}
    if not places:
        nothing = ", ".join(f"NULL::{FIELDS[name]} AS {name}" for name in columns)
        return StagedReport(inventory, f"(SELECT {nothing} WHERE false)", {name: name for name in columns})
    with usable((inventory, places)):
        paths = [Path(path) for path in places]
        if inventory.file_format != "Parquet":
            columns = {name: name for name in columns}
            with ThreadPoolExecutor(min(len(os.sched_getaffinity(0)), FETCHES)) as pool:
                typed = pool.map(partial(_write_typed, inventory=inventory), paths, places.values())
                paths = [path for path in typed if path is not None]
        if not paths:
            raise _empty(inventory)
        relation = parquet(paths, "binary_as_string = true")
        found = {name for name, *_ in connection.execute(f"DESCRIBE FROM {relation}").fetchall()}
        if missing := [name for name in columns.values() if name not in found]:
            raise ValueError(f"they lack {', '.join(missing)}")
        staged = StagedReport(inventory, relation, columns, _one(connection, f"SELECT count(*) FROM {relation} r"))
        if not staged.rows:
            raise _empty(inventory)
        if _one(connection, f"SELECT count(*) FROM {relation} r WHERE {staged.field('key')} IS NULL"):
            raise ValueError("a row has no key")
        if "bucket" in columns:
            bucket, own = staged.field("bucket"), inventory.source_bucket
            other = f"SELECT {bucket} FROM {relation} r WHERE {bucket} IS DISTINCT FROM ? LIMIT 1"
            if rows := connection.execute(other, [own]).fetchall():
                raise ValueError(f"a row names the bucket {rows[0][0]!r}, the report is of {own!r}")
        return staged


def _one(connection: duckdb.DuckDBPyConnection, sql: str) -> Any:
    return connection.execute(sql).fetchall()[0][0]


def _write_typed(path: Path, place: str, inventory: Inventory) -> Path | None:
    """Write the fields of a CSV or ORC file to `<path>.parquet`. Returns its path, None without rows."""
    import pyarrow.parquet as pq

    from jobs.inventory.rows import read_fields

    target = path.with_suffix(".parquet")
    try:
        batches = read_fields(path, inventory.file_format, inventory.columns, FIELDS.keys())
        if (first := next(batches, None)) is None:
            return None
        # Fast: dictionaries for columns of few values, compression for keys, which resemble each other.
        words: Any = [name for name in first.schema.names if name in FEW_VALUED]
        compression: Any = {name: "lz4" if name == "key" else "none" for name in first.schema.names}
        with pq.ParquetWriter(target, first.schema, compression=compression, use_dictionary=words) as writer:
            for batch in chain([first], batches):
                writer.write_batch(batch, row_group_size=ROW_GROUP_ROWS)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{place}: {error}") from error
    return target


def _empty(inventory: Inventory) -> UnusableReport:
    return UnusableReport(
        f"{inventory.manifest} lists no object of the bucket {inventory.source_bucket}: an empty report proves nothing",
        advice="check the inventory's configuration and prefix",
    )


@contextlib.contextmanager
def usable(*reports: tuple[Inventory, Mapping[str, str]]) -> Iterator[None]:
    """Raise what DuckDB or pyarrow cannot read as an UnusableReport that names the data files, not their copies.

    `reports`: each with the places of its fetched files. Raises ConfigError without memory, or room on disk.
    """
    try:
        with room("the comparison", "free space or set TMPDIR"):
            yield
    except (duckdb.FatalException, duckdb.InternalException):
        raise
    except (duckdb.Error, ValueError) as error:
        message = " ".join(str(error).split())
        for path, place in (each for _, places in reports for each in places.items()):
            message = message.replace(path, place)
        kinds = " or ".join(f"those of {each.manifest} as {each.file_format}" for each, _ in reports)
        raise UnusableReport(
            f"data files cannot be read with the columns that their manifest gives them, {kinds}: {message[:400]}",
            advice=AGAIN,
        ) from error
