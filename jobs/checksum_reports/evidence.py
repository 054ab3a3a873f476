"""Evidence at rest as a Parquet file: each version once, with its checksum."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import Struct

from jobs.checksum_reports.report import RejectedLine, fetch_result, open_report, read_rows
from jobs.checksum_reports.rows import Row
from jobs.errors import ManifestError
from jobs.s3.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

LISTED = 20
MEMORY_LIMIT = "256MB"
AMBIGUOUS = "no evidence, because the report has different checksums of it"


class EvidenceSummary(Struct, frozen=True):
    """What a report came to.

    `failed`: rows that S3 could not compute. `ambiguous`: rows that contradict others about the
    same object. `rejected`: lines that cannot be used, the first of them in `examples`.
    """

    uri: str
    computed_at: float
    rows: int
    evidence: int
    failed: int
    ambiguous: int
    rejected: int
    examples: tuple[RejectedLine, ...] = ()


class EvidenceRow(NamedTuple):
    """What a report says of one object: each (key, version id) once.

    `algorithm`, `value` (base64) and `is_composite` are a `jobs.core.model.Checksum`'s. Where there
    is none, `value` is None and `reason` says why. `etag` has no quotes. `computed_at`: epoch seconds.
    """

    key: str
    version_id: str | None
    etag: str | None
    algorithm: str | None
    value: str | None
    is_composite: bool | None
    computed_at: float
    reason: str | None


@cache
def evidence_schema() -> pa.Schema:
    """The columns of evidence: those of an `EvidenceRow`."""
    from jobs.tables.rows import schema_of

    return schema_of(EvidenceRow)


async def write_evidence(store: Store, report_uri: str, path: Path, *, bucket: str | None = None) -> EvidenceSummary:
    """Read a report into a Parquet file of `evidence_schema()`, out of core, and say what it came
    to.

    Every result file is checked against its MD5 before a row of it is used. With `bucket`, rows of
    other buckets are rejected. Raises ManifestError when a file is missing or was changed, when no
    row is about the bucket, or when the report is of another kind of job, and ConfigError when
    there is no room beside `path`.
    """
    import pyarrow.parquet as pq

    from jobs.tables.duck import scratch_folder

    report = await open_report(store, report_uri)
    rows = rejected = 0
    examples: list[RejectedLine] = []
    with scratch_folder(path.parent, "sealift-evidence-", "sort the checksums") as folder:
        raw = folder / "raw.parquet"
        with pq.ParquetWriter(raw, evidence_schema(), compression="zstd") as writer:
            for number, (place, md5) in enumerate(report.files):
                local = await fetch_result(store, report, place, md5, folder / f"{number}.csv")
                batches = read_rows(local, place.key, bucket)
                while (batch := await asyncio.to_thread(next, batches, None)) is not None:
                    good, bad = batch
                    rows += len(good) + len(bad)
                    rejected += len(bad)
                    examples += bad[: LISTED - len(examples)]
                    writer.write_batch(_batch(good, report.computed_at))
        if rows and rejected == rows:
            raise ManifestError(
                f"{report_uri} has {rows:,} rows and none can be used (the first: {examples[0].problem})",
                advice=f"give a report of a Compute checksum job{f' over the bucket {bucket}' if bucket else ''}",
            )
        evidence, failed, ambiguous = await asyncio.to_thread(_distinct, raw, path, folder)
    return EvidenceSummary(
        report_uri,
        report.computed_at,
        rows,
        evidence,
        failed,
        ambiguous,
        rejected,
        tuple(examples),
    )


def _batch(rows: Sequence[Row], computed_at: float) -> pa.RecordBatch:
    from jobs.tables.rows import batch_of

    no_checksum = (None, None, None)
    said = [
        (each.key, each.version_id, each.etag, *(each.checksum or no_checksum), computed_at, each.reason)
        for each in rows
    ]
    return batch_of(said, EvidenceRow._fields, evidence_schema())


def _distinct(raw: Path, path: Path, folder: Path) -> tuple[int, int, int]:
    """Write each (key, version id) once → (how many have evidence, failed, contradict themselves).

    Grouping hashes is cheap. Only the rows that share one are compared in full.
    """
    from jobs.tables.duck import connect, parquet, quoted

    relation = parquet(raw)
    taken = ("etag", "algorithm", "value", "is_composite")
    one = ", ".join(
        f"CASE WHEN count(DISTINCT said) = 1 THEN any_value({name}) FILTER (said IS NOT NULL) END AS {name}"
        for name in taken
    )
    with closing(connect(folder, memory_limit=MEMORY_LIMIT)) as connection:
        connection.execute(
            f"""
            CREATE TABLE suspects AS
            SELECT hash(key, version_id) AS suspect FROM {relation} GROUP BY 1 HAVING count(*) > 1;
            COPY (
                SELECT * FROM {relation} WHERE hash(key, version_id) NOT IN (SELECT suspect FROM suspects)
                UNION ALL
                SELECT key, version_id, {one}, any_value(computed_at) AS computed_at,
                       CASE count(DISTINCT said) WHEN 0 THEN any_value(reason) WHEN 1 THEN NULL
                            ELSE {quoted(AMBIGUOUS)} END AS reason
                FROM (SELECT *, CASE WHEN value IS NOT NULL THEN
                             concat_ws(' ', algorithm, value, is_composite, coalesce(etag, ''))
                             END AS said
                      FROM {relation} WHERE hash(key, version_id) IN (SELECT suspect FROM suspects))
                GROUP BY key, version_id
            ) TO {quoted(str(path))} (FORMAT parquet, COMPRESSION zstd)
            """
        )
        counted: Any = connection.execute(
            f"""
            SELECT count(value),
                   count(*) FILTER (value IS NULL AND reason <> {quoted(AMBIGUOUS)}),
                   count(*) FILTER (value IS NULL AND reason = {quoted(AMBIGUOUS)})
            FROM {parquet(path)}
            """
        ).fetchall()
    evidence, failed, ambiguous = counted[0]
    return evidence, failed, ambiguous
