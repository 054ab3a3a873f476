"""Writing completion reports as S3 Batch Operations does, for tests."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from urllib.parse import quote_plus

from jobs.core.model import Checksum

SCHEMA = "Bucket, Key, VersionId, TaskStatus, ErrorCode, HTTPStatusCode, ResultMessage"


def task(
    bucket: str, key: str, checksum: Checksum, *, etag: str | None = "e", version_id: str | None = None
) -> list[str]:
    """The row of a task that succeeded."""
    message = {
        "checksum_base64": checksum.value,
        "etag": etag,
        "checksumAlgorithm": checksum.algorithm,
        "checksumType": "COMPOSITE" if checksum.is_composite else "FULL_OBJECT",
    }
    return [bucket, quote_plus(key), version_id or "", "succeeded", "200", "", json.dumps(message)]


def result_file(rows: Iterable[list[str]]) -> bytes:
    """A result file: no header."""
    sink = io.StringIO()
    csv.writer(sink, lineterminator="\n").writerows(rows)
    return sink.getvalue().encode()


def manifest(bucket: str, prefix: str, results: dict[str, bytes], created_at: float) -> bytes:
    """The report's manifest.json; `results`: the files' names and contents, the failed ones named so."""
    document = {
        "Format": "Report_CSV_20180820",
        "ReportCreationDate": datetime.fromtimestamp(created_at, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
        "Results": [
            {
                "TaskExecutionStatus": "failed" if "failed" in name else "succeeded",
                "Bucket": bucket,
                "MD5Checksum": hashlib.md5(data).hexdigest(),
                "Key": f"{prefix}/results/{name}",
            }
            for name, data in results.items()
        ],
        "ReportSchema": SCHEMA,
    }
    return json.dumps(document, indent=4).encode()
