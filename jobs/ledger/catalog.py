"""The catalog: the latest proven state of each object version.

It is rebuilt from the outcomes of complete runs.

    <ledger>/catalog/<generation>/
      data/00000.parquet …    the rows, in no order
      catalog.json            written last = the generation is valid. Readers take the latest one
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.core.model import NULL_VERSION, ObjectRef
from jobs.core.outcome import GOOD, Evidence, Status
from jobs.errors import LedgerError
from jobs.ledger.damage import DamagedFile, DamagedFiles, damage
from jobs.ledger.files import JSON, PARQUET, write_file
from jobs.ledger.ledger import Checkpoint, Ledger
from jobs.ledger.table_docs import TABLES
from jobs.ledger.views import CATALOG_POINTER, open_views, usable
from jobs.s3.downloads import download
from jobs.tables.duck import Database, in_thread, parquet, quoted, room

FILE_BYTES = 64_000_000

# These outcomes void an earlier proof: the copy was wrong or missing, or its source was damaged.
_DISPROOFS = frozenset({Status.MISMATCHED, Status.MISSING, Status.DAMAGED})

_DOUBTS = """
    run_id VARCHAR, key VARCHAR, version_id VARCHAR, etag VARCHAR, status VARCHAR, evidence VARCHAR,
    finished_at TIMESTAMPTZ
"""


@dataclass(frozen=True, slots=True)
class Generation:
    """A catalog that was written: its folder's URI, its rows, the runs it was made of.

    `damaged`: outcome files that cannot be read, whose outcomes are not in it.
    """

    uri: str
    rows: int
    runs: int
    damaged: tuple[DamagedFile, ...] = ()


async def rebuild_catalog(ledger: Ledger, now: float) -> Generation:
    """Fold the good outcomes of all complete runs into a new generation, named by `now` (epoch
    seconds).

    The latest outcome counts for one object version and one place of its copy (`proven_sql`). A
    version that a later run found mismatched, missing or damaged is not in the catalog. Outcomes
    are spooled to disk, so memory stays within the limit of `jobs.tables.duck`.

    Outcome files that cannot be read are left out, and so are proofs that they may have disproved.
    Raises DamagedFiles if their rows cannot be read either, StoreError, and ConfigError when the
    disk is full.
    """
    damaged: list[DamagedFile] = []
    while True:
        try:
            return await _rebuild(ledger, now, damaged)
        except DamagedFiles as error:
            outcomes = [each for each in error.files if "/outcomes/" in each.location.key and each not in damaged]
            if not outcomes:
                raise
            damaged += outcomes


async def _rebuild(ledger: Ledger, now: float, damaged: Sequence[DamagedFile]) -> Generation:
    name = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now)) + f"{int(now % 1 * 1000):03d}Z"
    left_out = {each.location for each in damaged}
    async with open_views(ledger, ["runs", "outcomes"], left_out=left_out) as database:
        database.connection.execute(f"CREATE TABLE doubts ({_DOUBTS})")
        await _add_doubts(ledger, damaged, database)
        files, rows, runs = await in_thread(database.connection, _fold, database)
        folder = ledger.location.join(f"catalog/{name}")
        for number, path in enumerate(files):
            await _write(ledger, f"{name}/data/{number:05d}.parquet", await asyncio.to_thread(path.read_bytes))
    pointer = {"version": 1, "created_at": now, "rows": rows, "runs": runs, "files": len(files)}
    await _write(ledger, f"{name}/{CATALOG_POINTER}", json.dumps(pointer, indent=2).encode())
    return Generation(str(folder), rows, runs, tuple(damaged))


async def _add_doubts(ledger: Ledger, damaged: Sequence[DamagedFile], database: Database) -> None:
    """Add to the table `doubts` that each row of which a damaged file has an outcome was found wrong.

    It was wrong by its bytes, and when its run ended, or after all else where that is unknown. A
    file whose name truly says that no row ended badly disproves nothing. Raises DamagedFiles for a
    shard that cannot be read, and StoreError.
    """
    for run_id, shard in sorted({place for each in damaged if (place := _doubted_shard(each))}):
        name = f"shards/{shard:05d}.parquet"
        origin = ledger.location.join(f"runs/{run_id}/{name}")
        path = database.files / f"doubted-{run_id}-{shard}.parquet"
        with usable(path.parent):
            await download(ledger.store, ObjectRef(*origin), path)
        if reason := await in_thread(database.connection, damage, database.connection, path):
            raise DamagedFiles([DamagedFile(origin, reason)], ledger.location)
        database.connection.execute(
            f"""
            INSERT INTO doubts
            SELECT run_id, key, version_id, etag, {quoted(Status.MISMATCHED.value)}, {quoted(Evidence.CONTENT.value)},
                   coalesce(TRY(created_at + to_milliseconds((seconds * 1e3)::BIGINT + 1)), 'infinity')
            FROM {parquet([path])}, runs WHERE run_id = {quoted(run_id)}
            """
        )


def _doubted_shard(file: DamagedFile) -> tuple[str, int] | None:
    """Run and shard of an outcome file that may have disproofs. None if it has none."""
    run_id, _, shard, name = file.location.key.split("/")[-4:]
    try:
        has_disproofs = file.is_misnamed or bool(Checkpoint.parse(int(shard), name).bad_rows)
    except LedgerError:
        has_disproofs = True
    return (run_id, int(shard)) if has_disproofs else None


def _fold(database: Database) -> tuple[list[Path], int, int]:
    """The catalog's files, the number of their rows and of the runs."""
    columns = ", ".join(f'"{name}"' for name in TABLES["catalog"].types)
    folder = database.files / "generation"
    with room("the catalog"):
        database.connection.execute(
            f"""
            CREATE TABLE complete AS SELECT run_id, {_place("source")}, {_place("destination")}
            FROM runs WHERE state = 'complete' AND job IN ('replicate', 'verify')
                AND source <> destination;  -- else it only read archives
            CREATE VIEW placed AS SELECT *, finished_at AS proven_at, destination_prefix || CASE
                WHEN starts_with(key, source_prefix) THEN substr(key, length(source_prefix) + 1)
                ELSE key END AS destination_key
                FROM (FROM outcomes UNION ALL BY NAME FROM doubts) JOIN complete USING (run_id);
            COPY (
                SELECT {columns} FROM ({proven_sql("placed")})
            ) TO {quoted(str(folder))} (FORMAT parquet, COMPRESSION zstd, FILE_SIZE_BYTES {FILE_BYTES})
            """
        )
        runs: Any = database.connection.execute("SELECT count(*) FROM complete").fetchall()
        files = sorted(path for path in folder.rglob("*.parquet"))
        rows: Any = database.connection.execute(f"SELECT count(*) FROM {parquet(files)}").fetchall()
    return files, rows[0][0], runs[0][0]


def proven_sql(outcomes: str) -> str:
    """SQL for the outcomes (a relation) that prove a copy, and that no later one disproved.

    One for each object version and place of its copy, the latest. Of outcomes with one time, that
    of the later run by its id counts. Prefixes may be spelled in several ways, so the place is the
    copy's key. So may versions be: null, empty and `null` say nothing of the version. Such an
    outcome is about any version with its ETag, and about any version at all where one of both has
    no ETag. What may be disproved is not proven.

    A copy whose bytes were read and were others is proven again by a new copy, or by bytes. What S3
    keeps beside the bytes says nothing more of it.
    """
    place = "source_bucket, key, destination_bucket, destination_key"
    named, anonymous = "own_id IS NOT NULL", "own_id IS NULL"

    def last(finding: str) -> str:
        """When the last disproof was that may be about the outcome's object."""

        def disproved(condition: str, window: str) -> str:
            return f"max(finished_at) FILTER ({finding} AND {condition}) OVER {window}"

        same_etag = [f"CASE WHEN etag IS NOT NULL THEN {disproved(each, 'of_etag')} END" for each in (named, anonymous)]
        of_named = ", ".join([disproved(f"{named} AND etag IS NULL", "of_key"), same_etag[0]])
        of_anonymous = ", ".join([disproved(f"{anonymous} AND etag IS NULL", "of_key"), same_etag[1]])
        return f"""greatest(
            CASE WHEN {named} THEN {disproved(named, "of_version")} ELSE greatest({of_named}) END,
            CASE WHEN {named} AND etag IS NOT NULL THEN greatest({of_anonymous})
                 ELSE {disproved(anonymous, "of_key")} END,
            CASE WHEN {anonymous} AND etag IS NULL THEN {disproved(named, "of_key")} END)"""

    content, damaged = quoted(Evidence.CONTENT.value), quoted(Status.DAMAGED.value)
    return f"""
        WITH judged AS (
            SELECT *, status IN ({_listed(_DISPROOFS)}) AS is_disproof,
                   evidence = {content} OR status = {damaged} AS is_by_bytes,
                   nullif(nullif(version_id, ''), {quoted(NULL_VERSION)}) AS own_id
            FROM {outcomes} WHERE status IN ({_listed(GOOD | _DISPROOFS)})
        ), doubted AS (
            SELECT *, {last("is_disproof")} AS disproved_at,
                   {last("is_disproof AND is_by_bytes")} AS bytes_disproved_at
            FROM judged
            WINDOW of_version AS (PARTITION BY {place}, own_id), of_etag AS (PARTITION BY {place}, etag),
                   of_key AS (PARTITION BY {place})
        ), latest AS (
            FROM doubted WHERE NOT is_disproof AND finished_at > coalesce(disproved_at, '-infinity')
                AND (bytes_disproved_at IS NULL OR is_by_bytes OR status = {quoted(Status.COPIED.value)})
            QUALIFY row_number() OVER (PARTITION BY {place}, own_id ORDER BY finished_at DESC, run_id DESC) = 1
        ), identified AS (
            SELECT *, coalesce(own_id, CASE WHEN etag IS NOT NULL THEN
                arg_max(own_id, (finished_at, run_id, own_id)) FILTER ({named})
                    OVER (PARTITION BY {place}, etag) END) AS identity
            FROM latest
        )
        FROM identified
        QUALIFY row_number() OVER (PARTITION BY {place}, identity ORDER BY finished_at DESC, run_id DESC) = 1
    """


def _place(side: str) -> str:
    """SQL for bucket and prefix of a run's s3:// URI. Option `s`: prefixes can hold newlines."""
    return ", ".join(
        f"regexp_extract({side}, '^s3://([^/]*)/?(.*)$', {group}, 's') AS {side}_{part}"
        for group, part in ((1, "bucket"), (2, "prefix"))
    )


def _listed(statuses: frozenset[Status]) -> str:
    return ", ".join(quoted(status.value) for status in sorted(statuses))


async def _write(ledger: Ledger, name: str, data: bytes) -> None:
    """Write once. Files that a failure leaves behind have no pointer, so nothing reads them."""
    attributes = JSON if name.endswith(".json") else PARQUET
    await write_file(ledger.store, ledger.location, f"catalog/{name}", data, attributes, tries=1)
