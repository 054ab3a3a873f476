"""The page of a night: its verdict, what to do now, and its stages, as one HTML file."""

from __future__ import annotations

import asyncio

from markupsafe import Markup

from jobs.core.model import Attributes
from jobs.nights.calendar import Stage
from jobs.nights.documents import Night, Summary
from jobs.nights.verdicts import WELL, head_of, stage_text
from jobs.reports.figures import human_seconds, human_time
from jobs.reports.html.elements import (
    code,
    element,
    fact,
    li,
    n,
    note,
    number,
    page,
    row,
    section,
    small,
    span,
    steps,
    table,
    td,
    uri,
)
from jobs.reports.html.visible import visible, visible_text

HTML = Attributes(headers={"content-type": "text/html; charset=utf-8"})
MEANINGS = {
    Stage.RECONCILE: "compares both sides by their reports",
    Stage.REPAIR: "copies what is missing or stale",
    Stage.REPLICA: "compares the replica with the hot bucket",
    Stage.SLICE: "verifies a slice of everything by checksums",
    Stage.DEEP: "reads a slice of everything on both sides",
}


async def write_page(night: Night, summary: Summary) -> None:
    """Write the page of the summary that is in the ledger, if it is not there yet."""
    text = await asyncio.to_thread(render_night, summary)
    await night.write_file(".html", text.encode(), HTML)


def render_night(summary: Summary) -> str:
    """A night's summary as a self-contained page. Same summary, same page."""
    known, left = summary.known, summary.known.left_first
    names = (summary.night, summary.pair, f"{summary.source} → {summary.destination}")
    is_well = head_of(summary.verdict).startswith(WELL)
    tone = "bad" if summary.left else "good" if is_well else "warn"
    head = ["night of ", visible(summary.night), " ", span("/", aria_hidden="true"), " pair ", visible(summary.pair)]
    which = (
        "The first of the objects that are left"
        if len(left) < summary.left
        else f"The object{'s' if len(left) > 1 else ''} that {'are' if len(left) > 1 else 'is'} left"
    )
    return page(
        f"night of {' · '.join(map(visible_text, names))}",
        span(*head),
        tone,
        f"{head_of(summary.verdict)}.",
        facts=(
            uri("Source", summary.source),
            uri("Destination", summary.destination),
            fact("Objects left to people", f"{summary.left:,}"),
            fact("Accepted by people", f"{known.accepted:,}") if known.accepted else None,
            fact("Proven by checksums or bytes", f"{known.checked:,} of {known.objects:,}"),
            fact(f"Read within {known.read_days} days", f"{known.read:,} of {known.objects:,}"),
            fact("Finished", human_time(summary.finished_at)),
            fact("Took", human_seconds((summary.finished_at - summary.began_at).total_seconds())),
        ),
        remark="A later night had begun when this one did. It says what was there then." if summary.is_made_up else "",
        body=(
            steps(summary.next_steps),
            section("left", which, element("ul", *(li(code(key, "key")) for key in left))) if left else None,
            _stages(summary, is_good=tone == "good"),
        ),
        addresses=(
            uri("Summary", summary.summary),
            uri("Ledger", summary.ledger),
            uri("This page", summary.report_html),
        ),
    )


def _stages(summary: Summary, *, is_good: bool) -> Markup:
    lines = (
        row(
            [each.stage, " ", small(MEANINGS[Stage(each.stage)])],
            td(
                visible(stage_text(each, summary.emptied).removeprefix(f"{each.stage} ")),
                small(code(each.report_html)) if each.report_html else None,
            ),
            n(number(each.rows)),
        )
        for each in summary.stages
    )
    later = note(
        "This page is written once, at the end of the night. What was found and repaired since is in ",
        *(element("code", "sealift status"), "."),
    )
    notes = [
        li(f"{side}: ", visible(origin))
        for side, origin in zip(("Source", "Destination"), summary.stages[0].origins, strict=False)
    ]
    return section(
        "stages",
        "Stages",
        table(("Stage", "Came to", ("Rows", "n")), lines, "stages"),
        None if is_good else later,
        *((element("h3", "What was compared"), element("ul", *notes)) if notes else ()),
    )
