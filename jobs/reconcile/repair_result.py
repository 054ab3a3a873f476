"""Result of a repair: which findings are proven mended, and which are left."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jobs.core.category import REPAIRABLE
from jobs.errors import LedgerError, NotFound
from jobs.ledger.ledger import Ledger

if TYPE_CHECKING:
    import duckdb

RESULT = "repaired.json"
"""The document of a reconciliation whose findings were repaired, beside its report."""

SHOWN_ROWS = 20
_MEMORY = "256MB"


class Tally(NamedTuple):
    """Findings of one category after a repair, in rows."""

    repaired: int
    left: int


class RepairResult(NamedTuple):
    """What became of the findings.

    `shown` are repaired rows, `left` are rows that are still findings.
    """

    categories: Mapping[str, Tally]
    shown: Sequence[Mapping[str, Any]]
    left: Sequence[Mapping[str, Any]]

    def to_dict(self, reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The key `repaired` of the report. `reports`: those of the repair's runs, in order."""
        kept = ("run_id", "job", "state", "rows", "outcomes", "report_html")
        return {
            "rows": sum(each.repaired for each in self.categories.values()),
            "left": sum(each.left for each in self.categories.values()),
            "categories": {name: each._asdict() for name, each in self.categories.items()},
            "runs": [{name: report[name] for name in kept} for report in reports],
            "shown": [dict(row) for row in self.shown],
        }


async def find_result(
    ledger: Ledger, verifications: Sequence[str], differences: Path, scratch: Path, *, shown_left: int
) -> RepairResult:
    """Compare a reconciliation's findings with what the repair's verifications have proven.

    A finding is repaired if a copy mends its category, and a verification ended well for its key
    and version. Each row counts once, however many runs took it. `verifications`: ids of verify
    runs. `differences`: the reconciliation's Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from jobs.runs.folding import proven_rows
    from jobs.tables.duck import connect, parquet

    folder = scratch / "repair-result"
    folder.mkdir()
    proven = folder / "proven.parquet"
    schema = pa.schema([("key", pa.string()), ("version_id", pa.string())])
    with pq.ParquetWriter(proven, schema) as writer:
        for run_id in verifications:
            async for batch in proven_rows(ledger, run_id, await ledger.plan(run_id)):
                writer.write_batch(batch.select(schema.names).cast(schema))

    def read(connection: duckdb.DuckDBPyConnection) -> RepairResult:
        connection.execute(
            f"CREATE TABLE mended AS SELECT DISTINCT key, coalesce(version_id, 'null') AS version_id "
            f"FROM {parquet(proven)}"
        )
        repairable = ", ".join(f"'{each}'" for each in sorted(REPAIRABLE))
        connection.execute(
            f"CREATE VIEW findings AS SELECT found.*, mended.key IS NOT NULL AS is_repaired FROM "
            f"(FROM {parquet(differences)} WHERE is_finding) AS found LEFT JOIN mended "
            f"ON found.category IN ({repairable}) AND found.key = mended.key "
            "AND coalesce(found.version_id, 'null') = mended.version_id"
        )
        counted = connection.execute(
            "SELECT category, count(*) FILTER (is_repaired), count(*) FILTER (NOT is_repaired) "
            "FROM findings GROUP BY 1 ORDER BY 1"
        ).fetchall()
        order = "ORDER BY key, version_id"
        names = "key, destination_key, version_id, category, reason"
        shown = connection.sql(f"SELECT {names} FROM findings WHERE is_repaired {order} LIMIT {SHOWN_ROWS}")
        left = connection.sql(
            f"SELECT * EXCLUDE (is_repaired) FROM findings WHERE NOT is_repaired {order} LIMIT {shown_left}"
        )
        return RepairResult(
            {name: Tally(repaired, rest) for name, repaired, rest in counted},
            shown.to_arrow_table().to_pylist(),
            left.to_arrow_table().to_pylist(),
        )

    with connect(folder, memory_limit=_MEMORY) as connection:
        return await asyncio.to_thread(read, connection)


async def read_result(ledger: Ledger, run_id: str) -> dict[str, Any]:
    """The keys that a repair adds to the report of a reconciliation. Empty without a repair."""
    try:
        document = await ledger.document(run_id, RESULT)
    except LedgerError as error:
        if isinstance(error.__cause__, NotFound):
            return {}
        raise
    return {name: document[name] for name in ("repaired", "next_steps") if name in document}
