"""Reports of checksums at rest: read, and joined to the rows of a verify run's plan.

`attest` reads the reports, `join_attestations` gives each row what they say of its two objects. What of that
is true of the objects as they are now, `jobs.verify.attestation` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.core.display import Display, shown
from jobs.core.model import Location
from jobs.core.run import RunSpec
from jobs.ledger.ledger import Ledger
from jobs.runs.request import Draft, Request

if TYPE_CHECKING:
    from jobs.runs.launch import Join
    from jobs.runs.sorting import Sorting

MOST_VERSIONS = 16
"""Versions of one key whose checksums a row carries where it does not say which one it is about."""
SUMMARY = ("uri", "computed_at", "evidence", "failed", "ambiguous", "rejected")

_SPELLED_SQL = (
    "algorithm || CASE WHEN is_composite THEN ':COMPOSITE:' ELSE ':FULL_OBJECT:' END || value || ':' || "
    "CASE WHEN version_id IS NOT NULL THEN 'version=' || version_id ELSE 'etag=' || etag END"
)


async def attest(
    request: Request, source: Location, ledger: Ledger, draft: Draft, display: Display
) -> tuple[Join | None, dict[str, Any]]:
    """Read the reports that are asked for. Return how rows are joined with them, and the options that describe them.

    Raises ManifestError for a report that is not about the side's bucket or cannot be trusted.
    """
    from jobs.checksum_reports.evidence import write_evidence

    buckets = {"source": source.bucket, "destination": request.destination.location.bucket}
    paths, options = dict[str, Path](), dict[str, Any]()
    for side, bucket in buckets.items():
        name, path = f"{side}_checksums", draft.scratch / f"{side}-evidence.parquet"
        if uri := request.options.get(name):
            report = await write_evidence(ledger.store, str(uri), path, bucket=bucket)
            lines = "".join(f"\n  {shown(bad.file)} line {bad.line}: {shown(bad.problem)}" for bad in report.examples)
            failed = f"{report.failed:,} that S3 could not read, {report.ambiguous:,} that contradict themselves"
            display.say(
                f"checksums at rest of the {side}: {report.evidence:,} objects; without: {failed}, {report.rejected:,} "
                f"unusable lines{lines}"
            )
            paths[side], options[name] = path, {field: getattr(report, field) for field in SUMMARY}
    return partial(join_attestations, paths) if paths else None, options


def join_attestations(paths: Mapping[str, Path], spec: RunSpec, sorting: Sorting) -> None:
    """Fill both `_attested` columns of a plan's rows from the evidence (side → its file).

    They are spelled as `jobs.verify.attestation` reads them. Keys go by a SHA-256: joins of long
    texts spill too late for a small limit of memory.
    """
    from jobs.ledger.state import copy_key_sql
    from jobs.tables.duck import parquet

    empty = f"(FROM {parquet([*paths.values()])} LIMIT 0)"
    for side in ("source", "destination"):
        sorting.connection.execute(
            f"""
            CREATE VIEW {side}_evidence AS SELECT unhex(sha256(key)) AS digest, version_id, {_SPELLED_SQL} AS attested
            FROM {parquet(paths[side]) if side in paths else empty}
            WHERE value IS NOT NULL AND coalesce(version_id, etag) IS NOT NULL;
            CREATE TABLE {side}_shared AS
            SELECT hash(digest) AS shared FROM {side}_evidence GROUP BY 1 HAVING count(*) > 1;
            CREATE VIEW {side}_keys AS
            SELECT digest, attested FROM {side}_evidence WHERE hash(digest) NOT IN (FROM {side}_shared)
            UNION ALL
            SELECT digest, string_agg(attested, ' ') FROM (
                FROM {side}_evidence WHERE hash(digest) IN (FROM {side}_shared)
                QUALIFY row_number() OVER (PARTITION BY digest ORDER BY version_id NULLS FIRST) <= {MOST_VERSIONS})
            GROUP BY digest
            """
        )
    sorting.connection.execute(
        f"""
        CREATE TABLE attested AS
        SELECT place, coalesce(exact.attested, ours.attested) AS source_attested,
               theirs.attested AS destination_attested
        FROM (SELECT place, version_id, unhex(sha256(key)) AS digest, unhex(sha256({copy_key_sql(spec)})) AS copy_digest
              FROM {sorting.relation}) AS rows
        LEFT JOIN source_evidence AS exact USING (digest, version_id)
        LEFT JOIN source_keys AS ours USING (digest)
        LEFT JOIN destination_keys AS theirs ON theirs.digest = copy_digest
        """
    )
    bare = f"(SELECT * EXCLUDE (source_attested, destination_attested) FROM {sorting.relation})"
    # A table: a sort has too little memory left beside a join.
    sorting.connection.execute(f"CREATE TABLE attested_rows AS FROM {bare} JOIN attested USING (place)")
    sorting.relation = "attested_rows"
