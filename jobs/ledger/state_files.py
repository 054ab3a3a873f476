"""Files of the state: deltas, and the generations that hold them.

    <ledger>/state/
      deltas/<run id>-<digest>.parquet the verdicts of one run (one more for what came late)
      generations/000001.json          what it holds: deltas, files, counts (exists = it is valid)
      generations/000001/<id>-….parquet   the verdicts that can still matter, and those of findings
      claims/000001/                   who makes that generation

All are written once. Readers take the newest generation that can be read, and the deltas that it
does not hold. Each file is known by its digest: a delta's name ends with it, a generation says those
of its own. The two newest generations stay, and each delta until both hold it: so a damaged one is
made again from the one before. Nothing else in the ledger is ever removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal
from urllib.parse import quote, unquote

import duckdb
import msgspec

from jobs.core.model import Location, ObjectRef
from jobs.errors import ConfigError, Denied, LedgerError, NotFound, SealiftError, UsageError
from jobs.ledger.claims import claim
from jobs.ledger.files import PARQUET, list_names, read_document, write_file, write_once
from jobs.ledger.ledger import Ledger
from jobs.ledger.state import DOUBTS, VERDICT_TYPES, judged_sql, pruned_sql, state_sql
from jobs.s3.downloads import download
from jobs.s3.retries import gather_bounded
from jobs.tables import duck
from jobs.tables.duck import Database, file_list, identifier, in_thread, parquet, quoted
from jobs.tables.ranged_parquet import holds_any

DELTAS, GENERATIONS, CLAIMS = "state/deltas/", "state/generations/", "state/claims/"
RANGE_ROWS = 50_000
"""So many verdicts are judged at once, all those of their keys: memory does not grow with the state."""
GROUP_ROWS = 40_960
"""Rows of a row group: ranges are cut between these."""
MEMORY_LIMIT = "320MB"
RESTORE = "restore an earlier version of it, or remove it if Sealift did not write it"
DOWNLOADS = 8
DELTAS_MAX = 32
"""So many deltas may lie beside a generation before a run's end makes another one. Nights do so daily."""
_DOCUMENT = re.compile(rf"{GENERATIONS}([0-9]{{6}})\.json")
_DELTA = re.compile(rf"{DELTAS}([^/]+?(?:-([0-9a-f]{{16}}))?\.parquet)")
"""A delta's name and digest. Releases of the first days wrote it without one."""
_FILE = r"[0-9]{6}/[0-9a-f]{16}-(state-[0-9]{5}|findings)\.parquet"
_OF_SQL = (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException)
"""What DuckDB raises for a query, never for a damaged file."""
_NOTHING = ", ".join(f"NULL::{kind} AS {identifier(name)}" for name, kind in VERDICT_TYPES.items())
NO_VERDICTS = f"(SELECT {_NOTHING} LIMIT 0)"


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
    """A generation's document. `made_at`: when its deltas were listed."""

    format: Literal[1] = 1
    number: int
    made_at: float = 0.0
    deltas: tuple[str, ...] = ()
    files: tuple[StateFile, ...] = ()
    findings: tuple[StateFile, ...] = ()
    places: tuple[Place, ...] = ()


async def write_delta(ledger: Ledger, name: str, path: Path) -> None:
    """Add verdicts, a Parquet file with their columns, best in the order of keys.

    Other verdicts of one run have another name: to say something twice changes nothing.
    """
    digest = await asyncio.to_thread(_sha256, path)
    await write_once(ledger.store, ledger.location, f"{DELTAS}{name}-{digest[:16]}.parquet", path, PARQUET)


async def state_relation(ledger: Ledger, database: Database, *, only_open: bool) -> str | None:
    """The state as a relation of the database, whose files it fills. None: nothing is known.

    `only_open`: of keys that may have findings, so that little is downloaded. Raises LedgerError if a file cannot
    be read, ConfigError without room on disk, and StoreError.
    """
    made, connection = database.files / ("open" if only_open else "whole"), database.connection
    made.mkdir()
    verdicts, paths = await known_verdicts(ledger, connection, database.files, only_open=only_open)
    if not paths:
        return None

    def define() -> None:
        for part in _judged(connection, verdicts, paths):
            _copy(connection, state_sql("judged"), made / f"{part:05d}.parquet")

    with readable(ledger, database.files):
        await in_thread(connection, define)
    return parquet(made, below="*.parquet")


async def known_verdicts(
    ledger: Ledger, connection: duckdb.DuckDBPyConnection, folder: Path, *, only_open: bool
) -> tuple[str, Sequence[Path]]:
    """Verdicts that the state has as a relation, and its files, which are downloaded to a folder.

    `only_open`: those of keys that may have findings. Of the generation these are its findings, and the
    files with keys that a late finding in a newer delta is about: a later look may have ended that.
    """
    held = await _read(ledger, folder, only_open=only_open)
    paths = [*held.paths, *held.newer_paths]
    if not (only_open and paths):
        return parquet(paths) if paths else NO_VERDICTS, paths

    def find_late() -> list[str]:
        keys = f"SELECT DISTINCT source_bucket, key FROM {parquet(paths)} WHERE {DOUBTS}"
        connection.execute(f"CREATE OR REPLACE TABLE doubted AS {keys}")
        until = max((each.until for each in held.generation.files), default=0)
        is_late = f"key IS NOT NULL AND verdict IN ('bad', 'unknown') AND epoch(\"at\") < {until + 1}"
        newer = parquet(held.newer_paths) if held.newer_paths else NO_VERDICTS
        late = connection.execute(f"SELECT DISTINCT key FROM {newer} WHERE {is_late} ORDER BY key").fetchall()
        return [key for (key,) in late]

    with readable(ledger, folder):
        keys = await in_thread(connection, find_late)
    files = [each for each in held.generation.files if holds_any(keys, each.first_key, each.last_key)]
    paths += await _fetch_whole(ledger, _digests(files), folder)
    return f"(FROM {parquet(paths)} SEMI JOIN doubted USING (source_bucket, key))", paths


async def summary(ledger: Ledger) -> Generation:
    """The newest generation, which counts, without a look at the state's files. Raises LedgerError."""
    return (await _read(ledger)).generation


async def is_known(ledger: Ledger, run_id: str, ended_at: float) -> bool:
    """Whether the state has what a run said that ended then (epoch seconds). Raises LedgerError."""
    held = await _read(ledger)
    return any(name.startswith(f"{run_id}-") for name in held.deltas) or held.generation.made_at > ended_at


async def compact(ledger: Ledger, by: str, *, prefixes: Sequence[Location] = ()) -> Generation:
    """Make a generation of the newest one and the deltas since. Returns the newest one then.

    `prefixes`: places of copies that are counted apart. The rest is counted by bucket. Where another
    one is making it, there is nothing to do: readers take the deltas. Raises as `state_relation` does.
    """
    with TemporaryDirectory(prefix="sealift-state-") as scratch:
        database = Database(Path(scratch), memory_limit=MEMORY_LIMIT)
        with contextlib.closing(database.connection) as connection:
            held = await _read(ledger, database.files)
            number, who = held.highest + 1, {"by": by, "id": secrets.token_hex(8)}
            has_news = held.newer or (held.paths and held.generation.number < held.highest)
            if not has_news or not await claim(ledger.store, ledger.location, f"{CLAIMS}{number:06d}", who):
                return held.generation
            with readable(ledger, database.files):
                made = await in_thread(connection, _compact, connection, held, Path(scratch), prefixes)
        for file in (*made.files, *made.findings):
            await write_file(ledger.store, ledger.location, GENERATIONS + file.name, Path(scratch, file.name), PARQUET)
    document = f"{GENERATIONS}{number:06d}.json"
    if not await write_once(ledger.store, ledger.location, document, msgspec.json.encode(made)):
        return await summary(ledger)
    await _clean(ledger, made, held)
    return made


async def compact_if_due(ledger: Ledger, by: str) -> None:
    """Make a generation where nights do not, so that a reader has few files to read."""
    with contextlib.suppress(SealiftError):  # the deltas say the same
        if len((await _read(ledger)).newer) >= DELTAS_MAX:
            await compact(ledger, by)


def _compact(
    connection: duckdb.DuckDBPyConnection, held: _Held, folder: Path, prefixes: Sequence[Location]
) -> Generation:
    """Write the files of the next generation, one range of keys after the other."""
    number, files, paths = held.highest + 1, list[StateFile](), [*held.paths, *held.newer_paths]
    (folder / f"{number:06d}").mkdir()

    def write(sql: str, what: str) -> StateFile:
        name = f"{number:06d}/{secrets.token_hex(8)}-{what}.parquet"
        _copy(connection, sql, folder / name)
        holds = """SELECT coalesce(min(key), ''), coalesce(max(key), ''), coalesce(max(epoch("at")), 0)::BIGINT"""
        about = connection.execute(f"{holds} FROM {parquet(folder / name)}").fetchall()[0]
        return StateFile(name, _sha256(folder / name), *about)

    for part in _judged(connection, parquet(paths), paths):
        files.append(write(pruned_sql("judged"), f"state-{part:05d}"))
        verdicts = parquet(folder / files[-1].name)
        doubtful = f"FROM {verdicts} SEMI JOIN (FROM {verdicts} WHERE {DOUBTS}) USING (source_bucket, key)"
        for name, sql in (("places", _places_sql(prefixes)), ("doubtful", doubtful)):
            connection.execute(f"INSERT INTO {name} {sql}" if part else f"CREATE TABLE {name} AS {sql}")
    rows = connection.execute(
        "SELECT copy_service, copy_bucket, prefix, sum(objects)::BIGINT, sum(unchecked)::BIGINT, sum(unread)::BIGINT, "
        "min(oldest_checked), min(oldest_read) FROM places GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    ).fetchall()
    return Generation(
        number=number,
        made_at=held.read_at,
        deltas=tuple(held.deltas),
        files=tuple(files),
        findings=(write("FROM doubtful ORDER BY key", "findings"),),
        places=tuple(Place(*row) for row in rows),
    )


def _places_sql(prefixes: Sequence[Location]) -> str:
    return f"""
        SELECT copy_service, copy_bucket, {prefix_sql(prefixes)} AS prefix,
               count(*) AS objects, count(*) - count(checked_at) AS unchecked, count(*) - count(read_at) AS unread,
               epoch(min(checked_at)) AS oldest_checked, epoch(min(read_at)) AS oldest_read
        FROM ({state_sql("judged")}) GROUP BY ALL"""


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
    kept = {GENERATIONS + file.name for each in both for file in (*each.files, *each.findings)}
    kept.add(f"{GENERATIONS}{before.highest:06d}.json")
    ours = re.compile(f"{_DOCUMENT.pattern}|{GENERATIONS}{_FILE}")
    gone = [name for name in before.names if ours.fullmatch(name) and name not in kept]
    gone += [DELTAS + name for name in before.generation.deltas if name in made.deltas]
    with contextlib.suppress(Denied):  # they cost room, nothing else
        for name in gone:
            await ledger.store.delete(ObjectRef(*ledger.location.join(name)))


class _Held(msgspec.Struct):
    """A generation and the deltas after it.

    `names`: of deltas and generations. `highest`: the last number of a document. `deltas`: the names of
    all deltas, `newer`: of those after the generation. The paths are those of what was downloaded.
    """

    generation: Generation
    read_at: float
    highest: int
    names: list[str]
    deltas: list[str]
    newer: list[str]
    paths: list[Path]
    newer_paths: list[Path]


async def _read(ledger: Ledger, folder: Path | None = None, *, only_open: bool = False) -> _Held:
    """The newest generation that is whole, and the deltas that it does not hold. A folder: with these files.

    Before the first generation there is an empty one. Raises LedgerError where no other is whole, and deltas that
    it held are gone.
    """
    read_at = time.time()
    second = f"{CLAIMS}000002/"  # it removes the deltas that the first one holds as well
    folders = [(folder, ledger.location.join(folder)) for folder in (GENERATIONS, DELTAS, second)]
    names = [folder + name for folder, place in folders for name in await list_names(ledger.store, place)]
    deltas = {match[1]: match[2] or "" for match in map(_DELTA.fullmatch, names) if match}
    numbers = [int(match[1]) for match in map(_DOCUMENT.fullmatch, reversed(names)) if match]
    is_first = numbers in ([], [1]) and not any(name.startswith(second) for name in names)
    for number in [*numbers, 0] if is_first else numbers:
        with contextlib.suppress(LedgerError, NotFound):
            document = f"{GENERATIONS}{number:06d}.json"
            made = Generation(number=0)
            if number:
                made = await read_document(ledger.store, ledger.location, document, Generation, RESTORE)
            files = made.findings if only_open else made.files
            paths = await _fetch_whole(ledger, _digests(files), folder)
            break
    else:
        place, advice = ledger.location.join(GENERATIONS), "restore an earlier version of its latest files"
        raise LedgerError(f"no generation of the state in {place} can be read", advice=advice)
    newer = {DELTAS + name: digest for name, digest in deltas.items() if name not in made.deltas}
    newer_paths = await _fetch_whole(ledger, newer, folder)
    return _Held(made, read_at, max(numbers, default=0), names, [*deltas], [*newer], paths, newer_paths)


def _digests(files: Sequence[StateFile]) -> dict[str, str]:
    return {GENERATIONS + file.name: file.sha256 for file in files}


async def _fetch_whole(ledger: Ledger, digests: Mapping[str, str], folder: Path | None) -> list[Path]:
    """`fetch_files`, each by the beginning of its digest. Raises LedgerError for one that was altered."""
    paths = await fetch_files(ledger, [*digests], folder) if folder else []
    for (name, digest), path in zip(digests.items(), paths, strict=False):
        if not (await asyncio.to_thread(_sha256, path)).startswith(digest):
            raise LedgerError(f"{ledger.location.join(name)} cannot be read: it was altered", advice=RESTORE)
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
    """Whether a file cannot be read to its end."""
    sql = f"SELECT max(hash(COLUMNS(*))) FROM {quoted(duck.literal_path(path))}"
    try:
        duckdb.connect(":memory:").execute(sql).fetchall()
    except duckdb.Error:
        return True
    return False


def _judged(connection: duckdb.DuckDBPyConnection, verdicts: str, paths: Sequence[Path]) -> Iterator[int]:
    """Judge verdicts of sorted files: the table `judged` has those of whole keys, one range of them after the other."""
    cuts = connection.execute(
        f"""
        SELECT min(first) FROM (
            SELECT stats_min AS first, sum(row_group_num_rows) OVER (ORDER BY stats_min) // {RANGE_ROWS} AS part
            FROM parquet_metadata({file_list(paths)}) WHERE path_in_schema = 'key' AND stats_min IS NOT NULL
        ) GROUP BY part ORDER BY part OFFSET 1
        """
    ).fetchall()
    for part, (start, end) in enumerate(pairwise(["", *(first for (first,) in cuts), None])):
        condition = f"key >= {quoted(start)}" + ("" if end is None else f" AND key < {quoted(end)}")
        judged = judged_sql(f"(FROM {verdicts} WHERE {condition})")
        connection.execute(f"CREATE OR REPLACE TABLE judged AS {judged}")
        yield part
    connection.execute("DROP TABLE judged")


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
