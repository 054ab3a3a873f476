"""Reports of checksums at rest: read, and joined to the rows of a verify run's plan.

`attest` reads the reports, `join_attestations` gives each row what they say of its two objects. What of that
is true of the objects as they are now, `jobs.verify.attestation` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from jobs.core.display import Display, shown
from jobs.core.model import Location
from jobs.core.run import RunSpec
from jobs.ledger.ledger import Ledger
from jobs.runs.request import Draft, Request
from jobs.verify.attestation import Attestation, Attested

if TYPE_CHECKING:
    from jobs.runs.launch import Join
    from jobs.runs.sorting import Sorting

MOST_VERSIONS = 16
"""Versions of one key whose checksums a row carries where it does not say which one it is about."""


async def attest(request: Request, source: Location, ledger: Ledger, draft: Draft, display: Display) -> Join | None:
    """Read the reports that are asked for. Return how rows are joined with them. None: there are none.

    Raises ManifestError for a report that is not about the side's bucket or cannot be trusted.
    """
    from jobs.checksum_reports.evidence import write_evidence

    buckets = {"source": source.bucket, "destination": request.destination.location.bucket}
    paths = dict[str, Path]()
    for side, bucket in buckets.items():
        if uri := request.options.get(f"{side}_checksums"):
            paths[side] = draft.scratch / f"{side}-evidence.parquet"
            report = await write_evidence(ledger.store, str(uri), paths[side], bucket=bucket)
            lines = "".join(f"\n  {shown(bad.file)} line {bad.line}: {shown(bad.problem)}" for bad in report.examples)
            failed = f"{report.failed:,} that S3 could not read, {report.ambiguous:,} that contradict themselves"
            display.say(
                f"checksums at rest of the {side}: {report.evidence:,} objects; without: {failed}, {report.rejected:,} "
                f"unusable lines{lines}"
            )
    return partial(join_attestations, paths) if paths else None


def join_attestations(paths: Mapping[str, Path], spec: RunSpec, sorting: Sorting) -> None:
    """Add a column `attested` to a plan's rows, lists of an `Attestation`, from the evidence (side → its file).

    Keys go by a SHA-256: joins of long texts spill too late for a small limit of memory. Each join names its side, so
    that it holds the evidence of one side alone.
    """
    import pyarrow as pa

    from jobs.ledger.state import copy_key_sql
    from jobs.tables.duck import parquet
    from jobs.tables.rows import schema_of

    both = " UNION ALL ".join(f"SELECT '{side}' AS side, * FROM {parquet(path)}" for side, path in paths.items())
    sorting.connection.execute(
        f"""
        CREATE VIEW evidence AS
        SELECT side, unhex(sha256(side || key)) AS digest, version_id,
               [struct_pack(side, algorithm, value, is_composite, version_id, etag, computed_us := epoch_us(computed_at)
               )] AS attested
        FROM ({both}) WHERE value IS NOT NULL AND coalesce(version_id, etag) IS NOT NULL;
        CREATE TABLE shared AS SELECT hash(digest) AS shared FROM evidence GROUP BY 1 HAVING count(*) > 1;
        CREATE VIEW keys AS
        SELECT side, digest, attested FROM evidence WHERE hash(digest) NOT IN (FROM shared)
        UNION ALL
        SELECT side, digest, flatten(list(attested)) FROM (
            FROM evidence WHERE hash(digest) IN (FROM shared)
            QUALIFY row_number() OVER (PARTITION BY digest ORDER BY version_id NULLS FIRST) <= {MOST_VERSIONS})
        GROUP BY side, digest;
        CREATE TABLE attested_rows AS
        SELECT rows.* EXCLUDE (source_digest, copy_digest),
               list_concat(coalesce(exact.attested, ours.attested), theirs.attested) AS attested
        FROM (SELECT *, unhex(sha256('source' || key)) AS source_digest,
                     unhex(sha256('destination' || {copy_key_sql(spec)})) AS copy_digest
              FROM {sorting.relation}) AS rows
        LEFT JOIN (FROM evidence WHERE side = 'source') AS exact
               ON exact.digest = source_digest AND exact.version_id = rows.version_id
        LEFT JOIN (FROM keys WHERE side = 'source') AS ours ON ours.digest = source_digest
        LEFT JOIN (FROM keys WHERE side = 'destination') AS theirs ON theirs.digest = copy_digest
        """
    )  # a table: a sort has too little memory left beside a join
    sorting.relation = "attested_rows"
    sorting.schema = sorting.schema.append(pa.field("attested", pa.list_(pa.struct([*schema_of(Attestation)]))))


def read_attested(batch: Any) -> Sequence[Attested]:
    """What is beside each row of a batch. The run may have no reports."""
    names = [name for name in Attested.__struct_fields__ if name in batch.schema.names]
    return msgspec.convert(batch.select(names).to_pylist(), list[Attested])
