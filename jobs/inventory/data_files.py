"""Data files of an inventory report, written a bounded piece at a time.

Layout, manifest and columns:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html and
storage-inventory.html there. A report of current objects has no columns on versions. In a report of
all versions the null version's id is empty, as S3 leaves it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from jobs.core.model import NULL_VERSION, Listed
from jobs.tables.rows import fill_batch

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_ROWS = 50_000
"""Rows held in memory before they are encoded: a row group."""

FILE_ROWS = 500_000
FILE_BYTES = 48 << 20
"""A data file ends with the group that reaches either. A group of long keys adds at most a few
MiB."""


class Column(NamedTuple):
    """A column of a report: S3's name for it in Parquet, its kind, and the field of a listing."""

    name: str
    kind: Literal["text", "flag", "number", "time"]
    field: str


_KEY_COLUMNS = (Column("bucket", "text", "bucket"), Column("key", "text", "key"))
_VERSION_COLUMNS = (
    Column("version_id", "text", "version_id"),
    Column("is_latest", "flag", "is_latest"),
    Column("is_delete_marker", "flag", "is_delete_marker"),
)
_FIELD_COLUMNS = (
    Column("size", "number", "size_bytes"),
    Column("last_modified_date", "time", "last_modified"),
    Column("e_tag", "text", "etag"),
    Column("storage_class", "text", "storage_class"),
    Column("checksum_algorithm", "text", "checksum_algorithm"),
)


def report_columns(*, versions: bool) -> tuple[Column, ...]:
    """The columns of a report, in S3's order."""
    return _KEY_COLUMNS + (_VERSION_COLUMNS if versions else ()) + _FIELD_COLUMNS


def file_schema(columns: Sequence[Column]) -> str:
    """`fileSchema` of manifest.json, as S3 spells it for Parquet."""
    kinds = {
        "text": "binary {} (UTF8)",
        "flag": "boolean {}",
        "number": "int64 {}",
        "time": "int64 {} (TIMESTAMP_MILLIS)",
    }
    fields = (
        f"{'required' if column in _KEY_COLUMNS else 'optional'} {kinds[column.kind].format(column.name)};"
        for column in columns
    )
    return f"message s3.inventory {{ {' '.join(fields)} }}"


def fold_name(column: str) -> str:
    """`VersionId` and `version_id` → `versionid`: one name for all formats' columns."""
    return column.replace("_", "").lower()


class ReportFile:
    """One data file under way, on disk. `add` and `finish` block: call them in a thread."""

    def __init__(self, path: str, bucket: str, columns: Sequence[Column]):
        import pyarrow.parquet as pq

        self.path, self.rows = path, 0
        self._bucket, self._columns, self._schema = bucket, columns, _arrow_schema(columns)
        self._file = open(path, "wb")  # noqa: SIM115 - closed by finish
        self._writer = pq.ParquetWriter(self._file, self._schema, compression="zstd", write_statistics=True)

    @property
    def is_full(self) -> bool:
        """Whether the next rows belong into a new file."""
        return self.rows >= FILE_ROWS or self._file.tell() >= FILE_BYTES

    def add(self, pages: Iterable[Sequence[Listed]]) -> None:
        """Encode these entries, one at least, as one row group."""
        entries = [entry for page in pages for entry in page]
        fields: dict[str, Any] = dict(zip(Listed._fields, zip(*entries, strict=True), strict=True))
        fields["bucket"] = [self._bucket] * len(entries)
        fields["version_id"] = ["" if each in (None, NULL_VERSION) else each for each in fields["version_id"]]
        fields["last_modified"] = [round(each * 1000) for each in fields["last_modified"]]
        columns = {column.name: fields[column.field] for column in self._columns}
        self._writer.write(fill_batch(columns, len(entries), self._schema))
        self.rows += len(entries)

    def finish(self) -> tuple[int, str]:
        """Close the file → its size and MD5, which the manifest will promise."""
        self._writer.close()
        self._file.close()
        with open(self.path, "rb") as file:
            return os.path.getsize(self.path), hashlib.file_digest(file, "md5").hexdigest()


def _arrow_schema(columns: Sequence[Column]) -> pa.Schema:
    import pyarrow as pa

    kinds: dict[str, pa.DataType] = {
        "text": pa.string(),
        "flag": pa.bool_(),
        "number": pa.int64(),
        "time": pa.timestamp("ms", tz="UTC"),
    }
    fields: list[pa.Field[Any]] = [
        pa.field(column.name, kinds[column.kind], nullable=column not in _KEY_COLUMNS) for column in columns
    ]
    return pa.schema(fields)
