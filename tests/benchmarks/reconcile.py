"""The reconciliation's workloads: two reports of millions of rows, against hand-written SQL and pyarrow's join.

    python -m tests.benchmarks.reconcile (make | ours | sql | pyarrow) FOLDER ROWS FORMAT [MEMORY_MIB]

Each of the four is a process of its own, so that its memory is its own; `make` writes the reports. One in a
thousand rows differs. All joins have the same memory limit, and write their findings as Parquet and CSV.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.benchmarks.workloads import Bench, Samples, Workload

MADE = datetime(2026, 11, 1, tzinfo=UTC).timestamp()
MEMORY_MIB = 768
LOW_MEMORY_MIB = 400
FILE_ROWS = 1_000_000
_SCHEMAS = {
    "Parquet": "message s3.inventory { required binary bucket (STRING); required binary key (STRING); "
    "optional int64 size; optional int64 last_modified_date (TIMESTAMP(MILLIS,true)); optional binary e_tag (STRING); "
    "optional binary storage_class (STRING); optional boolean is_multipart_uploaded; "
    "optional binary encryption_status (STRING); }",
    "CSV": "Bucket, Key, Size, LastModifiedDate, ETag, StorageClass, IsMultipartUploaded, EncryptionStatus",
}
_ROWS = """
    SELECT '{bucket}' AS bucket, key, size, last_modified_date, e_tag, 'STANDARD' AS storage_class,
           false AS is_multipart_uploaded, 'SSE-S3' AS encryption_status
    FROM (SELECT printf('archive/%04d/%02d/%02d/department-%03d/shipment-document-%09d.pdf.zst',
                        2015 + i % 10, i % 12 + 1, i % 28 + 1, (hash(i) % 500)::INTEGER, i) AS key, i,
                 {size} AS size, md5(i::VARCHAR) AS e_tag,
                 TIMESTAMPTZ '2026-01-01 00:00:00+00' + INTERVAL (i % 20000000) SECOND AS last_modified_date
          FROM range({first}, {last}) rows(i))
"""
_SIZE = "(1000 + hash(i + 1) % 5000000)::BIGINT"
_DAMAGE = (
    "SELECT * REPLACE (CASE WHEN hash(key || 'etag') % 4000 = 1 THEN md5(key) ELSE e_tag END AS e_tag, "
    "CASE WHEN hash(key || 'size') % 4000 = 1 THEN size + 1 ELSE size END AS size) FROM ({rows}) "
    "WHERE hash(key || 'gone') % 2000 <> 1"
)


def make(folder: Path, rows: int, file_format: str) -> None:
    """Write both reports into the folder, unless they are there."""
    import duckdb

    connection = duckdb.connect(config={"memory_limit": "2GiB", "temp_directory": str(folder / "spill")})
    connection.execute("SET TimeZone = 'UTC'")
    for side in ("source", "destination"):
        manifest = _manifest(folder, side)
        if manifest.exists():
            continue
        data = manifest.parent.parent / "data"
        data.mkdir(parents=True, exist_ok=True)
        files = []
        for number, first in enumerate(range(0, rows, FILE_ROWS)):
            last = min(rows, first + FILE_ROWS)
            sql = _ROWS.format(bucket=side, size=_SIZE, first=first, last=last)
            sql = sql if side == "source" else _DAMAGE.format(rows=sql)
            path = data / f"{number}.{'parquet' if file_format == 'Parquet' else 'csv.gz'}"
            how = "FORMAT parquet"
            if file_format == "CSV":
                time = "strftime(last_modified_date, '%Y-%m-%dT%H:%M:%S.000Z') AS last_modified_date"
                sql = f"SELECT * REPLACE (replace(key, '/', '%2F') AS key, {time}) FROM ({sql})"
                how = "FORMAT csv, HEADER false, FORCE_QUOTE *, COMPRESSION gzip"
            connection.execute(f"COPY ({sql} ORDER BY hash(key, '{side}')) TO '{path}' ({how})")
            with path.open("rb") as file:
                md5 = hashlib.file_digest(file, "md5").hexdigest()
            key = f"{side}/daily/data/{path.name}"
            files.append({"key": key, "size": path.stat().st_size, "MD5checksum": md5})
        content = json.dumps(
            {
                "sourceBucket": side,
                "destinationBucket": "arn:aws:s3:::reports",
                "version": "2016-11-30",
                "creationTimestamp": str(int(MADE * 1000)),
                "fileFormat": file_format,
                "fileSchema": _SCHEMAS[file_format],
                "files": files,
            }
        ).encode()
        manifest.parent.mkdir(parents=True, exist_ok=True)
        manifest.write_bytes(content)
        manifest.with_suffix(".checksum").write_text(hashlib.md5(content, usedforsecurity=False).hexdigest())


def _manifest(folder: Path, side: str) -> Path:
    return folder / side / "daily" / "2026-11-01T00-00Z" / "manifest.json"


def ours(folder: Path, memory_mib: int) -> dict[str, int]:
    """Sealift's: verified, judged, written."""
    from jobs.inventory.find import find_inventory
    from jobs.reconcile.reconcile import ReconcileOptions, reconcile

    no_store: Any = None  # the reports are local

    async def run() -> dict[str, int]:
        source, destination = [await find_inventory(no_store, str(folder / s)) for s in ("source", "destination")]
        options = ReconcileOptions(now=MADE + 60, memory_limit_bytes=memory_mib << 20)
        answer = await reconcile(
            source,
            destination,
            options,
            source_store=no_store,
            destination_store=no_store,
            scratch=folder / "ours",
        )
        return {category.value: rows for category, (rows, _) in answer.categories.items() if rows}

    return asyncio.run(run())


def sql(folder: Path, memory_mib: int) -> dict[str, int]:
    """The same join as somebody who knows DuckDB writes it: not verified, no reasons, no breakdowns."""
    import duckdb

    connection = duckdb.connect(config={"memory_limit": f"{memory_mib}MiB", "temp_directory": str(folder / "spill")})
    connection.execute("SET preserve_insertion_order = false")
    files = {side: f"read_parquet('{folder}/{side}/daily/data/*.parquet')" for side in ("source", "destination")}
    connection.execute(
        f"""
        CREATE TABLE found AS SELECT * FROM (
            SELECT key, s.size AS size, d.size AS other_size, s.e_tag AS etag, d.e_tag AS other_etag,
                   s.last_modified_date AS modified, d.last_modified_date AS other_modified,
                   CASE WHEN s.size IS NULL THEN 'extra' WHEN d.size IS NULL THEN 'missing'
                        WHEN s.size <> d.size OR s.e_tag <> d.e_tag THEN 'different' END AS category
            FROM {files["source"]} s FULL JOIN {files["destination"]} d USING (key)) WHERE category IS NOT NULL
        """
    )
    connection.execute(f"COPY (FROM found ORDER BY key) TO '{folder}/sql.parquet'")
    connection.execute(f"COPY (FROM found ORDER BY key) TO '{folder}/sql.csv'")
    return dict(connection.execute("SELECT category, count(*) FROM found GROUP BY 1").fetchall())


def pyarrow(folder: Path, memory_mib: int) -> dict[str, int]:
    """The same join by pyarrow's Table.join, in memory."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    names = ["key", "size", "e_tag", "last_modified_date"]
    one, other = (pq.read_table(folder / side / "daily" / "data", columns=names) for side in ("source", "destination"))
    joined = one.join(other, "key", join_type="full outer", right_suffix="_other")
    functions: Any = pc
    same = functions.and_(
        functions.equal(joined["size"], joined["size_other"]), functions.equal(joined["e_tag"], joined["e_tag_other"])
    )
    found = joined.filter(functions.invert(functions.fill_null(same, False)))
    pq.write_table(found, folder / "pyarrow.parquet")
    missing, extra = found["size_other"].null_count, found["size"].null_count
    counts = {"missing": missing, "extra": extra, "different": found.num_rows - missing - extra}
    return {category: rows for category, rows in counts.items() if rows}


def reconcile_reports(bench: Bench) -> Workload:
    """5,000,000 rows a side, as Parquet and CSV, with the usual memory and with little."""
    from tests.benchmarks.peers import SEALIFT, Client
    from tests.benchmarks.workloads import Target, Workload, speed_against

    rows = bench.scaled(5_000_000)
    parquet, text = (_made(bench, rows, file_format) for file_format in ("Parquet", "CSV"))
    clients = [
        Client(SEALIFT, lambda _: _command("ours", parquet, rows)),
        Client("hand-written SQL", lambda _: _command("sql", parquet, rows)),
        Client("pyarrow Table.join", lambda _: _command("pyarrow", parquet, rows)),
        Client(f"{SEALIFT}, {LOW_MEMORY_MIB} MiB", lambda _: _command("ours", parquet, rows, memory=LOW_MEMORY_MIB)),
        Client(f"CSV, {SEALIFT}", lambda _: _command("ours", text, rows)),
    ]

    def own(samples: Samples, name: str) -> float | None:
        runs = samples.get(name)
        return median(sample.wall_seconds for sample in runs) if runs else None

    def csv_speed(samples: Samples) -> float | None:
        one, other = own(samples, SEALIFT), own(samples, f"CSV, {SEALIFT}")
        return one / other if one and other else None

    def peak(samples: Samples) -> float | None:
        runs = samples.get(SEALIFT)
        return max(sample.peak_bytes for sample in runs) / (1 << 20) if runs else None

    def agreement(samples: Samples) -> float | None:
        answers = [json.loads(s.output) for runs in samples.values() for s in runs]
        found = {json.dumps({k: v for k, v in a.items() if k != "same"}, sort_keys=True) for a in answers}
        return float(len(found)) if answers else None

    targets = [
        Target("speed against the hand-written SQL", speed_against("hand-written"), at_least=1 / 1.5),
        Target("speed against pyarrow's Table.join", speed_against("pyarrow"), at_least=2.0),
        Target("peak MiB", peak, at_most=1024),
        Target("different answers of all clients", agreement, at_most=1),
        Target("CSV's rows per second against Parquet's", csv_speed, at_least=0.4),
    ]
    title = f"Reconcile two inventories of {rows:,} rows, one in a thousand different"
    return Workload("reconcile", title, rows, 0, clients, bench.environment, targets)


def reconcile_growth(bench: Bench) -> Workload:
    """1 M to 20 M rows: the exponent of the time."""
    from math import log

    from tests.benchmarks.peers import SEALIFT, Client
    from tests.benchmarks.workloads import Target, Workload

    sizes = [bench.scaled(millions * 1_000_000) for millions in (1, 5, 20)]
    folders = [_made(bench, rows, "Parquet") for rows in sizes]
    commands = [_command("ours", folder, rows) for folder, rows in zip(folders, sizes, strict=True)]
    clients = [
        Client(f"{SEALIFT}, {rows:,} rows", partial(_given, command), objects=rows)
        for rows, command in zip(sizes, commands, strict=True)
    ]

    def exponent(samples: Samples) -> float | None:
        first, last = (samples.get(f"{SEALIFT}, {rows:,} rows") for rows in (sizes[0], sizes[-1]))
        if not first or not last:
            return None
        times = [median(sample.wall_seconds for sample in runs) for runs in (first, last)]
        return log(times[1] / times[0]) / log(sizes[-1] / sizes[0])

    targets = [Target("exponent of the time over the rows", exponent, at_most=1.15)]
    title = f"Reconcile {sizes[0]:,} to {sizes[-1]:,} rows"
    return Workload("reconcile-growth", title, sizes[-1], 0, clients, bench.environment, targets)


WORKLOADS: dict[str, Callable[[Bench], Workload]] = {
    "reconcile": reconcile_reports,
    "reconcile-growth": reconcile_growth,
}


def _given(command: list[str], _: object) -> list[str]:
    return command


def _made(bench: Bench, rows: int, file_format: str) -> Path:
    import subprocess

    folder = bench.folder / f"inventories-{rows}-{file_format.lower()}"
    if not folder.exists():
        print(f"making two {file_format} inventories of {rows:,} rows …", flush=True)
        folder.mkdir(parents=True)
        command = _command("make", folder, rows, file_format=file_format)
        subprocess.run(command, env=dict(bench.environment), check=True)
    return folder


def _command(
    what: str, folder: Path, rows: int, *, file_format: str = "Parquet", memory: int = MEMORY_MIB
) -> list[str]:
    return [sys.executable, "-m", "tests.benchmarks.reconcile", what, str(folder), str(rows), file_format, str(memory)]


def main(what: str, folder: str, rows: str, file_format: str = "Parquet", memory_mib: str = str(MEMORY_MIB)) -> None:
    """The command line of one process."""
    if what == "make":
        make(Path(folder), int(rows), file_format)
        return
    join = {"ours": ours, "sql": sql, "pyarrow": pyarrow}[what]
    print(json.dumps(join(Path(folder), int(memory_mib))))


if __name__ == "__main__":
    main(*sys.argv[1:])
