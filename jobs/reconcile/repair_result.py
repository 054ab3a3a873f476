"""Result of a repair: which findings are proven mended, and which are left."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jobs.core.category import REPAIRABLE
from jobs.core.outcome import Evidence
from jobs.core.run import RunSpec
from jobs.errors import LedgerError, NotFound, PreconditionFailed
from jobs.ledger.agreement import begin_order, run_job
from jobs.ledger.ledger import Ledger
from jobs.reconcile.run import fetch_differences
from jobs.reports.publish import write_page
from jobs.s3.retries import gather_bounded
from jobs.s3.sessions import is_between

if TYPE_CHECKING:
    import duckdb

RESULT = "repaired.json"
"""The document of a reconciliation whose findings were repaired, beside its report."""

SHOWN_ROWS = 20
_REPAIRS_LOOKED_AT = 1_000
"""How many later runs may have repaired a run, or checked its repair: days pass until they do."""
_READS = 32
SHOWN_LEFT = 1_000
_MEMORY = "256MB"
_LOOK = "key, version_id, copy_key, is_well, number"
_NO_LOOK = "('', '', '', false, 0)"


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
        names = ("run_id", "job", "state", "rows", "outcomes", "report_html")
        return {
            "rows": sum(each.repaired for each in self.categories.values()),
            "left": sum(each.left for each in self.categories.values()),
            "categories": {name: each._asdict() for name, each in self.categories.items()},
            "runs": [{name: report[name] for name in names} for report in reports],
            "shown": [dict(row) for row in self.shown],
        }


async def find_result(
    ledger: Ledger,
    runs: Sequence[str],
    differences: Path,
    scratch: Path,
) -> RepairResult:
    """Compare a reconciliation's findings with what the runs of its repair have proven.

    A finding is repaired if a copy mends its category, and the last run that proved or disproved its
    version and its copy ended well. Each row counts once, however many runs took it. `runs`: ids of
    copies and verifications, in order. `differences`: the reconciliation's Parquet file.
    """
    from jobs.tables.duck import connect, in_thread, parquet

    folder = scratch / "repair-result"
    folder.mkdir()
    verified = [
        path
        for number, run_id in enumerate(runs)
        if (path := await _write_verified(ledger, run_id, number, folder)) is not None
    ]

    def read(connection: duckdb.DuckDBPyConnection) -> RepairResult:
        looks = f"FROM {parquet(verified)}" if verified else f"FROM (VALUES {_NO_LOOK}) WHERE false"
        connection.execute(
            f"CREATE TABLE mended AS SELECT key, version_id, copy_key FROM (SELECT * {looks}) AS looks({_LOOK}) "
            "GROUP BY ALL HAVING arg_max(is_well, number)"
        )
        repairable = ", ".join(f"'{each}'" for each in sorted(REPAIRABLE))
        connection.execute(
            f"CREATE VIEW findings AS SELECT found.*, mended.key IS NOT NULL AS is_repaired FROM "
            f"(FROM {parquet(differences)} WHERE is_finding) AS found LEFT JOIN mended "
            f"ON found.category IN ({repairable}) AND found.key = mended.key "
            "AND found.destination_key = mended.copy_key AND coalesce(found.version_id, 'null') = mended.version_id"
        )
        counted = connection.execute(
            "SELECT category, count(*) FILTER (is_repaired), count(*) FILTER (NOT is_repaired) "
            "FROM findings GROUP BY 1 ORDER BY 1"
        ).fetchall()
        order = "ORDER BY key, version_id"
        names = "key, destination_key, version_id, category, reason, detail"
        shown = connection.sql(f"SELECT {names} FROM findings WHERE is_repaired {order} LIMIT {SHOWN_ROWS}")
        left = connection.sql(
            f"SELECT * EXCLUDE (is_repaired) FROM findings WHERE NOT is_repaired {order} LIMIT {SHOWN_LEFT}"
        )
        return RepairResult(
            {name: Tally(repaired, rest) for name, repaired, rest in counted},
            shown.to_arrow_table().to_pylist(),
            left.to_arrow_table().to_pylist(),
        )

    with connect(folder, memory_limit=_MEMORY) as connection:
        return await in_thread(connection, read, connection)


async def _write_verified(ledger: Ledger, run_id: str, number: int, folder: Path) -> Path | None:
    """Write the verdict of a run on each row that it could judge, in the columns `_LOOK`.

    None: it has no outcomes yet.
    """
    from jobs.runs.folding import copy_key_sql, open_fold
    from jobs.tables.duck import in_thread, quoted

    scratch, path = folder / run_id, folder / f"{run_id}.parquet"
    scratch.mkdir()
    fold = await open_fold(ledger, run_id, await ledger.plan(run_id), scratch)
    if fold is None:
        return None
    copy_key = copy_key_sql(await ledger.spec(run_id))
    looks = (
        "SELECT manifest.key, coalesce(manifest.version_id, 'null') AS version_id, NOT bad AS is_well "
        f"FROM folded JOIN manifest USING (row) WHERE bad OR evidence <> {quoted(Evidence.NONE)}"
    )
    with contextlib.closing(fold):
        await in_thread(
            fold,
            fold.execute,
            f"COPY (SELECT key, version_id, {copy_key} AS copy_key, is_well, {number} AS number FROM ({looks})) "
            f"TO {quoted(str(path))} (FORMAT parquet)",
        )
    return path


async def publish_result(
    ledger: Ledger,
    spec: RunSpec,
    report: Mapping[str, Any],
    runs: Sequence[Mapping[str, Any]],
    differences: Path,
    scratch: Path,
    steps: Callable[[Mapping[str, int]], list[str]],
) -> dict[str, Any]:
    """Write what a repair left, and the page of the reconciliation, which shows that.

    `runs`: the reports of the repair's runs, in order. `steps`: from category → rows that are left
    to what to do. Returns the keys that the repair adds to the report.
    """
    result = await find_result(ledger, [each["run_id"] for each in runs], differences, scratch)
    left = {name: tally.left for name, tally in result.categories.items()}
    after = {"repaired": result.to_dict(runs), "next_steps": steps(left)}
    with contextlib.suppress(PreconditionFailed):  # another start of a night was first
        await ledger.write_document(spec.run_id, RESULT, after)
    await write_page(ledger, spec, dict(report) | after, result.left)
    return after


async def read_result(ledger: Ledger, run_id: str) -> dict[str, Any]:
    """The keys that a repair adds to the report of a reconciliation. Empty without a repair."""
    try:
        document = await ledger.document(run_id, RESULT)
    except LedgerError as error:
        if isinstance(error.__cause__, NotFound):
            return {}
        raise
    return {name: document[name] for name in ("repaired", "next_steps") if name in document}


async def result_now(ledger: Ledger, spec: RunSpec, report: Mapping[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """Return the keys that all repairs so far add to the report of a reconciliation.

    Also return the findings that are left, if there were repairs after its page was written.
    """
    known = await read_result(ledger, spec.run_id)
    recorded = known.get("repaired", {})
    ids = {each["run_id"] for each in recorded.get("runs", ())}
    runs = await find_repairs(ledger, spec)
    if not {each["run_id"] for each in runs} - ids:
        return known, []
    with tempfile.TemporaryDirectory(prefix="sealift-repairs-") as folder:
        try:
            differences = await fetch_differences(ledger, spec.run_id, Path(folder))
        except NotFound:
            return known, []
        result = await find_result(ledger, [each["run_id"] for each in runs], differences, Path(folder))
    after = {"repaired": result.to_dict(runs)}
    is_done = not after["repaired"]["left"]
    return known | after | ({"next_steps": []} if is_done else {}), list(result.left)


async def find_repairs(
    ledger: Ledger, run: RunSpec, jobs: Collection[str] = ("replicate", "verify")
) -> list[dict[str, Any]]:
    """Return the reports of later runs that copied or verified rows of a run, the oldest first.

    Such a run worked between the same buckets. It retries this run or another such run, or its
    manifest is this run's failed rows or a file of this run.
    """
    run_id = run.run_id
    later = [each for each in await ledger.run_ids() if is_later(each, run_id, jobs)]
    reports: list[dict[str, Any]] = []
    made: set[str] = set()

    async def read(each: str) -> RunSpec | None:
        with contextlib.suppress(LedgerError):  # a damaged run repaired nothing that one can rely on
            return await ledger.spec(each)
        return None

    specs = await gather_bounded(read, later[:_REPAIRS_LOOKED_AT], _READS)
    for each, spec in zip(later, specs, strict=False):
        if spec is None or not is_between(spec, run.source, run.destination):
            continue
        with contextlib.suppress(LedgerError):
            of_it = spec.retry_of == run_id
            of_rows = spec.manifest == f"run:{run_id}" or spec.manifest.startswith(ledger.uri(run_id))
            if (of_it or of_rows or spec.retry_of in made) and (report := await ledger.report(each)) is not None:
                reports.append(report)
                made.add(each)
    return reports


def is_later(run_id: str, than: str, jobs: Collection[str]) -> bool:
    """Return whether a run is of one of these jobs, and began after another one."""
    return run_job(run_id) in jobs and begin_order(run_id) > begin_order(than)
