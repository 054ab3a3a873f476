"""Tables of deletions: what an expire run deleted, and where the copy of each is."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from jobs.core.run import Plan
from jobs.ledger.ledger import Ledger
from jobs.runs.folding import open_fold
from jobs.tables.duck import harmless_columns, quoted

if TYPE_CHECKING:
    import duckdb

SHOWN_DELETIONS = 100


async def write_deletions(ledger: Ledger, run_id: str, plan: Plan) -> dict[str, Any]:
    """Write what a run expired or would expire, with the copies, as Parquet and CSV beside its
    report.

    Returns the report's section: `parquet` and `csv` (URIs), `rows`, `bytes`, both by what became of
    them, or what a dry run says of them (`reasons`), and the first of the rows (`shown`).
    """
    with TemporaryDirectory(prefix="sealift-deletions-") as scratch:
        folder = Path(scratch)
        connection = await open_fold(ledger, run_id, plan, folder)
        if connection is None:
            return {"parquet": None, "csv": None, "rows": 0, "bytes": 0, "reasons": [], "shown": []}
        with closing(connection):
            connection.execute(
                """
                CREATE TABLE deletions AS
                SELECT folded.key, folded.version_id, manifest.size_bytes, manifest.etag, manifest.last_modified,
                       storage_class, status, reason, folded.detail, evidence,
                       's3://' || json_extract_string(proof, '$.bucket') || '/' || json_extract_string(proof, '$.key')
                           AS copy,
                       folded.destination_version_id AS copy_version_id, folded.destination_etag AS copy_etag,
                       finished_at
                FROM folded JOIN manifest USING (row) WHERE status IN ('expired', 'skipped') ORDER BY row
                """
            )
            reasons: Any = connection.sql(
                """
                SELECT reason, detail, evidence, count(*) AS rows, coalesce(sum(size_bytes), 0)::BIGINT AS bytes
                FROM deletions GROUP BY ALL ORDER BY rows DESC, detail, evidence
                """
            ).to_arrow_table()
            uris = {}
            for kind, mime in (("parquet", "application/vnd.apache.parquet"), ("csv", "text/csv; charset=utf-8")):
                path = folder / f"deletions.{kind}"
                rows = _harmless_rows(connection) if kind == "csv" else "FROM deletions"
                connection.execute(f"COPY ({rows}) TO {quoted(str(path))} (FORMAT {kind})")
                uris[kind] = await ledger.write_path(run_id, path.name, path, mime)
            shown: Any = connection.sql(
                f"SELECT key, version_id, size_bytes, status, evidence, copy FROM deletions LIMIT {SHOWN_DELETIONS}"
            ).to_arrow_table()
            each = reasons.to_pylist()
            counted = {name: sum(reason[name] for reason in each) for name in ("rows", "bytes")}
            return uris | counted | {"reasons": each, "shown": shown.to_pylist()}


def _harmless_rows(connection: duckdb.DuckDBPyConnection) -> str:
    """Return the rows for people, without formulas and cursor moves. `escaped` says where text was changed."""
    table = connection.table("deletions")
    names = [name for name, kind in zip(table.columns, table.types, strict=True) if str(kind) == "VARCHAR"]
    safe, is_changed = harmless_columns(*names)
    return f"SELECT * REPLACE ({safe}), {is_changed} AS escaped FROM deletions"
