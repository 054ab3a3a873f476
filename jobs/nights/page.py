"""The page of a night: its verdict, what to do now, and its stages, as one HTML file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from markupsafe import Markup

from jobs.nights.calendar import Stage
from jobs.nights.verdicts import head_of, is_unproven, stage_text
from jobs.reports.html.page import template_asset, template_environment

MEANINGS = {
    Stage.RECONCILE: "compares both sides by their reports",
    Stage.REPAIR: "copies what is missing or stale",
    Stage.VERIFY: "verifies what was copied",
    Stage.SAMPLE: "verifies a slice of everything by checksums",
    Stage.DEEP: "reads a slice of everything on both sides",
    Stage.REPLICA: "compares the replica with the hot bucket",
}


class _Row(NamedTuple):
    """A stage as the page shows it. `page`: the URI of its run's page."""

    name: str
    text: str
    rows: int
    left: int
    page: str | None


def render_night(summary: Mapping[str, Any]) -> str:
    """A night's summary as a self-contained page. Same summary, same page."""
    environment, stages = template_environment(), summary["stages"]
    rows = [
        _Row(
            each["stage"],
            stage_text(each).removeprefix(f"{each['stage']} "),
            each.get("rows") or 0,
            each["left"],
            each.get("report_html"),
        )
        for each in stages
    ]
    noted: Mapping[str, Any] = next((each["notes"] for each in stages if each.get("notes")), {})
    names = {"Source": "source_inventory", "Destination": "destination_inventory"}
    return environment.get_template("night.html.jinja").render(
        night=dict(summary),
        verdict=head_of(summary["verdict"]),
        tone=_tone(summary),
        stages=rows,
        meanings={each.value: MEANINGS[each] for each in Stage},
        notes=[(title, noted[name]) for title, name in names.items() if name in noted],
        style=Markup(template_asset(environment, "report.css")),
    )


def _tone(summary: Mapping[str, Any]) -> str:
    if summary["left"] or summary.get("unanswered"):
        return "bad"
    return "warn" if summary["exit_code"] or is_unproven(summary["stages"]) else "good"
