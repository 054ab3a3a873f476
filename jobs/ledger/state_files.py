"""Files of the state: deltas, and the generations that hold them.

    <ledger>/state/
      deltas/<run id>.parquet          the verdicts of one run (one more for what came late)
      generations/000001.json          what it holds: deltas, files, counts (exists = it is valid)
      generations/000001/<id>-….parquet   the verdicts that can still matter, and those of findings
      claims/000001/                   who makes that generation

All are written once. Readers take the newest generation that can be read, and the deltas that it
does not hold. The two newest generations stay, and each delta until both hold it: so a damaged one
is made again from the one before. Nothing else in the ledger is ever removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal
from urllib.parse import quote, unquote

import duckdb
import msgspec

from jobs.core.model import Location, ObjectRef
from jobs.errors import ConfigError, Denied, LedgerError, NotFound, PreconditionFailed, SealiftError, UsageError
from jobs.ledger.claims import claim
from jobs.ledger.files import PARQUET, ledger_guard, list_names, read_document, write_file
from jobs.ledger.ledger import Ledger
from jobs.ledger.state import AT_PLACE, BAD, DOUBTS, NEVER_NULL, VERDICT_TYPES, pruned_sql, state_sql
from jobs.s3.downloads import download
from jobs.s3.retries import gather_bounded, together
from jobs.s3.uploads import upload_file
from jobs.tables import duck
from jobs.tables.duck import Database, file_list, identifier, in_thread, parquet, quoted
from jobs.tables.ranged_parquet import holds_any

DELTAS, GENERATIONS, CLAIMS = "state/deltas/", "state/generations/", "state/claims/"
RANGE_ROWS = 100_000
"""So many verdicts are judged at once, all those of their keys: memory does not grow with the state. Twice as many,
all of them bad, do not fit into MEMORY_LIMIT."""
GROUP_ROWS = 40_960
"""Rows of a row group: ranges are cut between these."""
MEMORY_LIMIT = "320MB"
RESTORE = "restore an earlier version of it, or remove it if Sealift did not write it"
DOWNLOADS = 8
DELTAS_MAX = 32
"""So many deltas may lie beside a generation before a run's end makes another one. Nights do so daily."""
_DOCUMENT = re.compile(r"[0-9]{6}\.json")
_DELTA = re.compile(r"[^/]+\.parquet")
_FILE = r"[0-9]{6}/[0-9a-f]{16}-(state-[0-9]{5}|findings)\.parquet"
_OF_GENERATIONS = re.compile(rf"{_DOCUMENT.pattern}|{_FILE}", re.ASCII)
_OF_SQL = (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException)
"""What DuckDB raises for a query, never for a damaged file."""
_TYPES = [(identifier(name), kind) for name, kind in VERDICT_TYPES.items()]
_COLUMNS = ", ".join(f"{name}::{kind} AS {name}" for name, kind in _TYPES)
NO_VERDICTS = f"(SELECT {', '.join(f'NULL::{kind} AS {name}' for name, kind in _TYPES)} LIMIT 0)"


class StateFile(msgspec.Struct, frozen=True):
    """A file of a generation, the keys that it begins and ends with, and the last second that it has verdicts of.

    A release that did not say that second may have looked at any.
    """

    name: Annotated[str, msgspec.Meta(pattern=rf"\A{_FILE}\Z")]
    sha256: str
    first_key: str
    last_key: str
    until: int = 1 << 40


class Place(msgspec.Struct, frozen=True):
    """What a generation knows of copies below one prefix. Times are epoch seconds.

    `unchecked`, `unread`: how many were never compared by anything stored, or by their bytes.
    """

    copy_service: str
    copy_bucket: str
    prefix: str
    objects: int
    unchecked: int
    unread: int
    oldest_checked: float | None
    oldest_read: float | None


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """A generation's document."""

    format: Literal[1] = 1
    number: int = 0
    made_at: float = 0.0
    made_by: str = ""
    deltas: tuple[str, ...] = ()
    files: tuple[StateFile, ...] = ()
    findings: tuple[StateFile, ...] = ()
    places: tuple[Place, ...] = ()


async def write_delta(ledger: Ledger, name: str, path: Path) -> None:
    """Add verdicts, a Parquet file with their columns, best in the order of keys.

    Other verdicts of one run have another name: to say something twice changes nothing.
    """
    digest = await asyncio.to_thread(_sha256, path)
    with contextlib.suppress(PreconditionFailed):  # they are there
        await _upload(ledger, f"{DELTAS}{name}-{digest[:16]}.parquet", path)


async def state_relation(ledger: Ledger, database: Database, *, only_open: bool) -> str | None:
    """The state as a relation of the database, whose files it fills. None: nothing is known.

    `only_open`: of keys that may have findings, so that little is downloaded. Raises LedgerError if a file cannot
    be read, ConfigError without room on disk, and StoreError.
    """
    made, connection = database.files / ("open" if only_open else "whole"), database.connection
    made.mkdir()
    verdicts, paths = await known_verdicts(ledger, connection, database.files, only_open=only_open)

    def define() -> None:
        for number, condition in enumerate(_ranges(connection, paths)):
            _copy(connection, state_sql(f"(FROM {verdicts} WHERE {condition})"), made / f"{number:05d}.parquet")

    with readable(ledger, database.files):
        await in_thread(connection, define)
    return parquet(made, below="*.parquet") if paths else None


async def known_verdicts(
    ledger: Ledger, connection: duckdb.DuckDBPyConnection, folder: Path, *, only_open: bool
) -> tuple[str, Sequence[Path]]:
    """Verdicts that the state has as a relation, and its files, which are downloaded to a folder.

    `only_open`: those of keys that may have findings. Of the generation these are its findings, and the
    files with keys that a late finding in a newer delta is about.
    """
    held = await _fetch(ledger, folder, only_open=only_open)
    if not (only_open and held.paths):
        return parquet(held.paths) if held.paths else NO_VERDICTS, held.paths
    deltas, late = held.paths[len(held.generation.findings) :], list[tuple[str]]()

    def find_doubts() -> None:
        _check_identities(connection, held.paths)
        keys = f"SELECT DISTINCT source_bucket, key FROM {parquet(held.paths)} WHERE {DOUBTS}"
        connection.execute(f"CREATE OR REPLACE TABLE doubted AS {keys}")
        if deltas:
            until = max((each.until for each in held.generation.files), default=0)
            is_late = f"verdict IN ('bad', 'unknown') AND epoch(\"at\") < {until + 1}"
            sql = f"SELECT DISTINCT key FROM {parquet(deltas)} WHERE {is_late} ORDER BY key"
            late.extend(connection.execute(sql).fetchall())

    with readable(ledger, folder):
        await in_thread(connection, find_doubts)
    keys = [key for (key,) in late]
    files = [each for each in held.generation.files if holds_any(keys, each.first_key, each.last_key)]
    paths = [*held.paths, *await _download(ledger, files, folder)]
    return f"(FROM {parquet(paths)} SEMI JOIN doubted USING (source_bucket, key))", paths


async def summary(ledger: Ledger) -> Generation:
    """The newest generation, which counts, without a look at the state's files. Raises LedgerError."""
    return (await _generations(ledger))[0].generation


async def is_known(ledger: Ledger, run_id: str, ended_at: float) -> bool:
    """Whether the state has what a run said that ended then (epoch seconds). Raises LedgerError."""
    held = (await _generations(ledger))[0]
    return any(name.startswith(f"{run_id}-") for name in held.there) or held.generation.made_at > ended_at


async def compact(ledger: Ledger, by: str, *, prefixes: Sequence[Location] = ()) -> Generation:
    """Make a generation of the newest one and the deltas since. Returns the newest one then.

    `prefixes`: places of copies that are counted apart. The rest is counted by bucket. Where another
    one is making it, there is nothing to do: readers take the deltas. Raises as `state_relation` does.
    """
    with TemporaryDirectory(prefix="sealift-state-") as scratch:
        database = Database(Path(scratch), memory_limit=MEMORY_LIMIT)
        with contextlib.closing(database.connection) as connection:
            held = await _fetch(ledger, database.files, only_open=False)
            number, who = held.highest + 1, {"by": by, "id": secrets.token_hex(8)}
            has_news = held.paths and (held.newer or held.generation.number < held.highest)
            if not has_news or not await claim(ledger.store, ledger.location, f"{CLAIMS}{number:06d}", who):
                return held.generation
            with readable(ledger, database.files):
                made = await in_thread(connection, _compact, connection, held, Path(scratch), prefixes)
        for file in (*made.files, *made.findings):
            await _upload(ledger, GENERATIONS + file.name, Path(scratch, file.name))
    made = msgspec.structs.replace(made, made_at=time.time(), made_by=by)
    try:
        await write_file(ledger.store, ledger.location, f"{GENERATIONS}{number:06d}.json", msgspec.json.encode(made))
    except PreconditionFailed:
        return await summary(ledger)
    await _clean(ledger, made, held)
    return made


async def compact_if_due(ledger: Ledger, by: str) -> None:
    """Make a generation where nights do not, so that a reader has few files to read."""
    with contextlib.suppress(SealiftError):  # the deltas say the same
        if len((await _generations(ledger))[0].newer) >= DELTAS_MAX:
            await compact(ledger, by)


def _compact(
    connection: duckdb.DuckDBPyConnection, held: _Held, folder: Path, prefixes: Sequence[Location]
) -> Generation:
    """Write the files of the next generation, one range of keys after the other."""
    number, files = held.highest + 1, list[StateFile]()
    (folder / f"{number:06d}").mkdir()

    def write(sql: str, what: str) -> StateFile:
        name = f"{number:06d}/{secrets.token_hex(8)}-{what}.parquet"
        _copy(connection, sql, folder / name)
        holds = """SELECT coalesce(min(key), ''), coalesce(max(key), ''), coalesce(max(epoch("at")), 0)::BIGINT"""
        about = connection.execute(f"{holds} FROM {parquet(folder / name)}").fetchall()[0]
        return StateFile(name, _sha256(folder / name), *about)

    for part, condition in enumerate(_ranges(connection, held.paths)):
        files.append(write(pruned_sql(f"(FROM {parquet(held.paths)} WHERE {condition})"), f"state-{part:05d}"))
        verdicts = parquet(folder / files[-1].name)
        connection.execute(f"CREATE OR REPLACE TABLE part AS {state_sql(verdicts)}")
        bad = f"FROM {verdicts} SEMI JOIN (FROM part WHERE {BAD}) USING ({AT_PLACE})"
        for name, sql in (("places", _places_sql(prefixes)), ("bad", bad)):
            connection.execute(f"INSERT INTO {name} {sql}" if part else f"CREATE TABLE {name} AS {sql}")
    rows = connection.execute(
        "SELECT copy_service, copy_bucket, prefix, sum(objects)::BIGINT, sum(unchecked)::BIGINT, sum(unread)::BIGINT, "
        "min(oldest_checked), min(oldest_read) FROM places GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    ).fetchall()
    return Generation(
        number=number,
        deltas=tuple(held.there),
        files=tuple(files),
        findings=(write(f"FROM bad ORDER BY {AT_PLACE}", "findings"),),
        places=tuple(Place(*row) for row in rows),
    )


def _places_sql(prefixes: Sequence[Location]) -> str:
    return f"""
        SELECT copy_service, copy_bucket, {prefix_sql(prefixes)} AS prefix,
               count(*) AS objects, count(*) - count(checked_at) AS unchecked, count(*) - count(read_at) AS unread,
               epoch(min(checked_at)) AS oldest_checked, epoch(min(read_at)) AS oldest_read
        FROM part GROUP BY ALL"""


def prefix_sql(places: Sequence[Location]) -> str:
    """SQL for the longest prefix of these places of copies that a row of the state is in, else an empty one."""
    prefixes = [
        f"WHEN copy_bucket = {quoted(bucket)} AND starts_with(copy_key, {quoted(key)}) THEN {quoted(key)}"
        for bucket, key in sorted(places, key=lambda each: -len(each.key))
    ]
    return f"CASE {' '.join(prefixes)} ELSE '' END" if prefixes else "''"


async def _clean(ledger: Ledger, made: Generation, before: _Held) -> None:
    """Remove what neither this generation nor the one before it needs."""
    if before.highest != before.generation.number:
        return
    both = (made, before.generation)
    kept = {f"{each.number:06d}.json" for each in both}
    kept |= {file.name for each in both for file in (*each.files, *each.findings)}
    names = await _names(ledger, GENERATIONS, _OF_GENERATIONS)
    gone = [GENERATIONS + name for name in names if name not in kept and int(name[:6]) <= made.number]
    gone += [DELTAS + name for name in before.generation.deltas if name in made.deltas]
    with contextlib.suppress(Denied):  # they cost room, nothing else
        for name in gone:
            await ledger.store.delete(ObjectRef(*ledger.location.join(name)))


class _Held(msgspec.Struct):
    """A generation and the deltas after it.

    `highest`: the last number that anybody took. `there`: the names of all deltas, `newer`: of those after
    it. `paths`: the files that were downloaded, those of the newer deltas at the end.
    """

    generation: Generation
    highest: int
    there: list[str]
    newer: list[str]
    paths: list[Path] = []


async def _fetch(ledger: Ledger, folder: Path, *, only_open: bool) -> _Held:
    """Download the newest generation whose files are whole, and the deltas that it does not hold."""
    for held in await _generations(ledger):
        files = held.generation.findings if only_open else held.generation.files
        with contextlib.suppress(NotFound, LedgerError):
            held.paths = await _download(ledger, files, folder)
            held.paths += await fetch_files(ledger, [DELTAS + name for name in held.newer], folder)
            return held
    raise _lost(ledger)


async def _generations(ledger: Ledger) -> list[_Held]:
    """The generations whose documents can be read, the newest first, at last what is before the first one.

    Raises LedgerError where deltas that a damaged one held are gone.
    """
    second = ledger.location.join(f"{CLAIMS}000002/")  # it removes the deltas that the first one holds as well
    listed = _names(ledger, GENERATIONS, _OF_GENERATIONS), _names(ledger, DELTAS, _DELTA)
    names, there, claimed = await together(*listed, list_names(ledger.store, second))
    highest, generations = max((int(name[:6]) for name in names), default=0), list[Generation]()
    for name in sorted(filter(_DOCUMENT.fullmatch, names), reverse=True):
        with contextlib.suppress(LedgerError, NotFound):
            made = await read_document(ledger.store, ledger.location, GENERATIONS + name, Generation, RESTORE)
            if made.number == int(name[:6]):  # an empty document is one of no number
                generations.append(made)
    if highest <= 1 and not claimed:
        generations.append(Generation())
    if not generations:
        raise _lost(ledger)
    return [_Held(each, highest, there, sorted({*there} - {*each.deltas})) for each in generations]


def _lost(ledger: Ledger) -> LedgerError:
    place, advice = ledger.location.join(GENERATIONS), "restore an earlier version of its latest files"
    return LedgerError(f"no generation of the state in {place} can be read", advice=advice)


async def _names(ledger: Ledger, folder: str, ours: re.Pattern[str]) -> list[str]:
    """The names of the objects below a folder, but for those of others, such as a folder's own."""
    return [*filter(ours.fullmatch, await list_names(ledger.store, ledger.location.join(folder)))]


async def _download(ledger: Ledger, files: Sequence[StateFile], folder: Path) -> list[Path]:
    """Download files of a generation. Raises NotFound, and LedgerError for one that is not what was written."""
    paths = await fetch_files(ledger, [GENERATIONS + file.name for file in files], folder)
    for file, path in zip(files, paths, strict=True):
        if await asyncio.to_thread(_sha256, path) != file.sha256:
            raise LedgerError(f"{ledger.location.join(GENERATIONS)}{file.name} was altered", advice=RESTORE)
    return paths


async def fetch_files(ledger: Ledger, names: Sequence[str], folder: Path) -> list[Path]:
    """Download files of the ledger, each to its `local_path` in a folder. Raises StoreError, ConfigError."""

    async def fetch(name: str) -> Path:
        path = local_path(folder, name)
        await download(ledger.store, ObjectRef(*ledger.location.join(name)), path)
        return path

    try:
        return await gather_bounded(fetch, names, DOWNLOADS)
    except OSError as error:
        raise ConfigError(f"cannot write to {folder}: {error}", advice="free space or set TMPDIR") from error


def local_path(folder: Path, name: str) -> Path:
    """Where `fetch_files` puts a file of the ledger: no `/` or `..` in its name leads out of the folder."""
    return folder / quote(name, safe="=")


@contextlib.contextmanager
def readable(ledger: Ledger, folder: Path) -> Iterator[None]:
    """A context that reads what was fetched to a folder.

    Raises LedgerError for a file that cannot be read, by its name, and ConfigError without room on disk.
    """
    try:
        with duck.room("the ledger's tables"):
            yield
    except (duckdb.Error, UsageError) as error:
        is_of_sql = isinstance(error, UsageError) and isinstance(error.__cause__, _OF_SQL)
        files = [] if is_of_sql else sorted(folder.glob("*%2F*"))
        damaged = [*filter(_is_damaged, files), *(path for path in files if path.name in str(error))]
        if not damaged and isinstance(error, UsageError):
            raise
        name = str(ledger.location.join(unquote(damaged[0].name))) if damaged else f"{ledger.location} ({error})"
        raise LedgerError(f"{name} cannot be read", advice=RESTORE) from error


def _is_damaged(path: Path) -> bool:
    """Whether a file cannot be read to its end, or is below `state/` and has no verdicts."""
    columns = _COLUMNS if path.name.startswith(quote(DELTAS, safe="")) else "*"
    sql = f"SELECT max(hash(COLUMNS(*))) FROM (SELECT {columns} FROM {quoted(duck.literal_path(path))})"
    try:
        duckdb.connect(":memory:").execute(sql).fetchall()
    except duckdb.Error:
        return True
    return False


def _ranges(connection: duckdb.DuckDBPyConnection, paths: Sequence[Path]) -> Iterator[str]:
    """Conditions that cut sorted files into ranges of whole keys, as many rows in each as may be.

    Raises as `_check_identities` does.
    """
    if not paths:
        return
    _check_identities(connection, paths)
    cuts = connection.execute(
        f"""
        SELECT min(first) FROM (
            SELECT stats_min AS first, sum(row_group_num_rows) OVER (ORDER BY stats_min) // {RANGE_ROWS} AS part
            FROM parquet_metadata({file_list(paths)}) WHERE path_in_schema = 'key' AND stats_min IS NOT NULL
        ) GROUP BY part ORDER BY part OFFSET 1
        """
    ).fetchall()
    bounds = [None, *(first for (first,) in cuts), None]
    for start, end in pairwise(bounds):
        after = "true" if start is None else f"key >= {quoted(start)}"
        yield after if end is None else f"{after} AND key < {quoted(end)}"


def _check_identities(connection: duckdb.DuckDBPyConnection, paths: Sequence[Path]) -> None:
    """Raise a DuckDB error that names a file where a verdict is about no key, by the files' footers."""
    lacking = f"""
        SELECT file_name FROM parquet_metadata({file_list(paths)})
        WHERE path_in_schema IN {NEVER_NULL} AND coalesce(stats_null_count, num_values) > 0"""
    for (name,) in connection.execute(lacking).fetchall():
        raise duckdb.InvalidInputException(f"{name} has a verdict about no key")


def copy_verdicts(connection: duckdb.DuckDBPyConnection, verdicts: str, path: Path) -> int:
    """Write verdicts (a SELECT) to a file, in the order of keys, as a compaction needs them. Returns how many."""
    return _copy(connection, f"FROM ({verdicts}) ORDER BY key", path)


def _copy(connection: duckdb.DuckDBPyConnection, sql: str, path: Path) -> int:
    options = f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {GROUP_ROWS}"
    rows: Any = connection.execute(f"COPY ({sql}) TO {quoted(path)} ({options})").fetchall()
    return int(rows[0][0])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def _upload(ledger: Ledger, name: str, path: Path) -> None:
    ref = ObjectRef(*ledger.location.join(name))
    await upload_file(ledger.store, path, ref, PARQUET, guard=ledger_guard(name))
