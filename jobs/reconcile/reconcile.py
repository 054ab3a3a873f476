"""The reconciliation of two inventory reports: what differs, and how.

It makes no request per object. Missing, extra, different and stale keys (or versions) are findings.
So is a key whose replication FAILED, says S3, unless its content is proven to be the same. What is
in flight is judged by the next reports, and what is unverifiable is shown with its reason. Neither
is a finding. `jobs.reconcile.rules` has the rules.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from jobs.core.category import REPAIRABLE
from jobs.core.prefix_map import PrefixMap
from jobs.core.run import RunSpec, Side
from jobs.errors import ManifestError
from jobs.inventory.report import Inventory
from jobs.reports.document import Comparison, iso_time
from jobs.s3.store import Store

if TYPE_CHECKING:
    from jobs.ledger.ledger import Ledger
    from jobs.reconcile.stage import StagedReport
    from jobs.runs.packed import PackedCopies

FUTURE_SECONDS = 3600
VERDICTS = "verdicts.parquet"

_USED = ("Size", "ETag", "LastModifiedDate", "IsMultipartUploaded", "EncryptionStatus")
"""The fields without which a comparison knows less."""


@dataclass(frozen=True, slots=True)
class Report:
    """The report of a side: its inventory, and the store of its data files.

    `evidence`: known checksums, as Parquet files of the columns key, version_id (empty, null or
    `null`: unversioned), etag, algorithm, value (base64), is_composite, computed_at (UTC). Where no
    version id pins the object, its ETag must be the same, and it must not be newer. `checksums`: the
    URI that they come from. `doubted`: the store of its bucket, of which a few pages are listed, if
    the report has to cover the prefixes. `origin`: where it comes from, for people.
    """

    side: Side
    inventory: Inventory
    store: Store
    evidence: Sequence[Path] = ()
    checksums: str | None = None
    doubted: Store | None = None
    origin: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation(Comparison):
    """The result.

    `folder` has `differences.parquet` and `.csv`, two manifests for a replicate run (`repair.parquet`,
    what a copy may mend, with `repairable_rows`, and `different.parquet`, to be overwritten), and
    `verdicts.parquet`, what it says to the ledger's state. `source_rows`: objects (or
    versions) that the source has, in the prefix map.
    """

    folder: Path
    source_rows: int

    @property
    def repairable_rows(self) -> int:
        """The rows of `repair.parquet`."""
        return sum(rows for name, (rows, _) in self.categories.items() if name in REPAIRABLE)


async def reconcile(
    reports: tuple[Report, Report],
    scratch: Path,
    run: tuple[Ledger, RunSpec] | None = None,
    *,
    prefixes: PrefixMap,
    margin_seconds: float,
    all_versions: bool = False,
    repairs_different: bool = False,
    packed: PackedCopies | None = None,
    is_complete: bool = False,
) -> Reconciliation:
    """Join the reports of source and destination by key, or version by version, and write what differs
    into `scratch`/result.

    `run`: the ledger, and the run whose verdicts its state gets. `margin_seconds`: what is newer than
    the older report's creationTimestamp less this is in flight. `repairs_different`: the repair
    overwrites what differs and is newer. `packed`: archives whose members are not missing, for a
    comparison of current objects. `is_complete`: the reports are of all current objects, so what
    neither has is gone.

    Raises ManifestError for reports that cannot be compared or trusted, and a StoreError when S3
    refuses.
    """
    from jobs.reconcile.findings import rows_sql, write_findings
    from jobs.reconcile.join import connect, join_reports, problems
    from jobs.reconcile.partial_reports import check_coverage
    from jobs.reconcile.stage import fetch_report, stage_report
    from jobs.tables.duck import in_thread

    _check_pair(*reports)
    source, destination = reports
    listed_at = source.inventory.created_at, destination.inventory.created_at
    horizon_us = int((min(listed_at) - margin_seconds) * 1_000_000)
    others: tuple[Callable[[str], str | None], ...] = prefixes.destination_of, prefixes.source_of
    folder = scratch / "result"
    with TemporaryDirectory(dir=scratch) as name:
        work = Path(name)
        connection = connect(work)
        try:
            staged = []
            for number, report in enumerate(reports):
                places = await fetch_report(report.inventory, report.store, work / f"report-{number}")
                each = await in_thread(connection, stage_report, connection, report.inventory, places)
                staged.append(each)
                if report.doubted is not None:
                    below = [pair[number] for pair in prefixes.pairs]
                    oldest = report.inventory.created_at - margin_seconds
                    await check_coverage(connection, each, report.doubted, below, others[number], oldest)
            evidence = source.evidence, destination.evidence
            how: dict[str, Any] = {"horizon_us": horizon_us, "all_versions": all_versions}
            outside, joined = await in_thread(connection, join_reports, connection, staged, evidence, prefixes, **how)
            if packed is not None:
                from jobs.reconcile.packed_copies import judge_packed

                await judge_packed(connection, packed, destination.inventory.source_bucket)
            folder.mkdir()
            with problems(staged):
                if run is not None:
                    from jobs.reconcile.verdicts import load_known, write_verdicts

                    await load_known(connection, *run, prefixes, work / "known", is_complete=is_complete)
                    seen = joined, run[1], prefixes, listed_at, folder / VERDICTS
                    how = {"horizon_us": horizon_us, "is_complete": is_complete}
                    await in_thread(connection, write_verdicts, connection, *seen, **how)
                rows = rows_sql(prefixes, all_versions=all_versions)
                how = {"repairs_different": repairs_different, "excluded": outside}
                found = await in_thread(connection, write_findings, connection, folder, rows, **how)
        finally:
            connection.close()
    ours, theirs = map(_described, reports, staged)
    return Reconciliation(
        **found,
        source=ours,
        destination=theirs,
        margin_seconds=margin_seconds,
        limits=[*_limits(staged)],
        folder=folder,
    )


def _check_pair(source: Report, destination: Report) -> None:
    for report, side in ((source, "source"), (destination, "destination")):
        inventory = report.inventory
        if (bucket := report.side.location.bucket) != inventory.source_bucket:
            raise ManifestError(
                f"{inventory.manifest} is of the bucket {inventory.source_bucket}, the {side} is {bucket}",
                advice="give the report of that bucket",
            )
        if inventory.created_at > time.time() + FUTURE_SECONDS:  # its verdicts would outdate later ones
            raise ManifestError(
                f"{inventory.manifest} says that it was made on {iso_time(inventory.created_at)}, which is not yet",
                advice="set the clock of this machine, or have the inventory delivered again",
            )
    one, other = source.inventory, destination.inventory
    if one.source_bucket == other.source_bucket:
        raise ManifestError(
            f"{one.manifest} and {other.manifest} are both of the bucket {one.source_bucket}",
            advice="give one report of the source and one of the destination",
        )


def _limits(staged: Sequence[StagedReport]) -> Iterator[str]:
    for each in staged:
        if absent := [name for name in _USED if name.lower() not in each.columns]:
            bucket = each.inventory.source_bucket
            yield f"The report of {bucket} has no {', '.join(absent)}: what these would tell was not compared."


def _described(report: Report, staged: StagedReport) -> dict[str, Any]:
    """What a report document says of a report."""
    inventory = report.inventory
    return {
        "bucket": inventory.source_bucket,
        "location": str(report.side.location),
        "manifest": str(inventory.manifest),
        "created_at": iso_time(inventory.created_at),
        "format": inventory.file_format,
        "rows": staged.rows,
    }
