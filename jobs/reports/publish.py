"""Publication of a run's result: the page, then the report that ends the run."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.core.run import RunSpec
from jobs.ledger.ledger import Ledger

PAGE = "report.html"


async def publish(
    ledger: Ledger, spec: RunSpec, report: dict[str, Any], findings: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Write `report.html`, then the report, which ends the run → the report that won.

    `findings` are the first rows that the page lists.
    """
    page = await make_page(report, findings)
    await ledger.write_file(spec.run_id, PAGE, page, "text/html; charset=utf-8")
    return await ledger.publish_report(spec.run_id, report)


async def make_page(report: Mapping[str, Any], findings: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the page of a run."""
    from jobs.reports.html.page import render  # jinja2 loads here

    return (await asyncio.to_thread(render, report, findings=findings)).encode()
