"""Two inventory reports of millions of rows, one in a thousand different, and a join of them by hand."""

from __future__ import annotations

import hashlib
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks.peers import Client

MADE = datetime(2026, 11, 1, tzinfo=UTC).timestamp()
MEMORY_MIB = 768
FILE_ROWS = 1_000_000
_SCHEMA = (
    "message s3.inventory { required binary bucket (STRING); required binary key (STRING); "
    "optional int64 size; optional int64 last_modified_date (TIMESTAMP(MILLIS,true)); optional binary e_tag (STRING); "
    "optional binary storage_class (STRING); optional boolean is_multipart_uploaded; "
    "optional binary encryption_status (STRING); }"
)
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


def make(folder: Path, rows: int) -> None:
    """Write both reports into the folder, unless they are there."""
    import duckdb

    if folder.exists():
        return
    print(f"making two inventories of {rows:,} rows …", flush=True)
    folder.mkdir(parents=True)
    connection = duckdb.connect(config={"memory_limit": "2GiB", "temp_directory": str(folder / "spill")})
    connection.execute("SET TimeZone = 'UTC'")
    for side in ("source", "destination"):
        data, manifest = (
            folder / side / "daily" / "data",
            folder / side / "daily" / "2026-11-01T00-00Z" / "manifest.json",
        )
        files = []
        for number, first in enumerate(range(0, rows, FILE_ROWS)):
            sql = _ROWS.format(bucket=side, size=_SIZE, first=first, last=min(rows, first + FILE_ROWS))
            sql = sql if side == "source" else _DAMAGE.format(rows=sql)
            path = data / f"{number}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            connection.execute(f"COPY ({sql} ORDER BY hash(key, '{side}')) TO '{path}' (FORMAT parquet)")
            with path.open("rb") as file:
                md5 = hashlib.file_digest(file, "md5").hexdigest()
            key = f"{side}/daily/data/{path.name}"
            files.append({"key": key, "size": path.stat().st_size, "MD5checksum": md5})
        document = {
            "sourceBucket": side,
            "destinationBucket": "arn:aws:s3:::reports",
            "version": "2016-11-30",
            "creationTimestamp": str(int(MADE * 1000)),
            "fileFormat": "Parquet",
            "fileSchema": _SCHEMA,
            "files": files,
        }
        content = json.dumps(document).encode()
        manifest.parent.mkdir(parents=True, exist_ok=True)
        manifest.write_bytes(content)
        manifest.with_suffix(".checksum").write_text(hashlib.md5(content, usedforsecurity=False).hexdigest())


def by_hand(folder: Path) -> Client:
    """The same join as somebody who knows DuckDB writes it: not verified, no reasons, no breakdowns."""
    return Client("hand-written SQL", lambda _: [sys.executable, "-m", "tests.benchmarks.inventories", str(folder)])


def join(folder: Path) -> None:
    import duckdb

    connection = duckdb.connect(config={"memory_limit": f"{MEMORY_MIB}MiB", "temp_directory": str(folder / "spill")})
    connection.execute("SET preserve_insertion_order = false")
    source, destination = (
        f"read_parquet('{folder}/{side}/daily/data/*.parquet')" for side in ("source", "destination")
    )
    connection.execute(
        f"""
        CREATE TABLE found AS SELECT * FROM (
            SELECT key, s.size AS size, d.size AS other_size, s.e_tag AS etag, d.e_tag AS other_etag,
                   s.last_modified_date AS modified, d.last_modified_date AS other_modified,
                   CASE WHEN s.size IS NULL THEN 'extra' WHEN d.size IS NULL THEN 'missing'
                        WHEN s.size <> d.size OR s.e_tag <> d.e_tag THEN 'different' END AS category
            FROM {source} s FULL JOIN {destination} d USING (key)) WHERE category IS NOT NULL
        """
    )
    connection.execute(f"COPY (FROM found ORDER BY key) TO '{folder}/sql.parquet'")
    connection.execute(f"COPY (FROM found ORDER BY key) TO '{folder}/sql.csv'")


if __name__ == "__main__":
    join(Path(sys.argv[1]))
