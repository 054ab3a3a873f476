"""The ledger's tables as `sealift query` shows them: every column, its DuckDB type and what it means.

Files may bring more columns than these; they are shown after them. Where a file lacks one, it is null.
"""

from __future__ import annotations

from typing import NamedTuple


class Column(NamedTuple):
    """A column: its name, its type in DuckDB's words, its meaning in a few words of ours."""

    name: str
    type: str
    meaning: str


class Table(NamedTuple):
    """A table of the ledger: what one row is, where its files lie below the ledger, its columns."""

    summary: str
    files: str
    columns: tuple[Column, ...]

    @property
    def types(self) -> dict[str, str]:
        """Column name → DuckDB type."""
        return {column.name: column.type for column in self.columns}


_TEXT, _COUNT, _TIME, _FLAG = "VARCHAR", "BIGINT", "TIMESTAMP WITH TIME ZONE", "BOOLEAN"

_RUN = Column("run_id", _TEXT, "the run")
_SHARD = Column("shard", "INTEGER", "the run's shard that holds the row")
_KEY = Column("key", _TEXT, "the object's key at the source, as it is")
_VERSION = Column("version_id", _TEXT, "the version id at the source; null: the manifest named only the key")

TABLES: dict[str, Table] = {
    "runs": Table(
        "A run: what was asked, what was planned, how it ended.",
        "runs/<run>/{spec,plan,report}.json",
        (
            _RUN,
            Column("job", _TEXT, "replicate, verify, reconcile, …"),
            Column("state", _TEXT, "complete; planned: no report yet; unplanned: no plan"),
            Column("created_at", _TIME, "when it was asked for"),
            Column("source", _TEXT, "s3://bucket/prefix"),
            Column("destination", _TEXT, "s3://bucket/prefix"),
            Column("manifest", _TEXT, "where the rows came from"),
            Column("retry_of", _TEXT, "the run whose failed rows this one took"),
            Column("rows", _COUNT, "rows of the manifest"),
            Column("size_bytes", _COUNT, "their bytes, as planned"),
            Column("shards", _COUNT, "slices for workers"),
            Column("planned_dollars", "DOUBLE", "the plan's price"),
            Column("failures", _COUNT, "rows that did not end well; null: no report yet"),
            Column("seconds", "DOUBLE", "from the asking to the last outcome; null: no report yet"),
            Column("sealift_version", _TEXT, "which Sealift planned it"),
        ),
    ),
    "manifest": Table(
        "A row that a run acts on: one object version.",
        "runs/<run>/shards/<shard>.parquet",
        (
            _RUN,
            _SHARD,
            Column("row", _COUNT, "the row's number in the run"),
            _KEY,
            _VERSION,
            Column("is_latest", _FLAG, "whether it is the key's current version"),
            Column("is_delete_marker", _FLAG, "whether it is a delete marker"),
            Column("size_bytes", _COUNT, "the object's size"),
            Column("etag", _TEXT, "its ETag, without quotes"),
            Column("last_modified", _TIME, "when S3 says it was written"),
            Column("storage_class", _TEXT, "its storage class"),
            Column("condemned_etag", _TEXT, "the destination's ETag that an earlier verify run proved wrong"),
            Column("source_attested", _TEXT, "checksums that S3 computed at rest at the source, each with its pin"),
            Column("destination_attested", _TEXT, "the same at the destination"),
            Column("known_checksum", _TEXT, "ALGORITHM:base64 of the content, as an earlier run has proven it"),
            Column("archive", _TEXT, "the archive that a restore takes it from; journal:…: an event without a copy"),
        ),
    ),
    "outcomes": Table(
        "What became of a row; one for each row, whichever attempts reported on it.",
        "runs/<run>/outcomes/<shard>/*.parquet",
        (
            _RUN,
            _SHARD,
            Column("row", _COUNT, "the row's number in the run"),
            _KEY,
            _VERSION,
            Column("status", _TEXT, "copied, same, deleted, verified, or what went wrong"),
            Column("reason", _TEXT, "why, in a phrase"),
            Column("evidence", _TEXT, "what proves it: content, checksum, md5_etag, none"),
            Column("size_bytes", _COUNT, "the object's bytes that were handled"),
            Column("etag", _TEXT, "the source's ETag"),
            Column("destination_version_id", _TEXT, "the destination's version id"),
            Column("destination_etag", _TEXT, "the destination's ETag"),
            Column("checksum", _TEXT, "ALGORITHM:base64 of the content, where it is known"),
            Column("finished_at", _TIME, "when the row ended"),
            Column("attempt", _TEXT, "which worker process did it"),
        ),
    ),
    "differences": Table(
        "A finding of a reconciliation: an object that is not the same on both sides.",
        "runs/<run>/differences/*.parquet",
        (
            _RUN,
            _KEY,
            Column("destination_key", _TEXT, "the key at the destination"),
            _VERSION,
            Column("destination_version_id", _TEXT, "the version id at the destination"),
            Column("category", _TEXT, "missing, extra, different, stale, unverifiable, …"),
            Column("reason", _TEXT, "why, in a phrase"),
            Column("is_finding", _FLAG, "whether it needs attention"),
            Column("source_size_bytes", _COUNT, "the size at the source"),
            Column("source_etag", _TEXT, "the ETag at the source"),
            Column("source_last_modified", _TIME, "when the source was written"),
            Column("destination_size_bytes", _COUNT, "the size at the destination"),
            Column("destination_etag", _TEXT, "the ETag at the destination"),
            Column("destination_last_modified", _TIME, "when the destination was written"),
        ),
    ),
    "catalog": Table(
        "The latest proven state of an object version; rebuilt by `sealift catalog rebuild`.",
        "catalog/<generation>/data/*.parquet",
        (
            Column("source_bucket", _TEXT, "the bucket of the key"),
            _KEY,
            _VERSION,
            Column("destination_bucket", _TEXT, "where its copy is"),
            Column("destination_key", _TEXT, "the copy's key"),
            Column("destination_version_id", _TEXT, "the copy's version id"),
            Column("destination_etag", _TEXT, "the copy's ETag"),
            Column("status", _TEXT, "copied, same, deleted or verified"),
            Column("evidence", _TEXT, "what proves it: content, checksum, md5_etag, none"),
            Column("checksum", _TEXT, "ALGORITHM:base64 of the content, where it is known"),
            Column("size_bytes", _COUNT, "the object's size"),
            Column("etag", _TEXT, "the source's ETag"),
            Column("proven_at", _TIME, "when that was found"),
            _RUN,
        ),
    ),
    "tombstones": Table(
        "A version that an expire run deleted.",
        "tombstones/<source bucket>/<run>/*-done.parquet",
        (
            _RUN,
            Column("source_bucket", _TEXT, "the bucket of the key"),
            _KEY,
            _VERSION,
            Column("step", _TEXT, "hide: a delete marker lies on top of it; remove: it is gone"),
            Column("marker_version_id", _TEXT, "the delete marker"),
            Column("size_bytes", _COUNT, "the object's size"),
            Column("etag", _TEXT, "its ETag, without quotes"),
            Column("last_modified", _TIME, "when S3 says it was written"),
            Column("copy", _TEXT, "the URI of its copy, or of the archive that holds it"),
            Column("copy_version_id", _TEXT, "the copy's version id"),
            Column("copy_etag", _TEXT, "the copy's ETag"),
            Column("evidence", _TEXT, "what proved the copy then: content, checksum, md5_etag"),
            Column("recorded_at", _TIME, "when it was deleted"),
            Column("row", _COUNT, "the row's number in the run"),
        ),
    ),
    "journal": Table(
        "What the event-driven path did with one event; belongs to no run.",
        "journal/dt=<day>/*.json (one object a line) or *.parquet",
        (
            Column("dt", _TEXT, "the day, from the folder's name"),
            Column("recorded_at", _TIME, "when it was done"),
            Column("event", _TEXT, "the event's name, as S3 gave it"),
            Column("source_bucket", _TEXT, "the bucket of the key"),
            _KEY,
            _VERSION,
            Column("sequencer", _TEXT, "orders the events of one key"),
            Column("status", _TEXT, "copied, same, deleted, or what went wrong"),
            Column("reason", _TEXT, "why, in a phrase"),
            Column("evidence", _TEXT, "what proves it: content, checksum, md5_etag, none"),
            Column("size_bytes", _COUNT, "the object's size"),
            Column("etag", _TEXT, "the source's ETag"),
            Column("destination_bucket", _TEXT, "where its copy is"),
            Column("destination_key", _TEXT, "the copy's key"),
            Column("destination_version_id", _TEXT, "the copy's version id"),
            Column("destination_etag", _TEXT, "the copy's ETag"),
            Column("checksum", _TEXT, "ALGORITHM:base64 of the content, where it is known"),
            Column("event_at", _TIME, "when it happened at the source"),
        ),
    ),
}
