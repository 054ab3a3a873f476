"""Files of the state: deltas, and the generations that hold them.

    <ledger>/state/
      deltas/<run id>.parquet          the verdicts of one run (one more for what came late)
      generations/000001.json          what it holds: deltas, files, counts (exists = it is valid)
      generations/000001/<id>-….parquet   the verdicts that can still matter, and those of findings
      claims/000001/                   who makes that generation
      cleaned.json                     deltas were removed: without a generation much is lost

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
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any
from urllib.parse import quote, unquote

import duckdb
import msgspec

from jobs.core.model import Location, ObjectRef
from jobs.core.run import RunSpec
from jobs.errors import ConfigError, Denied, LedgerError, NotFound, PreconditionFailed, SealiftError, UsageError
from jobs.ledger.claims import claim
from jobs.ledger.files import PARQUET, ledger_guard, list_names, read_file, write_file
from jobs.ledger.ledger import Ledger
from jobs.ledger.state import (
    BAD,
    OPEN,
    STATE_TYPES,
    VERDICT_TYPES,
    doubted_sql,
    findings_sql,
    pruned_sql,
    state_sql,
)
from jobs.s3.downloads import download
from jobs.s3.retries import gather_bounded
from jobs.s3.sessions import service_of
from jobs.s3.uploads import upload_file
from jobs.tables.duck import Database, check_select, file_list, in_thread, parquet, quoted, refusals, room

DELTAS, GENERATIONS, CLAIMS, CLEANED = "state/deltas/", "state/generations/", "state/claims/", "state/cleaned.json"
RANGE_ROWS = 200_000
"""So many verdicts are judged at once, all those of their keys: memory does not grow with the state."""
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
_OF_CLAIMS = re.compile(r"\d{6}/\d{6}\.json", re.ASCII)
_AT_PLACE = "source_service, source_bucket, key, copy_service, copy_bucket, copy_key"
_ACCEPTED = ", ".join([
    *[name for name in VERDICT_TYPES if name in STATE_TYPES],
    'now() AS "at"',
    "found_depth AS depth",
    "'accepted' AS verdict, coalesce(finding, blocked) AS code, {why} AS detail, {who} AS run_id",
])  # fmt: skip


class StateFile(msgspec.Struct, frozen=True):
    """A file of a generation, and the keys that it begins and ends with."""

    name: Annotated[str, msgspec.Meta(pattern=rf"\A{_FILE}\Z")]
    sha256: str
    first_key: str
    last_key: str


class Place(msgspec.Struct, frozen=True):
    """What a generation knows of copies below one prefix. Times are epoch seconds.

    `findings` and `blocked` are those that were not accepted. `unchecked`, `unread`: how many were
    never compared by anything stored, or by their bytes.
    """

    copy_service: str
    copy_bucket: str
    prefix: str
    objects: int
    findings: int
    blocked: int
    accepted: int
    unchecked: int
    unread: int
    oldest_checked: float | None
    oldest_read: float | None


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """A generation's document. `until`: the last second that one of its verdicts is of."""

    format: int = 1
    number: int = 0
    made_at: float = 0.0
    made_by: str = ""
    until: int = 0
    deltas: tuple[str, ...] = ()
    files: tuple[StateFile, ...] = ()
    findings: tuple[StateFile, ...] = ()
    places: tuple[Place, ...] = ()


def services_of(spec: RunSpec) -> tuple[str, str]:
    """The services of a run's sides, as verdicts name them."""
    return service_name(spec.source), service_name(spec.destination)


def service_name(side: Any) -> str:
    """The service of a side, as verdicts name it: empty for AWS."""
    try:
        service = service_of(side)
    except ConfigError:  # a profile that is not known here
        return str(side.endpoint or "")
    return "" if service.is_aws else service.name


async def write_delta(ledger: Ledger, name: str, path: Path) -> None:
    """Add verdicts, a Parquet file with their columns, best in the order of keys.

    Other verdicts under a name that is taken get a name of their own: to say something twice changes
    nothing.
    """
    try:
        await _upload(ledger, f"{DELTAS}{name}.parquet", path)
    except PreconditionFailed:
        digest = (await asyncio.to_thread(_sha256, path))[:16]
        with contextlib.suppress(PreconditionFailed):
            await _upload(ledger, f"{DELTAS}{name}-{digest}.parquet", path)


@contextlib.asynccontextmanager
async def open_state(ledger: Ledger, *, only_open: bool = False) -> AsyncIterator[Database]:
    """A database with the views `state`, all objects, and `findings`, those that are not good.

    `only_open`: there is no `state`, and little is downloaded. Raises LedgerError if a file cannot be
    read, ConfigError without room on disk, and StoreError.
    """
    with TemporaryDirectory(prefix="sealift-state-") as scratch:
        database = Database(Path(scratch))
        with contextlib.closing(database.connection) as connection:
            name = "known" if only_open else "state"
            database.define(name, STATE_TYPES, await state_relation(ledger, database, only_open=only_open))
            connection.execute(f"CREATE VIEW findings AS {findings_sql(name)}")
            yield database


async def state_relation(ledger: Ledger, database: Database, *, only_open: bool) -> str | None:
    """The state as a relation of the database, whose files it fills. None: nothing is known.

    Raises as `open_state` does.
    """
    folder, connection = database.files, database.connection
    made = folder / ("open" if only_open else "whole")
    made.mkdir()
    held = await _fetch(ledger, folder, only_open=only_open)
    if not held.paths:
        return None
    with _readable(ledger, folder):
        relations = [f"(FROM {parquet(held.paths)})"]
        if only_open:
            doubted = f"CREATE OR REPLACE TABLE doubted AS {doubted_sql(parquet(held.paths))}"
            await in_thread(connection, connection.execute, doubted)
            relations = [f"(FROM {parquet(held.paths)} SEMI JOIN doubted USING (source_bucket, key))"]
            if late := await _late_files(ledger, connection, held, folder):
                relations.append(f"(FROM {parquet(late)} SEMI JOIN late USING (source_bucket, key))")

        def define() -> None:
            for number, condition in enumerate(_ranges(connection, held.paths)):
                rows = " UNION ALL BY NAME ".join(f"SELECT * FROM {each} WHERE {condition}" for each in relations)
                _copy(connection, state_sql(f"({rows})"), made / f"{number:05d}.parquet")

        await in_thread(connection, define)
    return parquet(made, below="*.parquet")


async def load_verdicts(
    ledger: Ledger,
    connection: duckdb.DuckDBPyConnection,
    made: tuple[str, str, str],
    folder: Path,
    *,
    only_doubted: bool,
) -> None:
    """Make a table of verdicts that the state has: its name, its columns and a condition are `made`.

    `only_doubted`: those of keys that may have findings. Downloads into `folder`. The table is empty
    where the state cannot be read: who reads the state itself says so. Raises StoreError, and
    ConfigError without room on disk.
    """
    name, columns, condition = made

    def make(relation: str) -> None:
        if only_doubted:
            relation = f"(FROM {relation} SEMI JOIN ({doubted_sql(relation)}) USING (source_bucket, key))"
        sql = f"CREATE OR REPLACE TABLE {name} AS SELECT {columns} FROM {relation} WHERE {condition}"
        connection.execute(sql)

    nothing = ", ".join(f"NULL::{kind} AS {column}" for column, kind in VERDICT_TYPES.items())
    make(f"(SELECT {nothing} WHERE false)")
    with contextlib.suppress(LedgerError):
        held = await _fetch(ledger, folder, only_open=only_doubted)
        with _readable(ledger, folder):
            if held.paths:
                await in_thread(connection, make, parquet(held.paths))


async def summary(ledger: Ledger) -> Generation:
    """The newest generation, which counts, without a look at the state's files. Raises LedgerError."""
    return (await _generations(ledger))[0].generation


async def is_known(ledger: Ledger, run_id: str, ended_at: float) -> bool:
    """Whether the state has what a run said that ended then (epoch seconds). Raises LedgerError."""
    held = (await _generations(ledger))[0]
    return f"{run_id}.parquet" in held.there or held.generation.made_at > ended_at


async def accept(ledger: Ledger, where: str, reason: str, by: str) -> int:
    """Accept the findings that a condition names, as they are now. Returns how many.

    Raises UsageError for an empty reason and for a condition that is none.
    """
    if not (reason := " ".join(reason.split())):
        raise UsageError("--reason is empty", advice="write why nobody has to act, for those who ask later")
    chosen = f"SELECT * FROM findings WHERE accepted_at IS NULL AND ({where}\n)"
    check_select(chosen)
    async with open_state(ledger, only_open=True) as database:
        path, connection = database.files / "accepted.parquet", database.connection
        database.lock()
        with refusals(["findings"]):
            sql = f"SELECT {_ACCEPTED.format(why=quoted(reason), who=quoted(by))} FROM ({chosen})"
            rows = await in_thread(connection, copy_verdicts, connection, sql, path)
        if rows:
            await write_delta(ledger, f"accepted-{int(time.time())}-{secrets.token_hex(4)}", path)
        return rows


async def compact(ledger: Ledger, by: str, *, prefixes: Sequence[Location] = ()) -> Generation:
    """Make a generation of the newest one and the deltas since. Returns the newest one then.

    `prefixes`: places of copies that are counted apart. The rest is counted by bucket. Where another
    one is making it, there is nothing to do: readers take the deltas. Raises as `open_state` does.
    """
    with TemporaryDirectory(prefix="sealift-state-") as scratch:
        database = Database(Path(scratch), memory_limit=MEMORY_LIMIT)
        with contextlib.closing(database.connection) as connection:
            held = await _fetch(ledger, database.files, only_open=False)
            number, folder = held.highest + 1, database.files / "made"
            name, who = f"{CLAIMS}{number:06d}", {"by": by, "id": secrets.token_hex(8)}
            has_news = held.newer or held.generation.number < held.highest
            if not has_news or not await claim(ledger.store, ledger.location, name, who):
                return held.generation
            folder.mkdir()
            with _readable(ledger, database.files):
                places, until = await in_thread(connection, _compact, connection, folder, held.paths, prefixes)
            files = []
            for path in sorted(folder.glob("*.parquet")):
                name = f"{number:06d}/{secrets.token_hex(8)}-{path.name}"
                await _upload(ledger, GENERATIONS + name, path)
                files.append(await in_thread(connection, _described, connection, path, name))
    made = Generation(
        number=number,
        made_at=time.time(),
        made_by=by,
        until=until,
        deltas=tuple(held.there),
        files=tuple(each for each in files if "-state-" in each.name),
        findings=tuple(each for each in files if "-findings" in each.name),
        places=places,
    )
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
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    paths: Sequence[Path],
    prefixes: Sequence[Location],
) -> tuple[tuple[Place, ...], int]:
    """Write a generation's files, one range of keys after the other. Returns counts and last second."""
    findings = []
    with room("the state"):
        for number, condition in enumerate(_ranges(connection, paths)):
            path, bad = folder / f"state-{number:05d}.parquet", folder / f"part-{number:05d}"
            _copy(connection, pruned_sql(f"(FROM {parquet(paths)} WHERE {condition})"), path)
            connection.execute(f"CREATE OR REPLACE TEMP TABLE part AS {state_sql(parquet(path))}")
            into = "INSERT INTO places" if number else "CREATE TABLE places AS"
            connection.execute(f"{into} {_places_sql('part', prefixes)}")
            known = f"SELECT {_AT_PLACE} FROM part WHERE {BAD}"
            _copy(connection, f"FROM {parquet(path)} SEMI JOIN ({known}) USING ({_AT_PLACE})", bad)
            findings.append(bad)
        if not findings:
            return (), 0
        _copy(connection, f"FROM {parquet(findings)} ORDER BY {_AT_PLACE}", folder / "findings.parquet")
        rows = connection.execute(
            "SELECT copy_service, copy_bucket, prefix, sum(objects)::BIGINT, sum(findings)::BIGINT, "
            "sum(blocked)::BIGINT, sum(accepted)::BIGINT, sum(unchecked)::BIGINT, sum(unread)::BIGINT, "
            "min(oldest_checked), min(oldest_read) FROM places GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        ).fetchall()
        files = parquet(folder, below="state-*.parquet")
        until: Any = connection.execute(f'SELECT coalesce(max(epoch("at")), 0)::BIGINT FROM {files}').fetchall()
    return tuple(Place(*row) for row in rows), until[0][0]


def _places_sql(state: str, prefixes: Sequence[Location]) -> str:
    whens = " ".join(
        f"WHEN copy_bucket = {quoted(bucket)} AND starts_with(copy_key, {quoted(key)}) THEN {quoted(key)}"
        for bucket, key in sorted(prefixes, key=lambda each: -len(each.key))
    )
    return f"""
        SELECT copy_service, copy_bucket, {f"CASE {whens} ELSE '' END" if whens else "''"} AS prefix,
               count(*) AS objects, count(*) FILTER ({OPEN} AND finding IS NOT NULL) AS findings,
               count(*) FILTER ({OPEN} AND finding IS NULL) AS blocked, count(accepted_at) AS accepted,
               count(*) - count(checked_at) AS unchecked, count(*) - count(read_at) AS unread,
               epoch(min(checked_at)) AS oldest_checked, epoch(min(read_at)) AS oldest_read
        FROM {state} GROUP BY ALL"""


async def _clean(ledger: Ledger, made: Generation, before: _Held) -> None:
    """Remove what neither this generation nor the one before it needs."""
    if before.highest != before.generation.number:
        return
    kept = {each.name for one in (made, before.generation) for each in (*one.files, *one.findings)}
    gone = [f"{DELTAS}{each}" for each in before.generation.deltas if each in made.deltas]
    for name in await _names(ledger, GENERATIONS, _OF_GENERATIONS):
        number = int(name[:6])
        is_leftover = name not in kept and not _DOCUMENT.fullmatch(name)
        if number < before.generation.number or (is_leftover and number <= made.number):
            gone.append(f"{GENERATIONS}{name}")
    gone += [f"{CLAIMS}{name}" for name in await _names(ledger, CLAIMS, _OF_CLAIMS) if int(name[:6]) <= made.number]
    with contextlib.suppress(Denied):  # they cost room, nothing else
        if before.generation.deltas:
            with contextlib.suppress(PreconditionFailed):
                await write_file(ledger.store, ledger.location, CLEANED, b"{}")
        for each in gone:
            place = ledger.location.join(each)
            await ledger.store.delete(place.bucket, place.key)


class _Held(msgspec.Struct):
    """A generation and the deltas after it.

    `highest`: the last number that anybody took. `newer`, `there`: names of the deltas after it, and
    of all. `paths`: the files that were downloaded, those of the newer deltas at the end.
    """

    generation: Generation
    highest: int
    newer: list[str]
    there: list[str]
    paths: list[Path] = []


async def _fetch(ledger: Ledger, folder: Path, *, only_open: bool) -> _Held:
    """Download the newest generation whose files are whole, and the deltas that it does not hold."""
    for held in await _generations(ledger):
        files = held.generation.findings if only_open else held.generation.files
        with contextlib.suppress(NotFound, _Damaged):
            held.paths = await _download(ledger, files, folder)
            held.paths += await fetch_files(ledger, [DELTAS + name for name in held.newer], folder)
            return held
    raise _lost(ledger)


async def _generations(ledger: Ledger) -> list[_Held]:
    """The generations whose documents can be read, the newest first, at last what is before the first one.

    Raises LedgerError where deltas that a damaged one held are gone.
    """
    names = await _names(ledger, GENERATIONS, _OF_GENERATIONS)
    highest, generations = max((int(name[:6]) for name in names), default=0), list[Generation]()
    for name in sorted(filter(_DOCUMENT.fullmatch, names), reverse=True):
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, NotFound):
            data = await read_file(ledger.store, ledger.location, GENERATIONS + name)
            generations.append(msgspec.json.decode(data, type=Generation))
    if highest <= 1 and not await list_names(ledger.store, ledger.location.join(CLEANED)):
        generations.append(Generation())
    if not generations:
        raise _lost(ledger)
    there = await _names(ledger, DELTAS, _DELTA)
    return [_Held(each, highest, sorted({*there} - {*each.deltas}), there) for each in generations]


def _lost(ledger: Ledger) -> LedgerError:
    return LedgerError(
        f"no generation of the state in {ledger.location.join(GENERATIONS)} can be read",
        advice="restore an earlier version of its latest files",
    )


async def _names(ledger: Ledger, folder: str, ours: re.Pattern[str]) -> list[str]:
    """The names of the objects below a folder, but for those of others, such as a folder's own."""
    return [*filter(ours.fullmatch, await list_names(ledger.store, ledger.location.join(folder)))]


class _Damaged(Exception):
    """A file of a generation is not what was written."""


async def _download(ledger: Ledger, files: Sequence[StateFile], folder: Path) -> list[Path]:
    """Download files of a generation. Raises _Damaged, NotFound."""
    paths = await fetch_files(ledger, [GENERATIONS + file.name for file in files], folder)
    for file, path in zip(files, paths, strict=True):
        if await asyncio.to_thread(_sha256, path) != file.sha256:
            raise _Damaged
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


def find_damage(error: BaseException, ledger: Ledger, folder: Path) -> LedgerError | None:
    """The error about a file that `fetch_files` has got, where DuckDB, or what was made of its error, names one."""
    first = str(error if isinstance(error, duckdb.Error) else error.__cause__).partition("\n")[0]
    if str(folder) not in first:
        return None
    named = unquote(first.replace(f"{folder}/", str(ledger.location.join(""))))
    return LedgerError(f"a file of the ledger cannot be read: {named}", advice=RESTORE)


@contextlib.contextmanager
def _readable(ledger: Ledger, folder: Path) -> Iterator[None]:
    """A context that reads what was fetched. Raises LedgerError, and ConfigError without room on disk."""
    try:
        with room("the state"):
            yield
    except duckdb.Error as error:
        place, first = ledger.location.join("state/"), str(error).partition("\n")[0]
        damage = find_damage(error, ledger, folder)
        raise damage or LedgerError(f"a file below {place} cannot be read: {first}", advice=RESTORE) from error


async def _late_files(
    ledger: Ledger, connection: duckdb.DuckDBPyConnection, held: _Held, folder: Path
) -> Sequence[Path]:
    """The generation's files with keys of which a newer delta has an older finding: the table `late`."""
    if not (held.newer and held.generation.files):
        return []
    deltas = parquet(path for path in held.paths if path.name.startswith(quote(DELTAS, safe="")))
    connection.execute(
        f"CREATE OR REPLACE TABLE late AS SELECT DISTINCT source_bucket, key FROM {deltas} "
        f"WHERE verdict IN ('bad', 'unknown') AND epoch(\"at\") < {held.generation.until + 1}"
    )
    between = "FROM late WHERE key BETWEEN ? AND ? LIMIT 1"
    files = [
        file
        for file in held.generation.files
        if connection.execute(between, [file.first_key, file.last_key]).fetchone()
    ]
    return await _download(ledger, files, folder)


def _ranges(connection: duckdb.DuckDBPyConnection, paths: Sequence[Path]) -> Iterator[str]:
    """Conditions that cut sorted files into ranges of whole keys, as many rows in each as may be."""
    if not paths:
        return
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


def copy_verdicts(connection: duckdb.DuckDBPyConnection, verdicts: str, path: Path) -> int:
    """Write verdicts (a SELECT) to a file, in the order of keys, as a compaction needs them. Returns how many."""
    return _copy(connection, f"FROM ({verdicts}) ORDER BY key", path)


def _copy(connection: duckdb.DuckDBPyConnection, sql: str, path: Path) -> int:
    options = f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {GROUP_ROWS}"
    rows: Any = connection.execute(f"COPY ({sql}) TO {quoted(path)} ({options})").fetchall()
    return int(rows[0][0])


def _described(connection: duckdb.DuckDBPyConnection, path: Path, name: str) -> StateFile:
    keys: Any = connection.execute(f"SELECT coalesce(min(key), ''), coalesce(max(key), '') FROM {parquet(path)}")
    return StateFile(name, _sha256(path), *keys.fetchall()[0])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def _upload(ledger: Ledger, name: str, path: Path) -> None:
    await upload_file(ledger.store, path, ledger.location.join(name), PARQUET, guard=ledger_guard(name))
