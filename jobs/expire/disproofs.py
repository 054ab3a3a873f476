"""Disproofs: findings of runs that void earlier proofs of copies.

A verify run that found a copy wrong or missing voids each proof of that copy that is not certainly
newer. So does a reconciliation where checksums of the contents differ. Runs count while they work
and after they were stopped. So do runs whose source is the bucket of the copies. A run whose
documents cannot be read may have found anything: it voids all proofs. Times in the ledger come from
the clocks of workers, so a proof has the earliest time that it may have, and a disproof the latest.

| the disproof compared          | a newer proof by                              | the copy counts |
|--------------------------------|-----------------------------------------------|-----------------|
| what S3 keeps beside the bytes | anything                                      | again           |
| the bytes                      | what S3 keeps beside the bytes                | no              |
| the bytes                      | the bytes of both, or a new copy over it      | again           |

A disproof voids a proof of the same key, unless something shows that it is about another copy.

| version of the original | ETag of the original | the disproof compared          | the copy | the proof   |
|-------------------------|----------------------|--------------------------------|----------|-------------|
| same                    | another              | what S3 keeps beside the bytes | same     | voided      |
| another                 | same                 | what S3 keeps beside the bytes | same     | voided      |
| another                 | another              | the bytes                      | same     | voided      |
| another                 | another              | what S3 keeps beside the bytes | same     | left        |
| same                    | same                 | the bytes                      | another  | left        |

Members of archives need no such rule: the job reads their bytes before it deletes an original.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.core.model import NULL_VERSION
from jobs.core.run import RunSpec
from jobs.expire.findings import FINDINGS, Findings, have_same_keys
from jobs.expire.places import verify_command
from jobs.expire.runs_with_findings import Seen, find_runs
from jobs.ledger.ledger import Ledger
from jobs.tables.duck import in_thread, quoted

if TYPE_CHECKING:
    import duckdb


async def object_to_disproved(
    ledger: Ledger,
    proving: Sequence[RunSpec],
    bucket: str,
    folder: Path,
    connection: duckdb.DuckDBPyConnection,
    is_ours: Callable[[RunSpec], bool] = lambda spec: True,
) -> dict[str, Seen]:
    """Set `objection` in each row of the connection's table `proven` that a disproof voids.

    `proving`: the runs of the proofs. `bucket`: that of the originals. `folder`: for downloads.
    `is_ours`: whether a run worked with the services of originals and copies. Only such a run can
    restore a proof: a bucket of the same name on another server has other copies. Returns how much
    of each run it has read, by run id. Raises StoreError.
    """
    replicas = "FROM proven WHERE NOT in_archive"
    buckets = {str(found) for (found,) in connection.execute(f"SELECT DISTINCT copy_bucket {replicas}").fetchall()}
    if not buckets:
        return {}
    folder.mkdir()
    found = await find_runs(ledger, bucket, buckets)
    runs = [each for each in found if each.may_have_findings]
    connection.execute(f"CREATE TABLE findings ({FINDINGS})")
    findings = Findings(ledger, connection, folder)
    await findings.add_disproofs(runs)
    (first,) = connection.execute("SELECT min(latest) FROM findings").fetchone() or (None,)
    if first is not None:
        ours = [each for each in runs if each.spec is not None and is_ours(each.spec)]
        await findings.add_proofs(ours, first, lambda: not _find_voided(connection))
        commands = [(each.run_id, verify_command(each), verify_command(each, is_swapped=True)) for each in proving]
        await in_thread(connection, void_proofs, connection, commands)
    return {each.run_id: each.seen for each in found}


def void_proofs(connection: duckdb.DuckDBPyConnection, commands: Sequence[tuple[str, str, str]]) -> None:
    """Set `objection` in each row of `proven` that one of `findings` voids and none restores.

    `commands`: (id of a proving run, the command that proves its copies by their bytes, the command
    whose retry restores its damaged originals). The objection names them.
    """
    if not _find_voided(connection):
        return
    connection.execute("CREATE TABLE commands (run_id VARCHAR, proves VARCHAR, restores VARCHAR)")
    if commands:
        connection.executemany("INSERT INTO commands VALUES (?, ?, ?)", commands)
    connection.execute(
        """
        UPDATE proven SET objection = helped.objection
        FROM (
            SELECT proof, voided.objection
                || CASE WHEN of_original THEN coalesce(' (a retry of  ' || restores || '  copies it back)', '')
                    ELSE '' END
                || ', or prove it by its bytes with  ' || coalesce(proves, 'sealift verify --deep') AS objection
            FROM voided JOIN proven ON proven.rowid = proof LEFT JOIN commands USING (run_id)
        ) AS helped
        WHERE proven.rowid = helped.proof AND proven.objection IS NULL
        """
    )


def _find_voided(connection: duckdb.DuckDBPyConnection) -> int:
    """Make the table `voided`: the rows of `proven` that are void, each with its newest objection.

    Returns the number of its rows.
    """

    def same_place(finding: str) -> str:
        return f"{have_same_keys('proven', finding)} AND coalesce({finding}.copy_bucket = proven.copy_bucket, true)"

    def own(column: str) -> str:
        return f"nullif(nullif({column}, ''), {quoted(NULL_VERSION)})"

    def both(column: str, one: str, other: str) -> str:
        """Both name a version."""
        return f"{own(f'{one}.{column}')} IS NOT NULL AND {own(f'{other}.{column}')} IS NOT NULL"

    may_be = f"""
        {same_place("bad")}
        AND (coalesce(bad.etag = proven.etag, true)
            OR {both("version_id", "bad", "proven")} AND bad.version_id = proven.version_id
            OR bad.by_bytes AND CASE WHEN {both("copy_version_id", "bad", "proven")}
                THEN bad.copy_version_id = proven.copy_version_id
                ELSE coalesce(bad.copy_etag = proven.copy_etag, false) END)
        AND (NOT ({both("copy_version_id", "bad", "proven")}) OR bad.copy_version_id = proven.copy_version_id)"""
    is_same = f"""
        {same_place("good")}
        AND CASE WHEN {both("version_id", "good", "proven")} THEN good.version_id = proven.version_id
            ELSE coalesce(good.etag = proven.etag, false) END
        AND CASE WHEN {both("copy_version_id", "good", "proven")} THEN good.copy_version_id = proven.copy_version_id
            ELSE coalesce(good.copy_etag = proven.copy_etag, false) END"""
    connection.execute(
        f"""
        CREATE OR REPLACE TABLE voided AS
        WITH doubted AS (
            SELECT proven.rowid AS proof, bad.rowid AS finding
            FROM proven JOIN findings AS bad ON {may_be}
            WHERE bad.is_disproof AND NOT proven.in_archive
        ), restored AS (
            SELECT proof, finding
            FROM doubted JOIN proven ON proven.rowid = proof JOIN findings AS bad ON bad.rowid = finding
            JOIN findings AS good ON {is_same}
            WHERE NOT good.is_disproof AND good.earliest > bad.latest AND (good.by_bytes OR NOT bad.by_bytes)
                AND NOT EXISTS (
                    FROM findings AS worse
                    WHERE worse.is_disproof AND worse.run_id = good.run_id AND worse."row" = good."row")
        )
        SELECT proof, unnest(newest)
        FROM (
            SELECT proof, arg_max({{'objection': objection, 'of_original': of_original}}, latest) AS newest
            FROM doubted ANTI JOIN restored USING (proof, finding) JOIN findings ON findings.rowid = finding
            GROUP BY proof)
        """
    )
    (count,) = connection.execute("SELECT count(*) FROM voided").fetchone() or (0,)
    return int(count)
