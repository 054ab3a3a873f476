"""The catalog: the latest proven state of each object version.

It is rebuilt from the outcomes of complete runs.

    <ledger>/catalog/<generation>/
      data/00000.parquet …    the rows, in no order
      catalog.json            written last = the generation is valid; readers take the latest one
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.core.outcome import GOOD, Status
from jobs.ledger.files import JSON, PARQUET, write_file
from jobs.ledger.ledger import Ledger
from jobs.ledger.table_docs import TABLES
from jobs.ledger.views import CATALOG_POINTER, open_views
from jobs.tables.duck import MEMORY_LIMIT, Database, parquet, quoted, refusals

FILE_BYTES = 64_000_000

# These outcomes void an earlier proof: the copy was wrong or missing.
_DISPROOFS = frozenset({Status.MISMATCHED, Status.MISSING})


@dataclass(frozen=True, slots=True)
class Generation:
    """A catalog that was written: its folder's URI, its rows, the runs it was made of."""

    uri: str
    rows: int
    runs: int


async def rebuild_catalog(ledger: Ledger, now: float, *, memory_limit: str = MEMORY_LIMIT) -> Generation:
    """Fold the good outcomes of all complete runs into a new generation, named by `now` (epoch
    seconds).

    The latest outcome counts for one object version and one place of its copy. A version that a
    later run found mismatched or missing is not in the catalog. Outcomes are spooled to disk, so
    memory stays within `memory_limit`. Raises StoreError, and ConfigError when the disk is full.
    """
    name = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now)) + f"{int(now % 1 * 1000):03d}Z"
    async with open_views(ledger, ["runs", "outcomes"], memory_limit=memory_limit) as database:
        files, rows, runs = await asyncio.to_thread(_fold, database)
        folder = ledger.location.join(f"catalog/{name}")
        for number, path in enumerate(files):
            await _write(ledger, f"{name}/data/{number:05d}.parquet", await asyncio.to_thread(path.read_bytes))
    pointer = {"version": 1, "created_at": now, "rows": rows, "runs": runs, "files": len(files)}
    await _write(ledger, f"{name}/{CATALOG_POINTER}", json.dumps(pointer, indent=2).encode())
    return Generation(str(folder), rows, runs)


def _fold(database: Database) -> tuple[list[Path], int, int]:
    """The catalog's files, the number of their rows and of the runs."""
    good, counted = _listed(GOOD), _listed(GOOD | _DISPROOFS)
    columns = ", ".join(f'"{name}"' for name in TABLES["catalog"].types)
    folder = database.files / "generation"
    with refusals():
        database.connection.execute(
            f"""
            CREATE TABLE complete AS SELECT run_id, {_place("source")}, {_place("destination")}
            FROM runs WHERE state = 'complete' AND job IN ('replicate', 'verify')
                AND source <> destination;  -- else it only read archives
            COPY (
                SELECT {columns} FROM (
                    SELECT *, finished_at AS proven_at, destination_prefix || CASE
                        WHEN starts_with(key, source_prefix) THEN substr(key, length(source_prefix) + 1)
                        ELSE key END AS destination_key
                    FROM outcomes JOIN complete USING (run_id) WHERE status IN ({counted})
                    QUALIFY row_number() OVER (
                        PARTITION BY source_bucket, key, version_id, destination_bucket, destination_prefix,
                            source_prefix
                        ORDER BY finished_at DESC, run_id DESC) = 1)
                WHERE status IN ({good})
            ) TO {quoted(str(folder))} (FORMAT parquet, COMPRESSION zstd, FILE_SIZE_BYTES {FILE_BYTES})
            """
        )
        runs: Any = database.connection.execute("SELECT count(*) FROM complete").fetchall()
        files = sorted(path for path in folder.rglob("*.parquet"))
        rows: Any = database.connection.execute(f"SELECT count(*) FROM {parquet(files)}").fetchall()
    return files, rows[0][0], runs[0][0]


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
