"""Tables of deletions: what an expire run deleted, and where the copy of each is."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from jobs.core.run import Plan
from jobs.ledger.ledger import Ledger
from jobs.runs.folding import open_fold, write_csv
from jobs.runs.scratch import scratch_folder
from jobs.tables.duck import quoted

SHOWN_DELETIONS = 100
_MIMES = {"parquet": "application/vnd.apache.parquet", "csv": "text/csv; charset=utf-8"}


async def write_deletions(ledger: Ledger, run_id: str, plan: Plan) -> dict[str, Any]:
    """Write what a run expired or would expire, with the copies, as Parquet and CSV beside its
    report. The CSV has words in place of codes.

    Returns the report's section: `parquet` and `csv` (URIs), `rows`, `bytes`, how many of the rows a
    delete marker hides (`hidden`), and the first of them (`shown`).
    """
    with scratch_folder("fold") as folder:
        connection = await open_fold(ledger, run_id, plan, folder)
        if connection is None:
            return {"parquet": None, "csv": None, "rows": 0, "bytes": 0, "hidden": 0, "shown": []}
        with closing(connection):
            connection.execute(
                """
                CREATE TABLE deletions AS
                SELECT folded.key, folded.version_id, manifest.size_bytes, manifest.etag, manifest.last_modified,
                       storage_class, status, reason, folded.detail, evidence,
                       's3://' || copy_bucket || '/' || copy_key AS copy,
                       folded.destination_version_id AS copy_version_id, folded.destination_etag AS copy_etag,
                       "at"
                FROM folded JOIN manifest USING (row)
                WHERE status IN ('done', 'left') AND reason = 'deleted' ORDER BY row
                """
            )
            files = {kind: folder / f"deletions.{kind}" for kind in _MIMES}
            connection.execute(f"COPY deletions TO {quoted(files['parquet'])} (FORMAT parquet)")
            write_csv(connection, "deletions", files["csv"], "key", "copy")
            uris = {kind: await ledger.write_file(run_id, at.name, at, _MIMES[kind]) for kind, at in files.items()}
            [counted], shown = (
                connection.sql(f"SELECT {sql} FROM deletions LIMIT {SHOWN_DELETIONS}").to_arrow_table().to_pylist()
                for sql in (
                    "count(*) AS rows, coalesce(sum(size_bytes), 0)::BIGINT AS bytes, "
                    "count(*) FILTER (detail = 'hidden') AS hidden",
                    "key, version_id, size_bytes, status, evidence, copy",
                )
            )
            return {**uris, **counted, "shown": shown}
