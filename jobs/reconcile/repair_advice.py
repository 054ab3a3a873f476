"""Advice after a comparison or its repair: what a person does now, and the commands for it."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from jobs.core.category import FINDINGS, Category
from jobs.core.display import shown
from jobs.core.outcome import GOOD
from jobs.core.run import RunSpec, RunState
from jobs.errors import LedgerError
from jobs.ledger.agreement import begin_order, run_job
from jobs.ledger.ledger import Ledger
from jobs.s3.retries import gather_bounded
from jobs.s3.sessions import is_between

DIFFERENT = "different.parquet"
"""The file of a run with the rows that differ, each with the ETag of the copy that was seen."""
REPAIR = "repair.parquet"
"""The file of a run with the rows that its repair copies."""
REPLICA_STEP = "S3 does not replicate these by itself any more. This shows the command that does: sealift doctor"
"""What a person does about a replica that differs."""
_RUNS_LOOKED_AT = 20
_REPAIRS_LOOKED_AT = 1_000
"""How many later runs may have repaired a run, or checked its repair: days pass until they do."""
_READS = 32
_REPAIR, _REPAIR_DIFFERENT = "--repair", "--repair-different"


def reconcile_command(spec: RunSpec) -> str:
    """Return the command that compares again what a run compared, for a repair."""
    options, words = spec.options, ["sealift", "reconcile"]
    if f"/inventories/{spec.run_id}/" not in spec.manifest:  # else the command listed both sides
        words += ["--source-inventory", spec.manifest]
        words += ["--destination-inventory", str(options["destination_manifest"])]
    words += _places(spec)
    for name in ("source", "destination"):
        if checksums := options.get(f"{name}_checksums"):
            words += [f"--{name}-checksums", checksums]
    words += ["--versions", "all"] if options.get("versions") == "all" else []
    for name in ("map", "version_map"):
        for value in options.get("maps" if name == "map" else name) or ():
            words += [f"--{name.replace('_', '-')}", value]
    words += ["--margin", options["margin"]] if "margin" in options else []
    return shlex.join([*words, *(["--confirm"] if options.get("confirm") else [])])


def _places(spec: RunSpec) -> list[str]:
    """The options that name both sides of a run, and what reaches them."""
    words = []
    for name, side in (("source", spec.source), ("destination", spec.destination)):
        words += [f"--{name}", str(side.location)]
        access = {"endpoint": side.endpoint, "region": side.region, "profile": side.profile}
        for what, value in (access | {"expected-bucket-owner": side.owner}).items():
            words += [f"--{name}-{what}", value] if value else []
    return words


def verify_command(spec: RunSpec) -> str | None:
    """Return the command that verifies the failed rows of a run again. None: no verify run can."""
    if spec.job not in ("replicate", "verify") or spec.options.get("archives"):
        return None
    words = ["sealift", "verify", "--manifest", f"run:{spec.run_id}"]
    words += _places(spec)
    words += ["--versions", "all"] if spec.options.get("all_versions") else []
    return shlex.join([*words, *(["--deep"] if spec.options.get("deep") else [])])


def repair_hint(report: Mapping[str, Any], command: str) -> list[str]:
    """Return how to repair what `command` found. Nothing if a repair would copy nothing."""
    rows = _rows(report)
    if rows.get(Category.DIFFERENT):
        return [
            f"  repair       {command} --repair --repair-different\n"
            "               copies what is missing, stale or different, and verifies it"
        ]
    if _repairable(rows):
        return [f"  repair       {command} --repair\n               copies what is missing or stale, and verifies it"]
    return []


def findings_by_category(categories: Mapping[Category, tuple[int, int]], findings: int) -> dict[str, int]:
    """Return category → findings. `categories`: all rows and bytes of each.

    An unverifiable row is a finding only where the inventory says that its replication FAILED.
    """
    found = {str(category.value): rows for category, (rows, _) in categories.items() if category in FINDINGS}
    return found | {Category.UNVERIFIABLE.value: findings - sum(found.values())}


def next_steps(
    findings: Mapping[str, int], unparsed: int, command: Sequence[str], reports: Sequence[Mapping[str, Any]] = ()
) -> list[str]:
    """What a person does now, a sentence for each step, as `why: command`.

    `findings`: category → rows that are left. `command`: the reconciliation as it was typed.
    `reports`: those of the repair's runs.
    """
    steps = []
    for report in reports:
        if report["state"] != RunState.COMPLETE:
            steps.append(f"Go on with the repair's {report['job']} run: sealift runs retry {report['run_id']}")
            steps.append(f"Then repair what is left, and verify it: {_typed(command, _REPAIR)}")
        elif report["failures"]:
            steps.append(f"See why rows of the {report['job']} run failed: sealift runs show {report['run_id']}")
    if not reports and any(findings.get(each) for each in (Category.MISSING, Category.STALE)):
        steps.append(f"Copy what is missing or stale, and verify it: {_typed(command, _REPAIR)}")
    if (rows := findings.get(Category.DIFFERENT)) and not _overwrites(command, reports):
        steps.append(f"{_look_at_different(rows)}: {_typed(command, _REPAIR, _REPAIR_DIFFERENT)}")
    return steps + _other_steps(findings, unparsed)


def _other_steps(findings: Mapping[str, int], unparsed: int) -> list[str]:
    """What a person does about findings that no copy mends."""
    steps = []
    if rows := findings.get(Category.EXTRA):
        leaves = "it where it is" if rows == 1 else "them where they are"
        steps.append(f"Look at the {_objects(rows)} without an original. Sealift leaves {leaves}.")
    if findings.get(Category.UNVERIFIABLE):
        steps.append("S3 reports that its replication failed. Find out why: sealift doctor")
    if unparsed:
        steps.append(f"{unparsed:,} inventory lines could not be read. Make the report again, or list both sides.")
    return steps


async def find_repairs(
    ledger: Ledger, run: RunSpec, jobs: Collection[str] = ("replicate", "verify")
) -> list[dict[str, Any]]:
    """Return the reports of later runs that copied or verified rows of a run, the oldest first.

    Such a run worked between the same buckets. It retries this run or another such run, or its
    manifest is this run's failed rows or a file of this run.
    """
    run_id = run.run_id
    later = [each for each in await ledger.run_ids() if _is_later(each, run_id, jobs)]
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


async def find_newer(ledger: Ledger, spec: RunSpec) -> dict[str, Any] | None:
    """Return the report of the latest comparison of the same places, None if this is the latest."""
    later = [each for each in await ledger.run_ids() if _is_later(each, spec.run_id, ["reconcile"])]
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


def _is_later(run_id: str, than: str, jobs: Collection[str]) -> bool:
    """Whether a run is of one of these jobs, and began after another one."""
    return run_job(run_id) in jobs and begin_order(run_id) > begin_order(than)


def repair_advice(
    spec: RunSpec, report: Mapping[str, Any], repairs: Sequence[Mapping[str, Any]], ledger: Ledger
) -> list[str]:
    """Return the commands that repair what a comparison found, as far as no later run has.

    `repairs`: as `find_repairs` returns them. A night's objects are copied as the policy says,
    which `sealift reconcile` does not read. What only S3 writes has no command here.
    """
    if spec.options.get("pair") is None:
        return repair_hint(report, reconcile_command(spec))
    left = _rows(report) | {Category.EXTRA: 0}  # the policy may keep these, and only a repair's result knows
    if repaired := report.get("repaired"):
        left = {name: each["left"] for name, each in repaired["categories"].items()}
    return [f"  {shown(each)}" for each in pair_steps(spec, report, repairs, left, ledger)]


def pair_steps(
    spec: RunSpec,
    report: Mapping[str, Any],
    repairs: Sequence[Mapping[str, Any]],
    left: Mapping[str, int],
    ledger: Ledger,
) -> list[str]:
    """Return what a person does now about the comparison of a night, a sentence for each step.

    Terminal and page show the same steps. `left`: category → rows that nothing repaired.
    """
    if spec.options.get("of_replica"):
        return [REPLICA_STEP] if report["findings"] else []
    pair, steps = str(spec.options["pair"]), []
    copied = sum(count for each in filter(_copied, repairs) for name, count in each["outcomes"].items() if name in GOOD)
    if _repairable(left) and _repairable(_rows(report)) > copied:
        steps.append(f"Copy what is missing or stale: {_backfill(pair, ledger.uri(spec.run_id, REPAIR))}")
    if count := left.get(Category.DIFFERENT):
        steps.append(
            f"{_look_at_different(count)}. A copy that has changed since stays: "
            f"{_backfill(pair, ledger.uri(spec.run_id, DIFFERENT))}"
        )
    if steps:
        steps.append(f"Then check again: sealift nightly --pair {pair} --again --margin 0s")
    return steps + _other_steps(left, report.get("unparsed", 0))


def _backfill(pair: str, manifest: str) -> str:
    return f"sealift replicate --pair {pair} --manifest {shlex.quote(manifest)}"


def _copied(report: Mapping[str, Any]) -> bool:
    return str(report["job"]) == "replicate"


def _repairable(rows: Mapping[str, int]) -> int:
    return rows.get(Category.MISSING, 0) + rows.get(Category.STALE, 0)


def _rows(report: Mapping[str, Any]) -> dict[str, int]:
    return {name: each["rows"] for name, each in report["categories"].items()}


def _overwrites(command: Sequence[str], reports: Sequence[Mapping[str, Any]]) -> bool:
    """True if the repair has tried to overwrite what differs."""
    return bool(reports) and _REPAIR_DIFFERENT in command


def _look_at_different(rows: int) -> str:
    overwrite = "that differs. Overwrite it" if rows == 1 else "that differ. Overwrite them"
    return f"Look at the {_objects(rows)} {overwrite} only if the source is right"


def _objects(rows: int) -> str:
    return "object" if rows == 1 else f"{rows:,} objects"


def _typed(command: Sequence[str], *flags: str) -> str:
    """The command with these flags, for a person who reads the answer and is asked."""
    command = [word for word in command if word not in ("--json", "--yes")]
    return shlex.join([*command, *(flag for flag in flags if flag not in command)])
