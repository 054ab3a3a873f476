"""The page of a report: one HTML file for browser, phone, printer or e-mail."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from jobs.core.model import parse_time
from jobs.core.outcome import GOOD
from jobs.core.run import RunState
from jobs.core.words import DELETED, DONE, called, why
from jobs.reports import document, figures
from jobs.reports.figures import human_bytes, human_seconds, human_time
from jobs.reports.html.visible import visible, visible_text

FINDINGS_SHOWN = 200
"""Bounds the page: a person scrolls through no more. The report's files hold the rest."""

DELETIONS_SHOWN = 20
UNFOLDED_MAX = 20
"""More findings than these are folded by what they are."""

SEALS = {"good": "nothing is wrong", "bad": "needs attention", "warn": "not certain", "calm": "nothing was done"}
MEANINGS = {
    "same": "at both sides, and equal by all that can be compared",
    "missing": "not there",
    "different": "at both sides, with other content",
    "stale": "the destination holds an older version",
    "extra": "at the destination, not at the source",
    "in flight": "too new to judge by these inventories",
    "unverifiable": "nothing at hand proves it equal or different",
    "excluded": "left out by a filter",
    "copied": "copied by this run",
    "deleted": "a delete marker, reproduced",
    "done": "done by this run",
    "verified": "equal by stored checksums, or by all bytes: the evidence says which",
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

EVIDENCE = {
    "content": "all bytes of both sides were read and compared",
    "checksum": "comparable checksums agree: stored ones, or that of the bytes that were copied",
    "md5_etag": "an ETag is the MD5 of the content, and agrees with the other one or with the bytes that were copied",
    "none": "nothing could be compared, or there is nothing to compare, such as a delete marker",
}

_GOOD = {*GOOD, DELETED, *DONE.values()}
_UNCERTAIN = frozenset({"unverifiable", "unknown", "blocked", "changed", "stale", "extra", document.WOULD_BE_DELETED})
_WAITING = frozenset({"in flight", "excluded", "left"})


class Line(NamedTuple):
    """A line of a table: a category or status as a badge, a text, what it means, and the figures."""

    badge: str
    text: str
    meaning: str
    figures: Sequence[str]


class Table(NamedTuple):
    """A table of a page. `tone`: of its ground."""

    title: str
    heads: Sequence[str]
    lines: Sequence[Line]
    notes: Sequence[str] = ()
    tone: str = ""


class Page(NamedTuple):
    """What a page shows. `tone`: how it stands, see `tone_of`. `steps`: what to do now, as `Why: command`."""

    title: str
    kind: str
    verdict: str
    tone: str
    places: Mapping[str, str]
    facts: Mapping[str, str]
    steps: Sequence[str]
    tables: Sequence[Table]
    files: Mapping[str, str | None]


def render(report: Mapping[str, Any], *, findings: Sequence[Mapping[str, Any]]) -> str:
    """The report (`jobs.reports.document.summarize` or `summarize_reconcile`) as a self-contained
    page.

    `findings` are rows with `key`, `category` or `status`, `reason`, and where known
    `destination_key`, `version_id`, `size_bytes`, `etag` and `last_modified` of both sides
    (`source_…`, `destination_…`). The page shows the first `FINDINGS_SHOWN`. After a repair they
    are what it left. The page requests nothing from the network, and its policy forbids that.
    Same arguments, same page.
    """
    job, is_dry_run, is_repaired = report["job"], report.get("dry_run"), report.get("repaired")
    sides = report["source"], report["destination"]
    places = [str(side["location"] if isinstance(side, Mapping) else side) for side in sides]
    modes = f"{' (dry run)' if is_dry_run else ''}{', repaired' if is_repaired else ''}"
    told = f"{', after the repair' if is_repaired else ''}{', dry run: nothing was deleted' if is_dry_run else ''}"
    page = Page(
        title=f"{job}{modes} · {places[0]} → {places[1]} · {report['run_id']}",
        kind=f"{job} report{told}",
        verdict=document.verdict(report),
        tone=_tone(report),
        places=dict(zip(("Source", "Destination"), places, strict=True)),
        facts={
            "Rows": f"{report['rows']:,}",
            "Bytes": human_bytes(report["bytes"]),
            "Finished": human_time(report["finished_at"]),
            "Took": human_seconds(report["seconds"]),
        },
        steps=report.get("next_steps", ()),
        tables=[each for each in _tables(report) if each.lines or each.notes],
        files={"Run": report["run_id"], **dict(_files(report)), "This page": report.get("report_html")},
    )
    return render_page(page, _findings(report, findings))


def _findings(report: Mapping[str, Any], findings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The rows that a page lists, by what they are."""
    found, shown = max(document.left_count(report), len(findings)), findings[:FINDINGS_SHOWN]
    groups = {name: [row for row in shown if name_of(row) == name] for name in sorted(set(map(name_of, shown)))}
    notes = [f"All {found:,} of them." if found else "None."]
    if len(shown) < found:
        rest = found - len(shown)
        notes = [f"The first {len(shown):,} of {found:,}; {rest:,} more are in the files named below."]
    if since := report.get("since_then"):
        notes.append(f"Since then: {since['left']:,} of them still need attention.")
    elif found and report["state"] == RunState.COMPLETE:
        then, shows = human_time(report["finished_at"]), f"sealift runs show {report['run_id']}"
        notes.append(f"So it was at {then}. What was repaired since: {shows}, or its --html for a page.")
    title = "Findings that are left" if report.get("repaired") else "Findings"
    ordered = dict(sorted(groups.items(), key=lambda group: -len(group[1])))
    return {"title": title, "notes": notes, "groups": ordered, "is_unfolded": len(shown) <= UNFOLDED_MAX}


def _files(report: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    for name in ("source", "destination"):
        if isinstance(report[name], Mapping):
            yield f"Inventory of the {name}", report[name]["manifest"]
    for kind in ("differences", "deletions"):
        for form in ("parquet", "csv"):
            yield f"{kind.capitalize()}, {form}", (report.get(kind) or {}).get(form)
    names = {"failures_manifest": "Failed rows", "retry_of": "Retry of"}
    for name in ("failures_manifest", "manifest", "retry_of", "ledger", "report"):
        yield names.get(name, name.capitalize()), report.get(name)


def render_page(page: Page, findings: Mapping[str, Any] | None = None) -> str:
    """A page, with the style and the script that all have."""
    template = template_environment().get_template("page.html.jinja")
    return template.render(page=page, findings=findings, seal=SEALS[page.tone])


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


def _tone(report: Mapping[str, Any]) -> str:
    if report["state"] != RunState.COMPLETE:
        return "warn"
    if document.left_count(report):
        return "warn" if report.get("since_then", {}).get("is_repaired") else "bad"
    if document.had_no_rows(report) and not report.get(document.LEFT_OUT):
        return "calm"
    if report.get("dry_run"):
        return "calm"
    unsure = report.get(document.LEFT_OUT) or not document.is_compared(report)
    return "warn" if unsure or any(each["rows"] for each in report.get("unjudged", ())) else "good"


@cache
def template_environment() -> jinja2.Environment:
    """The templates of all pages, with what they call."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("jobs.reports.html"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {
        "visible": visible,
        "written": visible_text,
        "why": why,
        "sentence": lambda text: Markup(re.sub(r"(?<=\d) ", "\N{NO-BREAK SPACE}", visible(text))),
        "count": lambda number: f"{number:,}",
        "bytes": human_bytes,
        "minute": lambda value: human_time(value).removesuffix(" UTC"),
        "tone": tone_of,
        "key": key_of,
        "plain": lambda name: visible_text(str(name).replace("_", " ")),
        "digest": lambda script: base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    environment.filters |= filters
    return environment


def _tables(report: Mapping[str, Any]) -> Iterator[Table]:
    """The tables of a report, in order."""
    is_dry_run = report.get("dry_run")
    repaired = report.get("repaired", {"categories": {}})["categories"]
    lines = [_line("", each["repaired"], f"{each['left']:,}", badge=name) for name, each in repaired.items()]
    yield Table("What the repair came to", ("Finding", "Repaired", "Left"), lines)
    title = "What the same command with --yes-delete would do" if is_dry_run else "Outcomes"
    title = "What was found before the repair" if repaired else title
    ignored = report.get(document.IGNORED_CONDITIONS)
    notes = [f"Warning: {document.races(report['destination'], ignored)}."] if ignored else []
    notes += [f"Left out: {each['archive']}: {each['reason']}." for each in report.get(document.LEFT_OUT, ())]
    notes += [f"Left out before the run began: {rows:,} by {n}." for n, rows in report.get("excluded", {}).items()]
    yield Table(title, ("", "Rows", "Bytes"), _tallies(report), notes)
    proofs = [_line(name, rows, meaning=EVIDENCE.get(name, "")) for name, rows in report.get("evidence", {}).items()]
    yield Table("Evidence", ("Proven by", "Rows"), proofs)
    if "categories" in report:
        yield _compared(report)
    if "planned" in report:
        yield _planned(report)
    reasons = [
        _line(why(each), each["rows"], badge=called(each["status"], report["job"], each["reason"]))
        for each in document.reasons_of(report)
    ]
    yield Table("Reasons", ("Reason", "Rows"), reasons)
    unjudged = [_line(why(each), each["rows"]) for each in report.get("unjudged", ())]
    yield Table("What could not be judged", ("Why", "Rows"), unjudged)
    prefixes = [
        _line(each["prefix"] or "no folder", each["rows"], human_bytes(each["bytes"]), badge=each["category"] or "")
        for each in report.get("prefixes", ())
    ]
    yield Table("Where most is wrong", ("Prefix", "Rows", "Bytes"), prefixes)
    yield from _deleted(report)


def _line(text: str, rows: int, *sizes: str, badge: str = "", meaning: str = "") -> Line:
    return Line(badge, text, meaning, [f"{rows:,}", *sizes])


def _tallies(report: Mapping[str, Any]) -> list[Line]:
    if "categories" in report:
        counted = {name: (each["rows"], each["bytes"]) for name, each in report["categories"].items()}
    else:
        sizes = report.get("outcome_bytes", {})
        if report.get("dry_run"):  # what else is left was not read
            sizes = {document.WOULD_BE_DELETED: report["deletions"]["bytes"]}
        counted = {called(n, report["job"]): (rows, sizes.get(n)) for n, rows in document.outcomes_of(report).items()}
    return [
        _line("", rows, human_bytes(size), badge=name, meaning=MEANINGS.get(name, ""))
        for name, (rows, size) in counted.items()
        if rows
    ]


def _compared(report: Mapping[str, Any]) -> Table:
    """How fresh the inventories were."""
    lines = []
    for name in ("source", "destination"):
        side = report[name]
        lag = human_seconds(max(0.0, parse_time(report["created_at"]) - parse_time(side["created_at"])))
        listed = f"{side['format']}, listed {human_time(side['created_at'])}, {lag} before"
        lines.append(_line(name.capitalize(), side["rows"], meaning=listed))
    note = f"Nothing newer than the older list less {human_seconds(report['margin_seconds'])} was judged."
    return Table("What was compared", ("", "Rows"), lines, [note, *report["limits"]])


def _planned(report: Mapping[str, Any]) -> Table:
    plan = report["planned"]
    least, most = plan["seconds"], plan.get("seconds_most")
    time = human_seconds(least) if not most else f"{human_seconds(least) if least >= 1 else 0} to {human_seconds(most)}"
    pairs = {
        "Objects": (f"{plan['rows']:,}", f"{report['accounted']:,}"),
        "Bytes": (human_bytes(plan["bytes"]), human_bytes(report["bytes"])),
        "Duration": (time, human_seconds(report.get("worked_seconds", report["seconds"]))),
        "Dollars, estimated": (figures.human_dollars(plan["dollars"]), figures.UNKNOWN),
    }
    requests = ", ".join(f"{number:,} {kind}" for kind, number in plan["requests"].items() if number) or "none"
    notes = [f"Requests planned: {requests}. Prices: {plan['price_table']}. What was really billed is on the bill."]
    lines = [Line("", name, "", values) for name, values in pairs.items()]
    return Table("Plan and actual", ("", "Planned", "Actual"), lines, notes)


def _deleted(report: Mapping[str, Any]) -> Iterator[Table]:
    """What was deleted, or would be: how many are hidden, and the first rows with their proofs."""
    if not (deletions := report.get("deletions")):
        return
    shown, rows = deletions["shown"][:DELETIONS_SHOWN], deletions["rows"]
    lines = [
        _line(each["key"], 1, human_bytes(each["size_bytes"]), meaning=f"copy {each['copy']}, by {_proof(each)}")
        for each in shown
    ]
    notes = [f"The first {len(shown):,} of {rows:,} keys; all are in the files named below."]
    if (hidden := deletions.get("hidden")) is not None:  # reports of 0.1.0 do not say it
        notes.append(f"Hidden: {hidden:,}, removed for good: {rows - hidden:,}.")
    if hidden:
        undo = f"sealift expire --undo {report['run_id']} --source {report['source']}"
        notes.append(f"What is hidden comes back with {undo}")
    title = "What would be deleted" if report.get("dry_run") else "What was deleted"
    yield Table(title, ("", "Rows", "Bytes"), lines, notes, "warn")


def _proof(row: Mapping[str, Any]) -> str:
    return str(row["evidence"]).replace("_", " ")
