"""Publication of a run's result: the page, then the report that ends the run."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.core.run import RunSpec
from jobs.errors import LedgerError
from jobs.ledger.agreement import begin_order
from jobs.ledger.ledger import Ledger
from jobs.reports.document import is_comparable

EARLIER_RUNS = 30
"""How many earlier runs of the same job and pair the page compares with."""
PAGE = "report.html"


async def publish(
    ledger: Ledger, spec: RunSpec, report: dict[str, Any], findings: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Write `report.html`, then the report, which ends the run → the report that won.

    `findings` are the first rows that the page lists.
    """
    await write_page(ledger, spec, report, findings)
    return await ledger.publish_report(spec.run_id, report)


async def write_page(
    ledger: Ledger, spec: RunSpec, report: dict[str, Any], findings: Sequence[Mapping[str, Any]]
) -> None:
    """Write the page alone. The run has not ended yet."""
    page = await make_page(ledger, spec, report, findings)
    await ledger.write_file(spec.run_id, PAGE, page, "text/html; charset=utf-8")


async def make_page(
    ledger: Ledger, spec: RunSpec, report: dict[str, Any], findings: Sequence[Mapping[str, Any]]
) -> bytes:
    """Return the page of a run, with the trend of earlier ones."""
    from jobs.reports.html.page import render  # jinja2 and pygal load here

    earlier = await earlier_reports(ledger, spec)
    page = await asyncio.to_thread(render, report, findings=findings, earlier=earlier)
    return page.encode()


async def earlier_reports(ledger: Ledger, spec: RunSpec) -> list[dict[str, Any]]:
    """Reports of earlier runs with the same job, source and destination, oldest first.

    One that cannot be read is left out: this run does not end by another one's document.
    """
    began, name = begin_order(spec.run_id), f"-{spec.job}-"
    names = [run_id for run_id in await ledger.run_ids() if begin_order(run_id) < began and name in run_id]

    async def read(run_id: str) -> dict[str, Any] | None:
        try:
            earlier = await ledger.spec(run_id)
            is_alike = (earlier.source.location, earlier.destination.location) == places
            report = await ledger.report(run_id) if is_alike else None
        except LedgerError:  # it was never planned, or is damaged, or of a newer Sealift
            return None
        return report if report is not None and is_comparable(report) else None

    places = spec.source.location, spec.destination.location
    reports = await asyncio.gather(*map(read, names[-EARLIER_RUNS:]))
    return [report for report in reports if report is not None]
