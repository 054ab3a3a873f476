"""Planning a run and ending it, beside what DuckDB takes by hand for the same rows.

    python -m tests.benchmarks.planning shard MANIFEST FOLDER     # by hand: shard, sort and write a manifest
    python -m tests.benchmarks.planning settle MANIFEST TO LEDGER # plan a run and give each row an outcome
    python -m tests.benchmarks.planning count RUN LEDGER FOLDER   # by hand: count outcomes, list the failures

By hand, nothing is checked: no duplicate is found, no row filtered, no price known, nothing published.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks import peers
from tests.benchmarks.peers import SEALIFT, Client, Run
from tests.benchmarks.workloads import Bench, Samples, Target, Workload, peak_mib, seconds_per_million, times_as_long

if TYPE_CHECKING:
    import pyarrow as pa

    from jobs.core.run import Plan
    from jobs.ledger.ledger import Ledger

MEMORY = "400MB"
SHARD_ROWS = 100_000
CHECKPOINT_ROWS = 5_000
ONE_FAILS_OF = 50
BY_HAND = "DuckDB by hand"


def planning(bench: Bench) -> Workload:
    """A million rows, and five million beside DuckDB."""
    bench.data.key_file(bench.small())  # makes the bucket that the manifests name
    clients = []
    for rows in (few, many) if (few := bench.scaled(1_000_000)) < (many := bench.scaled(5_000_000)) else (many,):
        manifest = bench.data.parquet_manifest(rows, 4096, bench.small().bucket)
        command = peers.sealift_run("replicate", ["--manifest", manifest], "--dry-run").command
        clients.append(Client(f"{SEALIFT}, {rows:,} rows", command, objects=rows))
    by_hand = f"{BY_HAND}, {many:,} rows"
    clients.append(Client(by_hand, partial(_by_hand, "shard", manifest, bench.folder), objects=many))
    targets = [
        Target("peak MiB of the largest process", peak_mib, at_most=500),
        Target("seconds per million rows, of the shorter plan", seconds_per_million(few), at_most=10),
        Target("times as long as DuckDB by hand", times_as_long(clients[-2].name, by_hand), at_most=1.5),
    ]
    title = f"Plan {few:,} and {many:,} manifest rows (`replicate --dry-run`)"
    return Workload("planning", title, many, 0, clients, bench.environment, targets)


def compact_planning(bench: Bench) -> Workload:
    """Archives are planned in columns, whatever their number."""
    rows = [bench.scaled(count) for count in (1_000_000, 5_000_000)]
    bench.data.key_file(bench.small())
    clients = []
    for count in rows:
        manifest = bench.data.parquet_manifest(count, 4096, bench.small().bucket, months=24)
        client = peers.sealift_run("compact", ["--manifest", manifest], "--dry-run", into="--archives")
        clients.append(Client(f"{SEALIFT}, {count:,} rows", client.command, objects=count))
    targets = [
        Target("peak MiB of the largest process", peak_mib, at_most=500),
        Target("seconds per million rows, of the shorter plan", seconds_per_million(rows[0]), at_most=2.5),
    ]
    title = f"Plan the compaction of {rows[0]:,} and {rows[-1]:,} manifest rows (`compact --dry-run`)"
    return Workload("planning-compact", title, rows[-1], 0, clients, bench.environment, targets)


def fold(bench: Bench) -> Workload:
    """The end of a run whose rows are all done: outcomes counted, failures listed, report and page written."""
    rows = bench.scaled(10_000_000)
    bench.data.key_file(bench.small())
    manifest = bench.data.parquet_manifest(rows, 4096, bench.small().bucket)
    ledger = f"s3://{bench.data.fresh_bucket('bench-fold-ledger')}/ledger"
    where = Run(f"s3://{bench.data.fresh_bucket('bench-fold')}/", ledger)
    print(f"giving {rows:,} rows an outcome …", flush=True)
    command = [sys.executable, "-m", "tests.benchmarks.planning", "settle", manifest, where.destination, ledger]
    settled = subprocess.run(command, env=dict(bench.environment), check=True, stdout=subprocess.PIPE, text=True)
    run_id = settled.stdout.strip()

    def own(_: Run) -> list[str]:
        return peers.sealift("runs", "retry", run_id, "--ledger", ledger, "--yes", "--json")

    clients = [
        Client(BY_HAND, partial(_by_hand, "count", run_id, ledger, bench.folder), rounds_max=1),
        Client(SEALIFT, own, rounds_max=1, exit_code=3),  # the run is over afterwards
    ]

    def wall(samples: Samples) -> float | None:
        runs = samples.get(SEALIFT)
        return runs[0].wall_seconds if runs else None

    targets = [
        Target("seconds", wall, at_most=30),
        Target("peak MiB of the largest process", peak_mib, at_most=500),
    ]
    title = f"End a run of {rows:,} rows, one in {ONE_FAILS_OF} of them failed (`runs retry`, all rows done)"
    return Workload("fold", title, rows, 0, clients, bench.environment, targets)


WORKLOADS = {"planning": planning, "planning-compact": compact_planning, "fold": fold}


def _by_hand(what: str, *arguments: object) -> list[str]:
    given = [str(each) for each in arguments if not isinstance(each, Run)]
    return [sys.executable, "-m", "tests.benchmarks.planning", what, *given]


def shard(manifest: str, folder: Path) -> None:
    """Write the rows of a manifest by shard and key, one file a shard, within MEMORY."""
    connection = _connection(folder)
    path = folder / "by-hand.parquet"
    _download(manifest, path)
    rows = connection.execute(f"SELECT count(*) FROM read_parquet('{path}')").fetchall()[0][0]
    shards = max(1, rows // SHARD_ROWS)
    target = folder / "by-hand-shards"
    shutil.rmtree(target, ignore_errors=True)
    connection.execute(
        f"COPY (SELECT *, hash(key) % {shards} AS shard FROM read_parquet('{path}') ORDER BY shard, key) "
        f"TO '{target}' (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (shard))"
    )
    print(json.dumps({"rows": rows, "files": len(list(target.glob("*/*.parquet")))}))
    shutil.rmtree(target)
    path.unlink()


def count(run_id: str, ledger: str, folder: Path) -> None:
    """Count the outcomes by status, and write those that failed, with their manifest columns, as Parquet and CSV."""
    import boto3

    target = folder / "by-hand-outcomes"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    s3 = boto3.client("s3")
    bucket, _, prefix = ledger.removeprefix("s3://").partition("/")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
    keys = [each["Key"] for page in pages for each in page["Contents"] if f"/{run_id}/" in each["Key"]]

    def fetch(key: str) -> None:
        kind = "outcomes" if "/outcomes/" in key else "shard"
        s3.download_file(bucket, key, str(target / f"{kind}-{key.replace('/', '-')}"))

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(fetch, [key for key in keys if key.endswith(".parquet")]))
    connection = _connection(folder)
    outcomes, shards = (f"read_parquet('{target}/{kind}-*.parquet')" for kind in ("outcomes", "shard"))
    counts = connection.execute(f"SELECT status, count(*), sum(size_bytes) FROM {outcomes} GROUP BY 1").fetchall()
    connection.execute(
        f"COPY (SELECT rows.*, status, reason FROM {outcomes} JOIN {shards} AS rows USING (row) "
        f"WHERE status <> 'copied' ORDER BY row) TO '{folder}/by-hand.parquet'"
    )
    connection.execute(f"COPY (FROM '{folder}/by-hand.parquet') TO '{folder}/by-hand.csv'")
    print(json.dumps({status: rows for status, rows, _ in counts}))
    shutil.rmtree(target)


def settle(manifest: str, destination: str, ledger_uri: str) -> None:
    """Plan a run, give each row an outcome (`copied`, one in ONE_FAILS_OF `denied`), and print the run's id."""
    asyncio.run(_settle(manifest, destination, ledger_uri))


async def _settle(manifest: str, destination: str, ledger_uri: str) -> None:
    from jobs.cli.console import TERMINAL
    from jobs.config import Settings
    from jobs.core.model import Location
    from jobs.core.run import Side
    from jobs.core.selection import Selection
    from jobs.ledger.ledger import Ledger
    from jobs.replicate.plan import plan_copies
    from jobs.runs.launch import publish
    from jobs.runs.request import Request
    from jobs.s3.sessions import open_store

    store = open_store(None, None, None, max_in_flight=8)
    try:
        ledger = Ledger(store, Location.parse(ledger_uri))
        request = Request("replicate", None, Side(Location.parse(destination)), manifest, Selection())
        planned = await plan_copies(request, ledger, Settings.from_environment(), TERMINAL)
        await publish(planned, ledger)
        planned.discard()
        for number in range(len(planned.plan.shards)):
            await _settle_shard(ledger, planned.spec.run_id, planned.plan, number)
        print(planned.spec.run_id)
    finally:
        await store.close()


async def _settle_shard(ledger: Ledger, run_id: str, plan: Plan, number: int) -> None:
    import io

    import pyarrow.parquet as pq

    from jobs.ledger.ledger import Checkpoint
    from jobs.tables.rows import write_parquet

    data = await ledger.shard(run_id, number, plan.row_numbers()[number])
    rows = pq.read_table(io.BytesIO(data))
    for place, first in enumerate(range(0, rows.num_rows, CHECKPOINT_ROWS)):
        table, bad_rows = _outcomes(rows.slice(first, CHECKPOINT_ROWS))
        content = write_parquet(table)
        checkpoint = Checkpoint(number, "settled", place, table.num_rows, bad_rows, 0)
        await ledger.write_checkpoint(run_id, checkpoint, content)


def _outcomes(rows: pa.Table) -> tuple[pa.Table, int]:
    """The outcomes of these rows of a shard, and how many of them failed."""
    import pyarrow as pa

    from jobs.tables.rows import outcome_schema

    numbers: list[Any] = rows["row"].to_pylist()
    is_bad = [number % ONE_FAILS_OF == 0 for number in numbers]
    count = len(numbers)
    columns: dict[str, Any] = {
        "row": rows["row"],
        "key": rows["key"],
        "version_id": rows["version_id"],
        "status": ["denied" if bad else "copied" for bad in is_bad],
        "reason": [
            f"CopyObject s3://bench-fold/{key}: AccessDenied: Access Denied" if bad else ""
            for key, bad in zip(rows["key"].to_pylist(), is_bad, strict=True)
        ],
        "evidence": ["none" if bad else "checksum" for bad in is_bad],
        "size_bytes": [0 if bad else 4096 for bad in is_bad],
        "etag": rows["etag"],
        "destination_version_id": [None] * count,
        "destination_etag": rows["etag"],
        "checksum": [None] * count,
        "finished_at": pa.array([1_764_000_000_000_000 + number for number in numbers], pa.timestamp("us", "UTC")),
        "attempt": ["settled"] * count,
    }
    schema = outcome_schema()
    arrays = [
        pa.array(columns[f.name], f.type) if isinstance(columns[f.name], list) else columns[f.name] for f in schema
    ]
    return pa.table(arrays, schema=schema), sum(is_bad)


def _connection(folder: Path) -> Any:
    import duckdb

    connection = duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": str(folder / "spill")})
    connection.execute("SET preserve_insertion_order = false")
    return connection


def _download(uri: str, path: Path) -> None:
    import boto3

    bucket, _, key = uri.removeprefix("s3://").partition("/")
    boto3.client("s3").download_file(bucket, key, str(path))


def main(what: str, *arguments: str) -> None:
    """The command line of one process."""
    if what == "shard":
        shard(arguments[0], Path(arguments[1]))
    elif what == "settle":
        settle(*arguments)
    else:
        count(arguments[0], arguments[1], Path(arguments[2]))


if __name__ == "__main__":
    main(*sys.argv[1:])
