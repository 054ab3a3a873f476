"""DuckDB over local files: opening it, views bound to a folder, and SQL strings."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import duckdb

from jobs.core.selection import parse_size
from jobs.errors import ConfigError, UsageError

MEMORY_LIMIT = "512MB"
BATCH_ROWS = 10_000

_SETTINGS: dict[str, Any] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "python_enable_replacements": False,  # else SQL could name a variable of ours as a table
}


THREAD_BYTES = 64_000_000
"""What a thread of DuckDB needs to sort. With less a query ends for want of memory: it cannot spill."""
COSTLY_PASS = "partial_aggregate_pushdown"
"""A pass of the optimizer of DuckDB 2.0. It takes 0.07 of the 0.08 s of planning a reconciliation's
join, and makes no query faster."""
INTERRUPT_SECONDS = 0.05
"""How long after an interrupt the next one comes. One between two queries of a thread stops neither."""

T = TypeVar("T")


@contextlib.contextmanager
def scratch_folder(parent: Path, prefix: str, what: str) -> Iterator[Path]:
    """A folder for the files of a database, which is removed afterwards.

    Raises ConfigError when the block finds no room in it for `what`.
    """
    try:
        with TemporaryDirectory(prefix=prefix, dir=parent) as folder:
            yield Path(folder)
    except (duckdb.IOException, duckdb.OutOfMemoryException, OSError) as error:
        first = str(error).partition("\n")[0]
        raise ConfigError(f"cannot {what} in {parent}: {first}", advice="free space there or set TMPDIR") from error


def connect(
    folder: Path, *, memory_limit: str, database: str = ":memory:", **settings: Any
) -> duckdb.DuckDBPyConnection:
    """A database, in memory or in a file, that spills to a folder below `folder` above its memory
    limit.

    Times are in UTC. `settings` are DuckDB's own, such as `threads`: if they do not say, there are
    as many as there are cores, and the limit has room for.
    """
    limits = {"memory_limit": memory_limit, "temp_directory": str(folder / "spill")}
    connection = duckdb.connect(database, config=_SETTINGS | limits | settings)
    # The progress bar goes to stdout, which belongs to the command's own output.
    connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
    if "threads" not in settings:
        most = max(parse_size(memory_limit) // THREAD_BYTES, 1)
        connection.execute(f"SET threads = least(current_setting('threads'), {most})")
    with contextlib.suppress(duckdb.ParserException):  # other releases have no such pass
        connection.execute(f"SET disabled_optimizers = '{COSTLY_PASS}'")
    return connection


async def in_thread(connection: duckdb.DuckDBPyConnection, work: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """`asyncio.to_thread` for work that queries a connection.

    A cancellation interrupts the query, and waits for the thread: DuckDB closes no connection that
    is at work, and a query may take hours.
    """
    thread = asyncio.ensure_future(asyncio.to_thread(work, *arguments, **named))
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:
        while not thread.done():
            with contextlib.suppress(duckdb.Error):
                connection.interrupt()
            with contextlib.suppress(asyncio.CancelledError):  # a second one changes nothing
                await asyncio.wait([thread], timeout=INTERRUPT_SECONDS)
        if not thread.cancelled():
            thread.exception()  # read, so that nobody reports it
        raise


class Database:
    """Views over the Parquet and JSON files below one folder. The folder's owner removes it."""

    def __init__(self, folder: Path, *, memory_limit: str = MEMORY_LIMIT):
        self.files = folder / "files"
        self.files.mkdir(parents=True, exist_ok=True)
        self.connection = connect(folder, memory_limit=memory_limit)

    def define(self, name: str, types: Mapping[str, str], relation: str | None) -> None:
        """The view `name`: `relation` with at least these columns (name → DuckDB type).

        Empty without a relation.
        """
        columns = ", ".join(f'NULL::{kind} AS "{column}"' for column, kind in types.items())
        empty = f"SELECT {columns} WHERE false"
        rest = f" UNION ALL BY NAME SELECT * FROM {relation}" if relation else ""
        self.connection.execute(f'CREATE VIEW "{name}" AS {empty}{rest}')

    def lock(self) -> None:
        """Close all ways out for good: other files, the network, extensions, settings."""
        # As a pattern, too: DuckDB looks a pattern up before it knows which files match it.
        names = sorted({str(self.files), literal_path(self.files)})
        self.connection.execute(f"SET allowed_directories = [{', '.join(map(quoted, names))}]")
        self.connection.execute("SET enable_external_access = false; SET lock_configuration = true")

    async def select(self, sql: str, tables: Sequence[str] = ()) -> None:
        """Make what the one SELECT in `sql` gives the answer, which is not yet computed.

        Raises UsageError for other or wrong SQL, with the names of `tables` for an unknown name.
        Raises ConfigError where memory or disk are full. So do all who compute it.
        """
        check_select(sql)
        with refusals(tables):
            relation = await in_thread(self.connection, self.connection.sql, sql)
            # A view of its own gives columns of the same name different ones.
            relation.create_view("__answer")

    def rows(self, columns: str = "*", limit: int | None = None) -> Iterator[dict[str, Any]]:
        """The answer's rows as Python values, a bounded batch at a time."""
        with refusals():
            relation: Any = self.connection.sql(f"SELECT {columns} FROM __answer LIMIT {limit or 'NULL'}")
            for batch in relation.to_arrow_reader(BATCH_ROWS):
                yield from batch.to_pylist()

    def write(self, file_format: str) -> Path:
        """A file with the answer's rows: `csv` (with a header, and harmless to open) or `parquet`."""
        path, answer = self.files / f"answer.{file_format}", self.connection.table("__answer")
        options = {"csv": "FORMAT csv, HEADER", "parquet": "FORMAT parquet, COMPRESSION zstd"}[file_format]
        columns = []
        for name, kind in zip(map(identifier, answer.columns), answer.types, strict=True):
            is_safe = file_format == "parquet" or _NUMBERS.fullmatch(str(kind))
            columns.append(name if is_safe else f"{harmless(f'CAST({name} AS VARCHAR)')} AS {name}")
        with refusals():
            sql = f"COPY (SELECT {', '.join(columns)} FROM __answer) TO {quoted(path)} ({options})"
            self.connection.execute(sql)
        return path


def check_select(sql: str) -> None:
    """Raises UsageError unless `sql` is exactly one statement, and that one only reads."""
    with refusals():
        statements = duckdb.connect(":memory:").extract_statements(sql)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        kinds = ", ".join(statement.type.name for statement in statements) or "nothing"
        raise UsageError("SQL", advice=f"give one SELECT; this is {kinds}")


def named_tables(sql: str, tables: Iterable[str]) -> list[str]:
    """The tables that are words of the SQL: at least those that it reads."""
    words = {*re.findall(r"\w+", sql.lower())}
    return [name for name in tables if name in words]


_FORMULA = "^[=+\\-@\\t\\r]"
"""What a spreadsheet takes for a formula at the beginning of a cell (OWASP, CSV Injection)."""


_CONTROL = r"[\x00-\x08\x0b-\x1f\x7f-\x9f\p{Cf}\p{Co}\x{2028}\x{2029}]"
"""Control characters but tab and newline, which a CSV file quotes, and what turns the reading
direction or hides."""
_NUMBERS = re.compile(r"BOOLEAN|U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL.*|DATE|TIME.*|INTERVAL")
"""Types whose values are never text from a bucket."""


def harmless(name: str) -> str:
    r"""For a CSV file that people open: a column's text in SQL.

    Text that a spreadsheet would take for a formula gets a `'` in front. Control characters become
    escapes such as `\u001b`: a terminal must not obey a key.
    """
    is_formula, has_control = f"regexp_matches({name}, '{_FORMULA}')", f"regexp_matches({name}, '{_CONTROL}')"
    code = "printf('%x', unicode(c))"
    written = rf"CASE WHEN length({code}) > 4 THEN '\U' || lpad({code}, 8, '0') ELSE '\u' || lpad({code}, 4, '0') END"
    escape = f"lambda c: CASE WHEN regexp_matches(c, '{_CONTROL}') THEN {written} ELSE c END"
    visible = f"array_to_string(list_transform(regexp_extract_all({name}, '(?s).'), {escape}), '')"
    mark = f"CASE WHEN {is_formula} THEN {quoted(chr(39))} ELSE '' END"
    return f"{mark} || CASE WHEN {has_control} THEN {visible} ELSE {name} END"


def quoted(value: object) -> str:
    """A SQL string."""
    return "'" + str(value).replace("'", "''") + "'"


def parquet(paths: Path | Iterable[Path], options: str = "", *, below: str = "") -> str:
    """Parquet files as a relation.

    They are found by their very names: `*`, `?`, `[` and `key=value` in a path mean nothing.
    `below` is a pattern, and `paths` then are the folders that it is looked for in. `options` are
    further arguments of `read_parquet`.
    """
    return f"read_parquet({file_list(paths, below=below)}, hive_partitioning = false{', ' * bool(options)}{options})"


def file_list(paths: Path | Iterable[Path], *, below: str = "") -> str:
    """Paths as a SQL list for a table function, which takes each for a pattern. See `parquet`."""
    each = [paths] if isinstance(paths, Path) else paths
    return f"[{', '.join(quoted(literal_path(path) + (f'/{below}' if below else '')) for path in each)}]"


def literal_path(path: Path) -> str:
    """A pattern that only this path matches."""
    return "".join(f"[{each}]" if each in "*?[" else each for each in str(path))


@contextlib.contextmanager
def room(what: str = "the query", advice: str = "ask for less, with WHERE or --run") -> Iterator[None]:
    """Turn errors of DuckDB that say that memory or disk are full into a ConfigError.

    `what` needs the room. `advice`: where memory is full. Behind the first rows of an Arrow reader they are an OSError.
    """
    try:
        yield
    except (duckdb.Error, OSError) as error:
        first = str(error).partition("\n")[0].rstrip(".")
        if "No space left" in first or "failed to offload" in first:
            raise ConfigError(f"{what} has no room on disk ({first})", advice="free space or set TMPDIR") from error
        if isinstance(error, duckdb.OutOfMemoryException) or first.startswith("Out of Memory"):
            raise ConfigError(f"{what} needs more memory than Sealift gives it ({first})", advice=advice) from error
        raise


@contextlib.contextmanager
def refusals(tables: Sequence[str] = ()) -> Iterator[None]:
    """Turn errors of DuckDB in the block into a UsageError of one line.

    `tables`: the names of all tables. DuckDB knows only those that the SQL names. Raises ConfigError
    where memory or disk are full (`room`).
    """
    import pyarrow as pa

    try:
        with room():
            yield
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        first = str(error).strip().partition("\n")[0].rstrip("!.")
        names = f": the tables are {', '.join(tables)}" if tables else ""
        raise UsageError(f"SQL: {first}", advice=f"see `sealift query`{names}") from error


def identifier(name: str) -> str:
    """A name in SQL, quoted."""
    return '"' + name.replace('"', '""') + '"'
