"""The ledger's tables for `sealift query`: columns, DuckDB types, meanings.

Columns of a file that are not listed here come after those that are. A column that a file lacks is
null.
"""

from __future__ import annotations

from typing import NamedTuple


class ColumnDoc(NamedTuple):
    """A column: its name, its DuckDB type, its meaning in a few words."""

    name: str
    type: str
    meaning: str


class TableDoc(NamedTuple):
    """A table of the ledger: what a row is, where its files lie below the ledger, its columns."""

    summary: str
    files: str
    columns: tuple[ColumnDoc, ...]

    @property
    def types(self) -> dict[str, str]:
        """Column name → DuckDB type."""
        return {column.name: column.type for column in self.columns}


_TEXT, _COUNT, _TIME, _FLAG = "VARCHAR", "BIGINT", "TIMESTAMP WITH TIME ZONE", "BOOLEAN"

_RUN = ColumnDoc("run_id", _TEXT, "the run")
_SHARD = ColumnDoc("shard", "INTEGER", "the run's shard that holds the row")
_KEY = ColumnDoc("key", _TEXT, "the object's key at the source, as it is")
_VERSION = ColumnDoc("version_id", _TEXT, "the version id at the source; null: the manifest named only the key")
_STATE = (
    ColumnDoc("source_service", _TEXT, "host and port of the source's server; empty: AWS"),
    ColumnDoc("source_bucket", _TEXT, "the bucket of the key"),
    _KEY,
    ColumnDoc("version_id", _TEXT, "the version id at the source; null: it is told by ETag and time"),
    ColumnDoc("etag", _TEXT, "the source's ETag; null: a delete marker, or nothing is at the source"),
    ColumnDoc("modified", _TIME, "when S3 says the source was written"),
    ColumnDoc("copy_service", _TEXT, "host and port of the copy's server; empty: AWS"),
    ColumnDoc("copy_bucket", _TEXT, "where its copy is"),
    ColumnDoc("copy_key", _TEXT, "the copy's key"),
    ColumnDoc("copy_version_id", _TEXT, "the version id of the copy that was looked at last"),
    ColumnDoc("copy_etag", _TEXT, "its ETag; null: there was none"),
    ColumnDoc("copy_modified", _TIME, "when S3 says it was written"),
    ColumnDoc("checked_at", _TIME, "when the two were last found equal, by checksums or bytes"),
    ColumnDoc("read_at", _TIME, "when the two were last found equal by their bytes"),
    ColumnDoc("finding", _TEXT, "what is wrong, as a code; null: nothing that is known"),
    ColumnDoc("finding_detail", _TEXT, "the one fact of that code"),
    ColumnDoc("found_at", _TIME, "when that was seen last"),
    ColumnDoc("found_depth", _TEXT, "how: listed, stored (what S3 keeps), bytes"),
    ColumnDoc("found_by", _TEXT, "the run"),
    ColumnDoc("accepted_by", _TEXT, "who said that nobody has to act (status --accept)"),
    ColumnDoc("accepted_why", _TEXT, "and why"),
    ColumnDoc("accepted_at", _TIME, "and when"),
    ColumnDoc("blocked", _TEXT, "why the last look failed, as a code"),
    ColumnDoc("blocked_at", _TIME, "when that was"),
)

TABLES: dict[str, TableDoc] = {
    "runs": TableDoc(
        "A run: what was asked, what was planned, how it ended.",
        "runs/<run>/{spec,plan,report}.json",
        (
            _RUN,
            ColumnDoc("job", _TEXT, "replicate, verify, reconcile, …"),
            ColumnDoc("state", _TEXT, "complete; planned: no report yet; unplanned: no plan"),
            ColumnDoc("created_at", _TIME, "when it was asked for"),
            ColumnDoc("source", _TEXT, "s3://bucket/prefix"),
            ColumnDoc("destination", _TEXT, "s3://bucket/prefix"),
            ColumnDoc("manifest", _TEXT, "where the rows came from"),
            ColumnDoc("retry_of", _TEXT, "the run whose failed rows this one took"),
            ColumnDoc("rows", _COUNT, "rows of the manifest"),
            ColumnDoc("size_bytes", _COUNT, "their bytes, as planned"),
            ColumnDoc("shards", _COUNT, "slices for workers"),
            ColumnDoc("planned_dollars", "DOUBLE", "the plan's price"),
            ColumnDoc(
                "failures", _COUNT, "rows that did not end well, or a reconcile run's findings; null: no report yet"
            ),
            ColumnDoc("seconds", "DOUBLE", "from the asking to the last outcome; null: no report yet"),
            ColumnDoc("sealift_version", _TEXT, "which Sealift planned it"),
        ),
    ),
    "manifest": TableDoc(
        "A row that a run acts on: one object version.",
        "runs/<run>/shards/<shard>.parquet",
        (
            _RUN,
            _SHARD,
            ColumnDoc("row", _COUNT, "the row's number in the run"),
            _KEY,
            _VERSION,
            ColumnDoc("is_latest", _FLAG, "whether it is the key's current version"),
            ColumnDoc("is_delete_marker", _FLAG, "whether it is a delete marker"),
            ColumnDoc("size_bytes", _COUNT, "the object's size"),
            ColumnDoc("etag", _TEXT, "its ETag, without quotes"),
            ColumnDoc("last_modified", _TIME, "when S3 says it was written"),
            ColumnDoc("storage_class", _TEXT, "its storage class"),
            ColumnDoc("condemned_etag", _TEXT, "the destination's ETag that an earlier verify run proved wrong"),
            ColumnDoc("damaged_etag", _TEXT, "the source's ETag that an earlier verify run found damaged"),
            ColumnDoc("source_attested", _TEXT, "checksums that S3 computed at rest at the source, each with its pin"),
            ColumnDoc("destination_attested", _TEXT, "the same at the destination"),
            ColumnDoc("known_checksum", _TEXT, "ALGORITHM:base64 of the content, as an earlier run has proven it"),
            ColumnDoc("archive", _TEXT, "the archive that a restore takes it from"),
        ),
    ),
    "outcomes": TableDoc(
        "What became of a row; one for each row, whichever attempts reported on it.",
        "runs/<run>/outcomes/<shard>/*.parquet",
        (
            _RUN,
            _SHARD,
            ColumnDoc("row", _COUNT, "the row's number in the run"),
            _KEY,
            _VERSION,
            ColumnDoc("status", _TEXT, "done, same, verified, left, or what went wrong"),
            ColumnDoc("reason", _TEXT, "why, as a code; empty: all went as asked"),
            ColumnDoc("evidence", _TEXT, "what proves it: content, checksum, md5_etag, none"),
            ColumnDoc("size_bytes", _COUNT, "the object's bytes that were handled"),
            ColumnDoc("etag", _TEXT, "the source's ETag"),
            ColumnDoc("destination_version_id", _TEXT, "the destination's version id"),
            ColumnDoc("destination_etag", _TEXT, "the destination's ETag"),
            ColumnDoc("checksum", _TEXT, "ALGORITHM:base64 of the content, where it is known"),
            ColumnDoc("detail", _TEXT, "the one fact of that code: a name, a number, an error of S3"),
            ColumnDoc("depth", _TEXT, "what was compared: listed, stored (checksums, ETags), bytes"),
            ColumnDoc("source_modified", _TIME, "when S3 says the source was written, where it is known"),
            ColumnDoc("copy_modified", _TIME, "the same of the copy"),
            ColumnDoc("at", _TIME, 'when S3 was asked, by its own clock; in SQL: "at"'),
            ColumnDoc("attempt", _TEXT, "which worker process did it; `plan`: a list of the destination showed it"),
        ),
    ),
    "differences": TableDoc(
        "A finding of a reconciliation: an object that is not the same on both sides.",
        "runs/<run>/differences/*.parquet",
        (
            _RUN,
            _KEY,
            ColumnDoc("destination_key", _TEXT, "the key at the destination"),
            _VERSION,
            ColumnDoc("destination_version_id", _TEXT, "the version id at the destination"),
            ColumnDoc("category", _TEXT, "missing, extra, different, stale, unverifiable, …"),
            ColumnDoc("reason", _TEXT, "why, as a code"),
            ColumnDoc("detail", _TEXT, "facts of that code"),
            ColumnDoc("is_finding", _FLAG, "whether it needs attention"),
            ColumnDoc("source_size_bytes", _COUNT, "the size at the source"),
            ColumnDoc("source_etag", _TEXT, "the ETag at the source"),
            ColumnDoc("source_last_modified", _TIME, "when the source was written"),
            ColumnDoc("destination_size_bytes", _COUNT, "the size at the destination"),
            ColumnDoc("destination_etag", _TEXT, "the ETag at the destination"),
            ColumnDoc("destination_last_modified", _TIME, "when the destination was written"),
        ),
    ),
    "state": TableDoc(
        "What is known of an object and of its copy, by all runs and comparisons.",
        "state/generations/<number>/*.parquet and state/deltas/<run>.parquet, by the rule of docs/ledger.md",
        _STATE,
    ),
    "findings": TableDoc(
        "The rows of the state that have a finding, or could not be looked at; few files are read.",
        "state/generations/<number>/*-findings.parquet and state/deltas/<run>.parquet",
        tuple(column for column in _STATE if column.name not in ("checked_at", "read_at")),
    ),
    "tombstones": TableDoc(
        "A version that an expire run deleted.",
        "tombstones/<source bucket>/<run>/*-done.parquet",
        (
            _RUN,
            ColumnDoc("source_bucket", _TEXT, "the bucket of the key"),
            _KEY,
            _VERSION,
            ColumnDoc("step", _TEXT, "hide: a delete marker lies on top of it; remove: it is gone"),
            ColumnDoc("marker_version_id", _TEXT, "the delete marker"),
            ColumnDoc("size_bytes", _COUNT, "the object's size"),
            ColumnDoc("etag", _TEXT, "its ETag, without quotes"),
            ColumnDoc("last_modified", _TIME, "when S3 says it was written"),
            ColumnDoc("copy", _TEXT, "the URI of its copy, or of the archive that holds it"),
            ColumnDoc("copy_version_id", _TEXT, "the copy's version id"),
            ColumnDoc("copy_etag", _TEXT, "the copy's ETag"),
            ColumnDoc("evidence", _TEXT, "what proved the copy then: content, checksum, md5_etag"),
            ColumnDoc("recorded_at", _TIME, "when it was deleted"),
            ColumnDoc("row", _COUNT, "the row's number in the run"),
        ),
    ),
    "journal": TableDoc(
        "What the event-driven path did with one event; belongs to no run.",
        "journal/dt=<day>/*.json (one object a line) or *.parquet",
        (
            ColumnDoc("dt", _TEXT, "the day, from the folder's name"),
            ColumnDoc("recorded_at", _TIME, "when it was done"),
            ColumnDoc("event", _TEXT, "the event's name, as S3 gave it"),
            ColumnDoc("source_bucket", _TEXT, "the bucket of the key"),
            _KEY,
            _VERSION,
            ColumnDoc("sequencer", _TEXT, "orders the events of one key"),
            ColumnDoc("status", _TEXT, "copied, same, deleted, or what went wrong"),
            ColumnDoc("reason", _TEXT, "why, as a code; empty: all went as asked"),
            ColumnDoc("evidence", _TEXT, "what proves it: content, checksum, md5_etag, none"),
            ColumnDoc("size_bytes", _COUNT, "the object's size"),
            ColumnDoc("etag", _TEXT, "the source's ETag"),
            ColumnDoc("destination_bucket", _TEXT, "where its copy is"),
            ColumnDoc("destination_key", _TEXT, "the copy's key"),
            ColumnDoc("destination_version_id", _TEXT, "the copy's version id"),
            ColumnDoc("destination_etag", _TEXT, "the copy's ETag"),
            ColumnDoc("checksum", _TEXT, "ALGORITHM:base64 of the content, where it is known"),
            ColumnDoc("event_at", _TIME, "when it happened at the source"),
            ColumnDoc("detail", _TEXT, "the one fact of that code: a name, a number, an error of S3"),
        ),
    ),
}
