"""Inventory reports on disk as S3 delivers them: all documented fields, in any order and subset, in each format."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet as pq

TEXT, NUMBER, FLAG, TIME = "text", "number", "flag", "time"
FIELDS = {
    "Bucket": ("bucket", TEXT),
    "Key": ("key", TEXT),
    "VersionId": ("version_id", TEXT),
    "IsLatest": ("is_latest", FLAG),
    "IsDeleteMarker": ("is_delete_marker", FLAG),
    "Size": ("size", NUMBER),
    "LastModifiedDate": ("last_modified_date", TIME),
    "ETag": ("e_tag", TEXT),
    "StorageClass": ("storage_class", TEXT),
    "IsMultipartUploaded": ("is_multipart_uploaded", FLAG),
    "ReplicationStatus": ("replication_status", TEXT),
    "EncryptionStatus": ("encryption_status", TEXT),
}
"""Fields of the documentation: the name in CSV, the name in ORC and Parquet, the kind."""

ODD_KEYS = ["a b", "a+b", "a%2Bb", "100%", "/x", "a//b", "a/../b", "t/", "é", "e\u0301", "\U00010000", 'q"uote']
ODD_KEYS += ["c,omma", "new\nline", "cr\r\n", "tab\t", " lead", "null", "\x7f", "&amp;", "a=b&c", "a%2Fb", "a%252Fb"]
ODD_KEYS += ["b/%2f+", "=1+1", "+x", "-x", "@x", "'", "<script>"]
CURRENT: tuple[str, ...] = ("Bucket", "Key", "Size", "LastModifiedDate", "ETag", "StorageClass", "IsMultipartUploaded")
CURRENT += ("ReplicationStatus", "EncryptionStatus")
VERSIONS = ("Bucket", "Key", "VersionId", "IsLatest", "IsDeleteMarker", *CURRENT[2:])
FORMATS = ("CSV", "ORC", "Parquet")


def deliver(
    folder: Path,
    bucket: str,
    rows: Sequence[dict[str, Any]],
    *,
    fields: Sequence[str] = CURRENT,
    file_format: str = "Parquet",
    files: int = 1,
    created_at: float = 1_764_000_000.0,
    prefix: str = "inventory/",
    **changes: Any,
) -> Path:
    """A report in `folder`, its rows dealt out to so many files → its manifest.json. Rows name fields as CSV does."""
    base = folder / f"{prefix}{bucket}" / "daily"
    minute = datetime.fromtimestamp(created_at, UTC).strftime("%Y-%m-%dT%H-%MZ")
    data = base / "data"
    data.mkdir(parents=True, exist_ok=True)
    listed = []
    for number in range(files):
        body = encode([{"Bucket": bucket} | row for row in rows[number::files]], fields, file_format)
        name = f"{minute}-{number}.{'csv.gz' if file_format == 'CSV' else file_format.lower()}"
        (data / name).write_bytes(body)
        key = f"{prefix}{bucket}/daily/data/{name}"
        listed.append({"key": key, "size": len(body), "MD5checksum": hashlib.md5(body).hexdigest()})
    manifest = {
        "sourceBucket": bucket,
        "destinationBucket": "arn:aws:s3:::reports",
        "version": "2016-11-30",
        "creationTimestamp": str(int(created_at * 1000)),
        "fileFormat": file_format,
        "fileSchema": schema_of(fields, file_format),
        "files": listed,
    }
    target = base / minute / "manifest.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps(manifest | changes).encode()
    target.write_bytes(content)
    target.with_suffix(".checksum").write_text(hashlib.md5(content).hexdigest())
    return target


def schema_of(fields: Sequence[str], file_format: str) -> str:
    if file_format == "CSV":
        return ", ".join(fields)
    if file_format == "ORC":
        kinds = {TEXT: "string", NUMBER: "bigint", FLAG: "boolean", TIME: "timestamp"}
        return f"struct<{','.join(f'{FIELDS[f][0]}:{kinds[FIELDS[f][1]]}' for f in fields)}>"
    kinds = {TEXT: "binary {} (STRING)", NUMBER: "int64 {}", FLAG: "boolean {}"}
    kinds[TIME] = "int64 {} (TIMESTAMP(MILLIS,true))"
    inner = " ".join(
        f" {'required' if f in ('Bucket', 'Key') else 'optional'} {kinds[FIELDS[f][1]].format(FIELDS[f][0])};"
        for f in fields
    )
    return f"message s3.inventory {{ {inner}}}"


def encode(rows: Sequence[dict[str, Any]], fields: Sequence[str], file_format: str) -> bytes:
    if file_format == "CSV":
        text = io.StringIO()
        writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
        for row in rows:
            writer.writerow([_csv(field, row.get(field)) for field in fields])
        return gzip.compress(text.getvalue().encode(), mtime=0)
    time = pa.timestamp("ns") if file_format == "ORC" else pa.timestamp("ms", tz="UTC")
    kinds: dict[str, Any] = {TEXT: pa.string(), NUMBER: pa.int64(), FLAG: pa.bool_(), TIME: time}
    columns = {}
    for field in fields:
        name, kind = FIELDS[field]
        values = [row.get(field) for row in rows]
        if kind == TIME:
            unit = 1_000_000_000 if file_format == "ORC" else 1000
            array: Any = pa.array([None if v is None else round(v * unit) for v in values], pa.int64())
            columns[name] = array.cast(time)
        else:
            columns[name] = pa.array(values, kinds[kind])
    table = pa.table(columns)
    sink = io.BytesIO()
    if file_format == "ORC":
        pyarrow.orc.write_table(table, sink)
    else:
        pq.write_table(table, sink)
    return sink.getvalue()


def _csv(field: str, value: Any) -> str:
    if value is None:
        return ""
    kind = FIELDS[field][1]
    if field == "Key":
        return quote_plus(value, safe="/" if len(value) % 2 else "")  # a slash may come either way
    if kind == FLAG:
        return "true" if value else "false"
    if kind == TIME:
        return datetime.fromtimestamp(value, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return str(value)
