"""The page of a report: one HTML file for browser, phone, printer or e-mail."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from jobs.core.outcome import GOOD, Status
from jobs.core.run import RunState
from jobs.core.words import DELETED, DONE, called, why
from jobs.reports import figures
from jobs.reports.document import (
    LEFT_OUT,
    WOULD_BE_DELETED,
    had_no_rows,
    is_empty,
    left_count,
    outcomes_of,
    races,
    reasons_of,
    verdict,
)
from jobs.reports.html.visible import visible, visible_text

_TEMPLATE = "report.html.jinja"
FINDINGS_SHOWN = 200
"""Bounds the page: a person scrolls through no more. The report's files hold the rest."""

DELETIONS_SHOWN = 20
PREFIXES_SHOWN = 20
UNFOLDED_MAX = 20
"""More findings than these are folded by what they are."""

MEANINGS = {
    "same": "at both sides, and equal by all that can be compared",
    "missing": "not at the destination",
    "different": "at both sides, with other content",
    "stale": "the destination holds an older version",
    "extra": "at the destination, not at the source",
    "in flight": "too new to judge by these inventories",
    "unverifiable": "nothing at hand proves it equal or different",
    "excluded": "left out by a filter",
    "copied": "copied by this run",
    "deleted": "a delete marker, reproduced",
    "done": "done by this run",
    "verified": "proven equal",
    "changed": "not what the manifest named, or in the way of it",
    "packed": "in an archive, whose index has it",
    "restored": "proven, then written by this run",
    "expired": "its copy was proven once more, then it was deleted",
    "left": "left alone, for the reason given",
    "unknown": "nothing at hand proves it equal or different",
    "blocked": "could not be done, for the reason given",
    "damaged": "the source's own bytes are not those that S3 keeps checksums of: not copied",
    "would be deleted": "its copy is proven now, and only --yes-delete deletes it",
}

_MEANINGS_OF_OUTCOMES = MEANINGS | {
    "missing": "not there, for the reason given",
    "different": "proven different from its source",
}
"""A copy is missing in a run that verifies, a source in one that copies."""

EVIDENCE = {
    "content": "all bytes of both sides were read and compared",
    "checksum": "comparable checksums agree: stored ones, or that of the bytes that were copied",
    "md5_etag": "an ETag is the MD5 of the content, and agrees with the other one or with the bytes that were copied",
    "none": "nothing could be compared, or there is nothing to compare, such as a delete marker",
}

_GOOD = {*GOOD, DELETED, *DONE.values()}
_UNCERTAIN = frozenset({"unverifiable", "unknown", "blocked", "changed", "stale", "extra", WOULD_BE_DELETED})
_WAITING = frozenset({"in flight", "excluded", "left"})


class Tally(NamedTuple):
    """Rows of one category or status. `size_bytes` is None when it was not counted."""

    name: str
    rows: int
    size_bytes: int | None
    share: float
    meaning: str


def render(report: Mapping[str, Any], *, findings: Sequence[Mapping[str, Any]]) -> str:
    """The report (`jobs.reports.document.summarize` or `summarize_reconcile`) as a self-contained
    page.

    `findings` are rows with `key`, `category` or `status`, `reason`, and where known
    `destination_key`, `version_id`, `size_bytes`, `etag` and `last_modified` of both sides
    (`source_…`, `destination_…`). The page shows the first `FINDINGS_SHOWN`. After a repair they
    are what it left. The page requests nothing from the network, and its policy forbids that.
    Same arguments, same page.
    """
    shown = findings[:FINDINGS_SHOWN]
    groups = {name: [row for row in shown if name_of(row) == name] for name in sorted(set(map(name_of, shown)))}
    return render_page(
        _TEMPLATE,
        report=report,
        reconciled="categories" in report,
        verdict=verdict(report),
        tone=_tone(report),
        found=max(left_count(report), len(findings)),
        shown=len(shown),
        groups=dict(sorted(groups.items(), key=lambda group: -len(group[1]))),
        tallies=_tallies(report),
        prefixes=_prefixes(report),
        repaired=report.get("repaired"),
        since=report.get("since_then"),
        places=_places(report),
        deletions=report.get("deletions"),
        reasons=reasons_of(report),
        is_dry_run=bool(report.get("dry_run")),
        finished_at=report["finished_at"],
    )


def render_page(template: str, **values: Any) -> str:
    """A page with the style and the script that all have."""
    environment = template_environment()
    script, style = (_asset(environment, name) for name in ("report.js", "report.css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assets = {"style": Markup(style), "script": Markup(script), "script_digest": digest}
    return environment.get_template(template).render(values | assets)


def prepare() -> None:
    """Compile the templates that every page needs, so that `render` need not.

    The others, in `templates/report/`, are compiled where a page has something to say in them.
    """
    for name in (_TEMPLATE, "page.html.jinja", "parts.html.jinja"):
        template_environment().get_template(name)


def name_of(row: Mapping[str, Any]) -> str:
    """A finding's category or status."""
    return str(row.get("category") or row.get("status") or "finding")


def key_of(row: Mapping[str, Any]) -> str:
    """A finding's key at the source, else at the destination."""
    key = row["key"] if row["key"] is not None else row.get("destination_key")
    return str(key if key is not None else "")


def tone_of(name: str) -> str:
    """The tone of a category or status: `good`, `bad`, `warn` (look at it), `calm` (no action)."""
    if name in _WAITING:
        return "calm"
    if name in _UNCERTAIN:
        return "warn"
    return "good" if name in _GOOD else "bad"


def _places(report: Mapping[str, Any]) -> tuple[str, str]:
    """Source and destination, with their prefixes where the report knows them."""
    sides = report["source"], report["destination"]
    source, destination = (
        str(side.get("location") or side["bucket"]) if isinstance(side, Mapping) else str(side) for side in sides
    )
    return source, destination


def _tone(report: Mapping[str, Any]) -> str:
    if report["state"] != RunState.COMPLETE:
        return "warn"
    if left_count(report):
        return "warn" if report.get("since_then", {}).get("is_repaired") else "bad"
    if had_no_rows(report) and not report.get(LEFT_OUT):
        return "calm"
    if report.get("dry_run"):  # nothing was done, so nothing has ended well
        return "warn"
    unproven = report.get("categories", {}).get("unverifiable", {"rows": 0})["rows"]
    unsure = (
        unproven
        or report.get(LEFT_OUT)
        or any(each["rows"] for each in report.get("unjudged", ()))
        or ("categories" in report and is_empty(report))
    )
    return "warn" if unsure else "good"


@cache
def template_environment() -> jinja2.Environment:
    """The templates of all pages, with what they call."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("jobs.reports.html"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        bytecode_cache=_compiled(),
    )
    environment.filters |= {
        "visible": visible,
        "written": visible_text,
        "why": why,
        "called": lambda row, job: called(row["status"], job, row["reason"]),
        "sentence": lambda text: Markup(re.sub(r"(?<=\d) ", "\N{NO-BREAK SPACE}", visible(text))),
        "count": lambda number: figures.UNKNOWN if number is None else f"{number:,}",
        "bytes": figures.human_bytes,
        "dollars": figures.human_dollars,
        "duration": figures.human_seconds,
        "time": figures.human_time,
        "minute": lambda value: figures.human_time(value).removesuffix(" UTC"),
        "tone": tone_of,
        "name": name_of,
        "key": key_of,
        "plain": lambda name: visible_text(str(name).replace("_", " ")),
    }
    environment.globals |= {
        "races": races,
        "proofs": EVIDENCE,
        "share": figures.human_share,
        "lag": _lag,
        "deletions_max": DELETIONS_SHOWN,
        "unfolded_max": UNFOLDED_MAX,
    }
    return environment


def _compiled() -> jinja2.BytecodeCache | None:
    """Where compiled templates are kept: beside Python's own bytecode, if that may be written."""
    folder = Path(__file__).with_name("__pycache__")
    is_kept = os.access(folder, os.W_OK) and not sys.dont_write_bytecode
    return jinja2.FileSystemBytecodeCache(str(folder)) if is_kept else None


def _asset(environment: jinja2.Environment, name: str) -> str:
    """A file beside the templates, as it is."""
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _tallies(report: Mapping[str, Any]) -> list[Tally]:
    if "categories" in report:
        counted = {name: (each["rows"], each["bytes"]) for name, each in report["categories"].items()}
    else:
        outcomes, sizes = outcomes_of(report), report.get("outcome_bytes", {})
        if WOULD_BE_DELETED in outcomes:  # what else is left was not read
            sizes = {**sizes, WOULD_BE_DELETED: sizes.get(Status.LEFT), Status.LEFT: 0}
        counted = {called(name, report["job"]): (rows, sizes.get(name)) for name, rows in outcomes.items()}
    whole = report["rows"] or 1
    meanings = MEANINGS if "categories" in report else _MEANINGS_OF_OUTCOMES
    counts_and_sizes = ((name, rows, size) for name, (rows, size) in counted.items() if rows)
    return [Tally(name, rows, size, rows / whole, meanings.get(name, "")) for name, rows, size in counts_and_sizes]


def _prefixes(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The worst prefixes, each with its categories."""
    totals: dict[str, dict[str, Any]] = {}
    for row in report["prefixes"]:
        total = totals.setdefault(row["prefix"], {"prefix": row["prefix"], "rows": 0, "bytes": 0, "categories": {}})
        total["rows"] += row["rows"]
        total["bytes"] += row["bytes"]
        if row["category"] is not None:
            total["categories"][row["category"]] = total["categories"].get(row["category"], 0) + row["rows"]
    return sorted(totals.values(), key=lambda total: (-total["rows"], total["prefix"]))[:PREFIXES_SHOWN]


def _lag(earlier: Any, later: Any) -> str:
    """How long before `later` something was: `27 h 05 min`."""
    one, other = figures.parse_time(earlier), figures.parse_time(later)
    return figures.human_seconds(max(0.0, (other - one).total_seconds())) if one and other else ""
