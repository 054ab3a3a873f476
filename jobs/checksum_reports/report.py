"""Completion reports of S3 Batch Operations' *Compute checksum*: what S3 computed of bytes that
nobody else read.

    <prefix>/job-<id>/manifest.json      when it was made, its result files with their MD5s
    <prefix>/job-<id>/results/<hash>.csv a row a task: a file of successes, another of failures

What a row says: `jobs.checksum_reports.rows`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from msgspec import Meta, Struct, field, json

from jobs.checksum_reports.rows import Row, parse_row
from jobs.core.model import Location, parse_time
from jobs.errors import ManifestError, UsageError
from jobs.s3.downloads import PromisedFile, fetch_promised, read_manifest
from jobs.s3.store import Store

LINES = 20_000


class RejectedLine(NamedTuple):
    """A line that cannot be used: where it is, what is wrong, and the line itself."""

    file: str
    line: int
    problem: str
    text: str


class ChecksumReport(Struct, frozen=True):
    """A report whose manifest was read.

    `computed_at`: epoch seconds of its making. It proves nothing of what was written later.
    """

    uri: str
    computed_at: float
    files: tuple[tuple[Location, str], ...]
    """Where each result file was written, and its MD5 in hex."""


class _ResultFile(Struct, rename="pascal"):
    bucket: str
    key: str
    md5: str = field(name="MD5Checksum")


class _Manifest(Struct, rename="pascal"):
    """manifest.json, as S3 writes it."""

    format: Literal["Report_CSV_20180820"]
    report_schema: Annotated[str, Meta(pattern="^Bucket, *Key, *VersionId, *TaskStatus,.*[, ]ResultMessage$")]
    report_creation_date: str
    results: tuple[_ResultFile, ...]


async def open_report(store: Store, uri: str) -> ChecksumReport:
    """The report whose manifest.json is at an S3 URI or a local path.

    Raises ManifestError for another file, UsageError for an address that cannot be one, StoreError.
    """
    advice = "give the URI of a completion report's manifest.json"
    try:
        content = await read_manifest(store, _place(uri), advice)
    except OSError as error:
        raise ManifestError(f"{uri} cannot be read", advice=advice) from error

    try:
        data = json.decode(content, type=_Manifest)
        files = [(Location(each.bucket.rpartition(":")[2], each.key), each.md5.lower()) for each in data.results]
        return ChecksumReport(uri, parse_time(data.report_creation_date), tuple(files))
    except (ValueError, RecursionError) as error:  # msgspec's are ValueErrors
        what = f"{uri} is not the manifest.json of a completion report of S3 Batch Operations"
        raise ManifestError(f"{what}: {error}") from error


def read_rows(path: Path, name: str, bucket: str | None = None) -> Iterator[tuple[list[Row], list[RejectedLine]]]:
    """Yield the rows of a result file, and the lines that cannot be used, a bounded number of lines
    at a time.

    With `bucket`, rows of other buckets cannot be used. `name`: what rejected lines call the file.

    A line is a row: keys are encoded and messages are JSON, so that neither holds a line break, and
    the unbalanced quotes of failure messages must not swallow the rows after them.
    """
    with path.open("rb") as file:
        first = 1
        while lines := list(_take(file, LINES)):
            good: list[Row] = []
            bad: list[RejectedLine] = []
            for number, (line, fields) in enumerate(zip(lines, _split(lines), strict=True), first):
                if not line.strip():
                    continue
                found = parse_row(fields)
                if isinstance(found, Row) and bucket not in (None, found.bucket):
                    found = f"it is about the bucket {found.bucket}"
                if isinstance(found, Row):
                    good.append(found)
                else:
                    bad.append(RejectedLine(name, number, found, line.decode(errors="backslashreplace").rstrip("\r\n")))
            first += len(lines)
            yield good, bad


def _take(file: Any, count: int) -> Iterator[bytes]:
    for _, line in zip(range(count), file, strict=False):
        yield line


def _split(lines: Sequence[bytes]) -> list[list[str]]:
    """The fields of each line. Of a line that is not text: none."""
    texts = [line.decode("utf-8", "replace") for line in lines]
    try:
        rows = list(csv.reader(texts))
        if len(rows) == len(texts) and not any("\ufffd" in text for text in texts):
            return rows  # nothing ran over a line's end
    except csv.Error:
        pass
    return [_fields(line) for line in lines]


def _fields(line: bytes) -> list[str]:
    try:
        return next(csv.reader([line.decode("utf-8").rstrip("\r\n")]), [])
    except (csv.Error, UnicodeDecodeError):
        return []


async def fetch_result(store: Store, report: ChecksumReport, named: Location, md5: str, target: Path) -> Path:
    """A verified local copy of a result file, from its named place or beside the manifest."""
    manifest, name = _place(report.uri), named.key.rpartition("/")[2]
    if isinstance(manifest, Path):
        places: list[Path | Location] = [manifest.parent / "results" / name, manifest.parent / name, named]
    else:
        folder = Location(manifest.bucket, manifest.key.rpartition("/")[0])
        places = [named, folder.join(f"results/{name}"), folder.join(name)]
    promised = PromisedFile(report.uri, places, md5, kind="result file", report="report")
    _, path = await fetch_promised(store, promised, target)
    return path


def _place(uri: str) -> Path | Location:
    if uri.startswith("s3://"):
        return Location.parse(uri)
    if "://" in uri and not uri.startswith("file://"):
        raise UsageError(f"{uri!r} is no report of checksums", advice="name one at s3:// or at a local path")
    return Path(uri.removeprefix("file://"))
