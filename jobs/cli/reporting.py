"""The report's page beside the report: what a run came to, for people, with what came of earlier runs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.core.run import RunSpec
from jobs.runs.ledger import Ledger

EARLIER_RUNS = 30
"""How many earlier runs of the same job and pair the page compares with."""
PAGE = "report.html"


async def write_page(
    ledger: Ledger, spec: RunSpec, report: Mapping[str, Any], findings: Sequence[Mapping[str, Any]]
) -> str:
    """Write `report.html`, before the report itself says that the run has ended; its URI.

    `findings` are the first of what the page lists.
    """
    from jobs.pages.page import render  # jinja2 and pygal load here

    earlier = await earlier_reports(ledger, spec)
    page = await asyncio.to_thread(render, report, findings=findings, earlier=earlier)
    return await ledger.write_file(spec.run_id, PAGE, page.encode(), "text/html; charset=utf-8")


async def earlier_reports(ledger: Ledger, spec: RunSpec) -> list[dict[str, Any]]:
    """Reports of the latest runs before this one with the same job, source and destination, oldest first."""
    names = [run_id for run_id in await ledger.run_ids() if run_id < spec.run_id and f"-{spec.job}-" in run_id]
    reports = await asyncio.gather(*(ledger.report(run_id) for run_id in names[-EARLIER_RUNS:]))
    places = {"source": str(spec.source.location), "destination": str(spec.destination.location)}
    return [each for each in reports if each is not None and all(each.get(name) == uri for name, uri in places.items())]
