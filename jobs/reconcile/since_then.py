"""Later runs: what became of the bad rows of a run since it ended.

The terminal, `--json` and the page that a person asks for now show the same. A page in the ledger
is written once, when its run ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jobs.core.model import Location, ObjectRef
from jobs.core.run import RunSpec
from jobs.errors import LedgerError
from jobs.ledger.ledger import UNDONE, Ledger
from jobs.ledger.state import OPEN, has_verdicts
from jobs.reconcile.repair_result import find_repairs, is_later, read_result
from jobs.reconcile.run import fetch_differences, first_findings
from jobs.reports.document import counts, findings_count, verdict
from jobs.reports.figures import human_time, plural
from jobs.runs.folding import LISTED_FAILURES, LISTED_PER_REASON
from jobs.runs.kind import Kind
from jobs.runs.request import failures_of
from jobs.runs.standing import standing_rows
from jobs.runs.summaries import counted
from jobs.s3.downloads import download

_RUNS_LOOKED_AT = 20


class SinceThen(NamedTuple):
    """The reports of the later runs, the oldest first.

    `is_repaired`: the last one left no row, and none of the bad rows is a finding any more. `check`:
    the command that proves what the retry wrote, if nobody has run it. `undone`: what undoes of an
    expire run came to, the oldest first.
    """

    reports: Sequence[dict[str, Any]] = ()
    is_repaired: bool = False
    check: str | None = None
    undone: Sequence[dict[str, Any]] = ()

    def lines(self) -> list[str]:
        """The later runs, for a terminal."""
        lines = [f"  since then   {each['run_id']}{_came_to(each)}" for each in self.reports]
        lines += [f"  since then   {_undone_text(each)}" for each in self.undone]
        return lines + ([f"  check        {self.check}"] if self.check else [])

    def details(self) -> dict[str, Any]:
        """What the later runs add to the report of a run. Nothing without such runs."""
        if self.undone:
            return {"undone": list(self.undone), "next_steps": list(map(_undone_text, self.undone))}
        if not self.reports:
            return {}
        names = ("run_id", "job", "state", "rows", "finished_at")
        runs = [
            {name: each[name] for name in names} | counted(each) | {"verdict": verdict(each)} for each in self.reports
        ]
        details: dict[str, Any] = {"since_then": {"runs": runs, "is_repaired": self.is_repaired}}
        if self.is_repaired:  # then the steps of the report are out of date
            details["next_steps"] = [f"Check what was copied: {self.check}"] if self.check else []
        return details


async def find_since_then(
    ledger: Ledger, spec: RunSpec, report: dict[str, Any], kind: Kind, is_proof_only: Callable[[str], bool]
) -> SinceThen:
    """Find what became of the bad rows of a run, or of the findings of a comparison.

    `is_proof_only`: whether the runs of a job write nothing.
    """
    if "categories" in report:
        newer = await _find_newer(ledger, spec)
        repairs = [each for each in await find_repairs(ledger, spec) if not is_proof_only(each["job"])]
        return SinceThen([*repairs, *([newer | await read_result(ledger, newer["run_id"])] if newer else [])])
    if undone := [
        await ledger.document(spec.run_id, UNDONE + name) for name in await ledger.names(spec.run_id, UNDONE)
    ]:
        return SinceThen(undone=undone)
    if not report["failures"]:
        return SinceThen()
    jobs = {"verify", spec.job, *([kind.retried_as] if kind.retried_as else [])}
    repairs = await find_repairs(ledger, spec, jobs)
    if not repairs:
        return SinceThen()
    is_repaired = not findings_count(repairs[-1]) and not await _has_open_rows(ledger, spec, report)
    is_unchecked = is_repaired and not is_proof_only(repairs[-1]["job"])
    return SinceThen(repairs, is_repaired, _verify_command(spec) if is_unchecked else None)


def _undone_text(undone: Mapping[str, Any]) -> str:
    return f"An undo removed {plural(undone['markers'], 'delete marker')} at {human_time(undone['at'])}"


async def _has_open_rows(ledger: Ledger, spec: RunSpec, report: dict[str, Any]) -> bool:
    """Whether bad rows of a run need somebody by now, as far as the state has such runs."""
    with tempfile.TemporaryDirectory(prefix="sealift-standing-") as folder:
        return has_verdicts(spec) and bool(
            (await standing_rows(ledger, spec, report["finished_at"], Path(folder), OPEN)).rows
        )


async def read_findings(ledger: Ledger, spec: RunSpec, report: dict[str, Any]) -> list[dict[str, Any]]:
    """The first bad rows of a run that has ended, for a page that is made later.

    Nothing for a comparison whose repair is in its report: its page counts what is left.
    """
    with tempfile.TemporaryDirectory(prefix="sealift-findings-") as folder:
        if "categories" not in report:
            path = Path(folder) / "failures.parquet"
            await download(ledger.store, ObjectRef(*Location.parse(await failures_of(ledger, spec.run_id))), path)
            return await asyncio.to_thread(_first_failures, path)
        if "repaired" in report:
            return []
        return await asyncio.to_thread(first_findings, await fetch_differences(ledger, spec.run_id, Path(folder)))


def _first_failures(path: Path) -> list[dict[str, Any]]:
    """The first rows of each status in a file of failed rows, in the order of their keys."""
    import pyarrow.parquet as pq

    names = ["key", "version_id", "status", "reason", "detail", "etag", "condemned_etag", "size_bytes", "last_modified"]
    rows: list[dict[str, Any]] = []
    listed: Counter[str] = Counter()
    for batch in pq.ParquetFile(path).iter_batches(columns=names):
        for row in batch.to_pylist():
            if listed[row["status"]] < LISTED_PER_REASON and len(rows) < LISTED_FAILURES:
                listed[row["status"]] += 1
                rows.append(
                    {name: row[name] for name in ("key", "version_id", "status", "reason", "detail")}
                    | {f"source_{name}": row[name] for name in ("etag", "size_bytes", "last_modified")}
                    | {"destination_etag": row["condemned_etag"]}
                )
    return rows


def _came_to(report: dict[str, Any]) -> str:
    if "categories" in report:
        return f" compared the same places: {verdict(report)}"
    return f": {counts(report['outcomes'], report['job'])}"


def _verify_command(spec: RunSpec) -> str | None:
    """Return the command that verifies the failed rows of a run again. None: no verify run can."""
    if spec.job not in ("replicate", "verify") or spec.options.get("archives"):
        return None
    words = ["sealift", "verify", "--manifest", f"run:{spec.run_id}"]
    words += _places(spec)
    words += ["--versions", "all"] if spec.options.get("all_versions") else []
    return shlex.join([*words, *(["--deep"] if spec.options.get("deep") else [])])


def _places(spec: RunSpec) -> list[str]:
    """The options that name both sides of a run, and what reaches them."""
    words = []
    for name, side in (("source", spec.source), ("destination", spec.destination)):
        words += [f"--{name}", str(side.location)]
        access = {"endpoint": side.endpoint, "region": side.region, "profile": side.profile}
        for what, value in (access | {"expected-bucket-owner": side.owner}).items():
            words += [f"--{name}-{what}", value] if value else []
    return words


async def _find_newer(ledger: Ledger, spec: RunSpec) -> dict[str, Any] | None:
    """Return the report of the latest comparison of the same places, None if this is the latest."""
    later = [each for each in await ledger.run_ids() if is_later(each, spec.run_id, ["reconcile"])]
    for each in reversed(later[-_RUNS_LOOKED_AT:]):
        with contextlib.suppress(LedgerError):
            other = await ledger.spec(each)
            is_alike = (other.source.location, other.destination.location) == (
                spec.source.location,
                spec.destination.location,
            ) and all(other.options.get(name) == spec.options.get(name) for name in ("versions", "maps", "of_replica"))
            if is_alike and (report := await ledger.report(each)) is not None:
                return report
    return None
