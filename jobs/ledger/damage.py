"""Damaged files of the ledger: which of the downloaded ones cannot be read, and why."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import duckdb

from jobs.core.model import Location
from jobs.errors import LedgerError
from jobs.ledger.table_docs import TABLES
from jobs.tables.duck import MEMORY_LIMIT, connect, file_list, in_thread, parquet

_MISFIT = re.compile(r'Error while reading file "([^"]+)": (failed to cast column "\w+" from type .+?): ')
"""DuckDB's message for a file whose column has another type than that of the other files."""
_OTHER_RUNS = "restore an earlier version of this file, or ask another --run"
_RESTORE = "restore an earlier version of this file"
_STATE = f"{_RESTORE}, or remove it if Sealift did not write it"


class DamagedFile(NamedTuple):
    """A file of the ledger that cannot be read, and why."""

    location: Location
    reason: str


class DamagedFiles(LedgerError):
    """Files of the ledger cannot be read. `files` are all that were found, by name."""

    def __init__(self, files: Sequence[DamagedFile], ledger: Location):
        self.files, self.ledger = tuple(files), ledger
        (place, reason), *more = self.files
        others = f" and {len(more):,} more file{'s' * (len(more) > 1)}" if more else ""
        name = place.key.removeprefix(ledger.key).lstrip("/")
        advices = {"runs": _OTHER_RUNS, "state": _STATE}
        advice = advices.get(name.partition("/")[0], _RESTORE)
        super().__init__(f"{place}{others} cannot be read ({reason}): the ledger was altered", advice=advice)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.files, self.ledger)


async def find_damaged(files: Mapping[Path, Location], scratch: Path) -> list[DamagedFile]:
    """Read each downloaded file whole. `files`: where in the ledger each path comes from."""
    found = []
    with connect(scratch, memory_limit=MEMORY_LIMIT) as connection:
        for path, location in sorted(files.items()):
            if reason := await in_thread(connection, damage, connection, path):
                found.append(DamagedFile(location, reason))
    return found


def find_misfit(error: BaseException, files: Mapping[Path, Location]) -> DamagedFile | None:
    """The file that an error of DuckDB, or what was made of it, names for the type of a column."""
    match = _MISFIT.search(str(error if isinstance(error, duckdb.Error) else error.__cause__))
    place = files.get(Path(match[1])) if match else None
    return DamagedFile(place, match[2]) if match and place else None


def read_journal(files: str, options: str = "") -> str:
    """SQL for the rows of the journal's JSON files, a SQL list."""
    columns = ", ".join(f"{name}: '{kind}'" for name, kind in TABLES["journal"].types.items() if name != "dt")
    return f"read_json({files}, columns = {{{columns}}}, hive_partitioning = false{', ' * bool(options)}{options})"


def damage(connection: duckdb.DuckDBPyConnection, path: Path) -> str:
    """Why DuckDB cannot read a file. Empty if it can."""
    rows = read_journal(file_list([path])) if path.suffix == ".json" else parquet([path])
    try:
        connection.execute(f"SELECT max(hash(each)) FROM {rows} AS each").fetchall()
    except duckdb.InterruptException:
        raise
    except duckdb.Error as error:
        first = str(error).partition("\n")[0].replace(str(path), path.name)
        return re.sub(r"^Invalid Input Error: ", "", first).rstrip(" .:")
    return ""
