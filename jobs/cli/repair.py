"""The loop closed: what a reconciliation found missing or stale is copied, then verified, by runs like any others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from jobs.cli import launch
from jobs.cli.placement import check, is_batch, place
from jobs.cli.reporting import report_text
from jobs.cli.stages import work
from jobs.config import Settings
from jobs.core.mapping import PrefixMap
from jobs.core.run import RunSpec, Side
from jobs.core.selection import Selection
from jobs.runs.ledger import Ledger

JOBS = ("replicate", "verify")


class Repaired(NamedTuple):
    """What came of it: the runs' reports for the JSON document, the same for people, the exit code."""

    document: dict[str, Any]
    texts: list[str]
    code: int


async def repair(
    spec: RunSpec, maps: PrefixMap, ledger: Ledger, settings: Settings, given: Mapping[str, Any]
) -> Repaired:
    """Replicate the rows of `repair.parquet` of a reconcile run, then verify them.

    Raises LimitExceeded before anything is copied when the plan is larger or dearer than `given` allows.
    """
    reports: dict[str, list[dict[str, Any]]] = {job: [] for job in JOBS}
    texts, code = [], 0
    manifest = ledger.uri(spec.run_id, "repair.parquet")
    for job in JOBS:
        for source_prefix, destination_prefix in maps.pairs:
            request = launch.Request(
                job=job,
                source=_at(spec.source, source_prefix),
                destination=_at(spec.destination, destination_prefix),
                manifest=manifest,
                selection=Selection(versions=spec.options["versions"], prefix=source_prefix),
                options={"all_versions": spec.options["versions"] == "all", "deep": False},
                retry_of=spec.run_id,
            )
            report, own_code = await _run(request, ledger, settings, given)
            reports[job].append(report)
            texts.append(report_text(report))
            code = code or own_code
    return Repaired({"repair": reports["replicate"], "verification": reports["verify"]}, texts, code)


def _at(side: Side, prefix: str) -> Side:
    return replace(side, location=side.location._replace(key=prefix))


async def _run(
    request: launch.Request, ledger: Ledger, settings: Settings, given: Mapping[str, Any]
) -> tuple[dict[str, Any], int]:
    """Plan a run, do it where it belongs, and wait: its report and exit code."""
    placement = place(given, settings, request.job) if is_batch(given, settings) else None
    if placement is not None:
        await check(placement, request.source, request.destination)
    planned = await launch.plan_run(request, ledger, settings)
    try:
        launch.check_limits(planned.plan, given["max_cost"], given["max_objects"])
        await launch.publish(planned, ledger)
    finally:
        planned.discard()
    return await work(planned.spec, planned.plan, ledger, settings, given)
