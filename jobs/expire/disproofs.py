"""Disproofs: findings of runs that void earlier proofs of a replica.

A verify run that found a copy wrong or missing voids each proof of that copy that is not surely
newer. So does a reconciliation, where checksums of the contents differ. Runs count while they work
and when they were stopped, too. The ledger's times come from the clocks of workers, so a proof is
as old as it may be, and a disproof as new as it may be.

| the disproof looked at         | a newer proof by                              | the copy counts |
|--------------------------------|-----------------------------------------------|-----------------|
| what S3 keeps beside the bytes | anything                                      | again           |
| the bytes                      | what S3 keeps beside the bytes                | no              |
| the bytes                      | the bytes of both, or a new copy over it      | again           |

A disproof is about a proof of the same key, if nothing shows that it is about another copy.

| version of the original | ETag of the original | the disproof looked at         | the copy | the proof   |
|-------------------------|----------------------|--------------------------------|----------|-------------|
| same                    | another              | what S3 keeps beside the bytes | same     | voided      |
| another                 | same                 | what S3 keeps beside the bytes | same     | voided      |
| another                 | another              | the bytes                      | same     | voided      |
| another                 | another              | what S3 keeps beside the bytes | same     | left        |
| same                    | same                 | the bytes                      | another  | left        |

Members of archives need no such rule: the job reads their bytes before it deletes an original.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.core.category import CHECKSUMS_DIFFER, Category
from jobs.core.model import NULL_VERSION, ObjectRef
from jobs.core.outcome import Evidence, Status
from jobs.core.run import RunSpec, RunState
from jobs.errors import LedgerError, NotFound
from jobs.expire.rules import PROOFS
from jobs.ledger.agreement import run_job
from jobs.ledger.ledger import DIFFERENCES, Ledger
from jobs.runs.folding import open_fold
from jobs.s3.downloads import download
from jobs.s3.lookup import find
from jobs.s3.retries import gather_bounded
from jobs.tables.duck import parquet, quoted

if TYPE_CHECKING:
    import duckdb

READS = 32
DISPROOFS = {
    "verify": frozenset({Status.MISMATCHED, Status.MISSING, Status.DAMAGED}),
    "replicate": frozenset({Status.MISMATCHED}),
}
"""Job → the outcomes that say that a copy is wrong or missing, or that its original is damaged, so
that nothing shows whether the copy is right. What a replicate run misses is the original."""

COMPARISON = "reconcile"
"""The job whose rows of different checksums are disproofs, too: by bytes."""

_FINDINGS = """
    run_id VARCHAR, is_disproof BOOLEAN, by_bytes BOOLEAN, earliest DOUBLE, latest DOUBLE, objection VARCHAR,
    key VARCHAR, version_id VARCHAR, etag VARCHAR, copy_bucket VARCHAR, copy_key VARCHAR, copy_version_id VARCHAR,
    copy_etag VARCHAR
"""
"""What runs found of copies. `earliest` and `latest` (epoch seconds): between which it was found.
`objection`: what a disproof says against the proofs that it voids."""


async def object_to_disproved(ledger: Ledger, bucket: str, folder: Path, connection: duckdb.DuckDBPyConnection) -> None:
    """Give an objection to each row of the connection's table `proven` that a disproof voids.

    `bucket`: that of the originals. Raises LedgerError where a run cannot be read, or has lost
    outcomes, since it may have found anything.
    """
    buckets = connection.execute("SELECT DISTINCT copy_bucket FROM proven WHERE NOT in_archive").fetchall()
    if not buckets:
        return
    folder.mkdir()
    concerned = await _find_runs(ledger, bucket, {str(found) for (found,) in buckets})
    connection.execute(f"CREATE TABLE findings ({_FINDINGS})")
    for spec, report in (each for each in concerned if each[0].job == COMPARISON):
        await _add_differences(ledger, spec, report, folder / f"differences-{spec.run_id}.parquet", connection)
    runs = [each for each in concerned if each[0].job != COMPARISON]
    doubting = [(spec, report) for spec, report in runs if not _is_clean(spec.job, report)]
    for spec, report in doubting:
        scratch, statuses = folder / f"disproofs-{spec.run_id}", DISPROOFS[spec.job]
        found = await _add_findings(ledger, spec, scratch, connection, statuses)
        if found < (counted := _counted(report, statuses)):
            raise LedgerError(
                f"{ledger.uri(spec.run_id)} has lost outcomes. Rows that are wrong, missing or damaged: {counted:,} by "
                f"its report, {found:,} by its outcomes. {_ADVICE.format('files in outcomes/')}"
            )
    (count,) = connection.execute("SELECT count(*) FROM findings").fetchone() or (0,)
    if not count:
        return
    for spec, _ in runs:
        await _add_findings(ledger, spec, folder / f"proofs-{spec.run_id}", connection, PROOFS[spec.job])
    await asyncio.to_thread(_object, connection)


_DIFFERING = (Category.DIFFERENT, Category.STALE)
_ADVICE = (
    "So nobody knows which originals have a good copy. Put its {} back, if the ledger's bucket keeps versions, and let "
    "no lifecycle rule remove files of the ledger. Else verify everything again with --deep, then remove that folder"
)


async def _find_runs(
    ledger: Ledger, bucket: str, copy_buckets: Iterable[str]
) -> list[tuple[RunSpec, dict[str, Any] | None]]:
    """Return the runs that may say something of these copies, with their reports."""

    async def look(run_id: str) -> tuple[RunSpec, dict[str, Any] | None] | None:
        try:
            spec = await ledger.spec(run_id)
        except LedgerError as error:
            if isinstance(error.__cause__, NotFound):  # a run that was never planned
                return None
            raise
        is_concerned = (
            spec.source.location != spec.destination.location  # else it only read archives
            and spec.source.location.bucket == bucket
            and spec.destination.location.bucket in copy_buckets
        )
        return (spec, await ledger.report(run_id)) if is_concerned else None

    run_ids = [run_id for run_id in await ledger.run_ids() if run_job(run_id) in {*DISPROOFS, COMPARISON}]
    found = await gather_bounded(look, run_ids, READS)
    return [each for each in found if each is not None]


def _is_clean(job: str, report: dict[str, Any] | None) -> bool:
    """True if the report of a complete run says that it disproved nothing."""
    return (
        report is not None
        and report.get("state") == RunState.COMPLETE
        and isinstance(outcomes := report.get("outcomes"), dict)
        and not any(outcomes.get(status) for status in DISPROOFS[job])
    )


def _counted(report: dict[str, Any] | None, statuses: frozenset[Status]) -> int:
    """Return how many rows of these outcomes the report of a run counts."""
    outcomes = (report or {}).get("outcomes")
    counts = [outcomes.get(status) for status in statuses] if isinstance(outcomes, dict) else []
    return sum(count for count in counts if isinstance(count, int))


async def _add_differences(
    ledger: Ledger, spec: RunSpec, report: dict[str, Any] | None, path: Path, connection: duckdb.DuckDBPyConnection
) -> None:
    """Add the rows of a comparison whose checksums differ, if they are about a row of `proven`.

    Where S3 computed the checksums at rest, nothing else sees the bytes: S3 shows the copy's ETag
    and stored checksums as they were.
    """
    categories = (report or {}).get("categories")
    counted = [categories.get(each) or {} for each in _DIFFERING] if isinstance(categories, dict) else []
    rows = sum(each.get("rows") or 0 for each in counted)
    if report is not None and not rows:
        return
    place = ledger.location.join(f"runs/{spec.run_id}/{DIFFERENCES}")
    ref = ObjectRef(place.bucket, place.key)
    info = await find(ledger.store, ref)
    if info is None:
        if rows:
            raise LedgerError(f"{ledger.uri(spec.run_id)} has lost its differences. {_ADVICE.format(DIFFERENCES)}")
        return  # it was ended before it compared
    await download(ledger.store, ref, path)
    await asyncio.to_thread(
        connection.execute,
        f"""
        INSERT INTO findings BY NAME
        FROM (
            SELECT {quoted(spec.run_id)} AS run_id, true AS is_disproof, true AS by_bytes,
                   {min(spec.created_at, info.last_modified)} AS earliest,
                   {max(spec.created_at, info.last_modified)} AS latest,
                   {_objection_sql(spec, "disproved its copy", _REPORT + spec.run_id)}
                   AS objection,
                   key, version_id, source_etag AS etag, {quoted(spec.destination.location.bucket)} AS copy_bucket,
                   destination_key AS copy_key, destination_version_id AS copy_version_id,
                   destination_etag AS copy_etag
            FROM {parquet(path)}
            WHERE category IN ({_listed(_DIFFERING)}) AND starts_with(reason, {quoted(CHECKSUMS_DIFFER)})
        ) SEMI JOIN proven USING (key, copy_bucket, copy_key)
        """,
    )


async def _add_findings(
    ledger: Ledger, spec: RunSpec, folder: Path, connection: duckdb.DuckDBPyConnection, statuses: frozenset[Status]
) -> int:
    """Add the outcomes of a run that have one of these statuses and are about a row of `proven`.

    Returns how many have one of the statuses, whatever they are about.
    """
    from jobs.expire.proofs import copy_key_sql, write_times

    try:
        plan = await ledger.plan(spec.run_id)
    except LedgerError as error:
        if isinstance(error.__cause__, NotFound):  # it began nothing
            return 0
        raise
    folder.mkdir()
    fold = await open_fold(ledger, spec.run_id, plan, folder, has_manifest=False)
    if fold is None:
        return 0
    times, rows = folder / "times.parquet", folder / "findings.parquet"
    await write_times(ledger, spec.run_id, times)
    with closing(fold):
        await asyncio.to_thread(
            fold.execute,
            f"""
            COPY (
                SELECT {quoted(spec.run_id)} AS run_id, status IN ({_listed(DISPROOFS[spec.job])}) AS is_disproof,
                       {_by_bytes_sql(spec)} AS by_bytes, least(epoch(finished_at), written_at) AS earliest,
                       greatest(epoch(finished_at), written_at) AS latest, CASE
                       WHEN status = {quoted(Status.DAMAGED.value)} THEN
                       {_objection_sql(spec, "found the original damaged", _RESTORE)}
                       ELSE {_objection_sql(spec, "disproved its copy", _RETRY + spec.run_id)} END AS objection,
                       key, version_id, etag,
                       {quoted(spec.destination.location.bucket)} AS copy_bucket, {copy_key_sql(spec)} AS copy_key,
                       destination_version_id AS copy_version_id, destination_etag AS copy_etag
                FROM folded JOIN {parquet(times)} USING (file) WHERE status IN ({_listed(statuses)})
            ) TO {quoted(str(rows))} (FORMAT parquet)
            """,
        )
    await asyncio.to_thread(
        connection.execute,
        f"INSERT INTO findings BY NAME FROM {parquet(rows)} SEMI JOIN proven USING (key, copy_bucket, copy_key)",
    )
    (count,) = connection.execute(f"SELECT count(*) FROM {parquet(rows)}").fetchone() or (0,)
    return int(count)


_REPORT = "see what helps with sealift runs report "
_RETRY = "copy it again with sealift runs retry "
_RESTORE = "compare it with the copy, and restore it from what is right"


def _objection_sql(spec: RunSpec, found: str, advice: str) -> str:
    """What the run `found`, with the row's `reason`, and what helps."""
    head = quoted(f"run {spec.run_id} {found} (")
    return f"{head} || coalesce(reason, '') || {quoted(f'), and no run has proven it as well since: {advice}')}"


def _by_bytes_sql(spec: RunSpec) -> str:
    """Whether a finding is about the bytes of the copy, in doubt that of a disproof is.

    A copy is one: it made the bytes. So is a damaged original: its bytes were read. And where a run
    compared all versions by bytes, a copy whose bytes are wrong is missing. What a report of
    checksums at rest proves is as old as the report, so it answers no disproof by bytes.
    """
    options = spec.options
    is_deep = bool(options.get("deep"))
    is_at_rest = bool(options.get("source_checksums") or options.get("destination_checksums"))
    is_of_all_versions = is_deep and bool(options.get("all_versions"))
    checksum = quoted(Evidence.CHECKSUM.value)
    return f"""(evidence = {quoted(Evidence.CONTENT.value)}
        OR status IN ({_listed((Status.COPIED, Status.DAMAGED))})
        OR status = {quoted(Status.MISSING.value)} AND {is_of_all_versions}
        OR CASE WHEN status IN ({_listed(DISPROOFS[spec.job])})
            THEN {is_deep or is_at_rest} AND evidence <> {quoted(Evidence.NONE.value)}
            ELSE {is_deep and spec.job == "verify"} AND evidence = {checksum} AND coalesce(reason, '') = '' END)"""


def _object(connection: duckdb.DuckDBPyConnection) -> None:
    """Give each proof that a disproof voids, and that nothing restores, its objection."""
    place = "key = {0}.key AND {1}.copy_bucket = {0}.copy_bucket AND {1}.copy_key = {0}.copy_key"

    def own(column: str) -> str:
        return f"nullif(nullif({column}, ''), {quoted(NULL_VERSION)})"

    def both(column: str, one: str, other: str) -> str:
        """Both name a version."""
        return f"{own(f'{one}.{column}')} IS NOT NULL AND {own(f'{other}.{column}')} IS NOT NULL"

    may_be = f"""
        proven.{place.format("bad", "proven")}
        AND (coalesce(bad.etag = proven.etag, true)
            OR {both("version_id", "bad", "proven")} AND bad.version_id = proven.version_id
            OR bad.by_bytes AND CASE WHEN {both("copy_version_id", "bad", "proven")}
                THEN bad.copy_version_id = proven.copy_version_id
                ELSE coalesce(bad.copy_etag = proven.copy_etag, false) END)
        AND (NOT ({both("copy_version_id", "bad", "proven")}) OR bad.copy_version_id = proven.copy_version_id)"""
    is_same = f"""
        proven.{place.format("good", "proven")}
        AND CASE WHEN {both("version_id", "good", "proven")} THEN good.version_id = proven.version_id
            ELSE coalesce(good.etag = proven.etag, false) END
        AND CASE WHEN {both("copy_version_id", "good", "proven")} THEN good.copy_version_id = proven.copy_version_id
            ELSE coalesce(good.copy_etag = proven.copy_etag, false) END"""
    connection.execute(
        f"""
        CREATE TABLE voided AS
        WITH doubted AS (
            SELECT proven.rowid AS proof, bad.rowid AS finding
            FROM proven JOIN findings AS bad ON {may_be}
            WHERE bad.is_disproof AND NOT proven.in_archive
        ), restored AS (
            SELECT proof, finding
            FROM doubted JOIN proven ON proven.rowid = proof JOIN findings AS bad ON bad.rowid = finding
            JOIN findings AS good ON {is_same}
            WHERE NOT good.is_disproof AND good.earliest > bad.latest AND (good.by_bytes OR NOT bad.by_bytes)
        )
        SELECT proof, arg_max(objection, latest) AS objection, bool_or(by_bytes) AS by_bytes
        FROM doubted ANTI JOIN restored USING (proof, finding) JOIN findings ON findings.rowid = finding
        GROUP BY proof;
        UPDATE proven SET objection =
            voided.objection || CASE WHEN by_bytes THEN ', or verify it with --deep' ELSE '' END
        FROM voided WHERE proven.rowid = voided.proof AND proven.objection IS NULL
        """
    )


def _listed(words: Iterable[Status | Category]) -> str:
    return ", ".join(quoted(word.value) for word in sorted(words))
