"""Damaged files of the ledger: which of the downloaded ones cannot be read, and why."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import duckdb

from jobs.core.model import Location
from jobs.core.outcome import GOOD, Status
from jobs.errors import LedgerError
from jobs.ledger.agreement import checkpoint_disagreement
from jobs.ledger.ledger import Checkpoint
from jobs.ledger.table_docs import TABLES
from jobs.tables.duck import MEMORY_LIMIT, connect, file_list, in_thread, parquet, quoted
from jobs.tables.rows import outcome_schema

_MISFIT = re.compile(r'Error while reading file "([^"]+)": (failed to cast column "\w+" from type .+?): ')
"""DuckDB's message for a file whose column has another type than that of the other files."""
_ADDED = frozenset({"run_id", "shard"})
"""Columns of the table `outcomes` that no file has: they come from its place."""
_TYPES = {name: kind for name, kind in TABLES["outcomes"].types.items() if name not in _ADDED}
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


def find_altered(connection: duckdb.DuckDBPyConnection, files: Mapping[Path, Location]) -> list[DamagedFile]:
    """The outcome files that are not what Sealift writes.

    They lack a column or have it in another type, their rows are not those that the name counts, or
    a status is none. Raises duckdb.Error for a file that cannot be read.
    """
    altered = {path: reason for path, reason in _schema_reasons(connection, files) if reason}
    found = [DamagedFile(files[path], reason) for path, reason in altered.items()]
    fit = {path: place for path, place in files.items() if path not in altered}
    found += [DamagedFile(fit[path], reason) for path, reason in _count_reasons(connection, fit) if reason]
    return sorted(found)


def _schema_reasons(connection: duckdb.DuckDBPyConnection, files: Collection[Path]) -> Iterator[tuple[Path, str]]:
    """Each outcome file, and what is wrong with its columns, by its footer."""
    if not files:
        return
    rows = connection.execute(
        "SELECT file_name, list((name, duckdb_type, repetition_type)) "
        f"FROM parquet_schema({file_list(files)}) GROUP BY file_name ORDER BY file_name"
    ).fetchall()
    for file, columns in rows:
        yield Path(file), _schema_reason({name: (kind, repetition) for name, kind, repetition in columns})


def _schema_reason(columns: Mapping[str, tuple[str, str]]) -> str:
    """`columns`: the name of each → its type in DuckDB, and whether Parquet requires a value."""
    needed = [each.name for each in outcome_schema() if not each.nullable]
    if lost := [name for name in needed if name not in columns]:
        return f"it has no column {', '.join(lost)}"
    for name, kind in _TYPES.items():
        if name in columns and columns[name][0] != kind:
            return f"its column {name} is {columns[name][0]}, not {kind}"
    if optional := [name for name in needed if columns[name][1] != "REQUIRED"]:
        return f"its column {optional[0]} may be null"
    return f"it has the column {min(added)}" if (added := (_ADDED | {"filename"}) & columns.keys()) else ""


def _count_reasons(connection: duckdb.DuckDBPyConnection, files: Mapping[Path, Location]) -> Iterator[tuple[Path, str]]:
    """Each outcome file, and how its rows disagree with its name."""
    if not files:
        return
    good, known = (", ".join(quoted(each.value) for each in sorted(statuses)) for statuses in (GOOD, Status))
    counts = {
        Path(file): counts
        for file, *counts in connection.execute(
            f"""
            SELECT filename, count(*), count(*) FILTER (status NOT IN ({good})),
                   min(status) FILTER (status NOT IN ({known}))
            FROM {parquet(files, "filename = true")} GROUP BY filename
            """
        ).fetchall()
    }
    for path, place in files.items():
        rows, bad_rows, unknown = counts.get(path, (0, 0, None))
        if unknown is not None:
            yield path, f"it has the status {unknown!r:.100}"
        elif (named := _checkpoint(place)) is not None:
            numbers = range(rows)
            reason = checkpoint_disagreement(numbers, bad_rows, (named.rows, named.bad_rows), numbers)
            yield path, reason and f"it {reason}"


def _checkpoint(place: Location) -> Checkpoint | None:
    """What an outcome file's name says. None for a name of another form."""
    try:
        return Checkpoint.parse(0, place.key.rpartition("/")[2])
    except LedgerError:
        return None


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
