"""The page of a night: its verdict, what to do now, and its stages, as one HTML file."""

from __future__ import annotations

import asyncio

from jobs.core.model import Attributes
from jobs.nights.documents import Night, Summary
from jobs.nights.verdicts import WELL, head_of, stage_text
from jobs.reports.html.page import render_page

HTML = Attributes(headers={"content-type": "text/html; charset=utf-8"})


async def write_page(night: Night, summary: Summary) -> None:
    """Write the page of the summary that is in the ledger, if it is not there yet."""
    page = await asyncio.to_thread(render_night, summary)
    await night.write_file(".html", page.encode(), HTML)


def render_night(summary: Summary) -> str:
    """A night's summary as a self-contained page. Same summary, same page."""
    texts = [stage_text(each).removeprefix(f"{each.stage} ") for each in summary.stages]
    is_well = head_of(summary.verdict).startswith(WELL)
    return render_page(
        "night.html.jinja",
        night=summary,
        verdict=f"{head_of(summary.verdict)}.",
        tone="bad" if summary.left else "good" if is_well else "warn",
        stages=list(zip(summary.stages, texts, strict=True)),
        is_dry_run=False,
    )
