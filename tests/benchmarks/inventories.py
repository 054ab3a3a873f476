"""Two inventory reports of millions of rows, one in a thousand different."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

MADE = datetime(2026, 11, 1, tzinfo=UTC).timestamp()
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
